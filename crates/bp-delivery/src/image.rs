//! Wait for an image to appear in a registry.

use std::time::Duration;

use bp_artifact::{
    ImageRef, ResolvedImage,
    error::chain,
    resolve::{Missed, Resolve, ResolveError, wait_for_with},
    time::{Wait, WaitError},
};

/// The interval between requests to the registry.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The interval between progress messages.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// The deadline and poll interval for [`wait_for_image`].
///
/// # Errors
/// When `timeout` is zero.
pub fn image_wait(timeout: Duration) -> Result<Wait, WaitError> {
    Wait::new(timeout, POLL_INTERVAL)
}

/// Resolves `image`, polling until it exists. `say` receives a line after the first attempt that does not find it, then
/// one every 30 seconds.
///
/// # Errors
/// When the image does not appear in time (unavailable), the registry cannot be reached, or a retry cannot succeed:
/// invalid credentials end the wait immediately.
///
/// # Permissions
/// Those of the resolver: on Amazon ECR `ecr:BatchGetImage`, for tags also `ecr:DescribePullThroughCacheRules`.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn wait_for_image(
    resolver: &dyn Resolve,
    image: &ImageRef,
    wait: Wait,
    mut say: impl FnMut(String),
) -> Result<ResolvedImage, ResolveError> {
    let mut reported = None;
    let missed = |missed: Missed<'_>| match reported {
        None => {
            reported = Some(missed.waited);
            let why = missed.error.map_or_else(String::new, |error| format!(": {}", chain(error)));
            say(format!("waiting up to {:?} for {image}{why}", wait.deadline()));
        }
        Some(at) if missed.waited.saturating_sub(at) >= REPORT_INTERVAL => {
            reported = Some(missed.waited);
            let waited = Duration::from_secs(missed.waited.as_secs());
            say(format!("still waiting for {image} ({waited:?}, {} attempts)", missed.attempts));
        }
        Some(_) => {}
    };
    wait_for_with(resolver, image, wait, missed).await
}

/// Confirms that an already resolved image exists, without reading its manifests again.
#[cfg(feature = "cli")]
pub(crate) struct ConfirmExisting<'a> {
    pub(crate) resolver: &'a dyn Resolve,
    pub(crate) known: ResolvedImage,
}

#[cfg(feature = "cli")]
impl Resolve for ConfirmExisting<'_> {
    fn resolve<'a>(
        &'a self,
        _: &'a ImageRef,
    ) -> futures_util::future::BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        Box::pin(async { self.resolver.confirm(&self.known.reference).await.map(|()| self.known.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use bp_artifact::error::Classified;

    use super::*;

    /// Never finds the image, or fails for lack of credentials.
    struct MissingImage {
        credentials: bool,
    }

    impl Resolve for MissingImage {
        fn resolve<'a>(
            &'a self,
            image: &'a ImageRef,
        ) -> Pin<Box<dyn Future<Output = Result<ResolvedImage, ResolveError>> + Send + 'a>> {
            let error = if self.credentials {
                ResolveError::ImageNotFound { image: image.clone(), request_id: None }
            } else {
                let repository = image.repository().clone();
                ResolveError::NoCredentials { repository, source: "expired".into() }
            };
            Box::pin(async { Err(error) })
        }
    }

    async fn wait(credentials: bool) -> (ResolveError, Vec<String>, Duration) {
        let start = tokio::time::Instant::now();
        let image = "r.example.com/web:1".parse().unwrap();
        let mut lines = Vec::new();
        let wait = image_wait(Duration::from_secs(100)).unwrap();
        let end = wait_for_image(&MissingImage { credentials }, &image, wait, |line| lines.push(line)).await;
        (end.unwrap_err(), lines, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn reports_the_wait_at_its_start_and_every_30_seconds() {
        let (error, lines, took) = wait(true).await;
        assert!(
            matches!(error, ResolveError::NotInTime { .. })
                && error.class() == bp_artifact::error::ErrorClass::Unavailable
        );
        assert_eq!((took, lines.len()), (Duration::from_secs(100), 4), "{lines:?}");
        assert!(
            lines[0].starts_with("waiting up to 100s for r.example.com/web:1: ")
                && lines[0].contains("does not exist"),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("still waiting for r.example.com/web:1 (3"), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn invalid_credentials_end_the_wait_immediately() {
        let (error, lines, took) = wait(false).await;
        assert!(matches!(error, ResolveError::NoCredentials { .. }));
        assert_eq!((took, lines.len()), (Duration::ZERO, 0));
    }
}
