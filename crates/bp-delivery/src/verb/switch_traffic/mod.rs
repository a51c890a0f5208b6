//! Switch traffic on EKS: blue/green by slots, an Ingress between two Services, or in steps by weights.

mod shift;
mod smoke;

use std::time::Duration;

use bp_artifact::{ExitCode, deploy::GateName, time::parse_duration};
use bp_eks::IngressSwitch;

use self::shift::ShiftArgs;
use crate::{
    Failure, Ui,
    cli::{
        DeliveryArgs, End, GivenFlags, ReceiptArgs, RollbackOnCancelArgs, SlotArgs, TakeOverArgs, conclude,
    },
    program::Verb,
};

/// Switch traffic on EKS: blue/green by slots with a switch back, an Ingress between two Services, or in steps by weights
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
    #[command(flatten)]
    slots: SlotArgs,
    #[command(flatten)]
    receipt: ReceiptArgs,
    #[command(flatten)]
    on_cancel: RollbackOnCancelArgs,
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
        /// Gates of bp.toml that are checked before any traffic moves, separated by commas
        #[arg(long, value_name = "GATE", value_delimiter = ',')]
        smoke: Vec<GateName>,
        /// Gates of bp.toml that are checked after the traffic has moved; if one fails, it is returned; separated by commas
        #[arg(long, value_name = "GATE", value_delimiter = ',')]
        checks: Vec<GateName>,
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
    /// Shift traffic in steps between two permanent Services, by the weights of an Ingress or an HTTPRoute
    Shift(Box<ShiftArgs>),
}

/// The flags that apply only to commands that deploy an image.
const IMAGE: &[&str] = &["image", "artifact", "image-timeout", "receipt", "rollback-on-cancel"];
/// The flags that apply only to commands that change a Deployment.
const CHANGE: &[&str] = &["timeout", "take-over"];

impl TrafficCommand {
    /// Refuses the flags that have no effect with this command.
    fn check(&self, given: &GivenFlags) -> Result<(), Failure> {
        match self {
            TrafficCommand::Status => given.refuse(&[IMAGE, CHANGE].concat(), "with status"),
            TrafficCommand::Stage => {
                given.refuse(&["rollback-on-cancel"], "with stage, which moves no traffic")
            }
            TrafficCommand::Switch { .. } => Ok(()),
            TrafficCommand::Back => given.refuse(IMAGE, "with back"),
            TrafficCommand::CleanUp => given.refuse(&[IMAGE, CHANGE].concat(), "with clean-up"),
            TrafficCommand::Shift(shift) => shift.check(given),
            TrafficCommand::Ingress { .. } => given
                .refuse(&["kubernetes-service", "slots", "receipt", "rollback-on-cancel"], "with ingress"),
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
        if let TrafficCommand::Shift(shift) = self.command {
            return shift.run(&ui, &delivery, &self.delivery, &self.receipt, &self.on_cancel).await;
        }
        if let TrafficCommand::Ingress { name, from, to } = &self.command {
            let image = self.delivery.image(&delivery, &ui).await?;
            let (eks, options) = (delivery.service.eks()?, delivery.eks_workload_options()?);
            let ingress = delivery.namespace().await?.ingress(name, [from, to], options);
            let ingress = eks.container.iter().fold(ingress, IngressSwitch::container);
            return Ok(ui.ended(ui.follow(ingress.switch(to, Some(&image))).await?));
        }
        let slots = self.slots.slots(&self.kubernetes_service)?;
        let service = delivery.blue_green(&self.kubernetes_service, slots).await?;
        match self.command {
            TrafficCommand::Stage => {
                let image = self.delivery.image(&delivery, &ui).await?;
                let receipt = self.receipt.start(&ui, &service, &image).await?;
                conclude(&ui, Some(receipt), ui.follow(service.stage(&image)).await.map(End::Ended))
            }
            TrafficCommand::Switch { bake, smoke, checks } => {
                let image = self.delivery.image(&delivery, &ui).await?;
                smoke::before(&ui, &delivery, &image, &smoke).await?;
                let service = service.bake(bake.unwrap_or_default());
                let receipt = self.receipt.start(&ui, &service, &image).await?;
                let end = ui.follow(service.switch(&image)).await.map(End::Ended);
                let end = match self.on_cancel.end(&ui, &service, &receipt, end).await {
                    Ok(End::Ended(outcome)) if outcome.verdict().is_success() && !checks.is_empty() => {
                        let ended = (outcome, self.on_cancel.rollback_on_cancel);
                        smoke::after(&ui, &delivery, &image, &checks, &service, ended).await
                    }
                    end => end,
                };
                conclude(&ui, Some(receipt), end)
            }
            TrafficCommand::Back => Ok(ui.ended(ui.follow(service.switch_back()).await?)),
            TrafficCommand::CleanUp => Ok(ui.traffic(&service.clean_up().await?)),
            TrafficCommand::Status | TrafficCommand::Ingress { .. } | TrafficCommand::Shift(_) => {
                Ok(ui.traffic(&service.traffic().await?))
            }
        }
    }
}
