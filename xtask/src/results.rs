//! docs/benchmarks.md, in which each benchmark has a place for its results.

use std::fs;

use anyhow::{Context, Result};

use crate::{command, report};

const PAGE: &str = "docs/benchmarks.md";

/// Puts `results` in the place of what the benchmark `chore` wrote last.
pub(crate) fn write(chore: &str, results: &str) -> Result<()> {
    let file = command::root().join(PAGE);
    let page = fs::read_to_string(&file).with_context(|| format!("cannot read {PAGE}"))?;
    fs::write(&file, replaced(&page, chore, results)?).with_context(|| format!("cannot write {PAGE}"))?;
    report::line(format_args!("     written into {PAGE}"));
    Ok(())
}

/// The page with `results` between the marks of `chore`.
fn replaced(page: &str, chore: &str, results: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {chore} writes below -->"), format!("<!-- {chore} wrote above -->"));
    let (before, rest) = page.split_once(&begin).with_context(|| format!("{PAGE} lacks {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("{PAGE} lacks {end}"))?;
    Ok(format!("{before}{begin}\n{results}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_of_the_chore_is_replaced() {
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
