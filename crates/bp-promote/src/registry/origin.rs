//! Origins of credentials: decides which URLs may receive `Authorization`.
//!
//! Most request URLs were returned by a registry: redirects, the `Location` of an upload, the `Link` to the next page,
//! the realm of a challenge. The login is sent to such a URL only if its origin permits it.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::endpoints::Endpoints;

/// The scheme, host and port of a registry or token service that credentials may be sent to.
#[derive(Debug, Clone)]
pub(super) struct Origin(Url);

impl Origin {
    /// The origin of `url`.
    pub(super) fn of(url: &Url) -> Self {
        Origin(url.clone())
    }

    /// Whether a request to `url` may include the credentials of this origin.
    pub(super) fn admits(&self, url: &Url) -> bool {
        self.0.origin() == url.origin()
    }

    /// Parses a URL that a server of this origin returned for a request to `from`.
    ///
    /// A server behind a TLS-terminating proxy may return `http://` URLs with its own host. Such a URL is changed to
    /// `https://`: nothing is sent in clear text.
    pub(super) fn read(&self, text: &str, from: &Url, endpoints: &Endpoints) -> Result<Url, &'static str> {
        let url = from.join(text).map_err(|_| "is not a valid URL")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("is not an HTTP URL");
        }
        let user = |url: &Url| (url.username().to_owned(), url.password().map(str::to_owned));
        if user(&url) != user(from) && user(&url) != (String::new(), None) {
            return Err("contains a user name or password");
        }
        Ok(self.secured(endpoints.redirected(url)))
    }

    fn secured(&self, mut url: Url) -> Url {
        let is_own = (self.0.scheme(), url.scheme()) == ("https", "http")
            && self.0.host() == url.host()
            && (url.port().is_none() || url.port() == self.0.port_or_known_default());
        if is_own && url.set_scheme("https").is_ok() && url.set_port(self.0.port()).is_ok() {
            debug_assert!(self.admits(&url), "the host was compared");
        }
        url
    }

    /// The URL of the token service in a challenge of this registry, if the login may be sent there.
    ///
    /// It may be on another host, such as `auth.docker.io`. But whoever controls a registry's responses must not
    /// receive the login in clear text, nor have it sent to a service on this machine or its network.
    pub(super) fn realm(&self, text: &str, endpoints: &Endpoints) -> Result<Url, String> {
        let url = self
            .read(text, &self.0, endpoints)
            .map_err(|reason| format!("the realm of its challenge {reason}"))?;
        let invalid = |reason| {
            Err(format!(
                "the realm {} of its challenge {reason}, although the registry is not",
                origin_of(&url)
            ))
        };
        if self.0.scheme() == "https" && url.scheme() == "http" {
            invalid("is plain HTTP")
        } else if is_local(&url) && !is_local(&self.0) {
            invalid("is on a loopback or link-local address")
        } else {
            Ok(url)
        }
    }
}

/// `https://host:port` for messages, without user name, path and query, which may contain secrets.
pub(super) fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether the host is this machine or on its link-local network, where services provide workload credentials
/// (169.254.169.254, 169.254.170.2, fd00:ec2::254).
fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => is_local_v4(address),
        Some(Host::Ipv6(address)) => is_local_v6(address),
        None => false,
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is this host on most systems.
    address.is_loopback() || address.is_link_local() || address.octets()[0] == 0
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded =
        matches!([a, b, c, d, e], [0, 0, 0, 0, 0] | [0x64, 0xff9b, 0, 0, 0]) && matches!(f, 0 | 0xffff);
    let [[g, i], [h, j]] = [g.to_be_bytes(), h.to_be_bytes()];
    // `::` and `::1` have the form of an embedded 0.0.0.0/8.
    embedded && is_local_v4(Ipv4Addr::new(g, i, h, j))
        || address.is_unicast_link_local()
        || [a, b] == [0xfd00, 0xec2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn compares_scheme_host_and_port_in_any_spelling() {
        let own = Origin::of(&url("https://registry.example.com/"));
        for same in ["https://registry.example.com/v2/", "HTTPS://Registry.EXAMPLE.com:443/a?b"] {
            assert!(own.admits(&url(same)), "{same}");
        }
        for other in [
            "http://registry.example.com/",
            "https://registry.example.com:444/",
            "https://registry.example.com./",
            "https://registry.example.com.example.net/",
            "https://registry.example.com@example.net/",
            "https://example.com/",
        ] {
            assert!(!own.admits(&url(other)), "{other}");
        }
        let own = Origin::of(&url("https://[2001:DB8:0::1]:5000/"));
        assert!(own.admits(&url("https://[2001:db8::1]:5000/x")));
        assert!(!own.admits(&url("https://[2001:db8::1]/x")));
    }

    #[test]
    fn upgrades_plain_http_urls_of_its_own_host() {
        let endpoints = Endpoints::default();
        let read = |base: &str, text: &str| {
            let base = url(base);
            Origin::of(&base).read(text, &base, &endpoints).map(|url| url.to_string())
        };
        for (base, text, read_as) in [
            ("https://r.example.com/", "http://r.example.com/u?a=b", "https://r.example.com/u?a=b"),
            ("https://r.example.com:5000/", "http://R.example.com:5000/u", "https://r.example.com:5000/u"),
            ("https://r.example.com:5000/", "http://r.example.com/u", "https://r.example.com:5000/u"),
            ("https://r.example.com/", "http://r.example.com:8080/u", "http://r.example.com:8080/u"),
            ("https://r.example.com/", "http://other.example.com/u", "http://other.example.com/u"),
            ("http://r.example.com/", "https://r.example.com/u", "https://r.example.com/u"),
        ] {
            assert_eq!(read(base, text).as_deref(), Ok(read_as), "{base} {text}");
        }
        for invalid in
            ["https://u:p@r.example.com/", "//u@r.example.com/", "ftp://r.example.com/", "https://["]
        {
            assert!(read("https://r.example.com/", invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn detects_local_addresses_in_every_spelling() {
        for local in [
            "localhost",
            "a.b.localhost",
            "LOCALHOST.",
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "017700000001",
            "0",
            "169.254.170.2",
            "[::1]",
            "[::]",
            "[::127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::127.0.0.1]",
            "[fe80::1]",
            "[febf::1]",
            "[fd00:ec2::254]",
        ] {
            assert!(is_local(&url(&format!("https://{local}/"))), "{local}");
        }
        for other in [
            "localhost.example.com",
            "example.com",
            "10.0.0.1",
            "192.168.0.1",
            "128.0.0.1",
            "[2001:db8::1]",
            "[fec0::1]",
            "[fd00::1]",
            "[64:ff9b::8.8.8.8]",
        ] {
            assert!(!is_local(&url(&format!("https://{other}/"))), "{other}");
        }
    }
}
