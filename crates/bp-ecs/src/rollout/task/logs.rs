//! Follow the log of a one-off task in CloudWatch Logs, with limits for lines and line length.

use std::time::Duration;

use aws_sdk_cloudwatchlogs::{Client, error::ProvideErrorMetadata, types::OutputLogEvent};
use bp_artifact::{deploy::Reporter, text};
use jiff::Timestamp;

use super::super::evidence::log_stream;
use crate::{definition::TaskDefinition, rollout::ServiceRollout};

/// The maximum number of lines of one read; earlier ones are dropped.
const MAX_LINES: usize = 200;
/// The maximum length of a line in characters.
const MAX_CHARS: usize = 2000;
/// The number of pages of one read, and the events of a page.
const PAGES: u32 = 5;
const PAGE: i32 = 1000;
/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often the log of a stopped task is read again, and the pause before: the agent sends lines in batches.
const LAST_READS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The log of one container.
pub(super) struct Tail {
    client: Client,
    group: String,
    stream: String,
    /// `task/<id>/<container>`.
    source: String,
    /// Where the next read starts.
    token: Option<String>,
    /// Whether it cannot be read.
    refused: bool,
}

impl Tail {
    /// `None` without a client or an `awslogs` log stream.
    pub(super) fn of(
        rollout: &ServiceRollout,
        definition: &TaskDefinition,
        container: &str,
        task: &str,
    ) -> Option<Self> {
        let client = rollout.logs.clone()?;
        let (group, stream) = log_stream(definition, container, task)?;
        let stream = stream?;
        let source = format!("task/{task}/{container}");
        Some(Tail { client, group, stream, source, token: None, refused: false })
    }

    /// Reports the lines since the last read; of a task that has `ended`, also those that arrive late.
    pub(super) async fn read(&mut self, reporter: &Reporter, ended: bool) {
        self.read_once(reporter).await;
        for _ in 0..if ended { LAST_READS } else { 0 } {
            if self.refused {
                return;
            }
            tokio::time::sleep(PAUSE).await;
            if self.read_once(reporter).await > 0 {
                // The agent has sent the last batch.
                return;
            }
        }
    }

    /// Reads up to the end of the log; returns the number of lines.
    async fn read_once(&mut self, reporter: &Reporter) -> usize {
        let mut lines: Vec<OutputLogEvent> = Vec::new();
        let mut total = 0;
        for _ in 0..PAGES {
            if self.refused {
                break;
            }
            let page = match self.page().await {
                Ok(page) => page,
                Err(reason) => {
                    self.refused = true;
                    reporter
                        .notice(format!("the log {} {} cannot be read: {reason}", self.group, self.stream));
                    break;
                }
            };
            if page.is_empty() {
                break;
            }
            total += page.len();
            lines.extend(page);
            lines.drain(..lines.len().saturating_sub(MAX_LINES));
        }
        let mut left_out = u32::try_from(total - lines.len()).unwrap_or(u32::MAX);
        for event in lines {
            let at = event.timestamp.and_then(|at| Timestamp::from_millisecond(at).ok());
            let line = text::single_line(event.message.as_deref().unwrap_or_default());
            reporter.log(&self.source, text::truncate(&line, MAX_CHARS), at, std::mem::take(&mut left_out));
        }
        total
    }

    /// The next page. Empty at the end, when the stream does not exist yet, and while the API is unavailable.
    async fn page(&mut self) -> Result<Vec<OutputLogEvent>, String> {
        let call = self.client.get_log_events().log_group_name(&self.group).log_stream_name(&self.stream);
        let call = call.start_from_head(true).limit(PAGE).set_next_token(self.token.clone());
        match tokio::time::timeout(TIMEOUT, call.send()).await {
            Ok(Ok(response)) => {
                self.token = response.next_forward_token.or(self.token.take());
                Ok(response.events.unwrap_or_default())
            }
            Ok(Err(error)) => match error.code() {
                Some(
                    code
                    @ ("AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException"),
                ) => Err(format!("{code}: {}", error.message().unwrap_or("no message"))),
                _ => Ok(Vec::new()),
            },
            Err(_) => Ok(Vec::new()),
        }
    }
}
