//! Parse and print references to secrets and parameters: ARNs, names, JSON keys, stages, versions and labels.

mod arn;
mod parameter;
mod parse;
mod secret;

use std::{fmt, str::FromStr};

pub(crate) use self::secret::suffix;
pub use self::{
    arn::{Arn, Service},
    parameter::{ParameterRef, ParameterVersion},
    parse::ParseError,
    secret::{SecretRef, SecretVersion},
};

/// A reference to a value in Secrets Manager or Parameter Store; never the value itself.
///
/// It is parsed from the `secrets[].valueFrom` syntax of ECS task definitions, and from two more forms for references
/// that ECS cannot express: `secretsmanager:<name>[:<key>:<stage>:<version id>]` and `ssm:<name>[:<version or label>]`.
/// [`Display`](fmt::Display) prints a form that parses to the same reference.
///
/// ```
/// use bp_secrets::{Reference, reference::SecretVersion};
///
/// let text = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf:password:AWSPREVIOUS:";
/// let reference: Reference = text.parse()?;
/// let Reference::Secret(secret) = &reference else { panic!("a secret") };
/// assert_eq!(secret.key(), Some("password"));
/// assert_eq!(*secret.version(), SecretVersion::Stage("AWSPREVIOUS".into()));
/// assert_eq!(reference.to_string(), text);
/// assert!(matches!("/prod/db/host:3".parse()?, Reference::Parameter(_)));
/// # Ok::<(), bp_secrets::reference::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reference {
    /// A secret of Secrets Manager, or one key of it.
    Secret(SecretRef),
    /// A parameter of Systems Manager Parameter Store.
    Parameter(ParameterRef),
}

impl Reference {
    /// Parses exactly what ECS accepts as `valueFrom`: a secret's ARN with its fields, a parameter's name or ARN.
    ///
    /// # Errors
    /// When ECS would reject the text, or a task with it would not start.
    pub fn from_value_from(text: &str) -> Result<Self, ParseError> {
        if text.starts_with("arn:") {
            return match Arn::parse(text)? {
                (arn, rest) if arn.service() == Service::SecretsManager => {
                    SecretRef::from_arn(arn, rest).map(Reference::Secret)
                }
                (arn, rest) => ParameterRef::from_arn(arn, rest).map(Reference::Parameter),
            };
        }
        ParameterRef::from_text(text).map(Reference::Parameter)
    }

    /// The reference without its JSON key: to the whole value, which one call to the store reads.
    pub fn whole(&self) -> Self {
        match self {
            Reference::Secret(secret) => Reference::Secret(secret.clone().without_key()),
            parameter => parameter.clone(),
        }
    }

    /// The JSON key, if the reference is to one key of the value.
    pub fn key(&self) -> Option<&str> {
        match self {
            Reference::Secret(secret) => secret.key(),
            Reference::Parameter(_) => None,
        }
    }

    /// The ARN, if the reference has one; a name is resolved in the account and region of the client.
    pub fn arn(&self) -> Option<&Arn> {
        match self {
            Reference::Secret(secret) => secret.arn(),
            Reference::Parameter(parameter) => parameter.arn(),
        }
    }

    /// The name; for a secret, without the random suffix that Secrets Manager adds to its ARN.
    pub fn name(&self) -> &str {
        match self {
            Reference::Secret(secret) => secret.name(),
            Reference::Parameter(parameter) => parameter.name(),
        }
    }
}

impl From<SecretRef> for Reference {
    fn from(secret: SecretRef) -> Self {
        Reference::Secret(secret)
    }
}

impl From<ParameterRef> for Reference {
    fn from(parameter: ParameterRef) -> Self {
        Reference::Parameter(parameter)
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some(rest) = text.strip_prefix("secretsmanager:") {
            return SecretRef::from_text(rest).map(Reference::Secret);
        }
        match text.strip_prefix("ssm:") {
            Some(rest) => ParameterRef::from_text(rest).map(Reference::Parameter),
            None => Reference::from_value_from(text),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Secret(secret) => fmt::Display::fmt(secret, f),
            Reference::Parameter(parameter) => fmt::Display::fmt(parameter, f),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({self})")
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf";

    #[test]
    fn every_value_from_form_round_trips() {
        for text in [
            SECRET.to_owned(),
            format!("{SECRET}:password::"),
            format!("{SECRET}::AWSPREVIOUS:"),
            format!("{SECRET}:::9d4cb84b-ad69-40c0-a0ab-cead36b967e8"),
            format!("{SECRET}:password:AWSPENDING:"),
            format!("{SECRET}:password::9d4cb84b-ad69-40c0-a0ab-cead36b967e8"),
            "arn:aws-cn:secretsmanager:cn-north-1:111111111111:secret:a-AbCdEf".into(),
            "/prod/db/host".into(),
            "host".into(),
            "/prod/db/host:3".into(),
            "/prod/db/host:blue".into(),
            "arn:aws:ssm:eu-central-1:111111111111:parameter/prod/db/host".into(),
            "arn:aws-us-gov:ssm:us-gov-west-1:111111111111:parameter/host:12".into(),
        ] {
            let reference = Reference::from_value_from(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference, text.parse().unwrap());
        }
    }

    #[test]
    fn empty_fields_parse_to_the_whole_secret() {
        let bare = Reference::from_value_from(&format!("{SECRET}:::")).unwrap();
        assert_eq!(bare.to_string(), SECRET);
    }

    #[test]
    fn rejects_invalid_references_with_the_reason() {
        let id = "9d4cb84b-ad69-40c0-a0ab-cead36b967e8";
        for (text, reason) in [
            (String::new(), "is empty"),
            (format!("{SECRET}:password"), "2 fields after `secret:`"),
            (format!("{SECRET}:password:"), "3 fields after `secret:`"),
            (format!("{SECRET}:a:b:{id}:d"), "5 fields after `secret:`"),
            (format!("{SECRET}:a:AWSCURRENT:{id}"), "mutually exclusive"),
            (format!("{SECRET}:::short"), "32 to 64 characters"),
            ("arn:aws:secretsmanager:eu-central-1:1234:secret:a".into(), "12 digits"),
            ("arn:aws:secretsmanager::111111111111:secret:a".into(), "no region"),
            ("arn:aws:s3:::bucket".into(), "`secretsmanager` or `ssm`"),
            ("arn:aws:secretsmanager:eu-central-1:111111111111:a".into(), "`secret:<name>`"),
            ("arn:aws:secretsmanager:eu-central-1:111111111111:secret:".into(), "is empty"),
            ("arn:aws:ssm:eu-central-1:111111111111:document/a".into(), "`parameter/<name>`"),
            ("a/b".into(), "start with a slash"),
            ("/a//b".into(), "empty segment"),
            ("/a:3:4".into(), "one version or label"),
            ("/a:".into(), "after the colon"),
            ("/a:0".into(), "start at 1"),
            ("/a:3blue".into(), "starts with a digit"),
            ("ssm-thing".into(), "reserved"),
            ("pass word".into(), "character 5"),
        ] {
            let error = Reference::from_value_from(&text).expect_err(&text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    /// When a secret value is given instead of a reference, it must not appear in logs.
    #[test]
    fn errors_do_not_quote_the_input() {
        let error = "hunter2 canary!".parse::<Reference>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }

    fn secrets() -> impl Strategy<Value = Reference> {
        let version = prop_oneof![
            Just(None),
            "[A-Za-z0-9_.-]{1,20}".prop_map(|stage| Some(SecretVersion::Stage(stage))),
            "[a-f0-9-]{32,64}".prop_map(|id| Some(SecretVersion::Id(id))),
        ];
        let key = proptest::option::of("[^:\\p{C}]{1,20}");
        (any::<bool>(), "[A-Za-z0-9/_+=.@-]{1,30}", key, version).prop_map(|(arn, name, key, version)| {
            let mut secret = if arn {
                SecretRef::by_arn(&format!("arn:aws:secretsmanager:eu-west-1:111111111111:secret:{name}"))
            } else {
                SecretRef::by_name(&name)
            }
            .unwrap();
            if let Some(key) = key {
                secret = secret.with_key(&key).unwrap();
            }
            match version {
                Some(SecretVersion::Stage(stage)) => secret.with_stage(&stage).unwrap(),
                Some(SecretVersion::Id(id)) => secret.with_version_id(&id).unwrap(),
                _ => secret,
            }
            .into()
        })
    }

    fn parameters() -> impl Strategy<Value = Reference> {
        let name = prop_oneof![
            "(/[A-Za-z0-9_.-]{1,8}){1,4}",
            "[b-r][A-Za-z0-9_.-]{0,8}",
            Just("secretsmanager".into())
        ];
        let selector = prop_oneof![
            Just(None),
            (1u64..999).prop_map(|n| Some(n.to_string())),
            "[b-r]{1,9}".prop_map(Some)
        ];
        (name, selector).prop_map(|(name, selector)| {
            let parameter = ParameterRef::by_name(&name).unwrap();
            match selector {
                Some(selector) => parameter.with_selector(&selector).unwrap(),
                None => parameter,
            }
            .into()
        })
    }

    proptest! {
        #[test]
        fn printed_references_parse_to_the_same(reference in prop_oneof![secrets(), parameters()]) {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = text.parse::<Reference>();
            let _ = format!("arn:aws:ssm:{text}").parse::<Reference>();
            let _ = format!("{SECRET}:{text}").parse::<Reference>();
        }
    }
}
