//! Write files: atomically where a file can be replaced, in place where it cannot.
//!
//! | what is at the path | how it is written |
//! |---|---|
//! | nothing, or a regular file | a temporary file in the same directory is synced and renamed; mode and owner are kept |
//! | a symbolic link | the link remains, and its target is written |
//! | a device, a FIFO, `/dev/stdout`, `/dev/fd/N` | opened and written |
//! | a regular file that cannot be renamed over, such as a bind mount of a single file | written in place, not atomically |
//!
//! [`FileLock`] excludes concurrent runs that write the same file.

mod lock;
mod target;

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use self::target::{Target, directory_of, is_refused};
pub use self::{
    lock::{FileLock, Holder, LockError},
    target::remove_leftovers,
};

/// How much a check writes to prove that there is space: more than any document of this crate usually has.
const PROBE: usize = 16 << 10;

/// The maximum size of a document that is read.
const MAX_READ: u64 = 64 << 20;

/// Reads a file of at most 64 MiB, also a device or a pipe, whose size is not known in advance.
///
/// # Errors
/// When it cannot be read, or is larger.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = File::open(path)?.take(MAX_READ + 1).read_to_end(&mut bytes)?;
    if length as u64 > MAX_READ {
        let error = format!("it is larger than {} MiB", MAX_READ >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
    }
    Ok(bytes)
}

/// As [`read`], of text.
///
/// # Errors
/// As [`read`], and when it is not valid UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8"))
}

/// Writes files; see the [module](self).
///
/// ```
/// use bp_artifact::file::FileWriter;
///
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("record.json");
/// let writer = FileWriter::new();
/// writer.check(&path)?;
/// writer.write(&path, b"{}\n")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileWriter {
    private: bool,
    follows_links: bool,
}

impl Default for FileWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl FileWriter {
    /// A writer for files that a user has chosen. A new file gets the mode of the process's umask.
    pub fn new() -> Self {
        FileWriter { private: false, follows_links: true }
    }

    /// Only the owner may read the files: mode 0600, whatever mode they had.
    pub fn private(self) -> Self {
        FileWriter { private: true, ..self }
    }

    /// For files within a directory that may come from anywhere: a symbolic link, a device or a FIFO at the path is
    /// replaced by the file.
    pub fn replacing_links(self) -> Self {
        FileWriter { follows_links: false, ..self }
    }

    /// Writes a whole file. A reader, also after a crash, sees the old content or the new one, never a part, if the file
    /// can be replaced.
    ///
    /// # Errors
    /// When the path is a directory or has no file name, or the file cannot be written. No temporary file is left behind.
    pub fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = self.create(path)?;
        file.write_all(content)?;
        file.finish()
    }

    /// Starts to write a file, which replaces an existing one when it is [finished](NewFile::finish).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn create(&self, path: &Path) -> io::Result<NewFile> {
        match self.target(path)? {
            Target::Stream(stream) => Ok(NewFile { file: stream.open()?, state: State::Stream }),
            Target::File { path, existing } => {
                let temporary = match Temporary::create(&path, existing.is_some() || self.private) {
                    Ok(temporary) => temporary,
                    // The directory cannot be written, but the file in it may be.
                    Err(error) if existing.is_some() && is_refused(&error) => {
                        let file = File::options().write(true).open(&path).map_err(|_| error)?;
                        return Ok(NewFile { file, state: State::InPlace });
                    }
                    Err(error) => return Err(error),
                };
                let Temporary { file, path: temporary } = temporary;
                let (existing, private) = (existing.map(Box::new), self.private);
                let replaces = Replacement { temporary, target: path, existing, private, renamed: false };
                Ok(NewFile { file, state: State::Replacement(replaces) })
            }
        }
    }

    /// Checks that a file could be written now, also that there is space for a small one. Changes nothing.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn check(&self, path: &Path) -> io::Result<()> {
        match self.target(path)? {
            Target::Stream(stream) => stream.check(),
            Target::File { path, existing } => {
                let written = Temporary::create(&path, true).and_then(|mut temporary| {
                    let written = temporary.file.write_all(&[0; PROBE]);
                    let written = written.and_then(|()| temporary.file.sync_all());
                    fs::remove_file(&temporary.path)?;
                    written
                });
                match written {
                    Err(error) if existing.is_some() && is_refused(&error) => {
                        File::options().write(true).open(&path).map(drop).map_err(|_| error)
                    }
                    written => written,
                }
            }
        }
    }

    fn target(&self, path: &Path) -> io::Result<Target> {
        if self.follows_links { Target::of(path) } else { Target::without_links(path) }
    }
}

/// Whether the path is, through symbolic links, a regular file, or nothing yet: a file that a later run can read back.
///
/// # Errors
/// When it cannot be examined.
pub fn is_regular(path: &Path) -> io::Result<bool> {
    Ok(matches!(Target::of(path)?, Target::File { .. }))
}

/// A file that is being written. Unless it is finished, the existing file is kept and the temporary one removed.
#[derive(Debug)]
#[must_use = "a file that is not finished is discarded"]
pub struct NewFile {
    file: File,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A device, a FIFO or a pipe.
    Stream,
    /// An existing file in a directory that cannot be written.
    InPlace,
    Replacement(Replacement),
}

impl NewFile {
    /// The open file, to write its content.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file, and replaces the existing one.
    ///
    /// # Errors
    /// When it cannot be synced or renamed: the existing file is unchanged, unless it had to be written in place.
    pub fn finish(mut self) -> io::Result<()> {
        match &mut self.state {
            State::Stream => self.file.flush(),
            State::InPlace => {
                let end = io::Seek::stream_position(&mut self.file)?;
                self.file.set_len(end)?;
                self.file.sync_all()
            }
            State::Replacement(replacement) => replacement.finish(&mut self.file),
        }
    }
}

impl io::Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A temporary file beside its target.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    /// `private` files are readable by the owner only.
    fn create(target: &Path, private: bool) -> io::Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{:016x}.tmp", fastrand::u64(..)));
        let path = directory_of(target).join(temporary);
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        if private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let file = options.open(&path)?;
        Ok(Temporary { file, path })
    }
}

/// A temporary file that replaces its target.
#[derive(Debug)]
struct Replacement {
    temporary: PathBuf,
    target: PathBuf,
    /// The replaced file.
    existing: Option<Box<fs::Metadata>>,
    private: bool,
    renamed: bool,
}

impl Replacement {
    fn finish(&mut self, file: &mut File) -> io::Result<()> {
        if let Some(existing) = &self.existing {
            target::keep_owner_and_mode(file, existing, self.private)?;
        }
        file.sync_all()?;
        match fs::rename(&self.temporary, &self.target) {
            Ok(()) => {
                self.renamed = true;
                sync_directory(directory_of(&self.target))
            }
            // A mount point.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && self.existing.is_some() => {
                write_in_place(file, &self.target)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.renamed {
            // Best effort: the first error is the one to return.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Copies the complete temporary file into a file that cannot be replaced.
fn write_in_place(from: &mut File, target: &Path) -> io::Result<()> {
    io::Seek::rewind(from)?;
    let mut to = File::options().write(true).open(target)?;
    let length = io::copy(from, &mut to)?;
    to.set_len(length)?;
    to.sync_all()
}

/// Makes the rename durable, where directories can be opened and synced.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        Err(error) if cfg!(unix) && !is_refused(&error) && error.kind() != io::ErrorKind::InvalidInput => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
