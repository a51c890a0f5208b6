//! Check the service account of the pods and its IAM role annotation.

use bp_artifact::{
    config::RoleArn,
    deploy::{
        Cause,
        preflight::{Finding, FindingState},
    },
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;

use super::{
    lookups::Lookups,
    role::{self, Pods},
};
use crate::{rollout::api::WorkloadApi, workload::Live};

/// The annotation with the IAM role of a service account (IRSA).
const ROLE: &str = "eks.amazonaws.com/role-arn";

impl WorkloadApi {
    /// Whether the service account exists and its role annotation, if any, is a valid ARN; and the findings about the
    /// role.
    pub(super) async fn service_account(&self, live: &Live, lookups: &Lookups) -> Vec<Finding> {
        let spec = &live.template()["spec"];
        let name = spec["serviceAccountName"].as_str().unwrap_or("default");
        let finding =
            |state, message: String| Finding::new(format!("service account {name}"), state, message);
        let problem = |state, message: String| vec![finding(state, message).cause(Cause::PermissionMissing)];
        let account = match self.scope.api::<ServiceAccount>().get_opt(name).await {
            Ok(account) => account,
            // Every namespace has it; without permission to read it, only its annotation is unknown.
            Err(_) if name == "default" => None,
            Err(_) => return problem(FindingState::Unknown, "cannot be read".to_owned()),
        };
        if account.is_none() && name != "default" {
            let message =
                "does not exist, so no pod can be created; create it, or correct serviceAccountName";
            return problem(FindingState::Missing, message.to_owned());
        }
        let role = account.as_ref().and_then(|account| account.annotations().get(ROLE));
        let role = match role.map(|role| role.parse::<RoleArn>().map_err(|_| role)).transpose() {
            Ok(role) => role,
            Err(role) => {
                let message = format!("its annotation {ROLE} is not the ARN of a role: {role:?}");
                return problem(FindingState::Invalid, message);
            }
        };
        let pods = Pods { cluster: &self.scope.cluster, namespace: &self.scope.namespace, account: name };
        let found = role::check_role(lookups, &pods, role).await;
        let seen = account.map(|_| finding(FindingState::Present, String::new()));
        seen.into_iter().chain(found).collect()
    }
}
