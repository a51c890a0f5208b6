//! Atomic file writes: a temporary file is renamed when it is complete.

use std::path::{Path, PathBuf};

use tokio::{fs, io::AsyncWriteExt as _};

use super::LayoutError;

/// A file under a temporary name, which is removed on drop unless it was finished.
pub(super) struct Partial {
    pub(super) file: fs::File,
    temporary: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Partial {
    pub(super) async fn create(target: &Path) -> Result<Self, LayoutError> {
        let directory = target.parent().unwrap_or(Path::new("."));
        let failed = |source| LayoutError::Io { doing: "write", path: target.to_owned(), source };
        fs::create_dir_all(directory).await.map_err(failed)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}.{:016x}.tmp", fastrand::u64(..)));
        let file = fs::File::create_new(&temporary).await.map_err(failed)?;
        Ok(Partial { file, temporary, target: target.to_owned(), finished: false })
    }

    pub(super) async fn finish(mut self) -> Result<(), LayoutError> {
        let done = async {
            self.file.flush().await?;
            self.file.sync_all().await?;
            fs::rename(&self.temporary, &self.target).await
        };
        done.await.map_err(|source| LayoutError::Io { doing: "write", path: self.target.clone(), source })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: a leftover temporary file does no damage.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a whole file atomically.
pub(super) async fn replace(target: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let mut partial = Partial::create(target).await?;
    let written = partial.file.write_all(bytes).await;
    written.map_err(|source| LayoutError::Io { doing: "write", path: target.to_owned(), source })?;
    partial.finish().await
}
