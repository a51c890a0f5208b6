//! Check a deployment by running a Kubernetes Job as a smoke test: the exit codes of its containers decide.

use std::{fmt, time::Duration};

use bp_artifact::{
    check::{Check, CheckVerdict},
    error::{Classified, ErrorClass, chain},
    text::{self, SingleLine},
    time::{self, Wait},
};
use futures_core::future::BoxFuture;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStatus, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject},
};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    api::{pod, scope::Scope, text::Text},
    error::Error,
    rollout::diagnose,
    workload::{RolloutStatus, job},
};

/// The default of `ttlSecondsAfterFinished`.
const KEPT_SECONDS: u64 = 3600;
/// How long the Job may run beyond the deadline, so that its last log lines can be read.
const MARGIN_SECONDS: u64 = 60;
/// The number of log lines in the reason.
const LINES: i64 = 5;
/// The maximum length of the log lines in the reason.
const LONGEST: usize = 1000;
/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The template of a [`JobCheck`]'s Job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JobTemplate {
    /// An existing Job in the namespace, which is not changed: commonly one with `suspend: true`.
    Existing(String),
    /// A Job manifest.
    Manifest(Box<Job>),
}

/// Why a text is not the manifest of a Job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not one YAML document, or its fields have other types than those of a Job.
    #[error("the manifest is not a valid Job")]
    Malformed {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is another object.
    #[error("the manifest is not a Job: expected apiVersion batch/v1 and kind Job, found {found}")]
    NotAJob {
        /// Its API version and kind.
        found: String,
    },
    /// It has no name.
    #[error("the manifest of the Job has no metadata.name")]
    NoName,
}

impl Classified for ManifestError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

impl JobTemplate {
    /// Parses the manifest of a Job in YAML or JSON.
    ///
    /// ```
    /// use bp_eks::check::JobTemplate;
    ///
    /// let manifest = "apiVersion: batch/v1\nkind: Job\nmetadata: { name: smoke }\n";
    /// assert!(matches!(JobTemplate::from_yaml(manifest), Ok(JobTemplate::Manifest(_))));
    /// assert!(JobTemplate::from_yaml("apiVersion: v1\nkind: Pod\n").is_err());
    /// ```
    ///
    /// # Errors
    /// When it is not the manifest of one Job with a name.
    pub fn from_yaml(manifest: &str) -> Result<Self, ManifestError> {
        let value: Value =
            serde_saphyr::from_str(manifest).map_err(|e| ManifestError::Malformed { source: e.into() })?;
        let text = |field: &str| value[field].as_str().unwrap_or("none").to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if (version.as_str(), kind.as_str()) != ("batch/v1", "Job") {
            return Err(ManifestError::NotAJob { found: format!("apiVersion {version} and kind {kind}") });
        }
        let job: Job =
            serde_json::from_value(value).map_err(|e| ManifestError::Malformed { source: e.into() })?;
        if job.metadata.name.text().is_empty() {
            return Err(ManifestError::NoName);
        }
        Ok(JobTemplate::Manifest(Box::new(job)))
    }

    fn name(&self) -> &str {
        match self {
            JobTemplate::Existing(name) => name,
            JobTemplate::Manifest(job) => job.metadata.name.text(),
        }
    }
}

/// A check that creates a Job and waits until it ends: a smoke test from inside the cluster.
///
/// It passes when the Job completes, and fails when the Job fails or does not end before the deadline; the reason
/// contains the exit code and the last log lines. The verdict is [`Unobserved`](CheckVerdict::Unobserved) when the API
/// server is unreachable, the Job cannot be created, or no container was started, for example because its image cannot
/// be pulled.
///
/// Each attempt creates a new Job, with the template's name and a suffix. A Job that passed or exceeded the deadline is
/// deleted; a Job that failed is kept as evidence for `ttlSecondsAfterFinished`, which defaults to one hour.
///
/// ```no_run
/// use std::time::Duration;
/// use bp_artifact::{check::Check, time::Wait};
/// use bp_eks::{Cluster, check::JobTemplate};
///
/// # async fn run(client: kube::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let wait = Wait::new(Duration::from_secs(300), Duration::from_secs(2))?;
/// let shop = Cluster::new(client, "prod").namespace("shop");
/// let verdict = shop.job_check(JobTemplate::Existing("smoke-test".into()), wait).attempt().await;
/// println!("{verdict}"); // failed: job/smoke-test-x7k2p: … container web, exit code 3: no orders
/// # Ok(()) }
/// ```
///
/// # Permissions
/// RBAC in the namespace: `get`, `create`, `delete` on `jobs.batch`; `list` on `pods` and `get` on `pods/log`, without
/// which the reason has no log lines and a Job that never started counts as failed.
///
/// # Cancel safety
/// A dropped attempt leaves its Job behind: `activeDeadlineSeconds` ends it soon after the deadline, and
/// `ttlSecondsAfterFinished` removes it.
#[derive(Clone)]
pub struct JobCheck {
    scope: Scope,
    template: JobTemplate,
    wait: Wait,
}

impl fmt::Debug for JobCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobCheck")
            .field("name", &self.name())
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

impl Check for JobCheck {
    fn name(&self) -> String {
        self.scope.target(&format!("job/{}", self.template.name())).to_string()
    }

    fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
        Box::pin(async {
            match self.run().await {
                Ok(verdict) => verdict,
                Err(error) => CheckVerdict::unobserved(chain(&error)),
            }
        })
    }

    /// No: a Job retries by itself, up to its `backoffLimit`.
    fn retries_failures(&self) -> bool {
        false
    }
}

impl JobCheck {
    pub(crate) fn of(scope: Scope, template: JobTemplate, wait: Wait) -> Self {
        JobCheck { scope, template, wait }
    }

    fn jobs(&self) -> Api<DynamicObject> {
        self.scope.dynamic(&ApiResource::erase::<Job>(&()))
    }

    /// The Job to create.
    async fn object(&self) -> Result<DynamicObject, Error> {
        let name = self.template.name();
        let unexpected = |e: serde_json::Error| Error::UnexpectedResponse {
            operation: "get jobs",
            cluster: self.scope.cluster.clone(),
            source: e.into(),
        };
        let template = match &self.template {
            JobTemplate::Existing(name) => match self.jobs().get(name).await {
                Ok(job) => job,
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    return Err(self.scope.object("job", name).missing(&self.scope.client).await);
                }
                Err(e) => return Err(self.scope.object("job", name).error("get jobs", e)),
            },
            JobTemplate::Manifest(job) => {
                let json = serde_json::to_value(job).map_err(unexpected)?;
                serde_json::from_value(json).map_err(unexpected)?
            }
        };
        let mut object = job::unbound(&template);
        object.metadata.namespace = Some(self.scope.namespace.clone());
        object.metadata.generate_name = Some(format!("{name}-"));
        let spec = &mut object.data["spec"];
        spec["activeDeadlineSeconds"] = (self.wait.deadline().as_secs() + MARGIN_SECONDS).into();
        if spec["ttlSecondsAfterFinished"].is_null() {
            spec["ttlSecondsAfterFinished"] = KEPT_SECONDS.into();
        }
        Ok(object)
    }

    async fn run(&self) -> Result<CheckVerdict, Error> {
        let deadline = time::deadline(self.wait.deadline());
        let object = self.object().await?;
        let created = self.jobs().create(&PostParams::default(), &object).await;
        let created =
            created.map_err(|e| self.scope.object("job", self.template.name()).error("create jobs", e))?;
        let name = created.name_any();
        let ended = self.end(&name, deadline).await?;
        let is_late = matches!(ended, End::Late);
        let how = match ended {
            End::Complete => {
                self.delete(&created).await;
                return Ok(CheckVerdict::Passed);
            }
            End::Failed(how) => how,
            End::Gone => {
                let reason = format!("job/{name} was deleted before it was observed to end");
                return Ok(CheckVerdict::unobserved(reason));
            }
            End::Late => format!("did not end within {:?}", self.wait.deadline()),
        };
        let found = self.evidence(&name).await;
        if is_late {
            self.delete(&created).await;
        }
        Ok(match found {
            Evidence::NeverStarted(why) => {
                CheckVerdict::unobserved(format!("job/{name}: {how}: no container started: {why}"))
            }
            Evidence::Ran(said) => CheckVerdict::failed(format!("job/{name}: {how}{said}")),
        })
    }

    /// Waits until the Job ends. Errors of the API server are retried until the deadline.
    async fn end(&self, name: &str, deadline: Instant) -> Result<End, Error> {
        let jobs: Api<Job> = self.scope.api();
        loop {
            sleep_until(time::deadline(self.wait.pause()).min(deadline)).await;
            let is_late = Instant::now() >= deadline;
            match timeout(TIMEOUT, jobs.get(name)).await {
                Ok(Ok(job)) => {
                    let status = RolloutStatus::of_job(&job);
                    if status == RolloutStatus::Complete {
                        return Ok(End::Complete);
                    }
                    if let RolloutStatus::Failed(how) = status {
                        return Ok(End::Failed(how));
                    }
                    if is_late {
                        return Ok(End::Late);
                    }
                }
                Ok(Err(kube::Error::Api(status))) if status.is_not_found() => return Ok(End::Gone),
                Ok(Err(error)) if is_late => {
                    return Err(self.scope.object("job", name).error("get jobs", error));
                }
                Err(elapsed) if is_late => {
                    let (cluster, source) = (self.scope.cluster.clone(), elapsed.into());
                    return Err(Error::Unreachable { operation: "get jobs", cluster, source });
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Deletes this Job with its pods, but not a different Job with the same name. If that fails, the Job's time to
    /// live removes it.
    async fn delete(&self, job: &DynamicObject) {
        let preconditions = Preconditions { uid: job.uid(), ..Preconditions::default() };
        let params = DeleteParams::background().preconditions(preconditions);
        let error = match timeout(TIMEOUT, self.jobs().delete(&job.name_any(), &params)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::debug!(error = %SingleLine(error), job = job.name_any(), "failed to delete the job of a check");
    }

    /// The exit code and log lines of the Job's latest pod.
    async fn evidence(&self, job: &str) -> Evidence {
        let params = ListParams::default().labels(&format!("job-name={job}"));
        let pods: Api<Pod> = self.scope.api();
        let mut found = match timeout(TIMEOUT, pods.list(&params)).await {
            Ok(Ok(pods)) => pods.items,
            Ok(Err(_)) | Err(_) => return Evidence::Ran(String::new()),
        };
        found.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let Some(pod) = found.iter().rfind(|pod| pod::has_started(pod)) else {
            let symptom = found.iter().find_map(|pod| diagnose::of_pod(pod, std::iter::empty()));
            let why = symptom.map_or_else(
                || "no pod of the Job reports a cause".to_owned(),
                |s| text::without_credentials(&s.message).into_owned(),
            );
            return Evidence::NeverStarted(why);
        };
        let status = pod.status.iter();
        let all =
            status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
        let all: Vec<&ContainerStatus> = all.collect();
        let ended =
            |container: &ContainerStatus| Some(container.state.as_ref()?.terminated.as_ref()?.exit_code);
        let failed = all.iter().find(|container| ended(container).is_some_and(|code| code != 0));
        let Some(container) = failed.or(all.last()) else { return Evidence::Ran(String::new()) };
        let mut said = format!("; pod {}, container {}", pod.name_any(), container.name);
        if let Some(code) = ended(container) {
            said.push_str(&format!(", exit code {code}"));
        }
        let params = LogParams {
            container: Some(container.name.clone()),
            tail_lines: Some(LINES),
            ..LogParams::default()
        };
        if let Ok(Ok(log)) = timeout(TIMEOUT, pods.logs(&pod.name_any(), &params)).await
            && !log.trim().is_empty()
        {
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let shown = text::single_line(&lines.join(" | "));
            said.push_str(&format!(": {}", text::truncate(&shown, LONGEST)));
        }
        Evidence::Ran(said)
    }
}

/// The end of a Job.
enum End {
    Complete,
    Failed(String),
    /// The Job was deleted.
    Gone,
    /// The deadline has passed.
    Late,
}

/// The evidence from the pods of a Job.
enum Evidence {
    /// No container was started, for this reason.
    NeverStarted(String),
    /// The container, its exit code and its last log lines; empty if they cannot be read.
    Ran(String),
}
