//! Tar archives that hold a layout, as `docker buildx build --output type=oci` writes them.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Seek as _},
    path::{Component, Path, PathBuf},
};

use tar::{Entry, EntryType};

use super::{
    LayoutError,
    files::{Archive, Place},
};

impl Archive {
    /// Looks through the headers of an archive; what is between them is skipped.
    pub(super) fn scan(path: PathBuf) -> Result<Self, LayoutError> {
        let failed = |source| LayoutError::Io { doing: "read", path: path.clone(), source };
        let wrong = |reason: String| LayoutError::NotALayout { path: path.clone(), reason };
        let mut file = fs::File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut magic = [0; 4];
        let _ = file.read(&mut magic).map_err(failed)?;
        if let Some(reason) = compressed(magic) {
            return Err(wrong(reason.to_owned()));
        }
        file.rewind().map_err(failed)?;
        let mut archive = tar::Archive::new(file);
        let mut files = HashMap::new();
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(|error| wrong(format!("it is no whole tar archive: {error}")))?;
            let Some(name) = name_of(&entry) else { continue };
            let place = Place { offset: entry.raw_file_position(), size: entry.size() };
            if place.offset.checked_add(place.size).is_none_or(|end| end > length) {
                return Err(wrong(format!("it is cut short: {name} ends behind its end")));
            }
            files.insert(name, place);
        }
        Ok(Archive { path, files })
    }
}

/// Unpacks what belongs to a layout from a stream, with constant memory.
pub(super) fn unpack(stream: impl Read, directory: &Path) -> Result<(), LayoutError> {
    let failed = |source| LayoutError::Io { doing: "write", path: directory.to_owned(), source };
    let wrong = |reason| LayoutError::NotALayout { path: PathBuf::from("the stream"), reason };
    let mut stream = io::BufReader::with_capacity(128 << 10, stream);
    let start = io::BufRead::fill_buf(&mut stream).map_err(failed)?;
    let magic = start.first_chunk().copied().unwrap_or_default();
    if let Some(reason) = compressed(magic) {
        return Err(wrong(reason.to_owned()));
    }
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(|error| wrong(format!("it is no whole tar archive: {error}")))?;
        let Some(name) = name_of(&entry) else { continue };
        let target = directory.join(&name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = fs::File::create(&target).map_err(failed)?;
        let size = entry.size();
        match io::copy(&mut entry, &mut file) {
            Ok(copied) if copied == size => {}
            Ok(_) => return Err(wrong(format!("it is cut short: {name} has less than {size} bytes"))),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// The name of a file that may belong to a layout. Names that lead elsewhere are none.
fn name_of<R: Read>(entry: &Entry<'_, R>) -> Option<String> {
    if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
        return None;
    }
    let path = entry.path().ok()?;
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    let name = parts.join("/");
    let known = matches!(name.as_str(), "oci-layout" | "index.json" | "manifest.json" | "repositories");
    (known || name.starts_with("blobs/")).then_some(name)
}

fn compressed(magic: [u8; 4]) -> Option<&'static str> {
    match magic {
        [0x1f, 0x8b, ..] => {
            Some("it is compressed with gzip, and cannot be read in place: unpack it with gzip -d")
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Some("it is compressed with zstd, and cannot be read in place: unpack it with zstd -d")
        }
        _ => None,
    }
}
