//! The login to the registry of a chart: created for this registry only, in a file that only this user can read.

use std::{fmt, fs::OpenOptions, io::Write as _, path::Path, sync::Arc};

use bp_artifact::Registry;
use futures_core::future::BoxFuture;
use secrecy::ExposeSecret as _;
use serde_json::{Map, json};

use super::error::HelmError;
use crate::pull_secret::RegistryToken;

/// A failure to create a login.
pub(super) type LoginError = Box<dyn std::error::Error + Send + Sync>;

/// Creates a login to a registry; `None` if the registry needs none from here.
type CreateLogin =
    dyn Fn(Registry) -> BoxFuture<'static, Result<Option<RegistryToken>, LoginError>> + Send + Sync;

/// The source of logins.
#[derive(Clone)]
pub(super) struct ChartLogin(pub(super) Arc<CreateLogin>);

impl fmt::Debug for ChartLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChartLogin")
    }
}

/// The registry of a chart, if the chart is in one.
pub(super) fn registry_of(chart: &str) -> Option<Registry> {
    let path = chart.strip_prefix("oci://")?;
    path.split('/').next().unwrap_or(path).parse().ok()
}

impl ChartLogin {
    /// Writes the login to the registry of `chart` into the new file `path`; returns whether there is one.
    pub(super) async fn write(&self, chart: &str, path: &Path) -> Result<bool, HelmError> {
        let Some(registry) = registry_of(chart) else { return Ok(false) };
        let created = (self.0)(registry.clone()).await;
        let failed = |source| HelmError::ChartLogin { registry: registry.to_string(), source };
        let Some(token) = created.map_err(failed)? else { return Ok(false) };
        let mut auths = Map::new();
        auths.insert(registry.to_string(), json!({ "auth": token.authorization().expose_secret() }));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)?.write_all(json!({ "auths": auths }).to_string().as_bytes())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_registry_of_a_chart() {
        let registry = |chart: &str| registry_of(chart).map(|registry| registry.to_string());
        let ecr = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
        assert_eq!(registry(&format!("oci://{ecr}/charts/web")).as_deref(), Some(ecr));
        assert_eq!(registry("oci://localhost:5000/web").as_deref(), Some("localhost:5000"));
        for local in
            ["charts/web", "web-1.0.tgz", "https://charts.example.com/web.tgz", "oci://", "oci:///web"]
        {
            assert_eq!(registry(local), None, "{local}");
        }
    }
}
