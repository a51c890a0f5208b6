//! Amazon ECR: the profile of its registries, and its own API.

#[cfg(feature = "ecr")]
mod archive;
#[cfg(feature = "ecr")]
mod clients;
#[cfg(feature = "ecr")]
mod layers;
#[cfg(feature = "ecr")]
mod parts;

use bp_artifact::Registry;
use http::Method;

#[cfg(feature = "ecr")]
pub use self::clients::EcrClients;
#[cfg(feature = "ecr")]
pub(super) use self::layers::LayerChecks;
use super::{
    challenge::Challenge,
    profile::{Quota, RegistryProfile},
};

/// The profile of Amazon ECR registries.
pub(super) fn profile(registry: &Registry) -> Option<RegistryProfile> {
    registry.ecr()?;
    Some(RegistryProfile {
        challenge: Some(Challenge::Basic),
        quotas: Some(quota),
        validates_references: true,
    })
}

/// The published default quotas per account and region, by the API action that a request counts as.
fn quota(method: &Method, path: &str) -> Option<Quota> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let (name, rate) = match *method {
        _ if path.contains("/blobs/uploads/") => match *method {
            Method::POST => ("InitiateLayerUpload", 100),
            Method::PATCH => ("UploadLayerPart", 500),
            Method::PUT => ("CompleteLayerUpload", 100),
            _ => return None,
        },
        Method::PUT if path.contains("/manifests/") => ("PutImage", 10),
        _ if reads && path.contains("/manifests/") => ("BatchGetImage", 2000),
        Method::HEAD if path.contains("/blobs/") => ("BatchCheckLayerAvailability", 1000),
        Method::GET if path.contains("/blobs/") => ("GetDownloadUrlForLayer", 3000),
        _ => return None,
    };
    Some(Quota { name, rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_requests_to_api_actions() {
        for (method, path, action) in [
            (Method::HEAD, "/v2/shop/web/manifests/v1", Some("BatchGetImage")),
            (Method::PUT, "/v2/shop/web/manifests/v1", Some("PutImage")),
            (Method::POST, "/v2/a/blobs/uploads/", Some("InitiateLayerUpload")),
            (Method::PUT, "/v2/a/blobs/uploads/…", Some("CompleteLayerUpload")),
            (Method::GET, "/v2/a/blobs/sha256:1", Some("GetDownloadUrlForLayer")),
            (Method::HEAD, "/v2/a/blobs/sha256:1", Some("BatchCheckLayerAvailability")),
            (Method::GET, "/v2/a/tags/list", None),
        ] {
            assert_eq!(quota(&method, path).map(|quota| quota.name), action, "{method} {path}");
        }
        assert_eq!(quota(&Method::PUT, "/v2/a/manifests/v1").map(|quota| quota.rate), Some(10));
    }

    #[test]
    fn applies_only_to_ecr_registries() {
        let known = |host: &str| profile(&host.parse().unwrap()).is_some();
        assert!(known("111111111111.dkr.ecr.eu-central-1.amazonaws.com"));
        assert!(!known("ghcr.io"));
    }
}
