//! The rollback revisions of all targets are checked before the first change.

use bp_artifact::{
    Verdict,
    deploy::{
        Receipt, RollbackCheck, Target,
        preflight::{Finding, FindingState},
    },
    error::{Classified, ErrorClass},
    saga::{Saga, SagaError, SagaEvent},
};

use crate::{
    deploy,
    fake::{End, Fake, revision},
    image, process, receipt_path, targets,
};

fn check(state: FindingState) -> RollbackCheck {
    let image = Finding::new("image r.example.com/web (web)", state, "does not exist; push it again");
    RollbackCheck::new(revision("old"), vec![image])
}

fn fake(id: &str) -> Fake {
    Fake::new(id, End::Verdict(Verdict::Deployed))
}

#[test]
fn one_missing_rollback_revision_refuses_all_targets_before_the_first_change() {
    let (_directory, path) = receipt_path();
    let good = fake("ecs/good").checking(check(FindingState::Present));
    let bad = fake("ecs/bad").checking(check(FindingState::Missing));
    let error = deploy(&[&good, &bad], &image("new"), &path).unwrap_err();
    assert!(matches!(&error, SagaError::UnprovenRollback { target, .. } if *target == bad.id()), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    assert_eq!(
        error.to_string(),
        "ecs/bad could not be rolled back: image r.example.com/web (web): does not exist; push it again; correct that, \
         or deploy anyway with --accept-unproven-rollback (nothing was changed)"
    );
    assert!(good.changes().is_empty() && bad.changes().is_empty());
    assert!(!path.exists(), "a refused run leaves no receipt");
}

#[test]
fn an_accepted_or_unknown_rollback_revision_is_deployed_and_recorded() {
    for check in [check(FindingState::Missing).accepted(true), check(FindingState::Unknown)] {
        let (_directory, path) = receipt_path();
        let (target, other) = (fake("ecs/a").checking(check.clone()), fake("eks/b"));
        let (events, receipt) = process(async {
            let mut saga = Saga::new(targets(&[&target, &other]), image("new"), &path).run();
            let mut events = Vec::new();
            while let Some(event) = saga.next_event().await {
                events.push(event);
            }
            (events, saga.await.unwrap())
        });
        assert_eq!(receipt.verdict, Some(Verdict::Deployed));
        let read = Receipt::read(&path).unwrap();
        assert_eq!(read.target(&target.id()).unwrap().rollback.as_ref(), Some(&check));
        assert_eq!(read.target(&other.id()).unwrap().rollback, None);
        let noted = events.iter().position(|event| matches!(event, SagaEvent::Noted { .. })).unwrap();
        assert_eq!(events[noted + 1].to_string(), format!("ecs/a: {}", check.summary()));
    }
}

#[test]
fn a_resumed_run_is_completed_although_the_rollback_revision_is_gone() {
    let (_directory, path) = receipt_path();
    let late =
        Fake::new("ecs/a", End::Verdict(Verdict::DeadlineExceeded)).checking(check(FindingState::Present));
    let receipt = deploy(&[&late], &image("new"), &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::DeadlineExceeded));
    let resumed = late.ending(End::Verdict(Verdict::Deployed)).checking(check(FindingState::Missing));
    let receipt = deploy(&[&resumed], &image("new"), &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    let recorded = receipt.target(&resumed.id()).unwrap().rollback.clone();
    assert_eq!(recorded, Some(check(FindingState::Missing)), "the current state is recorded");
}
