//! The content of a file of logins: entries, helpers, and the keys by which docker and podman know registries.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use bp_artifact::{Registry, text::truncate};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::{
    endpoints::is_docker_hub,
    helper,
    login::{Login, RegistryLogins},
};
use crate::content::object;

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The content of a file of logins.
#[derive(Default)]
pub(super) struct Document(Map<String, Value>);

impl Document {
    /// Parses a file of logins.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Document::default());
        }
        // The error of the parser may quote a secret.
        let read = object(bytes).map_err(|_| "invalid configuration: it is not a JSON object".to_owned())?;
        Ok(Document(read))
    }

    /// The content of the file.
    pub(super) fn text(&self) -> SecretString {
        SecretString::from(format!("{:#}\n", Value::Object(self.0.clone())))
    }

    /// Stores a login in place of the registry's own entries.
    pub(super) fn store(
        &mut self,
        registry: &Registry,
        user: &str,
        password: &SecretString,
    ) -> Result<(), String> {
        let pair = SecretString::from(format!("{user}:{}", password.expose_secret()));
        let entry = json!({ "auth": BASE64_STANDARD.encode(pair.expose_secret()) });
        self.remove(registry)?;
        let auths = self.0.entry("auths").or_insert(Value::Null);
        if !auths.is_object() {
            *auths = json!({});
        }
        auths[server(registry)] = entry;
        Ok(())
    }

    /// The logins for a registry. A default helper that fails is a `failure` in the result.
    pub(super) async fn logins(&self, registry: &Registry) -> Result<RegistryLogins, String> {
        let mut found = RegistryLogins::default();
        let mut own = None;
        for (key, entry) in self.entries("auths", registry)? {
            let invalid = |reason| format!("the entry {:?} {reason}: log in again", truncate(key, 200));
            match (login_in(entry).map_err(invalid), place(key).path) {
                (Ok(None), _) => {}
                (Ok(Some(login)), "") => own = own.or(Some(Ok(login))),
                (Ok(Some(login)), path) => found.paths.push((path.to_owned(), login)),
                (Err(reason), "") => own = own.or(Some(Err(reason))),
                (Err(reason), _) => found.failure = Some(reason),
            }
        }
        let helper = self.own_helper(registry)?;
        let asked = match (&helper, own, self.default_helper()) {
            (Some(name), ..) => helper::ask(name, server(registry)).await,
            (None, Some(own), _) => own.map(Some),
            (None, None, Some(name)) => match helper::ask(&name, server(registry)).await {
                Err(reason) => {
                    found.failure = Some(reason);
                    Ok(None)
                }
                asked => asked,
            },
            (None, None, None) => Ok(None),
        };
        match asked {
            Ok(login) => found.registry = login,
            // The repository may be one of those with a login of their own.
            Err(reason) if !found.paths.is_empty() => found.failure = Some(reason),
            Err(reason) => return Err(reason),
        }
        Ok(found)
    }

    /// The entries of a table for this registry or a path in it; the one whose key is the registry's name comes first.
    fn entries<'a>(&'a self, table: &str, registry: &Registry) -> Result<Vec<(&'a str, &'a Value)>, String> {
        let entries = match self.0.get(table) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(entries)) => entries,
            Some(_) => return Err(format!("invalid configuration: {table} is not an object")),
        };
        let host = canonical(registry.as_str());
        let own = entries.iter().filter(|(key, _)| canonical(place(key).host) == host);
        let mut own: Vec<_> = own.map(|(key, entry)| (key.as_str(), entry)).collect();
        own.sort_by_key(|(key, _)| *key != registry.as_str());
        Ok(own)
    }

    /// The helper that is configured for the registry itself.
    fn own_helper(&self, registry: &Registry) -> Result<Option<String>, String> {
        let own = self.entries("credHelpers", registry)?;
        let mut own = own.into_iter().filter(|(key, _)| place(key).path.is_empty());
        Ok(own.find_map(|(_, name)| named(name)))
    }

    fn default_helper(&self) -> Option<String> {
        self.0.get("credsStore").and_then(named)
    }

    /// The helper that stores the login for a registry, if there is one.
    pub(super) fn helper_to_change(&self, registry: &Registry) -> Result<Option<String>, String> {
        Ok(self.own_helper(registry)?.or_else(|| self.default_helper()))
    }

    /// Removes the registry's own entries, and returns whether one had a login.
    pub(super) fn remove(&mut self, registry: &Registry) -> Result<bool, String> {
        let entries = self.entries("auths", registry)?;
        let own: Vec<String> = entries
            .into_iter()
            .filter(|(key, _)| place(key).path.is_empty())
            .map(|(key, _)| key.to_owned())
            .collect();
        if let Some(Value::Object(auths)) = self.0.get_mut("auths") {
            for key in &own {
                auths.remove(key);
            }
        }
        Ok(!own.is_empty())
    }
}

/// The name by which docker, podman and their helpers know a registry.
pub(super) fn server(registry: &Registry) -> &str {
    if is_docker_hub(registry.as_str()) { "https://index.docker.io/v1/" } else { registry.as_str() }
}

/// One name for the hosts of Docker Hub, in lower case.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if is_docker_hub(&host) { "docker.io".to_owned() } else { host }
}

/// What a key of a table is for.
struct Place<'a> {
    host: &'a str,
    /// Without slashes at its end; empty for the whole registry.
    path: &'a str,
}

/// Parses a key: a host, `host/namespace/repository`, or a URL, whose path docker ignores.
fn place(key: &str) -> Place<'_> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let path = path.trim_end_matches('/');
    let is_whole = bare.is_some() || matches!(path, "v1" | "v2");
    Place { host, path: if is_whole { "" } else { path } }
}

fn named(helper: &Value) -> Option<String> {
    helper.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The login in an entry of `auths`; `None` if a helper has it.
fn login_in(entry: &Value) -> Result<Option<Login>, &'static str> {
    let field = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    if let Some(token) = field("registrytoken") {
        return Ok(Some(Login::registry_token(token)));
    }
    let pair = match field("auth") {
        Some(encoded) => Some(decoded(encoded).ok_or("is not the base64 of user:password")?),
        None => match (field("username"), field("password")) {
            (Some(user), Some(password)) => Some((user.to_owned(), SecretString::from(password))),
            _ => None,
        },
    };
    let pair = pair.filter(|(user, password)| !(user.is_empty() && password.expose_secret().is_empty()));
    Ok(match (field("identitytoken"), pair) {
        (Some(token), Some((user, password))) if !password.expose_secret().is_empty() => {
            Some(Login::identity_token(token).or_password(user, password))
        }
        (Some(token), _) => Some(Login::identity_token(token)),
        (None, pair) => pair.map(|(user, password)| Login::password(user, password)),
    })
}

fn decoded(encoded: &str) -> Option<(String, SecretString)> {
    let text = String::from_utf8(LENIENT.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker's own files may end in zero bytes.
    Some((user.to_owned(), password.trim_end_matches('\0').into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str) -> Value {
        json!({ "auth": BASE64_STANDARD.encode(format!("{user}:p")) })
    }

    async fn logins(document: Value, registry: &str) -> Result<RegistryLogins, String> {
        let Value::Object(document) = document else { unreachable!() };
        Document(document).logins(&registry.parse().unwrap()).await
    }

    fn user(login: Option<&Login>) -> String {
        login.map_or_else(|| "anonymous".to_owned(), |login| format!("{login:?}"))
    }

    #[tokio::test]
    async fn finds_entries_of_docker_and_podman() {
        let host = "r.example.com";
        for (key, path, found) in [
            (host, "shop/web", true),
            ("R.Example.com", "shop/web", true),
            ("https://r.example.com", "shop/web", true),
            ("https://r.example.com/v1/", "shop/web", true),
            ("http://r.example.com/any/path", "shop/web", true),
            ("r.example.com/v1/", "shop/web", true),
            ("r.example.com/v2", "shop/web", true),
            ("r.example.com/shop", "shop/web", true),
            ("r.example.com/shop/web/", "shop/web", true),
            ("r.example.com/shop/we", "shop/web", false),
            ("r.example.com/other", "shop/web", false),
            ("r.example.com:5000", "shop/web", false),
            ("r.example.com.example.net", "shop/web", false),
            ("example.com", "shop/web", false),
            ("", "shop/web", false),
            ("https://", "shop/web", false),
        ] {
            let found_logins = logins(json!({ "auths": { key: entry("ci") } }), host).await.unwrap();
            assert_eq!(found_logins.of(path).is_some(), found, "{key}");
        }
        for key in ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
            let found = logins(json!({ "auths": { key: entry("ci") } }), "docker.io").await.unwrap();
            assert!(found.of("library/nginx").is_some(), "{key}");
        }
    }

    #[tokio::test]
    async fn the_longest_path_wins_over_the_registry() {
        let auths = json!({ "auths": {
            "https://r.example.com": entry("url"),
            "r.example.com": entry("host"),
            "r.example.com/shop": entry("namespace"),
            "r.example.com/shop/web": entry("repository"),
        }});
        let found = logins(auths, "r.example.com").await.unwrap();
        for (path, expected) in [("shop/web", "repository"), ("shop/api", "namespace"), ("other", "host")] {
            let login = user(found.of(path));
            assert!(login.contains(&format!("{expected:?}")), "{path}: {login}");
        }
    }

    #[tokio::test]
    async fn reads_every_kind_of_login() {
        for (entry, expected) in [
            (json!({ "auth": "Y2k6cHc" }), "\"ci\""),
            (json!({ "auth": "Y2k6cHc=\n" }), "\"ci\""),
            (json!({ "auth": "", "username": "ci", "password": "pw" }), "\"ci\""),
            (json!({ "auth": BASE64_STANDARD.encode("ci:"), "identitytoken": "t" }), "identity token"),
            (json!({ "identitytoken": "t" }), "identity token"),
            (json!({ "registrytoken": "t" }), "registry token"),
            (json!({ "auth": BASE64_STANDARD.encode(":") }), "anonymous"),
            (json!({ "auth": null }), "anonymous"),
            (json!({}), "anonymous"),
            (Value::Null, "anonymous"),
        ] {
            let found =
                logins(json!({ "auths": { "r.example.com": entry } }), "r.example.com").await.unwrap();
            let login = user(found.of("shop/web"));
            assert!(login.contains(expected), "{entry}: {login}");
        }
        for auth in ["?", "Y2k", "/////w=="] {
            let document = json!({ "auths": { "r.example.com": { "auth": auth } } });
            let error = logins(document.clone(), "r.example.com").await.unwrap_err();
            assert!(error.contains("r.example.com") && !error.contains(auth), "{error}");
            // It does not concern other registries.
            assert!(logins(document, "other.example.com").await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_failing_helper_concerns_its_own_registry() {
        let document = json!({
            "credHelpers": { "r.example.com": "absent-of-r", "bad.example.com": "../../bin/sh" },
            "auths": { "s.example.com": entry("ci"), "r.example.com/shop": entry("ci") },
        });
        let found = logins(document.clone(), "s.example.com").await.unwrap();
        assert!(found.of("shop/web").is_some() && found.failure.is_none());
        let found = logins(document.clone(), "r.example.com").await.unwrap();
        assert!(found.of("shop/web").is_some() && found.failure.unwrap().contains("absent-of-r"));
        let error = logins(document, "bad.example.com").await.unwrap_err();
        assert!(error.contains("not a valid name"), "{error}");
        let document = json!({ "credHelpers": { "r.example.com": "absent-of-r" } });
        assert!(logins(document, "r.example.com").await.unwrap_err().contains("absent-of-r"));

        let document = json!({ "credsStore": "absent", "auths": { "s.example.com": entry("ci") } });
        let found = logins(document.clone(), "s.example.com").await.unwrap();
        assert!(found.of("shop/web").is_some() && found.failure.is_none());
        let found = logins(document, "r.example.com").await.unwrap();
        assert!(found.is_empty() && found.failure.unwrap().contains("docker-credential-absent"));
    }
}
