//! Check whether the trust policy of an IAM role trusts pods, by EKS Pod Identity or IRSA.

use bp_artifact::select::Glob;
use percent_encoding::percent_decode_str;
use serde_json::Value;

const POD_IDENTITY: &str = "pods.eks.amazonaws.com";

/// The principal to trust.
#[derive(Debug, Clone, Copy)]
pub(super) enum Principal<'p> {
    /// EKS Pod Identity.
    PodIdentity,
    /// A service account by IRSA.
    Irsa {
        /// The URL of the cluster's OIDC provider.
        issuer: &'p str,
        /// `system:serviceaccount:<namespace>:<name>`
        account: &'p str,
    },
}

/// What a trust policy lacks to trust a principal; `policy` is percent-encoded, as IAM returns it.
pub(super) fn missing(policy: &str, principal: Principal<'_>) -> Option<String> {
    let policy = percent_decode_str(policy).decode_utf8_lossy().into_owned();
    let policy: Value = serde_json::from_str(&policy).ok()?;
    let statements: Vec<&Value> =
        all(&policy["Statement"]).into_iter().filter(|one| one["Effect"] == "Allow").collect();
    let allowed = |action: &str, one: &&&Value| {
        all(&one["Action"])
            .iter()
            .filter_map(|a| a.as_str())
            .any(|pattern| Glob::new(pattern).matches(action))
    };
    match principal {
        Principal::PodIdentity => {
            let trusts = |one: &&&Value| texts(&one["Principal"]["Service"]).any(|s| s == POD_IDENTITY);
            let lacking = ["sts:AssumeRole", "sts:TagSession"]
                .into_iter()
                .find(|action| !statements.iter().any(|one| trusts(&one) && allowed(action, &one)))?;
            Some(format!("its trust policy does not allow {lacking} for {POD_IDENTITY}"))
        }
        Principal::Irsa { issuer, account } => {
            let provider = issuer.trim_start_matches("https://");
            let action = "sts:AssumeRoleWithWebIdentity";
            let of_cluster: Vec<&&Value> = statements
                .iter()
                .filter(|one| allowed(action, one))
                .filter(|one| texts(&one["Principal"]["Federated"]).any(|arn| arn.ends_with(provider)))
                .collect();
            if of_cluster.is_empty() {
                return Some(format!(
                    "its trust policy does not allow {action} for the OIDC provider {provider}"
                ));
            }
            let is_matched = of_cluster.iter().any(|one| condition_matches(&one["Condition"], account));
            (!is_matched).then(|| format!("the condition of its trust policy does not match {account}"))
        }
    }
}

/// Whether a condition matches the subject; other keys are ignored.
fn condition_matches(condition: &Value, subject: &str) -> bool {
    let operators = condition.as_object().into_iter().flatten();
    let mut about_subjects = operators.flat_map(|(operator, keys)| {
        let keys = keys.as_object().into_iter().flatten();
        let keys = keys.filter(|(key, _)| key.to_ascii_lowercase().ends_with(":sub"));
        keys.map(move |(_, wanted)| (operator.as_str(), wanted))
    });
    about_subjects.all(|(operator, wanted)| match operator {
        "StringEquals" => texts(wanted).any(|wanted| wanted == subject),
        "StringLike" => texts(wanted).any(|wanted| Glob::new(wanted).matches(subject)),
        // Other operators are rare and not evaluated.
        _ => true,
    })
}

/// The elements of an array, or the value itself.
fn all(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |list| list.iter().collect())
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    all(value).into_iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ACCOUNT: &str = "system:serviceaccount:prod:web";
    const IRSA: Principal<'_> =
        Principal::Irsa { issuer: "https://oidc.eks.eu-central-1.amazonaws.com/id/A", account: ACCOUNT };

    fn irsa(condition: Value) -> Value {
        let provider = "arn:aws:iam::1:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/A";
        json!({ "Effect": "Allow", "Principal": { "Federated": provider },
            "Action": "sts:AssumeRoleWithWebIdentity", "Condition": condition })
    }

    #[test]
    fn reports_what_a_trust_policy_lacks() {
        let sub = "oidc.eks.eu-central-1.amazonaws.com/id/A:sub";
        let pods = |actions: Value| json!({ "Effect": "Allow", "Principal": { "Service": POD_IDENTITY }, "Action": actions });
        for (principal, statements, missing) in [
            (IRSA, json!([irsa(json!({ "StringEquals": { sub: ACCOUNT } }))]), None),
            (IRSA, json!(irsa(json!({ "StringLike": { sub: "system:serviceaccount:prod:*" } }))), None),
            (IRSA, json!([irsa(Value::Null)]), None),
            (
                IRSA,
                json!([irsa(json!({ "StringEquals": { sub: ["system:serviceaccount:test:web"] } }))]),
                Some("does not match system:serviceaccount:prod:web"),
            ),
            (IRSA, json!([pods(json!("sts:AssumeRole"))]), Some("for the OIDC provider")),
            (Principal::PodIdentity, json!([pods(json!(["sts:AssumeRole", "sts:TagSession"]))]), None),
            (Principal::PodIdentity, json!([pods(json!("sts:*"))]), None),
            (Principal::PodIdentity, json!([pods(json!("sts:AssumeRole"))]), Some("sts:TagSession")),
            (Principal::PodIdentity, json!([irsa(Value::Null)]), Some("sts:AssumeRole")),
        ] {
            let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
            let encoded = percent_encoding::utf8_percent_encode(&policy, percent_encoding::NON_ALPHANUMERIC);
            let found = super::missing(&encoded.to_string(), principal);
            match missing {
                None => assert_eq!(found, None, "{policy}"),
                Some(words) => assert!(found.as_ref().is_some_and(|f| f.contains(words)), "{found:?}"),
            }
        }
        let issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/B";
        let policy = json!({ "Statement": [irsa(Value::Null)] }).to_string();
        let elsewhere = super::missing(&policy, Principal::Irsa { issuer, account: ACCOUNT });
        assert!(elsewhere.is_some_and(|missing| missing.ends_with("/id/B")), "another cluster's provider");
    }
}
