//! The gates of a policy: each one passes, fails and is unknown, and nothing unknown opens one.

use std::collections::BTreeMap;

use bp_artifact::{
    Config, Digest,
    config::{PolicyConfig, Severity},
};
use bp_promote::{
    attestation::LocalSigner,
    policy::{
        Approval, BuildFacts, Decision, Fact, Facts, Finding, GateState, Recall, Scan, SignatureFact,
        Upstream, evaluate,
    },
};
use jiff::Timestamp;
use proptest::prelude::*;

const NOW: &str = "2026-11-27T12:00:00Z";

/// The policy of prod in a file with dev, staging and prod.
fn policy(rules: &str) -> PolicyConfig {
    let environment = |name: &str| {
        format!(
            "[[environment]]\nname = \"{name}\"\nregion = \"eu-central-1\"\nregistry = \"r.example.com\"\n"
        )
    };
    let text = format!(
        "version = 1\n[project]\nname = \"shop\"\nrepository = \"shop/web\"\n{}{}{}{rules}\n",
        environment("dev"),
        environment("staging"),
        environment("prod"),
    );
    let config = Config::parse(&text, "bp.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    config.environment("prod").unwrap().policy().clone()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn image() -> Digest {
    Digest::sha256("image")
}

fn approval(name: &str, time: &str) -> Approval {
    let key = LocalSigner::generate().unwrap().public_key().id().clone();
    Approval {
        approver: name.parse().unwrap(),
        key,
        record: Digest::sha256(name),
        at: at(time),
        expires_at: None,
    }
}

fn scan(platform: &str, high: Finding) -> Scan {
    Scan {
        image: Digest::sha256(platform),
        platform: Some(platform.to_owned()),
        updated_at: at("2026-11-27T06:00:00Z"),
        findings: [(Severity::High, high)].into(),
    }
}

/// The facts of an image that passes every gate of [`ALL`].
fn facts() -> Facts {
    let mut facts = Facts::unknown(image(), "prod".parse().unwrap());
    facts.from = Some("staging".parse().unwrap());
    facts.requested_at = Fact::Known(at("2026-11-27T11:00:00Z"));
    facts.requester = Fact::Known("rita".into());
    facts.build = Fact::Known(BuildFacts {
        reference: Some("refs/heads/main".into()),
        fork: Some(false),
        initiator: Some("ben".into()),
    });
    facts.upstream = Fact::Known(Some(vec![Upstream {
        environment: "staging".parse().unwrap(),
        record: Digest::sha256("record"),
        entered_at: at("2026-11-25T12:00:00Z"),
        proven_at: Some(at("2026-11-25T12:10:00Z")),
    }]));
    facts.recall = Fact::Known(None);
    facts.approvals =
        Fact::Known(vec![approval("alice", "2026-11-27T10:00:00Z"), approval("bob", "2026-11-27T10:30:00Z")]);
    facts.scans = Fact::Known(vec![scan("linux/amd64", Finding { count: 2, unfixed: Some(1) })]);
    facts.signatures =
        [("release".parse().unwrap(), Fact::Known(SignatureFact::Signed("a key".into())))].into();
    facts.referrers = Fact::Known(["application/spdx+json".to_owned()].into());
    facts
}

const ALL: &str = r#"
[environment.policy]
soak = "24h"
proven = "on"
approvals = 2
branches = "main, release/*"
wait = "30m"
referrers = "application/spdx+json"
scan.critical = 0
scan.high = 1
scan.unfixed = "off"
[environment.policy.approver.alice]
key = "alice.pub"
aliases = "alice@example.com, asmith"
[environment.policy.approver.bob]
key = "bob.pub"
[environment.policy.approver.carol]
key = "carol.pub"
[environment.policy.freeze.weekend]
days = "sat, sun"
zone = "Europe/Berlin"
[environment.policy.signature.release]
key = "release.pub"
"#;

fn decide(rules: &str, facts: Facts) -> Decision {
    evaluate(&policy(rules), facts, at(NOW))
}

/// The only gate that is closed, with its state.
fn closed(decision: &Decision) -> Vec<(String, GateState)> {
    decision.closed().map(|gate| (gate.gate.to_string(), gate.state)).collect()
}

#[test]
fn an_image_with_all_evidence_may_enter() {
    let decision = decide(ALL, facts());
    assert!(decision.is_allowed(), "{decision}");
    assert_eq!(decision.gates.len(), 12);
}

#[test]
fn without_any_fact_every_gate_is_closed() {
    let facts =
        Facts { from: Some("staging".parse().unwrap()), ..Facts::unknown(image(), "prod".parse().unwrap()) };
    let decision = decide(ALL, facts);
    let states: BTreeMap<String, GateState> = closed(&decision).into_iter().collect();
    let open: Vec<String> = decision
        .gates
        .iter()
        .map(|gate| gate.gate.to_string())
        .filter(|gate| !states.contains_key(gate))
        .collect();
    assert_eq!(open, ["freeze weekend"], "it needs nothing but the time");
    assert!(states.values().all(|state| *state == GateState::Unknown), "{states:?}");
}

/// One change of the facts closes one gate.
#[test]
fn each_missing_piece_of_evidence_closes_its_gate() {
    use GateState::{Failed, Unknown};
    type Change = fn(&mut Facts);
    fn upstream(facts: &mut Facts, change: fn(&mut Upstream)) {
        let Fact::Known(Some(records)) = &mut facts.upstream else { unreachable!() };
        change(&mut records[0]);
    }
    fn build(facts: &mut Facts, change: fn(&mut BuildFacts)) {
        let Fact::Known(build) = &mut facts.build else { unreachable!() };
        change(build);
    }
    let rows: Vec<(&str, GateState, &str, Change)> = vec![
        ("recall", Failed, "recalled", |f| {
            let (record, at) = (Digest::sha256("recall"), at(NOW));
            f.recall = Fact::Known(Some(Recall { record, because: "CVE".into(), at }));
        }),
        ("recall", Unknown, "denied", |f| f.recall = Fact::unknown("denied")),
        ("soak", Failed, "24h", |f| upstream(f, |r| r.entered_at = at("2026-11-26T12:00:01Z"))),
        ("soak", Unknown, "after the time", |f| upstream(f, |r| r.entered_at = at("2026-11-27T12:00:01Z"))),
        ("proven", Failed, "no deployment", |f| upstream(f, |r| r.proven_at = None)),
        ("proven", Unknown, "after the time", |f| {
            upstream(f, |r| r.proven_at = Some(at("2027-01-01T00:00:00Z")))
        }),
        ("approvals", Failed, "1 of 2", |f| {
            f.approvals = Fact::Known(vec![approval("alice", "2026-11-27T10:00:00Z")])
        }),
        ("approvals", Failed, "0 of 2", |f| f.approvals = Fact::Known(vec![approval("mallory", NOW); 2])),
        ("approvals", Failed, "1 of 2", |f| {
            f.approvals =
                Fact::Known(vec![approval("alice", "2026-11-27T10:00:00Z"), approval("alice", NOW)]);
        }),
        ("approvals", Failed, "key of another", |f| {
            let alice = approval("alice", "2026-11-27T10:00:00Z");
            f.approvals =
                Fact::Known(vec![Approval { approver: "bob".parse().unwrap(), ..alice.clone() }, alice]);
        }),
        ("approvals", Failed, "expired at 2026-11-27T11:59:59Z", |f| {
            let old = approval("alice", "2026-11-24T11:59:59Z");
            f.approvals = Fact::Known(vec![old, approval("bob", "2026-11-27T10:00:00Z")]);
        }),
        ("approvals", Failed, "expired at 2026-11-27T12:00:00Z", |f| {
            let short = Approval { expires_at: Some(at(NOW)), ..approval("alice", "2026-11-27T10:00:00Z") };
            f.approvals = Fact::Known(vec![short, approval("bob", "2026-11-27T10:00:00Z")]);
        }),
        ("approvals", Failed, "in the future", |f| {
            f.approvals = Fact::Known(vec![approval("alice", "2026-11-27T12:00:01Z"), approval("bob", NOW)]);
        }),
        ("approvals", Failed, "built or requested", |f| build(f, |b| b.initiator = Some("ASmith".into()))),
        ("approvals", Failed, "built or requested", |f| f.requester = Fact::Known("bob".into())),
        ("approvals", Unknown, "who built", |f| build(f, |b| b.initiator = None)),
        ("approvals", Unknown, "who requested", |f| f.requester = Fact::unknown("no build system")),
        ("branch", Failed, "refs/heads/feature", |f| {
            build(f, |b| b.reference = Some("refs/heads/feature".into()))
        }),
        ("branch", Failed, "refs/tags/main", |f| build(f, |b| b.reference = Some("refs/tags/main".into()))),
        ("branch", Failed, "refs/pull", |f| build(f, |b| b.reference = Some("refs/pull/5/head".into()))),
        ("branch", Unknown, "does not state", |f| build(f, |b| b.reference = None)),
        ("fork", Failed, "from a fork", |f| build(f, |b| b.fork = Some(true))),
        ("fork", Unknown, "does not state", |f| build(f, |b| b.fork = None)),
        ("wait", Failed, "30m", |f| f.requested_at = Fact::Known(at("2026-11-27T11:30:01Z"))),
        ("wait", Unknown, "after the time", |f| f.requested_at = Fact::Known(at("2026-11-27T12:00:01Z"))),
        ("scan", Failed, "2 high", |f| {
            f.scans = Fact::Known(vec![scan("linux/arm64", Finding { count: 2, unfixed: Some(0) })]);
        }),
        ("scan", Unknown, "does not report", |f| {
            f.scans = Fact::Known(vec![scan("linux/arm64", Finding { count: 2, unfixed: None })]);
        }),
        ("scan", Unknown, "no scan", |f| f.scans = Fact::Known(Vec::new())),
        ("scan", Unknown, "older than", |f| {
            let old =
                Scan { updated_at: at("2026-11-26T11:59:59Z"), ..scan("linux/amd64", Finding::default()) };
            f.scans = Fact::Known(vec![scan("linux/arm64", Finding::default()), old]);
        }),
        ("scan", Unknown, "after the time", |f| {
            let new =
                Scan { updated_at: at("2026-11-28T00:00:00Z"), ..scan("linux/amd64", Finding::default()) };
            f.scans = Fact::Known(vec![new]);
        }),
        ("signature release", Failed, "no valid", |f| {
            f.signatures = [("release".parse().unwrap(), Fact::Known(SignatureFact::Unsigned))].into();
        }),
        ("signature release", Unknown, "not read", |f| f.signatures.clear()),
        ("referrer application/spdx+json", Failed, "not attached", |f| f.referrers = Fact::Known([].into())),
    ];
    for (gate, state, reason, change) in rows {
        let mut facts = facts();
        change(&mut facts);
        let decision = decide(ALL, facts);
        assert_eq!(closed(&decision), [(gate.to_owned(), state)], "{reason}: {decision}");
        let result = decision.closed().next().unwrap();
        assert!(result.reason.contains(reason), "{reason}: {}", result.reason);
    }
}

#[test]
fn images_come_only_from_where_the_policy_allows() {
    let from = |name: Option<&str>| Facts { from: name.map(|name| name.parse().unwrap()), ..facts() };
    // The environment before is the default; others only when configured.
    for (rules, name, open) in [
        ("", Some("staging"), true),
        ("", Some("dev"), false),
        ("", None, false),
        ("[environment.policy]\nfrom = \"dev\"", Some("staging"), false),
    ] {
        let decision = decide(rules, from(name));
        assert_eq!(decision.is_allowed(), open, "{rules} {name:?}: {decision}");
    }
    // The record is that of the environment that it comes from.
    let decision = decide("[environment.policy]\nfrom = \"dev, staging\"", from(Some("dev")));
    assert_eq!(closed(&decision), [("order".into(), GateState::Failed)]);
    // An environment without records has none to show, and a soak time cannot be measured there.
    let without = Facts { upstream: Fact::Known(None), ..facts() };
    assert!(decide("", without.clone()).is_allowed());
    let decision = decide("[environment.policy]\nsoak = \"1h\"", without);
    assert_eq!(closed(&decision), [("soak".into(), GateState::Unknown)]);
    assert!(decision.closed().next().unwrap().remedy.as_ref().unwrap().contains("policy.keys"));
}

#[test]
fn a_soak_time_starts_with_the_last_entry() {
    let mut facts = facts();
    let Fact::Known(Some(records)) = &mut facts.upstream else { unreachable!() };
    let again = Upstream { entered_at: at("2026-11-27T11:00:00Z"), ..records[0].clone() };
    records.push(again);
    let decision = decide(ALL, facts);
    assert_eq!(closed(&decision), [("soak".into(), GateState::Failed)]);
    assert_eq!(decision.opens_at(), Some(at("2026-11-28T11:00:00Z")));
}

#[test]
fn a_freeze_closes_until_its_end_and_is_reported_with_what_else_is_missing() {
    let rules = policy(ALL);
    let saturday = at("2026-11-28T00:00:00Z");
    let mut facts = facts();
    facts.scans = Fact::Known(vec![Scan { updated_at: saturday, ..scan("linux/amd64", Finding::default()) }]);
    let decision = evaluate(&rules, facts.clone(), saturday);
    assert_eq!(closed(&decision), [("freeze weekend".into(), GateState::Failed)]);
    assert_eq!(decision.opens_at(), Some(at("2026-11-28T23:00:00Z")));
    facts.referrers = Fact::Known([].into());
    let decision = evaluate(&rules, facts, saturday);
    assert_eq!((decision.closed().count(), decision.opens_at()), (2, None), "time alone does not open it");
}

#[test]
fn decisions_read_back_and_evaluate_to_the_same() {
    let rules = policy(ALL);
    let decision = decide(ALL, facts());
    let read: Decision = serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
    assert_eq!(read, decision);
    assert_eq!(evaluate(&read.policy, read.facts, read.at), decision);
    assert_ne!(policy("").digest(), rules.digest());
}

#[test]
fn rules_that_cannot_be_met_are_refused_with_their_location() {
    for (rules, reason) in [
        ("[environment.policy]\napprovals = 1", "there are 0 approvers"),
        ("[environment.policy.approver.alice]\nkey = \"a.pub\"", "no effect without `policy.approvals`"),
        (
            "[environment.policy]\napprovals = 1\n[environment.policy.approver.alice]\naliases = \"a\"",
            "no `key`",
        ),
        ("[environment.policy]\nfrom = \"qa\"", "unknown environment \"qa\""),
        ("[environment.policy]\nrequire-record = \"on\"", "requires `policy.keys`"),
        ("[environment.policy]\nscan.unfixed = \"off\"", "limits no severity"),
        ("[environment.policy]\nscan.high = -1", "not a whole number"),
        ("[environment.policy.freeze.x]\nfrom = \"2026-12-23T18:00\"", "no `until`"),
        (
            "[environment.policy.freeze.x]\nfrom = \"2026-12-23T18:00\"\nuntil = \"2026-12-22T18:00\"",
            "not after",
        ),
        (
            "[environment.policy.freeze.x]\nfrom = \"2026-12-23T18:00Z\"\nuntil = \"2026-12-24T18:00\"",
            "without offset",
        ),
        ("[environment.policy.freeze.x]\ndays = \"friday\"", "unknown day"),
        (
            "[environment.policy.freeze.x]\ndays = \"fri\"\nfrom = \"18:00\"\nuntil = \"06:00\"",
            "second freeze",
        ),
        ("[environment.policy.freeze.x]\ndays = \"fri\"\nzone = \"Mars/Base\"", "unknown time zone"),
        ("[environment.policy.signature.x]\nidentity = \"*\"", "requires `key`"),
        ("[environment.policy]\nsoak = \"0s\"", "zero"),
        ("[environment.policy]\nsoack = \"1h\"", "unknown key `policy.soack`"),
    ] {
        let text = format!(
            "version = 1\n[project]\nname = \"shop\"\nrepository = \"shop/web\"\n[[environment]]\nname = \"dev\"\n\
             region = \"eu-central-1\"\nregistry = \"r.example.com\"\n[[environment]]\nname = \"prod\"\n\
             region = \"eu-central-1\"\nregistry = \"r.example.com\"\n{rules}\n"
        );
        let error = Config::parse(&text, "bp.toml").unwrap_err().to_string();
        assert!(error.starts_with("bp.toml:") && error.contains(reason), "{rules}: {error}");
    }
    // The first environment has none before it.
    let text = "version = 1\n[project]\nname = \"shop\"\nrepository = \"shop/web\"\n[[environment]]\nname = \"dev\"\n\
                region = \"eu-central-1\"\nregistry = \"r.example.com\"\n[environment.policy]\nsoak = \"1h\"\n";
    assert!(Config::parse(text, "bp.toml").unwrap_err().to_string().contains("first one"));
}

#[test]
fn neither_variables_nor_flags_relax_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bp.toml");
    let text = "version = 1\n[project]\nname = \"shop\"\nrepository = \"shop/web\"\n[[environment]]\nname = \"dev\"\n\
                region = \"eu-central-1\"\nregistry = \"r.example.com\"\n[environment.policy]\nbranches = \"main\"\n";
    std::fs::write(&path, text).unwrap();
    let loader = || bp_artifact::config::ConfigLoader::new(&path);
    let set = |name: &str| name.starts_with("BP_DEV_POLICY").then(|| "*".to_owned());
    let config = loader().variables(set).load().unwrap();
    assert_eq!(config.environment("dev").unwrap().policy().branches[0].as_str(), "main");
    let error = loader().flag("--branches", "dev", "policy.branches", "*").load().unwrap_err().to_string();
    assert!(error.contains("only in a file"), "{error}");
}

proptest! {
    /// Removing facts never opens a gate.
    #[test]
    fn knowing_less_never_opens_a_gate(removed in prop::collection::vec(any::<bool>(), 9), hours in -100i64..100) {
        let now = at(NOW).checked_add(jiff::SignedDuration::from_hours(hours)).unwrap();
        let rules = policy(ALL);
        let mut less = facts();
        fn forget<T>(fact: &mut Fact<T>, is_removed: bool) {
            if is_removed {
                *fact = Fact::unknown("removed");
            }
        }
        forget(&mut less.requested_at, removed[0]);
        forget(&mut less.requester, removed[1]);
        forget(&mut less.build, removed[2]);
        forget(&mut less.upstream, removed[3]);
        forget(&mut less.recall, removed[4]);
        forget(&mut less.approvals, removed[5]);
        forget(&mut less.scans, removed[6]);
        forget(&mut less.referrers, removed[7]);
        if removed[8] {
            less.signatures.clear();
        }
        let (all, less) = (evaluate(&rules, facts(), now), evaluate(&rules, less, now));
        for (all, less) in all.gates.iter().zip(&less.gates) {
            prop_assert_eq!(&all.gate, &less.gate);
            prop_assert!(less.state != GateState::Passed || all.state == GateState::Passed, "{:?}", less);
        }
    }
}
