//! Switch target: an Ingress and two permanent Services.

use std::sync::Arc;

use bp_artifact::{Operation, ResolvedImage, deploy::Reporter, text::SingleLine};
use tracing::{field::Empty, info_span};

use super::BackendSwitch;
use crate::{
    api::scope::Scope,
    options::Options,
    traffic::{api::Switch, error::TrafficError},
};

/// Switches the backends of an Ingress between two permanent Services. Cheap to clone.
///
/// Each Service has its own Deployment; deploy to the idle one with [`EksTarget`](crate::EksTarget), test it, then
/// switch. To roll back, switch to the other Service.
///
/// ```no_run
/// # async fn run(client: kube::Client, image: bp_artifact::ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bp_eks::{Cluster, Options};
///
/// let options = Options::new(Duration::from_secs(60))?;
/// let namespace = Cluster::new(client, "prod").namespace("shop");
/// let shop = namespace.ingress("shop", ["web-blue", "web-green"], options);
/// let switched = shop.switch("web-green", Some(&image)).await?;
/// let back = shop.switch("web-blue", None).await?;
/// let live = shop.live().await?; // Some("web-blue")
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct IngressSwitch(Arc<BackendSwitch>);

impl IngressSwitch {
    pub(crate) fn of(namespace: Scope, ingress: String, services: [String; 2], options: Options) -> Self {
        let id = namespace.target(&format!("ingress/{ingress}"));
        IngressSwitch(Arc::new(BackendSwitch { namespace, id, ingress, services, container: None, options }))
    }

    /// The container whose digest is verified; defaults to the only one.
    pub fn container(self, name: impl Into<String>) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.container = Some(name.into());
        IngressSwitch(Arc::new(inner))
    }

    /// Points every backend of the other Service to the Service `to`, in one JSON patch that tests each value before it
    /// replaces it. With `image`, the pods behind `to` must be verified to run it; otherwise their pinned digest is
    /// verified.
    ///
    /// Idempotent: when the backends reference `to` already, nothing changes.
    ///
    /// An Ingress of an Application Load Balancer is refused: its controller creates a target group for each backend,
    /// and deletes that of a Service which is no longer one, which drops connections at once.
    ///
    /// # Errors
    /// [`TrafficError::TargetGroupReplaced`] for an Application Load Balancer. When the Ingress or the Service is
    /// missing, no backend references either Service, `to` lacks the port or a ready pod, the pods run another image, or
    /// another field manager owns the rules ([`Options::take_over`]).
    ///
    /// # Permissions
    /// RBAC: `get`, `patch` on `ingresses.networking.k8s.io`; `get` on `services`; `list` on `pods`, and on
    /// `ingressclasses.networking.k8s.io` (cluster-wide): without it, class name and annotations identify the controller.
    ///
    /// # Cancel safety
    /// Cancelling before the patch changes nothing; the patch is atomic.
    pub fn switch(&self, to: &str, image: Option<&ResolvedImage>) -> Switch {
        let span = info_span!("ingress_switch", target_id = %SingleLine(&self.0.id), to = %SingleLine(to), verdict = Empty);
        let (inner, to, image) = (Arc::clone(&self.0), to.to_owned(), image.cloned());
        let work = |events| async move {
            let reporter = Reporter::new(&events, inner.id.clone());
            inner.switch(&to, image, &reporter).await
        };
        span.in_scope(|| Operation::spawn(work))
    }

    /// The Service that the backends reference; `None` when they reference both.
    ///
    /// # Errors
    /// When the Ingress cannot be read, or references neither Service.
    ///
    /// # Permissions
    /// RBAC: `get` on `ingresses.networking.k8s.io`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn live(&self) -> Result<Option<String>, TrafficError> {
        let ingress = self.0.namespace.ingress(&self.0.ingress).await?;
        let routes = self.0.routes(&ingress)?;
        let first = routes[0].service.clone();
        Ok(routes.iter().all(|route| route.service == first).then_some(first))
    }
}
