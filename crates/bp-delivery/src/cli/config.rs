//! The arguments that say which `bp.toml` is read, and what is laid over it.

use std::path::PathBuf;

use bp_artifact::{
    Config,
    config::{ConfigError, ConfigLoader},
};
use clap::Args;

/// The files that the project's environments are in.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The project's environments
    #[arg(long, value_name = "FILE", default_value = "bp.toml", env = "BP_CONFIG")]
    config: PathBuf,
    /// A file laid over bp.toml, which has only what it changes; several are laid in their order
    #[arg(id = "overlay", long = "overlay", value_name = "FILE", env = "BP_OVERLAY", value_delimiter = ',')]
    overlays: Vec<PathBuf>,
}

impl FileArgs {
    /// Reads `bp.toml`, the overlays and the variables `BP_<ENVIRONMENT>_<KEY>`. The later win.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is wrong.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.loader().load()
    }

    fn loader(&self) -> ConfigLoader {
        let loader = ConfigLoader::new(&self.config).variables(|name| std::env::var(name).ok());
        self.overlays.iter().fold(loader, ConfigLoader::overlay)
    }
}

/// Where the project's environments are, and what is laid over one of them.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The files.
    #[command(flatten)]
    pub files: FileArgs,
    /// A setting of the environment, over bp.toml and variables: ecs.cluster=blue
    #[arg(id = "set", long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub settings: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Reads `bp.toml`, the overlays, the variables `BP_<ENVIRONMENT>_<KEY>`, and the flags, which are about
    /// `environment`. The later win.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is wrong.
    pub fn load(&self, environment: &str) -> Result<Config, ConfigError> {
        let mut loader = self.files.loader();
        for (key, value) in &self.settings {
            loader = loader.flag("--set", environment, key, value);
        }
        loader.load()
    }
}

/// Reads `ecs.cluster=blue`.
fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected a key and a value, as in ecs.cluster=blue".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(key_and_value("ecs.cluster=blue"), pair("ecs.cluster", "blue"));
        assert_eq!(key_and_value("tags.Query=a=b"), pair("tags.Query", "a=b"));
        assert!(key_and_value("ecs.cluster").is_err() && key_and_value("=blue").is_err());
    }
}
