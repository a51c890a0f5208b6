//! Access to the files of a layout, in a directory or in an archive.

use std::{
    collections::HashMap,
    io::{self, Seek as _},
    path::PathBuf,
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
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) path: PathBuf,
    pub(super) files: HashMap<String, Extent>,
}

/// The position of a file in an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

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
            Files::Directory(root) => fs::metadata(root.join(name)).await.ok().map(|metadata| metadata.len()),
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
                let file = std::fs::File::open(root.join(name))?;
                let size = file.metadata()?.len();
                Ok((file, size))
            }
            Files::Archive(archive) => {
                let extent = archive.files.get(name).ok_or(io::ErrorKind::NotFound)?;
                let mut file = std::fs::File::open(&archive.path)?;
                file.seek(io::SeekFrom::Start(extent.offset))?;
                Ok((file, extent.size))
            }
        }
    }

    pub(super) async fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name).await?.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}
