//! Random images with everything that a copy must preserve, built and checked without the code under test.

use std::collections::BTreeSet;

use bp_artifact::Digest;
use bp_sandbox::{
    Image, ImageBuilder,
    registry::{Manifest, Registry},
};
use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Manifests and blobs of an image or of its referrers.
#[derive(Default)]
pub(crate) struct Content {
    manifests: Vec<(String, Bytes)>,
    blobs: Vec<Bytes>,
}

impl Content {
    fn add(&mut self, image: &Image) {
        self.manifests.extend(image.manifests().iter().cloned());
        self.blobs.extend(image.blobs().iter().cloned());
    }

    fn push(&mut self, media_type: &str, text: String) -> String {
        let digest = Digest::sha256(&text).to_string();
        self.manifests.push((media_type.to_owned(), text.into()));
        digest
    }

    fn put(&self, registry: &Registry, repository: &str) {
        for blob in &self.blobs {
            registry.put_blob(repository, blob.clone());
        }
        for (media_type, bytes) in &self.manifests {
            registry.put_manifest(repository, media_type, bytes.clone());
        }
    }

    fn assert_in(&self, registry: &Registry, repository: &str) {
        for (media_type, bytes) in &self.manifests {
            let digest = Digest::sha256(bytes);
            let stored = registry.manifest(repository, digest.as_str()).expect("every manifest");
            assert_eq!((&stored.bytes, &stored.media_type), (bytes, media_type));
        }
        for bytes in &self.blobs {
            let digest = Digest::sha256(bytes);
            assert_eq!(registry.blob(repository, digest.as_str()).as_ref(), Some(bytes));
        }
    }
}

/// An image or index with its referrers.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) top: String,
    pub(crate) nested: bool,
    image: Content,
    attached: Content,
    /// Signatures under cosign's tags, in its format: merged with those of the destination.
    signed: Content,
    /// Pairs of a subject's digest and a referrer's digest.
    pub(crate) referrers: Vec<(String, String)>,
    /// Pairs of a cosign tag and the digest that it points to.
    pub(crate) cosign: Vec<(String, String)>,
}

impl Graph {
    /// Builds a random graph. Graphs with the same `pool` share layers.
    pub(crate) fn random(random: &mut Rng, pool: u64) -> Self {
        let mut graph = Graph::default();
        let first = image(random, pool);
        graph.image.add(&first);
        graph.top = first.digest().to_owned();
        if random.u8(0..4) == 0 {
            // An index that contains another index.
            let other = image(random, pool);
            graph.image.add(&other);
            let children = [&first, &other].map(|image| {
                let (media_type, bytes) = image.manifests().last().expect("an image has a manifest");
                json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
            });
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
            graph.top = graph.image.push(INDEX, index.to_string());
            graph.nested = true;
        }
        for n in 0..random.usize(0..4) {
            graph.attach(random, n);
        }
        graph
    }

    /// Attaches an artifact to the image, to a part of it, or to an artifact attached before.
    fn attach(&mut self, random: &mut Rng, n: usize) {
        let all: Vec<_> = self.image.manifests.iter().chain(&self.attached.manifests).collect();
        let subject = Digest::sha256(&all[random.usize(..all.len())].1).to_string();
        let layer = Bytes::from(format!("{n} of {subject}"));
        let config = Bytes::from_static(b"{}");
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/signature",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(&config), "size": 2 },
            "layers": [{ "mediaType": "text/plain", "size": layer.len(), "digest": Digest::sha256(&layer) }],
        });
        if random.u8(0..4) == 0 {
            // Attached only by its tag. Each subject has at most one `.sig`, `.att` and `.sbom`.
            let tag = format!("{}.{}", subject.replace(':', "-"), ["sig", "att", "sbom"][n]);
            let digest = if n < 2 {
                let (manifest, blobs) = signature(&format!("source {n} of {subject}"));
                self.signed.blobs.extend(blobs);
                self.signed.push(MANIFEST, manifest.to_string())
            } else {
                self.attached.blobs.extend([config, layer]);
                self.attached.push(MANIFEST, manifest.to_string())
            };
            self.cosign.push((tag, digest));
        } else {
            self.attached.blobs.extend([config, layer]);
            manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
            let digest = self.attached.push(MANIFEST, manifest.to_string());
            self.referrers.push((subject, digest));
        }
    }

    /// Signs the image in a registry, as somebody does after a promotion. Returns the signature.
    pub(crate) fn sign(&self, registry: &Registry, repository: &str) -> String {
        let payload = format!("destination of {}", self.top);
        let (manifest, blobs) = signature(&payload);
        for blob in blobs {
            registry.put_blob(repository, blob);
        }
        let digest = registry.put_manifest(repository, MANIFEST, manifest.to_string());
        registry.tag(repository, &self.signature_tag(), &digest);
        payload
    }

    fn signature_tag(&self) -> String {
        format!("{}.sig", self.top.replace(':', "-"))
    }

    /// Checks that the destination's own signature still exists.
    pub(crate) fn assert_signed(&self, registry: &Registry, repository: &str, own: &str) {
        let signatures = signatures(registry, repository, &self.signature_tag());
        assert!(signatures.contains(&own.to_owned()), "the signature is lost: {signatures:?}");
    }

    /// Stores the graph in a registry under `tag`.
    pub(crate) fn put(&self, registry: &Registry, repository: &str, tag: &str) {
        self.image.put(registry, repository);
        self.attached.put(registry, repository);
        self.signed.put(registry, repository);
        // Fallback lists, as a client would write them without the referrers API.
        for subject in self.referrers.iter().map(|(subject, _)| subject).collect::<BTreeSet<_>>() {
            let of = self.referrers.iter().filter(|(other, _)| other == subject);
            let new: BTreeSet<&String> = of.map(|(_, digest)| digest).collect();
            let name = subject.replace(':', "-");
            let before = registry.manifest(repository, &name).map(|list| listed(&list)).unwrap_or_default();
            let entries = before.iter().chain(new.into_iter().filter(|digest| !before.contains(*digest)));
            let entries = entries.map(|digest| {
                let size = registry.manifest(repository, digest).expect("stored above").bytes.len();
                json!({ "mediaType": MANIFEST, "digest": digest, "size": size })
            });
            let entries: Vec<_> = entries.collect();
            let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
            let list = registry.put_manifest(repository, INDEX, list);
            registry.tag(repository, &name, &list);
        }
        for (name, digest) in &self.cosign {
            registry.tag(repository, name, digest);
        }
        registry.tag(repository, tag, &self.top);
    }

    /// Stores some of its blobs, as a killed copy would leave them.
    pub(crate) fn put_some(&self, random: &mut Rng, registry: &Registry, repository: &str) {
        for blob in self.image.blobs.iter().filter(|_| random.bool()) {
            registry.put_blob(repository, blob.clone());
        }
    }

    /// Checks that the image exists, byte for byte.
    pub(crate) fn assert_image(&self, registry: &Registry, repository: &str) {
        self.image.assert_in(registry, repository);
    }

    /// Checks that all referrers exist and are listed: by the API, which lists stored manifests, or by the fallback
    /// tag.
    pub(crate) fn assert_attached(&self, registry: &Registry, repository: &str, has_api: bool) {
        self.attached.assert_in(registry, repository);
        for (subject, digest) in self.referrers.iter().filter(|_| !has_api) {
            let list = registry.manifest(repository, &subject.replace(':', "-")).expect("a fallback list");
            assert!(listed(&list).contains(digest), "{digest} of {subject}");
        }
        let tags = registry.tags(repository);
        for (tag, digest) in &self.cosign {
            if tag.ends_with(".sbom") {
                assert_eq!(tags.get(tag), Some(digest));
                continue;
            }
            // Merged with a signature of the destination, if it has one.
            let (ours, theirs) = (signatures_of(&self.signed, digest), signatures(registry, repository, tag));
            assert!(ours.iter().all(|signature| theirs.contains(signature)), "{tag}: {ours:?} {theirs:?}");
        }
    }
}

/// A manifest with one signature in cosign's format, and its blobs.
fn signature(payload: &str) -> (Value, [Bytes; 2]) {
    let layer = Bytes::from(payload.to_owned());
    let digest = Digest::sha256(&layer);
    let config = json!({ "architecture": "", "os": "", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest] } });
    let config = Bytes::from(config.to_string());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(&config),
            "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest,
            "size": layer.len(), "annotations": { "dev.cosignproject.cosign/signature": payload } }],
    });
    (manifest, [config, layer])
}

/// The signatures in a manifest.
fn signatures_in(bytes: &[u8]) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(bytes).expect("a manifest");
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let signature = |layer: &Value| {
        layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().map(str::to_owned)
    };
    layers.filter_map(signature).collect()
}

/// The signatures under a tag.
fn signatures(registry: &Registry, repository: &str, tag: &str) -> Vec<String> {
    registry.manifest(repository, tag).map(|manifest| signatures_in(&manifest.bytes)).unwrap_or_default()
}

/// The signatures in the manifest with this digest.
fn signatures_of(content: &Content, digest: &str) -> Vec<String> {
    let mut manifests = content.manifests.iter();
    let found = manifests.find(|(_, bytes)| Digest::sha256(bytes).as_str() == digest);
    found.map(|(_, bytes)| signatures_in(bytes)).unwrap_or_default()
}

/// The digests in a fallback list.
fn listed(list: &Manifest) -> Vec<String> {
    let list: Value = serde_json::from_slice(&list.bytes).expect("an index");
    let entries = list["manifests"].as_array().expect("its entries").iter();
    entries.filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect()
}

/// An image of up to four platforms, with layers from a pool.
pub(crate) fn image(random: &mut Rng, pool: u64) -> Image {
    const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/arm64/v8", "windows/amd64"];
    let platforms = &PLATFORMS[..random.usize(1..=4)];
    let mut builder =
        platforms.iter().fold(ImageBuilder::new(), |builder, platform| builder.platform(platform));
    for _ in 0..random.usize(0..5) {
        let which = random.u64(0..8);
        let size = [0, 1, 100, 5_000, 5_000, 70_000, 300_000, 300_000][which as usize];
        let mut bytes = Rng::with_seed(pool ^ which);
        let bytes: Vec<u8> = std::iter::repeat_with(|| bytes.u8(..)).take(size).collect();
        let file = [(format!("layer{which}"), bytes)];
        builder = if random.bool() {
            builder.layer(file)
        } else {
            builder.layer_for(platforms[random.usize(..platforms.len())], file)
        };
    }
    builder.build()
}
