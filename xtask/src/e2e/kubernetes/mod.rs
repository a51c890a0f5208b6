//! End-to-end tests on a real Kubernetes control plane.

pub(crate) mod bench;
mod cluster;
mod control_plane;
mod gitops;
mod node;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::{
    cluster::Cluster,
    control_plane::{NAMESPACE, SERVER},
    node::digest,
};
use super::{
    everyday::{self, Clients},
    library::Environment,
    test_run::TestRun,
    tools::{AWS_CLI, HELM},
};
use crate::clock;

/// A Deployment with the default rollout strategy.
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

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    let cluster = Cluster::start(test_run)?;
    let without_controllers = Cluster::start_without_controllers(test_run)?;
    test_run.environment = environment(test_run, &cluster)?;
    test_run.environment.push(("BP_E2E_KUBECONFIG_STILL", without_controllers.kubeconfig("still").into()));
    gitops::run(test_run, &cluster);
    test_run
        .table
        .scenario(SERVER, "the status of a pod is what a kubelet would write", || verify_node(&cluster));
    let (helm, home) = (test_run.tools.find(HELM)?, cluster.home().join("everyday"));
    let clients = Clients {
        server: SERVER,
        kubectl: &|arguments| Ok(cluster.kubectl("admin", arguments)),
        helm: &|arguments| Ok(cluster.client("admin", &helm, arguments)),
        home: &home,
        image: format!("registry.example.com/shop/web@{}", digest("a11")),
        broken: format!("registry.example.com/shop/web@{}", digest("bad")),
    };
    everyday::run(test_run, &clients);
    test_run.scenarios("kubernetes", SERVER)?;
    for (what, why) in SANDBOX_ONLY {
        test_run.table.sandbox_only(SERVER, what, why);
    }
    Ok(())
}

/// Scenarios that this cluster does not support, and the reasons.
const SANDBOX_ONLY: [(&str, &str); 4] = [
    (
        "a container's own last lines in the report of a failure",
        "kwok returns the same file as the log of every container",
    ),
    ("aws eks get-token signs in", "there is no EKS authenticator here; tokens are in a file"),
    ("deploy-eks connects by the cluster's name", "moto's EKS returns a fictitious endpoint and authority"),
    ("targets of a load balancer become healthy", "there is no load balancer controller"),
];

/// Environment variables of the scenarios.
fn environment(test_run: &TestRun, cluster: &Cluster) -> Result<Environment> {
    Ok(vec![
        ("BP_E2E_KUBECONFIG_ADMIN", cluster.kubeconfig("admin").into()),
        ("BP_E2E_KUBECONFIG_DEPLOYER", cluster.kubeconfig("deployer").into()),
        ("BP_E2E_KUBECONFIG_STRANGER", cluster.kubeconfig("stranger").into()),
        ("BP_E2E_NAMESPACE", NAMESPACE.into()),
        ("BP_E2E_AUDIT", cluster.audit().into()),
        ("BP_E2E_APISERVER_PID", cluster.apiserver_pid().into()),
        ("BP_E2E_KUBECTL", cluster.kubectl_program().into()),
        ("BP_E2E_HELM", test_run.tools.command(HELM)?.get_program().into()),
        ("BP_E2E_AWS_CLI", test_run.tools.command(AWS_CLI)?.get_program().into()),
    ])
}

/// Verifies that the kwok stages write the same status as a kubelet.
fn verify_node(cluster: &Cluster) -> Result<String> {
    cluster.apply("web", &deployment(&digest("a11")))?;
    cluster.admin(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let images = "jsonpath={.items[*].status.containerStatuses[*].imageID}";
    let running = cluster.admin(&["get", "pods", "-l", "app=web", "-o", images])?;
    let expected = digest("a11");
    ensure!(running.matches(&expected).count() == 2, "two pods should run {expected}: {running:?}");

    for (prefix, reason) in FAILURES {
        cluster.apply("web", &deployment(&digest(prefix)))?;
        let waiting = "jsonpath={range .items[*].status.containerStatuses[*]}{.state.waiting.reason} \
                       {.lastState.terminated.exitCode},{end}";
        let mut seen = String::new();
        clock::poll(Duration::from_secs(180), || {
            seen = cluster.admin(&["get", "pods", "-l", "app=web", "-o", waiting]).ok()?;
            seen.contains(reason).then_some(())
        })
        .with_context(|| format!("no pod of {prefix} waits with {reason}: {seen}"))?;
    }
    let log = cluster.admin(&["logs", "deployment/web", "--previous"])?;
    ensure!(log.contains("no database"), "unexpected log: {log:?}");
    cluster.admin(&["delete", "deployment", "web", "--wait"])?;

    cluster.apply("job", &job(&digest("a11")))?;
    cluster.admin(&["wait", "--for=condition=complete", "job/migrate", "--timeout=120s"])?;
    cluster.admin(&["delete", "job", "migrate", "--wait"])?;
    cluster.apply("job", &job(&digest("bad")))?;
    cluster.admin(&["wait", "--for=condition=failed", "job/migrate", "--timeout=120s"])?;
    cluster.admin(&["delete", "job", "migrate", "--wait"])?;
    Ok(String::new())
}

/// Prefixes of digests with the waiting reason of the container and its last exit code.
const FAILURES: [(&str, &str); 6] = [
    ("bad", "CrashLoopBackOff 3,"),
    ("dead", "CrashLoopBackOff 137,"),
    ("c0de", "CrashLoopBackOff 128,"),
    ("404", "ImagePullBackOff ,"),
    ("401", "ErrImagePull ,"),
    ("5ec", "CreateContainerConfigError ,"),
];

/// A Job without retries.
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
