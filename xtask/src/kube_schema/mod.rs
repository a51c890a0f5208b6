//! `kube-schema`: write the table of Kubernetes API messages that the sandbox converts and validates with.
//!
//! Field numbers, types and JSON names are facts of the published API: the numbers are in `generated.proto`, and the JSON
//! names and merge strategies in the tags and markers of `types.go`. The table contains nothing else of those files, and
//! only the messages that the kinds of the sandbox consist of.

mod go;
mod proto;
mod render;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use self::{go::Tags, proto::Message};
use crate::{
    command,
    e2e::tools::{Cache, Toolbox},
    report,
};

/// The table.
const TABLE: &str = "crates/bp-sandbox/src/kube/schema/messages.txt";

/// Packages: name in the table, module, directory.
const PACKAGES: [(&str, &str, &str); 18] = [
    ("core.v1", "api", "core/v1"),
    ("apps.v1", "api", "apps/v1"),
    ("batch.v1", "api", "batch/v1"),
    ("networking.v1", "api", "networking/v1"),
    ("discovery.v1", "api", "discovery/v1"),
    ("autoscaling.v1", "api", "autoscaling/v1"),
    ("autoscaling.v2", "api", "autoscaling/v2"),
    ("coordination.v1", "api", "coordination/v1"),
    ("policy.v1", "api", "policy/v1"),
    ("rbac.v1", "api", "rbac/v1"),
    ("authorization.v1", "api", "authorization/v1"),
    ("authentication.v1", "api", "authentication/v1"),
    ("storage.v1", "api", "storage/v1"),
    ("scheduling.v1", "api", "scheduling/v1"),
    ("admissionregistration.v1", "api", "admissionregistration/v1"),
    ("events.v1", "api", "events/v1"),
    ("apiextensions.v1", "apiextensions-apiserver", "pkg/apis/apiextensions/v1"),
    ("meta.v1", "apimachinery", "pkg/apis/meta/v1"),
];

/// Messages that the table contains with everything that they consist of. A kind with a list has its list too.
const ROOTS: &[&str] = &[
    "core.v1.Pod",
    "core.v1.Service",
    "core.v1.ConfigMap",
    "core.v1.Secret",
    "core.v1.Event",
    "core.v1.ServiceAccount",
    "core.v1.ResourceQuota",
    "core.v1.LimitRange",
    "core.v1.PersistentVolumeClaim",
    "core.v1.PersistentVolume",
    "core.v1.Namespace",
    "core.v1.Node",
    "core.v1.Endpoints",
    "core.v1.ReplicationController",
    "apps.v1.Deployment",
    "apps.v1.ReplicaSet",
    "apps.v1.StatefulSet",
    "apps.v1.DaemonSet",
    "apps.v1.ControllerRevision",
    "batch.v1.Job",
    "batch.v1.CronJob",
    "networking.v1.Ingress",
    "networking.v1.IngressClass",
    "networking.v1.NetworkPolicy",
    "discovery.v1.EndpointSlice",
    "autoscaling.v1.Scale",
    "autoscaling.v2.HorizontalPodAutoscaler",
    "coordination.v1.Lease",
    "policy.v1.PodDisruptionBudget",
    "policy.v1.Eviction",
    "rbac.v1.Role",
    "rbac.v1.RoleBinding",
    "rbac.v1.ClusterRole",
    "rbac.v1.ClusterRoleBinding",
    "authorization.v1.SelfSubjectAccessReview",
    "authorization.v1.SelfSubjectRulesReview",
    "authorization.v1.SubjectAccessReview",
    "authentication.v1.SelfSubjectReview",
    "authentication.v1.TokenRequest",
    "storage.v1.StorageClass",
    "scheduling.v1.PriorityClass",
    "admissionregistration.v1.ValidatingWebhookConfiguration",
    "admissionregistration.v1.MutatingWebhookConfiguration",
    "apiextensions.v1.CustomResourceDefinition",
    "meta.v1.DeleteOptions",
    "meta.v1.Status",
    "meta.v1.PartialObjectMetadata",
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cache: Cache,
}

/// Downloads the published API and writes the table.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let tools = arguments.cache.open()?;
    let sources = sources(&tools)?;
    let table = render::table(&read(&sources)?, ROOTS)?;
    let path = command::root().join(TABLE);
    fs::write(&path, &table).with_context(|| format!("cannot write {TABLE}"))?;
    report::line(format_args!("wrote {TABLE}: {} lines", table.lines().count()));
    Ok(true)
}

/// The directories of the packages.
fn sources(tools: &Toolbox) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut modules: BTreeMap<&str, PathBuf> = BTreeMap::new();
    let mut all = Vec::new();
    for (package, module, directory) in PACKAGES {
        if !modules.contains_key(module) {
            modules.insert(module, tools.kubernetes_module(module)?);
        }
        all.push((package, modules[module].join(directory)));
    }
    Ok(all)
}

/// The messages of all packages by name, each field with its tags.
fn read(sources: &[(&'static str, PathBuf)]) -> Result<BTreeMap<String, (Message, Tags)>> {
    let mut messages = BTreeMap::new();
    for (package, directory) in sources {
        let tags = go::read(&types(directory)?);
        for message in proto::read(package, &text(&directory.join("generated.proto"))?)? {
            let tags = tags.get(message.name.as_str()).cloned().unwrap_or_default();
            messages.insert(format!("{package}.{}", message.name), (message, tags));
        }
    }
    Ok(messages)
}

/// The text of `types.go`, and of `types_jsonschema.go` where a package has it.
fn types(directory: &Path) -> Result<String> {
    let more = directory.join("types_jsonschema.go");
    let more = if more.exists() { text(&more)? } else { String::new() };
    Ok(text(&directory.join("types.go"))? + &more)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
