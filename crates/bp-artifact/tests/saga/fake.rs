//! In-memory targets. The platform outlives the process that deploys to it: tests kill the process and keep the target.

use std::sync::{Arc, Mutex, MutexGuard};

use bp_artifact::{
    Operation, Outcome, ResolvedImage, Verdict,
    deploy::{Current, DeployEvent, FailureReport, Proof, Revision, Target, TargetError, TargetId},
    error::{Classified, ErrorClass},
    operation::Emitter,
};
use futures_core::future::BoxFuture;
use serde_json::json;

/// How a deployment at a target ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Verdict(Verdict),
    /// An error before anything was changed.
    Refused(ErrorClass),
    /// An error after the change was applied: the connection was lost.
    Lost,
}

/// The state of the platform.
#[derive(Debug, Default)]
pub(crate) struct Platform {
    pub(crate) stable: String,
    pub(crate) rolling_out: Option<String>,
    /// What ran before `stable`.
    pub(crate) previous: Option<String>,
    /// Every requested change.
    pub(crate) changes: Vec<String>,
    /// How a rollback ends, if it does not succeed.
    pub(crate) restore: Option<End>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    id: TargetId,
    end: End,
    /// How many steps a deployment takes after its change.
    steps: usize,
    /// Whether the deployment is seen to fail.
    fails: bool,
    platform: Arc<Mutex<Platform>>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} by the fake")]
struct FakeError(ErrorClass);

impl Classified for FakeError {
    fn class(&self) -> ErrorClass {
        self.0
    }
}

fn error(class: ErrorClass) -> TargetError {
    TargetError::new(FakeError(class))
}

pub(crate) fn revision(image: &str) -> Revision {
    Revision::new(format!("rev-{image}"), image)
}

impl Fake {
    pub(crate) fn new(id: &str, end: End) -> Self {
        let platform = Platform { stable: "old".into(), ..Platform::default() };
        Fake { id: TargetId::new(id), end, steps: 3, fails: false, platform: Arc::new(Mutex::new(platform)) }
    }

    pub(crate) fn ending(&self, end: End) -> Self {
        Fake { end, ..self.clone() }
    }

    pub(crate) fn slow(self, steps: usize) -> Self {
        Fake { steps, ..self }
    }

    pub(crate) fn failing(self) -> Self {
        Fake { fails: true, ..self }
    }

    pub(crate) fn platform(&self) -> MutexGuard<'_, Platform> {
        self.platform.lock().unwrap()
    }

    pub(crate) fn changes(&self) -> Vec<String> {
        self.platform().changes.clone()
    }

    /// Whether `image` runs and no deployment is in progress.
    pub(crate) fn runs(&self, image: &str) -> bool {
        let platform = self.platform();
        platform.stable == image && platform.rolling_out.is_none()
    }

    fn outcome(&self, verdict: Verdict, changed: bool) -> Outcome {
        let revision = revision(&self.platform().stable);
        let outcome =
            json!({ "target": self.id, "verdict": verdict, "changed": changed, "revision": revision });
        serde_json::from_value(outcome).unwrap()
    }

    async fn step(&self, events: &Emitter<DeployEvent>) -> Result<(), TargetError> {
        tokio::task::yield_now().await;
        if events.is_cancelled() { Err(error(ErrorClass::Interrupted)) } else { Ok(()) }
    }

    async fn run_deploy(self, image: String, events: Emitter<DeployEvent>) -> Result<Outcome, TargetError> {
        self.step(&events).await?;
        if let End::Refused(class) = self.end {
            return Err(error(class));
        }
        if self.runs(&image) {
            return Ok(self.outcome(Verdict::Deployed, false));
        }
        {
            let mut platform = self.platform();
            if platform.rolling_out.as_ref() != Some(&image) {
                platform.changes.push(format!("deploy {image}"));
                platform.rolling_out = Some(image.clone());
            }
        }
        let notice = DeployEvent::Notice { target: self.id.clone(), message: "starting".into() };
        events.emit(notice);
        for _ in 0..self.steps {
            self.step(&events).await?;
        }
        let verdict = match self.end {
            End::Verdict(verdict) => verdict,
            End::Refused(_) => unreachable!("it has returned"),
            End::Lost => return Err(error(ErrorClass::Unavailable)),
        };
        {
            let mut platform = self.platform();
            match verdict {
                Verdict::Deployed | Verdict::Unproven | Verdict::DigestMismatch => {
                    platform.previous = Some(std::mem::replace(&mut platform.stable, image));
                    platform.rolling_out = None;
                }
                Verdict::RolledBack | Verdict::Stopped => platform.rolling_out = None,
                Verdict::Superseded => {
                    platform.stable = "theirs".into();
                    platform.rolling_out = None;
                }
                Verdict::Gone => {
                    platform.stable = "gone".into();
                    platform.rolling_out = None;
                }
                _ => {}
            }
        }
        let mut outcome = self.outcome(verdict, true);
        if self.fails || verdict == Verdict::RolledBack {
            outcome.failure = Some(FailureReport::new(bp_artifact::deploy::Cause::ContainerExited, "exit 1"));
        }
        Ok(outcome)
    }

    async fn run_restore(self, to: Revision, events: Emitter<DeployEvent>) -> Result<Outcome, TargetError> {
        self.step(&events).await?;
        let end = {
            let mut platform = self.platform();
            platform.changes.push(format!("restore {}", to.image));
            platform.restore
        };
        self.step(&events).await?;
        match end {
            None => {}
            Some(End::Verdict(verdict)) => return Ok(self.outcome(verdict, true)),
            Some(End::Refused(class)) => return Err(error(class)),
            Some(End::Lost) => return Err(error(ErrorClass::Unavailable)),
        }
        {
            let mut platform = self.platform();
            platform.stable = to.image.to_string();
            platform.rolling_out = None;
        }
        Ok(self.outcome(Verdict::Deployed, true))
    }
}

impl Target for Fake {
    fn id(&self) -> TargetId {
        self.id.clone()
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async {
            tokio::task::yield_now().await;
            let platform = self.platform();
            Ok(Current::new(revision(&platform.stable), platform.rolling_out.as_deref().map(revision)))
        })
    }

    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>> {
        Box::pin(async {
            let platform = self.platform();
            let previous = match &platform.rolling_out {
                Some(_) => Some(&platform.stable),
                None => platform.previous.as_ref(),
            };
            previous.map(|image| revision(image)).ok_or_else(|| error(ErrorClass::Refused))
        })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        let (fake, image) = (self.clone(), image.reference.to_string());
        Operation::spawn(|events| fake.run_deploy(image, events))
    }

    fn restore(&self, to: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        let (fake, to) = (self.clone(), to.clone());
        Operation::spawn(|events| fake.run_restore(to, events))
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { Ok(Proof::default()) })
    }
}
