//! What each tag rule selects. The rows are the table in `docs/artifact.md`; `BP_WRITE_DOCS=1` writes it.

mod documented;

use bp_artifact::select::{TagCandidate, TagSelector};

/// A rule, the tags of a repository, the tag that is selected, and where the same rule has the same meaning.
type Row = (&'static str, &'static str, Result<&'static str, &'static str>, &'static str);

const NONE: &str = "none";

const ROWS: &[Row] = &[
    ("^1.2", "1.2.3 v1.10.0 2.0.0 latest", Ok("v1.10.0"), "npm, Flux, Argo CD, Cargo"),
    ("~1.2", "1.2.3 1.2.10 1.3.0", Ok("1.2.10"), "npm, Flux, Argo CD, Cargo"),
    ("1.x", "1.2.3 1.10.0 2.0.0", Ok("1.10.0"), "npm, Flux, Argo CD"),
    ("v1.2.x", "v1.2.3 v1.3.0", Ok("v1.2.3"), "npm, Flux, Argo CD"),
    ("1.2.*", "1.2.3 1.3.0", Ok("1.2.3"), "npm, Flux, Argo CD, Cargo"),
    (">=1 <2", "1.9.0 2.0.0", Ok("1.9.0"), "npm, Flux, Argo CD"),
    (">=1.0.0, <2", "1.9.0 2.0.0", Ok("1.9.0"), "Flux, Argo CD, Cargo"),
    ("1.x || 3.x", "1.9.0 2.0.0 3.1.0", Ok("3.1.0"), "npm, Flux, Argo CD"),
    ("1.2 - 1.4", "1.2.0 1.4.9 1.5.0", Ok("1.4.9"), "npm, Flux, Argo CD"),
    ("=1.20.0", "1.20.0 1.25.0", Ok("1.20.0"), "npm, Flux, Argo CD, Cargo"),
    (
        "1.20.0",
        "1.20.0 1.25.0",
        Err("write semver:=1.20.0 for this version, or semver:^1.20.0 for later compatible ones as well"),
        "this version in npm and Flux, a minimum in Cargo",
    ),
    (
        "1.20",
        "1.20.0 1.25.0",
        Err("write semver:1.20.x for this version, or semver:^1.20 for later compatible ones as well"),
        "this version in npm and Flux, a minimum in Cargo",
    ),
    ("*", "1.0.0 1.1.0-rc.1", Ok("1.0.0"), "npm, Flux, Argo CD, Cargo"),
    (">=1.0.0-0", "1.0.0 1.1.0-rc.1", Ok("1.1.0-rc.1"), "Flux, Argo CD; npm only with includePrerelease"),
    (">=2.0.300-0", "2.0.330-63-gc1cfb6864", Ok("2.0.330-63-gc1cfb6864"), "Flux, Argo CD"),
    (">=1.0.0-0 <2", "1.1.0-rc.1", Ok(NONE), "Flux, Argo CD: each comparator has to contain a pre-release"),
    (">=1.0.0-0 <2.0.0-0", "1.1.0-rc.1 2.0.0-rc.1", Ok("1.1.0-rc.1"), "Flux, Argo CD"),
    ("*", "2025.11.1 2026.02.0", Ok("2026.02.0"), "Argo CD; npm and Flux ignore leading zeros"),
    (
        ">=2026.2",
        "2026.01.9 2026.02.0 2026.2.0-1",
        Ok("2026.02.0"),
        "Argo CD; npm and Flux ignore leading zeros",
    ),
    ("*", "1.2 1 latest main", Ok(NONE), "npm, Flux: incomplete versions are tags that move"),
    (">=1.2.3+5", "1.2.3", Err("build metadata, which a tag cannot contain"), "a tag cannot contain `+`"),
    ("!=1.2.3", "1.2.4", Err("is not a version such as 1.2.3 or 1.2.x"), "not in npm"),
    ("latest", "latest", Err("is not a version such as 1.2.3 or 1.2.x"), "not a range"),
];

fn select(rule: &TagSelector, tags: &str) -> String {
    let tags: Vec<TagCandidate> =
        tags.split(' ').map(|tag| TagCandidate::new(tag.parse().unwrap(), None)).collect();
    rule.select(&tags).map_or_else(|| NONE.to_owned(), ToString::to_string)
}

#[test]
fn every_rule_selects_the_documented_tag() {
    for (range, tags, expected, _) in ROWS {
        match (format!("semver:{range}").parse::<TagSelector>(), expected) {
            (Ok(rule), Ok(expected)) => assert_eq!(select(&rule, tags), *expected, "{range} of {tags}"),
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{range}: {error}"),
            (read, expected) => panic!("{range}: {read:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn the_documented_table_has_these_rows() {
    let mut table = String::from("| rule | tags | selects | as in |\n|---|---|---|---|\n");
    let code = |text: &str| if text == NONE { text.to_owned() } else { format!("`{text}`") };
    for (range, tags, expected, note) in ROWS {
        let rule = format!("semver:{range}").replace('|', "\\|");
        let tags: Vec<String> = tags.split(' ').map(code).collect();
        let expected = match expected {
            Ok(tag) => code(tag),
            Err(reason) => format!("refused: {reason}"),
        };
        table += &format!("| `{rule}` | {} | {expected} | {note} |\n", tags.join(", "));
    }
    documented::assert_table("| rule | tags | selects |", &table, "select");
}
