//! The joint verdict of several targets: pure functions of the receipt.

use crate::deploy::{Receipt, TargetReceipt, Verdict};

/// Whether a deployment that ended so puts every target back.
pub(super) fn compensates(verdict: Verdict) -> bool {
    match verdict {
        Verdict::RolledBack
        | Verdict::RollbackFailed
        | Verdict::FailedInPlace
        | Verdict::Stopped
        | Verdict::Gone => true,
        Verdict::Deployed
        | Verdict::Unproven
        | Verdict::DigestMismatch
        | Verdict::Superseded
        | Verdict::AwaitingApproval
        | Verdict::DeadlineExceeded
        | Verdict::Unobserved => false,
    }
}

/// Whether the target is somebody else's now, or nobody's: it is not touched.
pub(super) fn is_lost(entry: &TargetReceipt) -> bool {
    matches!(entry.verdict(), Some(Verdict::Superseded | Verdict::Gone))
}

/// Whether the platform goes on, so that a later run has something to finish.
pub(super) fn goes_on(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::AwaitingApproval | Verdict::DeadlineExceeded | Verdict::Unobserved)
}

/// How targets of which none failed ended together: the one that needs a person most. A target without an outcome was
/// lost to somebody else before it came to one.
pub(super) fn deployed(receipt: &Receipt) -> Verdict {
    if receipt.targets.iter().any(|entry| entry.outcome.is_none()) {
        return Verdict::Superseded;
    }
    const ORDER: [Verdict; 6] = [
        Verdict::Superseded,
        Verdict::DigestMismatch,
        Verdict::Unobserved,
        Verdict::DeadlineExceeded,
        Verdict::AwaitingApproval,
        Verdict::Unproven,
    ];
    let seen = |verdict: &Verdict| receipt.targets.iter().any(|entry| entry.verdict() == Some(*verdict));
    ORDER.into_iter().find(seen).unwrap_or(Verdict::Deployed)
}

/// How putting all targets back ended.
pub(super) fn compensated(receipt: &Receipt) -> Verdict {
    if receipt.targets.iter().any(|entry| !is_lost(entry) && !entry.is_restored()) {
        return Verdict::RollbackFailed;
    }
    let seen = |verdict: &Verdict| receipt.targets.iter().any(|entry| entry.verdict() == Some(*verdict));
    [Verdict::Gone, Verdict::Superseded, Verdict::Stopped]
        .into_iter()
        .find(seen)
        .unwrap_or(Verdict::RolledBack)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Digest, Outcome, Proof, Repository, Revision, TargetId};

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            target: TargetId::new("t"),
            verdict,
            image: None,
            changed: true,
            revision: None,
            previous: None,
            failure: None,
            proof: Proof::default(),
            detail: String::new(),
        }
    }

    fn receipt(targets: &[(Verdict, Option<Verdict>)]) -> Receipt {
        let entry = |&(verdict, restored): &(Verdict, Option<Verdict>)| {
            let previous = Revision { id: "1".into(), image: "x".into() };
            let mut entry = TargetReceipt::noted(TargetId::new("t"), previous);
            entry.outcome = Some(outcome(verdict));
            entry.restored = restored.map(outcome);
            entry
        };
        let image = "r.example.com/web".parse::<Repository>().unwrap().at(Digest::sha256("x")).into();
        Receipt::started(image, targets.iter().map(entry).collect(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn deployed_only_when_every_target_is() {
        use Verdict::{AwaitingApproval, DeadlineExceeded, Deployed, DigestMismatch, Superseded, Unproven};
        for (verdicts, joint) in [
            ([Deployed, Deployed], Deployed),
            ([Deployed, Unproven], Unproven),
            ([AwaitingApproval, Unproven], AwaitingApproval),
            ([DeadlineExceeded, AwaitingApproval], DeadlineExceeded),
            ([DigestMismatch, DeadlineExceeded], DigestMismatch),
            ([DigestMismatch, Superseded], Superseded),
        ] {
            for [a, b] in [verdicts, [verdicts[1], verdicts[0]]] {
                assert_eq!(deployed(&receipt(&[(a, None), (b, None)])), joint, "{a}, {b}");
            }
        }
    }

    #[test]
    fn rolled_back_only_when_every_target_is_back() {
        use Verdict::{
            Deployed, FailedInPlace, Gone, RollbackFailed, RolledBack, Stopped, Superseded, Unproven,
        };
        for (targets, joint) in [
            ([(Deployed, Some(Deployed)), (RolledBack, Some(Deployed))], RolledBack),
            ([(Deployed, Some(Unproven)), (FailedInPlace, Some(Deployed))], RolledBack),
            ([(Deployed, None), (RolledBack, Some(Deployed))], RollbackFailed),
            ([(Deployed, Some(FailedInPlace)), (RolledBack, Some(Deployed))], RollbackFailed),
            ([(Stopped, Some(Deployed)), (Deployed, Some(Deployed))], Stopped),
            ([(Gone, None), (Deployed, Some(Deployed))], Gone),
            ([(Gone, None), (Deployed, None)], RollbackFailed),
            ([(Superseded, None), (RolledBack, Some(Deployed))], Superseded),
        ] {
            assert_eq!(compensated(&receipt(&targets)), joint, "{targets:?}");
        }
    }
}
