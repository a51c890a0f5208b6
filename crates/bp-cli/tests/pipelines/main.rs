//! The pipeline files of `examples/` on the sandbox: their own commands, in their order, with the documented variables of
//! the CI system, and artifacts passed to the next job as it does. Only Docker, downloads and services of the CI system
//! are stand-ins.

mod codebuild;
mod github;
mod gitops;
mod guides;
mod policies;
mod programs;
mod site;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::{
    github::Run,
    site::{REGISTRY, RELEASE, Site},
};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const RELEASED: &str = "1123456789abcdef0123456789abcdef01234567";
/// Of the branch on which workflows are dispatched.
const HEAD: &str = "2123456789abcdef0123456789abcdef01234567";
const STAGING: &str = "222222222222";
const PROD: &str = "333333333333";

/// What runs on ECS and on EKS after a delivery: only web is deployed to both.
fn delivered(service: &str, image: &bp_sandbox::Image) -> [Vec<String>; 2] {
    let digest = vec![image.digest().to_owned()];
    [digest.clone(), if service == "web" { digest } else { Vec::new() }]
}

fn assert_running(site: &Site, account: &str, cluster: &str, images: &BTreeMap<&str, bp_sandbox::Image>) {
    for (service, image) in images {
        assert_eq!(
            site.running(account, cluster, service),
            delivered(service, image),
            "{service} in {cluster}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_delivers_promotes_rolls_back_and_reports_drift() {
    let site = Site::new().await;
    let first = site.next("1.0.0");
    let push = Run::new(&site, "push", "refs/heads/main", SHA);
    push.workflow("deliver.yml", &[]).await.unwrap();
    let tags = |service: &str| {
        format!("{service} {REGISTRY}/shop/{service}:{SHA}\n{service} {REGISTRY}/shop/{service}:0123456\n")
    };
    assert_eq!(site.state("built").unwrap(), tags("web") + &tags("worker"));
    assert_running(&site, STAGING, "staging", &first);
    assert_running(&site, PROD, "prod", &first);

    // A second attempt of a job has the receipt of the first one, and changes nothing.
    push.again().workflow("deploy.yml", &[("environment", "prod")]).await.unwrap();
    assert_running(&site, PROD, "prod", &first);

    // A version tag: built and deployed to staging.
    let second = site.next("1.1.0");
    site.resolve("v1.1.0", RELEASED);
    let release = Run::new(&site, "push", "refs/tags/v1.1.0", RELEASED);
    release.workflow("release.yml", &[]).await.unwrap();
    assert_running(&site, STAGING, "staging", &second);

    // One service of the version to prod: the artifact describes the build of the version and that of the other service,
    // not the commit on which the workflow was dispatched.
    let dispatch = || Run::new(&site, "workflow_dispatch", "refs/heads/main", HEAD);
    let inputs = [("version", "v1.1.0"), ("environment", "prod"), ("services", "web")];
    dispatch().workflow("promote.yml", &inputs).await.unwrap();
    let of = |web: &BTreeMap<_, bp_sandbox::Image>| {
        BTreeMap::from([("web", web["web"].clone()), ("worker", first["worker"].clone())])
    };
    assert_running(&site, PROD, "prod", &of(&second));
    let artifact: Value =
        serde_json::from_str(&site.state("artifacts/receipt-prod/artifact.json").unwrap()).unwrap();
    assert_eq!(artifact["source"]["commit"], RELEASED);
    assert_eq!(artifact["images"]["worker"]["commit"], SHA);
    assert_eq!((&artifact["version"], &artifact["build"]), (&json!("v1.1.0"), &Value::Null));

    // Both run what was deployed last, from two builds.
    let schedule = || Run::new(&site, "schedule", "refs/heads/main", HEAD);
    schedule().workflow("drift.yml", &[]).await.unwrap();
    assert_eq!(site.state("issues/7"), None);

    // Back, by the receipt that the promotion uploaded. That is drift until the next deployment: one issue, which is
    // updated, and closed afterwards.
    dispatch().workflow("rollback.yml", &[("environment", "prod")]).await.unwrap();
    assert_running(&site, PROD, "prod", &first);
    for _ in 0..2 {
        let failed = schedule().workflow("drift.yml", &[]).await.unwrap_err();
        assert_eq!(failed.job, "drift");
        assert!(site.state("issues/7").unwrap().contains("web"));
    }
    dispatch().workflow("promote.yml", &inputs).await.unwrap();
    schedule().workflow("drift.yml", &[]).await.unwrap();
    assert_eq!(site.state("issues/7"), None);

    // The branch of prod, at the commit that was built as the version: nothing is built.
    let built = site.state("built");
    let fast_forward = Run::new(&site, "push", "refs/heads/production", RELEASED);
    fast_forward.workflow("branches.yml", &[]).await.unwrap();
    assert_eq!(site.state("built"), built);
    assert_running(&site, PROD, "prod", &second);
    policies::check_roles(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_does_not_install_another_program() {
    let site = Site::new().await;
    site.next("1.0.0");
    let run = Run::new(&site, "push", "refs/heads/main", SHA);
    let path = site.path("programs").join("bp-download");
    std::fs::write(&path, "#!/bin/sh\necho replaced\n").unwrap();
    let failed = run.workflow("deliver.yml", &[]).await.unwrap_err();
    assert_eq!(failed.job, "build");
    assert!(failed.output.contains("did NOT match"), "{}", failed.output);
    assert_eq!(site.state("built"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_githubs_environments_are_set_once() {
    let site = Site::new().await;
    let script = include_str!("../../../../examples/github-actions/environments.sh");
    let variables = [("GH_TOKEN".to_owned(), "token-of-an-administrator".to_owned())].into();
    let script = format!("set -- example/shop somebody\n{script}");
    for _ in 0..2 {
        let ended = site.run(&site.path("state"), &[], &script, &variables, "").await;
        assert_eq!(ended.code, 0, "{}", ended.output);
    }
    let environments = site.state("environments").unwrap();
    let lines: Vec<(&str, Value)> = environments
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rules)| (name, serde_json::from_str(rules).unwrap()))
        .collect();
    let rules = lines.iter().find(|(name, _)| *name == "prod").map(|(_, rules)| rules).unwrap();
    assert_eq!((&rules["wait_timer"], &rules["reviewers"][0]["id"]), (&json!(30), &json!(4711)));
    assert_eq!(rules["deployment_branch_policy"]["custom_branch_policies"], true);
    assert_eq!(lines.len(), 8);
    let policies = site.state("policies").unwrap();
    let mut policies: Vec<&str> = policies.lines().collect();
    policies.sort_unstable();
    // The stand-in keeps one list for all environments.
    assert_eq!(policies, ["main", "production", "v*"]);
}

/// The variables of the template's projects, and the credentials of their role.
fn project<'a>(url: &'a str, checksum: &'a str, key: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("AWS_ACCESS_KEY_ID", key),
        ("REGISTRY", REGISTRY),
        ("BP_URL", url),
        ("BP_SHA256", checksum),
        ("RECEIPTS", "s3://shop-artifacts/receipts"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codepipeline_delivers_and_a_retried_action_continues() {
    let site = Site::new().await;
    let images = site.next("1.0.0");
    let source = site.workspace(true);
    std::fs::create_dir(source.path().join("codepipeline")).unwrap();
    let deploy = include_str!("../../../../examples/codepipeline/deploy.yml");
    std::fs::write(source.path().join("codepipeline/deploy.yml"), deploy).unwrap();

    let (url, checksum) = (format!("{RELEASE}/bp-x86_64-unknown-linux-gnu"), site.checksum());
    let (build_key, deploy_key) = (site.key_of("build"), site.key_of("pipeline"));
    let project = |key| project(&url, &checksum, key);
    // The names are those that the template gives to its projects and actions.
    let template = include_str!("../../../../examples/codepipeline/pipeline.yml");
    for (name, _) in &project(&build_key)[1..] {
        assert_eq!(template.matches(&format!("{{ Name: {name}, ")).count(), 2, "{name}");
    }
    let build = include_str!("../../../../examples/codepipeline/build.yml");
    let of_build = [&project(&build_key)[..], &[("COMMIT", SHA)]].concat();
    let built = codebuild::build(&site, build, source.path(), &of_build).await.unwrap();
    // A repeated build of the commit builds nothing.
    let pushed = site.state("built");
    site.next("1.0.1");
    let built_again = codebuild::build(&site, build, source.path(), &of_build).await.unwrap();
    assert_eq!(site.state("built"), pushed);
    let of = |directory: &std::path::Path, file: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(directory.join(file)).unwrap()).unwrap()
    };
    let (artifact, again) = (of(built.path(), "artifact.json"), of(built_again.path(), "artifact.json"));
    assert_eq!(artifact["images"], again["images"]);
    // The tags are the full commit and the one that readers of commit_sha know.
    let short = format!("{REGISTRY}/shop/worker:{}\n", artifact["commit_sha"].as_str().unwrap());
    assert!(pushed.unwrap().ends_with(&short));
    let web = format!("{REGISTRY}/shop/web@{}", images["web"].digest());
    assert_eq!(of(built.path(), "imagedefinitions.json"), json!([{ "name": "web", "imageUri": web }]));
    assert_eq!(of(built.path(), "imageDetail.json"), json!({ "ImageURI": web }));

    for (environment, account) in [("staging", STAGING), ("prod", PROD)] {
        for platform in ["ecs", "eks", "verify", "ecs"] {
            let action = format!(
                r#"[{{"name":"ENVIRONMENT","value":"{environment}"}},{{"name":"PLATFORM","value":"{platform}"}}]"#
            );
            assert!(template.contains(&action), "{action}");
            let action = [("ENVIRONMENT", environment), ("PLATFORM", platform)];
            let variables = [&project(&deploy_key)[..], &action].concat();
            let deployed = built.path().join("codepipeline/deploy.yml");
            let deploy = std::fs::read_to_string(deployed).unwrap();
            codebuild::build(&site, &deploy, built.path(), &variables).await.unwrap();
        }
        assert_running(&site, account, environment, &images);
        for platform in ["ecs", "eks"] {
            let receipt = format!("shop-artifacts/receipts/{environment}/{platform}/web.json");
            assert!(site.state(&receipt).is_some(), "{receipt}");
        }
    }
    policies::check_roles(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_ecr_is_deployed_to_eks_by_its_digest() {
    let site = Site::new().await;
    let image = site.push("shop/web", "web", "1.2.0", "v1.2.0");
    // The tag moves before the pipeline runs.
    site.push("shop/web", "web", "1.3.0", "v1.2.0");
    let text = include_str!("../../../../examples/codepipeline/eks-on-push.yml");
    let template = policies::template(text);

    // The event's digest becomes the revision of the source action.
    let target = &template["Resources"]["Push"]["Properties"]["Targets"][0]["InputTransformer"];
    assert_eq!(target["InputPathsMap"]["digest"], "$.detail.image-digest");
    let input = target["InputTemplate"].as_str().unwrap().replace("<digest>", image.digest());
    let input: Value = serde_json::from_str(&input).unwrap();
    let revision = &input["sourceRevisions"][0];
    assert_eq!(
        (&revision["actionName"], &revision["revisionType"]),
        (&json!("Image"), &json!("IMAGE_DIGEST"))
    );

    let (url, checksum) = (format!("{RELEASE}/bp-x86_64-unknown-linux-gnu"), site.checksum());
    let stages = template["Resources"]["Pipeline"]["Properties"]["Stages"].as_array().unwrap();
    let specification = include_str!("../../../../examples/codepipeline/deploy-image.yml");
    for (stage, account, environment) in [("Staging", STAGING, "staging"), ("Production", PROD, "prod")] {
        let action = &stages.iter().find(|found| found["Name"] == stage).unwrap()["Actions"][0];
        let variables = action["Configuration"]["EnvironmentVariables"].as_str().unwrap();
        let variables = variables
            .replace("#{Image.RepositoryName}", "shop/web")
            .replace("#{Image.ImageDigest}", revision["revisionValue"].as_str().unwrap());
        let variables: Vec<BTreeMap<String, String>> = serde_json::from_str(&variables).unwrap();
        let key = site.key_of("pipeline");
        let mut all = project(&url, &checksum, &key);
        all.extend(variables.iter().map(|variable| (variable["name"].as_str(), variable["value"].as_str())));
        for _ in 0..2 {
            let source = site.workspace(true);
            codebuild::build(&site, specification, source.path(), &all).await.unwrap();
        }
        policies::check_roles(&site);
        let eks = site.running(account, environment, "web")[1].clone();
        assert_eq!(eks, [image.digest()], "{environment}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_versions_of_secrets_are_rolled_out_on_a_schedule() {
    let site = Site::new().await;
    let aws = site.world.sandbox.aws();
    let secrets = |account: &'static str| aws.secretsmanager(account, "eu-central-1");
    let password = r#"{"password":"1"}"#;
    let arns = [STAGING, PROD].map(|account| secrets(account).create("shop/db", password));
    let mut config = std::fs::read_to_string(site.path("repository/bp.toml")).unwrap();
    for (environment, arn) in ["staging", "prod"].iter().zip(&arns) {
        let cluster = format!("ecs.cluster = \"{environment}\"\n");
        let pins = format!("ecs.pin-secrets = \"on\"\necs.secrets.PASSWORD = \"{arn}:password::\"\n");
        assert!(config.contains(&cluster));
        config = config.replace(&cluster, &format!("{cluster}{pins}"));
    }
    site.commit("bp.toml", &config);
    site.next("1.0.0");
    Run::new(&site, "push", "refs/heads/main", SHA).workflow("deliver.yml", &[]).await.unwrap();
    site.world.sandbox.clock().advance(std::time::Duration::from_secs(120));

    let schedule = || Run::new(&site, "schedule", "refs/heads/main", HEAD);
    let registered = || site.world.sandbox.ledger().count_of("ecs:RegisterTaskDefinition");
    let before = registered();
    schedule().workflow("rotate.yml", &[]).await.unwrap();
    assert_eq!(registered(), before, "no version is new");
    secrets(STAGING).rotate("shop/db", r#"{"password":"2"}"#);
    schedule().workflow("rotate.yml", &[]).await.unwrap();
    assert_eq!(registered(), before + 2, "web and worker in staging");
    assert!(site.state("artifacts/rotation-staging/secrets-receipt.json").is_some());

    // The same in CodeBuild, for prod.
    secrets(PROD).rotate("shop/db", r#"{"password":"2"}"#);
    let (url, checksum) = (format!("{RELEASE}/bp-x86_64-unknown-linux-gnu"), site.checksum());
    let key = site.key_of("pipeline");
    let variables = [&project(&url, &checksum, &key)[..], &[("ENVIRONMENT", "prod")]].concat();
    let specification = include_str!("../../../../examples/codepipeline/rotate.yml");
    let source = site.workspace(true);
    codebuild::build(&site, specification, source.path(), &variables).await.unwrap();
    assert_eq!(registered(), before + 4, "and in prod");
    assert!(site.state("shop-artifacts/receipts/prod/rotation/secrets.json").is_some());
    policies::check_roles(&site);
}
