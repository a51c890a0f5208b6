//! Controllers of load balancers: the AWS Load Balancer Controller for Ingresses, and a Gateway API controller.
//!
//! The weights of an Ingress's actions and of an HTTPRoute's rules come into effect some time after a change, and the
//! controllers report it as the real ones do: in events of the Ingress, in the status of the route.

mod alb;
mod gateway;
pub(super) mod state;

use std::time::Duration;

use serde_json::json;

use super::{
    Cluster,
    resource::by_plural,
    store::{Key, Object},
    world::World,
};

pub(super) use gateway::complete;

/// How long a controller takes to bring a change into effect.
const TAKES: Duration = Duration::from_secs(1);
/// The pause after a failed attempt.
const RETRY: Duration = Duration::from_secs(5);

/// Runs both controllers once.
pub(super) fn reconcile(world: &mut World) {
    if world.load_balancers.stopped {
        return;
    }
    for plural in ["ingresses", "httproutes"] {
        let resource = by_plural(plural).expect("it is served");
        for object in world.store.list(plural, "").cloned().collect::<Vec<_>>() {
            if plural == "ingresses" && !alb::is_served(world, &object) {
                continue;
            }
            let key = Key::of(resource, &object);
            if is_due(world, &key, &object) {
                let shares = match plural {
                    "ingresses" => alb::reconcile(world, &key, &object),
                    _ => gateway::reconcile(world, &key, &object),
                };
                let now = world.now;
                let known = world.load_balancers.objects.entry(key).or_default();
                known.due = match shares {
                    Some(shares) => {
                        if known.history.last() != Some(&shares) {
                            known.history.push(shares);
                        }
                        None
                    }
                    None => Some(now + RETRY),
                };
                if let Some(due) = known.due {
                    world.wake_at(due);
                }
            }
        }
    }
}

/// Whether the next attempt is due: some time after a change, or after a failure.
fn is_due(world: &mut World, key: &Key, object: &Object) -> bool {
    let now = world.now;
    let annotations = &object["metadata"]["annotations"];
    let input = json!([object["spec"], annotations, object["metadata"]["uid"]]);
    let known = world.load_balancers.objects.entry(key.clone()).or_default();
    if known.input != input {
        known.input = input;
        known.due = Some(now + TAKES);
    }
    match known.due {
        Some(due) if due <= now => true,
        Some(due) => {
            world.wake_at(due);
            false
        }
        None => false,
    }
}

impl Cluster {
    /// Stops the controllers of load balancers: changes of Ingresses and HTTPRoutes have no effect.
    ///
    /// ```
    /// # let sandbox = bp_sandbox::Sandbox::builder()
    /// #     .cluster("shop", bp_sandbox::kube::ClusterOptions::default()).build();
    /// # let cluster = sandbox.cluster("shop");
    /// cluster.stop_load_balancing();
    /// cluster.start_load_balancing();
    /// ```
    pub fn stop_load_balancing(&self) {
        self.write(|world| world.load_balancers.stopped = true);
    }

    /// Starts the controllers of load balancers again.
    pub fn start_load_balancing(&self) {
        self.write(|world| {
            world.load_balancers.stopped = false;
            let now = world.now;
            world.wake_at(now);
        });
    }

    /// The weights of an Ingress or HTTPRoute (by plural) that were in effect, in order, the present ones last: for
    /// each action or rule the Services with their weights.
    pub fn weights_in_effect(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Vec<Vec<Vec<(String, u64)>>> {
        let Some(resource) = by_plural(plural) else { return Vec::new() };
        let key = Key::new(resource.plural, namespace, name);
        self.enter().load_balancers.objects.get(&key).map(|known| known.history.clone()).unwrap_or_default()
    }
}
