//! IAM permissions and policies for reading secrets and parameters, such as for an ECS execution role.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bp_artifact::config::{AccountId, Region};
use serde::Serialize;
use serde_json::{Value, json};

use crate::reference::{Reference, SecretRef, suffix};

/// An IAM permission: an action to allow on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Grant {
    /// The action, such as `secretsmanager:GetSecretValue`.
    pub action: String,
    /// The resource's ARN, with `?` and `*` for unknown parts.
    pub resource: String,
}

impl Grant {
    pub(crate) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Grant { action: action.into(), resource: resource.into() }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)
    }
}

/// The account and region of references by name; a reference by ARN contains them.
///
/// ```
/// use bp_artifact::config::{AccountId, Region};
/// use bp_secrets::{Reference, permissions::{AccountScope, grants}};
///
/// let references: Vec<Reference> = vec!["secretsmanager:prod/db".parse()?, "/prod/host".parse()?];
/// let (region, account): (Region, AccountId) = ("eu-central-1".parse()?, "111111111111".parse()?);
/// let scope = AccountScope::new(&region, &account);
/// let needed: Vec<String> = grants(&references, Some(&scope)).iter().map(ToString::to_string).collect();
/// assert_eq!(needed, [
///     "secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-??????",
///     "ssm:GetParameters on arn:aws:ssm:eu-central-1:111111111111:parameter/prod/host",
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountScope {
    region: Region,
    account: AccountId,
}

impl AccountScope {
    /// An account in a region.
    pub fn new(region: &Region, account: &AccountId) -> Self {
        AccountScope { region: region.clone(), account: account.clone() }
    }
}

/// The permissions that a role needs to read the references, without duplicates. On ECS this is the *execution* role.
///
/// A parameter `/aws/reference/secretsmanager/<secret>` is read from Secrets Manager, which also requires the permission for
/// that secret.
///
/// A customer managed KMS key also needs `kms:Decrypt`: [`Checked`](crate::check::Checked) has the key, if the service
/// reports it.
pub fn grants(references: &[Reference], scope: Option<&AccountScope>) -> Vec<Grant> {
    let mut all = BTreeSet::new();
    for reference in references {
        match reference {
            Reference::Secret(_) => all.insert(Grant::new(READ_SECRET, resource(reference, scope))),
            Reference::Parameter(parameter) => {
                if let Some(secret) = parameter.secret() {
                    let (partition, region, account) = place(reference, scope);
                    let name =
                        format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{secret}-??????");
                    all.insert(Grant::new(READ_SECRET, name));
                }
                all.insert(Grant::new("ssm:GetParameters", resource(reference, scope)))
            }
        };
    }
    all.into_iter().collect()
}

const READ_SECRET: &str = "secretsmanager:GetSecretValue";

/// An IAM policy document that allows the grants, with one statement per action.
///
/// ```
/// use bp_secrets::permissions::{grants, policy};
///
/// let document = policy(&grants(&["/prod/host".parse()?], None));
/// assert_eq!(document["Statement"][0]["Resource"][0], "arn:*:ssm:*:*:parameter/prod/host");
/// # Ok::<(), bp_secrets::reference::ParseError>(())
/// ```
pub fn policy(grants: &[Grant]) -> Value {
    let mut resources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for grant in grants {
        resources.entry(&grant.action).or_default().insert(&grant.resource);
    }
    let statements = resources
        .into_iter()
        .map(|(action, resources)| json!({ "Effect": "Allow", "Action": [action], "Resource": resources }));
    json!({ "Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>() })
}

/// The resource in a policy: the ARN, with `?` for an unknown suffix and `*` for an unknown account and region.
pub(crate) fn resource(reference: &Reference, scope: Option<&AccountScope>) -> String {
    let (partition, region, account) = place(reference, scope);
    match reference {
        Reference::Secret(secret) => {
            format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{}", resource_name(secret))
        }
        Reference::Parameter(parameter) => {
            let name = parameter.name().trim_start_matches('/');
            format!("arn:{partition}:ssm:{region}:{account}:parameter/{name}")
        }
    }
}

/// Partition, region and account of a reference, `*` if unknown.
fn place<'a>(reference: &'a Reference, scope: Option<&'a AccountScope>) -> (&'a str, &'a str, &'a str) {
    match (reference.arn(), scope) {
        (Some(arn), _) => (arn.partition(), arn.region(), arn.account()),
        (None, Some(AccountScope { region, account })) => {
            // The public parameters of AWS belong to no account.
            let is_public = reference.name().starts_with("/aws/service/");
            (region.partition(), region.as_str(), if is_public { "" } else { account.as_str() })
        }
        (None, None) => ("*", "*", "*"),
    }
}

fn resource_name(secret: &SecretRef) -> String {
    match secret.arn().map(|arn| arn.resource()) {
        Some(whole) if suffix(whole).is_some() => whole.to_owned(),
        _ => format!("{}-??????", secret.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(reference: &str, region: &str) -> Vec<String> {
        let scope = AccountScope::new(&region.parse().unwrap(), &"111111111111".parse().unwrap());
        grants(&[reference.parse().unwrap()], Some(&scope)).iter().map(ToString::to_string).collect()
    }

    /// Parameter Store reads the secret with the caller's permissions.
    #[test]
    fn a_parameter_that_is_a_secret_requires_both_permissions() {
        let name = "/aws/reference/secretsmanager/prod/db";
        let arn = format!("arn:aws:ssm:eu-central-1:111111111111:parameter{name}");
        for reference in [name, &arn, &format!("{name}:AWSPREVIOUS")] {
            assert_eq!(
                granted(reference, "eu-central-1"),
                [
                    "secretsmanager:GetSecretValue on \
                     arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-??????",
                    "ssm:GetParameters on \
                     arn:aws:ssm:eu-central-1:111111111111:parameter/aws/reference/secretsmanager/prod/db",
                ],
                "{reference}"
            );
        }
        assert_eq!(granted("/prod/aws/reference/secretsmanager/db", "eu-central-1").len(), 1);
    }

    #[test]
    fn a_public_parameter_belongs_to_no_account() {
        let expected = ["ssm:GetParameters on arn:aws:ssm:eu-central-1::parameter/aws/service/ecs/ami"];
        for reference in ["/aws/service/ecs/ami", "arn:aws:ssm:eu-central-1::parameter/aws/service/ecs/ami"] {
            assert_eq!(granted(reference, "eu-central-1"), expected);
        }
        for refused in [
            "arn:aws:ssm:eu-central-1::parameter/prod/host",
            "arn:aws:secretsmanager:eu-central-1::secret:aws/db",
            "arn:aws:ssm:eu-central-1:12:parameter/aws/service/ecs/ami",
        ] {
            assert!(refused.parse::<Reference>().is_err(), "{refused}");
        }
    }

    #[test]
    fn references_by_name_are_in_the_partition_of_their_region() {
        assert_eq!(
            granted("secretsmanager:db", "eusc-de-east-1"),
            [
                "secretsmanager:GetSecretValue on arn:aws-eusc:secretsmanager:eusc-de-east-1:111111111111:secret:db-??????"
            ]
        );
    }
}
