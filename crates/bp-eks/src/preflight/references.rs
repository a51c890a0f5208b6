//! Check that the Secrets and ConfigMaps referenced by the pods exist and have the referenced keys.

use std::collections::{BTreeMap, BTreeSet};

use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use crate::{
    rollout::api::WorkloadApi,
    workload::references::{Reference, references},
};

impl WorkloadApi {
    /// Whether the referenced Secrets and ConfigMaps exist, with their keys.
    pub(super) async fn references(&self, template: &Value) -> Vec<Finding> {
        let mut findings = Vec::new();
        let required = references(template).into_iter().filter(|reference| !reference.is_optional);
        for reference in required {
            findings.push(self.reference(&reference).await);
        }
        findings
    }

    async fn reference(&self, reference: &Reference) -> Finding {
        let Reference { is_secret, name, key, .. } = reference;
        let (kind, cause) =
            if *is_secret { ("secret", Cause::SecretMissing) } else { ("config map", Cause::ConfigInvalid) };
        let found = if *is_secret {
            let found = self.scope.api::<Secret>().get_opt(name).await;
            found.map(|found| found.map(|s| keys(&s.data, &s.string_data)))
        } else {
            let found = self.scope.api::<ConfigMap>().get_opt(name).await;
            found.map(|found| found.map(|m| keys(&m.data, &m.binary_data)))
        };
        let finding = |state, message: String| Finding::new(format!("{kind} {name}"), state, message);
        match (found, key) {
            (Ok(None), _) => {
                let message = "does not exist; create it, or correct its name in the pod template";
                finding(FindingState::Missing, message.to_owned()).cause(cause)
            }
            (Ok(Some(keys)), Some(key)) if !keys.contains(key) => {
                let message = format!("has no key {key:?}; add it, or correct it in the pod template");
                finding(FindingState::Invalid, message).cause(cause)
            }
            (Ok(Some(_)), _) => finding(FindingState::Present, String::new()),
            (Err(_), _) => finding(FindingState::Unknown, "cannot be read".to_owned()).cause(cause),
        }
    }
}

fn keys<V, W>(one: &Option<BTreeMap<String, V>>, two: &Option<BTreeMap<String, W>>) -> BTreeSet<String> {
    one.iter().flat_map(|map| map.keys()).chain(two.iter().flat_map(|map| map.keys())).cloned().collect()
}
