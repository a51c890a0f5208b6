//! Registry authentication: HTTP Basic, bearer tokens from `/token`, and ECR's expiring passwords.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, header, request};
use serde_json::json;

use super::{
    Registry,
    credentials::{Token, secret},
    error::{self, Answer, RegistryError},
    options::Auth,
    route::{Route, query_all},
};

impl Registry {
    /// Authorizes the request, or returns the challenge.
    pub(super) fn authorize(&self, parts: &request::Parts, route: &Route<'_>) -> Result<(), RegistryError> {
        match &self.options.auth {
            Auth::None => Ok(()),
            Auth::Basic { user, password } => match basic(parts) {
                Some((u, p)) if u == *user && p == *password => Ok(()),
                _ => Err(unauthorized("authentication required", format!("Basic realm=\"{}\"", self.host))),
            },
            Auth::Ecr => self.authorize_ecr(parts),
            Auth::Token { .. } => self.authorize_token(parts, route),
        }
    }

    /// Replaces the challenge of a request without a login, if the registry conceals what exists.
    pub(super) fn conceal(
        &self,
        parts: &request::Parts,
        route: &Route<'_>,
        refusal: RegistryError,
    ) -> RegistryError {
        let is_anonymous = authorization(parts).is_none() && !matches!(route, Route::Base);
        match self.options.conceals.filter(|_| is_anonymous) {
            Some(404) => RegistryError::new(404, "NAME_UNKNOWN", "repository name not known to registry"),
            Some(status) => {
                RegistryError::new(status, "DENIED", "requested access to the resource is denied")
            }
            None => refusal,
        }
    }

    fn authorize_ecr(&self, parts: &request::Parts) -> Result<(), RegistryError> {
        let until = basic(parts)
            .filter(|(user, _)| user == "AWS")
            .and_then(|(_, password)| self.credentials.password_until(&password));
        match until {
            Some(until) if self.clock.now() < until => Ok(()),
            Some(_) => {
                let message = "Your authorization token has expired. Reauthenticate and try again.";
                Err(RegistryError::new(403, "DENIED", message))
            }
            None => {
                let realm = format!("Basic realm=\"https://{}/\",service=\"ecr.amazonaws.com\"", self.host);
                Err(unauthorized("Not Authorized", realm))
            }
        }
    }

    fn authorize_token(&self, parts: &request::Parts, route: &Route<'_>) -> Result<(), RegistryError> {
        let scope = route.scope(&parts.method);
        let mut challenge =
            format!("Bearer realm=\"{}/token\",service=\"{}\"", origin(parts, &self.host), self.host);
        if let Some((name, actions)) = scope {
            challenge += &format!(",scope=\"repository:{name}:{}\"", actions.join(","));
        }
        let refuse = |error: &str| match error {
            "" => Err(unauthorized("authentication required", challenge.clone())),
            error => Err(unauthorized(error, format!("{challenge},error=\"{error}\""))),
        };
        let Some(token) = authorization(parts).and_then(|value| strip_scheme(value, "Bearer")) else {
            return refuse("");
        };
        let tokens = self.credentials.tokens();
        let token = match tokens.get(token) {
            Some(token) if self.clock.now() < token.until => token,
            _ => return refuse("invalid_token"),
        };
        let granted = |name: &str, action: &str| {
            token.grants.get(name).is_some_and(|actions| actions.iter().any(|granted| granted == action))
        };
        match scope {
            Some((name, actions)) if !actions.iter().all(|action| granted(name, action)) => {
                refuse("insufficient_scope")
            }
            _ => Ok(()),
        }
    }

    /// `GET /token?service=&scope=repository:<name>:<actions>`: a token for those scopes.
    pub(super) fn token(&self, parts: &request::Parts) -> Answer {
        let Auth::Token { user, password, lifetime, anonymous_pull } = &self.options.auth else {
            return Err(RegistryError::new(404, "NOT_FOUND", "this registry has no token service"));
        };
        if parts.method != Method::GET {
            return Err(RegistryError::new(405, "UNSUPPORTED", "The operation is unsupported."));
        }
        let known = match basic(parts) {
            Some((u, p)) if u == *user && p == *password => true,
            None if *anonymous_pull => false,
            _ => {
                let realm = format!("Basic realm=\"{}\"", self.host);
                return Err(unauthorized("incorrect username or password", realm));
            }
        };
        let mut grants: HashMap<String, Vec<String>> = HashMap::new();
        // Clients send several scopes as several parameters, or as one parameter separated by spaces.
        let scopes =
            query_all(parts, "scope").flat_map(|s| s.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for scope in scopes {
            let Some((name, actions)) = scope.strip_prefix("repository:").and_then(|s| s.rsplit_once(':'))
            else {
                continue;
            };
            let allowed = actions.split(',').filter(|action| known || *action == "pull");
            grants.entry(name.to_owned()).or_default().extend(allowed.map(str::to_owned));
        }
        let token = secret();
        let now = self.clock.now();
        let seconds = lifetime.as_secs();
        self.credentials
            .tokens()
            .insert(token.clone(), Token { until: now + Duration::from_secs(seconds), grants });
        Ok(error::json(
            200,
            &json!({ "token": token, "access_token": token, "expires_in": seconds, "issued_at": now.to_string() }),
        ))
    }
}

fn unauthorized(message: &str, challenge: String) -> RegistryError {
    RegistryError::new(401, "UNAUTHORIZED", message).with(header::WWW_AUTHENTICATE, challenge)
}

fn authorization(parts: &request::Parts) -> Option<&str> {
    parts.headers.get(header::AUTHORIZATION)?.to_str().ok()
}

fn strip_scheme<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn basic(parts: &request::Parts) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD.decode(strip_scheme(authorization(parts)?, "Basic")?).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// The scheme and authority of the request: from the URI in memory, from the Host header on a socket.
pub(super) fn origin(parts: &request::Parts, fallback: &str) -> String {
    if let (Some(scheme), Some(authority)) = (parts.uri.scheme_str(), parts.uri.authority()) {
        return format!("{scheme}://{authority}");
    }
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or(fallback))
}
