//! An unobserved outcome is not a failure: nothing is rolled back because of it, and the same command resumes.

use bp_artifact::{
    ExitCode, Verdict,
    deploy::{Receipt, ReceiptState, Target},
    error::ErrorClass,
    saga::{Saga, SagaEvent},
};

use crate::{
    deploy,
    fake::{End, Fake, revision},
    image, process, receipt_path, targets,
};

/// The ways in which a target's outcome is unobserved or pending.
const OPEN: [End; 5] = [
    End::Verdict(Verdict::Unobserved),
    End::Verdict(Verdict::DeadlineExceeded),
    End::Verdict(Verdict::AwaitingApproval),
    End::Refused(ErrorClass::Unavailable),
    End::Lost,
];

fn code(receipt: &Receipt) -> ExitCode {
    receipt.verdict.unwrap().into()
}

#[test]
fn does_not_roll_back_targets_because_another_is_unobserved() {
    for end in OPEN {
        let (_directory, path) = receipt_path();
        let good = Fake::new("ecs", End::Verdict(Verdict::Deployed)).slow(20);
        let open = Fake::new("eks", end);
        let receipt = deploy(&[&good, &open], &image("new"), &path).unwrap();
        let expected = match end {
            End::Verdict(verdict) => verdict,
            End::Refused(_) | End::Lost => Verdict::Unobserved,
        };
        assert_eq!(receipt.verdict, Some(expected), "{end:?}");
        assert_eq!(receipt.state, ReceiptState::Started, "{end:?}: it stays open");
        assert_eq!(Receipt::read(&path).unwrap(), receipt);
        assert!(
            good.runs(&image("new").reference.to_string()),
            "{end:?}: the other one was followed to its end"
        );
        assert!(good.changes().len() == 1 && open.changes().len() <= 1, "{end:?}: nothing is rolled back");
        let entry = receipt.target(&open.id()).unwrap();
        assert_eq!(entry.verdict(), Some(expected), "{end:?}");
        if matches!(end, End::Refused(_) | End::Lost) {
            let detail = &entry.outcome.as_ref().unwrap().detail;
            assert_eq!(detail, "Unavailable by the fake; run the same command again to resume");
        }

        // The same command resumes.
        let open = open.ending(End::Verdict(Verdict::Deployed));
        let receipt = deploy(&[&good, &open], &image("new"), &path).unwrap();
        assert_eq!((receipt.state, code(&receipt)), (ReceiptState::Finished, ExitCode::Done), "{end:?}");
        assert_eq!(receipt.target(&open.id()).unwrap().previous, revision("old"), "{end:?}");
        assert_eq!(
            (good.changes().len(), open.changes().len()),
            (1, 1),
            "{end:?}: adopted, not started again"
        );
    }
}

#[test]
fn a_known_failure_with_an_unobserved_rollback_is_a_failure() {
    let (_directory, path) = receipt_path();
    let good = Fake::new("ecs", End::Verdict(Verdict::Deployed));
    let failing = Fake::new("eks", End::Verdict(Verdict::Unobserved)).failing();
    let receipt = deploy(&[&good, &failing], &image("new"), &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::RolledBack));
    assert!(good.runs("old") && failing.runs("old"));
}

#[test]
fn a_failure_rolls_back_unobserved_targets_too() {
    for end in OPEN {
        let (_directory, path) = receipt_path();
        let open = Fake::new("ecs", end);
        let bad = Fake::new("eks", End::Verdict(Verdict::RolledBack)).slow(20);
        let receipt = deploy(&[&open, &bad], &image("new"), &path).unwrap();
        assert_eq!(
            (receipt.state, code(&receipt)),
            (ReceiptState::Finished, ExitCode::RolledBack),
            "{end:?}"
        );
        assert!(open.runs("old") && bad.runs("old"), "{end:?}");
    }
}

#[test]
fn an_unobserved_rollback_is_resumed() {
    for end in OPEN {
        let (_directory, path) = receipt_path();
        let open = Fake::new("ecs", End::Verdict(Verdict::Deployed));
        open.platform().restore = Some(end);
        let bad = Fake::new("eks", End::Verdict(Verdict::FailedInPlace)).slow(20);
        let receipt = deploy(&[&open, &bad], &image("new"), &path).unwrap();
        let expected = match end {
            End::Verdict(verdict) => verdict,
            End::Refused(_) | End::Lost => Verdict::Unobserved,
        };
        assert_eq!((receipt.state, receipt.verdict), (ReceiptState::RollingBack, Some(expected)), "{end:?}");
        assert!(bad.runs("old"), "{end:?}: the other one is restored");

        // The same command, and the rollback, finish it.
        open.platform().restore = None;
        let receipt = process(async { Saga::rollback(targets(&[&open, &bad]), &path).await }).unwrap();
        assert_eq!(
            (receipt.state, code(&receipt)),
            (ReceiptState::Finished, ExitCode::RolledBack),
            "{end:?}"
        );
        assert!(open.runs("old"), "{end:?}");
        assert_eq!(bad.changes().len(), 2, "{end:?}: a restored target is not changed again");
    }
}

#[test]
fn a_failed_rollback_takes_precedence_and_unobserved_ones_are_resumed() {
    for failed in [End::Verdict(Verdict::FailedInPlace), End::Refused(ErrorClass::BadInput)] {
        let (_directory, path) = receipt_path();
        let open = Fake::new("ecs", End::Verdict(Verdict::Deployed));
        open.platform().restore = Some(End::Lost);
        let bad = Fake::new("eks", End::Verdict(Verdict::FailedInPlace)).slow(20);
        bad.platform().restore = Some(failed);
        let receipt = deploy(&[&open, &bad], &image("new"), &path).unwrap();
        assert_eq!(
            (receipt.state, receipt.verdict),
            (ReceiptState::RollingBack, Some(Verdict::RollbackFailed)),
            "{failed:?}"
        );
        open.platform().restore = None;
        bad.platform().restore = None;
        let receipt = deploy(&[&open, &bad], &image("new"), &path).unwrap();
        assert_eq!(
            (receipt.state, code(&receipt)),
            (ReceiptState::Finished, ExitCode::RolledBack),
            "{failed:?}"
        );
        assert!(open.runs("old") && bad.runs("old"));
    }
}

#[test]
fn keeps_the_error_of_a_rejected_target_after_the_rollback() {
    let (_directory, path) = receipt_path();
    let good = Fake::new("ecs", End::Verdict(Verdict::Deployed));
    let wrong = Fake::new("eks", End::Refused(ErrorClass::BadInput)).slow(20);
    let receipt = deploy(&[&good, &wrong], &image("new"), &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::RolledBack));
    let entry = receipt.target(&wrong.id()).unwrap();
    assert_eq!(entry.error.as_deref(), Some("BadInput by the fake"));
    assert!(entry.is_restored());
}

#[test]
fn does_not_change_superseded_targets_and_adopts_their_revision() {
    for lost in [End::Verdict(Verdict::Superseded), End::Refused(ErrorClass::Superseded)] {
        let (_directory, path) = receipt_path();
        let theirs = Fake::new("ecs", lost);
        let open = Fake::new("eks", End::Lost);
        let receipt = deploy(&[&theirs, &open], &image("new"), &path).unwrap();
        assert_eq!(code(&receipt), ExitCode::Superseded, "{lost:?}");
        assert_eq!(receipt.state, ReceiptState::Started, "{lost:?}: the other one is to be resumed");
        theirs.platform().stable = "theirs".into();
        let (again, open) = (theirs.ending(End::Verdict(Verdict::Deployed)), open.ending(lost));
        let receipt = deploy(&[&again, &open], &image("new"), &path).unwrap();
        assert_eq!(receipt.target(&again.id()).unwrap().previous, revision("theirs"), "{lost:?}");
        assert_eq!(receipt.target(&open.id()).unwrap().previous, revision("old"), "{lost:?}");
    }
}

#[test]
fn emits_no_rollback_events_for_unobserved_targets() {
    let (_directory, path) = receipt_path();
    let (good, open) = (Fake::new("ecs", End::Verdict(Verdict::Deployed)), Fake::new("eks", End::Lost));
    let events = process(async {
        let mut saga = Saga::new(targets(&[&good, &open]), image("new"), &path).run();
        let mut events = Vec::new();
        while let Some(event) = saga.next_event().await {
            events.push(event);
        }
        saga.await.unwrap();
        events
    });
    assert!(!events.iter().any(|event| matches!(event, SagaEvent::Compensating { .. })), "{events:?}");
    assert!(matches!(events.last(), Some(SagaEvent::Ended { verdict: Verdict::Unobserved })), "{events:?}");
}
