//! A random scenario: registries, images to copy, options; and the invariants that must hold at any time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bp_artifact::{ImageRef, time::TimeSource};
use bp_promote::{
    CopyError, CopyOptions, Journal, RegistryClient, copy,
    copy::CopyOutcome,
    copy_all,
    registry::{CredentialError, CredentialSource, Login},
};
use bp_sandbox::{
    Sandbox,
    registry::{Auth, Registry, RegistryOptions},
};
use fastrand::Rng;
use futures_core::future::BoxFuture;
use tempfile::TempDir;

use crate::{
    common::{DST, SRC},
    graph::{Graph, image},
    quirks::{Quirks, password},
};

const FROM: &str = "shop/web";
const TO: [&str; 2] = ["promoted/web", "promoted/api"];

/// The options of a registry, and whether it requires a login.
fn options(random: &mut Rng, host: &str, traits: &mut Vec<&'static str>) -> (RegistryOptions, bool) {
    let mut options = RegistryOptions::default().mounts(random.bool());
    if random.u8(0..4) == 0 {
        options = options.without_ranges();
    }
    if random.u8(0..4) == 0 {
        options = options.absolute_locations().validator_lag(Duration::from_millis(random.u64(0..500)));
    }
    let has_auth = random.u8(0..3) == 0;
    if has_auth {
        // Short enough to expire during a copy.
        let lifetime = Duration::from_secs(random.u64(1..20));
        options = options.auth(Auth::token("ci", &password(host), lifetime));
        if random.u8(0..3) == 0 {
            let status = [403, 404][random.usize(0..2)];
            traits.push(if status == 403 { "403 to strangers" } else { "404 to strangers" });
            options = options.concealing(status);
        }
    }
    match random.u8(0..12) {
        0 => {
            traits.push("413");
            options = options.max_upload_request(random.u64(262_144..299_000));
        }
        1 => {
            traits.push("405 on a whole blob");
            options = options.without_whole_uploads();
        }
        2 => {
            traits.push("a minimum chunk length");
            options = options.max_upload_request(280_000).min_chunk_length(random.u64(1_000..270_000));
        }
        _ => {}
    }
    (options, has_auth)
}

/// ECR's passwords, which expire, or a fixed login.
#[derive(Clone)]
struct Passwords {
    ecr: Option<(Arc<Registry>, Duration)>,
}

impl CredentialSource for Passwords {
    fn login<'a>(
        &'a self,
        registry: &'a bp_artifact::Registry,
    ) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async move {
            Ok(Some(match &self.ecr {
                Some((ecr, lifetime)) if registry.as_str() == ecr.host() => {
                    Login::password("AWS", ecr.log_in(*lifetime))
                }
                _ => Login::password("ci", password(registry.as_str())),
            }))
        })
    }
}

/// One image of the run.
struct Wanted {
    graph: Graph,
    tag: String,
    /// The destination repository.
    to: &'static str,
    /// What the destination's tag points to before the copy.
    before: Option<String>,
    /// The destination's own signature.
    own: Option<String>,
}

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) quirks: Quirks,
    passwords: Passwords,
    /// The destination registry; may be the source's.
    host: &'static str,
    has_api: bool,
    /// Whether the client's clock is frozen, so that it does not notice when a login expires.
    slow_clock: bool,
    images: Vec<Wanted>,
    source_tags: BTreeMap<String, String>,
    options: CopyOptions,
    with_referrers: bool,
    journal: Option<TempDir>,
    /// The kinds of events that this scenario covers.
    pub(crate) traits: Vec<&'static str>,
}

impl World {
    pub(crate) fn random(random: &mut Rng) -> Self {
        let mut traits = Vec::new();
        let mut draw = |random: &mut Rng, one_in: u8, name: &'static str| {
            let drawn = random.u8(0..one_in) == 0;
            traits.extend(drawn.then_some(name));
            drawn
        };
        let ecr = draw(random, 4, "ECR");
        let within = !ecr && draw(random, 5, "within one registry");
        let has_api = ecr || !draw(random, 3, "no referrers API");
        // A fallback tag has to be moved.
        let immutable = !within && draw(random, 4, "immutable tags");
        let with_referrers = !immutable && draw(random, 2, "with referrers");
        let gaps = !ecr && draw(random, 2, "missing content accepted");
        let slow_clock = draw(random, 3, "slow clock");
        let journal = draw(random, 2, "journal").then(|| tempfile::tempdir().unwrap());

        let mut kinds = Vec::new();
        let (mut source, source_auth) = options(random, SRC, &mut kinds);
        let (mut destination, auth) = options(random, DST, &mut kinds);
        if ecr {
            destination = RegistryOptions::ecr();
        }
        if !has_api {
            destination = destination.without_referrers();
        }
        if if within { !has_api } else { random.u8(0..3) == 0 } {
            source = source.without_referrers();
        }
        if immutable {
            destination = destination.immutable_tags();
        }
        if gaps {
            (source, destination) =
                (source.without_reference_validation(), destination.without_reference_validation());
        }
        let sandbox = Sandbox::builder().registry(SRC, source).registry(DST, destination).build();
        let host = if within { SRC } else { DST };
        let quirks = Quirks::random(random, &sandbox, [source_auth, auth || ecr]);
        let (from, to) = (sandbox.registry(SRC), sandbox.registry(host));
        let lifetime = Duration::from_secs(random.u64(2..60));
        let passwords = Passwords { ecr: ecr.then(|| (Arc::clone(&to), lifetime)) };
        if ecr {
            TO.iter().for_each(|repository| to.create_repository(repository));
        }

        let pool = random.u64(..) << 3;
        let several = draw(random, 3, "several images");
        let mut images = Vec::new();
        for n in 0..if several { random.usize(2..5) } else { 1 } {
            let graph = Graph::random(random, pool);
            let (tag, repository) = (format!("v{n}"), TO[random.usize(0..2)]);
            graph.put(&from, FROM, &tag);
            let mut before = None;
            if !immutable && draw(random, 3, "a tag that points to another image") {
                let old = image(random, pool);
                to.push(&old, repository, &tag);
                before = Some(old.digest().to_owned());
            }
            if random.bool() {
                graph.put_some(random, &to, repository);
            }
            let signed = with_referrers && draw(random, 3, "signed at the destination");
            let own = signed.then(|| graph.sign(&to, repository));
            images.push(Wanted { graph, tag, to: repository, before, own });
        }
        let mut options = CopyOptions::default().concurrency(random.usize(1..40));
        if with_referrers {
            options = options.referrers();
        }
        if draw(random, 4, "trusting") {
            options = options.trust_destination();
        }
        traits.extend(kinds);
        let has = |of: fn(&Graph) -> bool| images.iter().any(|image| of(&image.graph));
        traits.extend(has(|graph| graph.nested).then_some("an index in an index"));
        traits.extend((with_referrers && has(|graph| !graph.referrers.is_empty())).then_some("a referrer"));
        traits.extend((with_referrers && has(|graph| !graph.cosign.is_empty())).then_some("a tag of cosign"));
        let source_tags = from.tags(FROM);
        World {
            sandbox,
            quirks,
            passwords,
            host,
            has_api,
            slow_clock,
            images,
            source_tags,
            options,
            with_referrers,
            journal,
            traits,
        }
    }

    /// Whether a copy may fail although no request fails by chance.
    pub(crate) fn is_blocked(&self) -> bool {
        self.quirks.is_blocking(self.host)
    }

    /// Whether a copy of what was copied changes nothing.
    pub(crate) fn finds_tags(&self) -> bool {
        self.quirks.finds_tags(self.host)
    }

    pub(crate) fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// The client of a new process: it shares only the journal.
    pub(crate) fn client(&self) -> RegistryClient {
        let (clock, slow) = (self.sandbox.clock().clone(), self.slow_clock);
        let start = clock.now();
        let mut builder = RegistryClient::builder()
            .transport(self.quirks.transport())
            .credentials(self.passwords.clone())
            .time_source(TimeSource::from_fn(move || if slow { start } else { clock.now() }));
        if let Some(directory) = &self.journal {
            let journal = Journal::open(directory.path().join("journal")).unwrap();
            builder = builder.journal(journal.resume_from(4_000));
        }
        builder.build().unwrap()
    }

    /// Copies all images; returns whether nothing had to be changed.
    pub(crate) async fn copy(&self, client: &RegistryClient) -> Result<bool, CopyError> {
        let pairs = self.images.iter().map(|wanted| {
            let image = |host, repository: &str| {
                client.image(&format!("{host}/{repository}:{}", wanted.tag).parse::<ImageRef>().unwrap())
            };
            (image(SRC, FROM), image(self.host, wanted.to))
        });
        let mut pairs: Vec<_> = pairs.collect();
        let outcomes: Vec<CopyOutcome> = match pairs.len() {
            1 => {
                let (from, to) = pairs.remove(0);
                vec![copy(from, to, self.options.clone()).await?.outcome]
            }
            _ => {
                let report = copy_all(pairs, self.options.clone()).await.into_result()?;
                report
                    .images
                    .into_iter()
                    .map(|image| image.result.map(|(_, outcome)| outcome))
                    .collect::<Result<_, _>>()?
            }
        };
        Ok(outcomes.iter().all(|outcome| *outcome == CopyOutcome::Unchanged))
    }

    /// Checks that each tag points to what it pointed to before or to its complete image, and that the source is
    /// unchanged. Returns whether all tags have moved. `done`: a copy has reported success.
    pub(crate) fn assert_never_wrong(&self, done: bool) -> bool {
        self.quirks.assert_no_leak();
        assert_eq!(self.sandbox.registry(SRC).tags(FROM), self.source_tags, "the source was changed");
        let registry = self.sandbox.registry(self.host);
        let moved = self.images.iter().map(|Wanted { graph, tag, to, before, own }| {
            if let Some(own) = own {
                graph.assert_signed(&registry, to, own);
            }
            let now = registry.tags(to).get(tag).cloned();
            if now.as_ref() != Some(&graph.top) {
                assert_eq!(&now, before, "{to}:{tag} points to something else");
                return false;
            }
            graph.assert_image(&registry, to);
            // A tag that pointed to the image before does not imply that its referrers exist.
            if self.with_referrers && (done || now != *before) {
                graph.assert_attached(&registry, to, self.has_api);
            }
            true
        });
        // Collect first, so that each image is checked.
        let moved: Vec<bool> = moved.collect();
        moved.into_iter().all(|moved| moved)
    }
}
