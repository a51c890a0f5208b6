//! Arguments that several binaries take. Flags win over environment variables, and those over `bp.toml`.

use std::{path::PathBuf, time::Duration};

use bp_artifact::{Config, ConfigError, ConfigLoader, time::parse_duration};
use clap::{Args, ValueEnum};

/// How events are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Plain lines, as CI logs want them.
    Lines,
    /// One JSON object a line on standard output, and nothing else there.
    Json,
}

/// How to show what happens.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// How to show what happens: bars or lines on standard error, or JSON lines on standard output
    #[arg(long, value_enum, default_value_t, env = "BP_OUTPUT", global = true)]
    pub output: Output,
}

/// Where the project's environments are, and what is laid over them.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The project's environments
    #[arg(long = "config", value_name = "FILE", default_value = "bp.toml", env = "BP_CONFIG")]
    pub file: PathBuf,
    /// A file laid over bp.toml, which has only what it changes; several are laid in their order
    #[arg(long = "overlay", value_name = "FILE", env = "BP_OVERLAY", value_delimiter = ',')]
    pub overlays: Vec<PathBuf>,
    /// A setting of the environment, over bp.toml and variables: ecs.cluster=blue
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub settings: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Reads `bp.toml`, the overlays, the variables `BP_<ENVIRONMENT>_<KEY>`, and the flags, which are about
    /// `environment`. The later win.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is wrong.
    pub fn load(&self, environment: &str) -> Result<Config, ConfigError> {
        let mut loader = ConfigLoader::new(&self.file).variables(|name| std::env::var(name).ok());
        for path in &self.overlays {
            loader = loader.overlay(path);
        }
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

/// Where the project's files are.
#[derive(Debug, Clone, Args)]
pub struct ProjectArgs {
    /// The environments.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The artifact that the build left
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    pub artifact: PathBuf,
}

/// How long to wait.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// When to stop waiting: 90s, 15m, 1h30m; defaults to deploy.timeout of bp.toml
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub deadline: Option<Duration>,
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
