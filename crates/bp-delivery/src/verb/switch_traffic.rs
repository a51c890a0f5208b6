//! Blue/green on an environment's EKS cluster: stage beside what is live, switch all traffic at once, and back.

use std::time::Duration;

use bp_artifact::{ExitCode, time::parse_duration};
use bp_eks::{BlueGreen, IngressSwitch, traffic::Slots};

use crate::{
    Failure, Ui,
    cli::{DeliveryArgs, Given, TakeOverArgs},
    program::Verb,
};

/// Blue/green on an environment's EKS cluster: stage beside what is live, switch all traffic at once, and back
#[derive(Debug, clap::Args)]
pub struct SwitchTraffic {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    /// The Kubernetes Service whose traffic is switched
    #[arg(long, value_name = "NAME", default_value = "web")]
    kubernetes_service: String,
    /// The label that tells the two slots apart, beside --slots
    #[arg(long, default_value = "slot", requires = "slots")]
    label: String,
    /// The two slots, each as the label's value and its Deployment; blue and green of the Service, if not said
    #[arg(long, value_name = "SLOT=DEPLOYMENT", value_delimiter = ',', num_args = 2)]
    slots: Vec<String>,
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Show who has the traffic, and what each slot has
    Status,
    /// Bring the image up in the idle slot, and lead the test Service there
    Stage,
    /// Move all traffic to the slot that was staged
    Switch {
        /// Watch the new pods for so long under traffic, and switch back when they fail
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        bake: Option<Duration>,
    },
    /// Move the traffic back to where it was switched from
    Back,
    /// Scale the idle slot down, remove the test Service and forget the way back
    CleanUp,
    /// Lead an Ingress' backends from one permanent Service to another
    Ingress {
        /// The Ingress
        name: String,
        /// The Service that has the traffic
        from: String,
        /// The Service that gets it
        to: String,
    },
}

/// The flags that only steps with an image have a use for.
const IMAGE: &[&str] = &["image", "artifact", "image-timeout"];
/// The flags that only steps have a use for that change a Deployment.
const CHANGE: &[&str] = &["timeout", "take-over"];

impl Step {
    /// Refuses the flags that this step has no use for.
    fn check(&self, given: &Given) -> Result<(), Failure> {
        match self {
            Step::Status => given.refuse(&[IMAGE, CHANGE].concat(), "with status"),
            Step::Stage | Step::Switch { .. } => Ok(()),
            Step::Back => given.refuse(IMAGE, "with back"),
            Step::CleanUp => given.refuse(&[IMAGE, CHANGE].concat(), "with clean-up"),
            Step::Ingress { .. } => given.refuse(&["kubernetes-service", "slots"], "with ingress"),
        }
    }
}

impl Verb for SwitchTraffic {
    const NAME: &'static str = "switch-traffic";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.step.check(&self.given)?;
        let mut delivery = self.delivery.open().await?.take_over(self.fields.take_over);
        if matches!(self.step, Step::Stage | Step::Switch { .. }) {
            delivery = self.delivery.image.describe(delivery)?;
        }
        let eks = delivery.service.eks()?.clone();
        let (namespace, options) = (delivery.namespace().await?, delivery.eks_workload_options()?);
        if let Step::Ingress { name, from, to } = &self.step {
            let image = self.delivery.image(&delivery, &ui).await?;
            let ingress = namespace.ingress(name, [from, to], options);
            let ingress = eks.container.iter().fold(ingress, IngressSwitch::container);
            return Ok(ui.ended(ui.follow(ingress.switch(to, Some(&image))).await?));
        }
        let slots = match self.slots.as_slice() {
            [one, two] => Slots::new(&self.label, pair(one)?, pair(two)?)?,
            _ => Slots::of_service(&self.kubernetes_service),
        };
        let shop = namespace.blue_green(&self.kubernetes_service, slots, options);
        let shop = eks.container.iter().fold(shop, BlueGreen::container);
        let outcome = match self.step {
            Step::Stage => ui.follow(shop.stage(&self.delivery.image(&delivery, &ui).await?)).await?,
            Step::Switch { bake } => {
                let image = self.delivery.image(&delivery, &ui).await?;
                ui.follow(shop.bake(bake.unwrap_or_default()).switch(&image)).await?
            }
            Step::Back => ui.follow(shop.switch_back()).await?,
            Step::CleanUp => return Ok(ui.traffic(&shop.clean_up().await?)),
            Step::Status | Step::Ingress { .. } => return Ok(ui.traffic(&shop.traffic().await?)),
        };
        Ok(ui.ended(outcome))
    }
}

/// Both sides of `slot=deployment`.
fn pair(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('=')
        .ok_or_else(|| Failure::bad_input(format!("--slots: {text:?} is not SLOT=DEPLOYMENT")))
}
