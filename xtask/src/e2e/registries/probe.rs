//! A probe: a few requests, and the response that the distribution specification requires.
//!
//! Every registry gets the same requests. A known deviation of a registry is recorded with the probe and must still
//! occur; the sandbox must not deviate. This validates both the sandbox and our records about other registries.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256, Sha512};

use super::super::http::{self, Request, Response};

/// A sequence of requests and its expected response.
pub(super) struct Probe {
    pub(super) name: &'static str,
    /// Sends the requests; the last response is compared with `expect`.
    pub(super) requests: fn(&mut Session<'_>) -> Result<Response>,
    /// The response that the specification requires.
    pub(super) expect: Expect,
    /// Registries with a known deviation, and their response.
    pub(super) known: &'static [(&'static str, Expect)],
}

/// The expected properties of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    /// Any of these.
    pub(super) status: &'static [u16],
    pub(super) headers: &'static [&'static str],
    /// Text that the body contains, such as an error code.
    pub(super) body: &'static str,
}

pub(super) const fn status(status: &'static [u16]) -> Expect {
    Expect { status, headers: &[], body: "" }
}

impl Expect {
    pub(super) const fn headers(self, headers: &'static [&'static str]) -> Self {
        Expect { headers, ..self }
    }

    pub(super) const fn body(self, body: &'static str) -> Self {
        Expect { body, ..self }
    }

    fn met_by(&self, response: &Response) -> bool {
        self.status.contains(&response.status)
            && self.headers.iter().all(|name| response.header(name).is_some())
            && response.text().contains(self.body)
    }
}

impl Expect {
    /// Describes how a response differs.
    fn missed_by(&self, response: &Response) -> String {
        let missing = |name: &&&str| response.header(name).is_none();
        if !self.status.contains(&response.status) {
            format!("{} instead of {:?}", response.status, self.status)
        } else if let Some(header) = self.headers.iter().find(missing) {
            format!("{} without {header}", response.status)
        } else {
            format!("{} without {:?} in the body", response.status, self.body)
        }
    }
}

/// Sends the requests and checks the response.
pub(super) fn run(probe: &Probe, known: Option<Expect>, address: &str) -> Result<String> {
    let response = (probe.requests)(&mut Session::new(address, probe.name))?;
    let seen = || {
        let headers: BTreeMap<&str, &str> = response.headers().collect();
        format!("{} {headers:?} {}", response.status, response.text())
    };
    match known {
        None if probe.expect.met_by(&response) => Ok(String::new()),
        None => bail!("{}: {}", probe.expect.missed_by(&response), seen()),
        Some(deviation) if deviation.met_by(&response) => {
            Ok(format!("known deviation: {}", probe.expect.missed_by(&response)))
        }
        Some(deviation) => {
            bail!("the known deviation has changed: {}: {}", deviation.missed_by(&response), seen())
        }
    }
}

/// Requests to one registry, in a separate repository per probe.
pub(super) struct Session<'a> {
    address: &'a str,
    pub(super) repository: String,
}

impl<'a> Session<'a> {
    fn new(address: &'a str, probe: &str) -> Self {
        let repository = probe.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase();
        Session { address, repository: format!("probe/{}", repository.replace("--", "-")) }
    }

    /// Sends a request to a path relative to the repository, or to the absolute path of an upload.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let full =
            if path.starts_with('/') { path.to_owned() } else { format!("/v2/{}/{path}", self.repository) };
        http::send(self.address, &Request { method, path: &full, headers, body })
    }

    pub(super) fn get(&self, path: &str) -> Result<Response> {
        self.send("GET", path, &[], &[])
    }

    /// Starts an upload and returns its path.
    pub(super) fn upload(&self) -> Result<String> {
        let response = self.send("POST", "blobs/uploads/", &[], &[])?;
        ensure!(
            response.status == 202,
            "expected 202 for a new upload, got {}: {}",
            response.status,
            response.text()
        );
        self.location(&response)
    }

    /// The path in the Location header of a response, which may be an absolute URL.
    pub(super) fn location(&self, response: &Response) -> Result<String> {
        let location = response.header("Location").context("the response has no Location header")?;
        let path = location
            .split_once("://")
            .map_or(location, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        Ok(path.to_owned())
    }

    /// Stores a blob and returns its digest.
    pub(super) fn blob(&self, bytes: &[u8]) -> Result<String> {
        let digest = sha256(bytes);
        let path = with_digest(&self.upload()?, &digest);
        let response = self.send("PUT", &path, &[OCTETS], bytes)?;
        ensure!(
            response.status == 201,
            "expected 201 for a blob, got {}: {}",
            response.status,
            response.text()
        );
        Ok(digest)
    }

    /// Stores a small image under `tag` and returns its manifest.
    pub(super) fn image(&self, tag: &str) -> Result<Vec<u8>> {
        let manifest = self.manifest(tag, None)?;
        let response = self.send("PUT", &format!("manifests/{tag}"), &[MANIFEST], &manifest)?;
        ensure!(
            response.status == 201,
            "expected 201 for a manifest, got {}: {}",
            response.status,
            response.text()
        );
        Ok(manifest)
    }

    /// A manifest whose blobs are stored; `salt` makes its digest unique.
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

/// The Location with the digest appended to its query.
pub(super) fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}
