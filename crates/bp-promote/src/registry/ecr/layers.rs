//! Batched layer checks in Amazon ECR.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aws_sdk_ecr::{Client, types::LayerAvailability};
use bp_artifact::{Digest, Repository, sync::lock, text::SingleLine};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use crate::store::RequestCounter;

/// Collects concurrent layer checks into one BatchCheckLayerAvailability call.
pub(in crate::registry) struct LayerChecks {
    client: Client,
    repository: Repository,
    waiting: Mutex<Vec<PendingCheck>>,
}

struct PendingCheck {
    digest: Digest,
    answer: oneshot::Sender<bool>,
}

impl LayerChecks {
    /// The maximum number of digests per call.
    const MAX_DIGESTS: usize = 100;
    /// How long the first check waits for others to join its call.
    const WINDOW: Duration = Duration::from_millis(10);

    pub(in crate::registry) fn new(client: Client, repository: Repository) -> Arc<Self> {
        Arc::new(LayerChecks { client, repository, waiting: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PendingCheck>> {
        lock(&self.waiting)
    }

    /// Whether the layer exists. `None` if the API call failed, and the registry has to be asked.
    pub(in crate::registry) async fn has(
        self: &Arc<Self>,
        digest: &Digest,
        requests: &RequestCounter,
    ) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        let waiting = {
            let mut waiting = self.lock();
            waiting.push(PendingCheck { digest: digest.clone(), answer });
            waiting.len()
        };
        // The call runs in its own task, since the first caller may be cancelled before the others have their result.
        let (checks, requests) = (Arc::clone(self), requests.clone());
        match waiting {
            1 => {
                let batch = async move {
                    tokio::time::sleep(Self::WINDOW).await;
                    checks.send_batch(&requests).await;
                };
                drop(tokio::spawn(batch.in_current_span()));
            }
            Self::MAX_DIGESTS => {
                let batch = async move { checks.send_batch(&requests).await };
                drop(tokio::spawn(batch.in_current_span()));
            }
            _ => {}
        }
        answered.await.ok()
    }

    async fn send_batch(&self, requests: &RequestCounter) {
        let pending = {
            let mut waiting = self.lock();
            let count = waiting.len().min(Self::MAX_DIGESTS);
            waiting.drain(..count).collect::<Vec<_>>()
        };
        if pending.is_empty() {
            return;
        }
        requests.add();
        let account = self.repository.registry().ecr().map(|(account, _)| account.to_owned());
        let call = self.client.batch_check_layer_availability().set_registry_id(account);
        let call = call.repository_name(self.repository.path());
        let digests = pending.iter().map(|question| question.digest.to_string()).collect();
        let answer = match call.set_layer_digests(Some(digests)).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let repository = &self.repository;
                tracing::debug!(error = %SingleLine(&error), %repository, "failed to check layers in a batch");
                return;
            }
        };
        let failed: HashSet<&str> =
            answer.failures().iter().filter_map(|failure| failure.layer_digest()).collect();
        let available: HashSet<&str> = answer
            .layers()
            .iter()
            .filter(|layer| layer.layer_availability() == Some(&LayerAvailability::Available))
            .filter_map(|layer| layer.layer_digest())
            .collect();
        for PendingCheck { digest, answer } in
            pending.into_iter().filter(|q| !failed.contains(q.digest.as_str()))
        {
            // The caller may have been cancelled.
            let _ = answer.send(available.contains(digest.as_str()));
        }
    }
}
