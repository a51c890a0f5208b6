//! Pin references to the version that they point to now.

use crate::{
    error::Error,
    reference::{ParameterVersion, ParseError, Reference, SecretVersion},
    store::Store,
};

impl Reference {
    /// Whether it is to one version, whose value never changes: a version id, or a version number.
    pub fn is_pinned(&self) -> bool {
        match self {
            Reference::Secret(secret) => matches!(secret.version(), SecretVersion::Id(_)),
            Reference::Parameter(parameter) => matches!(parameter.version(), ParameterVersion::Number(_)),
        }
    }

    /// The same reference to this version id or version number, instead of a stage or label.
    ///
    /// ```
    /// use bp_secrets::Reference;
    ///
    /// let host: Reference = "/prod/db/host".parse()?;
    /// assert_eq!(host.at_version("3")?.to_string(), "/prod/db/host:3");
    /// # Ok::<(), bp_secrets::reference::ParseError>(())
    /// ```
    ///
    /// # Errors
    /// When it is not a valid version id or version number.
    pub fn at_version(&self, version: &str) -> Result<Self, ParseError> {
        match self {
            Reference::Secret(secret) => secret.clone().with_version_id(version).map(Reference::from),
            Reference::Parameter(parameter) => {
                if version.bytes().all(|byte| byte.is_ascii_digit()) {
                    parameter.clone().with_selector(version).map(Reference::from)
                } else {
                    Err(ParseError::new("the version of the parameter is not a number"))
                }
            }
        }
    }
}

/// Pins each reference to the version that it points to now: by its stage or label, or the current one. Pinned references
/// stay as they are, and so does one whose version is only known by reading the value
/// (`/aws/reference/secretsmanager/`).
///
/// No value is read.
///
/// # Permissions
/// `secretsmanager:DescribeSecret`, `ssm:GetParameters`.
///
/// # Cancel safety
/// Cancel safe: it changes nothing.
pub async fn pin(store: &impl Store, references: &[Reference]) -> Vec<Result<Reference, Error>> {
    let moving: Vec<Reference> =
        references.iter().filter(|reference| !reference.is_pinned()).cloned().collect();
    let mut described = store.describe(&moving).await.into_iter();
    let pinned = references.iter().map(|reference| {
        if reference.is_pinned() {
            return Ok(reference.clone());
        }
        match described.next() {
            Some(Ok(description)) if description.version.is_empty() => Ok(reference.clone()),
            Some(Ok(description)) => reference
                .at_version(&description.version)
                .map_err(|_| Error::new(reference, crate::error::ErrorKind::Unreadable)),
            Some(Err(error)) => Err(error),
            None => Err(Error::new(reference, crate::error::ErrorKind::Unreadable)),
        }
    });
    pinned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::ErrorKind, store::Description, value::Stored};

    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf";
    const VERSION: &str = "9d4cb84b-ad69-40c0-a0ab-cead36b967e8";

    /// Describes every secret with one version, and parameters by their name.
    struct Versions;

    impl Store for Versions {
        async fn read(&self, _: &[Reference]) -> Vec<Result<Stored, Error>> {
            panic!("no value is read")
        }

        async fn describe(&self, references: &[Reference]) -> Vec<Result<Description, Error>> {
            let describe = |reference: &Reference| match reference.name() {
                "/missing" => Err(Error::new(reference, ErrorKind::Missing)),
                "/aws/reference/secretsmanager/db" => Ok(String::new()),
                "/odd" => Ok("latest".to_owned()),
                _ if matches!(reference, Reference::Secret(_)) => Ok(VERSION.to_owned()),
                _ => Ok("7".to_owned()),
            };
            let all = references.iter().map(|reference| {
                describe(reference).map(|version| Description { arn: String::new(), version, kms_key: None })
            });
            all.collect()
        }
    }

    #[tokio::test]
    async fn pins_by_stage_label_or_the_current_version_and_keeps_keys() {
        let other = "0".repeat(32);
        for (text, expected) in [
            (SECRET.to_owned(), format!("{SECRET}:::{VERSION}")),
            (format!("{SECRET}:password::"), format!("{SECRET}:password::{VERSION}")),
            (format!("{SECRET}:password:AWSPREVIOUS:"), format!("{SECRET}:password::{VERSION}")),
            (format!("{SECRET}:::{other}"), format!("{SECRET}:::{other}")),
            ("/prod/host".into(), "/prod/host:7".into()),
            ("/prod/host:blue".into(), "/prod/host:7".into()),
            ("/prod/host:3".into(), "/prod/host:3".into()),
            ("/aws/reference/secretsmanager/db".into(), "/aws/reference/secretsmanager/db".into()),
        ] {
            let reference: Reference = text.parse().unwrap();
            // A pinned one in between does not shift the answers.
            let references = [format!("{SECRET}:::{other}").parse().unwrap(), reference];
            let pinned = pin(&Versions, &references).await;
            assert_eq!(pinned[1].as_ref().unwrap().to_string(), expected, "{text}");
            assert_eq!(pinned[0].as_ref().unwrap(), &references[0]);
        }
    }

    #[tokio::test]
    async fn errors_concern_their_reference() {
        let references: Vec<Reference> =
            ["/a", "/missing", "/odd", "/b"].map(|text| text.parse().unwrap()).into();
        let pinned = pin(&Versions, &references).await;
        assert!(pinned[0].is_ok() && pinned[3].is_ok());
        assert_eq!(*pinned[1].as_ref().unwrap_err().kind(), ErrorKind::Missing);
        assert_eq!(*pinned[2].as_ref().unwrap_err().kind(), ErrorKind::Unreadable);
    }
}
