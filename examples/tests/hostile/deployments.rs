//! Untrusted text in manifests, in the objects of a cluster, and in what the checks of a gate print.

use super::*;

/// A Deployment of the manifests, with this annotation.
fn manifest(name: &str, annotation: &str) -> String {
    let labels = json!({ "app": "api" });
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "annotations": { "owner": annotation } },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "api", "image": "shop/web" }] },
            },
        },
    });
    // YAML has no unescaped control characters.
    bp_artifact::text::json(&object.to_string())
}

#[track_caller]
fn assert_inert_output(end: &Ended) {
    assert_inert(&end.stdout);
    assert_inert(&end.stderr);
}

#[tokio::test]
async fn escapes_manifests_and_the_fields_of_objects() {
    let stage = Stage::new().await;
    let env = ["--env", "staging", "-f", "api.yaml", "--output"];
    stage.write("api.yaml", &manifest("api", &format!("{MARK} {HOSTILE}")));
    assert_eq!(stage.run("deploy-manifests", &[&env[..], &["lines"]].concat()).await.code, 0);
    for output in ["lines", "json"] {
        let arguments = [&env[..], &[output]].concat();
        // The old and the new value of a field.
        stage.write("api.yaml", &manifest("api", &format!("{MARK} again {HOSTILE}")));
        let plan = stage.run("deploy-manifests", &[&arguments[..], &["--check"]].concat()).await;
        assert_escaped(&plan, &[0]);
        // A name that no object can have, and text that is not YAML.
        stage.write("api.yaml", &manifest(HOSTILE, ""));
        let named = stage.run("deploy-manifests", &arguments).await;
        assert_ne!(named.code, 0, "{named:?}");
        assert_inert_output(&named);
        stage.write("api.yaml", &format!("kind: [{HOSTILE}"));
        let broken = stage.run("deploy-manifests", &arguments).await;
        assert_eq!(broken.code, 2, "{broken:?}");
        assert_inert_output(&broken);
        // The words of the API server.
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": HOSTILE,
            "reason": "Invalid", "code": 422 });
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let answer = Fault::new(Effect::Answer { status: 422, headers, body: status.to_string() });
        stage.world.sandbox.faults().inject(answer.on("patch deployments").times(u32::MAX));
        stage.write("api.yaml", &manifest("api", "x"));
        let refused = stage.run("deploy-manifests", &arguments).await;
        assert_ne!(refused.code, 0, "{refused:?}");
        assert_escaped(&refused, &[refused.code]);
        stage.world.sandbox.faults().clear();
    }
}

#[tokio::test]
async fn escapes_what_gates_and_approvers_say() {
    let stage = Stage::new().await;
    // The last line is shown.
    stage.write("said", &format!("{MARK} {}", HOSTILE.replace('\n', "\r")));
    stage.edit_config(
        "[[environment]]\nname = \"prod\"",
        "[environment.gate.smoke]\nafter = \"ecs\"\n\
         command = [\"sh\", \"-c\", \"cat said; cat said >&2; exit 3\"]\ntimeout = \"1s\"\n\n[[environment]]\nname = \"prod\"",
    );
    for output in ["lines", "json"] {
        let end = stage.run("dual-deploy", &["--env", "staging", "--output", output]).await;
        assert_ne!(end.code, 0, "{end:?}");
        assert_escaped(&end, &[end.code]);
    }
    for output in ["lines", "json"] {
        let stage = Stage::new().await;
        stage.edit_config(
            "[[environment]]\nname = \"prod\"",
            "[environment.gate.go-live]\nafter = \"ecs\"\napproval = true\n\n[[environment]]\nname = \"prod\"",
        );
        assert_eq!(stage.run("dual-deploy", &["--env", "staging"]).await.code, 9);
        let approve = ["--env", "staging", "--approve", "go-live", "--output", output];
        let mut command = stage.command("dual-deploy", &approve);
        command.env("GITHUB_ACTOR", HOSTILE);
        let end = ended(command).await;
        assert_eq!(end.code, 0, "{end:?}");
        assert_inert_output(&end);
        for name in ["status", "verify"] {
            assert_inert_output(&stage.run(name, &["--env", "staging", "--output", output]).await);
        }
    }
}
