//! Result tables for the terminal and docs/benchmarks.md.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use super::{
    contestants::CRANE_DEFAULT,
    registries::Version,
    targets::{Results, Verdict},
};

/// One table per set and round-trip time.
pub(super) fn tables(results: &Results) -> String {
    let mut text = String::new();
    let mut last = None;
    for (set, round_trip, warm) in results.rounds() {
        if last != Some((set, round_trip)) {
            let _ = write!(
                text,
                "\n### `{}` at {} ms\n\n| | | wall s | of crane | CPU s | of crane | peak MiB | requests |\n\
                 |---|---|---|---|---|---|---|---|\n",
                set.name(),
                round_trip.as_millis()
            );
            last = Some((set, round_trip));
        }
        let crane = results.median(set, round_trip, warm, CRANE_DEFAULT).unwrap_or_default();
        for contestant in results.contestants() {
            let Some(sample) = results.median(set, round_trip, warm, contestant) else { continue };
            let _ = writeln!(
                text,
                "| {} | {contestant} | {:.3} | {:.2} | {:.2} | {:.2} | {:.0} | {} + {} |",
                if warm { "no-op" } else { "cold" },
                sample.wall,
                sample.wall / crane.wall,
                sample.cpu,
                sample.cpu / crane.cpu,
                sample.memory,
                sample.requests.0,
                sample.requests.1,
            );
        }
    }
    text
}

/// The table of targets and measured values.
pub(super) fn targets(verdicts: &[Verdict]) -> String {
    let mut text = String::from("| target | at most | reached | |\n|---|---|---|---|\n");
    for Verdict { what, most, reached, met } in verdicts {
        let met = if *met { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {what} | {most} | {reached} | {met} |");
    }
    text
}

/// Writes the results into the page.
pub(super) fn write(results: &Results, verdicts: &[Verdict], runs: usize, registry: Version) -> Result<()> {
    let (machine, targets, tables) = (machine(), targets(verdicts), tables(results));
    let text = format!(
        "Medians of {runs} interleaved runs on {machine}, {} at both ends.\n\n{targets}{tables}",
        registry.name()
    );
    crate::results::write("bench-copy", &text)
}

/// Cores, processor model and memory of this machine.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unknown processor".to_owned());
    let memory =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    format!("{cores} cores of {model}, {} GiB", memory.unwrap_or_default() >> 20)
}
