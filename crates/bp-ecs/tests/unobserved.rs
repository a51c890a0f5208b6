//! What cannot be observed once a change was applied: never a failure, never taken back, and resumed by the same call.

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

/// A deadline that is soon met.
fn brief() -> Options {
    Options::new(Duration::from_secs(120)).unwrap()
}

/// What AWS says to a role session that has expired.
fn expired(shop: &Shop) -> Fault {
    shop.refuse_all("ExpiredTokenException", "The security token included in the request is expired")
}

/// The ways to lose sight, each met by every call to ECS from now on.
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

/// Runs until it has begun, loses sight, and runs to its end.
async fn lose_sight(shop: &Shop, mut deployment: Deployment, fault: Fault) -> (Vec<DeployEvent>, Outcome) {
    let mut events = Vec::new();
    loop {
        let event = deployment.next_event().await.expect("it begins");
        let begun = matches!(event, DeployEvent::Applied { .. });
        events.push(event);
        if begun {
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
async fn losing_sight_is_neither_failure_nor_success_and_the_same_call_resumes() {
    for (at, (why, fault)) in losses(&Shop::new()).into_iter().enumerate() {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        let before = service.definition();
        let new = shop.image("2");
        let start = Instant::now();
        let (events, outcome) = lose_sight(&shop, shop.target_with(brief()).deploy(&new), fault).await;
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
        // An overload may pass until the deadline; credentials and permissions are waited for a moment.
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
async fn one_that_is_still_under_way_is_adopted_by_the_next_run() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let slow = shop.image_that("2", Behaviour::Healthy(Duration::from_secs(300)));
    let (_, outcome) =
        lose_sight(&shop, shop.target().deploy(&slow), shop.deny("ecs:DescribeServices")).await;
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    shop.sandbox.faults().clear();
    // And lost once more: this run did not start it.
    let fault = shop.deny("ecs:DescribeServiceDeployments");
    let (_, outcome) = lose_sight(&shop, shop.target().deploy(&slow), fault).await;
    assert!(outcome.detail.contains(&format!("followed {}", number(&shop))), "{}", outcome.detail);
    shop.sandbox.faults().clear();
    let (events, outcome) = run(shop.target().deploy(&slow)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: true, .. })));
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_refreshed_in_time_are_no_loss() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let fault = expired(&shop).times(5);
    let (_, outcome) = lose_sight(&shop, shop.target().deploy(&shop.image("2")), fault).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert!(shop.sandbox.faults().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_is_looked_for_before_anything_is_sent_again() {
    for force in [false, true] {
        for (effect, updates) in [
            // Handled, and the answer lost: found, and not done twice.
            (Effect::LoseAnswer, 1),
            // It never arrived, or was turned away.
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
async fn before_the_change_errors_stay_errors() {
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
        // Throttled, it is tried again until the deadline.
        assert_eq!(start.elapsed() > Duration::from_secs(100), at == 0, "{error}: {:?}", start.elapsed());
    }
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.refuse("ecs:UpdateService", "ThrottlingException", "Rate exceeded", 3));
    assert_eq!(shop.target().deploy(&shop.image("2")).await.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_may_not_be_read_leaves_a_success_unproven() {
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
    // The service revision adds to the proof; the tasks are the proof.
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.deny("ecs:DescribeServiceRevisions"));
    let outcome = shop.target().deploy(&shop.image("2")).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, 2));
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_is_throttled_is_waited_for() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.refuse("ecs:ListTasks", "ThrottlingException", "Rate exceeded", 30));
    assert_eq!(shop.target().deploy(&shop.image("2")).await.unwrap().verdict(), Verdict::Deployed);
    assert!(shop.sandbox.faults().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_was_seen_is_kept_when_its_rollback_is_not() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let crash = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
    let mut deployment = shop.target().deploy(&shop.image_that("crash", crash));
    let mut ours = String::new();
    loop {
        match deployment.next_event().await {
            Some(DeployEvent::Applied { deployment, .. }) => ours = deployment,
            Some(DeployEvent::RollingBack { .. }) => break,
            event => assert!(event.is_some(), "it goes back"),
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
async fn going_back_by_an_update_whose_answer_is_lost_is_followed() {
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
async fn a_restore_that_is_lost_is_unobserved_and_resumed() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let stable = shop.target().current().await.unwrap().stable;
    shop.target().deploy(&shop.image("2")).await.unwrap();
    shop.drained().await;
    let restore = shop.target().restore(&stable);
    let (_, outcome) = lose_sight(&shop, restore, expired(&shop)).await;
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    assert!(outcome.detail.contains(&format!("started {} (web:1)", number(&shop))), "{}", outcome.detail);
    shop.sandbox.faults().clear();
    let target: Box<dyn Target> = Box::new(shop.target());
    assert_eq!(target.restore(&stable).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(service.definition(), stable.id);
    assert_eq!(service.deployments().len(), 3, "nothing was begun anew");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_another_deployment_that_cannot_be_observed_is_an_error_in_time() {
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
async fn the_deadline_is_the_same_end_whether_it_is_met_watching_or_throttled() {
    let slow = Behaviour::Healthy(Duration::from_secs(7200));
    for throttled in [false, true] {
        let shop = Shop::new();
        shop.web(&shop.image("1")).create();
        let image = shop.image_that("slow", slow.clone());
        let operation = if throttled { "ecs:DescribeServices" } else { "none" };
        let fault = shop.refuse(operation, "ThrottlingException", "Rate exceeded", u32::MAX);
        let (_, outcome) = lose_sight(&shop, shop.target_with(brief()).deploy(&image), fault).await;
        let code = bp_artifact::ExitCode::from(outcome.verdict());
        assert_eq!(code, bp_artifact::ExitCode::Unavailable, "throttled {throttled}: {}", outcome.verdict());
        assert_eq!(shop.calls("ecs:StopServiceDeployment") + shop.calls("ecs:UpdateService"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_trait_says_the_same() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.deny("ecs:DescribeServiceDeployments"));
    let target: Box<dyn Target> =
        Box::new(Cluster::new(shop.client(), "shop").service("web", options()).container("web"));
    assert_eq!(target.deploy(&shop.image("2")).await.unwrap().verdict(), Verdict::Unobserved);
}
