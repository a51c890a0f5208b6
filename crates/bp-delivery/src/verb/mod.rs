//! The verbs: one module each, with the arguments and the work that they ask for.
//!
//! A program with one verb is one line, [`program::run`]; a program with several takes their
//! [`Verb::NAME`]s as subcommands.

mod config;
mod deploy_ecs;
mod deploy_eks;
#[cfg(feature = "helm")]
mod deploy_helm;
mod dual_deploy;
mod emit_artifact;
mod promote;
mod record;
mod refresh_pull_secret;
mod rollback;
mod secrets;
mod switch_traffic;
mod verify;

#[cfg(feature = "helm")]
pub use self::deploy_helm::DeployHelm;
pub use self::{
    config::Configuration, deploy_ecs::DeployEcs, deploy_eks::DeployEks, dual_deploy::DualDeploy,
    emit_artifact::EmitArtifact, promote::Promote, record::Record, refresh_pull_secret::RefreshPullSecret,
    rollback::Rollback, secrets::Secrets, switch_traffic::SwitchTraffic, verify::Verify,
};
use crate::program;
pub use crate::program::Verb;

/// The command line of every verb of this build.
pub fn commands() -> Vec<clap::Command> {
    vec![
        program::command::<Configuration>(),
        program::command::<DeployEcs>(),
        program::command::<DeployEks>(),
        #[cfg(feature = "helm")]
        program::command::<DeployHelm>(),
        program::command::<DualDeploy>(),
        program::command::<EmitArtifact>(),
        program::command::<Promote>(),
        program::command::<Record>(),
        program::command::<RefreshPullSecret>(),
        program::command::<Rollback>(),
        program::command::<Secrets>(),
        program::command::<SwitchTraffic>(),
        program::command::<Verify>(),
    ]
}
