//! kubectl and `aws eks` against the sandbox's EKS cluster.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    super::{
        everyday::{self, Clients},
        test_run::TestRun,
    },
    client::{expect_failure, expect_success},
    server::SandboxServer,
};
use crate::clock;

const SERVER: &str = "sandbox EKS";

pub(super) fn run(test_run: &mut TestRun, sandbox: &SandboxServer) {
    let mut scenario = |name: &str, body: fn(&SandboxServer) -> Result<String>| {
        test_run.table.scenario(SERVER, name, || body(sandbox))
    };
    scenario("aws eks update-kubeconfig, and kubectl with aws-cli's token", connects);
    scenario("kubectl applies a Deployment and waits for it", deploys);
    scenario("kubectl apply --server-side reports a conflict", conflicts);
    scenario("kubectl shows a crash with its log and events, and undoes it", crashes);
}

/// The commands that also run on the real API server.
pub(super) fn run_everyday(test_run: &mut TestRun, sandbox: &SandboxServer) {
    let connects = || connect(sandbox).map(|_| String::new());
    test_run.table.scenario(SERVER, "kubectl connects to an accelerated sandbox", connects);
    let home = sandbox.home().join("everyday");
    let (image, broken) = (&sandbox.image().digest, sandbox.broken());
    let client = |mut client: Command| {
        client.env("KUBECONFIG", sandbox.home().join("kubeconfig"));
        client
    };
    let clients = Clients {
        server: SERVER,
        kubectl: &|arguments| sandbox.kubectl(arguments).map(client),
        helm: &|arguments| sandbox.helm(arguments).map(client),
        home: &home,
        image: format!("registry.example.com/shop/web@{image}"),
        broken: format!("registry.example.com/shop/web@{broken}"),
    };
    everyday::run(test_run, &clients);
}

fn kubectl(sandbox: &SandboxServer, arguments: &[&str]) -> Result<Command> {
    let mut kubectl = sandbox.kubectl(arguments)?;
    kubectl.env("KUBECONFIG", sandbox.home().join("kubeconfig"));
    Ok(kubectl)
}

fn run_kubectl(sandbox: &SandboxServer, arguments: &[&str]) -> Result<String> {
    expect_success(&mut kubectl(sandbox, arguments)?)
}

/// Writes the kubeconfig.
fn connect(sandbox: &SandboxServer) -> Result<String> {
    let update = ["eks", "update-kubeconfig", "--name", "staging", "--kubeconfig", "kubeconfig"];
    expect_success(&mut sandbox.aws(&update)?)
}

fn connects(sandbox: &SandboxServer) -> Result<String> {
    connect(sandbox)?;
    let seen = run_kubectl(sandbox, &["get", "namespaces", "-o", "name"])?;
    ensure!(seen.contains("namespace/default"), "unexpected output of kubectl get namespaces: {seen:?}");
    let mut stranger = kubectl(sandbox, &["get", "namespaces"])?;
    let error = expect_failure(stranger.env("AWS_SECRET_ACCESS_KEY", "another"))?;
    ensure!(
        error.contains("Unauthorized") || error.contains("logged in"),
        "unexpected error of kubectl: {error:?}"
    );
    Ok(String::new())
}

/// A Deployment with an image of the plain registry.
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

fn deploys(sandbox: &SandboxServer) -> Result<String> {
    let digest = &sandbox.image().digest;
    fs::write(sandbox.home().join("web.yaml"), deployment(digest, 2))?;
    run_kubectl(sandbox, &["apply", "--server-side", "--field-manager=team", "-f", "web.yaml"])?;
    expect_success(&mut kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=120s"])?)?;
    let running = run_kubectl(
        sandbox,
        &["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[*].imageID}"],
    )?;
    ensure!(running.split_whitespace().count() == 2, "two pods should run: {running:?}");
    let ready =
        run_kubectl(sandbox, &["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"])?;
    ensure!(ready == "2", "{ready:?} replicas are ready");
    let shown = run_kubectl(sandbox, &["get", "deployment,pods"])?;
    for columns in
        [["NAME", "READY", "UP-TO-DATE"], ["deployment.apps/web", "2/2", "2"], ["pod/web-", "1/1", "Running"]]
    {
        let line = shown.lines().find(|line| columns.iter().all(|word| line.contains(word)));
        ensure!(line.is_some(), "no line with {columns:?} in the output of kubectl get:\n{shown}");
    }
    Ok(String::new())
}

fn conflicts(sandbox: &SandboxServer) -> Result<String> {
    fs::write(sandbox.home().join("other.yaml"), deployment(&sandbox.image().digest, 5))?;
    let apply = ["apply", "--server-side", "--field-manager=other", "-f", "other.yaml"];
    let error = expect_failure(&mut kubectl(sandbox, &apply)?)?;
    ensure!(
        error.contains("conflict with \"team\"") && error.contains(".spec.replicas"),
        "unexpected error of kubectl: {error:?}"
    );
    run_kubectl(sandbox, &[&apply[..], &["--force-conflicts"]].concat())?;
    expect_success(&mut kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=120s"])?)?;
    Ok(String::new())
}

fn crashes(sandbox: &SandboxServer) -> Result<String> {
    let broken = format!("web=registry.example.com/shop/web@{}", sandbox.broken());
    run_kubectl(sandbox, &["set", "image", "deployment/web", &broken])?;
    let reasons = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    clock::poll(Duration::from_secs(180), || {
        let seen = run_kubectl(sandbox, &["get", "pods", "-l", "app=web", "-o", reasons]).ok()?;
        seen.contains("CrashLoopBackOff").then_some(())
    })
    .context("no pod is in CrashLoopBackOff within 180 s")?;
    let crashing =
        "jsonpath={range .items[?(@.status.containerStatuses[0].state.waiting)]}{.metadata.name} {end}";
    let pods = run_kubectl(sandbox, &["get", "pods", "-l", "app=web", "-o", crashing])?;
    let pod = pods.split_whitespace().next().context("no crashing pod found")?;
    let log = run_kubectl(sandbox, &["logs", pod, "--previous"])?;
    ensure!(log.contains("no database"), "unexpected log: {log:?}");
    let of_pod = format!("involvedObject.name={pod}");
    let reasons = ["get", "events", "--field-selector", &of_pod, "-o", "jsonpath={.items[*].reason}"];
    let events = run_kubectl(sandbox, &reasons)?;
    ensure!(events.contains("BackOff"), "unexpected events: {events:?}");
    run_kubectl(sandbox, &["rollout", "undo", "deployment/web"])?;
    expect_success(&mut kubectl(sandbox, &["rollout", "status", "deployment/web", "--timeout=120s"])?)?;
    Ok(String::new())
}
