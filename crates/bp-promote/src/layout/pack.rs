//! Writing a layout into a tar archive.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use bp_artifact::{Digest, Repository};
use futures_core::future::BoxFuture;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tokio::task::spawn_blocking;

use super::{LayoutError, OciLayout, files::Files, name_of};
use crate::{
    content::{Descriptor, Manifest, Reference},
    store::{BlobStream, Destination, PutError, StoreError, Stored, TagList},
};

/// A tar archive with an OCI layout, to be written.
///
/// Content is gathered in a directory beside it, `<archive>.parts`, from which the archive is written when the run ends:
/// whole or not at all, and the same bytes for the same images. A run that was killed goes on with what is in there.
/// What has been written into the archive leaves the directory, so that all of it is on disk once.
///
/// For a pipe, copy into an [`OciLayout`] and [`pack`](OciLayout::pack) that.
#[derive(Debug, Clone)]
pub struct OciArchive {
    path: PathBuf,
    parts: OciLayout,
}

impl OciArchive {
    /// An archive that will be at `path`. One that is there is replaced when the run ends.
    ///
    /// # Errors
    /// When the directory beside it cannot be written.
    ///
    /// # Cancel safety
    /// What was begun is finished by the next call.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let path = path.into();
        // Killed while it was written: some of it is in the archive, and some in the directory.
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

    /// The archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the archive, out of what it was gathered in.
    async fn finish(&self) -> Result<(), LayoutError> {
        let Some(contents) = Contents::of(&self.parts).await? else { return Ok(()) };
        let (path, parts) = (self.path.clone(), self.parts.path().to_owned());
        blocking(&self.path, move || {
            let [temporary, packing] = ["tmp", PACKING].map(|kind| path.with_added_extension(kind));
            fs::rename(parts, &packing)?;
            let file =
                contents.write(&Files::Directory(packing.clone()), fs::File::create(&temporary)?, true)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            fs::remove_dir_all(packing)
        })
        .await
    }
}

impl OciLayout {
    /// Writes all images that the layout lists into a tar archive that goes down a stream, such as a pipe: the same
    /// bytes for the same images. Gives the stream back.
    ///
    /// # Errors
    /// When the layout cannot be read, or the stream not written.
    ///
    /// # Cancel safety
    /// Cancelled, the archive is still written to its end.
    pub async fn pack<W: Write + Send + 'static>(&self, stream: W) -> Result<W, LayoutError> {
        let contents = Contents::of(self).await?.unwrap_or_default();
        let files = self.files.clone();
        blocking(&self.root, move || contents.write(&files, stream, false)).await
    }
}

/// The name of the directory in which content was gathered, while the archive is written.
const PACKING: &str = "packing";

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, LayoutError> {
    let failed = |source| LayoutError::Io { doing: "write", path: path.to_owned(), source };
    spawn_blocking(work).await.map_err(|_| failed(io::ErrorKind::Interrupted.into()))?.map_err(failed)
}

/// What goes into an archive: the index, and the files of the images that it lists, not what an earlier run left.
#[derive(Default)]
struct Contents {
    index: String,
    blobs: BTreeSet<String>,
}

impl Contents {
    /// `None` when the layout lists no images.
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

    /// Everything in one order, with no times and no owners. With `moves`, each file is removed when it is written.
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
                // A foreign layer, or an inline one, has no file of its own.
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

    /// Notes how much there is at most, here and in the directory, while it is written.
    struct Scales {
        root: PathBuf,
        written: u64,
        most: u64,
    }

    impl Write for Scales {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written += bytes.len() as u64;
            let left = fs::read_dir(&self.root)?.map(|entry| Ok(entry?.metadata()?.len()));
            self.most = self.most.max(self.written + left.sum::<io::Result<u64>>()?);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_moved_is_on_disk_once() {
        const SIZE: u64 = 100_000;
        for moves in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let blobs = (0..10).map(|n| format!("{n}")).collect::<BTreeSet<_>>();
            for name in &blobs {
                fs::write(directory.path().join(name), vec![0; SIZE as usize]).unwrap();
            }
            let scales = Scales { root: directory.path().to_owned(), written: 0, most: 0 };
            let contents = Contents { index: "{}".to_owned(), blobs };
            let files = Files::Directory(directory.path().to_owned());
            let most = contents.write(&files, scales, moves).unwrap().most;
            // All of it, and the largest once more.
            assert_eq!(most < 12 * SIZE, moves, "{most}");
        }
    }
}
