//! Authentication: logins, and the bearer tokens that they are exchanged for.

use std::{
    collections::{BTreeSet, HashMap},
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
    credentials::{CredentialError, CredentialSource},
    endpoints::request_path,
    error::{RegistryError, RequestLine},
    http::{Answer, Call, Http},
    login::{Login, LoginSecret, RegistryLogins},
    origin::Origin,
};
use crate::content::{null_as_default, object};

/// The scope of a token: `repository:shop/web:pull`, or several separated by spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    text: String,
    /// The path of the repository whose login is used.
    repository: String,
}

impl Scope {
    pub(super) fn pull(repository: &Repository) -> Self {
        Self::of(repository, "pull")
    }

    pub(super) fn push(repository: &Repository) -> Self {
        Self::of(repository, "pull,push")
    }

    fn of(repository: &Repository, actions: &str) -> Self {
        let repository = request_path(repository).into_owned();
        Scope { text: format!("repository:{repository}:{actions}"), repository }
    }

    /// No access to a repository: to check a login.
    pub(super) fn registry() -> Self {
        Scope { text: String::new(), repository: String::new() }
    }

    /// The part of a scope for pushes that permits reads.
    fn reading(&self) -> Option<Self> {
        let text = self.text.strip_suffix(",push").filter(|text| !text.contains(' '))?;
        Some(Scope { text: text.to_owned(), repository: self.repository.clone() })
    }

    pub(super) fn and(self, other: &Self) -> Self {
        Scope { text: format!("{} {}", self.text, other.text), ..self }
    }

    /// What a token must be requested for if the registry asks for the scope `asked`; `None` if this scope includes it.
    ///
    /// A proxy that rewrites paths asks for the path that its upstream knows. Actions of this scope are added to those
    /// of the same resource.
    fn extended(&self, asked: &str) -> Option<String> {
        let split = |element: &str| match element.rsplit_once(':') {
            Some((resource, actions)) => {
                (resource.to_owned(), actions.split(',').map(str::to_owned).collect::<BTreeSet<_>>())
            }
            None => (element.to_owned(), BTreeSet::new()),
        };
        let own: Vec<_> = self.text.split_whitespace().map(split).collect();
        let actions_of = |resource: &str| own.iter().find(|(name, _)| name == resource).map(|(_, own)| own);
        let mut asked: Vec<_> = asked.split_whitespace().map(split).collect();
        let is_included = |(resource, actions): &(String, BTreeSet<String>)| {
            actions_of(resource).is_some_and(|own| actions.is_subset(own))
        };
        if asked.iter().all(is_included) {
            return None;
        }
        for (resource, actions) in &mut asked {
            actions.extend(actions_of(resource).into_iter().flatten().cloned());
        }
        let shown = asked.into_iter().map(|(resource, actions)| {
            let actions = actions.into_iter().collect::<Vec<_>>().join(",");
            if actions.is_empty() { resource } else { format!("{resource}:{actions}") }
        });
        Some(shown.collect::<Vec<_>>().join(" "))
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

/// The logins in use.
#[derive(Clone)]
struct CurrentLogins {
    id: u64,
    logins: Arc<RegistryLogins>,
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
    logins: AsyncMutex<Option<CurrentLogins>>,
    tokens: Mutex<HashMap<Scope, Slot>>,
    /// The scopes that the registry asks for instead of those of the specification.
    asked: Mutex<HashMap<Scope, String>>,
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
            logins: AsyncMutex::default(),
            tokens: Mutex::default(),
            asked: Mutex::default(),
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
        match self.logins(http, None).await {
            Ok(current) => !current.logins.is_empty(),
            Err(error) => {
                let error = SingleLine(&error);
                tracing::debug!(%error, registry = %self.registry, "failed to look up a login");
                false
            }
        }
    }

    /// The error for a refused request: if it was anonymous because a source of logins failed, the failure of that
    /// source.
    pub(super) async fn explain(&self, error: RegistryError) -> RegistryError {
        if !matches!(error, RegistryError::Unauthorized { .. } | RegistryError::Denied { .. }) {
            return error;
        }
        let logins = self.logins.lock().await.as_ref().map(|current| Arc::clone(&current.logins));
        match logins.filter(|logins| logins.is_empty()).and_then(|logins| logins.failure.clone()) {
            Some(reason) => {
                let source = CredentialError::Docker { reason };
                RegistryError::Credentials { registry: self.registry.clone(), source }
            }
            None => error,
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
    /// redirect means that the registry accepted the request, whatever the other host responds. The challenge may also
    /// ask for another scope than that of the request.
    pub(super) fn learn(&self, answer: &Answer, scope: &Scope) -> bool {
        let learned = match (answer.response.status(), &answer.elsewhere) {
            (http::StatusCode::UNAUTHORIZED, None) => {
                let headers = answer.response.headers();
                if let Some(asked) = Challenge::scope(headers).and_then(|asked| scope.extended(&asked)) {
                    lock(&self.asked).insert(scope.clone(), asked);
                }
                Challenge::read(headers).map(Scheme::Challenged)
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
                let current = self.logins(http, None).await?;
                let header = current.logins.of(&scope.repository).and_then(|login| basic(&login.secret));
                Ok(header.map(|value| Authorization { value, id: current.id }))
            }
            Scheme::Challenged(Challenge::Bearer { realm, service }) => {
                let current = self.logins(http, None).await?;
                if let Some(Login { secret: LoginSecret::RegistryToken(token), .. }) =
                    current.logins.of(&scope.repository)
                {
                    let header = bearer(token.expose_secret());
                    return Ok(header.map(|value| Authorization { value, id: current.id }));
                }
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
            Scheme::Challenged(Challenge::Basic) => Ok(self.logins(http, Some(used.id)).await?.id != used.id),
            Scheme::Challenged(Challenge::Bearer { .. }) => {
                let current = self.logins(http, None).await?;
                // The rejected header was that of a login, not of a token that was made of it.
                if current.id == used.id {
                    return Ok(self.logins(http, Some(used.id)).await?.id != used.id);
                }
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

    /// The current logins; fetched if there are none, one is about to expire, or they were `rejected`.
    async fn logins(&self, http: &Http, rejected: Option<u64>) -> Result<CurrentLogins, RegistryError> {
        let mut current = self.logins.lock().await;
        let valid = current.as_ref().is_some_and(|current| {
            let expires_at = current.logins.registry.as_ref().and_then(|login| login.expires_at);
            let fresh = expires_at.is_none_or(|at| at.duration_since(http.time.now()) > Self::MARGIN);
            fresh && rejected != Some(current.id)
        });
        if let (Some(current), true) = (&*current, valid) {
            return Ok(current.clone());
        }
        let failed = |source| RegistryError::Credentials { registry: self.registry.clone(), source };
        let logins = self.source.logins(&self.registry).await.map_err(failed)?;
        if let Some(reason) = &logins.failure {
            let reason = SingleLine(reason);
            tracing::warn!(%reason, registry = %self.registry, "a source of logins failed");
        }
        // Identical logins keep their id, so that the caller knows that nothing has changed.
        let id = match &*current {
            Some(current) if current.logins.is_same(&logins) => current.id,
            _ => self.next_id(),
        };
        let fetched = CurrentLogins { id, logins: Arc::new(logins) };
        *current = Some(fetched.clone());
        Ok(fetched)
    }

    /// Exchanges the login for a token. If the token service denies pushes, a token for reads is sufficient for a plan, and
    /// for the check of what exists; the registry rejects the pushes.
    async fn fetch(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
    ) -> Result<Token, RegistryError> {
        let denied = match self.fetch_for(http, realm, service, scope).await {
            Err(error @ RegistryError::Denied { .. }) => error,
            fetched => return fetched,
        };
        match scope.reading() {
            Some(reading) => self.fetch_for(http, realm, service, &reading).await.map_err(|_| denied),
            None => Err(denied),
        }
    }

    async fn fetch_for(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
    ) -> Result<Token, RegistryError> {
        let current = self.logins(http, None).await?;
        let login = current.logins.of(&scope.repository);
        let error = match self.exchange(http, realm, service, scope, login).await {
            Err(error @ (RegistryError::Unauthorized { .. } | RegistryError::Denied { .. })) => error,
            other => return other,
        };
        if login.is_none() {
            return Err(self.explain(error).await);
        }
        // The login may have expired, or been replaced, since it was fetched.
        let renewed = self.logins(http, Some(current.id)).await?;
        self.exchange(http, realm, service, scope, renewed.logins.of(&scope.repository)).await
    }

    /// Exchanges the login for a token. A token service that does not accept identity tokens is asked with the password,
    /// if there is one.
    async fn exchange(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
        login: Option<&Login>,
    ) -> Result<Token, RegistryError> {
        let secret = login.map(|login| &login.secret);
        let asked = self.request_token(http, realm, service, scope, secret).await;
        let Some(LoginSecret::IdentityToken { password: Some((user, password)), .. }) = secret else {
            return asked;
        };
        match asked {
            Err(
                RegistryError::Unauthorized { .. }
                | RegistryError::NotFound { .. }
                | RegistryError::Refused { .. }
                | RegistryError::Unavailable { status: 501, .. },
            ) => {
                let secret = LoginSecret::Password { user: user.clone(), password: password.clone() };
                self.request_token(http, realm, service, scope, Some(&secret)).await
            }
            asked => asked,
        }
    }

    async fn request_token(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
        login: Option<&LoginSecret>,
    ) -> Result<Token, RegistryError> {
        let at =
            |method| RequestLine { method, registry: self.registry.clone(), path: " (token)".to_owned() };
        let realm = self.origin.realm(realm, &http.endpoints);
        let mut url =
            realm.map_err(|reason| RegistryError::Realm { registry: self.registry.clone(), reason })?;
        let origin = Origin::of(&url);
        let asked = lock(&self.asked).get(scope).cloned().unwrap_or_else(|| scope.text.clone());
        let scopes: Vec<&str> = asked.split_whitespace().collect();
        let service = service.map(|service| ("service", service));
        let (call, authorization, body) = match login {
            Some(LoginSecret::IdentityToken { token, .. }) => {
                // OAuth 2 has one parameter for all scopes.
                let scopes = scopes.join(" ");
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "bp-promote")
                    .append_pair("refresh_token", token.expose_secret())
                    .extend_pairs(service)
                    .extend_pairs((!scopes.is_empty()).then_some(("scope", scopes.as_str())))
                    .finish();
                let call = Call::new(at(Method::POST), url, origin);
                (
                    call.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
                    None,
                    Bytes::from(form),
                )
            }
            password => {
                let scopes = scopes.into_iter().map(|scope| ("scope", scope));
                url.query_pairs_mut().extend_pairs(service).extend_pairs(scopes);
                if url.query() == Some("") {
                    url.set_query(None);
                }
                (Call::new(at(Method::GET), url, origin), password.and_then(basic), Bytes::new())
            }
        };
        let answer = http.exchange(&call, authorization.as_ref(), body).await?;
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
        let margin = lifetime.checked_div(4).unwrap_or_default().min(Duration::from_secs(30));
        let until = http.time.now().checked_add(lifetime.saturating_sub(margin)).unwrap_or(Timestamp::MAX);
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
        LoginSecret::IdentityToken { password: Some((user, password)), .. } => {
            basic(&LoginSecret::Password { user: user.clone(), password: password.clone() })
        }
        LoginSecret::IdentityToken { password: None, .. } | LoginSecret::RegistryToken(_) => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_the_scope_of_the_challenge() {
        let repository: Repository = "r.example.com/shop/web".parse().unwrap();
        let (pull, push) = (Scope::pull(&repository), Scope::push(&repository));
        for (scope, asked, extended) in [
            (&pull, "repository:shop/web:pull", None),
            (&push, "repository:shop/web:push", None),
            (&pull, " ", None),
            (&pull, "repository:shop/web:pull,push", Some("repository:shop/web:pull,push")),
            (&push, "repository:shop/web:*", Some("repository:shop/web:*,pull,push")),
            (&pull, "repository:proxy/shop/web:pull", Some("repository:proxy/shop/web:pull")),
            (&push, "repository:proxy/shop/web:pull", Some("repository:proxy/shop/web:pull")),
            (&pull, "aws", Some("aws")),
            (
                &pull,
                "repository:a:pull repository:shop/web:push",
                Some("repository:a:pull repository:shop/web:pull,push"),
            ),
            (&Scope::registry(), "registry:catalog:*", Some("registry:catalog:*")),
        ] {
            assert_eq!(scope.extended(asked).as_deref(), extended, "{asked}");
        }
    }
}
