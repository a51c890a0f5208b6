//! What a path is: a file that can be replaced, or a stream that is written through.

use std::{
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

/// The maximum number of symbolic links that are followed, as in Linux.
const MAX_LINKS: usize = 40;

#[derive(Debug)]
pub(super) enum Target {
    /// A regular file, or nothing yet.
    File {
        path: PathBuf,
        existing: Option<Metadata>,
    },
    Stream(Stream),
}

/// A device, a FIFO, or an open descriptor of a process.
#[derive(Debug)]
pub(super) enum Stream {
    #[cfg(unix)]
    Stdout,
    #[cfg(unix)]
    Stderr,
    Path(PathBuf),
}

impl Target {
    /// Follows symbolic links. The target need not exist.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..=MAX_LINKS {
            if let Some(stream) = descriptor(&path) {
                return Ok(Target::Stream(stream));
            }
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => {
                    let link = fs::read_link(&path)?;
                    path = directory_of(&path).join(link);
                }
                Ok(metadata) if metadata.is_file() => {
                    return Ok(Target::File { path, existing: Some(metadata) });
                }
                Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
                Ok(_) => return Ok(Target::Stream(Stream::Path(path))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Target::File { path, existing: None });
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many symbolic links"))
    }

    /// Whatever is at the path is replaced, except a directory.
    pub(super) fn without_links(path: &Path) -> io::Result<Self> {
        let existing = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) => Some(metadata).filter(Metadata::is_file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Target::File { path: path.to_owned(), existing })
    }
}

pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Removes the temporary files that killed runs left beside the file at `path`, which no other process may be writing.
/// Best effort: they do no damage.
pub fn remove_leftovers(path: &Path) {
    let Ok(Target::File { path, .. }) = Target::of(path) else { return };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let Ok(entries) = fs::read_dir(directory_of(&path)) else { return };
    let prefix = format!(".{name}.");
    let is_leftover = |entry: &str| {
        let random = entry.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tmp"));
        random.is_some_and(|random| random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_leftover)) {
        let _ = fs::remove_file(entry.path());
    }
}

/// Whether a directory cannot be written, as distinct from a disk that is full.
pub(super) fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// An entry of `/dev/fd` or `/proc/<pid>/fd`. It looks like a symbolic link, but is the open file itself: replacing the
/// file to which it points would leave the descriptor with the old one.
#[cfg(unix)]
fn descriptor(path: &Path) -> Option<Stream> {
    let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
    let directory = fs::canonicalize(directory_of(path)).ok()?;
    if !directory.starts_with("/proc") || !directory.ends_with("fd") {
        return None;
    }
    let is_own = directory.strip_prefix("/proc").is_ok_and(|rest| {
        rest.components().next().is_some_and(|pid| *pid.as_os_str() == *std::process::id().to_string())
    });
    Some(match number {
        1 if is_own => Stream::Stdout,
        2 if is_own => Stream::Stderr,
        _ => Stream::Path(path.to_owned()),
    })
}

#[cfg(not(unix))]
fn descriptor(_: &Path) -> Option<Stream> {
    None
}

#[cfg(unix)]
impl Stream {
    pub(super) fn open(&self) -> io::Result<File> {
        match self {
            // The same open file: its position, and sockets, which cannot be opened by their path.
            Stream::Stdout => rustix::stdio::stdout().try_clone_to_owned().map(File::from),
            Stream::Stderr => rustix::stdio::stderr().try_clone_to_owned().map(File::from),
            Stream::Path(path) => open(path),
        }
    }

    /// Checks the permission to write, without opening the stream: a reader of a FIFO would see its end.
    pub(super) fn check(&self) -> io::Result<()> {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        match self {
            Stream::Stdout | Stream::Stderr => Ok(()),
            Stream::Path(path) => Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?),
        }
    }
}

#[cfg(not(unix))]
impl Stream {
    pub(super) fn open(&self) -> io::Result<File> {
        let Stream::Path(path) = self;
        File::options().write(true).open(path)
    }

    pub(super) fn check(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a device, a FIFO or a descriptor, without waiting for the reader of a FIFO.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    let kind = fs::metadata(path)?.file_type();
    let mut options = File::options();
    // A descriptor of a regular file: after what was already written to it.
    options.write(true).append(kind.is_file());
    if !kind.is_fifo() {
        return options.open(path);
    }
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) {
            io::Error::new(io::ErrorKind::NotConnected, "no process has opened the FIFO for reading")
        } else {
            error
        }
    })?;
    fcntl_setfl(&file, fcntl_getfl(&file)?.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

/// Gives `file` the owner, as far as permitted, and the mode of the file that it replaces.
#[cfg(unix)]
pub(super) fn keep_owner_and_mode(file: &File, existing: &Metadata, private: bool) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

    let (uid, gid) = (existing.uid(), existing.gid());
    let own = file.metadata()?;
    let mut mode = if private { 0o600 } else { existing.mode() & 0o777 };
    let is_kept = (own.uid(), own.gid()) == (uid, gid) || fchown(file, Some(uid), Some(gid)).is_ok();
    if !is_kept && own.gid() != gid && fchown(file, None, Some(gid)).is_err() {
        // Another group must not get the rights of the old one.
        mode = (mode & 0o707) | ((mode & 0o007) << 3);
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
pub(super) fn keep_owner_and_mode(_: &File, _: &Metadata, _: bool) -> io::Result<()> {
    Ok(())
}
