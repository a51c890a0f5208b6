//! Runs a schedule on the sandbox, and reads the model's history afterwards.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use bp_artifact::{ResolvedImage, Verdict, deploy::OnFailure, error::Classified as _};
use bp_eks::{Options, options::LiveLogs};
use bp_sandbox::{
    Clock, Effect, ImageBuilder, Sandbox,
    kube::{Cluster, ClusterOptions},
    registry::RegistryOptions,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    common::{REGISTRY, chain, connector, push},
    facts::{Ending, Facts, Times, seconds},
    schedule::{Action, Disturbance, Fault, Kind, Object, Past, Policy, Program, Schedule, Workload},
};

/// A rollout that takes longer is considered hanging.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
const NAMESPACE: &str = "prod";

/// The cluster and the images of a schedule.
#[derive(Clone)]
struct World {
    sandbox: Sandbox,
    cluster: Arc<Cluster>,
    kind: Kind,
    previous: ResolvedImage,
    ours: ResolvedImage,
}

/// What others did: when, what, and the resource versions of the cluster before and after.
type History = Arc<Mutex<Vec<(f64, &'static str, [u64; 2])>>>;

/// Runs the schedule to the end of the rollout.
pub(crate) async fn run(schedule: &Schedule) -> Result<Facts, String> {
    let Schedule { workload, policy, .. } = schedule;
    let options = ClusterOptions::default().nodes(workload.nodes);
    let sandbox = Sandbox::builder()
        .clock(Clock::tokio())
        .registry(REGISTRY, RegistryOptions::default())
        .cluster("shop", options)
        .build();
    let cluster = sandbox.cluster("shop");
    let client =
        connector(&sandbox, "shop").connect_with(sandbox.transport()).await.map_err(|e| e.to_string())?;
    let previous = push(&sandbox, "previous", Program::Healthy(2).behaviour().unwrap());
    let ours = match schedule.program.behaviour() {
        Some(behaviour) => push(&sandbox, "ours", behaviour),
        None => missing(),
    };
    let world = World { sandbox, cluster, kind: workload.kind, previous, ours };
    world.create(workload).await;
    for (number, past) in schedule.past.iter().enumerate() {
        world.perform(*past, number).await;
    }
    if workload.secret == Some(false) {
        world.cluster.delete("secrets", NAMESPACE, "db");
    }
    world.sandbox.ledger().clear();
    schedule.faults.iter().for_each(|disturbance| world.inject(*disturbance));
    let start = world.sandbox.clock().now();

    let history = History::default();
    let others = tokio::spawn(world.clone().interfere(schedule.others.clone(), Arc::clone(&history)));
    let ends = schedule.faults.iter().filter_map(|disturbance| disturbance.ends_watches).collect();
    let ending = tokio::spawn(end_watches(Arc::clone(&world.cluster), ends));
    let target = bp_eks::Cluster::new(client, "shop").namespace(NAMESPACE);
    let name = format!("{}/web", world.kind.name().to_lowercase()).parse().unwrap();
    let target = target.workload(name, self::options(*policy)).container("web");
    let ended = timeout(LIMIT, target.deploy(&world.ours)).await;
    others.abort();
    ending.abort();
    let ending = match ended {
        Ok(Ok(outcome)) => Ending::Verdict {
            verdict: outcome.verdict(),
            changed: outcome.changed,
            detail: format!("{}; failure: {:?}", outcome.detail, outcome.failure.map(|f| f.to_string())),
        },
        Ok(Err(error)) => Ending::Error { class: error.class(), message: chain(&error) },
        Err(_) => return Err("the rollout hangs".to_owned()),
    };
    let requests = world.sandbox.ledger().entries();
    world.sandbox.faults().clear();
    let now = seconds(world.sandbox.clock().now());
    let others = history.lock().unwrap().clone();
    Facts::read(
        &world.cluster,
        schedule,
        ending,
        Times { start: seconds(start), now },
        &world.ours,
        requests,
        others,
    )
}

/// An image that the registry does not have.
fn missing() -> ResolvedImage {
    let image = ImageBuilder::new().platform("linux/amd64").layer([("app", "missing")]).build();
    let reference: bp_artifact::DigestRef =
        format!("{REGISTRY}/shop/web@{}", image.digest()).parse().unwrap();
    reference.into()
}

async fn end_watches(cluster: Arc<Cluster>, mut at: Vec<Duration>) {
    at.sort();
    let start = tokio::time::Instant::now();
    for at in at {
        tokio::time::sleep_until(start + at).await;
        cluster.end_watches();
    }
}

impl World {
    async fn create(&self, workload: &Workload) {
        let probe = json!({ "httpGet": { "path": "/", "port": 80 }, "periodSeconds": 5 });
        let mut web = json!({ "name": "web", "image": self.previous.reference.to_string() });
        if workload.readiness {
            web["readinessProbe"] = probe.clone();
        }
        if workload.liveness {
            web["livenessProbe"] = probe;
        }
        if workload.secret.is_some() {
            web["envFrom"] = json!([{ "secretRef": { "name": "db" } }]);
            self.secret();
        }
        let mut spec = workload.spec.clone();
        spec["selector"] = json!({ "matchLabels": { "app": "web" } });
        spec["template"] =
            json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [web] } });
        if self.kind != Kind::DaemonSet {
            spec["replicas"] = json!(workload.replicas);
        }
        self.cluster.create(json!({
            "apiVersion": "apps/v1", "kind": self.kind.name(),
            "metadata": { "name": "web", "namespace": NAMESPACE }, "spec": spec,
        }));
        sleep(Duration::from_secs(120)).await;
    }

    fn secret(&self) {
        self.cluster.create(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "db", "namespace": NAMESPACE }, "data": {},
        }));
    }

    /// `kubectl set image`.
    fn set_image(&self, image: &str) {
        self.patch(&json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": image }] } } } }));
    }

    fn patch(&self, patch: &Value) {
        self.cluster.patch("kubectl", self.kind.plural(), NAMESPACE, "web", patch);
    }

    /// Pushes another image whose containers behave like this.
    fn other(&self, name: &str, program: Program) -> String {
        match program.behaviour() {
            Some(behaviour) => push(&self.sandbox, name, behaviour).reference.to_string(),
            None => missing().reference.to_string(),
        }
    }

    /// Something that happens before our rollout.
    async fn perform(&self, past: Past, number: usize) {
        let name = format!("past{number}");
        match past {
            Past::Completed => self.set_image(&self.other(&name, Program::Healthy(2))),
            Past::Refused => {
                let (code, message) = crate::schedule::Refusal::Webhook.answer();
                self.cluster.refuse_pods(code, message);
                self.set_image(&self.other(&name, Program::Healthy(2)));
                sleep(Duration::from_secs(5)).await;
                self.cluster.admit_pods();
            }
            Past::Evicted => self.evict(1, false),
            Past::InProgress => self.set_image(&self.other(&name, Program::Healthy(90))),
            Past::Failing => self.set_image(&self.other(&name, Program::Exits { after: 1, code: 3 })),
            Past::InProgressSame => self.set_image(&self.ours.reference.to_string()),
        }
        let time = match past {
            Past::Completed | Past::Refused => 180,
            Past::Evicted | Past::Failing => 30,
            Past::InProgress | Past::InProgressSame => 5,
        };
        sleep(Duration::from_secs(time)).await;
    }

    fn evict(&self, count: usize, own_limit: bool) {
        let message = if own_limit {
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "
        } else {
            "The node was low on resource: memory. Container web was using 1Gi, request is 0, has larger consumption. "
        };
        for pod in self.cluster.objects("pods", NAMESPACE).iter().take(count) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            self.cluster.fail_pod(NAMESPACE, name, "Evicted", message);
        }
    }

    /// Performs the actions of others.
    async fn interfere(self, actions: Vec<(Duration, Action)>, history: History) {
        let start = tokio::time::Instant::now();
        for (number, (at, action)) in actions.into_iter().enumerate() {
            tokio::time::sleep_until(start + at).await;
            let version = || {
                let changes = self.cluster.history(self.kind.plural(), NAMESPACE);
                changes.last().map_or(0, |change| change.version)
            };
            let before = version();
            if self.act(action, number) {
                let at = seconds(self.sandbox.clock().now());
                history.lock().unwrap().push((at, action.name(), [before, version()]));
            }
        }
    }

    /// Performs an action. `false` if it is not possible now.
    fn act(&self, action: Action, number: usize) -> bool {
        let Some(workload) = self.cluster.object(self.kind.plural(), NAMESPACE, "web") else { return false };
        let is_paused = workload["spec"]["paused"] == true;
        let cluster = &self.cluster;
        match action {
            Action::Deploy(program) => self.set_image(&self.other(&format!("other{number}"), program)),
            Action::Same => self.set_image(&self.ours.reference.to_string()),
            Action::Restart => self.patch(&json!({ "spec": { "template": { "metadata": { "annotations": {
                "kubectl.kubernetes.io/restartedAt": number.to_string(),
            } } } } })),
            Action::Scale(replicas) => self.patch(&json!({ "spec": { "replicas": replicas } })),
            Action::Pause if is_paused => return false,
            Action::Pause => self.patch(&json!({ "spec": { "paused": true } })),
            Action::Resume if !is_paused => return false,
            Action::Resume => self.patch(&json!({ "spec": { "paused": null } })),
            Action::Delete => cluster.delete(self.kind.plural(), NAMESPACE, "web"),
            Action::DeletePods(count) => {
                for pod in cluster.objects("pods", NAMESPACE).iter().take(count) {
                    cluster.delete("pods", NAMESPACE, pod["metadata"]["name"].as_str().unwrap());
                }
            }
            Action::EvictPods(count, own_limit) => self.evict(count, own_limit),
            Action::Refuse(refusal) => {
                let (code, message) = refusal.answer();
                cluster.refuse_pods(code, message);
            }
            Action::Admit => cluster.admit_pods(),
            Action::Quota(_) if cluster.object("resourcequotas", NAMESPACE, "pods").is_some() => return false,
            Action::Quota(pods) => drop(cluster.create(json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "pods", "namespace": NAMESPACE },
                "spec": { "hard": { "pods": pods } },
            }))),
            Action::DenyPulls => cluster.deny_pulls(REGISTRY),
            Action::Secret(exists) => match (cluster.object("secrets", NAMESPACE, "db"), exists) {
                (None, true) => self.secret(),
                (Some(_), false) => cluster.delete("secrets", NAMESPACE, "db"),
                (Some(_), true) | (None, false) => return false,
            },
            Action::Change(program) => match program.behaviour() {
                Some(behaviour) => self.script(&self.ours, behaviour),
                None => return false,
            },
            Action::BreakPrevious => {
                self.script(&self.previous, Program::Exits { after: 1, code: 3 }.behaviour().unwrap());
            }
            Action::RestartServer(requests) => {
                let reset = bp_sandbox::Fault::new(Effect::Reset).at(cluster.host()).times(requests);
                self.sandbox.faults().inject(reset);
                cluster.end_watches();
            }
            Action::Compact => {
                cluster.compact();
                cluster.end_watches();
            }
        }
        true
    }

    fn script(&self, image: &ResolvedImage, behaviour: bp_sandbox::Behaviour) {
        self.sandbox.script(&image.reference.digest().to_string(), behaviour);
    }

    fn inject(&self, disturbance: Disturbance) {
        let Disturbance { kind, operation, after, times, .. } = disturbance;
        let about = |object: Object| match object {
            Object::Workload => self.kind.plural(),
            Object::Versions => self.kind.versions(),
            Object::Pods => "pods",
            Object::Events => "events",
        };
        let (verb, plural) = operation.map_or(("list", "pods"), |(verb, object)| (verb, about(object)));
        let effect = match kind {
            Fault::Denied => {
                let message = format!(
                    "{plural} is forbidden: User \"ci\" cannot {verb} resource \"{plural}\" in API group \"\" in the namespace \
                     \"{NAMESPACE}\""
                );
                status(403, "Forbidden", &message)
            }
            Fault::Throttled => status(429, "TooManyRequests", "the server has received too many requests"),
            Fault::Expired => status(401, "Unauthorized", "Unauthorized"),
            Fault::Lost => Effect::LoseAnswer,
            Fault::Status(code) => {
                let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
                Effect::Answer { status: code, headers, body: "upstream connect error".to_owned() }
            }
            Fault::Reset => Effect::Reset,
            Fault::Cut(at) => Effect::CutBody(at),
        };
        let fault = bp_sandbox::Fault::new(effect).at(self.cluster.host()).after(after).times(times);
        self.sandbox.faults().inject(match operation {
            Some(_) => fault.on(format!("{verb} {plural}")),
            None => fault,
        });
    }
}

fn status(code: u16, reason: &str, message: &str) -> Effect {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    Effect::Answer { status: code, headers: Vec::new(), body: body.to_string() }
}

fn options(policy: Policy) -> Options {
    let mut options = Options::new(Duration::from_secs(policy.deadline)).unwrap();
    if let Some(pods) = policy.fail_after.and_then(NonZeroU32::new) {
        options = options.fail_after(pods);
    }
    if policy.live_logs {
        options = options.live_logs(LiveLogs::default());
    }
    options
        .grace(Duration::from_secs(policy.grace))
        .restarts(NonZeroU32::new(policy.restarts).unwrap())
        .on_failure(if policy.leaves_failures { OnFailure::Leave } else { OnFailure::RollBack })
        .take_over(policy.take_over)
        .allow_no_replicas(policy.allow_no_replicas)
}

/// How a verdict is counted.
pub(crate) fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Deployed => "verdict: deployed",
        Verdict::Unproven => "verdict: unproven",
        Verdict::DigestMismatch => "verdict: digest mismatch",
        Verdict::RolledBack => "verdict: rolled back",
        Verdict::RollbackFailed => "verdict: rollback failed",
        Verdict::FailedInPlace => "verdict: failed in place",
        Verdict::Stopped => "verdict: stopped",
        Verdict::Superseded => "verdict: superseded",
        Verdict::Gone => "verdict: gone",
        Verdict::AwaitingApproval => "verdict: awaiting approval",
        Verdict::DeadlineExceeded => "verdict: deadline exceeded",
        Verdict::Unobserved => "verdict: unobserved",
    }
}
