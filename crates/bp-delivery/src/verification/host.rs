//! DNS and TLS of the hosts by which the targets are reached.
//!
//! Names are resolved by the operating system, as every client of the host does, and the handshake is made by rustls with
//! the roots of the platform, as every other connection of this program. There is no resolver and no TLS client of our own:
//! authoritative name servers, DNSSEC, ciphers and revocation are not examined.

use std::{collections::BTreeMap, error::Error as StdError, io, net::SocketAddr, sync::Arc, time::Duration};

use bp_artifact::{
    check::{CheckKind, CheckResult, Verified},
    error::chain,
    text,
    time::TimeSource,
};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rustls::{
    CertificateError, ClientConfig,
    client::danger::ServerCertVerifier,
    crypto::aws_lc_rs,
    pki_types::{ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier as PlatformVerifier;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::selection::Selection;

/// The time limit of a lookup, of a connection and of a handshake.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The number of addresses in a detail.
const ADDRESSES: usize = 4;
/// A time at which every certificate has expired: the verifier then reports the last day of the host's one.
const LATER: Duration = Duration::from_secs(3000 * 365 * 24 * 3600);
/// The maximum number of hosts that are checked.
const HOSTS: usize = 50;

/// A host, with the port of its TLS endpoint if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    name: String,
    https: Option<u16>,
}

impl Host {
    /// A host that is served on the default ports.
    pub(super) fn served(name: &str, https: bool) -> Self {
        Host { name: name.to_ascii_lowercase(), https: https.then_some(443) }
    }

    /// The host of a URL. `None` for an address.
    pub(super) fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        if authority.starts_with('[') {
            return None;
        }
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (authority, if scheme == "https" { 443 } else { 80 }),
        };
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        let is_host = !name.is_empty() && !is_address;
        is_host.then(|| Host { name: name.to_ascii_lowercase(), https: (scheme == "https").then_some(port) })
    }
}

/// The hosts, each once.
#[derive(Debug, Default)]
pub(super) struct Hosts(BTreeMap<String, Vec<u16>>);

impl Hosts {
    pub(super) fn add(&mut self, host: impl Into<Option<Host>>) {
        let Some(Host { name, https }) = host.into() else { return };
        if self.0.len() >= HOSTS && !self.0.contains_key(&name) {
            return;
        }
        let ports = self.0.entry(name).or_default();
        ports.extend(https.filter(|port| !ports.contains(port)));
    }

    /// The selected rows of all hosts.
    pub(super) async fn check(&self, selection: &Selection, time: &TimeSource) -> Vec<Verified> {
        let dns = self.0.keys().filter(|_| selection.has(CheckKind::Dns)).map(|name| resolve(name));
        let mut rows = join_all(dns).await;
        if selection.has(CheckKind::Tls) {
            let all = self.0.iter().flat_map(|(name, ports)| ports.iter().map(move |port| (name, *port)));
            rows.extend(join_all(all.map(|(name, port)| handshake(name, port, time))).await);
        }
        rows
    }
}

/// Whether a host name resolves.
async fn resolve(name: &str) -> Verified {
    let (result, detail) = match timeout(TIMEOUT, tokio::net::lookup_host((name, 443))).await {
        Ok(Ok(found)) => addresses(found),
        Ok(Err(error)) => unresolved(&error),
        Err(_) => (CheckResult::Unknown, format!("no answer within {TIMEOUT:?}")),
    };
    Verified::new(name, CheckKind::Dns, result, detail)
}

fn addresses(found: impl Iterator<Item = SocketAddr>) -> (CheckResult, String) {
    let mut found: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    found.sort();
    found.dedup();
    let more = found.len().saturating_sub(ADDRESSES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    found.truncate(ADDRESSES);
    if found.is_empty() {
        return (CheckResult::Fail, "it has no address".to_owned());
    }
    (CheckResult::Pass, format!("{}{more}", found.join(", ")))
}

/// What the resolvers of glibc, musl, macOS and Windows report for a name that does not exist, or has no address. Everything
/// else, such as a name server that cannot be reached, is unknown.
const NO_SUCH_NAME: [&str; 6] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided, or not known",
    "No such host is known",
];

fn unresolved(error: &io::Error) -> (CheckResult, String) {
    let message = error.to_string();
    if NO_SUCH_NAME.iter().any(|known| message.contains(known)) {
        return (CheckResult::Fail, "the name does not resolve".to_owned());
    }
    (CheckResult::Unknown, format!("cannot be resolved now: {}", text::single_line(&message)))
}

/// Whether a TLS handshake succeeds, and until when the certificate is valid.
async fn handshake(name: &str, port: u16, time: &TimeSource) -> Verified {
    let target = if port == 443 { name.to_owned() } else { format!("{name}:{port}") };
    let (result, detail) = match timeout(TIMEOUT, connect(name, port, time)).await {
        Ok(Ok(detail)) => (CheckResult::Pass, detail),
        Ok(Err(error)) => judge(&error),
        Err(_) => (CheckResult::Unknown, format!("no answer within {TIMEOUT:?}")),
    };
    Verified::new(target, CheckKind::Tls, result, detail)
}

async fn connect(name: &str, port: u16, time: &TimeSource) -> Result<String, io::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PlatformVerifier::new(Arc::clone(&provider)).map_err(io::Error::other)?);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let socket = TcpStream::connect((name, port)).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(server.clone(), socket).await?;
    let (_, connection) = stream.get_ref();
    let Some((own, others)) = connection.peer_certificates().and_then(|chain| chain.split_first()) else {
        return Ok(String::new());
    };
    let now = time.now();
    let later = UnixTime::since_unix_epoch(seconds(now).saturating_add(LATER));
    let expired = verifier.verify_server_cert(own, others, &server, &[], later);
    let until = match expired {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            i64::try_from(not_after.as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok())
        }
        Ok(_) | Err(_) => None,
    };
    Ok(until.map_or_else(String::new, |until| valid_until(now, until)))
}

fn seconds(now: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0))
}

fn valid_until(now: Timestamp, until: Timestamp) -> String {
    let left: SignedDuration = until.duration_since(now);
    let days = left.as_hours() / 24;
    let word = if days == 1 { "day" } else { "days" };
    format!("valid until {} ({days} {word})", until.to_zoned(TimeZone::UTC).date())
}

/// What TLS itself reports is a failure: an invalid certificate, no common protocol, a server that does not speak TLS. A
/// connection that fails is unknown, as for an HTTP check.
fn judge(error: &io::Error) -> (CheckResult, String) {
    let mut cause: Option<&(dyn StdError + 'static)> = error.get_ref().map(|cause| cause as _);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return match tls {
                // The roots of this machine cannot be read.
                rustls::Error::General(_) => (CheckResult::Unknown, text::single_line(&tls.to_string())),
                tls => (CheckResult::Fail, text::single_line(&tls.to_string())),
            };
        }
        cause = error.source();
    }
    (CheckResult::Unknown, text::single_line(&chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_host_of_a_url_but_not_an_address() {
        let host = |name: &str, https| Some(Host { name: name.to_owned(), https });
        for (url, expected) in [
            ("https://Shop.example.com/readyz?x=1", host("shop.example.com", Some(443))),
            ("https://shop.example.com:8443", host("shop.example.com", Some(8443))),
            ("http://shop.example.com:8080/", host("shop.example.com", None)),
            ("http://127.0.0.1:8080/", None),
            ("https://[::1]/", None),
            ("shop.example.com", None),
        ] {
            assert_eq!(Host::of(url), expected, "{url}");
        }
        let mut hosts = Hosts::default();
        for url in
            ["https://a.example.com/x", "https://a.example.com/y", "https://a.example.com:1/", "http://b"]
        {
            hosts.add(Host::of(url));
        }
        assert_eq!(
            hosts.0.into_iter().collect::<Vec<_>>(),
            [("a.example.com".into(), vec![443, 1]), ("b".into(), vec![])]
        );
    }

    #[test]
    fn the_number_of_hosts_is_limited() {
        let mut hosts = Hosts::default();
        (0..1000).for_each(|n| hosts.add(Host::served(&format!("h{n}.example.com"), true)));
        assert_eq!(hosts.0.len(), HOSTS);
    }

    #[test]
    fn only_a_name_that_does_not_exist_is_a_failure() {
        let of = |text: &str| {
            unresolved(&io::Error::other(format!("failed to lookup address information: {text}"))).0
        };
        for text in NO_SUCH_NAME {
            assert_eq!(of(text), CheckResult::Fail, "{text}");
        }
        for text in
            ["Temporary failure in name resolution", "Try again", "System error", "a text of another libc"]
        {
            assert_eq!(of(text), CheckResult::Unknown, "{text}");
        }
        assert_eq!(addresses(std::iter::empty()).0, CheckResult::Fail);
    }

    #[test]
    fn tls_errors_are_failures_and_failed_connections_are_unknown() {
        let tls = |error: rustls::Error| judge(&io::Error::new(io::ErrorKind::InvalidData, error)).0;
        assert_eq!(
            tls(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            CheckResult::Fail
        );
        assert_eq!(tls(rustls::Error::HandshakeNotComplete), CheckResult::Fail);
        assert_eq!(tls(rustls::Error::General("no roots".into())), CheckResult::Unknown);
        for kind in
            [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof]
        {
            assert_eq!(judge(&io::Error::from(kind)).0, CheckResult::Unknown, "{kind:?}");
        }
    }

    #[test]
    fn shows_the_last_day_of_a_certificate() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let shown = valid_until(at("2026-11-29T12:00:00Z"), at("2027-02-03T23:59:59Z"));
        assert_eq!(shown, "valid until 2027-02-03 (66 days)");
    }
}
