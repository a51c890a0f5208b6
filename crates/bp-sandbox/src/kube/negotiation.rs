//! Content negotiation: the format of a response, and its transformation to a `Table` or to metadata only.

use http::{HeaderMap, Response};
use serde_json::{Value, json};

use super::{
    protobuf,
    status::{Answer, Failure, json_response},
};
use crate::body::Body;

/// The format of a response body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// The transformation of the objects of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Transform {
    #[default]
    Full,
    Table,
    Metadata,
}

/// What the client accepts best of what the server offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) format: Format,
    pub(super) transform: Transform,
}

/// The formats of built-in kinds, and those of custom resources, which have no protobuf encoding.
pub(super) const BUILT_IN: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];
pub(super) const CUSTOM: &[&str] = &["application/json", "application/yaml"];

/// A clause of an `Accept` header: `application/json;as=Table;v=v1;g=meta.k8s.io;q=0.8`.
pub(super) struct Clause<'h> {
    pub(super) media_type: &'h str,
    quality: f32,
    parameters: Vec<(&'h str, &'h str)>,
}

impl<'h> Clause<'h> {
    fn read(text: &'h str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q").and_then(|(_, q)| q.parse().ok());
        Clause { media_type, quality: quality.unwrap_or(1.0), parameters }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&'h str> {
        self.parameters.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// The format and transformation, if the server offers it.
    fn accepted(&self, offered: &[&str]) -> Option<Accepted> {
        let offers = |media_type: &str| match media_type.strip_suffix("/*") {
            Some("*") => offered.first().copied(),
            Some(family) => offered.iter().find(|offer| offer.split('/').next() == Some(family)).copied(),
            None => offered.iter().find(|offer| **offer == media_type).copied(),
        };
        let format = match offers(self.media_type)? {
            "application/yaml" => Format::Yaml,
            protobuf::MEDIA_TYPE => Format::Protobuf,
            _ => Format::Json,
        };
        let is_meta = self.parameter("g") == Some("meta.k8s.io")
            && matches!(self.parameter("v"), Some("v1" | "v1beta1"));
        let transform = match self.parameter("as") {
            None => Transform::Full,
            Some("Table") if is_meta && format != Format::Protobuf => Transform::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if is_meta => Transform::Metadata,
            Some(_) => return None,
        };
        Some(Accepted { format, transform })
    }
}

/// The clauses of the `Accept` header, the preferred one first.
pub(super) fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let values = headers.get_all("accept").iter().filter_map(|value| value.to_str().ok());
    let clauses = values.flat_map(|value| value.split(',')).map(str::trim).filter(|text| !text.is_empty());
    let mut clauses: Vec<Clause<'_>> = clauses.map(Clause::read).collect();
    clauses.sort_by(|a, b| {
        let wildcard = |clause: &Clause<'_>| clause.media_type.ends_with('*');
        b.quality.total_cmp(&a.quality).then(wildcard(a).cmp(&wildcard(b)))
    });
    clauses
}

/// Chooses the format of a response.
pub(super) fn negotiate(headers: &HeaderMap, offered: &[&str]) -> Answer<Accepted> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Accepted::default());
    }
    let found = clauses.iter().find_map(|clause| clause.accepted(offered));
    found.ok_or_else(|| Failure::not_acceptable(offered))
}

/// Whether the client accepts one of these formats, whatever the transformation is.
pub(super) fn offers_any(headers: &HeaderMap, offered: &[&str]) -> bool {
    clauses(headers)
        .iter()
        .any(|clause| offered.contains(&clause.media_type) || clause.media_type.ends_with("/*"))
}

impl Accepted {
    /// The response with an object; a kind without a protobuf encoding is sent as JSON.
    pub(super) fn render(self, status: u16, object: &Value) -> Response<Body> {
        let (media_type, body) = match self.format {
            Format::Json => return json_response(status, object),
            Format::Yaml => ("application/yaml", Body::from(object.to_string())),
            Format::Protobuf => match protobuf::encode(object) {
                Some(Ok(document)) => (protobuf::MEDIA_TYPE, Body::from(document)),
                Some(Err(error)) => {
                    tracing::debug!(%error, "object sent as JSON");
                    return json_response(status, object);
                }
                None => return json_response(status, object),
            },
        };
        let response = Response::builder().status(status).header("content-type", media_type);
        response.body(body).expect("constant headers")
    }
}

/// An object reduced to its metadata.
pub(super) fn metadata(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str, offered: &[&str]) -> Option<(Format, Transform)> {
        let mut headers = HeaderMap::new();
        headers.insert("accept", accept.parse().unwrap());
        negotiate(&headers, offered).ok().map(|accepted| (accepted.format, accepted.transform))
    }

    #[test]
    fn chooses_the_preferred_format_that_is_offered() {
        let (full, table) = (Transform::Full, Transform::Table);
        for (accept, expected) in [
            ("application/json", Some((Format::Json, full))),
            ("*/*", Some((Format::Json, full))),
            ("application/*", Some((Format::Json, full))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Format::Protobuf, full))),
            ("application/json, application/vnd.kubernetes.protobuf", Some((Format::Json, full))),
            (
                "application/json;q=0.5, application/vnd.kubernetes.protobuf;q=0.9",
                Some((Format::Protobuf, full)),
            ),
            ("*/*, application/yaml", Some((Format::Yaml, full))),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Format::Json, table))),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Format::Protobuf, Transform::Metadata)),
            ),
            ("application/json;as=Chart;v=v1;g=meta.k8s.io, application/json", Some((Format::Json, full))),
            ("application/cbor, application/json;q=0.8", Some((Format::Json, full))),
            ("application/cbor", None),
            ("text/html", None),
        ] {
            assert_eq!(of(accept, BUILT_IN), expected, "{accept}");
        }
        assert_eq!(of("application/vnd.kubernetes.protobuf", CUSTOM), None);
        assert_eq!(negotiate(&HeaderMap::new(), CUSTOM).ok(), Some(Accepted::default()));
    }
}
