//! Replication between registries, as Amazon ECR does it: what is pushed is copied to other registries some time later,
//! under the same repository and tag.

use std::sync::{Arc, Weak};

use super::{
    Incoming, Manifest, Registry, Replica, ReplicaStatus,
    document::Document,
    store::{Replicated, Repository, Store},
};
use crate::sync::lock;

impl Replica {
    pub(crate) fn new(
        region: String,
        account: String,
        prefixes: Vec<String>,
        to: Option<&Arc<Registry>>,
    ) -> Self {
        Replica { region, account, prefixes, to: to.map_or_else(Weak::new, Arc::downgrade) }
    }

    fn covers(&self, repository: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| repository.starts_with(prefix))
    }
}

impl Registry {
    /// Replaces the destinations of replication. What was pushed before is not replicated.
    pub(crate) fn set_replicas(&self, replicas: Vec<Replica>) {
        *lock(&self.replicas) = replicas;
    }

    /// The statuses of an image.
    pub(crate) fn replications(&self, name: &str, digest: &str) -> Vec<ReplicaStatus> {
        let now = self.clock.now();
        let store = self.store();
        let all = store.repositories.get(name).and_then(|repository| repository.replicated.get(digest));
        let status = |one: &Replicated| ReplicaStatus {
            region: one.region.clone(),
            account: one.account.clone(),
            status: match one.complete_at {
                None => "FAILED",
                Some(at) if at <= now => "COMPLETE",
                Some(_) => "IN_PROGRESS",
            },
            failure: one.complete_at.is_none().then_some("SandboxHasNoSuchRegistry"),
        };
        all.into_iter().flatten().map(status).collect()
    }

    /// Sends a manifest that was just pushed to the destinations, with its blobs.
    pub(super) fn replicate(
        &self,
        name: &str,
        repository: &mut Repository,
        tag: Option<&str>,
        manifest: &Manifest,
    ) {
        let due = self.clock.now() + self.options.replication_lag;
        for replica in lock(&self.replicas).iter().filter(|replica| replica.covers(name)) {
            let to = replica.to.upgrade();
            let (region, account) = (replica.region.clone(), replica.account.clone());
            let complete_at = to.as_ref().map(|_| due);
            let statuses = repository.replicated.entry(manifest.digest.clone()).or_default();
            statuses.retain(|other| (&other.region, &other.account) != (&region, &account));
            statuses.push(Replicated { region, account, complete_at });
            let Some(to) = to else { continue };
            let digests: Vec<String> = Document::read(&manifest.bytes)
                .map(|document| document.blobs().map(|blob| blob.digest.clone()).collect())
                .unwrap_or_default();
            let blobs = digests.into_iter().filter_map(|digest| {
                let link = repository.blobs.get(&digest)?.clone();
                Some((digest, link))
            });
            lock(&to.incoming).push(Incoming {
                due,
                repository: name.to_owned(),
                tag: tag.map(str::to_owned),
                manifest: manifest.clone(),
                blobs: blobs.collect(),
            });
        }
    }

    /// Stores what has arrived from other registries by now.
    pub(super) fn receive_replicas(&self, store: &mut Store) {
        let now = self.clock.now();
        let mut incoming = lock(&self.incoming);
        for content in incoming.extract_if(.., |content| content.due <= now) {
            let repository = store.repositories.entry(content.repository);
            let repository = repository.or_insert_with(|| Repository::new(content.due));
            repository.blobs.extend(content.blobs);
            let digest = content.manifest.digest.clone();
            if let Some(tag) = content.tag {
                repository.tags.insert(tag, digest.clone());
            }
            repository.manifests.entry(digest).or_insert(content.manifest);
        }
    }
}
