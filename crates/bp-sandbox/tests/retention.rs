//! Storage classes and lifecycle policies of the ECR model, with the AWS SDK, in memory.
#![cfg(feature = "aws")]

#[path = "common/ecr.rs"]
mod setup;

use std::time::Duration;

use aws_sdk_ecr::{
    Client,
    error::ProvideErrorMetadata,
    types::{DescribeImagesFilter, ImageIdentifier, ImageStatusFilter, LifecyclePolicyPreviewStatus},
};
use bp_sandbox::{ImageBuilder, Sandbox, registry::RegistryOptions};
use serde_json::{Value, json};
use setup::{HOST, client};

const WEB: &str = "shop/web";

struct Setup {
    sandbox: Sandbox,
    client: Client,
}

impl Setup {
    /// A repository with an index of each tag, pushed a day apart, oldest first.
    fn new(tags: &[&str]) -> Self {
        let sandbox = Sandbox::builder().registry(HOST, RegistryOptions::ecr()).build();
        sandbox.registry(HOST).create_repository(WEB);
        for tag in tags {
            let image = ImageBuilder::new().platform("linux/amd64").platform("linux/arm64");
            sandbox.registry(HOST).push(&image.layer([("app/tag", *tag)]).build(), WEB, tag);
            sandbox.clock().advance(Duration::from_secs(86_400));
        }
        Setup { client: client(&sandbox), sandbox }
    }

    /// The tags that a policy of these rules selects, each with the priority of its rule.
    async fn selected(&self, rules: &[Value]) -> Vec<(String, i32)> {
        let text = json!({ "rules": rules }).to_string();
        let call = self.client.start_lifecycle_policy_preview().repository_name(WEB);
        let started = call.lifecycle_policy_text(&text).send().await.unwrap();
        assert_eq!(started.status(), Some(&LifecyclePolicyPreviewStatus::InProgress));
        self.sandbox.clock().advance(Duration::from_secs(60));
        let preview = self.client.get_lifecycle_policy_preview().repository_name(WEB).send().await.unwrap();
        assert_eq!(preview.status(), Some(&LifecyclePolicyPreviewStatus::Complete));
        assert_eq!(preview.lifecycle_policy_text(), Some(text.as_str()));
        let mut selected: Vec<(String, i32)> = preview
            .preview_results()
            .iter()
            .map(|image| (image.image_tags().join("+"), image.applied_rule_priority().unwrap()))
            .collect();
        selected.sort();
        selected
    }
}

fn rule(priority: u32, selection: Value) -> Value {
    json!({ "rulePriority": priority, "selection": selection, "action": { "type": "expire" } })
}

fn pairs(expected: &[(&str, i32)]) -> Vec<(String, i32)> {
    expected.iter().map(|(tag, rule)| ((*tag).to_owned(), *rule)).collect()
}

#[tokio::test(start_paused = true)]
async fn selects_images_by_count_age_and_tag() {
    let setup = Setup::new(&["v1", "v2", "prod-1", "v3"]);
    let any =
        |kind: &str, number: u32| json!({ "tagStatus": "any", "countType": kind, "countNumber": number });
    let newest = setup.selected(&[rule(1, any("imageCountMoreThan", 2))]).await;
    assert_eq!(newest, pairs(&[("v1", 1), ("v2", 1)]), "the platforms of an index are not counted");
    let old = setup.selected(&[rule(1, any("sinceImagePushed", 3))]).await;
    assert_eq!(old, pairs(&[("v1", 1), ("v2", 1)]));

    let tagged = |list: &str, value: &str, number: u32| json!({ "tagStatus": "tagged", list: [value], "countType": "imageCountMoreThan", "countNumber": number });
    let kept = [rule(1, tagged("tagPrefixList", "prod", 5)), rule(9, any("imageCountMoreThan", 0))];
    assert_eq!(
        setup.selected(&kept).await,
        pairs(&[("v1", 9), ("v2", 9), ("v3", 9)]),
        "rule 1 claims its images"
    );
    let pattern = setup.selected(&[rule(2, tagged("tagPatternList", "*od-*", 0))]).await;
    assert_eq!(pattern, pairs(&[("prod-1", 2)]));
}

#[tokio::test(start_paused = true)]
async fn a_preview_requires_a_policy_and_one_is_in_progress_at_a_time() {
    let setup = Setup::new(&["v1"]);
    let start = || setup.client.start_lifecycle_policy_preview().repository_name(WEB).send();
    let code = |error: &dyn ProvideErrorMetadata| error.code().unwrap_or_default().to_owned();
    assert_eq!(code(&start().await.unwrap_err()), "LifecyclePolicyNotFoundException");
    let get = || setup.client.get_lifecycle_policy_preview().repository_name(WEB).send();
    assert_eq!(code(&get().await.unwrap_err()), "LifecyclePolicyPreviewNotFoundException");
    let selection = json!({ "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1 });
    let text = json!({ "rules": [rule(1, selection)] }).to_string();
    let put = setup.client.put_lifecycle_policy().repository_name(WEB).lifecycle_policy_text(&text);
    put.send().await.unwrap();
    assert_eq!(start().await.unwrap().lifecycle_policy_text(), Some(text.as_str()));
    assert_eq!(code(&start().await.unwrap_err()), "LifecyclePolicyPreviewInProgressException");
    assert_eq!(get().await.unwrap().status(), Some(&LifecyclePolicyPreviewStatus::InProgress));
    let put = setup.client.put_lifecycle_policy().repository_name(WEB).lifecycle_policy_text("{}");
    assert_eq!(code(&put.send().await.unwrap_err()), "InvalidParameterException");
}

#[tokio::test(start_paused = true)]
async fn archived_images_are_described_on_request_and_a_push_restores_them() {
    let setup = Setup::new(&["v1", "v2"]);
    let registry = setup.sandbox.registry(HOST);
    let digest = registry.tags(WEB)["v1"].clone();
    let bytes = registry.manifest(WEB, "v1").unwrap().bytes;
    registry.archive(WEB, &digest);
    let describe = || setup.client.describe_images().repository_name(WEB);
    let tagged = |details: &[aws_sdk_ecr::types::ImageDetail]| {
        details.iter().filter(|detail| !detail.image_tags().is_empty()).count()
    };
    assert_eq!(tagged(describe().send().await.unwrap().image_details()), 1);
    let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
    assert_eq!(tagged(describe().filter(any).send().await.unwrap().image_details()), 2);
    let get = || {
        let id = ImageIdentifier::builder().image_digest(&digest).build();
        setup.client.batch_get_image().repository_name(WEB).image_ids(id).send()
    };
    assert_eq!(get().await.unwrap().failures().len(), 1);
    let put = setup.client.put_image().repository_name(WEB).image_tag("v1");
    let put = put.image_manifest_media_type("application/vnd.oci.image.index.v1+json");
    put.image_manifest(String::from_utf8(bytes.to_vec()).unwrap()).send().await.unwrap();
    assert_eq!(get().await.unwrap().images().len(), 1);
}
