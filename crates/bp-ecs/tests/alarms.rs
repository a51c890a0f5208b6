//! Checks of CloudWatch alarms, with the real SDK over the sandbox in memory, and over a mocked transport for pages.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_credential_types::Credentials;
use aws_sdk_cloudwatch::config::{BehaviorVersion, Region, SharedHttpClient, retry::RetryConfig};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
    shared::IntoShared,
};
use bp_artifact::{
    check::{Check as _, CheckVerdict, check_until},
    error::{Classified as _, ErrorClass},
    time::Wait,
};
use bp_ecs::{
    Error,
    check::{AlarmCheck, AlarmState},
};
use bp_sandbox::{Effect, Fault, Sandbox, aws::AlarmState as Set};
use common::{ACCOUNT, REGION};

const DESCRIBE: &str = "cloudwatch:DescribeAlarms";

fn client(http: SharedHttpClient) -> aws_sdk_cloudwatch::Client {
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::for_tests())
        .retry_config(RetryConfig::disabled())
        .http_client(http);
    aws_sdk_cloudwatch::Client::from_conf(config.build())
}

fn check(sandbox: &Sandbox, names: &[&str]) -> AlarmCheck {
    let check = AlarmCheck::new(client(sandbox.http_client()), names[0]);
    names.iter().fold(check, |check, name| check.alarm(*name))
}

fn set(sandbox: &Sandbox, name: &str, state: Set) {
    sandbox.aws().alarm(ACCOUNT, REGION, name).set(state, &format!("reason of {name}"));
}

/// The number of calls.
fn calls(sandbox: &Sandbox) -> usize {
    sandbox.ledger().count_of(DESCRIBE)
}

fn failed(verdict: CheckVerdict) -> String {
    let CheckVerdict::Failed { reason } = verdict else { panic!("{verdict}") };
    reason
}

fn unobserved(verdict: CheckVerdict) -> String {
    let CheckVerdict::Unobserved { reason } = verdict else { panic!("{verdict}") };
    reason
}

#[tokio::test(start_paused = true)]
async fn all_alarms_must_be_ok_and_are_read_with_one_call() {
    let sandbox = Sandbox::builder().build();
    for name in ["errors", "latency"] {
        set(&sandbox, name, Set::Ok);
    }
    sandbox.aws().alarm(ACCOUNT, REGION, "any").composite().set(Set::Ok, "both are OK");
    let check = check(&sandbox, &["errors", "any", "latency", "errors"]);
    assert_eq!(check.name(), "alarms errors, any, latency");
    assert_eq!(check.attempt().await, CheckVerdict::Passed);
    assert_eq!(calls(&sandbox), 1);

    // Both failures are reported, and hide the alarm without data.
    set(&sandbox, "latency", Set::Alarm);
    set(&sandbox, "errors", Set::InsufficientData);
    sandbox.aws().alarm(ACCOUNT, REGION, "any").composite().set(Set::Alarm, "latency is in ALARM");
    let updated = format!("(updated {:.0})", sandbox.clock().now());
    let reason = failed(check.attempt().await);
    assert_eq!(
        reason,
        format!(
            "alarm latency is in ALARM {updated}: reason of latency; \
             alarm any is in ALARM {updated}: latency is in ALARM"
        )
    );
    let alarms = check.read().await.unwrap();
    assert!(alarms.iter().all(|alarm| alarm.updated.is_some()), "{alarms:?}");
    assert!(alarms.iter().any(|alarm| alarm.state == AlarmState::InsufficientData), "{alarms:?}");
}

#[tokio::test(start_paused = true)]
async fn insufficient_data_is_unobserved() {
    let sandbox = Sandbox::builder().build();
    set(&sandbox, "errors", Set::InsufficientData);
    let check = check(&sandbox, &["errors"]);
    assert_eq!(check.name(), "alarm errors");
    let reason = unobserved(check.attempt().await);
    assert!(reason.starts_with("alarm errors is in INSUFFICIENT_DATA (updated "), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_alarm_is_a_failure_with_advice() {
    let sandbox = Sandbox::builder().build();
    set(&sandbox, "errors", Set::Ok);
    // An alarm of another region.
    sandbox.aws().alarm(ACCOUNT, "eu-west-1", "latency").set(Set::Ok, "");
    let check = check(&sandbox, &["errors", "latency"]);
    let reason = failed(check.attempt().await);
    assert!(
        reason.starts_with("there is no CloudWatch alarm latency in this account and region; create"),
        "{reason}"
    );
    let error = check.read().await.unwrap_err();
    assert!(matches!(&error, Error::AlarmsNotFound { alarms } if *alarms == ["latency"]), "{error:?}");
    assert_eq!((error.class(), error.is_retryable()), (ErrorClass::BadInput, false));
}

#[tokio::test(start_paused = true)]
async fn a_denied_call_reports_the_permission() {
    let sandbox = Sandbox::builder().build();
    set(&sandbox, "errors", Set::Alarm);
    sandbox.aws().deny(DESCRIBE);
    let check = check(&sandbox, &["errors"]);
    let reason = unobserved(check.attempt().await);
    assert!(reason.contains("grant the caller the permission cloudwatch:DescribeAlarms"), "{reason}");
    assert_eq!(calls(&sandbox), 1);
    assert!(matches!(check.read().await, Err(Error::AccessDenied { action, .. }) if action == DESCRIBE));
}

#[tokio::test(start_paused = true)]
async fn transient_errors_are_retried_until_the_deadline() {
    let sandbox = Sandbox::builder().build();
    set(&sandbox, "errors", Set::Ok);
    let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(5)).unwrap();
    let faults = || [Fault::status(503), Fault::status(429), Fault::new(Effect::Reset)];
    for fault in faults() {
        sandbox.faults().inject(fault.on(DESCRIBE));
    }
    let report = check_until(&check(&sandbox, &["errors"]), wait).await;
    assert_eq!((report.verdict, report.attempts, calls(&sandbox)), (CheckVerdict::Passed, 4, 4));

    for fault in faults() {
        let text = format!("{fault:?}");
        sandbox.faults().inject(fault.on(DESCRIBE).times(u32::MAX));
        let report = check_until(&check(&sandbox, &["errors"]), wait).await;
        let reason = unobserved(report.verdict);
        assert!(reason.starts_with("cloudwatch:DescribeAlarms: the API "), "{text}: {reason}");
        assert!(report.attempts >= 9, "{text}: {}", report.attempts);
        sandbox.faults().clear();
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_100_alarms_are_read_in_batches() {
    let sandbox = Sandbox::builder().build();
    let names: Vec<String> = (0..150).map(|n| format!("alarm-{n}")).collect();
    for name in &names {
        set(&sandbox, name, Set::Ok);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(check(&sandbox, &names).attempt().await, CheckVerdict::Passed);
    assert_eq!(calls(&sandbox), 2);
}

/// Responds with these pages in CBOR, and records whether each request has the token of the previous page.
#[derive(Debug, Clone, Default)]
struct Pages {
    /// The alarm on each page, and whether another page follows.
    pages: Arc<Mutex<Vec<(&'static str, bool)>>>,
    tokens: Arc<Mutex<Vec<bool>>>,
}

fn text(text: &str) -> Vec<u8> {
    [&[0x60 + text.len() as u8], text.as_bytes()].concat()
}

impl HttpConnector for Pages {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap();
        let token = [text("NextToken"), text("next")].concat();
        self.tokens.lock().unwrap().push(body.windows(token.len()).any(|part| part == token));
        let (name, more) = self.pages.lock().unwrap().remove(0);
        let alarm = [vec![0xa2], text("AlarmName"), text(name), text("StateValue"), text("OK")].concat();
        let mut page = [vec![0xa1 + u8::from(more)], text("MetricAlarms"), vec![0x81], alarm].concat();
        if more {
            page.extend(token);
        }
        HttpConnectorFuture::ready(Ok(HttpResponse::new(StatusCode::try_from(200).unwrap(), page.into())))
    }
}

impl HttpClient for Pages {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

#[tokio::test(start_paused = true)]
async fn reads_every_page() {
    let pages = Pages::default();
    pages.pages.lock().unwrap().extend([("errors", true), ("latency", false)]);
    let check = AlarmCheck::new(client(pages.clone().into_shared()), "errors").alarm("latency");
    assert_eq!(check.attempt().await, CheckVerdict::Passed);
    assert_eq!(*pages.tokens.lock().unwrap(), [false, true]);

    pages.pages.lock().unwrap().extend([("errors", true); 100]);
    let reason = unobserved(check.attempt().await);
    assert!(reason.contains("more than 100 pages for 2 alarms"), "{reason}");
}
