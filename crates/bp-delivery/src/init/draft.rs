//! A `bp.toml` that is being put together: the values of its environments, and what is not known.

use std::collections::BTreeMap;

use bp_artifact::{
    Registry,
    config::{Environment, RoleArn},
    text::single_line,
};
use serde::Serialize;

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Known {
    pub(crate) value: String,
    pub(crate) origin: String,
}

impl Known {
    pub(crate) fn new(value: impl Into<String>, origin: impl Into<String>) -> Self {
        Known { value: value.into(), origin: origin.into() }
    }
}

/// The values of one environment by their keys in `bp.toml`, and notes about those that are not known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    pub(super) known: BTreeMap<String, Known>,
    /// What could not be known, by key.
    pub(super) notes: BTreeMap<String, String>,
}

impl Values {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.known.get(key).map(|known| known.value.as_str())
    }

    /// Sets a value that is not set yet: sources are asked in descending precedence.
    pub(crate) fn offer(&mut self, key: &str, known: Known) {
        if !known.value.is_empty() {
            self.known.entry(key.to_owned()).or_insert(known);
        }
    }

    /// Records why a value is not known.
    pub(crate) fn note(&mut self, key: &str, reason: impl Into<String>) {
        self.notes.entry(key.to_owned()).or_insert_with(|| reason.into());
    }

    fn has_section(&self, section: &str) -> bool {
        self.known.range(format!("{section}.")..).next().is_some_and(|(key, _)| key.starts_with(section))
    }
}

/// What could not be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unknown {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<Environment>,
    pub(crate) key: String,
    pub(crate) reason: String,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.environment {
            Some(environment) => write!(f, "{environment}: {}: {}", self.key, self.reason),
            None => write!(f, "{}: {}", self.key, self.reason),
        }
    }
}

/// A `bp.toml` that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) project: Option<Known>,
    pub(crate) repository: Option<Known>,
    pub(crate) environments: Vec<(Environment, Values)>,
}

/// The keys that an environment requires, and the flags that set them.
const REQUIRED: [(&str, &str); 2] = [
    ("region", "pass --region, or set AWS_REGION"),
    ("registry", "pass --registry, or --account and --region"),
];

/// The keys that most environments have, and what their absence means.
const USUAL: [(&str, &str); 2] = [
    ("account", "it is not verified that commands run in the right AWS account"),
    ("role", "commands use the caller's own credentials"),
];

impl Draft {
    /// Derives values from others: the registry from account and region, the account from the role, the repository of the
    /// project from those of the environments.
    pub(crate) fn derive(&mut self) {
        for (_, values) in &mut self.environments {
            if let Some(role) = values.get("role").and_then(|role| role.parse::<RoleArn>().ok()) {
                values.offer("account", Known::new(role.account(), "the account of the role"));
            }
            let registry = values.get("registry").and_then(|registry| registry.parse::<Registry>().ok());
            if let Some((_, region)) = registry.as_ref().and_then(Registry::ecr) {
                values.offer("region", Known::new(region, "the registry"));
            }
            if let (Some(account), Some(region)) = (values.get("account"), values.get("region")) {
                let suffix = match region.split('-').next() {
                    Some("cn") => Some("amazonaws.com.cn"),
                    // Isolated partitions have suffixes of their own.
                    Some("eusc") => None,
                    _ if region.contains("-iso") => None,
                    _ => Some("amazonaws.com"),
                };
                if let Some(suffix) = suffix {
                    let host = format!("{account}.dkr.ecr.{region}.{suffix}");
                    values.offer("registry", Known::new(host, "Amazon ECR in this account and region"));
                }
            }
        }
        if self.repository.is_none() {
            let found =
                self.environments.iter().find_map(|(_, values)| values.known.get("repository").cloned());
            self.repository = found;
        }
        if let Some(common) = &self.repository {
            for (_, values) in &mut self.environments {
                if values.get("repository") == Some(&common.value) {
                    values.known.remove("repository");
                }
            }
        }
    }

    /// What is required and not known: with it, the file would be invalid.
    pub(crate) fn missing(&self) -> Vec<Unknown> {
        let mut missing = Vec::new();
        let mut add = |environment: Option<&Environment>, key: &str, reason: &str| {
            let environment = environment.cloned();
            missing.push(Unknown { environment, key: key.to_owned(), reason: reason.to_owned() });
        };
        if self.project.is_none() {
            add(None, "project.name", "pass --project");
        }
        if self.repository.is_none() {
            add(
                None,
                "project.repository",
                "pass --repository, the path of the image below the registry, as in shop/web",
            );
        }
        for (name, values) in &self.environments {
            for (key, remedy) in REQUIRED.iter().filter(|(key, _)| values.get(key).is_none()) {
                add(Some(name), key, remedy);
            }
            let eks_object =
                ["eks.workload", "eks.release", "eks.manifests"].iter().any(|key| values.get(key).is_some());
            for (section, keys) in
                [("ecs", &["ecs.cluster", "ecs.service"][..]), ("eks", &["eks.cluster", "eks.namespace"])]
            {
                if !values.has_section(section) {
                    continue;
                }
                for key in keys.iter().filter(|key| values.get(key).is_none()) {
                    let note = values.notes.get(*key).map(|note| format!("{note}; ")).unwrap_or_default();
                    add(Some(name), key, &format!("{note}pass --{}", key.replace('.', "-")));
                }
                if section == "eks" && !eks_object {
                    add(Some(name), "eks.workload", "pass --eks-workload, as in deployment/web");
                }
            }
        }
        missing
    }

    /// What is not known, although the file is valid without it.
    pub(crate) fn unknown(&self) -> Vec<Unknown> {
        let mut unknown = Vec::new();
        for (name, values) in &self.environments {
            let mut add = |key: &str, reason: String| {
                unknown.push(Unknown { environment: Some(name.clone()), key: key.to_owned(), reason });
            };
            for (key, absence) in USUAL.iter().filter(|(key, _)| values.get(key).is_none()) {
                add(key, format!("without it {absence}"));
            }
            if !values.has_section("ecs") && !values.has_section("eks") {
                add(
                    "ecs, eks",
                    "it has no target to deploy to: pass --ecs-service or --eks-workload".to_owned(),
                );
            }
            let is_open = |key: &&String| values.get(key).is_none();
            for key in values.notes.keys().filter(is_open) {
                add(key, single_line(&values.notes[key]));
            }
        }
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(environments: &[(&str, &[(&str, &str)])]) -> Draft {
        let values = |settings: &[(&str, &str)]| {
            let mut values = Values::default();
            for (key, value) in settings {
                values.offer(key, Known::new(*value, "a test"));
            }
            values
        };
        Draft {
            project: Some(Known::new("shop", "--project")),
            repository: None,
            environments: environments
                .iter()
                .map(|(name, settings)| (name.parse().unwrap(), values(settings)))
                .collect(),
        }
    }

    #[test]
    fn derives_the_registry_from_account_and_region_and_never_the_account_from_a_registry() {
        let mut of_role = draft(&[
            ("prod", &[("region", "eu-central-1"), ("role", "arn:aws:iam::111111111111:role/deliver")]),
            ("china", &[("region", "cn-north-1"), ("account", "222222222222")]),
            ("shared", &[("registry", "333333333333.dkr.ecr.eu-west-1.amazonaws.com")]),
            ("sovereign", &[("region", "eusc-de-east-1"), ("account", "444444444444")]),
        ]);
        of_role.derive();
        let get = |name: &str, key: &str| {
            let (_, values) = of_role.environments.iter().find(|(n, _)| n.as_str() == name).unwrap();
            values.get(key).map(str::to_owned)
        };
        assert_eq!(get("prod", "registry").unwrap(), "111111111111.dkr.ecr.eu-central-1.amazonaws.com");
        assert_eq!(get("china", "registry").unwrap(), "222222222222.dkr.ecr.cn-north-1.amazonaws.com.cn");
        assert_eq!((get("shared", "region"), get("shared", "account")), (Some("eu-west-1".into()), None));
        assert_eq!(get("sovereign", "registry"), None);
    }

    #[test]
    fn the_repository_of_all_environments_belongs_to_the_project() {
        let mut found = draft(&[
            ("dev", &[("repository", "shop/web")]),
            ("prod", &[("repository", "shop/web")]),
            ("edge", &[("repository", "edge/web")]),
        ]);
        found.derive();
        assert_eq!(found.repository.as_ref().unwrap().value, "shop/web");
        let own: Vec<_> = found.environments.iter().map(|(_, values)| values.get("repository")).collect();
        assert_eq!(own, [None, None, Some("edge/web")]);
    }

    #[test]
    fn lists_what_is_required_and_what_is_not_known() {
        let mut found = draft(&[
            ("dev", &[("ecs.service", "web")]),
            ("prod", &[("region", "eu-central-1"), ("registry", "r.example.com"), ("eks.cluster", "prod")]),
        ]);
        found.derive();
        let keys = |unknown: Vec<Unknown>| -> Vec<String> {
            unknown
                .iter()
                .map(|u| format!("{}/{}", u.environment.as_ref().map_or("", Environment::as_str), u.key))
                .collect()
        };
        assert_eq!(
            keys(found.missing()),
            [
                "/project.repository",
                "dev/region",
                "dev/registry",
                "dev/ecs.cluster",
                "prod/eks.namespace",
                "prod/eks.workload"
            ]
        );
        assert_eq!(keys(found.unknown()), ["dev/account", "dev/role", "prod/account", "prod/role"]);
    }
}
