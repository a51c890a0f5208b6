//! What containers write: as it is, or followed as it comes.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Cluster,
    api::Call,
    container::{ContainerRun, Line},
    status::{Answer, Failure},
    store::Key,
    world::World,
};
use crate::body::Body;

/// Which part of a log is asked for, and how.
struct Wanted {
    since: Option<Timestamp>,
    tail: usize,
    timestamps: bool,
}

impl Wanted {
    fn read(call: &Call<'_>) -> Self {
        Wanted {
            since: call.text("sinceTime").parse().ok(),
            tail: call.text("tailLines").parse().unwrap_or(usize::MAX),
            timestamps: call.flag("timestamps"),
        }
    }

    /// The lines of what was written before the call.
    fn of(&self, lines: &[Line]) -> VecDeque<String> {
        let late = |line: &&Line| self.since.is_none_or(|since| line.at >= since);
        let lines: Vec<&Line> = lines.iter().filter(late).collect();
        lines[lines.len().saturating_sub(self.tail)..].iter().map(|line| self.written(line)).collect()
    }

    fn written(&self, line: &Line) -> String {
        match self.timestamps {
            true => format!("{:.9} {}\n", line.at, line.text),
            false => format!("{}\n", line.text),
        }
    }
}

/// Answers a call for a log.
pub(super) fn answer(cluster: &Arc<Cluster>, call: &Call<'_>) -> Answer<Response<Body>> {
    // Subscribed before the log is read: what is written later wakes the reader.
    let changed = cluster.changed.subscribe();
    let world = cluster.enter();
    let (container, run) = asked(&world, call)?;
    let wanted = Wanted::read(call);
    let lines = container.log_of(run).unwrap_or_default();
    let (queue, read) = (wanted.of(lines), lines.len());
    let body = match call.flag("follow") {
        false => Body::from(queue.into_iter().collect::<String>()),
        true => {
            let (cluster, key) = (Arc::clone(cluster), call.key());
            let container = container.name().to_owned();
            let followed = Followed { cluster, key, container, run, wanted, read, queue, changed };
            Body::stream(stream::unfold(followed, |mut followed| async move {
                let line = followed.next().await?;
                Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), followed))
            }))
        }
    };
    let response = Response::builder().header("content-type", "text/plain");
    Ok(response.body(body).expect("constant headers"))
}

/// The container whose log is asked for, and the run that is meant.
fn asked<'w>(world: &'w World, call: &Call<'_>) -> Answer<(&'w ContainerRun, u32)> {
    let (pod, asked) = (call.name(), call.text("container"));
    let run = world.pods.get(&call.key()).ok_or_else(|| Failure::not_found(call.resource(), pod))?;
    let container = match asked {
        "" => run.containers.iter().find(|c| !c.init),
        name => run.containers.iter().find(|c| c.name() == name),
    };
    let container = container
        .ok_or_else(|| Failure::bad_request(format!("container {asked} is not valid for pod {pod}")))?;
    let name = container.name();
    if !container.has_started() {
        let why = format!("container {name:?} in pod {pod:?} is waiting to start: ContainerCreating");
        return Err(Failure::bad_request(why));
    }
    // Of one that waits to be started again both are the run before.
    let run = match call.flag("previous") {
        true => container.last_run(),
        false => Some(container.run_of_log()),
    };
    let none =
        || Failure::bad_request(format!("previous terminated container {name:?} in pod {pod:?} not found"));
    Ok((container, run.ok_or_else(none)?))
}

/// A log that is followed: it ends with the container's run.
struct Followed {
    cluster: Arc<Cluster>,
    key: Key,
    container: String,
    run: u32,
    wanted: Wanted,
    /// As many lines of the run were read.
    read: usize,
    queue: VecDeque<String>,
    changed: watch::Receiver<u64>,
}

impl Followed {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.queue.pop_front() {
                return Some(line);
            }
            self.changed.borrow_and_update();
            let (goes_on, due) = self.collect();
            if !self.queue.is_empty() {
                continue;
            }
            if !goes_on {
                return None;
            }
            let wait = async {
                match due {
                    Some(due) => self.cluster.clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                // The sender lives as long as the cluster, which this holds.
                _ = self.changed.changed() => {}
            }
        }
    }

    /// Queues what was written; says whether the run goes on, and when the model moves next.
    fn collect(&mut self) -> (bool, Option<Timestamp>) {
        let cluster = Arc::clone(&self.cluster);
        let world = cluster.enter();
        let containers = world.pods.get(&self.key).into_iter().flat_map(|run| &run.containers);
        let mut container = containers.filter(|container| container.name() == self.container);
        let Some(container) = container.next() else { return (false, None) };
        let lines = container.log_of(self.run).unwrap_or_default();
        let new = lines.get(self.read..).unwrap_or_default();
        self.queue.extend(new.iter().map(|line| self.wanted.written(line)));
        self.read = self.read.max(lines.len());
        (container.runs(self.run), world.next_due())
    }
}
