//! Deregister old task definition revisions that are not in use.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecs::types::{SortOrder, TaskDefinitionStatus};

use crate::{api::Api, error::Error, names::name_of, rollout::ServiceRollout, target::EcsTarget};

/// The old revisions that were deregistered, and those that were kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The ARNs that are now `INACTIVE`. Existing services can still run them; new services cannot use them.
    pub deregistered: Vec<String>,
    /// Old revisions that are in use.
    pub kept: Vec<KeptRevision>,
}

/// An old revision that was kept, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptRevision {
    /// Its ARN.
    pub revision: String,
    /// What uses it.
    pub reason: String,
}

impl EcsTarget {
    /// Deregisters old revisions of the service's task definition family. Keeps the `keep` latest, those in use by a
    /// deployment, task set or task of any service in any cluster of the region, this service's rollback revision, those
    /// that a schedule uses (with the feature `schedules` and [its clients](Self::schedules)), and those listed in `also`
    /// (used by other schedules, pipelines or receipts).
    ///
    /// Call it after a successful deployment. Nothing is deleted: an inactive revision can still be described.
    ///
    /// # Errors
    /// When not all uses can be read, in which case nothing is deregistered; or when deregistering is rejected.
    ///
    /// # Permissions
    /// Those of [`current`](Self::current), and `ecs:ListTaskDefinitions`, `ecs:ListClusters`, `ecs:ListServices`,
    /// `ecs:ListTasks`, `ecs:DescribeTasks`, `ecs:DeregisterTaskDefinition`; with clients for schedules
    /// `events:ListEventBuses`, `events:ListRuleNamesByTarget`, `events:DescribeRule`, `events:ListTargetsByRule`,
    /// `scheduler:ListSchedules`, `scheduler:GetSchedule`.
    ///
    /// # Cancel safety
    /// Cancel safe: revisions are deregistered one by one, and the next call continues.
    pub async fn prune(&self, keep: usize, also: &[String]) -> Result<Pruned, Error> {
        self.0.with_containers().await?.prune(keep, also).await
    }
}

impl ServiceRollout {
    async fn prune(&self, keep: usize, also: &[String]) -> Result<Pruned, Error> {
        let current = self.current().await?;
        let family = self.api.definition(&current.stable.id).await?.family().to_owned();
        let mut used: BTreeMap<String, String> = BTreeMap::new();
        let mut refer = |revision: &str, reason: String| {
            used.entry(name_of(revision).to_owned()).or_insert(reason);
        };
        also.iter().for_each(|revision| refer(revision, "kept on request".to_owned()));
        for revision in [Some(current.stable), current.rolling_out].into_iter().flatten() {
            refer(&revision.id, format!("{} runs it", self.id));
        }
        match self.previous().await {
            Ok(previous) => refer(&previous.id, format!("rollback revision of {}", self.id)),
            Err(Error::NoPrevious { .. }) => {}
            Err(error) => return Err(error),
        }
        let clusters = self.api.clusters().await?;
        for (revision, reason) in self.api.in_use(&clusters, &family).await? {
            refer(&revision, reason);
        }
        #[cfg(feature = "schedules")]
        if let Some(schedules) = &self.schedules {
            for entry in schedules.find(&clusters, &[&family]).await? {
                refer(entry.definition(), format!("the scheduled task {} starts it", entry.key));
            }
        }
        let mut pruned = Pruned::default();
        for revision in self.api.revisions(&family).await?.into_iter().skip(keep) {
            match used.get(name_of(&revision)) {
                Some(reason) => pruned.kept.push(KeptRevision { revision, reason: reason.clone() }),
                None => {
                    self.api.deregister(&revision).await?;
                    pruned.deregistered.push(revision);
                }
            }
        }
        Ok(pruned)
    }
}

impl Api {
    /// `ecs:ListTaskDefinitions`: the active revisions of a family, latest first.
    async fn revisions(&self, family: &str) -> Result<Vec<String>, Error> {
        let call = self.client().list_task_definitions().family_prefix(family);
        let call = call.status(TaskDefinitionStatus::Active).sort(SortOrder::Desc);
        let all: Result<Vec<String>, _> = call.into_paginator().items().send().collect().await;
        let mut all = all.map_err(|e| self.error("ecs:ListTaskDefinitions", e))?;
        // The filter is a prefix: `web` also matches `web-admin`.
        all.retain(|arn| name_of(arn).rsplit_once(':').is_some_and(|(name, _)| name == family));
        Ok(all)
    }

    /// `ecs:ListClusters`: the ARNs of all clusters.
    async fn clusters(&self) -> Result<Vec<String>, Error> {
        let clusters: Result<Vec<String>, _> =
            self.client().list_clusters().into_paginator().items().send().collect().await;
        clusters.map_err(|e| self.error("ecs:ListClusters", e))
    }

    /// The revisions of a family that services and tasks of these clusters use, with the user of each.
    async fn in_use(&self, clusters: &[String], family: &str) -> Result<BTreeSet<(String, String)>, Error> {
        let mut used = BTreeSet::new();
        for cluster in clusters {
            let services: Result<Vec<String>, _> = self
                .client()
                .list_services()
                .cluster(cluster)
                .into_paginator()
                .items()
                .send()
                .collect()
                .await;
            let services = services.map_err(|e| self.error("ecs:ListServices", e))?;
            for some in services.chunks(10) {
                let call =
                    self.client().describe_services().cluster(cluster).set_services(Some(some.to_vec()));
                let response = call.send().await.map_err(|e| self.error("ecs:DescribeServices", e))?;
                for service in response.services() {
                    let who = format!("the service {} refers to it", service.service_name().unwrap_or("?"));
                    let deployments = service.deployments().iter().filter_map(|d| d.task_definition());
                    let sets = service.task_sets().iter().filter_map(|set| set.task_definition());
                    let own = service.task_definition().into_iter();
                    used.extend(own.chain(deployments).chain(sets).map(|d| (d.to_owned(), who.clone())));
                }
            }
            let tasks: Result<Vec<String>, _> = self
                .client()
                .list_tasks()
                .cluster(cluster)
                .family(family)
                .into_paginator()
                .items()
                .send()
                .collect()
                .await;
            let tasks = tasks.map_err(|e| self.error("ecs:ListTasks", e))?;
            for some in tasks.chunks(100) {
                let call = self.client().describe_tasks().cluster(cluster).set_tasks(Some(some.to_vec()));
                let response = call.send().await.map_err(|e| self.error("ecs:DescribeTasks", e))?;
                let running = response.tasks().iter().filter_map(|task| {
                    let who = format!("the task {} runs it", name_of(task.task_arn()?));
                    Some((task.task_definition_arn()?.to_owned(), who))
                });
                used.extend(running);
            }
        }
        Ok(used)
    }

    /// `ecs:DeregisterTaskDefinition`.
    async fn deregister(&self, revision: &str) -> Result<(), Error> {
        let call = self.client().deregister_task_definition().task_definition(revision);
        call.send().await.map(drop).map_err(|e| self.error("ecs:DeregisterTaskDefinition", e))
    }
}
