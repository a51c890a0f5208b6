//! Gates in `bp.toml`.

use std::{fs, time::Duration};

use bp_artifact::{
    Config,
    check::CheckKind,
    config::{ConfigLoader, DeployPlatform, GateCondition, GateConfig},
};

use crate::{GOOD, services::SERVICES};

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

/// Gates that check alarms, and a Job after a service that is not on EKS.
const CHECKS: &str = r#"[environment.gate.alarms]
alarms = ["shop-5xx", "shop latency"]
[environment.gate.job]
after = "worker"
job = "smoke.yaml"
timeout = "2m"
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
            "requires exactly one of `approval`, `url`, `command`, `alarms` and `job`",
        ),
        ("timeout = \"90s\"", "approval = true", (8, 11), "the gate orders requires exactly one of"),
        ("timeout = \"90s\"", "status = 200", (9, 10), "`gate.orders.status` requires a `url`"),
        ("approval = true", "approval = true\ntimeout = \"1m\"", (12, 11), "is not allowed for an approval"),
        ("approval = true", "approval = true\nverify = \"on\"", (12, 10), "is not allowed for an approval"),
        ("status = 200", "verify = \"yes\"", (4, 10), "\"yes\" is neither \"on\" nor \"off\""),
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
fn reads_gates_that_check_alarms_and_jobs() {
    let config = Config::parse(&format!("{SERVICES}{CHECKS}"), "bp.toml").unwrap();
    let [alarms, job] = config.environment("prod").unwrap().gates() else { panic!() };
    let names = vec!["shop-5xx".to_owned(), "shop latency".to_owned()];
    assert_eq!(alarms.condition, GateCondition::Alarms { names, timeout: Duration::from_secs(300) });
    // In the only namespace of the environment: the service before the gate is on ECS alone.
    let expected = GateCondition::Job {
        manifest: "smoke.yaml".into(),
        cluster: "prod".into(),
        namespace: "shop".into(),
        timeout: Duration::from_secs(120),
    };
    assert_eq!(job.condition, expected);
}

#[test]
fn errors_in_gates_that_check_alarms_and_jobs_state_the_location() {
    let line = SERVICES.lines().count();
    let names = "[\"shop-5xx\", \"shop latency\"]";
    let long = format!("[\"{}\"]", "x".repeat(256));
    for (from, to, at, message) in [
        (names, "\"shop-5xx\"", (2, 10), "is a list of strings, found a string"),
        (names, "[]", (2, 10), "expected names of CloudWatch alarms"),
        (names, "[\" \"]", (2, 10), "an alarm's name is empty"),
        (
            names,
            "[\"arn:aws:cloudwatch:eu-central-1:1:alarm:a\"]",
            (2, 10),
            "is an ARN: expected the alarm's name",
        ),
        (names, &long, (2, 10), "expected 1 to 255 printable characters"),
        ("timeout = \"2m\"", "status = 200", (6, 10), "`gate.job.status` requires a `url`"),
        ("timeout = \"2m\"", "alarms = [\"a\"]", (5, 7), "the gate job requires exactly one of"),
        ("\"smoke.yaml\"", "\"\"", (5, 7), "gate.job.job is empty"),
    ] {
        assert!(CHECKS.contains(from), "{from}");
        let text = format!("{SERVICES}{}", CHECKS.replacen(from, to, 1));
        let error = Config::parse(&text, "bp.toml").unwrap_err().to_string();
        let place = format!("bp.toml:{}:{}: ", line + at.0, at.1);
        assert!(error.starts_with(&place) && error.contains(message), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_job_runs_in_the_namespace_of_its_service_or_the_only_one() {
    let job = |services: &str, checks: &str| -> Result<String, String> {
        let config = Config::parse(&format!("{services}{checks}"), "bp.toml").map_err(|e| e.to_string())?;
        match &config.environment("prod").unwrap().gates().last().unwrap().condition {
            GateCondition::Job { namespace, .. } => Ok(namespace.clone()),
            other => panic!("{other:?}"),
        }
    };
    let anywhere = CHECKS.replacen("after = \"worker\"\n", "", 1);
    assert_eq!(job(SERVICES, &anywhere), Ok("shop".to_owned()));

    let none = SERVICES.replacen("eks.workload = \"deployment/web\"\n", "", 1);
    let error = job(&none, CHECKS).unwrap_err();
    assert!(error.contains("`gate.job.job` requires an EKS target, but no service has one"), "{error}");

    let two = format!("{SERVICES}eks.workload = \"deployment/worker\"\neks.namespace = \"jobs\"\n");
    assert_eq!(job(&two, CHECKS), Ok("jobs".to_owned()));
    let error = job(&two, &anywhere).unwrap_err();
    assert!(
        error.contains("`gate.job.job` is ambiguous, the EKS targets are in several namespaces"),
        "{error}"
    );
}

#[test]
fn a_check_can_be_for_deployments_for_verification_or_both() {
    let read = |gates: &str| {
        let config = Config::parse(&format!("{SERVICES}{gates}"), "bp.toml").unwrap();
        let gates = config.environment("prod").unwrap().gates().to_vec();
        gates.iter().map(|gate| (gate.name.to_string(), gate.deploy, gate.verify)).collect::<Vec<_>>()
    };
    // A verification changes nothing by itself: commands and Jobs only on request.
    let of = |name: &str, deploy, verify| (name.to_owned(), deploy, verify);
    assert_eq!(read(GATES), [of("go-live", true, false), of("orders", true, false), of("smoke", true, true)]);
    let own = GATES
        .replace("status = 200", "status = 200\ndeploy = \"off\"")
        .replace("timeout = \"90s\"", "verify = \"on\"");
    assert_eq!(read(&own), [of("go-live", true, false), of("orders", true, true), of("smoke", false, true)]);
}

#[test]
fn verification_leaves_out_known_checks_only() {
    let with = |skip: &str| {
        let line = "region = \"eu-west-1\"";
        Config::parse(&GOOD.replace(line, &format!("{line}\nverify.skip = \"{skip}\"")), "bp.toml")
    };
    let skips = with("secrets, tls").unwrap().environment("prod").unwrap().verify_skips.clone();
    assert_eq!(skips, [CheckKind::Secrets, CheckKind::Tls]);
    assert!(Config::parse(GOOD, "bp.toml").unwrap().environment("prod").unwrap().verify_skips.is_empty());
    let error = with("tsl").unwrap_err().to_string();
    assert!(error.contains("\"tsl\" is not a check: expected one of rollout, "), "{error}");
}
