//! Parse "exceeded quota" messages: whether the workload alone uses up the quota.

/// Whether a workload with `pods` pods uses up one of the exceeded resources alone, if each pod uses as much as the
/// next pod requests.
pub(super) fn is_used_by(message: &str, pods: i32) -> bool {
    let list =
        |name: &str| message.split_once(name).map_or("", |(_, rest)| rest.split(", ").next().unwrap_or(rest));
    let (requested, used, limited) = (list("requested: "), list("used: "), list("limited: "));
    requested.split(',').filter_map(|entry| entry.split_once('=')).any(|(resource, requested)| {
        let of = |list: &str| {
            let mut entries = list.split(',').filter_map(|entry| entry.split_once('='));
            quantity(entries.find(|(name, _)| *name == resource)?.1)
        };
        match (quantity(requested), of(used), of(limited)) {
            (Some(requested), Some(used), Some(limited)) => {
                used + requested > limited && used <= requested * f64::from(pods)
            }
            _ => false,
        }
    })
}

/// Parses a Kubernetes quantity: `3`, `500m`, `1.5Gi`.
fn quantity(text: &str) -> Option<f64> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_whether_the_workload_alone_uses_the_quota() {
        let said = |quota: &str| format!("pods \"web-1\" is forbidden: exceeded quota: {quota}");
        for (quota, pods, alone) in [
            ("pods, requested: pods=1, used: pods=3, limited: pods=3", 3, true),
            ("pods, requested: pods=1, used: pods=4, limited: pods=4", 3, false),
            ("cpu, requested: limits.cpu=500m, used: limits.cpu=1500m, limited: limits.cpu=1500m", 3, true),
            ("cpu, requested: limits.cpu=500m, used: limits.cpu=2, limited: limits.cpu=2", 3, false),
            // Only this workload uses pods, but pods are not the exceeded resource.
            (
                "all, requested: pods=1,requests.memory=1Gi, used: pods=3,requests.memory=9Gi, limited: pods=9,requests.memory=9Gi",
                3,
                false,
            ),
            ("all, requested: x=1Zi, used: x=3Zi, limited: x=3Zi", 3, false),
            ("cut, requested: pods=1", 3, false),
        ] {
            assert_eq!(is_used_by(&said(quota), pods), alone, "{quota}");
        }
    }
}
