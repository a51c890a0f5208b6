//! Two runs at the same time: with the same receipt, or from machines that do not share it.

use std::fs;

use bp_artifact::{
    ExitCode, Verdict,
    deploy::Receipt,
    error::Classified,
    saga::{Saga, SagaError, SagaEvent, SingleReceipt},
};
use bp_sandbox::cut;

use crate::{
    deploy,
    fake::{End, Fake, revision},
    image, receipt_path, targets,
};

/// As `process`, on a paused clock.
fn paused<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

fn good(id: &str) -> Fake {
    Fake::new(id, End::Verdict(Verdict::Deployed))
}

#[test]
fn a_second_run_with_the_same_receipt_is_refused_with_the_process_of_the_first() {
    let (directory, path) = receipt_path();
    let fake = good("ecs").slow(usize::MAX);
    paused(async {
        let mut first = Saga::new(targets(&[&fake]), image("first"), &path).run();
        while !matches!(first.next_event().await, Some(SagaEvent::Noted { .. })) {}
        // A fake in progress never lets the clock advance: hold the lock alone.
        drop(first);
        tokio::task::yield_now().await;
        let held = loop {
            let held = bp_artifact::file::FileLock::acquire(&path, std::time::Duration::ZERO).await;
            match held {
                Ok(held) => break held,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (content, changes) = (fs::read(&path).unwrap(), fake.changes().len());
        let second = || Saga::new(targets(&[&fake]), image("second"), &path).supersede(true);
        let errors = [
            second().run().await.unwrap_err(),
            Saga::rollback(targets(&[&fake]), &path).await.unwrap_err(),
            Saga::rollback_to_previous(targets(&[&fake]), &path).await.unwrap_err(),
            SingleReceipt::start(&fake, &image("first"), &path).await.unwrap_err(),
        ];
        for error in errors {
            let SagaError::InUse { holder: Some(holder), .. } = &error else { panic!("{error}") };
            assert_eq!(holder.pid, std::process::id());
            assert!(error.to_string().contains(&format!("process {} on ", holder.pid)), "{error}");
            assert_eq!(ExitCode::from(error.class()), ExitCode::Unavailable);
        }
        assert_eq!(
            (fs::read(&path).unwrap(), fake.changes().len()),
            (content, changes),
            "nothing was changed"
        );
        drop(held);
    });
    let fake = fake.slow(1);
    let receipt = deploy(&[&fake], &image("first"), &path).unwrap();
    assert_eq!((receipt.verdict, &receipt.targets[0].previous), (Some(Verdict::Deployed), &revision("old")));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the receipt remains");
}

#[test]
fn a_second_run_waits_for_one_that_is_ending() {
    let (_directory, path) = receipt_path();
    let (first, second) = (good("ecs").slow(50), good("eks"));
    let (a, b) = paused(async {
        tokio::join!(Saga::new(targets(&[&first]), image("new"), &path).run(), async {
            while first.changes().is_empty() {
                tokio::task::yield_now().await;
            }
            Saga::new(targets(&[&first, &second]), image("new"), &path).run().await
        })
    });
    assert_eq!((a.unwrap().verdict, b.unwrap().verdict), (Some(Verdict::Deployed), Some(Verdict::Deployed)));
    assert_eq!((first.changes().len(), second.changes().len()), (1, 1));
    assert_eq!(Receipt::read(&path).unwrap().targets[0].previous, revision("old"));
}

#[test]
fn a_rollout_of_another_machine_in_progress_is_never_the_rollback_revision() {
    let theirs = image("theirs").reference.to_string();
    let in_progress = |id: &str| {
        let fake = good(id);
        fake.platform().rolling_out = Some(theirs.clone());
        fake
    };
    let (_directory, path) = receipt_path();
    let (ecs, eks) = (in_progress("ecs"), good("eks"));
    let receipt = deploy(&[&ecs, &eks], &image("new"), &path).unwrap();
    for entry in &receipt.targets {
        assert_eq!(entry.previous, revision("old"), "{}", entry.target);
    }

    let (_directory, path) = receipt_path();
    let fake = in_progress("ecs");
    let receipt = paused(SingleReceipt::start(&fake, &image("new"), &path)).unwrap();
    assert_eq!(receipt.previous(), Some(&revision("old")));
}

#[test]
fn a_receipt_that_cannot_be_read_again_is_refused() {
    let fake = good("ecs");
    for path in ["/dev/null", "/dev/stdout"].map(Into::into) {
        let error = deploy(&[&fake], &image("new"), &path).unwrap_err();
        assert!(matches!(error, SagaError::NotAFile { .. }), "{error}");
        assert_eq!(ExitCode::from(error.class()), ExitCode::BadInput);
    }
    assert!(fake.changes().is_empty());
}

/// A paused clock, and no other task between two polls.
fn stepwise() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).event_interval(1).build().unwrap()
}

#[test]
fn a_deployment_or_a_rollback_dropped_at_any_await_is_completed_by_a_rerun() {
    let new = image("new");
    let cuts = cut::at_every_poll(stepwise, usize::MAX, async |cut| {
        let (directory, path) = receipt_path();
        let (ecs, eks) = (good("ecs"), good("eks").slow(6));
        let saga = || async { Saga::new(targets(&[&ecs, &eks]), new.clone(), &path).run().await };
        cut.run(&saga).await;
        // The dropped run may still hold the receipt: this one waits until it has stopped.
        let receipt = saga().await.unwrap();
        assert_eq!(receipt.verdict, Some(Verdict::Deployed), "dropped after poll {}", cut.polls());
        for (fake, entry) in [&ecs, &eks].into_iter().zip(&receipt.targets) {
            assert_eq!(entry.previous, revision("old"), "dropped after poll {}", cut.polls());
            assert_eq!(fake.changes().len(), 1, "one change, dropped after poll {}", cut.polls());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the receipt remains");
    });
    assert!(cuts > 15, "{cuts}");

    let cuts = cut::at_every_poll(stepwise, usize::MAX, async |cut| {
        let (directory, path) = receipt_path();
        let (ecs, eks) = (good("ecs"), good("eks"));
        Saga::new(targets(&[&ecs, &eks]), new.clone(), &path).run().await.unwrap();
        let rollback = || async { Saga::rollback(targets(&[&ecs, &eks]), &path).await };
        cut.run(rollback).await;
        let receipt = rollback().await.unwrap();
        assert_eq!(receipt.verdict, Some(Verdict::RolledBack), "dropped after poll {}", cut.polls());
        assert!(ecs.runs("old") && eks.runs("old"), "dropped after poll {}", cut.polls());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the receipt remains");
    });
    assert!(cuts > 8, "{cuts}");
}
