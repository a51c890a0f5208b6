//! Lifecycle hooks of a deployment: Lambda functions, whose result a test determines, and pauses.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::names::{epoch, token, word_id};
use crate::{aws::wire::text, sync::lock};

const MINUTE: Duration = Duration::from_secs(60);
/// From the call of a function until its result.
const CALL: Duration = Duration::from_secs(2);
/// From the result `IN_PROGRESS` until the next call.
const CALL_BACK: Duration = Duration::from_secs(30);

/// What the Lambda function of a lifecycle hook returns as `hookStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HookStatus {
    /// The deployment continues.
    Succeeded,
    /// The deployment is rolled back.
    Failed,
    /// The function is called again every 30 s, until the hook times out.
    InProgress,
}

/// The results of the functions, by ARN.
#[derive(Debug, Default)]
pub(super) struct Functions(Mutex<BTreeMap<String, HookStatus>>);

impl Functions {
    pub(super) fn set(&self, arn: &str, status: HookStatus) {
        lock(&self.0).insert(arn.to_owned(), status);
    }

    /// The result of a call. Functions without a configured result succeed.
    fn call(&self, arn: &str) -> HookStatus {
        lock(&self.0).get(arn).copied().unwrap_or(HookStatus::Succeeded)
    }
}

/// Why a hook ends the deployment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The function with this ARN returned `FAILED`.
    Failed(String),
    TimedOut,
}

/// What a hook waits for.
#[derive(Debug)]
enum Target {
    /// An answer to a pause.
    Pause,
    /// The result of a function, which is called at this time.
    Function { arn: String, result_at: Timestamp },
}

/// A hook of the current stage.
#[derive(Debug)]
pub(super) struct Hook {
    id: String,
    target: Target,
    expires: Timestamp,
    /// What happens then: `CONTINUE` or `ROLLBACK`.
    otherwise: String,
    status: &'static str,
}

impl Hook {
    /// Starts one of `lifecycleHooks`. Without a target type it is a Lambda hook.
    pub(super) fn start(hook: &Value, now: Timestamp) -> Hook {
        let limit = &hook["timeoutConfiguration"];
        let pauses = text(hook, "targetType") == "PAUSE";
        Hook {
            id: if pauses { format!("ecs-pause-{}", token()) } else { word_id() },
            target: if pauses {
                Target::Pause
            } else {
                Target::Function { arn: text(hook, "hookTargetArn").to_owned(), result_at: now + CALL }
            },
            expires: now + MINUTE * limit["timeoutInMinutes"].as_u64().unwrap_or(1440) as u32,
            otherwise: limit["action"].as_str().unwrap_or("ROLLBACK").to_owned(),
            status: if pauses { "AWAITING_ACTION" } else { "IN_PROGRESS" },
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.status, "AWAITING_ACTION" | "IN_PROGRESS")
    }

    /// Processes results and timeouts up to `now`.
    pub(super) fn advance(&mut self, functions: &Functions, now: Timestamp) -> Result<(), Refusal> {
        if !self.is_waiting() {
            return Ok(());
        }
        if let Target::Function { arn, result_at } = &mut self.target
            && *result_at <= now
        {
            match functions.call(arn) {
                HookStatus::Succeeded => self.status = "SUCCEEDED",
                HookStatus::InProgress => *result_at = now + CALL_BACK,
                HookStatus::Failed => {
                    self.status = "FAILED";
                    return Err(Refusal::Failed(arn.clone()));
                }
            }
        }
        if self.is_waiting() && self.expires <= now {
            self.status = "TIMED_OUT";
            if self.otherwise == "ROLLBACK" {
                return Err(Refusal::TimedOut);
            }
        }
        Ok(())
    }

    /// Answers a pause. `false` when it is another hook, or does not wait for an answer.
    pub(super) fn answer(&mut self, id: &str) -> bool {
        let answered = self.id == id && self.status == "AWAITING_ACTION";
        if answered {
            self.status = "SUCCEEDED";
        }
        answered
    }

    /// The times of its next transitions.
    pub(super) fn turns(&self) -> impl Iterator<Item = Timestamp> {
        let result_at = match &self.target {
            Target::Pause => None,
            Target::Function { result_at, .. } => Some(*result_at),
        };
        let waiting = self.is_waiting();
        [Some(self.expires), result_at].into_iter().flatten().filter(move |_| waiting)
    }

    /// One of `lifecycleHookDetails`.
    pub(super) fn view(&self) -> Value {
        let mut view = json!({
            "hookId": self.id,
            "targetType": "PAUSE",
            "status": self.status,
            "expiresAt": epoch(self.expires),
            "timeoutAction": self.otherwise,
        });
        if let Target::Function { arn, .. } = &self.target {
            view["targetType"] = json!("AWS_LAMBDA");
            view["targetArn"] = json!(arn);
        }
        view
    }
}
