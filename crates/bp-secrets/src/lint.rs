//! What others make of a reference or value otherwise than it stands.

use serde::{Serialize, Serializer};

/// Something that will surprise whoever reads the value through another program: a warning with its reason.
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
}

impl Lint {
    /// A name of the case that programs can rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Lint::GoNumber => "go-number",
            Lint::Compound => "compound",
            Lint::Null => "null",
            Lint::Binary => "binary",
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
