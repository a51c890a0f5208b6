//! Read documents with parse errors that state file, line and column, and write files.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::location::Location;
use crate::{
    error::{Classified, ErrorClass},
    file::{FileWriter, read_text},
};

/// A file that could not be read, parsed or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The content is invalid.
    #[error("{at}: {reason}")]
    Malformed {
        /// The location.
        at: Location,
        /// What is wrong at this location.
        reason: String,
    },
    /// The file is of another kind, or of an unsupported version.
    #[error("{file}: the schema is {found:?}, and this version reads {supported}")]
    Unsupported {
        /// The file.
        file: String,
        /// The value of its field `schema`.
        found: String,
        /// The supported schema, such as `bp.artifact/1`.
        supported: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

impl DocumentError {
    /// Whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, DocumentError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Classified for DocumentError {
    fn class(&self) -> ErrorClass {
        match self {
            DocumentError::Write { .. } => ErrorClass::Unavailable,
            _ => ErrorClass::BadInput,
        }
    }

    fn is_retryable(&self) -> bool {
        false
    }

    fn location(&self) -> Option<&Location> {
        match self {
            DocumentError::Malformed { at, .. } => Some(at),
            DocumentError::Read { .. } | DocumentError::Unsupported { .. } | DocumentError::Write { .. } => {
                None
            }
        }
    }
}

/// The kind and version of a JSON document, in its field `schema`: `bp.artifact/1.0`.
///
/// A later minor version only adds fields and enum values, so it is accepted; another major version is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub(crate) struct Schema(String);

impl Schema {
    pub(crate) fn new(kind: &str, major: u32) -> Self {
        Schema(format!("{kind}/{major}.0"))
    }

    pub(crate) fn check(&self, file: &str, kind: &str, major: u32) -> Result<(), DocumentError> {
        let supported = format!("{kind}/{major}");
        let minor = self.0.strip_prefix(&supported);
        if minor.is_some_and(|minor| minor.is_empty() || minor.starts_with('.')) {
            return Ok(());
        }
        Err(DocumentError::Unsupported { file: file.to_owned(), found: self.0.clone(), supported })
    }
}

/// Reads a text file, without the byte order mark that some shells write.
pub(crate) fn read(path: &Path) -> Result<String, DocumentError> {
    let text = read_text(path).map_err(|source| DocumentError::Read { path: path.to_owned(), source })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Parses JSON; errors state the location.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, DocumentError> {
    serde_json::from_str(text).map_err(|error| {
        // serde_json repeats the location at the end of its message.
        let message = error.to_string();
        let reason = message.rsplit_once(" at line ").map_or(&*message, |(reason, _)| reason).to_owned();
        let at = Location { file: file.to_owned(), line: error.line().max(1), column: error.column().max(1) };
        DocumentError::Malformed { at, reason }
    })
}

/// Parses JSON after its schema was checked: in another major version the other fields may have another meaning.
pub(crate) fn from_versioned_json<T: DeserializeOwned>(
    text: &str,
    file: &str,
    kind: &str,
    major: u32,
) -> Result<T, DocumentError> {
    #[derive(Deserialize)]
    struct Head {
        schema: Schema,
    }
    from_json::<Head>(text, file)?.schema.check(file, kind, major)?;
    from_json(text, file)
}

/// Serializes to indented JSON with a trailing newline.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("our documents have string keys only");
    text.push('\n');
    text
}

/// Writes a file as [`FileWriter`] does: atomically where it can be replaced.
///
/// # Errors
/// When the file cannot be written. No temporary file is left behind.
pub fn write(path: &Path, content: &[u8]) -> Result<(), DocumentError> {
    let written = FileWriter::new().write(path, content);
    written.map_err(|source| DocumentError::Write { path: path.to_owned(), source })
}

/// Checks that [`write()`] could write the file at `path`, without changing it.
///
/// # Errors
/// As [`write()`].
pub fn check_writable(path: &Path) -> Result<(), DocumentError> {
    let checked = FileWriter::new().check(path);
    checked.map_err(|source| DocumentError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_count_lines_and_characters() {
        let text = "a\nsüß = x\n";
        let at = text.find('x').unwrap();
        assert_eq!(Location::of("f", text, at).to_string(), "f:2:7");
        assert_eq!(Location::of("f", text, 0).to_string(), "f:1:1");
        assert_eq!(Location::of("f", text, 999).to_string(), "f:3:1");
        assert_eq!(Location::of("f", "", 0).to_string(), "f:1:1");
    }

    #[test]
    fn a_failed_write_reports_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("no/such/place.json");
        for error in [write(&missing, b"x").unwrap_err(), check_writable(&missing).unwrap_err()] {
            assert_eq!(error.to_string(), format!("cannot write {}", missing.display()));
            assert_eq!(error.class(), ErrorClass::Unavailable);
        }
    }

    #[test]
    fn accepts_schemas_of_the_same_major_version() {
        for (text, good) in [
            ("bp.artifact/1", true),
            ("bp.artifact/1.7", true),
            ("bp.artifact/2.0", false),
            ("bp.artifact/12", false),
            ("bp.receipt/1.0", false),
            ("", false),
        ] {
            assert_eq!(Schema(text.into()).check("f", "bp.artifact", 1).is_ok(), good, "{text}");
        }
    }
}
