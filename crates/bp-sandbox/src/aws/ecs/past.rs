//! The past of a service that is created in a steady state: its age, and the events of earlier deployments.

use std::time::Duration;

use super::{
    names::{deployment_number, hex_id},
    rollout::Phase,
    service::Service,
    world::World,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The age of the service and of its first deployment.
const AGE: Duration = DAY.saturating_mul(30);

/// From the creation of the first deployment until its start.
const STARTED_AFTER: Duration = Duration::from_millis(500);

impl Service {
    /// Skips the start of the first tasks, for a service that is created in a steady state.
    pub(super) fn settle(&mut self, world: &World<'_>) {
        let now = self.clock;
        if let Some(deployment) = self.under_way() {
            deployment.created -= STARTED_AFTER;
            deployment.enter(Phase::InProgress, None, now);
        }
        self.act(world);
        self.tasks = std::mem::take(&mut self.tasks).into_iter().map(|task| task.steady(now)).collect();
        self.act(world);
        self.backdate(AGE);
        self.remember_failures(world);
    }

    /// Makes the service older: its deployments and events.
    fn backdate(&mut self, by: Duration) {
        self.created -= by;
        for rollout in &mut self.rollouts {
            rollout.created -= by;
            rollout.updated -= by;
        }
        for deployment in &mut self.deployments {
            deployment.created -= by;
            deployment.started = deployment.started.map(|at| at - by);
            deployment.finished = deployment.finished.map(|at| at - by);
        }
        self.events.iter_mut().for_each(|event| event.at -= by);
    }

    /// Events as real services have them: a deployment that was rolled back three weeks ago, an unhealthy task nine
    /// days ago, and steady states. None concerns the current deployment.
    fn remember_failures(&mut self, world: &World<'_>) {
        let (account, region) = (&world.place.account, &world.place.region);
        let secret = format!(
            "was unable to place a task. Reason: ResourceInitializationError: unable to pull secrets or registry \
             auth: unable to retrieve secret from asm: There is a connection issue between the task and AWS Secrets \
             Manager. Check your task network configuration. failed to fetch secret \
             arn:aws:secretsmanager:{region}:{account}:secret:{}/database-zTocUO from secrets manager: operation \
             error Secrets Manager: GetSecretValue, https response error StatusCode: 0, RequestID: , canceled, \
             context deadline exceeded.",
            self.name
        );
        let (failed, stable) = (deployment_number(), self.primary);
        let (ill, replacement) = (hex_id(), hex_id());
        let unhealthy = match self.target() {
            Some(target) => format!(
                "(task {ill}) (port {}) is unhealthy in (target-group {}) due to (reason Health checks failed with \
                 these codes: [502]).",
                target.port, target.group
            ),
            None => format!("(task {ill}) failed container health checks."),
        };
        let ago = |days: u32, minutes: u64| DAY * days - Duration::from_secs(60 * minutes);
        let steady = || "has reached a steady state.".to_owned();
        for (age, message) in [
            (ago(21, 0), secret.clone()),
            (ago(21, 2), secret.clone()),
            (ago(21, 4), secret),
            (ago(21, 5), format!("(deployment ecs-svc/{failed}) deployment failed: tasks failed to start.")),
            (ago(21, 5), format!("rolling back to deployment ecs-svc/{stable}.")),
            (ago(21, 7), format!("(deployment ecs-svc/{stable}) deployment completed.")),
            (ago(21, 7), steady()),
            (ago(9, 0), unhealthy),
            (ago(9, 0), format!("has stopped 1 running tasks: (task {ill}).")),
            (ago(9, 1), format!("has started 1 tasks: (task {replacement}).")),
            (ago(9, 3), steady()),
            (ago(1, 0), steady()),
            (Duration::from_secs(6 * 3600), steady()),
        ] {
            self.remember(age, message);
        }
    }
}
