//! Waiting for an image to appear.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Resolve, ResolveError};
use crate::{
    error::Classified,
    image::ResolvedImage,
    reference::ImageRef,
    time::{self, Wait},
};

/// Resolves `image`, waiting until it exists.
///
/// One successful attempt is enough: right after a push a registry may know an image, then not, then know it again. While it
/// waits, a missing image, a missing repository (it may be created by the push) and a registry that cannot be asked
/// are reasons to try again; what waiting does not correct, such as denied access, ends the wait.
///
/// # Errors
/// [`ResolveError::NotInTime`] when the deadline passes and the image is missing; the last error when the registry
/// could not be asked; else the error that ended the wait.
///
/// # Permissions
/// Those of the resolver.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn wait_for(
    resolver: &(impl Resolve + ?Sized),
    image: &ImageRef,
    wait: Wait,
) -> Result<ResolvedImage, ResolveError> {
    wait_for_with(resolver, image, wait, |_| {}).await
}

/// An attempt of [`wait_for_with`] that did not find the image; another one follows.
#[derive(Debug)]
#[non_exhaustive]
pub struct Missed<'a> {
    /// How many attempts there were.
    pub attempts: u32,
    /// How long it has been waited so far.
    pub waited: Duration,
    /// What the attempt found. `None` when it had no answer by the deadline.
    pub error: Option<&'a ResolveError>,
}

/// As [`wait_for`]; calls `missed` after every attempt that is followed by another one.
///
/// # Errors
/// As [`wait_for`].
///
/// # Permissions
/// Those of the resolver.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn wait_for_with(
    resolver: &(impl Resolve + ?Sized),
    image: &ImageRef,
    wait: Wait,
    mut missed: impl FnMut(Missed<'_>),
) -> Result<ResolvedImage, ResolveError> {
    let start = Instant::now();
    let deadline = time::deadline(wait.deadline());
    let mut looks = 0;
    let mut last = None;
    loop {
        looks += 1;
        match timeout_at(deadline, resolver.resolve(image)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) if error.is_not_found() || error.is_retryable() => {
                tracing::debug!(%image, looks, %error, "image not found yet, polling again");
                last = Some(error);
            }
            Ok(Err(error)) => return Err(error),
            // An attempt that hangs until the deadline says nothing.
            Err(_) => {}
        }
        let next = time::deadline(wait.pause());
        if next >= deadline {
            sleep_until(deadline).await;
            return Err(match last {
                Some(error) if !error.is_not_found() => error,
                last => ResolveError::NotInTime {
                    image: image.clone(),
                    waited: start.elapsed(),
                    looks,
                    last: last.map(Box::new),
                },
            });
        }
        missed(Missed { attempts: looks, waited: start.elapsed(), error: last.as_ref() });
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_core::future::BoxFuture;

    use super::*;
    use crate::{digest::Digest, error::ErrorClass};

    #[derive(Clone, Copy)]
    enum Look {
        Found,
        Missing,
        NoRepository,
        Down,
        Denied,
        Hangs,
    }

    /// Answers in order; the last answer for ever.
    struct Script(Mutex<Vec<Look>>);

    impl Resolve for Script {
        fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
            let mut looks = self.0.lock().unwrap();
            let look = if looks.len() > 1 { looks.remove(0) } else { looks[0] };
            let (image, repository) = (image.clone(), image.repository().clone());
            Box::pin(async move {
                match look {
                    Look::Found => Ok(repository.at(Digest::sha256("x")).into()),
                    Look::Missing => Err(ResolveError::ImageNotFound { image, request_id: None }),
                    Look::NoRepository => {
                        Err(ResolveError::RepositoryNotFound { repository, request_id: None })
                    }
                    Look::Down => {
                        Err(ResolveError::Unavailable { repository, request_id: None, source: "503".into() })
                    }
                    Look::Denied => Err(ResolveError::AccessDenied {
                        repository,
                        permission: "ecr:BatchGetImage".into(),
                        request_id: None,
                        source: None,
                    }),
                    Look::Hangs => std::future::pending().await,
                }
            })
        }
    }

    async fn wait(looks: &[Look]) -> (Result<ResolvedImage, ResolveError>, Duration) {
        let script = Script(Mutex::new(looks.to_vec()));
        let image = "r.example.com/web:1".parse().unwrap();
        let start = Instant::now();
        let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(2)).unwrap();
        (wait_for(&script, &image, wait).await, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn looks_at_once_and_then_in_its_cadence() {
        assert_eq!(wait(&[Look::Found]).await.1, Duration::ZERO);
        let (found, took) = wait(&[Look::NoRepository, Look::Missing, Look::Down, Look::Found]).await;
        assert!(found.is_ok());
        assert!((4800..=7300).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn tells_how_long_and_how_often_it_looked() {
        let (error, took) = wait(&[Look::Missing]).await;
        let error = error.unwrap_err();
        assert_eq!(took, Duration::from_secs(60));
        let ResolveError::NotInTime { looks, .. } = &error else { panic!("{error}") };
        assert!((25..=38).contains(looks), "{looks}");
        let text = error.to_string();
        assert!(text.starts_with("image r.example.com/web:1 not found after 60 s ("), "{text}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn notifies_of_attempts_that_are_followed_by_another() {
        let script = Script(Mutex::new(vec![Look::NoRepository, Look::Missing, Look::Found]));
        let image = "r.example.com/web:1".parse().unwrap();
        let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(2)).unwrap();
        let mut seen = Vec::new();
        let found = wait_for_with(&script, &image, wait, |missed| {
            seen.push((missed.attempts, missed.error.unwrap().to_string()));
        });
        assert!(found.await.is_ok());
        assert!(
            matches!(&seen[..], [(1, first), (2, second)] if first.contains("repository") && second.contains("image")),
            "{seen:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_may_be_as_long_as_a_duration_can_be() {
        let script = Script(Mutex::new(vec![Look::Missing, Look::Found]));
        let image = "r.example.com/web:1".parse().unwrap();
        for cadence in [Duration::from_secs(2), Duration::MAX] {
            assert!(wait_for(&script, &image, Wait::new(Duration::MAX, cadence).unwrap()).await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_waiting_mends_ends_it() {
        let (error, took) = wait(&[Look::Missing, Look::Denied, Look::Found]).await;
        assert!(matches!(error, Err(ResolveError::AccessDenied { .. })));
        assert!(took < Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_ends_at_the_deadline() {
        let (error, took) = wait(&[Look::Missing, Look::Hangs]).await;
        assert!(matches!(error, Err(ResolveError::NotInTime { looks: 2, .. })));
        assert_eq!(took, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_registry_is_not_called_a_missing_image() {
        let (error, _) = wait(&[Look::Down]).await;
        assert!(matches!(error, Err(ResolveError::Unavailable { .. })));
    }
}
