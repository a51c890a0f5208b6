//! Gates as smoke tests before the traffic moves, and as checks after it has moved.

use bp_artifact::{
    ExitCode, Outcome, ResolvedImage,
    check::{CheckReport, CheckVerdict, check_until},
    deploy::{GateName, OnFailure},
};
use bp_eks::BlueGreen;

use crate::{Delivery, Failure, Ui, cli::End, gates::step_check};

/// The result of several checks.
enum Checked {
    Passed,
    /// The first one that did not pass.
    Not(GateName, CheckReport),
    /// A signal.
    Stopped,
}

/// Runs the checks of these gates in order, until one does not pass.
async fn run(
    ui: &Ui,
    delivery: &Delivery,
    image: &ResolvedImage,
    gates: &[GateName],
) -> Result<Checked, Failure> {
    let mut checks = Vec::new();
    // An invalid one is found before the first is run.
    for gate in gates {
        checks.push((gate, step_check(gate, delivery, image).await?));
    }
    let _followed = ui.stop().following();
    for (gate, (check, wait)) in checks {
        ui.say(format!("gate {gate}: checking {}", check.name()));
        let report = tokio::select! {
            report = check_until(&*check, wait) => report,
            () = ui.stop().requested() => return Ok(Checked::Stopped),
        };
        ui.say(format!("gate {gate}: {report}"));
        if report.verdict != CheckVerdict::Passed {
            return Ok(Checked::Not(gate.clone(), report));
        }
    }
    Ok(Checked::Passed)
}

fn interrupted(what: &str) -> Failure {
    Failure::unavailable(format!("interrupted: {what}; rerun the same command to resume"))
        .with_exit_code(ExitCode::Interrupted)
}

/// Runs the smoke tests before anything is moved.
///
/// # Errors
/// When one fails (refused), or cannot be observed: nothing was changed.
pub(super) async fn before(
    ui: &Ui,
    delivery: &Delivery,
    image: &ResolvedImage,
    gates: &[GateName],
) -> Result<(), Failure> {
    let nothing = "no traffic was moved";
    match run(ui, delivery, image, gates).await? {
        Checked::Passed => Ok(()),
        Checked::Stopped => Err(interrupted(nothing)),
        Checked::Not(gate, report) => Err(match &report.verdict {
            CheckVerdict::Failed { .. } => Failure::refused(format!("gate {gate}: {report}; {nothing}")),
            _ => Failure::unavailable(format!("gate {gate}: {report}; {nothing}, rerun to check again")),
        }),
    }
}

/// Runs the checks after a switch that has succeeded, and switches back if one fails. One that cannot be observed is
/// neither: the traffic stays, and the same command checks again.
///
/// # Errors
/// When one cannot be observed, or fails and `deploy.on-failure` is `leave`.
pub(super) async fn after(
    ui: &Ui,
    delivery: &Delivery,
    image: &ResolvedImage,
    gates: &[GateName],
    service: &BlueGreen,
    (outcome, rolls_back_on_cancel): (Outcome, bool),
) -> Result<End, Failure> {
    let (gate, report) = match run(ui, delivery, image, gates).await? {
        Checked::Passed => return Ok(End::Ended(outcome)),
        Checked::Stopped if !rolls_back_on_cancel => {
            return Err(interrupted("the traffic stays where it was switched to"));
        }
        Checked::Stopped => {
            ui.say("interrupted: switching the traffic back");
            return Ok(End::RolledBack(ui.follow_rollback(service.switch_back()).await?));
        }
        Checked::Not(gate, report) => (gate, report),
    };
    match &report.verdict {
        CheckVerdict::Failed { .. } if delivery.service.deploy.on_failure == OnFailure::Leave => {
            let stays = "the traffic stays, because deploy.on-failure is leave";
            Err(Failure::refused(format!("gate {gate}: {report}; {stays}")).with_exit_code(ExitCode::Failed))
        }
        CheckVerdict::Failed { .. } => {
            ui.say(format!("gate {gate} failed: switching the traffic back"));
            Ok(End::RolledBack(ui.follow_rollback(service.switch_back()).await?))
        }
        _ => Err(Failure::unavailable(format!(
            "gate {gate}: {report}; the traffic stays, rerun the same command to check again"
        ))),
    }
}
