//! Benchmark: time to report a failure, compared with `helm --wait` and `kubectl rollout status`, and the number of
//! API requests of a rollout. Run by `cargo xtask bench-eks`.
//!
//! The measurement starts when a watch first shows a failing new pod; the time before is the cluster's, and equal for
//! all tools.

use std::{collections::BTreeMap, fmt::Write as _, num::NonZeroU32, time::Duration};

use bp_artifact::{Verdict, deploy::DeployEvent};
use bp_eks::OnFailure;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, WatchEvent, WatchParams};
use serde_json::Value;
use tokio::{process::Command, time::Instant};

use super::{
    kubernetes::helm::{BY_DIGEST, chart},
    real::{EXITS, RUNS, RUNS_TOO, Real, deployment, image, options},
};

/// The number of measurements of bp-eks; the other tools wait for their timeouts, once is enough.
const ROUNDS: usize = 5;
/// Shorter than the defaults of ten and five minutes.
const PROGRESS_DEADLINE: u32 = 30;
const HELM_TIMEOUT: &str = "60s";

/// Waits until a pod of the namespace shows a failure.
async fn first_sign(pods: Api<Pod>) -> Instant {
    let mut changes = pods.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    while let Some(change) = changes.next().await {
        if let Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = change
            && fails(&pod)
        {
            return Instant::now();
        }
    }
    panic!("the watch of the pods ended before one failed")
}

fn fails(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let reasons = containers.filter_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    let mut reasons = reasons.filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"));
    reasons.next().is_some()
}

async fn namespace(name: &str) -> (Real, Api<Pod>) {
    let real = Real::with(name, &deployment(RUNS)).await;
    let deadline = format!(r#"{{"spec":{{"progressDeadlineSeconds":{PROGRESS_DEADLINE}}}}}"#);
    real.patch("deployment", &deadline).await;
    let pods = Api::namespaced(real.client("admin").await, &real.namespace);
    (real, pods)
}

/// The time from the first sign to the report of bp-eks, and the report.
async fn ours(beginning: &str, round: usize) -> (Duration, String) {
    let (real, pods) = namespace(&format!("bench-bp-{beginning}-{round}")).await;
    let sign = tokio::spawn(first_sign(pods));
    // The first sign of a crash loop is its first restart.
    let options = options(120).on_failure(OnFailure::Leave).restarts(NonZeroU32::MIN);
    let target = real.target("deployment/web", options).await;
    let mut work = target.deploy(&image(beginning));
    let mut told = None;
    while let Some(event) = work.next_event().await {
        if let DeployEvent::Failing { failure, .. } = event {
            told = Some((Instant::now(), failure.to_string()));
        }
    }
    let (at, says) = told.expect("a failure is reported");
    let took = at.saturating_duration_since(sign.await.unwrap());
    real.leave().await;
    (took, says)
}

/// The time from the first sign until `command` ends, and its last error line.
async fn until_end(pods: Api<Pod>, mut command: Command) -> (Duration, String) {
    let sign = tokio::spawn(first_sign(pods));
    let ended = command.output().await.unwrap();
    let at = Instant::now();
    assert!(!ended.status.success(), "must fail: {ended:?}");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    let says = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    (at.saturating_duration_since(sign.await.unwrap()), says)
}

async fn kubectl(beginning: &str) -> (Duration, String) {
    let (real, pods) = namespace(&format!("bench-kubectl-{beginning}")).await;
    let container = format!("web={}", image(beginning).reference);
    real.admin(&["set", "image", "deployment/web", &container]).await;
    let status = real.kubectl("admin", &["rollout", "status", "deployment/web", "--timeout=300s"]);
    let ended = until_end(pods, status).await;
    real.leave().await;
    ended
}

async fn helm(beginning: &str) -> (Duration, String) {
    let real = Real::new(&format!("bench-helm-{beginning}")).await;
    let chart = chart(&format!("bench-{beginning}"), BY_DIGEST);
    let helm = |beginning: &str| {
        let mut helm = Command::new(std::env::var("BP_E2E_HELM").expect("BP_E2E_HELM: the program"));
        let image = image(beginning).reference;
        helm.env("KUBECONFIG", std::env::var("BP_E2E_KUBECONFIG_ADMIN").unwrap());
        helm.args(["upgrade", "--install", "web"]).arg(&chart).args(["--namespace", &real.namespace]);
        helm.args(["--wait=watcher", "--timeout", HELM_TIMEOUT, "--set"]);
        helm.arg(format!("image.repository={},image.digest={}", image.repository(), image.digest()));
        helm.arg("--set").arg(format!("progressDeadlineSeconds={PROGRESS_DEADLINE}"));
        helm
    };
    assert!(helm(RUNS).output().await.unwrap().status.success());
    let pods = Api::namespaced(real.client("admin").await, &real.namespace);
    let ended = until_end(pods, helm(beginning)).await;
    let _ = std::fs::remove_dir_all(&chart);
    real.leave().await;
    ended
}

/// A table cell: escaped and truncated.
fn cell(text: &str) -> String {
    let text = text.replace('|', "/");
    match text.char_indices().nth(110) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: cargo xtask bench-eks"]
async fn time_to_report_a_failure() {
    let mut table =
        String::from("| failure | tool | after it appears in the API | reports |\n|---|---|---|---|\n");
    for (beginning, what) in
        [(EXITS, "the program exits"), ("404", "no such image"), ("dead", "out of memory")]
    {
        // The other tools run at the same time, in other namespaces of the same cluster.
        let others = tokio::spawn(async move { tokio::join!(kubectl(beginning), helm(beginning)) });
        let mut measured = Vec::new();
        for round in 0..ROUNDS {
            measured.push(ours(beginning, round).await);
        }
        measured.sort();
        let (least, (median, says), most) =
            (measured[0].0, measured[ROUNDS / 2].clone(), measured[ROUNDS - 1].0);
        let ours = format!("{} ms ({} to {})", median.as_millis(), least.as_millis(), most.as_millis());
        let (kubectl, helm) = others.await.unwrap();
        for (who, took, says) in [
            ("bp-eks", ours, says),
            ("`kubectl rollout status`", format!("{:.1} s", kubectl.0.as_secs_f64()), kubectl.1),
            ("`helm upgrade --wait`", format!("{:.1} s", helm.0.as_secs_f64()), helm.1),
        ] {
            writeln!(table, "| {what} | {who} | {took} | {} |", cell(&says)).unwrap();
        }
        assert!(
            median < Duration::from_secs(1),
            "{what}: reported within a second after the first sign: {median:?}"
        );
        assert!(median < kubectl.0 && median < helm.0);
    }
    std::fs::write(std::env::var("BP_BENCH_RESULT").expect("BP_BENCH_RESULT: a file"), table).unwrap();
}

/// The number of requests in a namespace by verb and resource.
fn requests(real: &Real) -> BTreeMap<String, usize> {
    // The audit log has two entries per watch.
    let one = |line: &Value| line["verb"] == "watch" && line["stage"] == "ResponseComplete";
    let mut requests = BTreeMap::new();
    for line in real.requests().into_iter().filter(|line| !one(line)) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}", text(&line["verb"]), text(&line["objectRef"]["resource"]));
        *requests.entry(name).or_default() += 1;
    }
    requests
}

/// The requests and the duration of a rollout with `replicas` pods.
async fn cost(replicas: u32) -> (BTreeMap<String, usize>, Duration) {
    let many = deployment(RUNS).replace("replicas: 3", &format!("replicas: {replicas}"));
    let many = many.replace("progressDeadlineSeconds: 60", "progressDeadlineSeconds: 600");
    let real = Real::new(&format!("bench-cost-{replicas}")).await;
    real.apply(&many).await;
    real.admin(&["rollout", "status", "deployment/web", "--timeout=480s"]).await;
    let target = real.target("deployment/web", options(480)).await;
    let begun = Instant::now();
    let outcome = target.deploy(&image(RUNS_TOO)).await.unwrap();
    let took = begun.elapsed();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, replicas as usize));
    let requests = requests(&real);
    real.leave().await;
    (requests, took)
}

/// The peak memory of this process in MiB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Runs alone in its process, whose peak memory is that of the rollout.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: cargo xtask bench-eks"]
async fn requests_and_memory_of_a_thousand_pods() {
    let before = peak_memory();
    let (requests, took) = cost(1_000).await;
    let memory = peak_memory();
    let all: usize = requests.values().sum();
    let table = format!(
        "| pods | seconds | requests | peak memory | before the rollout |\n|---|---|---|---|---|\n\
         | 1,000 | {:.0} | {all} | {memory:.0} MiB | {before:.0} MiB |\n",
        took.as_secs_f64()
    );
    assert!(all <= 20 && memory <= 64.0, "at most 20 requests and 64 MiB: {table} {requests:?}");
    std::fs::write(std::env::var("BP_BENCH_RESULT").expect("BP_BENCH_RESULT: a file"), table).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: cargo xtask bench-eks"]
async fn api_requests_of_a_rollout() {
    let mut table = String::from(
        "| pods | seconds | requests | of these watches | all requests |\n|---|---|---|---|---|\n",
    );
    let mut counts = Vec::new();
    for replicas in [3, 100] {
        let (requests, took) = cost(replicas).await;
        let all: usize = requests.values().sum();
        let watches =
            requests.iter().filter(|(name, _)| name.starts_with("watch")).map(|(_, n)| n).sum::<usize>();
        let named: Vec<String> = requests.iter().map(|(name, n)| format!("{n} {name}")).collect();
        writeln!(
            table,
            "| {replicas} | {:.0} | {all} | {watches} | {} |",
            took.as_secs_f64(),
            named.join(", ")
        )
        .unwrap();
        counts.push((all, watches));
    }
    assert_eq!(counts[0], counts[1], "independent of the number of pods: {table}");
    std::fs::write(std::env::var("BP_BENCH_RESULT").expect("BP_BENCH_RESULT: a file"), table).unwrap();
}
