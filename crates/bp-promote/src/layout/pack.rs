//! Writing a layout into a tar archive.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use bp_artifact::{
    Digest, Repository,
    file::{FileWriter, remove_leftovers},
};
use futures_core::future::BoxFuture;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::{LayoutError, OciLayout, file::blocking, files::Files, name_of};
use crate::{
    content::{Descriptor, Manifest, Reference},
    store::{BlobStream, Destination, PutError, StoreError, Stored, TagList},
};

/// An OCI layout in a tar archive, as a destination.
///
/// Content is collected in a directory next to it, `<archive>.parts`. The archive is written from there when the run
/// ends: atomically, and deterministically for the same images. A killed run is resumed from the directory. Each file
/// is removed from the directory once it is in the archive, so that the content is on disk only once.
///
/// To write to a pipe, copy into an [`OciLayout`] and [`pack`](OciLayout::pack) it.
#[derive(Debug, Clone)]
pub struct OciArchive {
    path: PathBuf,
    parts: OciLayout,
}

impl OciArchive {
    /// Prepares an archive at `path`. An existing file is replaced when the run ends.
    ///
    /// # Errors
    /// When the directory next to it cannot be written.
    ///
    /// # Cancel safety
    /// After cancellation the next call completes the directory.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let path = path.into();
        // A run was killed while it wrote the archive: the content is partly in the archive, partly in the directory.
        remove_leftovers(&path);
        let packing = path.with_added_extension(PACKING);
        match tokio::fs::remove_dir_all(&packing).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(LayoutError::Io { doing: "remove", path: packing, source });
            }
            _ => {}
        }
        let parts = OciLayout::create(path.with_added_extension("parts")).await?;
        Ok(OciArchive { path, parts })
    }

    /// The path of the archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the archive from the collected content.
    async fn finish(&self) -> Result<(), LayoutError> {
        let Some(contents) = Contents::of(&self.parts).await? else { return Ok(()) };
        let (path, parts) = (self.path.clone(), self.parts.path().to_owned());
        blocking(&self.path, move || {
            let packing = path.with_added_extension(PACKING);
            fs::rename(parts, &packing)?;
            let file = FileWriter::new().create(&path)?;
            contents.write(&Files::Directory(packing.clone()), file, true)?.finish()?;
            fs::remove_dir_all(packing)
        })
        .await
    }
}

impl OciLayout {
    /// Writes all images that the layout lists into a stream, such as a pipe, as a deterministic tar archive. Returns
    /// the stream.
    ///
    /// # Errors
    /// When the layout cannot be read, or the stream cannot be written.
    ///
    /// # Cancel safety
    /// After cancellation the archive is still written completely.
    pub async fn pack<W: Write + Send + 'static>(&self, stream: W) -> Result<W, LayoutError> {
        let contents = Contents::of(self).await?.unwrap_or_default();
        let files = self.files.clone();
        blocking(&self.root, move || contents.write(&files, stream, false)).await
    }
}

/// The extension of the directory with the collected content while the archive is written.
const PACKING: &str = "packing";

/// The content of an archive: the index and the files of the images that it lists, without leftovers of earlier runs.
#[derive(Default)]
struct Contents {
    index: String,
    blobs: BTreeSet<String>,
}

impl Contents {
    /// Returns `None` if the layout lists no images.
    async fn of(layout: &OciLayout) -> Result<Option<Self>, LayoutError> {
        let mut index = layout.read_index().await?;
        let Some(Value::Array(entries)) = index.get_mut("manifests") else { return Ok(None) };
        entries.sort_by_key(|entry| {
            (name_of(entry).map(str::to_owned), entry["digest"].as_str().map(str::to_owned))
        });
        let mut blobs = BTreeSet::new();
        let mut next: Vec<Digest> =
            layout.images().await?.into_iter().map(|(_, image)| image.digest).collect();
        while let Some(digest) = next.pop() {
            if !blobs.insert(OciLayout::blob_name(&digest)) {
                continue;
            }
            let manifest = layout.read_manifest(&Reference::Digest(digest)).await?;
            let links = manifest.links().unwrap_or_default();
            blobs.extend(links.blobs.iter().map(|blob| OciLayout::blob_name(&blob.digest)));
            next.extend(links.manifests.into_iter().map(|child| child.digest));
        }
        Ok(Some(Contents { index: Value::Object(index).to_string(), blobs }))
    }

    /// Writes all files in a fixed order, without times and owners. With `moves`, each file is removed after it was
    /// written.
    fn write<W: Write>(&self, files: &Files, stream: W, moves: bool) -> io::Result<W> {
        let mut archive = Builder::new(stream);
        let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        for (name, text) in [("oci-layout", &version), ("index.json", &self.index)] {
            archive.append_data(&mut header(EntryType::Regular, text.len() as u64), name, text.as_bytes())?;
        }
        let mut directories: BTreeSet<&Path> = BTreeSet::new();
        for name in &self.blobs {
            let above = Path::new(name).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
            let mut above: Vec<&Path> = above.filter(|above| directories.insert(above)).collect();
            above.reverse();
            for directory in above {
                archive.append_data(&mut header(EntryType::Directory, 0), directory, io::empty())?;
            }
            let (file, size) = match files.open_now(name) {
                // A foreign layer, or an embedded one, has no file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            archive.append_data(&mut header(EntryType::Regular, size), name, file.take(size))?;
            if let (Files::Directory(root), true) = (files, moves) {
                fs::remove_file(root.join(name))?;
            }
        }
        let mut stream = archive.into_inner()?;
        stream.flush()?;
        Ok(stream)
    }
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

impl Destination for OciArchive {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        self.parts.head(reference)
    }

    fn stored_manifest<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Manifest>, StoreError>> {
        self.parts.stored_manifest(digest)
    }

    fn tags(&self) -> BoxFuture<'_, Result<TagList, StoreError>> {
        self.parts.tags()
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.parts.has_blob(blob)
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        mount: Option<&'a Repository>,
        source: BoxFuture<'a, Result<BlobStream, StoreError>>,
    ) -> BoxFuture<'a, Result<Stored, PutError>> {
        self.parts.put_blob(blob, mount, source)
    }

    fn put_manifest<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Result<(), StoreError>> {
        self.parts.put_manifest(manifest)
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Descriptor>, StoreError>> {
        Destination::referrers(&self.parts, subject)
    }

    fn put_referrer<'a>(
        &'a self,
        subject: &'a Digest,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.parts.put_referrer(subject, manifest)
    }

    fn publish<'a>(
        &'a self,
        reference: &'a Reference,
        manifest: &'a Manifest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.parts.publish(reference, manifest)
    }

    fn finish(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { Ok(OciArchive::finish(self).await?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records the peak of the bytes written plus the bytes left in the directory.
    struct DiskUsage {
        root: PathBuf,
        written: u64,
        peak: u64,
    }

    impl Write for DiskUsage {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written += bytes.len() as u64;
            let left = fs::read_dir(&self.root)?.map(|entry| Ok(entry?.metadata()?.len()));
            self.peak = self.peak.max(self.written + left.sum::<io::Result<u64>>()?);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn moved_files_are_on_disk_only_once() {
        const SIZE: u64 = 100_000;
        for moves in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let blobs = (0..10).map(|n| format!("{n}")).collect::<BTreeSet<_>>();
            for name in &blobs {
                fs::write(directory.path().join(name), vec![0; SIZE as usize]).unwrap();
            }
            let usage = DiskUsage { root: directory.path().to_owned(), written: 0, peak: 0 };
            let contents = Contents { index: "{}".to_owned(), blobs };
            let files = Files::Directory(directory.path().to_owned());
            let peak = contents.write(&files, usage, moves).unwrap().peak;
            // The content, plus a second copy of the largest file.
            assert_eq!(peak < 12 * SIZE, moves, "{peak}");
        }
    }
}
