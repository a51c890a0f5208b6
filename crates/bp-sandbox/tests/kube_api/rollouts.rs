//! What `kubectl rollout` reads and writes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Api, DEPLOYMENTS, MERGE, STRATEGIC, deployment};

/// The revisions of a Deployment with their change cause, as `kubectl rollout history` reads them.
fn history(api: &Api) -> Vec<(String, Value)> {
    let sets = api.cluster.objects("replicasets", "shop");
    let entry = |set: &Value| {
        let annotations = &set["metadata"]["annotations"];
        let revision = annotations["deployment.kubernetes.io/revision"].as_str().unwrap().to_owned();
        (revision, annotations["kubernetes.io/change-cause"].clone())
    };
    let mut history: Vec<_> = sets.iter().map(entry).collect();
    history.sort_by(|a, b| a.0.cmp(&b.0));
    history
}

#[tokio::test(start_paused = true)]
async fn a_change_cause_belongs_to_the_revision_that_it_was_written_for() {
    let api = Api::new();
    let web = format!("{DEPLOYMENTS}/web");
    api.post(DEPLOYMENTS, &deployment("web", 1)).await;
    assert!(api.cluster.settled("shop", "web").await);
    let change = json!({
        "metadata": { "annotations": { "kubernetes.io/change-cause": "red" } },
        "spec": { "template": { "metadata": { "annotations": { "colour": "red" } } } },
    });
    api.patch(&web, STRATEGIC, &change).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(history(&api), [("1".to_owned(), Value::Null), ("2".to_owned(), json!("red"))]);
    let set = api.cluster.objects("replicasets", "shop").remove(0);
    assert!(set["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"].is_string());

    // An undo makes the first template the newest revision, with the cause that the Deployment has now.
    let undo = json!({ "spec": { "template": { "metadata": { "annotations": null } } } });
    api.patch(&web, MERGE, &undo).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(history(&api), [("2".to_owned(), json!("red")), ("3".to_owned(), json!("red"))]);
}
