//! Verify an environment: rollout, digest and definition of its targets, image, secrets, load balancers, DNS and TLS of its
//! hosts, and the checks of its gates. Changes nothing, except by commands and Jobs of gates that are selected.
//!
//! ```no_run
//! use bp_artifact::{ExitCode, ResolvedImage};
//! use bp_delivery::{Delivery, Failure, verification::{Selection, Verifier}};
//!
//! # async fn verify(delivery: Delivery, image: ResolvedImage) -> Result<ExitCode, Failure> {
//! let environment = delivery.environment.clone();
//! let verifier = Verifier::new(environment, vec![(delivery, Some(image))], Selection::default(), Vec::new());
//! let found = verifier.verify().await?;
//! println!("{found}");
//! # Ok(ExitCode::from(&found)) }
//! ```

mod address;
#[cfg(feature = "preflight")]
mod balancers;
mod endpoint;
mod gates;
mod host;
mod image;
mod secrets;
mod target;

use std::{collections::BTreeSet, time::Duration};

use bp_artifact::{
    ExitCode, ResolvedImage,
    check::{CheckKind, CheckResult, Verification, Verified},
    config::EnvironmentConfig,
    time::TimeSource,
};
use futures_util::future::join_all;

pub use self::endpoint::{Endpoint, Expectation};
use self::host::{Host, Hosts};
use crate::{Delivery, Failure};

/// The time limit of one check, after which its result is unknown.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Which checks to run: by default all except the commands and Jobs of gates, unless bp.toml enables them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    only: Option<BTreeSet<CheckKind>>,
    skip: BTreeSet<CheckKind>,
}

impl Selection {
    /// Runs only these checks, if any are given, and none of `skip`.
    pub fn new(only: impl IntoIterator<Item = CheckKind>, skip: impl IntoIterator<Item = CheckKind>) -> Self {
        let only: BTreeSet<CheckKind> = only.into_iter().collect();
        Selection { only: (!only.is_empty()).then_some(only), skip: skip.into_iter().collect() }
    }

    /// Whether to run this check.
    pub fn has(&self, kind: CheckKind) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&kind)) && !self.skip.contains(&kind)
    }

    /// Whether the check was asked for by its name.
    fn names(&self, kind: CheckKind) -> bool {
        self.only.as_ref().is_some_and(|only| only.contains(&kind)) && !self.skip.contains(&kind)
    }

    /// Whether one of the checks compares with an image.
    pub fn needs_image(&self) -> bool {
        use CheckKind::{Definition, Digest, Image, Rollout};
        [Rollout, Digest, Definition, Image].into_iter().any(|kind| self.has(kind))
            || self.names(CheckKind::Command)
    }
}

/// The services of an environment with their images, and the checks to run.
pub struct Verifier {
    environment: EnvironmentConfig,
    services: Vec<(Delivery, Option<ResolvedImage>)>,
    selection: Selection,
    endpoints: Vec<Endpoint>,
    time: TimeSource,
}

impl Verifier {
    /// Verifies these services of `environment`, each with its image, which may be `None` if no selected check
    /// [needs it](Selection::needs_image); and `endpoints` in addition to those of the environment's gates.
    pub fn new(
        environment: EnvironmentConfig,
        services: Vec<(Delivery, Option<ResolvedImage>)>,
        selection: Selection,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        Verifier { environment, services, selection, endpoints, time: TimeSource::system() }
    }

    /// Runs all checks once. What cannot be observed is a result, not an error.
    ///
    /// # Errors
    /// When the URL of an endpoint is invalid.
    ///
    /// # Permissions
    /// Those of the checks: [`Target::drift`](bp_artifact::deploy::Target::drift), `ecr:BatchGetImage`,
    /// [`secrets::checked`](crate::secrets::checked), [`Namespace::exposure`](bp_eks::Namespace::exposure),
    /// `elasticloadbalancing:DescribeTargetGroups`, `DescribeTargetHealth` and `DescribeLoadBalancers`,
    /// `cloudwatch:DescribeAlarms`. Without one of them, the result of its check is unknown.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only. A Job of a gate that was created remains until its time limit.
    pub async fn verify(&self) -> Result<Verification, Failure> {
        let of_services = join_all(self.services.iter().map(|service| self.service(service))).await;
        let mut hosts = Hosts::default();
        let mut rows = Vec::new();
        for (found, of_service) in of_services {
            rows.extend(found);
            of_service.into_iter().for_each(|host| hosts.add(host));
        }
        let checks = self.checks().await?;
        for url in checks.iter().filter_map(|check| check.url.as_ref()) {
            hosts.add(Host::of(url));
        }
        rows.extend(hosts.check(&self.selection, &self.time).await);
        let selected = checks.iter().filter(|check| check.is_selected(&self.selection));
        rows.extend(join_all(selected.map(gates::Prepared::row)).await);
        Ok(Verification::new(self.environment.name.as_str(), self.time.now(), rows))
    }

    /// The rows of a service, and the hosts by which it is reached.
    async fn service(
        &self,
        (delivery, image): &(Delivery, Option<ResolvedImage>),
    ) -> (Vec<Verified>, Vec<Host>) {
        let mut rows = Vec::new();
        let mut hosts = Vec::new();
        if let Some(image) = image.as_ref().filter(|_| self.selection.has(CheckKind::Image)) {
            rows.push(image::row(delivery, image).await);
        }
        if delivery.service.has_ecs() {
            rows.extend(self.ecs(delivery, image.as_ref()).await);
        }
        if delivery.service.has_eks() {
            let (found, of_pods) = self.eks(delivery, image.as_ref()).await;
            rows.extend(found);
            hosts.extend(of_pods);
        }
        (rows, hosts)
    }
}

/// Runs a check within the time limit.
async fn limited(target: &str, kind: CheckKind, check: impl Future<Output = Vec<Verified>>) -> Vec<Verified> {
    match tokio::time::timeout(TIMEOUT, check).await {
        Ok(rows) => rows,
        Err(_) => {
            vec![Verified::new(target, kind, CheckResult::Unknown, format!("no answer within {TIMEOUT:?}"))]
        }
    }
}

/// The row of a check that ended with an error: an object that does not exist, or is not as configured, is a failure;
/// what cannot be reached or read is unknown.
fn failed(target: &str, kind: CheckKind, failure: &Failure) -> Verified {
    let result = match failure.exit_code() {
        ExitCode::BadInput
        | ExitCode::Refused
        | ExitCode::Drift
        | ExitCode::Failed
        | ExitCode::RolledBack => CheckResult::Fail,
        ExitCode::Done
        | ExitCode::Unexpected
        | ExitCode::Unavailable
        | ExitCode::Superseded
        | ExitCode::AwaitingApproval
        | ExitCode::RunFailed
        | ExitCode::HungUp
        | ExitCode::Interrupted
        | ExitCode::Terminated
        | ExitCode::Child(_) => CheckResult::Unknown,
    };
    Verified::new(target, kind, result, failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_checks_by_name() {
        use CheckKind::{Command, Digest, Http, Tls};
        let all = Selection::default();
        assert!(all.has(Http) && all.has(Digest) && all.needs_image() && !all.names(Command));
        let web = Selection::new([Http, Tls], [Tls]);
        assert!(web.has(Http) && !web.has(Tls) && !web.has(Digest) && !web.needs_image());
        let command = Selection::new([Command], []);
        assert!(command.names(Command) && command.needs_image());
        assert!(!Selection::new([], [Http]).has(Http));
    }

    #[test]
    fn what_cannot_be_reached_is_unknown_and_what_does_not_exist_is_a_failure() {
        let row = |failure| failed("ecs/a/b", CheckKind::Rollout, &failure).result;
        assert_eq!(row(Failure::unavailable("denied")), CheckResult::Unknown);
        assert_eq!(row(Failure::unexpected("not JSON")), CheckResult::Unknown);
        assert_eq!(row(Failure::bad_input("the service does not exist")), CheckResult::Fail);
    }
}
