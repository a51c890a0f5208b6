//! The simulation under a quota, many times.

use std::time::Duration;

use serde_json::json;

use crate::client::{Api, DEPLOYMENTS, MERGE, deployment};

/// A namespace with a quota below what its Deployments want, which are scaled and rolled out: the controllers must not
/// spin. A review found a sandbox that used a whole processor for 15 minutes in such a namespace.
#[tokio::test(start_paused = true)]
async fn controllers_do_not_spin_when_fewer_pods_are_allowed_than_wanted() {
    for run in 0..200_u32 {
        let api = Api::new();
        api.post(DEPLOYMENTS, &deployment("web", 2)).await;
        assert!(api.cluster.settled("shop", "web").await);
        let allowed = run % 3;
        api.cluster.create(json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "pods", "namespace": "shop" }, "spec": { "hard": { "pods": allowed } },
        }));
        let scale = json!({ "spec": { "replicas": 1 + run % 4 } });
        api.patch(&format!("{DEPLOYMENTS}/web/scale"), MERGE, &scale).await;
        tokio::time::sleep(Duration::from_millis(u64::from(run) * 37 % 1_000)).await;
        let roll =
            json!({ "spec": { "template": { "metadata": { "annotations": { "run": run.to_string() } } } } });
        api.patch(&format!("{DEPLOYMENTS}/web"), MERGE, &roll).await;
        let changes = || async {
            let list = api.get(DEPLOYMENTS).await.json();
            list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
        };
        let first = changes().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let last = changes().await;
        assert!(last - first < 200, "{} changes in 20 s of run {run}", last - first);
    }
}
