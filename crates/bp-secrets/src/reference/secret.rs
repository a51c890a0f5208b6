//! References to AWS Secrets Manager.

use std::fmt;

use super::{
    arn::{Arn, Service},
    parse::{ParseError, part},
};

/// A version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum SecretVersion {
    /// The version with the staging label `AWSCURRENT`.
    #[default]
    Current,
    /// The version with this staging label.
    Stage(String),
    /// The version with this id; it never changes.
    Id(String),
}

impl SecretVersion {
    /// The staging label; `None` for a version id.
    pub fn stage(&self) -> Option<&str> {
        match self {
            SecretVersion::Current => Some("AWSCURRENT"),
            SecretVersion::Stage(stage) => Some(stage),
            SecretVersion::Id(_) => None,
        }
    }

    /// Whether it is the current version, by default or by the label `AWSCURRENT`.
    pub fn is_current(&self) -> bool {
        self.stage() == Some("AWSCURRENT")
    }
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Id {
    Name(String),
    Arn(Arn),
}

/// A reference to a secret of Secrets Manager: to the whole value, or to one key of its JSON object.
///
/// ```
/// use bp_secrets::reference::SecretRef;
///
/// let secret = SecretRef::by_name("prod/db")?.with_key("password")?.with_stage("AWSPREVIOUS")?;
/// assert_eq!(secret.to_string(), "secretsmanager:prod/db:password:AWSPREVIOUS:");
/// # Ok::<(), bp_secrets::reference::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef {
    id: Id,
    key: Option<String>,
    version: SecretVersion,
}

impl SecretRef {
    /// The secret with this name, in the account and region of the client that reads it.
    ///
    /// # Errors
    /// When the name is not a valid secret name.
    pub fn by_name(name: &str) -> Result<Self, ParseError> {
        check_name(name)?;
        Ok(Self::new(Id::Name(name.to_owned())))
    }

    /// The secret with this ARN, with or without the random suffix of six characters.
    ///
    /// # Errors
    /// When it is not the ARN of a secret, or fields follow it.
    pub fn by_arn(arn: &str) -> Result<Self, ParseError> {
        match Arn::parse(arn)? {
            (arn, None) if arn.service() == Service::SecretsManager => Self::from_arn(arn, None),
            (_, Some(_)) => Err(ParseError::new("fields follow the ARN: parse the text as a Reference")),
            _ => Err(ParseError::new("it is the ARN of a parameter, not of a secret")),
        }
    }

    /// Selects this key of the secret's JSON object.
    ///
    /// # Errors
    /// When the key is empty, or contains a colon, which `valueFrom` cannot express.
    pub fn with_key(mut self, key: &str) -> Result<Self, ParseError> {
        part("the JSON key", key, 1024, |c| c != ':' && !c.is_control())?;
        self.key = Some(key.to_owned());
        Ok(self)
    }

    /// Selects the version with this staging label.
    ///
    /// # Errors
    /// When it is not a valid staging label.
    pub fn with_stage(mut self, stage: &str) -> Result<Self, ParseError> {
        part("the version stage", stage, 256, |c| c != ':' && !c.is_control())?;
        self.version = SecretVersion::Stage(stage.to_owned());
        Ok(self)
    }

    /// Selects the version with this id.
    ///
    /// # Errors
    /// When it is not a valid version id.
    pub fn with_version_id(mut self, id: &str) -> Result<Self, ParseError> {
        part("the version id", id, 64, |c| c.is_ascii_alphanumeric() || "-_.".contains(c))?;
        if id.len() < 32 {
            return Err(ParseError::new("the version id does not have 32 to 64 characters"));
        }
        self.version = SecretVersion::Id(id.to_owned());
        Ok(self)
    }

    /// Removes the key, so that the reference is to the whole value.
    pub fn without_key(mut self) -> Self {
        self.key = None;
        self
    }

    /// The `SecretId` in API requests: the name or the ARN.
    pub fn id(&self) -> String {
        match &self.id {
            Id::Name(name) => name.clone(),
            Id::Arn(arn) => arn.to_string(),
        }
    }

    /// The ARN, unless the secret is referenced by name.
    pub fn arn(&self) -> Option<&Arn> {
        match &self.id {
            Id::Name(_) => None,
            Id::Arn(arn) => Some(arn),
        }
    }

    /// The name; from an ARN, without what looks like its random suffix: a hyphen and six characters at the end.
    pub fn name(&self) -> &str {
        match &self.id {
            Id::Name(name) => name,
            Id::Arn(arn) => match suffix(arn.resource()) {
                Some(_) => arn.resource().rsplit_once('-').map_or(arn.resource(), |(name, _)| name),
                None => arn.resource(),
            },
        }
    }

    /// The key of the JSON object.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The version.
    pub fn version(&self) -> &SecretVersion {
        &self.version
    }

    /// The reference to the replica in `region`; a name is the same in all regions.
    pub fn in_region(&self, region: &str) -> Self {
        let id = match &self.id {
            Id::Name(name) => Id::Name(name.clone()),
            Id::Arn(arn) => Id::Arn(arn.in_region(region)),
        };
        SecretRef { id, ..self.clone() }
    }

    fn new(id: Id) -> Self {
        SecretRef { id, key: None, version: SecretVersion::Current }
    }

    pub(super) fn from_arn(arn: Arn, rest: Option<&str>) -> Result<Self, ParseError> {
        check_name(arn.resource())?;
        Self::new(Id::Arn(arn)).with_fields(rest)
    }

    /// `<name>[:<key>:<stage>:<version id>]`.
    pub(super) fn from_text(text: &str) -> Result<Self, ParseError> {
        match text.split_once(':') {
            Some((name, rest)) => Self::by_name(name)?.with_fields(Some(rest)),
            None => Self::by_name(text),
        }
    }

    /// Parses the optional fields: either all three, each possibly empty, or none.
    fn with_fields(mut self, rest: Option<&str>) -> Result<Self, ParseError> {
        let Some(rest) = rest else { return Ok(self) };
        let fields: Vec<&str> = rest.split(':').collect();
        let [key, stage, id] = fields.as_slice() else {
            return Err(ParseError::new(format!(
                "there are {} fields after `secret:`, not 1 (the name) or 4 \
                 (`<name>:<JSON key>:<stage>:<version id>`, all but the name may be empty)",
                fields.len().saturating_add(1)
            )));
        };
        if !stage.is_empty() && !id.is_empty() {
            return Err(ParseError::new(
                "a version stage and a version id are mutually exclusive: leave one empty",
            ));
        }
        if !key.is_empty() {
            self = self.with_key(key)?;
        }
        if !stage.is_empty() {
            self = self.with_stage(stage)?;
        }
        if !id.is_empty() {
            self = self.with_version_id(id)?;
        }
        Ok(self)
    }
}

/// The random suffix that Secrets Manager adds to a secret's ARN: six characters after a hyphen, if present.
pub(crate) fn suffix(resource: &str) -> Option<&str> {
    let (name, suffix) = resource.rsplit_once('-')?;
    let is_suffix = suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_suffix && !name.is_empty()).then_some(suffix)
}

fn check_name(name: &str) -> Result<(), ParseError> {
    // 512 for the name, and 7 for the suffix of an ARN.
    part("the secret's name", name, 519, |c| c.is_ascii_alphanumeric() || "/_+=.@-!".contains(c))
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Id::Name(name) => write!(f, "secretsmanager:{name}")?,
            Id::Arn(arn) => write!(f, "{arn}")?,
        }
        let key = self.key.as_deref().unwrap_or_default();
        match (&self.key, &self.version) {
            (None, SecretVersion::Current) => Ok(()),
            (_, SecretVersion::Current) => write!(f, ":{key}::"),
            (_, SecretVersion::Stage(stage)) => write!(f, ":{key}:{stage}:"),
            (_, SecretVersion::Id(id)) => write!(f, ":{key}::{id}"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretRef({self})")
    }
}
