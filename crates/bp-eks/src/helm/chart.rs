//! The chart of an upgrade: where it comes from, its values, and the command line.

use std::{fmt, path::PathBuf};

use bp_artifact::{DigestRef, ResolvedImage};
use serde_json::{Map, Value};

use super::{
    command_line::{CommandLine, csv_field},
    flags::HelmFlags,
    login::ChartLogin,
};

/// A chart and its values.
#[derive(Debug, Clone, Default)]
pub(super) struct Chart {
    /// A directory, an archive, a name in the repository, or an `oci://` reference.
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    /// The URL of its repository.
    pub(super) repository: Option<String>,
    pub(super) create_namespace: bool,
    /// Whether helm only applies the objects and runs its hooks.
    pub(super) applies_only: bool,
    pub(super) files: Vec<PathBuf>,
    /// Values that override those of the files.
    pub(super) values: Values,
    /// In helm's syntax, with the name of the flag.
    pub(super) set: Vec<(&'static str, String)>,
    pub(super) flags: HelmFlags,
    pub(super) login: Option<ChartLogin>,
    pub(super) keys: ImageKeys,
    pub(super) tag: Option<String>,
    pub(super) variables: Option<Variables>,
}

/// Values as JSON. They may be secrets.
#[derive(Clone)]
pub(super) struct Values(pub(super) Value);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values")
    }
}

impl Default for Values {
    fn default() -> Self {
        Values(Value::Object(Map::new()))
    }
}

/// The environment variables of the container, and the key of the chart's values that gets them.
#[derive(Debug, Clone)]
pub(super) struct Variables {
    pub(super) key: String,
    pub(super) form: VariablesForm,
    pub(super) variables: Vec<(String, String)>,
}

/// The form of environment variables in the values of a chart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VariablesForm {
    /// As in a pod: a list of objects with `name` and `value`. It replaces the list of the values files.
    #[default]
    List,
    /// A map from names to values. It is merged with the map of the values files.
    Map,
}

/// The values keys of a chart's image, as dotted paths.
///
/// ```
/// use bp_eks::helm::ImageKeys;
///
/// let keys = ImageKeys::default().digest("web.image.digest");
/// assert_eq!((keys.repository.as_str(), keys.digest.as_str()), ("image.repository", "web.image.digest"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageKeys {
    /// The repository; defaults to `image.repository`.
    pub repository: String,
    /// The digest; defaults to `image.digest`.
    pub digest: String,
    /// The tag, for charts that use it next to the digest; defaults to `image.tag`.
    pub tag: String,
}

impl ImageKeys {
    /// Sets the key of the repository.
    pub fn repository(self, key: impl Into<String>) -> Self {
        ImageKeys { repository: key.into(), ..self }
    }

    /// Sets the key of the digest.
    pub fn digest(self, key: impl Into<String>) -> Self {
        ImageKeys { digest: key.into(), ..self }
    }

    /// Sets the key of the tag.
    pub fn tag(self, key: impl Into<String>) -> Self {
        ImageKeys { tag: key.into(), ..self }
    }
}

impl Default for ImageKeys {
    fn default() -> Self {
        let key = |name: &str| format!("image.{name}");
        ImageKeys { repository: key("repository"), digest: key("digest"), tag: key("tag") }
    }
}

impl Chart {
    /// The values that helm reads from a file: those that override the values files.
    pub(super) fn file_values(&self) -> Value {
        let mut values = self.values.0.clone();
        if let Some(Variables { key, form, variables }) = &self.variables {
            let pairs = variables.iter();
            let value = match form {
                VariablesForm::List => {
                    pairs.map(|(name, value)| serde_json::json!({ "name": name, "value": value })).collect()
                }
                VariablesForm::Map => {
                    Value::Object(pairs.map(|(name, value)| (name.clone(), value.as_str().into())).collect())
                }
            };
            put(&mut values, key, value);
        }
        values
    }

    /// The command line of an upgrade, except its values in a file. The image takes precedence over all other values,
    /// which it does as the last `--set-literal`.
    pub(super) fn upgrade(&self, image: &ResolvedImage, force_conflicts: bool) -> CommandLine {
        let mut line = CommandLine::new(["upgrade"]).switch("install");
        let source = [("version", &self.version), ("repo", &self.repository)];
        for (name, value) in source.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            line = line.flag(name, value);
        }
        for file in &self.files {
            line = line.flag("values", csv_field(&file.display().to_string()));
        }
        line = self.set.iter().fold(line, |line, (name, value)| line.flag(name, value));
        line = line.flags(self.flags.iter().map(str::to_owned));
        let forced =
            ["force-conflicts", "force-replace"].into_iter().any(|flag| self.flags.value(flag).is_some());
        if force_conflicts && !forced {
            line = line.switch("force-conflicts");
        }
        let reference: &DigestRef = &image.reference;
        let image = [
            (&self.keys.repository, Some(reference.repository().to_string())),
            (&self.keys.digest, Some(reference.digest().to_string())),
            (&self.keys.tag, self.tag.clone()),
        ];
        let image = image.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        image.fold(line, |line, value| line.flag("set-literal", value))
    }
}

/// Sets the value at a dotted key.
pub(super) fn put(values: &mut Value, key: &str, value: Value) {
    let mut at = values;
    for part in key.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[part];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use bp_artifact::Digest;
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_values_at_dotted_keys() {
        let mut values = json!({ "image": { "pullPolicy": "Always" }, "flat": 1 });
        put(&mut values, "image.digest", "sha256:1".into());
        put(&mut values, "flat.deep", true.into());
        put(&mut values, "buildVersion", "1.2".into());
        assert_eq!(
            values,
            json!({
                "image": { "pullPolicy": "Always", "digest": "sha256:1" }, "flat": { "deep": true }, "buildVersion": "1.2",
            })
        );
    }

    #[test]
    fn variables_are_a_list_or_a_map_at_their_key() {
        let variables =
            vec![("MODE".to_owned(), "a,b".to_owned()), ("PLATFORM".to_owned(), "eks".to_owned())];
        let of = |form| Chart {
            variables: Some(Variables { key: "web.env".to_owned(), form, variables: variables.clone() }),
            ..Chart::default()
        };
        assert_eq!(
            of(VariablesForm::List).file_values(),
            json!({ "web": { "env": [
                { "name": "MODE", "value": "a,b" }, { "name": "PLATFORM", "value": "eks" },
            ] } })
        );
        let map = json!({ "web": { "env": { "MODE": "a,b", "PLATFORM": "eks" } } });
        assert_eq!(of(VariablesForm::Map).file_values(), map);
    }

    #[test]
    fn the_image_comes_after_all_other_values() {
        let digest = Digest::sha256("web");
        let image: DigestRef = format!("r.example.com/web@{digest}").parse().unwrap();
        let chart = Chart {
            version: Some("1.2.0".to_owned()),
            repository: Some("https://charts.example.com".to_owned()),
            files: vec!["a,b.yaml".into(), "-x.yaml".into()],
            set: vec![("set", "image.digest=other".to_owned()), ("set-json", "x={\"a\":1}".to_owned())],
            flags: HelmFlags::parse(["--set-literal=image.digest=other", "--skip-crds"]).unwrap(),
            tag: Some("1.4".to_owned()),
            ..Chart::default()
        };
        let line: Vec<String> = chart.upgrade(&image.into(), true).operand("web").into_arguments().collect();
        let expected = [
            "upgrade",
            "--install",
            "--version=1.2.0",
            "--repo=https://charts.example.com",
            "--values=\"a,b.yaml\"",
            "--values=-x.yaml",
            "--set=image.digest=other",
            "--set-json=x={\"a\":1}",
            "--set-literal=image.digest=other",
            "--skip-crds",
            "--force-conflicts",
            "--set-literal=image.repository=r.example.com/web",
            &format!("--set-literal=image.digest={digest}"),
            "--set-literal=image.tag=1.4",
            "--",
            "web",
        ];
        assert_eq!(line, expected);
    }
}
