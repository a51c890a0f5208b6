//! Verify an environment: one table of checks. Changes nothing, except by commands and Jobs of gates that are selected.

use std::{path::PathBuf, time::Duration};

use bp_artifact::{
    ExitCode, ResolvedImage,
    check::{CheckKind, CheckResult, Verification},
    config::ServiceName,
    document,
    time::{self, Wait, parse_duration},
};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep_until};

use crate::{
    Delivery, Failure, Ui,
    cli::{EnvironmentArgs, GivenFlags, ImageArgs},
    program::Verb,
    verification::{Endpoint, Expectation, Selection, Verifier},
};

/// Verify an environment: rollout, digest and definition against the artifact, image, secrets, load balancers, hosts and
/// gates, in one table; changes nothing
///
/// Commands and Jobs of gates run only if bp.toml enables them (gate.NAME.verify) or --only selects them.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// Service of bp.toml; defaults to all services; repeatable
    #[arg(id = "service", long = "service", value_name = "NAME", env = "BP_SERVICE", value_delimiter = ',')]
    services: Vec<ServiceName>,
    #[command(flatten)]
    image: ImageArgs,
    /// Run only these checks: rollout, digest, definition, image, secrets, secret-keys, targets, address, dns, tls, http,
    /// alarms, command, job; separated by commas, repeatable
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<CheckKind>,
    /// Leave these checks out, in addition to verify.skip of bp.toml; separated by commas, repeatable
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    skip: Vec<CheckKind>,
    /// Also check this URL with GET, and DNS and TLS of its host; repeatable
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// What each --url must answer: a status (204), a field of the body as JSON (/status=ok), or a text in the body
    /// (text=1.4); repeatable; defaults to a status from 200 to 299
    #[arg(long = "expect", value_name = "EXPECTED", requires = "urls")]
    expected: Vec<Expectation>,
    /// File to write the results to, as JSON
    #[arg(long, value_name = "FILE", env = "BP_REPORT")]
    report: Option<PathBuf>,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Whether to repeat the checks.
#[derive(Debug, Clone, clap::Args)]
struct WatchArgs {
    /// Repeat the checks until --for has passed, and print them again when a result changes; the exit code is that of the
    /// last results
    #[arg(long)]
    watch: bool,
    /// With --watch, end with exit code 0 as soon as all checks pass
    #[arg(long, requires = "watch")]
    until_passed: bool,
    /// With --watch, how long: 90s, 15m, 1h30m
    #[arg(id = "for", long = "for", value_name = "TIME", value_parser = parse_duration, default_value = "15m", requires = "watch")]
    time: Duration,
    /// With --watch, the pause between two rounds of checks
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "15s", requires = "watch")]
    interval: Duration,
}

impl Verb for Verify {
    const NAME: &'static str = "verify";
    const HELP: crate::help::Help = crate::help::verbs::VERIFY;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.image.check()?;
        if let Some(report) = &self.report {
            document::check_writable(report)?;
        }
        let deliveries = self.environment.open_all(&self.services).await?;
        if self.image.image().is_some() && deliveries.len() > 1 {
            return Err(Failure::bad_input("--image is the image of one service: choose one with --service"));
        }
        let Some(environment) = deliveries.first().map(|delivery| delivery.environment.clone()) else {
            return Err(self.nothing());
        };
        let selection = Selection::new(
            self.only.iter().copied(),
            self.skip.iter().copied().chain(environment.verify_skips.iter().copied()),
        );
        if !selection.needs_image() {
            self.given
                .refuse(&["image", "artifact"], "with these checks, none of which compares with an image")?;
        }
        let endpoints = self.urls.iter().map(|url| Endpoint::new(url, self.expected.clone())).collect();
        let has_target = |delivery: &Delivery| delivery.service.has_ecs() || delivery.service.has_eks();
        let deployed = deliveries.into_iter().filter(|delivery| has_target(delivery));
        let services = try_join_all(deployed.map(|delivery| self.with_image(delivery, &selection))).await?;
        let verifier = Verifier::new(environment, services, selection, endpoints);
        let found =
            if self.watch.watch { self.watch(&ui, &verifier).await? } else { verifier.verify().await? };
        if found.checks.is_empty() {
            return Err(self.nothing());
        }
        if !self.watch.watch {
            ui.results(found.lines(), &found);
        }
        if let Some(report) = &self.report {
            found.write(report)?;
        }
        Ok((&found).into())
    }
}

impl Verify {
    fn nothing(&self) -> Failure {
        Failure::bad_input(format!(
            "environment {} has no target to verify: configure ecs or eks, or select other checks",
            self.environment.env
        ))
    }

    /// The image of a service, if a check compares with it. An image that is not in the registry can still be compared with
    /// what runs: that it is missing is the result of a check.
    async fn with_image(
        &self,
        delivery: Delivery,
        selection: &Selection,
    ) -> Result<(Delivery, Option<ResolvedImage>), Failure> {
        if !selection.needs_image() {
            return Ok((delivery, None));
        }
        let delivery = self.image.describe(delivery)?;
        let image = self.image.known(&delivery).await?;
        Ok((delivery, Some(image)))
    }

    /// Repeats the checks, and prints them when a result changes.
    async fn watch(&self, ui: &Ui, verifier: &Verifier) -> Result<Verification, Failure> {
        let end = time::deadline(self.watch.time);
        let wait = Wait::new(self.watch.time, self.watch.interval)?;
        let mut last: Option<Verification> = None;
        loop {
            let found = verifier.verify().await?;
            if found.checks.is_empty() {
                return Ok(found);
            }
            if last.as_ref().is_none_or(|last| !found.is_same(last)) {
                ui.results(found.lines(), &found);
            }
            let passed = self.watch.until_passed && found.result == CheckResult::Pass;
            let next = time::deadline(wait.pause());
            if passed || next >= end || Instant::now() >= end {
                return Ok(found);
            }
            last = Some(found);
            sleep_until(next).await;
        }
    }
}
