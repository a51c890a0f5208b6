//! Last log lines of a failed container, from CloudWatch Logs.

use std::time::Duration;

use aws_sdk_cloudwatchlogs::Client;
use bp_artifact::deploy::{Evidence, EvidenceKind};
use jiff::Timestamp;

use super::{ServiceRollout, diagnose::Stopped, evidence::log_stream};
use crate::{definition::TaskDefinition, target::EcsTarget};

/// The maximum number of lines in a report.
const MAX_LINES: i32 = 20;
/// The maximum size of the lines in a report.
const MAX_BYTES: usize = 8 * 1024;
/// The number of attempts while no lines are available: the agent sends them in batches.
const ATTEMPTS: u32 = 3;
/// The pause between attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// The maximum time that a failure report waits for log lines.
const TIMEOUT: Duration = Duration::from_secs(6);

impl EcsTarget {
    /// Adds the last log lines of the failed container to failure reports, if the definition logs to CloudWatch Logs
    /// (`awslogs` with `awslogs-stream-prefix`). They are not redacted.
    ///
    /// # Permissions
    /// `logs:GetLogEvents`. If it is denied, or does not respond within 6 s, the report says so.
    pub fn logs(self, client: Client) -> Self {
        self.change(|rollout| rollout.logs = Some(client))
    }
}

impl ServiceRollout {
    /// The last log lines of the failed container. `None` without a client, a container or an `awslogs` log stream.
    pub(crate) async fn last_lines(
        &self,
        definition: &TaskDefinition,
        stopped: &Stopped,
    ) -> Option<Evidence> {
        let client = self.logs.as_ref()?;
        let (group, stream) = log_stream(definition, stopped.container.as_deref()?, &stopped.task)?;
        let stream = stream?;
        let (message, at) = match tokio::time::timeout(TIMEOUT, read(client, &group, &stream)).await {
            Ok(Ok(Some(lines))) => lines,
            Ok(Ok(None)) => ("has no lines".to_owned(), None),
            Ok(Err(error)) => (format!("cannot be read: {error}"), None),
            Err(_) => (format!("cannot be read within {} s", TIMEOUT.as_secs()), None),
        };
        Some(Evidence::new(EvidenceKind::Log, message).source(format!("log {group} {stream}")).at(at))
    }
}

/// Reads the last lines, and the time of the last one. `None` when there are none.
async fn read(
    client: &Client,
    group: &str,
    stream: &str,
) -> Result<Option<(String, Option<Timestamp>)>, String> {
    for attempt in 1..=ATTEMPTS {
        let call = client.get_log_events().log_group_name(group).log_stream_name(stream);
        let events = match call.limit(MAX_LINES).start_from_head(false).send().await {
            Ok(response) => response.events.unwrap_or_default(),
            Err(error) => match error.into_service_error() {
                // The stream is created with its first line.
                error if error.is_resource_not_found_exception() => Vec::new(),
                error => {
                    let meta = error.meta();
                    let code = meta.code().unwrap_or("the API cannot be reached");
                    return Err(format!("{code}: {}", meta.message().unwrap_or("no message")));
                }
            },
        };
        if let Some(last) = events.last() {
            let at = last.timestamp.and_then(|at| Timestamp::from_millisecond(at).ok());
            let lines: Vec<&str> =
                events.iter().filter_map(|event| event.message()).map(str::trim_end).collect();
            return Ok(Some((tail(&lines.join("\n")).to_owned(), at)));
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(None)
}

/// The last `MAX_BYTES` bytes of a text.
fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(MAX_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_a_long_text_at_the_start() {
        let text = "ä".repeat(MAX_BYTES);
        assert!(tail(&text).len() <= MAX_BYTES && text.ends_with(tail(&text)));
        assert_eq!(tail("short"), "short");
    }
}
