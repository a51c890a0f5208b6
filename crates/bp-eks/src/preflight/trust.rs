//! Check whether the trust policy of an IAM role trusts pods, by EKS Pod Identity or IRSA, or another role.

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
    /// A role that assumes this one.
    Role {
        /// Its ARN.
        role: &'p str,
        /// The external ID that it sends.
        external_id: Option<&'p str>,
        /// Whether it sends session tags.
        tags: bool,
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
        Principal::Role { role, external_id, tags } => {
            let trusts = |one: &&&Value| texts(&one["Principal"]["AWS"]).any(|arn| is_role(arn, role));
            let of_role: Vec<&&Value> = statements.iter().filter(trusts).collect();
            let wanted = if tags { &["sts:AssumeRole", "sts:TagSession"][..] } else { &["sts:AssumeRole"] };
            let lacking = wanted.iter().find(|action| !of_role.iter().any(|one| allowed(action, one)));
            if let Some(lacking) = lacking {
                return Some(format!("its trust policy does not allow {lacking} for {role}"));
            }
            let of_assume = of_role.iter().filter(|one| allowed("sts:AssumeRole", one));
            let mut conditions = of_assume.map(|one| &one["Condition"]);
            let is_matched = conditions.any(|condition| external_id_matches(condition, external_id));
            (!is_matched).then(|| match external_id {
                Some(id) => format!("the condition of its trust policy does not match the external id {id}"),
                None => {
                    "its trust policy requires an external id, which the association does not have".to_owned()
                }
            })
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
    matches(condition, |key| key.ends_with(":sub"), Some(subject))
}

/// Whether a condition matches the external ID; other keys are ignored.
fn external_id_matches(condition: &Value, id: Option<&str>) -> bool {
    matches(condition, |key| key == "sts:externalid", id)
}

/// Whether the wanted values of the condition's keys, in lower case, include the value.
fn matches(condition: &Value, is_about: impl Fn(&str) -> bool, value: Option<&str>) -> bool {
    let operators = condition.as_object().into_iter().flatten();
    let mut about = operators.flat_map(|(operator, keys)| {
        let keys = keys.as_object().into_iter().flatten();
        let keys = keys.filter(|(key, _)| is_about(&key.to_ascii_lowercase()));
        keys.map(move |(_, wanted)| (operator.as_str(), wanted))
    });
    about.all(|(operator, wanted)| match operator {
        "StringEquals" => value.is_some_and(|value| texts(wanted).any(|wanted| wanted == value)),
        "StringLike" => {
            value.is_some_and(|value| texts(wanted).any(|wanted| Glob::new(wanted).matches(value)))
        }
        // Other operators are rare and not evaluated.
        _ => true,
    })
}

/// Whether a principal is the role, its account, or everybody.
fn is_role(principal: &str, role: &str) -> bool {
    let account = role.split(':').nth(4).unwrap_or_default();
    let root = principal.strip_suffix(":root").and_then(|arn| arn.split(':').nth(4));
    principal == role || principal == "*" || principal == account || root == Some(account)
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
        let role = "arn:aws:iam::111111111111:role/pods";
        let by = |principal: &str, actions: Value, condition: Value| json!([{ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": actions, "Condition": condition }]);
        let both = json!(["sts:AssumeRole", "sts:TagSession"]);
        let id = json!({ "StringEquals": { "sts:ExternalId": "eu-central-1/1/shop/prod/web" } });
        let external_id = Some("eu-central-1/1/shop/prod/web");
        for (external_id, tags, statements, lacking) in [
            (None, true, by(role, both.clone(), Value::Null), None),
            (None, true, by("arn:aws:iam::111111111111:root", both.clone(), Value::Null), None),
            (external_id, true, by("111111111111", both.clone(), id.clone()), None),
            (None, true, by(role, both.clone(), id.clone()), Some("requires an external id")),
            (
                Some("other"),
                true,
                by(role, both.clone(), id.clone()),
                Some("does not match the external id other"),
            ),
            (None, true, by(role, json!("sts:AssumeRole"), Value::Null), Some("sts:TagSession")),
            (None, false, by(role, json!("sts:AssumeRole"), Value::Null), None),
            (
                None,
                false,
                by("arn:aws:iam::222222222222:root", both, Value::Null),
                Some("sts:AssumeRole for arn"),
            ),
        ] {
            let policy = json!({ "Statement": statements }).to_string();
            let found = super::missing(&policy, Principal::Role { role, external_id, tags });
            match lacking {
                None => assert_eq!(found, None, "{policy}"),
                Some(words) => {
                    assert!(found.as_ref().is_some_and(|f| f.contains(words)), "{policy}: {found:?}")
                }
            }
        }
        let issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/B";
        let policy = json!({ "Statement": [irsa(Value::Null)] }).to_string();
        let elsewhere = super::missing(&policy, Principal::Irsa { issuer, account: ACCOUNT });
        assert!(elsewhere.is_some_and(|missing| missing.ends_with("/id/B")), "another cluster's provider");
    }
}
