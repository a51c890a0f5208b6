//! What goes wrong, at random.

use std::time::Duration;

use bp_sandbox::{Effect, Fault, Sandbox};
use fastrand::Rng;

use crate::common::{DST, SRC};

/// What a registry says in a storm.
const SLOW_DOWN: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;

/// 429, 500, 502, 503, 504, reset, lost answer, body cut, byte flipped, silence; of a body at this offset.
fn effect(random: &mut Rng, at: u64) -> Effect {
    let answer = |status, body: &str| Effect::Answer { status, headers: Vec::new(), body: body.into() };
    match random.u8(0..8) {
        0 => Effect::Answer {
            status: 429,
            headers: vec![("retry-after".into(), random.u64(0..4).to_string())],
            body: String::new(),
        },
        1 => answer([500, 502][random.usize(0..2)], "<html>"),
        2 => answer([503, 504][random.usize(0..2)], ""),
        3 => Effect::Reset,
        4 => Effect::LoseAnswer,
        5 => Effect::CutBody(at),
        6 => Effect::Corrupt(at),
        _ => Effect::Stall(at, Duration::from_secs(random.u64(1..60))),
    }
}

/// Spoils about one request in `one_in` on both sides, for a long time.
///
/// Lists have no digest, nor has a manifest on its way to a tag: that those come over unspoilt is TLS's business, so that
/// only content is corrupted.
pub(crate) fn spoil(random: &mut Rng, sandbox: &Sandbox, one_in: u32, largest: u64) {
    for host in [SRC, DST] {
        let strike = |random: &mut Rng, one_in: u32, fault: &dyn Fn(&mut Rng) -> Fault| {
            let mut passed = 0;
            while passed < 2_000 {
                passed += random.u32(0..2 * one_in - 1);
                sandbox.faults().inject(fault(random).at(host).after(passed));
            }
        };
        // Half of what spoils a body strikes early, where small bodies are.
        let place = |random: &mut Rng| {
            let largest = if random.bool() { largest } else { 100 };
            random.u64(0..largest)
        };
        for operation in ["GET blob", "GET manifest"] {
            strike(random, 2 * one_in, &|random| Fault::new(Effect::Corrupt(place(random))).on(operation));
        }
        for operation in ["PUT upload", "PATCH upload", "PUT manifest"] {
            strike(random, 2 * one_in, &|random| {
                let at = place(random);
                let flips = operation != "PUT manifest" && random.bool();
                Fault::new(if flips { Effect::CorruptRequest(at) } else { Effect::CutRequest(at) })
                    .on(operation)
            });
        }
        strike(random, one_in, &|random| {
            let at = place(random);
            loop {
                match effect(random, at) {
                    Effect::Corrupt(_) => {}
                    effect => return Fault::new(effect),
                }
            }
        });
    }
}

/// Answers nothing but 429 for a while, now and then.
pub(crate) fn storm(random: &mut Rng, sandbox: &Sandbox) {
    for _ in 0..random.u8(1..4) {
        let throttled = Effect::Answer {
            status: 429,
            headers: vec![("retry-after".into(), random.u64(0..20).to_string())],
            body: SLOW_DOWN.into(),
        };
        let host = if random.bool() { SRC } else { DST };
        let fault = Fault::new(throttled).at(host).after(random.u32(0..60)).times(random.u32(1..60));
        sandbox.faults().inject(fault);
    }
}

/// One request in ten on both sides.
pub(crate) fn tenth(random: &mut Rng, sandbox: &Sandbox, size: u64) {
    for host in [SRC, DST] {
        for request in 0..2_000 {
            if random.u8(0..10) == 0 {
                let at = random.u64(0..size);
                let effect = match effect(random, at) {
                    Effect::Stall(at, _) => Effect::Stall(at, Duration::from_secs(3)),
                    effect => effect,
                };
                sandbox.faults().inject(Fault::new(effect).at(host).after(request));
            }
        }
    }
}

/// The name of what a request met, if it really met it: a body may have ended before.
pub(crate) fn met(entry: &bp_sandbox::Entry) -> Option<&'static str> {
    Some(match entry.fault.as_ref()? {
        Effect::Answer { body, .. } if body == SLOW_DOWN => "storm",
        Effect::Answer { status: 429, .. } => "429",
        Effect::Answer { status: 500, .. } => "500",
        Effect::Answer { status: 502, .. } => "502",
        Effect::Answer { status: 503, .. } => "503",
        Effect::Answer { status: 504, .. } => "504",
        Effect::Reset => "reset",
        Effect::LoseAnswer => "lost answer",
        Effect::CutRequest(at) if entry.request_bytes >= *at => "request cut",
        Effect::CorruptRequest(at) if entry.request_bytes > *at => "request corrupted",
        Effect::CutBody(at) if entry.response_bytes >= *at => "answer cut",
        Effect::Corrupt(at) if entry.response_bytes > *at => "answer corrupted",
        Effect::Stall(at, _) if entry.response_bytes > *at => "stall",
        _ => return None,
    })
}
