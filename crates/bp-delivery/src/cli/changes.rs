//! Arguments that leave out targets whose paths have not changed.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bp_artifact::config::{DeployPlatform, ServiceConfig};
use clap::Args;
use serde_json::json;

use crate::{
    Delivery, Failure, Ui,
    changes::{Changes, LIMIT, Revision},
};

/// Which commits to compare.
#[derive(Debug, Clone, Args)]
pub struct ChangedArgs {
    /// Leave out targets none of whose paths (paths of bp.toml) differ between this commit and --changed-until, as git in
    /// the working directory reports; zeros, as build systems report them for a new branch, leave out none
    #[arg(long, value_name = "COMMIT")]
    changed_since: Option<Revision>,
    /// With --changed-since, the commit to compare with
    #[arg(long, value_name = "COMMIT", requires = "changed_since", default_value = "HEAD")]
    changed_until: Revision,
    /// Leave out targets none of whose paths are in this list: a file, or - for standard input, with one path on each
    /// line or separated by NUL, relative to the root of the repository
    #[arg(long, value_name = "FILE", conflicts_with = "changed_since")]
    changed_paths: Option<PathBuf>,
}

impl ChangedArgs {
    /// The changed paths; `None` if no flag was given.
    ///
    /// # Errors
    /// When they cannot be determined.
    pub(crate) async fn changes(&self) -> Result<Option<Changes>, Failure> {
        if let Some(since) = &self.changed_since {
            let changes = Changes::between(Path::new("."), since, &self.changed_until).await;
            return changes.map(Some).map_err(|error| error.context("--changed-since"));
        }
        let Some(file) = &self.changed_paths else { return Ok(None) };
        let mut list = Vec::new();
        // One byte more, by which a list that is too long is recognised.
        let read = if file.as_os_str() == "-" {
            io::stdin().lock().take(LIMIT + 1).read_to_end(&mut list)
        } else {
            std::fs::File::open(file).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut list))
        };
        read.map_err(|error| {
            Failure::bad_input(format!("--changed-paths: cannot read {}: {error}", file.display()))
        })?;
        Changes::parse(&list).map(Some)
    }

    /// Removes the targets that no change concerns, and reports each. Services without a target left are removed.
    ///
    /// # Errors
    /// When the changed paths cannot be determined.
    pub(crate) async fn select(&self, deliveries: Vec<Delivery>, ui: &Ui) -> Result<Vec<Delivery>, Failure> {
        let Some(changes) = self.changes().await? else { return Ok(deliveries) };
        let mut left = Vec::new();
        for mut delivery in deliveries {
            let mut is_left = false;
            for (platform, target) in delivery.target_names() {
                if changes.concern(&delivery.service, platform) {
                    is_left = true;
                } else {
                    skipped(ui, &target, &changes.reason(&delivery.service, platform));
                    delivery.service = delivery.service.without(platform);
                }
            }
            if is_left {
                left.push(delivery);
            }
        }
        Ok(left)
    }

    /// Whether a change concerns the only target of a command, on `platform`. If not, it is reported.
    ///
    /// # Errors
    /// When the changed paths cannot be determined.
    pub(crate) async fn concern(
        &self,
        delivery: &Delivery,
        platform: DeployPlatform,
        ui: &Ui,
    ) -> Result<bool, Failure> {
        let Some(changes) = self.changes().await? else { return Ok(true) };
        if changes.concern(&delivery.service, platform) {
            return Ok(true);
        }
        let names = delivery.target_names();
        let target = names.iter().find(|(of, _)| *of == platform).map(|(_, name)| name.as_str());
        skipped(ui, target.unwrap_or_default(), &changes.reason(&delivery.service, platform));
        Ok(false)
    }
}

/// Whether a change concerns any target of the service. A service without targets is built from its paths alone.
pub(crate) fn concern_any(changes: &Changes, service: &ServiceConfig) -> bool {
    let ecs = service.has_ecs().then_some(DeployPlatform::Ecs);
    let eks = service.has_eks().then_some(DeployPlatform::Eks);
    let mut platforms: Vec<DeployPlatform> = ecs.into_iter().chain(eks).collect();
    if platforms.is_empty() {
        platforms = vec![DeployPlatform::Ecs, DeployPlatform::Eks];
    }
    platforms.into_iter().any(|platform| changes.concern(service, platform))
}

/// Reports a target that is left out.
pub(crate) fn skipped(ui: &Ui, target: &str, reason: &str) {
    ui.result(
        format!("{target}: skipped, {reason}"),
        &json!({ "skipped": { "target": target, "reason": reason } }),
    );
}
