//! Amazon Resource Names (ARNs) of secrets and parameters.

use std::fmt;

use super::parse::{ParseError, part};

/// The service of an [`Arn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Service {
    /// Secrets Manager, `secretsmanager`.
    SecretsManager,
    /// Systems Manager, `ssm`.
    Ssm,
}

impl Service {
    /// The name in an ARN and in IAM actions.
    pub fn name(self) -> &'static str {
        match self {
            Service::SecretsManager => "secretsmanager",
            Service::Ssm => "ssm",
        }
    }

    /// The prefix of the resource's name in an ARN.
    fn prefix(self) -> &'static str {
        match self {
            Service::SecretsManager => "secret:",
            Service::Ssm => "parameter/",
        }
    }
}

/// The ARN of a secret or parameter, without the fields that a reference appends.
///
/// ```
/// use bp_secrets::Reference;
///
/// let reference: Reference = "arn:aws:ssm:eu-central-1:111111111111:parameter/prod/host".parse()?;
/// assert_eq!(reference.arn().unwrap().in_region("eu-west-1").region(), "eu-west-1");
/// # Ok::<(), bp_secrets::reference::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arn {
    partition: String,
    service: Service,
    region: String,
    account: String,
    resource: String,
}

impl Arn {
    /// Splits `text` into the ARN and the fields that follow the resource's name after a colon.
    pub(super) fn parse(text: &str) -> Result<(Self, Option<&str>), ParseError> {
        let mut fields = text.splitn(6, ':').skip(1);
        let mut next = || fields.next().unwrap_or_default();
        let (partition, service, region, account, resource) = (next(), next(), next(), next(), next());
        if partition != "aws" && !partition.starts_with("aws-") {
            return Err(ParseError::new("the ARN's partition is not an AWS partition, such as `aws`"));
        }
        let service = match service {
            "secretsmanager" => Service::SecretsManager,
            "ssm" => Service::Ssm,
            _ => return Err(ParseError::new("the ARN's service is not `secretsmanager` or `ssm`")),
        };
        if region.is_empty() {
            return Err(ParseError::new("the ARN has no region"));
        }
        part("the ARN's region", region, 32, |c| c.is_ascii_alphanumeric() || c == '-')?;
        // The public parameters of AWS belong to no account.
        let is_public = service == Service::Ssm && resource.starts_with("parameter/aws/");
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        if !is_account && (!account.is_empty() || !is_public) {
            return Err(ParseError::new("the ARN's account is not 12 digits"));
        }
        let Some(named) = resource.strip_prefix(service.prefix()) else {
            let expected = match service {
                Service::SecretsManager => "the ARN's resource is not `secret:<name>`",
                Service::Ssm => "the ARN's resource is not `parameter/<name>`",
            };
            return Err(ParseError::new(expected));
        };
        let (name, rest) = match named.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (named, None),
        };
        let arn = Arn {
            partition: partition.to_owned(),
            service,
            region: region.to_owned(),
            account: account.to_owned(),
            resource: name.to_owned(),
        };
        Ok((arn, rest))
    }

    /// `aws`, `aws-cn`, `aws-us-gov`...
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// Secrets Manager or Systems Manager.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The region of the resource.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The account that owns the resource. Empty for a public parameter of AWS.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The name as in the ARN: a secret's with its random suffix, a parameter's without its leading slash.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The same resource in another region: a replica has the same name and suffix.
    pub fn in_region(&self, region: &str) -> Self {
        Arn { region: region.to_owned(), ..self.clone() }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arn { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{}:{region}:{account}:{}{resource}", service.name(), service.prefix())
    }
}

impl fmt::Debug for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arn({self})")
    }
}
