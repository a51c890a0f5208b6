//! What `deploy-eks` adds to a deployment: variables, live logs and the circuit breaker.

use std::num::NonZeroUsize;

use bp_eks::{Options, options::LiveLogs};
use clap::Args;

/// How to roll out on EKS.
#[derive(Debug, Clone, Args)]
pub(super) struct EksArgs {
    /// Only check: show the planned changes and whether what they need exists; changes nothing
    #[arg(long)]
    pub(super) check: bool,
    /// Set an environment variable of the container together with its image, such as DEPLOY_PLATFORM=eks; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    set_env: Vec<(String, String)>,
    /// Show what the new pods write while they are rolled out: of each container at most 20 lines in a second
    #[arg(long)]
    logs: bool,
    /// With --logs, follow at most so many pods at a time
    #[arg(long, value_name = "PODS", requires = "logs", default_value = "3")]
    log_pods: NonZeroUsize,
    /// Show what Kubernetes does with the new pods while they are rolled out: Scheduled, Pulling, Pulled, Started
    #[arg(long)]
    events: bool,
    /// End the roll-out when as many starts have failed as ECS' circuit breaker takes
    #[arg(long)]
    circuit_breaker: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, as in DEPLOY_PLATFORM=eks".to_owned()),
    }
}

impl EksArgs {
    /// The options with what was asked for.
    pub(super) fn options(&self, options: Options) -> Options {
        let with = |options: Options, (name, value): &(String, String)| options.environment(name, value);
        let options = self.set_env.iter().fold(options, with);
        let options = options.circuit_breaker(self.circuit_breaker).live_events(self.events);
        match self.logs {
            true => options.live_logs(LiveLogs::default().pods(self.log_pods)),
            false => options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        for wrong in ["", "A", "=b"] {
            assert!(variable(wrong).is_err(), "{wrong}");
        }
    }
}
