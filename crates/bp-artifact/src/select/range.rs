//! Ranges of versions, as npm and the image policies of Flux and Argo CD read them.

use std::{fmt, str::FromStr};

use semver::{Prerelease, Version};

use crate::parse::ParseError;

/// A range of versions: comparators, all of which must match, in alternatives separated by `||`.
///
/// | comparator | matches |
/// |---|---|
/// | `=1.2.3`, `=1.2` | this version; every `1.2.x` |
/// | `>1.2.3`, `>=1.2`, `<2`, `<=1.4` | as compared; an incomplete version is the range of its versions |
/// | `~1.2.3`, `~1` | later patch versions; of `~1` later minor versions |
/// | `^1.2.3`, `^0.2.3` | later versions that do not change the first component that is not zero |
/// | `1.2.x`, `1.*`, `*` | every version with these components |
/// | `1.2 - 1.4` | from the first version to the end of the second |
///
/// A pre-release matches only a comparator that contains a pre-release, as in Flux and Argo CD Image Updater. A version
/// without an operator is rejected: for npm and Flux it is that version, for Cargo it includes later ones.
///
/// ```
/// use bp_artifact::select::VersionRange;
///
/// let range: VersionRange = ">=1.2 <2 || 3.x".parse()?;
/// assert!(range.matches(&"1.9.0".parse().unwrap()) && range.matches(&"3.0.1".parse().unwrap()));
/// assert!(!range.matches(&"2.0.0".parse().unwrap()));
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    text: String,
    alternatives: Vec<Vec<Interval>>,
}

impl VersionRange {
    /// Whether the version is in the range.
    pub fn matches(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|all| all.iter().all(|interval| interval.contains(version)))
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for VersionRange {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let alternatives = text.split("||").map(comparators).collect::<Result<_, _>>();
        let alternatives = alternatives.map_err(|reason| ParseError::new("a version range", text, reason))?;
        Ok(VersionRange { text: text.to_owned(), alternatives })
    }
}

/// The version of a tag such as `1.2.3`, `v1.2.3-rc.1` or `2026.02.0`. Leading zeros of calendar versions have no
/// meaning.
pub(super) fn version(tag: &str) -> Option<Version> {
    let partial = Partial::parse(tag).ok()?;
    let Partial { major: Some(major), minor: Some(minor), patch: Some(patch), pre } = partial else {
        return None;
    };
    Some(Version { major, minor, patch, pre, build: semver::BuildMetadata::EMPTY })
}

/// The versions that one comparator matches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interval {
    /// The least version, and whether it is included.
    lower: Option<(Version, bool)>,
    /// The greatest version, and whether it is included.
    upper: Option<(Version, bool)>,
    /// Whether pre-releases match.
    pre: bool,
}

impl Interval {
    fn contains(&self, version: &Version) -> bool {
        let above = |(least, included): &(Version, bool)| version > least || *included && version == least;
        let below = |(most, included): &(Version, bool)| version < most || *included && version == most;
        (version.pre.is_empty() || self.pre)
            && self.lower.as_ref().is_none_or(above)
            && self.upper.as_ref().is_none_or(below)
    }
}

/// A version of which components at the end may be missing or wildcards.
#[derive(Debug, Clone)]
struct Partial {
    major: Option<u64>,
    minor: Option<u64>,
    patch: Option<u64>,
    pre: Prerelease,
}

impl Partial {
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not a version such as 1.2.3 or 1.2.x");
        if text.contains('+') {
            return Err(format!("{text:?} has build metadata, which a tag cannot contain"));
        }
        let (core, pre) = text.strip_prefix('v').unwrap_or(text).split_once('-').unzip();
        let core = core.unwrap_or_else(|| text.strip_prefix('v').unwrap_or(text));
        if pre == Some("") {
            return Err(invalid());
        }
        let pre = pre.map_or(Ok(Prerelease::EMPTY), Prerelease::new).map_err(|_| invalid())?;
        let components = core.split('.').map(|component| match component {
            "x" | "X" | "*" => Ok(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map(Some).map_err(|_| invalid())
            }
            _ => Err(invalid()),
        });
        let components: Vec<Option<u64>> = components.collect::<Result<_, _>>()?;
        let mut given = components.iter().copied();
        let mut next = || given.next().flatten();
        let partial = Partial { major: next(), minor: next(), patch: next(), pre };
        let numbers = components.iter().take_while(|component| component.is_some()).count();
        let has_gap = components.iter().skip(numbers).any(Option::is_some);
        if components.len() > 3 || has_gap || !partial.pre.is_empty() && numbers < 3 {
            return Err(invalid());
        }
        Ok(partial)
    }

    fn is_complete(&self) -> bool {
        self.patch.is_some()
    }

    /// The least version of this range, with a pre-release if one is given.
    fn floor(&self) -> Option<Version> {
        let [minor, patch] = [self.minor, self.patch].map(Option::unwrap_or_default);
        Some(Version { pre: self.pre.clone(), ..Version::new(self.major?, minor, patch) })
    }

    /// The version after all versions with the same component `fixed`, of 0 to 2. `None` if there is no such version.
    fn after(&self, fixed: usize) -> Option<Version> {
        let [major, minor, patch] = [self.major, self.minor, self.patch].map(Option::unwrap_or_default);
        Some(match fixed {
            0 => Version::new(major.checked_add(1)?, 0, 0),
            1 => Version::new(major, minor.checked_add(1)?, 0),
            _ => Version::new(major, minor, patch.checked_add(1)?),
        })
    }

    /// The index of the last component that is given.
    fn last(&self) -> usize {
        if self.patch.is_some() { 2 } else { usize::from(self.minor.is_some()) }
    }

    /// The interval from this version to the end of the versions with the same component `fixed`.
    fn up_to(&self, fixed: usize) -> Interval {
        Interval {
            lower: self.floor().map(|floor| (floor, true)),
            upper: self.after(fixed).map(first),
            pre: self.has_pre(),
        }
    }

    fn has_pre(&self) -> bool {
        !self.pre.is_empty()
    }
}

/// The version as an upper bound that excludes its own pre-releases.
fn first(version: Version) -> (Version, bool) {
    let pre = Prerelease::new("0").unwrap_or(Prerelease::EMPTY);
    (Version { pre, ..version }, false)
}

/// The operators, longest first.
const OPERATORS: [&str; 8] = [">=", "<=", "~>", "=", ">", "<", "~", "^"];

fn comparators(alternative: &str) -> Result<Vec<Interval>, String> {
    if let Some((from, to)) = alternative.split_once(" - ") {
        let (from, to) = (Partial::parse(from.trim())?, Partial::parse(to.trim())?);
        if from.major.is_none() || to.major.is_none() {
            return Err("both ends of a range with a hyphen have to be versions".into());
        }
        return Ok(vec![comparator(">=", from)?, comparator("<=", to)?]);
    }
    // An operator may be separated from its version by spaces.
    let mut words = alternative.split([' ', '\t', ',']).filter(|word| !word.is_empty()).peekable();
    let mut intervals = Vec::new();
    while let Some(word) = words.next() {
        let operator = OPERATORS.into_iter().find(|operator| word.starts_with(operator)).unwrap_or_default();
        let version = match word.strip_prefix(operator).unwrap_or(word) {
            "" => words.next().ok_or_else(|| format!("{operator:?} has no version"))?,
            version => version,
        };
        let partial = Partial::parse(version)?;
        if operator.is_empty() && !version.contains(['x', 'X', '*']) {
            let spelled = if partial.is_complete() { format!("={version}") } else { format!("{version}.x") };
            return Err(format!(
                "{version} without an operator is that version in some tools and a minimum in others: write \
                 semver:{spelled} for this version, or semver:^{version} for later compatible ones as well"
            ));
        }
        intervals.push(comparator(operator, partial)?);
    }
    if intervals.is_empty() {
        return Err("an alternative is empty: write semver:* for every version".into());
    }
    Ok(intervals)
}

fn comparator(operator: &str, version: Partial) -> Result<Interval, String> {
    let pre = version.has_pre();
    let (floor, last, is_complete) = (version.floor(), version.last(), version.is_complete());
    let bounded = |lower, upper| Interval { lower, upper, pre };
    let Some(floor) = floor else {
        return match operator {
            "<" | ">" => Err(format!("{operator}* matches no version")),
            _ => Ok(bounded(None, None)),
        };
    };
    Ok(match operator {
        ">=" => bounded(Some((floor, true)), None),
        ">" if is_complete => bounded(Some((floor, false)), None),
        // After the last version there is none.
        ">" => match version.after(last) {
            Some(after) => bounded(Some((after, true)), None),
            None => return Err("no version is greater".into()),
        },
        "<" => bounded(None, Some((floor, false))),
        "<=" if is_complete => bounded(None, Some((floor, true))),
        "<=" => bounded(None, version.after(last).map(first)),
        "~" | "~>" => version.up_to(last.min(1)),
        "^" => {
            let components = [version.major, version.minor, version.patch];
            let leading = components.iter().position(|component| component.is_some_and(|number| number > 0));
            version.up_to(leading.unwrap_or(last).min(last))
        }
        _ if is_complete => bounded(Some((floor.clone(), true)), Some((floor, true))),
        _ => version.up_to(last),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_follow_the_given_components() {
        for (range, inside, outside) in [
            ("~1.2.3", &["1.2.3", "1.2.9"][..], &["1.2.2", "1.3.0"][..]),
            ("~>1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
            ("~1", &["1.0.0", "1.9.9"], &["2.0.0"]),
            ("^1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]),
            ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4"]),
            ("^0.0", &["0.0.0", "0.0.9"], &["0.1.0"]),
            ("^0", &["0.0.0", "0.9.0"], &["1.0.0"]),
            ("^1.x", &["1.0.0", "1.9.0"], &["2.0.0"]),
            (">1.2", &["1.3.0"], &["1.2.9"]),
            (">1.2.3", &["1.2.4"], &["1.2.3"]),
            (">= 1.2", &["1.2.0", "2.0.0"], &["1.1.9"]),
            ("<1.2", &["1.1.9"], &["1.2.0"]),
            ("<=1.2", &["1.2.9"], &["1.3.0"]),
            ("<=1.2.3", &["1.2.3"], &["1.2.4"]),
            ("=1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
            ("1.2.X", &["1.2.0"], &["1.3.0"]),
            ("v1.2.*", &["1.2.0"], &["1.3.0"]),
            ("*", &["0.0.0", "9.9.9"], &["1.0.0-rc.1"]),
            ("1.2 - 1.4", &["1.2.0", "1.4.9"], &["1.1.9", "1.5.0"]),
            ("1.2.3 - 1.4.5", &["1.2.3", "1.4.5"], &["1.4.6"]),
            (">=1.0.0, <2", &["1.9.9"], &["2.0.0"]),
            ("~1.2 || ~2.3", &["1.2.9", "2.3.0"], &["2.2.0"]),
            (">=1.0.0-0", &["1.0.0-0", "1.1.0-rc.1", "1.1.0"], &["0.9.0"]),
            (">=1.0.0-0 <2.0.0-0", &["1.1.0-rc.1", "1.9.0"], &["2.0.0-rc.1"]),
            (">=1.0.0-0 <2", &["1.9.0"], &["1.1.0-rc.1"]),
            ("^1.2.3-rc.1", &["1.2.3-rc.1", "1.2.3", "1.9.0-rc.1"], &["2.0.0-rc.1", "1.2.3-rc.0"]),
            ("=1.2.3-rc.1", &["1.2.3-rc.1"], &["1.2.3"]),
            ("^18446744073709551615", &["18446744073709551615.9.0"], &["1.0.0"]),
        ] {
            let parsed: VersionRange = range.parse().unwrap();
            assert_eq!(parsed.to_string(), range);
            for (versions, is_inside) in [(inside, true), (outside, false)] {
                for text in versions {
                    assert_eq!(parsed.matches(&text.parse().unwrap()), is_inside, "{text} in {range}");
                }
            }
        }
    }

    #[test]
    fn rejects_what_is_not_a_range() {
        for (text, reason) in [
            ("", "an alternative is empty"),
            ("1.x ||", "an alternative is empty"),
            ("1.2.3", "write semver:=1.2.3 for this version, or semver:^1.2.3"),
            ("v1.2.3-rc.1", "write semver:=v1.2.3-rc.1 for this version, or semver:^v1.2.3-rc.1"),
            ("1.2", "write semver:1.2.x for this version, or semver:^1.2"),
            ("^1 || 2", "write semver:2.x"),
            (">=", "\">=\" has no version"),
            (">*", ">* matches no version"),
            ("<x", "<* matches no version"),
            ("* - 2", "both ends"),
            (">=1.2.3+5", "build metadata"),
            ("!=1.2.3", "is not a version"),
            ("1.x.3", "is not a version"),
            ("1.2.3.4", "is not a version"),
            ("=1.2-rc.1", "is not a version"),
            ("=1.2.3-", "is not a version"),
            ("=1..3", "is not a version"),
            ("latest", "is not a version"),
            ("=99999999999999999999.0.0", "is not a version"),
            (">18446744073709551615", "no version is greater"),
        ] {
            let error = text.parse::<VersionRange>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9xv*.<>=~^|, +a-]{0,24}") {
            if let Ok(range) = text.parse::<VersionRange>() {
                prop_assert_eq!(range.to_string().parse::<VersionRange>().unwrap(), range);
            }
        }

        /// Cargo's ranges, an independent implementation: both agree on ranges that have an operator.
        #[test]
        fn agrees_with_the_semver_crate(
            operator in prop_oneof![Just("="), Just(">"), Just(">="), Just("<"), Just("<="), Just("~"), Just("^")],
            components in proptest::collection::vec(0..4u64, 1..4),
            version in (0..5u64, 0..5u64, 0..5u64),
        ) {
            let text: Vec<String> = components.iter().map(u64::to_string).collect();
            let text = format!("{operator}{}", text.join("."));
            let version = Version::new(version.0, version.1, version.2);
            let expected = text.parse::<semver::VersionReq>().unwrap().matches(&version);
            prop_assert_eq!(text.parse::<VersionRange>().unwrap().matches(&version), expected, "{} in {}", version, text);
        }
    }
}
