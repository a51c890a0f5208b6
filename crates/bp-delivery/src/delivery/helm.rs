//! Create the Helm release of a service from `bp.toml`: chart, values, variables, and the login to the chart's registry.

use bp_artifact::{
    Registry,
    config::{EksObject, ReleaseConfig},
};
use bp_eks::{
    HelmRelease,
    helm::{HelmFlags, ImageKeys, VariablesForm},
    pull_secret::RegistryToken,
};

use super::Delivery;
use crate::{Clients, Failure};

impl Delivery {
    /// The Helm release of the service, as in bp.toml.
    ///
    /// # Errors
    /// When the service has none, its settings are invalid, or the cluster cannot be reached.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn helm_release(&self) -> Result<HelmRelease, Failure> {
        match &self.service.eks()?.object {
            EksObject::Release(release) => self.configured(release).await,
            EksObject::Workload(workload) => Err(Failure::bad_input(format!(
                "the service is deployed to {workload}, not as a Helm release: set eks.release, or --release"
            ))),
            EksObject::Manifests(_) => Err(Failure::bad_input(
                "the service is deployed by manifests, not as a Helm release: set eks.release, or --release",
            )),
        }
    }

    async fn configured(&self, config: &ReleaseConfig) -> Result<HelmRelease, Failure> {
        let mut release = self.helm(&config.name).await?.chart(&config.chart);
        if let Some(version) = &config.chart_version {
            release = release.chart_version(version);
        }
        if let Some(url) = &config.chart_repository {
            release = release.chart_repository(url);
        }
        release = config.values.iter().fold(release, HelmRelease::values_file);
        release =
            config.set.iter().fold(release, |release, (key, value)| release.set(format!("{key}={value}")));
        release = config
            .set_string
            .iter()
            .fold(release, |release, (key, value)| release.set_string(format!("{key}={}", literal(value))));
        release = config
            .set_file
            .iter()
            .fold(release, |release, (key, file)| release.set_file(format!("{key}={}", literal(file))));
        release = config
            .set_json
            .iter()
            .fold(release, |release, (key, json)| release.set_json(format!("{key}={json}")));
        let flags = HelmFlags::parse(config.flags.iter().cloned());
        let flags = flags.map_err(|error| Failure::from(error).context("eks.helm-flags"))?;
        release = release.create_namespace(config.create_namespace).flags(flags);
        if let Some(digest) = &config.digest_key {
            release = release.image_keys(ImageKeys::default().digest(digest));
        }
        if let Some(key) = &config.variables_key {
            let form = if config.variables_as_map { VariablesForm::Map } else { VariablesForm::List };
            release = release.variables(key, form, self.service.eks()?.variables.clone());
        }
        Ok(release)
    }

    /// A Helm release by name, without chart and values. `BP_HELM` is the helm program.
    pub(crate) async fn helm(&self, release: &str) -> Result<HelmRelease, Failure> {
        let clients = self.clients.clone();
        let target = self.namespace().await?.helm(release, self.eks_options()?);
        let target = target.chart_login(move |registry| log_in(clients.clone(), registry));
        Ok(match std::env::var_os("BP_HELM").filter(|program| !program.is_empty()) {
            Some(program) => target.program(program),
            None => target,
        })
    }
}

/// A token of ECR for one of its registries; none for other registries.
async fn log_in(
    clients: Clients,
    registry: Registry,
) -> Result<Option<RegistryToken>, Box<dyn std::error::Error + Send + Sync>> {
    if registry.ecr().is_none() {
        return Ok(None);
    }
    let response = clients.ecr(&registry).get_authorization_token().send().await?;
    let data = response.authorization_data().first();
    let token = data.and_then(|data| {
        let expires_at = jiff::Timestamp::from_second(data.expires_at()?.secs()).ok()?;
        Some(RegistryToken::new(registry.as_str(), data.authorization_token()?, expires_at))
    });
    let missing = "the response of ecr:GetAuthorizationToken contains no token";
    token.ok_or_else(|| missing.into()).map(Some)
}

/// The text as one value of `helm --set-string`, which splits at commas and reads braces as a list.
fn literal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        if matches!(character, '\\' | ',') || at == 0 && character == '{' {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn a_string_is_one_value_for_helm() {
        assert_eq!(literal("plain=1 {x}"), "plain=1 {x}");
        assert_eq!(literal("a,b\\c"), "a\\,b\\\\c");
        assert_eq!(literal("{a,b}"), "\\{a\\,b}");
    }
}
