//! Read the Helm release of a service: `eks.release`, its chart, its values and further flags of helm.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    error::ConfigError,
    keys::{LIST, MAP, RELEASE, RELEASE_SECTIONS},
    layer::{Settings, list, list_of_strings, missing, names, switch},
    name::{Environment, is_dns_name},
    origin::Origin,
};

/// The longest name of a release that helm accepts.
const LONGEST: usize = 53;

/// A Helm release.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReleaseConfig {
    /// Its name.
    pub name: String,
    /// The chart: a directory, an archive, `oci://...`, or a name in the repository.
    pub chart: String,
    /// The chart's version. Defaults to the latest one.
    pub chart_version: Option<String>,
    /// The URL of the chart's repository.
    pub chart_repository: Option<String>,
    /// Whether a first installation creates the namespace. Defaults to `off`.
    pub create_namespace: bool,
    /// Values files; later ones take precedence.
    pub values: Vec<PathBuf>,
    /// Values in the syntax of `helm --set`, by key. They override the values files.
    pub set: BTreeMap<String, String>,
    /// Values that are strings, by key.
    pub set_string: BTreeMap<String, String>,
    /// Files whose contents are values, by key.
    pub set_file: BTreeMap<String, String>,
    /// Values as JSON, by key.
    pub set_json: BTreeMap<String, String>,
    /// Further flags of `helm upgrade`.
    pub flags: Vec<String>,
    /// The key of the digest in the chart's values, if not `image.digest`.
    pub digest_key: Option<String>,
    /// The key that gets the environment variables.
    pub variables_key: Option<String>,
    /// Whether the environment variables are a map instead of a list.
    pub variables_as_map: bool,
}

/// The release, if the service has one.
pub(super) fn read(
    settings: &Settings,
    name: &Environment,
    origin: &Origin,
) -> Result<Option<ReleaseConfig>, ConfigError> {
    let Some(release) = settings.text("eks.release")? else {
        let key = RELEASE.iter().find_map(|key| settings.get(key));
        let section = || RELEASE_SECTIONS.iter().find_map(|section| settings.section(section).next());
        return match key.or_else(|| section().map(|(_, setting)| setting)) {
            Some(setting) => {
                Err(setting.invalid(format!("{} requires a Helm release: set eks.release", setting.key)))
            }
            None => Ok(None),
        };
    };
    if let Some(setting) =
        settings.get("eks.release").filter(|_| release.len() > LONGEST || !is_dns_name(&release))
    {
        let form = "at most 53 lower-case letters, digits, dashes and dots";
        return Err(setting.invalid(format!("{release:?} is not the name of a release: expected {form}")));
    }
    if let Some(setting) = settings.get("eks.workload") {
        return Err(setting.invalid("eks.workload and eks.release are mutually exclusive"));
    }
    if let Some(setting) = settings.get("eks.also") {
        return Err(setting.invalid("eks.also requires a workload: the chart of eks.release sets its images"));
    }
    let variables_key = settings.text("eks.environment-key")?;
    let mut variables =
        settings.section("eks.environment").filter(|(_, set)| !matches!(set.origin, Origin::Default));
    if let Some((_, setting)) = variables.next().filter(|_| variables_key.is_none()) {
        return Err(setting.invalid(format!(
            "{} has no effect on a Helm release: set eks.environment-key to the key of the chart's values that gets the \
            variables",
            setting.key
        )));
    }
    Ok(Some(ReleaseConfig {
        name: release,
        chart: settings.text("eks.chart")?.ok_or_else(|| missing("eks.chart", name, origin))?,
        chart_version: settings.text("eks.chart-version")?,
        chart_repository: settings.text("eks.chart-repo")?,
        create_namespace: switch(settings, "eks.create-namespace")?.unwrap_or(false),
        values: list(settings.text("eks.values")?).into_iter().map(Into::into).collect(),
        set: names(settings, "eks.set"),
        set_string: names(settings, "eks.set-string"),
        set_file: names(settings, "eks.set-file"),
        set_json: names(settings, "eks.set-json"),
        flags: settings.get("eks.helm-flags").map(list_of_strings).unwrap_or_default(),
        digest_key: settings.text("eks.digest-key")?,
        variables_as_map: as_map(settings)?,
        variables_key,
    }))
}

fn as_map(settings: &Settings) -> Result<bool, ConfigError> {
    match settings.get("eks.environment-form") {
        Some(setting) if setting.value == MAP => Ok(true),
        Some(setting) if setting.value != LIST => {
            Err(setting.invalid(format!("{:?} is neither {LIST:?} nor {MAP:?}", setting.value)))
        }
        Some(_) | None => Ok(false),
    }
}
