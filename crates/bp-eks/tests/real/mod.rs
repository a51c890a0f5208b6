//! Test fixture: a namespace of a real cluster with kwok nodes, whose behaviour the image's digest selects.
//!
//! `cargo xtask e2e` sets the kubeconfig files and kubectl in the environment. The kwok stages are in
//! `xtask/src/e2e/kubernetes/stages.yaml`.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use bp_artifact::{DigestRef, Outcome, ResolvedImage, deploy::DeployEvent};
use bp_eks::{Cluster, EksTarget, Error, Options, from_kubeconfig};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

/// Prefixes of digests that select the behaviour of the node.
pub(crate) const RUNS: &str = "a11";
pub(crate) const RUNS_TOO: &str = "a12";
pub(crate) const EXITS: &str = "bad";
pub(crate) const NEVER_READY: &str = "51e";
pub(crate) const READY_LATER: &str = "510";

/// The documented Role of the deployer.
const RBAC: &str = include_str!("../../../../docs/iam/deploy-eks-rbac.yaml");

pub(crate) struct Real {
    pub(crate) namespace: String,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}, as cargo xtask e2e does"))
}

fn kubeconfig(user: &str) -> PathBuf {
    variable(&format!("BP_E2E_KUBECONFIG_{}", user.to_uppercase())).into()
}

pub(crate) fn image(beginning: &str) -> ResolvedImage {
    let reference: DigestRef =
        format!("registry.example.com/shop/web@sha256:{beginning:0<64}").parse().unwrap();
    ResolvedImage::from(reference)
}

impl Real {
    /// Creates a namespace in which the deployer has the documented Role.
    pub(crate) async fn new(name: &str) -> Self {
        let real = Real { namespace: format!("{name}-{}", std::process::id()) };
        real.admin(&["create", "namespace", &real.namespace]).await;
        let account = ["get", "serviceaccount", "default"];
        while !real.kubectl("admin", &account).output().await.unwrap().status.success() {}
        real.apply(&RBAC.replace("namespace: shop", &format!("namespace: {}", real.namespace))).await;
        real
    }

    /// As [`new`](Self::new), with a workload that is rolled out.
    pub(crate) async fn with(name: &str, manifest: &str) -> Self {
        let real = Real::new(name).await;
        real.apply(manifest).await;
        let workload = manifest.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap().to_lowercase();
        real.admin(&["rollout", "status", &format!("{workload}/web"), "--timeout=60s"]).await;
        real
    }

    pub(crate) fn kubectl(&self, user: &str, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(variable("BP_E2E_KUBECTL"));
        kubectl.env("KUBECONFIG", kubeconfig(user)).args(["-n", &self.namespace]).args(arguments);
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        kubectl
    }

    /// Runs kubectl as the administrator; returns its output.
    pub(crate) async fn admin(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.kubectl("admin", arguments).output().await.unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    pub(crate) async fn apply(&self, manifest: &str) {
        let file = std::env::temp_dir().join(format!("bp-eks-{}.yaml", self.namespace));
        std::fs::write(&file, manifest).unwrap();
        self.admin(&["apply", "-f", &file.to_string_lossy()]).await;
        std::fs::remove_file(&file).unwrap();
    }

    pub(crate) async fn patch(&self, what: &str, patch: &str) {
        self.admin(&["patch", what, "web", "--type=strategic", "-p", patch]).await;
    }

    /// Starts `kubectl rollout status`.
    pub(crate) fn rollout_status(&self, workload: &str, seconds: u32) -> Child {
        let timeout = format!("--timeout={seconds}s");
        self.kubectl("admin", &["rollout", "status", workload, &timeout]).spawn().unwrap()
    }

    pub(crate) async fn client(&self, user: &str) -> kube::Client {
        from_kubeconfig(Some(&kubeconfig(user)), None).await.unwrap()
    }

    pub(crate) async fn target(&self, workload: &str, options: Options) -> EksTarget {
        self.target_of("deployer", workload, options).await
    }

    pub(crate) async fn target_of(&self, user: &str, workload: &str, options: Options) -> EksTarget {
        let namespace = Cluster::new(self.client(user).await, "e2e").namespace(&self.namespace);
        namespace.workload(workload.parse().unwrap(), options).container("web")
    }

    /// The deployer's requests in the namespace, from the API server's audit log.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(variable("BP_E2E_AUDIT")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["objectRef"]["namespace"] == self.namespace.as_str()).collect()
    }

    /// Kills the API server, which is started again, and waits until it is ready.
    pub(crate) async fn restart_api_server(&self) {
        let file = variable("BP_E2E_APISERVER_PID");
        let pid = || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
        let killed = pid();
        assert!(Command::new("kill").args(["-KILL", &killed]).status().await.unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(180);
        let ready = ["get", "--raw", "/readyz"];
        while pid() == killed || !self.kubectl("admin", &ready).output().await.unwrap().status.success() {
            assert!(Instant::now() < deadline, "the API server is not started again");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The images of the ready pods that are not being deleted.
    pub(crate) async fn running(&self) -> Vec<String> {
        let ready = "jsonpath={range .items[*]}{.metadata.deletionTimestamp} {.status.conditions[?(@.type=='Ready')].status} \
                     {.spec.containers[?(@.name=='web')].image}{\"\\n\"}{end}";
        let listed = self.admin(&["get", "pods", "-l", "app=web", "-o", ready]).await;
        listed.lines().filter_map(|line| line.strip_prefix(" True ")).map(str::to_owned).collect()
    }

    /// Deletes the namespace; a failed test leaves it for inspection.
    pub(crate) async fn leave(self) {
        self.admin(&["delete", "namespace", &self.namespace, "--wait=false"]).await;
    }
}

/// A Deployment with three replicas, owned by `kubectl apply`.
pub(crate) fn deployment(beginning: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  replicas: 3
  progressDeadlineSeconds: 60
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{ name: web, image: "{0}" }}
      - {{ name: proxy, image: "{0}" }}
"#,
        image(beginning).reference
    )
}

/// The same as a StatefulSet.
pub(crate) fn stateful_set(beginning: &str) -> String {
    deployment(beginning)
        .replace("kind: Deployment", "kind: StatefulSet")
        .replace("progressDeadlineSeconds: 60", "serviceName: web")
}

/// The same as a DaemonSet, on two nodes.
pub(crate) fn daemon_set(beginning: &str) -> String {
    deployment(beginning)
        .replace("kind: Deployment", "kind: DaemonSet")
        .replace("  progressDeadlineSeconds: 60\n", "")
        .replace("  replicas: 3\n", "")
}

/// A Job without retries.
pub(crate) fn job(beginning: &str) -> String {
    format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{ name: web }}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {{ name: web, image: "{}" }}
"#,
        image(beginning).reference
    )
}

/// A quota that a rollout with a surge exceeds.
pub(crate) const QUOTA: &str = r#"
apiVersion: v1
kind: ResourceQuota
metadata: { name: pods }
spec: { hard: { pods: "3" } }
"#;

/// A policy that refuses every change of a Deployment in the namespace.
pub(crate) fn refusing(namespace: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{ name: {namespace} }}
spec:
  matchConstraints:
    resourceRules:
    - {{ apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments] }}
  validations:
  - {{ expression: "false", message: images must be signed }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{ name: {namespace} }}
spec:
  policyName: {namespace}
  validationActions: [Deny]
  matchResources:
    namespaceSelector: {{ matchLabels: {{ "kubernetes.io/metadata.name": {namespace} }} }}
"#
    )
}

pub(crate) fn options(seconds: u64) -> Options {
    Options::new(Duration::from_secs(seconds)).unwrap().take_over(true)
}

pub(crate) async fn deploy(
    target: &EksTarget,
    image: &ResolvedImage,
) -> (Vec<DeployEvent>, Result<Outcome, Error>) {
    let mut work = target.deploy(image);
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    (events, work.await)
}
