//! Random faults.

use std::time::Duration;

use bp_sandbox::{Effect, Fault, Sandbox};
use fastrand::Rng;

use crate::common::{DST, SRC};

/// The body of throttling responses in a storm.
const SLOW_DOWN: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;

/// A random fault: an error status, a reset, a lost response, a truncated, corrupted or stalled body at this offset.
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

/// Injects faults into about one request in `one_in` on both sides, over many requests.
///
/// Only content with a digest is corrupted: the integrity of lists, and of a manifest that is pushed to a tag, is left
/// to TLS.
pub(crate) fn inject(random: &mut Rng, sandbox: &Sandbox, one_in: u32, largest: u64) {
    for host in [SRC, DST] {
        let inject_at = |random: &mut Rng, one_in: u32, fault: &dyn Fn(&mut Rng) -> Fault| {
            let mut after = 0;
            while after < 2_000 {
                after += random.u32(0..2 * one_in - 1);
                sandbox.faults().inject(fault(random).at(host).after(after));
            }
        };
        // Half of the body faults are at a small offset, to affect small bodies.
        let offset = |random: &mut Rng| {
            let largest = if random.bool() { largest } else { 100 };
            random.u64(0..largest)
        };
        for operation in ["GET blob", "GET manifest"] {
            inject_at(random, 2 * one_in, &|random| {
                Fault::new(Effect::Corrupt(offset(random))).on(operation)
            });
        }
        for operation in ["PUT upload", "PATCH upload", "PUT manifest"] {
            inject_at(random, 2 * one_in, &|random| {
                let at = offset(random);
                let flips = operation != "PUT manifest" && random.bool();
                Fault::new(if flips { Effect::CorruptRequest(at) } else { Effect::CutRequest(at) })
                    .on(operation)
            });
        }
        inject_at(random, one_in, &|random| {
            let at = offset(random);
            loop {
                match effect(random, at) {
                    Effect::Corrupt(_) => {}
                    effect => return Fault::new(effect),
                }
            }
        });
    }
}

/// Injects several periods of throttling.
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

/// Injects faults into one request in ten on both sides.
pub(crate) fn one_in_ten(random: &mut Rng, sandbox: &Sandbox, size: u64) {
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

/// The name of the fault of a request, if it took effect: a body may have ended before it.
pub(crate) fn effective_fault(entry: &bp_sandbox::Entry) -> Option<&'static str> {
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
