//! kubectl and `aws eks` against the sandbox's cluster.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    super::stage::Stage,
    client::{done, refused},
    world::World,
};
use crate::clock;

const SERVER: &str = "sandbox EKS";

pub(super) fn run(stage: &mut Stage, world: &World) {
    let mut scenario =
        |name: &str, body: fn(&World) -> Result<String>| stage.table.scenario(SERVER, name, || body(world));
    scenario("aws eks update-kubeconfig, and kubectl with aws-cli's token", connects);
    scenario("kubectl applies a Deployment and waits for it", deploys);
    scenario("kubectl apply --server-side is told of a conflict", conflicts);
    scenario("kubectl sees a crash, its log and its events, and undoes it", crashes);
    stage.table.real_only(
        SERVER,
        "helm installs, upgrades, rolls back",
        "helm sends the Secrets of its releases as protobuf, and the sandbox reads JSON alone",
    );
}

fn kubectl(world: &World, arguments: &[&str]) -> Result<Command> {
    let mut kubectl = world.kubectl(arguments)?;
    kubectl.env("KUBECONFIG", world.home().join("kubeconfig"));
    Ok(kubectl)
}

fn run_kubectl(world: &World, arguments: &[&str]) -> Result<String> {
    done(&mut kubectl(world, arguments)?)
}

fn connects(world: &World) -> Result<String> {
    done(&mut world.aws(&[
        "eks",
        "update-kubeconfig",
        "--name",
        "staging",
        "--kubeconfig",
        "kubeconfig",
    ])?)?;
    let seen = run_kubectl(world, &["get", "namespaces", "-o", "name"])?;
    ensure!(seen.contains("namespace/default"), "kubectl sees {seen:?}");
    let mut stranger = kubectl(world, &["get", "namespaces"])?;
    let said = refused(stranger.env("AWS_SECRET_ACCESS_KEY", "another"))?;
    ensure!(said.contains("Unauthorized") || said.contains("logged in"), "kubectl says {said:?}");
    Ok(String::new())
}

/// A Deployment of the shop with an image of the first registry.
fn deployment(digest: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, namespace: default, labels: {{ app: web }} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      containers:
      - {{ name: web, image: "registry.example.com/shop/web@{digest}" }}
"#
    )
}

fn deploys(world: &World) -> Result<String> {
    let digest = &world.image().digest;
    fs::write(world.home().join("web.yaml"), deployment(digest, 2))?;
    run_kubectl(world, &["apply", "--server-side", "--field-manager=team", "-f", "web.yaml"])?;
    done(&mut kubectl(world, &["rollout", "status", "deployment/web", "--timeout=120s"])?)?;
    let running = run_kubectl(
        world,
        &["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[*].imageID}"],
    )?;
    ensure!(running.split_whitespace().count() == 2, "two pods should run: {running:?}");
    let ready = run_kubectl(world, &["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"])?;
    ensure!(ready == "2", "{ready:?} replicas are ready");
    let shown = run_kubectl(world, &["get", "deployment,pods"])?;
    for words in
        [["NAME", "READY", "UP-TO-DATE"], ["deployment.apps/web", "2/2", "2"], ["pod/web-", "1/1", "Running"]]
    {
        let line = shown.lines().find(|line| words.iter().all(|word| line.contains(word)));
        ensure!(line.is_some(), "kubectl get shows no line with {words:?}:\n{shown}");
    }
    Ok(String::new())
}

fn conflicts(world: &World) -> Result<String> {
    fs::write(world.home().join("other.yaml"), deployment(&world.image().digest, 5))?;
    let apply = ["apply", "--server-side", "--field-manager=other", "-f", "other.yaml"];
    let said = refused(&mut kubectl(world, &apply)?)?;
    ensure!(
        said.contains("conflict with \"team\"") && said.contains(".spec.replicas"),
        "kubectl says {said:?}"
    );
    run_kubectl(world, &[&apply[..], &["--force-conflicts"]].concat())?;
    done(&mut kubectl(world, &["rollout", "status", "deployment/web", "--timeout=120s"])?)?;
    Ok(String::new())
}

fn crashes(world: &World) -> Result<String> {
    let broken = format!("web=registry.example.com/shop/web@{}", world.broken());
    run_kubectl(world, &["set", "image", "deployment/web", &broken])?;
    let reasons = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    clock::poll(Duration::from_secs(180), || {
        let seen = run_kubectl(world, &["get", "pods", "-l", "app=web", "-o", reasons]).ok()?;
        seen.contains("CrashLoopBackOff").then_some(())
    })
    .context("no pod is in CrashLoopBackOff within 180 s")?;
    let crashing =
        "jsonpath={range .items[?(@.status.containerStatuses[0].state.waiting)]}{.metadata.name} {end}";
    let pods = run_kubectl(world, &["get", "pods", "-l", "app=web", "-o", crashing])?;
    let pod = pods.split_whitespace().next().context("no pod crashes")?;
    let log = run_kubectl(world, &["logs", pod, "--previous"])?;
    ensure!(log.contains("no database"), "the log says {log:?}");
    let of_pod = format!("involvedObject.name={pod}");
    let reasons = ["get", "events", "--field-selector", &of_pod, "-o", "jsonpath={.items[*].reason}"];
    let events = run_kubectl(world, &reasons)?;
    ensure!(events.contains("BackOff"), "the events are {events:?}");
    run_kubectl(world, &["rollout", "undo", "deployment/web"])?;
    done(&mut kubectl(world, &["rollout", "status", "deployment/web", "--timeout=120s"])?)?;
    Ok(String::new())
}
