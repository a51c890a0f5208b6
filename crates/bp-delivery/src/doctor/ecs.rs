//! ECS: the service can be read, and which permissions cannot be tried.

use bp_secrets::Depth;

use super::{
    checks::Doctor,
    row::{Row, State},
};
use crate::{Delivery, secrets};

impl Doctor {
    pub(super) async fn ecs(&self, delivery: &Delivery) -> Vec<Row> {
        let Ok(ecs) = delivery.service.ecs() else { return Vec::new() };
        let check = format!("ecs {}/{}", ecs.cluster, ecs.service);
        let mut rows = match self.within(&check, async { Ok(read(&check, delivery).await) }).await {
            Ok(rows) => rows,
            Err(row) => vec![row],
        };
        if !ecs.secrets.is_empty() {
            let check = format!("secrets of {}", ecs.service);
            rows.push(self.row(&check, references(&check, delivery)).await);
        }
        let mut actions = vec!["ecs:RegisterTaskDefinition", "ecs:UpdateService", "iam:PassRole"];
        let mut files = vec!["docs/iam/deploy-ecs.json"];
        if ecs.tagging {
            actions.push("ecs:TagResource");
        }
        if !ecs.tasks.before.is_empty() || !ecs.tasks.after.is_empty() {
            actions.push("ecs:RunTask");
            files.push("docs/iam/run-task.json");
        }
        if ecs.schedules {
            actions.extend(["events:PutTargets", "scheduler:UpdateSchedule"]);
            files.push("docs/iam/schedules.json");
        }
        rows.push(
            Row::new(
                format!("ecs writes of {}", ecs.service),
                State::NotTried,
                format!("{}: AWS has no dry run for them", actions.join(", ")),
            )
            .remedy(format!("compare the policy of the role with {}", files.join(", "))),
        );
        rows
    }
}

/// Reads the service and its tasks, as a deployment does.
async fn read(check: &str, delivery: &Delivery) -> Vec<Row> {
    let remedy = "correct ecs.cluster and ecs.service, or the policy of the role (docs/iam/deploy-ecs.json)";
    let target = match delivery.ecs().await {
        Ok(target) => target,
        Err(failure) => {
            return vec![Row::of_failure(check, &failure, "correct the settings of ecs in bp.toml")];
        }
    };
    let current = match target.current().await {
        Ok(current) => current,
        Err(error) => return vec![Row::of_error(check, &error, remedy)],
    };
    let mut rows = vec![Row::ok(check, format!("readable, runs {}", current.stable.short_id()))];
    if let Err(error) = target.prove().await {
        rows.push(Row::of_error(format!("{check}, tasks"), &error, remedy));
    }
    rows
}

/// Whether the secrets of bp.toml exist, without reading a value.
async fn references(check: &str, delivery: &Delivery) -> Row {
    let remedy = "secrets check shows each reference";
    let bindings = match secrets::of_service(delivery).await {
        Ok(bindings) => bindings,
        Err(failure) => return Row::of_failure(check, &failure, remedy),
    };
    let report = secrets::checked(&bindings, &delivery.clients, Depth::Describe).await;
    let wrong = report.checked.iter().filter_map(|one| Some((&one.reference, one.error.as_ref()?)));
    // What is missing matters more than what could not be asked.
    match wrong.min_by_key(|(_, error)| error.is_retryable()) {
        Some((_, error)) => Row::of_error(check, error, remedy),
        None => Row::ok(check, format!("{} exist", report.checked.len())),
    }
}
