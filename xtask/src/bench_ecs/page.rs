//! Result tables for the terminal and docs/benchmarks.md.

use std::fmt::Write as _;

use super::{bench::Bench, detection::Detections, script::Costs};

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
        "\nbp-ecs takes {:.1} % of the time and {:.1} % of the CPU (target: at most 10 %, {}); medians of {} runs \
         each, bp-ecs built {} optimisation.",
        share(costs.ours.wall, costs.script.wall),
        share(costs.ours.cpu, costs.script.cpu),
        if costs.met() { "met" } else { "**missed**" },
        costs.runs,
        if bench.optimised { "with" } else { "without" },
    );
    if let Some(seen) = detections {
        let code = match seen.exit_code {
            0 => "0: success".to_owned(),
            code => code.to_string(),
        };
        let _ = write!(
            text,
            "\n| a deployment whose container exits | seconds after the update | reports |\n|---|---|---|\n\
             | bp-ecs: the failure | {:.1} | {} |\n| bp-ecs: the end | {:.1} | {} |\n\
             | `aws ecs wait services-stable` | {:.1} | exit code {code} |\n",
            seen.reported, seen.cause, seen.ended, seen.verdict, seen.waited,
        );
    }
    text
}
