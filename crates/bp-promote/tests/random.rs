//! Random graphs under random faults: the end is always the same. Either the destination holds all of the image, byte
//! for byte, or its tag did not move; and with one request in ten spoilt it gets there.
//!
//! `cargo xtask soak` makes it longer. `BP_SOAK` says how many seeds, `BP_SEED` where they begin: `BP_SOAK=1 BP_SEED=<n>`
//! repeats one.

mod common;

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

use bp_artifact::{Digest, ImageRef};
use bp_promote::{
    CopyError, CopyOptions, CopyOutcome, CopyReport, CredentialError, CredentialSource, Login,
    RegistryClient, copy,
};
use bp_sandbox::{
    Effect, Fault, Image, ImageBuilder, Sandbox,
    registry::{Auth, Registry, RegistryOptions},
};
use bytes::Bytes;
use common::{DST, SRC, client};
use fastrand::Rng;
use futures_core::future::BoxFuture;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REPOSITORY: &str = "shop/web";

/// Everything that a copy must carry.
#[derive(Default)]
struct Graph {
    top: String,
    manifests: Vec<(String, Bytes)>,
    blobs: Vec<Bytes>,
    /// Digests of subjects and of what refers to them.
    referrers: Vec<(String, String)>,
}

impl Graph {
    fn random(random: &mut Rng) -> Self {
        let mut graph = Graph::default();
        graph.add(&image(random));
        if random.u8(0..4) == 0 {
            // An index in an index, beside another image.
            let inner = graph.manifests[graph.manifests.len() - 1].clone();
            graph.add(&image(random));
            let other = graph.manifests[graph.manifests.len() - 1].clone();
            let children = [&inner, &other].map(|(media_type, bytes)| {
                json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
            });
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
            graph.top = graph.push(INDEX, index.to_string());
        }
        for n in 0..random.usize(0..4) {
            // On the image, on one of its parts, or on what was attached before.
            let (_, subject) = &graph.manifests[random.usize(..graph.manifests.len())];
            let subject = Digest::sha256(subject).to_string();
            let layer = Bytes::from(format!("{n} of {subject}"));
            let config = Bytes::from_static(b"{}");
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/signature",
                "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(&config), "size": 2 },
                "layers": [{ "mediaType": "text/plain", "size": layer.len(), "digest": Digest::sha256(&layer) }],
                "subject": { "mediaType": MANIFEST, "digest": subject, "size": 1 },
            });
            graph.blobs.extend([config, layer]);
            let referrer = graph.push(MANIFEST, manifest.to_string());
            graph.referrers.push((subject, referrer));
        }
        graph
    }

    fn add(&mut self, image: &Image) {
        self.manifests.extend(image.manifests().iter().cloned());
        self.blobs.extend(image.blobs().iter().cloned());
        self.top = image.digest().to_owned();
    }

    fn push(&mut self, media_type: &str, text: String) -> String {
        let digest = Digest::sha256(&text).to_string();
        self.manifests.push((media_type.to_owned(), text.into()));
        digest
    }

    fn put(&self, registry: &Registry) {
        for blob in &self.blobs {
            registry.put_blob(REPOSITORY, blob.clone());
        }
        for (media_type, bytes) in &self.manifests {
            registry.put_manifest(REPOSITORY, media_type, bytes.clone());
        }
        // As a client would have written it where there is no API for referrers.
        for (subject, _) in &self.referrers {
            let of = self.referrers.iter().filter(|(other, _)| other == subject);
            let entries: Vec<_> = of
                .map(|(_, digest)| {
                    let size = registry.manifest(REPOSITORY, digest).expect("just put there").bytes.len();
                    json!({ "mediaType": MANIFEST, "digest": digest, "size": size })
                })
                .collect();
            let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
            let list = registry.put_manifest(REPOSITORY, INDEX, list);
            registry.tag(REPOSITORY, &subject.replace(':', "-"), &list);
        }
        registry.tag(REPOSITORY, "v1", &self.top);
    }

    fn assert_whole(&self, registry: &Registry) {
        for (media_type, bytes) in &self.manifests {
            let digest = Digest::sha256(bytes);
            let stored = registry.manifest(REPOSITORY, digest.as_str()).expect("every manifest");
            assert_eq!((&stored.bytes, &stored.media_type), (bytes, media_type));
        }
        for bytes in &self.blobs {
            let digest = Digest::sha256(bytes);
            assert_eq!(registry.blob(REPOSITORY, digest.as_str()).as_ref(), Some(bytes));
        }
    }
}

fn image(random: &mut Rng) -> Image {
    const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/arm64/v8", "windows/amd64"];
    let platforms = &PLATFORMS[..random.usize(1..=4)];
    let mut builder =
        platforms.iter().fold(ImageBuilder::new(), |builder, platform| builder.platform(platform));
    for n in 0..random.usize(0..5) {
        let size = [0, 1, 100, 5_000, 300_000][random.usize(0..5)];
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        let file = [(format!("layer{n}"), bytes)];
        builder = match random.bool() {
            true => builder.layer(file),
            false => builder.layer_for(platforms[random.usize(..platforms.len())], file),
        };
    }
    builder.build()
}

fn effect(random: &mut Rng, largest: u64) -> Effect {
    let at = random.u64(0..largest);
    let answer = |status, body: &str| Effect::Answer { status, headers: Vec::new(), body: body.into() };
    match random.u8(0..8) {
        0 => Effect::Answer {
            status: 429,
            headers: vec![("retry-after".into(), random.u64(0..4).to_string())],
            body: String::new(),
        },
        1 => answer(500, "<html>"),
        2 => answer(503, ""),
        3 => Effect::Reset,
        4 => Effect::LoseAnswer,
        5 => Effect::CutBody(at),
        6 => Effect::Corrupt(at),
        _ => Effect::Stall(at, Duration::from_secs(random.u64(1..60))),
    }
}

/// Lists have no digest: that their bytes come over unspoilt is TLS's business, so that only content is corrupted here.
fn fault(random: &mut Rng, largest: u64) -> Fault {
    let effect = effect(random, largest);
    match effect {
        Effect::Corrupt(_) => Fault::new(effect).on(["GET blob", "GET manifest"][random.usize(0..2)]),
        effect => Fault::new(effect),
    }
}

/// Spoils about one request in `one_in` on both sides, for a long time.
fn spoil(random: &mut Rng, sandbox: &Sandbox, one_in: u32, largest: u64) {
    for host in [SRC, DST] {
        let mut passed = 0;
        while passed < 2_000 {
            passed += random.u32(0..2 * one_in - 1);
            sandbox.faults().inject(fault(random, largest).at(host).after(passed));
        }
    }
}

/// Answers nothing but 429 for a while, now and then.
fn storm(random: &mut Rng, sandbox: &Sandbox) {
    for _ in 0..random.u8(1..4) {
        let throttled = Effect::Answer {
            status: 429,
            headers: vec![("retry-after".into(), random.u64(0..20).to_string())],
            body: r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#.into(),
        };
        let host = if random.bool() { SRC } else { DST };
        let fault = Fault::new(throttled).at(host).after(random.u32(0..60)).times(random.u32(1..60));
        sandbox.faults().inject(fault);
    }
}

fn options(random: &mut Rng) -> RegistryOptions {
    let mut options = RegistryOptions::default().mounts(random.bool());
    if random.u8(0..4) == 0 {
        options = options.without_ranges();
    }
    if random.u8(0..3) == 0 {
        options = options.without_referrers();
    }
    if random.u8(0..4) == 0 {
        options = options.absolute_locations().validator_lag(Duration::from_millis(random.u64(0..500)));
    }
    if random.u8(0..3) == 0 {
        // So short that they expire in the middle of a copy.
        options = options.auth(Auth::token("ci", "s3cret", Duration::from_secs(random.u64(2..60))));
    }
    options
}

/// ECR's passwords, which expire; or else the one that the token service takes.
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
                _ => Login::password("ci", "s3cret"),
            }))
        })
    }
}

/// Two registries, what is to be copied, and how.
struct World {
    sandbox: Sandbox,
    client: RegistryClient,
    graph: Graph,
    options: CopyOptions,
    with_referrers: bool,
    /// What the destination's tag names before the copy.
    before: Option<String>,
}

impl World {
    fn random(random: &mut Rng) -> Self {
        let ecr = random.u8(0..4) == 0;
        let destination = if ecr { RegistryOptions::ecr() } else { options(random) };
        // A fallback tag is a tag that moves.
        let immutable = random.u8(0..4) == 0;
        let destination = if immutable { destination.immutable_tags() } else { destination };
        let sandbox = Sandbox::builder().registry(SRC, options(random)).registry(DST, destination).build();
        let (source, destination) = (sandbox.registry(SRC), sandbox.registry(DST));
        let lifetime = Duration::from_secs(random.u64(5..600));
        let passwords = Passwords { ecr: ecr.then(|| (Arc::clone(&destination), lifetime)) };
        if ecr {
            destination.create_repository(REPOSITORY);
        }
        let graph = Graph::random(random);
        graph.put(&source);
        let mut before = None;
        if !immutable && random.u8(0..3) == 0 {
            let old = image(random);
            destination.push(&old, REPOSITORY, "v1");
            before = Some(old.digest().to_owned());
        }
        if random.bool() {
            // Something of it is there already.
            for blob in graph.blobs.iter().filter(|_| random.bool()) {
                destination.put_blob(REPOSITORY, blob.clone());
            }
        }
        let with_referrers = !immutable && random.bool();
        let mut options = CopyOptions::default().concurrency(random.usize(1..40));
        if with_referrers {
            options = options.referrers();
        }
        if random.u8(0..4) == 0 {
            options = options.trust_destination();
        }
        World { client: client(&sandbox, passwords), sandbox, graph, options, with_referrers, before }
    }

    async fn copy(&self) -> Result<CopyReport, CopyError> {
        let image = |host| format!("{host}/{REPOSITORY}:v1").parse::<ImageRef>().unwrap();
        copy(self.client.image(&image(SRC)), self.client.image(&image(DST)), self.options.clone()).await
    }

    /// The tag names what it named, or all of the image. Whether it has moved.
    fn assert_never_wrong(&self) -> bool {
        let registry = self.sandbox.registry(DST);
        let now = registry.tags(REPOSITORY).get("v1").cloned();
        if now.as_ref() == Some(&self.graph.top) {
            let carried = Graph {
                manifests: self.carried().cloned().collect(),
                blobs: if self.with_referrers { self.graph.blobs.clone() } else { self.blobs_of_image() },
                ..Graph::default()
            };
            carried.assert_whole(&registry);
            return true;
        }
        assert_eq!(now, self.before, "the tag names something else");
        false
    }

    fn attached(&self, digest: &str) -> bool {
        self.graph.referrers.iter().any(|(_, referrer)| referrer == digest)
    }

    fn carried(&self) -> impl Iterator<Item = &(String, Bytes)> {
        let all = self.graph.manifests.iter();
        all.filter(|(_, bytes)| self.with_referrers || !self.attached(Digest::sha256(bytes).as_str()))
    }

    fn blobs_of_image(&self) -> Vec<Bytes> {
        let attached = self.graph.referrers.iter().map(|(subject, _)| subject);
        let subjects: Vec<&String> = attached.collect();
        let of_image = |blob: &&Bytes| {
            let text = String::from_utf8_lossy(blob);
            *blob != &Bytes::from_static(b"{}") && !subjects.iter().any(|of| text.ends_with(of.as_str()))
        };
        self.graph.blobs.iter().filter(of_image).cloned().collect()
    }

    /// Every referrer is listed at the destination.
    async fn assert_listed(&self) {
        let repository = self.client.repository(&format!("{DST}/{REPOSITORY}").parse().unwrap());
        for (subject, referrer) in &self.graph.referrers {
            let listed = repository.referrers(&subject.parse().unwrap()).await.unwrap();
            assert!(listed.iter().any(|found| found.digest.as_str() == referrer), "{referrer} of {subject}");
        }
    }
}

async fn run(seed: u64) {
    let random = &mut Rng::with_seed(seed);
    let world = World::random(random);
    // One request in ten: it gets there. More than that: it may give up, but never ends wrong.
    let stormy = random.u8(0..3) == 0;
    if stormy {
        spoil(random, &world.sandbox, random.clone().u32(2..8), 400_000);
        storm(random, &world.sandbox);
    } else {
        spoil(random, &world.sandbox, 10, 2_000);
    }
    // Killed some times, at any moment, and run again.
    for _ in 0..random.u8(0..3) {
        let moment = Duration::from_millis(random.u64(0..20_000));
        let _ = tokio::time::timeout(moment, world.copy()).await;
        world.assert_never_wrong();
    }
    let done = world.copy().await;
    let moved = world.assert_never_wrong();
    if !stormy {
        assert!(done.is_ok() && moved, "{done:?}");
    }
    world.sandbox.faults().clear();
    let again = world.copy().await.unwrap();
    assert!(world.assert_never_wrong());
    if done.is_ok() {
        assert_eq!(again.outcome, CopyOutcome::Unchanged);
    }
    if world.with_referrers {
        world.assert_listed().await;
    }
}

/// The variable, or `default`.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn seeds() -> Range<u64> {
    let first = number("BP_SEED", 0);
    first..first + number("BP_SOAK", 60)
}

/// Tells which seed it was.
struct Told(u64);

impl Drop for Told {
    #[allow(clippy::print_stderr, reason = "what a failed test says")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BP_SOAK=1 BP_SEED={} repeats it", self.0);
        }
    }
}

fn each_seed<F: Future<Output = ()>>(seeds: Range<u64>, run: impl Fn(u64) -> F) {
    for seed in seeds {
        let _told = Told(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(run(seed));
    }
}

#[test]
fn random_graphs_under_random_faults() {
    each_seed(seeds(), run);
}

/// Four platforms of eight layers, four of them shared.
fn multi(size: usize) -> Image {
    const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"];
    let mut random = Rng::with_seed(4);
    let mut file = |n: usize| {
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        [(format!("layer{n}"), bytes)]
    };
    let mut builder = PLATFORMS.iter().fold(ImageBuilder::new(), |builder, of| builder.platform(of));
    for n in 0..4 {
        builder = builder.layer(file(n));
    }
    for platform in PLATFORMS {
        for n in 4..8 {
            builder = builder.layer_for(platform, file(n));
        }
    }
    builder.build()
}

/// 429, 500, 503, reset, lost answer, body cut, byte flipped, three seconds of silence.
fn tenth(random: &mut Rng, sandbox: &Sandbox, size: u64) {
    for host in [SRC, DST] {
        for request in 0..2_000 {
            if random.u8(0..10) == 0 {
                let effect = match effect(random, size) {
                    Effect::Stall(at, _) => Effect::Stall(at, Duration::from_secs(3)),
                    effect => effect,
                };
                sandbox.faults().inject(Fault::new(effect).at(host).after(request));
            }
        }
    }
}

#[test]
fn twenty_copies_with_one_request_in_ten_spoilt_all_finish() {
    const SIZE: usize = 64 << 10;
    let image = multi(SIZE);
    each_seed(0..20, |seed| {
        let image = &image;
        async move {
            let world = common::World::plain();
            world.push(image);
            tenth(&mut Rng::with_seed(seed), &world.sandbox, SIZE as u64);
            world.copy().await.unwrap_or_else(|error| panic!("copy {seed}: {error:?}"));
            world.assert_copied(image);
        }
    });
}
