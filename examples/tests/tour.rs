//! The tour of the sandbox: versions that `sandbox push` builds are deployed, and rolled back.
#![cfg(feature = "sandbox")]

mod common;

use common::Stage;

#[tokio::test]
async fn pushes_a_version_and_one_that_fails() {
    let stage = Stage::of_services().await;
    std::fs::remove_file(stage.path("artifact.json")).unwrap();
    for (version, fails, code) in [("2.0.0", false, 0), ("2.1.0", true, 3)] {
        let push = ["push", version, "--failing"];
        let end = stage.run("sandbox", &push[..2 + usize::from(fails)]).await;
        assert_eq!((end.code, end.stdout.trim()), (0, "artifact.json written"), "{end:?}");
        assert!(stage.read("artifact.json").contains(version));
        let end = stage.run("promote", &["--to", "staging", "--all"]).await;
        assert_eq!(end.code, 0, "{end:?}");
        let end = stage.run("dual-deploy", &["--env", "staging", "--all"]).await;
        assert_eq!(end.code, code, "{end:?}");
        assert_eq!(
            end.stderr.contains("cannot read /app/config.toml") || end.stderr.contains("exit code 78"),
            fails
        );
    }
    let end = stage.run("status", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{end:?}");
}
