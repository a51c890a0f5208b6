//! Options of `deploy-eks`: environment variables, live logs and events, and the circuit breaker.

use std::num::NonZeroUsize;

use bp_eks::{Options, options::LiveLogs};
use clap::Args;

use crate::cli::{NoWaitArgs, name_and_value};

/// The options of a rollout on EKS.
#[derive(Debug, Clone, Args)]
pub(super) struct EksArgs {
    /// Check only: show the planned changes and run preflight checks; changes nothing
    #[arg(long, conflicts_with_all = ["no_wait", "force"])]
    pub(super) check: bool,
    /// Replace the tasks or pods even if nothing has changed
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) no_wait: NoWaitArgs,
    /// Set an environment variable of the container together with the image, such as DEPLOY_PLATFORM=eks; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set_env: Vec<(String, String)>,
    /// Show the logs of the new pods during the rollout: at most 20 lines per second for each container
    #[arg(long, conflicts_with = "no_wait")]
    logs: bool,
    /// With --logs, the maximum number of pods to follow at a time
    #[arg(long, value_name = "PODS", requires = "logs", default_value = "3")]
    log_pods: NonZeroUsize,
    /// Show the Kubernetes events of the new pods during the rollout: Scheduled, Pulling, Pulled, Started
    #[arg(long, conflicts_with = "no_wait")]
    events: bool,
    /// Fail the rollout after as many failed starts as the ECS circuit breaker allows
    #[arg(long, conflicts_with = "no_wait")]
    circuit_breaker: bool,
}

impl EksArgs {
    /// Applies the arguments to the library's options.
    pub(super) fn options(&self, options: Options) -> Options {
        let with = |options: Options, (name, value): &(String, String)| options.environment(name, value);
        let options = self.set_env.iter().fold(options, with);
        let options =
            options.circuit_breaker(self.circuit_breaker).live_events(self.events).restart(self.force);
        if self.logs { options.live_logs(LiveLogs::default().pods(self.log_pods)) } else { options }
    }
}
