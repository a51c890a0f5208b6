//! A source defined by the test, and a destination that accepts everything.

use std::time::Duration;

use bp_artifact::{Digest, ImageRef};
use bp_promote::{
    CopyError, CopyOptions, CopyReport, RegistryClient,
    content::Reference,
    copy,
    registry::{Anonymous, Body, RepositoryClient},
    store::ImageAt,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;
use serde_json::{Value, json};

use crate::net::*;

pub(crate) const SRC: &str = "dev.example.com";
pub(crate) const DST: &str = "prod.example.com";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn tag() -> Reference {
    Reference::Tag("v1".parse().unwrap())
}

pub(crate) fn of(client: &RegistryClient, host: &str) -> RepositoryClient {
    client.repository(&format!("{host}/shop/web").parse().unwrap())
}

/// An empty registry that accepts everything.
pub(crate) fn accept_all(seen: &RecordedRequest) -> Response<Body> {
    match seen.method.as_str() {
        "POST" => answer(202, &[("location", "/u/1")], ""),
        "PUT" => answer(201, &[], ""),
        _ => missing(),
    }
}

/// A client whose source is served by `source`; all other hosts are empty and accept everything.
pub(crate) fn client(
    source: impl Fn(&RecordedRequest) -> Response<Body> + Send + Sync + 'static,
) -> (RegistryClient, Log) {
    let (transport, log) =
        network(move |seen| if seen.authority.starts_with(SRC) { source(seen) } else { accept_all(seen) });
    (builder(transport).credentials(Anonymous).build().unwrap(), log)
}

pub(crate) fn sides(client: &RegistryClient) -> [ImageAt<RepositoryClient>; 2] {
    [SRC, DST].map(|host| client.image(&format!("{host}/shop/web:v1").parse::<ImageRef>().unwrap()))
}

pub(crate) async fn promote(client: &RegistryClient) -> Result<CopyReport, CopyError> {
    let [from, to] = sides(client);
    copy(from, to, CopyOptions::default().referrers()).await
}

/// An error with all its causes.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

pub(crate) fn link(digest: &Digest, media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": 100 })
}

pub(crate) fn index(of: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": of }).to_string()
}

/// A body that sends a byte every three seconds, without end.
pub(crate) fn trickle(text: &'static str) -> Body {
    pieces(stream::iter(text.bytes().chain(std::iter::repeat(b' '))).then(|byte| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(Bytes::from(vec![byte]))
    }))
}
