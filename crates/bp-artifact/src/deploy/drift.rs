//! Drift: compare what a target runs with its desired state, without changing anything.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Proof, TargetId, Verdict};
use crate::{exit::ExitCode, image::ResolvedImage, reference::DigestRef};

/// One difference between two configurations: a field that is added, removed or changed.
///
/// Secrets are shown as references, plain values verbatim: a plain value must not contain a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Change {
    /// The path of the field: `containerDefinitions[web].image`.
    pub path: String,
    /// The current value; for drift, the desired value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The desired value; for drift, the value found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Change {
    /// Creates a change of the field at `path`.
    pub fn new(path: impl Into<String>, from: Option<String>, to: Option<String>) -> Self {
        Change { path: path.into(), from, to }
    }
}

impl Change {
    /// The differences between two documents, ordered by path. List items that all have a `name` or a `key` are matched
    /// by it, so that inserting an item does not change all items after it.
    pub fn between(from: &Value, to: &Value) -> Vec<Change> {
        let (from, to) = (leaves(from), leaves(to));
        let mut paths: Vec<&String> = from.keys().chain(to.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let change = |path: &String| Change::new(path, from.get(path).cloned(), to.get(path).cloned());
        paths.into_iter().map(change).filter(|change| change.from != change.to).collect()
    }
}

fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    collect(String::new(), value, &mut leaves);
    leaves
}

fn collect(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let name = |item: &Value| ["name", "key"].iter().find_map(|n| Some(item.get(n)?.as_str()?.to_owned()));
    match value {
        Value::Object(fields) => {
            let dot = if path.is_empty() { "" } else { "." };
            // The field that identifies an item is in its path.
            let named_by = if fields.contains_key("name") { "name" } else { "key" };
            let is_in_path = path.ends_with(']') && fields.len() > 1;
            let inner = fields.iter().filter(|(field, _)| !is_in_path || *field != named_by);
            inner.for_each(|(field, value)| collect(format!("{path}{dot}{field}"), value, leaves));
        }
        Value::Array(items) if items.iter().all(|item| name(item).is_some()) => {
            for item in items {
                collect(format!("{path}[{}]", name(item).unwrap_or_default()), item, leaves);
            }
        }
        Value::String(text) => drop(leaves.insert(path, text.clone())),
        other => drop(leaves.insert(path, other.to_string())),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "~ {}: {from} -> {to}", self.path),
            (None, Some(to)) => write!(f, "+ {}: {to}", self.path),
            (Some(from), None) => write!(f, "- {}: {from}", self.path),
            (None, None) => write!(f, "= {}", self.path),
        }
    }
}

/// The differences between a target and its desired state.
///
/// Three things can drift: the *definition* (a task definition, a pod template), the *service* that runs it (an ECS
/// service or a workload: a deployment in progress or failed, another definition in use, too few tasks or pods), and
/// the running *digest*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The target.
    pub target: TargetId,
    /// The desired image.
    pub image: DigestRef,
    /// Differences between the desired definition and the current one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub definition: Vec<Change>,
    /// Differences between a stable service or workload with that definition and the current one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<Change>,
    /// The verdict on the running digests: deployed, unproven or a mismatch.
    pub verdict: Verdict,
    /// The observed digests.
    pub proof: Proof,
    /// Notes that are not drift, such as tasks of an earlier deployment that are still stopping.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Drift {
    /// The drift of the running digests only.
    pub fn of_proof(target: TargetId, image: &ResolvedImage, proof: Proof) -> Self {
        let verdict = proof.judge(image);
        let image = image.reference.clone();
        let (definition, service, notes) = (Vec::new(), Vec::new(), Vec::new());
        Drift { target, image, definition, service, verdict, proof, notes }
    }

    /// Whether there is no drift and the running digest is proven.
    pub fn is_none(&self) -> bool {
        self.definition.is_empty() && self.service.is_empty() && self.verdict.is_success()
    }

    /// All differences of definition and service.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.definition.iter().chain(&self.service)
    }
}

impl From<&Drift> for ExitCode {
    fn from(drift: &Drift) -> Self {
        if drift.is_none() { ExitCode::Done } else { ExitCode::Drift }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match (self.is_none(), self.verdict.is_success()) {
            (true, _) => "no drift".to_owned(),
            (false, true) => "has drifted".to_owned(),
            // That nothing proves the digest is not a statement about a deployment.
            (false, false) if self.verdict == Verdict::Unproven && self.proof.is_empty() => {
                "has drifted, and no running container proves the digest".to_owned()
            }
            (false, false) if self.verdict == Verdict::Unproven => {
                "the running digest is unproven".to_owned()
            }
            (false, false) => self.verdict.to_string(),
        };
        write!(f, "{}: {found}", self.target)?;
        self.changes().try_for_each(|change| write!(f, "\n  {change}"))?;
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{deploy::Observation, digest::Digest, reference::Repository};

    fn drift(running: &Digest) -> Drift {
        let repository: Repository = "r.example.com/web".parse().unwrap();
        let observation =
            Observation { unit: "task/1".into(), container: "web".into(), digest: Some(running.clone()) };
        let image = ResolvedImage::from(repository.at(Digest::sha256("web")));
        Drift::of_proof(TargetId::new("ecs/shop/web"), &image, Proof { observations: vec![observation] })
    }

    #[test]
    fn any_difference_is_drift() {
        let none = drift(&Digest::sha256("web"));
        assert!(none.is_none() && ExitCode::from(&none) == ExitCode::Done);
        assert_eq!(none.to_string(), "ecs/shop/web: no drift");

        let digest = drift(&Digest::sha256("other"));
        assert!(!digest.is_none() && ExitCode::from(&digest) == ExitCode::Drift);

        let nothing = Drift { verdict: Verdict::Unproven, proof: Proof::default(), ..none.clone() };
        assert_eq!(
            nothing.to_string(),
            "ecs/shop/web: has drifted, and no running container proves the digest"
        );
        let unproven = Drift { verdict: Verdict::Unproven, ..none.clone() };
        assert_eq!(unproven.to_string(), "ecs/shop/web: the running digest is unproven");

        let mut service = none.clone();
        service.service.push(Change::new("runningCount", Some("2".into()), Some("1".into())));
        assert_eq!(ExitCode::from(&service), ExitCode::Drift);
        assert_eq!(service.to_string(), "ecs/shop/web: has drifted\n  ~ runningCount: 2 -> 1");
    }
}
