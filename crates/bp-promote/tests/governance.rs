//! Records of promotions on two registries of the sandbox: written, copied, verified, and what an attacker who may
//! push and delete can do about them.

use bp_artifact::{Config, Digest, Repository, config::Environment};
use bp_promote::{
    CopyOptions, RegistryClient,
    attestation::{
        Approved, BreakGlass, Deployed, Entered, LocalSigner, Predicate as _, Recalled, UpstreamRecord,
        attach, verification_summary,
    },
    copy,
    policy::{BuildFacts, Evidence, Fact, Facts, NotAdmitted, TrustedKeys, evaluate},
    registry::{Anonymous, RepositoryClient, transport},
};
use bp_sandbox::{ImageBuilder, Sandbox, registry::RegistryOptions};
use jiff::Timestamp;

/// dev, staging and prod in one registry each; with keys for each environment and for an approver.
struct World {
    sandbox: Sandbox,
    config: Config,
    keys: TrustedKeys,
    signers: Vec<(Environment, LocalSigner)>,
    alice: LocalSigner,
    image: Digest,
}

const POLICY: &str = r#"
version = 1
[project]
name = "shop"
repository = "shop/web"
[[environment]]
name = "dev"
region = "eu-central-1"
registry = "dev.example.com"
[environment.policy]
keys = "dev.pub"
[[environment]]
name = "staging"
region = "eu-central-1"
registry = "staging.example.com"
[environment.policy]
keys = "staging.pub"
branches = "main"
[[environment]]
name = "prod"
region = "eu-central-1"
registry = "prod.example.com"
[environment.policy]
keys = "prod.pub"
soak = "1h"
proven = "on"
approvals = 1
require-record = "on"
[environment.policy.approver.alice]
key = "alice.pub"
"#;

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
    start.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap()
}

impl World {
    fn new(referrers: bool) -> Self {
        let mut builder = Sandbox::builder();
        for name in ["dev", "staging", "prod"] {
            let options = RegistryOptions::default();
            let options = if referrers { options } else { options.without_referrers() };
            builder = builder.registry(&format!("{name}.example.com"), options);
        }
        let sandbox = builder.build();
        let image = ImageBuilder::new().platform("linux/amd64").layer([("app", "hello")]).build();
        sandbox.registry("dev.example.com").push(&image, "shop/web", "1.4.2");
        let config = Config::parse(POLICY, "bp.toml").unwrap();
        // The keys are read from files.
        let dir = tempfile::tempdir().unwrap();
        let signer = |name: &str| {
            let signer = LocalSigner::generate().unwrap();
            std::fs::write(dir.path().join(format!("{name}.pub")), signer.public_key().to_pem()).unwrap();
            signer
        };
        let alice = signer("alice");
        let signers = ["dev", "staging", "prod"].map(|name| (name.parse().unwrap(), signer(name))).into();
        let keys = TrustedKeys::read(&config, dir.path()).unwrap();
        World { sandbox, config, keys, signers, alice, image: image.digest().parse().unwrap() }
    }

    fn client(&self) -> RegistryClient {
        let transport = transport(self.sandbox.transport());
        RegistryClient::builder().transport(transport).credentials(Anonymous).build().unwrap()
    }

    fn repository(&self, environment: &str) -> RepositoryClient {
        let repository: Repository = format!("{environment}.example.com/shop/web").parse().unwrap();
        self.client().repository(&repository)
    }

    fn signer(&self, environment: &str) -> &LocalSigner {
        &self.signers.iter().find(|(name, _)| name.as_str() == environment).unwrap().1
    }

    async fn evidence(&self, environment: &str) -> Evidence {
        Evidence::read(&self.repository(environment), &self.image, &self.keys).await.unwrap()
    }

    /// What `promote` does: collects the facts, decides, copies with referrers, and records.
    async fn promote(
        &self,
        from: Option<&str>,
        to: &str,
        minute: i64,
        break_glass: Option<&str>,
    ) -> Result<Digest, String> {
        let source = from.unwrap_or(to);
        let evidence = self.evidence(source).await;
        let environment: Environment = to.parse().unwrap();
        let policy = self.config.environment(to).unwrap().policy();
        let from: Option<Environment> = from.map(|from| from.parse().unwrap());
        let mut facts = Facts::unknown(self.image.clone(), environment.clone());
        facts.build = Fact::Known(BuildFacts {
            reference: Some("refs/heads/main".into()),
            fork: Some(false),
            initiator: Some("ben".into()),
        });
        facts.requester = Fact::Known("rita".into());
        facts.recall = Fact::Known(evidence.recall());
        facts.upstream = from.as_ref().map_or(Fact::Known(None), |from| evidence.upstream(from));
        facts.approvals = Fact::Known(evidence.approvals(&environment, policy));
        facts.referrers = Fact::Known(evidence.kinds().clone());
        facts.from = from;
        let decision = evaluate(policy, facts, at(minute));
        if !decision.is_allowed() && break_glass.is_none() {
            return Err(decision.to_string());
        }
        let image = |environment| self.repository(environment).at(self.image.clone());
        if source != to {
            copy(image(source), image(to), CopyOptions::default().referrers()).await.unwrap();
        }
        let upstream = decision.facts.from.as_ref().and_then(|from| {
            let entry = evidence.admitted(from).ok()?;
            Some(UpstreamRecord { environment: from.clone(), record: entry.record.clone() })
        });
        let destination = self.repository(to);
        let summary = verification_summary(&decision, &destination.repository().to_string()).unwrap();
        attach(&destination, &self.image, &summary, self.signer(to), at(minute)).await.unwrap();
        let entered = Entered {
            environment,
            repository: destination.repository().clone(),
            tag: Some("1.4.2".into()),
            previous: None,
            at: at(minute),
            requester: Some("rita".into()),
            run: None,
            upstream,
            decision,
            break_glass: break_glass
                .map(|reason| BreakGlass { reason: reason.into(), by: Some("rita".into()) }),
        };
        let statement = entered.about(&self.image).unwrap();
        Ok(attach(&destination, &self.image, &statement, self.signer(to), at(minute)).await.unwrap())
    }

    async fn deployed(&self, environment: &str, minute: i64) {
        let deployed = Deployed {
            environment: environment.parse().unwrap(),
            target: "ecs/shop/web".into(),
            revision: Some("shop-web:4".into()),
            at: at(minute),
            run: None,
        };
        let statement = deployed.about(&self.image).unwrap();
        let repository = self.repository(environment);
        attach(&repository, &self.image, &statement, self.signer(environment), at(minute)).await.unwrap();
    }

    async fn approve(&self, by: &LocalSigner, minute: i64) -> Digest {
        let environment: Environment = "prod".parse().unwrap();
        let policy = self.config.environment("prod").unwrap().policy().digest();
        let approved = Approved { environment, policy, at: at(minute), expires_at: None, comment: None };
        let statement = approved.about(&self.image).unwrap();
        attach(&self.repository("staging"), &self.image, &statement, by, at(minute)).await.unwrap()
    }

    /// The image in prod, by the rules.
    async fn promoted(&self) -> [Digest; 3] {
        let dev = self.promote(None, "dev", 0, None).await.unwrap();
        let staging = self.promote(Some("dev"), "staging", 5, None).await.unwrap();
        self.deployed("staging", 10).await;
        self.approve(&self.alice, 20).await;
        let prod = self.promote(Some("staging"), "prod", 70, None).await.unwrap();
        [dev, staging, prod]
    }

    fn delete(&self, environment: &str, record: &Digest) {
        self.sandbox.registry(&format!("{environment}.example.com")).delete("shop/web", record.as_str());
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_is_promoted_with_its_records() {
    for referrers in [true, false] {
        let world = World::new(referrers);
        let [dev, staging, prod] = world.promoted().await;
        let evidence = world.evidence("prod").await;
        let entry = evidence.admitted(&"prod".parse().unwrap()).unwrap();
        assert_eq!(
            (&entry.record, entry.key.as_str()),
            (&prod, world.signer("prod").public_key().id().as_str())
        );
        assert_eq!(entry.entered.upstream.as_ref().unwrap().record, staging);
        let audit = evidence.audit(&world.config);
        assert!(audit.is_valid(), "{audit}");
        let records: Vec<&Digest> = audit.entries.iter().map(|entry| &entry.record).collect();
        assert_eq!(records, [&dev, &staging, &prod], "the chain travels with the image");
        assert!(audit.ignored.is_empty(), "{audit}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_gate_keeps_the_image_out_until_its_evidence_exists() {
    let world = World::new(true);
    world.promote(None, "dev", 0, None).await.unwrap();
    let skipped = world.promote(Some("dev"), "prod", 100, None).await.unwrap_err();
    assert!(skipped.contains("order: it comes from dev, but images enter prod from staging"), "{skipped}");
    let unrecorded = world.promote(Some("staging"), "prod", 100, None).await.unwrap_err();
    assert!(unrecorded.contains("no valid record of staging"), "{unrecorded}");
    world.promote(Some("dev"), "staging", 5, None).await.unwrap();
    let early = world.promote(Some("staging"), "prod", 30, None).await.unwrap_err();
    for missing in ["failed  soak", "failed  proven", "failed  approvals: 0 of 1"] {
        assert!(early.contains(missing), "{missing}: {early}");
    }
    world.deployed("staging", 10).await;
    world.approve(&LocalSigner::generate().unwrap(), 20).await;
    let forged = world.promote(Some("staging"), "prod", 70, None).await.unwrap_err();
    assert!(forged.contains("0 of 1 approvals") && !forged.contains("failed  proven"), "{forged}");
    world.approve(&world.alice, 20).await;
    world.promote(Some("staging"), "prod", 70, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_past_the_gates_is_not_admitted() {
    let world = World::new(true);
    let prod: Environment = "prod".parse().unwrap();
    let copied = |from: &'static str| {
        let image = |environment| world.repository(environment).at(world.image.clone());
        copy(image(from), image("prod"), CopyOptions::default().referrers())
    };
    world.promote(None, "dev", 0, None).await.unwrap();
    copied("dev").await.unwrap();
    let refused = world.evidence("prod").await.admitted(&prod).unwrap_err();
    assert!(matches!(refused, NotAdmitted::NoRecord { .. }), "{refused}");
    // A record that another environment's key signed does not count.
    let [_, staging, _] = {
        let world = World::new(true);
        world.promoted().await
    };
    let evidence = world.evidence("dev").await;
    let entry = evidence.admitted(&"dev".parse().unwrap()).unwrap();
    let forged = Entered { environment: prod.clone(), ..entry.entered.clone() };
    let statement = forged.about(&world.image).unwrap();
    let repository = world.repository("prod");
    attach(&repository, &world.image, &statement, world.signer("staging"), at(80)).await.unwrap();
    let refused = world.evidence("prod").await.admitted(&prod).unwrap_err();
    assert!(refused.to_string().contains("may not sign records of prod"), "{refused}");
    // Nor does one with the right key and a decision that does not follow.
    attach(&repository, &world.image, &statement, world.signer("prod"), at(80)).await.unwrap();
    let refused = world.evidence("prod").await.admitted(&prod).unwrap_err();
    assert!(matches!(refused, NotAdmitted::Broken { .. }), "{refused} {staging}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_removed_from_inside_the_chain_is_noticed() {
    for index in 0..2 {
        let world = World::new(true);
        let records = world.promoted().await;
        world.delete("prod", &records[index]);
        let evidence = world.evidence("prod").await;
        let refused = evidence.admitted(&"prod".parse().unwrap()).unwrap_err();
        assert!(refused.to_string().contains("is missing"), "{refused}");
        assert!(!evidence.audit(&world.config).is_valid());
    }
    // An approval is a fact of the decision.
    let world = World::new(true);
    world.promote(None, "dev", 0, None).await.unwrap();
    world.promote(Some("dev"), "staging", 5, None).await.unwrap();
    world.deployed("staging", 10).await;
    let approval = world.approve(&world.alice, 20).await;
    world.promote(Some("staging"), "prod", 70, None).await.unwrap();
    world.delete("prod", &approval);
    let audit = world.evidence("prod").await.audit(&world.config);
    assert!(!audit.is_valid() && audit.to_string().contains("of alice is missing"), "{audit}");
}

#[tokio::test(start_paused = true)]
async fn breaking_glass_leaves_a_record_that_says_so() {
    let world = World::new(true);
    world.promote(None, "dev", 0, None).await.unwrap();
    let reason = "INC-42: checkout is down";
    world.promote(Some("dev"), "prod", 10, Some(reason)).await.unwrap();
    let evidence = world.evidence("prod").await;
    assert!(evidence.admitted(&"prod".parse().unwrap()).is_ok());
    let audit = evidence.audit(&world.config);
    assert!(audit.is_valid() && audit.to_string().contains(reason), "{audit}");
}

#[tokio::test(start_paused = true)]
async fn a_recalled_image_is_refused_everywhere() {
    let world = World::new(true);
    world.promoted().await;
    let recalled = Recalled { because: "CVE-2026-1".into(), at: at(90), by: None };
    let statement = recalled.about(&world.image).unwrap();
    let repository = world.repository("prod");
    // An unknown key recalls nothing.
    let unknown = LocalSigner::generate().unwrap();
    attach(&repository, &world.image, &statement, &unknown, at(90)).await.unwrap();
    assert!(world.evidence("prod").await.admitted(&"prod".parse().unwrap()).is_ok());
    attach(&repository, &world.image, &statement, world.signer("dev"), at(90)).await.unwrap();
    let evidence = world.evidence("prod").await;
    let refused = evidence.admitted(&"prod".parse().unwrap()).unwrap_err();
    assert!(matches!(&refused, NotAdmitted::Recalled(recall) if recall.because == "CVE-2026-1"), "{refused}");
    assert!(evidence.audit(&world.config).to_string().contains("RECALLED"));
}
