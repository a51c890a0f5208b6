//! The results, on the terminal and in docs/benchmarks.md.

use std::{fmt::Write as _, fs};

use anyhow::{Context, Result};

use super::{Bench, detection::Detections, script::Costs};
use crate::{command, report};

const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- bench-ecs writes below -->";
const END: &str = "<!-- bench-ecs wrote above -->";

pub(super) fn text(bench: &Bench, costs: &Costs, detections: Option<&Detections>) -> String {
    let mut text = String::from("| | calls | processes | wall s | CPU s |\n|---|---|---|---|---|\n");
    for (name, cost) in [("aws-cli and jq", costs.script), ("bp-ecs", costs.ours)] {
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {:.3} | {:.3} |",
            cost.calls, cost.processes, cost.wall, cost.cpu
        );
    }
    let share = |ours: f64, theirs: f64| 100.0 * ours / theirs;
    let _ = writeln!(
        text,
        "\nOurs takes {:.1} % of the time and {:.1} % of the CPU (target: at most 10 %, {}); medians of {} runs each, our \
         program built {} optimisation.",
        share(costs.ours.wall, costs.script.wall),
        share(costs.ours.cpu, costs.script.cpu),
        if costs.met() { "met" } else { "**missed**" },
        costs.runs,
        if bench.optimised { "with" } else { "without" },
    );
    if let Some(seen) = detections {
        let code = match seen.said {
            0 => "0: success".to_owned(),
            code => code.to_string(),
        };
        let _ = write!(
            text,
            "\n| a deployment whose container exits | seconds after the update | what is said |\n|---|---|---|\n\
             | bp-ecs: the failure | {:.1} | {} |\n| bp-ecs: the end | {:.1} | {} |\n\
             | `aws ecs wait services-stable` | {:.1} | exit code {code} |\n",
            seen.reported, seen.cause, seen.ended, seen.verdict, seen.waited,
        );
    }
    text
}

/// Puts the results in the place of the last ones.
pub(super) fn write(text: &str) -> Result<()> {
    let path = command::root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} lacks {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} lacks {END}"))?;
    fs::write(&path, format!("{before}{BEGIN}\n{text}\n{END}{after}"))?;
    report::line(format_args!("     written into {PAGE}"));
    Ok(())
}
