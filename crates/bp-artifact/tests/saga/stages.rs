//! Several images in one saga, in stages.

use std::sync::Arc;

use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{Receipt, ReceiptState},
    saga::{Saga, SagaError, Step},
};

use super::{Fake, fake::End, image, process, receipt_path};

const GOOD: End = End::Verdict(Verdict::Deployed);

fn step(fake: &Fake, image: &ResolvedImage, stage: u32) -> Step {
    Step { target: Arc::new(fake.clone()), image: image.clone(), stage }
}

fn run(steps: Vec<Step>, path: &std::path::Path) -> Result<Receipt, SagaError> {
    process(async { Saga::of(steps, path).run().await })
}

#[test]
fn deploys_each_image_to_its_target_and_records_it() {
    let (_directory, path) = receipt_path();
    let (web, worker) = (Fake::new("web", GOOD), Fake::new("worker", GOOD));
    let (one, two) = (image("web"), image("worker"));
    let receipt = run(vec![step(&web, &one, 0), step(&worker, &two, 0)], &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    assert!(web.runs(&one.reference.to_string()) && worker.runs(&two.reference.to_string()));
    let written = Receipt::read(&path).unwrap();
    assert_eq!(written, receipt);
    assert_eq!(written.image, one);
    let images: Vec<_> = written.targets.iter().map(|entry| entry.image.as_ref()).collect();
    assert_eq!(images, [None, Some(&two)]);
    assert_eq!(written.image_of(&receipt.targets[1].target), Some(&two));
}

#[test]
fn a_stage_waits_for_the_one_before_it() {
    use Verdict::{AwaitingApproval, DeadlineExceeded, RolledBack, Unobserved, Unproven};
    for (verdict, joint, state) in [
        (RolledBack, RolledBack, ReceiptState::Finished),
        (Unproven, Unproven, ReceiptState::Started),
        (AwaitingApproval, AwaitingApproval, ReceiptState::Started),
        (DeadlineExceeded, DeadlineExceeded, ReceiptState::Started),
        (Unobserved, Unobserved, ReceiptState::Started),
    ] {
        let (_directory, path) = receipt_path();
        let (first, second) = (Fake::new("ecs", End::Verdict(verdict)), Fake::new("eks", GOOD));
        let new = image("new");
        let receipt = run(vec![step(&second, &new, 1), step(&first, &new, 0)], &path).unwrap();
        assert_eq!((receipt.verdict, receipt.state), (Some(joint), state), "{verdict:?}");
        assert!(second.changes().is_empty() && second.runs("old"), "{verdict:?}: {:?}", second.changes());

        // The same command continues with the stages that were not started.
        if state == ReceiptState::Started {
            let receipt =
                run(vec![step(&second, &new, 1), step(&first.ending(GOOD), &new, 0)], &path).unwrap();
            assert_eq!(receipt.verdict, Some(Verdict::Deployed), "{verdict:?}");
            assert!(second.runs(&new.reference.to_string()));
        }
    }
}

#[test]
fn a_later_stage_that_fails_rolls_the_earlier_ones_back() {
    let (_directory, path) = receipt_path();
    let (first, second) = (Fake::new("ecs", GOOD), Fake::new("eks", End::Verdict(Verdict::RolledBack)));
    let new = image("new");
    let receipt = run(vec![step(&first, &new, 0), step(&second, &new, 1)], &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::RolledBack));
    assert!(first.runs("old"), "{:?}", first.platform());
    assert_eq!(first.changes().len(), 2, "deployed, then restored");
}

#[test]
fn an_unfinished_run_of_another_image_of_one_target_is_refused() {
    let (_directory, path) = receipt_path();
    let (web, worker) =
        (Fake::new("web", GOOD), Fake::new("worker", End::Verdict(Verdict::DeadlineExceeded)));
    let (one, two) = (image("web"), image("worker"));
    run(vec![step(&web, &one, 0), step(&worker, &two, 0)], &path).unwrap();
    let error = run(vec![step(&web, &one, 0), step(&worker, &image("other"), 0)], &path).unwrap_err();
    assert!(matches!(error, SagaError::Unfinished { .. }), "{error}");
    let receipt = run(vec![step(&web, &one, 0), step(&worker.ending(GOOD), &two, 0)], &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    assert_eq!(web.changes().len(), 1);
}
