//! Authentication: logins, and the bearer tokens that they are exchanged for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Registry, Repository, sync::lock, text::SingleLine};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex as AsyncMutex;

use super::{
    challenge::Challenge,
    credentials::CredentialSource,
    error::{RegistryError, RequestLine},
    http::{Answer, Call, Http, full},
    login::{Login, LoginSecret},
    origin::Origin,
};
use crate::content::{null_as_default, object};

/// The scope of a token: `repository:shop/web:pull`, or several separated by spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope(String);

impl Scope {
    pub(super) fn pull(repository: &Repository) -> Self {
        Scope(format!("repository:{}:pull", repository.path()))
    }

    pub(super) fn push(repository: &Repository) -> Self {
        Scope(format!("repository:{}:pull,push", repository.path()))
    }

    pub(super) fn and(self, other: &Self) -> Self {
        Scope(format!("{} {}", self.0, other.0))
    }
}

/// The value of an Authorization header, and the id of the login or token that it was made of.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) value: HeaderValue,
    id: u64,
}

/// The authentication scheme of the registry, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Unknown,
    Open,
    Challenged(Challenge),
}

/// The login in use.
struct CurrentLogin {
    id: u64,
    login: Option<Login>,
}

/// The token in use.
struct Token {
    id: u64,
    value: SecretString,
    until: Timestamp,
}

type Slot = Arc<AsyncMutex<Option<Token>>>;

/// Authentication for one registry: logins and tokens are fetched once for all concurrent requests, and again before
/// they expire or when they are rejected.
pub(super) struct Authenticator {
    registry: Registry,
    origin: Origin,
    source: Arc<dyn CredentialSource>,
    scheme: Mutex<Scheme>,
    /// Locked by the first request to a registry until the scheme is known.
    discovery: AsyncMutex<()>,
    login: AsyncMutex<Option<CurrentLogin>>,
    tokens: Mutex<HashMap<Scope, Slot>>,
    ids: AtomicU64,
}

impl Authenticator {
    /// A login is renewed this long before it expires.
    const MARGIN: SignedDuration = SignedDuration::from_mins(5);

    /// `challenge` is the registry's challenge, if it is known in advance.
    pub(super) fn new(
        registry: Registry,
        origin: Origin,
        source: Arc<dyn CredentialSource>,
        challenge: Option<Challenge>,
    ) -> Self {
        let scheme = challenge.map_or(Scheme::Unknown, Scheme::Challenged);
        Authenticator {
            registry,
            origin,
            source,
            scheme: Mutex::new(scheme),
            discovery: AsyncMutex::default(),
            login: AsyncMutex::default(),
            tokens: Mutex::default(),
            ids: AtomicU64::new(0),
        }
    }

    fn scheme(&self) -> MutexGuard<'_, Scheme> {
        lock(&self.scheme)
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the registry's challenge is known.
    pub(super) fn is_challenged(&self) -> bool {
        matches!(*self.scheme(), Scheme::Challenged(_))
    }

    /// Whether there is a login for this registry. Without one, a failing source of logins does not matter.
    pub(super) async fn has_login(&self, http: &Http) -> bool {
        match self.login(http, None).await {
            Ok(current) => current.login.is_some(),
            Err(error) => {
                let error = SingleLine(&error);
                tracing::debug!(%error, registry = %self.registry, "failed to look up a login");
                false
            }
        }
    }

    /// Until the scheme is known, one request is sent and the others wait for its guard.
    pub(super) async fn discovery_guard(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if *self.scheme() != Scheme::Unknown {
            return None;
        }
        let guard = self.discovery.lock().await;
        (*self.scheme() == Scheme::Unknown).then_some(guard)
    }

    /// Updates the scheme from a response; returns whether it has changed. Only the registry itself can challenge: a
    /// redirect means that the registry accepted the request, whatever the other host responds.
    pub(super) fn learn(&self, answer: &Answer) -> bool {
        let learned = match (answer.response.status(), &answer.elsewhere) {
            (http::StatusCode::UNAUTHORIZED, None) => {
                Challenge::read(answer.response.headers()).map(Scheme::Challenged)
            }
            _ => Some(Scheme::Open),
        };
        let mut scheme = self.scheme();
        match learned {
            // A public read does not show what writes require.
            Some(Scheme::Open) if *scheme != Scheme::Unknown => false,
            Some(learned) if *scheme != learned => {
                *scheme = learned;
                true
            }
            _ => false,
        }
    }

    /// The Authorization header for a request of this scope.
    pub(super) async fn authorization(
        &self,
        http: &Http,
        scope: &Scope,
    ) -> Result<Option<Authorization>, RegistryError> {
        let scheme = self.scheme().clone();
        match scheme {
            Scheme::Unknown | Scheme::Open => Ok(None),
            Scheme::Challenged(Challenge::Basic) => {
                let current = self.login(http, None).await?;
                let header = current.login.as_ref().and_then(|login| basic(&login.secret));
                Ok(header.map(|value| Authorization { value, id: current.id }))
            }
            Scheme::Challenged(Challenge::Bearer { realm, service }) => {
                let slot = {
                    let mut tokens = lock(&self.tokens);
                    Arc::clone(tokens.entry(scope.clone()).or_default())
                };
                let mut token = slot.lock().await;
                if token.as_ref().is_none_or(|token| token.until <= http.time.now()) {
                    *token = Some(self.fetch(http, &realm, service.as_deref(), scope).await?);
                }
                Ok(token.as_ref().and_then(|token| {
                    let value = bearer(token.value.expose_secret())?;
                    Some(Authorization { value, id: token.id })
                }))
            }
        }
    }

    /// Discards the `used` and rejected authorization. Returns whether there is another one to try.
    pub(super) async fn renew(
        &self,
        http: &Http,
        scope: &Scope,
        used: Option<&Authorization>,
    ) -> Result<bool, RegistryError> {
        let Some(used) = used else { return Ok(false) };
        let scheme = self.scheme().clone();
        match scheme {
            Scheme::Unknown | Scheme::Open => Ok(false),
            Scheme::Challenged(Challenge::Basic) => Ok(self.login(http, Some(used.id)).await?.id != used.id),
            Scheme::Challenged(Challenge::Bearer { .. }) => {
                let slot = {
                    let tokens = lock(&self.tokens);
                    tokens.get(scope).cloned()
                };
                if let Some(slot) = slot {
                    let mut token = slot.lock().await;
                    if token.as_ref().is_some_and(|token| token.id == used.id) {
                        *token = None;
                    }
                }
                Ok(true)
            }
        }
    }

    /// The current login; fetched if there is none, it is about to expire, or it was `rejected`.
    async fn login(&self, http: &Http, rejected: Option<u64>) -> Result<CurrentLogin, RegistryError> {
        let mut current = self.login.lock().await;
        let valid = current.as_ref().is_some_and(|current| {
            let expires_at = current.login.as_ref().and_then(|login| login.expires_at);
            let fresh = expires_at.is_none_or(|at| at.duration_since(http.time.now()) > Self::MARGIN);
            fresh && rejected != Some(current.id)
        });
        if !valid {
            let failed = |source| RegistryError::Credentials { registry: self.registry.clone(), source };
            let login = self.source.login(&self.registry).await.map_err(failed)?;
            // An identical login keeps its id, so that the caller knows that nothing has changed.
            let id = match &*current {
                Some(current) if is_same_login(current.login.as_ref(), login.as_ref()) => current.id,
                _ => self.next_id(),
            };
            *current = Some(CurrentLogin { id, login });
        }
        let current = current.as_ref().expect("set above");
        Ok(CurrentLogin { id: current.id, login: current.login.clone() })
    }

    /// Exchanges the login for a token.
    async fn fetch(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
    ) -> Result<Token, RegistryError> {
        let current = self.login(http, None).await?;
        match self.exchange(http, realm, service, scope, current.login.as_ref()).await {
            Err(RegistryError::Unauthorized { .. } | RegistryError::Denied { .. })
                if current.login.is_some() =>
            {
                // The login may have expired, or been replaced, since it was fetched.
                let renewed = self.login(http, Some(current.id)).await?;
                self.exchange(http, realm, service, scope, renewed.login.as_ref()).await
            }
            other => other,
        }
    }

    async fn exchange(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
        login: Option<&Login>,
    ) -> Result<Token, RegistryError> {
        let at =
            |method| RequestLine { method, registry: self.registry.clone(), path: " (token)".to_owned() };
        let realm = self.origin.realm(realm, &http.endpoints);
        let mut url =
            realm.map_err(|reason| RegistryError::Realm { registry: self.registry.clone(), reason })?;
        let origin = Origin::of(&url);
        let scopes = scope.0.split(' ').map(|scope| ("scope", scope));
        let fields: Vec<(&str, &str)> =
            service.map(|service| ("service", service)).into_iter().chain(scopes).collect();
        let (call, authorization, body) = match login.map(|login| &login.secret) {
            Some(LoginSecret::IdentityToken(token)) => {
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "bp-promote")
                    .append_pair("refresh_token", token.expose_secret())
                    .extend_pairs(fields)
                    .finish();
                let call = Call::new(at(Method::POST), url, origin);
                (
                    call.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
                    None,
                    Bytes::from(form),
                )
            }
            password => {
                url.query_pairs_mut().extend_pairs(fields);
                (Call::new(at(Method::GET), url, origin), password.and_then(basic), Bytes::new())
            }
        };
        let answer = http.exchange(&call, authorization.as_ref(), full(body)).await?;
        // The login is not sent along a redirect, and an anonymous token from another host is not a substitute.
        if login.is_some() && (answer.elsewhere.is_some() || answer.response.status().is_redirection()) {
            let reason = match &answer.elsewhere {
                Some(host) => {
                    format!("its token service redirects to {host}, to which the login is not sent")
                }
                None => "its token service redirects, and the login is not sent along".to_owned(),
            };
            return Err(RegistryError::Realm { registry: self.registry.clone(), reason });
        }
        if answer.response.status() != http::StatusCode::OK {
            return Err(http.refusal(&call.at, answer).await);
        }
        let answer = http.note(&call.at, answer.response.into_body()).await?;
        self.token(http, &answer).ok_or_else(|| RegistryError::Protocol {
            at: call.at,
            reason: "its token service returned no valid token".to_owned(),
        })
    }

    fn token(&self, http: &Http, answer: &[u8]) -> Option<Token> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default, deserialize_with = "null_as_default")]
            token: String,
            #[serde(default, deserialize_with = "null_as_default")]
            access_token: String,
            #[serde(default)]
            expires_in: Value,
        }
        let Answer { token, access_token, expires_in } = object(answer).ok()?;
        let value = [token, access_token].into_iter().find(|token| !token.is_empty())?;
        // Reject a token that is not valid in a header.
        bearer(&value)?;
        let lifetime = lifetime(&expires_in);
        // Renew early, since a request takes time.
        let margin = (lifetime / 4).min(Duration::from_secs(30));
        let until = http.time.now().checked_add(lifetime - margin).unwrap_or(Timestamp::MAX);
        Some(Token { id: self.next_id(), value: value.into(), until })
    }
}

/// The lifetime of a token. By the specification it is a number of seconds, by default 60; some registries send it as
/// text, with decimals, or as zero. It is limited to one day.
fn lifetime(expires_in: &Value) -> Duration {
    const DEFAULT: f64 = 60.0;
    const LONGEST: f64 = 24.0 * 3600.0;
    let seconds = expires_in.as_f64().or_else(|| expires_in.as_str()?.trim().parse().ok());
    let seconds = seconds.filter(|seconds| *seconds > 0.0).unwrap_or(DEFAULT);
    Duration::from_secs_f64(seconds.min(LONGEST))
}

fn basic(secret: &LoginSecret) -> Option<HeaderValue> {
    match secret {
        LoginSecret::Password { user, password } => {
            let pair = SecretString::from(format!("{user}:{}", password.expose_secret()));
            sensitive(&format!("Basic {}", BASE64_STANDARD.encode(pair.expose_secret())))
        }
        LoginSecret::IdentityToken(_) => None,
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn is_same_login(a: Option<&Login>, b: Option<&Login>) -> bool {
    match (a.map(|login| &login.secret), b.map(|login| &login.secret)) {
        (
            Some(LoginSecret::Password { user: a, password: p }),
            Some(LoginSecret::Password { user: b, password: q }),
        ) => a == b && p.expose_secret() == q.expose_secret(),
        (Some(LoginSecret::IdentityToken(a)), Some(LoginSecret::IdentityToken(b))) => {
            a.expose_secret() == b.expose_secret()
        }
        (None, None) => true,
        _ => false,
    }
}
