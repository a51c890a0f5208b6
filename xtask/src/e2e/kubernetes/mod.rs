//! The line on a real control plane.

pub(crate) mod bench;
mod cluster;
mod node;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::cluster::{Cluster, NAMESPACE};
use super::{
    library::Environment,
    stage::Stage,
    tools::{AWS_CLI, HELM},
};
use crate::clock;

const SERVER: &str = "kubernetes 1.34";

/// A Deployment whose roll-out surges by one, as most do.
fn deployment(digest: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  replicas: 2
  progressDeadlineSeconds: 60
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      containers:
      - {{ name: web, image: "registry.example.com/shop/web@{digest}" }}
"#
    )
}

/// A digest that begins so: the node's stages decide by it what a container does.
fn digest(beginning: &str) -> String {
    format!("sha256:{beginning:0<64}")
}

pub(super) fn run(stage: &mut Stage) -> Result<()> {
    let cluster = Cluster::start(stage)?;
    let still = Cluster::start_still(stage)?;
    stage.environment = environment(stage, &cluster)?;
    stage.environment.push(("BP_E2E_KUBECONFIG_STILL", still.kubeconfig("still").into()));
    stage.table.scenario(SERVER, "the node runs what the digest says", || node_is_true(&cluster));
    stage.scenarios("kubernetes", SERVER)?;
    for (what, why) in SANDBOX_ONLY {
        stage.table.sandbox_only(SERVER, what, why);
    }
    Ok(())
}

/// What this cluster cannot show, and why.
const SANDBOX_ONLY: [(&str, &str); 4] = [
    (
        "a container's own last lines in the report of a failure",
        "kwok shows the same file as every container's log",
    ),
    ("aws eks get-token signs in", "nobody here plays the authenticator of EKS; tokens are in a file"),
    ("deploy-eks from the cluster's name on", "moto's EKS answers a made-up endpoint and authority"),
    ("targets of a load balancer become healthy", "no load balancer controller runs"),
];

/// What a scenario of a library is told.
fn environment(stage: &Stage, cluster: &Cluster) -> Result<Environment> {
    Ok(vec![
        ("BP_E2E_KUBECONFIG_ADMIN", cluster.kubeconfig("admin").into()),
        ("BP_E2E_KUBECONFIG_DEPLOYER", cluster.kubeconfig("deployer").into()),
        ("BP_E2E_KUBECONFIG_STRANGER", cluster.kubeconfig("stranger").into()),
        ("BP_E2E_NAMESPACE", NAMESPACE.into()),
        ("BP_E2E_AUDIT", cluster.audit().into()),
        ("BP_E2E_KUBECTL", cluster.kubectl_program().into()),
        ("BP_E2E_HELM", stage.tools.command(HELM)?.get_program().into()),
        ("BP_E2E_AWS_CLI", stage.tools.command(AWS_CLI)?.get_program().into()),
    ])
}

/// The judge is judged first: what the stages write must be what a kubelet writes.
fn node_is_true(cluster: &Cluster) -> Result<String> {
    cluster.apply("web", &deployment(&digest("a11")))?;
    cluster.admin(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let images = "jsonpath={.items[*].status.containerStatuses[*].imageID}";
    let running = cluster.admin(&["get", "pods", "-l", "app=web", "-o", images])?;
    let expected = digest("a11");
    ensure!(running.matches(&expected).count() == 2, "two pods should run {expected}: {running:?}");

    for (beginning, reason) in FAILURES {
        cluster.apply("web", &deployment(&digest(beginning)))?;
        let waiting = "jsonpath={range .items[*].status.containerStatuses[*]}{.state.waiting.reason} \
                       {.lastState.terminated.exitCode},{end}";
        let mut seen = String::new();
        clock::poll(Duration::from_secs(180), || {
            seen = cluster.admin(&["get", "pods", "-l", "app=web", "-o", waiting]).ok()?;
            seen.contains(reason).then_some(())
        })
        .with_context(|| format!("no pod of {beginning} waits with {reason}: {seen}"))?;
    }
    let log = cluster.admin(&["logs", "deployment/web", "--previous"])?;
    ensure!(log.contains("no database"), "kubectl logs shows {log:?}");
    cluster.admin(&["delete", "deployment", "web", "--wait"])?;

    cluster.apply("job", &job(&digest("a11")))?;
    cluster.admin(&["wait", "--for=condition=complete", "job/migrate", "--timeout=120s"])?;
    cluster.admin(&["delete", "job", "migrate", "--wait"])?;
    cluster.apply("job", &job(&digest("bad")))?;
    cluster.admin(&["wait", "--for=condition=failed", "job/migrate", "--timeout=120s"])?;
    cluster.admin(&["delete", "job", "migrate", "--wait"])?;
    Ok(String::new())
}

/// What a digest that begins so comes to: the reason a container waits for, and the exit code before it.
const FAILURES: [(&str, &str); 6] = [
    ("bad", "CrashLoopBackOff 3,"),
    ("dead", "CrashLoopBackOff 137,"),
    ("c0de", "CrashLoopBackOff 128,"),
    ("404", "ImagePullBackOff ,"),
    ("401", "ErrImagePull ,"),
    ("5ec", "CreateContainerConfigError ,"),
];

/// A Job that tries once.
fn job(digest: &str) -> String {
    format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{ name: migrate }}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {{ name: migrate, image: "registry.example.com/shop/web@{digest}" }}
"#
    )
}
