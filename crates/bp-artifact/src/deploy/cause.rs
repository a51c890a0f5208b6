//! Causes of failed deployments, shared by ECS and EKS: one table, from which `docs/causes.md` is generated.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A row of the table: the meaning of a [`Cause`], and what to do.
struct Row {
    cause: Cause,
    /// The first words of a failure report.
    summary: &'static str,
    /// Whether it can resolve without intervention.
    recoverable: bool,
    /// The kind of the affected object.
    object: &'static str,
    /// What to do; `{}` stands for the object.
    advice: &'static str,
}

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $cause:ident: $recovery:ident, $object:literal, $summary:literal, $advice:literal;)+) => {
        /// Why a deployment failed. Anything else is [`Unknown`](Cause::Unknown), with its evidence.
        ///
        /// `docs/causes.md` lists all causes with summary, recovery and advice.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[doc = $doc])+ $cause,)+
            /// None of the above, or a cause from a later version; see the evidence.
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
    summary: "unknown cause",
    recoverable: true,
    object: "",
    advice: "Read the evidence: no known cause matches.",
};

causes! {
    /// The registry has no such image.
    ImageNotFound: permanent, "image", "the image does not exist",
        "Check that {} was copied to this registry and not removed by a lifecycle rule.";
    /// The registry denied the pull.
    ImagePullDenied: permanent, "image", "the image pull was denied",
        "Give the execution role or node role permission to pull {}, and check the repository policy.";
    /// The pull failed for another reason: network, timeout, rate limit, the node's image store.
    ImagePullFailed: recoverable, "image", "the image could not be pulled",
        "Check the route to the registry of {} (NAT, VPC endpoints, DNS) and its rate limits.";
    /// The image is not built for the node's architecture.
    WrongArchitecture: permanent, "image", "the image is built for another architecture",
        "Build {} for this architecture, or run the workload on matching nodes.";
    /// A secret or parameter that the definition refers to does not exist.
    SecretMissing: permanent, "secret", "a secret is missing",
        "Create {}, or correct its name or JSON key in the definition.";
    /// Access to a secret or parameter was denied.
    SecretDenied: permanent, "secret", "access to a secret was denied",
        "Allow the execution role to read {}, and its KMS key if it has its own.";
    /// A config map, file, command or setting is missing or invalid.
    ConfigInvalid: permanent, "configuration", "configuration is missing or invalid",
        "Create or correct {} according to the message.";
    /// An environment file could not be read.
    EnvironmentFile: permanent, "environment file", "an environment file could not be read",
        "Check that {} exists, and that the execution role may read it.";
    /// The log driver could not be started.
    LogDriver: permanent, "log group", "the log driver could not be started",
        "Create {}, check its region and options, and allow the execution role to write to it.";
    /// A volume could not be created, attached or mounted.
    Volume: recoverable, "volume", "a volume could not be prepared",
        "Check that {} exists, is reachable from the task or node, and can be mounted.";
    /// A network interface could not be created or attached.
    NetworkInterface: recoverable, "network interface", "a network interface could not be prepared",
        "Check {}: free addresses in the subnet, interface limits, security groups and tag policies.";
    /// A service that the start needs cannot be reached from the task or node.
    ServiceUnreachable: recoverable, "service", "a service cannot be reached",
        "Check the route to {} from the subnet: NAT, VPC endpoints, security groups, DNS.";
    /// Another resource could not be prepared.
    ResourceInitialization: recoverable, "resource", "a resource could not be prepared",
        "Check {} according to the message.";
    /// The container runtime or the agent failed.
    RuntimeFailed: recoverable, "node", "the container runtime failed",
        "Check the runtime and the disk of {}; replace it if other tasks fail there too.";
    /// The node failed or was removed.
    NodeFailed: recoverable, "node", "the node failed",
        "Replace {}, and check its health and capacity.";
    /// It cannot be scheduled: capacity, constraints, taints.
    Unschedulable: recoverable, "capacity", "it cannot be scheduled",
        "Add {}, or relax the constraints in the message.";
    /// A quota is exceeded.
    QuotaExceeded: recoverable, "quota", "a quota is exceeded",
        "Raise {}, or release resources that count against it.";
    /// The AWS account is blocked or not verified.
    AccountBlocked: permanent, "account", "the account is blocked",
        "Contact AWS Support about {}: it cannot run tasks.";
    /// The platform's own API calls are throttled.
    Throttled: recoverable, "API", "API calls of the platform are throttled",
        "Wait, and check for other callers that exceed the rate limit of {}.";
    /// An essential container exited with an error.
    ContainerExited: recoverable, "container", "a container exited",
        "Read the last log lines of {}: its program exited.";
    /// A container was killed for using too much memory.
    OutOfMemory: permanent, "container", "a container ran out of memory",
        "Raise the memory limit of {}, or reduce its memory use.";
    /// The container's health check or probe fails.
    HealthCheckFailed: recoverable, "container", "the health check fails",
        "Run the health check inside {}, and compare its start time with the grace period.";
    /// The load balancer reports unhealthy targets.
    LoadBalancerUnhealthy: recoverable, "target group", "the load balancer reports it unhealthy",
        "Check path, port and matcher of {}, and the security groups on the way to it.";
    /// A lifecycle hook failed, rejected the deployment or timed out.
    LifecycleHookFailed: permanent, "lifecycle hook", "a lifecycle hook failed",
        "Read the log of {}: it decides whether the deployment may continue.";
    /// An admission controller or API validation rejected the change.
    AdmissionRefused: permanent, "workload", "the change was rejected by admission control",
        "Change {} according to the admission message.";
    /// A role, service account or permission is missing at runtime.
    PermissionMissing: permanent, "role", "a permission is missing",
        "Grant {} the permission in the message.";
    /// The configuration of service, load balancer or deployment is inconsistent or leaves no room to replace tasks.
    DeploymentConfiguration: permanent, "deployment configuration",
        "the deployment configuration prevents the deployment",
        "Correct {} according to the message: minimum and maximum percent, listener rules, target groups.";
    /// Tasks with scale-in protection block the deployment.
    TaskProtection: recoverable, "tasks", "protected tasks block the deployment",
        "Wait for the protection of {} to expire, or remove it.";
    /// An alarm of the deployment was triggered.
    AlarmTriggered: permanent, "alarm", "an alarm was triggered",
        "Check the metric of {} since the deployment started.";
    /// A check between two steps of the deployment failed.
    CheckFailed: permanent, "check", "a check between two steps failed",
        "Read the result of {}: it decides whether the deployment may continue.";
    /// No progress by the deadline, and no more specific cause was found.
    NoProgress: permanent, "workload", "it makes no progress",
        "Check the evidence; if {} is only slow to start, set a longer deadline.";
}

impl Cause {
    /// Every cause, in the order of the table.
    pub fn all() -> impl Iterator<Item = Cause> {
        TABLE.iter().map(|row| row.cause)
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.cause == self).unwrap_or(&UNKNOWN)
    }

    /// Whether it can resolve without intervention: capacity may become available, a registry recover, a dependency
    /// start. Any other cause ends a deployment as soon as it is detected.
    pub fn is_recoverable(self) -> bool {
        self.row().recoverable
    }

    /// What to do first, in one sentence about `object`, if known.
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
    fn every_cause_has_a_unique_name_and_summary() {
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
    fn docs_causes_page_matches_the_table() {
        let mut page = String::from(
            "# Causes of a failed deployment\n\n\
             Every failure report has one cause from this table, which ECS and EKS share. `cargo test -p bp-artifact` compares this \
             page with the code, and `BP_WRITE_DOCS=1` writes it.\n\n\
             A *recoverable* cause can resolve without intervention, so a deployment waits within its limits; a *final* cause \
             ends the deployment as soon as it is detected.\n\n\
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
