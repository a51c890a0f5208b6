//! Options of a rollout: deadline, grace period, failure policy, live logs and events.

use std::{
    collections::BTreeMap,
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use bp_artifact::{
    DigestRef, ImageRef,
    deploy::OnFailure,
    resolve::{Availability, Resolve, ResolveError},
    time::WaitError,
};

use crate::api::symptom::RESTARTS;

/// Controllers retry a refused pod with exponential backoff from 5 ms: the fifteenth retry is within this time, so a
/// webhook may be down for 80 s.
const GRACE: Duration = Duration::from_secs(90);

/// Options of a rollout. A deadline is mandatory, because Kubernetes itself retries forever.
///
/// ```
/// use std::time::Duration;
/// use bp_eks::Options;
///
/// let options = Options::new(Duration::from_secs(900))?.take_over(true);
/// assert!(Options::new(Duration::ZERO).is_err());
/// # Ok::<(), bp_artifact::time::WaitError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) deadline: Duration,
    pub(crate) on_failure: OnFailure,
    pub(crate) fail_after: Option<NonZeroU32>,
    pub(crate) restarts: NonZeroU32,
    pub(crate) grace: Duration,
    pub(crate) take_over: bool,
    pub(crate) allow_owner: bool,
    pub(crate) accept_unproven_rollback: bool,
    pub(crate) allow_no_replicas: bool,
    pub(crate) registry: Option<Registry>,
    pub(crate) circuit_breaker: bool,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) build: BTreeMap<String, String>,
    pub(crate) restart: bool,
    pub(crate) restart_on_config: bool,
    pub(crate) live_logs: Option<LiveLogs>,
    pub(crate) live_events: bool,
    /// Follows a rollout that is in progress, without changes.
    pub(crate) adopt_only: bool,
}

impl Options {
    /// Options with `deadline` for the rollout, and the same time again for an undo.
    ///
    /// # Errors
    /// When `deadline` is zero.
    pub fn new(deadline: Duration) -> Result<Self, WaitError> {
        if deadline.is_zero() {
            return Err(WaitError::NoDeadline);
        }
        Ok(Options {
            deadline,
            on_failure: OnFailure::default(),
            fail_after: None,
            restarts: NonZeroU32::MIN.saturating_add(RESTARTS - 1),
            grace: GRACE,
            take_over: false,
            allow_owner: false,
            accept_unproven_rollback: false,
            allow_no_replicas: false,
            registry: None,
            circuit_breaker: false,
            environment: Vec::new(),
            annotations: BTreeMap::new(),
            build: BTreeMap::new(),
            restart: false,
            restart_on_config: false,
            live_logs: None,
            live_events: false,
            adopt_only: false,
        })
    }

    /// An annotation of the objects that are created: Jobs, and the Deployment of a slot. What exists already gets none.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// An annotation of the workload itself that describes the image: its commit, its version. It is set together with the
    /// image, without an effect on the pods, and a rollback restores that of the earlier revision, or removes it:
    /// `bp-eks/Commit` and `bp-eks/Version`, and the names set here.
    pub fn build_annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.build.insert(name.into(), value.into());
        self
    }

    /// Replaces the pods even if the image is the same, as `kubectl rollout restart` does: sets the annotation
    /// `bp-eks/restarted-at` of the pod template. Without an effect on Jobs and CronJobs.
    pub fn restart(mut self, yes: bool) -> Self {
        self.restart = yes;
        self
    }

    /// Replaces the pods also when a Secret or ConfigMap that the pod template refers to has changed, although the image is
    /// the same. The checksum of their data is the annotation `bp-eks/config-checksum` of the pod template; the first
    /// deployment with this option sets it, and thereby replaces the pods once. Defaults to off. Requires the verb `get`
    /// on `secrets` and `configmaps`. Without an effect on Jobs and CronJobs.
    pub fn restart_on_config(mut self, yes: bool) -> Self {
        self.restart_on_config = yes;
        self
    }

    /// What to do on failure.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// The number of pods with the same final failure that fails the rollout; defaults to a fourth of the new pods, at
    /// least two. The rollout also fails when every new pod fails. Pods that fail on one node only, while new pods on
    /// other nodes are ready, do not fail it early: then the node is the likely reason.
    pub fn fail_after(mut self, pods: NonZeroU32) -> Self {
        self.fail_after = Some(pods);
        self
    }

    /// The number of restarts after which a container in a crash loop has failed; defaults to three, about 30 s after
    /// its first exit. A program may exit until its database or its sidecar is ready. A container that ran out of
    /// memory, or whose program cannot be started, fails without further restarts.
    ///
    /// ```
    /// # use std::{num::NonZeroU32, time::Duration};
    /// # use bp_eks::Options;
    /// let patient = Options::new(Duration::from_secs(900))?.restarts(NonZeroU32::new(6).unwrap());
    /// # Ok::<(), bp_artifact::time::WaitError>(())
    /// ```
    pub fn restarts(mut self, restarts: NonZeroU32) -> Self {
        self.restarts = restarts;
        self
    }

    /// The grace period for what somebody retries, limited by the deadline: new pods that are refused because a webhook
    /// is down, an object was changed concurrently, a quota is about to be freed or a service account is not yet
    /// created; new pods that cannot start because a Secret or ConfigMap does not exist yet, or because the container
    /// runtime fails; the rollout's own change that is refused like this; reads that are denied, or whose credentials
    /// have expired, after the change was applied. Defaults to 90 s, in which the controllers retry a pod fifteen times.
    ///
    /// What a retry cannot change fails immediately: Pod Security, a policy's denial, an invalid object, another
    /// architecture, a program that does not exist in the image.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bp_eks::Options;
    /// let options = Options::new(Duration::from_secs(900))?.grace(Duration::from_secs(300));
    /// # Ok::<(), bp_artifact::time::WaitError>(())
    /// ```
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Follows a rollout that is in progress, with any variables, and never starts or undoes one.
    pub(crate) fn adopt_only(mut self) -> Self {
        self.adopt_only = true;
        self.environment.clear();
        self.on_failure(OnFailure::Leave)
    }

    /// Fails the rollout at the threshold of the ECS deployment circuit breaker: when the number of failed starts
    /// reaches half of the desired pods, rounded up, at least 3 and at most 200. A failed start is a container restart,
    /// a failed pod, or a pod that cannot start. Defaults to off, as on ECS.
    ///
    /// Without it, a rollout whose containers end only occasionally continues until the Deployment's progress deadline
    /// or the deadline of these options.
    pub fn circuit_breaker(mut self, on: bool) -> Self {
        self.circuit_breaker = on;
        self
    }

    /// Sets an environment variable of the deployed container together with its image, such as `DEPLOY_PLATFORM=eks`.
    /// A later value for the same name replaces an earlier one. A variable that an earlier deployment of bp-eks set and
    /// this one does not is removed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bp_eks::Options;
    /// let options = Options::new(Duration::from_secs(900))?.environment("DEPLOY_PLATFORM", "eks");
    /// # Ok::<(), bp_artifact::time::WaitError>(())
    /// ```
    pub fn environment(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.environment.retain(|(set, _)| *set != name);
        self.environment.push((name, value.into()));
        self
    }

    /// Reports the logs of the new pods during the rollout as
    /// [`DeployEvent::Log`](bp_artifact::deploy::DeployEvent::Log). Defaults to off: the last log lines of a failing
    /// container are in the failure report in any case. Requires the verb `get` on `pods/log`; a notice reports if it
    /// is denied.
    pub fn live_logs(mut self, logs: LiveLogs) -> Self {
        self.live_logs = Some(logs);
        self
    }

    /// Reports the Kubernetes events of the new pods during the rollout (`Scheduled`, `Pulling`, `Pulled`, `Started`)
    /// as [`DeployEvent::Log`](bp_artifact::deploy::DeployEvent::Log) of the pod. Defaults to off: warnings are
    /// reported in any case. Watches all events of the namespace, which can be many.
    pub fn live_events(mut self, yes: bool) -> Self {
        self.live_events = yes;
        self
    }

    /// A resolver for the image's registry. When the nodes report that the image does not exist, the registry is asked
    /// once: if it has the image, as when a replication or a mirror of the nodes is late, the pods have the
    /// [grace period](Self::grace). Defaults to none: then the report of the nodes is final.
    pub fn registry(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.registry = Some(Registry(resolver));
        self
    }

    /// Deploys even if the revision that a failure would return to cannot run any more: its image does not exist in the
    /// [registry](Self::registry), or a Secret or ConfigMap that it requires is missing. Defaults to off. Checked by
    /// [`EksTarget::check_rollback`](crate::EksTarget::check_rollback), which receipts and sagas call.
    pub fn accept_unproven_rollback(mut self, yes: bool) -> Self {
        self.accept_unproven_rollback = yes;
        self
    }

    /// Whether a workload that another controller owns may be changed. Defaults to off: an operator restores its own
    /// image, so the rollout fails with [`Error::Owned`](crate::Error::Owned) before any change. For owners that leave
    /// the image alone.
    pub fn allow_owner(mut self, yes: bool) -> Self {
        self.allow_owner = yes;
        self
    }

    /// Whether a workload without replicas, as one that an autoscaler has scaled to zero, counts as deployed when its
    /// template has the image. Defaults to off: no pod proves the digest, so the verdict is
    /// [`Unproven`](bp_artifact::Verdict::Unproven).
    pub fn allow_no_replicas(mut self, yes: bool) -> Self {
        self.allow_no_replicas = yes;
        self
    }

    /// Takes ownership of the image field from other field managers. Defaults to off: then the first deployment of a
    /// workload that kubectl, Helm or Terraform created fails with [`Error::Conflict`](crate::Error::Conflict), which
    /// contains the field manager.
    ///
    /// Takes only the image of the deployed container and the variables that are set; later deployments need no
    /// take-over. Remove the image from the configuration of the previous owner, or ignore it there (Terraform:
    /// `ignore_changes`; Argo CD: `ignoreDifferences`); otherwise its next run restores its own image.
    pub fn take_over(mut self, yes: bool) -> Self {
        self.take_over = yes;
        self
    }
}

/// The registry of the deployed image.
#[derive(Clone)]
pub(crate) struct Registry(Arc<dyn Resolve>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

/// The timeout of a question to the registry.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);

impl Registry {
    /// Whether the image can be pulled.
    pub(crate) async fn availability(&self, image: &ImageRef) -> Result<Availability, ResolveError> {
        self.0.availability(image).await
    }

    /// Whether the registry has this image; `false` if it does not answer.
    pub(crate) async fn has(&self, image: &str) -> bool {
        let Ok(image) = image.parse::<DigestRef>() else { return false };
        let confirmed = tokio::time::timeout(REGISTRY_TIMEOUT, self.0.confirm(&image)).await;
        confirmed.is_ok_and(|confirmed| confirmed.is_ok())
    }
}

/// Limits of the logs that are reported during a rollout.
///
/// Follows every container of the new pods, including init containers and sidecars, from start to end, and again after
/// a restart. Lines beyond the limits are dropped; [`DeployEvent::Log`](bp_artifact::deploy::DeployEvent::Log) contains
/// their number.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use bp_eks::{Options, options::LiveLogs};
///
/// let logs = LiveLogs::default().lines_per_second(NonZeroU32::MIN);
/// let options = Options::new(Duration::from_secs(900))?.live_logs(logs);
/// # Ok::<(), bp_artifact::time::WaitError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveLogs {
    pub(crate) pods: NonZeroUsize,
    pub(crate) lines: NonZeroU32,
    pub(crate) length: NonZeroUsize,
}

impl Default for LiveLogs {
    /// Three pods; for each container 20 lines per second with 1,000 characters each.
    fn default() -> Self {
        LiveLogs {
            pods: NonZeroUsize::MIN.saturating_add(2),
            lines: NonZeroU32::MIN.saturating_add(19),
            length: NonZeroUsize::MIN.saturating_add(999),
        }
    }
}

impl LiveLogs {
    /// The maximum number of pods at a time; the first to start are followed. A deleted pod is replaced by another one.
    pub fn pods(mut self, most: NonZeroUsize) -> Self {
        self.pods = most;
        self
    }

    /// The maximum number of lines per second and container, and of lines written before following started.
    pub fn lines_per_second(mut self, most: NonZeroU32) -> Self {
        self.lines = most;
        self
    }

    /// The maximum number of characters of a line; longer lines are truncated.
    pub fn line_length(mut self, most: NonZeroUsize) -> Self {
        self.length = most;
        self
    }
}
