//! Prepare the objects: check where they are and which images they have, set the digest, name Jobs, and order them.

use bp_artifact::{ResolvedImage, config::Workload, config::WorkloadKind};
use serde_json::{Value, json};

use super::{
    context::{Context, Item},
    error::ManifestsError,
    images::{self, Containers},
    object::Manifest,
    order::rank,
    resources::{self, Resource},
};
use crate::{
    error::Error,
    rollout::api::WorkloadApi,
    workload::{RolloutStatus, job},
};

/// The number of Jobs per image, as in a rollout of a Job.
const TRIES: usize = 99;

impl Context {
    /// The objects with `image`, in the order in which they are applied.
    ///
    /// # Errors
    /// When an object or its images are not allowed, no container would run the image, or the cluster does not serve a
    /// kind.
    pub(super) async fn prepare(&self, image: &ResolvedImage) -> Result<Vec<Item>, ManifestsError> {
        let mut items = self.items(Some(image)).await?;
        self.check_images(&items, image)?;
        for item in &mut items {
            self.name_job(item, image).await?;
        }
        Ok(items)
    }

    /// The objects, with `image` if one is given.
    pub(super) async fn items(&self, image: Option<&ResolvedImage>) -> Result<Vec<Item>, ManifestsError> {
        if self.set.manifests.is_empty() {
            return Err(ManifestsError::Empty);
        }
        let resources = resources::find(&self.scope, &self.set.manifests).await?;
        let mut items = Vec::new();
        for manifest in &self.set.manifests {
            let mut manifest = manifest.clone();
            let key = (manifest.api_version.clone(), manifest.kind.clone());
            let Some(resource) = resources.get(&key) else { continue };
            let containers = match image {
                Some(image) => images::replace(&mut manifest, image, &self.options.environment),
                None => Containers::default(),
            };
            if !containers.ours.is_empty() && manifest.workload().is_some() {
                for (name, value) in &self.options.build {
                    insert(&mut manifest.object, "annotations", name, value);
                }
            }
            items.push(self.placed(manifest, resource, containers));
        }
        self.check_namespaces(&items)?;
        items.sort_by_key(|item| rank(&item.manifest));
        Ok(items)
    }

    /// The object in its namespace: its own, or that of the target.
    fn placed(&self, mut manifest: Manifest, resource: &Resource, containers: Containers) -> Item {
        let namespace = resource.is_namespaced.then(|| {
            let own = manifest.namespace.clone();
            own.unwrap_or_else(|| self.scope.namespace.clone())
        });
        if let Some(metadata) = manifest.object["metadata"].as_object_mut() {
            match &namespace {
                Some(namespace) => drop(metadata.insert("namespace".to_owned(), json!(namespace))),
                None => drop(metadata.remove("namespace")),
            }
        }
        Item { manifest, resource: resource.clone(), namespace, containers }
    }

    /// Whether all objects are in the target's namespace; the Namespace itself is.
    fn check_namespaces(&self, items: &[Item]) -> Result<(), ManifestsError> {
        let own = &self.scope.namespace;
        let is_outside = |item: &&Item| match &item.namespace {
            Some(namespace) => namespace != own,
            None => {
                !((item.manifest.group(), item.manifest.kind.as_str()) == ("", "Namespace")
                    && item.manifest.name == *own)
            }
        };
        let outside: Vec<String> =
            items.iter().filter(is_outside).map(|item| item.shown(&self.scope)).collect();
        if self.outside_namespace || outside.is_empty() {
            return Ok(());
        }
        Err(ManifestsError::Outside { namespace: own.clone(), objects: outside })
    }

    fn check_images(&self, items: &[Item], image: &ResolvedImage) -> Result<(), ManifestsError> {
        if !items.iter().any(Item::is_ours) {
            let mut others: Vec<String> =
                items.iter().flat_map(|item| item.containers.others.iter().cloned()).collect();
            others.sort();
            others.dedup();
            let repository = image.reference.repository().to_string();
            return Err(ManifestsError::ImageNotUsed { repository, images: others });
        }
        let tags = self.tags(items);
        if self.allow_tags || tags.is_empty() {
            return Ok(());
        }
        Err(ManifestsError::Tags { images: tags })
    }

    /// The images without a digest, each with its object.
    pub(super) fn tags(&self, items: &[Item]) -> Vec<String> {
        let of_item = |item: &Item| {
            let tags = item.containers.others.iter().filter(|image| images::is_by_tag(image));
            tags.map(|image| format!("{image} ({})", item.shown(&self.scope))).collect::<Vec<_>>()
        };
        items.iter().flat_map(of_item).collect()
    }

    /// Adds the digest to the name of a Job with the image, as in a rollout of a Job: its template is immutable, and a Job that has
    /// failed is kept as evidence.
    async fn name_job(&self, item: &mut Item, image: &ResolvedImage) -> Result<(), ManifestsError> {
        let Some(workload) = item.manifest.workload() else { return Ok(()) };
        if workload.kind != WorkloadKind::Job || !item.is_ours() {
            return Ok(());
        }
        for attempt in 1..=TRIES {
            let name = job::name_of(&workload.name, image.digest().hex(), attempt);
            let known = Workload { kind: workload.kind, name: name.clone() };
            let api = WorkloadApi { scope: self.scope_of(item), workload: known };
            match api.workload().await {
                Ok(live) if matches!(live.status(0), RolloutStatus::Failed(_)) => continue,
                Ok(_) | Err(Error::NotFound { .. } | Error::NamespaceNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let object = &mut item.manifest.object;
            object["metadata"]["name"] = json!(name);
            insert(object, "labels", job::DERIVED_FROM, &workload.name);
            if let Some(spec) = object["spec"].as_object_mut() {
                // The Job is the record that this image has run.
                spec.remove("ttlSecondsAfterFinished");
            }
            item.manifest.name = name;
            return Ok(());
        }
        Err(Error::TooManyJobs { workload }.into())
    }
}

/// Adds a label or an annotation. One of another type is left to the API server.
fn insert(object: &mut Value, map: &str, name: &str, value: &str) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let entries = metadata.entry(map).or_insert(Value::Null);
    if entries.is_null() {
        *entries = json!({});
    }
    if let Some(entries) = entries.as_object_mut() {
        entries.insert(name.to_owned(), json!(value));
    }
}
