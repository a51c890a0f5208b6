//! Gates between the stages of a saga: approvals of specific images, and checks.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bp_artifact::{
    ExitCode, ResolvedImage, Verdict,
    check::{Check, CheckVerdict},
    deploy::{Claim, GateState, OnFailure, Receipt, ReceiptState},
    error::{Classified, ErrorClass},
    saga::{Answer, Decision, Gate, Saga, SagaError, SagaEvent, Step},
    time::Wait,
};
use futures_core::future::BoxFuture;
use serde_json::{Value, json};

use super::{Fake, fake::End, image, killed_after, receipt_path, targets};

const GOOD: End = End::Verdict(Verdict::Deployed);

/// Runs with a paused clock, which advances when all tasks wait.
fn process<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

fn approval(after: u32) -> Gate {
    Gate::approval("go-live".parse().unwrap(), after)
}

fn answer(decision: Decision) -> Answer {
    let by = Claim { name: "octocat".into(), source: "GITHUB_ACTOR".into() };
    Answer { gate: "go-live".parse().unwrap(), decision, by: Some(by) }
}

/// Returns these results in order, and repeats the last one.
struct Script(Mutex<VecDeque<CheckVerdict>>);

impl Check for Script {
    fn name(&self) -> String {
        "GET https://shop.example.com/readyz".into()
    }

    fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
        let mut left = self.0.lock().unwrap();
        let next = if left.len() > 1 { left.pop_front() } else { left.front().cloned() };
        Box::pin(async { next.unwrap() })
    }
}

fn check(after: u32, found: impl IntoIterator<Item = CheckVerdict>) -> Gate {
    let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(5)).unwrap();
    let script = Script(Mutex::new(found.into_iter().collect()));
    Gate::check("smoke".parse().unwrap(), after, Arc::new(script), wait)
}

fn saga(first: &Fake, second: &Fake, image: &ResolvedImage, path: &Path) -> Saga {
    let step = |fake: &Fake, stage| Step { target: Arc::new(fake.clone()), image: image.clone(), stage };
    Saga::of(vec![step(first, 0), step(second, 1)], path)
}

fn fakes() -> (Fake, Fake) {
    (Fake::new("ecs", GOOD), Fake::new("eks", GOOD))
}

fn state(receipt: &Receipt, gate: &str) -> Option<GateState> {
    receipt.gate(&gate.parse().unwrap()).map(|gate| gate.state)
}

/// A run that has ended at the approval.
fn waiting(first: &Fake, second: &Fake, image: &ResolvedImage, path: &Path) -> Receipt {
    let receipt =
        process(async { saga(first, second, image, path).gates([approval(0)]).run().await }).unwrap();
    assert_eq!((receipt.verdict, receipt.state), (Some(Verdict::AwaitingApproval), ReceiptState::Started));
    receipt
}

#[test]
fn stops_at_an_approval_and_continues_with_the_answer() {
    let (_directory, path) = receipt_path();
    let ((first, second), new) = (fakes(), image("new"));
    let receipt = waiting(&first, &second, &new, &path);
    assert_eq!(ExitCode::from(receipt.verdict.unwrap()), ExitCode::AwaitingApproval);
    assert!(first.runs(&new.reference.to_string()) && second.changes().is_empty());
    assert_eq!(Receipt::read(&path).unwrap(), receipt);
    // A rerun still awaits approval: no process waits.
    let again = waiting(&first, &second, &new, &path);
    assert_eq!(again.gates, receipt.gates, "the time of the request is kept");

    let run = || {
        let saga = saga(&first, &second, &new, &path).gates([approval(0)]);
        process(async { saga.answer(Some(answer(Decision::Approve))).run().await })
    };
    let receipt = run().unwrap();
    assert_eq!((receipt.verdict, receipt.state), (Some(Verdict::Deployed), ReceiptState::Finished));
    assert_eq!(state(&receipt, "go-live"), Some(GateState::Approved));
    assert_eq!(receipt.gates[0].by.as_ref().unwrap().name, "octocat");
    assert!(receipt.gates[0].at >= receipt.started_at);
    assert_eq!((first.changes().len(), second.changes().len()), (1, 1));
    // Rerun with the same answer or without one, it verifies.
    assert_eq!(run().unwrap().verdict, Some(Verdict::Deployed));
    let receipt =
        process(async { saga(&first, &second, &new, &path).gates([approval(0)]).run().await }).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    assert_eq!((first.changes().len(), second.changes().len()), (1, 1));
}

#[test]
fn a_rejection_rolls_back_or_leaves_the_deployment() {
    for (on_failure, verdict, back) in
        [(OnFailure::RollBack, Verdict::RolledBack, true), (OnFailure::Leave, Verdict::FailedInPlace, false)]
    {
        let (_directory, path) = receipt_path();
        let ((first, second), new) = (fakes(), image("new"));
        waiting(&first, &second, &new, &path);
        let saga = saga(&first, &second, &new, &path).gates([approval(0).on_failure(on_failure)]);
        let saga = saga.answer(Some(answer(Decision::Reject)));
        let receipt = process(async { saga.run().await }).unwrap();
        assert_eq!((receipt.verdict, receipt.state), (Some(verdict), ReceiptState::Finished));
        assert_eq!(state(&receipt, "go-live"), Some(GateState::Rejected));
        assert_eq!(first.runs("old"), back, "{:?}", first.changes());
        assert!(second.changes().is_empty() && second.runs("old"));
        assert_eq!(Receipt::read(&path).unwrap(), receipt);
        // The next deployment of the image requires a new approval.
        waiting(&first, &second, &new, &path);
    }
}

#[test]
fn an_approval_is_valid_only_for_its_images() {
    let (_directory, path) = receipt_path();
    let ((first, second), one, two) = (fakes(), image("one"), image("two"));
    let approve = |image: &ResolvedImage, supersede| {
        let saga = saga(&first, &second, image, &path).gates([approval(0)]).supersede(supersede);
        process(async { saga.answer(Some(answer(Decision::Approve))).run().await })
    };
    // Not deployed yet.
    let error = approve(&one, false).unwrap_err();
    assert!(matches!(error, SagaError::NotAwaiting { state: None, .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    assert!(!path.exists() && first.changes().is_empty());

    waiting(&first, &second, &one, &path);
    assert!(matches!(approve(&two, false).unwrap_err(), SagaError::Unfinished { .. }));
    assert!(matches!(approve(&two, true).unwrap_err(), SagaError::NotAwaiting { state: None, .. }));
    assert_eq!(first.changes().len(), 1, "they changed nothing");

    // The approval of one does not apply to two, and does not exist any more when one is deployed again.
    assert_eq!(approve(&one, false).unwrap().verdict, Some(Verdict::Deployed));
    waiting(&first, &second, &two, &path);
    let supersede = || saga(&first, &second, &one, &path).gates([approval(0)]).supersede(true);
    let receipt = process(async { supersede().run().await }).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::AwaitingApproval));
    // With an additional service it is not the approved deployment.
    approve(&one, false).unwrap();
    let third = Fake::new("third", GOOD);
    let step = |fake: &Fake, image: &ResolvedImage, stage| Step {
        target: Arc::new(fake.clone()),
        image: image.clone(),
        stage,
    };
    let steps = vec![step(&first, &one, 0), step(&third, &two, 0), step(&second, &one, 1)];
    let receipt = process(async { Saga::of(steps, &path).gates([approval(0)]).run().await }).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::AwaitingApproval));
}

#[test]
fn rejects_an_answer_that_does_not_apply() {
    let (_directory, path) = receipt_path();
    let ((first, second), new) = (fakes(), image("new"));
    let run = |gates: Vec<Gate>, decision| {
        let saga = saga(&first, &second, &new, &path).gates(gates);
        process(async { saga.answer(Some(answer(decision))).run().await }).unwrap_err()
    };
    let error = run(vec![check(0, [CheckVerdict::Passed])], Decision::Approve);
    assert_eq!(error.to_string(), "unknown approval gate go-live; this deployment has no approval gates");
    let error = run(vec![approval(0), approval(1)], Decision::Approve);
    assert!(matches!(error, SagaError::DuplicateGate { .. }), "{error}");
    assert!(first.changes().is_empty());

    waiting(&first, &second, &new, &path);
    let saga = saga(&first, &second, &new, &path).gates([approval(0)]);
    process(async { saga.answer(Some(answer(Decision::Approve))).run().await }).unwrap();
    let error = run(vec![approval(0)], Decision::Reject);
    assert!(matches!(error, SagaError::NotAwaiting { state: Some(GateState::Approved), .. }), "{error}");
    assert!(error.to_string().contains("it is approved in "), "{error}");
}

#[test]
fn repeats_a_check_until_it_passes_before_the_next_stage() {
    let (_directory, path) = receipt_path();
    let ((first, second), new) = (fakes(), image("new"));
    let found = [CheckVerdict::unobserved("refused"), CheckVerdict::failed("503"), CheckVerdict::Passed];
    let gates = [approval(0), check(0, found)];
    let plan = saga(&first, &second, &new, &path).gates(gates.clone()).plan();
    let names: Vec<&str> = plan.stages[0].gates.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["smoke", "go-live"], "the approver sees the results of the checks");
    let (events, receipt) = process(async {
        let mut saga = saga(&first, &second, &new, &path).gates(gates).run();
        let mut events = Vec::new();
        while let Some(event) = saga.next_event().await {
            events.push(event);
        }
        (events, saga.await.unwrap())
    });
    assert_eq!(receipt.verdict, Some(Verdict::AwaitingApproval));
    assert_eq!(state(&receipt, "smoke"), Some(GateState::Passed));
    assert!(receipt.gates[0].detail.contains("passed (3 attempts"), "{:?}", receipt.gates);
    assert!(second.changes().is_empty());
    let gates: Vec<String> = events
        .iter()
        .filter(|event| matches!(event, SagaEvent::Checking { .. } | SagaEvent::Gate(_)))
        .map(ToString::to_string)
        .collect();
    assert_eq!(gates[0], "gate smoke: checking GET https://shop.example.com/readyz");
    assert!(gates[1].starts_with("gate smoke: passed: GET "), "{gates:?}");
    assert_eq!(
        gates[2],
        "gate go-live: awaiting approval: continue with --approve go-live, or undo with --reject go-live"
    );
    let json = serde_json::to_value(&events).unwrap();
    let gate = json.as_array().unwrap().iter().find(|event| event["event"] == "gate").unwrap();
    assert_eq!((&gate["gate"], &gate["state"]), (&json!("smoke"), &json!("passed")));
    assert_eq!(serde_json::from_value::<Vec<SagaEvent>>(json).unwrap(), events);
}

#[test]
fn a_failed_check_fails_the_stage() {
    for (on_failure, verdict, back) in
        [(OnFailure::RollBack, Verdict::RolledBack, true), (OnFailure::Leave, Verdict::FailedInPlace, false)]
    {
        // Between the stages, and after the last one.
        for after in [0, 1, 7] {
            let (_directory, path) = receipt_path();
            let ((first, second), new) = (fakes(), image("new"));
            let gate = check(after, [CheckVerdict::failed("status 503")]).on_failure(on_failure);
            let receipt =
                process(async { saga(&first, &second, &new, &path).gates([gate]).run().await }).unwrap();
            assert_eq!((receipt.verdict, receipt.state), (Some(verdict), ReceiptState::Finished), "{after}");
            assert_eq!(state(&receipt, "smoke"), Some(GateState::Failed));
            assert!(receipt.gates[0].detail.contains("failed: status 503"), "{:?}", receipt.gates);
            assert_eq!(first.runs("old"), back, "{after}: {:?}", first.changes());
            assert_eq!(second.changes().is_empty(), after == 0);
            assert_eq!(second.runs("old"), back || after == 0);
            assert_eq!(Receipt::read(&path).unwrap(), receipt);
        }
    }
}

#[test]
fn an_unobserved_check_leaves_the_receipt_open_without_a_rollback() {
    let (_directory, path) = receipt_path();
    let ((first, second), new) = (fakes(), image("new"));
    let run = |found| {
        let gate = check(0, [found]);
        process(async { saga(&first, &second, &new, &path).gates([gate]).run().await }).unwrap()
    };
    let receipt = run(CheckVerdict::unobserved("connection refused"));
    assert_eq!((receipt.verdict, receipt.state), (Some(Verdict::Unobserved), ReceiptState::Started));
    assert_eq!(state(&receipt, "smoke"), Some(GateState::Unobserved));
    assert!(first.runs(&new.reference.to_string()) && second.changes().is_empty());
    let receipt = run(CheckVerdict::Passed);
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    assert_eq!((first.changes().len(), second.changes().len()), (1, 1));
}

/// Killed at every step of an approved run, and of a rejected one.
#[test]
fn rerun_finishes_a_killed_run() {
    let new = image("new");
    for decision in [Decision::Approve, Decision::Reject] {
        let mut turns = 0;
        loop {
            let (_directory, path) = receipt_path();
            let (first, second) = fakes();
            waiting(&first, &second, &new, &path);
            let run = || {
                let saga = saga(&first, &second, &new, &path).gates([approval(0)]);
                async { saga.answer(Some(answer(decision))).run().await.unwrap() }
            };
            let done = killed_after(turns, run());
            let receipt = process(run());
            let approved = decision == Decision::Approve;
            let (verdict, runs) = if approved {
                (Verdict::Deployed, new.reference.to_string())
            } else {
                (Verdict::RolledBack, "old".to_owned())
            };
            assert_eq!(receipt.verdict, Some(verdict), "{decision:?}, killed after {turns}");
            assert!(first.runs(&runs) && second.runs(&runs), "{decision:?}, killed after {turns}");
            if done.is_some() {
                break;
            }
            turns += 1;
        }
        assert!(turns > 3, "{turns}");
    }
}

#[test]
fn an_older_version_can_roll_back_the_receipt() {
    let (_directory, path) = receipt_path();
    let ((first, second), new) = (fakes(), image("new"));
    waiting(&first, &second, &new, &path);
    let mut written: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    // The only new field is `gates`; all others are those of versions without gates.
    let gates = written.as_object_mut().unwrap().remove("gates").unwrap();
    assert_eq!(gates[0]["gate"], "go-live");
    assert_eq!((&written["state"], &written["verdict"]), (&json!("started"), &json!("awaiting-approval")));
    let receipt = Receipt::parse(&written.to_string(), "receipt.json").unwrap();
    assert_eq!((receipt.gates.len(), receipt.targets.len()), (0, 2));

    let receipt = process(async { Saga::rollback(targets(&[&first, &second]), &path).await }).unwrap();
    assert_eq!(receipt.rollback_verdict(), Verdict::Deployed);
    assert_eq!(receipt.gates.len(), 1, "the gate is preserved");
    assert!(first.runs("old") && second.runs("old"));
    // An unknown state of a later version is neither open nor an approval.
    written["gates"] = gates;
    written["gates"][0]["state"] = json!("approved-by-two");
    let receipt = Receipt::parse(&written.to_string(), "receipt.json").unwrap();
    assert!(!receipt.gates[0].state.is_open());
    assert_eq!(serde_json::to_value(&receipt).unwrap(), written);
}

#[test]
fn cancelling_during_a_check_leaves_the_receipt_open() {
    let (_directory, path) = receipt_path();
    let ((first, second), new) = (fakes(), image("new"));
    let gate = check(0, [CheckVerdict::failed("503")]);
    let error = process(async {
        let mut saga = saga(&first, &second, &new, &path).gates([gate]).run();
        while !matches!(saga.next_event().await, Some(SagaEvent::Checking { .. })) {}
        saga.cancel();
        saga.await.unwrap_err()
    });
    assert!(matches!(error, SagaError::Interrupted { .. }), "{error}");
    let written = Receipt::read(&path).unwrap();
    assert_eq!((written.state, written.verdict), (ReceiptState::Started, None));
    assert!(first.runs(&new.reference.to_string()));
}
