//! What the services of a cluster share, so that they ask together and register one by one.

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
use bp_artifact::sync::lock;
use tokio::time::Instant;

use super::batch::Batch;

/// How many services one call describes.
const SERVICES: usize = 10;
/// How many service deployments one call describes.
const DEPLOYMENTS: usize = 20;

/// What the services of a cluster share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) services: Batch<Service>,
    pub(crate) deployments: Batch<ServiceDeployment>,
    /// Registrations go one by one, so that equal ones meet; the API takes about one a second anyway.
    pub(crate) registering: tokio::sync::Mutex<()>,
    /// How many operations are at work.
    at_work: AtomicUsize,
    /// The next common look, at the brisk and at the calm pace.
    next: Mutex<[Option<Instant>; 2]>,
}

impl Shared {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Shared {
            client,
            name,
            services: Batch::new(SERVICES),
            deployments: Batch::new(DEPLOYMENTS),
            registering: tokio::sync::Mutex::default(),
            at_work: AtomicUsize::new(0),
            next: Mutex::default(),
        }
    }

    /// Counts an operation as long as what is returned lives.
    pub(crate) fn at_work(self: &Arc<Self>) -> AtWork {
        self.at_work.fetch_add(1, Ordering::SeqCst);
        AtWork(Arc::clone(self))
    }

    /// Whether several operations could ask together.
    pub(crate) fn is_shared(&self) -> bool {
        self.at_work.load(Ordering::SeqCst) > 1
    }

    /// When to look next: with the others of this pace, or after `pause` when none has set a time.
    pub(crate) fn next_look(&self, calm: bool, pause: Duration) -> Instant {
        let now = Instant::now();
        let mut next = lock(&self.next);
        let set = &mut next[usize::from(calm)];
        match *set {
            Some(at) if at > now => at,
            _ => *set.insert(bp_artifact::time::after(now, pause)),
        }
    }
}

/// An operation at work.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<Shared>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
    }
}
