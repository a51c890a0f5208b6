//! Redact identifying values and secrets, each by the same placeholder everywhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::patterns;

/// Replaces accounts, regions, secrets, values of variables, tokens, digests, IDs, addresses and host names. The same
/// value is always replaced by the same placeholder, in a format that parsers accept.
///
/// | kind | replaced values | placeholder |
/// |---|---|---|
/// | `account` | account IDs | `000000000001` |
/// | `region` | regions, also in zones | `aa-region-1` |
/// | `arn` | names of roles, secrets, parameters, keys and buckets in ARNs | `name-1` |
/// | `digest`, `id` | digests; hexadecimal IDs, long numbers, IDs such as `subnet-...` | of the same length |
/// | `address`, `host` | IP addresses; host names | `192.0.2.1`, `host-1.example.com` |
/// | `variable`, `argument` | values of variables and HTTP headers; commands and arguments | `<variable 1>` |
/// | `secret` | references to secrets; values after `password=` and the like | `<secret 1>` |
/// | `token` | access keys, bearer tokens, JSON Web Tokens, queries and users of URLs | `<token 1>` |
/// | `annotation`, `tag`, `option`, `output` | their values; the last message of a program | `<tag 1>` |
///
/// Values of variables, arguments, secrets and long annotations are also replaced where messages quote them.
///
/// Names of clusters, services, containers, namespaces, workloads and images are kept, because messages quote them.
#[derive(Debug, Default)]
pub struct Redactor {
    /// The number of each value, by kind.
    seen: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// Values that were found in dedicated fields and are replaced everywhere, with their kind.
    learned: BTreeMap<String, &'static str>,
    /// Names of objects, which messages quote: a variable with such a value is not replaced elsewhere.
    names: BTreeSet<String>,
    /// Redacted texts: keys and many values of objects from the same template are equal.
    texts: HashMap<String, String>,
}

/// Shorter values are not replaced elsewhere, because values such as `1` and `true` are common.
const SEARCHED: usize = 6;
/// The same for values of annotations, which are often words.
const SEARCHED_ANNOTATION: usize = 12;
/// A copy of the applied object, with the values of its variables.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The kind of the value of a key, in any object.
fn kind_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "command" | "entryPoint" | "args" => "argument",
        "annotations" => "annotation",
        "tags" | "dockerLabels" => "tag",
        "options" | "driverOpts" | "logOptions" => "option",
        "valueFrom" | "credentialsParameter" => "secret",
        _ => return None,
    })
}

impl Redactor {
    /// Collects the values that are replaced everywhere: those of variables, secrets, arguments, annotations and last
    /// messages, account IDs and regions.
    pub fn learn(&mut self, value: &Value) {
        self.texts.clear();
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match kind_of(key) {
                        Some(kind @ ("argument" | "secret")) if !value.is_object() => {
                            self.learn_all(kind, value);
                        }
                        Some("annotation") => self.learn_annotations(value),
                        None if is_environment(key) => self.learn_variables(value),
                        Some(_) | None => self.learn(value),
                    }
                    if let Some(name) = value.as_str().filter(|_| is_name(key)) {
                        self.names.insert(name.to_owned());
                    }
                }
                if let Some(output) = output(fields) {
                    self.learn_value("output", output);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.learn(value)),
            Value::String(text) => {
                for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_account(word)) {
                    self.learn_value("account", word);
                }
                let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                for (region, _) in words.filter_map(patterns::region) {
                    self.learn_value("region", region);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn learn_value(&mut self, kind: &'static str, value: &str) {
        if value.trim().len() >= SEARCHED {
            self.learned.entry(value.to_owned()).or_insert(kind);
        }
    }

    /// Collects every text in a value.
    fn learn_all(&mut self, kind: &'static str, value: &Value) {
        match value {
            Value::Object(fields) => fields.values().for_each(|value| self.learn_all(kind, value)),
            Value::Array(values) => values.iter().for_each(|value| self.learn_all(kind, value)),
            Value::String(text) => {
                self.learn_value(kind, text);
                if kind == "argument" {
                    self.learn_arguments(text);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Collects the values in a command line: after `=`, and after flags such as `--password`.
    fn learn_arguments(&mut self, line: &str) {
        let mut before = "";
        for word in line.split_whitespace() {
            let is_word = |value: &str| value.bytes().all(|b| b.is_ascii_lowercase());
            let value = match word.split_once('=') {
                Some((name, value)) if is_secret_name(name) || !is_word(value) => Some(value),
                Some(_) => None,
                None => is_secret_flag(before).then_some(word),
            };
            if let Some(value) = value {
                self.learn_value("argument", value.trim_matches(['"', '\'', ';']));
            }
            before = word;
        }
    }

    fn learn_variables(&mut self, variables: &Value) {
        for variable in variables.as_array().into_iter().flatten() {
            if let Some(value) = variable["value"].as_str() {
                self.learn_value("variable", value);
                if let Some(password) = password(value) {
                    self.learn_value("variable", password);
                }
            }
        }
    }

    fn learn_annotations(&mut self, annotations: &Value) {
        self.learn(annotations);
        for (key, value) in annotations.as_object().into_iter().flatten() {
            let Some(value) = value.as_str() else { continue };
            if key == LAST_APPLIED {
                // Removed from the recording, but messages may quote its values.
                if let Ok(applied) = serde_json::from_str(value) {
                    self.learn(&applied);
                }
            } else if value.len() >= SEARCHED_ANNOTATION && !value.starts_with("arn:") {
                self.learn_value("annotation", value);
            }
        }
    }

    /// Redacts a value.
    pub fn redact(&mut self, value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let output = output(&fields).map(str::to_owned);
                let mut redacted = Map::new();
                for (key, value) in fields {
                    // Complete copies of the applied object, and field managers.
                    if matches!(key.as_str(), "managedFields" | LAST_APPLIED) {
                        continue;
                    }
                    let value = match kind_of(&key) {
                        Some(kind) => self.all(kind, value),
                        None if is_environment(&key) => self.variables(value),
                        None if key == "message" && output.is_some() => self.all("output", value),
                        None => self.redact(value),
                    };
                    redacted.insert(self.text(&key), value);
                }
                Value::Object(redacted)
            }
            Value::Array(values) => values.into_iter().map(|value| self.redact(value)).collect(),
            Value::String(text) => Value::String(self.text(&text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    /// Replaces every text in a value; in pairs of key and value, only the value.
    fn all(&mut self, kind: &'static str, value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let is_pair = fields.contains_key("key") && fields.contains_key("value");
                // The source of a variable in Kubernetes: names of objects, which messages quote.
                let names = kind == "secret";
                let mut replaced = Map::new();
                for (key, value) in fields {
                    if key == LAST_APPLIED {
                        continue;
                    }
                    let value = if names || (is_pair && key == "key") {
                        self.redact(value)
                    } else {
                        self.all(kind, value)
                    };
                    replaced.insert(self.text(&key), value);
                }
                Value::Object(replaced)
            }
            Value::Array(values) => values.into_iter().map(|value| self.all(kind, value)).collect(),
            Value::String(text) if text.is_empty() => Value::String(text),
            Value::String(text) => Value::String(self.placeholder(kind, &text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    fn variables(&mut self, variables: Value) -> Value {
        let Value::Array(variables) = variables else { return self.all("variable", variables) };
        let variable = |variable: Value| match variable {
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, value)| {
                    let value = if key == "value" { self.all("variable", value) } else { self.redact(value) };
                    (key, value)
                })
                .collect(),
            other => self.all("variable", other),
        };
        variables.into_iter().map(variable).collect()
    }

    /// Redacts free text.
    pub fn text(&mut self, text: &str) -> String {
        if let Some(redacted) = self.texts.get(text) {
            return redacted.clone();
        }
        let redacted = self.redact_text(text);
        self.texts.insert(text.to_owned(), redacted.clone());
        redacted
    }

    fn redact_text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        // Longest first: one value may contain another.
        let mut learned: Vec<(String, &'static str)> = self
            .learned
            .iter()
            .filter(|(value, _)| text.contains(value.as_str()) && !self.is_in_a_name(value))
            .map(|(value, kind)| (value.clone(), *kind))
            .collect();
        learned.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        for (value, kind) in learned {
            text = text.replace(&value, &self.placeholder(kind, &value));
        }
        let text = self.tokens(&text);
        let text = self.names_in_arns(&text);
        let text = patterns::runs(&text, |c| c.is_ascii_alphanumeric(), |word, _| self.number(word));
        let text = patterns::runs(
            &text,
            |c| c.is_ascii_alphanumeric() || c == '-',
            |word, _| {
                if let Some(address) = patterns::node(word) {
                    let address = self.placeholder("address", &address.to_string());
                    return Some(format!("ip-{}", address.replace('.', "-")));
                }
                if let Some((region, zone)) = patterns::region(word) {
                    return Some(self.placeholder("region", region) + zone);
                }
                let (kind, number) = patterns::resource(word)?;
                let placeholder = self.numbered("id", word);
                Some(format!("{kind}-{placeholder:0width$}", width = number.len()))
            },
        );
        let text = patterns::runs(
            &text,
            |c| c.is_ascii_hexdigit() || c == ':',
            |word, _| {
                let address = patterns::ipv6(word)?;
                Some(format!("2001:db8::{:x}", self.numbered("address", &address.to_string())))
            },
        );
        let text = patterns::runs(
            &text,
            |c| c.is_ascii_digit() || c == '.',
            |word, _| {
                let address = patterns::ipv4(word)?;
                let dots = word.strip_prefix(word.trim_end_matches('.')).unwrap_or_default();
                Some(self.placeholder("address", &address.to_string()) + dots)
            },
        );
        patterns::runs(
            &text,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'),
            |word, before| {
                if !patterns::is_host(word, before) || word.ends_with(".example.com") {
                    return None;
                }
                let name = word.trim_matches('.');
                Some(word.replace(name, &self.placeholder("host", name)))
            },
        )
    }

    /// Whether a value is a part of an object's name: replacing it would make the name invalid.
    fn is_in_a_name(&self, value: &str) -> bool {
        self.names.iter().any(|name| name.contains(value))
    }

    /// Replaces IDs that consist of letters and digits: accounts, digests, task IDs.
    fn number(&mut self, word: &str) -> Option<String> {
        if is_account(word) {
            return (!word.starts_with("00000000")).then(|| self.placeholder("account", word));
        }
        let is_hex = word.bytes().all(|b| b.is_ascii_hexdigit());
        let kind = match word.len() {
            64 if is_hex => "digest",
            // IDs of tasks, requests, deployments and revisions.
            17.. if is_hex => "id",
            _ => return None,
        };
        let number = self.numbered(kind, word);
        Some(format!("{number:0width$}", width = word.len()))
    }

    /// Replaces names in ARNs of services whose names can identify the owner.
    fn names_in_arns(&mut self, text: &str) -> String {
        const NAMED: &[&str] = &["iam", "kms", "s3", "secretsmanager", "ssm", "sts"];
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-:/_.+=,@*".contains(c);
        patterns::runs(text, is_part, |word, _| {
            let at = word.find("arn:aws")?;
            let (before, arn) = word.split_at(at);
            let parts: Vec<&str> = arn.splitn(6, ':').collect();
            let [arn, partition, service, region, account, resource] = parts[..] else { return None };
            if !NAMED.contains(&service) {
                return None;
            }
            // `secret:name`, `role/name`, or only a bucket name.
            let end = resource.trim_end_matches([':', '.', ',']).len();
            let (resource, behind) = resource.split_at(end);
            let (kind, name) = match resource.find([':', '/']) {
                Some(at) => resource.split_at(at.saturating_add(1)),
                None => ("", resource),
            };
            let name = format!("name-{}", self.numbered("arn", name));
            Some(format!("{before}{arn}:{partition}:{service}:{region}:{account}:{kind}{name}{behind}"))
        })
    }

    fn tokens(&mut self, text: &str) -> String {
        let text = patterns::runs(
            text,
            |c| !c.is_whitespace() && !"\"'<>()".contains(c),
            |word, before| {
                if before.ends_with("Bearer ") || before.ends_with("Basic ") {
                    return Some(self.placeholder("token", word));
                }
                if before.ends_with(' ') && is_secret_flag(before.trim_end()) {
                    return Some(self.placeholder("secret", word));
                }
                let Some((scheme, rest)) = word.split_once("://") else {
                    let (name, value) = word.split_once('=').filter(|(name, _)| is_secret_name(name))?;
                    return Some(format!("{name}={}", self.placeholder("secret", value)));
                };
                let (rest, query) = match rest.split_once('?') {
                    Some((rest, query)) => (rest, Some(query)),
                    None => (rest, None),
                };
                let authority = rest.split('/').next().unwrap_or_default();
                let user = authority.rsplit_once('@').map(|(user, _)| user);
                if user.is_none() && query.is_none() {
                    return None;
                }
                let user_shown = user.map(|user| self.placeholder("token", user) + "@").unwrap_or_default();
                let rest = user.and_then(|user| rest.strip_prefix(user)?.strip_prefix('@')).unwrap_or(rest);
                let query = query.map(|query| format!("?{}", self.placeholder("token", query)));
                Some(format!("{scheme}://{user_shown}{rest}{}", query.unwrap_or_default()))
            },
        );
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        patterns::runs(&text, is_part, |word, _| {
            let token = word.trim_matches(['-', '_', '.']);
            // Base64 for URLs may end with `-` or `_`.
            let web_token = word.trim_start_matches(['-', '_', '.']).trim_end_matches('.');
            if web_token.starts_with("eyJ") && web_token.len() > 20 {
                return Some(word.replace(web_token, &self.placeholder("token", web_token)));
            }
            let is_key = token.len() >= 16
                && ["AKIA", "ASIA", "AROA", "AIDA"].iter().any(|begin| token.starts_with(begin))
                && token.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            is_key.then(|| word.replace(token, &self.placeholder("token", token)))
        })
    }

    /// The number of a value within its kind.
    fn numbered(&mut self, kind: &'static str, value: &str) -> usize {
        let seen = self.seen.entry(kind).or_default();
        let next = seen.len().saturating_add(1);
        *seen.entry(value.to_owned()).or_insert(next)
    }

    fn placeholder(&mut self, kind: &'static str, value: &str) -> String {
        let number = self.numbered(kind, value);
        match kind {
            "account" => format!("{number:012}"),
            "region" => format!("aa-region-{number}"),
            "address" => format!("192.0.{}.{}", 2usize.saturating_add(number / 256), number % 256),
            "host" => format!("host-{number}.example.com"),
            kind => format!("<{kind} {number}>"),
        }
    }

    /// The number of different values of each kind that were replaced.
    pub fn replaced(&self) -> BTreeMap<String, usize> {
        self.seen.iter().map(|(kind, values)| ((*kind).to_owned(), values.len())).collect()
    }
}

fn is_name(key: &str) -> bool {
    matches!(key, "name" | "serviceName" | "clusterName" | "containerName" | "family" | "namespace")
}

/// Whether a field is a list of names and values that may be secret.
fn is_environment(key: &str) -> bool {
    matches!(key, "environment" | "env" | "httpHeaders")
}

/// The last message of a container's program, which the container runtime did not write.
fn output(fields: &Map<String, Value>) -> Option<&str> {
    fields.get("exitCode")?;
    let reason = fields.get("reason")?.as_str()?;
    fields.get("message")?.as_str().filter(|_| matches!(reason, "Completed" | "Error" | "OOMKilled"))
}

/// The password in a URL.
fn password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let (user, _) = rest.split_once('/').map_or(rest, |(host, _)| host).rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

fn is_account(word: &str) -> bool {
    word.len() == 12 && word.bytes().all(|b| b.is_ascii_digit())
}

/// Whether the text ends with a flag such as `--password`.
fn is_secret_flag(text: &str) -> bool {
    let flag = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    flag.starts_with('-') && is_secret_name(flag)
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "apikey", "api_key", "access_key", "credential"]
        .iter()
        .any(|part| name.ends_with(part))
}
