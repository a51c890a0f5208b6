//! EKS access to a cluster: access entries, the ConfigMap `aws-auth`, and Pod Identity associations.

use std::collections::BTreeSet;

use super::{Cluster, rules::PodIdentity, store::Key};

impl Cluster {
    /// Sets the principals that have an access entry (`arn:aws:iam::<account>:role/<path and name>`). Defaults to all
    /// principals of the account.
    pub fn access_entries(&self, principals: &[&str]) {
        let entries = principals.iter().map(|arn| (*arn).to_owned()).collect();
        self.rules().access.entries = Some(entries);
    }

    /// Sets the authentication mode: `API`, `API_AND_CONFIG_MAP` or `CONFIG_MAP`.
    pub fn authentication_mode(&self, mode: &str) {
        self.rules().access.mode = Some(mode.to_owned());
    }

    /// Creates an EKS Pod Identity association.
    pub fn pod_identity(&self, namespace: &str, service_account: &str, role_arn: &str) {
        let associations = &mut self.rules().access.pod_identities;
        associations.push(PodIdentity {
            id: format!("a-{:017x}", associations.len() + 1),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            role: role_arn.to_owned(),
        });
    }

    /// The authentication mode.
    pub(crate) fn mode(&self) -> String {
        self.rules().access.mode.clone().unwrap_or_else(|| "API_AND_CONFIG_MAP".to_owned())
    }

    /// The principals with an access entry; `None` when every principal of the account has one.
    pub(crate) fn entries(&self) -> Option<BTreeSet<String>> {
        self.rules().access.entries.clone()
    }

    #[cfg_attr(not(feature = "aws"), allow(dead_code))]
    pub(crate) fn pod_identities(&self) -> Vec<PodIdentity> {
        self.rules().access.pod_identities.clone()
    }

    /// Whether the caller `arn` of `account` has access.
    pub(super) fn has_access(&self, account: &str, arn: &str) -> bool {
        let mode = self.mode();
        let entries = if mode == "CONFIG_MAP" { Some(BTreeSet::new()) } else { self.entries() };
        let by_entry = match entries {
            None => account == self.options.account,
            Some(entries) => entries.iter().any(|entry| plain(entry) == plain(arn)),
        };
        by_entry || (mode != "API" && self.is_in_aws_auth(&plain(arn)))
    }

    /// Whether `aws-auth` contains the principal. Entries are compared literally, so one with a role's path never
    /// matches.
    fn is_in_aws_auth(&self, principal: &str) -> bool {
        let world = self.enter();
        let map = world.store.get(&Key::new("configmaps", "kube-system", "aws-auth"));
        let data = map.and_then(|map| map["data"].as_object().cloned()).unwrap_or_default();
        let lines = data.values().filter_map(|text| text.as_str()).flat_map(str::lines);
        let principals = lines.filter_map(|line| {
            let line = line.trim_start_matches(['-', ' ']);
            line.strip_prefix("rolearn:").or_else(|| line.strip_prefix("userarn:"))
        });
        principals.map(str::trim).any(|arn| arn.eq_ignore_ascii_case(principal))
    }
}

/// The principal's ARN without its path; the ARN of a role session is converted to its role.
fn plain(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, _, "", account, resource] = parts.as_slice() else { return arn.to_owned() };
    let (kind, name) = match resource.strip_prefix("assumed-role/") {
        Some(session) => ("role", session.split('/').next().unwrap_or_default()),
        None => {
            let (kind, path) = resource.split_once('/').unwrap_or((resource, ""));
            (kind, path.rsplit('/').next().unwrap_or_default())
        }
    };
    format!("arn:{partition}:iam::{account}:{kind}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_converted_to_roles_without_paths() {
        for (arn, expected) in [
            ("arn:aws:sts::1:assumed-role/deploy/build-7", "arn:aws:iam::1:role/deploy"),
            ("arn:aws:iam::1:role/ci/deploy", "arn:aws:iam::1:role/deploy"),
            ("arn:aws-cn:iam::1:user/ada", "arn:aws-cn:iam::1:user/ada"),
            ("nobody", "nobody"),
        ] {
            assert_eq!(plain(arn), expected);
        }
    }
}
