//! Check a deployment by Amazon CloudWatch alarms, metric or composite: all of them must be in the state `OK`.

use std::fmt;

use aws_sdk_cloudwatch::{
    Client,
    primitives::DateTime,
    types::{AlarmType, StateValue},
};
use bp_artifact::{
    check::{Check, CheckVerdict},
    error::chain,
    text,
};
use futures_core::future::BoxFuture;
use jiff::Timestamp;

use crate::{error::Error, rollout::diagnose};

/// The call, and the IAM action that it requires.
const DESCRIBE: &str = "cloudwatch:DescribeAlarms";
/// The maximum number of alarms per call, and per page of a response.
const BATCH: i32 = 100;
/// How many alarms a verdict lists.
const LISTED: usize = 5;
/// The maximum length of an alarm's reason in a verdict.
const LONGEST: usize = 300;

/// A check that reads CloudWatch alarms, all with one call.
///
/// | the alarms | verdict |
/// |---|---|
/// | all are `OK` | [`Passed`](CheckVerdict::Passed) |
/// | one is in `ALARM`, or does not exist | [`Failed`](CheckVerdict::Failed), with its reason and the time of its state |
/// | one has `INSUFFICIENT_DATA`, none is in `ALARM` | [`Unobserved`](CheckVerdict::Unobserved) |
/// | they cannot be read: throttling, no connection, denied | [`Unobserved`](CheckVerdict::Unobserved) |
///
/// An alarm is `OK` until a period with bad data has ended: a check directly after a deployment reports the state
/// before it.
///
/// ```no_run
/// use bp_artifact::check::Check;
/// use bp_ecs::{aws_sdk_cloudwatch::Client, check::AlarmCheck};
///
/// # async fn run(client: Client) {
/// let check = AlarmCheck::new(client, "shop-5xx").alarm("shop-latency");
/// let verdict = check.attempt().await;
/// println!("{verdict}"); // failed: alarm shop-5xx is in ALARM (updated 2026-11-28T21:36:47Z): Threshold Crossed: …
/// # }
/// ```
///
/// # Permissions
/// `cloudwatch:DescribeAlarms` on `*`: CloudWatch returns composite alarms only to callers that may describe all alarms.
#[derive(Clone)]
pub struct AlarmCheck {
    client: Client,
    names: Vec<String>,
}

/// An alarm and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AlarmState,
    /// The reason for the state, by CloudWatch.
    pub reason: String,
    /// When the state was updated.
    pub updated: Option<Timestamp>,
}

/// The state of an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlarmState {
    /// `OK`.
    Ok,
    /// `ALARM`.
    Alarm,
    /// `INSUFFICIENT_DATA`: the alarm was just created, or its metric has no data.
    InsufficientData,
    /// A state that this version does not know.
    Other(String),
}

impl fmt::Display for AlarmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AlarmState::Ok => "OK",
            AlarmState::Alarm => "ALARM",
            AlarmState::InsufficientData => "INSUFFICIENT_DATA",
            AlarmState::Other(state) => state,
        })
    }
}

/// On one line that is safe to print.
impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, state) = (text::single_line(&self.name), self.state.to_string());
        write!(f, "alarm {name} is in {}", text::single_line(&state))?;
        if let Some(updated) = self.updated {
            write!(f, " (updated {updated:.0})")?;
        }
        match text::single_line(&self.reason) {
            reason if reason.is_empty() => Ok(()),
            reason => write!(f, ": {}", text::truncate(&reason, LONGEST)),
        }
    }
}

impl fmt::Debug for AlarmCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlarmCheck").field("names", &self.names).finish_non_exhaustive()
    }
}

impl AlarmCheck {
    /// Creates a check of one alarm in the account and region of `client`.
    pub fn new(client: Client, alarm: impl Into<String>) -> Self {
        AlarmCheck { client, names: vec![alarm.into()] }
    }

    /// Adds an alarm, if the check does not have it yet.
    pub fn alarm(mut self, alarm: impl Into<String>) -> Self {
        let alarm = alarm.into();
        if !self.names.contains(&alarm) {
            self.names.push(alarm);
        }
        self
    }

    /// Reads the alarms: one call for up to 100.
    ///
    /// # Errors
    /// [`AlarmsNotFound`](Error::AlarmsNotFound) if one does not exist, or the error of the call.
    ///
    /// # Permissions
    /// `cloudwatch:DescribeAlarms`.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn read(&self) -> Result<Vec<Alarm>, Error> {
        let mut alarms = Vec::with_capacity(self.names.len());
        for names in self.names.chunks(BATCH as usize) {
            self.read_some(names, &mut alarms).await?;
        }
        let is_missing = |name: &&String| alarms.iter().all(|alarm| alarm.name != **name);
        let missing: Vec<String> = self.names.iter().filter(is_missing).cloned().collect();
        if missing.is_empty() { Ok(alarms) } else { Err(Error::AlarmsNotFound { alarms: missing }) }
    }

    async fn read_some(&self, names: &[String], alarms: &mut Vec<Alarm>) -> Result<(), Error> {
        let mut next = None;
        for _ in 0..BATCH {
            let response = self
                .client
                .describe_alarms()
                .set_alarm_names(Some(names.to_vec()))
                .alarm_types(AlarmType::MetricAlarm)
                .alarm_types(AlarmType::CompositeAlarm)
                .max_records(BATCH)
                .set_next_token(next)
                .send()
                .await
                .map_err(|error| Error::of_call(DESCRIBE, error))?;
            let metric = response.metric_alarms.unwrap_or_default().into_iter().map(|alarm| {
                (alarm.alarm_name, alarm.state_value, alarm.state_reason, alarm.state_updated_timestamp)
            });
            let composite = response.composite_alarms.unwrap_or_default().into_iter().map(|alarm| {
                (alarm.alarm_name, alarm.state_value, alarm.state_reason, alarm.state_updated_timestamp)
            });
            alarms.extend(
                metric.chain(composite).filter_map(|(name, state, reason, updated)| {
                    Some(Alarm::of(name?, state, reason, updated))
                }),
            );
            next = response.next_token;
            if next.is_none() {
                return Ok(());
            }
        }
        let reason = format!("more than {BATCH} pages for {} alarms", names.len());
        Err(Error::UnexpectedResponse { operation: DESCRIBE, reason })
    }
}

impl Alarm {
    fn of(
        name: String,
        state: Option<StateValue>,
        reason: Option<String>,
        updated: Option<DateTime>,
    ) -> Self {
        let state = match state {
            Some(StateValue::Ok) => AlarmState::Ok,
            Some(StateValue::Alarm) => AlarmState::Alarm,
            Some(StateValue::InsufficientData) => AlarmState::InsufficientData,
            Some(other) => AlarmState::Other(other.as_str().to_owned()),
            None => AlarmState::Other("no state".to_owned()),
        };
        Alarm {
            name,
            state,
            reason: reason.unwrap_or_default(),
            updated: updated.and_then(diagnose::timestamp),
        }
    }
}

impl Check for AlarmCheck {
    fn name(&self) -> String {
        let word = if self.names.len() == 1 { "alarm" } else { "alarms" };
        let names = text::single_line(&self.names.join(", "));
        format!("{word} {}", text::truncate(&names, LONGEST))
    }

    fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
        Box::pin(async {
            match self.read().await {
                Ok(alarms) => verdict(&alarms),
                Err(error @ Error::AlarmsNotFound { .. }) => CheckVerdict::failed(error.to_string()),
                Err(error) => CheckVerdict::unobserved(text::single_line(&chain(&error))),
            }
        })
    }
}

fn verdict(alarms: &[Alarm]) -> CheckVerdict {
    let listed = |is_listed: &dyn Fn(&AlarmState) -> bool| {
        let found: Vec<String> =
            alarms.iter().filter(|alarm| is_listed(&alarm.state)).map(ToString::to_string).collect();
        let (shown, more) = found.split_at(found.len().min(LISTED));
        let more = if more.is_empty() { String::new() } else { format!("; and {} more", more.len()) };
        (!shown.is_empty()).then(|| format!("{}{more}", shown.join("; ")))
    };
    match (listed(&|state| *state == AlarmState::Alarm), listed(&|state| *state != AlarmState::Ok)) {
        (Some(failed), _) => CheckVerdict::failed(failed),
        (None, Some(unknown)) => CheckVerdict::unobserved(unknown),
        (None, None) => CheckVerdict::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_foreign_text_on_one_short_line() {
        let alarm = Alarm::of(
            "shop\u{1b}[2J".into(),
            Some(StateValue::from("NEW\nSTATE")),
            Some(format!("Threshold\n::error::{}", "x".repeat(5000))),
            Some(DateTime::from_secs_and_nanos(1_764_365_807, 500_000_000)),
        );
        let text = alarm.to_string();
        assert!(text.contains("is in NEW STATE (updated 2025-11-28T21:36:47Z): Threshold"), "{text}");
        assert!(!text.contains(['\n', '\u{1b}']) && text.chars().count() < 400, "{text}");
    }

    #[test]
    fn lists_a_few_of_many_alarms() {
        let alarm = |n: usize| Alarm::of(format!("a{n}"), Some(StateValue::Alarm), Some("high".into()), None);
        let CheckVerdict::Failed { reason } = verdict(&(0..8).map(alarm).collect::<Vec<_>>()) else {
            panic!()
        };
        assert!(reason.starts_with("alarm a0 is in ALARM: high; alarm a1 is in ALARM: high; "), "{reason}");
        assert!(reason.ends_with("alarm a4 is in ALARM: high; and 3 more"), "{reason}");
    }
}
