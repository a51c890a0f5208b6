//! Simulated Kubernetes cluster: API server, workload controllers, scheduler and a scripted kubelet.
//!
//! Objects are stored as the JSON that clients send. Get, list, watch, create, update, delete and all patches are
//! supported for every kind in `kubectl api-resources` and for custom resources, in JSON and protobuf; the controllers and
//! the kubelet advance Deployments, ReplicaSets and pods with the sandbox's clock. Server-side apply tracks
//! `managedFields` and reports conflicts like a real server.

mod access;
mod api;
mod api_server;
mod apply;
mod auth;
mod call;
mod conform;
mod container;
mod controllers;
mod custom;
mod daemon_set;
mod defaults;
mod definition;
mod deletion;
mod deployment;
mod discovery;
mod disruption;
mod endpoints;
mod fields;
mod garbage;
mod job;
mod kubelet;
mod load_balancers;
mod log;
mod native;
mod negotiation;
mod objects;
mod openapi;
mod options;
mod patch;
mod payload;
mod pods;
mod protobuf;
mod resource;
mod reviews;
mod revisions;
mod rules;
mod run;
mod schema;
mod selector;
mod simulation;
mod stateful_set;
mod status;
mod store;
mod table;
mod validate;
mod watch;
mod world;

use std::sync::{Arc, Mutex, MutexGuard};

#[cfg_attr(not(feature = "aws"), allow(unused_imports))]
pub(crate) use self::rules::PodIdentity;
pub use self::{
    auth::{SECRET_ACCESS_KEY, verify_token},
    native::ObjectChange,
    options::ClusterOptions,
};
use self::{resource::Resources, rules::Rules, world::World};
#[cfg(feature = "aws")]
use crate::aws::Identities;
use crate::{clock::Clock, runtime::Runtime, sync::lock};

/// The Kubernetes API of one EKS cluster.
pub struct Cluster {
    name: String,
    host: String,
    options: ClusterOptions,
    clock: Clock,
    #[cfg(feature = "aws")]
    identities: Arc<Identities>,
    world: Mutex<World>,
    rules: Mutex<Rules>,
    /// The same as in the world.
    resources: Resources,
    /// The store's version: watches wait for it to change.
    changed: tokio::sync::watch::Sender<u64>,
    /// Open watches end when this changes.
    restarted: tokio::sync::watch::Sender<()>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) fn new(
        name: &str,
        options: ClusterOptions,
        clock: Clock,
        runtime: Arc<Runtime>,
        #[cfg(feature = "aws")] identities: Arc<Identities>,
    ) -> Self {
        let host = format!("{name}.gr7.{}.eks.amazonaws.com", options.region);
        let world = World::new(runtime, options.architecture.clone(), clock.now());
        let cluster = Cluster {
            name: name.to_owned(),
            host,
            clock,
            #[cfg(feature = "aws")]
            identities,
            resources: world.resources.clone(),
            world: Mutex::new(world),
            rules: Mutex::default(),
            changed: tokio::sync::watch::Sender::new(0),
            restarted: tokio::sync::watch::Sender::new(()),
            options,
        };
        cluster.create_defaults();
        cluster
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host of the cluster's endpoint.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The options that it was built with.
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// The state as of now.
    fn enter(&self) -> MutexGuard<'_, World> {
        // Fixed, so that an accelerated clock cannot outrun the simulation for ever.
        let now = self.clock.now();
        loop {
            let mut world = lock(&self.world);
            if world.step(now) {
                return world;
            }
            drop(world);
            std::thread::yield_now();
        }
    }

    /// Changes the state as of now, and wakes the watches.
    fn write<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.enter();
        let result = change(&mut world);
        self.changed.send_replace(world.store.version());
        result
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.rules)
    }
}
