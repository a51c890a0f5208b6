//! Who asks: the login, and the tokens that it is exchanged for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Registry, Repository, sync::lock};
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

/// What a token is good for: `repository:shop/web:pull`, several with spaces between them.
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

/// The value of an Authorization header, and which of the fetched ones it is.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) value: HeaderValue,
    id: u64,
}

/// How the registry wants it, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Unknown,
    Open,
    Challenged(Challenge),
}

/// A login in use.
struct Held {
    id: u64,
    login: Option<Login>,
}

/// A token in use.
struct Token {
    id: u64,
    value: SecretString,
    until: Timestamp,
}

type Slot = Arc<AsyncMutex<Option<Token>>>;

/// The authentication of one registry: everything is fetched once, by the first who needs it, and again before it
/// expires or when it is no longer taken.
pub(super) struct Authenticator {
    registry: Registry,
    origin: Origin,
    source: Arc<dyn CredentialSource>,
    scheme: Mutex<Scheme>,
    /// Held by the first request to a registry, until it is known what that wants.
    discovery: AsyncMutex<()>,
    login: AsyncMutex<Option<Held>>,
    tokens: Mutex<HashMap<Scope, Slot>>,
    ids: AtomicU64,
}

impl Authenticator {
    /// A login is fetched again so long before it expires.
    const MARGIN: SignedDuration = SignedDuration::from_mins(5);

    /// `known` is the challenge of the registry, where it need not be asked for that.
    pub(super) fn new(
        registry: Registry,
        origin: Origin,
        source: Arc<dyn CredentialSource>,
        known: Option<Challenge>,
    ) -> Self {
        let scheme = known.map_or(Scheme::Unknown, Scheme::Challenged);
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

    /// Until it is known what the registry wants, one request goes ahead and the others wait for its guard.
    pub(super) async fn go_ahead(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if *self.scheme() != Scheme::Unknown {
            return None;
        }
        let guard = self.discovery.lock().await;
        (*self.scheme() == Scheme::Unknown).then_some(guard)
    }

    /// Notes what an answer tells. Whether it told something new. Only the registry itself challenges: one that
    /// redirects has let the request pass, whatever the other host says.
    pub(super) fn learn(&self, answer: &Answer) -> bool {
        let told = match (answer.response.status(), &answer.elsewhere) {
            (http::StatusCode::UNAUTHORIZED, None) => {
                Challenge::read(answer.response.headers()).map(Scheme::Challenged)
            }
            _ => Some(Scheme::Open),
        };
        let mut scheme = self.scheme();
        match told {
            // An answer to a public read tells nothing about what writes need.
            Some(Scheme::Open) if *scheme != Scheme::Unknown => false,
            Some(told) if *scheme != told => {
                *scheme = told;
                true
            }
            _ => false,
        }
    }

    /// The header for a request of this scope.
    pub(super) async fn authorization(
        &self,
        http: &Http,
        scope: &Scope,
    ) -> Result<Option<Authorization>, RegistryError> {
        let scheme = self.scheme().clone();
        match scheme {
            Scheme::Unknown | Scheme::Open => Ok(None),
            Scheme::Challenged(Challenge::Basic) => {
                let held = self.login(http, None).await?;
                let header = held.login.as_ref().and_then(|login| basic(&login.secret));
                Ok(header.map(|value| Authorization { value, id: held.id }))
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

    /// Drops what was `used` and not taken. Whether there is something else to try.
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

    /// The login in use; fetched if there is none, it is about to expire, or it is the `spent` one.
    async fn login(&self, http: &Http, spent: Option<u64>) -> Result<Held, RegistryError> {
        let mut held = self.login.lock().await;
        let good = held.as_ref().is_some_and(|held| {
            let expires_at = held.login.as_ref().and_then(|login| login.expires_at);
            let fresh = expires_at.is_none_or(|at| at.duration_since(http.time.now()) > Self::MARGIN);
            fresh && spent != Some(held.id)
        });
        if !good {
            let failed = |source| RegistryError::Credentials { registry: self.registry.clone(), source };
            let login = self.source.login(&self.registry).await.map_err(failed)?;
            // The same again keeps its id: who used it knows that there is nothing new.
            let id = match &*held {
                Some(held) if same(held.login.as_ref(), login.as_ref()) => held.id,
                _ => self.next_id(),
            };
            *held = Some(Held { id, login });
        }
        let held = held.as_ref().expect("just put there");
        Ok(Held { id: held.id, login: held.login.clone() })
    }

    /// Exchanges the login for a token.
    async fn fetch(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
    ) -> Result<Token, RegistryError> {
        let held = self.login(http, None).await?;
        match self.exchange(http, realm, service, scope, held.login.as_ref()).await {
            Err(RegistryError::Unauthorized { .. } | RegistryError::Denied { .. })
                if held.login.is_some() =>
            {
                // The login may have expired, or been changed, since it was fetched.
                let renewed = self.login(http, Some(held.id)).await?;
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
        // The login does not follow: what another host gives to a stranger is not the token that was asked for.
        if login.is_some() && (answer.elsewhere.is_some() || answer.response.status().is_redirection()) {
            let reason = match &answer.elsewhere {
                Some(host) => format!("its token service redirects to {host}, where the login is not sent"),
                None => "its token service redirects, where the login is not sent".to_owned(),
            };
            return Err(RegistryError::Realm { registry: self.registry.clone(), reason });
        }
        if answer.response.status() != http::StatusCode::OK {
            return Err(http.refusal(&call.at, answer).await);
        }
        let answer = http.note(&call.at, answer.response.into_body()).await?;
        self.token(http, &answer).ok_or_else(|| RegistryError::Protocol {
            at: call.at,
            reason: "its token service gives no usable token".to_owned(),
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
        // One that no header can carry is no token.
        bearer(&value)?;
        let lifetime = lifetime(&expires_in);
        // A part is kept back for the way.
        let margin = (lifetime / 4).min(Duration::from_secs(30));
        let until = http.time.now().checked_add(lifetime - margin).unwrap_or(Timestamp::MAX);
        Some(Token { id: self.next_id(), value: value.into(), until })
    }
}

/// How long a token lives. The specification has seconds as a number, and sixty if there is none; registries write it as
/// text too, with decimals, as zero for none. A token that lives for years is fetched again all the same.
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

fn same(a: Option<&Login>, b: Option<&Login>) -> bool {
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
