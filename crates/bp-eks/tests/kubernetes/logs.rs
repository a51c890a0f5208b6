//! Live logs of new pods through a real API server.

use std::num::NonZeroUsize;

use bp_artifact::{Verdict, deploy::DeployEvent};
use bp_eks::options::LiveLogs;

use crate::real::{READY_LATER, RUNS, Real, deploy, deployment, image, options};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn reports_logs_of_new_pods_during_the_rollout() {
    let real = Real::with("logs", &deployment(RUNS)).await;
    let logs = LiveLogs::default().pods(NonZeroUsize::MIN.saturating_add(1));
    let target = real.target("deployment/web", options(60).live_logs(logs).live_events(true)).await;
    let (events, outcome) = deploy(&target, &image(READY_LATER)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    let new: Vec<String> = target
        .prove()
        .await
        .unwrap()
        .observations
        .into_iter()
        .map(|observation| format!("{}/{}", observation.unit, observation.container))
        .collect();
    let of_web: Vec<(&str, &str, Option<String>)> = events
        .iter()
        .filter_map(|event| match event {
            DeployEvent::Log { source, line, at, .. } if source.ends_with("/web") => {
                Some((source.as_str(), line.as_str(), at.map(|at| at.to_string())))
            }
            _ => None,
        })
        .collect();
    // The node has the same two lines for every container; two pods are followed at a time, only new ones.
    for (line, at) in [("starting", "2026-01-01T00:00:01Z"), ("no database", "2026-01-01T00:00:02Z")] {
        let sources: Vec<&str> = of_web.iter().filter(|log| log.1 == line).map(|log| log.0).collect();
        assert_eq!(sources.len(), 2, "{line}: {of_web:?}");
        assert!(sources.iter().all(|source| new.contains(&(*source).to_owned())), "{sources:?} of {new:?}");
        assert!(of_web.iter().all(|log| log.1 != line || log.2.as_deref() == Some(at)), "{of_web:?}");
    }
    let scheduled: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            DeployEvent::Log { source, line, at, .. } if line.starts_with("Scheduled: ") => {
                assert!(at.is_some(), "the scheduler's events have a time");
                Some(source.as_str())
            }
            _ => None,
        })
        .collect();
    assert!(!scheduled.is_empty(), "{events:?}");
    assert!(scheduled.iter().all(|pod| new.contains(&format!("{pod}/web"))), "{scheduled:?} of {new:?}");
    let position = |wanted: fn(&DeployEvent) -> bool| events.iter().rposition(wanted).unwrap();
    let last_line = position(|event| matches!(event, DeployEvent::Log { .. }));
    let progress = position(|event| matches!(event, DeployEvent::Progress { .. }));
    assert!(last_line < progress, "reported during the rollout");
    assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));
    real.leave().await;
}
