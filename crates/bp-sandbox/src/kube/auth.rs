//! Verify EKS bearer tokens by the rules of aws-iam-authenticator.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

/// The allowed query parameters of a token's URL, in lower case.
const PARAMETERS: [&str; 9] = [
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// The secret access key of all credentials in the sandbox; tokens signed with another key are rejected.
pub const SECRET_ACCESS_KEY: &str = "sandbox-secret";

/// Verifies an EKS token for the cluster `cluster` at `now`; returns the access key id that signed it.
///
/// It applies the checks of aws-iam-authenticator, then those of STS: the authenticator sends the presigned request
/// with *its own* cluster's name in `x-k8s-aws-id`, so the signature of a token for another cluster does not match.
///
/// # Errors
/// The reason why the token is rejected. It is for debugging only: the API server responds with `Unauthorized`.
pub fn verify_token(token: &str, cluster: &str, now: Timestamp) -> Result<String, String> {
    if token.len() > 4096 {
        return Err("the token is too large".to_owned());
    }
    let encoded = token.strip_prefix("k8s-aws-v1.").ok_or("the token has no k8s-aws-v1. prefix")?;
    let url = URL_SAFE_NO_PAD.decode(encoded).map_err(|e| e.to_string())?;
    let url = String::from_utf8(url).map_err(|e| e.to_string())?;
    let rest = url.strip_prefix("https://").ok_or("the URL is not https")?;
    let (host, query) = rest.split_once("/?").ok_or("the path of the URL is not /")?;
    if !is_sts_host(host) {
        return Err(format!("unexpected hostname {host:?}"));
    }
    let mut parameters = BTreeMap::new();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let name = name.to_ascii_lowercase();
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        if !PARAMETERS.contains(&name.as_str()) {
            return Err(format!("non-whitelisted query parameter {name:?}"));
        }
        if parameters.insert(name.clone(), value).is_some() {
            return Err(format!("query parameter {name:?} given more than once"));
        }
    }
    let parameter = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    if parameter("action") != "GetCallerIdentity" {
        return Err("unexpected action".to_owned());
    }
    // The cluster header must be signed: it binds the token to one cluster.
    if !parameter("x-amz-signedheaders").split(';').any(|h| h.eq_ignore_ascii_case("x-k8s-aws-id")) {
        return Err("the client did not sign the x-k8s-aws-id header".to_owned());
    }
    let expires: i64 = parameter("x-amz-expires").parse().map_err(|_| "invalid X-Amz-Expires".to_owned())?;
    if !(0..=900).contains(&expires) {
        return Err("invalid X-Amz-Expires".to_owned());
    }
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", parameter("x-amz-date"))
        .and_then(|date| date.to_zoned(TimeZone::UTC))
        .map_err(|_| "invalid X-Amz-Date".to_owned())?
        .timestamp();
    if now > date + Duration::from_secs(15 * 60) {
        return Err("the token is expired".to_owned());
    }
    if date > now + Duration::from_secs(5 * 60) {
        return Err("the token is from the future".to_owned());
    }
    let signature = parameter("x-amz-signature");
    let credential: Vec<&str> = parameter("x-amz-credential").split('/').collect();
    let (key, day, region) = match credential.as_slice() {
        [key, day, region, "sts", "aws4_request"]
            if host == "sts.amazonaws.com" || host.split('.').any(|part| part == *region) =>
        {
            (*key, *day, *region)
        }
        _ => return Err("the credential's scope is not STS in the host's region".to_owned()),
    };
    let scope = format!("{day}/{region}/sts/aws4_request");
    let canonical = canonical_request(query, host, cluster, parameter("x-amz-signedheaders"));
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        parameter("x-amz-date"),
        hex::encode(Sha256::digest(&canonical))
    );
    let first = hmac(format!("AWS4{SECRET_ACCESS_KEY}").as_bytes(), day);
    let signing_key = scope.split('/').skip(1).fold(first, |key, part| hmac(&key, part));
    if hex::encode(hmac(&signing_key, &text)) != signature {
        return Err("SignatureDoesNotMatch: another cluster's name or another secret key was used".to_owned());
    }
    Ok(key.to_owned())
}

/// The canonical request of Signature Version 4, with this cluster's name in `x-k8s-aws-id`.
fn canonical_request(query: &str, host: &str, cluster: &str, signed: &str) -> String {
    let mut pairs: Vec<&str> =
        query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    pairs.sort_unstable();
    let header = |name: &str| match name {
        "host" => format!("host:{host}\n"),
        "x-k8s-aws-id" => format!("x-k8s-aws-id:{cluster}\n"),
        other => format!("{other}:\n"),
    };
    let headers: String = signed.split(';').map(header).collect();
    let empty = hex::encode(Sha256::digest(b""));
    format!("GET\n/\n{}\n{headers}\n{signed}\n{empty}", pairs.join("&"))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Whether `host` is `sts.amazonaws.com` or a regional STS host of any partition.
fn is_sts_host(host: &str) -> bool {
    let suffixes = [
        "amazonaws.com",
        "amazonaws.com.cn",
        "amazonaws.eu",
        "api.aws",
        "c2s.ic.gov",
        "cloud.adc-e.uk",
        "csp.hci.ic.gov",
        "sc2s.sgov.gov",
    ];
    let region = |host: &str| {
        let rest = host.strip_prefix("sts.").or_else(|| host.strip_prefix("sts-fips."))?;
        let suffix = suffixes.iter().find(|suffix| rest.ends_with(&format!(".{suffix}")))?;
        Some(rest[..rest.len() - suffix.len() - 1].to_owned())
    };
    host == "sts.amazonaws.com"
        || region(host).is_some_and(|region| {
            !region.is_empty()
                && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}
