//! Files of logins: docker's `config.json` and podman's `auth.json`, with their credential helpers.
//!
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
};

use bp_artifact::{Registry, file::FileWriter};
use futures_core::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::AsyncReadExt as _;

use super::{
    auth_document::{Document, server},
    credentials::{CredentialError, CredentialSource, registry_login},
    helper,
    login::{Login, RegistryLogins},
};

/// The maximum size of a file of logins in bytes.
const MAX_FILE: u64 = 4 << 20;

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
        document.store(registry, user, password).map_err(failed)?;
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
        Document::parse(&bytes).map(Some)
    }

    /// Replaces the file, for its owner only. The target of a symbolic link is replaced: the directory may belong to a
    /// tool that manages such files.
    fn replace(&self, document: &Document) -> io::Result<()> {
        if let Some(directory) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        FileWriter::new().private().write(&self.path, document.text().expose_secret().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde_json::{Value, json};

    use super::*;

    fn entry(user: &str) -> Value {
        json!({ "auth": BASE64_STANDARD.encode(format!("{user}:p")) })
    }

    fn user(login: Option<&Login>) -> String {
        login.map_or_else(|| "anonymous".to_owned(), |login| format!("{login:?}"))
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
