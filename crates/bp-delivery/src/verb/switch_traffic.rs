//! Blue/green deployment on EKS: stage an image in the idle slot, switch all traffic atomically, and switch back.

use std::time::Duration;

use bp_artifact::{ExitCode, time::parse_duration};
use bp_eks::{BlueGreen, IngressSwitch, traffic::Slots};

use crate::{
    Failure, Ui,
    cli::{DeliveryArgs, GivenFlags, TakeOverArgs},
    program::Verb,
};

/// Deploy blue/green on EKS: stage an image in the idle slot, switch all traffic atomically, and switch back
#[derive(Debug, clap::Args)]
pub struct SwitchTraffic {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    /// Kubernetes Service whose traffic is switched
    #[arg(long, value_name = "NAME", default_value = "web")]
    kubernetes_service: String,
    /// Label that distinguishes the two slots of --slots
    #[arg(long, default_value = "slot", requires = "slots")]
    label: String,
    /// The two slots, each as label value and Deployment, separated by a comma; defaults to blue and green, with the
    /// Deployments SERVICE-blue and SERVICE-green
    #[arg(long, value_name = "SLOT=DEPLOYMENT", value_delimiter = ',', num_args = 2)]
    slots: Vec<String>,
    #[command(subcommand)]
    command: TrafficCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TrafficCommand {
    /// Show which slot receives the traffic, and the state of each slot
    Status,
    /// Deploy the image to the idle slot, and point the test Service to it
    Stage,
    /// Switch all traffic to the staged slot
    Switch {
        /// Watch the new pods under traffic for this time, and switch back if they fail
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        bake: Option<Duration>,
    },
    /// Switch the traffic back to the previous slot
    Back,
    /// Scale the idle slot down, remove the test Service and the record of the previous slot
    CleanUp,
    /// Switch the backends of an Ingress from one permanent Service to another
    Ingress {
        /// Name of the Ingress
        name: String,
        /// Service that receives the traffic now
        from: String,
        /// Service to switch to
        to: String,
    },
}

/// The flags that apply only to commands with an image.
const IMAGE: &[&str] = &["image", "artifact", "image-timeout"];
/// The flags that apply only to commands that change a Deployment.
const CHANGE: &[&str] = &["timeout", "take-over"];

impl TrafficCommand {
    /// Refuses the flags that have no effect with this command.
    fn check(&self, given: &GivenFlags) -> Result<(), Failure> {
        match self {
            TrafficCommand::Status => given.refuse(&[IMAGE, CHANGE].concat(), "with status"),
            TrafficCommand::Stage | TrafficCommand::Switch { .. } => Ok(()),
            TrafficCommand::Back => given.refuse(IMAGE, "with back"),
            TrafficCommand::CleanUp => given.refuse(&[IMAGE, CHANGE].concat(), "with clean-up"),
            TrafficCommand::Ingress { .. } => given.refuse(&["kubernetes-service", "slots"], "with ingress"),
        }
    }
}

impl Verb for SwitchTraffic {
    const NAME: &'static str = "switch-traffic";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.command.check(&self.given)?;
        let mut delivery = self.delivery.open().await?.take_over(self.fields.take_over);
        if matches!(self.command, TrafficCommand::Stage | TrafficCommand::Switch { .. }) {
            delivery = self.delivery.image.describe(delivery)?;
        }
        let eks = delivery.service.eks()?.clone();
        let (namespace, options) = (delivery.namespace().await?, delivery.eks_workload_options()?);
        if let TrafficCommand::Ingress { name, from, to } = &self.command {
            let image = self.delivery.image(&delivery, &ui).await?;
            let ingress = namespace.ingress(name, [from, to], options);
            let ingress = eks.container.iter().fold(ingress, IngressSwitch::container);
            return Ok(ui.ended(ui.follow(ingress.switch(to, Some(&image))).await?));
        }
        let slots = match self.slots.as_slice() {
            [one, two] => Slots::new(&self.label, pair(one)?, pair(two)?)?,
            _ => Slots::of_service(&self.kubernetes_service),
        };
        let service = namespace.blue_green(&self.kubernetes_service, slots, options);
        let service = eks.container.iter().fold(service, BlueGreen::container);
        let outcome = match self.command {
            TrafficCommand::Stage => {
                ui.follow(service.stage(&self.delivery.image(&delivery, &ui).await?)).await?
            }
            TrafficCommand::Switch { bake } => {
                let image = self.delivery.image(&delivery, &ui).await?;
                ui.follow(service.bake(bake.unwrap_or_default()).switch(&image)).await?
            }
            TrafficCommand::Back => ui.follow(service.switch_back()).await?,
            TrafficCommand::CleanUp => return Ok(ui.traffic(&service.clean_up().await?)),
            TrafficCommand::Status | TrafficCommand::Ingress { .. } => {
                return Ok(ui.traffic(&service.traffic().await?));
            }
        };
        Ok(ui.ended(outcome))
    }
}

/// Splits `slot=deployment`.
fn pair(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('=')
        .ok_or_else(|| Failure::bad_input(format!("--slots: {text:?} is not of the form SLOT=DEPLOYMENT")))
}
