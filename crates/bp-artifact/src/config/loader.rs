//! Load the configuration in layers: file, overlays, environment variables, flags. Later layers take precedence.

use std::path::{Path, PathBuf};

use super::{
    Config, ConfigError,
    keys::Keys,
    layer::{self, Setting},
    origin::Origin,
    read,
};
use crate::document;

/// The process's environment.
type Variables = Box<dyn Fn(&str) -> Option<String>>;

/// Loads a [`Config`] in layers: `bp.toml`, overlays in order, environment variables, flags. Later layers take
/// precedence, and [`EnvironmentConfig::settings`](super::EnvironmentConfig::settings) returns the origin of each
/// value.
///
/// ```no_run
/// use bp_artifact::config::ConfigLoader;
///
/// let config = ConfigLoader::new("bp.toml")
///     .overlay("bp.local.toml")
///     .variables(|name| std::env::var(name).ok())
///     .flag("--cluster", "staging", "ecs.cluster", "blue")
///     .load()?;
/// for setting in config.environment("staging")?.settings() {
///     println!("{} = {} ({})", setting.key, setting.value, setting.origin);
/// }
/// # Ok::<(), bp_artifact::config::ConfigError>(())
/// ```
#[must_use = "nothing is read until it is loaded"]
pub struct ConfigLoader {
    base: PathBuf,
    overlays: Vec<PathBuf>,
    variable: Option<Variables>,
    flags: Vec<(String, Setting)>,
}

impl ConfigLoader {
    /// Starts with the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        ConfigLoader { base: path.into(), overlays: Vec::new(), variable: None, flags: Vec::new() }
    }

    /// Adds the file at `path` as an overlay: it has the same format, with only the keys that it changes.
    pub fn overlay(mut self, path: impl Into<PathBuf>) -> Self {
        self.overlays.push(path.into());
        self
    }

    /// Adds environment variables over the files: `BP_<ENVIRONMENT>_<KEY>`, as in `BP_PROD_ECS_CLUSTER`.
    pub fn variables(mut self, variable: impl Fn(&str) -> Option<String> + 'static) -> Self {
        self.variable = Some(Box::new(variable));
        self
    }

    /// Adds the value of the command-line flag `flag` over all other layers: `key` of `environment`.
    pub fn flag(mut self, flag: &str, environment: &str, key: &str, value: impl Into<String>) -> Self {
        let origin = Origin::Flag(flag.to_owned());
        let setting = Setting { key: key.to_owned(), value: value.into(), origin };
        self.flags.push((environment.to_owned(), setting));
        self
    }

    /// Reads and validates all layers.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is invalid; the message states the setting's origin.
    pub fn load(self) -> Result<Config, ConfigError> {
        let file = self.base.display().to_string();
        let mut base = read_layer(&self.base)?;
        for path in &self.overlays {
            read::overlay(&mut base, read_layer(path)?)?;
        }
        let services: Vec<_> = base.services.iter().map(|(name, ..)| name.clone()).collect();
        for (name, _, settings) in &mut base.environments {
            if let Some(variable) = &self.variable {
                let gates = settings.names("gate");
                let gates = gates.iter().map(String::as_str);
                settings.overlay(layer::variables(name, services.iter(), gates, variable));
            }
            for (_, flag) in self.flags.iter().filter(|(environment, _)| environment == name.as_str()) {
                if Keys::environment().find(&flag.key).is_none() {
                    return Err(flag.invalid(format!("unknown setting {:?}", flag.key)));
                }
                if flag.key.starts_with("policy.") {
                    return Err(flag.invalid(format!("`{}` can be set only in a file", flag.key)));
                }
                settings.insert(flag.clone());
            }
        }
        read::config(&file, base)
    }
}

impl Config {
    /// Reads `bp.toml`.
    ///
    /// # Errors
    /// When the file cannot be read or is invalid; the message states file, line and column.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        ConfigLoader::new(path.as_ref()).load()
    }

    /// Parses `text`; `file` is the file name in messages.
    ///
    /// # Errors
    /// When the text is not a valid configuration.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        read::config(file, layer::read(text, file)?)
    }
}

impl std::fmt::Debug for ConfigLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigLoader")
            .field("base", &self.base)
            .field("overlays", &self.overlays)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

fn read_layer(path: &Path) -> Result<layer::FileLayer, ConfigError> {
    layer::read(&document::read(path)?, &path.display().to_string())
}
