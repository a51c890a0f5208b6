//! Recover a Helm release that was left in `pending-*`, only when the run that left it is proven dead.

use bp_artifact::deploy::Reporter;

use super::{
    command_line::CommandLine,
    context::{HelmRevision, Release},
    error::HelmError,
    lease::HeldLease,
    program::Program,
};

/// The last revision that was deployed.
pub(super) fn deployed(history: &[HelmRevision]) -> Option<&HelmRevision> {
    history.iter().rev().find(|revision| revision.status == "deployed")
}

impl Release {
    pub(super) async fn history(&self, helm: &Program) -> Result<Vec<HelmRevision>, HelmError> {
        let line = CommandLine::new(["history"]).flag("max", "50").flag("output", "json");
        match helm.json("history", line.operand(&self.release)).await {
            Err(HelmError::Failed { message, .. }) if message.contains("not found") => Ok(Vec::new()),
            read => read,
        }
    }

    /// The history of a release that is ready for changes: a pending revision whose owner is dead is rolled back first.
    ///
    /// This run holds the Lease, so the previous holder has released it or is dead, and its helm has no access to the
    /// cluster: a pending revision recorded by that holder is abandoned. Of a revision created by another tool only the
    /// age is known.
    pub(super) async fn recover(
        &self,
        helm: &Program,
        held: &HeldLease,
        reporter: &Reporter,
    ) -> Result<Vec<HelmRevision>, HelmError> {
        let history = self.history(helm).await?;
        let Some(last) = history.last().filter(|last| last.status.starts_with("pending-")) else {
            return Ok(history);
        };
        let ours = held.inherited == Some(last.revision);
        let age = last.updated.and_then(|at| std::time::Duration::try_from(self.time.now() - at).ok());
        let old = age.zip(self.assume_dead_after).is_some_and(|(age, limit)| age >= limit);
        let why = match (ours, old) {
            (true, _) => "the run that created it is dead: its lease expired",
            (false, true) => "it is older than the configured limit for a dead owner",
            (false, false) => {
                let (revision, status) = (last.revision, last.status.clone());
                return Err(HelmError::Pending { release: self.release.clone(), revision, status });
            }
        };
        let back = deployed(&history).unwrap_or(last).revision;
        let (revision, status) = (last.revision, &last.status);
        let message =
            format!("revision {revision} is {status}, and {why}; rolling back to revision {back} first");
        reporter.notice(message);
        let line = self.roll_back_line(helm, &back.to_string()).await?.switch("no-hooks");
        let ended = helm.run(line).await?;
        if !ended.success {
            return Err(HelmError::Failed { verb: "rollback", message: ended.message });
        }
        self.history(helm).await
    }
}
