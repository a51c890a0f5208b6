//! Tags of registered revisions: merged over those that are carried, about the image, refused, turned off.

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
async fn tags_are_registered_and_an_equal_set_makes_no_other_revision() {
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
async fn tags_about_the_image_change_with_the_image_alone() {
    let shop = Shop::new();
    let images = ["1", "2", "3"].map(|name| shop.image(name));
    shop.web(&images[0]).create();
    shop.target().overlay(commit("c1")).deploy(&images[1]).await.unwrap();
    // Another commit made the same image, as a change of the documentation does.
    let same = shop.target().overlay(commit("c2")).deploy(&images[1]).await.unwrap();
    assert!(!same.changed);
    let unknown = commit("c3").image_tag("Commit", None);
    assert!(shop.target().overlay(unknown.clone()).drift(&images[1]).await.unwrap().is_none());
    // Of another image the commit is not known: an earlier one's would be wrong.
    let drift = shop.target().overlay(unknown.clone()).drift(&images[2]).await.unwrap();
    assert!(
        drift.definition.iter().map(Change::to_string).any(|change| change == "+ tags[Commit].value: c1")
    );
    shop.target().overlay(unknown).deploy(&images[2]).await.unwrap();
    assert_eq!(tags(&shop), json!([{ "key": "Team", "value": "shop" }, { "key": "App", "value": "web" }]));
}

#[tokio::test(start_paused = true)]
async fn without_the_permission_to_tag_the_error_says_what_to_do_and_tags_can_be_turned_off() {
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
    // Tags that are there are no reason for another revision.
    assert!(!off().deploy(&old).await.unwrap().changed);
    assert!(off().drift(&old).await.unwrap().is_none());
    assert_eq!(off().deploy(&new).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(tags(&shop), json!([]));
}

#[tokio::test(start_paused = true)]
async fn more_tags_than_aws_takes_are_refused_before_anything_changes() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let overlay = (0..50).fold(Overlay::default(), |overlay, n| overlay.tag(format!("tag-{n}"), "x"));
    let error = shop.target().overlay(overlay).deploy(&shop.image("2")).await.unwrap_err();
    assert!(matches!(error, Error::TooManyTags { count: 51, limit: 50, .. }), "{error}");
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition") + shop.calls("ecs:UpdateService"), 0);
}
