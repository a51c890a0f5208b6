//! The settings that there are. This one table drives reading, the message about an unknown key, the variables,
//! provenance and the JSON Schema.

/// A setting. A name that ends in `.*` stands for any name there.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it means, for editors.
    pub(super) about: &'static str,
}

/// What a setting's value is. Every value is text to the layers; numbers may stand without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A text of a form that editors can check by this regular expression.
    Form(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number from 1.
    Count,
    /// A whole number from 1, or a percentage in quotes.
    CountOrPercent,
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

/// What [`OnFailure`](crate::deploy::OnFailure) is called.
pub(super) const ROLL_BACK: &str = "roll-back";
/// What the other one is called.
pub(super) const LEAVE: &str = "leave";

/// The keys of `[project]`.
pub(super) const PROJECT: &[Key] = &[
    key("name", Kind::Text, "The project's name."),
    key("repository", Kind::Text, "The path of the image's repository, below each environment's registry."),
    key("owner", Kind::Text, "Who is responsible: the tag Owner."),
    key("tags.*", Kind::Text, "A tag of everything that is created, in every environment."),
];

/// The name of an environment, which is no setting: no layer changes it.
pub(super) const NAME: Key =
    key("name", Kind::Form("^[a-z]([a-z0-9-]*[a-z0-9])?$"), "The environment's name.");

/// The keys of `[[environment]]` that hold for all its services, besides its name.
pub(super) const ENVIRONMENT: &[Key] = &[
    key("account", Kind::Form("^[0-9]{12}$"), "The AWS account: work in another one is refused."),
    key("region", Kind::Form("^[a-z]+(-[a-z]+)+-[0-9]{1,2}$"), "The AWS region."),
    key("role", Kind::Form("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"), "The ARN of the role to assume."),
    key("registry", Kind::Text, "The registry's host."),
];

/// The name of a service, which is no setting: no layer changes it.
pub(super) const SERVICE_NAME: Key =
    key("name", Kind::Form("^[a-z]([a-z0-9-]*[a-z0-9])?$"), "The service's name.");

/// The keys of `[[service]]` alone, besides its name.
pub(super) const SERVICE: &[Key] =
    &[key("after", Kind::Text, "Services that are deployed before this one, separated by commas.")];

/// The keys of `[[environment]]`, of `[[service]]`, and of `[environment.service.<name>]`.
pub(super) const DEPLOYED: &[Key] = &[
    key("repository", Kind::Text, "The path of the image's repository, below the registry."),
    key("ecs.cluster", Kind::Text, "The ECS cluster's name or ARN."),
    key("ecs.service", Kind::Text, "The ECS service's name."),
    key("ecs.container", Kind::Text, "The container in the task definition, when there are several."),
    key("ecs.also", Kind::Text, "Further containers that run the same image, separated by commas."),
    key("ecs.definition", Kind::Text, "A task definition as JSON, instead of the one that the service runs."),
    key("ecs.cpu", Kind::Text, "The task's CPU units, as in 256 or 1 vCPU."),
    key("ecs.memory", Kind::Text, "The task's memory, as in 512 or 1GB."),
    key("ecs.environment.*", Kind::Text, "An environment variable of the container."),
    key(
        "ecs.secrets.*",
        Kind::Text,
        "A secret of the container, by its reference: an ARN or a parameter's name.",
    ),
    key("ecs.log-options.*", Kind::Text, "An option of the container's log driver, as awslogs-group."),
    key("ecs.images.*", Kind::Text, "The image of another container, by digest."),
    key("eks.cluster", Kind::Text, "The EKS cluster's name."),
    key("eks.namespace", Kind::Text, "The Kubernetes namespace."),
    key("eks.workload", Kind::Form(super::name::WORKLOAD), "The workload, as in deployment/web."),
    key("eks.release", Kind::Text, "The Helm release that is upgraded, instead of a workload."),
    key("eks.chart", Kind::Text, "The release's chart: a directory, an archive, or oci://..."),
    key("eks.values", Kind::Text, "Files of values for the chart, separated by commas; the later win."),
    key("eks.digest-key", Kind::Text, "Where the chart's values take the digest, when not image.digest."),
    key("eks.container", Kind::Text, "The container in the pod template, when there are several."),
    key("eks.environment.*", Kind::Text, "An environment variable of the container."),
    key("deploy.timeout", Kind::Text, "How long a deployment may take, as in 15m."),
    key("deploy.image-timeout", Kind::Text, "How long to wait for the image to appear, as in 5m."),
    key(
        "deploy.on-failure",
        Kind::OneOf(&[ROLL_BACK, LEAVE]),
        "What to do when a deployment fails and the platform does not go back by itself.",
    ),
    key(
        "deploy.order",
        Kind::OneOf(&["ecs, eks", "eks, ecs"]),
        "Which platform is deployed to first; all targets at once, if there is no order.",
    ),
    key(
        "limits.failures",
        Kind::CountOrPercent,
        "How many tasks or pods may fail before a deployment is given up: a number, or a percentage of those wanted.",
    ),
    key("limits.transfers", Kind::Count, "How many blobs a promotion to here carries at a time."),
    key("tags.*", Kind::Text, "A tag of everything that is created, in this environment."),
];

/// The keys that a table takes.
#[derive(Clone)]
pub(super) struct Keys {
    keys: Vec<&'static Key>,
    /// Whether it has a table `service` of tables by the names of services.
    services: bool,
}

impl Keys {
    pub(super) fn project() -> Self {
        Keys { keys: PROJECT.iter().collect(), services: false }
    }

    /// The settings of an environment, besides its name.
    pub(super) fn environment() -> Self {
        Keys { keys: ENVIRONMENT.iter().chain(DEPLOYED).collect(), services: true }
    }

    /// The settings of a service, besides its name.
    pub(super) fn service() -> Self {
        Keys { keys: SERVICE.iter().chain(DEPLOYED).collect(), services: false }
    }

    /// The settings that a service has in one environment.
    pub(super) fn service_here() -> Self {
        Keys { keys: DEPLOYED.iter().collect(), services: false }
    }

    /// The same with a name, which comes first.
    pub(super) fn named(mut self, name: &'static Key) -> Self {
        self.keys.insert(0, name);
        self
    }

    /// The key that `name` is.
    pub(super) fn find(&self, name: &str) -> Option<&'static Key> {
        if let Some((_, name)) = self.of_service(name) {
            return Keys::service_here().find(name);
        }
        let is = |key: &&&'static Key| match key.name.strip_suffix('*') {
            Some(section) => name.strip_prefix(section).is_some_and(|name| !name.is_empty()),
            None => key.name == name,
        };
        self.keys.iter().find(is).copied()
    }

    /// Whether there are keys below `path`.
    pub(super) fn has_below(&self, path: &str) -> bool {
        let of_service = self.services
            && path.strip_prefix("service").is_some_and(|rest| {
                !rest[rest.len().min(1)..].contains('.') && (rest.is_empty() || rest.starts_with('.'))
            });
        of_service
            || self.of_service(path).is_some_and(|(_, path)| Keys::service_here().has_below(path))
            || self
                .keys
                .iter()
                .any(|key| key.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    fn of_service<'a>(&self, name: &'a str) -> Option<(&'a str, &'a str)> {
        name.strip_prefix("service.").filter(|_| self.services)?.split_once('.')
    }

    /// The keys, for people.
    pub(super) fn names(&self) -> String {
        let mut names: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
        if self.services {
            names.push("service.<name>.*");
        }
        names.join(", ")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied()
    }
}
