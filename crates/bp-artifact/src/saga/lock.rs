//! One run at a time with the same receipt.

use std::{path::Path, time::Duration};

use super::SagaError;
use crate::{
    document::DocumentError,
    file::{FileLock, LockError},
};

/// How long a run waits for another one, which may be stopping.
const WAIT: Duration = Duration::from_secs(10);

/// Locks a receipt until the result is dropped.
///
/// # Errors
/// When another run still uses it after a short time, or its directory cannot be written.
pub(super) async fn lock(path: &Path) -> Result<FileLock, SagaError> {
    let path = || path.to_owned();
    FileLock::acquire(&path(), WAIT).await.map_err(|error| match error {
        LockError::Held { holder } => SagaError::InUse { path: path(), holder },
        LockError::NotRegular => SagaError::NotAFile { path: path() },
        LockError::Io(source) => DocumentError::Write { path: path(), source }.into(),
    })
}
