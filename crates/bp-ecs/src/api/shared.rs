//! State shared by the services of a cluster: joint API calls, common poll times, sequential registration.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_ecs::{
    Client,
    types::{Service, ServiceDeployment},
};
use bp_artifact::sync::{Batch, lock};
use tokio::time::Instant;

use crate::error::Error;

/// The maximum number of services per DescribeServices call.
const SERVICES: usize = 10;
/// The maximum number of deployments per DescribeServiceDeployments call.
const DEPLOYMENTS: usize = 20;

/// State shared by the services of a cluster.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) services: Batch<Service, Error>,
    pub(crate) deployments: Batch<ServiceDeployment, Error>,
    /// Serialises registrations, so that identical ones share a revision; the API accepts about one per second anyway.
    pub(crate) registering: tokio::sync::Mutex<()>,
    /// The number of running operations.
    active: AtomicUsize,
    /// The next common poll at the fast and at the slow interval.
    next_polls: Mutex<[Option<Instant>; 2]>,
}

impl Shared {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Shared {
            client,
            name,
            services: Batch::new(SERVICES),
            deployments: Batch::new(DEPLOYMENTS),
            registering: tokio::sync::Mutex::default(),
            active: AtomicUsize::new(0),
            next_polls: Mutex::default(),
        }
    }

    /// Counts an operation until the guard is dropped.
    pub(crate) fn start_operation(self: &Arc<Self>) -> OperationGuard {
        self.active.fetch_add(1, Ordering::SeqCst);
        OperationGuard(Arc::clone(self))
    }

    /// Whether several operations are running, whose calls can be joined.
    pub(crate) fn is_shared(&self) -> bool {
        self.active.load(Ordering::SeqCst) > 1
    }

    /// When to poll next: together with other operations at this interval, or after `pause` if none has set a time.
    pub(crate) fn next_poll(&self, slow: bool, pause: Duration) -> Instant {
        let now = Instant::now();
        let mut next = lock(&self.next_polls);
        let set = &mut next[usize::from(slow)];
        match *set {
            Some(at) if at > now => at,
            _ => *set.insert(bp_artifact::time::after(now, pause)),
        }
    }
}

/// A running operation.
#[derive(Debug)]
pub(crate) struct OperationGuard(Arc<Shared>);

impl Drop for OperationGuard {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}
