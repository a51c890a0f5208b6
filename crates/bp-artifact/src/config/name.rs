//! The names in `bp.toml`: environments, accounts, regions, roles, workloads.

use std::{fmt, str::FromStr};

use crate::parse::{ParseError, is_name, not_a_name, serde_as_text};

/// The name of an environment: `dev`, `staging`, `prod`. Lower-case letters, digits and dashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Environment(String);

/// The name of a service of the project: `web`, `worker`. Lower-case letters, digits and dashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(String);

/// The ID of an AWS account: twelve digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

/// The name of an AWS region: `eu-central-1`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(String);

/// The ARN of the IAM role to assume for an environment.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(String);

impl Environment {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AccountId {
    /// The ID as text; it may start with zeros.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Region {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The AWS partition of the region, as in ARNs: `aws`, `aws-cn`, `aws-us-gov`, `aws-eusc` or an isolated one.
    pub fn partition(&self) -> &'static str {
        let partitions = [
            ("cn-", "aws-cn"),
            ("us-gov-", "aws-us-gov"),
            ("eusc-", "aws-eusc"),
            ("us-iso-", "aws-iso"),
            ("us-isob-", "aws-iso-b"),
            ("eu-isoe-", "aws-iso-e"),
            ("us-isof-", "aws-iso-f"),
            ("eu-isof-", "aws-iso-f"),
        ];
        let found = partitions.into_iter().find(|(prefix, _)| self.0.starts_with(prefix));
        found.map_or("aws", |(_, partition)| partition)
    }
}

impl RoleArn {
    /// The ARN as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The account that the role belongs to.
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

impl FromStr for Environment {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || not_a_name("the name of an environment", text, "staging");
        if is_name(text) { Ok(Environment(text.to_owned())) } else { Err(error()) }
    }
}

impl FromStr for ServiceName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || not_a_name("the name of a service", text, "web");
        if is_name(text) { Ok(ServiceName(text.to_owned())) } else { Err(error()) }
    }
}

impl FromStr for AccountId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if is_account(text) {
            Ok(AccountId(text.to_owned()))
        } else {
            Err(ParseError::new("an AWS account", text, "expected twelve digits"))
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

impl FromStr for Region {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = text.split('-').collect();
        let letters = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
        let good = match parts.as_slice() {
            [names @ .., number] if names.len() >= 2 => {
                names.iter().all(letters) && number.len() <= 2 && number.parse::<u8>().is_ok()
            }
            _ => false,
        };
        if good {
            Ok(Region(text.to_owned()))
        } else {
            Err(ParseError::new("an AWS region", text, "expected a name such as eu-central-1"))
        }
    }
}

impl FromStr for RoleArn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "iam", "", account, resource]
                if partition.starts_with("aws")
                    && is_account(account)
                    && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty()) =>
            {
                Ok(RoleArn(text.to_owned()))
            }
            _ => Err(ParseError::new(
                "the ARN of a role",
                text,
                "expected arn:aws:iam::<twelve digits>:role/<name>",
            )),
        }
    }
}

/// A Kubernetes workload: `deployment/web`.
///
/// ```
/// use bp_artifact::config::{Workload, WorkloadKind};
///
/// let workload: Workload = "deployment/web".parse()?;
/// assert_eq!((workload.kind, workload.name.as_str()), (WorkloadKind::Deployment, "web"));
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// The kind of workload.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// The list of the kinds, from which the enum, the names, the parser and the pattern for editors are generated.
macro_rules! workload_kinds {
    ($first:literal => $(#[$doc:meta])* $variant:ident $(, $name:literal => $(#[$docs:meta])* $variants:ident)* $(,)?) => {
        /// The kinds of [`Workload`] that roll out an image.
        ///
        /// Not `non_exhaustive`: code that deploys to a workload has to handle every kind, so a new kind must not
        /// compile until it does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum WorkloadKind {
            $(#[$doc])*
            $variant,
            $($(#[$docs])* $variants,)*
        }

        impl WorkloadKind {
            /// Every kind.
            pub const ALL: &'static [WorkloadKind] = &[WorkloadKind::$variant $(, WorkloadKind::$variants)*];

            /// Its name, as in kubectl.
            pub const fn name(self) -> &'static str {
                match self {
                    WorkloadKind::$variant => $first,
                    $(WorkloadKind::$variants => $name,)*
                }
            }
        }

        /// The pattern of a workload.
        pub(super) const WORKLOAD: &str = concat!("^(", $first $(, "|", $name)*, ")/[a-z0-9.-]+$");
        const UNKNOWN_KIND: &str = concat!("the kind is not one of ", $first $(, ", ", $name)*);
    };
}

workload_kinds! {
    "deployment" => /// A Deployment.
    Deployment,
    "statefulset" => /// A StatefulSet.
    StatefulSet,
    "daemonset" => /// A DaemonSet.
    DaemonSet,
    "job" => /// A Job, used as the template of a new Job for each image.
    Job,
    "cronjob" => /// A CronJob: the image is that of the Jobs that it creates later.
    CronJob,
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Workload {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason| ParseError::new("a workload", text, reason);
        let (kind, name) = text.split_once('/').ok_or_else(|| wrong("expected deployment/<name>"))?;
        let kind = WorkloadKind::ALL.iter().copied().find(|known| known.name() == kind);
        let kind = kind.ok_or_else(|| wrong(UNKNOWN_KIND))?;
        if !is_dns_name(name) {
            return Err(wrong("the name must consist of lower-case letters, digits, dashes and dots"));
        }
        Ok(Workload { kind, name: name.to_owned() })
    }
}

/// Whether the text is a DNS subdomain, as required for names of Kubernetes objects.
pub(super) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

serde_as_text!(Environment, ServiceName, AccountId, Region, RoleArn, Workload);

#[cfg(test)]
mod tests {
    use super::*;

    fn good<T: FromStr<Err = ParseError> + fmt::Display>(texts: &[&str]) {
        for text in texts {
            assert_eq!(text.parse::<T>().unwrap().to_string(), *text);
        }
    }

    fn bad<T: FromStr<Err = ParseError>>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_round_trip_and_reject_invalid_text() {
        good::<Environment>(&["dev", "prod-eu", "s1"]);
        bad::<Environment>(&["", "Prod", "1a", "a_b", "a-", "a b"]);
        good::<AccountId>(&["000000000001"]);
        bad::<AccountId>(&["", "1", "1111111111111", "11111111111x"]);
        good::<Region>(&["eu-central-1", "us-gov-west-1", "ap-southeast-10"]);
        bad::<Region>(&["", "eu", "eu-1", "eu-central", "eu-central-1a", "EU-central-1", "eu--1"]);
        good::<RoleArn>(&[
            "arn:aws:iam::111111111111:role/deploy",
            "arn:aws-cn:iam::111111111111:role/ci/deploy",
        ]);
        bad::<RoleArn>(&[
            "",
            "deploy",
            "arn:aws:iam::111111111111:user/deploy",
            "arn:aws:iam::1:role/deploy",
            "arn:aws:iam::111111111111:role/",
            "arn:aws:sts::111111111111:assumed-role/deploy/x",
        ]);
        good::<Workload>(&[
            "deployment/web",
            "statefulset/db.v2",
            "daemonset/log-agent",
            "job/migrate",
            "cronjob/a",
        ]);
        bad::<Workload>(&["", "web", "deployment/", "deploy/web", "deployment/Web", "pod/web"]);
    }

    #[test]
    fn returns_the_partition_of_a_region() {
        for (region, partition) in [
            ("eu-central-1", "aws"),
            ("us-west-2", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("eusc-de-east-1", "aws-eusc"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eu-isoe-west-1", "aws-iso-e"),
            ("us-isof-south-1", "aws-iso-f"),
        ] {
            assert_eq!(region.parse::<Region>().unwrap().partition(), partition);
        }
    }
}
