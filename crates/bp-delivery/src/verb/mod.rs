//! The verbs: one module each, with the arguments and the work that they ask for.
//!
//! A program with one verb is one line, [`program::run`]; so is one with all of them as subcommands,
//! [`multicall::run`](crate::multicall::run).

mod approve;
mod audit;
mod config;
mod copy;
mod deploy_ecs;
mod deploy_eks;
#[cfg(feature = "helm")]
mod deploy_helm;
mod deploy_manifests;
mod digest;
mod doctor;
mod dual_deploy;
mod emit_artifact;
mod init;
mod inspect;
mod login;
mod ls;
mod promote;
mod recall;
mod record;
mod refresh_pull_secret;
mod rollback;
mod run_task;
mod secrets;
mod status;
mod switch_traffic;
mod verify;
mod wait;
mod with_secrets;

#[cfg(feature = "helm")]
pub use self::deploy_helm::DeployHelm;
pub use self::{
    approve::Approve,
    audit::Audit,
    config::Configuration,
    copy::Copy,
    deploy_ecs::DeployEcs,
    deploy_eks::DeployEks,
    deploy_manifests::DeployManifests,
    digest::ShowDigest,
    doctor::Doctor,
    dual_deploy::DualDeploy,
    emit_artifact::EmitArtifact,
    init::Init,
    inspect::Inspect,
    login::{LogIn, LogOut},
    ls::List,
    promote::Promote,
    recall::Recall,
    record::Record,
    refresh_pull_secret::RefreshPullSecret,
    rollback::Rollback,
    run_task::RunTask,
    secrets::Secrets,
    status::ShowStatus,
    switch_traffic::SwitchTraffic,
    verify::Verify,
    wait::Wait,
    with_secrets::WithSecrets,
};
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::program;
pub use crate::program::Verb;

/// A verb in the table of all verbs.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Its command line in a program whose name is given, with a space after it.
    pub(crate) command: fn(&str) -> Command,
    pub(crate) run: fn(&ArgMatches) -> ExitCode,
}

impl Entry {
    pub(crate) fn of<V: Verb>() -> Self {
        Entry { name: V::NAME, command: program::command_in::<V>, run: program::run_with::<V> }
    }
}

/// Every verb of this build.
pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::of::<Approve>(),
        Entry::of::<Audit>(),
        Entry::of::<Configuration>(),
        Entry::of::<Copy>(),
        Entry::of::<DeployEcs>(),
        Entry::of::<DeployEks>(),
        #[cfg(feature = "helm")]
        Entry::of::<DeployHelm>(),
        Entry::of::<DeployManifests>(),
        Entry::of::<ShowDigest>(),
        Entry::of::<Doctor>(),
        Entry::of::<DualDeploy>(),
        Entry::of::<EmitArtifact>(),
        Entry::of::<Init>(),
        Entry::of::<Inspect>(),
        Entry::of::<LogIn>(),
        Entry::of::<LogOut>(),
        Entry::of::<List>(),
        Entry::of::<Promote>(),
        Entry::of::<Recall>(),
        Entry::of::<Record>(),
        Entry::of::<RefreshPullSecret>(),
        Entry::of::<Rollback>(),
        Entry::of::<RunTask>(),
        Entry::of::<Secrets>(),
        Entry::of::<ShowStatus>(),
        Entry::of::<SwitchTraffic>(),
        Entry::of::<Verify>(),
        Entry::of::<Wait>(),
        Entry::of::<WithSecrets>(),
    ]
}

/// The command line of every verb of this build, as a subcommand of `bp`. `bp` has others about itself:
/// [`multicall`](crate::multicall).
pub fn commands() -> Vec<Command> {
    entries().iter().map(|entry| (entry.command)("bp ")).collect()
}
