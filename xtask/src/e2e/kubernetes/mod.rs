//! The line on a real control plane.

mod cluster;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::cluster::Cluster;
use super::Stage;
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
    let table = &mut stage.table;
    table.scenario(SERVER, "the node runs what the digest says", || node_is_true(&cluster));
    Ok(())
}

/// The judge is judged first: what the stages write must be what a kubelet writes.
fn node_is_true(cluster: &Cluster) -> Result<String> {
    cluster.apply("web", &deployment(&digest("a11")))?;
    cluster.admin(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let running = cluster.admin(&[
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].imageID}",
    ])?;
    ensure!(
        running.matches(&digest("a11")).count() == 2,
        "two pods should run {}: {running:?}",
        digest("a11")
    );

    for (beginning, reason) in
        [("bad", "CrashLoopBackOff 3,"), ("404", "ErrImagePull ,"), ("5ec", "CreateContainerConfigError ,")]
    {
        cluster.apply("web", &deployment(&digest(beginning)))?;
        let waiting = "jsonpath={range .items[*].status.containerStatuses[*]}{.state.waiting.reason} \
                       {.lastState.terminated.exitCode},{end}";
        clock::poll(Duration::from_secs(30), || {
            let reasons = cluster.admin(&["get", "pods", "-l", "app=web", "-o", waiting]).ok()?;
            reasons.contains(reason).then_some(())
        })
        .with_context(|| format!("no pod of {beginning} waits with {reason}"))?;
    }
    cluster.admin(&["delete", "deployment", "web", "--wait"])?;
    Ok(String::new())
}
