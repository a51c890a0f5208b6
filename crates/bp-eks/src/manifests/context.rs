//! The manifests of one target, and the API calls for one object.

use std::{fmt, time::Duration};

use bp_artifact::{
    config::Workload,
    deploy::{OnFailure, Revision, TargetId},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};

use super::{images::Containers, object::Manifest, read::ManifestSet, resources::Resource};
use crate::{
    api::{manager, scope::Scope},
    error::Error,
    object::ObjectRef,
    options::Options,
    target::EksTarget,
};

/// The manifests of one target.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) scope: Scope,
    pub(super) name: String,
    pub(super) set: ManifestSet,
    pub(super) options: Options,
    pub(super) allow_tags: bool,
    pub(super) outside_namespace: bool,
    /// A revision whose workloads stand for those of an empty set.
    pub(super) recorded: Option<Revision>,
    pub(super) id: TargetId,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifests").field("id", &self.id).field("set", &self.set).finish_non_exhaustive()
    }
}

/// An object that is ready to be applied.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) manifest: Manifest,
    pub(super) resource: Resource,
    /// `None` for a cluster-scoped object.
    pub(super) namespace: Option<String>,
    pub(super) containers: Containers,
}

impl Item {
    /// The object, for messages: with its namespace if that is not the target's.
    pub(super) fn shown(&self, scope: &Scope) -> String {
        match &self.namespace {
            Some(namespace) if *namespace != scope.namespace => format!("{} in {namespace}", self.manifest),
            Some(_) | None => self.manifest.to_string(),
        }
    }

    /// Whether a container gets the deployed image.
    pub(super) fn is_ours(&self) -> bool {
        !self.containers.ours.is_empty()
    }

    /// The workload whose rollout is watched, with its container and others that get the image.
    pub(super) fn workload(&self) -> Option<(Workload, Option<&String>)> {
        let Containers { ours, all, .. } = &self.containers;
        Some((self.manifest.workload()?, ours.first().or(all.first())))
    }
}

impl Context {
    /// The field manager of this set.
    fn manager(&self) -> String {
        manager::of_manifests(&self.name)
    }

    /// Whether a conflict with this field manager is resolved by force: one of bp-eks for a container, or this set's own.
    pub(super) fn may_force(&self, manager: &str) -> bool {
        manager::is_ours(manager) && (!manager::is_of_manifests(manager) || manager == self.manager())
    }

    /// The scope of an object's namespace.
    pub(super) fn scope_of(&self, item: &Item) -> Scope {
        let namespace = item.namespace.clone().unwrap_or_else(|| self.scope.namespace.clone());
        Scope { namespace, ..self.scope.clone() }
    }

    pub(super) fn api(&self, item: &Item) -> Api<DynamicObject> {
        let (client, api) = (self.scope.client.clone(), &item.resource.api);
        match &item.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, api),
            None => Api::all_with(client, api),
        }
    }

    pub(super) fn object(&self, item: &Item) -> ObjectRef {
        self.scope_of(item).object(&item.manifest.kind.to_ascii_lowercase(), &item.manifest.name)
    }

    /// The object in the cluster.
    pub(super) async fn get(&self, item: &Item) -> Result<Option<DynamicObject>, Error> {
        let found = self.api(item).get_opt(&item.manifest.name).await;
        found.map_err(|error| self.object(item).error("get objects of the manifests", error))
    }

    /// Applies an object; with `dry_run`, only asks for the result.
    pub(super) async fn patch(
        &self,
        item: &Item,
        force: bool,
        dry_run: bool,
    ) -> Result<DynamicObject, Error> {
        let mut params = PatchParams::apply(&self.manager()).validation_strict();
        (params.force, params.dry_run) = (force, dry_run);
        let body = Patch::Apply(&item.manifest.object);
        let patched = self.api(item).patch(&item.manifest.name, &params, &body).await;
        patched.map_err(|error| {
            let error = self.object(item).error("patch objects of the manifests", error);
            if item.resource.is_pending
                && let Error::UnexpectedResponse { operation, cluster, source } = error
            {
                // A kind whose definition was just established is served a moment later.
                Error::Unavailable { operation, cluster, source }
            } else {
                error
            }
        })
    }

    /// The workload of an object as a target whose events have the id of the set; it never rolls back by itself.
    pub(super) fn target(&self, item: &Item) -> Option<EksTarget> {
        self.target_within(item, self.options.deadline)
    }

    /// The same with another deadline.
    pub(super) fn target_within(&self, item: &Item, deadline: Duration) -> Option<EksTarget> {
        let (workload, container) = item.workload()?;
        let mut options = self.options.clone().on_failure(OnFailure::Leave);
        options.deadline = deadline;
        options.environment.clear();
        let target = EksTarget::of(self.scope_of(item), workload, container.cloned(), options);
        let also = item.containers.ours.iter().skip(1);
        Some(also.fold(target, EksTarget::also).part_of(&self.id))
    }
}
