//! Split the messages of kubelet, container runtime and drivers into clauses.
//!
//! A message is a chain of clauses, from the outermost step to the innermost error. Names, image references, URLs,
//! digests and addresses in it are replaced first: their parts decide nothing.

use bp_artifact::deploy::Cause;

use crate::api::symptom::Recovery;

/// What a clause says, in lower case. `<name>`, `<image>`, `<url>` and `<id>` stand for what was replaced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clause {
    Is(&'static str),
    Starts(&'static str),
    /// A word that only error codes have.
    Has(&'static str),
}

/// A clause that identifies a cause, and whether it can recover.
pub(super) struct Rule {
    clause: Clause,
    cause: Cause,
    recovery: Recovery,
}

pub(super) const fn rule(clause: Clause, cause: Cause, recovery: Recovery) -> Rule {
    Rule { clause, cause, recovery }
}

/// The clauses of a message in lower case, without quoted names, references and ids.
#[derive(Debug)]
pub(super) struct Clauses(Vec<String>);

impl Clauses {
    pub(super) fn of(message: &str) -> Self {
        let words: Vec<String> =
            unquoted(message).split_whitespace().map(|word| generic(word).to_lowercase()).collect();
        let text = words.join(" ");
        let clauses = text
            .split(": ")
            .flat_map(|clause| clause.split(" - "))
            .flat_map(|clause| clause.split("desc = "))
            .map(|clause| clause.trim().trim_end_matches([':', ';', ',']).to_owned());
        Clauses(clauses.filter(|clause| !clause.is_empty()).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(super) fn say(&self, what: Clause) -> bool {
        self.position(what).is_some()
    }

    /// The cause and recovery of the first rule that any clause satisfies.
    pub(super) fn first_of(&self, rules: &[Rule]) -> Option<(Cause, Recovery)> {
        let rule = rules.iter().find(|rule| self.say(rule.clause))?;
        Some((rule.cause, rule.recovery))
    }

    /// The position of the first clause that says this.
    pub(super) fn position(&self, what: Clause) -> Option<usize> {
        self.iter().position(|clause| match what {
            Clause::Is(said) => clause == said,
            Clause::Starts(said) => clause.starts_with(said),
            Clause::Has(said) => clause.contains(said),
        })
    }

    /// Whether a clause after `position` says this.
    pub(super) fn say_after(&self, position: usize, what: Clause) -> bool {
        let inner = Clauses(self.0.get(position + 1..).unwrap_or_default().to_vec());
        inner.say(what)
    }

    /// Whether two consecutive clauses are these.
    pub(super) fn pair(&self, first: &str, second: &str) -> bool {
        self.0.windows(2).any(|pair| pair == [first, second])
    }
}

/// The message without quoted names. A quoted part that consists of clauses is an inner message, and is kept.
fn unquoted(message: &str) -> String {
    let inner: Vec<&str> = message.split("\\\"").collect();
    let message = every_second(&inner, |_| "<name>".to_owned());
    let parts: Vec<&str> = message.split('"').collect();
    every_second(&parts, |part| if part.contains(": ") { format!(": {part}") } else { "<name>".to_owned() })
}

/// Joins the parts, with every second one replaced.
fn every_second(parts: &[&str], replace: impl Fn(&str) -> String) -> String {
    let parts = parts.iter().enumerate();
    parts.map(|(n, part)| if n % 2 == 0 { (*part).to_owned() } else { replace(part) }).collect()
}

/// A word, or what it stands for if it is a reference, a URL, a digest, an address or an id.
fn generic(word: &str) -> String {
    let is_punctuation = |c: char| matches!(c, ',' | ':' | ';' | '(' | ')' | '[' | ']' | '\'' | '.');
    let core = word.trim_matches(is_punctuation);
    let Some(stands_for) = kind(core) else { return word.to_owned() };
    word.replacen(core, stands_for, 1)
}

fn kind(core: &str) -> Option<&'static str> {
    let last = core.rsplit('/').next().unwrap_or(core);
    match core {
        _ if core.contains("://") => Some("<url>"),
        _ if core.contains('/') && (core.contains('@') || last.contains(':')) => Some("<image>"),
        _ if core.contains(['/', '@']) || core.starts_with("arn:") || is_id(core) => Some("<id>"),
        _ => None,
    }
}

/// Whether it is a digest, an address with or without a port, or a long number: ids of accounts and of requests.
fn is_id(core: &str) -> bool {
    let hex = core.rsplit(':').next().unwrap_or(core);
    let is_hex = hex.len() >= 6
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && hex.bytes().any(|b| b.is_ascii_digit());
    let is_address =
        core.contains(['.', ':']) && core.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b':'));
    is_hex || is_address
}

/// Whether the text reports a program for another architecture.
pub(crate) fn is_format_error(text: &str) -> bool {
    text.to_ascii_lowercase().contains("exec format error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_names_and_ids_and_keeps_inner_messages() {
        for (message, expected) in [
            (
                "MountVolume.SetUp failed for volume \"secret-401\" : configmap \"web\" not found",
                vec!["mountvolume.setup failed for volume <name>", "configmap <name> not found"],
            ),
            (
                "exec: \"/srv/web\": stat /srv/web: no such file or directory",
                vec!["exec", "<name>", "stat <id>", "no such file or directory"],
            ),
            (
                "starting container process caused \"exec: \\\"/entrypoint.sh\\\": permission denied\": unknown",
                vec!["starting container process caused", "exec", "<name>", "permission denied", "unknown"],
            ),
            (
                "unexpected status from HEAD request to https://r.example.com/v2/404: 403 Forbidden",
                vec!["unexpected status from head request to <url>", "403 forbidden"],
            ),
            ("r.example.com/web@sha256:1: not found", vec!["<image>", "not found"]),
        ] {
            assert_eq!(Clauses::of(message).0, expected, "{message}");
        }
    }
}
