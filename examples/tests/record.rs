//! `record`: writes the redacted state of a service to one file.
#![cfg(feature = "sandbox")]

mod common;

use bp_artifact::recording::Recording;
use common::Stage;

#[tokio::test]
async fn records_a_service_on_each_platform() {
    let stage = Stage::of_services().await;
    let web = ["--env", "staging", "--service", "web"];
    let end = stage.run("record", &web).await;
    assert!(end.code == 2 && end.stderr.contains("choose with --platform"), "{end:?}");
    for (platform, kind, part) in
        [("ecs", "ecs-service", "describeServices"), ("eks", "eks-workload", "pods")]
    {
        let file = ["--platform", platform, "--file", "incident.json"];
        let end = stage.run("record", &[&web[..], &file].concat()).await;
        assert_eq!(end.code, 0, "{end:?}");
        assert!(end.stdout.starts_with("incident.json written; replaced: "), "{end:?}");
        let recording = Recording::read(stage.path("incident.json")).unwrap();
        assert_eq!(recording.kind, kind);
        assert!(recording.data.contains_key(part), "{:?}", recording.data.keys());
        assert!(!stage.read("incident.json").contains("222222222222"));
    }
    assert_eq!(stage.changes(), 0);
    let end = stage.run("record", &["--env", "staging", "--service", "worker", "--platform", "eks"]).await;
    assert_eq!(end.code, 2, "{end:?}");
}
