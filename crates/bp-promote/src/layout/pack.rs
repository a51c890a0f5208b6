//! Writing a layout into a tar archive.

use std::{
    collections::{BTreeSet, HashSet},
    io::Write as _,
    path::{Path, PathBuf},
};

use bp_artifact::{Digest, Repository, Tag};
use futures_core::future::BoxFuture;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tokio::fs;

use super::{LayoutError, OciLayout, name_of};
use crate::{
    content::{Descriptor, Manifest, Reference},
    retry::Observer,
    store::{BlobStream, Destination, Holding, PutError, StoreError, Stored},
};

/// A tar archive with an OCI layout, to be written.
///
/// Content is gathered in a directory beside it, `<archive>.parts`, from which the archive is written when the run ends:
/// whole or not at all, and the same bytes for the same images. A run that was killed goes on with what is in there.
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
        let mut parts = path.clone().into_os_string();
        parts.push(".parts");
        let parts = OciLayout::create(PathBuf::from(parts)).await?;
        Ok(OciArchive { path, parts })
    }

    /// The archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the archive, and removes what it was gathered in.
    async fn pack(&self) -> Result<(), LayoutError> {
        let mut index = self.parts.read_index().await?;
        let Some(Value::Array(entries)) = index.get_mut("manifests") else { return Ok(()) };
        entries.sort_by_key(|entry| {
            (name_of(entry).map(str::to_owned), entry["digest"].as_str().map(str::to_owned))
        });
        let names = self.reachable().await?;
        let index = Value::Object(index).to_string();
        let (root, path) = (self.parts.path().to_owned(), self.path.clone());
        let failed = |source| LayoutError::Io { doing: "write", path: self.path.clone(), source };
        let packed = tokio::task::spawn_blocking(move || write(&root, &path, &index, &names)).await;
        packed.map_err(|_| failed(std::io::ErrorKind::Interrupted.into()))?.map_err(failed)?;
        fs::remove_dir_all(self.parts.path()).await.map_err(failed)
    }

    /// The blobs that belong to the listed images: not what an earlier run left there.
    async fn reachable(&self) -> Result<BTreeSet<String>, LayoutError> {
        let mut names = BTreeSet::new();
        let mut next: Vec<Digest> =
            self.parts.images().await?.into_iter().map(|(_, image)| image.digest).collect();
        while let Some(digest) = next.pop() {
            if !names.insert(OciLayout::blob_name(&digest)) {
                continue;
            }
            let manifest = self.parts.read_manifest(&Reference::Digest(digest)).await?;
            let links = manifest.links().unwrap_or_default();
            names.extend(links.blobs.iter().map(|blob| OciLayout::blob_name(&blob.digest)));
            next.extend(links.manifests.into_iter().map(|child| child.digest));
        }
        Ok(names)
    }
}

/// Everything in one order, with no times and no owners.
fn write(root: &Path, path: &Path, index: &str, names: &BTreeSet<String>) -> std::io::Result<()> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".tmp");
    let mut archive = Builder::new(std::fs::File::create(&temporary)?);
    let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
    for (name, text) in [("oci-layout", version.as_str()), ("index.json", index)] {
        archive.append_data(&mut header(EntryType::Regular, text.len() as u64), name, text.as_bytes())?;
    }
    let mut directories: BTreeSet<&Path> = BTreeSet::new();
    for name in names {
        let above = Path::new(name).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        let mut above: Vec<&Path> = above.filter(|above| directories.insert(above)).collect();
        above.reverse();
        for directory in above {
            archive.append_data(&mut header(EntryType::Directory, 0), directory, std::io::empty())?;
        }
        let file = match std::fs::File::open(root.join(name)) {
            // A foreign layer, or an inline one, has no file of its own.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let size = file.metadata()?.len();
        archive.append_data(&mut header(EntryType::Regular, size), name, file)?;
    }
    let mut file = archive.into_inner()?;
    file.flush()?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
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

    fn repository(&self) -> Option<&Repository> {
        None
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Option<Descriptor>, StoreError>> {
        self.parts.head(reference)
    }

    fn holding(&self) -> BoxFuture<'_, Result<Holding, StoreError>> {
        self.parts.holding()
    }

    fn tags(&self) -> BoxFuture<'_, Result<Option<HashSet<Tag>>, StoreError>> {
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
        Box::pin(async move { Ok(self.pack().await?) })
    }

    fn requests(&self) -> u64 {
        0
    }

    fn observe(&mut self, _: Observer) {}
}
