//! The vocabulary of causes that ECS and EKS share: one table, from which `docs/causes.md` is generated.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a [`Cause`] is about, and what to do: a row of the table.
struct Row {
    cause: Cause,
    /// The short sentence that a report begins with.
    summary: &'static str,
    /// Whether it can pass without anybody's help.
    recoverable: bool,
    /// What kind of object it is about.
    object: &'static str,
    /// What to do; `{}` stands for the object.
    advice: &'static str,
}

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $cause:ident: $recovery:ident, $object:literal, $summary:literal, $advice:literal;)+) => {
        /// Why a deployment failed. The set is closed: what fits nowhere is [`Unknown`](Cause::Unknown) with its evidence.
        ///
        /// All of them with summary, recovery and advice: `docs/causes.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[doc = $doc])+ $cause,)+
            /// None of the above, or a cause of a later version that wrote the document; see the evidence.
            #[serde(other)]
            Unknown,
        }

        const TABLE: &[Row] = &[
            $(Row {
                cause: Cause::$cause,
                summary: $summary,
                recoverable: causes!(@ $recovery),
                object: $object,
                advice: $advice,
            },)+
            UNKNOWN,
        ];
    };
    (@ recoverable) => { true };
    (@ permanent) => { false };
}

const UNKNOWN: Row = Row {
    cause: Cause::Unknown,
    summary: "the reason is not known",
    recoverable: true,
    object: "",
    advice: "Read the evidence: no known cause explains it.",
};

causes! {
    /// The registry has no such image.
    ImageNotFound: permanent, "image", "the image does not exist",
        "Check that {} was copied to this registry and not removed by a lifecycle rule.";
    /// The registry refused the pull.
    ImagePullDenied: permanent, "image", "the image may not be pulled",
        "Give the execution role or node role permission to pull {}, and check the repository policy.";
    /// The pull failed otherwise: network, timeout, rate limit, the node's own image store.
    ImagePullFailed: recoverable, "image", "the image could not be pulled",
        "Check the route to the registry of {} (NAT, VPC endpoints, DNS) and its rate limits.";
    /// The image is not built for the machine's architecture.
    WrongArchitecture: permanent, "image", "the image is for another architecture",
        "Build {} for this architecture, or run the workload on matching machines.";
    /// A secret or parameter that the definition refers to does not exist.
    SecretMissing: permanent, "secret", "a secret is missing",
        "Create {}, or correct its name or JSON key in the definition.";
    /// A secret or parameter may not be read.
    SecretDenied: permanent, "secret", "a secret may not be read",
        "Allow the execution role to read {}, and its KMS key if it has its own.";
    /// A config map, file, command or setting is missing or invalid.
    ConfigInvalid: permanent, "configuration", "configuration is missing or invalid",
        "Create or correct {} as the message says.";
    /// An environment file could not be read.
    EnvironmentFile: permanent, "environment file", "an environment file could not be read",
        "Check that {} exists, and that the execution role may read it.";
    /// The log driver could not be started.
    LogDriver: permanent, "log group", "the log driver could not be started",
        "Create {}, check its region and options, and allow the execution role to write to it.";
    /// A volume could not be created, attached or mounted.
    Volume: recoverable, "volume", "a volume could not be prepared",
        "Check that {} exists, can be reached from here, and may be mounted.";
    /// A network interface could not be created or attached.
    NetworkInterface: recoverable, "network interface", "a network interface could not be prepared",
        "Check {}: free addresses in the subnet, interface limits, security groups and tag policies.";
    /// A service that the start needs cannot be reached from the task or node.
    ServiceUnreachable: recoverable, "service", "a service cannot be reached",
        "Check the route to {} from the subnet: NAT, VPC endpoints, security groups, DNS.";
    /// Another resource could not be prepared.
    ResourceInitialization: recoverable, "resource", "a resource could not be prepared",
        "Check {} as the message says.";
    /// The container runtime or the agent failed.
    RuntimeFailed: recoverable, "node", "the container runtime failed",
        "Check the runtime and the disk of {}; replace it if other tasks fail there too.";
    /// The machine failed or was taken away.
    NodeFailed: recoverable, "node", "the node failed",
        "Replace {}, and check its health and capacity.";
    /// No place to run: capacity, constraints, taints.
    Unschedulable: recoverable, "capacity", "there is no place to run it",
        "Add {}, or relax the constraints that the message names.";
    /// A quota is used up.
    QuotaExceeded: recoverable, "quota", "a quota is used up",
        "Raise {}, or free some of it.";
    /// The AWS account is blocked or not verified.
    AccountBlocked: permanent, "account", "the account is blocked",
        "Contact AWS Support about {}: it cannot run tasks.";
    /// An API limits the rate of the platform's own calls.
    Throttled: recoverable, "API", "the platform is throttled",
        "Wait, and look for what else calls {} so often.";
    /// An essential container ended with an error.
    ContainerExited: recoverable, "container", "a container ended",
        "Read the last log lines of {}: the program itself ended.";
    /// A container was killed for using too much memory.
    OutOfMemory: permanent, "container", "a container ran out of memory",
        "Raise the memory limit of {}, or find what uses so much.";
    /// The container's own health check or probe fails.
    HealthCheckFailed: recoverable, "container", "the health check fails",
        "Call the health check inside {}, and compare its start time with the grace period.";
    /// The load balancer finds the targets unhealthy.
    LoadBalancerUnhealthy: recoverable, "target group", "the load balancer finds it unhealthy",
        "Check path, port and matcher of {}, and the security groups between.";
    /// A lifecycle hook failed, refused or timed out.
    LifecycleHookFailed: permanent, "lifecycle hook", "a lifecycle hook failed",
        "Read the log of {}: it decides whether the deployment may continue.";
    /// An admission controller or API validation refused the change.
    AdmissionRefused: permanent, "workload", "the change was refused at admission",
        "Change {} as the admission message says.";
    /// A role, service account or permission is missing at run time.
    PermissionMissing: permanent, "role", "a permission is missing",
        "Give {} the permission that the message names.";
    /// The configuration of service, load balancer or deployment contradicts itself or leaves no room to replace tasks.
    DeploymentConfiguration: permanent, "deployment configuration", "the deployment configuration does not allow it",
        "Correct {} as the message says: minimum and maximum percent, listener rules, target groups.";
    /// Tasks that are protected from termination hold the deployment up.
    TaskProtection: recoverable, "tasks", "protected tasks hold it up",
        "Wait for the protection of {} to expire, or remove it.";
    /// An alarm that guards the deployment went off.
    AlarmTriggered: permanent, "alarm", "an alarm went off",
        "Look at the metric of {} since the deployment started.";
    /// No progress within the time allowed, and no better reason was to be seen.
    NoProgress: permanent, "workload", "it makes no progress",
        "Look at the evidence; if the start of {} is merely slow, give it a longer deadline.";
}

impl Cause {
    /// Every cause, in the order of the table.
    pub fn all() -> impl Iterator<Item = Cause> {
        TABLE.iter().map(|row| row.cause)
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.cause == self).unwrap_or(&UNKNOWN)
    }

    /// Whether it can pass without anybody's help: a place to run may come free, a registry answer again, a program find
    /// what it waits for. What cannot pass ends a deployment as soon as it is seen.
    pub fn is_recoverable(self) -> bool {
        self.row().recoverable
    }

    /// What to look at first, in one sentence about `object`, if that is known.
    ///
    /// ```
    /// use bp_artifact::deploy::Cause;
    ///
    /// let advice = Cause::SecretMissing.advice(Some("shop/db"));
    /// assert_eq!(advice, "Create secret shop/db, or correct its name or JSON key in the definition.");
    /// assert!(Cause::SecretMissing.advice(None).starts_with("Create the secret, "));
    /// ```
    pub fn advice(self, object: Option<&str>) -> String {
        let row = self.row();
        let named =
            object.map_or_else(|| format!("the {}", row.object), |name| format!("{} {name}", row.object));
        row.advice.replace("{}", &named)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().summary)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fmt::Write as _};

    use super::*;

    fn name(cause: Cause) -> String {
        serde_json::to_value(cause).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn every_cause_has_a_row_a_name_and_a_summary_of_its_own() {
        let names: HashSet<String> = Cause::all().map(name).collect();
        let summaries: HashSet<String> = Cause::all().map(|cause| cause.to_string()).collect();
        assert_eq!((names.len(), summaries.len()), (TABLE.len(), TABLE.len()));
        for cause in Cause::all() {
            let advice = cause.advice(Some("x/y"));
            assert_eq!(advice.contains("x/y"), cause != Cause::Unknown, "{advice}");
            assert_eq!(serde_json::from_str::<Cause>(&format!("\"{}\"", name(cause))).unwrap(), cause);
        }
        assert_eq!(serde_json::from_str::<Cause>("\"gravity\"").unwrap(), Cause::Unknown);
    }

    /// Writes the page with `BP_WRITE_DOCS=1`.
    #[test]
    fn the_documented_table_is_this_one() {
        let mut page = String::from(
            "# Causes of a failed deployment\n\n\
             Every failure report has one cause, from this table; ECS and EKS share it. `cargo test -p bp-artifact` compares this \
             page with the code, and `BP_WRITE_DOCS=1` writes it.\n\n\
             A *recoverable* cause can pass without anybody's help, so a deployment waits for it within its limits; a *final* \
             one ends it as soon as it is seen.\n\n\
             | cause | in text | recovery | what to do |\n|---|---|---|---|\n",
        );
        for cause in Cause::all() {
            let recovery = if cause.is_recoverable() { "recoverable" } else { "final" };
            let row = format!("| `{}` | {cause} | {recovery} | {} |", name(cause), cause.advice(None));
            writeln!(page, "{row}").unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/causes.md");
        if std::env::var_os("BP_WRITE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
        assert!(written == page, "docs/causes.md is out of date: BP_WRITE_DOCS=1 cargo test -p bp-artifact");
    }
}
