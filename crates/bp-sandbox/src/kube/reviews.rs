//! Reviews of access and identity: objects that are posted and answered, and never stored.

use serde_json::{Value, json};

use super::{Cluster, call::Call};

/// Answers a review.
pub(super) fn answer(cluster: &Cluster, call: &Call<'_>, mut review: Value) -> Value {
    let resource = call.resource();
    review["kind"] = json!(resource.kind);
    review["apiVersion"] = json!(resource.api_version());
    review["status"] = match resource.kind {
        "SelfSubjectReview" => {
            json!({ "userInfo": { "username": call.user, "groups": ["system:authenticated"] } })
        }
        "SelfSubjectRulesReview" => rules(cluster),
        _ => json!({ "allowed": cluster.allows(&review["spec"]["resourceAttributes"]) }),
    };
    review
}

/// Everything is allowed except what a test denies, which rules cannot express: they are incomplete then.
fn rules(cluster: &Cluster) -> Value {
    json!({
        "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
        "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        "incomplete": !cluster.rules().denied.is_empty(),
    })
}

impl Cluster {
    /// Whether the verb and resource of a review are allowed.
    fn allows(&self, requested: &Value) -> bool {
        let text = |field: &str| requested[field].as_str().unwrap_or_default().to_owned();
        let plural = match text("subresource").as_str() {
            "" => text("resource"),
            sub => format!("{}/{sub}", text("resource")),
        };
        !self.rules().denied.contains(&(text("verb"), plural))
    }
}
