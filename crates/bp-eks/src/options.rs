//! Options of a rollout: deadline, grace, what to do on failure, live logs and events.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use bp_artifact::{deploy::OnFailure, time::WaitError};

/// Controllers retry a refused pod after 5 ms, then after twice as long each time: within this time for the fifteenth, so
/// that a webhook may be down for 80 s.
const GRACE: Duration = Duration::from_secs(90);

/// How a roll-out is to go. A deadline is mandatory: Kubernetes itself never gives up.
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
    pub(crate) fail_after: NonZeroU32,
    pub(crate) grace: Duration,
    pub(crate) take_over: bool,
    pub(crate) circuit_breaker: bool,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) live_logs: Option<LiveLogs>,
    pub(crate) live_events: bool,
    /// Only follows what is in place already, and writes nothing.
    pub(crate) adopt_only: bool,
}

impl Options {
    /// Gives the roll-out at most `deadline`, and an undo as much again.
    ///
    /// # Errors
    /// When it is zero.
    pub fn new(deadline: Duration) -> Result<Self, WaitError> {
        if deadline.is_zero() {
            return Err(WaitError::NoDeadline);
        }
        Ok(Options {
            deadline,
            on_failure: OnFailure::default(),
            fail_after: NonZeroU32::MIN.saturating_add(1),
            grace: GRACE,
            take_over: false,
            circuit_breaker: false,
            environment: Vec::new(),
            annotations: BTreeMap::new(),
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

    /// What to do on failure.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// Takes the roll-out for failed after this many pods that fail for the same reason; two if not said. Before that
    /// it has failed when every new pod has.
    pub fn fail_after(mut self, pods: NonZeroU32) -> Self {
        self.fail_after = pods;
        self
    }

    /// How long a refusal that may pass may last before it counts, at most until the deadline: new pods that are refused
    /// because a webhook is down, somebody else wrote at the same time, a quota is about to be freed or a service account
    /// is yet to be created; our own change that is refused so; a read that is denied or whose credentials have expired
    /// after the change was applied. Defaults to 90 s, in which the controllers retry a pod fifteen times.
    ///
    /// What waiting cannot change (Pod Security, a policy's denial, an invalid object) fails at first sight all the same.
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

    /// Follows the rollout of an image that somebody else began, whatever variables it has, and never begins or undoes
    /// one.
    pub(crate) fn adopt_only(mut self) -> Self {
        self.adopt_only = true;
        self.environment.clear();
        self.on_failure(OnFailure::Leave)
    }

    /// Ends the roll-out when as many starts have failed as ECS' deployment circuit breaker takes: half of the desired pods,
    /// rounded up, but at least 3 and at most 200. A start has failed when a container ended and was started again, when
    /// a pod failed for good, and when a pod cannot start at all. Off if not said, as on ECS.
    ///
    /// Without it, what only ends now and then goes on until the Deployment's progress deadline or yours.
    pub fn circuit_breaker(mut self, on: bool) -> Self {
        self.circuit_breaker = on;
        self
    }

    /// Sets an environment variable of the deployed container together with its image, such as `DEPLOY_PLATFORM=eks`.
    /// Of two values for one name the later counts. A variable that is not set here any more is removed, if it was set
    /// by us.
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

    /// Follows what the new pods write while the roll-out goes on, and tells it as
    /// [`DeployEvent::Log`](bp_artifact::deploy::DeployEvent::Log). Off if not said: the end of a failing container's log is in
    /// the failure report all the same. It takes the verb `get` on `pods/log`; without it a notice says so.
    pub fn live_logs(mut self, logs: LiveLogs) -> Self {
        self.live_logs = Some(logs);
        self
    }

    /// Tells what Kubernetes does with the new pods while the roll-out goes on (`Scheduled`, `Pulling`, `Pulled`,
    /// `Started`), as [`DeployEvent::Log`](bp_artifact::deploy::DeployEvent::Log) of the pod itself. Off if not said: warnings are
    /// told all the same. All events of the namespace are watched for it, which in a busy one are many.
    pub fn live_events(mut self, yes: bool) -> Self {
        self.live_events = yes;
        self
    }

    /// Takes the image's field from whoever owns it. Off if not said: then the first deployment of a workload that
    /// kubectl, Helm or Terraform made is refused with [`Error::Conflict`](crate::Error::Conflict), which names the
    /// owner.
    ///
    /// Only the image of the deployed container is taken (and the variables that are set), nothing else, and from then on it is ours without force.
    /// Remove the image from what the owner applies, or have it ignored there (Terraform: `ignore_changes`; Argo CD:
    /// `ignoreDifferences`); else its next run puts its own image back.
    pub fn take_over(mut self, yes: bool) -> Self {
        self.take_over = yes;
        self
    }
}

/// Which logs are followed while a roll-out goes on, and how much of them is told at most.
///
/// Every container of the new pods is followed, init containers and side-cars too, from its start to its end, and again
/// when it is started again. What exceeds the bounds is left out, and
/// [`DeployEvent::Log`](bp_artifact::deploy::DeployEvent::Log) says how many lines that were.
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
    /// Three pods; of each container 20 lines in a second, of 1,000 characters each.
    fn default() -> Self {
        LiveLogs {
            pods: NonZeroUsize::MIN.saturating_add(2),
            lines: NonZeroU32::MIN.saturating_add(19),
            length: NonZeroUsize::MIN.saturating_add(999),
        }
    }
}

impl LiveLogs {
    /// Follows at most so many pods at a time, the first to start. One that is gone makes room for another.
    pub fn pods(mut self, most: NonZeroUsize) -> Self {
        self.pods = most;
        self
    }

    /// Tells at most so many lines of a container in a second; and of what it had written before it was followed.
    pub fn lines_per_second(mut self, most: NonZeroU32) -> Self {
        self.lines = most;
        self
    }

    /// Shortens longer lines to so many characters.
    pub fn line_length(mut self, most: NonZeroUsize) -> Self {
        self.length = most;
        self
    }
}
