//! Merging signatures and attestations under cosign's tags, if source and destination both have some.
//!
//! Such a tag points to an image manifest with one layer per signature: the layer is the signed payload, the signature
//! is in the descriptor's annotations. Signing appends a layer and moves the tag, also at the destination after a
//! promotion. So the destination's tag is not overwritten: it is moved to a manifest with the layers of both.
//!
//! <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Digest, Tag, media_type};
use serde_json::{Map, Value, json};

use crate::content::{Descriptor, Manifest, object};

/// What the tag at the destination is to point to.
pub(super) enum Union {
    /// Its current manifest: it has all signatures of the source.
    Destination,
    /// The source's manifest, byte for byte: it has all signatures of the destination.
    Source,
    /// A new manifest with the signatures of both.
    Both(Box<Merged>),
    /// Its current manifest, because the two cannot be merged.
    Neither(&'static str),
}

/// A manifest with the signatures of both sides: the destination's first, then those that only the source has.
pub(super) struct Merged {
    pub(super) manifest: Manifest,
    /// The configuration, with embedded content, and the signatures that the destination does not have.
    pub(super) blobs: Vec<Descriptor>,
}

/// Merges the signatures of source and destination.
pub(super) fn union(tag: &Tag, source: &Manifest, destination: &Manifest) -> Union {
    /// Cosign rejects a manifest with more layers.
    const MOST: usize = 1_000;
    if tag.as_str().ends_with(".sbom") {
        return Union::Neither("cosign reads a single SBOM from such a tag");
    }
    let (Some(ours), Some(mut theirs)) = (Signatures::read(source), Signatures::read(destination)) else {
        return Union::Neither("one of the two manifests is not in cosign's signature format");
    };
    let new: Vec<Value> =
        ours.layers.iter().filter(|layer| !theirs.layers.contains(layer)).cloned().collect();
    if new.is_empty() {
        return Union::Destination;
    }
    if theirs.layers.iter().all(|layer| ours.layers.contains(layer)) {
        return Union::Source;
    }
    if theirs.layers.len().saturating_add(new.len()) > MOST {
        return Union::Neither("cosign reads no more than 1000 signatures from a tag");
    }
    let mut blobs: Vec<Descriptor> =
        new.iter().filter_map(|layer| serde_json::from_value(layer.clone()).ok()).collect();
    theirs.layers.extend(new);
    match theirs.write(destination) {
        Some((manifest, config)) => {
            blobs.push(config);
            Union::Both(Box::new(Merged { manifest, blobs }))
        }
        None => Union::Neither("one of the two manifests is not in cosign's signature format"),
    }
}

struct Signatures {
    document: Map<String, Value>,
    layers: Vec<Value>,
}

impl Signatures {
    const LAYERS: [&str; 2] =
        ["application/vnd.dev.cosign.simplesigning.v1+json", "application/vnd.dsse.envelope.v1+json"];
    const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

    /// Reads a signature manifest; `None` if it is another kind of manifest.
    fn read(manifest: &Manifest) -> Option<Self> {
        let mut document: Map<String, Value> = object(&manifest.bytes).ok()?;
        let layers = match document.remove("layers") {
            Some(Value::Array(layers)) => layers,
            _ => return None,
        };
        let is_signature = |layer: &Value| {
            let is_described = serde_json::from_value::<Descriptor>(layer.clone()).is_ok();
            let annotation = layer.get("annotations").and_then(|all| all.get(Self::SIGNATURE));
            let is_signed = annotation.is_some_and(Value::is_string);
            is_described
                && (is_signed || layer["mediaType"].as_str().is_some_and(|kind| Self::LAYERS.contains(&kind)))
        };
        let config = document.get("config").and_then(|config| config["mediaType"].as_str());
        let known = media_type::is_manifest(&manifest.media_type)
            && config.is_some_and(media_type::is_image_config)
            && layers.iter().all(is_signature);
        known.then_some(Signatures { document, layers })
    }

    /// Builds the manifest of these signatures, based on the destination's, and its configuration.
    fn write(mut self, destination: &Manifest) -> Option<(Manifest, Descriptor)> {
        // Signature layers are not compressed: the diff_id equals the layer's digest.
        let digests: Vec<Value> = self.layers.iter().map(|layer| layer["digest"].clone()).collect();
        const CREATED: &str = "0001-01-01T00:00:00Z";
        let config = json!({
            "architecture": "", "os": "", "created": CREATED, "config": {},
            "history": vec![json!({ "created": CREATED }); digests.len()],
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        let bytes = config.to_string();
        let media_type = self.document.get("config")?["mediaType"].as_str()?.to_owned();
        let mut config = Descriptor::of(media_type, Digest::sha256(&bytes), bytes.len() as u64);
        self.document.insert("config".to_owned(), json!(config));
        self.document.insert("layers".to_owned(), Value::Array(self.layers));
        config.data = Some(BASE64_STANDARD.encode(&bytes));
        let bytes = bytes::Bytes::from(Value::Object(self.document).to_string());
        let media_type = destination.media_type.clone();
        Some((Manifest { media_type, digest: Digest::sha256(&bytes), bytes }, config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

    fn tag(kind: &str) -> Tag {
        format!("sha256-0.{kind}").parse().unwrap()
    }

    fn layer(payload: &str, signature: &str) -> Value {
        json!({ "mediaType": PAYLOAD, "digest": Digest::sha256(payload), "size": payload.len(),
            "annotations": { Signatures::SIGNATURE: signature } })
    }

    fn manifest(layers: &[Value]) -> Manifest {
        let config = json!({ "mediaType": media_type::OCI_CONFIG, "digest": Digest::sha256("c"), "size": 1 });
        let text = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config,
            "layers": layers, "annotations": { "kept": layers.len().to_string() } });
        Manifest::read(Some(media_type::OCI_MANIFEST), None, text.to_string().into()).unwrap()
    }

    fn merged(source: &Manifest, destination: &Manifest) -> Merged {
        match union(&tag("sig"), source, destination) {
            Union::Both(merged) => *merged,
            _ => panic!("expected a merged manifest"),
        }
    }

    #[test]
    fn merges_in_the_destinations_order_deterministically() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| layer(name, name));
        let (source, destination) =
            (manifest(&[a.clone(), c.clone(), d.clone()]), manifest(&[b.clone(), a.clone()]));
        let first = merged(&source, &destination);
        assert_eq!(first.manifest, merged(&source, &destination).manifest);
        let document: Value = serde_json::from_slice(&first.manifest.bytes).unwrap();
        assert_eq!(document["layers"], json!([b, a, c, d]));
        assert_eq!(document["annotations"]["kept"], "2", "other fields come from the destination");
        let config = first.blobs.last().unwrap();
        assert_eq!(document["config"]["digest"], config.digest.as_str());
        assert_eq!(document["config"].get("data"), None);
        let bytes = config.inline().expect("the configuration is embedded");
        let config: Value = serde_json::from_slice(&bytes).unwrap();
        let digests: Vec<_> = ["b", "a", "c", "d"].map(Digest::sha256).into();
        assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": digests }));
        assert_eq!(config["history"].as_array().unwrap().len(), 4);
        // A second merge with either side changes nothing.
        for side in [source, destination] {
            assert!(matches!(union(&tag("sig"), &side, &first.manifest), Union::Destination));
            assert!(matches!(union(&tag("att"), &first.manifest, &side), Union::Source));
        }
    }

    #[test]
    fn keeps_signatures_of_one_payload_by_two_keys() {
        let (ours, theirs) = (layer("payload", "by dev"), layer("payload", "by prod"));
        let merged = merged(&manifest(std::slice::from_ref(&ours)), &manifest(std::slice::from_ref(&theirs)));
        let document: Value = serde_json::from_slice(&merged.manifest.bytes).unwrap();
        assert_eq!(document["layers"], json!([theirs, ours]));
    }

    #[test]
    fn merges_only_signature_manifests() {
        let (ours, theirs) = (manifest(&[layer("a", "a")]), manifest(&[layer("b", "b")]));
        let neither = |tag: &Tag, a: &Manifest, b: &Manifest| matches!(union(tag, a, b), Union::Neither(_));
        assert!(neither(&tag("sbom"), &ours, &theirs));
        let image = manifest(&[json!({ "mediaType": "layer", "digest": Digest::sha256("l"), "size": 1 })]);
        let undescribed = manifest(&[json!({ "mediaType": PAYLOAD })]);
        let read = |text: &str| {
            Manifest::read(Some(media_type::OCI_MANIFEST), None, text.to_owned().into()).unwrap()
        };
        let others = [image, undescribed, read("[]"), read("{}"), read(r#"{"layers":[]}"#), read("x")];
        for other in &others {
            assert!(neither(&tag("sig"), other, &theirs) && neither(&tag("sig"), &ours, other));
        }
        let many: Vec<_> = (0..1_000).map(|n| layer(&n.to_string(), "many")).collect();
        assert!(neither(&tag("sig"), &ours, &manifest(&many)));
    }
}
