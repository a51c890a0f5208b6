//! Further flags of `helm upgrade`: which ones are passed on, and which ones contradict what bp-eks guarantees.

use super::error::HelmError;

/// Flags without a value.
const SWITCHES: &[&str] = &[
    "dependency-update",
    "devel",
    "disable-openapi-validation",
    "enable-dns",
    "force-conflicts",
    "force-replace",
    "insecure-skip-tls-verify",
    "no-hooks",
    "pass-credentials",
    "plain-http",
    "reset-then-reuse-values",
    "reset-values",
    "reuse-values",
    "skip-crds",
    "skip-schema-validation",
    "take-ownership",
    "verify",
    "wait-for-jobs",
];

/// Flags that are refused, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("atomic", "a failed release is rolled back here, after its evidence was collected"),
    ("rollback-on-failure", "a failed release is rolled back here, after its evidence was collected"),
    ("cleanup-on-fail", "it deletes the evidence of a failure"),
    ("wait", "the release is always watched until it ends"),
    ("timeout", "the deadline is that of the deployment (--timeout, deploy.timeout)"),
    ("dry-run", "it would change nothing; a dry run comes before every upgrade"),
    ("hide-secret", "it applies to a dry run"),
    ("output", "the output of helm is read, not shown"),
    ("debug", "helm's log contains values"),
    ("install", "it is always set"),
    ("hide-notes", "it is always set"),
    ("create-namespace", "set it with --create-namespace or eks.create-namespace"),
    ("version", "set it with --chart-version or eks.chart-version"),
    ("repo", "set it with --chart-repo or eks.chart-repo"),
    ("values", "set it with --values or eks.values"),
    (
        "username",
        "the credentials would be visible in the list of processes; use the file in HELM_REGISTRY_CONFIG",
    ),
    (
        "password",
        "the credentials would be visible in the list of processes; use the file in HELM_REGISTRY_CONFIG",
    ),
    ("registry-config", "set it with HELM_REGISTRY_CONFIG; for a chart in ECR the login is created"),
    ("namespace", "the namespace is that of the release (eks.namespace)"),
    ("kubeconfig", "helm reaches the cluster only over the connection of this process"),
];

/// The prefix of the flags that select a cluster and an identity.
const CLUSTER: (&str, &str) = ("kube-", "helm reaches the cluster only over the connection of this process");

/// Further flags of `helm upgrade`, in its own words: `--skip-crds`, `--history-max=20`, `--post-renderer=kustomize`.
///
/// Each flag is one argument, so that it cannot take the next one as its value. Flags that contradict what an upgrade
/// guarantees are refused with the reason; a flag that helm does not know fails in the dry run, before any change.
///
/// ```
/// use bp_eks::helm::HelmFlags;
///
/// assert!(HelmFlags::parse(["--skip-crds", "--labels=team=shop"]).is_ok());
/// let error = HelmFlags::parse(["--atomic"]).unwrap_err();
/// assert!(error.to_string().contains("--atomic is not accepted"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HelmFlags(Vec<String>);

impl HelmFlags {
    /// Checks the flags.
    ///
    /// # Errors
    /// [`HelmError::Flag`] when one is not accepted, or is not of the form `--name` or `--name=value`.
    pub fn parse<T: Into<String>>(flags: impl IntoIterator<Item = T>) -> Result<Self, HelmError> {
        let flags = flags.into_iter().map(Into::into);
        flags.map(|flag| check(&flag).map(|()| flag)).collect::<Result<_, _>>().map(HelmFlags)
    }

    /// Adds further flags; of several with one name, helm uses the last one.
    pub(super) fn extend(&mut self, flags: HelmFlags) {
        self.0.extend(flags.0);
    }

    /// The flags.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The value of a flag; of several, the last one, as helm reads them. A switch without a value is `true`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let named = self.iter().filter_map(|flag| flag.strip_prefix("--"));
        let named = named.map(|flag| flag.split_once('=').unwrap_or((flag, "true")));
        named.filter(|(found, _)| *found == name).map(|(_, value)| value).last()
    }
}

fn check(flag: &str) -> Result<(), HelmError> {
    let refuse = |shown: &str, reason: &str| {
        Err(HelmError::Flag { flag: shown.to_owned(), reason: reason.to_owned() })
    };
    let Some(text) = flag.strip_prefix("--").filter(|text| !text.is_empty()) else {
        return refuse(flag, "write each flag as one argument, --name or --name=value, with its long name");
    };
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    // Values may be secrets.
    let shown = format!("--{name}");
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return refuse(&shown, reason);
    }
    if name.starts_with(CLUSTER.0) {
        return refuse(&shown, CLUSTER.1);
    }
    if name == "history-max" && value == Some("1") {
        return refuse(&shown, "1 keeps no revision to roll back to");
    }
    if value.is_none() && !SWITCHES.contains(&name) {
        return refuse(&shown, "write its value in the same argument, --name=value");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(flag: &str) -> String {
        HelmFlags::parse([flag]).unwrap_err().to_string()
    }

    #[test]
    fn passes_on_flags_that_keep_the_guarantees() {
        let flags =
            ["--skip-crds", "--labels=team=shop", "--history-max=20", "--server-side=false", "--set=a=b"];
        let flags = HelmFlags::parse(flags).unwrap();
        assert_eq!(flags.iter().count(), 5);
        assert_eq!(flags.value("skip-crds"), Some("true"));
        assert_eq!(flags.value("server-side"), Some("false"));
        assert_eq!(flags.value("labels"), Some("team=shop"));
        assert_eq!(flags.value("label"), None);
    }

    #[test]
    fn refuses_flags_that_break_a_guarantee_with_the_reason() {
        for (flag, reason) in [
            ("--wait", "always watched"),
            ("--wait=legacy", "always watched"),
            ("--atomic=true", "rolled back here"),
            ("--rollback-on-failure", "rolled back here"),
            ("--cleanup-on-fail", "evidence"),
            ("--dry-run=client", "dry run comes before"),
            ("--namespace=other", "eks.namespace"),
            ("--kubeconfig=/tmp/x", "only over the connection"),
            ("--kube-as-user=admin", "only over the connection"),
            ("--kube-context=x", "only over the connection"),
            ("--history-max=1", "no revision to roll back to"),
        ] {
            let error = refused(flag);
            assert!(error.contains(reason) && error.contains("--"), "{flag}: {error}");
        }
        let error = refused("--password=hush-hush");
        assert!(error.contains("list of processes") && !error.contains("hush-hush"), "{error}");
    }

    #[test]
    fn refuses_arguments_that_could_take_the_next_one_as_their_value() {
        for flag in ["--description", "--unknown", "-nother", "-i", "other", "", "--", "-"] {
            assert!(HelmFlags::parse([flag]).is_err(), "{flag}");
        }
    }
}
