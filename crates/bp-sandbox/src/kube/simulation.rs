//! Simulation of a cluster over time: the due transitions of controllers and pods, in order.

use std::time::Duration;

use jiff::Timestamp;

use super::{controllers, kubelet, store::Key, world::World};

/// How many objects the transitions of one step may visit: well below 250 ms of work, for which the lock is held.
const VISITS: usize = 20_000;
/// How many rounds of transitions may be due at one instant before the next one is postponed.
const ROUNDS: u32 = 1_000;

/// The time of the next round of transitions. Transitions that cause each other at one instant would never end: after
/// many rounds they are postponed.
fn instant(now: Timestamp, due: Timestamp, rounds: &mut u32) -> Timestamp {
    *rounds = if due > now { 0 } else { *rounds + 1 };
    if *rounds <= ROUNDS {
        return now.max(due);
    }
    tracing::warn!(%now, "transitions without progress, postponed");
    *rounds = 0;
    now + Duration::from_millis(1)
}

impl World {
    /// Performs transitions that are due by `to`, each at its own time; returns whether all were performed. After a
    /// number of them the caller releases the lock and continues, so that other requests get their turn.
    #[must_use]
    pub(super) fn step(&mut self, to: Timestamp) -> bool {
        let (mut visits, mut rounds) = (0, 0);
        while let Some(due) = self.next_due().filter(|due| *due <= to) {
            if visits > VISITS {
                return false;
            }
            self.now = instant(self.now, due, &mut rounds);
            visits += 1 + self.store.len();
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
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::runtime::Runtime;

    /// A pod that no node accepts is scheduled again every 30 s, in a cluster with 2,000 other objects.
    #[test]
    fn a_step_with_much_to_do_ends_early_and_is_continued() {
        let runtime = Arc::new(Runtime::new(std::iter::empty()));
        let mut world = World::new(runtime, "amd64".to_owned(), Timestamp::UNIX_EPOCH);
        for n in 0..2_000 {
            let name = format!("map-{n}");
            let object = json!({ "kind": "ConfigMap", "metadata": { "name": name, "namespace": "shop" } });
            world.put(Key::new("configmaps", "shop", &name), object);
        }
        let pod = json!({ "kind": "Pod", "metadata": { "name": "web", "namespace": "shop" }, "spec": {} });
        world.put(Key::new("pods", "shop", "web"), pod);
        let to = Timestamp::UNIX_EPOCH + Duration::from_secs(3_600);
        let mut holds = 1;
        while !world.step(to) {
            assert!(world.now < to);
            holds += 1;
        }
        assert_eq!(world.now, to);
        assert!((10..30).contains(&holds), "{holds} holds of the lock for 120 rounds with 2,000 objects");
    }

    #[test]
    fn transitions_that_are_always_due_are_postponed() {
        let (mut now, mut rounds) = (Timestamp::UNIX_EPOCH, 0);
        let end = now + Duration::from_millis(3);
        let always_due = Timestamp::UNIX_EPOCH;
        let all = std::iter::from_fn(|| {
            now = instant(now, always_due, &mut rounds);
            (now < end).then_some(())
        });
        assert!((3_000..4_000).contains(&all.take(10_000).count()));
    }
}
