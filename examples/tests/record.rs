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

#[tokio::test]
async fn records_a_namespace() {
    let stage = Stage::of_services().await;
    let staging = ["--env", "staging", "--namespace"];
    let end = stage.run("record", &[&staging[..], &["shop", "--service", "web"]].concat()).await;
    assert!(end.code == 2 && end.stderr.contains("--service has no effect with --namespace"), "{end:?}");
    let end = stage.run("record", &[&staging[..], &["absent"]].concat()).await;
    assert!(end.code == 2 && end.stderr.contains("the namespace \"absent\" does not exist"), "{end:?}");

    let (cluster, kubeconfig) = stage.world.kubeconfigs().remove(0);
    stage.world.sandbox.cluster(&cluster).deny("list", "statefulsets");
    let end = stage.run("record", &[&staging[..], &["shop"]].concat()).await;
    assert_eq!(end.code, 7, "{end:?}");
    let denied =
        "MISSING statefulsets: cannot observe: the verb \"list\" on statefulsets.apps is denied (403)";
    assert!(end.stdout.contains(denied), "{end:?}");
    let recording = Recording::read(stage.path("recording.json")).unwrap();
    assert_eq!(recording.kind, "eks-namespace");
    assert_eq!(recording.missing[0].permission.as_deref(), Some("list statefulsets.apps"));
    assert!(!recording.data["pods"].as_array().unwrap().is_empty());

    // With a kubeconfig: no AWS credentials, and a cluster that bp.toml does not contain.
    stage.world.sandbox.cluster(&cluster).allow("list", "statefulsets");
    stage.write("kubeconfig", &kubeconfig);
    let mut command = stage.command("record", &[&staging[..], &["shop", "--cluster", "other"]].concat());
    command.env("BP_KUBECONFIG", stage.path("kubeconfig")).env_remove("AWS_ACCESS_KEY_ID");
    let end = common::ended(command).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(stage.changes(), 0);
}
