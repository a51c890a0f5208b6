//! Arguments that select `bp.toml` and override its settings.

use std::path::PathBuf;

use bp_artifact::{
    Config,
    config::{ConfigError, ConfigLoader},
};
use clap::Args;

/// The configuration files of the project.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// Configuration file with the project's environments
    #[arg(long, value_name = "FILE", default_value = "bp.toml", env = "BP_CONFIG")]
    config: PathBuf,
    /// File of settings that override those of bp.toml; repeatable, later files win
    #[arg(id = "overlay", long = "overlay", value_name = "FILE", env = "BP_OVERLAY", value_delimiter = ',')]
    overlays: Vec<PathBuf>,
}

impl FileArgs {
    /// Reads `bp.toml`, the overlays and the variables `BP_<ENVIRONMENT>_<KEY>`, in ascending precedence.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is invalid.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.loader().load()
    }

    fn loader(&self) -> ConfigLoader {
        let loader = ConfigLoader::new(&self.config).variables(|name| std::env::var(name).ok());
        self.overlays.iter().fold(loader, ConfigLoader::overlay)
    }
}

/// The configuration files, and the settings of one environment that flags override.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Override a setting of the environment, such as ecs.cluster=blue; wins over bp.toml and variables; repeatable
    #[arg(id = "set", long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub settings: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Reads `bp.toml`, the overlays, the variables `BP_<ENVIRONMENT>_<KEY>`, and the flags, which apply to
    /// `environment`, in ascending precedence.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is invalid.
    pub fn load(&self, environment: &str) -> Result<Config, ConfigError> {
        let mut loader = self.files.loader();
        for (key, value) in &self.settings {
            loader = loader.flag("--set", environment, key, value);
        }
        loader.load()
    }
}

/// Parses `ecs.cluster=blue`.
fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in ecs.cluster=blue".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first_equals_sign() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(key_and_value("ecs.cluster=blue"), pair("ecs.cluster", "blue"));
        assert_eq!(key_and_value("tags.Query=a=b"), pair("tags.Query", "a=b"));
        assert!(key_and_value("ecs.cluster").is_err() && key_and_value("=blue").is_err());
    }
}
