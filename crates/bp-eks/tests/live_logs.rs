//! Live logs and events of new pods during a rollout, on the sandbox in memory with a paused clock.

mod common;

use std::{num::NonZeroU32, num::NonZeroUsize, time::Duration};

use bp_artifact::{Verdict, deploy::DeployEvent};
use bp_eks::{EksTarget, Options, Rollout, options::LiveLogs};
use bp_sandbox::{Behaviour, Effect, Fault, kube::Cluster};
use serde_json::json;

use common::{World, crash};

/// Container (without its pod's name), line and the number of dropped lines before it.
type LogLine = (String, String, u32);

fn target(world: &World, logs: LiveLogs) -> EksTarget {
    world.target_with(|options| options.take_over(true).live_logs(logs))
}

/// The names of the pods with this image, sorted.
fn pods_of(cluster: &Cluster, image: &str) -> Vec<String> {
    let of = |pod: &serde_json::Value| pod["spec"]["containers"][0]["image"] == image;
    let pods = cluster.objects("pods", "prod").into_iter().filter(of);
    pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Runs until the end; returns all events.
async fn end(mut work: Rollout) -> (Vec<DeployEvent>, Verdict) {
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    (events, work.await.unwrap().verdict())
}

fn lines(events: &[DeployEvent]) -> Vec<LogLine> {
    let lines = events.iter().filter_map(|event| match event {
        DeployEvent::Log { source, line, left_out, at, .. } => {
            assert!(at.is_some(), "lines have timestamps");
            Some((source.rsplit('/').next().unwrap().to_owned(), line.clone(), *left_out))
        }
        _ => None,
    });
    lines.collect()
}

fn log_line(container: &str, line: &str, left_out: u32) -> LogLine {
    (container.to_owned(), line.to_owned(), left_out)
}

#[tokio::test(start_paused = true)]
async fn reports_logs_of_new_pods_as_they_are_written() {
    let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(1)).await;
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(30)));
    let old = pods_of(&world.cluster, &world.first.reference.to_string());
    let mut work = target(&world, LiveLogs::default()).deploy(&second);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let new = pods_of(&world.cluster, &second.reference.to_string()).remove(0);
    world.cluster.write_log("prod", &new, "web", &["listening", "\u{1b}[32mgreen\u{1b}[0m"]);
    world.cluster.write_log("prod", &new, "proxy", &["ready"]);
    world.cluster.write_log("prod", &old[0], "web", &["of the revision before"]);
    // Reported during the rollout, not at its end.
    let mut early = Vec::new();
    let soon = tokio::time::Instant::now() + Duration::from_secs(5);
    while let Ok(Some(event)) = tokio::time::timeout_at(soon, work.next_event()).await {
        early.push(event);
    }
    let mut early_lines = lines(&early);
    early_lines.sort();
    assert_eq!(
        early_lines,
        [log_line("proxy", "ready", 0), log_line("web", "green", 0), log_line("web", "listening", 0)]
    );
    let (events, verdict) = end(work).await;
    assert_eq!(verdict, Verdict::Deployed);
    assert_eq!(lines(&events), [], "old pods are not followed");
    assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));
    // One stream per running container.
    assert_eq!(world.sandbox.ledger().count_of("get pods/log"), 2);
}

#[tokio::test(start_paused = true)]
async fn limits_pods_and_lines_and_counts_dropped_lines() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(40)));
    let logs = LiveLogs::default()
        .pods(NonZeroUsize::MIN)
        .lines_per_second(NonZeroU32::new(2).unwrap())
        .line_length(NonZeroUsize::new(5).unwrap());
    let mut work = target(&world, logs).deploy(&second);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let pods = pods_of(&world.cluster, &second.reference.to_string());
    let burst: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
    let burst: Vec<&str> = burst.iter().map(String::as_str).collect();
    world.cluster.write_log("prod", &pods[0], "web", &burst);
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.cluster.write_log("prod", &pods[0], "web", &["last"]);
    let mut events = Vec::new();
    let soon = tokio::time::Instant::now() + Duration::from_secs(5);
    while let Ok(Some(event)) = tokio::time::timeout_at(soon, work.next_event()).await {
        events.push(event);
    }
    // Two in the first second; of the eight others the last one.
    assert_eq!(
        lines(&events),
        [
            log_line("web", "line …", 0),
            log_line("web", "line …", 0),
            log_line("web", "line …", 7),
            log_line("web", "last", 0)
        ]
    );
    assert_eq!(end(work).await.1, Verdict::Deployed);
    // Only one of three pods was followed, each container once.
    assert_eq!(world.sandbox.ledger().count_of("get pods/log"), 2);
}

#[tokio::test(start_paused = true)]
async fn follows_a_restarted_container_again() {
    let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(1)).await;
    let image = world.image("crash", crash());
    let (events, verdict) = end(target(&world, LiveLogs::default()).deploy(&image)).await;
    assert_eq!(verdict, Verdict::RolledBack);
    let all = lines(&events);
    let of_web: Vec<&str> =
        all.iter().filter(|(container, ..)| container == "web").map(|(_, line, _)| line.as_str()).collect();
    // The first start, and the three restarts after which the rollout fails.
    assert_eq!(of_web, ["booting", "fatal: no DATABASE_URL"].repeat(4));
    let position = |wanted: fn(&DeployEvent) -> bool| events.iter().rposition(wanted).unwrap();
    let last_line = position(|event| matches!(event, DeployEvent::Log { .. }));
    assert!(last_line < position(|event| matches!(event, DeployEvent::RollingBack { .. })), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn resumes_a_broken_stream_without_duplicate_lines() {
    let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(1)).await;
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(60)));
    // Cut after the first line: timestamp, space, text and line feed.
    world.sandbox.faults().inject(Fault::new(Effect::CutBody(40)).on("get pods/log"));
    world.sandbox.faults().inject(Fault::status(503).on("get pods/log").times(9));
    let work = target(&world, LiveLogs::default()).deploy(&second);
    for moment in ["one", "two", "six"] {
        tokio::time::sleep(Duration::from_secs(12)).await;
        let pod = pods_of(&world.cluster, &second.reference.to_string()).remove(0);
        world.cluster.write_log("prod", &pod, "web", &[moment]);
    }
    let (events, verdict) = end(work).await;
    assert_eq!(verdict, Verdict::Deployed);
    assert_eq!(
        lines(&events),
        [log_line("web", "one", 0), log_line("web", "two", 0), log_line("web", "six", 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn reports_denied_logs_once_and_continues() {
    let world = World::new().await;
    world.cluster.deny("get", "pods/log");
    let second = world.image("second", Behaviour::default());
    let (events, verdict) = end(target(&world, LiveLogs::default()).deploy(&second)).await;
    assert_eq!(verdict, Verdict::Deployed);
    let notices = events.iter().filter(|event| {
        matches!(event, DeployEvent::Notice { message, .. } if message.contains("cannot follow logs")
            && message.contains("\"get\" on pods/log"))
    });
    assert_eq!(notices.count(), 1, "{events:?}");
    assert_eq!(lines(&events), []);
}

#[tokio::test(start_paused = true)]
async fn reports_job_logs_up_to_the_last_line() {
    let world = World::new().await;
    let image = world.image(
        "migrates",
        Behaviour::Exits {
            after: Duration::from_secs(5),
            code: 0,
            log: vec!["migrating".to_owned(), "done".to_owned()],
        },
    );
    world.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "migrate", "namespace": "prod" },
        "spec": { "template": { "spec": { "restartPolicy": "Never", "containers": [
            { "name": "migrate", "image": world.first.reference.to_string() },
        ] } } },
    }));
    let options = Options::new(Duration::from_secs(300)).unwrap().live_logs(LiveLogs::default());
    let workload = "job/migrate".parse().unwrap();
    let job = world.namespace().workload(workload, options);
    let (events, verdict) = end(job.deploy(&image)).await;
    assert_eq!(verdict, Verdict::Deployed);
    assert_eq!(lines(&events), [log_line("migrate", "migrating", 0), log_line("migrate", "done", 0)]);
}

#[tokio::test(start_paused = true)]
async fn reports_kubernetes_events_of_new_pods_on_request() {
    for wanted in [false, true] {
        let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(1)).await;
        let second = world.image("second", Behaviour::Healthy(Duration::from_secs(5)));
        let target = world.target_with(|options| options.take_over(true).live_events(wanted));
        let (events, verdict) = end(target.deploy(&second)).await;
        assert_eq!(verdict, Verdict::Deployed);
        let pod = pods_of(&world.cluster, &second.reference.to_string()).remove(0);
        let reasons: Vec<&str> = events
            .iter()
            .filter_map(|event| match event {
                DeployEvent::Log { source, line, .. } => {
                    assert_eq!(*source, format!("pod/{pod}"), "old pods are not reported");
                    line.split(':').next()
                }
                _ => None,
            })
            .collect();
        assert_eq!(reasons.contains(&"Pulling") && reasons.contains(&"Started"), wanted, "{reasons:?}");
        assert_eq!(reasons.is_empty(), !wanted);
    }
}
