//! Batched layer checks in Amazon ECR.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_ecr::{Client, types::LayerAvailability};
use bp_artifact::{Digest, Repository, sync::Batch, text::SingleLine};

use crate::store::RequestCounter;

/// The maximum number of digests per call.
const MAX_DIGESTS: usize = 100;

/// Joins concurrent layer checks into BatchCheckLayerAvailability calls.
pub(in crate::registry) struct LayerChecks {
    client: Client,
    repository: Repository,
    checks: Batch<bool, CallFailed>,
}

/// The API call failed; the error is in the log.
struct CallFailed;

impl LayerChecks {
    pub(in crate::registry) fn new(client: Client, repository: Repository) -> Arc<Self> {
        Arc::new(LayerChecks { client, repository, checks: Batch::new(MAX_DIGESTS) })
    }

    /// Whether the layer exists. `None` if the API did not say, and the registry has to be asked.
    pub(in crate::registry) async fn has(&self, digest: &Digest, requests: &RequestCounter) -> Option<bool> {
        self.checks.get(digest.as_str(), |digests| self.check(digests, requests)).await?.ok()?
    }

    async fn check(
        &self,
        digests: Vec<String>,
        requests: &RequestCounter,
    ) -> Result<HashMap<String, bool>, CallFailed> {
        requests.add();
        let account = self.repository.registry().ecr().map(|(account, _)| account.to_owned());
        let call = self.client.batch_check_layer_availability().set_registry_id(account);
        let call = call.repository_name(self.repository.path());
        let answer = call.set_layer_digests(Some(digests.clone())).send().await.map_err(|error| {
            let repository = &self.repository;
            tracing::debug!(error = %SingleLine(&error), %repository, "failed to check layers in a batch");
            CallFailed
        })?;
        let mut found: HashMap<String, bool> = digests.into_iter().map(|digest| (digest, false)).collect();
        for failed in answer.failures().iter().filter_map(|failure| failure.layer_digest()) {
            found.remove(failed);
        }
        for layer in answer.layers() {
            let is_available = layer.layer_availability() == Some(&LayerAvailability::Available);
            if let Some(found) = layer.layer_digest().and_then(|digest| found.get_mut(digest)) {
                *found |= is_available;
            }
        }
        Ok(found)
    }
}
