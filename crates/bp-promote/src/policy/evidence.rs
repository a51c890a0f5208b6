//! What is attached to an image: records, approvals and recalls, each checked for who may sign it.

use std::collections::BTreeSet;

use bp_artifact::{
    Digest,
    config::{Environment, PolicyConfig},
    error::chain,
};
use jiff::Timestamp;

use super::{Approval, Fact, Recall, TrustedKeys, Upstream, evaluate};
use crate::{
    attestation::{
        Approved, Attached, AttestationError, Deployed, Entered, KeyId, Predicate, Recalled, store,
    },
    store::Source,
};

/// The types of the statements that are read.
const TYPES: &[&str] = &[Approved::TYPE, Deployed::TYPE, Entered::TYPE, Recalled::TYPE];

/// A record that an image entered an environment, signed by a key that may do so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The digest of the record's manifest.
    pub record: Digest,
    /// The key that signed it.
    pub key: KeyId,
    /// The record.
    pub entered: Entered,
}

/// A statement of another kind, with its record.
#[derive(Debug, Clone)]
struct Signed<T> {
    record: Digest,
    key: KeyId,
    content: T,
}

/// The evidence that is attached to an image in one registry or layout.
///
/// Anyone who may push can attach anything, and can delete what is attached. What counts is therefore only what is signed
/// by a key of [`TrustedKeys`] that may sign it, and a chain of records ends where it began: each record contains the
/// digest of the one before.
#[derive(Debug, Clone)]
pub struct Evidence {
    image: Digest,
    keys: TrustedKeys,
    entries: Vec<Entry>,
    deployed: Vec<Signed<Deployed>>,
    approved: Vec<Signed<Approved>>,
    recalled: Vec<Signed<Recalled>>,
    kinds: BTreeSet<String>,
    ignored: Vec<(Digest, String)>,
}

/// Why an image does not count as having entered an environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// It was recalled.
    #[error("it was recalled at {}: {}", .0.at, .0.because)]
    Recalled(Recall),
    /// It has no record of the environment that is signed by one of its keys.
    #[error("it has no valid record of {environment}{}", not_counted(.ignored))]
    NoRecord {
        /// The environment.
        environment: Environment,
        /// What is attached and does not count, with the reason.
        ignored: Vec<(Digest, String)>,
    },
    /// The record does not fit to what it is attached to, or to the records before it.
    #[error("the record {record} of {environment} is not valid: {reason}")]
    Broken {
        /// The environment.
        environment: Environment,
        /// The record.
        record: Digest,
        /// Why.
        reason: String,
    },
}

impl bp_artifact::error::Classified for NotAdmitted {
    fn class(&self) -> bp_artifact::error::ErrorClass {
        bp_artifact::error::ErrorClass::Refused
    }
}

fn not_counted(ignored: &[(Digest, String)]) -> String {
    let one = |(record, reason): &(Digest, String)| format!("; not counted: {record}, {reason}");
    ignored.iter().take(3).map(one).collect()
}

impl Evidence {
    /// Reads what is attached to the image.
    ///
    /// # Errors
    /// When the referrers cannot be listed or read: then nothing is known about the image.
    ///
    /// # Permissions
    /// Pull.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn read<S: Source + ?Sized>(
        source: &S,
        image: &Digest,
        keys: &TrustedKeys,
    ) -> Result<Self, AttestationError> {
        let listed = source.referrers(image).await?;
        let kinds = listed.iter().filter_map(|listed| listed.artifact_type.clone());
        let mut evidence = Evidence {
            image: image.clone(),
            keys: keys.clone(),
            entries: Vec::new(),
            deployed: Vec::new(),
            approved: Vec::new(),
            recalled: Vec::new(),
            kinds: kinds.collect(),
            ignored: Vec::new(),
        };
        let found = store::among(source, image, listed, TYPES, &keys.all()).await?;
        evidence.ignored.extend(found.ignored.iter().map(|(record, error)| (record.clone(), chain(error))));
        for attached in found.valid {
            let record = attached.record.clone();
            if let Err(reason) = evidence.sort(attached) {
                evidence.ignored.push((record, reason));
            }
        }
        Ok(evidence)
    }

    /// Sorts a statement by its type, if its key may sign it.
    fn sort(&mut self, Attached { record, statement, key }: Attached) -> Result<(), String> {
        let key = key.id().clone();
        let text = |error: AttestationError| chain(&error);
        let may_not = |what: &str| format!("the key {key} may not sign {what}");
        match statement.predicate_type.as_str() {
            Entered::TYPE => {
                let entered = Entered::of(&statement).map_err(text)?;
                if !self.keys.may_record(&entered.environment, &key) {
                    return Err(may_not(&format!("records of {}", entered.environment)));
                }
                self.entries.push(Entry { record, key, entered });
            }
            Deployed::TYPE => {
                let content = Deployed::of(&statement).map_err(text)?;
                if !self.keys.may_record(&content.environment, &key) {
                    return Err(may_not(&format!("records of {}", content.environment)));
                }
                self.deployed.push(Signed { record, key, content });
            }
            Recalled::TYPE => {
                let content = Recalled::of(&statement).map_err(text)?;
                if !self.keys.may_recall(&key) {
                    return Err(may_not("recalls"));
                }
                self.recalled.push(Signed { record, key, content });
            }
            Approved::TYPE => {
                let content = Approved::of(&statement).map_err(text)?;
                if self.keys.approvers(&content.environment, &key).next().is_none() {
                    return Err(may_not(&format!("approvals for {}", content.environment)));
                }
                self.approved.push(Signed { record, key, content });
            }
            other => return Err(format!("unknown predicate {other}")),
        }
        Ok(())
    }

    /// The image.
    pub fn image(&self) -> &Digest {
        &self.image
    }

    /// What is attached and does not count, with the reason.
    pub fn ignored(&self) -> &[(Digest, String)] {
        &self.ignored
    }

    /// The entries into an environment, the latest first; valid or not.
    pub fn entries(&self, environment: &Environment) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.entered.environment == *environment).collect();
        entries.sort_by(|a, b| b.entered.at.cmp(&a.entered.at).then_with(|| a.record.cmp(&b.record)));
        entries
    }

    /// All entries, in any order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Whether a deployment was proven in the environment at this time.
    pub(super) fn is_proven(&self, environment: &Environment, at: Timestamp) -> bool {
        self.deployed
            .iter()
            .any(|deployed| deployed.content.environment == *environment && deployed.content.at == at)
    }

    /// The recall of the image, the first one if there are several.
    pub fn recall(&self) -> Option<Recall> {
        let first = self.recalled.iter().min_by_key(|recall| (recall.content.at, &recall.record))?;
        let Recalled { because, at, .. } = first.content.clone();
        Some(Recall { record: first.record.clone(), because, at })
    }

    /// The valid entry into an environment: the image was not recalled, and the record and all records before it hold.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admitted(&self, environment: &Environment) -> Result<&Entry, NotAdmitted> {
        if let Some(recall) = self.recall() {
            return Err(NotAdmitted::Recalled(recall));
        }
        let mut broken = None;
        for entry in self.entries(environment) {
            match self.check(entry) {
                Ok(()) => return Ok(entry),
                Err(reason) => broken = broken.or(Some((entry, reason))),
            }
        }
        Err(match broken {
            Some((entry, reason)) => {
                NotAdmitted::Broken { environment: environment.clone(), record: entry.record.clone(), reason }
            }
            None => NotAdmitted::NoRecord { environment: environment.clone(), ignored: self.ignored.clone() },
        })
    }

    /// Checks an entry and all entries before it: each decision follows from its facts, and each record refers to the one
    /// before.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self, entry: &Entry) -> Result<(), String> {
        let mut at = entry;
        // A record contains the digest of the one before, so that they cannot form a circle.
        loop {
            match self.before(at)? {
                Some(before) => at = before,
                None => return Ok(()),
            }
        }
    }

    /// Checks an entry by itself, and returns the one before it.
    fn before(&self, entry: &Entry) -> Result<Option<&Entry>, String> {
        let Entered { environment, decision, upstream, at, .. } = &entry.entered;
        let facts = &decision.facts;
        if facts.image != self.image {
            return Err(format!("its decision is about {}", facts.image));
        }
        if facts.environment != *environment {
            return Err(format!("its decision is about {}", facts.environment));
        }
        if evaluate(&decision.policy, facts.clone(), decision.at).gates != decision.gates {
            return Err("its decision does not follow from its facts".into());
        }
        if !decision.is_allowed() && entry.entered.break_glass.is_none() {
            return Err("its decision was not to enter".into());
        }
        if decision.at > *at {
            return Err(format!("it entered at {at}, before the decision at {}", decision.at));
        }
        let Some(upstream) = upstream else {
            // Only an environment without records before it, or none at all, leaves this open.
            let has_records = facts.upstream.known().is_none_or(Option::is_some);
            return match &facts.from {
                Some(from) if has_records && entry.entered.break_glass.is_none() => {
                    Err(format!("it does not refer to a record of {from}"))
                }
                Some(_) | None => Ok(None),
            };
        };
        let missing = || format!("the record {} of {} is missing", upstream.record, upstream.environment);
        let before = self.entries.iter().find(|entry| entry.record == upstream.record).ok_or_else(missing)?;
        if before.entered.environment != upstream.environment
            || facts.from.as_ref() != Some(&upstream.environment)
        {
            return Err(format!("{} is not a record of where it came from", upstream.record));
        }
        if before.entered.at > *at {
            return Err(format!("it entered before the record {} was written", upstream.record));
        }
        Ok(Some(before))
    }

    /// The facts about where the image comes from.
    pub fn upstream(&self, from: &Environment) -> Fact<Option<Vec<Upstream>>> {
        if !self.keys.keeps_records(from) {
            return Fact::Known(None);
        }
        let proven = |at: Timestamp| {
            let deployed = self.deployed.iter().filter(|deployed| deployed.content.environment == *from);
            deployed.map(|deployed| deployed.content.at).filter(|proven| *proven >= at).min()
        };
        let upstream = |entry: &Entry| Upstream {
            environment: from.clone(),
            record: entry.record.clone(),
            entered_at: entry.entered.at,
            proven_at: proven(entry.entered.at),
        };
        let valid = self.entries(from).into_iter().filter(|entry| self.check(entry).is_ok());
        Fact::Known(Some(valid.map(upstream).collect()))
    }

    /// The approvals for an environment under a policy.
    pub fn approvals(&self, environment: &Environment, policy: &PolicyConfig) -> Vec<Approval> {
        let digest = policy.digest();
        let is_about = |approval: &&Signed<Approved>| {
            approval.content.environment == *environment && approval.content.policy == digest
        };
        let approvals = self.approved.iter().filter(is_about).flat_map(|approval| {
            self.keys.approvers(environment, &approval.key).map(|name| Approval {
                approver: name.clone(),
                key: approval.key.clone(),
                record: approval.record.clone(),
                at: approval.content.at,
                expires_at: approval.content.expires_at,
            })
        });
        approvals.collect()
    }

    /// The artifact types of the attached referrers.
    pub fn kinds(&self) -> &BTreeSet<String> {
        &self.kinds
    }
}
