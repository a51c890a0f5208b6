//! Run all checks of an environment once.

use bp_artifact::{
    ResolvedImage,
    check::{CheckKind, Verification, Verified},
    config::EnvironmentConfig,
    time::TimeSource,
};
use futures_util::future::join_all;

use super::{
    endpoint::Endpoint,
    gates,
    host::{Host, Hosts},
    image,
    selection::Selection,
    target,
};
use crate::{Delivery, Failure};

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
        let checks =
            gates::checks(&self.environment, &self.services, &self.selection, &self.endpoints).await?;
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
            rows.extend(target::ecs(delivery, image.as_ref(), &self.selection).await);
        }
        if delivery.service.has_eks() {
            let (found, of_pods) = target::eks(delivery, image.as_ref(), &self.selection).await;
            rows.extend(found);
            hosts.extend(of_pods);
        }
        (rows, hosts)
    }
}
