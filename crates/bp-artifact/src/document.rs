//! Read documents with parse errors that state file, line and column, and write files atomically.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Classified, ErrorClass};

/// A location in a file, displayed as `bp.toml:3:14`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The file name as given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Location {
    /// The location of the byte `offset` in `text`.
    pub(crate) fn of(file: &str, text: &str, offset: usize) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Location {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

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
    let text =
        fs::read_to_string(path).map_err(|source| DocumentError::Read { path: path.to_owned(), source })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Parses JSON; errors state the location.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, DocumentError> {
    serde_json::from_str(text).map_err(|error| {
        // serde_json repeats the location at the end of its message.
        let message = error.to_string();
        let reason = match message.rfind(" at line ") {
            Some(end) => message[..end].to_owned(),
            None => message,
        };
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

/// Atomically replaces the content of the file at `path`: a reader, also after a crash, sees the old content or the new
/// one, never a part.
///
/// # Errors
/// When the path has no file name, or its directory is not writable. No temporary file is left behind.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), DocumentError> {
    let failed = |source| DocumentError::Write { path: path.to_owned(), source };
    let temporary = temporary_for(path).map_err(failed)?;
    replace(&temporary, path, content)
        .and_then(|()| sync_directory(directory_of(path)))
        .inspect_err(|_| {
            // Best effort: the first error is the one to return.
            let _ = fs::remove_file(&temporary);
        })
        .map_err(failed)
}

/// Checks that [`write_atomically`] could write the file at `path`, without changing it.
///
/// # Errors
/// When the path has no file name or is a directory, or its directory is not writable.
pub fn check_writable(path: &Path) -> Result<(), DocumentError> {
    let failed = |source| DocumentError::Write { path: path.to_owned(), source };
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let temporary = temporary_for(path).map_err(failed)?;
    File::options()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|_| fs::remove_file(&temporary))
        .map_err(failed)
}

/// The path of a new temporary file beside the file at `path`.
fn temporary_for(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{:016x}.tmp", fastrand::u64(..)));
    Ok(directory_of(path).join(temporary))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn replace(temporary: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)
}

/// Makes the rename durable, where directories can be synced.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
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
    fn writes_atomically_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_reports_the_path_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("no/such/place.json");
        let error = write_atomically(&missing, b"x").unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
        // A directory at the path: the rename fails after the temporary file was written.
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write_atomically(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write_atomically(Path::new("/"), b"x").is_err());
    }

    #[test]
    fn checks_that_a_file_is_writable_without_changing_anything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        check_writable(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        write_atomically(&path, b"one").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(read(&path).unwrap(), "one");
        let missing = directory.path().join("no/such/place.json");
        for invalid in [missing.as_path(), directory.path(), Path::new("/")] {
            assert!(check_writable(invalid).is_err(), "{}", invalid.display());
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
