//! The table of all settings: used for parsing, the error about an unknown key, environment variables, origins and the
//! JSON Schema.

/// A setting. A name that ends in `.*` matches any name in that table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Its description, for editors.
    pub(super) about: &'static str,
}

/// The type of a setting's value. Layers keep every value as text; numbers may be unquoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A text that editors can validate with this regular expression.
    Form(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number from 1.
    Count,
    /// A whole number from 1, or a percentage in quotes.
    CountOrPercent,
    /// An HTTP status.
    Status,
    /// `true`: a key that is omitted otherwise.
    True,
    /// A list of strings. In variables and flags it is written as JSON.
    Words,
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

/// The value of [`OnFailure::RollBack`](crate::deploy::OnFailure::RollBack).
pub(super) const ROLL_BACK: &str = "roll-back";
/// The value of [`OnFailure::Leave`](crate::deploy::OnFailure::Leave).
pub(super) const LEAVE: &str = "leave";

/// The values of a switch.
pub(super) const ON: &str = "on";
pub(super) const OFF: &str = "off";

/// The forms of environment variables in the values of a chart.
pub(super) const LIST: &str = "list";
pub(super) const MAP: &str = "map";

/// The keys that require a Helm release.
pub(super) const RELEASE: &[&str] = &[
    "eks.chart",
    "eks.chart-version",
    "eks.chart-repo",
    "eks.create-namespace",
    "eks.values",
    "eks.digest-key",
    "eks.helm-flags",
    "eks.environment-key",
    "eks.environment-form",
];
/// The sections that require a Helm release.
pub(super) const RELEASE_SECTIONS: &[&str] = &["eks.set", "eks.set-string", "eks.set-file", "eks.set-json"];

/// The keys of `[project]`.
pub(super) const PROJECT: &[Key] = &[
    key("name", Kind::Text, "The project's name."),
    key("repository", Kind::Text, "The path of the image's repository, below each environment's registry."),
    key("owner", Kind::Text, "The owner: sets the tag Owner."),
    key("tags.*", Kind::Text, "A tag of all created resources, in every environment."),
];

/// The form of the names of environments, services and gates.
pub(super) const NAME_FORM: &str = "^[a-z]([a-z0-9-]*[a-z0-9])?$";

/// The name of an environment, which no layer can change.
pub(super) const NAME: Key = key("name", Kind::Form(NAME_FORM), "The environment's name.");

/// The keys of `[[environment]]` that apply to all its services, besides its name.
pub(super) const ENVIRONMENT: &[Key] = &[
    key("account", Kind::Form("^[0-9]{12}$"), "The AWS account: operations in another account are rejected."),
    key("region", Kind::Form("^[a-z]+(-[a-z]+)+-[0-9]{1,2}$"), "The AWS region."),
    key("role", Kind::Form("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"), "The ARN of the role to assume."),
    key("registry", Kind::Text, "The registry's host."),
    key("verify.skip", Kind::Text, "Checks that `verify` leaves out, by name, separated by commas."),
];

/// The name of a service, which no layer can change.
pub(super) const SERVICE_NAME: Key = key("name", Kind::Form(NAME_FORM), "The service's name.");

/// The keys of `[[service]]` alone, besides its name.
pub(super) const SERVICE: &[Key] =
    &[key("after", Kind::Text, "Services that are deployed before this one, separated by commas.")];

/// The keys of `[[environment]]`, of `[[service]]`, and of `[environment.service.<name>]`.
pub(super) const DEPLOYED: &[Key] = &[
    key("repository", Kind::Text, "The path of the image's repository, below the registry."),
    key(
        "paths",
        Kind::Words,
        "Path patterns of the files that the service is made of, as in services/web: for --changed-since.",
    ),
    key("ecs.paths", Kind::Words, "Path patterns of the target on ECS, instead of paths."),
    key("eks.paths", Kind::Words, "Path patterns of the target on EKS, instead of paths."),
    key("ecs.cluster", Kind::Text, "The ECS cluster's name or ARN."),
    key("ecs.service", Kind::Text, "The ECS service's name."),
    key("ecs.container", Kind::Text, "The container in the task definition, when there are several."),
    key("ecs.also", Kind::Text, "Additional containers that run the same image, separated by commas."),
    key("ecs.definition", Kind::Text, "A task definition as JSON, instead of the one that the service runs."),
    key("ecs.cpu", Kind::Text, "The task's CPU units, as in 256 or 1 vCPU."),
    key("ecs.memory", Kind::Text, "The task's memory, as in 512 or 1GB."),
    key(
        "ecs.tagging",
        Kind::OneOf(&[ON, OFF]),
        "Whether task definitions and one-off tasks have tags, which requires the permission ecs:TagResource.",
    ),
    key(
        "ecs.schedules",
        Kind::OneOf(&[ON, OFF]),
        "Whether scheduled tasks (EventBridge) of the service's task definition family move to the deployed revision.",
    ),
    key(
        "ecs.platform-variable",
        Kind::OneOf(&[ON, OFF]),
        "Whether the container gets the environment variable DEPLOY_PLATFORM=ecs.",
    ),
    key(
        "ecs.without-members",
        Kind::Text,
        "Members that this version does not support, to remove from new revisions, separated by commas.",
    ),
    key(
        "ecs.stable-for",
        Kind::Text,
        "How long the tasks of a successful deployment are watched for new failures, as in 30s.",
    ),
    key(
        "ecs.before.*",
        Kind::Words,
        "The command of a one-off task that must succeed before the service is changed, such as a migration.",
    ),
    key("ecs.after.*", Kind::Words, "The command of a one-off task that runs after the deployment."),
    key("ecs.task-timeout", Kind::Text, "How long a one-off task may run before it is stopped, as in 20m."),
    key("ecs.task-container", Kind::Text, "The container that runs the command of one-off tasks."),
    key("ecs.environment.*", Kind::Text, "An environment variable of the container."),
    key(
        "ecs.secrets.*",
        Kind::Text,
        "A secret of the container, by its reference: an ARN or a parameter's name.",
    ),
    key(
        "ecs.pin-secrets",
        Kind::OneOf(&[ON, OFF]),
        "Whether deployments pin the secrets of ecs.secrets to their current version; secrets watch rolls out new ones.",
    ),
    key("ecs.log-options.*", Kind::Text, "An option of the container's log driver, such as awslogs-group."),
    key("ecs.images.*", Kind::Text, "The image of another container, by digest."),
    key("eks.cluster", Kind::Text, "The EKS cluster's name."),
    key("eks.namespace", Kind::Text, "The Kubernetes namespace."),
    key("eks.workload", Kind::Form(super::name::WORKLOAD), "The workload, as in deployment/web."),
    key(
        "eks.platform-variable",
        Kind::OneOf(&[ON, OFF]),
        "Whether the container gets the environment variable DEPLOY_PLATFORM=eks.",
    ),
    key("eks.release", Kind::Text, "The Helm release to upgrade, instead of a workload."),
    key(
        "eks.chart",
        Kind::Text,
        "The release's chart: a directory, an archive, oci://..., or a name in eks.chart-repo.",
    ),
    key("eks.chart-version", Kind::Text, "The chart's version, if not the latest one."),
    key("eks.chart-repo", Kind::Text, "The URL of the chart's repository."),
    key(
        "eks.create-namespace",
        Kind::OneOf(&[ON, OFF]),
        "Whether the first installation of the release creates the namespace.",
    ),
    key("eks.set.*", Kind::Text, "A value of the chart, as in helm --set; overrides the values files."),
    key("eks.set-string.*", Kind::Text, "A value of the chart that is a string."),
    key("eks.set-file.*", Kind::Text, "A value of the chart that is the content of this file."),
    key("eks.set-json.*", Kind::Text, "A value of the chart as JSON."),
    key(
        "eks.helm-flags",
        Kind::Words,
        "Further flags of helm upgrade, each with its value, as in --labels=team=shop.",
    ),
    key(
        "eks.environment-key",
        Kind::Text,
        "The key of the chart's values that gets the environment variables of eks.environment.",
    ),
    key(
        "eks.environment-form",
        Kind::OneOf(&[LIST, MAP]),
        "Whether these are a list of objects with name and value, or a map; defaults to list.",
    ),
    key(
        "eks.values",
        Kind::Text,
        "Values files for the chart, separated by commas; later ones take precedence.",
    ),
    key("eks.digest-key", Kind::Text, "The key of the digest in the chart's values, if not image.digest."),
    key(
        "eks.manifests",
        Kind::Text,
        "Files and directories of Kubernetes manifests to apply, instead of a workload, separated by commas.",
    ),
    key(
        "eks.allow-tags",
        Kind::OneOf(&[ON, OFF]),
        "Whether containers of the manifests may have images of other repositories by tag.",
    ),
    key(
        "eks.outside-namespace",
        Kind::OneOf(&[ON, OFF]),
        "Whether objects of the manifests may be cluster-scoped, or in another namespace.",
    ),
    key("eks.container", Kind::Text, "The container in the pod template, when there are several."),
    key(
        "eks.also",
        Kind::Text,
        "Additional containers that run the same image, such as an init container that migrates, separated by commas.",
    ),
    key(
        "eks.restarts",
        Kind::Count,
        "How many restarts of a container in a crash loop fail the rollout; a program may wait for its dependencies.",
    ),
    key(
        "eks.grace",
        Kind::Text,
        "How long new pods may be refused or wait for a missing Secret or ConfigMap until the rollout fails, as in 5m.",
    ),
    key(
        "eks.allow-owner",
        Kind::OneOf(&[ON, OFF]),
        "Whether a workload that another controller owns may be changed: for owners that leave the image alone.",
    ),
    key(
        "eks.allow-no-replicas",
        Kind::OneOf(&[ON, OFF]),
        "Whether a workload that is scaled to zero counts as deployed.",
    ),
    key(
        "eks.annotate",
        Kind::OneOf(&[ON, OFF]),
        "Whether the workload gets the annotations bp-eks/Commit and bp-eks/Version of the artifact.",
    ),
    key(
        "eks.restart-on-config",
        Kind::OneOf(&[ON, OFF]),
        "Whether the pods are replaced when a Secret or ConfigMap that they refer to has changed, also with the same image.",
    ),
    key("eks.environment.*", Kind::Text, "An environment variable of the container."),
    key(
        "eks.traffic.object",
        Kind::Form("^(ingress|httproute)/.+$"),
        "The Ingress or HTTPRoute with the weights, as in httproute/shop.",
    ),
    key("eks.traffic.action", Kind::Text, "The Ingress's action with the weights, when there are several."),
    key(
        "eks.traffic.services",
        Kind::Text,
        "The two Services that share the traffic, separated by a comma, as in web-blue, web-green.",
    ),
    key(
        "eks.traffic.steps",
        Kind::Text,
        "The percentages in which traffic is shifted; defaults to 5, 25, 50, 100.",
    ),
    key("eks.traffic.bake", Kind::Text, "How long each step is watched before the next one, as in 5m."),
    key(
        "eks.traffic.smoke",
        Kind::Text,
        "Gates that are checked before the first step, by name, separated by commas.",
    ),
    key(
        "eks.traffic.checks",
        Kind::Text,
        "Gates that are checked after each step, by name, separated by commas.",
    ),
    key(
        "eks.traffic.target-health",
        Kind::OneOf(&[ON, OFF]),
        "Whether a step requires healthy targets in Elastic Load Balancing; defaults to on in builds that can read it.",
    ),
    key("deploy.timeout", Kind::Text, "The timeout of a deployment, as in 15m."),
    key("deploy.image-timeout", Kind::Text, "How long to wait for the image to appear, as in 5m."),
    key(
        "deploy.on-failure",
        Kind::OneOf(&[ROLL_BACK, LEAVE]),
        "What to do when a deployment fails and the platform does not roll back by itself.",
    ),
    key(
        "deploy.order",
        Kind::OneOf(&["ecs, eks", "eks, ecs"]),
        "Which platform is deployed to first; defaults to all targets concurrently.",
    ),
    key(
        "limits.failures",
        Kind::CountOrPercent,
        "How many tasks or pods may fail before a deployment is aborted: a number, or a percentage of the desired number.",
    ),
    key(
        "limits.transfers",
        Kind::Count,
        "How many blobs a promotion to this environment copies concurrently.",
    ),
    key("tags.*", Kind::Text, "A tag of all created resources, in this environment."),
];

/// The keys of which each gate has exactly one.
pub(super) const GATE_KINDS: [&str; 5] = ["approval", "url", "command", "alarms", "job"];

/// The keys of `[environment.gate.<name>]`.
pub(super) const GATE: &[Key] = &[
    key(
        "after",
        Kind::Text,
        "The targets before the gate: a service, as web or web/ecs, or with one service ecs or eks; defaults to the last.",
    ),
    key("approval", Kind::True, "Wait for an approval: dual-deploy --approve NAME."),
    key("url", Kind::Form("^https?://[^/]"), "Check this URL with GET: its status must be 200 to 299."),
    key("status", Kind::Status, "The status that is expected instead."),
    key("contains", Kind::Text, "A text that the body must contain."),
    key(
        "json.*",
        Kind::Text,
        "A value in the body as JSON, by its JSON pointer, as in json.\"/status\" = \"ok\".",
    ),
    key("command", Kind::Words, "Check with this command: it must exit with code 0."),
    key(
        "alarms",
        Kind::Words,
        "Check these CloudWatch alarms, metric or composite, by name: all must be in the state OK.",
    ),
    key(
        "job",
        Kind::Text,
        "Check with a Kubernetes Job, which must complete: the file of its manifest. It runs in the namespace of the service in after, or else in the only namespace of the environment.",
    ),
    key(
        "timeout",
        Kind::Text,
        "How long the check is repeated until it passes, or the Job may run, as in 5m.",
    ),
    key(
        "deploy",
        Kind::OneOf(&[ON, OFF]),
        "Whether the check is a gate of dual-deploy; off for one that only verify and switch-traffic run.",
    ),
    key(
        "verify",
        Kind::OneOf(&[ON, OFF]),
        "Whether `verify` runs the check; defaults to on for url and alarms, to off for command and job.",
    ),
];

/// A table of named tables: `[environment.service.<name>]`.
pub(super) struct Table {
    pub(super) name: &'static str,
    keys: &'static [Key],
}

/// The named tables of an environment.
const TABLES: &[Table] = &[Table { name: "service", keys: DEPLOYED }, Table { name: "gate", keys: GATE }];

/// The keys that a table accepts.
#[derive(Clone)]
pub(super) struct Keys {
    keys: Vec<&'static Key>,
    tables: &'static [Table],
}

impl Keys {
    fn of(keys: impl IntoIterator<Item = &'static Key>) -> Self {
        Keys { keys: keys.into_iter().collect(), tables: &[] }
    }

    pub(super) fn project() -> Self {
        Keys::of(PROJECT)
    }

    /// The settings of an environment, besides its name.
    pub(super) fn environment() -> Self {
        Keys { tables: TABLES, ..Keys::of(ENVIRONMENT.iter().chain(DEPLOYED)) }
    }

    /// The settings of a service, besides its name.
    pub(super) fn service() -> Self {
        Keys::of(SERVICE.iter().chain(DEPLOYED))
    }

    /// The settings that a service has in one environment.
    pub(super) fn service_here() -> Self {
        Keys::of(DEPLOYED)
    }

    /// The settings of a gate, besides its name.
    pub(super) fn gate() -> Self {
        Keys::of(GATE)
    }

    /// The same keys with a name, which comes first.
    pub(super) fn named(mut self, name: &'static Key) -> Self {
        self.keys.insert(0, name);
        self
    }

    /// The key with this name.
    pub(super) fn find(&self, name: &str) -> Option<&'static Key> {
        let below = self.tables.iter().find_map(|table| Some((table, below(table, name)?)));
        if let Some((table, Some(name))) = below {
            return Keys::of(table.keys).find(name);
        }
        let is = |key: &&&'static Key| match key.name.strip_suffix('*') {
            Some(section) => name.strip_prefix(section).is_some_and(|name| !name.is_empty()),
            None => key.name == name,
        };
        self.keys.iter().find(is).copied()
    }

    /// Whether there are keys below `path`.
    pub(super) fn has_below(&self, path: &str) -> bool {
        let in_table = |table: &Table| match below(table, path) {
            Some(Some(path)) => Keys::of(table.keys).has_below(path),
            Some(None) => true,
            None => false,
        };
        self.tables.iter().any(in_table)
            || self
                .keys
                .iter()
                .any(|key| key.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The keys, for messages.
    pub(super) fn names(&self) -> String {
        let tables = self.tables.iter().map(|table| format!("{}.<name>.*", table.name));
        let names: Vec<String> = self.keys.iter().map(|key| key.name.to_owned()).chain(tables).collect();
        names.join(", ")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied()
    }
}

/// The part of `path` after the name of one of the table's tables: `Some(None)` for the table itself and for
/// `<table>.<name>`, `None` for a path outside of it.
fn below<'a>(table: &Table, path: &'a str) -> Option<Option<&'a str>> {
    match path.strip_prefix(table.name)? {
        "" => Some(None),
        rest => Some(rest.strip_prefix('.')?.split_once('.').map(|(_, path)| path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_tables_from_keys_with_the_same_prefix() {
        let keys = Keys::environment();
        assert!(
            keys.has_below("service") && keys.has_below("gate.smoke") && keys.has_below("service.web.ecs")
        );
        for path in ["serviceé", "services", "gates.smoke", "gate.smoke.ecs", "service.web.gate"] {
            assert!(!keys.has_below(path), "{path}");
        }
        assert!(keys.find("gate.smoke.url").is_some() && keys.find("gate.smoke.json./a.b").is_some());
        assert!(keys.find("gate.smoke").is_none() && keys.find("gate.smoke.region").is_none());
    }
}
