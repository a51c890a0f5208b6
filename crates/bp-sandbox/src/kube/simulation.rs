//! Simulation of a cluster over time: the due transitions of controllers and pods, in order.

use jiff::Timestamp;

use super::{controllers, kubelet, store::Key, world::World};

impl World {
    /// Performs all transitions that are due by `to`, each at its own time.
    pub(super) fn step(&mut self, to: Timestamp) {
        while let Some(due) = self.next_due().filter(|due| *due <= to) {
            self.now = self.now.max(due);
            if self.controllers.is_some_and(|at| at <= self.now) {
                self.controllers = None;
                controllers::reconcile(self);
            }
            let ready: Vec<Key> = self
                .pods
                .iter()
                .filter(|(_, run)| run.due().is_some_and(|at| at <= self.now))
                .map(|(key, _)| key.clone())
                .collect();
            for key in ready {
                kubelet::step(self, &key);
            }
        }
        self.now = self.now.max(to);
    }
}
