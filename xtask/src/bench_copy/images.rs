//! The sets of images to copy: real archives of incompressible bytes.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::e2e::http::{self, Request};

const MIB: usize = 1 << 20;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Set {
    /// 1 image of 10 layers of 1 MiB
    Small,
    /// 1 image of 4 layers of 256 MiB
    Big,
    /// 4 platforms of 8 layers of 4 MiB, 4 of them shared
    Multi,
    /// 50 tags of 8 layers of 2 MiB, 6 of them shared
    Many,
}

impl Set {
    pub(super) const ALL: [Set; 4] = [Set::Small, Set::Big, Set::Multi, Set::Many];

    pub(super) fn name(self) -> &'static str {
        match self {
            Set::Small => "small",
            Set::Big => "big",
            Set::Multi => "multi",
            Set::Many => "many",
        }
    }

    pub(super) fn repository(self) -> String {
        format!("bench/{}", self.name())
    }

    pub(super) fn tag(self, n: usize) -> String {
        format!("v{n}")
    }

    /// Whether all tags of the repository are copied.
    pub(super) fn is_all_tags(self) -> bool {
        self == Set::Many
    }

    /// Layers per image, number of layers shared by all images, size of a layer.
    fn layers(self) -> (usize, usize, usize) {
        match self {
            Set::Small => (10, 0, MIB),
            Set::Big => (4, 0, 256 * MIB),
            Set::Multi => (8, 4, 4 * MIB),
            Set::Many => (8, 6, 2 * MIB),
        }
    }

    /// Pushes the set to a registry; returns its tags.
    pub(super) fn push(self, address: &str) -> Result<Vec<String>> {
        let to = Pusher { address, repository: self.repository() };
        let (count, shared, size) = self.layers();
        let images = match self {
            Set::Small | Set::Big => 1,
            Set::Multi => 4,
            Set::Many => 50,
        };
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ count as u64 ^ (size as u64) << 8);
        let mut common = Vec::new();
        for n in 0..shared {
            common.push(to.layer(&mut random, &format!("shared-{n}"), size)?);
        }
        let (mut children, mut tags) = (Vec::new(), Vec::new());
        for image in 0..images {
            let mut layers = common.clone();
            for n in shared..count {
                layers.push(to.layer(&mut random, &format!("image-{image}-{n}"), size)?);
            }
            let architecture = ["amd64", "arm64", "s390x", "ppc64le"][image % 4];
            let (layers, diff_ids): (Vec<Value>, Vec<String>) = layers.into_iter().unzip();
            let config = json!({
                "os": "linux", "architecture": architecture, "created": format!("2026-01-01T00:00:{image:02}Z"),
                "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
            });
            let config = to.blob(CONFIG, config.to_string().as_bytes())?;
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
            });
            let manifest = manifest.to_string();
            if self == Set::Multi {
                let mut child = to.manifest(MANIFEST, &manifest, &digest(manifest.as_bytes()))?;
                child["platform"] = json!({ "os": "linux", "architecture": architecture });
                children.push(child);
            } else {
                tags.push(self.tag(image));
                to.manifest(MANIFEST, &manifest, &self.tag(image))?;
            }
        }
        if !children.is_empty() {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
            to.manifest(INDEX, &index.to_string(), &self.tag(0))?;
            tags.push(self.tag(0));
        }
        Ok(tags)
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Pushes blobs and manifests to a repository.
struct Pusher<'a> {
    address: &'a str,
    repository: String,
}

impl Pusher<'_> {
    /// Pushes a layer; returns its descriptor and the digest of its uncompressed content.
    fn layer(&self, random: &mut Random, name: &str, size: usize) -> Result<(Value, String)> {
        let archive = archive(random, name, size);
        Ok((self.blob(LAYER, &gzip(&archive))?, digest(&archive)))
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let path = format!("/v2/{}/blobs/uploads/", self.repository);
        let started = self.send("POST", &path, &[], &[])?;
        let location = started.header("location").unwrap_or_default();
        let (_, path) = location.split_at(location.find("/v2/").unwrap_or(0));
        let digest = digest(bytes);
        let join = if path.contains('?') { '&' } else { '?' };
        let octets = [("Content-Type", "application/octet-stream")];
        self.send("PUT", &format!("{path}{join}digest={digest}"), &octets, bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
    }

    fn manifest(&self, media_type: &str, text: &str, reference: &str) -> Result<Value> {
        let path = format!("/v2/{}/manifests/{reference}", self.repository);
        self.send("PUT", &path, &[("Content-Type", media_type)], text.as_bytes())?;
        Ok(json!({ "mediaType": media_type, "digest": digest(text.as_bytes()), "size": text.len() }))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<http::Response> {
        let response = http::send(self.address, &Request { method, path, headers, body })?;
        ensure!(response.status < 300, "{method} {path} returned {}: {}", response.status, response.text());
        Ok(response)
    }
}

/// A tar archive with one file, `size` bytes in total.
fn archive(random: &mut Random, name: &str, size: usize) -> Vec<u8> {
    // One header block and two empty blocks at the end.
    let contents = size - 3 * 512;
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{contents:011o}\0"));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.reserve_exact(size - 512);
    while bytes.len() < 512 + contents {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(512 + contents);
    bytes.resize(size, 0);
    bytes
}

/// A gzip file of uncompressed blocks.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 65_535;
    let mut zipped = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = bytes.len().div_ceil(BLOCK);
    zipped.reserve_exact(bytes.len() + 5 * blocks + 8);
    for (n, block) in bytes.chunks(BLOCK).enumerate() {
        let size = block.len() as u16;
        zipped.push(u8::from(n + 1 == blocks));
        zipped.extend_from_slice(&size.to_le_bytes());
        zipped.extend_from_slice(&(!size).to_le_bytes());
        zipped.extend_from_slice(block);
    }
    zipped.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    zipped.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    zipped
}

/// A xorshift generator: the same bytes in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn seeded(seed: u64) -> Self {
        // Small seeds diverge only after some rounds.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_have_the_requested_size_and_a_valid_checksum() {
        let bytes = archive(&mut Random(7), "file", 4096);
        assert_eq!(bytes.len(), 4096);
        let stored = std::str::from_utf8(&bytes[148..154]).unwrap();
        let blank = bytes[..512].iter().enumerate();
        let sum: u32 =
            blank.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        assert_eq!(u32::from_str_radix(stored, 8).unwrap(), sum);
        assert!(bytes[4096 - 1024..].iter().all(|byte| *byte == 0));
        assert_eq!(digest(b"abc").len(), 71);
    }

    #[test]
    fn a_gzip_of_two_blocks_has_the_expected_lengths() {
        let zipped = gzip(&[7; 70_000]);
        assert_eq!(zipped.len(), 10 + 2 * 5 + 70_000 + 8);
        assert_eq!(zipped[10..15], [0, 0xff, 0xff, 0, 0]);
        assert_eq!(zipped[zipped.len() - 4..], 70_000_u32.to_le_bytes());
    }
}
