//! A mocked transport whose responses follow a recorded timeline.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
    shared::IntoShared,
};
use serde_json::Value;
use tokio::time::Instant;

/// The time since UpdateService, once it was called.
pub(crate) type Elapsed = Option<Duration>;
type Respond = dyn Fn(Elapsed, &str, &Value) -> Value + Send + Sync;

/// A mock of the ECS API.
#[derive(Clone)]
pub(crate) struct Replay {
    respond: Arc<Respond>,
    updated: Arc<Mutex<Option<Instant>>>,
    calls: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Replay {
    /// Responds to an operation with its input at a time.
    pub(crate) fn new(respond: impl Fn(Elapsed, &str, &Value) -> Value + Send + Sync + 'static) -> Self {
        Replay { respond: Arc::new(respond), updated: Arc::default(), calls: Arc::default() }
    }

    /// The operations called at each time, in order.
    pub(crate) fn polls(&self) -> Vec<Vec<String>> {
        let mut polls: Vec<(Instant, Vec<String>)> = Vec::new();
        for (at, operation) in self.calls.lock().unwrap().iter() {
            match polls.last_mut() {
                Some((last, operations)) if last == at => operations.push(operation.clone()),
                _ => polls.push((*at, vec![operation.clone()])),
            }
        }
        polls.into_iter().map(|(_, operations)| operations).collect()
    }

    /// How often an operation was called.
    pub(crate) fn count(&self, operation: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(_, called)| called == operation).count()
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replay")
    }
}

impl HttpConnector for Replay {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let input: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        self.calls.lock().unwrap().push((Instant::now(), operation.to_owned()));
        if operation == "UpdateService" {
            self.updated.lock().unwrap().get_or_insert_with(Instant::now);
        }
        let elapsed = self.updated.lock().unwrap().map(|at| at.elapsed());
        let response = (self.respond)(elapsed, operation, &input).to_string();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(StatusCode::try_from(200).unwrap(), response.into())))
    }
}

impl HttpClient for Replay {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
