//! Leak tests: read a canary value through truncated, corrupted and malformed responses, then search for it in all
//! output.

mod common;

use std::{
    error::Error as _,
    fmt::{Debug, Write as _},
    io,
    sync::{Arc, Mutex},
};

use bp_sandbox::{Effect, Fault, Sandbox};
use bp_secrets::{Depth, Error, Store, check, value::Fetched};
use common::{ACCOUNT, REGION, references, stores};
use tracing_subscriber::fmt::MakeWriter;

/// No part of it may appear in output either.
const CANARY: &str = "kanarie-5Zq7Wx2LpT9v";
const PIECES: [&str; 3] = ["kanarie", "5Zq7Wx", "2LpT9v"];

/// The operations that return values. Other operations do not, and the SDK's TRACE events show their responses.
const READS: [&str; 3] =
    ["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue", "ssm:GetParameters"];

#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Shown {
    fn debug(&self, what: &impl Debug) {
        self.text(&format!("{what:?} {what:#?}"));
    }

    fn text(&self, text: &str) {
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    fn error(&self, error: &Error) {
        self.debug(error);
        let mut chain = format!("{error} {}", serde_json::to_string(error).unwrap());
        let mut cause = error.source();
        while let Some(error) = cause {
            write!(chain, " {error} {error:?}").unwrap();
            cause = error.source();
        }
        self.text(&chain);
    }

    fn answers(&self, answers: &[Result<Fetched, Error>]) {
        self.debug(&answers);
        for answer in answers {
            match answer {
                Ok(fetched) => self.debug(fetched.value()),
                Err(error) => self.error(error),
            }
        }
    }

    fn contains_canary(&self) -> Option<String> {
        let shown = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        let at = PIECES.iter().find_map(|piece| shown.find(piece))?;
        Some(shown[at.saturating_sub(300)..(at + 40).min(shown.len())].to_owned())
    }
}

impl io::Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Shown {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

async fn read_all(store: &impl Store, shown: &Shown) {
    let wanted = references([
        "secretsmanager:text",
        "secretsmanager:text:key::",
        "secretsmanager:json:password::",
        "secretsmanager:json:missing::",
        "secretsmanager:broken:password::",
        "secretsmanager:bytes",
        "secretsmanager:bytes:key::",
        "/plain",
        "/sealed",
        "/sealed:9",
        "secretsmanager:none",
    ]);
    shown.answers(&store.fetch(&wanted).await);
    for one in &wanted {
        shown.answers(&[store.fetch_one(one).await]);
    }
    for depth in [Depth::Describe, Depth::Keys, Depth::Read] {
        let report = check(store, &wanted, depth).await;
        shown.debug(&report);
        shown.text(&serde_json::to_string(&report).unwrap());
        report.errors().for_each(|error| shown.error(error));
    }
}

fn answer_always(sandbox: &Sandbox, status: u16, body: &str) {
    for operation in READS {
        let answer = Effect::Answer { status, headers: vec![], body: body.to_owned() };
        sandbox.faults().inject(Fault::new(answer).on(operation).times(u32::MAX));
    }
}

#[tokio::test(start_paused = true)]
async fn no_output_contains_the_canary() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    secrets.create("text", CANARY);
    secrets.create("json", &format!(r#"{{"password": "{CANARY}", "n": 1}}"#));
    secrets.create("broken", &format!(r#"{{"password": {CANARY}"#));
    secrets.create_binary("bytes", CANARY.as_bytes());
    let parameters = sandbox.aws().ssm(ACCOUNT, REGION);
    parameters.put("/plain", CANARY);
    parameters.put_secure("/sealed", CANARY);

    let shown = Shown::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(shown.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let store = stores(&sandbox);

    read_all(&store, &shown).await;
    #[cfg(feature = "cache")]
    {
        let cache = bp_secrets::Cache::new(stores(&sandbox), bp_secrets::cache::CacheOptions::default());
        read_all(&cache, &shown).await;
        sandbox.faults().inject(Fault::status(503).times(u32::MAX));
        tokio::time::advance(std::time::Duration::from_secs(400)).await;
        read_all(&cache, &shown).await;
        sandbox.faults().clear();
        shown.debug(&cache);
    }
    // Responses that are truncated or corrupted in the middle of the value.
    for effect in (60..220).step_by(20).flat_map(|at| [Effect::CutBody(at), Effect::Corrupt(at)]) {
        sandbox.faults().inject(Fault::new(effect).times(40));
        read_all(&store, &shown).await;
        sandbox.faults().clear();
    }
    // Malformed responses that contain the value.
    for (status, body) in [
        (200, format!(r#"{{"SecretString": {CANARY}}}"#)),
        (200, format!(r#"{{"SecretString": "\u{CANARY}"}}"#)),
        (200, format!(r#"{{"Parameters": [{{"Value": "\u{CANARY}"}}]}}"#)),
        (500, CANARY.to_owned()),
        (404, format!("<html>{CANARY}")),
    ] {
        answer_always(&sandbox, status, &body);
        read_all(&store, &shown).await;
        sandbox.faults().clear();
    }
    // The value where a number belongs. The SDK's TRACE event and the source of its error quote it; ours do not.
    drop(guard);
    let ours = tracing_subscriber::EnvFilter::new("bp_secrets=trace");
    let subscriber = tracing_subscriber::fmt().with_env_filter(ours).with_writer(shown.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    answer_always(&sandbox, 200, &format!(r#"{{"CreatedDate": "{CANARY}", "SecretString": "{CANARY}"}}"#));
    read_all(&store, &shown).await;

    assert!(shown.0.lock().unwrap().len() > 100_000, "the output was captured");
    assert_eq!(shown.contains_canary(), None);
}

/// Verifies the search itself.
#[test]
fn the_search_finds_a_leaked_canary() {
    let shown = Shown::default();
    shown.debug(&CANARY);
    assert!(shown.contains_canary().is_some());
}

/// Whether a type implements a trait: an inherent constant takes precedence over the constant of a trait.
macro_rules! has {
    ($trait:path, $type:ty) => {{
        struct Probe<T>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        impl<T: $trait> Probe<T> {
            const HAS: bool = true;
        }
        #[allow(dead_code, reason = "unused for a type that implements the trait")]
        trait Fallback {
            const HAS: bool = false;
        }
        impl<T> Fallback for Probe<T> {}
        Probe::<$type>::HAS
    }};
}

#[test]
fn values_can_be_neither_serialised_nor_displayed() {
    use bp_secrets::{SecretValue, value::Stored};

    const {
        assert!(
            has!(serde::Serialize, String) && has!(std::fmt::Display, String),
            "the probe detects implementations"
        )
    };
    const { assert!(!has!(serde::Serialize, SecretValue) && !has!(std::fmt::Display, SecretValue)) };
    const { assert!(!has!(serde::Serialize, Stored) && !has!(std::fmt::Display, Stored)) };
    const { assert!(!has!(serde::Serialize, Fetched) && !has!(std::fmt::Display, Fetched)) };
}
