//! Wait until an image exists in a registry.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Resolve, ResolveError};
use crate::{
    error::Classified,
    image::ResolvedImage,
    reference::ImageRef,
    text::SingleLine,
    time::{self, Wait},
};

/// Resolves `image`, waiting until it exists.
///
/// One successful attempt is enough: right after a push a registry may be inconsistent. A missing image, a missing
/// repository (the push may create it) and an unavailable registry are retried; an error that waiting does not fix,
/// such as denied access, ends the wait.
///
/// # Errors
/// [`ResolveError::NotInTime`] when the deadline passes and the image is missing; the last error when the registry was
/// unavailable; else the error that ended the wait.
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
    /// The number of attempts so far.
    pub attempts: u32,
    /// The time waited so far.
    pub waited: Duration,
    /// The error of the attempt. `None` when it did not complete by the deadline.
    pub error: Option<&'a ResolveError>,
}

/// As [`wait_for`], and calls `missed` after every failed attempt that is followed by another one.
///
/// # Errors
/// As [`wait_for`].
///
/// # Permissions
/// Those of the resolver.
///
/// # Cancel safety
/// Cancel safe: reads only.
#[tracing::instrument(name = "wait_for_image", skip_all, fields(%image))]
pub async fn wait_for_with(
    resolver: &(impl Resolve + ?Sized),
    image: &ImageRef,
    wait: Wait,
    mut missed: impl FnMut(Missed<'_>),
) -> Result<ResolvedImage, ResolveError> {
    let start = Instant::now();
    let deadline = time::deadline(wait.deadline());
    let mut attempts = 0_u32;
    let mut last = None;
    loop {
        attempts = attempts.saturating_add(1);
        match timeout_at(deadline, resolver.resolve(image)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) if error.is_not_found() || error.is_retryable() => {
                tracing::debug!(attempts, error = %SingleLine(&error), "image not found yet, polling again");
                last = Some(error);
            }
            Ok(Err(error)) => return Err(error),
            // The attempt did not complete by the deadline.
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
                    attempts,
                    last: last.map(Box::new),
                },
            });
        }
        missed(Missed { attempts, waited: start.elapsed(), error: last.as_ref() });
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
    enum Answer {
        Found,
        Missing,
        NoRepository,
        Down,
        Denied,
        Hangs,
    }

    /// Answers in order, and repeats the last answer.
    struct Script(Mutex<Vec<Answer>>);

    impl Resolve for Script {
        fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
            let (image, repository) = (image.clone(), image.repository().clone());
            Box::pin(async move {
                match answer {
                    Answer::Found => Ok(repository.at(Digest::sha256("x")).into()),
                    Answer::Missing => Err(ResolveError::ImageNotFound { image, request_id: None }),
                    Answer::NoRepository => {
                        Err(ResolveError::RepositoryNotFound { repository, request_id: None })
                    }
                    Answer::Down => {
                        Err(ResolveError::Unavailable { repository, request_id: None, source: "503".into() })
                    }
                    Answer::Denied => Err(ResolveError::AccessDenied {
                        repository,
                        permission: "ecr:BatchGetImage".into(),
                        request_id: None,
                        source: None,
                    }),
                    Answer::Hangs => std::future::pending().await,
                }
            })
        }
    }

    async fn wait(answers: &[Answer]) -> (Result<ResolvedImage, ResolveError>, Duration) {
        let script = Script(Mutex::new(answers.to_vec()));
        let image = "r.example.com/web:1".parse().unwrap();
        let start = Instant::now();
        let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(2)).unwrap();
        (wait_for(&script, &image, wait).await, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn polls_at_once_and_then_at_the_interval() {
        assert_eq!(wait(&[Answer::Found]).await.1, Duration::ZERO);
        let (found, took) = wait(&[Answer::NoRepository, Answer::Missing, Answer::Down, Answer::Found]).await;
        assert!(found.is_ok());
        assert!((4800..=7300).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn reports_the_time_and_the_number_of_attempts() {
        let (error, took) = wait(&[Answer::Missing]).await;
        let error = error.unwrap_err();
        assert_eq!(took, Duration::from_secs(60));
        let ResolveError::NotInTime { attempts, .. } = &error else { panic!("{error}") };
        assert!((25..=38).contains(attempts), "{attempts}");
        let text = error.to_string();
        assert!(text.starts_with("image r.example.com/web:1 not found after 60 s ("), "{text}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn reports_attempts_that_are_followed_by_another() {
        let script = Script(Mutex::new(vec![Answer::NoRepository, Answer::Missing, Answer::Found]));
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
    async fn accepts_the_longest_duration() {
        let script = Script(Mutex::new(vec![Answer::Missing, Answer::Found]));
        let image = "r.example.com/web:1".parse().unwrap();
        for poll_interval in [Duration::from_secs(2), Duration::MAX] {
            assert!(
                wait_for(&script, &image, Wait::new(Duration::MAX, poll_interval).unwrap()).await.is_ok()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stops_at_an_error_that_is_not_retryable() {
        let (error, took) = wait(&[Answer::Missing, Answer::Denied, Answer::Found]).await;
        assert!(matches!(error, Err(ResolveError::AccessDenied { .. })));
        assert!(took < Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_ends_at_the_deadline() {
        let (error, took) = wait(&[Answer::Missing, Answer::Hangs]).await;
        assert!(matches!(error, Err(ResolveError::NotInTime { attempts: 2, .. })));
        assert_eq!(took, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_registry_is_not_reported_as_a_missing_image() {
        let (error, _) = wait(&[Answer::Down]).await;
        assert!(matches!(error, Err(ResolveError::Unavailable { .. })));
    }
}
