//! Calls that are tried again while the API server, or the way to it, does not work.

use bp_artifact::{Classified, DeployEvent, Emitter, TargetId};
use tokio::time::{Instant, sleep};

use super::{error::Error, follow::chain, watch};
use backon::BackoffBuilder;

/// Until when a call is tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// While it fails for a reason that may pass.
    pub(crate) until: Instant,
    /// While the credentials are refused or the verb is denied, which worked before.
    pub(crate) refused_until: Option<Instant>,
}

impl Patience {
    /// For a call before anything was changed: a denial is final.
    pub(crate) fn until(until: Instant) -> Self {
        Patience { until, refused_until: None }
    }

    fn end(&self, error: &Error) -> Option<Instant> {
        match error {
            Error::Unauthorized { .. } | Error::Forbidden { .. } | Error::NoCredentials { .. } => {
                self.refused_until
            }
            error => error.is_retryable().then_some(self.until),
        }
    }
}

/// Calls until it succeeds, fails for a reason that does not pass, or has been tried for long enough. The first failure
/// is a notice of the target `id`.
///
/// # Errors
/// The last failure, also when the operation is cancelled.
pub(crate) async fn retried<T, F>(
    patience: Patience,
    events: &Emitter<DeployEvent>,
    id: &TargetId,
    mut call: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pauses = watch::pauses().build();
    let mut told = false;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let left = patience.end(&error).and_then(|end| end.checked_duration_since(Instant::now()));
        let Some((left, pause)) = left.filter(|left| !left.is_zero()).zip(pauses.next()) else {
            return Err(error);
        };
        if !std::mem::replace(&mut told, true) {
            let message = format!("trying again: {}", chain(&error));
            events.emit(DeployEvent::Notice { target: id.clone(), message });
        }
        tokio::select! {
            () = sleep(pause.min(left)) => {}
            () = events.cancelled() => return Err(error),
        }
    }
}
