//! Options of `deploy-eks`: environment variables, live logs and events, and the circuit breaker.

use std::num::NonZeroUsize;

use bp_eks::{Options, options::LiveLogs};
use clap::Args;

use crate::cli::NoWaitArgs;

/// The options of a rollout on EKS.
#[derive(Debug, Clone, Args)]
pub(super) struct EksArgs {
    /// Check only: show the planned changes and run preflight checks; changes nothing
    #[arg(long, conflicts_with = "no_wait")]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) no_wait: NoWaitArgs,
    /// Set an environment variable of the container together with the image, such as DEPLOY_PLATFORM=eks; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
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

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, as in DEPLOY_PLATFORM=eks".to_owned()),
    }
}

impl EksArgs {
    /// Applies the arguments to the library's options.
    pub(super) fn options(&self, options: Options) -> Options {
        let with = |options: Options, (name, value): &(String, String)| options.environment(name, value);
        let options = self.set_env.iter().fold(options, with);
        let options = options.circuit_breaker(self.circuit_breaker).live_events(self.events);
        if self.logs { options.live_logs(LiveLogs::default().pods(self.log_pods)) } else { options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_variables_and_rejects_a_missing_name_or_equals_sign() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        for wrong in ["", "A", "=b"] {
            assert!(variable(wrong).is_err(), "{wrong}");
        }
    }
}
