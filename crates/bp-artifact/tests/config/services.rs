//! Several services in `bp.toml`.

use std::fs;

use bp_artifact::{
    Config,
    config::{ConfigLoader, DeployPlatform, EksObject, FailureLimit, ServiceConfig, ServiceName},
};

use crate::GOOD;

pub(crate) const SERVICES: &str = r#"version = 1

[project]
name = "shop"
owner = "team"

[[service]]
name = "web"
repository = "shop/web"
after = "worker"
ecs.service = "shop-web"
eks.workload = "deployment/web"
ecs.environment.LOG_LEVEL = "info"

[[service]]
name = "worker"
repository = "shop/worker"
ecs.service = "shop-worker"
limits.failures = "25%"

[[environment]]
name = "dev"
region = "eu-central-1"
registry = "registry.example.com"

[[environment]]
name = "prod"
region = "eu-central-1"
registry = "registry.example.com"
ecs.cluster = "prod"
eks.cluster = "prod"
eks.namespace = "shop"
ecs.environment.LOG_LEVEL = "warn"
deploy.order = "ecs, eks"
[environment.service.worker]
repository = "live/worker"
ecs.environment.LOG_LEVEL = "debug"
"#;

fn services() -> Config {
    Config::parse(SERVICES, "bp.toml").unwrap()
}

#[test]
fn settings_of_a_service_take_precedence_over_its_environment() {
    let config = services();
    let [dev, prod] = config.environments() else { panic!() };
    assert!(dev.services().iter().all(|service| !service.has_ecs() && !service.has_eks()));
    let [web, worker] = prod.services() else { panic!() };
    assert_eq!(web.name.as_ref().unwrap().as_str(), "web");
    assert_eq!(worker.repository.to_string(), "registry.example.com/live/worker");
    let ecs = [web, worker].map(|service| service.ecs().unwrap());
    assert_eq!(ecs.map(|ecs| ecs.cluster.as_str()), ["prod", "prod"]);
    assert_eq!(ecs.map(|ecs| ecs.service.as_str()), ["shop-web", "shop-worker"]);
    // The environment takes precedence over [[service]], and its settings of the service over those of all services.
    assert_eq!(ecs.map(|ecs| ecs.variables["LOG_LEVEL"].as_str()), ["warn", "debug"]);
    assert!(web.has_eks() && !worker.has_eks());
    assert_eq!(
        worker.eks().unwrap_err().to_string(),
        "bp.toml:16:8: the service worker has no eks target in prod"
    );
    assert_eq!(web.after.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["worker"]);
    assert_eq!(web.deploy.first, Some(DeployPlatform::Ecs));
    assert_eq!(worker.limits.failures, Some(FailureLimit::Percent(25.try_into().unwrap())));
    let tags = |service: &ServiceConfig| ["App", "Service", "Owner"].map(|tag| service.tags[tag].clone());
    assert_eq!(tags(worker), ["worker", "worker", "team"]);
    let origin = |service: &ServiceConfig, key: &str| {
        service.settings().iter().find(|setting| setting.key == key).unwrap().origin.to_string()
    };
    assert_eq!(origin(web, "ecs.environment.LOG_LEVEL"), "bp.toml:33:29");
    assert_eq!(origin(web, "repository"), "bp.toml:9:14");
    assert!(prod.settings().iter().any(|setting| setting.key == "ecs.cluster"));
    assert!(web.settings().iter().all(|setting| setting.key != "region"));
}

#[test]
fn selects_services_by_name() {
    let config = services();
    let prod = config.environment("prod").unwrap();
    let name = |name: &str| name.parse::<ServiceName>().unwrap();
    let chosen = |names: &[&str], all| {
        let names: Vec<ServiceName> = names.iter().map(|text| name(text)).collect();
        let chosen = prod.choose(&names, all).map_err(|error| error.to_string())?;
        Ok::<_, String>(
            chosen.into_iter().map(|service| service.name.clone().unwrap().to_string()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(chosen(&["worker"], false).unwrap(), ["worker"]);
    assert_eq!(chosen(&["worker", "web"], false).unwrap(), ["web", "worker"]);
    assert_eq!(chosen(&[], true).unwrap(), ["web", "worker"]);
    assert_eq!(
        chosen(&[], false).unwrap_err(),
        "bp.toml has the services web, worker: choose with --service NAME or --all"
    );
    assert_eq!(
        chosen(&["web", "wrker"], false).unwrap_err(),
        "bp.toml has no service \"wrker\"; it has web, worker"
    );
    assert_eq!(prod.service(Some(&name("web"))).unwrap().name, Some(name("web")));
    let one = Config::parse(GOOD, "bp.toml").unwrap();
    let dev = one.environment("dev").unwrap();
    assert_eq!(dev.service(None).unwrap().name, None);
    assert_eq!(
        dev.service(Some(&name("web"))).unwrap_err().to_string(),
        "bp.toml has no service \"web\"; it has no [[service]]"
    );
}

#[test]
fn errors_in_services_state_the_location() {
    for (from, to, message) in [
        ("name = \"worker\"", "name = \"web\"", "bp.toml:16:8: the service web is defined twice"),
        ("name = \"worker\"", "name = \"Web\"", "bp.toml:16:8: \"Web\" is not the name of a service"),
        ("repository = \"shop/worker\"\n", "", "unknown"),
        (
            "repository = \"live/worker\"",
            "region = \"x\"",
            "bp.toml:36:1: unknown key `service.worker.region`",
        ),
        (
            "[environment.service.worker]",
            "[environment.service.wrker]",
            "unknown service \"wrker\", expected one of web, worker",
        ),
        (
            "deploy.order = \"ecs, eks\"",
            "repository = \"x\"",
            "bp.toml:34:14: `repository` applies to one service: move it to",
        ),
        (
            "deploy.order = \"ecs, eks\"",
            "deploy.order = \"eks\"",
            "bp.toml:34:16: \"eks\" is neither \"ecs, eks\" nor",
        ),
        (
            "\"shop-worker\"",
            "\"shop-web\"",
            "bp.toml:16:8: the services web and worker are both deployed to ecs/prod/shop-web in prod",
        ),
        (
            "after = \"worker\"",
            "after = \"job\"",
            "bp.toml:10:9: the service web is after \"job\", which is not a service",
        ),
        ("after = \"worker\"", "after = \"web\"", "bp.toml:10:9: the service web is deployed after itself"),
        ("\"25%\"", "\"0%\"", "bp.toml:19:19: \"0%\" is not a percentage from 1% to 100%"),
        ("\"25%\"", "\"101%\"", "is not a percentage"),
        ("eks.workload = \"deployment/web\"", "eks.release = \"web\"", "has no `eks.chart`"),
        (
            "eks.workload = \"deployment/web\"",
            "eks.workload = \"deployment/web\"\neks.chart = \"c\"",
            "bp.toml:13:13: eks.chart requires a Helm release",
        ),
        (
            "eks.workload = \"deployment/web\"",
            "eks.release = \"web\"\neks.chart = \"c\"\neks.also = \"migrate\"",
            "bp.toml:14:12: eks.also requires a workload",
        ),
        (
            "eks.workload = \"deployment/web\"",
            "eks.workload = \"deployment/web\"\neks.set.replicas = \"3\"",
            "bp.toml:13:20: eks.set.replicas requires a Helm release",
        ),
        (
            "eks.workload = \"deployment/web\"",
            "eks.release = \"--post-renderer=x\"\neks.chart = \"c\"",
            "bp.toml:12:15: \"--post-renderer=x\" is not the name of a release",
        ),
        (
            "eks.workload = \"deployment/web\"",
            "eks.release = \"web\"\neks.chart = \"c\"\neks.environment.MODE = \"prod\"",
            "bp.toml:14:24: eks.environment.MODE has no effect on a Helm release: set eks.environment-key",
        ),
        (
            "eks.workload = \"deployment/web\"",
            "eks.release = \"web\"\neks.chart = \"c\"\neks.environment-form = \"yaml\"",
            "\"yaml\" is neither \"list\" nor \"map\"",
        ),
        (
            "eks.workload = \"deployment/web\"",
            "eks.workload = \"deployment/web\"\neks.manifests = \"deploy\"",
            "eks.workload and eks.manifests are mutually exclusive",
        ),
        ("eks.workload = \"deployment/web\"", "eks.manifests = \"a, -\"", "standard input is only for"),
        (
            "eks.workload = \"deployment/web\"",
            "eks.workload = \"deployment/web\"\neks.allow-tags = \"on\"",
            "bp.toml:13:18: eks.allow-tags requires eks.manifests",
        ),
    ] {
        assert!(SERVICES.contains(from), "{from}");
        let text = SERVICES.replacen(from, to, 1);
        let result = Config::parse(&text, "bp.toml");
        if message == "unknown" {
            // A repository in one environment is sufficient there, but not in the others.
            let error = result.unwrap_err().to_string();
            assert_eq!(error, "bp.toml:16:8: the service worker has no `repository`");
            continue;
        }
        let error = result.unwrap_err().to_string();
        assert!(error.contains(message), "{from} -> {to}: {error}");
    }
    let none = GOOD.replacen("[environment.ecs]", "[environment.service.web.ecs]", 1);
    let error = Config::parse(&none, "bp.toml").unwrap_err().to_string();
    assert!(error.contains("there is no [[service]]"), "{error}");
}

#[test]
fn layers_apply_to_services() {
    let directory = tempfile::tempdir().unwrap();
    let (base, over) = (directory.path().join("bp.toml"), directory.path().join("over.toml"));
    fs::write(&base, SERVICES).unwrap();
    fs::write(&over, "version = 1\n[[service]]\nname = \"web\"\necs.cpu = \"512\"\n").unwrap();
    let config = ConfigLoader::new(&base)
        .overlay(&over)
        .variables(|name| (name == "BP_PROD_SERVICE_WEB_ECS_SERVICE").then(|| "front".to_owned()))
        .flag("--set", "prod", "service.worker.ecs.memory", "1GB")
        .load()
        .unwrap();
    let [web, worker] = config.environment("prod").unwrap().services() else { panic!() };
    assert_eq!(web.ecs().unwrap().cpu.as_deref(), Some("512"));
    assert_eq!(web.ecs().unwrap().service, "front");
    assert_eq!(worker.ecs().unwrap().memory.as_deref(), Some("1GB"));
    fs::write(&over, "version = 1\n[[service]]\nname = \"job\"\n").unwrap();
    let error = ConfigLoader::new(&base).overlay(&over).load().unwrap_err().to_string();
    assert!(error.ends_with("the service job is not in the file that this one overlays"), "{error}");
}

#[test]
fn accepts_manifests_instead_of_a_workload() {
    let manifests = "eks.manifests = \"deploy/base, deploy/prod\"\neks.allow-tags = \"on\"";
    let text = SERVICES.replacen("eks.workload = \"deployment/web\"", manifests, 1);
    let config = Config::parse(&text, "bp.toml").unwrap();
    let eks = config.environment("prod").unwrap().services()[0].eks().unwrap().clone();
    let EksObject::Manifests(manifests) = eks.object else { panic!("{eks:?}") };
    assert_eq!(manifests.paths, ["deploy/base", "deploy/prod"].map(std::path::PathBuf::from));
    assert!(manifests.allow_tags && !manifests.outside_namespace);
}

#[test]
fn accepts_a_helm_release_instead_of_a_workload() {
    let release =
        "eks.release = \"web\"\neks.chart = \"oci://r.example.com/web\"\neks.values = \"a.yaml, b.yaml\"";
    let text = SERVICES.replacen("eks.workload = \"deployment/web\"", release, 1);
    let config = Config::parse(&text, "bp.toml").unwrap();
    let eks = config.environment("prod").unwrap().services()[0].eks().unwrap().clone();
    let EksObject::Release(release) = eks.object else { panic!("{eks:?}") };
    assert_eq!((release.name.as_str(), release.chart.as_str()), ("web", "oci://r.example.com/web"));
    assert_eq!(release.values.len(), 2);
}

#[test]
fn a_helm_release_has_a_chart_with_version_values_flags_and_variables() {
    let release = r#"eks.release = "web"
eks.chart = "web"
eks.chart-version = "^1.2.0"
eks.chart-repo = "https://charts.example.com"
eks.create-namespace = "on"
eks.set.replicas = "3"
eks.set-string."ingress.host" = "a,b"
eks.set-file.ca = "ca.pem"
eks.set-json.limits = '{"cpu":2}'
eks.helm-flags = ["--skip-crds", "--labels=team=shop"]
eks.environment-key = "env"
eks.environment-form = "map"
eks.environment.MODE = "prod""#;
    let text = SERVICES.replacen("eks.workload = \"deployment/web\"", release, 1);
    let config = Config::parse(&text, "bp.toml").unwrap();
    let eks = config.environment("prod").unwrap().services()[0].eks().unwrap().clone();
    let EksObject::Release(release) = eks.object else { panic!("{eks:?}") };
    assert_eq!(release.chart_version.as_deref(), Some("^1.2.0"));
    assert_eq!(release.chart_repository.as_deref(), Some("https://charts.example.com"));
    assert!(release.create_namespace && release.variables_as_map);
    assert_eq!(release.set["replicas"], "3");
    assert_eq!(release.set_string["ingress.host"], "a,b");
    assert_eq!(
        (release.set_file["ca"].as_str(), release.set_json["limits"].as_str()),
        ("ca.pem", "{\"cpu\":2}")
    );
    assert_eq!(release.flags, ["--skip-crds", "--labels=team=shop"]);
    assert_eq!(release.variables_key.as_deref(), Some("env"));
    assert_eq!((eks.variables["MODE"].as_str(), eks.variables["DEPLOY_PLATFORM"].as_str()), ("prod", "eks"));
}

#[test]
fn reads_the_paths_of_a_service_and_of_its_targets() {
    let paths = "paths = [\"services/web\", \"!**/*.md\"]\neks.paths = [\"deploy/k8s\"]\n";
    let text = SERVICES.replacen("after = \"worker\"\n", &format!("after = \"worker\"\n{paths}"), 1);
    let config = Config::parse(&text, "bp.toml").unwrap();
    let [web, worker] = config.environment("prod").unwrap().services() else { panic!() };
    let ecs = web.paths.of(DeployPlatform::Ecs);
    assert!(ecs.matches("services/web/main.rs") && !ecs.matches("services/web/README.md"));
    assert!(web.paths.of(DeployPlatform::Eks).matches("deploy/k8s/web.yaml"));
    assert!(!web.paths.of(DeployPlatform::Eks).matches("services/web/main.rs"));
    assert!(worker.paths.of(DeployPlatform::Ecs).is_empty());
    let alone = web.clone().without(DeployPlatform::Eks);
    assert!(alone.has_ecs() && !alone.has_eks());
    for (from, to, message) in [
        ("\"services/web\"", "\"/services/web\"", "remove the leading slash"),
        ("[\"deploy/k8s\"]", "\"deploy/k8s\"", "`eks.paths` is a list of strings, found a string"),
        ("[\"deploy/k8s\"]", "[]", "expected path patterns"),
    ] {
        let error = Config::parse(&text.replacen(from, to, 1), "bp.toml").unwrap_err().to_string();
        assert!(error.starts_with("bp.toml:1") && error.contains(message), "{to}: {error}");
    }
    // Those of one service cannot be set for all.
    let all = SERVICES.replacen("eks.cluster = \"prod\"\n", "eks.cluster = \"prod\"\npaths = [\"src\"]\n", 1);
    let error = Config::parse(&all, "bp.toml").unwrap_err().to_string();
    assert!(error.contains("`paths` applies to one service"), "{error}");
}
