//! The `tracing` spans of a copy and of a deployment: names, fields and attempts, and no secret in any field.
//!
//! The subscriber records what `docs/observability.md` documents: all levels of our crates, and up to debug of others.
#![cfg(feature = "sandbox")]

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use bp_artifact::{DigestRef, ImageRef, ResolvedImage, Verdict, aws::RequestSpans, time::TimeSource};
use bp_ecs::{Cluster, Options};
use bp_promote::{
    CopyOptions, RegistryClient, copy,
    registry::{Body, Login, Logins, transport},
};
use bp_sandbox::{
    Effect, Fault, ImageBuilder, Sandbox,
    registry::{Auth, RegistryOptions},
};
use http::{Request, header};
use serde_json::json;
use tower::ServiceExt as _;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::filter_fn,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

const SOURCE: &str = "dev.example.com";
const DESTINATION: &str = "prod.example.com";
const STORAGE: &str = "storage.example.com";
const ECR: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

const PASSWORD: &str = "canary-password-5Zq7Wx2L";
const SECRET_KEY: &str = "canary-secret-key-8Hd3Kp1V";
const SESSION_TOKEN: &str = "canary-session-token-9Rt4Bn6C";
const VARIABLE: &str = "canary-variable-2Yg8Mf5J";

/// A recorded span.
#[derive(Debug, Clone, Default)]
struct Recorded {
    name: String,
    level: String,
    parents: Vec<String>,
    fields: BTreeMap<String, String>,
    closed: bool,
}

impl Recorded {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl Visit for Recorded {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
    }
}

/// Records all spans, and the fields of all spans and events.
#[derive(Clone, Default)]
struct Capture {
    spans: Arc<Mutex<BTreeMap<u64, Recorded>>>,
    events: Arc<Mutex<Vec<(String, Recorded)>>>,
}

impl Capture {
    /// Records until the guard is dropped.
    fn start(&self) -> DefaultGuard {
        let documented = |metadata: &Metadata<'_>| {
            metadata.target().starts_with("bp_") || *metadata.level() <= Level::DEBUG
        };
        let layer = self.clone().with_filter(filter_fn(documented));
        tracing::subscriber::set_default(Registry::default().with(layer))
    }

    fn all(&self) -> Vec<Recorded> {
        self.spans.lock().unwrap().values().cloned().collect()
    }

    fn named(&self, name: &str) -> Vec<Recorded> {
        self.all().into_iter().filter(|span| span.name == name).collect()
    }

    fn one(&self, name: &str) -> Recorded {
        let mut found = self.named(name);
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        found.remove(0)
    }

    /// All recorded fields, as `name=value` with the span or the event's target in front.
    fn lines(&self) -> Vec<String> {
        let events = self.events.lock().unwrap().clone();
        let spans = self.all().into_iter().map(|span| (span.name.clone(), span));
        let fields = |(source, recorded): (String, Recorded)| {
            recorded.fields.into_iter().map(move |(name, value)| format!("{source} {name}={value}"))
        };
        spans.chain(events).flat_map(fields).collect()
    }

    fn assert_contains_none_of<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let lines = self.lines();
        for secret in secrets {
            let leak = lines.iter().find(|line| line.contains(secret));
            assert_eq!(leak, None, "{secret}");
        }
    }
}

/// Span ids are reused once a span is closed, so spans have a number of their own.
struct Number(u64);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut recorded = Recorded {
            name: span.name().to_owned(),
            level: span.metadata().level().to_string(),
            parents: span.scope().skip(1).map(|parent| parent.name().to_owned()).collect(),
            ..Recorded::default()
        };
        attributes.record(&mut recorded);
        let mut spans = self.spans.lock().unwrap();
        let number = spans.len() as u64;
        spans.insert(number, recorded);
        span.extensions_mut().insert(Number(number));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let number = context.span(id).unwrap().extensions().get::<Number>().unwrap().0;
        values.record(self.spans.lock().unwrap().get_mut(&number).unwrap());
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut recorded = Recorded::default();
        event.record(&mut recorded);
        self.events.lock().unwrap().push((event.metadata().target().to_owned(), recorded));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let number = context.span(&id).unwrap().extensions().get::<Number>().unwrap().0;
        self.spans.lock().unwrap().get_mut(&number).unwrap().closed = true;
    }
}

/// The credentials and queries that a registry client really sends.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<String>>>);

impl Sent {
    fn note(&self, request: &Request<Body>) {
        let mut sent = self.0.lock().unwrap();
        let authorization = request.headers().get(header::AUTHORIZATION);
        let credentials = authorization.and_then(|value| value.to_str().ok()?.split_once(' '));
        sent.extend(credentials.map(|(_, credentials)| credentials.to_owned()));
        sent.extend(request.uri().query().filter(|query| !query.is_empty()).map(str::to_owned));
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_has_a_span_for_each_operation_image_blob_and_request() {
    let auth = || Auth::token("ci", PASSWORD, Duration::from_secs(300));
    let sandbox = Sandbox::builder()
        .registry(SOURCE, RegistryOptions::default().auth(auth()).redirect_blobs_to(STORAGE))
        .registry(DESTINATION, RegistryOptions::default().auth(auth()))
        .build();
    let image = ImageBuilder::new().layer([("app", "app")]).build();
    sandbox.registry(SOURCE).push(&image, "shop/web", "v1");
    let (sent, inner, clock) = (Sent::default(), sandbox.transport(), sandbox.clock().clone());
    let noted = sent.clone();
    let observed = tower::service_fn(move |request: Request<Body>| {
        noted.note(&request);
        inner.clone().oneshot(request)
    });
    let login = || Login::password("ci", PASSWORD);
    let client = RegistryClient::builder()
        .transport(transport(observed))
        .credentials(
            Logins::new().with(SOURCE.parse().unwrap(), login()).with(DESTINATION.parse().unwrap(), login()),
        )
        .time_source(TimeSource::from_fn(move || clock.now()))
        .build()
        .unwrap();
    let headers = vec![("x-request-id".to_owned(), "r-1".to_owned())];
    let busy = Effect::Answer { status: 503, headers, body: String::new() };
    sandbox.faults().inject(Fault::new(busy).at(SOURCE).on("GET manifest"));
    // The upload of one blob fails, so that the blob is copied again.
    sandbox.faults().inject(Fault::status(503).at(DESTINATION).on("PUT upload"));
    let capture = Capture::default();
    let guard = capture.start();

    let (from, to): (ImageRef, ImageRef) = (
        format!("{SOURCE}/shop/web:v1").parse().unwrap(),
        format!("{DESTINATION}/shop/web:v1").parse().unwrap(),
    );
    copy(client.image(&from), client.image(&to), CopyOptions::default()).await.unwrap();
    drop(guard);

    let operation = capture.one("copy");
    assert_eq!((operation.level.as_str(), operation.field("images")), ("INFO", "1"));
    let copied = capture.one("copy_image");
    assert_eq!((copied.level.as_str(), &copied.parents[..]), ("INFO", &["copy".to_owned()][..]));
    assert_eq!(copied.field("source"), format!("{SOURCE}/shop/web"));
    assert_eq!(copied.field("destination"), format!("{DESTINATION}/shop/web"));
    assert_eq!(copied.field("reference"), "v1");

    let blobs = capture.named("copy_blob");
    let attempts: Vec<&str> = blobs.iter().map(|blob| blob.field("attempt")).collect();
    assert_eq!(attempts.iter().filter(|attempt| **attempt == "2").count(), 1, "{attempts:?}");
    assert!(blobs.iter().all(|blob| blob.level == "DEBUG" && blob.parents == ["copy_image", "copy"]));

    let requests = capture.named("registry_request");
    assert!(
        requests.iter().all(|request| request.level == "DEBUG" && request.parents.last().unwrap() == "copy")
    );
    let manifests: Vec<_> = requests
        .iter()
        .filter(|request| request.field("host") == SOURCE && request.field("path").contains("/manifests/v1"))
        .map(|request| ["method", "attempt", "status", "request_id"].map(|name| request.field(name)))
        .collect();
    assert_eq!(manifests, [["GET", "1", "503", "r-1"], ["GET", "2", "401", ""], ["GET", "3", "200", ""]]);
    let redirected = requests.iter().find(|request| request.field("host") == STORAGE).unwrap();
    assert!(redirected.field("path").starts_with("/v2/shop/web/blobs/sha256:"), "{redirected:?}");
    let uploads = requests.iter().filter(|request| request.field("path").contains("/uploads/"));
    assert!(uploads.clone().all(|upload| upload.field("path").ends_with(['/', '…'])));
    assert!(requests.iter().any(|request| request.field("path") == "(token)"));
    assert!(capture.all().iter().all(|span| span.closed), "{:#?}", capture.all());

    let sent = sent.0.lock().unwrap().clone();
    assert!(sent.iter().any(|text| text.contains("X-Amz-Signature")) && sent.len() > 8, "{sent:#?}");
    capture.assert_contains_none_of(sent.iter().map(String::as_str).chain([PASSWORD, "?"]));
}

#[tokio::test(start_paused = true)]
async fn a_deployment_has_a_span_with_its_verdict_and_one_for_each_attempt_of_a_request() {
    let sandbox = Sandbox::builder().registry(ECR, RegistryOptions::ecr()).build();
    sandbox.registry(ECR).create_repository("shop/web");
    let push = |name: &str| -> ResolvedImage {
        let image = ImageBuilder::new().layer([("app", name)]).build();
        sandbox.registry(ECR).push(&image, "shop/web", name);
        format!("{ECR}/shop/web@{}", image.digest()).parse::<DigestRef>().unwrap().into()
    };
    let (old, new) = (push("1"), push("2"));
    let ecs = sandbox.aws().ecs("111111111111", "eu-central-1");
    let definition = json!({
        "family": "web",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": "arn:aws:iam::111111111111:role/web",
        "containerDefinitions": [{
            "name": "web",
            "image": old.reference.to_string(),
            "environment": [{ "name": "TOKEN", "value": VARIABLE }],
        }],
    });
    ecs.new_service("shop", "web").task_definition(definition).create();
    let credentials = Credentials::new("AKIDTEST", SECRET_KEY, Some(SESSION_TOKEN.to_owned()), None, "test");
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::standard())
        .http_client(sandbox.http_client())
        .interceptor(RequestSpans)
        .build();
    let options = Options::new(Duration::from_secs(600)).unwrap();
    let target = Cluster::new(aws_sdk_ecs::Client::from_conf(config), "shop").service("web", options);
    sandbox.faults().inject(Fault::status(503).on("ecs:DescribeTaskDefinition"));
    sandbox.faults().inject(Fault::new(Effect::Reset).on("ecs:ListTasks"));
    let capture = Capture::default();
    let guard = capture.start();

    let outcome = target.deploy(&new).await.unwrap();
    drop(guard);

    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let operation = capture.one("ecs_deploy");
    assert_eq!((operation.level.as_str(), operation.field("target_id")), ("INFO", "ecs/shop/web"));
    assert_eq!(operation.field("image"), new.reference.to_string());
    assert_eq!(operation.field("verdict"), Verdict::Deployed.to_string());

    let requests = capture.named("aws_request");
    assert!(requests.iter().all(|request| {
        request.level == "DEBUG"
            && request.field("service") == "ECS"
            && request.field("method") == "POST"
            && request.field("host") == "ecs.eu-central-1.amazonaws.com"
            && request.parents.last().unwrap() == "ecs_deploy"
    }));
    let of = |operation: &str| -> Vec<[&str; 2]> {
        let requests = requests.iter().filter(|request| request.field("operation") == operation);
        requests.map(|request| ["attempt", "status"].map(|name| request.field(name))).collect()
    };
    assert_eq!(of("DescribeTaskDefinition")[..2], [["1", "503"], ["2", "200"]]);
    assert_eq!(of("ListTasks")[..2], [["1", ""], ["2", "200"]], "without a response there is no status");
    assert_eq!(of("UpdateService"), [["1", "200"]]);
    let answered = requests.iter().filter(|request| request.field("status") == "200");
    assert!(answered.clone().count() > 5 && answered.clone().all(|one| !one.field("request_id").is_empty()));
    assert!(capture.all().iter().all(|span| span.closed), "{:#?}", capture.all());

    let lines = capture.lines();
    assert!(lines.iter().any(|line| line.starts_with("aws_")), "the SDK's own events are recorded");
    capture.assert_contains_none_of([SECRET_KEY, SESSION_TOKEN, VARIABLE]);
}

/// Verifies the search itself.
#[test]
fn the_search_finds_a_secret() {
    let capture = Capture::default();
    let guard = capture.start();
    tracing::trace!(target: "bp_test", password = PASSWORD);
    tracing::trace!(target: "aws_smithy_runtime", token = SESSION_TOKEN);
    drop(guard);
    capture.assert_contains_none_of([SESSION_TOKEN]);
    assert!(capture.lines().iter().any(|line| line.contains(PASSWORD)));
}
