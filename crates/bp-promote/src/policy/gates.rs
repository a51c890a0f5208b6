//! Evaluate the gates of a policy. Pure: no clock, no network.

use std::{collections::BTreeSet, time::Duration};

use bp_artifact::config::{
    ApprovalRule, Environment, Freeze, PolicyConfig, ScanBudget, Severity, SignatureRule,
};
use jiff::{SignedDuration, Timestamp};

use super::{Decision, Facts, Gate, GateResult, GateState, Scan, SignatureFact, Unknown, Upstream};

/// Whether an image may enter an environment, by the rules of that environment.
///
/// Every gate that the policy has is in the decision. A fact that is not known closes the gates that need it. So does a
/// time in the future: one of the clocks is wrong.
///
/// ```
/// use bp_artifact::{Config, Digest};
/// use bp_promote::policy::{Facts, GateState, evaluate};
///
/// let config = Config::parse("version = 1\n[project]\nname = \"shop\"\nrepository = \"shop/web\"\n[[environment]]\n\
///     name = \"dev\"\nregion = \"eu-central-1\"\nregistry = \"registry.example.com\"\n[environment.policy]\n\
///     branches = \"main\"\n", "bp.toml")?;
/// let dev = config.environment("dev")?;
///
/// let facts = Facts::unknown(Digest::sha256("an image"), dev.name.clone());
/// let decision = evaluate(dev.policy(), facts, "2026-11-29T12:00:00Z".parse()?);
/// assert!(!decision.is_allowed());
/// assert!(decision.closed().any(|gate| gate.gate.to_string() == "branch" && gate.state == GateState::Unknown));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn evaluate(policy: &PolicyConfig, facts: Facts, now: Timestamp) -> Decision {
    let mut gates = vec![recall(&facts), order(policy, &facts)];
    gates.extend(policy.soak.map(|soak| soaked(soak, &facts, now)));
    gates.extend(policy.proven.then(|| proven(&facts, now)));
    gates.extend(policy.approvals.as_ref().map(|rule| approvals(rule, &facts, now)));
    gates.extend((!policy.branches.is_empty()).then(|| branch(policy, &facts)));
    gates.extend((!policy.forks).then(|| fork(&facts)));
    gates.extend(policy.wait.map(|wait| waited(wait, &facts, now)));
    gates.extend(policy.freezes.iter().map(|freeze| frozen(freeze, now)));
    gates.extend(policy.scan.as_ref().map(|budget| scanned(budget, &facts, now)));
    gates.extend(policy.signatures.iter().map(|rule| signed(rule, &facts)));
    gates.extend(policy.referrers.iter().map(|kind| attached(kind, &facts)));
    Decision { policy: policy.clone(), at: now, gates, facts }
}

fn passed(gate: Gate, reason: impl Into<String>) -> GateResult {
    GateResult { gate, state: GateState::Passed, reason: reason.into(), remedy: None, opens_at: None }
}

fn failed(gate: Gate, reason: impl Into<String>) -> GateResult {
    GateResult { state: GateState::Failed, ..passed(gate, reason) }
}

fn unknown(gate: Gate, unknown: &Unknown) -> GateResult {
    GateResult {
        state: GateState::Unknown,
        remedy: unknown.remedy.clone(),
        ..passed(gate, unknown.reason.clone())
    }
}

/// The result of a gate about a time that is in the future.
fn wrong_clock(gate: Gate, what: &str, at: Timestamp, now: Timestamp) -> GateResult {
    let reason = format!("{what} at {at}, which is after the time of this machine, {now}");
    unknown(gate, &Unknown::new(reason).remedy("set the clocks of both machines, by NTP"))
}

impl GateResult {
    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn opens_at(mut self, at: Timestamp) -> Self {
        self.opens_at = Some(at);
        self
    }
}

fn after(at: Timestamp, time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    at.checked_add(time).unwrap_or(Timestamp::MAX)
}

fn duration(time: Duration) -> String {
    let time = SignedDuration::try_from(Duration::from_secs(time.as_secs())).unwrap_or_default();
    format!("{time:#}")
}

fn recall(facts: &Facts) -> GateResult {
    match facts.recall.get() {
        Err(reason) => unknown(Gate::Recall, reason),
        Ok(None) => passed(Gate::Recall, "it was not recalled"),
        Ok(Some(recall)) => {
            let reason = format!("it was recalled at {}: {}", recall.at, recall.because);
            failed(Gate::Recall, reason).remedy("build and promote a new image: a recall is permanent")
        }
    }
}

fn names(environments: &[Environment]) -> String {
    environments.iter().map(Environment::as_str).collect::<Vec<_>>().join(" or ")
}

fn order(policy: &PolicyConfig, facts: &Facts) -> GateResult {
    let gate = Gate::Order;
    let Some(from) = &facts.from else {
        return if policy.from.is_empty() {
            passed(gate, "it comes from the build")
        } else {
            failed(gate, format!("it comes from no environment, expected {}", names(&policy.from)))
        };
    };
    if !policy.from.contains(from) {
        let (environment, allowed) = (&facts.environment, names(&policy.from));
        let expected = if policy.from.is_empty() { "no environment" } else { allowed.as_str() };
        return failed(gate, format!("it comes from {from}, but images enter {environment} from {expected}"))
            .remedy("promote it through the environments in order, or add the environment to `policy.from`");
    }
    match facts.upstream.get() {
        Err(reason) => unknown(gate, reason),
        Ok(None) => passed(gate, format!("it comes from {from}, which keeps no records")),
        Ok(Some(records)) => match records.iter().find(|record| record.environment == *from) {
            Some(record) => {
                passed(gate, format!("it entered {from} at {}, record {}", record.entered_at, record.record))
            }
            None => failed(gate, format!("it has no valid record of {from}"))
                .remedy(format!("bp promote --to {from}")),
        },
    }
}

/// The records of the environment that the image comes from, or the result of a gate that needs one.
fn upstream(gate: &Gate, facts: &Facts) -> Result<Vec<Upstream>, GateResult> {
    let from = facts.from.as_ref();
    let name = from.map_or("the environment before", Environment::as_str);
    match facts.upstream.get() {
        Err(reason) => Err(unknown(gate.clone(), reason)),
        Ok(None) => {
            let reason = Unknown::new(format!("{name} keeps no records"));
            Err(unknown(
                gate.clone(),
                &reason.remedy(format!("set `policy.keys` of {name}, and promote to it again")),
            ))
        }
        Ok(Some(records)) => {
            Ok(records.iter().filter(|record| Some(&record.environment) == from).cloned().collect())
        }
    }
}

fn soaked(soak: Duration, facts: &Facts, now: Timestamp) -> GateResult {
    let gate = Gate::Soak;
    let records = match upstream(&gate, facts) {
        Ok(records) => records,
        Err(result) => return result,
    };
    // The image may have left the environment in between: the last entry counts.
    let Some(last) = records.iter().map(|record| record.entered_at).max() else {
        return failed(gate, "it has no valid record of the environment before");
    };
    if last > now {
        return wrong_clock(gate, "it entered the environment before", last, now);
    }
    let open = after(last, soak);
    let reason = format!("it entered the environment before at {last}, {} are required", duration(soak));
    if open <= now { passed(gate, reason) } else { failed(gate, reason).opens_at(open) }
}

fn proven(facts: &Facts, now: Timestamp) -> GateResult {
    let gate = Gate::Proven;
    let records = match upstream(&gate, facts) {
        Ok(records) => records,
        Err(result) => return result,
    };
    match records.iter().filter_map(|record| record.proven_at).max() {
        None => failed(gate, "no deployment of it was proven in the environment before"),
        Some(at) if at > now => wrong_clock(gate, "a deployment was proven", at, now),
        Some(at) => passed(gate, format!("a deployment was proven at {at}")),
    }
}

fn approvals(rule: &ApprovalRule, facts: &Facts, now: Timestamp) -> GateResult {
    let gate = Gate::Approvals;
    let given = match facts.approvals.get() {
        Ok(given) => given,
        Err(reason) => return unknown(gate, reason),
    };
    let remedy = format!("bp approve --env {}, by one of the approvers in bp.toml", facts.environment);
    let builder = facts.build.known().and_then(|build| build.initiator.clone());
    let requester = facts.requester.known().cloned();
    let involved = [builder.as_ref(), requester.as_ref()];
    let (mut who, mut keys, mut rejected) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for approval in given {
        let name = &approval.approver;
        let Some(approver) = rule.approvers.get(name) else { continue };
        let is_involved = involved.iter().flatten().any(|person| {
            std::iter::once(name.as_str())
                .chain(approver.aliases.iter().map(String::as_str))
                .any(|alias| alias.eq_ignore_ascii_case(person))
        });
        let end = after(approval.at, rule.expiry);
        let end = approval.expires_at.map_or(end, |earlier| earlier.min(end));
        if approval.at > now {
            rejected.push(format!("{name} approved at {}, which is in the future", approval.at));
        } else if end <= now {
            rejected.push(format!("the approval of {name} expired at {end}"));
        } else if is_involved {
            rejected.push(format!("{name} built or requested it"));
        } else if who.contains(name.as_str()) {
            // Once is enough.
        } else if keys.insert(&approval.key) {
            who.insert(name.to_string());
        } else {
            rejected.push(format!("{name} has the key of another approver"));
        }
    }
    let count = who.len() as u64;
    let mut reason = format!("{count} of {} approvals", rule.count);
    if !who.is_empty() {
        reason += &format!(" ({})", who.into_iter().collect::<Vec<_>>().join(", "));
    }
    if !rejected.is_empty() {
        reason += &format!("; not counted: {}", rejected.join("; "));
    }
    if count < u64::from(rule.count) {
        return failed(gate, reason).remedy(remedy);
    }
    // Without these names, an approver may be one of them.
    let missing = [("who built the image", builder.is_none()), ("who requested it", requester.is_none())];
    match missing.iter().find(|(_, is_missing)| *is_missing) {
        Some((what, _)) => {
            let unknown_reason = Unknown::new(format!("{reason}, but it is not known {what}"));
            unknown(gate, &unknown_reason.remedy("state it with --requested-by, or emit the artifact in CI"))
        }
        None => passed(gate, reason),
    }
}

fn branch(policy: &PolicyConfig, facts: &Facts) -> GateResult {
    let gate = Gate::Branch;
    let remedy = "emit the artifact with --ref, or in a supported build system";
    let build = match facts.build.get() {
        Ok(build) => build,
        Err(reason) => return unknown(gate, reason),
    };
    let Some(reference) = &build.reference else {
        return unknown(gate, &Unknown::new("the artifact does not state its branch").remedy(remedy));
    };
    // A tag and a pull request may have the name of a branch.
    let matches = match reference.strip_prefix("refs/heads/") {
        Some(branch) => policy.branches.iter().any(|glob| glob.matches(branch) || glob.matches(reference)),
        None => {
            reference.starts_with("refs/")
                && policy
                    .branches
                    .iter()
                    .any(|glob| glob.as_str().starts_with("refs/") && glob.matches(reference))
        }
    };
    if matches {
        passed(gate, format!("it was built from {reference}"))
    } else {
        failed(gate, format!("it was built from {reference}, which the policy does not allow"))
    }
}

fn fork(facts: &Facts) -> GateResult {
    let gate = Gate::Fork;
    match facts.build.get().map(|build| build.fork) {
        Err(reason) => unknown(gate, reason),
        Ok(None) => {
            let reason = Unknown::new("the artifact does not state whether it was built from a fork");
            unknown(gate, &reason.remedy("emit the artifact in a build system that reports forks"))
        }
        Ok(Some(true)) => failed(gate, "it was built from a fork"),
        Ok(Some(false)) => passed(gate, "it was not built from a fork"),
    }
}

fn waited(wait: Duration, facts: &Facts, now: Timestamp) -> GateResult {
    let gate = Gate::Wait;
    match facts.requested_at.get() {
        Err(reason) => unknown(gate, reason),
        Ok(at) if *at > now => wrong_clock(gate, "it was requested", *at, now),
        Ok(at) => {
            let reason = format!("it was requested at {at}, {} are required", duration(wait));
            let open = after(*at, wait);
            if open <= now { passed(gate, reason) } else { failed(gate, reason).opens_at(open) }
        }
    }
}

fn frozen(freeze: &Freeze, now: Timestamp) -> GateResult {
    let gate = Gate::Freeze(freeze.name.to_string());
    match freeze.until(now) {
        Some(end) => failed(gate, format!("no image enters until {end}")).opens_at(end),
        None => passed(gate, "it is not in force"),
    }
}

fn scanned(budget: &ScanBudget, facts: &Facts, now: Timestamp) -> GateResult {
    let gate = Gate::Scan;
    let scans = match facts.scans.get() {
        Ok(scans) => scans,
        Err(reason) => return unknown(gate, reason),
    };
    let name = |scan: &Scan| scan.platform.clone().unwrap_or_else(|| scan.image.to_string());
    if scans.is_empty() {
        return unknown(gate, &Unknown::new("there is no scan"));
    }
    for scan in scans {
        if scan.updated_at > now {
            return wrong_clock(gate, "the data of the scan was updated", scan.updated_at, now);
        }
        if after(scan.updated_at, budget.max_age) < now {
            let reason = format!(
                "the data of the scan of {} is of {}, older than {}",
                name(scan),
                scan.updated_at,
                duration(budget.max_age)
            );
            return unknown(gate, &Unknown::new(reason).remedy("scan the image again"));
        }
    }
    let mut unclear = None;
    for scan in scans {
        for (severity, limit) in &budget.limits {
            let found = scan.findings.get(severity).copied().unwrap_or_default();
            let (name, severity) = (name(scan), Severity::name(*severity));
            let counted = match (budget.unfixed, found.unfixed) {
                (true, _) => found.count,
                (false, Some(unfixed)) => found.count.saturating_sub(unfixed),
                (false, None) if found.count > *limit => {
                    let reason = format!(
                        "{name} has {} {severity} vulnerabilities, and the scan does not report for which there is a fix",
                        found.count
                    );
                    unclear.get_or_insert(Unknown::new(reason).remedy("use enhanced scanning"));
                    continue;
                }
                (false, None) => found.count,
            };
            if counted > *limit {
                let reason = format!("{name} has {counted} {severity} vulnerabilities, accepted are {limit}");
                return failed(gate, reason);
            }
        }
    }
    match unclear {
        Some(reason) => unknown(gate, &reason),
        None => passed(gate, format!("{} scanned, within the budget", scans.len())),
    }
}

fn signed(rule: &SignatureRule, facts: &Facts) -> GateResult {
    let gate = Gate::Signature(rule.name.to_string());
    match facts.signatures.get(&rule.name).map(super::Fact::get) {
        None => unknown(gate, &Unknown::new("it was not read")),
        Some(Err(reason)) => unknown(gate, reason),
        Some(Ok(SignatureFact::Unsigned)) => failed(gate, "there is no valid signature"),
        Some(Ok(SignatureFact::Signed(by))) => passed(gate, format!("signed by {by}")),
    }
}

fn attached(kind: &str, facts: &Facts) -> GateResult {
    let gate = Gate::Referrer(kind.to_owned());
    match facts.referrers.get() {
        Err(reason) => unknown(gate, reason),
        Ok(kinds) if kinds.contains(kind) => passed(gate, "it is attached"),
        Ok(_) => failed(gate, "it is not attached"),
    }
}
