//! An Ingress' backend from one permanent Service to another: right for load balancers too, whose target groups stay.

use std::sync::Arc;

use bp_artifact::{Operation, ResolvedImage, deploy::Reporter};

use super::BackendSwitch;
use crate::{
    api::scope::Scope,
    options::Options,
    traffic::{api::Switch, error::TrafficError},
};

/// An Ingress whose traffic goes to one of two permanent Services. Cheap to clone.
///
/// Each Service has a Deployment of its own; deploy to the idle one with [`EksTarget`](crate::EksTarget), try it, then
/// switch. To go back, switch to the other one.
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

    /// The container whose digest is shown; defaults to the only one.
    pub fn container(self, name: impl Into<String>) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.container = Some(name.into());
        IngressSwitch(Arc::new(inner))
    }

    /// Leads every backend that goes to the other Service to the Service `to`, in one JSON patch that tests what it
    /// replaces. With `image`, the pods behind `to` must be seen to run it; without, what they are pinned to is shown.
    ///
    /// Running it again when it is done changes nothing.
    ///
    /// A load balancer follows when its controller has registered the new targets: keep the other Deployment up until
    /// they are healthy.
    ///
    /// # Errors
    /// When Ingress or Service are missing, no backend leads to either Service, `to` lacks the port or a ready pod, the
    /// pods run something else than `image`, or somebody else owns the rules ([`Options::take_over`]).
    ///
    /// # Permissions
    /// RBAC: `get`, `patch` on `ingresses.networking.k8s.io`; `get` on `services`; `list` on `pods`.
    ///
    /// # Cancel safety
    /// Cancelled before its patch it changes nothing; the patch is all or nothing.
    pub fn switch(&self, to: &str, image: Option<&ResolvedImage>) -> Switch {
        let (inner, to, image) = (Arc::clone(&self.0), to.to_owned(), image.cloned());
        Operation::spawn(|events| async move {
            let reporter = Reporter::new(&events, inner.id.clone());
            inner.switch(&to, image, &reporter).await
        })
    }

    /// The Service that the backends lead to; `None` when some lead to one and some to the other.
    ///
    /// # Errors
    /// When the Ingress cannot be read, or leads to neither.
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
