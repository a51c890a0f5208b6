//! `bp.toml`: values, parse errors with their location, overlays, services, gates, and the JSON Schema.

use std::{fs, time::Duration};

use bp_artifact::{
    Config,
    config::{
        ConfigError, ConfigLoader, DeployPlatform, EksObject, FailureLimit, GateCondition, GateConfig,
        Limits, ServiceConfig, ServiceName, config_schema,
    },
    deploy::OnFailure,
    error::{Classified, ErrorClass},
};
use tempfile::TempDir;

const GOOD: &str = r#"version = 1

[project]
name = "shop"
repository = "shop/web"

[[environment]]
name = "dev"
account = "111111111111"
region = "eu-central-1"
role = "arn:aws:iam::111111111111:role/deploy"
registry = "111111111111.dkr.ecr.eu-central-1.amazonaws.com"
[environment.ecs]
cluster = "shop"
service = "web"
container = "web"

[[environment]]
name = "prod"
region = "eu-west-1"
registry = "222222222222.dkr.ecr.eu-west-1.amazonaws.com"
repository = "live/web"
[environment.eks]
cluster = "shop"
namespace = "web"
workload = "deployment/web"
[environment.deploy]
timeout = "1h"
"#;

#[test]
fn environments_keep_their_order_and_repository() {
    let config = Config::parse(GOOD, "bp.toml").unwrap();
    let names: Vec<&str> = config.environments().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["dev", "prod"]);
    let (dev, prod) = (&config.environments()[0], &config.environments()[1]);
    assert_eq!(
        prod.services()[0].repository.to_string(),
        "222222222222.dkr.ecr.eu-west-1.amazonaws.com/live/web"
    );
    assert_eq!(config.next(&dev.name), Some(prod));
    assert_eq!(config.next(&prod.name), None);
    assert_eq!(config.previous(&prod.name), Some(dev));
    assert_eq!(config.previous(&dev.name), None);
    assert_eq!(dev.services()[0].ecs().unwrap().container.as_deref(), Some("web"));
    assert_eq!(prod.services()[0].eks().unwrap().container, None);
    assert_eq!(dev.services()[0].ecs().unwrap().variables["DEPLOY_PLATFORM"], "ecs");
    assert_eq!(prod.services()[0].eks().unwrap().variables["DEPLOY_PLATFORM"], "eks");
    let set = format!("{GOOD}\n[environment.eks.environment]\nDEPLOY_PLATFORM = \"k8s\"\nMODE = \"\"\n");
    let set = Config::parse(&set, "bp.toml").unwrap();
    let variables = &set.environments()[1].services()[0].eks().unwrap().variables;
    assert_eq!((variables["DEPLOY_PLATFORM"].as_str(), variables["MODE"].as_str()), ("k8s", ""));
    assert_eq!(dev.services()[0].deploy.timeout, Duration::from_secs(15 * 60));
    assert_eq!(prod.services()[0].deploy.timeout, Duration::from_secs(3600));
    assert_eq!(
        dev.services()[0].eks().unwrap_err().to_string(),
        "bp.toml:8:8: the environment dev has no [environment.eks]"
    );
    let unknown = config.environment("stagin").unwrap_err();
    assert_eq!(unknown.to_string(), "bp.toml has no environment \"stagin\"; it has dev, prod");
    assert_eq!(unknown.class(), ErrorClass::BadInput);
}

#[test]
fn parse_errors_state_the_location() {
    for (from, to, message) in [
        ("version = 1", "version = 2", "bp.toml:1:11: unsupported format version, expected 1"),
        ("version = 1", "version = \"1\"", "bp.toml:1:11: unsupported"),
        ("version = 1", "", "bp.toml:1:1: the first line must be version = 1"),
        ("version = 1", "version = 1\nenv = 3", "bp.toml:2:1: unknown key `env`, expected one of version"),
        ("[[environment]]", "[environment]", "bp.toml:"),
        ("name = \"shop\"", "", "[project] has no `name`"),
        ("name = \"prod\"", "name = \"dev\"", "bp.toml:19:8: the environment dev is defined twice"),
        ("name = \"prod\"", "name = \"Prod\"", "bp.toml:19:8: \"Prod\" is not the name of an environment"),
        ("name = \"prod\"", "", "the environment has no `name`"),
        (
            "region = \"eu-west-1\"",
            "regoin = \"x\"",
            "bp.toml:20:1: unknown key `regoin`, expected one of name, account, region",
        ),
        ("region = \"eu-west-1\"", "", "bp.toml:19:8: the environment prod has no `region`"),
        (
            "account = \"111111111111\"",
            "account = 111111111111",
            "bp.toml:9:11: `account` is a string, found a number: put it in quotes",
        ),
        (
            "account = \"111111111111\"",
            "account = \"333333333333\"",
            "bp.toml:11:8: the role belongs to account 111111111111, not to 333333333333",
        ),
        (
            "role = \"arn:aws:iam::111111111111:role/deploy\"",
            "role = \"deploy\"",
            "bp.toml:11:8: \"deploy\" is not the ARN of a role",
        ),
        ("amazonaws.com\"\nrepository", "amazonaws.com/x\"\nrepository", "bp.toml:21:12:"),
        (
            "222222222222.dkr.ecr.eu-west-1",
            "222222222222.dkr.ecr.us-east-1",
            "bp.toml:21:12: the registry is in us-east-1 and the environment in eu-west-1",
        ),
        (
            "\"live/web\"",
            "\"Live/web\"",
            "bp.toml:22:14: \"Live/web\" is not a repository path: a repository path is in lower case",
        ),
        ("\"shop/web\"", "\"Shop/web\"", "bp.toml:5:14: \"Shop/web\" is not a repository path"),
        ("service = \"web\"", "service = \" \"", "bp.toml:15:11: ecs.service is empty"),
        (
            "service = \"web\"",
            "service = \"web\"\ntagging = \"no\"",
            "bp.toml:16:11: \"no\" is neither \"on\" nor \"off\"",
        ),
        ("service = \"web\"", "", "bp.toml:8:8: the environment dev has no `ecs.service`"),
        ("service = \"web\"", "servise = \"web\"", "bp.toml:15:1: unknown key `ecs.servise`"),
        ("\"deployment/web\"", "\"cronjob/web\"", "bp.toml:26:12: \"cronjob/web\" is not a workload"),
        ("namespace = \"web\"", "namespace = \"Web\"", "bp.toml:25:13: \"Web\" is not a namespace"),
        ("timeout = \"1h\"", "timeout = \"soon\"", "bp.toml:28:11: \"soon\" is not a duration"),
        (
            "timeout = \"1h\"",
            "on-failure = \"pray\"",
            "bp.toml:28:14: \"pray\" is neither \"roll-back\" nor \"leave\"",
        ),
        (
            "[environment.deploy]\ntimeout = \"1h\"",
            "[environment.limits]\nfailures = 0",
            "bp.toml:28:12: \"0\" is not a number from 1",
        ),
        (
            "[environment.deploy]\ntimeout = \"1h\"",
            "[environment.limits]\ntransfers = 1.5",
            "bp.toml:28:13: `limits.transfers` is a number, found a number with a fraction",
        ),
        (
            "[environment.deploy]\ntimeout = \"1h\"",
            "[environment.limits]\ntransfers = 0x10",
            "bp.toml:28:13: \"0x10\" is not a number from 1",
        ),
        (
            "[environment.deploy]\ntimeout = \"1h\"",
            "[environment.limits]\ntransfers = \"many\"",
            "bp.toml:28:13: \"many\" is not a number from 1",
        ),
        (
            "repository = \"shop/web\"",
            "repository = \"shop/web\"\ntags = \"x\"",
            "bp.toml:6:1: unknown key `tags`",
        ),
        (
            "[project]\nname = \"shop\"\nrepository = \"shop/web\"",
            "project = 1",
            "bp.toml:3:11: expected a table [project]",
        ),
        ("name = \"shop\"", "name = \"shop\"\nname = \"shop\"", "bp.toml:5:"),
        (
            "role = \"arn:aws:iam::111111111111:role/deploy\"",
            "role = [\"a\"]",
            "bp.toml:11:8: `role` is a string, found a list",
        ),
        ("account = \"111111111111\"", "account = \"1111\"", "bp.toml:9:11: \"1111\" is not an AWS account"),
        ("timeout = \"1h\"", "timeout = \"0s\"", "bp.toml:28:11: \"0s\" is not a duration"),
        ("timeout = \"1h\"", "timeout = \"-1h\"", "bp.toml:28:11: \"-1h\" is not a duration"),
        ("\"shop\"\nrepository", "\"shop;\"\nrepository", "bp.toml:4:8: the tag \"Project\" is not allowed"),
        ("[environment.eks]", "[environment.eks", "bp.toml:23:"),
        ("[environment.eks]", "[environment.gke]", "unknown key `gke`"),
        (
            "[environment.deploy]\ntimeout = \"1h\"",
            "[environment.tags]\n\"aws:x\" = \"1\"",
            "bp.toml:28:11: the tag \"aws:x\" is not allowed",
        ),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = Config::parse(&GOOD.replacen(from, to, 1), "bp.toml").unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadInput);
        let error = error.to_string();
        assert!(error.contains(message), "{from} -> {to}: {error}");
        assert!(error.starts_with("bp.toml:") && !error.contains('\n'), "{error}");
    }
    let none = Config::parse(GOOD.split("[[environment]]").next().unwrap(), "bp.toml").unwrap_err();
    assert!(none.to_string().ends_with("it has no [[environment]]"), "{none}");
    assert!(Config::parse("", "bp.toml").is_err());
    assert!(
        matches!(Config::load("/no/such/bp.toml"), Err(ConfigError::Document(error)) if error.is_missing())
    );
}

/// A directory with `bp.toml` and an overlay.
fn files(overlay: &str) -> (TempDir, ConfigLoader) {
    let directory = tempfile::tempdir().unwrap();
    let (base, over) = (directory.path().join("bp.toml"), directory.path().join("over.toml"));
    fs::write(&base, GOOD).unwrap();
    fs::write(&over, overlay).unwrap();
    (directory, ConfigLoader::new(base).overlay(over))
}

#[test]
fn reads_limits_policy_and_owner() {
    let more = "[environment.limits]\nfailures = 3\ntransfers = \"1_0\"\n";
    let text =
        GOOD.replacen("timeout = \"1h\"", &format!("timeout = \"1h\"\non-failure = \"leave\"\n{more}"), 1);
    assert!(Config::parse(&text, "bp.toml").is_err(), "underscores are allowed in numbers, not in strings");
    let text = text.replace("\"1_0\"", "1_0").replacen("repository", "owner = \"team web\"\nrepository", 1);
    let config = Config::parse(&text, "bp.toml").unwrap();
    let (dev, prod) = (&config.environments()[0], &config.environments()[1]);
    assert_eq!(
        (dev.services()[0].deploy.on_failure, dev.services()[0].limits),
        (OnFailure::RollBack, Limits::default())
    );
    assert_eq!(prod.services()[0].deploy.on_failure, OnFailure::Leave);
    assert_eq!(prod.services()[0].limits.failures, Some(FailureLimit::Count(3.try_into().unwrap())));
    assert_eq!(prod.services()[0].limits.transfers.map(u32::from), Some(10));
    assert_eq!(dev.services()[0].tags["Owner"], "team web");
    let untagged = text.replacen("service = \"web\"", "service = \"web\"\ntagging = \"off\"", 1);
    let untagged = Config::parse(&untagged, "bp.toml").unwrap();
    let tagging = |config: &Config| config.environments()[0].services()[0].ecs().unwrap().tagging;
    assert_eq!((tagging(&config), tagging(&untagged)), (true, false));
    let owner = dev.settings().iter().find(|setting| setting.key == "tags.Owner").unwrap();
    assert_eq!(serde_json::to_value(owner).unwrap()["origin"], "bp.toml:5:9");
}

#[test]
fn later_layers_take_precedence_and_are_the_origin() {
    let (_directory, loader) = files(
        "version = 1\n[project.tags]\nOwner = \"team\"\n[[environment]]\nname = \"dev\"\n[environment.ecs]\n\
         cluster = \"blue\"\nservice = \"web2\"\n[environment.tags]\nApp = \"front\"\n",
    );
    let config = loader
        .variables(|name| match name {
            "BP_DEV_ECS_SERVICE" => Some("web3".into()),
            "BP_DEV_ECS_CONTAINER" => Some("side".into()),
            "BP_DEV_REGION" => Some(String::new()),
            _ => None,
        })
        .flag("--container", "dev", "ecs.container", "main")
        .load()
        .unwrap();
    let dev = config.environment("dev").unwrap();
    let ecs = dev.services()[0].ecs().unwrap();
    assert_eq!(
        (ecs.cluster.as_str(), ecs.service.as_str(), ecs.container.as_deref()),
        ("blue", "web3", Some("main"))
    );
    assert_eq!(dev.region.as_str(), "eu-central-1", "an empty variable counts as unset");
    let tags: Vec<(&str, &str)> =
        dev.services()[0].tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        tags,
        [
            ("App", "front"),
            ("Environment", "dev"),
            ("ManagedBy", "bp"),
            ("Owner", "team"),
            ("Project", "shop")
        ]
    );

    let origin = |key: &str| {
        let setting = dev.settings().iter().find(|setting| setting.key == key).unwrap();
        let origin = setting.origin.to_string();
        origin.rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(origin("region"), "bp.toml:10:10");
    assert_eq!(origin("repository"), "bp.toml:5:14");
    assert_eq!(origin("ecs.cluster"), "over.toml:7:11");
    assert_eq!(origin("ecs.service"), "$BP_DEV_ECS_SERVICE");
    assert_eq!(origin("ecs.container"), "--container");
    assert_eq!(origin("deploy.timeout"), "default");
    assert_eq!(origin("tags.Owner"), "over.toml:3:9");
    // A tag is a setting like any other.
    let (_directory, loader) = files("version = 1\n");
    let tagged = loader.flag("--set", "dev", "tags.Owner", "me").load().unwrap();
    assert_eq!(tagged.environment("dev").unwrap().services()[0].tags["Owner"], "me");
    // The other environment is unchanged.
    let before = Config::parse(GOOD, "bp.toml").unwrap();
    assert_eq!(
        config.environment("prod").unwrap().services()[0].eks().unwrap(),
        before.environment("prod").unwrap().services()[0].eks().unwrap()
    );
}

#[test]
fn errors_in_later_layers_state_their_origin() {
    let (_directory, loader) = files("version = 1\n[[environment]]\nname = \"qa\"\n");
    let error = loader.load().unwrap_err().to_string();
    assert!(
        error.ends_with("over.toml:3:8: the environment qa is not in the file that this one overlays"),
        "{error}"
    );

    let (_directory, loader) = files("version = 1\n");
    let variables = |name: &str| (name == "BP_PROD_REGION").then(|| "mars".to_owned());
    let error = loader.variables(variables).load().unwrap_err().to_string();
    assert!(error.starts_with("$BP_PROD_REGION: \"mars\" is not an AWS region"), "{error}");

    // A conflict of two settings is reported at the overlaid one.
    let (_directory, loader) = files("version = 1\n");
    let error = loader.flag("--role", "dev", "role", "arn:aws:iam::999999999999:role/x").load().unwrap_err();
    assert_eq!(error.to_string(), "--role: the role belongs to account 999999999999, not to 111111111111");
    let (_directory, loader) = files("version = 1\n");
    let error = loader.flag("--x", "dev", "nonsense", "1").load().unwrap_err();
    assert_eq!(error.to_string(), "--x: unknown setting \"nonsense\"");
}

#[test]
fn committed_schema_matches_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/bp.toml.schema.json");
    let mut expected = serde_json::to_string_pretty(&config_schema()).unwrap();
    expected.push('\n');
    if std::env::var_os("BP_WRITE_SCHEMA").is_some() {
        fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, &expected).unwrap();
    }
    // As values: the order of keys depends on the features of other crates.
    let committed: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        committed == serde_json::from_str::<serde_json::Value>(&expected).unwrap(),
        "update it: BP_WRITE_SCHEMA=1 cargo test -p bp-artifact --test config"
    );
}

const SERVICES: &str = r#"version = 1

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

const GATES: &str = r#"[environment.gate.smoke]
after = "worker"
url = "https://shop.example.com/readyz"
status = 200
json."/build/version" = "1.4"
[environment.gate.orders]
after = "web/ecs"
command = ["./orders.sh", "a, b"]
timeout = "90s"
[environment.gate.go-live]
approval = true
"#;

#[test]
fn reads_gates_after_targets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bp.toml");
    fs::write(&path, format!("{SERVICES}{GATES}")).unwrap();
    let variable = |name: &str| (name == "BP_PROD_GATE_SMOKE_TIMEOUT").then(|| "7s".to_owned());
    let flag = ("gate.orders.command", r#"["./other.sh"]"#);
    let config =
        ConfigLoader::new(&path).variables(variable).flag("--set", "prod", flag.0, flag.1).load().unwrap();
    assert!(config.environment("dev").unwrap().gates().is_empty());
    let prod = config.environment("prod").unwrap();
    let [go_live, orders, smoke] = prod.gates() else { panic!("{:?}", prod.gates()) };
    assert_eq!((go_live.name.as_str(), &go_live.after), ("go-live", &None));
    assert_eq!(go_live.condition, GateCondition::Approval);
    let after = |gate: &GateConfig| {
        let place = gate.after.clone().unwrap();
        (place.service.unwrap().to_string(), place.platform)
    };
    assert_eq!(after(orders), ("web".into(), Some(DeployPlatform::Ecs)));
    let command = GateCondition::Command {
        program: "./other.sh".into(),
        arguments: vec![],
        timeout: Duration::from_secs(90),
    };
    assert_eq!(orders.condition, command);
    assert_eq!(after(smoke), ("worker".into(), None));
    let http = GateCondition::Http {
        url: "https://shop.example.com/readyz".into(),
        status: Some(200),
        contains: None,
        fields: [("/build/version".to_owned(), "1.4".to_owned())].into(),
        timeout: Duration::from_secs(7),
    };
    assert_eq!(smoke.condition, http);
    let settings: Vec<String> = prod
        .settings()
        .iter()
        .filter(|setting| setting.key.starts_with("gate."))
        .map(|setting| format!("{} = {} ({})", setting.key, setting.value, setting.origin))
        .collect();
    assert_eq!(settings.len(), 9, "{settings:?}");
    assert!(
        settings.contains(&"gate.smoke.timeout = 7s ($BP_PROD_GATE_SMOKE_TIMEOUT)".to_owned()),
        "{settings:?}"
    );
    // They belong to the environment, not to its services.
    let of_services = prod.services().iter().flat_map(|service| service.settings());
    assert_eq!(of_services.filter(|setting| setting.key.starts_with("gate.")).count(), 0);
    // With one service, `after` is only the platform.
    let one = GOOD.replacen(
        "[environment.ecs]",
        "[environment.gate.a]\nafter = \"ecs\"\napproval = true\n[environment.ecs]",
        1,
    );
    let one = Config::parse(&one, "bp.toml").unwrap();
    let gate = one.environments().iter().find_map(|environment| environment.gates().first()).unwrap();
    let place = gate.after.as_ref().unwrap();
    assert_eq!((&place.service, place.platform), (&None, Some(DeployPlatform::Ecs)));
}

#[test]
fn errors_in_gates_state_the_location() {
    let line = SERVICES.lines().count();
    for (from, to, at, message) in [
        ("gate.smoke]", "gate.Smoke]", (2, 9), "\"Smoke\" is not the name of a gate"),
        (
            "\"worker\"",
            "\"wrker\"",
            (2, 9),
            "\"wrker\" is not a service or target: expected one of web, worker",
        ),
        ("\"worker\"", "\"worker/eks\"", (2, 9), "\"worker/eks\" is not deployed in this environment"),
        ("https://shop", "ftp://shop", (3, 7), "is not a valid URL: expected http:// or https://"),
        ("https://shop", "https://u:p@shop", (3, 7), "it contains credentials"),
        ("status = 200", "status = 600", (4, 10), "\"600\" is not a status from 100 to 599"),
        ("status = 200", "state = 200", (4, 1), "unknown key `gate.smoke.state`, expected one of"),
        ("\"/build", "\"build", (5, 24), "\"build/version\" is not a JSON pointer"),
        ("[\"./orders.sh\", \"a, b\"]", "\"./orders.sh\"", (8, 11), "is a list of strings, found a string"),
        ("[\"./orders.sh\", \"a, b\"]", "[1]", (8, 11), "is a list of strings, found a list"),
        ("[\"./orders.sh\", \"a, b\"]", "[]", (8, 11), "expected a program and its arguments"),
        ("\"90s\"", "\"soon\"", (9, 11), "soon"),
        ("approval = true", "approval = false", (11, 12), "`gate.go-live.approval` must be true or omitted"),
        (
            "approval = true",
            "timeout = \"1m\"",
            (11, 11),
            "requires exactly one of `approval`, `url` and `command`",
        ),
        ("timeout = \"90s\"", "approval = true", (8, 11), "the gate orders requires exactly one of"),
        ("timeout = \"90s\"", "status = 200", (9, 10), "`gate.orders.status` requires a `url`"),
        ("approval = true", "approval = true\ntimeout = \"1m\"", (12, 11), "is not allowed for an approval"),
    ] {
        assert!(GATES.contains(from), "{from}");
        let text = format!("{SERVICES}{}", GATES.replacen(from, to, 1));
        let error = Config::parse(&text, "bp.toml").unwrap_err().to_string();
        let place = format!("bp.toml:{}:{}: ", line + at.0, at.1);
        assert!(error.starts_with(&place) && error.contains(message), "{from} -> {to}: {error}");
    }
    // A table whose name has a known name as its prefix.
    let text = SERVICES.replacen("[environment.service.worker]", "[environment.\"serviceé\"]", 1);
    assert!(Config::parse(&text, "bp.toml").unwrap_err().to_string().contains("unknown key `serviceé`"));
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
