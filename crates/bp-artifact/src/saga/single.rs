//! The receipt of a deployment to one target, which the caller runs: nothing is compensated.

use std::path::{Path, PathBuf};

use super::{
    SagaError,
    lock::lock,
    open::{current, read_if_exists, rollback_check},
    verdict,
};
use crate::{
    deploy::{
        Outcome, Receipt, ReceiptState, Revision, RollbackCheck, Target, TargetId, TargetReceipt, Verdict,
    },
    document::DocumentError,
    file::FileLock,
    image::ResolvedImage,
    time::TimeSource,
};

/// The receipt of a deployment to one target, in the format of a [`Saga`](super::Saga)'s, so that
/// [`Saga::rollback`](super::Saga::rollback) accepts it. The caller deploys and follows the deployment.
///
/// ```no_run
/// use bp_artifact::{ResolvedImage, deploy::Target, saga::SingleReceipt};
///
/// # async fn deploy(web: &dyn Target, image: ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// let receipt = SingleReceipt::start(web, &image, "receipt.json").await?;
/// match web.deploy(&image).await {
///     Ok(outcome) => receipt.ended(&outcome)?,
///     // Nothing was changed.
///     Err(error) => receipt.failed(&error.to_string())?,
/// };
/// # Ok(()) }
/// ```
#[must_use = "the receipt stays open until the deployment has ended"]
#[derive(Debug)]
pub struct SingleReceipt {
    receipt: Receipt,
    path: PathBuf,
    time: TimeSource,
    /// No other run uses the receipt in the meantime.
    _locked: FileLock,
}

impl SingleReceipt {
    /// Reads the rollback revision of `target`, checks whether it can still run, and writes the receipt, before the first
    /// change. The caller need not check it again: see [`Target::deploy`].
    ///
    /// The rollback revision is the stable one. If the target already runs `image`, and the earlier receipt at this
    /// path is of the same image, the rollback revision recorded there still applies: a rerun keeps it. An unfinished
    /// deployment of the same image is completed, whatever became of its rollback revision.
    ///
    /// # Errors
    /// When the target cannot be read, its rollback revision [cannot run](SagaError::UnprovenRollback), the earlier
    /// receipt is invalid or of an unfinished deployment to another target, or the receipt cannot be written. Nothing was
    /// changed.
    ///
    /// # Permissions
    /// Those of [`Target::current`] and [`Target::check_rollback`].
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have written the receipt.
    pub async fn start(
        target: &dyn Target,
        image: &ResolvedImage,
        path: impl Into<PathBuf>,
    ) -> Result<Self, SagaError> {
        Self::begin(target, image, path.into(), true).await
    }

    /// As [`start`](Self::start), for a caller that restores an earlier revision with `image`: whether the rollback
    /// revision can still run is not checked.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Permissions
    /// Those of [`Target::current`].
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_restore(
        target: &dyn Target,
        image: &ResolvedImage,
        path: impl Into<PathBuf>,
    ) -> Result<Self, SagaError> {
        Self::begin(target, image, path.into(), false).await
    }

    async fn begin(
        target: &dyn Target,
        image: &ResolvedImage,
        path: PathBuf,
        checks: bool,
    ) -> Result<Self, SagaError> {
        let time = TimeSource::system();
        let locked = lock(&path).await?;
        let earlier = read_if_exists(&path)?;
        if let Some(receipt) = &earlier {
            check_target(receipt, &target.id(), &path)?;
        }
        let (id, current) = current(target).await?;
        let same = earlier.filter(|earlier| {
            earlier.image_of(&id).is_some_and(|deployed| deployed.reference == image.reference)
        });
        let reruns = current.stable.image.is(&image.reference);
        let noted = same.as_ref().and_then(|earlier| earlier.target(&id)).filter(|_| reruns);
        let previous = noted.map_or(current.stable, |entry| entry.previous.clone());
        let rollback = if checks { rollback_check(target, image, &previous).await? } else { None };
        let resumes = same.as_ref().is_some_and(|earlier| earlier.state == ReceiptState::Started);
        if let Some(check) = rollback.as_ref().filter(|check| !resumes && check.is_refused()) {
            return Err(SagaError::UnprovenRollback { target: id, check: Box::new(check.clone()) });
        }
        let entry = TargetReceipt { rollback, ..TargetReceipt::noted(id, previous) };
        let mut receipt = Receipt::started(image.clone(), vec![entry], time.now());
        if let Some(earlier) = &same {
            receipt = receipt.continuing(earlier);
        }
        receipt.write(&path)?;
        Ok(SingleReceipt { receipt, path, time, _locked: locked })
    }

    /// Reads the receipt of an unfinished deployment to `target` alone. `None` if it is finished, or of another one.
    ///
    /// # Errors
    /// When the receipt does not exist or is invalid, or another run uses it.
    ///
    /// # Permissions
    /// None.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn resume(target: &TargetId, path: impl Into<PathBuf>) -> Result<Option<Self>, SagaError> {
        let path = path.into();
        if read_open(target, &path)?.is_none() {
            return Ok(None);
        }
        let locked = lock(&path).await?;
        let receipt = read_open(target, &path)?;
        let time = TimeSource::system();
        Ok(receipt.map(|receipt| SingleReceipt { receipt, path, time, _locked: locked }))
    }

    /// The deployed image.
    pub fn image(&self) -> &ResolvedImage {
        &self.receipt.image
    }

    /// The rollback revision.
    pub fn previous(&self) -> Option<&Revision> {
        self.receipt.targets.first().map(|entry| &entry.previous)
    }

    /// Whether that revision could still run before the first change, if that was checked.
    pub fn rollback(&self) -> Option<&RollbackCheck> {
        self.receipt.targets.first().and_then(|entry| entry.rollback.as_ref())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records the outcome of the deployment.
    ///
    /// # Errors
    /// When the receipt cannot be written.
    pub fn ended(mut self, outcome: &Outcome) -> Result<Receipt, SagaError> {
        let mut open = outcome.verdict == Verdict::Unobserved;
        for entry in &mut self.receipt.targets {
            entry.outcome = Some(outcome.clone());
            open |= verdict::stays_open(entry);
        }
        self.close(outcome.verdict, open)
    }

    /// Records that the caller rolled the deployment back, and the outcome of that.
    ///
    /// # Errors
    /// When the receipt cannot be written.
    pub fn rolled_back(mut self, restored: &Outcome) -> Result<Receipt, SagaError> {
        for entry in &mut self.receipt.targets {
            entry.restored = Some(restored.clone());
        }
        let joint = verdict::compensated(&self.receipt);
        if joint.open {
            self.receipt.state = ReceiptState::RollingBack;
        }
        self.close(joint.verdict, joint.open)
    }

    /// Records that the deployment ended with an error before anything was changed.
    ///
    /// # Errors
    /// When the receipt cannot be written.
    pub fn failed(mut self, error: &str) -> Result<Receipt, SagaError> {
        for entry in &mut self.receipt.targets {
            entry.error = Some(error.to_owned());
        }
        self.receipt.state = ReceiptState::Finished;
        self.write()?;
        Ok(self.receipt)
    }

    fn close(mut self, verdict: Verdict, open: bool) -> Result<Receipt, SagaError> {
        self.receipt.verdict = Some(verdict);
        if !open {
            self.receipt.state = ReceiptState::Finished;
        }
        self.write().map_err(|source| SagaError::NotNoted { verdict, source })?;
        Ok(self.receipt)
    }

    fn write(&mut self) -> Result<(), DocumentError> {
        self.receipt.updated_at = self.time.now();
        self.receipt.write(&self.path)
    }
}

/// The receipt of an unfinished deployment to `target` alone.
fn read_open(target: &TargetId, path: &Path) -> Result<Option<Receipt>, DocumentError> {
    let receipt = Receipt::read(path)?;
    let is_only = receipt.targets.iter().all(|entry| entry.target == *target);
    let is_open = receipt.state == ReceiptState::Started && !receipt.targets.is_empty();
    Ok(Some(receipt).filter(|_| is_only && is_open))
}

/// Refuses to overwrite the receipt of an unfinished deployment to another target.
fn check_target(receipt: &Receipt, target: &TargetId, path: &Path) -> Result<(), SagaError> {
    let other = receipt.targets.iter().find(|entry| entry.target != *target);
    match other.filter(|_| receipt.state != ReceiptState::Finished) {
        Some(entry) => {
            Err(SagaError::UnfinishedTarget { path: path.to_owned(), target: entry.target.clone() })
        }
        None => Ok(()),
    }
}
