//! Lost observation after a change was applied: not a failure, not rolled back, and resumed by the same call.

mod common;

use std::time::Duration;

use bp_artifact::{
    Outcome, Verdict,
    deploy::{Cause, DeployEvent, Target},
    error::{Classified, ErrorClass},
};
use bp_ecs::{Cluster, Deployment, Error, InFlight, Options};
use bp_sandbox::{Behaviour, Effect, Fault};
use common::{Shop, definition, options, run};
use tokio::time::Instant;

/// Options with a short deadline.
fn brief() -> Options {
    Options::new(Duration::from_secs(120)).unwrap()
}

/// The error of AWS for an expired role session.
fn expired(shop: &Shop) -> Fault {
    shop.refuse_all("ExpiredTokenException", "The security token included in the request is expired")
}

/// Faults that make a deployment unobservable: every later call to ECS fails.
fn losses(shop: &Shop) -> Vec<(&'static str, Fault)> {
    let all = |fault: Fault| fault.at("aws").times(u32::MAX);
    vec![
        ("no valid AWS credentials", expired(shop)),
        ("Rate exceeded", shop.refuse_all("ThrottlingException", "Rate exceeded")),
        ("cannot be reached", all(Fault::new(Effect::Reset))),
        ("overloaded or failing", all(Fault::status(503))),
        ("the permission ecs:DescribeServices", shop.deny("ecs:DescribeServices")),
        ("the permission ecs:DescribeServiceDeployments", shop.deny("ecs:DescribeServiceDeployments")),
    ]
}

/// Runs until the deployment has started, injects the fault, and runs to the end.
async fn lose_observation(
    shop: &Shop,
    mut deployment: Deployment,
    fault: Fault,
) -> (Vec<DeployEvent>, Outcome) {
    let mut events = Vec::new();
    loop {
        let event = deployment.next_event().await.expect("the deployment starts");
        let started = matches!(event, DeployEvent::Applied { .. });
        events.push(event);
        if started {
            break;
        }
    }
    shop.inject(fault);
    let (rest, outcome) = run(deployment).await;
    events.extend(rest);
    (events, outcome.unwrap())
}

fn number(shop: &Shop) -> String {
    shop.service().view()["deployments"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn lost_observation_is_unobserved_and_the_same_call_resumes() {
    for (at, (why, fault)) in losses(&Shop::new()).into_iter().enumerate() {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        let before = service.definition();
        let new = shop.image("2");
        let start = Instant::now();
        let (events, outcome) = lose_observation(&shop, shop.target_with(brief()).deploy(&new), fault).await;
        assert_eq!(outcome.verdict(), Verdict::Unobserved, "{why}: {outcome:#?}");
        assert!(outcome.failure.is_none() && outcome.changed, "{why}");
        assert_eq!(outcome.previous.unwrap().id, before);
        for part in [why, &format!("started {} (web:2)", number(&shop)), "continues", "same command"] {
            assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
        }
        assert_eq!(outcome.detail.lines().count(), 1);
        assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));
        assert!(
            !events
                .iter()
                .any(|e| matches!(e, DeployEvent::Failing { .. } | DeployEvent::RollingBack { .. }))
        );
        // An overload is retried until the deadline, missing credentials and permissions for 20 s.
        let lasts = if (1..4).contains(&at) { 120..130 } else { 20..30 };
        assert!(lasts.contains(&start.elapsed().as_secs()), "{why}: {:?}", start.elapsed());

        shop.sandbox.faults().clear();
        assert_eq!(shop.target().deploy(&new).await.unwrap().verdict(), Verdict::Deployed, "{why}");
        assert!(service.definition().ends_with("web:2"));
        let changes = ["ecs:UpdateService", "ecs:StopServiceDeployment", "ecs:RegisterTaskDefinition"];
        assert_eq!(changes.map(|operation| shop.calls(operation)), [1, 0, 1], "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_run_adopts_a_deployment_that_is_still_in_progress() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let slow = shop.image_that("2", Behaviour::Healthy(Duration::from_secs(300)));
    let (_, outcome) =
        lose_observation(&shop, shop.target().deploy(&slow), shop.deny("ecs:DescribeServices")).await;
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    shop.sandbox.faults().clear();
    // Observation is lost again: this run did not start the deployment.
    let fault = shop.deny("ecs:DescribeServiceDeployments");
    let (_, outcome) = lose_observation(&shop, shop.target().deploy(&slow), fault).await;
    assert!(outcome.detail.contains(&format!("followed {}", number(&shop))), "{}", outcome.detail);
    shop.sandbox.faults().clear();
    let (events, outcome) = run(shop.target().deploy(&slow)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: true, .. })));
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_refreshed_in_time_do_not_end_the_run() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let fault = expired(&shop).times(5);
    let (_, outcome) = lose_observation(&shop, shop.target().deploy(&shop.image("2")), fault).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert!(shop.sandbox.faults().is_empty());
}

#[tokio::test(start_paused = true)]
async fn polls_the_service_before_retrying_after_a_lost_response() {
    for force in [false, true] {
        for (effect, updates) in [
            // Applied, and the response lost: the deployment is found, and not started twice.
            (Effect::LoseAnswer, 1),
            // The request never arrived, or was rejected.
            (Effect::Reset, 2),
            (Effect::Answer { status: 503, headers: vec![], body: String::new() }, 2),
        ] {
            let shop = Shop::new();
            let service = shop.web(&shop.image("1")).create();
            let image = shop.image(if force { "1" } else { "2" });
            shop.inject(Fault::new(effect.clone()).on("ecs:UpdateService"));
            let (events, outcome) = run(shop.target_with(options().force(force)).deploy(&image)).await;
            assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed, "{effect:?}, force {force}");
            assert_eq!(shop.calls("ecs:UpdateService"), updates, "{effect:?}, force {force}");
            assert_eq!(service.deployments().len(), 2, "{effect:?}, force {force}: one deployment");
            assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: false, .. })));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_may_have_been_applied_is_unobserved_and_resumed() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let new = shop.image("2");
    let lost = Fault::new(Effect::LoseAnswer).on("ecs:UpdateService");
    let (_, outcome) = {
        shop.inject(lost);
        shop.inject(expired(&shop).on("ecs:DescribeServices").after(1).times(u32::MAX));
        run(shop.target().deploy(&new)).await
    };
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    assert!(outcome.changed && outcome.revision.unwrap().id.ends_with("web:2"));
    for part in ["ecs:UpdateService to web:2 was sent", "could not be observed", "same command"] {
        assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
    }
    shop.sandbox.faults().clear();
    assert_eq!(shop.target().deploy(&new).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}

#[tokio::test(start_paused = true)]
async fn errors_before_the_change_are_returned() {
    let throttled =
        |shop: &Shop| shop.refuse("ecs:UpdateService", "ThrottlingException", "Rate exceeded", u32::MAX);
    let denied = |shop: &Shop| shop.deny("ecs:UpdateService");
    let lost = |shop: &Shop| expired(shop).on("ecs:UpdateService").times(u32::MAX);
    let faults: [&dyn Fn(&Shop) -> Fault; 3] = [&throttled, &denied, &lost];
    for (at, fault) in faults.into_iter().enumerate() {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        shop.inject(fault(&shop));
        let start = Instant::now();
        let error = shop.target_with(brief()).deploy(&shop.image("2")).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
        assert_eq!(service.deployments().len(), 1);
        // A throttled call is retried until the deadline.
        assert_eq!(start.elapsed() > Duration::from_secs(100), at == 0, "{error}: {:?}", start.elapsed());
    }
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.refuse("ecs:UpdateService", "ThrottlingException", "Rate exceeded", 3));
    assert_eq!(shop.target().deploy(&shop.image("2")).await.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn a_success_is_unproven_if_reading_tasks_is_denied() {
    for operation in ["ecs:ListTasks", "ecs:DescribeTasks"] {
        let shop = Shop::new();
        shop.web(&shop.image("1")).create();
        let new = shop.image("2");
        shop.inject(shop.deny(operation));
        for changed in [true, false] {
            let (events, outcome) = run(shop.target().deploy(&new)).await;
            let outcome = outcome.unwrap();
            assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Unproven, changed), "{operation}");
            assert!(outcome.detail.contains(&format!("the permission {operation}")), "{}", outcome.detail);
            assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));
        }
        assert_eq!(shop.calls("ecs:UpdateService"), 1);
    }
    // The service revision is additional; the tasks are sufficient for a proof.
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.deny("ecs:DescribeServiceRevisions"));
    let outcome = shop.target().deploy(&shop.image("2")).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, 2));
}

#[tokio::test(start_paused = true)]
async fn retries_a_throttled_proof() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.refuse("ecs:ListTasks", "ThrottlingException", "Rate exceeded", 30));
    assert_eq!(shop.target().deploy(&shop.image("2")).await.unwrap().verdict(), Verdict::Deployed);
    assert!(shop.sandbox.faults().is_empty());
}

#[tokio::test(start_paused = true)]
async fn keeps_a_failure_whose_rollback_cannot_be_observed() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let crash = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
    let mut deployment = shop.target().deploy(&shop.image_that("crash", crash));
    let mut ours = String::new();
    loop {
        match deployment.next_event().await {
            Some(DeployEvent::Applied { deployment, .. }) => ours = deployment,
            Some(DeployEvent::RollingBack { .. }) => break,
            event => assert!(event.is_some(), "it rolls back"),
        }
    }
    shop.inject(expired(&shop));
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    for part in [&format!("{ours} (web:2) failed"), "roll it back", "no valid AWS credentials"] {
        assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn follows_a_rollback_update_whose_response_is_lost() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    shop.inject(shop.deny("ecs:StopServiceDeployment"));
    shop.inject(Fault::new(Effect::LoseAnswer).on("ecs:UpdateService").after(1));
    let crash = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
    let outcome = shop.target().deploy(&shop.image_that("crash", crash)).await.unwrap();
    assert_eq!((outcome.verdict(), service.definition()), (Verdict::RolledBack, old));
    assert_eq!(shop.calls("ecs:UpdateService"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_cannot_be_observed_is_unobserved_and_resumed() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let stable = shop.target().current().await.unwrap().stable;
    shop.target().deploy(&shop.image("2")).await.unwrap();
    shop.drained().await;
    let restore = shop.target().restore(&stable);
    let (_, outcome) = lose_observation(&shop, restore, expired(&shop)).await;
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    assert!(outcome.detail.contains(&format!("started {} (web:1)", number(&shop))), "{}", outcome.detail);
    shop.sandbox.faults().clear();
    let target: Box<dyn Target> = Box::new(shop.target());
    assert_eq!(target.restore(&stable).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(service.definition(), stable.id);
    assert_eq!(service.deployments().len(), 3, "no other deployment was started");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_unobservable_deployment_returns_an_error() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let slow = shop.image_that("3", Behaviour::Healthy(Duration::from_secs(7200)));
    let theirs = shop.ecs.register(definition(&slow));
    service.update(serde_json::json!({ "taskDefinition": theirs }));
    tokio::time::sleep(Duration::from_secs(3)).await;
    shop.inject(shop.deny("ecs:DescribeServiceDeployments"));
    let policy = Options::new(Duration::from_secs(300)).unwrap().in_flight(InFlight::Wait);
    let error = shop.target_with(policy).deploy(&shop.image("2")).await.unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
    assert_eq!(shop.calls("ecs:UpdateService"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_has_one_exit_code_while_watching_and_while_throttled() {
    let slow = Behaviour::Healthy(Duration::from_secs(7200));
    let leave = brief().on_failure(bp_ecs::OnFailure::Leave);
    for throttled in [false, true] {
        let shop = Shop::new();
        shop.web(&shop.image("1")).create();
        let image = shop.image_that("slow", slow.clone());
        let operation = if throttled { "ecs:DescribeServices" } else { "none" };
        let fault = shop.refuse(operation, "ThrottlingException", "Rate exceeded", u32::MAX);
        let (_, outcome) =
            lose_observation(&shop, shop.target_with(leave.clone()).deploy(&image), fault).await;
        let code = bp_artifact::ExitCode::from(outcome.verdict());
        assert_eq!(code, bp_artifact::ExitCode::Unavailable, "throttled {throttled}: {}", outcome.verdict());
        assert_eq!(shop.calls("ecs:StopServiceDeployment") + shop.calls("ecs:UpdateService"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_target_trait_returns_the_same_verdict() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.deny("ecs:DescribeServiceDeployments"));
    let target: Box<dyn Target> =
        Box::new(Cluster::new(shop.client(), "shop").service("web", options()).container("web"));
    assert_eq!(target.deploy(&shop.image("2")).await.unwrap().verdict(), Verdict::Unobserved);
}
