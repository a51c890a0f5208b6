//! ARNs, ids and timestamps, parsing of names in requests, and pagination.

use jiff::Timestamp;
use serde_json::{Value, json};

/// The account and region of ECS resources, for their ARNs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) account: String,
    pub(super) region: String,
}

impl Place {
    pub(super) fn arn(&self, resource: &str) -> String {
        format!("arn:{}:ecs:{}:{}:{resource}", self.partition(), self.region, self.account)
    }

    pub(super) fn partition(&self) -> &'static str {
        match self.region.as_str() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }
}

/// The last part of an ARN's resource, or the plain name: requests may contain either.
pub(super) fn name_of(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}

/// The cluster of a request: a name, an ARN, or nothing for `default`.
pub(super) fn cluster_of(text: &str) -> &str {
    match name_of(text) {
        "" => "default",
        name => name,
    }
}

/// 19 digits, as in `ecs-svc/1234567890123456789`.
pub(super) fn deployment_number() -> u64 {
    fastrand::u64(1_000_000_000_000_000_000..9_999_999_999_999_999_999)
}

/// 32 hex digits, as a task's id.
pub(super) fn hex_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// 21 letters and digits, as a service deployment's id.
pub(super) fn word_id() -> String {
    (0..21).map(|_| fastrand::alphanumeric()).collect()
}

/// 43 characters of base64url, as in the id of a pause hook.
pub(super) fn token() -> String {
    let symbol = || match fastrand::u8(..64) {
        62 => '-',
        63 => '_',
        _ => fastrand::alphanumeric(),
    };
    (0..43).map(|_| symbol()).collect()
}

/// A timestamp in API format: seconds since the epoch with milliseconds, as a JSON number.
pub(super) fn epoch(at: Timestamp) -> Value {
    json!(at.as_millisecond() as f64 / 1000.0)
}

/// The page of `all` at the token, and the token of the next page.
pub(super) fn page<T>(all: Vec<T>, token: &str, size: usize) -> (Vec<T>, Option<String>) {
    let start: usize = token.parse().unwrap_or(0);
    let next = start + size;
    let token = (next < all.len()).then(|| next.to_string());
    (all.into_iter().skip(start).take(size).collect(), token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_requests_and_paginates() {
        assert_eq!(name_of("arn:aws:ecs:eu-central-1:111111111111:service/shop/web"), "web");
        assert_eq!(cluster_of(""), "default");
        assert_eq!(page(vec![1, 2, 3], "", 2), (vec![1, 2], Some("2".to_owned())));
        assert_eq!(page(vec![1, 2, 3], "2", 2), (vec![3], None));
    }

    #[test]
    fn arns_contain_the_partition() {
        let place = Place { account: "1".into(), region: "cn-north-1".into() };
        assert_eq!(place.arn("cluster/shop"), "arn:aws-cn:ecs:cn-north-1:1:cluster/shop");
    }
}
