//! Decide on promotions by the rules of `bp.toml`, record them, and refuse deployments without a record.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bp_artifact::{
    Artifact, Config, Digest,
    config::{Environment, EnvironmentConfig, PolicyConfig, Signatory},
    time::TimeSource,
};
use bp_promote::{
    attestation::{
        BreakGlass, Entered, LocalSigner, Predicate as _, UpstreamRecord, attach, verification_summary,
    },
    copy::CopyOutcome,
    policy::{BuildFacts, Decision, Evidence, Fact, Facts, TrustedKeys, evaluate},
    registry::RepositoryClient,
};

use crate::{Failure, actor};

/// The promotion of images into one environment, by its rules.
#[derive(Debug)]
pub struct Governance {
    from: Option<Environment>,
    to: Environment,
    policy: PolicyConfig,
    keys: TrustedKeys,
    signer: Option<LocalSigner>,
    build: Fact<BuildFacts>,
    requester: Fact<String>,
    run: Option<String>,
    break_glass: Option<String>,
    time: TimeSource,
}

/// What a promotion is decided with, besides the rules.
#[derive(Debug, Default)]
pub struct GovernanceOptions<'a> {
    /// The file with the private key that signs the records.
    pub key: Option<&'a Path>,
    /// The artifact, for the facts about the build.
    pub artifact: Option<&'a Artifact>,
    /// Why the image enters although gates are closed.
    pub break_glass: Option<String>,
}

/// The decision on one image, and the record that it rests on.
#[derive(Debug)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    upstream: Option<UpstreamRecord>,
    /// Whether the destination has a valid record already.
    is_recorded: bool,
}

impl Governance {
    /// The rules for promotions from an environment to another.
    ///
    /// # Errors
    /// When a key cannot be read, a key to sign with is missing, or a rule is not supported.
    pub fn new(
        config: &Config,
        from: &EnvironmentConfig,
        to: &EnvironmentConfig,
        options: GovernanceOptions<'_>,
    ) -> Result<Self, Failure> {
        let policy = to.policy().clone();
        supported(&to.name, &policy)?;
        let keys = TrustedKeys::read(config, Path::new(""))?;
        let signer = options.key.map(LocalSigner::read).transpose()?;
        if let Some(records) = &policy.records {
            let Some(signer) = &signer else {
                return Err(Failure::bad_input(format!(
                    "the records of {} are signed: set --sign or BP_SIGNING_KEY to the file with the private key",
                    to.name
                )));
            };
            if !keys.may_record(&to.name, signer.public_key().id()) {
                let files: Vec<String> = records.keys.iter().map(|key| key.display().to_string()).collect();
                return Err(Failure::refused(format!(
                    "the key of --sign is none of those that sign records of {}: {}",
                    to.name,
                    files.join(", ")
                )));
            }
        }
        if options.break_glass.is_some() && policy.records.is_none() {
            return Err(Failure::bad_input(format!(
                "--break-glass leaves a record, and {} keeps none: set policy.keys",
                to.name
            )));
        }
        let variable = |name: &str| std::env::var(name).ok();
        let requester = match actor(variable) {
            Some(claim) => Fact::Known(claim.name),
            None => Fact::unknown("the build system does not state who requested it"),
        };
        let build = match options.artifact {
            Some(artifact) => Fact::Known(build_facts(artifact)),
            None => Fact::unknown("images of tags have no artifact: promote the artifact of the build"),
        };
        let run = Artifact::from_environment(variable).ok().and_then(|here| here.build?.uri);
        Ok(Governance {
            from: (from.name != to.name).then(|| from.name.clone()),
            to: to.name.clone(),
            policy,
            keys,
            signer,
            build,
            requester,
            run,
            break_glass: options.break_glass,
            time: TimeSource::system(),
        })
    }

    /// Whether the rules rest on evidence. Otherwise only the environment matters that images come from: see
    /// [`check_source`](Self::check_source).
    pub fn needs_evidence(&self) -> bool {
        !self.keys.is_empty() || !self.policy.is_default()
    }

    /// Checks that images may come from the source.
    ///
    /// # Errors
    /// When they may not (refused).
    pub fn check_source(&self) -> Result<(), Failure> {
        match &self.from {
            Some(from) if !self.policy.from.contains(from) => {
                let allowed: Vec<&str> = self.policy.from.iter().map(Environment::as_str).collect();
                let (to, allowed) = (&self.to, allowed.join(" or "));
                let allowed = if allowed.is_empty() { "no environment".to_owned() } else { allowed };
                Err(Failure::refused(format!("images enter {to} from {allowed}, not from {from}"))
                    .hint("promote through the environments in order, or add the source to policy.from"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Decides whether an image may enter, from what is attached to it in both repositories.
    ///
    /// # Errors
    /// When what is attached at the destination cannot be read. In the source, this closes the gates that need it.
    ///
    /// # Permissions
    /// Pull from both repositories.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn decide(
        &self,
        source: &RepositoryClient,
        destination: &RepositoryClient,
        image: &Digest,
    ) -> Result<Decided, Failure> {
        let mut facts = Facts::unknown(image.clone(), self.to.clone());
        facts.from = self.from.clone();
        if !self.needs_evidence() {
            // Nothing that is attached would count.
            (facts.recall, facts.upstream) = (Fact::Known(None), Fact::Known(None));
            let decision = evaluate(&self.policy, facts, self.time.now());
            return Ok(Decided { decision, upstream: None, is_recorded: false });
        }
        facts.build = self.build.clone();
        facts.requester = self.requester.clone();
        let mut upstream = None;
        match Evidence::read(source, image, &self.keys).await {
            Ok(evidence) => {
                facts.recall = Fact::Known(evidence.recall());
                facts.approvals = Fact::Known(evidence.approvals(&self.to, &self.policy));
                facts.referrers = Fact::Known(evidence.kinds().clone());
                facts.upstream = match &self.from {
                    Some(from) => evidence.upstream(from),
                    None => Fact::Known(None),
                };
                let entry = self.from.as_ref().and_then(|from| evidence.admitted(from).ok());
                upstream = entry.map(|entry| UpstreamRecord {
                    environment: entry.entered.environment.clone(),
                    record: entry.record.clone(),
                });
            }
            Err(error) => {
                let reason = format!(
                    "what is attached to the image in {} cannot be read: {}",
                    source.repository(),
                    bp_artifact::error::chain(&error)
                );
                facts.recall = Fact::unknown(&reason);
                facts.approvals = Fact::unknown(&reason);
                facts.referrers = Fact::unknown(&reason);
                facts.upstream = Fact::unknown(reason);
            }
        }
        // A recall counts also if only the destination has it.
        let there = Evidence::read(destination, image, &self.keys).await?;
        if let (Fact::Known(None), Some(recall)) = (&facts.recall, there.recall()) {
            facts.recall = Fact::Known(Some(recall));
        }
        let is_recorded = there.admitted(&self.to).is_ok();
        let decision = evaluate(&self.policy, facts, self.time.now());
        Ok(Decided { decision, upstream, is_recorded })
    }

    /// Whether the image may be copied: the decision allows it, or the glass is broken.
    pub fn admits(&self, decided: &Decided) -> bool {
        decided.decision.is_allowed() || self.break_glass.is_some()
    }

    /// Records that the image entered: SLSA's summary, then the entry. Does nothing if the environment keeps no records, or
    /// if the copy has changed nothing and there is a valid record of the image.
    ///
    /// # Errors
    /// When the destination rejects a record, is unavailable or denies access.
    ///
    /// # Permissions
    /// Pull from and push to the destination.
    ///
    /// # Cancel safety
    /// After cancellation the record may be missing: run the promotion again.
    pub async fn record(
        &self,
        destination: &RepositoryClient,
        decided: Decided,
        outcome: CopyOutcome,
        tag: Option<String>,
        previous: Option<Digest>,
    ) -> Result<Option<Digest>, Failure> {
        let Some(signer) = self.signer.as_ref().filter(|_| self.policy.records.is_some()) else {
            return Ok(None);
        };
        if decided.is_recorded && outcome == CopyOutcome::Unchanged {
            return Ok(None);
        }
        let (image, at) = (decided.decision.facts.image.clone(), self.time.now());
        let resource = destination.repository().at(image.clone()).to_string();
        let summary = verification_summary(&decided.decision, &resource)?;
        attach(destination, &image, &summary, signer, at).await?;
        let is_broken = !decided.decision.is_allowed();
        let entered = Entered {
            environment: self.to.clone(),
            repository: destination.repository().clone(),
            tag,
            previous,
            at,
            requester: self.requester.known().cloned(),
            run: self.run.clone(),
            upstream: decided.upstream,
            decision: decided.decision,
            break_glass: self
                .break_glass
                .clone()
                .filter(|_| is_broken)
                .map(|reason| BreakGlass { reason, by: self.requester.known().cloned() }),
        };
        Ok(Some(attach(destination, &image, &entered.about(&image)?, signer, at).await?))
    }
}

/// Refuses rules for which this version collects no facts: their gates would never open.
fn supported(environment: &Environment, policy: &PolicyConfig) -> Result<(), Failure> {
    let unsupported = |key: &str| {
        Err(Failure::bad_input(format!(
            "`{key}` of {environment} is not supported by this version of bp: remove it"
        )))
    };
    if policy.scan.is_some() {
        return unsupported("policy.scan");
    }
    if policy.proven {
        return unsupported("policy.proven");
    }
    if policy.wait.is_some() {
        return unsupported("policy.wait");
    }
    match policy.signatures.first().map(|rule| &rule.by) {
        Some(Signatory::Key { .. } | Signatory::Identity { .. } | Signatory::SigningProfile { .. }) => {
            unsupported("policy.signature")
        }
        None => Ok(()),
    }
}

fn build_facts(artifact: &Artifact) -> BuildFacts {
    let source = artifact.source.as_ref();
    BuildFacts {
        reference: source.and_then(|source| source.reference.clone()),
        fork: source.and_then(|source| source.fork),
        initiator: artifact.build.as_ref().and_then(|build| build.initiator.clone()),
    }
}

/// The check that an environment requires of the images that are deployed there.
#[derive(Debug, Clone)]
pub struct Admission {
    environment: Environment,
    keys: Arc<TrustedKeys>,
}

impl Admission {
    /// The check of an environment. `None` if it requires no records.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub fn of(config: &Config, environment: &EnvironmentConfig) -> Result<Option<Self>, Failure> {
        if !environment.policy().records.as_ref().is_some_and(|records| records.required) {
            return Ok(None);
        }
        let keys = Arc::new(TrustedKeys::read(config, Path::new(""))?);
        Ok(Some(Admission { environment: environment.name.clone(), keys }))
    }

    /// Checks that the image has a valid record of the environment, and was not recalled.
    ///
    /// # Errors
    /// When it has none, or was recalled (refused), or what is attached to it cannot be read (unavailable): nothing is
    /// deployed then.
    ///
    /// # Permissions
    /// Pull.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn check(&self, repository: &RepositoryClient, image: &Digest) -> Result<(), Failure> {
        let evidence = Evidence::read(repository, image, &self.keys).await?;
        match evidence.admitted(&self.environment) {
            Ok(_) => Ok(()),
            Err(error) => {
                let image = repository.repository().at(image.clone());
                let hint = format!("promote it with promote --to {}", self.environment);
                Err(Failure::from(error).context(image).hint(hint))
            }
        }
    }
}

/// The file with the private key that signs.
pub(crate) fn signer(key: Option<&PathBuf>) -> Result<LocalSigner, Failure> {
    match key {
        Some(key) => Ok(LocalSigner::read(key)?),
        None => Err(Failure::bad_input("set --sign or BP_SIGNING_KEY to the file with the private key")),
    }
}
