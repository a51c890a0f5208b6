//! Files that one run at a time may write.

use std::{path::Path, time::Duration};

use bp_artifact::{
    document::{DocumentError, check_writable},
    file::{FileLock, LockError},
};

use crate::Failure;

/// How long a run waits for another one, which may be stopping.
const WAIT: Duration = Duration::from_secs(10);

/// Locks a file and checks that it can be written. A device or a pipe is not locked: `None`.
///
/// # Errors
/// When another run still uses it after a short time, or it cannot be written. Nothing was changed.
pub(crate) async fn lock(path: &Path) -> Result<Option<FileLock>, Failure> {
    let locked = match FileLock::acquire(path, WAIT).await {
        Ok(lock) => Some(lock),
        Err(LockError::NotRegular) => None,
        Err(LockError::Held { holder }) => {
            let holder = holder.map_or_else(String::new, |holder| format!(" ({holder})"));
            return Err(Failure::unavailable(format!(
                "{} is in use by another run{holder}: nothing was changed; rerun when that run has ended",
                path.display()
            )));
        }
        Err(LockError::Io(source)) => {
            return Err(DocumentError::Write { path: path.to_owned(), source }.into());
        }
        Err(error) => return Err(Failure::unavailable(format!("cannot lock {}: {error}", path.display()))),
    };
    check_writable(path)?;
    Ok(locked)
}
