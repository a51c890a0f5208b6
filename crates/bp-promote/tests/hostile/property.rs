//! Property test: whatever the servers respond, a login is sent only to its registry and that registry's token service.

use std::{
    collections::{HashSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex},
};

use bp_artifact::Digest;
use bp_promote::{
    Journal,
    content::{Descriptor, Manifest, Reference},
    registry::{Body, Login, Logins},
    store::BlobStream,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use crate::net::*;

/// The login, and the token that it is exchanged for.
const SECRET: &str = "canary-of-the-login";
const GRANTED: &str = "canary-of-the-token";

/// A registry: its name, its origin with explicit port, its host, and whether it is on loopback.
const REGISTRIES: [(&str, &str, &str, bool); 9] = [
    ("registry.example.com", "https://registry.example.com:443", "registry.example.com", false),
    ("Registry.Example.COM", "https://registry.example.com:443", "registry.example.com", false),
    ("registry.example.com:443", "https://registry.example.com:443", "registry.example.com", false),
    ("registry.example.com:8443", "https://registry.example.com:8443", "registry.example.com", false),
    ("[2001:db8::5]:5000", "https://[2001:db8::5]:5000", "[2001:db8::5]", false),
    ("docker.io", "https://registry-1.docker.io:443", "registry-1.docker.io", false),
    (
        "111111111111.dkr.ecr.eu-central-1.amazonaws.com",
        "https://111111111111.dkr.ecr.eu-central-1.amazonaws.com:443",
        "111111111111.dkr.ecr.eu-central-1.amazonaws.com",
        false,
    ),
    ("127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1", true),
    ("[::1]:5000", "http://[::1]:5000", "[::1]", true),
];

/// Targets of redirects, uploads and lists. `OWN` is the registry's origin, `HOST` its host.
const TARGETS: [&str; 22] = [
    "/own",
    "own/relative?n=1",
    "OWN/own",
    "http://HOST/own",
    "https://HOST/own",
    "http://HOST:9999/own",
    "https://HOST:9999/own",
    "https://someone:else@HOST/own",
    "OWN.example.net/own",
    "https://HOST.example.net/own",
    "https://HOST@cdn.example.net/own",
    "https://cdn.example.net/x",
    "https://CDN.example.net:443/x",
    "http://cdn.example.net/x",
    "https://cdn.example.net:8443/x",
    "//cdn.example.net/x",
    "https:\\\\cdn.example.net\\x",
    "https://localhost/x",
    "http://169.254.169.254/x",
    "https://[::ffff:7f00:1]/x",
    "https://[2001:db8::6]:5000/x",
    "https://[",
];

/// Realms with their origin, and whether a public registry and one on loopback may send the login there.
const REALMS: [(&str, &str, bool, bool); 12] = [
    ("https://auth.example.net/token", "https://auth.example.net:443", true, true),
    ("https://AUTH.example.net:443/token", "https://auth.example.net:443", true, true),
    ("https://auth.example.net:8443/token", "https://auth.example.net:8443", true, true),
    ("http://auth.example.net/token", "http://auth.example.net:80", false, true),
    ("https://user@auth.example.net/token", "https://auth.example.net:443", false, false),
    ("https://localhost/token", "https://localhost:443", false, true),
    ("https://127.0.0.1/token", "https://127.0.0.1:443", false, true),
    ("http://127.0.0.1:5001/token", "http://127.0.0.1:5001", false, true),
    ("https://[::ffff:169.254.169.254]/token", "https://[::ffff:a9fe:a9fe]:443", false, true),
    ("https://[fe80::1]/token", "https://[fe80::1]:443", false, true),
    ("ftp://auth.example.net/token", "ftp://auth.example.net:21", false, false),
    ("https://auth.example.net:99999/token", "https://auth.example.net:443", false, false),
];

/// How a server responds to a request.
#[derive(Debug, Clone, Copy)]
enum Move {
    Redirect(usize),
    Basic,
    Bearer(usize),
    Denied,
    Link(usize),
    Location(usize),
    Comply,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..TARGETS.len()).prop_map(Move::Redirect),
        1 => Just(Move::Basic),
        3 => (0..REALMS.len()).prop_map(Move::Bearer),
        1 => Just(Move::Denied),
        1 => (0..TARGETS.len()).prop_map(Move::Link),
        2 => (0..TARGETS.len()).prop_map(Move::Location),
        1 => Just(Move::Comply),
    ];
    vec(one, 0..8)
}

/// All servers of the network.
struct Servers {
    registry: usize,
    moves: Mutex<VecDeque<Move>>,
    /// The redirects of the token service, if any.
    tokens: Mutex<VecDeque<Option<usize>>>,
    /// The permitted origins of token services that the registry itself announced.
    named: Mutex<HashSet<String>>,
    /// Those of them that have redirected within their own origin.
    moved: Mutex<HashSet<String>>,
}

impl Servers {
    fn target(&self, at: usize) -> String {
        let (_, own, host, _) = REGISTRIES[self.registry];
        TARGETS[at].replace("OWN", own).replace("HOST", host)
    }

    fn answer(&self, seen: &RecordedRequest) -> Response<Body> {
        if seen.path == "/token" {
            return match self.tokens.lock().unwrap().pop_front().flatten() {
                Some(at) => {
                    self.moved.lock().unwrap().insert(seen.origin());
                    redirect(&self.target(at))
                }
                None => answer(200, &[], format!(r#"{{"token":"{GRANTED}","expires_in":60}}"#)),
            };
        }
        let next = self.moves.lock().unwrap().pop_front().unwrap_or(Move::Comply);
        let (_, own, _, is_loopback) = REGISTRIES[self.registry];
        match next {
            Move::Redirect(at) => redirect(&self.target(at)),
            Move::Basic => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
            Move::Bearer(at) => {
                let (realm, origin, public, loopback) = REALMS[at];
                if seen.origin() == own && if is_loopback { loopback } else { public } {
                    self.named.lock().unwrap().insert(origin.to_owned());
                }
                answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\",service=\"s\""))], "")
            }
            Move::Denied => answer(403, &[], ""),
            Move::Link(at) => {
                let link = format!("<{}>; rel=\"next\"", self.target(at));
                answer(200, &[("link", &link)], r#"{"tags":["a"],"manifests":[]}"#)
            }
            Move::Location(at) => answer(202, &[("location", &self.target(at))], ""),
            Move::Comply => match seen.method.as_str() {
                "POST" => answer(202, &[("location", "/u/1")], ""),
                "PATCH" => answer(202, &[("location", "/u/2")], ""),
                "PUT" => answer(201, &[], ""),
                _ => answer(200, &[], r#"{"tags":["a"],"manifests":[],"mediaType":"a/b"}"#),
            },
        }
    }
}

/// One operation of the client; its result does not matter.
async fn operate(client: &bp_promote::RegistryClient, registry: &str, operation: usize) {
    let repository = client.repository(&format!("{registry}/shop/web").parse().unwrap());
    let tag = Reference::Tag("v1".parse().unwrap());
    let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
    let source = || -> Pin<Box<_>> {
        let bytes: BlobStream = Box::pin(stream::once(async { Ok(Bytes::from("blob")) }));
        Box::pin(async { Ok(bytes) })
    };
    match operation {
        0 => drop(repository.manifest(&tag).await),
        1 => drop(repository.tags().await),
        2 => drop(repository.referrers(&blob.digest).await),
        3 => {
            if let Ok(bytes) = repository.blob(&blob).await {
                drop(bytes.collect::<Vec<_>>().await);
            }
        }
        4 => drop(repository.put_blob(&blob, None, source()).await),
        5 => {
            let other = format!("{registry}/shop/other").parse().unwrap();
            drop(repository.put_blob(&blob, Some(&other), source()).await);
        }
        6 => {
            let manifest = Manifest::read(Some("a/b"), None, Bytes::from("{}")).unwrap();
            drop(repository.put_referrer(&blob.digest, &manifest).await);
        }
        _ => drop(repository.head(&tag).await),
    }
}

#[test]
fn sends_logins_only_to_the_registry_and_its_token_service() {
    let runner = |config| {
        TestRunner::new_with_rng(
            config,
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        )
    };
    let mut runner = runner(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() });
    let (own, services) = (Mutex::new(0), Mutex::new(0));
    let tokens = vec(proptest::option::weighted(0.3, 0..TARGETS.len()), 0..3);
    let cases = (0..REGISTRIES.len(), any::<(bool, bool)>(), moves(), tokens, vec(0..8_usize, 1..4));
    let done = runner.run(&cases, |(registry, (identity, journal), moves, tokens, operations)| {
        let servers = Arc::new(Servers {
            registry,
            moves: Mutex::new(moves.into()),
            tokens: Mutex::new(tokens.into()),
            named: Mutex::default(),
            moved: Mutex::default(),
        });
        let serving = Arc::clone(&servers);
        let (transport, log) = network(move |seen| serving.answer(seen));
        let (name, origin, ..) = REGISTRIES[registry];
        let login = if identity { Login::identity_token(SECRET) } else { Login::password("canary", SECRET) };
        let directory = journal.then(|| tempfile::tempdir().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut builder =
                builder(transport).credentials(Logins::new().with(name.parse().unwrap(), login));
            if let Some(directory) = &directory {
                let journal = Journal::open(directory.path().join("journal")).unwrap();
                builder = builder.journal(journal.resume_from(1));
            }
            let client = builder.build().unwrap();
            for operation in operations {
                operate(&client, name, operation).await;
            }
        });
        let (named, moved) = (servers.named.lock().unwrap(), servers.moved.lock().unwrap());
        for seen in log.all() {
            let is_service =
                (seen.path == "/token" || moved.contains(&seen.origin())) && named.contains(&seen.origin());
            if seen.origin() == origin {
                *own.lock().unwrap() +=
                    usize::from(seen.contains_secret(SECRET) || seen.contains_secret(GRANTED));
                continue;
            }
            prop_assert!(
                !seen.contains_secret(GRANTED),
                "the token was sent to {}: {:?}",
                seen.origin(),
                seen
            );
            prop_assert!(
                is_service || !seen.contains_secret(SECRET),
                "the login was sent to {}: {:?}",
                seen.origin(),
                seen
            );
            *services.lock().unwrap() += usize::from(seen.contains_secret(SECRET));
        }
        Ok(())
    });
    done.unwrap();
    let (own, services) = (own.into_inner().unwrap(), services.into_inner().unwrap());
    assert!(own > 200 && services > 200, "the logins are used: {own} and {services} times");
}
