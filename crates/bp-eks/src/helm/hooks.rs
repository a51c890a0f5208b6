//! Explain failed hooks: which hook, its Job or Pod, the exit code and the last log lines, read before helm deletes it.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use bp_artifact::{
    config::{Workload, WorkloadKind},
    deploy::{Cause, Evidence, EvidenceKind, FailureReport, Reporter},
    sync::lock,
};
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    context::Release,
    manifest::{ManifestContainer, containers, namespace, parse_objects},
};
use crate::rollout::diagnose;

/// How long helm's deletion of a hook waits for the evidence.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of log lines to keep, and their maximum size.
const LINES: i64 = 20;
const LOG_BYTES: i64 = 64 << 10;

/// A hook in helm's description of a release.
#[derive(Debug, Deserialize)]
pub(super) struct HookEntry {
    #[serde(default)]
    path: String,
    #[serde(default)]
    manifest: String,
    #[serde(default)]
    events: Vec<String>,
}

/// The object of a hook that runs a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    runs: Runs,
    /// The place of its first container.
    pub(super) place: ManifestContainer,
    /// The template of the chart.
    template: String,
    /// When it runs, such as `pre-upgrade`.
    events: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Runs {
    Job(Workload),
    Pod(String),
}

/// The hooks in the output of `helm get hooks`: documents with a comment about their template.
pub(super) fn parse_hooks(text: &str) -> Vec<HookEntry> {
    let entry = |document: &str| {
        let path = document.lines().find_map(|line| line.strip_prefix("# Source: ")).unwrap_or_default();
        let objects = parse_objects(document, "get hooks").unwrap_or_default();
        let annotation = objects.first().map(|object| &object["metadata"]["annotations"]["helm.sh/hook"]);
        let events = annotation.and_then(Value::as_str).unwrap_or_default().split(',');
        HookEntry {
            path: path.to_owned(),
            manifest: document.to_owned(),
            events: events.map(|event| event.trim().to_owned()).collect(),
        }
    };
    text.split("\n---\n").map(entry).collect()
}

impl HookEntry {
    /// The Jobs and Pods of the hook.
    fn read(&self) -> Vec<Hook> {
        // Helm has parsed it, and reports what is wrong with it.
        let objects = parse_objects(&self.manifest, "upgrade --dry-run").unwrap_or_default();
        objects.iter().filter_map(|object| self.object(object)).collect()
    }

    fn object(&self, object: &Value) -> Option<Hook> {
        let name = object["metadata"]["name"].as_str()?.to_owned();
        let runs = match object["kind"].as_str()? {
            "Job" => Runs::Job(Workload { kind: WorkloadKind::Job, name }),
            "Pod" => Runs::Pod(name),
            _ => return None,
        };
        let place = containers(object).into_iter().next()?;
        let (template, events) = (self.path.clone(), self.events.clone());
        Some(Hook {
            runs,
            place: ManifestContainer { namespace: namespace(object), ..place },
            template,
            events,
        })
    }
}

impl Hook {
    /// The Job, if the hook is one.
    pub(super) fn job(&self) -> Option<&Workload> {
        match &self.runs {
            Runs::Job(workload) => Some(workload),
            Runs::Pod(_) => None,
        }
    }

    fn object(&self) -> String {
        match &self.runs {
            Runs::Job(workload) => workload.to_string(),
            Runs::Pod(name) => format!("pod/{name}"),
        }
    }

    /// `pre-upgrade hook job/migrate (web/templates/migrate.yaml)`
    pub(super) fn shown(&self) -> String {
        format!("{} hook {} ({})", self.events.join(", "), self.object(), self.template)
    }

    /// Adds the hook to the message of a report.
    pub(super) fn label(&self, mut report: FailureReport) -> FailureReport {
        report.message = format!("{}: {}", self.shown(), report.message);
        report
    }

    /// Whether a request with this path, below `namespace`, is about its object.
    fn is_at(&self, path: &str, namespace: &str) -> bool {
        let namespace = self.place.namespace.as_deref().unwrap_or(namespace);
        let (group, plural, name) = match &self.runs {
            Runs::Job(workload) => ("apis/batch/v1", "jobs", workload.name.as_str()),
            Runs::Pod(name) => ("api/v1", "pods", name.as_str()),
        };
        path.trim_start_matches('/') == format!("{group}/namespaces/{namespace}/{plural}/{name}")
    }
}

/// The hooks of an upgrade, and the failure reports of those that failed.
pub(super) struct Hooks {
    release: Release,
    reporter: Reporter,
    /// Each with the uid of an object with its name that existed before: its failure was an earlier one.
    hooks: Vec<(Hook, Option<String>)>,
    reports: Mutex<BTreeMap<usize, FailureReport>>,
}

impl Hooks {
    /// The hooks that the dry run lists, before helm is started.
    pub(super) async fn before(release: &Release, reporter: &Reporter, entries: &[HookEntry]) -> Self {
        let (release, reporter) = (release.clone(), reporter.clone());
        let mut this = Hooks { release, reporter, hooks: Vec::new(), reports: Mutex::default() };
        let hooks: Vec<Hook> = entries.iter().flat_map(HookEntry::read).collect();
        for hook in hooks {
            let uid = this.uid(&hook).await;
            this.hooks.push((hook, uid));
        }
        this
    }

    /// The Jobs among the hooks, each with the uid of the one that existed before.
    pub(super) fn jobs(&self) -> impl Iterator<Item = (&Hook, Option<&str>)> {
        self.hooks.iter().filter(|(hook, _)| hook.job().is_some()).map(|(hook, uid)| (hook, uid.as_deref()))
    }

    async fn uid(&self, hook: &Hook) -> Option<String> {
        let scope = self.release.scope_of(hook.place.namespace.as_deref());
        match &hook.runs {
            Runs::Job(workload) => {
                scope.api::<Job>().get_metadata_opt(&workload.name).await.ok()??.metadata.uid
            }
            Runs::Pod(name) => scope.api::<Pod>().get_metadata_opt(name).await.ok()??.metadata.uid,
        }
    }

    /// Collects the evidence of a failed hook before helm deletes its object, if the path is that of a hook.
    pub(super) async fn before_delete(&self, path: &str) {
        let namespace = &self.release.scope.namespace;
        let found = self.hooks.iter().position(|(hook, _)| hook.is_at(path, namespace));
        let Some((at, (hook, before))) = found.and_then(|at| Some((at, self.hooks.get(at)?))) else { return };
        let report = timeout(PATIENCE, self.report(hook, before.as_deref())).await;
        if let Ok(Some(report)) = report {
            lock(&self.reports).insert(at, report);
        }
    }

    /// The failure report of the first hook that failed in this run.
    pub(super) async fn failed(&self) -> Option<FailureReport> {
        for (at, (hook, before)) in self.hooks.iter().enumerate() {
            if let Some(report) = lock(&self.reports).get(&at).cloned() {
                return Some(report);
            }
            if let Ok(Some(report)) = timeout(PATIENCE, self.report(hook, before.as_deref())).await {
                return Some(report);
            }
        }
        None
    }

    /// The failure report of a hook's object, if it was created in this run and has failed.
    async fn report(&self, hook: &Hook, before: Option<&str>) -> Option<FailureReport> {
        let report = match &hook.runs {
            Runs::Job(workload) => self.report_job(hook, workload, before).await,
            Runs::Pod(name) => self.report_pod(hook, name, before).await,
        };
        report.map(|report| hook.label(report))
    }

    async fn report_job(
        &self,
        hook: &Hook,
        workload: &Workload,
        before: Option<&str>,
    ) -> Option<FailureReport> {
        let scope = self.release.scope_of(hook.place.namespace.as_deref());
        let job = scope.api::<Job>().get_opt(&workload.name).await.ok()??;
        if job.metadata.uid.as_deref() == before {
            return None;
        }
        let ended = ended(job);
        if ended.as_ref().is_some_and(|condition| condition.type_ == "Complete") {
            return None;
        }
        let diagnosed = self.release.target(workload, &hook.place).0.diagnose(&self.reporter).await;
        if let Ok(Some(report)) = diagnosed {
            return Some(report);
        }
        let JobCondition { reason, message, .. } = ended?;
        let why = [reason, message].map(Option::unwrap_or_default);
        let report = FailureReport::new(Cause::ContainerExited, why.join(": "));
        let selector = format!("job-name={}", workload.name);
        let pods = scope.api::<Pod>().list(&ListParams::default().labels(&selector)).await.ok();
        let pod = pods.and_then(|mut list| list.items.pop());
        self.with_logs(report, &scope.api(), pod).await
    }

    async fn report_pod(&self, hook: &Hook, name: &str, before: Option<&str>) -> Option<FailureReport> {
        let pods: Api<Pod> = self.release.scope_of(hook.place.namespace.as_deref()).api();
        let pod = pods.get_opt(name).await.ok()??;
        if pod.metadata.uid.as_deref() == before {
            return None;
        }
        let symptom = diagnose::of_pod(&pod, std::iter::empty())?;
        let report = FailureReport::new(symptom.cause, symptom.message)
            .in_container(symptom.container, symptom.exit_code);
        self.with_logs(report, &pods, Some(pod)).await
    }

    /// Adds the last log lines of the pod's containers that have ended.
    async fn with_logs(
        &self,
        mut report: FailureReport,
        pods: &Api<Pod>,
        pod: Option<Pod>,
    ) -> Option<FailureReport> {
        let Some(pod) = pod else { return Some(report) };
        let name = pod.metadata.name.clone().unwrap_or_default();
        for container in failed_containers(&pod) {
            let params = LogParams {
                container: Some(container.clone()),
                tail_lines: Some(LINES),
                limit_bytes: Some(LOG_BYTES),
                ..LogParams::default()
            };
            if let Ok(text) = pods.logs(&name, &params).await
                && !text.trim().is_empty()
            {
                let source = format!("pod/{name}/{container}");
                report.evidence.push(Evidence::new(EvidenceKind::Log, text.trim_end()).source(source));
            }
        }
        Some(report)
    }
}

/// The condition with which a Job has ended.
fn ended(job: Job) -> Option<JobCondition> {
    let conditions = job.status?.conditions?;
    let is_end = |condition: &JobCondition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    };
    conditions.into_iter().find(is_end)
}

/// The names of the containers that have failed.
fn failed_containers(pod: &Pod) -> Vec<String> {
    let status = pod.status.iter();
    let statuses =
        status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
    let failed = statuses.filter(|container| {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code != 0)
    });
    failed.map(|container| container.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manifest: &str) -> HookEntry {
        serde_json::from_value(json!({
            "name": "migrate", "kind": "Job", "path": "web/templates/migrate.yaml", "manifest": manifest,
            "events": ["pre-install", "pre-upgrade"], "last_run": { "phase": "" },
        }))
        .unwrap()
    }

    #[test]
    fn reads_hooks_that_run_a_program() {
        let spec = "spec: { template: { spec: { containers: [ { name: migrate, image: web } ] } } }";
        let job = format!("kind: Job\nmetadata: {{ name: migrate, namespace: db }}\n{spec}\n");
        let pod =
            "kind: Pod\nmetadata: { name: check }\nspec: { containers: [ { name: curl, image: c } ] }\n";
        let config = "kind: ConfigMap\nmetadata: { name: migrate }\n";
        let hooks = entry(&format!("{job}---\n{pod}---\n{config}")).read();
        let [job, pod] = hooks.as_slice() else { panic!("{hooks:?}") };
        assert_eq!(job.shown(), "pre-install, pre-upgrade hook job/migrate (web/templates/migrate.yaml)");
        assert_eq!((job.place.container.as_str(), pod.place.container.as_str()), ("migrate", "curl"));
        assert!(job.is_at("/apis/batch/v1/namespaces/db/jobs/migrate", "shop"));
        assert!(!job.is_at("/apis/batch/v1/namespaces/shop/jobs/migrate", "shop"));
        assert!(pod.is_at("/api/v1/namespaces/shop/pods/check", "shop") && pod.job().is_none());
        assert!(!pod.is_at("/api/v1/namespaces/shop/pods/check-2", "shop"));
        assert_eq!(entry("a: [").read(), []);
    }

    #[test]
    fn reads_the_hooks_of_a_revision() {
        let spec = "spec: { template: { spec: { containers: [ { name: migrate, image: web } ] } } }";
        let hook = |name: &str, event: &str| {
            format!(
                "---\n# Source: web/templates/{name}.yaml\nkind: Job\nmetadata:\n  name: {name}\n  annotations:\n    \
                 helm.sh/hook: {event}\n{spec}\n"
            )
        };
        let text =
            format!("{}{}", hook("undo", "pre-rollback"), hook("check", "post-rollback, post-upgrade"));
        let hooks: Vec<String> =
            parse_hooks(&text).iter().flat_map(HookEntry::read).map(|hook| hook.shown()).collect();
        assert_eq!(
            hooks,
            [
                "pre-rollback hook job/undo (web/templates/undo.yaml)",
                "post-rollback, post-upgrade hook job/check (web/templates/check.yaml)",
            ]
        );
        assert!(parse_hooks("").iter().all(|entry| entry.read().is_empty()));
    }
}
