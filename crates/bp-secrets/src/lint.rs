//! What others make of a reference or value otherwise than it stands.

use serde::{Serialize, Serializer};

/// Something that will surprise whoever reads the value through another program: a warning with its reason.
///
/// ```
/// use bp_secrets::{Lint, projection::Renderer, value::Kind};
///
/// let lint = Lint::of(Renderer::Ecs, Kind::GoNumber).unwrap();
/// assert_eq!(lint.code(), "go-number");
/// assert!(lint.to_string().contains("1e+06"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lint {
    /// A JSON number that Go writes in another way.
    GoNumber,
    /// A JSON object or array behind a key.
    Compound,
    /// A `null` behind a key.
    Null,
    /// A binary secret.
    Binary,
    /// A JSON value that is no string, where only strings are taken.
    NotText,
    /// Several keys of one secret, each of which is fetched with a call of its own.
    ManyCalls {
        /// How many keys, and calls.
        keys: usize,
    },
    /// A parameter in a fixed version or under a label.
    Selector,
    /// A secret's ARN without the six characters at its end.
    NoSuffix,
    /// A key that JMESPath takes in quotes only.
    QuotedPath,
}

impl Lint {
    /// A name of the case that programs can rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Lint::GoNumber => "go-number",
            Lint::Compound => "compound",
            Lint::Null => "null",
            Lint::Binary => "binary",
            Lint::NotText => "not-text",
            Lint::ManyCalls { .. } => "many-calls",
            Lint::Selector => "selector",
            Lint::NoSuffix => "no-suffix",
            Lint::QuotedPath => "quoted-path",
        }
    }
}

impl std::fmt::Display for Lint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lint::GoNumber => f.write_str(
                "the key holds a number that the ECS agent writes the Go way (1000000 becomes 1e+06): store it as a string",
            ),
            Lint::Compound => f.write_str(
                "the key holds an object or array, which the ECS agent writes the Go way (map[...]): store it as a string of JSON",
            ),
            Lint::Null => f.write_str("the key holds null, which the ECS agent writes as <nil>: store a string"),
            Lint::NotText => f.write_str("the key holds no string, for which the CSI driver fails the mount: store a string"),
            Lint::ManyCalls { keys } => write!(
                f,
                "{keys} keys of one secret cost {keys} calls for each task that starts: bind the whole secret once and \
                 read its keys in the program"
            ),
            Lint::Selector => f.write_str(
                "the parameter is fixed to a version or label, so a new version does not reach new tasks until the \
                 reference changes or the label moves",
            ),
            Lint::NoSuffix => f.write_str(
                "the ARN lacks the six characters at its end: it may mean another secret, and a policy on the whole \
                 ARN does not match it",
            ),
            Lint::QuotedPath => f.write_str(
                "JMESPath takes this key in quotes only ('\"a-b\"'): keep them when the object is edited by hand",
            ),
            Lint::Binary => f.write_str("the secret is binary, of which ECS sets an empty variable: store text"),
        }
    }
}

/// `{"code", "message"}`.
impl Serialize for Lint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut lint = serializer.serialize_struct("Lint", 2)?;
        lint.serialize_field("code", self.code())?;
        lint.serialize_field("message", &self.to_string())?;
        lint.end()
    }
}
