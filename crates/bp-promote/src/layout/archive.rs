//! Tar archives with an OCI layout, as `docker buildx build --output type=oci` writes them.

use std::{
    fs,
    io::{self, Read, Seek as _},
    path::{Component, Path, PathBuf},
};

use tar::{Entry, EntryType};

use super::{
    LayoutError,
    files::{Archive, Extent},
};

impl Archive {
    /// Reads the headers of an archive and skips the contents in between.
    pub(super) fn scan(path: PathBuf) -> Result<Self, LayoutError> {
        let failed = |source| LayoutError::Io { doing: "read", path: path.clone(), source };
        let invalid = |reason: String| LayoutError::NotALayout { path: path.clone(), reason };
        let mut file = fs::File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut magic = [0; 4];
        let _ = file.read(&mut magic).map_err(failed)?;
        if let Some(reason) = compressed(magic) {
            return Err(invalid(reason.to_owned()));
        }
        file.rewind().map_err(failed)?;
        let mut archive = tar::Archive::new(file);
        let mut scanned = Archive { path: path.clone(), ..Archive::default() };
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry =
                entry.map_err(|error| invalid(format!("it is not a complete tar archive: {error}")))?;
            let Some(parts) = parts_of(&entry) else { continue };
            let Some(name) = name_of(&parts) else {
                scanned.nested = scanned.nested.or_else(|| directory_of_layout(&parts));
                continue;
            };
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let extent = Extent { offset: entry.raw_file_position(), size: entry.size() };
                    if extent.offset.checked_add(extent.size).is_none_or(|end| end > length) {
                        let reason = format!("it is truncated: {name} ends after the end of the file");
                        return Err(invalid(reason));
                    }
                    scanned.files.insert(name, extent);
                }
                EntryType::Link => {
                    let reason = "is a hard link: create the archive with --hard-dereference";
                    scanned.unreadable.insert(name, reason);
                }
                EntryType::GNUSparse => {
                    scanned.unreadable.insert(name, "is sparse: create the archive without --sparse");
                }
                EntryType::Symlink => {
                    let reason = "is a symbolic link: create the archive with --dereference";
                    scanned.unreadable.insert(name, reason);
                }
                _ => {}
            }
        }
        Ok(scanned)
    }
}

/// Unpacks the files of a layout from a stream, with constant memory.
pub(super) fn unpack(stream: impl Read, directory: &Path) -> Result<(), LayoutError> {
    let failed = |source| LayoutError::Io { doing: "write", path: directory.to_owned(), source };
    let invalid = |reason| LayoutError::NotALayout { path: PathBuf::from("the stream"), reason };
    let mut stream = io::BufReader::with_capacity(128 << 10, stream);
    let start = io::BufRead::fill_buf(&mut stream).map_err(failed)?;
    let magic = start.first_chunk().copied().unwrap_or_default();
    if let Some(reason) = compressed(magic) {
        return Err(invalid(reason.to_owned()));
    }
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(failed)? {
        let mut entry =
            entry.map_err(|error| invalid(format!("it is not a complete tar archive: {error}")))?;
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
            continue;
        }
        let Some(name) = parts_of(&entry).and_then(|parts| name_of(&parts)) else { continue };
        let target = directory.join(&name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = fs::File::create(&target).map_err(failed)?;
        let size = entry.size();
        match io::copy(&mut entry, &mut file) {
            Ok(copied) if copied == size => {}
            Ok(_) => return Err(invalid(format!("it is truncated: {name} has less than {size} bytes"))),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// The components of the path of an entry. `None` for a path that leaves the directory.
fn parts_of<R: Read>(entry: &Entry<'_, R>) -> Option<Vec<String>> {
    let path = entry.path().ok()?;
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?.to_owned()),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts)
}

/// The name of a file of a layout. `None` for any other.
fn name_of(parts: &[String]) -> Option<String> {
    let name = parts.join("/");
    let known = matches!(name.as_str(), "oci-layout" | "index.json" | "manifest.json" | "repositories");
    (known || name.starts_with("blobs/")).then_some(name)
}

/// The directory of an archive that contains a layout, if this is its marker file.
fn directory_of_layout(parts: &[String]) -> Option<String> {
    let (file, directory) = parts.split_last()?;
    (file == "oci-layout" && !directory.is_empty()).then(|| directory.join("/"))
}

fn compressed(magic: [u8; 4]) -> Option<&'static str> {
    match magic {
        [0x1f, 0x8b, ..] => {
            Some("it is compressed with gzip, which cannot be read in place: decompress it with gzip -d")
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Some("it is compressed with zstd, which cannot be read in place: decompress it with zstd -d")
        }
        _ => None,
    }
}
