//! Whether the image is in the environment's registry, and can be pulled.

use bp_artifact::{
    ResolvedImage,
    check::{CheckKind, CheckResult, Verified},
    error::{Classified, chain},
    resolve::ResolveError,
};

use super::row::TIMEOUT;
use crate::Delivery;

/// By the request with which an image is pulled, which an archived one does not answer. Retention rules do not matter: a
/// preflight check evaluates them before a deployment.
pub(super) async fn row(delivery: &Delivery, image: &ResolvedImage) -> Verified {
    let reference = &image.reference;
    let subject = format!("{}@{:.19}", reference.repository().path(), reference.digest().as_str());
    let new = |result, detail: String| Verified::new(&subject, CheckKind::Image, result, detail);
    let resolver = match delivery.clients.resolver(reference.repository().registry()) {
        Ok(resolver) => resolver,
        Err(failure) => return new(CheckResult::Unknown, failure.to_string()),
    };
    match tokio::time::timeout(TIMEOUT, resolver.confirm(reference)).await {
        Ok(found) => {
            let (result, detail) = judge(found, delivery.environment.name.as_str());
            new(result, detail)
        }
        Err(_) => new(CheckResult::Unknown, format!("no answer within {TIMEOUT:?}")),
    }
}

fn judge(found: Result<(), ResolveError>, environment: &str) -> (CheckResult, String) {
    match found {
        Ok(()) => (CheckResult::Pass, String::new()),
        Err(error) if error.is_not_found() => {
            let hint = format!("if it was not promoted, run promote --to {environment}");
            (CheckResult::Fail, format!("{}; {hint}", chain(&error)))
        }
        Err(error @ ResolveError::Archived { .. }) => (CheckResult::Fail, chain(&error)),
        Err(error) => {
            let retry = if error.is_retryable() { "; retry later" } else { "" };
            (CheckResult::Unknown, format!("{}{retry}", chain(&error)))
        }
    }
}

#[cfg(test)]
mod tests {
    use bp_artifact::ImageRef;

    use super::*;

    #[test]
    fn only_an_image_that_is_known_to_be_missing_or_archived_fails() {
        let image: ImageRef = "r.example.com/web:1".parse().unwrap();
        let repository = image.repository().clone();
        for (found, result) in [
            (Ok(()), CheckResult::Pass),
            (Err(ResolveError::ImageNotFound { image: image.clone(), request_id: None }), CheckResult::Fail),
            (Err(ResolveError::Archived { image: image.clone(), restoring: true }), CheckResult::Fail),
            (
                Err(ResolveError::Unavailable { repository, request_id: None, source: "reset".into() }),
                CheckResult::Unknown,
            ),
        ] {
            let shown = format!("{found:?}");
            assert_eq!(judge(found, "prod").0, result, "{shown}");
        }
    }
}
