//! The last lines of a container that failed, from CloudWatch Logs.

use std::time::Duration;

use aws_sdk_cloudwatchlogs::Client;
use bp_artifact::deploy::{Evidence, EvidenceKind};
use jiff::Timestamp;

use super::{ServiceRollout, diagnose::Stopped};
use crate::{definition::TaskDefinition, target::EcsTarget};

/// How many lines a report carries.
const LINES: i32 = 20;
/// How much of them: a report is read by people.
const BYTES: usize = 8 * 1024;
/// The agent sends lines in batches: how often to look when there are none yet, and how long to wait between.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the report of a failure may wait for its log lines.
const PATIENCE: Duration = Duration::from_secs(6);

impl EcsTarget {
    /// Adds the last log lines of the container at fault to failure reports, where the definition sends them to
    /// CloudWatch Logs (`awslogs` with `awslogs-stream-prefix`). They are shown as the program wrote them.
    ///
    /// # Permissions
    /// `logs:GetLogEvents`. Without it, and when it does not answer in some seconds, the report says so.
    pub fn logs(self, client: Client) -> Self {
        self.change(|rollout| rollout.logs = Some(client))
    }
}

impl ServiceRollout {
    /// The last lines of the container at fault, if its log can be read at all.
    pub(crate) async fn last_lines(&self, definition: &str, stopped: &Stopped) -> Option<Evidence> {
        let client = self.logs.as_ref()?;
        let container = stopped.container.as_deref()?;
        let definition = self.api.definition(definition).await.ok()?;
        let (group, stream) = stream(&definition, container, &stopped.task)?;
        let (message, at) = match tokio::time::timeout(PATIENCE, read(client, &group, &stream)).await {
            Ok(Ok(lines)) => lines?,
            Ok(Err(error)) => (format!("cannot be read: {error}"), None),
            Err(_) => ("cannot be read in time".to_owned(), None),
        };
        Some(Evidence::new(EvidenceKind::Log, message).source(format!("log {group} {stream}")).at(at))
    }
}

/// Group and stream, as the agent names it: `<prefix>/<container>/<task>`.
fn stream(definition: &TaskDefinition, container: &str, task: &str) -> Option<(String, String)> {
    let options = definition.log_options(container, "awslogs")?;
    let option = |name: &str| options.get(name)?.as_str();
    Some((
        option("awslogs-group")?.to_owned(),
        format!("{}/{container}/{task}", option("awslogs-stream-prefix")?),
    ))
}

/// The last lines and the time of the last one. `None` when there are none.
async fn read(
    client: &Client,
    group: &str,
    stream: &str,
) -> Result<Option<(String, Option<Timestamp>)>, String> {
    for look in 1..=LOOKS {
        let call = client.get_log_events().log_group_name(group).log_stream_name(stream);
        let events = match call.limit(LINES).start_from_head(false).send().await {
            Ok(answer) => answer.events.unwrap_or_default(),
            Err(error) => match error.into_service_error() {
                // The stream is made with its first line.
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
        if look < LOOKS {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(None)
}

/// The end of a text.
fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_named_as_the_agent_names_it() {
        let definition = |options: &str| {
            let json = format!(
                r#"{{ "family": "web", "containerDefinitions": [{{ "name": "web", "image": "i",
                    "logConfiguration": {{ "logDriver": "awslogs", "options": {options} }} }}] }}"#
            );
            TaskDefinition::from_json("test", &json).unwrap()
        };
        let whole = definition(r#"{ "awslogs-group": "/shop", "awslogs-stream-prefix": "web" }"#);
        let expected = ("/shop".to_owned(), "web/web/0123".to_owned());
        assert_eq!(stream(&whole, "web", "0123"), Some(expected));
        assert_eq!(stream(&whole, "proxy", "0123"), None);
        assert_eq!(stream(&definition(r#"{ "awslogs-group": "/shop" }"#), "web", "0123"), None);
    }

    #[test]
    fn a_long_text_keeps_its_end() {
        let text = "ä".repeat(BYTES);
        assert!(tail(&text).len() <= BYTES && text.ends_with(tail(&text)));
        assert_eq!(tail("short"), "short");
    }
}
