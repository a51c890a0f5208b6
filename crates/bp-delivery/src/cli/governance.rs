//! Arguments of promotions with rules.

use std::path::PathBuf;

use clap::Args;

/// The key that signs.
#[derive(Debug, Clone, Default, Args)]
pub struct SignArgs {
    /// File with the private key that signs: PEM, P-256, without password
    #[arg(long = "sign", value_name = "FILE", env = "BP_SIGNING_KEY")]
    pub key: Option<PathBuf>,
}

/// How the rules of the environment are applied.
#[derive(Debug, Clone, Default, Args)]
pub struct GovernanceArgs {
    /// The key.
    #[command(flatten)]
    pub sign: SignArgs,
    /// Show the decision on each image, with what is missing, and copy nothing
    #[arg(long)]
    pub explain: bool,
    /// Promote although gates are closed, for this reason, which is recorded
    #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub break_glass: Option<String>,
}
