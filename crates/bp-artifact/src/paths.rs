//! Path patterns: which files of a repository belong to a service.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]

use std::{fmt, str::FromStr};

use crate::{parse::ParseError, select::Glob};

/// Patterns of paths, relative to the root of a repository. Later patterns take precedence; one that starts with `!`
/// excludes.
///
/// | pattern | matches |
/// |---|---|
/// | `services/web` | that file, or everything in that directory |
/// | `services/*/Cargo.toml` | `*` and `?` match within one name |
/// | `**/Dockerfile` | in every directory; `**` is any number of directories |
/// | `!**/*.md` | not these |
///
/// ```
/// use bp_artifact::paths::PathPatterns;
///
/// let web = PathPatterns::new(["services/web", "Cargo.lock", "!**/*.md"])?;
/// assert!(web.matches("services/web/src/main.rs") && web.matches("Cargo.lock"));
/// assert!(!web.matches("services/worker/main.rs") && !web.matches("services/web/README.md"));
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathPatterns(Vec<PathPattern>);

impl PathPatterns {
    /// The patterns in their order.
    ///
    /// # Errors
    /// When one is invalid, or all of them exclude.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, ParseError> {
        let patterns: Vec<PathPattern> = patterns.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        match patterns.first() {
            Some(first) if patterns.iter().all(|pattern| pattern.excludes) => Err(wrong(
                &first.to_string(),
                "all patterns exclude: start with one that matches, such as **",
            )),
            _ => Ok(PathPatterns(patterns)),
        }
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `path` belongs to it. The time is bounded by the product of both lengths.
    pub fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        let last = self.0.iter().rev().find(|pattern| pattern.matches(&names));
        last.is_some_and(|pattern| !pattern.excludes)
    }
}

/// Separated by commas.
impl fmt::Display for PathPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pattern) in self.0.iter().enumerate() {
            write!(f, "{}{pattern}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathPattern {
    excludes: bool,
    text: String,
    names: Vec<Name>,
}

/// One name in a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// `**`: any number of directories.
    Any,
    One(Glob),
}

impl PathPattern {
    /// Whether the pattern matches the path, or a directory that contains it.
    fn matches(&self, path: &[&str]) -> bool {
        // Whether the pattern up to here matches the first `n` names of the path.
        let mut reached = vec![false; path.len().saturating_add(1)];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        for name in &self.names {
            let mut next = vec![false; reached.len()];
            match name {
                Name::Any => {
                    let mut is_reached = false;
                    for (next, before) in next.iter_mut().zip(&reached) {
                        is_reached |= before;
                        *next = is_reached;
                    }
                }
                Name::One(glob) => {
                    let after = next.iter_mut().skip(1);
                    for ((next, before), name) in after.zip(&reached).zip(path) {
                        *next = *before && glob.matches(name);
                    }
                }
            }
            reached = next;
        }
        reached.contains(&true)
    }
}

fn wrong(text: &str, reason: &'static str) -> ParseError {
    ParseError::new("a path pattern", text, reason)
}

impl FromStr for PathPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (excludes, path) = match text.strip_prefix('!') {
            Some(path) => (true, path),
            None => (false, text),
        };
        if path.starts_with('/') {
            return Err(wrong(
                text,
                "paths are relative to the root of the repository: remove the leading slash",
            ));
        }
        if path.contains('\\') || path.chars().any(char::is_control) {
            return Err(wrong(
                text,
                "backslashes and control characters are not supported: separate names by /",
            ));
        }
        if path.contains(['{', '}', '[', ']']) {
            let reason = "braces and brackets are not supported, only *, ? and **: write several patterns, or ? for a bracket";
            return Err(wrong(text, reason));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let name = |name: &str| match name {
            "" => Err(wrong(text, "it has an empty name")),
            "." | ".." => {
                Err(wrong(text, "it contains . or ..: paths are relative to the root of the repository"))
            }
            "**" => Ok(Name::Any),
            name if name.contains("**") => Err(wrong(text, "** must be a whole name, as in **/*.rs")),
            name => Ok(Name::One(Glob::new(name))),
        };
        let names = path.split('/').map(name).collect::<Result<_, _>>()?;
        Ok(PathPattern { excludes, text: text.to_owned(), names })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_paths_and_everything_below_them() {
        for (pattern, path, expected) in [
            ("services/web", "services/web", true),
            ("services/web", "services/web/src/main.rs", true),
            ("services/web/", "services/web/a", true),
            ("services/web", "services/website/a", false),
            ("services/web", "other/services/web/a", false),
            ("services/*", "services/web/a", true),
            ("services/*", "services", false),
            ("services/*/Cargo.toml", "services/web/Cargo.toml", true),
            ("services/*/Cargo.toml", "services/web/x/Cargo.toml", false),
            ("**/Dockerfile", "Dockerfile", true),
            ("**/Dockerfile", "a/b/Dockerfile", true),
            ("**/Dockerfile", "a/b/Dockerfile.dev", false),
            ("services/**/k8s", "services/k8s/x", true),
            ("services/**/k8s", "services/a/b/k8s", true),
            ("services/**", "services/a", true),
            ("services/**", "other/a", false),
            ("**", "a/b", true),
            ("*.rs", "main.rs", true),
            ("*.rs", "src/main.rs", false),
            ("v?.txt", "v1.txt", true),
        ] {
            assert_eq!(PathPatterns::new([pattern]).unwrap().matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn later_patterns_take_precedence() {
        let patterns = PathPatterns::new(["**", "!docs", "docs/api"]).unwrap();
        assert!(patterns.matches("src/main.rs") && !patterns.matches("docs/guide.md"));
        assert!(patterns.matches("docs/api/index.md"));
        assert_eq!(patterns.to_string(), "**, !docs, docs/api");
        assert!(!PathPatterns::default().matches("a"));
    }

    #[test]
    fn rejects_patterns_that_could_never_match() {
        for (pattern, reason) in [
            ("", "empty name"),
            ("!", "empty name"),
            ("/src", "leading slash"),
            ("a//b", "empty name"),
            ("./src", ". or .."),
            ("../other", ". or .."),
            ("src\\main.rs", "backslashes"),
            ("src/{a,b}", "braces"),
            ("src/[ab]", "brackets"),
            ("src/**.rs", "whole name"),
            ("!docs", "all patterns exclude"),
        ] {
            let error = PathPatterns::new([pattern]).unwrap_err().to_string();
            assert!(error.contains(reason), "{pattern}: {error}");
        }
    }

    #[test]
    fn takes_no_exponential_time() {
        let patterns = PathPatterns::new(["**/*a*/**/*a*/**/*a*/**/*a*/**/b"]).unwrap();
        assert!(!patterns.matches(&"aaaaaaaa/".repeat(2000)));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "\\PC{0,20}", path in "\\PC{0,40}") {
            if let Ok(patterns) = PathPatterns::new([pattern.as_str()]) {
                let _ = patterns.matches(&path);
            }
        }
    }
}
