//! `switch-traffic shift`: traffic in steps, by the weights of two Services.

use std::time::Duration;

use super::smoke;
use crate::{
    Delivery, Failure, Ui,
    cli::{DeliveryArgs, End, GivenFlags, ReceiptArgs, RollbackOnCancelArgs, conclude},
};
use bp_artifact::{
    ExitCode,
    config::{TrafficConfig, TrafficObject, TrafficSteps},
    deploy::GateName,
    time::parse_duration,
};

/// The options of a shift.
#[derive(Debug, clap::Args)]
pub(super) struct ShiftArgs {
    #[command(flatten)]
    given: GivenFlags,
    /// Ingress or HTTPRoute with the weights, as in httproute/shop; defaults to eks.traffic.object of bp.toml
    #[arg(long, value_name = "KIND/NAME", requires = "services")]
    object: Option<TrafficObject>,
    /// The two Services, separated by a comma; defaults to eks.traffic.services of bp.toml
    #[arg(long, value_name = "SERVICE,SERVICE", value_parser = pair, requires = "object")]
    services: Option<[String; 2]>,
    /// Action of the Ingress with the weights, when there are several; defaults to eks.traffic.action of bp.toml
    #[arg(long, value_name = "NAME")]
    action: Option<String>,
    /// Service that receives the traffic; defaults to the one whose pods run the image
    #[arg(long, value_name = "SERVICE")]
    to_service: Option<String>,
    /// Percentages of the traffic, the last one 100; defaults to eks.traffic.steps of bp.toml, or else to 5,25,50,100
    #[arg(long, value_name = "PERCENT,...")]
    steps: Option<TrafficSteps>,
    /// Watch the new pods under traffic for this time, and switch back if they fail
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    bake: Option<Duration>,
    /// Gates of bp.toml that are checked before any traffic moves, separated by commas
    #[arg(long, value_name = "GATE", value_delimiter = ',')]
    smoke: Vec<GateName>,
    /// Gates of bp.toml that are checked after the traffic has moved; if one fails, it is returned; separated by commas
    #[arg(long, value_name = "GATE", value_delimiter = ',')]
    checks: Vec<GateName>,
    /// Restore the weights before the last shift, in one step
    #[arg(long = "return", conflicts_with = "show")]
    back: bool,
    /// Show the shares of the two Services; changes nothing
    #[arg(long)]
    show: bool,
}

/// Splits `web-blue,web-green`.
fn pair(text: &str) -> Result<[String; 2], String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let pair = <[String; 2]>::try_from(names).ok().filter(|pair| pair.iter().all(|name| !name.is_empty()));
    pair.ok_or_else(|| "expected two Services, as in web-blue,web-green".to_owned())
}

/// The flags of the verb that only a shift of an image has.
const IMAGE: &[&str] = &["image", "artifact", "image-timeout", "receipt", "rollback-on-cancel"];

impl ShiftArgs {
    /// Refuses the flags that have no effect.
    pub(super) fn check(&self, given: &GivenFlags) -> Result<(), Failure> {
        given.refuse(&["kubernetes-service", "slots", "label"], "with shift")?;
        let of_shift = ["to-service", "steps", "bake", "smoke", "checks"];
        if self.back {
            given.refuse(IMAGE, "with --return")?;
            self.given.refuse(&of_shift, "with --return")?;
        }
        if self.show {
            given.refuse(&[IMAGE, &["timeout", "take-over"]].concat(), "with --show")?;
            self.given.refuse(&of_shift, "with --show")?;
        }
        Ok(())
    }

    /// The settings of bp.toml with those of the flags.
    fn config(&self, delivery: &Delivery) -> Result<TrafficConfig, Failure> {
        let known = delivery.service.eks()?.traffic.clone();
        let given = self.object.clone().zip(self.services.clone());
        let given = given.map(|(object, services)| TrafficConfig::new(object, services));
        let mut config = match (given, known) {
            // Another object has its own action, and is shifted in the same way.
            (Some(mut given), Some(known)) => {
                (given.steps, given.bake, given.checks) = (known.steps, known.bake, known.checks);
                given.smoke = known.smoke;
                given.target_health = known.target_health;
                given
            }
            (Some(config), None) | (None, Some(config)) => config,
            (None, None) => {
                return Err(Failure::bad_input(
                    "no weights are configured: set eks.traffic.object and eks.traffic.services in bp.toml, or give \
                     --object and --services",
                ));
            }
        };
        config.action = self.action.clone().or(config.action);
        config.steps = self.steps.clone().unwrap_or(config.steps);
        config.bake = self.bake.unwrap_or(config.bake);
        if !self.smoke.is_empty() {
            config.smoke.clone_from(&self.smoke);
        }
        if !self.checks.is_empty() {
            config.checks.clone_from(&self.checks);
        }
        Ok(config)
    }

    /// Shifts the traffic, returns it, or shows the shares.
    pub(super) async fn run(
        self,
        ui: &Ui,
        delivery: &Delivery,
        args: &DeliveryArgs,
        receipt: &ReceiptArgs,
        on_cancel: &RollbackOnCancelArgs,
    ) -> Result<ExitCode, Failure> {
        let config = self.config(delivery)?;
        if self.show {
            let shares = delivery.weights(&config, None).await?.shares().await?;
            let line = |share: &bp_eks::traffic::ServiceShare| {
                let weights: Vec<String> = share.weights.iter().map(ToString::to_string).collect();
                format!("{}: {} % (weight {})", share.service, share.percent, weights.join(", "))
            };
            ui.results(shares.services.iter().map(line), &shares);
            return Ok(ExitCode::Done);
        }
        if self.back {
            let traffic = delivery.weights(&config, None).await?;
            return Ok(ui.ended(ui.follow(traffic.return_traffic()).await?));
        }
        let image = args.image(delivery, ui).await?;
        let traffic = delivery.weights(&config, Some(&image)).await?;
        smoke::before(ui, delivery, &image, &config.smoke).await?;
        let receipt = receipt.start(ui, &traffic, &image).await?;
        let end = ui.follow(traffic.shift(self.to_service.as_deref(), Some(&image))).await.map(End::Ended);
        let end = on_cancel.end(ui, &traffic, &receipt, end).await;
        conclude(ui, Some(receipt), end)
    }
}
