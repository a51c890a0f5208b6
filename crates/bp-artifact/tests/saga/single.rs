//! The receipt of a deployment to one target, which the caller runs.

use std::path::PathBuf;

use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{
        Receipt, ReceiptState, RollbackCheck, Target,
        preflight::{Finding, FindingState},
    },
    error::{Classified, ErrorClass},
    saga::{Saga, SagaError, SingleReceipt},
};

use super::{End, Fake, deploy, image, process, receipt_path, revision, targets};

/// Deploys as the binaries for one target do.
fn single(fake: &Fake, image: &ResolvedImage, path: &PathBuf) -> Result<Receipt, SagaError> {
    process(async {
        let receipt = SingleReceipt::start(fake, image, path).await?;
        let written = Receipt::read(path).unwrap();
        assert_eq!((written.state, written.verdict), (ReceiptState::Started, None));
        assert_eq!(Some(&written.targets[0].previous), receipt.previous());
        match Target::deploy(fake, image).await {
            Ok(outcome) => receipt.ended(&outcome),
            Err(error) => receipt.failed(&error.to_string()),
        }
    })
}

fn rollback(fake: &Fake, path: &PathBuf) -> Receipt {
    process(async { Saga::rollback(targets(&[fake]), path).await.unwrap() })
}

#[test]
fn a_rollback_restores_the_revision_that_was_recorded_before_the_first_change() {
    let (_directory, path) = receipt_path();
    let fake = Fake::new("ecs/shop/web", End::Verdict(Verdict::Deployed));
    let receipt = single(&fake, &image("1"), &path).unwrap();
    assert_eq!((receipt.state, receipt.verdict), (ReceiptState::Finished, Some(Verdict::Deployed)));
    assert_eq!(Receipt::read(&path).unwrap(), receipt);
    assert_eq!(rollback(&fake, &path).rollback_verdict(), Verdict::Deployed);
    assert!(fake.runs("old"));
}

#[test]
fn a_rerun_keeps_the_recorded_rollback_revision_and_another_deployment_replaces_it() {
    let (_directory, path) = receipt_path();
    let fake = Fake::new("ecs/shop/web", End::Verdict(Verdict::Deployed));
    let first = image("1").reference.to_string();
    for (deployed, previous) in [("1", "old"), ("1", "old"), ("2", &*first), ("2", &*first)] {
        let receipt = single(&fake, &image(deployed), &path).unwrap();
        assert_eq!(receipt.targets[0].previous, revision(previous), "{deployed}");
    }
}

#[test]
fn a_receipt_that_cannot_be_written_is_reported_before_the_first_change() {
    let (directory, _) = receipt_path();
    let fake = Fake::new("ecs/shop/web", End::Verdict(Verdict::Deployed));
    let path = directory.path().join("absent/receipt.json");
    let error = single(&fake, &image("1"), &path).unwrap_err();
    assert!(matches!(&error, SagaError::Receipt(_)) && error.to_string().contains("absent"), "{error}");
    assert!(fake.changes().is_empty());
}

#[test]
fn a_rollback_revision_that_cannot_run_is_refused_before_the_receipt_is_written() {
    let (_directory, path) = receipt_path();
    let fake = Fake::new("ecs/shop/web", End::Verdict(Verdict::DeadlineExceeded));
    let missing = Finding::new("image web (web)", FindingState::Missing, "push it again");
    let check = RollbackCheck::new(revision("old"), vec![missing]);
    let checking = |check: &RollbackCheck| fake.clone().checking(check.clone());
    let error = single(&checking(&check), &image("1"), &path).unwrap_err();
    assert!(matches!(&error, SagaError::UnprovenRollback { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    assert!(fake.changes().is_empty() && !path.exists());

    let accepted = check.clone().accepted(true);
    let receipt = single(&checking(&accepted), &image("1"), &path).unwrap();
    assert_eq!((receipt.state, &receipt.targets[0].rollback), (ReceiptState::Started, &Some(accepted)));
    // An unfinished deployment is completed.
    let receipt = single(&checking(&check), &image("1"), &path).unwrap();
    assert_eq!(receipt.targets[0].rollback, Some(check.clone()), "the current state is recorded");

    // A restored revision is not checked.
    let (_directory, path) = receipt_path();
    let restored = checking(&check);
    let receipt =
        process(async { SingleReceipt::start_restore(&restored, &image("1"), &path).await.unwrap() });
    assert_eq!(receipt.rollback(), None);
}

#[test]
fn nothing_is_compensated_and_the_receipt_stays_open_while_the_deployment_continues() {
    use ReceiptState::{Finished, Started};
    for (verdict, state) in [
        (Verdict::Deployed, Finished),
        (Verdict::Unproven, Finished),
        (Verdict::DigestMismatch, Finished),
        (Verdict::RolledBack, Finished),
        (Verdict::RollbackFailed, Finished),
        (Verdict::FailedInPlace, Finished),
        (Verdict::Stopped, Finished),
        (Verdict::Superseded, Finished),
        (Verdict::Gone, Finished),
        (Verdict::AwaitingApproval, Started),
        (Verdict::DeadlineExceeded, Started),
        (Verdict::Unobserved, Started),
    ] {
        let (_directory, path) = receipt_path();
        let fake = Fake::new("ecs/shop/web", End::Verdict(verdict));
        let receipt = single(&fake, &image("1"), &path).unwrap();
        assert_eq!((receipt.state, receipt.verdict), (state, Some(verdict)));
        assert_eq!(fake.changes().len(), 1, "{verdict}");
        let resumed = process(SingleReceipt::resume(&fake.id(), &path)).unwrap();
        assert_eq!(resumed.is_some(), state == Started, "{verdict}");
    }
}

#[test]
fn an_error_before_the_first_change_finishes_the_receipt() {
    let (_directory, path) = receipt_path();
    let fake = Fake::new("ecs/shop/web", End::Refused(ErrorClass::BadInput));
    let receipt = single(&fake, &image("1"), &path).unwrap();
    assert_eq!((receipt.state, receipt.verdict), (ReceiptState::Finished, None));
    assert_eq!(receipt.targets[0].error.as_deref(), Some("BadInput by the fake"));
}

#[test]
fn an_unfinished_receipt_of_another_target_is_not_overwritten() {
    let (_directory, path) = receipt_path();
    let late = Fake::new("eks/shop/web", End::Verdict(Verdict::DeadlineExceeded));
    let web = Fake::new("ecs/shop/web", End::Verdict(Verdict::Deployed));
    single(&late, &image("1"), &path).unwrap();
    let error = single(&web, &image("1"), &path).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Refused);
    assert!(error.to_string().contains("eks/shop/web"), "{error}");
    assert!(web.changes().is_empty());
    single(&late.ending(End::Verdict(Verdict::Deployed)), &image("1"), &path).unwrap();
    single(&web, &image("1"), &path).unwrap();
    assert_eq!(Receipt::read(&path).unwrap().targets[0].target, web.id());
}

#[test]
fn a_saga_resumes_the_receipt_of_a_single_target() {
    let (_directory, path) = receipt_path();
    let late = Fake::new("ecs/shop/web", End::Verdict(Verdict::DeadlineExceeded));
    single(&late, &image("1"), &path).unwrap();
    let receipt = deploy(&[&late.ending(End::Verdict(Verdict::Deployed))], &image("1"), &path).unwrap();
    assert_eq!(receipt.targets[0].previous, revision("old"));
}

fn rollback_to_previous(fakes: &[&Fake], path: &PathBuf) -> Result<Receipt, SagaError> {
    process(async { Saga::rollback_to_previous(targets(fakes), path).await })
}

#[test]
fn rolls_back_without_a_receipt_and_a_rerun_does_not_return() {
    let (_directory, path) = receipt_path();
    let (web, eks) = (
        Fake::new("ecs/shop/web", End::Verdict(Verdict::Deployed)),
        Fake::new("eks/shop/web", End::Verdict(Verdict::Deployed)),
    );
    deploy(&[&web, &eks], &image("1"), &path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let receipt = rollback_to_previous(&[&web, &eks], &path).unwrap();
    assert_eq!(receipt.rollback_verdict(), Verdict::Deployed);
    assert_eq!(receipt.image.reference, image("1").reference);
    for _ in 0..2 {
        assert!(web.runs("old") && eks.runs("old"));
        process(async { Saga::rollback(targets(&[&web, &eks]), &path).await.unwrap() });
    }
}

#[test]
fn refuses_a_rollback_if_one_target_has_no_previous_revision() {
    let (_directory, path) = receipt_path();
    let (web, eks) = (
        Fake::new("ecs/shop/web", End::Verdict(Verdict::Deployed)),
        Fake::new("eks/shop/web", End::Verdict(Verdict::Deployed)),
    );
    single(&web, &image("1"), &path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = rollback_to_previous(&[&web, &eks], &path).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Refused);
    assert!(error.to_string().contains("eks/shop/web"), "{error}");
    assert!(web.runs(&image("1").reference.to_string()) && !path.exists());
}

#[test]
fn a_rollback_to_a_revision_with_the_same_image_restores_it() {
    let (_directory, path) = receipt_path();
    let web = Fake::new("ecs/shop/web", End::Verdict(Verdict::Deployed));
    single(&web, &image("1"), &path).unwrap();
    web.platform().previous = Some(image("1").reference.to_string());
    rollback_to_previous(&[&web], &path).unwrap();
    assert_eq!(web.changes().len(), 2, "{:?}", web.changes());
}
