//! Access to the files of a layout, in a directory or in an archive.

use std::{
    collections::HashMap,
    io::{self, Seek as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    fs,
    io::{AsyncReadExt as _, Take},
    task::spawn_blocking,
};

/// The files of a layout, addressed by their path within it, with slashes.
#[derive(Debug, Clone)]
pub(super) enum Files {
    Directory(PathBuf),
    Archive(Arc<Archive>),
}

/// A tar archive whose headers were read, with the position of each file.
#[derive(Debug, Default)]
pub(super) struct Archive {
    pub(super) path: PathBuf,
    pub(super) files: HashMap<String, Extent>,
    /// Files that cannot be read in place, with the reason.
    pub(super) unreadable: HashMap<String, &'static str>,
    /// The directory of the archive that contains a layout.
    pub(super) nested: Option<String>,
}

/// The position of a file in an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The path of `name` in the layout at `root`. A layout may come from anywhere: no symbolic link in it is followed,
/// neither to read nor to write.
///
/// # Errors
/// When a part of the path is a symbolic link, or cannot be examined.
pub(super) fn path_in(root: &Path, name: &str) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    for part in name.split('/') {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                let text = format!(
                    "{} is a symbolic link, and links in a layout are not followed: copy it with cp -rL",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(path)
}

/// The maximum size of an index or a manifest.
const MAX_DOCUMENT: u64 = 16 << 20;

impl Files {
    /// The path of the file for messages.
    pub(super) fn shown(&self, name: &str) -> PathBuf {
        match self {
            Files::Directory(root) => root.join(name),
            Files::Archive(archive) => PathBuf::from(format!("{}:{name}", archive.path.display())),
        }
    }

    /// The size of a file, if it exists.
    pub(super) async fn size(&self, name: &str) -> Option<u64> {
        match self {
            Files::Directory(_) => Some(self.open(name).await.ok()?.limit()),
            Files::Archive(archive) => archive.files.get(name).map(|extent| extent.size),
        }
    }

    pub(super) async fn open(&self, name: &str) -> io::Result<Take<fs::File>> {
        let (files, name) = (self.clone(), name.to_owned());
        let (file, size) = spawn_blocking(move || files.open_now(&name)).await??;
        Ok(fs::File::from_std(file).take(size))
    }

    /// Opens a file at its first byte, and returns its size. Blocks.
    pub(super) fn open_now(&self, name: &str) -> io::Result<(std::fs::File, u64)> {
        match self {
            Files::Directory(root) => {
                let path = path_in(root, name)?;
                let metadata = std::fs::symlink_metadata(&path)?;
                if !metadata.is_file() {
                    let text = format!("{} is not a regular file", path.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Ok((std::fs::File::open(path)?, metadata.len()))
            }
            Files::Archive(archive) => {
                let extent = archive.files.get(name).ok_or_else(|| match archive.unreadable.get(name) {
                    Some(reason) => io::Error::new(io::ErrorKind::InvalidData, format!("{name} {reason}")),
                    None => io::ErrorKind::NotFound.into(),
                })?;
                let mut file = std::fs::File::open(&archive.path)?;
                file.seek(io::SeekFrom::Start(extent.offset))?;
                Ok((file, extent.size))
            }
        }
    }

    /// Reads an index or a manifest: as much as of a registry's response.
    pub(super) async fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.open(name).await?;
        if file.limit() > MAX_DOCUMENT {
            let text = format!("{} is larger than {} MiB", self.shown(name).display(), MAX_DOCUMENT >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}
