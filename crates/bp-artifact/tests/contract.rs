//! The artifact in the formats of other tools, exported and imported.

use bp_artifact::{
    Artifact, Digest, ImageRef, Repository,
    artifact::{ArtifactError, ArtifactImage, BuildxError},
    config::ServiceName,
};
use serde_json::json;

const NAME: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web";

fn artifact() -> (Artifact, Digest) {
    let digest = Digest::sha256("x");
    let image: ImageRef = format!("{NAME}:1.4.2@{digest}").parse().unwrap();
    let mut artifact = Artifact::default();
    artifact.image = Some(image.into());
    (artifact, digest)
}

#[test]
fn exports_contain_the_digest() {
    let (artifact, digest) = artifact();
    assert_eq!(
        artifact.image_definitions(["web", "worker"]).unwrap(),
        json!([
            { "name": "web", "imageUri": format!("{NAME}@{digest}") },
            { "name": "worker", "imageUri": format!("{NAME}@{digest}") },
        ])
    );
    assert_eq!(artifact.image_detail().unwrap(), json!({ "ImageURI": format!("{NAME}@{digest}") }));
    assert_eq!(
        artifact.skaffold_builds("web").unwrap(),
        json!({ "builds": [{ "imageName": "web", "tag": format!("{NAME}:1.4.2@{digest}") }] })
    );
    assert_eq!(
        artifact.in_toto_subject().unwrap(),
        json!([{ "name": NAME, "digest": { "sha256": digest.hex() } }])
    );
}

#[test]
fn exporting_requires_a_digest() {
    let artifact = Artifact::parse(r#"{ "commit_sha": "1a2b3c4" }"#, "artifact.json").unwrap();
    assert_eq!(artifact.image_definitions(["web"]), Err(ArtifactError::NotResolved));
    let mut tagged = artifact;
    tagged.image = Some(format!("{NAME}:1").parse::<ImageRef>().unwrap().into());
    assert_eq!(tagged.in_toto_subject(), Err(ArtifactError::NotResolved));
}

#[test]
fn images_of_other_builds_keep_their_commit_and_version() {
    let of = |commit: &str, version: &str, service: &str| {
        let text = format!(
            r#"{{"source":{{"commit":"{commit}"}},"version":"{version}","images":{{"{service}":{{
                "repository":"r.example.com/{service}","tag":"{version}"}}}}}}"#
        );
        Artifact::parse(&text, "artifact.json").unwrap()
    };
    let [first, second, third] = ["1", "2", "3"].map(|digit| digit.repeat(40));
    let mut artifact = of(&second, "1.1", "web");
    artifact.keep_images_of_any_commit(of(&first, "1.0", "worker"));
    let commit = |artifact: &Artifact, service: &str| {
        let image = &artifact.images[&service.parse::<ServiceName>().unwrap()];
        (image.commit.as_ref().map(ToString::to_string), image.version.clone())
    };
    assert_eq!(commit(&artifact, "web"), (None, None));
    assert_eq!(commit(&artifact, "worker"), (Some(first.clone()), Some("1.0".to_owned())));

    // Through another build, each keeps its own; the image of this build replaces that of the service.
    let artifact = Artifact::parse(&artifact.to_json(), "artifact.json").unwrap();
    let mut next = of(&third, "1.2", "web");
    next.keep_images_of_any_commit(artifact.clone());
    assert_eq!(commit(&next, "web"), (None, None));
    assert_eq!(commit(&next, "worker"), (Some(first.clone()), Some("1.0".to_owned())));
    let mut other = of(&third, "1.2", "mailer");
    other.keep_images_of_any_commit(artifact);
    assert_eq!(commit(&other, "web"), (Some(second), Some("1.1".to_owned())));
    assert_eq!(commit(&other, "worker"), (Some(first), Some("1.0".to_owned())));
    // Two services of one build.
    let mut same = of(&third, "1.2", "mailer");
    same.keep_images_of_any_commit(next);
    assert_eq!(commit(&same, "web"), (None, None));
}

fn buildx(text: &str, target: Option<&str>, repository: Option<&str>) -> Result<ArtifactImage, BuildxError> {
    let repository: Option<Repository> = repository.map(|text| text.parse().unwrap());
    ArtifactImage::from_buildx(text, "metadata.json", target, repository.as_ref())
}

#[test]
fn imports_metadata_of_a_single_build() {
    let digest = Digest::sha256("x");
    let text = json!({
        "buildx.build.provenance": { "builder": {} },
        "buildx.build.ref": "builder/builder0/abc",
        "containerimage.descriptor": {
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 1234,
        },
        "containerimage.digest": digest,
        "image.name": format!("{NAME}:1.4.2,{NAME}:latest"),
    })
    .to_string();
    let image = buildx(&text, None, None).unwrap();
    assert_eq!(image.repository.to_string(), NAME);
    assert_eq!(image.tag.unwrap().as_str(), "1.4.2");
    assert_eq!(image.digest, Some(digest));
    assert_eq!(image.size, Some(1234));
    assert_eq!(image.media_type.as_deref(), Some("application/vnd.oci.image.index.v1+json"));
}

#[test]
fn imports_metadata_of_a_bake_with_several_targets() {
    let build = |name: &str| json!({ "containerimage.digest": Digest::sha256(name), "image.name": format!("r.example.com/{name}:1") });
    let bake = json!({ "web": build("web"), "worker": build("worker"), "buildx.build.warnings": [] });
    let image = buildx(&bake.to_string(), Some("worker"), None).unwrap();
    assert_eq!(image.digest, Some(Digest::sha256("worker")));
    for target in [None, Some("wep")] {
        let error = buildx(&bake.to_string(), target, None).unwrap_err();
        assert_eq!(error.to_string(), "metadata.json has the targets web, worker: select one");
    }
    let single = json!({ "web": build("web"), "buildx.build.warnings": [] });
    assert!(buildx(&single.to_string(), None, None).is_ok());
}

#[test]
fn selects_one_of_several_repositories() {
    let digest = Digest::sha256("x");
    let text =
        json!({ "containerimage.digest": digest, "image.name": "a.example.com/web:1,b.example.com/web:2" });
    let image = buildx(&text.to_string(), None, Some("b.example.com/web")).unwrap();
    assert_eq!(image.tag.unwrap().as_str(), "2");
    for repository in [None, Some("c.example.com/web")] {
        let error = buildx(&text.to_string(), None, repository).unwrap_err();
        assert!(error.to_string().contains("a.example.com/web:1, b.example.com/web:2: select"), "{error}");
    }
}

/// However many tags each repository has, and also if a name is not a full reference.
#[test]
fn several_registries_require_a_choice() {
    let digest = Digest::sha256("x");
    for names in [
        "ghcr.io/x/web:1,ghcr.io/x/web:latest,r.example.com/web:1,r.example.com/web:latest",
        "ghcr.io/x/web:1,ghcr.io/x/web:2,ghcr.io/x/web:3,ghcr.io/x/worker:1",
        "ghcr.io/x/web:1, docker.io/web",
        "ghcr.io/x/web:1,web:1",
    ] {
        let text = json!({ "containerimage.digest": digest, "image.name": names }).to_string();
        let error = buildx(&text, None, None).unwrap_err();
        assert!(matches!(error, BuildxError::Name { .. }), "{names}: {error}");
        let chosen = buildx(&text, None, Some("ghcr.io/x/web")).unwrap();
        assert_eq!(chosen.tag.unwrap().as_str(), "1", "{names}");
    }
}

#[test]
fn rejects_the_descriptor_of_another_manifest() {
    let (digest, other) = (Digest::sha256("x"), Digest::sha256("y"));
    let text = json!({
        "containerimage.descriptor": { "mediaType": "application/json", "digest": other, "size": 12 },
        "containerimage.digest": digest,
        "image.name": "r.example.com/web:1",
    });
    let error = buildx(&text.to_string(), None, None).unwrap_err().to_string();
    assert!(error.contains(&format!("is {digest}, but containerimage.descriptor is of {other}")), "{error}");
}

#[test]
fn reports_a_build_without_push() {
    let digest = Digest::sha256("x");
    for (text, missing) in [
        (json!({ "image.name": "r.example.com/web:1" }), "containerimage.digest"),
        (json!({ "containerimage.digest": digest }), "image.name"),
    ] {
        let error = buildx(&text.to_string(), None, None).unwrap_err();
        assert_eq!(error.to_string(), format!("metadata.json has no {missing}: build with --push"));
    }
    assert!(matches!(buildx("{}", None, None), Err(BuildxError::Target { .. })));
    assert!(matches!(buildx("[", None, None), Err(BuildxError::Document(_))));
    let wrong = json!({ "containerimage.digest": "sha256:1", "image.name": "x" });
    assert!(buildx(&wrong.to_string(), None, None).unwrap_err().to_string().starts_with("metadata.json:1:"));
}
