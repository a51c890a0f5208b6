//! Follow the logs of new pods during a rollout, with limits for pods, lines and line length; excess lines are dropped.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use backon::BackoffBuilder;
use bp_artifact::deploy::Reporter;
use futures_util::io::{AsyncBufRead, AsyncBufReadExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::{ResourceExt, api::LogParams};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::Instrument as _;

use super::{api::WorkloadApi, judge::Snapshot};
use crate::{
    api::{text::Text, watch},
    error::Error,
    options::LiveLogs,
};

/// The window of the rate limit.
const SECOND: Duration = Duration::from_secs(1);

/// The followed logs; on drop all streams end.
#[derive(Default)]
pub(super) struct Tails {
    tasks: JoinSet<Result<(), Error>>,
    /// The followed pods by uid, with the container runs that were started.
    pods: HashMap<String, HashSet<String>>,
    /// Whether reading logs is forbidden.
    refused: bool,
}

impl Tails {
    /// Starts to follow containers that have started since; returns their number.
    pub(super) fn update(
        &mut self,
        cluster: &WorkloadApi,
        reporter: &Reporter,
        bounds: LiveLogs,
        snapshot: &Snapshot,
    ) -> usize {
        if self.refused {
            return 0;
        }
        let mut count = 0;
        let pods = snapshot.new_pods();
        self.pods.retain(|uid, _| pods.iter().any(|pod| pod.metadata.uid.text() == uid));
        for pod in pods {
            let started: Vec<(String, String)> = started(pod).collect();
            let uid = pod.metadata.uid.text();
            let is_followed = self.pods.contains_key(uid);
            if started.is_empty() || (!is_followed && self.pods.len() >= bounds.pods.get()) {
                continue;
            }
            let begun = self.pods.entry(uid.to_owned()).or_default();
            for (container, run) in started {
                if begun.insert(format!("{container} {run}")) {
                    let sink = LogSink {
                        reporter: reporter.clone(),
                        source: format!("pod/{}/{container}", pod.name_any()),
                        bounds,
                    };
                    let tail = tail(cluster.clone(), pod.name_any(), container, sink);
                    self.tasks.spawn(tail.in_current_span());
                    count += 1;
                }
            }
        }
        count
    }

    /// Completes when logs cannot be followed; never if they can.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn refusal(&mut self) -> Error {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(error))) => {
                    self.refused = true;
                    self.tasks.abort_all();
                    return error;
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Ends all streams, after waiting up to `wait` for lines that are written already.
    pub(super) async fn end(&mut self, wait: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(wait, all).await;
        self.tasks.shutdown().await;
    }
}

/// The containers of a pod that have started, each with an identifier of its latest run.
fn started(pod: &Pod) -> impl Iterator<Item = (String, String)> {
    let status = pod.status.as_ref();
    let inits = status.into_iter().flat_map(|s| s.init_container_statuses.iter().flatten());
    let containers = status.into_iter().flat_map(|s| s.container_statuses.iter().flatten());
    inits.chain(containers).filter_map(|container| Some((container.name.clone(), run(container)?)))
}

/// The identifier of the latest run of a container: its container id, or else its start time.
fn run(container: &ContainerStatus) -> Option<String> {
    let ended = |state: &Option<ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref()?;
        Some((ended.container_id.clone(), ended.started_at.clone()))
    };
    let running = container.state.as_ref().and_then(|state| state.running.as_ref());
    let (id, since) = match running {
        Some(running) => (container.container_id.clone(), running.started_at.clone()),
        None => ended(&container.state).or_else(|| ended(&container.last_state))?,
    };
    id.filter(|id| !id.is_empty()).or_else(|| since.map(|since| since.0.to_string()))
}

/// Reports the log lines of one container.
struct LogSink {
    reporter: Reporter,
    source: String,
    bounds: LiveLogs,
}

impl LogSink {
    fn emit(&self, line: &Line, left_out: u32) {
        self.reporter.log(self.source.clone(), line.text.clone(), line.at, left_out);
    }
}

/// Follows the log of one container run until it ends; resumes from the last line when the stream breaks.
///
/// # Errors
/// When reading logs is forbidden.
async fn tail(cluster: WorkloadApi, pod: String, container: String, sink: LogSink) -> Result<(), Error> {
    let mut pauses = watch::pauses().build();
    let mut last = None;
    loop {
        let params = LogParams {
            container: Some(container.clone()),
            follow: true,
            timestamps: true,
            since_time: last,
            // Earlier lines up to the limit of one second.
            tail_lines: last.is_none().then(|| i64::from(sink.bounds.lines.get())),
            ..LogParams::default()
        };
        match cluster.pods().log_stream(&pod, &params).await {
            Ok(stream) => {
                let before = last;
                if read(Box::pin(stream), &sink, &mut last).await {
                    return Ok(());
                }
                if last != before {
                    pauses = watch::pauses().build();
                }
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                return Err(cluster.all("pod").named(&pod).error("get pods/log", kube::Error::Api(status)));
            }
            // The pod or its log is gone.
            Err(kube::Error::Api(status)) if status.code < 500 && status.code != 429 => return Ok(()),
            Err(_) => {}
        }
        if let Some(pause) = pauses.next() {
            sleep(pause).await;
        }
    }
}

/// Reports the lines of a stream and records the time of the last one; returns whether the stream ended normally.
async fn read(stream: impl AsyncBufRead + Unpin, sink: &LogSink, last: &mut Option<Timestamp>) -> bool {
    let before = *last;
    let mut lines = Lines::new(stream, sink.bounds.length.get());
    let mut pace = Pace::new(sink.bounds.lines.get());
    loop {
        let next = tokio::select! {
            next = lines.next() => next,
            () = sleep_until(pace.since + SECOND), if pace.held.is_some() => {
                pace.flush(sink);
                continue;
            }
        };
        match next {
            // Reported before the stream broke.
            Ok(Some(line)) if line.at.is_some() && line.at <= before => {}
            Ok(Some(line)) => {
                *last = line.at.or(*last);
                pace.take(line, sink);
            }
            end => {
                pace.flush(sink);
                return end.is_ok();
            }
        }
    }
}

/// Limits the lines per second. The last dropped line is kept until the second or the log ends, because the last line
/// is often the most important.
struct Pace {
    most: u32,
    since: Instant,
    sent: u32,
    left_out: u32,
    held: Option<Line>,
}

impl Pace {
    fn new(most: u32) -> Self {
        Pace { most, since: Instant::now(), sent: 0, left_out: 0, held: None }
    }

    fn take(&mut self, line: Line, sink: &LogSink) {
        if self.since.elapsed() >= SECOND {
            self.flush(sink);
        }
        if self.sent < self.most {
            self.sent += 1;
            return sink.emit(&line, 0);
        }
        self.left_out += u32::from(self.held.is_some());
        self.held = Some(line);
    }

    /// Reports the kept line, and starts a new second.
    fn flush(&mut self, sink: &LogSink) {
        let held = self.held.take();
        let left_out = std::mem::take(&mut self.left_out);
        (self.since, self.sent) = (Instant::now(), u32::from(held.is_some()));
        if let Some(line) = held {
            sink.emit(&line, left_out);
        }
    }
}

/// A log line and its time.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    at: Option<Timestamp>,
    text: String,
}

/// Splits a stream into lines with a maximum length.
struct Lines<S> {
    stream: S,
    length: usize,
    bytes: Vec<u8>,
}

/// The bytes of the longest UTF-8 character, and of the longest timestamp.
const WIDEST: usize = 4;
const TIMESTAMP: usize = 40;

impl<S: AsyncBufRead + Unpin> Lines<S> {
    fn new(stream: S, length: usize) -> Self {
        Lines { stream, length, bytes: Vec::new() }
    }

    /// The next line; the last one may lack a newline.
    ///
    /// # Cancel safety
    /// Cancel safe: a partially read line is kept.
    async fn next(&mut self) -> std::io::Result<Option<Line>> {
        let most = (self.length + 1).saturating_mul(WIDEST).saturating_add(TIMESTAMP);
        loop {
            let read = self.stream.fill_buf().await?;
            let end = read.iter().position(|byte| *byte == b'\n');
            let part = &read[..end.unwrap_or(read.len())];
            let room = most.saturating_sub(self.bytes.len()).min(part.len());
            self.bytes.extend_from_slice(&part[..room]);
            let (used, is_over) = (end.map_or(read.len(), |end| end + 1), read.is_empty());
            self.stream.consume_unpin(used);
            if is_over && self.bytes.is_empty() {
                return Ok(None);
            }
            if is_over || end.is_some() {
                return Ok(Some(line(&std::mem::take(&mut self.bytes), self.length)));
            }
        }
    }
}

/// Parses a line with a timestamp; removes terminal control sequences and truncates the text.
fn line(bytes: &[u8], length: usize) -> Line {
    let text = String::from_utf8_lossy(bytes);
    let (at, text) = match text.split_once(' ').map(|(at, rest)| (at.parse().ok(), rest)) {
        Some((Some(at), rest)) => (Some(at), rest),
        _ => (None, &*text),
    };
    let mut text = bp_artifact::text::single_line(text);
    if let Some((end, _)) = text.char_indices().nth(length) {
        text.truncate(end);
        text.push('…');
    }
    Line { at, text }
}

#[cfg(test)]
mod tests {
    use futures_util::io::BufReader;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn splits_lines_and_truncates_long_ones() {
        let long = "x".repeat(100_000);
        let text = format!(
            "2026-03-01T12:00:00.5Z one\n2026-03-01T12:00:01Z \u{1b}[31mred\u{1b}[0m \u{7}end\r\n\nno time\n{long}\nlast"
        );
        let mut lines = Lines::new(BufReader::with_capacity(7, text.as_bytes()), 10);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            assert!(lines.bytes.capacity() < 1000);
            read.push((line.at.map(|at| at.to_string()), line.text));
        }
        let line = |at: Option<&str>, text: &str| (at.map(str::to_owned), text.to_owned());
        assert_eq!(
            read,
            [
                line(Some("2026-03-01T12:00:00.5Z"), "one"),
                line(Some("2026-03-01T12:00:01Z"), "red end"),
                line(None, ""),
                line(None, "no time"),
                line(None, "xxxxxxxxxx…"),
                line(None, "last"),
            ]
        );
    }

    #[test]
    fn identifies_a_run_while_it_runs_and_after_it_ended() {
        let read = |state, last, id: &str| {
            let status = json!({
                "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state, "lastState": last, "containerID": id,
            });
            run(&serde_json::from_value(status).unwrap())
        };
        let (running, waiting) = (json!({ "running": {} }), json!({ "waiting": {} }));
        let ended = |id: &str| json!({ "terminated": { "exitCode": 1, "containerID": id } });
        assert_eq!(read(waiting.clone(), json!({}), ""), None);
        for (state, last, id) in [
            (running.clone(), json!({}), "a"),
            (ended("a"), json!({}), "a"),
            (waiting.clone(), ended("a"), "a"),
            (waiting, ended("a"), ""),
        ] {
            assert_eq!(read(state, last, id).as_deref(), Some("a"));
        }
        assert_eq!(read(running, ended("a"), "b").as_deref(), Some("b"), "started again");
        // Without a container id: the start time.
        let since = json!({ "running": { "startedAt": "2026-03-01T12:00:00Z" } });
        assert_eq!(read(since, json!({}), "").as_deref(), Some("2026-03-01T12:00:00Z"));
    }
}
