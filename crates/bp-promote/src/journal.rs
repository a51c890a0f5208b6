//! A journal file of begun destinations and open uploads, so that another process can resume a run.

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

use bp_artifact::{Digest, sync::lock, text::SingleLine, time::TimeSource};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A file that records which destinations were written to, and which uploads of large blobs are open.
///
/// A killed run leaves blobs in a repository that looks empty because it has no tags yet: without a journal they are
/// uploaded again. With a journal they are found; and an interrupted upload is resumed in the middle if the registry
/// keeps the bytes received so far.
///
/// The journal is only a hint: recorded blobs are checked at the registry, and a resumed upload is verified by the
/// registry against the digest. An outdated, truncated or foreign journal is therefore harmless. Each line is one JSON
/// object, appended in one write; unreadable lines, and those older than a day, are ignored.
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
pub struct Journal(Arc<Shared>);

struct Shared {
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

/// An open upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    /// The URL to resume at.
    pub(crate) location: String,
    /// The number of bytes that the registry has, for a registry that does not report it.
    pub(crate) offset: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    destination: String,
    /// `None` for a destination that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Digest>,
    /// `None` for a blob whose upload is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<Upload>,
}

impl Journal {
    /// Smaller blobs are uploaded again, which is cheaper than a request for the upload's state.
    const LARGE: u64 = 8 << 20;
    /// Registries discard unfinished uploads; after this time the registry is not even asked.
    const LIFETIME: Duration = Duration::from_secs(24 * 3600);

    /// Opens a journal, or creates it. Only the user may read the file (mode 0600): the URL of an open upload may be
    /// sufficient to write to it.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        Self::open_at(path, TimeSource::system())
    }

    /// As [`open`](Self::open), with a clock of the caller's.
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
            // Keeps a truncated last line separate from the next one.
            file.write_all(b"\n")?;
        }
        let mut known = Known { file, begun: HashSet::new(), uploads: HashMap::new() };
        let oldest = time.now().checked_sub(Self::LIFETIME).unwrap_or(Timestamp::MIN);
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        for line in lines.filter(|line: &Line| line.at >= oldest) {
            known.take(line);
        }
        Ok(Journal(Arc::new(Shared { path, time, large: Self::LARGE.into(), known: Mutex::new(known) })))
    }

    /// Sets the size in bytes from which uploads of blobs can be resumed, at the cost of one more request each; default
    /// 8 MiB.
    pub fn resume_from(self, bytes: u64) -> Self {
        self.0.large.store(bytes, Ordering::Relaxed);
        self
    }

    pub(crate) fn is_large(&self, size: u64) -> bool {
        size >= self.0.large.load(Ordering::Relaxed)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.0.known)
    }

    /// Whether this destination was written to.
    pub(crate) fn has_begun(&self, destination: &str) -> bool {
        self.lock().begun.contains(destination)
    }

    /// Records that the destination is about to be written to.
    pub(crate) fn begin(&self, destination: &str) {
        if !self.has_begun(destination) {
            self.note(destination, None, None);
        }
    }

    pub(crate) fn upload(&self, destination: &str, blob: &Digest) -> Option<Upload> {
        self.lock().uploads.get(&(destination.to_owned(), blob.clone())).cloned()
    }

    /// Records an open upload.
    pub(crate) fn open_upload(&self, destination: &str, blob: &Digest, upload: Upload) {
        self.note(destination, Some(blob), Some(upload));
    }

    /// Records that an upload was completed or cannot be resumed.
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
        // One write per line. A failure is only logged: the next run is slower without the line.
        if let Err(error) = known.file.write_all(&text) {
            tracing::warn!(error = %SingleLine(&error), path = %self.0.path.display(), "failed to write the journal");
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

/// Omits the content, which may be secret.
impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: &str = "r.example.com/shop/web";

    fn upload(offset: u64) -> Upload {
        Upload { location: "https://r.example.com/u/1?_state=x".into(), offset }
    }

    #[test]
    fn the_next_process_reads_what_was_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let [a, b] = ["a", "b"].map(Digest::sha256);
        let first = Journal::open(&path).unwrap();
        assert!(!first.has_begun(REPOSITORY));
        first.begin(REPOSITORY);
        first.begin(REPOSITORY);
        for blob in [&a, &b] {
            first.open_upload(REPOSITORY, blob, upload(1));
        }
        first.open_upload(REPOSITORY, &a, upload(7));
        first.close_upload(REPOSITORY, &b);
        drop(first);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 5);
        let next = Journal::open(&path).unwrap();
        assert!(next.has_begun(REPOSITORY) && !next.has_begun("other"));
        assert_eq!((next.upload(REPOSITORY, &a), next.upload(REPOSITORY, &b)), (Some(upload(7)), None));
        assert_eq!(next.upload("other", &a), None);
    }

    #[test]
    fn ignores_truncated_outdated_and_foreign_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let blob = Digest::sha256("a");
        let journal = Journal::open(&path).unwrap();
        journal.open_upload(REPOSITORY, &blob, upload(1));
        journal.open_upload(REPOSITORY, &blob, upload(2));
        let text = std::fs::read(&path).unwrap();
        for cut in 0..text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let torn = Journal::open(&path).unwrap();
            torn.begin(REPOSITORY);
            assert!(Journal::open(&path).unwrap().has_begun(REPOSITORY), "{cut}");
        }
        std::fs::write(&path, [&b"\xff\xfe{}\n[1]\n"[..], &text].concat()).unwrap();
        assert_eq!(Journal::open(&path).unwrap().upload(REPOSITORY, &blob), Some(upload(2)));
        let later = TimeSource::system().now() + Duration::from_secs(25 * 3600);
        let later = Journal::open_at(&path, TimeSource::from_fn(move || later)).unwrap();
        assert_eq!(later.upload(REPOSITORY, &blob), None);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_user_can_read_it_and_debug_omits_its_content() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path().join("journal")).unwrap();
        journal.open_upload(REPOSITORY, &Digest::sha256("a"), upload(1));
        assert_eq!(std::fs::metadata(journal.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{journal:?}").contains("_state"));
    }
}
