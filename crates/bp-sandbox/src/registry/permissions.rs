//! The IAM actions that Amazon ECR requires for requests of the registry API.

use http::{Method, request};

use super::route::Route;
use crate::ledger::Permission;

/// The permissions of a request to a registry with a host name of Amazon ECR; none for other registries.
pub(super) fn of(host: &str, parts: &request::Parts) -> Vec<Permission> {
    let Some((account, rest)) = host.split_once(".dkr.ecr.") else { return Vec::new() };
    let region = rest.split('.').next().unwrap_or(rest);
    let (name, actions): (&str, &[&str]) = match (Route::read(parts.uri.path()), &parts.method) {
        // A referrers listing requires the permission to read the images.
        (Some(Route::Manifest { name, .. }), &Method::GET | &Method::HEAD)
        | (Some(Route::Referrers { name, .. }), _) => (name, &["BatchGetImage"]),
        (Some(Route::Manifest { name, .. }), &Method::DELETE) => (name, &["BatchDeleteImage"]),
        (Some(Route::Manifest { name, .. }), _) => (name, &["PutImage"]),
        (Some(Route::Blob { name, .. }), &Method::HEAD) => (name, &["BatchCheckLayerAvailability"]),
        (Some(Route::Blob { name, .. }), _) => (name, &["GetDownloadUrlForLayer"]),
        (Some(Route::Uploads { name }), _) => (name, &["InitiateLayerUpload"]),
        // The last request of an upload may contain the rest of the layer.
        (Some(Route::Upload { name, .. }), &Method::PUT) => {
            (name, &["UploadLayerPart", "CompleteLayerUpload"])
        }
        (Some(Route::Upload { name, .. }), _) => (name, &["UploadLayerPart"]),
        (Some(Route::Tags { name }), _) => (name, &["ListImages"]),
        (Some(Route::Base | Route::Token | Route::Catalog) | None, _) => return Vec::new(),
    };
    let resource = format!("arn:aws:ecr:{region}:{account}:repository/{name}");
    actions.iter().map(|action| Permission::new(format!("ecr:{action}"), resource.clone())).collect()
}
