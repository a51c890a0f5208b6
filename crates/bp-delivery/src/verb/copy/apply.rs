//! Applying a plan that was written before.

use std::path::Path;

use bp_artifact::{ExitCode, Repository};
use bp_promote::{
    RegistryClient,
    copy::{CopyPlan, RunPlan, apply_all},
    registry::RepositoryClient,
    store::{ImageAt, Source},
};
use tokio::time::Instant;

use super::Copy;
use crate::{
    Failure, Location, Ui,
    plan_file::{self, check_unmoved},
    registries::open_layout,
};

impl Copy {
    /// Copies what a plan says, unless a tag of the source or of the destination has moved since.
    pub(super) async fn apply(&self, ui: &Ui, path: &Path) -> Result<ExitCode, Failure> {
        let start = Instant::now();
        self.given.refuse(
            &["no-referrers", "nondistributable-layers", "await-replication"],
            "with --apply, which copies what was planned",
        )?;
        let plan = plan_file::read(path)?;
        let source = &plan.images[0].source;
        if let Some(other) = plan.images.iter().find(|image| image.source != *source) {
            return Err(Failure::bad_input(format!(
                "the plan {} has several sources, {source:?} and {:?}: apply it with promote",
                path.display(),
                other.source
            )));
        }
        let source: Location = source.parse()?;
        let destinations = plan.images.iter().map(|image| image.destination.parse());
        let destinations: Vec<Repository> = destinations.collect::<Result<_, _>>()?;
        let registries = destinations.iter().chain(source.repository()).map(Repository::registry);
        let client = self.transfer.registries()?.client(&registries.collect::<Vec<_>>()).await?;
        match &source {
            Location::Registry { repository, .. } => {
                self.apply_from(ui, start, &plan, client.repository(repository), &client).await
            }
            Location::Layout { path, .. } | Location::Archive { path, .. } => {
                self.apply_from(ui, start, &plan, open_layout(path).await?, &client).await
            }
        }
    }

    async fn apply_from<S: Source + Clone>(
        &self,
        ui: &Ui,
        start: Instant,
        plan: &RunPlan,
        source: S,
        client: &RegistryClient,
    ) -> Result<ExitCode, Failure> {
        let images: Vec<&CopyPlan> = plan.images.iter().collect();
        self.in_time(start, check_unmoved(&images, &source)).await??;
        let pairs = images.iter().map(|image| {
            let to: ImageAt<RepositoryClient> = client
                .repository(&image.destination.parse::<Repository>()?)
                .at(plan_file::reference(&image.reference)?);
            Ok((ImageAt::new(source.clone(), image.digest.clone()), to))
        });
        let pairs = pairs.collect::<Result<Vec<_>, Failure>>()?;
        let options = self.transfer.apply(self.options(start));
        ui.step(format!("Copy from {}", source.name()));
        let report = ui.follow(apply_all(plan, pairs, options)).await;
        self.report(ui, report, |name, digest| format!("{name}@{digest}"))
    }
}
