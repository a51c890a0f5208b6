//! Tests of the ECR model with the AWS SDK, in memory.
#![cfg(feature = "aws")]

#[path = "common/ecr.rs"]
mod setup;

use std::time::Duration;

use aws_sdk_ecr::{
    error::ProvideErrorMetadata,
    types::{ImageFailureCode, ImageIdentifier, ImageTagMutability, LayerAvailability},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_sandbox::{Image, ImageBuilder};
use http::{Request, StatusCode};
use setup::{HOST, OTHER_REGION, client, sandbox};
use tower::ServiceExt;

fn image(content: &str) -> Image {
    ImageBuilder::new().platform("linux/amd64").platform("linux/arm64").layer([("app/x", content)]).build()
}

fn tag(tag: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag).build()
}

/// The code and message of a rejected call.
macro_rules! refused {
    ($call:expr) => {{
        let error = $call.send().await.unwrap_err().into_service_error();
        (error.code().unwrap().to_owned(), error.message().unwrap().to_owned())
    }};
}

#[tokio::test(start_paused = true)]
async fn a_token_is_valid_for_the_registries_of_its_region_for_twelve_hours() {
    let sandbox = sandbox();
    let answer = client(&sandbox).get_authorization_token().send().await.unwrap();
    let datum = &answer.authorization_data()[0];
    assert_eq!(datum.proxy_endpoint(), Some(format!("https://{HOST}").as_str()));
    let left = datum.expires_at().unwrap().secs() - sandbox.clock().now().as_second();
    assert!((43_199..=43_200).contains(&left), "{left}");

    let token = datum.authorization_token().unwrap();
    assert!(BASE64_STANDARD.decode(token).unwrap().starts_with(b"AWS:sandbox-"));
    let get = |host: &str| {
        Request::get(format!("https://{host}/v2/"))
            .header("authorization", format!("Basic {token}"))
            .body(bp_sandbox::Body::empty())
            .unwrap()
    };
    let status = async |host: &str| sandbox.transport().oneshot(get(host)).await.unwrap().status();
    assert_eq!(status(HOST).await, StatusCode::OK);
    assert_eq!(status(OTHER_REGION).await, StatusCode::UNAUTHORIZED);
    sandbox.clock().advance(Duration::from_secs(12 * 3600 + 1));
    assert_eq!(status(HOST).await, StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn returns_images_by_tag_and_digest() {
    let sandbox = sandbox();
    let image = image("one");
    sandbox.registry(HOST).push(&image, "shop/web", "1.0");
    let client = client(&sandbox);
    let both =
        |tag: &str, digest: &str| ImageIdentifier::builder().image_tag(tag).image_digest(digest).build();
    let none = ImageIdentifier::builder().build();
    let other = format!("sha256:{}", "0".repeat(64));
    let answer = client
        .batch_get_image()
        .repository_name("shop/web")
        .image_ids(tag("1.0"))
        .image_ids(both("1.0", image.digest()))
        .image_ids(both("1.0", &other))
        .image_ids(tag("2.0"))
        .image_ids(ImageIdentifier::builder().image_digest("sha256").build())
        .image_ids(none)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.images().len(), 2);
    for found in answer.images() {
        assert_eq!(found.image_id().unwrap().image_digest(), Some(image.digest()));
        assert_eq!(found.image_manifest_media_type(), Some("application/vnd.oci.image.index.v1+json"));
        let bytes = sandbox.registry(HOST).manifest("shop/web", "1.0").unwrap().bytes;
        assert_eq!(found.image_manifest().unwrap().as_bytes(), bytes, "byte for byte");
    }
    let codes: Vec<&ImageFailureCode> = answer.failures().iter().filter_map(|f| f.failure_code()).collect();
    assert_eq!(
        codes,
        [
            &ImageFailureCode::ImageTagDoesNotMatchDigest,
            &ImageFailureCode::ImageNotFound,
            &ImageFailureCode::InvalidImageDigest,
            &ImageFailureCode::MissingDigestAndTag,
        ]
    );
    assert_eq!(answer.failures()[1].failure_reason(), Some("Requested image not found"));
}

#[tokio::test(start_paused = true)]
async fn errors_have_the_codes_and_messages_of_the_service() {
    let sandbox = sandbox();
    sandbox.registry(HOST).create_repository("shop/web");
    let client = client(&sandbox);
    let (code, message) = refused!(client.batch_get_image().repository_name("shop/wep").image_ids(tag("1")));
    assert_eq!(code, "RepositoryNotFoundException");
    assert_eq!(
        message,
        "The repository with name 'shop/wep' does not exist in the registry with id '111111111111'"
    );
    let (code, message) = refused!(client.describe_images().repository_name("shop/web").image_ids(tag("1")));
    assert_eq!(code, "ImageNotFoundException");
    assert_eq!(
        message,
        "The image with imageId {imageDigest:null, imageTag:'1'} does not exist within the repository with name \
         'shop/web' in the registry with id '111111111111'"
    );
    for name in ["Shop", "a//b", "-a", "a", "a b", &"a".repeat(257)] {
        let (code, message) = refused!(client.list_images().repository_name(name));
        assert_eq!(code, "InvalidParameterException", "{name}");
        assert!(message.starts_with("Invalid parameter at 'repositoryName'"), "{message}");
    }
    sandbox.aws().deny("ecr:ListImages");
    let (code, message) = refused!(client.list_images().repository_name("shop/web"));
    assert_eq!(code, "AccessDeniedException");
    assert!(message.contains("is not authorized to perform: ecr:ListImages"), "{message}");
    sandbox.aws().allow("ecr:ListImages");
    assert!(client.list_images().repository_name("shop/web").send().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn lists_are_paginated() {
    let sandbox = sandbox();
    let registry = sandbox.registry(HOST);
    for n in 0..7 {
        registry.push(&image(&n.to_string()), "shop/web", &format!("v{n}"));
        registry.create_repository(&format!("other/{n}"));
    }
    let client = client(&sandbox);
    let list = client.list_images().repository_name("shop/web").max_results(4).into_paginator();
    let pages: Vec<_> = list.send().collect::<Result<_, _>>().await.unwrap();
    let ids: Vec<_> = pages.iter().flat_map(|page| page.image_ids()).collect();
    // Seven tagged indexes, and fourteen untagged manifests of their platforms.
    assert_eq!((pages.len(), ids.len()), (6, 21));
    assert_eq!(ids.iter().filter(|id| id.image_tag().is_some()).count(), 7);

    let repositories = client.describe_repositories().max_results(3).into_paginator().items().send();
    let repositories: Vec<_> = repositories.collect::<Result<_, _>>().await.unwrap();
    assert_eq!(repositories.len(), 8);

    let details =
        client.describe_images().repository_name("shop/web").image_ids(tag("v3")).send().await.unwrap();
    let detail = &details.image_details()[0];
    assert_eq!(detail.image_tags(), ["v3"]);
    assert!(detail.image_size_in_bytes() > Some(0));
    assert_eq!(detail.image_manifest_media_type(), Some("application/vnd.oci.image.index.v1+json"));

    let (code, _) = refused!(client.list_images().repository_name("shop/web").next_token("x"));
    assert_eq!(code, "InvalidParameterException");
}

#[tokio::test(start_paused = true)]
async fn repositories_are_created_once_and_can_have_immutable_tags() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let create = || {
        client
            .create_repository()
            .repository_name("shop/web")
            .image_tag_mutability(ImageTagMutability::Immutable)
    };
    let created = create().send().await.unwrap();
    let repository = created.repository().unwrap();
    assert_eq!(repository.repository_uri(), Some(format!("{HOST}/shop/web").as_str()));
    assert_eq!(
        repository.repository_arn(),
        Some("arn:aws:ecr:eu-central-1:111111111111:repository/shop/web")
    );
    assert_eq!(repository.image_tag_mutability(), Some(&ImageTagMutability::Immutable));
    assert_eq!(refused!(create()).0, "RepositoryAlreadyExistsException");

    // PutImage: the same tag and digest already exists, another digest is rejected.
    let (one, two) = (image("one"), image("two"));
    let registry = sandbox.registry(HOST);
    registry.push(&one, "shop/web", "1.0");
    registry.push(&two, "shop/web", "2.0");
    let put = |image: &Image, tag: &str| {
        let manifest = registry.manifest("shop/web", image.digest()).unwrap();
        client
            .put_image()
            .repository_name("shop/web")
            .image_manifest(String::from_utf8(manifest.bytes.to_vec()).unwrap())
            .image_tag(tag)
    };
    assert_eq!(refused!(put(&one, "1.0")).0, "ImageAlreadyExistsException");
    let (code, message) = refused!(put(&two, "1.0"));
    assert_eq!(code, "ImageTagAlreadyExistsException");
    assert_eq!(
        message,
        "The image tag '1.0' already exists in the 'shop/web' repository and cannot be overwritten because the \
         repository is immutable."
    );
    put(&two, "2.1").send().await.unwrap();
    assert_eq!(registry.tags("shop/web")["2.1"], two.digest());

    // Deleting a tag keeps the manifest, deleting a digest deletes its tags; a repository must be empty, or `force` be
    // set.
    let delete = |id: ImageIdentifier| client.batch_delete_image().repository_name("shop/web").image_ids(id);
    delete(tag("2.1")).send().await.unwrap();
    assert!(registry.manifest("shop/web", two.digest()).is_some());
    delete(ImageIdentifier::builder().image_digest(two.digest()).build()).send().await.unwrap();
    assert_eq!(registry.tags("shop/web").into_keys().collect::<Vec<_>>(), ["1.0"]);
    let gone = delete(tag("2.0")).send().await.unwrap();
    assert_eq!(gone.failures()[0].failure_code(), Some(&ImageFailureCode::ImageNotFound));
    assert_eq!(
        refused!(client.delete_repository().repository_name("shop/web")).0,
        "RepositoryNotEmptyException"
    );
    client.delete_repository().repository_name("shop/web").force(true).send().await.unwrap();
    assert_eq!(
        refused!(client.describe_repositories().repository_names("shop/web")).0,
        "RepositoryNotFoundException"
    );
}

#[tokio::test(start_paused = true)]
async fn reports_the_availability_of_layers() {
    let sandbox = sandbox();
    let layer = sandbox.registry(HOST).put_blob("shop/web", "layer");
    let missing = format!("sha256:{}", "0".repeat(64));
    let answer = client(&sandbox)
        .batch_check_layer_availability()
        .repository_name("shop/web")
        .layer_digests(&layer)
        .layer_digests(&missing)
        .layer_digests("sha256")
        .send()
        .await
        .unwrap();
    let found: Vec<_> =
        answer.layers().iter().map(|l| (l.layer_availability().unwrap(), l.layer_size())).collect();
    assert_eq!(found, [(&LayerAvailability::Available, Some(5)), (&LayerAvailability::Unavailable, None)]);
    assert_eq!(answer.failures().len(), 1);
}
