//! The receipt of a deployment to one target, which the caller runs: nothing is compensated.

use std::path::{Path, PathBuf};

use super::{
    SagaError,
    open::{current, read_if_exists},
    verdict,
};
use crate::{
    deploy::{Outcome, Receipt, ReceiptState, Revision, Target, TargetId, TargetReceipt, Verdict},
    document::DocumentError,
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
}

impl SingleReceipt {
    /// Reads the rollback revision of `target` and writes the receipt, before the first change.
    ///
    /// The rollback revision is the stable one. If the target already runs `image`, and the earlier receipt at this
    /// path is of the same image, the rollback revision recorded there still applies: a rerun keeps it.
    ///
    /// # Errors
    /// When the target cannot be read, the earlier receipt is invalid or of an unfinished deployment to another target,
    /// or the receipt cannot be written. Nothing was changed.
    ///
    /// # Permissions
    /// Those of [`Target::current`].
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have written the receipt.
    pub async fn start(
        target: &dyn Target,
        image: &ResolvedImage,
        path: impl Into<PathBuf>,
    ) -> Result<Self, SagaError> {
        let (path, time) = (path.into(), TimeSource::system());
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
        let entry = TargetReceipt::noted(id, previous);
        let mut receipt = Receipt::started(image.clone(), vec![entry], time.now());
        if let Some(earlier) = &same {
            receipt = receipt.continuing(earlier);
        }
        receipt.write(&path)?;
        Ok(SingleReceipt { receipt, path, time })
    }

    /// Reads the receipt of an unfinished deployment to `target` alone. `None` if it is finished, or of another one.
    ///
    /// # Errors
    /// When the receipt does not exist or is invalid.
    pub fn resume(target: &TargetId, path: impl Into<PathBuf>) -> Result<Option<Self>, DocumentError> {
        let path = path.into();
        let receipt = Receipt::read(&path)?;
        let is_only = receipt.targets.iter().all(|entry| entry.target == *target);
        let is_open = receipt.state == ReceiptState::Started && !receipt.targets.is_empty();
        Ok((is_only && is_open).then(|| SingleReceipt { receipt, path, time: TimeSource::system() }))
    }

    /// The deployed image.
    pub fn image(&self) -> &ResolvedImage {
        &self.receipt.image
    }

    /// The rollback revision.
    pub fn previous(&self) -> Option<&Revision> {
        self.receipt.targets.first().map(|entry| &entry.previous)
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
