//! The API server's handling of requests: authentication, authorization, admission and routing.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use http::{Request, Response, request};

use super::{
    Cluster, api,
    auth::verify_token,
    call::Call,
    discovery,
    negotiation::{BUILT_IN, negotiate},
    resource::{Resource, Target},
    status::{Answer, Failure},
};
use crate::{body::Body, endpoint::Endpoint};

impl Cluster {
    /// The user of a request.
    fn authenticate(&self, parts: &request::Parts) -> Answer<String> {
        let header = parts.headers.get("authorization").and_then(|header| header.to_str().ok());
        let Some(token) = header.and_then(|header| header.strip_prefix("Bearer ")) else {
            return Ok("system:anonymous".to_owned());
        };
        if token == self.static_token() {
            return Ok("kubernetes-admin".to_owned());
        }
        let key = match verify_token(token, &self.name, self.clock.client_now()) {
            Ok(key) => key,
            Err(reason) => {
                tracing::debug!(cluster = self.name, reason, "token rejected");
                return Err(Failure::unauthorized());
            }
        };
        let (account, arn) = self.principal(&key);
        if self.has_access(&account, &arn) { Ok(arn) } else { Err(Failure::unauthorized()) }
    }

    /// The account and ARN of an access key.
    #[cfg(feature = "aws")]
    fn principal(&self, access_key_id: &str) -> (String, String) {
        let identity = self.identities.of(access_key_id);
        (identity.account, identity.arn)
    }

    #[cfg(not(feature = "aws"))]
    fn principal(&self, access_key_id: &str) -> (String, String) {
        (self.options.account.clone(), format!("arn:aws:iam::{}:user/{access_key_id}", self.options.account))
    }

    fn authorize(&self, user: &str, verb: &str, target: &Target) -> Answer<()> {
        let plural = match &target.subresource {
            Some(sub) => format!("{}/{sub}", target.resource.plural),
            None => target.resource.plural.to_owned(),
        };
        let denied = self.rules().denied.contains(&(verb.to_owned(), plural));
        if user != "system:anonymous" && !denied {
            return Ok(());
        }
        Err(Failure::forbidden(user, verb, target))
    }

    /// Rejects a change that an admission webhook denies.
    pub(super) fn admit(&self, resource: &Resource) -> Answer<()> {
        match self.rules().webhooks.iter().find(|(plural, ..)| plural == resource.plural) {
            Some((_, webhook, why)) => Err(Failure::webhook(webhook, why)),
            None => Ok(()),
        }
    }

    fn respond(self: &Arc<Self>, parts: &request::Parts, body: &[u8]) -> Answer<Response<Body>> {
        let user = self.authenticate(parts)?;
        // The resources that are served are those of the state as of now.
        drop(self.enter());
        let path = parts.uri.path();
        if matches!(path, "/healthz" | "/livez" | "/readyz") {
            return Ok(Response::new(Body::from("ok")));
        }
        if let Some(response) = discovery::answer(parts, &self.options.version, &self.resources) {
            return response;
        }
        let mut call = Call::read(parts, &user, &self.resources).ok_or_else(Failure::no_such_path)?;
        if call.verb.is_empty() {
            return Err(Failure::method());
        }
        self.authorize(call.user, call.verb, &call.target)?;
        call.negotiate(parts)?;
        let content_type =
            parts.headers.get("content-type").and_then(|c| c.to_str().ok()).unwrap_or_default();
        api::answer(self, &call, content_type, body)
    }
}

impl Endpoint for Cluster {
    fn name(&self) -> String {
        self.host.clone()
    }

    /// `list pods`, `patch deployments`, `get pods/log`; for a path that is not a resource, `GET /version`.
    fn operation(&self, parts: &request::Parts, _: &[u8]) -> String {
        match Call::read(parts, "", &self.resources) {
            Some(call) => {
                let sub = call.target.subresource.map(|sub| format!("/{sub}")).unwrap_or_default();
                format!("{} {}{sub}", call.verb, call.target.resource.plural)
            }
            None => format!("{} {}", parts.method, parts.uri.path()),
        }
    }

    fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let answer = match body.bytes().await {
                Ok(body) => self.respond(&parts, &body),
                Err(_) => Err(Failure::bad_request("the request body ended before it was complete")),
            };
            // A client that accepts no format gets its error as JSON.
            let accepted = || negotiate(&parts.headers, BUILT_IN).unwrap_or_default();
            answer.unwrap_or_else(|failure| accepted().render(failure.code(), &failure.status()))
        })
    }
}
