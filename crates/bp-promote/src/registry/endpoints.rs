//! Base URLs of registries, and overrides of them.

use std::{borrow::Cow, collections::HashMap};

use bp_artifact::{Registry, Repository};
use url::Url;

/// Overrides of the base URL `https://<host>`, by host.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoints {
    table: HashMap<String, Url>,
}

impl Endpoints {
    pub(super) fn insert(&mut self, registry: &Registry, base: Url) {
        self.table.insert(registry.as_str().to_ascii_lowercase(), base);
    }

    /// The base URL of a registry: an override, or plain HTTP for loopback, HTTPS for all others.
    pub(super) fn base(&self, registry: &Registry) -> Url {
        if let Some(base) = self.table.get(&registry.as_str().to_ascii_lowercase()) {
            return base.clone();
        }
        // Docker Hub's registry has another host name than its image references.
        let host = if is_docker_hub(registry.as_str()) { "registry-1.docker.io" } else { registry.as_str() };
        let scheme = if is_loopback(registry.host()) { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{host}/")).expect("a Registry is the valid host of a URL")
    }

    /// Applies the overrides to a URL that a registry returned.
    pub(super) fn redirected(&self, mut url: Url) -> Url {
        let Some(host) = url.host_str() else { return url };
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        if let Some(base) = self.table.get(&host) {
            let same = url.set_scheme(base.scheme()).is_ok()
                && url.set_host(base.host_str()).is_ok()
                && url.set_port(base.port()).is_ok();
            debug_assert!(same, "both are HTTP");
        }
        url
    }
}

/// Whether it is one of the names of Docker Hub.
pub(super) fn is_docker_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// The path of a repository in requests. On Docker Hub, repositories without a namespace are in `library`.
pub(super) fn request_path(repository: &Repository) -> Cow<'_, str> {
    let path = repository.path();
    if is_docker_hub(repository.registry().as_str()) && !path.contains('/') {
        Cow::Owned(format!("library/{path}"))
    } else {
        Cow::Borrowed(path)
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_uses_plain_http() {
        let base = |host: &str| Endpoints::default().base(&host.parse().unwrap()).to_string();
        assert_eq!(base("localhost:5000"), "http://localhost:5000/");
        assert_eq!(base("127.0.0.1:5000"), "http://127.0.0.1:5000/");
        assert_eq!(base("[::1]:5000"), "http://[::1]:5000/");
        assert_eq!(base("registry.example.com"), "https://registry.example.com/");
        assert_eq!(base("docker.io"), "https://registry-1.docker.io/");
    }

    #[test]
    fn adds_the_namespace_of_official_images_on_docker_hub() {
        for (repository, path) in [
            ("docker.io/nginx", "library/nginx"),
            ("registry-1.docker.io/nginx", "library/nginx"),
            ("docker.io/library/nginx", "library/nginx"),
            ("docker.io/shop/web", "shop/web"),
            ("registry.example.com/nginx", "nginx"),
        ] {
            assert_eq!(request_path(&repository.parse().unwrap()), path, "{repository}");
        }
    }

    #[test]
    fn overrides_apply_to_redirects() {
        let mut endpoints = Endpoints::default();
        let registry = "r.example.com".parse().unwrap();
        endpoints.insert(&registry, Url::parse("http://127.0.0.1:4000").unwrap());
        assert_eq!(endpoints.base(&registry).as_str(), "http://127.0.0.1:4000/");
        let url = Url::parse("https://r.example.com/a?b=c").unwrap();
        assert_eq!(endpoints.redirected(url).as_str(), "http://127.0.0.1:4000/a?b=c");
    }
}
