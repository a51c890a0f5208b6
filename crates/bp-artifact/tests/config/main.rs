//! `bp.toml`: values, parse errors with their location, overlays, and the JSON Schema.

mod gates;
mod reference;
mod services;

use std::{fs, time::Duration};

use bp_artifact::{
    Config,
    config::{ConfigError, ConfigLoader, FailureLimit, Limits, config_schema},
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
    let off = GOOD.replace("namespace = \"web\"", "namespace = \"web\"\nplatform-variable = \"off\"");
    let off = Config::parse(&off, "bp.toml").unwrap();
    let variables = &off.environments()[1].services()[0].eks().unwrap().variables;
    assert!(!variables.contains_key("DEPLOY_PLATFORM"));
    let options = "also = \"migrate, worker\"\nrestarts = 6\ngrace = \"5m\"\nallow-owner = \"on\"\nallow-no-replicas = \"on\"";
    let text = GOOD.replace("namespace = \"web\"", &format!("namespace = \"web\"\n{options}"));
    let eks = Config::parse(&text, "bp.toml").unwrap().environments()[1].services()[0].eks().unwrap().clone();
    assert_eq!(eks.also, ["migrate", "worker"]);
    assert_eq!(
        (eks.restarts.map(|n| n.get()), eks.grace, eks.allow_owner, eks.allow_no_replicas),
        (Some(6), Some(Duration::from_secs(300)), true, true)
    );
    let set = format!("{GOOD}\n[environment.eks.environment]\nDEPLOY_PLATFORM = \"k8s\"\nMODE = \"\"\n");
    let set = Config::parse(&set, "bp.toml").unwrap();
    let variables = &set.environments()[1].services()[0].eks().unwrap().variables;
    assert_eq!((variables["DEPLOY_PLATFORM"].as_str(), variables["MODE"].as_str()), ("k8s", ""));
    assert_eq!(dev.services()[0].deploy.timeout, Duration::from_secs(15 * 60));
    let eks = prod.services()[0].eks().unwrap();
    assert_eq!((eks.restarts, eks.grace, eks.allow_owner, eks.allow_no_replicas), (None, None, false, false));
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
        ("\"deployment/web\"", "\"rollout/web\"", "bp.toml:26:12: \"rollout/web\" is not a workload"),
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
    let scheduled = text.replacen("service = \"web\"", "service = \"web\"\nschedules = \"on\"", 1);
    let schedules = |text: &str| {
        let config = bp_artifact::config::Config::parse(text, "bp.toml").unwrap();
        config.environments()[0].services()[0].ecs().unwrap().schedules
    };
    assert_eq!((schedules(&text), schedules(&scheduled)), (false, true));
    let stable_for = |value: &str| {
        let text =
            text.replacen("service = \"web\"", &format!("service = \"web\"\nstable-for = \"{value}\""), 1);
        let config = Config::parse(&text, "bp.toml")?;
        Ok::<_, bp_artifact::config::ConfigError>(config.environments()[0].services()[0].ecs()?.stable_for)
    };
    assert_eq!(stable_for("30s").unwrap(), Some(Duration::from_secs(30)));
    assert_eq!(stable_for("0s").unwrap(), Some(Duration::ZERO));
    assert!(stable_for("soon").is_err());
    let tasks = |lines: &str| {
        let text = text.replacen("service = \"web\"", &format!("service = \"web\"\n{lines}"), 1);
        let config = Config::parse(&text, "bp.toml")?;
        Ok::<_, ConfigError>(config.environments()[0].services()[0].ecs()?.tasks.clone())
    };
    let set = "before.b = [\"./b\"]\nbefore.a = [\"./manage\", \"migrate\"]\nafter.c = [\"./c\"]\ntask-timeout = \"20m\"\n\
               task-container = \"web\"";
    let set = tasks(set).unwrap();
    assert_eq!(set.before.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        (&set.before["a"][..], &set.after["c"][..]),
        (&["./manage".into(), "migrate".into()][..], &["./c".into()][..])
    );
    assert_eq!((set.timeout, set.container.as_deref()), (Some(Duration::from_secs(1200)), Some("web")));
    for wrong in [
        "before.a = []",
        "before.a = [\"\"]",
        "before.a = \"./a\"",
        "before.\"A b\" = [\"./a\"]",
        "task-timeout = \"0s\"",
    ] {
        assert!(tasks(wrong).is_err(), "{wrong}");
    }
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
