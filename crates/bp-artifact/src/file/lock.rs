//! Exclude concurrent runs that write the same file.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::target::{Target, directory_of, is_refused, remove_leftovers};
use crate::{
    text::{SingleLine, single_line, truncate},
    time::TimeSource,
};

/// How often a held lock is tried again.
const INTERVAL: Duration = Duration::from_millis(200);

/// Another run may replace the lock file at the same time.
const ATTEMPTS: usize = 20;

/// The maximum size of a lock file.
const MAX_HOLDER: u64 = 4096;

/// A lock on a file, held until it is dropped.
///
/// It is an advisory lock of the operating system on `<file>.lock`, which contains the [`Holder`] and is removed on drop.
/// The system releases it when the process ends, also by SIGKILL, so a lock file that is left behind does not block
/// anyone. If the directory cannot be written, the file itself is locked. On file systems without locks, nothing is
/// locked. Runs on machines that do not share the file do not exclude each other.
///
/// ```
/// use std::time::Duration;
/// use bp_artifact::file::{FileLock, LockError};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("receipt.json");
/// let held = FileLock::acquire(&path, Duration::ZERO).await?;
/// let second = FileLock::acquire(&path, Duration::ZERO).await;
/// assert!(matches!(second, Err(LockError::Held { holder: Some(_) })));
/// drop(held);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "the lock is released on drop"]
pub struct FileLock {
    /// Holds the lock while it is open.
    _file: File,
    /// The lock file to remove.
    lock: Option<PathBuf>,
}

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// The name of its host.
    pub host: String,
    /// Its process ID on that host.
    pub pid: u32,
    /// When it acquired the lock.
    pub since: Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = single_line(&self.host);
        write!(f, "process {} on {} since {:.0}", self.pid, truncate(&host, 200), self.since)
    }
}

/// Why a file cannot be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds the lock.
    #[error("it is in use by {}", holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string))]
    Held {
        /// That process, if it is known.
        holder: Option<Holder>,
    },
    /// The path is a device, a FIFO or a descriptor.
    #[error("it is not a regular file")]
    NotRegular,
    /// The lock file cannot be written.
    #[error("it cannot be locked")]
    Io(#[from] io::Error),
}

impl FileLock {
    /// Locks the file at `path`, which need not exist. If another process holds the lock, waits up to `wait`.
    ///
    /// # Errors
    /// When another process still holds the lock, the path is not that of a regular file, or the lock file cannot be
    /// written.
    ///
    /// # Permissions
    /// None.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is locked.
    pub async fn acquire(path: &Path, wait: Duration) -> Result<Self, LockError> {
        let deadline = crate::time::deadline(wait);
        loop {
            match Self::try_acquire(path) {
                Err(LockError::Held { .. }) if Instant::now() < deadline => sleep(INTERVAL).await,
                acquired => return acquired,
            }
        }
    }

    fn try_acquire(path: &Path) -> Result<Self, LockError> {
        let target = match Target::of(path)? {
            Target::File { path, .. } => path,
            Target::Stream(_) => return Err(LockError::NotRegular),
        };
        let lock = lock_path(&target)?;
        for _ in 0..ATTEMPTS {
            let mut file = match open(&lock) {
                Ok(file) => file,
                // The file cannot be replaced in this directory, so a lock on the file itself is sufficient.
                Err(error) if is_refused(&error) => {
                    let file = File::options().read(true).write(true).open(&target).map_err(|_| error)?;
                    locked(&file, &target)?;
                    return Ok(FileLock { _file: file, lock: None });
                }
                Err(error) => return Err(error.into()),
            };
            locked(&file, &target)?;
            // Its holder may have removed it before this process locked it.
            if is_at(&file, &lock) {
                remove_leftovers(&target);
                // Only for messages.
                let _ = Holder::current().write(&mut file);
                return Ok(FileLock { _file: file, lock: Some(lock) });
            }
        }
        Err(LockError::Held { holder: None })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed while it is locked: whoever opened it before sees that it is no longer at its path.
        if let Some(lock) = self.lock.as_ref().filter(|_| cfg!(unix)) {
            let _ = fs::remove_file(lock);
        }
    }
}

fn lock_path(target: &Path) -> io::Result<PathBuf> {
    let mut name = target
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?
        .to_owned();
    name.push(".lock");
    Ok(directory_of(target).join(name))
}

fn open(lock: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NOFOLLOW.bits().cast_signed(),
    );
    options.open(lock)
}

/// Locks the open file, if its file system has locks.
fn locked(file: &File, target: &Path) -> Result<(), LockError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => Err(LockError::Held { holder: Holder::read(file) }),
        Err(fs::TryLockError::Error(error)) => {
            let error = SingleLine(&error);
            tracing::warn!(%error, path = %SingleLine(target.display()), "cannot lock the file");
            Ok(())
        }
    }
}

/// Whether the open file is still the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(open), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

impl Holder {
    fn current() -> Self {
        let since = TimeSource::system().now();
        Holder { host: host_name(), pid: std::process::id(), since }
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        file.write_all(text.as_bytes())
    }

    /// The holder that a lock file states. `None` if it has not written it yet.
    fn read(file: &File) -> Option<Self> {
        let mut text = String::new();
        file.take(MAX_HOLDER).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}
