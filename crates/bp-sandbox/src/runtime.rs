//! Container runtime model: pulls images from the registries, and determines what they do. Used by ECS and the kubelet.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use crate::{registry::Registry, sync::lock};

/// What a container does after it starts.
///
/// Set it with [`Sandbox::script`](crate::Sandbox::script), or in the image configuration with the label
/// `dev.bp-sandbox.behaviour`: `healthy`, `exit:<code>`, `unhealthy`, `oom`; the label `dev.bp-sandbox.log` is the last
/// log line.
///
/// On ECS, a container without a health check, of its own or by a load balancer, is healthy as soon as it runs, so that a
/// program that [exits](Behaviour::Exits) seconds later is deployed, and one that is
/// [unhealthy](Behaviour::Unhealthy) runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// It runs, and becomes healthy after this duration.
    Healthy(Duration),
    /// It exits after this duration, with this exit code and these log lines.
    Exits {
        /// How long it runs.
        after: Duration,
        /// The exit code.
        code: i32,
        /// The log lines.
        log: Vec<String>,
    },
    /// It runs and becomes healthy, and exits later: a program that fails after its deployment has completed.
    HealthyThenExits {
        /// When it becomes healthy.
        healthy: Duration,
        /// When it exits, after its start.
        exits: Duration,
        /// The exit code.
        code: i32,
        /// The log lines.
        log: Vec<String>,
    },
    /// It runs, but its health check or probe fails with this message.
    Unhealthy(String),
    /// It is killed after this duration because it is out of memory.
    OutOfMemory(Duration),
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour::Healthy(Duration::from_secs(2))
    }
}

/// Why an image could not be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each feature uses a part")]
pub(crate) enum PullError {
    /// The registry, repository, tag or digest does not exist.
    NotFound,
    /// The index does not contain the requested platform.
    NoPlatform,
    /// Not an image reference.
    Malformed,
}

/// A pulled image.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "each feature uses a part")]
pub(crate) struct Pulled {
    /// The digest that the reference resolved to, of the index or manifest.
    pub(crate) digest: String,
    /// The digest of the platform's manifest.
    pub(crate) platform_digest: String,
    /// What the container does.
    pub(crate) behaviour: Behaviour,
}

/// The registries, and the behaviours of their images.
pub(crate) struct Runtime {
    registries: BTreeMap<String, Arc<Registry>>,
    scripts: Mutex<HashMap<String, Behaviour>>,
}

impl Runtime {
    pub(crate) fn new(registries: impl Iterator<Item = Arc<Registry>>) -> Self {
        let registries = registries.map(|r| (r.host().to_owned(), r)).collect();
        Runtime { registries, scripts: Mutex::default() }
    }

    pub(crate) fn registry(&self, host: &str) -> Option<Arc<Registry>> {
        self.registries.get(host).cloned()
    }

    pub(crate) fn registries(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.registries.values()
    }

    pub(crate) fn script(&self, digest: &str, behaviour: Behaviour) {
        lock(&self.scripts).insert(digest.to_owned(), behaviour);
    }

    /// Pulls `image` (`host/path:tag`, `host/path@digest` or both) for `os`/`architecture`.
    #[allow(dead_code, reason = "used by the features aws and kube")]
    pub(crate) fn pull(&self, image: &str, os: &str, architecture: &str) -> Result<Pulled, PullError> {
        let (host, rest) = image.split_once('/').ok_or(PullError::Malformed)?;
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) => (path, tag),
            None => (name, "latest"),
        };
        let registry = self.registries.get(host).ok_or(PullError::NotFound)?;
        let top = registry.manifest(path, digest.unwrap_or(tag)).ok_or(PullError::NotFound)?;
        let document: Value = serde_json::from_slice(&top.bytes).map_err(|_| PullError::Malformed)?;
        let manifest = match document["manifests"].as_array() {
            None => top.clone(),
            Some(children) => {
                let child = children
                    .iter()
                    .find(|c| c["platform"]["os"] == os && c["platform"]["architecture"] == architecture)
                    .ok_or(PullError::NoPlatform)?;
                let digest = child["digest"].as_str().ok_or(PullError::Malformed)?;
                registry.manifest(path, digest).ok_or(PullError::NotFound)?
            }
        };
        let behaviour = self.behaviour(registry, path, &top.digest, &manifest.digest, &manifest.bytes);
        Ok(Pulled { digest: top.digest, platform_digest: manifest.digest, behaviour })
    }

    fn behaviour(
        &self,
        registry: &Registry,
        path: &str,
        top: &str,
        digest: &str,
        manifest: &[u8],
    ) -> Behaviour {
        let scripts = lock(&self.scripts);
        if let Some(script) = scripts.get(digest).or_else(|| scripts.get(top)) {
            return script.clone();
        }
        let labels = || {
            let manifest: Value = serde_json::from_slice(manifest).ok()?;
            let config = registry.blob(path, manifest["config"]["digest"].as_str()?)?;
            let config: Value = serde_json::from_slice(&config).ok()?;
            Some(config["config"]["Labels"].clone())
        };
        labels().and_then(|labels| from_labels(&labels)).unwrap_or_default()
    }
}

fn from_labels(labels: &Value) -> Option<Behaviour> {
    let soon = Duration::from_secs(2);
    let log = labels["dev.bp-sandbox.log"].as_str();
    match labels["dev.bp-sandbox.behaviour"].as_str()?.split_once(':') {
        Some(("exit", code)) => Some(Behaviour::Exits {
            after: soon,
            code: code.parse().ok()?,
            log: log.map(str::to_owned).into_iter().collect(),
        }),
        None => match labels["dev.bp-sandbox.behaviour"].as_str()? {
            "healthy" => Some(Behaviour::Healthy(soon)),
            "unhealthy" => {
                Some(Behaviour::Unhealthy(log.unwrap_or("HTTP probe failed with statuscode: 500").to_owned()))
            }
            "oom" => Some(Behaviour::OutOfMemory(soon)),
            _ => None,
        },
        Some(_) => None,
    }
}
