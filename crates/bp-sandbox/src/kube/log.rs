//! Pod logs: the `log` subresource, with `previous`, `follow`, `sinceTime`, `tailLines` and `timestamps`.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Cluster,
    call::Call,
    run::{ContainerRun, Line},
    status::{Answer, Failure},
    store::Key,
    world::World,
};
use crate::body::Body;

/// The options of a log request.
struct LogOptions {
    since: Option<Timestamp>,
    tail: usize,
    timestamps: bool,
}

impl LogOptions {
    fn read(call: &Call<'_>) -> Self {
        LogOptions {
            since: call.text("sinceTime").parse().ok(),
            tail: call.text("tailLines").parse().unwrap_or(usize::MAX),
            timestamps: call.flag("timestamps"),
        }
    }

    /// The selected lines of those written before the request.
    fn select(&self, lines: &[Line]) -> VecDeque<String> {
        let recent = |line: &&Line| self.since.is_none_or(|since| line.at >= since);
        let lines: Vec<&Line> = lines.iter().filter(recent).collect();
        lines[lines.len().saturating_sub(self.tail)..].iter().map(|line| self.format(line)).collect()
    }

    fn format(&self, line: &Line) -> String {
        if self.timestamps { format!("{:.9} {}\n", line.at, line.text) } else { format!("{}\n", line.text) }
    }
}

/// Handles a log request.
pub(super) fn answer(cluster: &Arc<Cluster>, call: &Call<'_>) -> Answer<Response<Body>> {
    // Subscribed before the log is read, so that lines written later wake the reader.
    let changed = cluster.changed.subscribe();
    let world = cluster.enter();
    let (container, run) = find_run(&world, call)?;
    let options = LogOptions::read(call);
    let lines = container.log_of(run).unwrap_or_default();
    let (queue, read) = (options.select(lines), lines.len());
    let body = if call.flag("follow") {
        let (cluster, key) = (Arc::clone(cluster), call.key());
        let container = container.name().to_owned();
        let followed = Followed { cluster, key, container, run, options, read, queue, changed };
        Body::stream(stream::unfold(followed, |mut followed| async move {
            let line = followed.next().await?;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), followed))
        }))
    } else {
        Body::from(queue.into_iter().collect::<String>())
    };
    let response = Response::builder().header("content-type", "text/plain");
    Ok(response.body(body).expect("constant headers"))
}

/// The container of a log request, and the number of its run.
fn find_run<'w>(world: &'w World, call: &Call<'_>) -> Answer<(&'w ContainerRun, u32)> {
    let (pod, requested) = (call.name(), call.text("container"));
    let run = world.pods.get(&call.key()).ok_or_else(|| Failure::not_found(call.resource(), pod))?;
    let container = match requested {
        "" => run.containers.iter().find(|c| !c.init),
        name => run.containers.iter().find(|c| c.name() == name),
    };
    let container = container
        .ok_or_else(|| Failure::bad_request(format!("container {requested} is not valid for pod {pod}")))?;
    let name = container.name();
    if !container.has_started() {
        let why = format!("container {name:?} in pod {pod:?} is waiting to start: ContainerCreating");
        return Err(Failure::bad_request(why));
    }
    // For a container in back-off, both are the previous run.
    let run = if call.flag("previous") { container.last_run() } else { Some(container.run_of_log()) };
    let none =
        || Failure::bad_request(format!("previous terminated container {name:?} in pod {pod:?} not found"));
    Ok((container, run.ok_or_else(none)?))
}

/// A followed log; the stream ends with the container's run.
struct Followed {
    cluster: Arc<Cluster>,
    key: Key,
    container: String,
    run: u32,
    options: LogOptions,
    /// The number of lines of the run that were read.
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
            let (running, due) = self.collect();
            if !self.queue.is_empty() {
                continue;
            }
            if !running {
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
                // The sender is not dropped: `self` holds the cluster.
                _ = self.changed.changed() => {}
            }
        }
    }

    /// Queues new lines; returns whether the run is in progress, and the time of the cluster's next transition.
    fn collect(&mut self) -> (bool, Option<Timestamp>) {
        let cluster = Arc::clone(&self.cluster);
        let world = cluster.enter();
        let containers = world.pods.get(&self.key).into_iter().flat_map(|run| &run.containers);
        let mut container = containers.filter(|container| container.name() == self.container);
        let Some(container) = container.next() else { return (false, None) };
        let lines = container.log_of(self.run).unwrap_or_default();
        let new = lines.get(self.read..).unwrap_or_default();
        self.queue.extend(new.iter().map(|line| self.options.format(line)));
        self.read = self.read.max(lines.len());
        (container.runs(self.run), world.next_due())
    }
}
