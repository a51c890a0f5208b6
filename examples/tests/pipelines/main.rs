//! The pipeline files of `examples/` on the sandbox: their own commands, in their order, with the documented variables of
//! the CI system, and artifacts passed to the next job as it does. Only Docker, downloads and services of the CI system are stand-ins.

mod codebuild;
mod github;
mod programs;
mod site;

use serde_json::json;

use self::{
    github::Run,
    site::{RELEASE, Site},
};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const STAGING: &str = "222222222222";
const PROD: &str = "333333333333";

/// What runs on ECS and on EKS after a delivery: only web is deployed to both.
fn delivered(service: &str, image: &bp_sandbox::Image) -> [Vec<String>; 2] {
    let digest = vec![image.digest().to_owned()];
    [digest.clone(), if service == "web" { digest } else { Vec::new() }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_delivers_promotes_rolls_back_and_reports_drift() {
    let site = Site::new().await;
    let first = site.push("1.0.0", SHA);
    let push = Run::new(&site, "push", "refs/heads/main", &json!({ "ref": "refs/heads/main" }));
    push.workflow("deliver.yml", &[]).await.unwrap();
    let registry = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
    let built = format!("web {registry}/shop/web:{SHA}\nworker {registry}/shop/worker:{SHA}\n");
    assert_eq!(site.state("built").unwrap(), built);
    for (account, cluster) in [(STAGING, "staging"), (PROD, "prod")] {
        for (service, image) in &first {
            assert_eq!(
                site.running(account, cluster, service),
                delivered(service, image),
                "{service} in {cluster}"
            );
        }
    }

    // A second attempt of a job has the receipt of the first one, and changes nothing.
    push.again().workflow("deploy.yml", &[("environment", "prod")]).await.unwrap();
    assert_eq!(site.running(PROD, "prod", "web"), delivered("web", &first["web"]));

    // A version by its tag, one service of it; then back, by the receipt that the promotion uploaded.
    let second = site.push("1.1.0", "v1.1.0");
    let dispatch = |payload| Run::new(&site, "workflow_dispatch", "refs/heads/main", &payload);
    let promote = dispatch(json!({ "ref": "refs/heads/main", "inputs": {} }));
    let inputs = [("version", "v1.1.0"), ("environment", "staging"), ("services", "web")];
    promote.workflow("promote.yml", &inputs).await.unwrap();
    assert_eq!(site.running(STAGING, "staging", "web"), delivered("web", &second["web"]));
    assert_eq!(site.running(STAGING, "staging", "worker"), delivered("worker", &first["worker"]));
    let roll_back = dispatch(json!({ "ref": "refs/heads/main", "inputs": {} }));
    roll_back.workflow("rollback.yml", &[("environment", "staging")]).await.unwrap();
    assert_eq!(site.running(STAGING, "staging", "web"), delivered("web", &first["web"]));

    // prod runs what was deployed there, staging does not since the rollback: one issue, which is updated, and closed
    // after the next deployment.
    let schedule = || Run::new(&site, "schedule", "refs/heads/main", &json!({ "schedule": "17 5 * * *" }));
    for _ in 0..2 {
        let failed = schedule().workflow("drift.yml", &[]).await.unwrap_err();
        assert_eq!(failed.job, "drift");
        assert!(site.state("issues/7").unwrap().contains("web"));
    }
    promote.workflow("promote.yml", &inputs).await.unwrap();
    schedule().workflow("drift.yml", &[]).await.unwrap();
    assert_eq!(site.state("issues/7"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_does_not_install_another_program() {
    let site = Site::new().await;
    site.push("1.0.0", SHA);
    let run = Run::new(&site, "push", "refs/heads/main", &json!({ "ref": "refs/heads/main" }));
    let path = site.path("programs").join("bp-download");
    std::fs::write(&path, "#!/bin/sh\necho replaced\n").unwrap();
    let failed = run.workflow("deliver.yml", &[]).await.unwrap_err();
    assert_eq!(failed.job, "build");
    assert!(failed.output.contains("did NOT match"), "{}", failed.output);
    assert_eq!(site.state("built"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codepipeline_delivers_and_a_retried_action_continues() {
    let site = Site::new().await;
    let images = site.push("1.0.0", SHA);
    let source = site.workspace(true);
    std::fs::create_dir(source.path().join("codepipeline")).unwrap();
    let deploy = include_str!("../../codepipeline/deploy.yml");
    std::fs::write(source.path().join("codepipeline/deploy.yml"), deploy).unwrap();

    let url = format!("{RELEASE}/bp-x86_64-unknown-linux-gnu");
    let checksum = site.checksum();
    let project = [
        ("REGISTRY", "111111111111.dkr.ecr.eu-central-1.amazonaws.com"),
        ("BP_URL", url.as_str()),
        ("BP_SHA256", checksum.as_str()),
        ("RECEIPTS", "s3://shop-artifacts/receipts"),
    ];
    // The names are those that the template gives to its projects and actions.
    let template = include_str!("../../codepipeline/pipeline.yml");
    for name in project.iter().map(|(name, _)| name) {
        assert_eq!(template.matches(&format!("{{ Name: {name}, ")).count(), 2, "{name}");
    }
    let with = |more: &[(&'static str, &'static str)]| [&project[..], more].concat();
    let build = include_str!("../../codepipeline/build.yml");
    let built = codebuild::build(&site, build, source.path(), &with(&[("COMMIT", SHA)])).await.unwrap();

    for (environment, account) in [("staging", STAGING), ("prod", PROD)] {
        for platform in ["ecs", "eks", "verify", "ecs"] {
            let action = format!(
                r#"[{{"name":"ENVIRONMENT","value":"{environment}"}},{{"name":"PLATFORM","value":"{platform}"}}]"#
            );
            assert!(template.contains(&action), "{action}");
            let variables = with(&[("ENVIRONMENT", environment), ("PLATFORM", platform)]);
            let deployed = built.path().join("codepipeline/deploy.yml");
            let deploy = std::fs::read_to_string(deployed).unwrap();
            codebuild::build(&site, &deploy, built.path(), &variables).await.unwrap();
        }
        for (service, image) in &images {
            assert_eq!(site.running(account, environment, service), delivered(service, image), "{service}");
        }
        for platform in ["ecs", "eks"] {
            let receipt = format!("shop-artifacts/receipts/{environment}/{platform}/web.json");
            assert!(site.state(&receipt).is_some(), "{receipt}");
        }
    }
}
