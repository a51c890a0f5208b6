//! The revision that a failure would return to is checked before the first change.

mod common;

use std::{sync::Arc, time::Duration};

use aws_credential_types::Credentials;
use aws_sdk_ecr::config::{BehaviorVersion, Region, retry::RetryConfig};
use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{DeployEvent, Target},
    error::{Classified, ErrorClass},
    resolve::EcrResolver,
    time::Wait,
};
use bp_ecs::{
    CheckSecrets, EcsTarget, Error, Finding, FindingState, InFlight, Lookups, RollbackCheck, SecretReference,
};
use common::{ACCOUNT, HOST, REGION, Shop, definition, options, run};
use futures_core::future::BoxFuture;
use serde_json::json;

/// Secrets whose names contain `missing` do not exist, and those whose names contain `denied` cannot be looked up.
struct Stores;

impl CheckSecrets for Stores {
    fn check<'a>(&'a self, secrets: &'a [SecretReference]) -> BoxFuture<'a, Vec<Finding>> {
        let finding = |secret: &SecretReference| {
            let state = match &secret.value_from {
                name if name.contains("missing") => FindingState::Missing,
                name if name.contains("denied") => FindingState::Unknown,
                _ => FindingState::Present,
            };
            Finding::new(secret.to_string(), state, "")
        };
        Box::pin(async move { secrets.iter().map(finding).collect() })
    }
}

fn ecr(shop: &Shop) -> aws_sdk_ecr::Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::for_tests())
        .retry_config(RetryConfig::disabled())
        .http_client(shop.sandbox.http_client())
        .build();
    aws_sdk_ecr::Client::from_conf(config)
}

fn lookups(shop: &Shop) -> Lookups {
    let wait = Wait::new(Duration::from_secs(10), Duration::from_secs(2)).unwrap();
    let resolver = EcrResolver::new(ecr(shop)).lifecycle_preview(wait);
    Lookups::default().registry(Arc::new(resolver)).secrets(Arc::new(Stores))
}

fn target(shop: &Shop) -> EcsTarget {
    shop.target().lookups(lookups(shop))
}

fn accepting(shop: &Shop) -> EcsTarget {
    shop.target_with(options().accept_unproven_rollback(true)).lookups(lookups(shop))
}

/// A service that runs an image in one container, and another image to deploy.
fn shop() -> (Shop, ResolvedImage, ResolvedImage) {
    shop_with(|running| drop(running["containerDefinitions"].as_array_mut().unwrap().pop()))
}

fn shop_with(change: impl FnOnce(&mut serde_json::Value)) -> (Shop, ResolvedImage, ResolvedImage) {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let mut running = definition(&old);
    change(&mut running);
    // For the tasks, every secret exists.
    for name in ["/shop/db", "/shop/denied", "/shop/missing"] {
        shop.sandbox.aws().ssm(ACCOUNT, REGION).put(name, "x");
    }
    shop.ecs.new_service("shop", "web").task_definition(running).create();
    shop.sandbox.ledger().clear();
    (shop, old, new)
}

fn changes(shop: &Shop) -> usize {
    shop.calls("ecs:RegisterTaskDefinition") + shop.calls("ecs:UpdateService")
}

fn states(check: &RollbackCheck) -> Vec<FindingState> {
    check.findings.iter().map(|finding| finding.state).collect()
}

/// The error of a deployment that is refused without any change, and then the outcome if it is accepted.
async fn refused_unless_accepted(shop: &Shop, new: &ResolvedImage) -> String {
    let error = target(shop).deploy(new).await.unwrap_err();
    assert!(matches!(&error, Error::UnprovenRollback { check, .. } if check.is_refused()), "{error}");
    assert_eq!((error.class(), changes(shop)), (ErrorClass::Refused, 0), "{error}");
    let text = error.to_string();
    assert!(text.ends_with("deploy anyway with --accept-unproven-rollback (nothing was changed)"), "{text}");

    let outcome = accepting(shop).deploy(new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    let check = outcome.rollback.unwrap();
    assert!(check.accepted && states(&check).iter().any(|state| state.is_fatal()), "{check:?}");
    text
}

#[tokio::test(start_paused = true)]
async fn a_proven_rollback_revision_is_reported_and_recorded() {
    let (shop, old, new) = shop_with(|running| {
        running["containerDefinitions"][0]["secrets"] = json!([{ "name": "DB", "valueFrom": "/shop/db" }]);
    });
    let (events, outcome) = run(target(&shop).deploy(&new)).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let check = outcome.rollback.unwrap();
    assert_eq!(check.revision, outcome.previous);
    assert!(states(&check).iter().all(|state| *state == FindingState::Present), "{check}");
    let subjects: Vec<&str> = check.findings.iter().map(|finding| finding.subject.as_str()).collect();
    let image = format!("image {} (web, proxy)", old.reference);
    assert_eq!(subjects, ["task definition web:1", image.as_str(), "secret DB of web: /shop/db"]);
    let said = |event: &&DeployEvent| event.to_string() == "ecs/shop/web: rollback revision web:1: ok";
    assert_eq!(events.iter().filter(said).count(), 1, "{events:?}");
    // One image, in two containers; the repository has no lifecycle policy.
    let of_ecr =
        shop.sandbox.ledger().operations("aws").iter().filter(|call| call.starts_with("ecr:")).count();
    assert_eq!(
        (shop.calls("ecr:DescribeImages"), shop.calls("ecr:StartLifecyclePolicyPreview"), of_ecr),
        (1, 1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn without_lookups_it_takes_no_call_and_unknown_is_shown() {
    let (shop, _, new) = shop();
    let outcome = shop.target().deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let check = outcome.rollback.unwrap();
    assert_eq!(states(&check), [FindingState::Present, FindingState::Unknown]);
    let calls = shop.sandbox.ledger().operations("aws");
    assert!(calls.iter().all(|call| call.starts_with("ecs:")), "{calls:?}");
    let before = calls.iter().take_while(|call| *call != "ecs:RegisterTaskDefinition");
    assert_eq!(
        before.collect::<Vec<_>>(),
        [
            "ecs:DescribeServices",
            "ecs:ListServiceDeployments",
            "ecs:DescribeTaskDefinition",
            "ecs:DescribeTaskDefinition"
        ],
        "the survey, the current definition, and the latest one of the family"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_refused_before_the_first_change() {
    let (shop, old, new) = shop();
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(old.digest().as_str()).build();
    ecr(&shop).batch_delete_image().repository_name("shop/web").image_ids(id).send().await.unwrap();
    let error = refused_unless_accepted(&shop, &new).await;
    let expected = format!(
        "the service \"web\" could not be rolled back: image {0} (web): the image {0} does not exist",
        old.reference
    );
    assert!(error.starts_with(&expected) && error.contains("; push or copy it there again; "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_archived_image_is_refused_before_the_first_change() {
    let (shop, old, new) = shop();
    shop.sandbox.registry(HOST).archive("shop/web", old.digest().as_str());
    let error = refused_unless_accepted(&shop, &new).await;
    assert!(error.contains("is archived and cannot be pulled; restore it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_a_lifecycle_rule_selects_is_refused_before_the_first_change() {
    let (shop, _, new) = shop();
    let policy = |prefix: &str| {
        let selection = json!({
            "tagStatus": "tagged", "tagPrefixList": [prefix], "countType": "sinceImagePushed", "countUnit": "days",
            "countNumber": 0,
        });
        json!({ "rules": [{ "rulePriority": 3, "selection": selection, "action": { "type": "expire" } }] })
            .to_string()
    };
    let put = |policy: String| {
        ecr(&shop).put_lifecycle_policy().repository_name("shop/web").lifecycle_policy_text(policy).send()
    };
    tokio::time::sleep(Duration::from_secs(60)).await;
    put(policy("1")).await.unwrap();
    let error = refused_unless_accepted(&shop, &new).await;
    assert!(error.contains("rule 3 of the repository's lifecycle policy selects it for deletion"), "{error}");

    // A rule that selects other images. The service runs `new` now, so the image to deploy is the old one.
    put(policy("release-")).await.unwrap();
    shop.drained().await;
    let outcome = target(&shop).deploy(&shop.image("3")).await.unwrap();
    assert!(!outcome.rollback.unwrap().is_refused());
}

#[tokio::test(start_paused = true)]
async fn a_deregistered_definition_is_refused_before_the_first_change() {
    let (shop, _, new) = shop();
    shop.client().deregister_task_definition().task_definition("web:1").send().await.unwrap();
    let error = refused_unless_accepted(&shop, &new).await;
    assert!(
        error.contains("task definition web:1: is INACTIVE, so the service cannot be updated to it"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_refused_and_one_that_cannot_be_looked_up_is_not() {
    let secret = |reference: &'static str| {
        move |running: &mut serde_json::Value| {
            running["containerDefinitions"][0]["secrets"] = json!([{ "name": "DB", "valueFrom": reference }]);
        }
    };
    let (shop, _, new) = shop_with(secret("/shop/denied"));
    let outcome = target(&shop).deploy(&new).await.unwrap();
    assert_eq!(states(&outcome.rollback.unwrap())[2], FindingState::Unknown);

    let (shop, _, new) = shop_with(secret("/shop/missing"));
    let error = target(&shop).deploy(&new).await.unwrap_err();
    assert!(error.to_string().contains("secret DB of web: /shop/missing"), "{error}");
    assert_eq!(changes(&shop), 0);
}

#[tokio::test(start_paused = true)]
async fn denied_and_throttled_lookups_are_unknown_and_refuse_nothing() {
    for (operation, code, part) in [
        ("ecr:DescribeImages", "AccessDeniedException", "ecr:DescribeImages"),
        ("ecr:DescribeImages", "ThrottlingException", "is unavailable"),
        ("ecr:StartLifecyclePolicyPreview", "AccessDeniedException", "ecr:StartLifecyclePolicyPreview"),
        ("ecr:StartLifecyclePolicyPreview", "ThrottlingException", "is unavailable"),
    ] {
        let (shop, _, new) = shop();
        let fault = match code {
            "AccessDeniedException" => shop.deny(operation),
            code => shop.refuse(operation, code, "Rate exceeded", u32::MAX),
        };
        shop.inject(fault);
        let outcome = target(&shop).deploy(&new).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{operation} {code}");
        let image = &outcome.rollback.unwrap().findings[1];
        assert_eq!(image.state, FindingState::Unknown, "{operation} {code}: {image}");
        assert!(image.message.contains(part), "{operation} {code}: {image}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_respond_delays_a_deployment_by_half_a_minute() {
    struct Silent;
    impl bp_artifact::resolve::Resolve for Silent {
        fn resolve<'a>(
            &'a self,
            _: &'a bp_artifact::ImageRef,
        ) -> BoxFuture<'a, Result<ResolvedImage, bp_artifact::resolve::ResolveError>> {
            Box::pin(std::future::pending())
        }
    }
    let (shop, _, new) = shop();
    let target = shop.target().lookups(Lookups::default().registry(Arc::new(Silent)));
    let outcome = target.deploy(&new).await.unwrap();
    let image = &outcome.rollback.unwrap().findings[1];
    assert_eq!((image.state, image.message.as_str()), (FindingState::Unknown, "no response within 30 s"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_checked_if_nothing_changes_or_a_deployment_is_adopted() {
    let (shop, old, new) = shop_with(|_| {});
    let outcome = target(&shop).deploy(&old).await.unwrap();
    assert_eq!((outcome.changed, outcome.rollback), (false, None));

    let mut wanted = definition(&old);
    wanted["containerDefinitions"][0]["image"] = json!(new.reference.to_string());
    let arn = shop.ecs.register(wanted);
    shop.service().update(json!({ "taskDefinition": arn }));
    let outcome = target(&shop).deploy(&new).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.rollback), (Verdict::Deployed, None));
    assert_eq!(shop.calls("ecr:DescribeImages"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_has_no_revision_to_return_to() {
    let shop = Shop::new();
    shop.ecs.cluster("shop");
    let arn = shop.ecs.register(definition(&shop.missing_image()));
    let create = shop.client().create_service().cluster("shop").service_name("web").task_definition(arn);
    create.desired_count(1).send().await.unwrap();
    let target = shop.target_with(options().in_flight(InFlight::Supersede)).lookups(lookups(&shop));
    let found = target.preflight(&shop.image("1"), &lookups(&shop)).await.unwrap();
    assert!(found.to_string().contains("rollback revision: none"), "{found}");
    // Preflight asks whether the new image is archived.
    let asked = shop.calls("ecr:DescribeImages");
    let (events, outcome) = run(target.deploy(&shop.image("1"))).await;
    let check = outcome.unwrap().rollback.unwrap();
    assert_eq!((&check.revision, states(&check)), (&None, vec![FindingState::Warning]));
    let said = "there is no revision to return to: no deployment of the service has succeeded yet";
    assert!(events.iter().any(|event| event.to_string().ends_with(said)), "{events:?}");
    assert_eq!(shop.calls("ecr:DescribeImages"), asked);
}

#[tokio::test(start_paused = true)]
async fn preflight_shows_the_rollback_revision_as_text_and_json() {
    let (shop, old, new) = shop();
    shop.sandbox.registry(HOST).archive("shop/web", old.digest().as_str());
    let found = target(&shop).preflight(&new, &lookups(&shop)).await.unwrap();
    let rollback = found.rollback.as_ref().unwrap();
    assert!(rollback.is_refused() && !found.is_ready());
    let text = found.to_string();
    assert!(
        text.contains("\n  rollback revision web:1: cannot run\n    ok: task definition web:1"),
        "{text}"
    );
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["rollback"]["findings"][1]["state"], "invalid");
    assert_eq!(json["rollback"]["accepted"], false);
    assert!(accepting(&shop).preflight(&new, &lookups(&shop)).await.unwrap().rollback.unwrap().accepted);
    // Nothing would be changed, so there is nothing to return from.
    assert_eq!(target(&shop).preflight(&old, &lookups(&shop)).await.unwrap().rollback, None);
    assert_eq!(changes(&shop), 0);
}

#[tokio::test(start_paused = true)]
async fn a_saga_checks_the_recorded_revision_and_a_target_does_not_repeat_it() {
    let (shop, _, new) = shop();
    let target = target(&shop);
    let previous = Target::current(&target).await.unwrap().stable;
    shop.sandbox.ledger().clear();
    let check = Target::check_rollback(&target, &new, &previous).await.unwrap().unwrap();
    assert!(!check.is_refused() && check.revision.as_ref() == Some(&previous));
    assert_eq!(
        shop.sandbox.ledger().operations("aws"),
        [
            "ecs:DescribeServices",
            "ecs:ListServiceDeployments",
            "ecs:DescribeTaskDefinition",
            "ecr:DescribeImages",
            "ecr:StartLifecyclePolicyPreview"
        ]
    );
    let gone = bp_artifact::deploy::Revision::new(
        "arn:aws:ecs:eu-central-1:111111111111:task-definition/web:9",
        "x",
    );
    let check = Target::check_rollback(&target, &new, &gone).await.unwrap().unwrap();
    assert_eq!(check.reasons(), "task definition web:9: does not exist; register it again");
    shop.sandbox.ledger().clear();
    let outcome = Target::deploy(&target, &new).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.rollback), (Verdict::Deployed, None));
    assert_eq!(shop.calls("ecr:DescribeImages"), 0);
    // It runs now.
    let previous = Target::current(&target).await.unwrap().stable;
    assert_eq!(Target::check_rollback(&target, &new, &previous).await.unwrap(), None);
}
