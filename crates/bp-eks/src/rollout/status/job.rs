//! A Job, by its conditions, as `kubectl wait` reads them: complete, failed, or at work.

use k8s_openapi::api::batch::v1::Job;

use super::{super::text::Text, RolloutStatus, Stage};

pub(super) fn status(job: &Job) -> RolloutStatus {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut holding = conditions.filter(|condition| condition.status.text() == "True");
    let end = holding.find(|condition| matches!(condition.type_.text(), "Complete" | "Failed"));
    match end {
        Some(end) if end.type_.text() == "Complete" => RolloutStatus::Complete,
        Some(end) => RolloutStatus::Failed(format!("{}: {}", end.reason.text(), end.message.text())),
        None => RolloutStatus::Progressing(Stage::Working),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_its_conditions() {
        let working = RolloutStatus::Progressing(Stage::Working);
        let failed = RolloutStatus::Failed("BackoffLimitExceeded: said".into());
        for (conditions, expected) in [
            (json!([]), working.clone()),
            (json!([{ "type": "Suspended", "status": "True" }]), working.clone()),
            // The pods are still ending.
            (json!([{ "type": "FailureTarget", "status": "True" }]), working.clone()),
            (json!([{ "type": "SuccessCriteriaMet", "status": "True" }]), working.clone()),
            (json!([{ "type": "Complete", "status": "False" }]), working),
            (
                json!([{ "type": "SuccessCriteriaMet", "status": "True" }, { "type": "Complete", "status": "True" }]),
                RolloutStatus::Complete,
            ),
            (
                json!([{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "said" }]),
                failed,
            ),
        ] {
            let job = serde_json::from_value(json!({ "status": { "conditions": conditions } })).unwrap();
            assert_eq!(status(&job), expected, "{conditions}");
        }
        assert_eq!(status(&Job::default()), RolloutStatus::Progressing(Stage::Working));
    }
}
