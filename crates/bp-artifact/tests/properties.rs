//! Properties of every parser: values round-trip, and no input causes a panic or an error without a location.

use bp_artifact::{
    Artifact, CommitSha, Config, Digest, DigestRef, ImageRef, Platform, Registry, Repository, ResolvedImage,
    Tag, artifact::ArtifactImage, deploy::Receipt, select::TagSelector,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

const CONFIG: &str = r#"version = 1

[project]
name = "shop"
repository = "shop/web"

[[environment]]
name = "dev"
account = "111111111111"
region = "eu-central-1"
role = "arn:aws:iam::111111111111:role/deploy"
registry = "111111111111.dkr.ecr.eu-central-1.amazonaws.com"
[environment.ecs]
cluster = "shop"
service = "web"
container = "web"
"#;

fn image() -> impl Strategy<Value = ImageRef> {
    let host = "[a-z][a-z0-9]{0,8}\\.[a-z]{2,4}(:[1-9][0-9]{0,3})?";
    let path = "[a-z0-9]+(([._-]|__)[a-z0-9]+){0,2}(/[a-z0-9]+(-{1,3}[a-z0-9]+)?){0,3}";
    let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}";
    (host, path, proptest::option::of(tag), any::<u64>(), any::<bool>()).prop_map(
        |(host, path, tag, seed, pinned)| {
            let digest = Digest::sha256(seed.to_le_bytes());
            let text = match (tag, pinned) {
                (Some(tag), true) => format!("{host}/{path}:{tag}@{digest}"),
                (Some(tag), false) => format!("{host}/{path}:{tag}"),
                (None, _) => format!("{host}/{path}@{digest}"),
            };
            text.parse().unwrap()
        },
    )
}

/// Host names as users write them, and similar texts.
fn host() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        4 => "[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?",
        2 => "[0-9]{1,4}",
        1 => "0[xX][0-9a-fA-F]{0,3}",
        2 => "[xX][nN]--[a-z0-9-]{0,8}",
        1 => prop_oneof![Just("xn--mnchen-3ya"), Just("xn--zzzzzz"), Just("xn--n3h"), Just("xn--a"), Just("")].prop_map(str::to_owned),
    ];
    let name = proptest::collection::vec(label, 1..5).prop_map(|labels| labels.join("."));
    let address = any::<std::net::Ipv6Addr>;
    prop_oneof![
        4 => name,
        1 => any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        1 => address().prop_map(|address| format!("[{address}]")),
        1 => address().prop_map(|address| format!("[{}]", address.segments().map(|s| format!("{s:04X}")).join(":"))),
    ]
}

/// Any JSON that another tool may write into its own field.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// `text` with a few characters replaced, removed or inserted.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec((0..text.len(), any::<char>(), 0..3u8), 1..4).prop_map(move |changes| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, char, kind) in changes {
            let at = at.min(chars.len().saturating_sub(1));
            match kind {
                0 => chars[at] = char,
                1 => drop(chars.remove(at)),
                _ => chars.insert(at, char),
            }
        }
        chars.into_iter().collect()
    })
}

/// Whether a message starts with file, line and column.
fn has_location(message: &str, file: &str) -> bool {
    let mut parts = message.strip_prefix(file).unwrap_or_default().splitn(4, ':');
    let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<usize>().is_ok_and(|n| n > 0));
    parts.next() == Some("") && number(parts.next()) && number(parts.next())
}

proptest! {
    #[test]
    fn references_round_trip(image in image()) {
        let text = image.to_string();
        prop_assert_eq!(text.parse::<ImageRef>().unwrap(), image.clone());
        prop_assert_eq!(serde_json::from_value::<ImageRef>(json!(text)).unwrap(), image.clone());
        let pinned = DigestRef::try_from(image.clone());
        prop_assert_eq!(pinned.is_ok(), image.digest().is_some());
    }

    #[test]
    fn a_registry_is_the_host_of_a_url(host in host(), port in proptest::option::of("[+0-9]?[0-9]{1,5}")) {
        let text = port.as_ref().map_or(host.clone(), |port| format!("{host}:{port}"));
        let url = Url::parse(&format!("https://{text}/v2/")).ok();
        let number = port.as_ref().map(|port| port.parse::<u16>().unwrap_or(0));
        let Ok(registry) = text.parse::<Registry>() else {
            // A host that the URL parser does not change, except for its case, is valid if its labels are.
            let same = url.is_some_and(|url| url.host_str() == Some(&host.to_ascii_lowercase()));
            let labels = host.split('.').all(|label| !label.is_empty() && !label.ends_with('-'));
            prop_assert!(!same || !labels || number == Some(0), "{} is rejected", text);
            return Ok(());
        };
        let again = Url::parse(&format!("https://{registry}/v2/")).unwrap();
        prop_assert_eq!(again.host_str(), Some(registry.host()));
        prop_assert_eq!(again.port_or_known_default(), Some(number.unwrap_or(443)));
        prop_assert_eq!(url, Some(again), "the host differs from the written one");
        prop_assert_eq!(registry.to_string().parse::<Registry>().unwrap(), registry.clone());
        prop_assert_eq!(text.to_ascii_uppercase().parse::<Registry>().unwrap(), registry);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,80}") {
        let _ = text.parse::<ImageRef>();
        let _ = text.parse::<Repository>();
        let _ = text.parse::<Tag>();
        let _ = text.parse::<Digest>();
        let _ = text.parse::<CommitSha>();
        let _ = text.parse::<Platform>();
        let _ = text.parse::<TagSelector>();
        let _ = Artifact::parse(&text, "a");
        let _ = Receipt::parse(&text, "r");
        let _ = Config::parse(&text, "c");
    }

    #[test]
    fn no_bytes_make_the_manifest_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let repository: Repository = "r.example.com/web".parse().unwrap();
        let reference = repository.at(Digest::sha256(&bytes));
        let _ = ResolvedImage::from_manifest(reference, None, &bytes);
    }

    #[test]
    fn an_artifact_is_the_same_after_a_rewrite(
        image in image(),
        commit in "[0-9a-f]{40}",
        extra in proptest::collection::hash_map("x-[a-z]{1,8}", json_value(), 0..4),
    ) {
        let mut document = json!({
            "schema": "bp.artifact/1.0",
            "commit_sha": &commit[..7],
            "image": {
                "repository": image.repository(),
                "platforms": [
                    { "platform": "linux/amd64", "digest": Digest::sha256("amd64"), "x-platform": extra.clone() },
                ],
                "x-image": extra.clone(),
            },
            "source": { "commit": commit, "x-source": extra.clone() },
            "build": { "system": "own", "x-build": extra.clone() },
        });
        if let Some(tag) = image.tag() {
            document["image"]["tag"] = json!(tag);
        }
        if let Some(digest) = image.digest() {
            document["image"]["digest"] = json!(digest);
        }
        for (key, value) in extra {
            document[key] = value;
        }
        let artifact = Artifact::parse(&document.to_string(), "a").unwrap();
        prop_assert_eq!(artifact.image_ref(None).unwrap(), image);
        prop_assert_eq!(serde_json::from_str::<Value>(&artifact.to_json()).unwrap(), document);
    }

    #[test]
    fn exports_reference_exactly_the_image(image in image()) {
        let mut artifact = Artifact::default();
        artifact.image = Some(image.clone().into());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Ok(pinned) = DigestRef::try_from(image.clone()) else {
            prop_assert!(artifact.image_detail().is_err() && artifact.in_toto_subject().is_err());
            return Ok(());
        };
        let definitions = artifact.image_definitions(["web"]).unwrap();
        prop_assert_eq!(text(&definitions[0]["imageUri"]).parse::<DigestRef>().unwrap(), pinned.clone());
        let detail = artifact.image_detail().unwrap();
        prop_assert_eq!(text(&detail["ImageURI"]).parse::<DigestRef>().unwrap(), pinned.clone());
        let skaffold = artifact.skaffold_builds("web").unwrap();
        prop_assert_eq!(text(&skaffold["builds"][0]["tag"]).parse::<ImageRef>().unwrap(), image.clone());
        let subject = artifact.in_toto_subject().unwrap();
        let digest = format!("sha256:{}", text(&subject[0]["digest"]["sha256"]));
        let repository: Repository = text(&subject[0]["name"]).parse().unwrap();
        prop_assert_eq!(repository.at(digest.parse().unwrap()), pinned.clone());
        // The metadata file of buildx has the same image.
        let name = image.tag().map_or_else(|| pinned.repository().to_string(), |t| format!("{}:{t}", pinned.repository()));
        let metadata = json!({ "containerimage.digest": pinned.digest(), "image.name": name });
        let read = ArtifactImage::from_buildx(&metadata.to_string(), "m", None, None).unwrap();
        prop_assert_eq!(read, ArtifactImage::from(image));
    }

    #[test]
    fn a_damaged_config_is_accepted_or_rejected_with_a_location(text in damaged(CONFIG)) {
        if let Err(error) = Config::parse(&text, "bp.toml") {
            let message = error.to_string();
            prop_assert!(has_location(&message, "bp.toml"), "{}", message);
            prop_assert!(!message.contains('\n'), "{}", message);
        }
    }
}
