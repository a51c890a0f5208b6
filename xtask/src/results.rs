//! Writing benchmark results into docs/benchmarks.md.

use std::fs;

use anyhow::{Context, Result};

use crate::{command, report};

const PAGE: &str = "docs/benchmarks.md";

/// Replaces the previous results of `benchmark` in the page.
pub(crate) fn write(benchmark: &str, results: &str) -> Result<()> {
    let file = command::root().join(PAGE);
    let page = fs::read_to_string(&file).with_context(|| format!("cannot read {PAGE}"))?;
    fs::write(&file, replaced(&page, benchmark, results)?).with_context(|| format!("cannot write {PAGE}"))?;
    report::line(format_args!("     written to {PAGE}"));
    Ok(())
}

/// The page with `results` between the markers of `benchmark`.
fn replaced(page: &str, benchmark: &str, results: &str) -> Result<String> {
    let begin = format!("<!-- {benchmark} writes below -->");
    let end = format!("<!-- {benchmark} wrote above -->");
    let (before, rest) = page.split_once(&begin).with_context(|| format!("{PAGE} lacks {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("{PAGE} lacks {end}"))?;
    Ok(format!("{before}{begin}\n{results}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_the_text_between_the_markers_of_the_benchmark() {
        let page = |a: &str, b: &str| {
            format!(
                "# A\n<!-- a writes below -->\n{a}\n<!-- a wrote above -->\n# B\n\
                 <!-- b writes below -->\n{b}\n<!-- b wrote above -->\nend\n"
            )
        };
        assert_eq!(replaced(&page("one", "two"), "b", "three").unwrap(), page("one", "three"));
        let error = replaced(&page("one", "two"), "c", "three").unwrap_err();
        assert_eq!(error.to_string(), "docs/benchmarks.md lacks <!-- c writes below -->");
    }
}
