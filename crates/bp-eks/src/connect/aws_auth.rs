//! Parse the ConfigMap `aws-auth`: the mapping of IAM roles and users to Kubernetes usernames and groups.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Deserialize;

/// The IAM mappings of the ConfigMap `kube-system/aws-auth`. Access entries take precedence, and a cluster with the
/// authentication mode `API` ignores it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwsAuth {
    /// The entries, in their order.
    pub entries: Vec<AwsAuthEntry>,
}

/// One entry of `mapRoles` or `mapUsers`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AwsAuthEntry {
    /// The ARN of the role or user.
    #[serde(alias = "rolearn", alias = "userarn")]
    pub arn: String,
    /// The Kubernetes username; may contain placeholders such as `{{SessionName}}`.
    #[serde(default)]
    pub username: String,
    /// The Kubernetes groups, for RoleBindings.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// An error of reading `aws-auth`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsAuthError {
    /// The ConfigMap cannot be read.
    #[error(
        "failed to read the ConfigMap kube-system/aws-auth; check that RBAC allows get on configmaps in kube-system"
    )]
    Unreadable(#[source] Box<kube::Error>),
    /// `mapRoles` or `mapUsers` is not a valid list of entries. The cluster's authenticator ignores that part.
    #[error("{part} of the ConfigMap kube-system/aws-auth is not a valid list of entries; correct its YAML")]
    Malformed {
        /// `mapRoles` or `mapUsers`.
        part: &'static str,
        /// The parse error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl bp_artifact::error::Classified for AwsAuthError {
    fn class(&self) -> bp_artifact::error::ErrorClass {
        match self {
            AwsAuthError::Unreadable(_) => bp_artifact::error::ErrorClass::Unavailable,
            AwsAuthError::Malformed { .. } => bp_artifact::error::ErrorClass::BadInput,
        }
    }
}

impl AwsAuth {
    /// Reads the ConfigMap from the cluster; empty when it does not exist.
    ///
    /// ```no_run
    /// # async fn run(client: kube::Client) -> Result<(), bp_eks::connect::AwsAuthError> {
    /// for entry in bp_eks::connect::AwsAuth::read(&client).await?.entries {
    ///     println!("{} is {} in {:?}", entry.arn, entry.username, entry.groups);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the ConfigMap cannot be read, or is malformed.
    ///
    /// # Permissions
    /// RBAC: `get` on `configmaps` in `kube-system`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn read(client: &Client) -> Result<Self, AwsAuthError> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
        let found = api.get_opt("aws-auth").await.map_err(|e| AwsAuthError::Unreadable(Box::new(e)))?;
        let data = found.and_then(|map| map.data).unwrap_or_default();
        let part = |name: &str| data.get(name).map(String::as_str).unwrap_or_default();
        AwsAuth::parse(part("mapRoles"), part("mapUsers"))
    }

    /// Parses the YAML of `mapRoles` and `mapUsers`.
    ///
    /// # Errors
    /// When one of them is not a valid list of entries.
    pub fn parse(roles: &str, users: &str) -> Result<Self, AwsAuthError> {
        let mut entries = Vec::new();
        for (part, text) in [("mapRoles", roles), ("mapUsers", users)] {
            if text.trim().is_empty() {
                continue;
            }
            let list: Vec<AwsAuthEntry> = serde_saphyr::from_str(text)
                .map_err(|e| AwsAuthError::Malformed { part, source: e.into() })?;
            entries.extend(list);
        }
        Ok(AwsAuth { entries })
    }

    /// The entry for `caller`, an ARN as `aws sts get-caller-identity` prints it.
    ///
    /// Matches as the authenticator does: a role session counts as its role without the path, so an entry with a path
    /// (`role/ci/deploy`) matches no caller.
    ///
    /// ```
    /// let auth = bp_eks::connect::AwsAuth::parse(
    ///     "- rolearn: arn:aws:iam::111111111111:role/deploy\n  username: ci\n  groups: [bp-deployers]\n", "",
    /// )?;
    /// let entry = auth.matching("arn:aws:sts::111111111111:assumed-role/deploy/build-7").unwrap();
    /// assert_eq!(entry.groups, ["bp-deployers"]);
    /// # Ok::<(), bp_eks::connect::AwsAuthError>(())
    /// ```
    pub fn matching(&self, caller: &str) -> Option<&AwsAuthEntry> {
        let caller = principal(caller).to_ascii_lowercase();
        self.entries.iter().find(|entry| entry.arn.to_ascii_lowercase() == caller)
    }
}

/// The role of a role session; any other ARN unchanged.
pub(super) fn principal(caller: &str) -> String {
    let parts: Vec<&str> = caller.splitn(6, ':').collect();
    let ["arn", partition, "sts", "", account, resource] = parts.as_slice() else { return caller.to_owned() };
    match resource.strip_prefix("assumed-role/").and_then(|rest| rest.split_once('/')) {
        Some((role, _)) => format!("arn:{partition}:iam::{account}:role/{role}"),
        None => caller.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: &str = "
- groups:
  - system:bootstrappers
  - system:nodes
  rolearn: arn:aws:iam::111111111111:role/nodes
  username: system:node:{{EC2PrivateDNSName}}
- rolearn: arn:aws:iam::111111111111:role/ci/deploy
  username: ci
";

    #[test]
    fn matches_entries_as_the_authenticator_does() {
        let users =
            "- userarn: arn:aws:iam::111111111111:user/Ada\n  username: ada\n  groups: [system:masters]\n";
        let auth = AwsAuth::parse(ROLES, users).unwrap();
        assert_eq!(auth.entries.len(), 3);
        for (caller, username) in [
            ("arn:aws:sts::111111111111:assumed-role/nodes/i-1", Some("system:node:{{EC2PrivateDNSName}}")),
            ("arn:aws:iam::111111111111:user/ada", Some("ada")),
            // Session ARNs omit the role's path: the entry matches no caller.
            ("arn:aws:sts::111111111111:assumed-role/deploy/build-7", None),
            ("arn:aws:sts::222222222222:assumed-role/nodes/i-1", None),
            ("", None),
        ] {
            assert_eq!(auth.matching(caller).map(|entry| entry.username.as_str()), username, "{caller}");
        }
    }

    #[test]
    fn parses_empty_maps_and_rejects_invalid_yaml() {
        assert_eq!(AwsAuth::parse("", " \n").unwrap(), AwsAuth::default());
        for wrong in ["rolearn: x", "- username: nobody", "- [", "text"] {
            let error = AwsAuth::parse("", wrong).unwrap_err();
            assert!(error.to_string().starts_with("mapUsers of the ConfigMap"), "{error}");
        }
    }
}
