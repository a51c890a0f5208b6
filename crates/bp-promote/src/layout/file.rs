//! Files within a layout, which are replaced when they are complete.

use std::path::{Path, PathBuf};

use bp_artifact::file::{FileWriter, NewFile};
use tokio::{fs, io::AsyncWriteExt as _, task::spawn_blocking};

use super::LayoutError;

/// A file that is being written, and discarded on drop unless it was finished.
pub(super) struct Partial {
    pub(super) file: fs::File,
    written: NewFile,
    target: PathBuf,
}

impl Partial {
    pub(super) async fn create(target: &Path) -> Result<Self, LayoutError> {
        let path = target.to_owned();
        let (file, written) = blocking(target, move || {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let written = FileWriter::new().replacing_links().create(&path)?;
            Ok((written.file().try_clone()?, written))
        })
        .await?;
        Ok(Partial { file: fs::File::from_std(file), written, target: target.to_owned() })
    }

    pub(super) async fn finish(self) -> Result<(), LayoutError> {
        let Partial { mut file, written, target } = self;
        let flushed = file.flush().await;
        flushed.map_err(|source| LayoutError::Io { doing: "write", path: target.clone(), source })?;
        blocking(&target, || written.finish()).await
    }
}

/// Writes a whole file atomically.
pub(super) async fn replace(target: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let mut partial = Partial::create(target).await?;
    let written = partial.file.write_all(bytes).await;
    written.map_err(|source| LayoutError::Io { doing: "write", path: target.to_owned(), source })?;
    partial.finish().await
}

/// Runs file operations on a thread for them.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, LayoutError> {
    let failed = |source| LayoutError::Io { doing: "write", path: path.to_owned(), source };
    let interrupted = |_| failed(std::io::ErrorKind::Interrupted.into());
    spawn_blocking(work).await.map_err(interrupted)?.map_err(failed)
}
