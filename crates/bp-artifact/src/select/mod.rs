//! Select one of a repository's tags by semantic version, push time or name.

mod range;

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use crate::{
    parse::{ParseError, serde_as_text},
    reference::Tag,
};

pub use range::VersionRange;

/// A rule that selects one of several tags.
///
/// | rule | selects |
/// |---|---|
/// | `semver:^1.2` | the highest version in the [range](VersionRange); tags such as `1.2.3`, `v1.2.3` and `2026.02.0` |
/// | `newest:main-*` | the most recently pushed matching tag (`newest` alone: of all tags) |
/// | `glob:2026-*` | the last matching tag in alphabetical order |
///
/// Tags that are not complete versions (`latest`, `1.2`) are selected only by a pattern.
///
/// ```
/// use bp_artifact::select::{TagCandidate, TagSelector};
///
/// let selector: TagSelector = "semver:^1.2".parse()?;
/// let tags = ["1.2.3", "v1.10.0", "2.0.0", "1.11.0-rc.1", "latest"];
/// let tags: Vec<TagCandidate> =
///     tags.iter().map(|tag| Ok(TagCandidate::new(tag.parse()?, None))).collect::<Result<_, _>>()?;
/// assert_eq!(selector.select(&tags).unwrap().as_str(), "v1.10.0");
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagSelector {
    /// The highest version in a range.
    Semver(VersionRange),
    /// The most recently pushed matching tag.
    Newest(Glob),
    /// The last matching tag in alphabetical order.
    Glob(Glob),
}

/// A tag that can be selected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagCandidate {
    /// The tag.
    pub tag: Tag,
    /// When it was pushed, if the registry reports it. `newest` ignores tags without it.
    pub pushed_at: Option<Timestamp>,
}

impl TagCandidate {
    /// A tag, and when its image was pushed, if known.
    pub fn new(tag: Tag, pushed_at: Option<Timestamp>) -> Self {
        TagCandidate { tag, pushed_at }
    }
}

impl TagSelector {
    /// The selected tag, or `None` if no tag matches. The order of `tags` does not matter.
    pub fn select<'a>(&self, tags: impl IntoIterator<Item = &'a TagCandidate>) -> Option<&'a Tag> {
        let tags = tags.into_iter();
        let chosen = match self {
            TagSelector::Semver(range) => tags
                .filter_map(|candidate| Some((range::version(candidate.tag.as_str())?, candidate)))
                .filter(|(version, _)| range.matches(version))
                .max_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.tag.cmp(&y.tag)))
                .map(|(_, candidate)| candidate),
            TagSelector::Newest(glob) => tags
                .filter(|candidate| candidate.pushed_at.is_some() && glob.matches(candidate.tag.as_str()))
                .max_by_key(|candidate| (candidate.pushed_at, &candidate.tag)),
            TagSelector::Glob(glob) => tags
                .filter(|candidate| glob.matches(candidate.tag.as_str()))
                .max_by_key(|candidate| &candidate.tag),
        };
        chosen.map(|candidate| &candidate.tag)
    }

    /// Whether the tag matches the rule, for callers that need all matching tags.
    pub fn matches(&self, tag: &Tag) -> bool {
        match self {
            TagSelector::Semver(range) => {
                range::version(tag.as_str()).is_some_and(|version| range.matches(&version))
            }
            TagSelector::Newest(glob) | TagSelector::Glob(glob) => glob.matches(tag.as_str()),
        }
    }
}

impl FromStr for TagSelector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason: String| ParseError::new("a tag selector", text, reason);
        match text.split_once(':') {
            Some(("semver", range)) => match range.parse() {
                Ok(range) => Ok(TagSelector::Semver(range)),
                Err(error) => Err(wrong(ParseError::reason(&error).to_owned())),
            },
            // No tag contains these characters: a pattern with them would never match.
            Some(("newest" | "glob", glob)) if glob.contains(['{', '}', '[', ']']) => Err(wrong(
                "braces and brackets are not supported, only * and ?: select several tags one by one, or use \
                 semver:<range>"
                    .into(),
            )),
            Some(("newest", glob)) if !glob.is_empty() => Ok(TagSelector::Newest(Glob::new(glob))),
            Some(("glob", glob)) if !glob.is_empty() => Ok(TagSelector::Glob(Glob::new(glob))),
            None if text == "newest" => Ok(TagSelector::Newest(Glob::new("*"))),
            _ => Err(wrong("expected semver:<range>, newest, newest:<pattern> or glob:<pattern>".into())),
        }
    }
}

impl fmt::Display for TagSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TagSelector::Semver(range) => write!(f, "semver:{range}"),
            TagSelector::Newest(glob) => write!(f, "newest:{}", glob.0),
            TagSelector::Glob(glob) => write!(f, "glob:{}", glob.0),
        }
    }
}

serde_as_text!(TagSelector);

/// A pattern in which `*` matches any sequence of characters, including none, and `?` matches one character.
///
/// ```
/// assert!(bp_artifact::select::Glob::new("main-*").matches("main-2026"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// The pattern `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Glob(text.into())
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the complete `text` matches. The time is bounded by the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut text) = (self.0.as_str(), text);
        // The pattern after the last `*`, and the text that this `*` has not matched.
        let mut star: Option<(&str, &str)> = None;
        loop {
            let mut rest = pattern.chars();
            let mut unmatched = text.chars();
            match (rest.next(), unmatched.next()) {
                (Some('*'), _) => {
                    pattern = rest.as_str();
                    star = Some((pattern, text));
                }
                (None, None) => return true,
                (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                    (pattern, text) = (rest.as_str(), unmatched.as_str());
                }
                _ => {
                    // The last `*` matches one character more.
                    let Some((after, from)) = star else { return false };
                    let mut longer = from.chars();
                    if longer.next().is_none() {
                        return false;
                    }
                    (pattern, text) = (after, longer.as_str());
                    star = Some((pattern, text));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(rule: &str, tags: &[(&str, i64)]) -> Option<String> {
        let candidate = |&(tag, at): &(&str, i64)| TagCandidate {
            tag: tag.parse().unwrap(),
            pushed_at: (at > 0).then(|| Timestamp::from_second(at).unwrap()),
        };
        let mut tags: Vec<TagCandidate> = tags.iter().map(candidate).collect();
        let rule: TagSelector = rule.parse().unwrap();
        let chosen = rule.select(&tags).cloned();
        tags.reverse();
        assert_eq!(rule.select(&tags).cloned(), chosen, "the order does not matter");
        chosen.map(|tag| tag.to_string())
    }

    #[test]
    fn selects_the_highest_version_not_the_alphabetically_last() {
        let tags =
            [("1.9.0", 9), ("1.10.0", 1), ("v1.2.0", 3), ("1.11", 0), ("latest", 0), ("2.0.0-rc.1", 0)];
        assert_eq!(select("semver:^1", &tags).as_deref(), Some("1.10.0"));
        assert_eq!(select("semver:~1.2", &tags).as_deref(), Some("v1.2.0"));
        assert_eq!(select("semver:>=2.0.0-rc", &tags).as_deref(), Some("2.0.0-rc.1"));
        assert_eq!(select("semver:>=2", &tags), None);
        assert_eq!(select("semver:*", &[("1.0.0", 0), ("v1.0.0", 0)]).as_deref(), Some("v1.0.0"));
    }

    #[test]
    fn selects_the_newest_by_time_and_the_last_by_name() {
        let tags = [("main-b", 2), ("main-a", 3), ("dev-c", 4), ("main-z", 0)];
        assert_eq!(select("newest:main-*", &tags).as_deref(), Some("main-a"));
        assert_eq!(select("newest", &tags).as_deref(), Some("dev-c"));
        assert_eq!(select("glob:main-*", &tags).as_deref(), Some("main-z"));
        assert_eq!(select("glob:x*", &tags), None);
        assert_eq!(select("newest", &[]), None);
    }

    #[test]
    fn matches_every_tag_that_the_rule_may_select() {
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        for (rule, yes, no) in [
            ("semver:^1.2", "v1.9.0", "2.0.0"),
            ("glob:main-*", "main-a", "dev"),
            ("newest:main-*", "main-a", "dev"),
        ] {
            let rule: TagSelector = rule.parse().unwrap();
            assert!(rule.matches(&tag(yes)) && !rule.matches(&tag(no)), "{rule}");
        }
        assert!("newest".parse::<TagSelector>().unwrap().matches(&tag("latest")));
        assert!(!"semver:*".parse::<TagSelector>().unwrap().matches(&tag("latest")));
    }

    #[test]
    fn matches_glob_patterns() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a*a", "a", false),
            ("a*a", "aba", true),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
            ("a*b*c", "a-c-b-c", true),
            ("a**c", "abc", true),
            ("a*c?", "abccd", true),
            ("a?", "a", false),
            ("a?b", "aüb", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), matches, "{pattern} {text}");
        }
        let slow_if_exponential = Glob::new("a*".repeat(40) + "b");
        assert!(!slow_if_exponential.matches(&"a".repeat(2000)));
    }

    #[test]
    fn selectors_round_trip_and_reject_invalid_text() {
        for text in ["semver:^1.2", "newest:main-*", "glob:2026-*"] {
            assert_eq!(text.parse::<TagSelector>().unwrap().to_string(), text);
        }
        for text in ["glob:{1.4,1.5}*", "glob:[12].*", "newest:a}", "newest:]"] {
            let error = text.parse::<TagSelector>().unwrap_err().to_string();
            assert!(error.contains("braces and brackets"), "{text}: {error}");
        }
        for text in ["", "1.2.3", "semver:", "semver:x.y", "newest:", "glob:", "regex:.*"] {
            assert!(text.parse::<TagSelector>().is_err(), "{text}");
        }
    }
}
