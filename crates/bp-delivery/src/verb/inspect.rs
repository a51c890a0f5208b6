//! Describe an image: digest, platforms, layers and configuration.

use std::fmt::Write as _;

use bp_artifact::{ExitCode, Platform, media_type};
use bp_promote::content::Manifest;
use serde_json::{Value, json};

use crate::{
    Failure, Location, Ui,
    cli::{ReadingTimeArgs, RegistryArgs},
    program::Verb,
    registries::{OpenedImage, open},
};

/// Describe an image: digest, platforms, layers and configuration; with --output json, the whole manifest and
/// configuration
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// Image: REGISTRY/REPOSITORY:TAG or @DIGEST, oci:DIR[:NAME], oci-archive:FILE[:NAME]
    #[arg(value_name = "IMAGE")]
    image: Location,
    /// Describe this platform of a multi-platform image, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    registries: RegistryArgs,
    #[command(flatten)]
    time: ReadingTimeArgs,
}

impl Verb for Inspect {
    const NAME: &'static str = "inspect";
    const HELP: crate::help::Help = crate::help::verbs::INSPECT;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let read = async {
            let opened = open(&self.image, &self.registries.options()?).await?;
            let manifest = match &self.platform {
                Some(platform) => opened.manifest_for(platform).await?,
                None => opened.manifest().await?,
            };
            self.describe(&opened, &manifest).await
        };
        let (text, value) = self.time.limit(read).await?;
        ui.result(text, &value);
        Ok(ExitCode::Done)
    }
}

impl Inspect {
    async fn describe(&self, opened: &OpenedImage, manifest: &Manifest) -> Result<(String, Value), Failure> {
        let size = manifest.bytes.len();
        let mut text =
            format!("{}\ndigest: {}\nmedia type: {}", self.image, manifest.digest, manifest.media_type);
        let platforms = manifest.platforms()?;
        for (platform, child) in &platforms {
            let _ = write!(text, "\nplatform: {platform} {}", child.digest);
        }
        let config = match manifest.config() {
            Some(config) if media_type::is_image_config(&config.media_type) => {
                opened.document(&config).await?
            }
            _ => Value::Null,
        };
        for (name, key) in [("created", "created"), ("os", "os"), ("architecture", "architecture")] {
            if let Some(value) = config[key].as_str() {
                let _ = write!(text, "\n{name}: {}", bp_artifact::text::single_line(value));
            }
        }
        let labels = config["config"]["Labels"].as_object().into_iter().flatten();
        for (name, value) in labels {
            let label = format!("{name}={}", value.as_str().unwrap_or_default());
            let _ = write!(text, "\nlabel: {}", bp_artifact::text::single_line(&label));
        }
        let links = manifest.links()?;
        let config_digest = manifest.config().map(|config| config.digest);
        let layers: Vec<_> = links
            .blobs
            .iter()
            .chain(&links.external)
            .filter(|blob| Some(&blob.digest) != config_digest.as_ref())
            .collect();
        for layer in &layers {
            let _ = write!(
                text,
                "\nlayer: {} {} bytes {}",
                layer.digest,
                layer.size,
                bp_artifact::text::single_line(&layer.media_type)
            );
        }
        let total = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        if !layers.is_empty() {
            let _ = write!(text, "\nlayers in total: {total} bytes");
        }
        let platforms: Vec<Value> = platforms
            .iter()
            .map(|(platform, child)| json!({ "platform": platform, "digest": child.digest, "size": child.size }))
            .collect();
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| json!({ "digest": layer.digest, "size": layer.size, "mediaType": layer.media_type }))
            .collect();
        let parsed: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        let value = json!({
            "image": self.image.to_string(),
            "digest": manifest.digest,
            "mediaType": manifest.media_type,
            "size": size,
            "platforms": platforms,
            "layers": layers,
            "manifest": parsed,
            "config": config,
        });
        Ok((text, value))
    }
}
