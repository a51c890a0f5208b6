//! The deployment configuration of a service.

use std::time::Duration;

use serde_json::{Value, json};

use crate::aws::wire::text;

/// How failures are counted against a threshold.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    pub(super) rollback: bool,
    pub(super) resets: bool,
    kind: String,
    value: f64,
}

/// The deployment strategy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Strategy {
    Rolling,
    BlueGreen,
    Linear { step: f64, bake: u64 },
    Canary { percent: f64, bake: u64 },
}

/// When the tasks of the earlier revision are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleanup {
    /// Before the deployment is successful.
    Blocking,
    /// Afterwards.
    Deferred,
}

/// When a rolling update is successful before it is complete.
#[derive(Debug, Clone)]
pub(super) struct EarlySuccess {
    healthy_percent: u64,
    pub(super) cleanup: Cleanup,
}

impl EarlySuccess {
    /// The number of healthy tasks.
    pub(super) fn goal(&self, desired: u32) -> u64 {
        (u64::from(desired) * self.healthy_percent).div_ceil(100)
    }
}

/// A parsed deployment configuration.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    raw: Value,
    pub(super) maximum_percent: u32,
    pub(super) minimum_healthy_percent: u32,
    pub(super) breaker: Option<Breaker>,
    pub(super) alarms: Vec<String>,
    pub(super) alarm_rollback: bool,
    pub(super) strategy: Strategy,
    /// Minutes after production traffic has shifted.
    pub(super) bake: u64,
    pub(super) hooks: Vec<Value>,
    pub(super) early_success: Option<EarlySuccess>,
}

impl Settings {
    /// Parses `deploymentConfiguration`; missing members have the service's defaults.
    pub(super) fn read(raw: &Value) -> Settings {
        let breaker = &raw["deploymentCircuitBreaker"];
        let threshold = &breaker["thresholdConfiguration"];
        let alarms = &raw["alarms"];
        let names = alarms["alarmNames"].as_array().into_iter().flatten();
        Settings {
            maximum_percent: raw["maximumPercent"].as_u64().unwrap_or(200) as u32,
            minimum_healthy_percent: raw["minimumHealthyPercent"].as_u64().unwrap_or(100) as u32,
            breaker: (breaker["enable"] == true).then(|| Breaker {
                rollback: breaker["rollback"] == true,
                resets: breaker["resetOnHealthyTask"] != false,
                kind: text(threshold, "type").to_owned(),
                value: threshold["value"].as_f64().unwrap_or(50.0),
            }),
            alarms: if alarms["enable"] == true {
                names.filter_map(Value::as_str).map(str::to_owned).collect()
            } else {
                Vec::new()
            },
            alarm_rollback: alarms["rollback"] == true,
            strategy: match text(raw, "strategy") {
                "BLUE_GREEN" => Strategy::BlueGreen,
                "LINEAR" => Strategy::Linear {
                    step: raw["linearConfiguration"]["stepPercent"].as_f64().unwrap_or(10.0),
                    bake: raw["linearConfiguration"]["stepBakeTimeInMinutes"].as_u64().unwrap_or(6),
                },
                "CANARY" => Strategy::Canary {
                    percent: raw["canaryConfiguration"]["canaryPercent"].as_f64().unwrap_or(5.0),
                    bake: raw["canaryConfiguration"]["canaryBakeTimeInMinutes"].as_u64().unwrap_or(10),
                },
                _ => Strategy::Rolling,
            },
            bake: raw["bakeTimeInMinutes"].as_u64().unwrap_or(0),
            hooks: raw["lifecycleHooks"].as_array().cloned().unwrap_or_default(),
            early_success: Some(&raw["earlySuccessCriteria"])
                .filter(|criteria| criteria["enable"] == true)
                .map(|criteria| EarlySuccess {
                    healthy_percent: criteria["healthyPercent"].as_u64().unwrap_or(100),
                    cleanup: if criteria["sourceServiceRevisionCleanup"] == "DEFERRED" {
                        Cleanup::Deferred
                    } else {
                        Cleanup::Blocking
                    },
                }),
            raw: if raw.is_object() { raw.clone() } else { json!({}) },
        }
    }

    /// The settings with those of `change` merged, as by UpdateService.
    pub(super) fn updated(&self, change: &Value) -> Settings {
        let mut raw = self.raw.clone();
        for (field, value) in change.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
            raw[field] = value.clone();
        }
        Settings::read(&raw)
    }

    /// Checks the documented constraints of the early success criteria.
    pub(super) fn validate(&self) -> Result<(), String> {
        let criteria = &self.raw["earlySuccessCriteria"];
        let Some(early) = &self.early_success else { return Ok(()) };
        if !self.is_rolling() {
            return Err("earlySuccessCriteria requires the ROLLING deployment strategy.".to_owned());
        }
        if criteria["healthyPercent"].is_null() || criteria["sourceServiceRevisionCleanup"].is_null() {
            return Err(
                "earlySuccessCriteria requires healthyPercent and sourceServiceRevisionCleanup.".to_owned()
            );
        }
        if early.healthy_percent > 100 || early.healthy_percent < u64::from(self.minimum_healthy_percent) {
            return Err("earlySuccessCriteria.healthyPercent must be between minimumHealthyPercent and 100."
                .to_owned());
        }
        Ok(())
    }

    pub(super) fn bake_time(&self) -> Duration {
        Duration::from_secs(60 * self.bake)
    }

    pub(super) fn is_rolling(&self) -> bool {
        self.strategy == Strategy::Rolling
    }

    /// The number of failed tasks at which the circuit breaker triggers.
    pub(super) fn threshold(&self, desired: u32) -> u32 {
        let Some(breaker) = &self.breaker else { return 0 };
        let percent = (f64::from(desired) * breaker.value / 100.0).ceil() as u32;
        match breaker.kind.as_str() {
            "COUNT" => breaker.value as u32,
            "UNBOUNDED_PERCENT" => percent.max(1),
            _ => percent.clamp(3, 200),
        }
    }

    pub(super) fn view(&self) -> Value {
        let mut view = self.raw.clone();
        view["maximumPercent"] = json!(self.maximum_percent);
        view["minimumHealthyPercent"] = json!(self.minimum_healthy_percent);
        if view["deploymentCircuitBreaker"].is_null() {
            view["deploymentCircuitBreaker"] = json!({ "enable": false, "rollback": false });
        }
        view
    }

    /// The view in a service deployment, which always has alarms.
    pub(super) fn deployed_view(&self) -> Value {
        let mut view = self.view();
        if view["alarms"].is_null() {
            view["alarms"] = json!({ "alarmNames": [], "rollback": false, "enable": false });
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(breaker: Value, desired: u32) -> u32 {
        Settings::read(&json!({ "deploymentCircuitBreaker": breaker })).threshold(desired)
    }

    #[test]
    fn computes_the_published_thresholds() {
        let on = json!({ "enable": true, "rollback": true });
        for (desired, expected) in [(1, 3), (6, 3), (25, 13), (400, 200), (800, 200)] {
            assert_eq!(threshold(on.clone(), desired), expected, "{desired}");
        }
        let with = |kind: &str, value: u32| json!({ "enable": true, "rollback": true, "thresholdConfiguration": { "type": kind, "value": value } });
        assert_eq!(threshold(with("COUNT", 7), 100), 7);
        assert_eq!(threshold(with("UNBOUNDED_PERCENT", 10), 1000), 100);
        assert_eq!(threshold(with("BOUNDED_PERCENT", 10), 1000), 100);
        assert_eq!(threshold(json!({ "enable": false, "rollback": true }), 100), 0);
    }
}
