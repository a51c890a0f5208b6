//! What a run has begun, in a file, so that another process goes on with it.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bp_artifact::{Digest, sync::lock, time::TimeSource};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A file that remembers which destinations were begun, and which uploads of large blobs are open there.
///
/// A run that is killed leaves blobs in a repository that may look new, because nothing is named yet: without a journal
/// they are sent again. With it they are looked for; and where the registry keeps what it has of an upload, that goes
/// on in the middle.
///
/// The journal is believed for nothing but where to look: what it says is there is asked for, and what it says was
/// uploaded is checked by the registry against the digest. One that is old, torn or of another run does no harm. Each
/// line is one JSON object, appended at once; lines that cannot be read, and those older than a day, are skipped.
///
/// ```
/// use bp_promote::{Journal, RegistryClient};
///
/// # let directory = tempfile::tempdir()?;
/// let journal = Journal::open(directory.path().join("copy.journal"))?;
/// let client = RegistryClient::builder().journal(journal).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    path: PathBuf,
    time: TimeSource,
    large: AtomicU64,
    known: Mutex<Known>,
}

struct Known {
    file: File,
    begun: HashSet<String>,
    uploads: HashMap<(String, Digest), Upload>,
}

/// An upload that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    /// Where it goes on.
    pub(crate) location: String,
    /// How much of it the registry is known to have, where it does not tell itself.
    pub(crate) offset: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    destination: String,
    /// None for a destination that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Digest>,
    /// None for a blob whose upload is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<Upload>,
}

impl Journal {
    /// Smaller blobs are sent again rather than asked for.
    const LARGE: u64 = 8 << 20;
    /// Registries forget what is not finished; after this time it is not even asked for.
    const LIFETIME: Duration = Duration::from_secs(24 * 3600);

    /// Opens a journal; makes it when there is none. The file is the user's alone: the places of open uploads may be
    /// all that it takes to write there.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        Self::open_at(path, TimeSource::system())
    }

    /// The same with a clock of the caller's.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open_at(path: impl Into<PathBuf>, time: TimeSource) -> io::Result<Self> {
        let path = path.into();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.last().is_some_and(|last| *last != b'\n') {
            // A line that was torn must not spoil the next one.
            file.write_all(b"\n")?;
        }
        let mut known = Known { file, begun: HashSet::new(), uploads: HashMap::new() };
        let oldest = time.now() - Self::LIFETIME;
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        for line in lines.filter(|line: &Line| line.at >= oldest) {
            known.take(line);
        }
        Ok(Journal(Arc::new(Inner { path, time, large: Self::LARGE.into(), known: Mutex::new(known) })))
    }

    /// Uploads of blobs of at least so many bytes can go on in the middle, at the price of one more request for each; by
    /// default from 8 MiB.
    pub fn resume_from(self, bytes: u64) -> Self {
        self.0.large.store(bytes, Ordering::Relaxed);
        self
    }

    pub(crate) fn is_large(&self, size: u64) -> bool {
        size >= self.0.large.load(Ordering::Relaxed)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.0.known)
    }

    /// Whether something was begun there.
    pub(crate) fn has_begun(&self, destination: &str) -> bool {
        self.lock().begun.contains(destination)
    }

    /// Something is about to be written there.
    pub(crate) fn begin(&self, destination: &str) {
        if !self.has_begun(destination) {
            self.note(destination, None, None);
        }
    }

    pub(crate) fn upload(&self, destination: &str, blob: &Digest) -> Option<Upload> {
        self.lock().uploads.get(&(destination.to_owned(), blob.clone())).cloned()
    }

    /// An upload is open, and there it goes on.
    pub(crate) fn open_upload(&self, destination: &str, blob: &Digest, upload: Upload) {
        self.note(destination, Some(blob), Some(upload));
    }

    /// An upload is over, or hopeless.
    pub(crate) fn close_upload(&self, destination: &str, blob: &Digest) {
        if self.upload(destination, blob).is_some() {
            self.note(destination, Some(blob), None);
        }
    }

    fn note(&self, destination: &str, blob: Option<&Digest>, upload: Option<Upload>) {
        let (at, blob) = (self.0.time.now(), blob.cloned());
        let line = Line { at, destination: destination.to_owned(), blob, upload };
        let mut known = self.lock();
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        // One write for one line. A journal that cannot be written only makes the next run slower.
        if let Err(error) = known.file.write_all(&text) {
            tracing::warn!(%error, path = %self.0.path.display(), "the journal cannot be written");
        }
        known.take(line);
    }
}

impl Known {
    fn take(&mut self, Line { destination, blob, upload, .. }: Line) {
        match (blob, upload) {
            (None, _) => {
                self.begun.insert(destination);
            }
            (Some(blob), Some(upload)) => {
                self.uploads.insert((destination, blob), upload);
            }
            (Some(blob), None) => {
                self.uploads.remove(&(destination, blob));
            }
        }
    }
}

/// Without what is in it.
impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: &str = "r.example.com/shop/web";

    fn upload(offset: u64) -> Upload {
        Upload { location: "https://r.example.com/u/1?_state=x".into(), offset }
    }

    #[test]
    fn what_was_noted_is_known_to_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let [a, b] = ["a", "b"].map(Digest::sha256);
        let first = Journal::open(&path).unwrap();
        assert!(!first.has_begun(THERE));
        first.begin(THERE);
        first.begin(THERE);
        for blob in [&a, &b] {
            first.open_upload(THERE, blob, upload(1));
        }
        first.open_upload(THERE, &a, upload(7));
        first.close_upload(THERE, &b);
        drop(first);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 5);
        let next = Journal::open(&path).unwrap();
        assert!(next.has_begun(THERE) && !next.has_begun("other"));
        assert_eq!((next.upload(THERE, &a), next.upload(THERE, &b)), (Some(upload(7)), None));
        assert_eq!(next.upload("other", &a), None);
    }

    #[test]
    fn what_is_torn_or_old_or_no_journal_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let blob = Digest::sha256("a");
        let journal = Journal::open(&path).unwrap();
        journal.open_upload(THERE, &blob, upload(1));
        journal.open_upload(THERE, &blob, upload(2));
        let text = std::fs::read(&path).unwrap();
        for cut in 0..text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let torn = Journal::open(&path).unwrap();
            torn.begin(THERE);
            assert!(Journal::open(&path).unwrap().has_begun(THERE), "{cut}");
        }
        std::fs::write(&path, [&b"\xff\xfe{}\n[1]\n"[..], &text].concat()).unwrap();
        assert_eq!(Journal::open(&path).unwrap().upload(THERE, &blob), Some(upload(2)));
        let later = TimeSource::system().now() + Duration::from_secs(25 * 3600);
        let later = Journal::open_at(&path, TimeSource::from_fn(move || later)).unwrap();
        assert_eq!(later.upload(THERE, &blob), None);
    }

    #[cfg(unix)]
    #[test]
    fn it_is_the_users_alone_and_is_not_printed() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path().join("journal")).unwrap();
        journal.open_upload(THERE, &Digest::sha256("a"), upload(1));
        assert_eq!(std::fs::metadata(journal.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{journal:?}").contains("_state"));
    }
}
