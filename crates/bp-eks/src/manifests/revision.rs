//! The revisions of all workloads as one revision of the set: `deployment:web=3 statefulset:db=2`.

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    config::{Workload, WorkloadKind},
    deploy::{
        Current, Drift, Proof, Reporter, Revision,
        run::{Ended, Intent, Run},
        status::Status,
    },
};
use futures_util::future::{join_all, try_join_all};

use super::{
    context::{Context, Item},
    error::ManifestsError,
    follow::Board,
};
use crate::{
    api::scope::Scope,
    ending::Ending,
    error::Error,
    rollout::api::WorkloadApi,
    target::{EksTarget, Rollout},
    workload::template,
};

/// A workload before a change.
#[derive(Clone)]
pub(super) struct Before {
    pub(super) shown: String,
    pub(super) part: Part,
    container: Option<String>,
    /// Its revisions; `None` if it does not exist.
    pub(super) current: Option<Current>,
    pub(super) is_ours: bool,
    /// Whether this run changes its pods.
    pub(super) is_changed: bool,
}

impl Before {
    /// Jobs cannot be rolled back.
    pub(super) fn can_be_restored(&self) -> bool {
        self.part.workload.kind != WorkloadKind::Job
    }
}

/// A workload in a revision of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its namespace, if that is not the target's.
    namespace: Option<String>,
    workload: Workload,
}

impl Context {
    /// Reads the revisions of all workloads.
    pub(super) async fn before(
        &self,
        items: &[Item],
        is_changed: impl Fn(usize) -> bool,
    ) -> Result<Vec<Before>, Error> {
        let workloads = items.iter().enumerate().filter_map(|(at, item)| {
            let (workload, container) = item.workload()?;
            Some((item, workload, container.cloned(), is_changed(at)))
        });
        let read = workloads.map(async |(item, workload, container, is_changed)| {
            let scope = self.scope_of(item);
            let namespace =
                Some(scope.namespace.clone()).filter(|namespace| *namespace != self.scope.namespace);
            let part = Part { namespace, workload };
            let (container, current) = self.current_of(&part, container).await?;
            Ok(Before {
                shown: item.shown(&self.scope),
                part,
                container,
                current,
                is_ours: item.is_ours(),
                is_changed,
            })
        });
        try_join_all(read.collect::<Vec<_>>()).await
    }

    /// The container that stands for the workload, and its revisions; none for a Job, and if it does not exist.
    async fn current_of(
        &self,
        part: &Part,
        container: Option<String>,
    ) -> Result<(Option<String>, Option<Current>), Error> {
        let api = WorkloadApi { scope: self.scope_in(part), workload: part.workload.clone() };
        let live = match api.workload().await {
            Ok(live) => live,
            Err(Error::NotFound { .. } | Error::NamespaceNotFound { .. }) => return Ok((container, None)),
            Err(error) => return Err(error),
        };
        if live.runs_to_completion() {
            return Ok((container, None));
        }
        // The manifest may rename it.
        let exists = container.filter(|name| template::image(live.template(), name).is_some());
        let container = exists.or_else(|| template::first_container(live.template()));
        let target = self.target_of(part, container.clone());
        Ok((container, Some(target.0.current().await?)))
    }

    fn scope_in(&self, part: &Part) -> Scope {
        let namespace = part.namespace.clone().unwrap_or_else(|| self.scope.namespace.clone());
        Scope { namespace, ..self.scope.clone() }
    }

    fn target_of(&self, part: &Part, container: Option<String>) -> EksTarget {
        let mut options = self.options.clone();
        options.environment.clear();
        EksTarget::of(self.scope_in(part), part.workload.clone(), container, options).part_of(&self.id)
    }

    /// Restores a workload to a revision.
    pub(super) fn restored(&self, before: &Before, revision: &Revision) -> Rollout {
        self.target_of(&before.part, before.container.clone()).restore(revision)
    }

    /// The stable revision of the set, and the one that is being rolled out; `None` if no workload exists.
    pub(super) async fn current(&self) -> Result<Option<Current>, ManifestsError> {
        if let Some(recorded) = self.recorded.as_ref().filter(|_| self.set.manifests.is_empty()) {
            return self.current_of_recorded(recorded).await;
        }
        let items = self.items(None).await?;
        let before = self.before(&items, |_| false).await?;
        Ok(current(&before))
    }

    async fn current_of_recorded(&self, recorded: &Revision) -> Result<Option<Current>, ManifestsError> {
        let read = parse(&recorded.id)?.into_iter().map(async |(part, _)| {
            let (container, current) = self.current_of(&part, None).await?;
            let shown = part.workload.to_string();
            Ok::<_, Error>(Before { shown, part, container, current, is_ours: false, is_changed: false })
        });
        let before = try_join_all(read.collect::<Vec<_>>()).await?;
        Ok(current(&before))
    }

    /// The revision before the current one, of every workload that has one.
    pub(super) async fn previous(&self) -> Result<Revision, ManifestsError> {
        let items = self.items(None).await?;
        let before = self.before(&items, |_| false).await?;
        let existing = before.iter().filter(|before| before.current.is_some());
        let read = existing.map(async |before| {
            match self.target_of(&before.part, before.container.clone()).0.previous().await {
                Ok(revision) => Ok(Some((before, revision))),
                Err(Error::NoPrevious { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let found = try_join_all(read.collect::<Vec<_>>()).await?;
        let found: Vec<(&Before, Revision)> = found.into_iter().flatten().collect();
        compose(found.iter().map(|(before, revision)| (*before, revision))).ok_or(ManifestsError::NoPrevious)
    }

    /// Restores every workload that the revision contains.
    pub(super) async fn restore(
        &self,
        revision: &Revision,
        reporter: &Reporter,
    ) -> Result<Outcome, ManifestsError> {
        let parts = parse(&revision.id)?;
        let read = parts.into_iter().map(async |(part, number)| {
            let (container, current) = self.current_of(&part, None).await?;
            let shown = part.workload.to_string();
            let target = self.target_of(&part, container);
            let to = match current {
                Some(_) => target.0.revision(&number).await?,
                None => return Err(target.0.api.object().missing(&self.scope.client).await),
            };
            Ok((shown, target, to, current))
        });
        let workloads = try_join_all(read.collect::<Vec<_>>()).await?;
        let changes = workloads.iter().any(|(_, _, to, current)| {
            current.as_ref().is_some_and(|current| current.rolling_out.is_some() || current.stable != *to)
        });
        let mut run = Run::planned(reporter, Intent::restore(revision).changes(changes));
        let board = Board::default();
        let ends = workloads.iter().map(async |(shown, target, to, _)| {
            let end = run.nested_with(target.restore(to), |event| board.adapt(shown, event)).await;
            (shown, end)
        });
        let ends = join_all(ends.collect::<Vec<_>>()).await;
        let ending = self.restored_ending(&ends, revision)?;
        run.in_place(Some(revision.clone()));
        Ok(ending.close(run))
    }

    fn restored_ending(
        &self,
        ends: &[(&String, Result<Outcome, Error>)],
        revision: &Revision,
    ) -> Result<Ending, ManifestsError> {
        let mut proof = Proof::default();
        let mut outcomes = Vec::new();
        for (shown, end) in ends {
            match end {
                Ok(outcome) => {
                    let is_main = |image: &bp_artifact::DigestRef| {
                        revision.image.pinned().is_some_and(|main| main.digest() == image.digest())
                    };
                    if outcome.image.as_ref().is_some_and(is_main) {
                        proof.observations.extend(outcome.proof.observations.clone());
                    }
                    outcomes.push((shown, outcome));
                }
                Err(Error::Interrupted { .. }) => {
                    return Err(ManifestsError::Interrupted { applied: 0, of: ends.len() });
                }
                Err(error) => {
                    let detail = format!("{shown}: {}", error.without_advice());
                    return Ok(Ending::Ended(Ended::FailedInPlace, detail));
                }
            }
        }
        let failed = outcomes
            .iter()
            .find(|(_, outcome)| !matches!(outcome.verdict(), Verdict::Deployed | Verdict::Unproven));
        Ok(match failed {
            Some((shown, outcome)) => {
                let ended = Ended::of(outcome.verdict()).unwrap_or(Ended::Unproven);
                Ending::Ended(ended, format!("{shown}: {}", outcome.detail))
            }
            None => Ending::Proven(proof, String::new()),
        })
    }

    /// The status of every workload that exists.
    pub(super) async fn statuses(&self) -> Result<Vec<Status>, ManifestsError> {
        let items = self.items(None).await?;
        let mut statuses = Vec::new();
        for item in &items {
            let Some((workload, _)) = item.workload() else { continue };
            let scope = self.scope_of(item);
            let api = WorkloadApi { scope: scope.clone(), workload: workload.clone() };
            let container = match api.workload().await {
                Ok(live) => template::first_container(live.template()),
                // A Job is created for each image, under another name.
                Err(Error::NotFound { .. } | Error::NamespaceNotFound { .. })
                    if workload.kind != WorkloadKind::Job =>
                {
                    continue;
                }
                Err(Error::NotFound { .. } | Error::NamespaceNotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            match EksTarget::of(scope, workload, container, self.options.clone()).status().await {
                Ok(status) => statuses.push(status),
                Err(Error::NotFound { .. } | Error::NamespaceNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(statuses)
    }

    /// The digests of the containers that run the image of most workloads.
    pub(super) async fn prove(&self) -> Result<Proof, ManifestsError> {
        let items = self.items(None).await?;
        let before = self.before(&items, |_| false).await?;
        let Some(current) = current(&before) else { return Ok(Proof::default()) };
        let image = current.rolling_out.unwrap_or(current.stable).image;
        let mut proof = Proof::default();
        for before in before.iter().filter(|before| before.current.is_some()) {
            let api =
                WorkloadApi { scope: self.scope_in(&before.part), workload: before.part.workload.clone() };
            let live = api.workload().await?;
            for container in template::with_image(live.template(), image.as_str()) {
                let found = self.target_of(&before.part, Some(container)).0.prove().await?;
                proof.observations.extend(found.observations);
            }
        }
        Ok(proof)
    }

    /// How the objects differ from a deployment of `image`: what the plan would change, and the running digests.
    pub(super) async fn drift(&self, image: &ResolvedImage) -> Result<Drift, ManifestsError> {
        let items = self.prepare(image).await?;
        let planned = self.dry_run(&items).await?;
        let mut proof = Proof::default();
        let mut drift = Drift::of_proof(self.id.clone(), image, Proof::default());
        for (item, planned) in items.iter().zip(&planned) {
            let shown = item.shown(&self.scope);
            if planned.before.is_none() {
                let path = shown.clone();
                drift.definition.push(bp_artifact::deploy::Change::new(
                    path,
                    Some("exists".to_owned()),
                    None,
                ));
                continue;
            }
            for change in &planned.shown.changes {
                // The desired value comes first.
                let path = format!("{shown} {}", change.path);
                let change = bp_artifact::deploy::Change::new(path, change.to.clone(), change.from.clone());
                drift.definition.push(change);
            }
            if let Some(target) = self.target(item).filter(|_| item.is_ours()) {
                let one = target.0.drift(image).await?;
                proof.observations.extend(one.proof.observations);
                for mut change in one.service {
                    change.path = format!("{shown} {}", change.path);
                    drift.service.push(change);
                }
            }
        }
        drift.verdict = proof.judge(image);
        drift.proof = proof;
        Ok(drift)
    }
}

/// The revisions of the set, of the workloads that exist.
pub(super) fn current(before: &[Before]) -> Option<Current> {
    let existing = || before.iter().filter_map(|before| Some((before, before.current.as_ref()?)));
    let stable = compose(existing().map(|(before, current)| (before, &current.stable)))?;
    let is_rolling_out = existing().any(|(_, current)| current.rolling_out.is_some());
    let latest =
        existing().map(|(before, current)| (before, current.rolling_out.as_ref().unwrap_or(&current.stable)));
    Some(Current::new(stable, is_rolling_out.then(|| compose(latest)).flatten()))
}

/// One revision of several workloads, with the image of the first that runs the deployed one.
fn compose<'b>(parts: impl Iterator<Item = (&'b Before, &'b Revision)>) -> Option<Revision> {
    let parts: Vec<(&Before, &Revision)> = parts.collect();
    let pinned = parts.iter().find(|(_, revision)| revision.image.pinned().is_some());
    let main = parts.iter().find(|(before, _)| before.is_ours).or(pinned).or(parts.first())?;
    let one = |(before, revision): &(&Before, &Revision)| {
        let Part { namespace, workload } = &before.part;
        let namespace = namespace.as_ref().map(|namespace| format!("{namespace}:")).unwrap_or_default();
        format!("{namespace}{}:{}={}", workload.kind, workload.name, revision.id)
    };
    let id: Vec<String> = parts.iter().map(one).collect();
    Some(Revision::new(id.join(" "), main.1.image.clone()))
}

/// The workloads of a revision with their revisions.
fn parse(id: &str) -> Result<Vec<(Part, String)>, ManifestsError> {
    let part = |text: &str| {
        let (name, number) = text.split_once('=')?;
        let words: Vec<&str> = name.split(':').collect();
        let (namespace, kind, name) = match words.as_slice() {
            [kind, name] => (None, kind, name),
            [namespace, kind, name] => (Some((*namespace).to_owned()), kind, name),
            _ => return None,
        };
        let workload = format!("{kind}/{name}").parse().ok()?;
        Some((Part { namespace, workload }, number.to_owned()))
    };
    let parts: Option<Vec<_>> = id.split_whitespace().map(part).collect();
    let wrong = || ManifestsError::NotARevision { revision: id.to_owned() };
    parts.filter(|parts| !parts.is_empty()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(namespace: Option<&str>, workload: &str, image: &str, is_ours: bool) -> Before {
        let workload: Workload = workload.parse().unwrap();
        let current = Current::new(Revision::new("3", image), None);
        let part = Part { namespace: namespace.map(str::to_owned), workload };
        let shown = part.workload.to_string();
        Before { shown, part, container: None, current: Some(current), is_ours, is_changed: true }
    }

    #[test]
    fn a_revision_of_the_set_round_trips() {
        let parts = [
            before(None, "statefulset/db.v2", "postgres:16", false),
            before(Some("jobs"), "deployment/web", "r.example.com/web:1", true),
        ];
        let revision = current(&parts).unwrap().stable;
        assert_eq!(revision.id, "statefulset:db.v2=3 jobs:deployment:web=3");
        assert_eq!(revision.image.as_str(), "r.example.com/web:1", "the image that is deployed");
        let parsed = parse(&revision.id).unwrap();
        assert_eq!(parsed, parts.map(|before| (before.part, "3".to_owned())));
        for wrong in ["", " ", "web=3", "deployment:web", "deployment/web=3", "a:b:c:d=1", "pod:web=1", "3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
