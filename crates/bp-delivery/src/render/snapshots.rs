//! What a person sees: deployments on the sandbox, rendered on an emulated terminal and as a log, compared with the files
//! in `snapshots/`. `BP_WRITE_SNAPSHOTS=1` writes them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_eks::config::{BehaviorVersion, Region};
use bp_artifact::{
    DigestRef, ResolvedImage,
    deploy::Target,
    resolve::{EcrResolver, PlatformImage},
    saga::Saga,
    time::TimeSource,
};
use bp_ecs::EcsTarget;
use bp_eks::{Connector, EksTarget};
use bp_sandbox::{
    Behaviour, Clock, ImageBuilder, Sandbox,
    kube::{ClusterOptions, SECRET_ACCESS_KEY},
    registry::RegistryOptions,
};
use indicatif::InMemoryTerm;
use serde_json::json;

use super::*;
use crate::look::Look;

const REGISTRY: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";

/// The cluster `staging` on ECS and on EKS, on which shop 0.9.0 runs, and version 1.0.0.
struct Scene {
    ecs: EcsTarget,
    eks: EksTarget,
    image: ResolvedImage,
    receipt: PathBuf,
}

impl Scene {
    /// `behaviour` is that of the new version.
    async fn new(name: &str, behaviour: Behaviour) -> Self {
        let sandbox = Sandbox::builder()
            .clock(Clock::tokio())
            .registry(REGISTRY, RegistryOptions::ecr())
            .cluster("staging", ClusterOptions::default().account("222222222222").region("eu-central-1"))
            .build();
        let before = push(&sandbox, "0.9.0", Behaviour::default());
        let image = push(&sandbox, "1.0.0", behaviour);
        sandbox
            .aws()
            .ecs("222222222222", "eu-central-1")
            .new_service("staging", "shop-web")
            .task_definition(json!({
                "family": "shop-web",
                "memory": "512",
                "containerDefinitions": [{ "name": "web", "image": before.reference.to_string() }],
            }))
            .create();
        let cluster = sandbox.cluster("staging");
        cluster.deployment("shop", "web", &[("web", &before.reference.to_string())]);
        assert!(cluster.settled("shop", "web").await);
        tokio::time::sleep(Duration::from_secs(600)).await;

        let directory = Path::new("../../target/snapshots").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let receipt = directory.join("receipt.json");
        let _ = std::fs::remove_file(&receipt);
        let (ecs, eks) = (ecs(&sandbox), eks(&sandbox).await);
        Scene { ecs, eks, image, receipt }
    }

    fn targets(&self) -> Vec<Arc<dyn Target>> {
        vec![Arc::new(self.ecs.clone()), Arc::new(self.eks.clone())]
    }

    fn saga(&self) -> Saga {
        Saga::new(self.targets(), self.image.clone(), &self.receipt)
    }
}

fn push(sandbox: &Sandbox, version: &str, behaviour: Behaviour) -> ResolvedImage {
    let image = ImageBuilder::new().platform("linux/amd64").layer([("app/version", version)]).build();
    sandbox.registry(REGISTRY).push(&image, "shop/web", version);
    sandbox.script(image.digest(), behaviour);
    let reference: DigestRef = format!("{REGISTRY}/shop/web@{}", image.digest()).parse().unwrap();
    let digest = image.platform("linux/amd64").parse().unwrap();
    let platform = PlatformImage::new("linux/amd64".parse().unwrap(), digest);
    ResolvedImage { platforms: vec![platform], ..ResolvedImage::from(reference) }
}

fn credentials() -> Credentials {
    Credentials::new("AKIASANDBOX", SECRET_ACCESS_KEY, None, None, "test")
}

fn ecs(sandbox: &Sandbox) -> EcsTarget {
    sandbox.aws().access_key("AKIASANDBOX", "222222222222");
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials())
        .http_client(sandbox.http_client())
        .build();
    let options = bp_ecs::Options::new(Duration::from_secs(600)).unwrap();
    let cluster = bp_ecs::Cluster::new(aws_sdk_ecs::Client::from_conf(config), "staging");
    let lookups = bp_ecs::Lookups::default().registry(registry(sandbox));
    cluster.service("shop-web", options).container("web").lookups(lookups)
}

fn registry(sandbox: &Sandbox) -> Arc<EcrResolver> {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials())
        .http_client(sandbox.http_client())
        .build();
    Arc::new(EcrResolver::new(aws_sdk_ecr::Client::from_conf(config)))
}

async fn eks(sandbox: &Sandbox) -> EksTarget {
    let config = aws_sdk_eks::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials())
        .http_client(sandbox.http_client())
        .build();
    let clock = sandbox.clock().clone();
    let client = aws_sdk_eks::Client::from_conf(config);
    let client =
        Connector::new(client, SharedCredentialsProvider::new(credentials()), "eu-central-1", "staging")
            .time_source(TimeSource::from_fn(move || clock.now()))
            .connect_with(sandbox.transport())
            .await
            .unwrap();
    let options = bp_eks::Options::new(Duration::from_secs(600)).unwrap().take_over(true);
    let options = options.registry(registry(sandbox));
    let namespace = bp_eks::Cluster::new(client, "staging").namespace("shop");
    namespace.workload("deployment/web".parse().unwrap(), options).container("web")
}

/// An image whose container exits with code 78 and a log line.
fn broken() -> Behaviour {
    let log = vec!["shop: cannot read /app/config.toml: no such file".to_owned()];
    Behaviour::Exits { after: Duration::from_secs(3), code: 78, log }
}

/// How the output is rendered.
#[derive(Clone, Copy)]
enum Form {
    /// A terminal of this width, with or without colours.
    Terminal(u16, bool),
    /// A log, as in CI.
    Log,
}

const FORMS: [(Form, &str); 3] =
    [(Form::Terminal(80, true), "80"), (Form::Terminal(120, true), "120"), (Form::Log, "log")];

/// Renders `work` in each form, and compares it with the files of `name`.
async fn compare(name: &str, behaviour: fn() -> Behaviour, work: impl AsyncFn(&Scene, Ui)) {
    for (form, file) in FORMS {
        let file = format!("{name}.{file}");
        let (text, styled) = render(&file, form, behaviour(), &work).await;
        snapshot(&file, &text);
        if let Form::Terminal(columns, _) = form {
            let widest =
                text.lines().filter(|line| !line.contains("@sha256:")).map(|line| line.chars().count());
            assert!(widest.max().unwrap_or_default() <= columns.into(), "{text}");
            snapshot(&format!("{file}.colours"), &styled);
            let (plain, unstyled) = render(&file, Form::Terminal(columns, false), behaviour(), &work).await;
            assert_eq!(plain, text, "colours repeat what the text states");
            assert!(!unstyled.contains("[3") && !unstyled.contains("[1m"), "NO_COLOR: {unstyled}");
        } else {
            assert_eq!(styled.matches('␛').count(), styled.lines().count(), "only the resets: {styled}");
        }
    }
}

/// The text on the terminal, and the text with its control sequences.
async fn render(
    name: &str,
    form: Form,
    behaviour: Behaviour,
    work: &impl AsyncFn(&Scene, Ui),
) -> (String, String) {
    let (columns, look) = match form {
        Form::Terminal(columns, colors) => (columns, Look { rich: true, colors }),
        Form::Log => (400, Look { rich: false, colors: false }),
    };
    // The IDs of the sandbox, and the pauses between polls.
    fastrand::seed(7);
    let terminal = InMemoryTerm::new(100, columns);
    let scene = Scene::new(name.split('.').next().unwrap(), behaviour).await;
    let ui = Ui::with(Printer::in_memory(&terminal, look), false, crate::ci::Ci::default());
    work(&scene, ui.clone()).await;
    let styled = String::from_utf8(terminal.contents_formatted()).unwrap().replace('\u{1b}', "␛");
    (at_one_time(&terminal.contents()), at_one_time(&styled))
}

/// Replaces timestamps by one of the same length: the sandbox's clock starts now.
fn at_one_time(text: &str) -> String {
    let is_timestamp = |text: &str| {
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        text.chars().map(digits).eq("0000-00-00T00:00:00Z".chars())
    };
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match rest.get(..20).filter(|start| is_timestamp(start)) {
            Some(start) => {
                replaced.push_str("2026-01-01T00:00:00Z");
                rest = &rest[start.len()..];
            }
            None => {
                replaced.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    replaced
}

fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render/snapshots").join(format!("{name}.txt"));
    let text = format!("{}\n", text.trim_end());
    if std::env::var_os("BP_WRITE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        text == expected,
        "{name} differs; BP_WRITE_SNAPSHOTS=1 writes it\n--- expected\n{expected}--- found\n{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_success() {
    compare("success", Behaviour::default, async |scene, ui| {
        ui.step("Deploy to staging");
        let receipt = ui.follow(scene.saga().run()).await.unwrap();
        ui.receipt(&receipt);
        ui.close();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure() {
    compare("failure", broken, async |scene, ui| {
        ui.step("Deploy to staging");
        let receipt = ui.follow(scene.saga().run()).await.unwrap();
        ui.receipt(&receipt);
        ui.close();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_target() {
    compare("one-target", broken, async |scene, ui| {
        ui.step("Deploy to ecs/staging/shop-web");
        let outcome = ui.follow(scene.ecs.deploy(&scene.image)).await.unwrap();
        ui.ended(outcome);
        ui.close();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback() {
    compare("rollback", Behaviour::default, async |scene, ui| {
        scene.saga().run().await.unwrap();
        ui.step("Roll back in staging");
        let receipt = ui.follow(Saga::rollback(scene.targets(), &scene.receipt)).await.unwrap();
        ui.rollback(&receipt);
        ui.close();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal() {
    compare("refusal", Behaviour::default, async |scene, ui| {
        let other: ResolvedImage =
            format!("{REGISTRY}/shop/web@sha256:{}", "1".repeat(64)).parse::<DigestRef>().unwrap().into();
        scene.saga().run().await.unwrap();
        let mut receipt = bp_artifact::deploy::Receipt::read(&scene.receipt).unwrap();
        receipt.state = bp_artifact::deploy::ReceiptState::Started;
        receipt.write(&scene.receipt).unwrap();
        ui.step("Deploy to staging");
        let error = ui.follow(Saga::new(scene.targets(), other, &scene.receipt).run()).await.unwrap_err();
        ui.failed(&Failure::from(error).hint("choose another receipt with --receipt"));
        ui.close();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn progress_in_place() {
    compare("progress", Behaviour::default, async |scene, ui| {
        ui.step("Deploy to staging");
        let work = ui.follow(scene.saga().run());
        // Dropped here, with its progress on the screen.
        assert!(tokio::time::timeout(Duration::from_secs(8), work).await.is_err());
    })
    .await;
}
