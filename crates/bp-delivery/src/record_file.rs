//! The file of promotion records: replaced at the end of a run, and appended to before a tag moves, so that what it
//! pointed to is known after the process was killed.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use bp_artifact::{
    document::{DocumentError, write},
    file::{FileLock, is_regular, read},
    sync::lock,
    time::TimeSource,
};
use bp_promote::{
    PromotionOutcome, PromotionRecord,
    copy::{PublishObserver, TagChange},
};
use serde_json::json;

use crate::{Failure, locked};

/// A file of promotion records, locked while this exists.
#[derive(Debug)]
pub(crate) struct RecordFile {
    path: PathBuf,
    /// The records of earlier runs.
    earlier: Vec<PromotionRecord>,
    pending: Mutex<Pending>,
    /// `None` for a device or a pipe, to which nothing is written before the end.
    lock: Option<FileLock>,
}

/// What this run was about to publish.
#[derive(Debug, Default)]
struct Pending {
    /// Opened when the first tag moves.
    file: Option<File>,
    records: Vec<PromotionRecord>,
}

impl RecordFile {
    /// Locks the file, checks that it can be written, and reads the records of earlier runs.
    ///
    /// # Errors
    /// When another run uses it, or it cannot be read or written. Nothing was changed.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let lock = locked::lock(path).await?;
        let earlier = records_in(path)?;
        Ok(RecordFile { path: path.to_owned(), earlier, pending: Mutex::default(), lock })
    }

    /// The record, or that of an earlier run if nothing has changed since.
    pub(crate) fn continued(&self, record: PromotionRecord) -> PromotionRecord {
        record.or_earlier(&self.earlier)
    }

    /// Replaces the file by the records of this run. Earlier records stay if they are of an image that this run has
    /// `failed` to copy, or still pending.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(
        &self,
        records: &[PromotionRecord],
        failed: impl Fn(&PromotionRecord) -> bool,
    ) -> Result<(), DocumentError> {
        let pending = lock(&self.pending);
        let is_open = |record: &&PromotionRecord| {
            let is_pending = record.outcome == PromotionOutcome::Pending;
            (is_pending || failed(record)) && !records.iter().any(|done| done.has_same_reference(record))
        };
        let kept = self.earlier.iter().chain(&pending.records).filter(is_open);
        let lines: String = kept.chain(records).map(|record| json!(record).to_string() + "\n").collect();
        write(&self.path, lines.as_bytes())
    }
}

impl PublishObserver for RecordFile {
    fn before_publish(&self, change: &TagChange) -> io::Result<()> {
        let Some(record) = PromotionRecord::pending(change, TimeSource::system().now()) else {
            return Ok(());
        };
        if self.lock.is_none() {
            return Ok(());
        }
        let mut pending = lock(&self.pending);
        let file = match &mut pending.file {
            Some(file) => file,
            none => none.insert(append_to(&self.path)?),
        };
        let length = file.metadata()?.len();
        let written =
            file.write_all(format!("{}\n", json!(record)).as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // Otherwise the next line would be appended to a part of this one.
            file.set_len(length)?;
        }
        written?;
        pending.records.push(record);
        Ok(())
    }
}

/// Opens the file, whose last line may be incomplete.
fn append_to(path: &Path) -> io::Result<File> {
    let mut file = File::options().append(true).create(true).open(path)?;
    if !matches!(read(path)?.last(), None | Some(b'\n')) {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// The records in a file that an earlier run has written; empty if there is none. Other lines, such as an incomplete one,
/// are ignored. Nothing is read from a device or a pipe.
fn records_in(path: &Path) -> Result<Vec<PromotionRecord>, Failure> {
    match is_regular(path).and_then(|regular| if regular { read(path) } else { Ok(Vec::new()) }) {
        Ok(bytes) => {
            let lines = bytes.split(|byte| *byte == b'\n');
            Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failure::bad_input(format!("cannot read {}: {error}", path.display()))),
    }
}
