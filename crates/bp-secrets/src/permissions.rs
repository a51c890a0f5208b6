//! The IAM actions that reading takes: for an ECS execution role, or whoever reads.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Grant, Reference, SecretRef, reference_suffix};

/// Where references by name live; a reference by ARN says it itself.
///
/// ```
/// use bp_secrets::{Place, Reference, grants};
///
/// let references: Vec<Reference> = vec!["secretsmanager:prod/db".parse()?, "/prod/host".parse()?];
/// let place = Place::new("aws", "eu-central-1", "111111111111");
/// let needed: Vec<String> = grants(&references, Some(&place)).iter().map(ToString::to_string).collect();
/// assert_eq!(needed, [
///     "secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-??????",
///     "ssm:GetParameters on arn:aws:ssm:eu-central-1:111111111111:parameter/prod/host",
/// ]);
/// # Ok::<(), bp_secrets::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    partition: String,
    region: String,
    account: String,
}

impl Place {
    /// A partition (`aws`), a region and an account.
    pub fn new(partition: &str, region: &str, account: &str) -> Self {
        Place { partition: partition.into(), region: region.into(), account: account.into() }
    }
}

/// What a role that reads the references must be allowed, each once. ECS asks this of the *execution* role.
///
/// A customer's KMS key needs `kms:Decrypt` besides: [`Checked`](crate::Checked) says which, where the service does.
pub fn grants(references: &[Reference], place: Option<&Place>) -> Vec<Grant> {
    let all: BTreeSet<Grant> = references
        .iter()
        .map(|reference| {
            let action = match reference {
                Reference::Secret(_) => "secretsmanager:GetSecretValue",
                Reference::Parameter(_) => "ssm:GetParameters",
            };
            Grant { action: action.to_owned(), resource: resource(reference, place) }
        })
        .collect();
    all.into_iter().collect()
}

/// An IAM policy document that allows the grants: one statement for each action.
///
/// ```
/// use bp_secrets::{grants, policy};
///
/// let document = policy(&grants(&["/prod/host".parse()?], None));
/// assert_eq!(document["Statement"][0]["Resource"][0], "arn:*:ssm:*:*:parameter/prod/host");
/// # Ok::<(), bp_secrets::ParseError>(())
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

/// The resource in a policy: the ARN, with `?` for a suffix that is not known and `*` for a place that is not.
pub(crate) fn resource(reference: &Reference, place: Option<&Place>) -> String {
    let (partition, region, account) = match (reference.arn(), place) {
        (Some(arn), _) => (arn.partition(), arn.region(), arn.account()),
        (None, Some(place)) => (&*place.partition, &*place.region, &*place.account),
        (None, None) => ("*", "*", "*"),
    };
    match reference {
        Reference::Secret(secret) => {
            format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{}", named(secret))
        }
        Reference::Parameter(parameter) => {
            let name = parameter.name().trim_start_matches('/');
            format!("arn:{partition}:ssm:{region}:{account}:parameter/{name}")
        }
    }
}

fn named(secret: &SecretRef) -> String {
    match secret.arn().map(|arn| arn.resource()) {
        Some(whole) if reference_suffix(whole).is_some() => whole.to_owned(),
        _ => format!("{}-??????", secret.name()),
    }
}
