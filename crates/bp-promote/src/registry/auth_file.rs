//! Files of logins: docker's `config.json` and podman's `auth.json`, with their credential helpers.
//!
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use bp_artifact::{Registry, text::truncate};
use futures_core::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt as _;

use super::{
    credentials::{CredentialError, CredentialSource, registry_login},
    helper,
    login::{Login, RegistryLogins},
};
use crate::content::object;

/// The maximum size of a file of logins in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The logins of docker and podman. The files are read in this order, until one has a login for the registry:
///
/// 1. the file in `REGISTRY_AUTH_FILE`
/// 2. `$XDG_RUNTIME_DIR/containers/auth.json`
/// 3. `containers/auth.json` in `XDG_CONFIG_HOME` or `~/.config`
/// 4. `config.json` in `DOCKER_CONFIG` or `~/.docker`
///
/// A file or a default credential helper that cannot be used does not prevent anonymous access; its error is returned if
/// the registry refuses that. A helper that is configured for the registry itself must succeed. Helpers must respond
/// within one minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerConfig;

impl DockerConfig {
    /// The files, in the order in which they are read.
    pub fn files() -> Vec<AuthFile> {
        Self::files_in(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    /// The file that a login is stored in: the one in `REGISTRY_AUTH_FILE`, or else docker's. `None` if there is no home
    /// directory.
    pub fn file_for_login() -> Option<AuthFile> {
        let mut files = Self::files();
        if env::var_os("REGISTRY_AUTH_FILE").is_some_and(|file| !file.is_empty()) {
            return Some(files.swap_remove(0));
        }
        files.pop().filter(|file| file.path.ends_with("config.json"))
    }

    fn files_in(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<AuthFile> {
        let home = variable("HOME");
        let at_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let containers = |directory: PathBuf| directory.join("containers/auth.json");
        let files = [
            variable("REGISTRY_AUTH_FILE"),
            variable("XDG_RUNTIME_DIR").map(containers),
            variable("XDG_CONFIG_HOME").or_else(|| at_home(".config")).map(containers),
            variable("DOCKER_CONFIG").or_else(|| at_home(".docker")).map(|docker| docker.join("config.json")),
        ];
        files.into_iter().flatten().map(AuthFile::at).collect()
    }
}

impl CredentialSource for DockerConfig {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async move { registry_login(self.logins(registry).await?) })
    }

    fn logins<'a>(
        &'a self,
        registry: &'a Registry,
    ) -> BoxFuture<'a, Result<RegistryLogins, CredentialError>> {
        Box::pin(async move {
            let files = DockerConfig::files().into_iter();
            files.fold(super::Chain::new(), super::Chain::then).logins(registry).await
        })
    }
}

/// One file of logins, in the format of docker and podman.
#[derive(Debug, Clone)]
pub struct AuthFile {
    path: PathBuf,
}

/// Where a login was stored, or removed from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginStore {
    /// A credential helper, `docker-credential-<name>`.
    Helper(String),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for LoginStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginStore::Helper(name) => write!(f, "the credential helper docker-credential-{name}"),
            LoginStore::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl CredentialSource for AuthFile {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async move { registry_login(self.logins(registry).await?) })
    }

    fn logins<'a>(
        &'a self,
        registry: &'a Registry,
    ) -> BoxFuture<'a, Result<RegistryLogins, CredentialError>> {
        Box::pin(async move {
            let failure = |reason| format!("{}: {reason}", self.path.display());
            match self.document().await {
                Ok(Some(document)) => {
                    let found = document.logins(registry).await;
                    let mut found =
                        found.map_err(|reason| CredentialError::Docker { reason: failure(reason) })?;
                    found.failure = found.failure.map(failure);
                    Ok(found)
                }
                Ok(None) => Ok(RegistryLogins::default()),
                Err(reason) => {
                    Ok(RegistryLogins { failure: Some(failure(reason)), ..RegistryLogins::default() })
                }
            }
        })
    }
}

impl AuthFile {
    /// The file at `path`. It may not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        AuthFile { path: path.into() }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores a login: in the helper for the registry, in the default helper, or in the file, which is replaced
    /// atomically and then readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a helper fails.
    ///
    /// # Permissions
    /// None.
    ///
    /// # Cancel safety
    /// After cancellation the login is stored or not.
    pub async fn store(
        &self,
        registry: &Registry,
        user: &str,
        password: &SecretString,
    ) -> Result<LoginStore, CredentialError> {
        let failed = |reason| self.failed(reason);
        let mut document = self.document().await.map_err(failed)?.unwrap_or_default();
        let server = server(registry);
        if let Some(name) = document.helper_to_change(registry).map_err(failed)? {
            helper::store(&name, server, user, password).await.map_err(failed)?;
            return Ok(LoginStore::Helper(name));
        }
        let pair = SecretString::from(format!("{user}:{}", password.expose_secret()));
        let entry = json!({ "auth": BASE64_STANDARD.encode(pair.expose_secret()) });
        document.remove(registry).map_err(failed)?;
        let auths = document.0.entry("auths").or_insert(Value::Null);
        if !auths.is_object() {
            *auths = json!({});
        }
        auths[server] = entry;
        self.replace(&document).map_err(|error| failed(error.to_string()))?;
        Ok(LoginStore::File(self.path.clone()))
    }

    /// Removes the login for a registry from its helper, from the default helper and from the file. Logins for paths in
    /// the registry remain. Returns where there was one.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a helper fails.
    ///
    /// # Permissions
    /// None.
    ///
    /// # Cancel safety
    /// After cancellation the login is removed or not.
    pub async fn erase(&self, registry: &Registry) -> Result<Vec<LoginStore>, CredentialError> {
        let failed = |reason| self.failed(reason);
        let Some(mut document) = self.document().await.map_err(failed)? else { return Ok(Vec::new()) };
        let mut erased = Vec::new();
        if let Some(name) = document.helper_to_change(registry).map_err(failed)?
            && helper::erase(&name, server(registry)).await.map_err(failed)?
        {
            erased.push(LoginStore::Helper(name));
        }
        if document.remove(registry).map_err(failed)? {
            self.replace(&document).map_err(|error| failed(error.to_string()))?;
            erased.push(LoginStore::File(self.path.clone()));
        }
        Ok(erased)
    }

    fn failed(&self, reason: String) -> CredentialError {
        CredentialError::Store { reason: format!("{}: {reason}", self.path.display()) }
    }

    /// Reads the file; `None` if it does not exist.
    async fn document(&self) -> Result<Option<Document>, String> {
        let file = match tokio::fs::File::open(&self.path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot be read: {error}")),
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("is larger than {MAX_FILE} bytes"));
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(Some(Document::default()));
        }
        // The error of the parser may quote a secret.
        let read = object(&bytes).map_err(|_| "invalid configuration: it is not a JSON object".to_owned())?;
        Ok(Some(Document(read)))
    }

    /// Replaces the file atomically. A symbolic link to a file is followed: the directory may belong to a tool that
    /// manages such files.
    fn replace(&self, document: &Document) -> io::Result<()> {
        use std::io::Write as _;
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}.{:016x}.tmp", fastrand::u64(..)));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let text = SecretString::from(format!("{:#}\n", Value::Object(document.0.clone())));
        let written = options.open(&temporary).and_then(|mut file| {
            file.write_all(text.expose_secret().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &target)
        });
        written.inspect_err(|_| {
            // Best effort: the first error is the one to return.
            let _ = std::fs::remove_file(&temporary);
        })
    }
}

/// The content of a file of logins.
#[derive(Default)]
struct Document(Map<String, Value>);

impl Document {
    /// The logins for a registry. A default helper that fails is a `failure` in the result.
    async fn logins(&self, registry: &Registry) -> Result<RegistryLogins, String> {
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
    fn helper_to_change(&self, registry: &Registry) -> Result<Option<String>, String> {
        Ok(self.own_helper(registry)?.or_else(|| self.default_helper()))
    }

    /// Removes the registry's own entries, and returns whether one had a login.
    fn remove(&mut self, registry: &Registry) -> Result<bool, String> {
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
fn server(registry: &Registry) -> &str {
    match registry.as_str() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        host => host,
    }
}

/// One name for the hosts of Docker Hub, in lower case.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
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

    #[test]
    fn reads_files_in_the_order_of_podman() {
        let files = |variables: &[(&str, &str)]| {
            let value =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
            let files = DockerConfig::files_in(value).into_iter();
            files.map(|file| file.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(files(&[]), [""; 0]);
        assert_eq!(files(&[("HOME", "/h")]), ["/h/.config/containers/auth.json", "/h/.docker/config.json"]);
        let all = [
            ("HOME", "/h"),
            ("REGISTRY_AUTH_FILE", "/a.json"),
            ("XDG_RUNTIME_DIR", "/run"),
            ("XDG_CONFIG_HOME", "/c"),
            ("DOCKER_CONFIG", "/d"),
        ];
        let expected = ["/a.json", "/run/containers/auth.json", "/c/containers/auth.json", "/d/config.json"];
        assert_eq!(files(&all), expected);
    }

    #[tokio::test]
    async fn stores_and_removes_logins_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        let file = AuthFile::at(&path);
        let registry: Registry = "r.example.com".parse().unwrap();
        assert_eq!(file.erase(&registry).await.unwrap(), []);
        let stored = file.store(&registry, "ci", &"pw".into()).await.unwrap();
        assert_eq!(stored, LoginStore::File(path.clone()));
        assert!(user(file.login(&registry).await.unwrap().as_ref()).contains("\"ci\""));

        // Other content is kept, and other keys of the same registry are replaced.
        let text = json!({
            "HttpHeaders": { "a": "b" },
            "auths": {
                "https://r.example.com/v1/": entry("old"),
                "r.example.com/shop": entry("namespace"),
                "s.example.com": entry("other"),
            },
        });
        std::fs::write(&path, text.to_string()).unwrap();
        file.store(&registry, "new", &"pw".into()).await.unwrap();
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read()["HttpHeaders"], text["HttpHeaders"]);
        let keys = |value: &Value| {
            let mut keys: Vec<_> = value["auths"].as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&read()), ["r.example.com", "r.example.com/shop", "s.example.com"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(file.erase(&registry).await.unwrap(), [LoginStore::File(path.clone())]);
        assert_eq!(keys(&read()), ["r.example.com/shop", "s.example.com"]);
        assert_eq!(file.erase(&registry).await.unwrap(), []);
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file is left");

        std::fs::write(&path, "{secret").unwrap();
        let error = file.store(&registry, "ci", &"pw".into()).await.unwrap_err().to_string();
        assert!(error.contains("new/config.json") && !error.contains("secret"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"{secret", "it is not overwritten");
    }
}
