//! The saga with in-memory targets: every pair of outcomes, a kill at every step, and receipts of every kind.

mod concurrent;
mod fake;
mod gates;
mod later;
mod rollback_revision;
mod single;
mod stages;
mod unobserved;

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
};

use bp_artifact::{
    Digest, ExitCode, Repository, ResolvedImage, Verdict,
    deploy::{Receipt, ReceiptState, Target, TargetId},
    error::{Classified, ErrorClass},
    saga::{Saga, SagaError, SagaEvent},
};
use fake::{End, Fake, revision};
use tempfile::TempDir;

fn image(content: &str) -> ResolvedImage {
    "r.example.com/web".parse::<Repository>().unwrap().at(Digest::sha256(content)).into()
}

fn targets(fakes: &[&Fake]) -> Vec<Arc<dyn Target>> {
    fakes.iter().map(|fake| Arc::new((*fake).clone()) as Arc<dyn Target>).collect()
}

/// A directory and the path of a receipt in it: in memory if possible, because receipts are synced to disk and these
/// tests write thousands.
fn receipt_path() -> (TempDir, PathBuf) {
    let memory = Path::new("/dev/shm");
    let directory =
        if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() };
    let path = directory.path().join("receipt.json");
    (directory, path)
}

/// Runs to completion on a new runtime, like a process.
fn process<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().event_interval(1).build().unwrap().block_on(work)
}

/// A process that is killed after `turns` turns of its scheduler. `None` if it was killed.
fn killed_after<T>(turns: usize, work: impl Future<Output = T>) -> Option<T> {
    process(async {
        let alarm = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = alarm => None,
            done = work => Some(done),
        }
    })
}

fn deploy(fakes: &[&Fake], image: &ResolvedImage, path: &PathBuf) -> Result<Receipt, SagaError> {
    process(async { Saga::new(targets(fakes), image.clone(), path).run().await })
}

fn ends() -> Vec<End> {
    let mut ends: Vec<End> = Verdict::ALL.iter().copied().map(End::Verdict).collect();
    let refused = [ErrorClass::BadInput, ErrorClass::Superseded, ErrorClass::Unavailable];
    ends.extend(refused.map(End::Refused).into_iter().chain([End::Lost]));
    ends
}

fn fails(end: End) -> bool {
    use Verdict::{FailedInPlace, Gone, RollbackFailed, RolledBack, Stopped};
    match end {
        End::Verdict(verdict) => {
            matches!(verdict, RolledBack | RollbackFailed | FailedInPlace | Stopped | Gone)
        }
        End::Refused(class) => !matches!(class, ErrorClass::Superseded | ErrorClass::Unavailable),
        End::Lost => false,
    }
}

#[test]
fn every_pair_of_outcomes() {
    let new = image("new");
    for a in ends() {
        for b in ends() {
            let (_directory, path) = receipt_path();
            let (ecs, eks) = (Fake::new("ecs", a), Fake::new("eks", b));
            let result = deploy(&[&ecs, &eks], &new, &path);
            let code = match &result {
                Ok(receipt) => ExitCode::from(receipt.verdict.unwrap()),
                Err(error) => ExitCode::from(error.class()),
            };
            let good = End::Verdict(Verdict::Deployed);
            assert_eq!(code == ExitCode::Done, a == good && b == good, "{a:?}, {b:?}");

            let written = Receipt::read(&path).unwrap();
            for fake in [&ecs, &eks] {
                let restored = fake.changes().iter().any(|change| change.starts_with("restore"));
                // By the recorded verdict: a target that was cancelled before its end is rolled back like any other.
                let verdict = written.target(&fake.id()).unwrap().verdict();
                if matches!(verdict, Some(Verdict::Superseded | Verdict::Gone)) {
                    assert!(!restored, "{a:?}, {b:?}: a lost target was changed");
                } else if fails(a) || fails(b) {
                    assert!(fake.runs("old"), "{a:?}, {b:?}: {:?}", fake.platform());
                } else {
                    assert!(!restored, "{a:?}, {b:?}: nothing failed, yet {:?}", fake.changes());
                }
            }
            // The written receipt is the returned one.
            if written.target(&ecs.id()).unwrap().verdict() == Some(Verdict::RolledBack) {
                assert_eq!(ecs.changes().len(), 1, "it rolled itself back: nothing more to do");
            }
            match result {
                Ok(receipt) => assert_eq!(written, receipt),
                Err(_) => assert_eq!((written.state, written.verdict), (ReceiptState::Finished, None)),
            }
        }
    }
}

#[test]
fn exit_codes_of_common_outcomes() {
    use Verdict::{Deployed, FailedInPlace, Gone, RolledBack, Stopped, Superseded, Unproven};
    for (a, b, code) in [
        (Deployed, Deployed, ExitCode::Done),
        (Deployed, RolledBack, ExitCode::RolledBack),
        (Deployed, FailedInPlace, ExitCode::RolledBack),
        (RolledBack, RolledBack, ExitCode::RolledBack),
        (Deployed, Unproven, ExitCode::Drift),
        (Deployed, Superseded, ExitCode::Superseded),
        (Deployed, Stopped, ExitCode::Superseded),
        (RolledBack, Gone, ExitCode::Superseded),
        (Deployed, Verdict::DeadlineExceeded, ExitCode::Unavailable),
        (Deployed, Verdict::AwaitingApproval, ExitCode::AwaitingApproval),
    ] {
        let (_directory, path) = receipt_path();
        let (a, b) = (Fake::new("a", End::Verdict(a)), Fake::new("b", End::Verdict(b)));
        let receipt = deploy(&[&a, &b], &image("new"), &path).unwrap();
        assert_eq!(ExitCode::from(receipt.verdict.unwrap()), code);
    }
}

#[test]
fn reports_a_failed_rollback() {
    let (_directory, path) = receipt_path();
    let good = Fake::new("ecs", End::Verdict(Verdict::Deployed));
    let bad = Fake::new("eks", End::Verdict(Verdict::RolledBack)).slow(10);
    good.platform().restore = Some(End::Verdict(Verdict::FailedInPlace));
    let receipt = deploy(&[&good, &bad], &image("new"), &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::RollbackFailed));
    assert!(bad.runs("old"));
}

#[test]
fn returns_the_error_if_nothing_was_changed() {
    let (_directory, path) = receipt_path();
    let wrong = Fake::new("ecs", End::Refused(ErrorClass::BadInput));
    let slow = Fake::new("eks", End::Refused(ErrorClass::BadInput));
    let error = deploy(&[&wrong, &slow], &image("new"), &path).unwrap_err();
    assert!(matches!(&error, SagaError::Target { target, .. } if target.as_str() == "ecs"), "{error}");
    assert_eq!(error.class(), ErrorClass::BadInput);
    assert!(wrong.changes().is_empty() && slow.changes().is_empty());
}

#[test]
fn rerun_finishes_a_run_killed_at_any_step() {
    use Verdict::{Deployed, FailedInPlace, RolledBack};
    let new = image("new");
    for (a, b) in [(Deployed, Deployed), (Deployed, RolledBack), (FailedInPlace, Deployed)] {
        let mut kills = 0;
        for turns in 1.. {
            let (_directory, path) = receipt_path();
            let (ecs, eks) = (Fake::new("ecs", End::Verdict(a)), Fake::new("eks", End::Verdict(b)).slow(6));
            let run = async { Saga::new(targets(&[&ecs, &eks]), new.clone(), &path).run().await };
            if killed_after(turns, run).is_some() {
                break;
            }
            kills += 1;
            // Nothing is changed before the rollback revisions are on disk.
            let noted = Receipt::read(&path).ok();
            assert!(noted.is_some() || (ecs.changes().is_empty() && eks.changes().is_empty()));

            let receipt = deploy(&[&ecs, &eks], &new, &path).unwrap();
            for fake in [&ecs, &eks] {
                let entry = receipt.target(&fake.id()).unwrap();
                assert_eq!(
                    entry.previous,
                    revision("old"),
                    "killed after {turns}: the rollback revision was lost"
                );
            }
            if (a, b) == (Deployed, Deployed) {
                assert_eq!(receipt.verdict, Some(Deployed));
                let image = new.reference.to_string();
                for fake in [&ecs, &eks] {
                    assert!(fake.runs(&image));
                    assert_eq!(fake.changes(), [format!("deploy {image}")], "killed after {turns}: doubled");
                }
            } else {
                assert_eq!(receipt.verdict, Some(RolledBack), "killed after {turns}");
                assert!(ecs.runs("old") && eks.runs("old"), "killed after {turns}");
            }
        }
        assert!(kills > 15, "{kills} steps were tried");
    }
}

#[test]
fn rerun_finishes_a_rollback_killed_at_any_step() {
    let new = image("new");
    for turns in 1.. {
        let (_directory, path) = receipt_path();
        let good = End::Verdict(Verdict::Deployed);
        let (ecs, eks) = (Fake::new("ecs", good), Fake::new("eks", good));
        deploy(&[&ecs, &eks], &new, &path).unwrap();
        let rollback = || async { Saga::rollback(targets(&[&ecs, &eks]), &path).await };
        let done = killed_after(turns, rollback()).is_some();
        let receipt = process(rollback()).unwrap();
        assert_eq!(receipt.verdict, Some(Verdict::RolledBack));
        assert_eq!(ExitCode::from(receipt.rollback_verdict()), ExitCode::Done);
        assert!(ecs.runs("old") && eks.runs("old"));
        if done {
            assert_eq!(ecs.changes().len(), 2, "the second rollback found nothing to do");
            break;
        }
    }
}

#[test]
fn an_interrupted_run_stays_unfinished_without_a_rollback() {
    let (_directory, path) = receipt_path();
    let (ecs, eks) = (
        Fake::new("ecs", End::Verdict(Verdict::Deployed)).slow(1000),
        Fake::new("eks", End::Lost).slow(1000),
    );
    let error = process(async {
        let mut saga = Saga::new(targets(&[&ecs, &eks]), image("new"), &path).run();
        while !matches!(saga.next_event().await, Some(SagaEvent::Target(_))) {}
        saga.cancel();
        saga.await.unwrap_err()
    });
    assert!(matches!(error, SagaError::Interrupted { .. }));
    assert_eq!(ExitCode::from(error.class()), ExitCode::Interrupted);
    assert_eq!(ecs.changes().len() + eks.changes().len(), 2);
    assert_eq!(Receipt::read(&path).unwrap().state, ReceiptState::Started);
    // The same command resumes the deployments in progress.
    let (ecs, eks) = (ecs.slow(1), eks.ending(End::Verdict(Verdict::Deployed)).slow(1));
    assert_eq!(deploy(&[&ecs, &eks], &image("new"), &path).unwrap().verdict, Some(Verdict::Deployed));
    assert_eq!(ecs.changes().len() + eks.changes().len(), 2);
}

#[test]
fn a_second_run_verifies_and_keeps_the_rollback_revision() {
    let (_directory, path) = receipt_path();
    let fake = Fake::new("ecs", End::Verdict(Verdict::Deployed));
    for _ in 0..3 {
        let receipt = deploy(&[&fake], &image("new"), &path).unwrap();
        assert_eq!(receipt.verdict, Some(Verdict::Deployed));
        assert_eq!(receipt.targets[0].previous, revision("old"));
    }
    assert_eq!(fake.changes().len(), 1);
    // Another image starts a new deployment: the running revision is its rollback revision.
    let receipt = deploy(&[&fake], &image("newer"), &path).unwrap();
    assert_eq!(receipt.targets[0].previous, revision(&image("new").reference.to_string()));
}

#[test]
fn retries_the_same_image_after_a_rollback() {
    let (_directory, path) = receipt_path();
    let fake = Fake::new("ecs", End::Verdict(Verdict::RolledBack));
    assert_eq!(deploy(&[&fake], &image("new"), &path).unwrap().verdict, Some(Verdict::RolledBack));
    let fixed = fake.ending(End::Verdict(Verdict::Deployed));
    let receipt = deploy(&[&fixed], &image("new"), &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    assert_eq!(receipt.targets[0].previous, revision("old"));
}

/// Leaves an unfinished run of `image("first")`, with "ecs" in progress.
fn unfinished(path: &PathBuf) -> Fake {
    let fake = Fake::new("ecs", End::Verdict(Verdict::DeadlineExceeded));
    let receipt = deploy(&[&fake], &image("first"), path).unwrap();
    assert_eq!((receipt.state, receipt.verdict), (ReceiptState::Started, Some(Verdict::DeadlineExceeded)));
    fake.ending(End::Verdict(Verdict::Deployed))
}

#[test]
fn an_unfinished_run_of_another_image_is_refused_or_superseded() {
    let (_directory, path) = receipt_path();
    let fake = unfinished(&path);
    let error = deploy(&[&fake], &image("second"), &path).unwrap_err();
    assert_eq!(ExitCode::from(error.class()), ExitCode::Refused);
    let first = image("first").reference.to_string();
    assert!(error.to_string().contains(&format!("unfinished deployment of {first} (started)")), "{error}");
    assert_eq!(fake.changes().len(), 1, "nothing was changed");

    let saga = || Saga::new(targets(&[&fake]), image("second"), &path).supersede(true);
    let receipt = process(async { saga().run().await }).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    assert_eq!(receipt.targets[0].previous, revision("old"), "not the half-deployed first");
}

#[test]
fn rejects_a_resume_without_one_of_the_targets() {
    let (_directory, path) = receipt_path();
    let _in_progress = unfinished(&path);
    let other = Fake::new("eks", End::Verdict(Verdict::Deployed));
    let error = deploy(&[&other], &image("first"), &path).unwrap_err();
    assert!(
        matches!(&error, SagaError::TargetNotGiven { target, .. } if target.as_str() == "ecs"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Refused);
    let rollback = process(async { Saga::rollback(targets(&[&other]), &path).await });
    assert!(matches!(rollback, Err(SagaError::TargetNotGiven { .. })));
    assert!(other.changes().is_empty());
}

#[test]
fn an_invalid_receipt_changes_nothing() {
    let (directory, path) = receipt_path();
    let fake = Fake::new("ecs", End::Verdict(Verdict::Deployed));
    for (content, message) in [
        ("", ":1:1: EOF while parsing"),
        ("{\"schema\": \"bp.receipt/1.0\",\n \"image\": 3 }", ":2:"),
        (
            "{\"schema\": \"bp.receipt/2.0\"}",
            "the schema is \"bp.receipt/2.0\", and this version reads bp.receipt/1",
        ),
        ("{\"schema\": \"bp.artifact/1.0\"}", "reads bp.receipt/1"),
    ] {
        fs::write(&path, content).unwrap();
        let error = deploy(&[&fake], &image("new"), &path).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.class(), ErrorClass::BadInput);
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "and is left as it is");
    }
    // Not writable: as with a full disk, the rollback revisions cannot be recorded, so nothing is changed.
    let nowhere = directory.path().join("no/such/receipt.json");
    let error = deploy(&[&fake], &image("new"), &nowhere).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    assert!(fake.changes().is_empty());
}

#[test]
fn a_disk_that_fills_up_during_a_run_does_not_stop_it() {
    let (directory, path) = receipt_path();
    let fake = Fake::new("ecs", End::Verdict(Verdict::Deployed));
    let (events, error) = process(async {
        let mut saga = Saga::new(targets(&[&fake]), image("new"), &path).run();
        let mut events = Vec::new();
        while let Some(event) = saga.next_event().await {
            if matches!(event, SagaEvent::Noted { .. }) {
                fs::remove_dir_all(directory.path()).unwrap();
            }
            events.push(event);
        }
        (events, saga.await.unwrap_err())
    });
    assert!(events.iter().any(|event| matches!(event, SagaEvent::NotNoted { .. })), "{events:?}");
    assert!(matches!(error, SagaError::NotNoted { verdict: Verdict::Deployed, .. }), "{error}");
    assert!(fake.runs(&image("new").reference.to_string()));
}

#[test]
fn rejects_missing_and_duplicate_targets() {
    let (_directory, path) = receipt_path();
    assert!(matches!(deploy(&[], &image("new"), &path), Err(SagaError::NoTargets)));
    let fake = Fake::new("ecs", End::Lost);
    let error = deploy(&[&fake, &fake], &image("new"), &path).unwrap_err();
    assert_eq!(error.to_string(), "the target ecs is given twice");
    let rollback = process(async { Saga::rollback(targets(&[&fake]), &path).await });
    assert!(matches!(rollback, Err(SagaError::Receipt(error)) if error.is_missing()));
}

#[test]
fn serializes_each_event_as_one_flat_object() {
    let (_directory, path) = receipt_path();
    let fake = Fake::new("ecs", End::Verdict(Verdict::RolledBack));
    let lines: Vec<serde_json::Value> = process(async {
        let mut saga = Saga::new(targets(&[&fake]), image("new"), &path).run();
        let mut lines = Vec::new();
        while let Some(event) = saga.next_event().await {
            let line = serde_json::to_value(&event).unwrap();
            assert_eq!(serde_json::from_value::<SagaEvent>(line.clone()).unwrap(), event);
            lines.push(line);
        }
        lines
    });
    let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["noted", "notice", "compensating", "ended"]);
    assert_eq!(lines[2]["failed"], TargetId::new("ecs").as_str());
    assert_eq!(lines[3]["verdict"], "rolled-back");
}
