//! A probe: a few requests, and what the distribution specification has them answered with.
//!
//! Every registry is asked the same. What a registry is known to do otherwise is written down with the probe and must
//! still be so; the sandbox has no such excuse. This is how the model is held to the registries, and our notes about
//! the registries to the truth.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256, Sha512};

use super::super::http::{self, Answer, Request};

/// Requests that belong together.
pub(super) struct Probe {
    pub(super) name: &'static str,
    /// Each step's conversation; the last answer is judged by `expect`.
    pub(super) ask: fn(&mut Conversation<'_>) -> Result<Answer>,
    /// What the specification has: a status, and headers that must be there.
    pub(super) expect: Expect,
    /// Who is known to answer otherwise, and how.
    pub(super) known: &'static [(&'static str, Expect)],
}

/// What an answer looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    /// One of these.
    pub(super) status: &'static [u16],
    pub(super) headers: &'static [&'static str],
    /// A code in the body's `errors`, or any other text there.
    pub(super) says: &'static str,
}

pub(super) const fn status(status: &'static [u16]) -> Expect {
    Expect { status, headers: &[], says: "" }
}

impl Expect {
    pub(super) const fn headers(self, headers: &'static [&'static str]) -> Self {
        Expect { headers, ..self }
    }

    pub(super) const fn says(self, says: &'static str) -> Self {
        Expect { says, ..self }
    }

    fn met_by(&self, answer: &Answer) -> bool {
        self.status.contains(&answer.status)
            && self.headers.iter().all(|name| answer.header(name).is_some())
            && answer.text().contains(self.says)
    }
}

impl Expect {
    /// In what an answer differs.
    fn missed_by(&self, answer: &Answer) -> String {
        let missing = |name: &&&str| answer.header(name).is_none();
        if !self.status.contains(&answer.status) {
            format!("{} instead of {:?}", answer.status, self.status)
        } else if let Some(header) = self.headers.iter().find(missing) {
            format!("{} without {header}", answer.status)
        } else {
            format!("{} without {:?} in the body", answer.status, self.says)
        }
    }
}

/// Asks, and judges the answer.
pub(super) fn run(probe: &Probe, known: Option<Expect>, address: &str) -> Result<String> {
    let answer = (probe.ask)(&mut Conversation::new(address, probe.name))?;
    let seen = || {
        let headers: BTreeMap<&str, &str> = answer.headers().collect();
        format!("{} {headers:?} {}", answer.status, answer.text())
    };
    match known {
        None if probe.expect.met_by(&answer) => Ok(String::new()),
        None => bail!("{}: {}", probe.expect.missed_by(&answer), seen()),
        Some(fault) if fault.met_by(&answer) => {
            Ok(format!("known fault: {}", probe.expect.missed_by(&answer)))
        }
        Some(fault) => bail!("the known fault is another one now: {}: {}", fault.missed_by(&answer), seen()),
    }
}

/// Requests to one registry, in a repository of this probe's own.
pub(super) struct Conversation<'a> {
    address: &'a str,
    pub(super) repository: String,
}

impl<'a> Conversation<'a> {
    fn new(address: &'a str, probe: &str) -> Self {
        let repository = probe.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase();
        Conversation { address, repository: format!("probe/{}", repository.replace("--", "-")) }
    }

    /// A request below the repository, or to an upload's whole Location.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let full =
            if path.starts_with('/') { path.to_owned() } else { format!("/v2/{}/{path}", self.repository) };
        http::send(self.address, &Request { method, path: &full, headers, body })
    }

    pub(super) fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], &[])
    }

    /// Begins an upload and returns its path.
    pub(super) fn upload(&self) -> Result<String> {
        let answer = self.send("POST", "blobs/uploads/", &[], &[])?;
        ensure!(answer.status == 202, "an upload begins with 202, not {}: {}", answer.status, answer.text());
        self.location(&answer)
    }

    /// The path that an answer's Location names, be it absolute or not.
    pub(super) fn location(&self, answer: &Answer) -> Result<String> {
        let location = answer.header("Location").context("no Location")?;
        let path = location
            .split_once("://")
            .map_or(location, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        Ok(path.to_owned())
    }

    /// Stores a blob and returns its digest.
    pub(super) fn blob(&self, bytes: &[u8]) -> Result<String> {
        let digest = sha256(bytes);
        let path = with_digest(&self.upload()?, &digest);
        let answer = self.send("PUT", &path, &[OCTETS], bytes)?;
        ensure!(answer.status == 201, "a blob is stored with 201, not {}: {}", answer.status, answer.text());
        Ok(digest)
    }

    /// Stores a small image under `tag` and returns its manifest.
    pub(super) fn image(&self, tag: &str) -> Result<Vec<u8>> {
        let manifest = self.manifest(tag, None)?;
        let answer = self.send("PUT", &format!("manifests/{tag}"), &[MANIFEST], &manifest)?;
        ensure!(
            answer.status == 201,
            "a manifest is stored with 201, not {}: {}",
            answer.status,
            answer.text()
        );
        Ok(manifest)
    }

    /// A manifest whose blobs are stored; `salt` makes it another one.
    pub(super) fn manifest(&self, salt: &str, subject: Option<&[u8]>) -> Result<Vec<u8>> {
        let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
        let mut manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST.1,
            "artifactType": "application/vnd.example.probe",
            "config": descriptor("application/vnd.oci.empty.v1+json", &self.blob(config)?, config),
            "layers": [descriptor("application/octet-stream", &self.blob(layer)?, layer)],
            "annotations": { "salt": salt },
        });
        if let Some(subject) = subject {
            manifest["subject"] = descriptor(MANIFEST.1, &sha256(subject), subject);
        }
        Ok(manifest.to_string().into_bytes())
    }
}

pub(super) const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");
pub(super) const MANIFEST: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

pub(super) fn descriptor(media_type: &str, digest: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(super) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex::encode(Sha512::digest(bytes)))
}

/// The Location with the digest appended: it may carry a query already.
pub(super) fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}
