//! The text of a new `bp.toml`.

use std::fmt::Write as _;

use bp_artifact::{Config, error::Classified as _, text::single_line};

use super::{
    draft::{Draft, Known, Values},
    schema::{Form, form, segments},
};
use crate::Failure;

/// The order of the usual settings; others follow.
const ORDER: [&str; 14] = [
    "account",
    "region",
    "role",
    "registry",
    "repository",
    "ecs.cluster",
    "ecs.service",
    "ecs.container",
    "eks.cluster",
    "eks.namespace",
    "eks.workload",
    "eks.release",
    "eks.manifests",
    "eks.container",
];

/// Settings that are often added later, as comments.
const LATER: &str = "\
# deploy.timeout = \"15m\"          # how long a deployment may take
# deploy.on-failure = \"roll-back\" # or \"leave\"
# limits.failures = 2             # failed tasks or pods at which a deployment fails
# ecs.environment.LOG_LEVEL = \"info\"
# ecs.secrets.DATABASE_URL = \"arn:aws:secretsmanager:...\"
# gate.go-live.approval = true    # dual-deploy waits for --approve go-live
";

/// The text of the file, which is read back to be sure that it is valid.
///
/// # Errors
/// When a value is invalid.
pub(crate) fn text(draft: &Draft, file: &str) -> Result<String, Failure> {
    let text = of(draft);
    Config::parse(&text, file).map_err(|error| {
        // The file does not exist yet: its line is quoted.
        let number = error.location().and_then(|at| at.line.checked_sub(1));
        let line = number.and_then(|number| text.lines().nth(number)).unwrap_or_default();
        let setting = line.split(" # ").next().unwrap_or_default();
        Failure::from(error)
            .context(format_args!("invalid setting {}", single_line(setting)))
            .hint("nothing was written; correct the flags")
    })?;
    Ok(text)
}

fn of(draft: &Draft) -> String {
    let mut text = String::from(
        "# Written by `bp init`. After `#` is where a value comes from. Every key is documented in docs/artifact.md.\n\
         # `bp config show` prints all settings, `bp doctor` checks what they refer to.\n\
         version = 1\n\n[project]\n",
    );
    if let Some(name) = &draft.project {
        line(&mut text, "name", name, Form::Text);
    }
    if let Some(repository) = &draft.repository {
        line(&mut text, "repository", repository, Form::Text);
    }
    text.push_str(
        "# owner = \"team-shop\" # the tag Owner of what is created\n\
         # Several services: replace repository by [[service]] tables.\n\n\
         # Environments in promotion order: `bp promote --to NAME` copies from the one before it.\n",
    );
    for (name, values) in &draft.environments {
        let _ = write!(text, "[[environment]]\nname = {}\n", quoted(name.as_str()));
        environment(&mut text, values);
        text.push('\n');
    }
    text.push_str("# Further settings of an environment:\n");
    text.push_str(LATER);
    text
}

fn environment(text: &mut String, values: &Values) {
    let usual = ORDER.iter().filter_map(|key| Some((*key, values.known.get(*key)?)));
    let others = values.known.iter().filter(|(key, _)| !ORDER.contains(&key.as_str()));
    for (key, known) in usual.chain(others.map(|(key, known)| (key.as_str(), known))) {
        line(text, key, known, form(key).unwrap_or(Form::Text));
    }
    if values.get("account").is_none() {
        text.push_str(
            "# account = \"111111111111\" # not known; with it, commands refuse to run in another account\n",
        );
    }
    if values.get("role").is_none() {
        text.push_str(
            "# role = \"arn:aws:iam::111111111111:role/deliver\" # not known; without it the caller's own credentials are used\n",
        );
    }
    for (key, note) in values.notes.iter().filter(|(key, _)| values.get(key).is_none()) {
        let _ = writeln!(text, "# {key}: {}", comment(note));
    }
}

fn line(text: &mut String, key: &str, known: &Known, form: Form) {
    let path: Vec<String> = segments(key).iter().map(|segment| bare_or_quoted(segment)).collect();
    let value = &known.value;
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
    let value = match form {
        Form::Number | Form::NumberOrText if is_number => value.clone(),
        Form::True if value == "true" => value.clone(),
        Form::List => words(value),
        Form::Text | Form::Number | Form::NumberOrText | Form::True => quoted(value),
    };
    let _ = writeln!(text, "{} = {value} # {}", path.join("."), comment(&known.origin));
}

/// The words of a command: a list in JSON, or words separated by spaces.
fn words(value: &str) -> String {
    let list: Vec<String> =
        serde_json::from_str(value).unwrap_or_else(|_| value.split_whitespace().map(str::to_owned).collect());
    let list: Vec<String> = list.iter().map(|word| quoted(word)).collect();
    format!("[{}]", list.join(", "))
}

/// A comment on one line.
fn comment(text: &str) -> String {
    single_line(text).replace('\t', " ")
}

fn bare_or_quoted(key: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !key.is_empty() && key.bytes().all(is_bare) { key.to_owned() } else { quoted(key) }
}

/// A basic string of TOML.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use bp_artifact::config::config_schema;
    use serde_json::Value;

    use super::*;

    /// What every setting of the reference accepts.
    fn sample(key: &str) -> &'static str {
        match key {
            "account" => "222222222222",
            "region" => "eu-central-1",
            "role" => "arn:aws:iam::222222222222:role/deliver",
            "registry" => "222222222222.dkr.ecr.eu-central-1.amazonaws.com",
            "repository" => "shop/web",
            "eks.workload" => "deployment/web",
            key if key.ends_with("timeout") || key.ends_with("stable-for") || key.ends_with("grace") => "5m",
            _ => "web",
        }
    }

    #[test]
    fn hostile_values_stay_values() {
        let hostile = "a\"\n[[environment]]\nname = \"evil\" # \\ \u{1b}[2J \u{85}\u{7f} é";
        let mut values = Values::default();
        for key in ["region", "registry"] {
            values.offer(key, Known::new(sample(key), hostile));
        }
        values.offer("tags.Note", Known::new(hostile, hostile));
        values.offer("ecs.environment.A b.c\"", Known::new(hostile, hostile));
        values.offer("ecs.cluster", Known::new(hostile, hostile));
        values.offer("ecs.service", Known::new("web", hostile));
        values.note("ecs.container", hostile);
        let draft = Draft {
            project: Some(Known::new(hostile, hostile)),
            repository: Some(Known::new("shop/web", hostile)),
            environments: vec![("dev".parse().unwrap(), values)],
        };
        let written = of(&draft);
        let table: toml::Table = written.parse().unwrap();
        let environments = table["environment"].as_array().unwrap();
        assert_eq!(environments.len(), 1, "{written}");
        assert_eq!(table["project"]["name"].as_str(), Some(hostile));
        assert_eq!(environments[0]["ecs"]["cluster"].as_str(), Some(hostile));
        assert_eq!(environments[0]["ecs"]["environment"]["A b.c\""].as_str(), Some(hostile));
        assert_eq!(environments[0]["tags"]["Note"].as_str(), Some(hostile));
    }

    #[test]
    fn settings_of_every_form_are_read_back() {
        let mut values = Values::default();
        for key in ["account", "region", "role", "registry"] {
            values.offer(key, Known::new(sample(key), "a test"));
        }
        for (key, value) in [
            ("ecs.cluster", "shop"),
            ("ecs.service", "web"),
            ("ecs.before.migrate", "./manage migrate"),
            ("ecs.after.warm", r#"["curl","-f","a b"]"#),
            ("ecs.environment.LOG_LEVEL", "info"),
            ("limits.failures", "25%"),
            ("limits.transfers", "8"),
            ("tags.Team Name", "shop"),
            ("gate.go-live.approval", "true"),
            ("deploy.timeout", "20m"),
        ] {
            assert!(form(key).is_some(), "{key}");
            values.offer(key, Known::new(value, "--setting"));
        }
        let draft = Draft {
            project: Some(Known::new("shop", "--project")),
            repository: Some(Known::new("shop/web", "--repository")),
            environments: vec![("prod".parse().unwrap(), values)],
        };
        let written = of(&draft);
        let config = Config::parse(&written, "bp.toml").unwrap_or_else(|error| panic!("{error}\n{written}"));
        let service = config.environment("prod").unwrap().service(None).unwrap();
        assert_eq!(service.ecs().unwrap().tasks.after["warm"], ["curl", "-f", "a b"]);
        assert_eq!(service.ecs().unwrap().tasks.before["migrate"], ["./manage", "migrate"]);
        assert_eq!(service.limits.transfers.map(std::num::NonZeroU32::get), Some(8));
        assert_eq!(service.tags["Team Name"], "shop");
        // The examples in the comments are valid settings too.
        let lines = LATER.lines().map(|line| line.trim_start_matches("# ").split(" #").next().unwrap());
        for line in lines {
            let key = line.split(" = ").next().unwrap();
            assert!(form(key).is_some(), "{key}");
        }
        assert!(matches!(config_schema(), Value::Object(_)));
    }
}
