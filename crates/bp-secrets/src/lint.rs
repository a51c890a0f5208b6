//! Warnings about references and values that ECS or the CSI driver renders differently from how they are stored.

use serde::{Serialize, Serializer};

/// A warning: another program reads this reference or value in an unexpected way.
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
    /// A JSON number that Go formats differently.
    GoNumber,
    /// A key whose value is a JSON object or array.
    Compound,
    /// A key whose value is `null`.
    Null,
    /// A binary secret.
    Binary,
    /// A JSON value that is not a string, where only strings are accepted.
    NotText,
    /// Several keys of one secret, each of which is fetched with a separate call.
    ManyCalls {
        /// The number of keys, and of calls.
        keys: usize,
    },
    /// A parameter pinned to a version or label.
    Selector,
    /// A secret's ARN without its random suffix of six characters.
    NoSuffix,
    /// A key that must be quoted in JMESPath.
    QuotedPath,
}

impl Lint {
    /// A stable identifier of the warning, for programs.
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
                "the ECS agent formats this number as a Go float (1000000 becomes 1e+06): store a string",
            ),
            Lint::Compound => f.write_str(
                "the ECS agent formats this object or array in Go syntax (map[...]): store JSON as a string",
            ),
            Lint::Null => f.write_str("the ECS agent formats this null as <nil>: store a string"),
            Lint::NotText => {
                f.write_str("the value is not a string, so the CSI driver fails the mount: store a string")
            }
            Lint::ManyCalls { keys } => write!(
                f,
                "{keys} keys of one secret cost {keys} API calls for each task that starts: bind the whole secret \
                 once and read its keys in the program"
            ),
            Lint::Selector => f.write_str(
                "the parameter is pinned to a version or label: new tasks do not get a newer version until \
                 the reference changes or the label moves",
            ),
            Lint::NoSuffix => f.write_str(
                "the ARN lacks its random suffix of six characters: it may match another secret, and a policy \
                 on the full ARN does not match it; use the full ARN",
            ),
            Lint::QuotedPath => f.write_str(
                "JMESPath requires quotes around this key ('\"a-b\"'): keep them when you edit the object",
            ),
            Lint::Binary => f.write_str("the secret is binary, so ECS sets an empty variable: store text"),
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
