//! Waiting until Amazon ECR has replicated the images of a copy by itself.

use std::time::Duration;

use bp_artifact::time::Wait;
use bp_promote::{RegistryClient, ecr, registry::RepositoryClient, store::ImageAt};
use futures_util::{StreamExt as _, stream};

use crate::{Failure, Ui};

/// The interval between requests for the status of an image.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How many images are awaited at a time.
const IMAGES: usize = 16;

/// Waits until the images are replicated, for at most `time`, and prints the result for each. The copy that follows
/// completes what replication has not done.
pub(crate) async fn await_replication(
    client: &RegistryClient,
    images: &[(ImageAt<RepositoryClient>, ImageAt<RepositoryClient>)],
    time: Duration,
    ui: &Ui,
) -> Result<(), Failure> {
    if time.is_zero() {
        return Ok(());
    }
    let wait = Wait::new(time, POLL_INTERVAL)?;
    stream::iter(images)
        .for_each_concurrent(IMAGES, async |(from, to)| {
            let (source, destination) = (from.store.repository(), to.store.repository());
            let found = ecr::await_replication(client, source, &from.reference, destination, wait).await;
            ui.say(format!("{} of {source} to {destination}: {found}", from.reference));
        })
        .await;
    Ok(())
}
