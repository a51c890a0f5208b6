//! Joint verdicts: the rules by which the result of one target affects all targets. Pure functions of the receipt.
//!
//! `docs/adr/0007-deployments-are-a-saga.md` has the resulting table of every pair, which the tests here verify.

use crate::deploy::{Outcome, Receipt, TargetReceipt, Verdict};

/// How the deployment to one target ended, in ascending order of precedence for the joint verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Deployed,
    Unproven,
    AwaitingApproval,
    Late,
    /// Cancelled before it ended.
    Interrupted,
    Unobserved,
    Mismatch,
    /// An error before anything was changed, of a class that is not retryable.
    Refused,
    /// Rolled back, not rolled back, or failed with a rollback that could not be observed.
    Failed,
    Stopped,
    /// Replaced by another deployment.
    Superseded,
    Gone,
}

/// What an end means for the saga.
struct Rule {
    /// All targets are rolled back.
    rolls_back_all: bool,
    /// When all are rolled back, this one is too; a superseded or deleted target never is.
    is_rolled_back: bool,
    /// The platform continues, so the receipt stays open and the same command resumes.
    stays_open: bool,
    verdict: Verdict,
}

impl End {
    fn of(entry: &TargetReceipt) -> End {
        match (&entry.outcome, &entry.error) {
            (Some(outcome), _) => End::of_outcome(outcome),
            (None, Some(_)) => End::Refused,
            (None, None) => End::Interrupted,
        }
    }

    fn of_outcome(outcome: &Outcome) -> End {
        match outcome.verdict {
            Verdict::Deployed => End::Deployed,
            Verdict::Unproven => End::Unproven,
            Verdict::AwaitingApproval => End::AwaitingApproval,
            Verdict::DeadlineExceeded => End::Late,
            Verdict::Unobserved if outcome.failure.is_some() => End::Failed,
            Verdict::Unobserved => End::Unobserved,
            Verdict::DigestMismatch => End::Mismatch,
            Verdict::RolledBack | Verdict::RollbackFailed | Verdict::FailedInPlace => End::Failed,
            Verdict::Stopped => End::Stopped,
            Verdict::Superseded => End::Superseded,
            Verdict::Gone => End::Gone,
        }
    }

    /// The table: one row for each end.
    fn rule(self) -> Rule {
        let rule = |rolls_back_all, is_rolled_back, stays_open, verdict| Rule {
            rolls_back_all,
            is_rolled_back,
            stays_open,
            verdict,
        };
        match self {
            //                              rolls back all, is rolled back, stays open
            End::Deployed => rule(false, true, false, Verdict::Deployed),
            End::Unproven => rule(false, true, false, Verdict::Unproven),
            End::AwaitingApproval => rule(false, true, true, Verdict::AwaitingApproval),
            End::Late => rule(false, true, true, Verdict::DeadlineExceeded),
            End::Interrupted => rule(false, true, true, Verdict::Unobserved),
            End::Unobserved => rule(false, true, true, Verdict::Unobserved),
            End::Mismatch => rule(false, true, false, Verdict::DigestMismatch),
            End::Refused => rule(true, true, false, Verdict::RolledBack),
            End::Failed => rule(true, true, false, Verdict::RolledBack),
            End::Stopped => rule(true, true, false, Verdict::Stopped),
            End::Superseded => rule(false, false, false, Verdict::Superseded),
            End::Gone => rule(true, false, false, Verdict::Gone),
        }
    }
}

/// Of outcomes that belong together, the one that decides, by the precedence of a [`Saga`](super::Saga): the first of
/// equals. `None` if there are none.
pub fn worst<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Option<&'a Outcome> {
    let mut worst: Option<(&Outcome, End)> = None;
    for outcome in outcomes {
        let end = End::of_outcome(outcome);
        if worst.is_none_or(|(_, before)| end > before) {
            worst = Some((outcome, end));
        }
    }
    worst.map(|(outcome, _)| outcome)
}

/// Whether the outcome of one target rolls back all targets of a [`Saga`](super::Saga).
pub fn rolls_back_all(outcome: &Outcome) -> bool {
    End::of_outcome(outcome).rule().rolls_back_all
}

/// How the rollback of one target ended, in ascending order of precedence for the joint verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Restore {
    Done,
    AwaitingApproval,
    Late,
    /// Not observed, or not completed.
    Unobserved,
    Failed,
}

impl Restore {
    fn of(entry: &TargetReceipt) -> Restore {
        match entry.restored_verdict() {
            Some(Verdict::Deployed | Verdict::Unproven) => Restore::Done,
            Some(Verdict::AwaitingApproval) => Restore::AwaitingApproval,
            Some(Verdict::DeadlineExceeded) => Restore::Late,
            Some(Verdict::Unobserved) | None => Restore::Unobserved,
            Some(
                Verdict::DigestMismatch
                | Verdict::RolledBack
                | Verdict::RollbackFailed
                | Verdict::FailedInPlace
                | Verdict::Stopped
                | Verdict::Superseded
                | Verdict::Gone,
            ) => Restore::Failed,
        }
    }

    /// Whether the rollback continues on the platform, so that the same command resumes.
    fn stays_open(self) -> bool {
        matches!(self, Restore::AwaitingApproval | Restore::Late | Restore::Unobserved)
    }
}

/// The joint result of all targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joint {
    pub(super) verdict: Verdict,
    /// Whether the receipt stays open, for the same command to resume.
    pub(super) open: bool,
}

/// A gate was rejected or failed, and all targets are left as they are.
pub(super) const LEFT: Joint = Joint { verdict: Verdict::FailedInPlace, open: false };

/// Whether the result of a target rolls back all targets.
pub(super) fn compensates(entry: &TargetReceipt) -> bool {
    let ended = entry.outcome.is_some() || entry.error.is_some();
    ended && End::of(entry).rule().rolls_back_all
}

/// Whether the target was superseded or deleted: it is not changed any more.
pub(super) fn is_lost(entry: &TargetReceipt) -> bool {
    !End::of(entry).rule().is_rolled_back
}

/// Whether the deployment to the target continues on the platform, so that the receipt stays open.
pub(super) fn stays_open(entry: &TargetReceipt) -> bool {
    End::of(entry).rule().stays_open
}

/// The joint result of targets, none of which rolls back the others.
pub(super) fn deployed<'a>(entries: impl Iterator<Item = &'a TargetReceipt> + Clone) -> Joint {
    let ends = || entries.clone().map(End::of);
    let last = ends().max().unwrap_or(End::Deployed);
    Joint { verdict: last.rule().verdict, open: ends().any(|end| end.rule().stays_open) }
}

/// The joint result of rolling back all targets.
pub(super) fn compensated(receipt: &Receipt) -> Joint {
    let restores = || receipt.targets.iter().filter(|entry| !is_lost(entry)).map(Restore::of);
    let verdict = match restores().max().unwrap_or(Restore::Done) {
        Restore::Failed => Verdict::RollbackFailed,
        Restore::Unobserved => Verdict::Unobserved,
        Restore::Late => Verdict::DeadlineExceeded,
        Restore::AwaitingApproval => Verdict::AwaitingApproval,
        Restore::Done => {
            let ends = receipt.targets.iter().map(End::of).filter(|end| *end >= End::Refused);
            ends.max().map_or(Verdict::RolledBack, |end| end.rule().verdict)
        }
    };
    Joint { verdict, open: restores().any(Restore::stays_open) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        deploy::{FailureReport, Revision, TargetId},
        digest::Digest,
        exit::ExitCode,
        reference::Repository,
    };

    const ADR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/adr/0007-deployments-are-a-saga.md");

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome { verdict, changed: true, ..Outcome::unproven(TargetId::new("t")) }
    }

    fn entry() -> TargetReceipt {
        TargetReceipt::noted(TargetId::new("t"), Revision::new("1", "x"))
    }

    fn receipt(targets: Vec<TargetReceipt>) -> Receipt {
        let image = "r.example.com/web".parse::<Repository>().unwrap().at(Digest::sha256("x")).into();
        Receipt::started(image, targets, Timestamp::UNIX_EPOCH)
    }

    /// Every result of a target that the row or column of this name in the document stands for.
    fn ends(name: &str) -> Vec<TargetReceipt> {
        let with = |verdict: Verdict| TargetReceipt { outcome: Some(outcome(verdict)), ..entry() };
        match name {
            "deployed" => vec![with(Verdict::Deployed)],
            "unproven" => vec![with(Verdict::Unproven)],
            "awaiting" => vec![with(Verdict::AwaitingApproval)],
            "late" => vec![with(Verdict::DeadlineExceeded)],
            "interrupted" => vec![entry()],
            "unobserved" => vec![with(Verdict::Unobserved)],
            "mismatch" => vec![with(Verdict::DigestMismatch)],
            "refused" => vec![TargetReceipt { error: Some("no".into()), ..entry() }],
            "failed" => {
                let mut unobserved = outcome(Verdict::Unobserved);
                unobserved.failure = Some(FailureReport::new(crate::deploy::Cause::OutOfMemory, "137"));
                let unobserved = TargetReceipt { outcome: Some(unobserved), ..entry() };
                let failed = [Verdict::RolledBack, Verdict::RollbackFailed, Verdict::FailedInPlace];
                failed.into_iter().map(with).chain([unobserved]).collect()
            }
            "stopped" => vec![with(Verdict::Stopped)],
            "superseded" => vec![with(Verdict::Superseded)],
            "gone" => vec![with(Verdict::Gone)],
            other => panic!("no such end: {other}"),
        }
    }

    /// The same for rolling back a target.
    fn restores(name: &str) -> Vec<TargetReceipt> {
        let with = |verdict: Verdict| TargetReceipt {
            outcome: Some(outcome(Verdict::RolledBack)),
            restored: Some(outcome(verdict)),
            ..entry()
        };
        let verdicts: &[Verdict] = match name {
            "done" => &[Verdict::Deployed, Verdict::Unproven],
            "awaiting" => &[Verdict::AwaitingApproval],
            "late" => &[Verdict::DeadlineExceeded],
            "unobserved" => &[Verdict::Unobserved],
            "failed" => &[
                Verdict::DigestMismatch,
                Verdict::RolledBack,
                Verdict::RollbackFailed,
                Verdict::FailedInPlace,
                Verdict::Stopped,
                Verdict::Superseded,
                Verdict::Gone,
            ],
            other => panic!("no such end: {other}"),
        };
        verdicts.iter().copied().map(with).collect()
    }

    /// The table of the document whose first cell is `corner`: row, column, cell.
    fn table(corner: &str) -> Vec<(String, String, String)> {
        let text = std::fs::read_to_string(ADR).unwrap();
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {corner} |")));
        let columns = cells(lines.next().expect("the table exists"));
        let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells);
        rows.flat_map(|row| {
            assert_eq!(row.len(), columns.len(), "{row:?}");
            let name = row[0].clone();
            let cells = columns.clone().into_iter().zip(row).skip(1);
            cells.map(move |(column, cell)| (name.clone(), column, cell)).collect::<Vec<_>>()
        })
        .collect()
    }

    /// A cell: the exit code, `back` when all are rolled back, `open` when the receipt stays open.
    fn cell(joint: Joint, back: bool) -> String {
        let code = ExitCode::from(joint.verdict).code();
        let mut words = vec![code.to_string()];
        words.extend(back.then(|| "back".to_owned()));
        words.extend(joint.open.then(|| "open".to_owned()));
        words.join(" ")
    }

    #[test]
    fn joint_verdicts_of_all_pairs_match_the_adr() {
        let table = table("end");
        assert_eq!(table.len(), 12 * 12);
        for (row, column, expected) in table {
            for (a, b) in ends(&row).iter().flat_map(|a| ends(&column).into_iter().map(move |b| (a, b))) {
                let mut receipt = receipt(vec![a.clone(), b]);
                let back = receipt.targets.iter().any(compensates);
                let joint = if back {
                    for entry in receipt.targets.iter_mut().filter(|entry| !is_lost(entry)) {
                        entry.restored = Some(outcome(Verdict::Deployed));
                    }
                    compensated(&receipt)
                } else {
                    deployed(receipt.targets.iter())
                };
                assert_eq!(cell(joint, back), expected, "{row}, {column}: {receipt:?}");
            }
        }
    }

    #[test]
    fn joint_verdicts_of_all_rollback_pairs_match_the_adr() {
        let table = table("restore");
        assert_eq!(table.len(), 5 * 5);
        for (row, column, expected) in table {
            for (a, b) in
                restores(&row).iter().flat_map(|a| restores(&column).into_iter().map(move |b| (a, b)))
            {
                let joint = compensated(&receipt(vec![a.clone(), b]));
                assert_eq!(cell(joint, false), expected, "{row}, {column}");
            }
        }
    }

    #[test]
    fn does_not_wait_for_superseded_or_deleted_targets() {
        for (lost, joint) in [("gone", Verdict::Gone), ("superseded", Verdict::Superseded)] {
            let back = restores("done").remove(0);
            let all = receipt(vec![ends(lost).remove(0), back]);
            assert_eq!(compensated(&all), Joint { verdict: joint, open: false });
        }
        // A requested rollback: nothing failed.
        let mut deployed = ends("deployed").remove(0);
        deployed.restored = Some(outcome(Verdict::Deployed));
        assert_eq!(compensated(&receipt(vec![deployed])).verdict, Verdict::RolledBack);
    }

    #[test]
    fn a_target_without_a_result_rolls_nothing_back() {
        assert!(!compensates(&entry()));
    }
}
