//! The binaries against real servers: `cargo xtask e2e` starts the servers, passes their addresses in environment
//! variables, and verifies the results with third-party clients.

use std::{
    path::Path,
    process::{Command, Output},
};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run cargo xtask e2e"))
}

/// A binary in a directory of its own, with `aws` as its only AWS endpoint.
fn binary(program: &str, directory: &Path, aws: &str) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .env_clear()
        .env("CI", "true")
        .env("HOME", directory)
        .env("AWS_ACCESS_KEY_ID", "AKIASANDBOX")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox-secret")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL", aws);
    command
}

/// Runs the command, asserts the exit code, and returns its output.
fn ends_with(code: i32, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let output = format!("{stdout}\n{stderr}");
    assert_eq!(status.code(), Some(code), "{output}");
    output
}

mod registries {
    use super::*;

    const BP_TOML: &str = r#"
version = 1
[project]
name = "shop"
repository = "shop/web"
[[environment]]
name = "dev"
region = "eu-central-1"
registry = "source.example.com"
[[environment]]
name = "prod"
region = "eu-central-1"
registry = "target.example.com"
repository = "promoted/web"
"#;

    /// The working directory of a pipeline stage.
    fn stage() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("bp.toml"), BP_TOML).expect("bp.toml");
        directory
    }

    fn run(program: &str, directory: &Path, arguments: &[&str]) -> Command {
        // No AWS API is called: nothing listens at this address.
        let mut command = binary(program, directory, "http://127.0.0.1:1");
        let (source, target) = (variable("BP_E2E_SOURCE"), variable("BP_E2E_TARGET"));
        let endpoints = format!("source.example.com=http://{source},target.example.com=http://{target}");
        command.args(arguments).env("BP_REGISTRY_ENDPOINTS", endpoints);
        command
    }

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn emits_an_artifact_and_promotes_it_twice() {
        let stage = stage();
        let emit = ["--image", "source.example.com/shop/web:1", "--env", "dev"];
        ends_with(0, &mut run(env!("CARGO_BIN_EXE_emit-artifact"), stage.path(), &emit));
        let artifact = std::fs::read_to_string(stage.path().join("artifact.json")).expect("an artifact");
        assert!(artifact.contains(&variable("BP_E2E_DIGEST")), "{artifact}");
        for _ in 0..2 {
            let output =
                ends_with(0, &mut run(env!("CARGO_BIN_EXE_promote"), stage.path(), &["--to", "prod"]));
            let expected = format!("target.example.com/promoted/web@{}", variable("BP_E2E_DIGEST"));
            assert!(output.contains(&expected), "{output}");
        }
    }

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn promote_fails_for_a_missing_digest() {
        let stage = stage();
        let emit = ["--image", "source.example.com/shop/web:1", "--env", "dev"];
        ends_with(0, &mut run(env!("CARGO_BIN_EXE_emit-artifact"), stage.path(), &emit));
        let artifact = stage.path().join("artifact.json");
        let text = std::fs::read_to_string(&artifact).expect("an artifact");
        let missing = format!("sha256:{:0>64}", "404");
        std::fs::write(&artifact, text.replace(&variable("BP_E2E_DIGEST"), &missing)).expect("an artifact");
        let promote = ["--to", "prod", "--image-timeout", "2s"];
        let ended = run(env!("CARGO_BIN_EXE_promote"), stage.path(), &promote).output().expect("it runs");
        assert_eq!(ended.status.code(), Some(7));
        let output = String::from_utf8_lossy(&ended.stderr);
        assert!(output.contains(&missing), "{output}");
    }
}

#[cfg(feature = "sandbox")]
mod kubernetes {
    use std::process::Stdio;

    use bp_artifact::{Artifact, DigestRef, ResolvedImage, Tag};
    use bp_sandbox::{Image, ImageBuilder, Sandbox, registry::RegistryOptions};
    use tempfile::TempDir;

    use super::*;

    const REGISTRY: &str = "registry.example.com";

    /// A build whose digest starts with this prefix, which selects the behaviour of its containers on the test cluster.
    fn build(prefix: &str, label: &str) -> Image {
        let prefix = format!("sha256:{prefix}");
        let images = (0..)
            .map(|n: u32| ImageBuilder::new().platform("linux/amd64").label(label, &n.to_string()).build());
        images.into_iter().find(|image| image.digest().starts_with(&prefix)).expect("one in 4,096 matches")
    }

    /// A registry with builds, and a Deployment created on the cluster by kubectl.
    struct Stage {
        directory: TempDir,
        sandbox: Sandbox,
        registry: String,
    }

    impl Stage {
        async fn new() -> (Self, bp_sandbox::Served) {
            let sandbox = Sandbox::builder().registry(REGISTRY, RegistryOptions::default()).build();
            let served = sandbox.serve().await.expect("a free port");
            let registry = served.address(REGISTRY).expect("the registry").to_string();
            let directory = tempfile::tempdir().expect("a directory");
            let namespace = variable("BP_E2E_NAMESPACE");
            let bp_toml = format!(
                r#"
version = 1
[project]
name = "shop"
repository = "shop/web"
[[environment]]
name = "staging"
region = "eu-central-1"
registry = "{REGISTRY}"
[environment.eks]
cluster = "e2e"
namespace = "{namespace}"
workload = "deployment/web"
container = "web"
"#
            );
            std::fs::write(directory.path().join("bp.toml"), bp_toml).expect("bp.toml");
            // The revision to which the first deployment would return.
            let earlier = build("a12", "earlier");
            sandbox.registry(REGISTRY).push(&earlier, "shop/web", "earlier");
            let stage = Stage { directory, sandbox, registry };
            let deployment = format!(
                r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "web"}}, "spec": {{"replicas": 2,
                "selector": {{"matchLabels": {{"app": "web"}}}}, "template": {{"metadata": {{"labels": {{"app": "web"}}}},
                "spec": {{"containers": [{{"name": "web", "image": "{REGISTRY}/shop/web@{}"}}]}}}}}}}}"#,
                earlier.digest()
            );
            let file = stage.directory.path().join("web.json");
            std::fs::write(&file, deployment).expect("web.json");
            kubectl(&["apply", "-f", &file.to_string_lossy()]);
            kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
            (stage, served)
        }

        /// Builds and pushes an image, writes `artifact.json`, and returns the image reference.
        fn built(&self, prefix: &str, tag: &str) -> String {
            let image = build(prefix, "n");
            self.sandbox.registry(REGISTRY).push(&image, "shop/web", tag);
            let reference: DigestRef =
                format!("{REGISTRY}/shop/web@{}", image.digest()).parse().expect("a reference");
            let mut artifact = Artifact::default();
            artifact
                .set_image(&ResolvedImage::from(reference.clone()), Some(tag.parse::<Tag>().expect("a tag")));
            artifact.write(self.directory.path().join("artifact.json")).expect("artifact.json");
            reference.to_string()
        }

        fn run(&self, code: i32, program: &str, arguments: &[&str]) -> String {
            let mut command = binary(program, self.directory.path(), "http://127.0.0.1:1");
            command
                .args(["--env", "staging"])
                .args(arguments)
                .env("BP_KUBECONFIG", variable("BP_E2E_KUBECONFIG_DEPLOYER"))
                .env("BP_REGISTRY_ENDPOINTS", format!("{REGISTRY}=http://{}", self.registry));
            ends_with(code, &mut command)
        }
    }

    fn kubectl(arguments: &[&str]) -> String {
        let mut kubectl = Command::new(variable("BP_E2E_KUBECTL"));
        kubectl.env("KUBECONFIG", variable("BP_E2E_KUBECONFIG_ADMIN")).stdin(Stdio::null());
        let ended = kubectl.args(["-n", &variable("BP_E2E_NAMESPACE")]).args(arguments).output();
        let ended = ended.expect("kubectl starts");
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).expect("UTF-8")
    }

    /// The images of the ready pods that are not being deleted.
    fn running() -> Vec<String> {
        let ready = "jsonpath={range .items[*]}{.metadata.deletionTimestamp} \
                     {.status.conditions[?(@.type=='Ready')].status} {.spec.containers[0].image}{\"\\n\"}{end}";
        let listed = kubectl(&["get", "pods", "-l", "app=web", "-o", ready]);
        listed.lines().filter_map(|line| line.trim_start().strip_prefix("True ")).map(str::to_owned).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn deploys_verifies_and_rolls_back_on_kubernetes() {
        let (stage, _served) = Stage::new().await;
        let deadline = ["--timeout", "3m"];
        let deploy =
            |more: &[&str]| stage.run(0, env!("CARGO_BIN_EXE_deploy-eks"), &[&deadline[..], more].concat());
        let first = stage.built("a12", "0");
        let output = deploy(&["--take-over", "--logs", "--output", "json"]);
        assert!(output.contains(r#""event":"log""#) && output.contains(r#""line":"starting""#), "{output}");
        assert_eq!(running(), [first.clone(), first]);
        let platform = "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='DEPLOY_PLATFORM')].value}";
        assert_eq!(kubectl(&["get", "deployment", "web", "-o", platform]), "eks");
        let good = stage.built("a11", "1");
        let output = deploy(&["--logs"]);
        assert!(
            output.lines().any(|line| line.contains("pod/web-") && line.ends_with("/web: starting")),
            "{output}"
        );
        for _ in 0..2 {
            assert_eq!(
                running(),
                [good.clone(), good.clone()],
                "the rollout was complete when deploy-eks returned"
            );
            deploy(&[]);
        }
        stage.run(0, env!("CARGO_BIN_EXE_verify"), &[]);

        stage.built("bad", "2");
        let output = stage.run(3, env!("CARGO_BIN_EXE_deploy-eks"), &deadline);
        assert!(output.contains("exit code 3"), "{output}");
        assert_eq!(running(), [good.clone(), good.clone()], "the previous image was restored");
        // The running image is not that of the artifact.
        stage.run(6, env!("CARGO_BIN_EXE_verify"), &[]);

        let next = stage.built("510", "3");
        stage.run(0, env!("CARGO_BIN_EXE_dual-deploy"), &deadline);
        assert_eq!(running(), [next.clone(), next]);
        stage.run(0, env!("CARGO_BIN_EXE_rollback"), &[]);
        assert_eq!(running(), [good.clone(), good], "the revision of the receipt was restored");
        kubectl(&["delete", "deployment", "web", "--wait=false"]);
    }
}
