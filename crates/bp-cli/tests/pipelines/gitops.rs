//! The GitOps repository of `examples/gitops`: its workflow commits a promoted digest, and its manifests run on the sandbox.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    github::Run,
    site::{Site, copy},
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/gitops");

fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"];
    let output = Command::new("git").args(identity).args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The documents of a YAML file of the example.
fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{EXAMPLE}/{file}")).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_commits_the_digest_to_the_overlay() {
    let site = Site::new().await;
    let repository = site.path("repository");
    copy(Path::new(EXAMPLE), &repository);
    git(&repository, &["init", "--quiet", "--initial-branch", "main"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "--message", "manifests"]);
    let bare = site.path("bare");
    git(&site.path(""), &["clone", "--quiet", "--bare", "repository", "bare"]);
    // The address of GitHub is this machine's.
    let hosted = "https://x-access-token:token-of-the-job@github.com/example/shop";
    let config = format!("[url \"{}\"]\n    insteadOf = {hosted}\n", bare.display());
    fs::write(site.path(".gitconfig"), config).unwrap();

    let image = site.push("shop/web", "web", "1.4.0", "v1.4.0");
    let overlay = || git(&bare, &["show", "main:web/overlays/staging/kustomization.yaml"]);
    let before = overlay();
    for _ in 0..2 {
        // The second run finds the digest in the overlay, and commits nothing.
        let run = Run::new(&site, "workflow_dispatch", "refs/heads/main", super::HEAD);
        let inputs = [("version", "v1.4.0"), ("environment", "staging")];
        run.workflow("gitops/promote.yml", &inputs).await.unwrap();
        git(&repository, &["pull", "--quiet", bare.to_str().unwrap(), "main"]);
    }
    assert_eq!(git(&bare, &["rev-list", "--count", "main"]).trim(), "2");
    let changed = before
        .lines()
        .zip(overlay().lines())
        .filter(|(a, b)| a != b)
        .map(|(_, line)| line.trim().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(changed, [format!("digest: {}", image.digest())]);
    assert!(!git(&bare, &["show", "main:web/overlays/prod/kustomization.yaml"]).contains(image.digest()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jobs_of_the_pull_secret_create_it_once() {
    let site = Site::new().await;
    let all = documents("platform/pull-secret.yaml");
    let of = |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap();
    let (cron, once) = (&of("CronJob")["spec"]["jobTemplate"]["spec"], &of("Job")["spec"]);
    assert_eq!(cron, once, "the Job does what the CronJob does");
    let pod = &once["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], of("ServiceAccount")["metadata"]["name"]);
    let container = &pod["containers"][0];
    let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    let command = arguments.collect::<Vec<_>>().join(" ");
    let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    let command = format!("bp {}", command.replace(mount, &format!("{EXAMPLE}/platform")));

    // Pod Identity gives the pod a role of the cluster's account.
    let aws = site.world.sandbox.aws();
    aws.access_key_as(
        "AKIAPODIDENTITY00000",
        "333333333333",
        "arn:aws:sts::333333333333:assumed-role/pull-secret/pod",
    );
    let script = format!("export AWS_ACCESS_KEY_ID=AKIAPODIDENTITY00000\n{command}");
    let ledger = site.world.sandbox.ledger();
    for _ in 0..2 {
        let ended = site.shell(&site.path("state"), &script).await;
        assert_eq!(ended.code, 0, "{}", ended.output);
    }
    assert_eq!(ledger.count_of("ecr:GetAuthorizationToken"), 1, "the second run has nothing to do");
    assert_eq!(ledger.count_of("patch secrets"), 1);
}

#[test]
fn applications_have_paths_of_the_repository_and_images_have_digests() {
    let mut files = vec!["root.yaml".to_owned()];
    files.extend(
        fs::read_dir(format!("{EXAMPLE}/apps"))
            .unwrap()
            .map(|entry| format!("apps/{}", entry.unwrap().file_name().to_string_lossy())),
    );
    assert!(files.len() > 3);
    for file in &files {
        let application = &documents(file)[0];
        assert_eq!(
            (&application["apiVersion"], &application["kind"]),
            (&json!("argoproj.io/v1alpha1"), &json!("Application"))
        );
        let path = application["spec"]["source"]["path"].as_str().unwrap();
        assert!(Path::new(EXAMPLE).join(path).is_dir(), "{file}: {path}");
        assert!(application["spec"]["destination"]["namespace"].is_string());
    }
    let copied = fs::read_to_string(format!("{EXAMPLE}/platform/pull-secret-rbac.yaml")).unwrap();
    let original = format!("{EXAMPLE}/../../docs/iam/pull-secret-rbac.yaml");
    assert_eq!(copied, fs::read_to_string(original).unwrap(), "a copy of docs/iam/pull-secret-rbac.yaml");
}
