//! Detect account-specific parts of free text: regions, resource IDs, addresses and host names.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Passes each longest run of matching characters to `replace`, with the text before it, and replaces the run if it
/// returns a text.
pub(super) fn runs(
    text: &str,
    is_part: impl Fn(char) -> bool,
    mut replace: impl FnMut(&str, &str) -> Option<String>,
) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(&is_part) {
        let (between, from) = rest.split_at(start);
        let (run, behind) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        let (before, _) = text.split_at(text.len().saturating_sub(from.len()));
        result.push_str(between);
        match replace(run, before) {
            Some(replaced) => result.push_str(&replaced),
            None => result.push_str(run),
        }
        rest = behind;
    }
    result + rest
}

/// A region, and the letter of an availability zone after it: `eu-central-1` and `a`.
pub(super) fn region(word: &str) -> Option<(&str, &str)> {
    const AREAS: &[&str] = &["af", "ap", "ca", "cn", "eu", "il", "me", "mx", "sa", "us"];
    const SIDES: &[&str] = &["central", "east", "gov", "iso", "isob", "north", "south", "west"];
    const BETWEEN: &[&str] = &["northeast", "northwest", "southeast", "southwest"];
    let region = word.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let zone = word.strip_prefix(region).unwrap_or_default();
    let parts: Vec<&str> = region.split('-').collect();
    let [area, sides @ .., number] = parts.as_slice() else { return None };
    let is_side = |side: &&str| SIDES.contains(side) || BETWEEN.contains(side);
    let is_number = matches!(number.len(), 1 | 2) && number.bytes().all(|b| b.is_ascii_digit());
    let is_region = AREAS.contains(area) && !sides.is_empty() && sides.iter().all(is_side) && is_number;
    (is_region && zone.len() <= 1).then_some((region, zone))
}

/// The kind and the number of an AWS resource ID: `subnet` and `0123456789abcdef0`.
pub(super) fn resource(word: &str) -> Option<(&str, &str)> {
    const KINDS: &[&str] = &[
        "acl", "ami", "eipalloc", "eni", "fs", "fsap", "fsmt", "i", "igw", "lt", "nat", "pl", "rtb", "sg",
        "snap", "subnet", "vol", "vpc", "vpce",
    ];
    let (kind, number) = word.rsplit_once('-')?;
    let is_number = number.len() >= 8 && number.bytes().all(|b| b.is_ascii_hexdigit());
    (KINDS.contains(&kind) && is_number).then_some((kind, number))
}

pub(super) fn ipv4(word: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = word.trim_end_matches('.').parse().ok()?;
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

pub(super) fn ipv6(word: &str) -> Option<Ipv6Addr> {
    let address: Ipv6Addr = word.trim_end_matches(':').parse().ok()?;
    let is_long = word.matches(':').count() > 2 || word.contains("::");
    (is_long && !address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The IP address in a node name: `ip-10-0-1-7`.
pub(super) fn node(word: &str) -> Option<Ipv4Addr> {
    word.strip_prefix("ip-")?.replace('-', ".").parse().ok()
}

/// Whether a word with dots is a host name outside of well-known public domains.
pub(super) fn is_host(word: &str, before: &str) -> bool {
    const ENDS: &[&str] = &[
        "app", "aws", "biz", "cloud", "co", "com", "corp", "de", "dev", "eu", "example", "fr", "info",
        "internal", "intra", "io", "lan", "local", "net", "org", "svc", "tech", "test", "uk", "us",
    ];
    const PUBLIC: &[&str] = &[
        "amazonaws.com",
        "amazonaws.com.cn",
        "compute.internal",
        "docker.com",
        "docker.io",
        "eks.amazonaws.com",
        "gcr.io",
        "ghcr.io",
        "k8s.io",
        "kubernetes.io",
        "public.ecr.aws",
        "quay.io",
    ];
    let word = word.trim_matches('.');
    let labels: Vec<&str> = word.split('.').collect();
    let [_, .., last] = labels[..] else { return false };
    let is_public = PUBLIC
        .iter()
        .any(|public| word.strip_suffix(public).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    let is_name = last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic());
    let expected = ["://", "lookup ", "Host: ", "@"].iter().any(|begin| before.ends_with(begin));
    is_name && !is_public && (expected || ENDS.contains(&last))
}
