//! The IAM policies of docs/iam are sufficient: every action that a command requires on the sandbox is allowed by the
//! policies that docs/iam/README.md assigns to the command. Conditions are not evaluated.
#![allow(clippy::print_stdout, reason = "a report for who runs the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bp_sandbox::Behaviour;
use serde_json::Value;

use super::site::{REGISTRY, Site};

/// The directory of the policies.
const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/iam");

/// An action that a request required, and the resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Required {
    action: String,
    resource: String,
}

/// A policy document, as far as it matters here.
struct Policy {
    statements: Vec<Value>,
}

impl Policy {
    /// Reads a file of docs/iam.
    fn read(file: &str) -> Self {
        let text =
            std::fs::read_to_string(format!("{POLICIES}/{file}")).unwrap_or_else(|e| panic!("{file}: {e}"));
        Self::parse(file, &text)
    }

    fn parse(file: &str, text: &str) -> Self {
        let document: Value = serde_json::from_str(text).unwrap();
        assert_eq!(document["Version"], "2012-10-17", "{file}");
        let statements = document["Statement"].as_array().unwrap().clone();
        Policy { statements }
    }

    /// Whether a statement with this effect matches the action on the resource.
    fn has(&self, effect: &str, permission: &Required) -> bool {
        let matches = |statement: &&Value| {
            statement["Effect"] == effect
                && selects(statement, "Action", &permission.action.to_lowercase())
                && selects(statement, "Resource", &permission.resource)
        };
        self.statements.iter().any(|statement| matches(&statement))
    }

    /// The actions that its statements allow, as written.
    fn actions(&self) -> BTreeSet<String> {
        self.statements.iter().flat_map(|statement| texts(&statement["Action"])).collect()
    }
}

/// Whether the policies together allow what is required.
fn allow(policies: &[Policy], permission: &Required) -> bool {
    policies.iter().any(|policy| policy.has("Allow", permission))
        && !policies.iter().any(|policy| policy.has("Deny", permission))
}

/// Whether an element of a statement, or its negation, selects the text.
fn selects(statement: &Value, element: &str, text: &str) -> bool {
    let matches = |patterns: &Value| {
        texts(patterns).iter().any(|pattern| {
            let pattern = if element == "Action" { pattern.to_lowercase() } else { pattern.clone() };
            matches_pattern(pattern.as_bytes(), text.as_bytes())
        })
    };
    match (&statement[element], &statement[format!("Not{element}")]) {
        (Value::Null, Value::Null) => false,
        (Value::Null, negated) => !matches(negated),
        (patterns, _) => matches(patterns),
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

/// `*` is any text, `?` any character.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            matches_pattern(rest, text)
                || text.split_first().is_some_and(|(_, text)| matches_pattern(pattern, text))
        }
        ([b'?', pattern @ ..], [_, text @ ..]) => matches_pattern(pattern, text),
        ([a, pattern @ ..], [b, text @ ..]) if a == b => matches_pattern(pattern, text),
        ([], _) | ([_, ..], _) => false,
    }
}

/// A requirement in staging or of the worker, as the policies, which are for web in prod, would state it.
fn in_prod(required: &Required) -> Required {
    let resource = required.resource.replace("222222222222", "333333333333").replace("worker", "web");
    Required { resource: resource.replace("/staging", "/prod"), action: required.action.clone() }
}

/// The policies of each command, by the table in README.md.
fn assigned() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(format!("{POLICIES}/README.md")).unwrap();
    let (_, table) =
        text.split_once("| command | policies |\n|---|---|\n").expect("README.md has the table of commands");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut columns = row.trim_matches('|').split('|').map(str::trim);
        let command = columns.next().unwrap().trim_matches('`').to_owned();
        let files = columns.next().unwrap().split('`').skip(1).step_by(2);
        (command, files.map(|name| format!("{name}.json")).collect())
    })
    .collect()
}

/// What the policies allow and no command required, for information.
fn unused(used: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let of = |(file, used): (&String, &BTreeSet<String>)| {
        let actions = Policy::read(file).actions();
        let unused: Vec<String> = actions
            .into_iter()
            .filter(|action| {
                let action = action.to_lowercase();
                !used.iter().any(|used| matches_pattern(action.as_bytes(), used.to_lowercase().as_bytes()))
            })
            .collect();
        (!unused.is_empty()).then(|| format!("{file}: {}", unused.join(", ")))
    };
    used.iter().filter_map(of).collect()
}

/// What the role of an environment may do, for promotions and deployments.
const DELIVER: &[&str] = &[
    "resolve",
    "promote-source",
    "promote-destination",
    "promote-plan",
    "deploy-ecs",
    "rollback-revision-ecs",
    "deploy-eks",
    "rollback-revision-eks",
    "verify",
];

/// Every request of a pipeline was allowed to the role that made it.
pub(crate) fn check_roles(site: &Site) {
    let mut missing = BTreeSet::new();
    for entry in site.world.sandbox.ledger().entries() {
        // arn:aws:sts::<account>:assumed-role/<role>/<session>
        let Some(caller) = &entry.caller else { continue };
        let role = caller.split('/').nth(1).unwrap_or_default();
        let names: &[&str] = match role {
            "build" => &["build"],
            "pipeline" => &["pipeline"],
            "drift" => &["drift"],
            "verify" => &["verify"],
            "deliver" => DELIVER,
            _ => &[],
        };
        let policies: Vec<Policy> = names.iter().map(|name| Policy::read(&format!("{name}.json"))).collect();
        for permission in &entry.permissions {
            let required =
                Required { action: permission.action.clone(), resource: permission.resource.clone() };
            // The policies of environments are for web in prod, and those of a source for the build account.
            let in_prod = in_prod(&required);
            let of_source = in_prod.resource.replace("333333333333", "111111111111");
            let of_source = Required { resource: of_source, ..in_prod.clone() };
            if ![required.clone(), in_prod, of_source].iter().any(|required| allow(&policies, required)) {
                missing.insert(format!("{caller}: {} on {}", required.action, required.resource));
            }
        }
    }
    let missing: Vec<String> = missing.into_iter().collect();
    assert!(missing.is_empty(), "not allowed by docs/iam:\n{}", missing.join("\n"));
}

/// The commands, in an order in which each has something to do; `:` is a preparation.
const SCENARIOS: &[(&str, &str)] = &[
    ("copy", "bp copy REGISTRY/shop/source:next REGISTRY/shop/web:1.0.0"),
    ("emit-artifact", "bp emit-artifact --service web --image REGISTRY/shop/web:1.0.0 --commit 1a2b3c4"),
    ("promote --plan", "bp promote --to staging --service web --plan"),
    ("promote", "bp promote --to staging --service web --attach-record"),
    (":", "bp promote --to prod --service web"),
    ("deploy-ecs --check", "bp deploy-ecs --env prod --service web --check"),
    ("deploy-ecs", "bp deploy-ecs --env prod --service web"),
    ("run-task", "bp run-task --env prod --service web --command true"),
    ("deploy-eks --check", "bp deploy-eks --env prod --service web --check"),
    ("deploy-eks", "bp deploy-eks --env prod --service web"),
    ("verify", "bp verify --env prod --service web"),
    ("status", "bp status --env prod --service web"),
    ("rollback", "rm receipt.json; bp rollback --env prod --service web"),
    ("deploy-ecs --keep-revisions", "bp deploy-ecs --env prod --service web --keep-revisions 1"),
    ("dual-deploy", "bp dual-deploy --env staging --service web"),
    (":", "bp deploy-ecs --env staging --service web --force --no-wait"),
    ("wait", "bp wait --env staging --service web"),
    ("refresh-pull-secret", "bp refresh-pull-secret --env staging --service web"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policies_of_each_command_are_sufficient() {
    let site = Site::new().await;
    let image = site.push("shop/source", "web", "1.0.0", "next");
    let exits = Behaviour::Exits { after: Duration::from_secs(1), code: 0, log: Vec::new() };
    site.world.sandbox.script_command(image.digest(), &["true"], exits);
    let workspace = site.workspace(true);
    let ledger = site.world.sandbox.ledger();
    let assigned = assigned();
    // The role with which a command starts, and those of the environments.
    let (build, pipeline) = ([Policy::read("build.json")], [Policy::read("pipeline.json")]);
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for (command, script) in SCENARIOS {
        ledger.clear();
        let ended = site.shell(workspace.path(), &script.replace("REGISTRY", REGISTRY)).await;
        if ended.code != 0 {
            missing.push(format!("{script}: {}", ended.output));
        }
        let Some(files) = assigned.get(*command) else {
            assert_eq!(*command, ":", "README.md has no policies of {command}");
            continue;
        };
        let policies: Vec<Policy> = files.iter().map(|file| Policy::read(file)).collect();
        for entry in ledger.entries() {
            let is_start = entry.caller.as_ref().is_some_and(|arn| arn.ends_with(":user/sandbox"));
            for permission in &entry.permissions {
                let required =
                    Required { action: permission.action.clone(), resource: permission.resource.clone() };
                let allowed = match (is_start, required.action.as_str()) {
                    (true, "sts:AssumeRole") => allow(&pipeline, &required),
                    (true, _) => allow(&build, &required) || allow(&policies, &in_prod(&required)),
                    (false, _) => allow(&policies, &in_prod(&required)),
                };
                if !allowed {
                    missing.push(format!("{command}: {} on {}", required.action, required.resource));
                }
                for file in files {
                    used.entry(file.clone()).or_default().insert(required.action.clone());
                }
            }
        }
    }
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "not allowed by docs/iam:\n{}", missing.join("\n"));
    let run: BTreeSet<&str> = SCENARIOS.iter().map(|(command, _)| *command).collect();
    for command in assigned.keys() {
        assert!(run.contains(command.as_str()), "no scenario runs {command}");
    }
    println!("allowed by docs/iam and not used by these commands:\n{}", unused(&used).join("\n"));
}

#[test]
fn statements_select_by_wildcards_and_negations() {
    let policy = |text: &str| [Policy::parse("test", text)];
    let permission =
        |action: &str, resource: &str| Required { action: action.to_owned(), resource: resource.to_owned() };
    let read = policy(
        r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":["ecr:Get*","ecr:BatchGetImage"],"Resource":"arn:aws:ecr:*:1:repository/shop/?eb"},
            {"Effect":"Allow","NotAction":"iam:*","Resource":"*"},
            {"Effect":"Deny","Action":"ecr:*","NotResource":"arn:aws:ecr:*"}]}"#,
    );
    assert!(allow(
        &read[..],
        &permission("ECR:getdownloadurlforlayer", "arn:aws:ecr:eu:1:repository/shop/web")
    ));
    assert!(allow(&read[..], &permission("ecs:ListTasks", "*")));
    assert!(!allow(&read[..], &permission("iam:PassRole", "arn:aws:iam::1:role/a")));
    assert!(!allow(&read[..], &permission("ecr:GetAuthorizationToken", "*")), "denied");
    let one = policy(
        r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"ecs:UpdateService","Resource":"arn:aws:ecs:eu:1:service/prod/shop-web"}]}"#,
    );
    assert!(!allow(&one[..], &permission("ecs:UpdateService", "arn:aws:ecs:eu:1:service/prod/shop-worker")));
    assert!(!allow(&one[..], &permission("ecs:UpdateService", "*")));
}

/// A CloudFormation template without the short forms of its functions: only their arguments remain.
pub(crate) fn template(text: &str) -> Value {
    let mut rest = text;
    let mut untagged = String::new();
    while let Some((before, tagged)) = rest.split_once('!') {
        untagged.push_str(before);
        let name: usize = tagged.bytes().take_while(u8::is_ascii_alphabetic).count();
        // A function's name, and not a `!` in text.
        rest = match tagged.as_bytes().get(name) {
            Some(b' ') if name > 0 => &tagged[name + 1..],
            Some(b'\n') if name > 0 => &tagged[name..],
            Some(_) | None => {
                untagged.push('!');
                tagged
            }
        };
    }
    serde_saphyr::from_str(&(untagged + rest)).unwrap()
}

/// The statements of a role in a CloudFormation template, in the role and in managed policies.
fn role(text: &str, name: &str) -> Vec<Value> {
    let template = template(text);
    let resources = template["Resources"].as_object().unwrap();
    let own = resources[name]["Properties"]["Policies"].as_array().into_iter().flatten();
    let is_attached = |resource: &&Value| {
        let roles = &resource["Properties"]["Roles"];
        resource["Type"] == "AWS::IAM::ManagedPolicy" && texts(roles).iter().any(|role| role == name)
    };
    let managed = resources.values().filter(is_attached).map(|resource| &resource["Properties"]);
    let statements = |policy: &Value| policy["PolicyDocument"]["Statement"].as_array().unwrap().clone();
    own.chain(managed).flat_map(statements).collect()
}

/// The actions that statements allow; of some services only, if any are given.
fn actions(statements: &[Value], services: &[&str]) -> BTreeSet<String> {
    let all = statements.iter().flat_map(|statement| texts(&statement["Action"]));
    all.filter(|action| services.is_empty() || services.iter().any(|service| action.starts_with(service)))
        .collect()
}

#[test]
fn the_roles_of_the_templates_have_the_actions_of_the_policies() {
    let github = include_str!("../../../../examples/roles/github.yml");
    let environment = include_str!("../../../../examples/roles/environment.yml");
    let pipeline = include_str!("../../../../examples/codepipeline/pipeline.yml");
    let deliver: &[&str] = &[
        "resolve",
        "promote-source",
        "promote-destination",
        "promote-plan",
        "deploy-ecs",
        "deploy-eks",
        "verify",
    ];
    // CodeBuild's roles also write logs and artifacts.
    let rows: [(&str, &str, &[&str], &[&str]); 7] = [
        (github, "Build", &["build"], &[]),
        (github, "Pipeline", &["pipeline"], &[]),
        (github, "Drift", &["drift"], &[]),
        (environment, "Deliver", deliver, &[]),
        (environment, "Verify", &["verify"], &[]),
        (pipeline, "BuildRole", &["build"], &["ecr:"]),
        (pipeline, "DeployRole", &["pipeline"], &["sts:"]),
    ];
    for (text, name, policies, services) in rows {
        let of_policies: Vec<Value> =
            policies.iter().flat_map(|policy| Policy::read(&format!("{policy}.json")).statements).collect();
        assert_eq!(actions(&role(text, name), services), actions(&of_policies, &[]), "{name}");
    }
}
