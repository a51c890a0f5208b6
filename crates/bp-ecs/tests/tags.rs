//! Tags of registered revisions: merged with existing ones, tags about the image, denied and disabled tagging.

mod common;

use bp_artifact::{
    Verdict,
    deploy::Change,
    error::{Classified, ErrorClass},
};
use bp_ecs::{Error, Overlay};
use common::Shop;
use serde_json::{Value, json};

/// The tags of the revision that the service runs.
fn tags(shop: &Shop) -> Value {
    shop.ecs.definition(&shop.service().definition()).unwrap()["tags"].take()
}

fn commit(id: &str) -> Overlay {
    let overlay = Overlay::default().tag("App", "web").image_tag("Commit", Some(id.to_owned()));
    overlay.image_tag("Version", None)
}

#[tokio::test(start_paused = true)]
async fn registers_tags_and_reuses_a_revision_with_identical_tags() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    let target = shop.target().overlay(commit("1a2b3c4"));
    assert_eq!(target.deploy(&new).await.unwrap().verdict(), Verdict::Deployed);
    let expected = json!([
        { "key": "Team", "value": "shop" },
        { "key": "App", "value": "web" },
        { "key": "Commit", "value": "1a2b3c4" },
    ]);
    assert_eq!(tags(&shop), expected);
    assert!(!target.deploy(&new).await.unwrap().changed);
    assert_eq!(shop.ecs.revisions("web"), 2);
    assert!(target.drift(&new).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn image_tags_change_only_with_the_image() {
    let shop = Shop::new();
    let images = ["1", "2", "3"].map(|name| shop.image(name));
    shop.web(&images[0]).create();
    shop.target().overlay(commit("c1")).deploy(&images[1]).await.unwrap();
    // Another commit resulted in the same image, for example a change of the documentation.
    let same = shop.target().overlay(commit("c2")).deploy(&images[1]).await.unwrap();
    assert!(!same.changed);
    let unknown = commit("c3").image_tag("Commit", None);
    assert!(shop.target().overlay(unknown.clone()).drift(&images[1]).await.unwrap().is_none());
    // The commit of the other image is unknown: that of an earlier image would be wrong.
    let drift = shop.target().overlay(unknown.clone()).drift(&images[2]).await.unwrap();
    assert!(
        drift.definition.iter().map(Change::to_string).any(|change| change == "+ tags[Commit].value: c1")
    );
    shop.target().overlay(unknown).deploy(&images[2]).await.unwrap();
    assert_eq!(tags(&shop), json!([{ "key": "Team", "value": "shop" }, { "key": "App", "value": "web" }]));
}

#[tokio::test(start_paused = true)]
async fn a_denied_tagging_permission_has_advice_and_tags_can_be_disabled() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    shop.sandbox.aws().deny("ecs:TagResource");
    let error = shop.target().overlay(commit("c1")).deploy(&new).await.unwrap_err();
    assert!(matches!(error, Error::TaggingDenied { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("ecs:TagResource") && text.contains("ecs.tagging = \"off\""), "{text}");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert_eq!(shop.calls("ecs:UpdateService"), 0);

    let off = || shop.target().overlay(commit("c1").without_tags());
    // Existing tags alone do not require another revision.
    assert!(!off().deploy(&old).await.unwrap().changed);
    assert!(off().drift(&old).await.unwrap().is_none());
    assert_eq!(off().deploy(&new).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(tags(&shop), json!([]));
}

#[tokio::test(start_paused = true)]
async fn rejects_too_many_tags_before_any_change() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let overlay = (0..50).fold(Overlay::default(), |overlay, n| overlay.tag(format!("tag-{n}"), "x"));
    let error = shop.target().overlay(overlay).deploy(&shop.image("2")).await.unwrap_err();
    assert!(matches!(error, Error::TooManyTags { count: 51, limit: 50, .. }), "{error}");
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition") + shop.calls("ecs:UpdateService"), 0);
}
