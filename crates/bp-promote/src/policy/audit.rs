//! Audit the records of an image: each signature, each link, each decision.

use std::fmt;

use bp_artifact::{
    Config, Digest,
    config::{Environment, PolicyConfig},
};
use jiff::Timestamp;
use serde::Serialize;

use super::{Entry, Evidence, Recall};

/// What the records of an image prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Audit {
    /// The image.
    pub image: Digest,
    /// Its entries into environments, in the order of time.
    pub entries: Vec<AuditedEntry>,
    /// The recall, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
    /// What is attached and does not count, with the reason.
    pub ignored: Vec<(Digest, String)>,
}

/// An entry of an [`Audit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AuditedEntry {
    /// The environment.
    pub environment: Environment,
    /// The digest of the record's manifest.
    pub record: Digest,
    /// When the image entered.
    pub at: Timestamp,
    /// What contradicts the record: empty for a valid one.
    pub faults: Vec<String>,
    /// What a reader should know about a valid one.
    pub remarks: Vec<String>,
}

impl Audit {
    /// Whether there are entries, and all of them are valid.
    pub fn is_valid(&self) -> bool {
        !self.entries.is_empty() && self.entries.iter().all(|entry| entry.faults.is_empty())
    }
}

/// Displays one line per entry, and below it what is remarkable.
impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.image)?;
        if self.entries.is_empty() {
            f.write_str("\nno records")?;
        }
        for AuditedEntry { environment, record, at, faults, remarks } in &self.entries {
            let state = if faults.is_empty() { "valid  " } else { "INVALID" };
            write!(f, "\n{state} {at} entered {environment}, record {record}")?;
            for line in faults.iter().chain(remarks) {
                write!(f, "\n        {line}")?;
            }
        }
        if let Some(recall) = &self.recall {
            write!(f, "\nRECALLED at {}: {} (record {})", recall.at, recall.because, recall.record)?;
        }
        for (record, reason) in &self.ignored {
            write!(f, "\nnot counted: {record}: {reason}")?;
        }
        Ok(())
    }
}

impl Evidence {
    /// Audits all entries of the image. `config` provides the rules of today, with which the rules of a record are
    /// compared.
    pub fn audit(&self, config: &Config) -> Audit {
        let policy = |environment: &Environment| {
            config.environment(environment.as_str()).ok().map(|environment| environment.policy())
        };
        let mut entries: Vec<AuditedEntry> =
            self.all().map(|entry| self.audited(entry, policy(&entry.entered.environment))).collect();
        entries.sort_by(|a, b| (a.at, &a.record).cmp(&(b.at, &b.record)));
        Audit {
            image: self.image().clone(),
            entries,
            recall: self.recall(),
            ignored: self.ignored().to_vec(),
        }
    }

    fn audited(&self, entry: &Entry, today: Option<&PolicyConfig>) -> AuditedEntry {
        let entered = &entry.entered;
        let (mut faults, mut remarks) = (Vec::new(), Vec::new());
        faults.extend(self.check(entry).err());
        faults.extend(self.unproven(entry));
        if let Some(broken) = &entered.break_glass {
            let by = broken.by.as_deref().unwrap_or("somebody");
            let gates: Vec<String> = entered.decision.closed().map(|gate| gate.gate.to_string()).collect();
            remarks.push(format!("break glass by {by}: {}; closed: {}", broken.reason, gates.join(", ")));
        }
        match today {
            Some(today) if *today != entered.decision.policy => {
                remarks
                    .push(format!("under another policy than today's, {}", entered.decision.policy.digest()));
            }
            None => remarks.push("the environment is not in bp.toml any more".into()),
            Some(_) => {}
        }
        AuditedEntry {
            environment: entered.environment.clone(),
            record: entry.record.clone(),
            at: entered.at,
            faults,
            remarks,
        }
    }

    /// The facts of a decision for which a signed statement must exist, and does not.
    fn unproven(&self, entry: &Entry) -> Vec<String> {
        let decision = &entry.entered.decision;
        let facts = &decision.facts;
        let mut faults = Vec::new();
        let known = self.approvals(&facts.environment, &decision.policy);
        for approval in facts.approvals.known().into_iter().flatten() {
            if !known.contains(approval) {
                faults.push(format!("the approval {} of {} is missing", approval.record, approval.approver));
            }
        }
        let records = facts.upstream.known().and_then(Option::as_ref);
        for record in records.into_iter().flatten() {
            let found = self.all().find(|entry| entry.record == record.record);
            let is_same = found.is_some_and(|found| {
                found.entered.environment == record.environment && found.entered.at == record.entered_at
            });
            if !is_same {
                faults.push(format!("the record {} of {} is missing", record.record, record.environment));
            }
            if let Some(at) = record.proven_at
                && !self.is_proven(&record.environment, at)
            {
                faults.push(format!("no record of the deployment in {} at {at}", record.environment));
            }
        }
        faults
    }
}
