//! References to AWS Systems Manager Parameter Store.

use std::fmt;

use super::{
    arn::{Arn, Service},
    parse::{ParseError, part},
};

/// A version of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum ParameterVersion {
    /// The latest version.
    #[default]
    Latest,
    /// The version with this number; it never changes.
    Number(u64),
    /// The version with this label.
    Label(String),
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Id {
    Name(String),
    Arn(Arn),
}

/// A reference to a parameter of Systems Manager Parameter Store.
///
/// ```
/// use bp_secrets::reference::ParameterRef;
///
/// let parameter = ParameterRef::by_name("/prod/db/host")?.with_selector("3")?;
/// assert_eq!(parameter.to_string(), "/prod/db/host:3");
/// # Ok::<(), bp_secrets::reference::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterRef {
    id: Id,
    version: ParameterVersion,
}

impl ParameterRef {
    /// The parameter with this name, in the account and region of the client that reads it.
    ///
    /// # Errors
    /// When the name is not a valid parameter name.
    pub fn by_name(name: &str) -> Result<Self, ParseError> {
        check_name(name)?;
        Ok(ParameterRef { id: Id::Name(name.to_owned()), version: ParameterVersion::Latest })
    }

    /// The parameter with this ARN, which may belong to another account that shares it.
    ///
    /// # Errors
    /// When it is not the ARN of a parameter, or a selector follows it.
    pub fn by_arn(arn: &str) -> Result<Self, ParseError> {
        match Arn::parse(arn)? {
            (arn, None) if arn.service() == Service::Ssm => Self::from_arn(arn, None),
            (_, Some(_)) => {
                Err(ParseError::new("a version or label follows the ARN: parse the text as a Reference"))
            }
            _ => Err(ParseError::new("it is the ARN of a secret, not of a parameter")),
        }
    }

    /// Sets the version by a selector: a version number or a label.
    ///
    /// # Errors
    /// When the selector is neither.
    pub fn with_selector(mut self, selector: &str) -> Result<Self, ParseError> {
        self.version = match selector.parse::<u64>() {
            Ok(0) => return Err(ParseError::new("the version is 0, but versions start at 1")),
            Ok(number) => ParameterVersion::Number(number),
            Err(_) => {
                if selector.is_empty() {
                    return Err(ParseError::new("there is no version or label after the colon"));
                }
                if selector.contains(':') {
                    return Err(ParseError::new("only one version or label may follow the name"));
                }
                if selector.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(ParseError::new(
                        "the selector starts with a digit, but is neither a version number nor a valid label",
                    ));
                }
                part("the label", selector, 100, |c| c.is_ascii_alphanumeric() || ".-_".contains(c))?;
                ParameterVersion::Label(selector.to_owned())
            }
        };
        Ok(self)
    }

    /// Removes the selector, so that the reference is to the latest version.
    pub fn latest(mut self) -> Self {
        self.version = ParameterVersion::Latest;
        self
    }

    /// The name or the ARN, without the selector.
    pub fn id(&self) -> String {
        match &self.id {
            Id::Name(name) => name.clone(),
            Id::Arn(arn) => arn.to_string(),
        }
    }

    /// The ARN, unless the parameter is referenced by name.
    pub fn arn(&self) -> Option<&Arn> {
        match &self.id {
            Id::Name(_) => None,
            Id::Arn(arn) => Some(arn),
        }
    }

    /// The name; from an ARN, it may lack its leading slash.
    pub fn name(&self) -> &str {
        match &self.id {
            Id::Name(name) => name,
            Id::Arn(arn) => arn.resource(),
        }
    }

    /// The secret of Secrets Manager that Parameter Store reads for this name: that of
    /// `/aws/reference/secretsmanager/<secret>`.
    pub fn secret(&self) -> Option<&str> {
        let name = self.name().trim_start_matches('/');
        name.strip_prefix("aws/reference/secretsmanager/").filter(|secret| !secret.is_empty())
    }

    /// The version.
    pub fn version(&self) -> &ParameterVersion {
        &self.version
    }

    /// The version number or label after the colon.
    pub fn selector(&self) -> Option<String> {
        match &self.version {
            ParameterVersion::Latest => None,
            ParameterVersion::Number(number) => Some(number.to_string()),
            ParameterVersion::Label(label) => Some(label.clone()),
        }
    }

    /// The `Name` in API requests: the name or ARN with the selector.
    pub fn selected(&self) -> String {
        match self.selector() {
            Some(selector) => format!("{}:{selector}", self.id()),
            None => self.id(),
        }
    }

    pub(super) fn from_arn(arn: Arn, rest: Option<&str>) -> Result<Self, ParseError> {
        let name = arn.resource();
        if name.contains('/') {
            check_name(&format!("/{name}"))?
        } else {
            check_name(name)?
        }
        let parameter = ParameterRef { id: Id::Arn(arn), version: ParameterVersion::Latest };
        match rest {
            Some(selector) => parameter.with_selector(selector),
            None => Ok(parameter),
        }
    }

    /// `<name>[:<version or label>]`.
    pub(super) fn from_text(text: &str) -> Result<Self, ParseError> {
        match text.split_once(':') {
            Some((name, selector)) => Self::by_name(name)?.with_selector(selector),
            None => Self::by_name(text),
        }
    }
}

fn check_name(name: &str) -> Result<(), ParseError> {
    const WHAT: &str = "the parameter's name";
    part(WHAT, name, 2048, |c| c.is_ascii_alphanumeric() || "_.-/".contains(c))?;
    let wrong = |reason: &str| Err(ParseError::new(format!("{WHAT} {reason}")));
    if name.contains('/') {
        let Some(segments) = name.strip_prefix('/') else {
            return wrong("contains a slash, so it must start with a slash");
        };
        if segments.split('/').any(str::is_empty) {
            return wrong("has an empty segment or a trailing slash");
        }
    }
    let start = name.get(..3).unwrap_or_default().to_ascii_lowercase();
    if start == "ssm" || start == "aws" {
        return wrong("starts with `aws` or `ssm`, which are reserved prefixes");
    }
    Ok(())
}

impl fmt::Display for ParameterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // These names followed by a selector would parse as a secret, another parameter or an ARN.
        if matches!(&self.id, Id::Name(name) if ["secretsmanager", "ssm", "arn"].contains(&name.as_str())) {
            f.write_str("ssm:")?;
        }
        f.write_str(&self.selected())
    }
}

impl fmt::Debug for ParameterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParameterRef({self})")
    }
}
