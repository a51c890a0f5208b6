//! Wire protocols of the AWS APIs: AWS JSON 1.0/1.1, REST-JSON (EKS, EventBridge Scheduler), Query (STS, IAM, Elastic
//! Load Balancing) and Smithy RPC v2 with CBOR (CloudWatch). Requests to other services are rejected in their protocol,
//! so that every client can read the error.

use std::collections::BTreeMap;

use http::{Response, request};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{cbor, identity::Identities};
use crate::body::Body;

/// The protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Smithy RPC v2 with CBOR: service and operation in the path, errors in `__type`.
    Cbor,
    /// AWS JSON: the operation in `X-Amz-Target`, errors in `__type`.
    Json,
    /// REST-JSON: method and path, errors in `x-amzn-errortype`.
    Rest,
    /// Query: the operation in the form field `Action`, responses in XML.
    Query,
    /// The Query protocol of EC2, whose errors have another envelope.
    Ec2,
    /// REST-XML (CloudFront, Route 53): method and path, errors in the envelope of Query.
    RestXml,
    /// REST-XML of S3, whose errors have no envelope.
    S3,
}

/// One API call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) protocol: Protocol,
    pub(crate) account: String,
    pub(crate) region: String,
    /// The access key that signed it.
    pub(crate) access_key_id: String,
    /// The JSON input; for Query the form fields as strings; for REST the body, or the query of a request without one.
    pub(crate) input: Value,
    /// For REST: the path's segments, decoded.
    pub(crate) path: Vec<String>,
}

impl Call {
    pub(crate) fn read(
        identities: &Identities,
        parts: &request::Parts,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let (service, operation, protocol) = route(parts, body);
        let (access_key_id, region) = scope(parts).map_or_else(
            || (String::new(), "us-east-1".to_owned()),
            |scope| (scope.access_key_id, scope.region),
        );
        let input = match protocol {
            Protocol::Query | Protocol::Ec2 => json!(fields(parts, body)),
            // No service with this protocol is modelled.
            Protocol::RestXml | Protocol::S3 => Value::Null,
            Protocol::Rest if body.is_empty() => json!(form(parts.uri.query().unwrap_or_default())),
            _ if body.is_empty() => Value::Null,
            Protocol::Cbor => cbor::decode(body)
                .ok_or_else(|| ApiError::new(400, "SerializationException", "the body is not CBOR"))?,
            Protocol::Json | Protocol::Rest => serde_json::from_slice(body)
                .map_err(|_| ApiError::new(400, "SerializationException", "the body is not JSON"))?,
        };
        Ok(Call {
            account: identities.of(&access_key_id).account,
            region,
            access_key_id,
            input,
            path: segments(parts.uri.path()),
            service,
            operation,
            protocol,
        })
    }

    /// A text field of the input, empty when it is missing.
    pub(crate) fn text(&self, field: &str) -> &str {
        text(&self.input, field)
    }

    /// The error for an operation that the model does not implement, with the code of an operation that the service does
    /// not have. The message mentions bp-sandbox, so that it is not mistaken for an error of AWS.
    pub(crate) fn unknown(&self) -> ApiError {
        let message = format!("bp-sandbox does not model {}:{}", self.service, self.operation);
        let (status, code) = match self.protocol {
            Protocol::Json | Protocol::Cbor => (400, "UnknownOperationException"),
            Protocol::Rest | Protocol::RestXml => (404, "UnknownOperationException"),
            Protocol::Query | Protocol::Ec2 => (400, "InvalidAction"),
            Protocol::S3 => (501, "NotImplemented"),
        };
        ApiError::new(status, code, message)
    }
}

/// An error response of a service.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: u16,
    code: &'static str,
    message: String,
    /// Further members of the error's shape.
    extra: Value,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        ApiError { status, code, message: message.into(), extra: json!({}) }
    }

    /// Adds further members of the error's shape.
    pub(crate) fn with(mut self, extra: Value) -> Self {
        self.extra = extra;
        self
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn response(&self, protocol: Protocol) -> Response<Body> {
        let code_and_message =
            || format!("<Code>{}</Code><Message>{}</Message>", self.code, escape(&self.message));
        match protocol {
            Protocol::Query | Protocol::RestXml => {
                let fault = if self.status < 500 { "Sender" } else { "Receiver" };
                let (error, id) = (code_and_message(), request_id());
                xml(
                    self.status,
                    &format!(
                        "<ErrorResponse><Error><Type>{fault}</Type>{error}</Error><RequestId>{id}</RequestId>\
                         </ErrorResponse>"
                    ),
                )
            }
            Protocol::Ec2 => {
                let (error, id) = (code_and_message(), request_id());
                xml(
                    self.status,
                    &format!(
                        "<Response><Errors><Error>{error}</Error></Errors><RequestID>{id}</RequestID></Response>"
                    ),
                )
            }
            Protocol::S3 => {
                let (error, id) = (code_and_message(), request_id());
                xml(self.status, &format!("<Error>{error}<RequestId>{id}</RequestId></Error>"))
            }
            Protocol::Json | Protocol::Cbor | Protocol::Rest => self.response_in_json(protocol),
        }
    }

    fn response_in_json(&self, protocol: Protocol) -> Response<Body> {
        let mut body = self.extra.clone();
        body["__type"] = json!(self.code);
        // ECR and EKS send `message`, older services `Message`; SDKs read both.
        body["message"] = json!(self.message);
        let mut response = answer(self.status, protocol, &body);
        if protocol == Protocol::Rest {
            response.headers_mut().insert("x-amzn-errortype", http::HeaderValue::from_static(self.code));
        }
        response
    }
}

/// As quoted in logs and in the messages of other services.
impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

pub(crate) type Answer = Result<Value, ApiError>;

/// The modelled services with the Query protocol: their requests without an action get XML too.
const QUERY: [&str; 3] = ["sts", "iam", "elasticloadbalancing"];

/// Service, operation and protocol of a request.
pub(crate) fn route(parts: &request::Parts, body: &[u8]) -> (String, String, Protocol) {
    if let Some(target) = parts.headers.get("x-amz-target").and_then(|t| t.to_str().ok()) {
        let (prefix, operation) = target.split_once('.').unwrap_or(("", target));
        let service = match prefix {
            "AmazonEC2ContainerServiceV20141113" => "ecs",
            "AmazonEC2ContainerRegistry_V20150921" => "ecr",
            "secretsmanager" => "secretsmanager",
            "AmazonSSM" => "ssm",
            "Logs_20140328" => "logs",
            "AWSEvents" => "events",
            other => other,
        };
        return (service.to_owned(), operation.to_owned(), Protocol::Json);
    }
    let path = segments(parts.uri.path());
    if parts.headers.get("smithy-protocol").is_some_and(|protocol| protocol == "rpc-v2-cbor") {
        let at = |index: usize| path.get(index).cloned().unwrap_or_default();
        let service = match at(1).as_str() {
            "GraniteServiceVersion20100801" => "cloudwatch".to_owned(),
            other => other.to_owned(),
        };
        return (service, at(3), Protocol::Cbor);
    }
    let service = scope(parts).map_or_else(|| "sts".to_owned(), |scope| scope.service);
    let by_path = || format!("{} {}", parts.method, parts.uri.path());
    let (operation, protocol) = match service.as_str() {
        "eks" => (eks_operation(&parts.method, &path), Protocol::Rest),
        "scheduler" => (scheduler_operation(&parts.method, &path), Protocol::Rest),
        "s3" => (by_path(), Protocol::S3),
        "cloudfront" | "route53" => (by_path(), Protocol::RestXml),
        _ => match (fields(parts, body).remove("Action"), service.as_str()) {
            (Some(action), "ec2") => (action, Protocol::Ec2),
            (Some(action), _) => (action, Protocol::Query),
            (None, service) if QUERY.contains(&service) => (String::new(), Protocol::Query),
            (None, _) => (by_path(), Protocol::Rest),
        },
    };
    (service, operation, protocol)
}

/// The EKS operation of a method and path.
fn eks_operation(method: &http::Method, path: &[String]) -> String {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let known = match (method, path.as_slice()) {
        (&http::Method::GET, ["clusters"]) => "ListClusters",
        (&http::Method::GET, ["clusters", _]) => "DescribeCluster",
        (&http::Method::GET, ["clusters", _, "access-entries"]) => "ListAccessEntries",
        (&http::Method::GET, ["clusters", _, "access-entries", _]) => "DescribeAccessEntry",
        (&http::Method::GET, ["clusters", _, "pod-identity-associations"]) => "ListPodIdentityAssociations",
        (&http::Method::GET, ["clusters", _, "pod-identity-associations", _]) => {
            "DescribePodIdentityAssociation"
        }
        _ => return format!("{method} /{}", path.join("/")),
    };
    known.to_owned()
}

/// The EventBridge Scheduler operation of a method and path.
fn scheduler_operation(method: &http::Method, path: &[String]) -> String {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let known = match (method, path.as_slice()) {
        (&http::Method::GET, ["schedules"]) => "ListSchedules",
        (&http::Method::GET, ["schedules", _]) => "GetSchedule",
        (&http::Method::PUT, ["schedules", _]) => "UpdateSchedule",
        _ => return format!("{method} /{}", path.join("/")),
    };
    known.to_owned()
}

/// The credential scope of a signature, from the header or, for a presigned request, from the query.
struct Scope {
    access_key_id: String,
    region: String,
    service: String,
}

fn scope(parts: &request::Parts) -> Option<Scope> {
    let header = parts.headers.get("authorization").and_then(|a| a.to_str().ok());
    let credential = match header.and_then(|a| a.split_once("Credential=")) {
        Some((_, rest)) => rest.split([',', ' ']).next()?.to_owned(),
        None => form(parts.uri.query()?).remove("X-Amz-Credential")?,
    };
    // <access key>/<date>/<region>/<service>/aws4_request
    let mut fields = credential.split('/');
    let access_key_id = fields.next()?.to_owned();
    let region = fields.nth(1)?.to_owned();
    let service = fields.next()?.to_owned();
    Some(Scope { access_key_id, region, service })
}

fn segments(path: &str) -> Vec<String> {
    let decode = |s: &str| percent_decode_str(s).decode_utf8_lossy().into_owned();
    path.split('/').filter(|s| !s.is_empty()).map(decode).collect()
}

fn form(text: &str) -> BTreeMap<String, String> {
    let decode = |s: &str| percent_decode_str(&s.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}

fn fields(parts: &request::Parts, body: &[u8]) -> BTreeMap<String, String> {
    let mut fields = form(parts.uri.query().unwrap_or_default());
    fields.extend(form(&String::from_utf8_lossy(body)));
    fields
}

pub(crate) fn answer(status: u16, protocol: Protocol, value: &Value) -> Response<Body> {
    match protocol {
        Protocol::Cbor => {
            let mut response = respond(status, "application/cbor", cbor::encode(value));
            let protocol = http::HeaderValue::from_static("rpc-v2-cbor");
            response.headers_mut().insert("smithy-protocol", protocol);
            response
        }
        Protocol::Rest => respond(status, "application/json", value.to_string()),
        // Services with XML write their responses themselves.
        Protocol::Json | Protocol::Query | Protocol::Ec2 | Protocol::RestXml | Protocol::S3 => {
            respond(status, "application/x-amz-json-1.1", value.to_string())
        }
    }
}

pub(crate) fn xml(status: u16, text: &str) -> Response<Body> {
    respond(status, "text/xml", text.to_owned())
}

fn respond(status: u16, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("x-amzn-requestid", request_id())
        .body(body.into())
        .expect("constant headers")
}

/// A random id in UUID format.
pub(crate) fn request_id() -> String {
    let (a, b) = (fastrand::u64(..), fastrand::u64(..));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// A text member, empty when it is missing.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// A list of texts, empty when it is missing.
pub(super) fn texts<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    value[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
