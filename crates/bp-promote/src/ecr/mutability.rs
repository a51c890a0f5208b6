//! Which tags of a repository can be moved.

use std::fmt;

use aws_sdk_ecr::types::{ImageTagMutability, ImageTagMutabilityExclusionFilter};
use bp_artifact::{select::Glob, text::single_line};

/// Which tags of a repository can be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mutability {
    /// Whether tags are immutable, except those that match a filter; otherwise they are mutable, except those.
    immutable: bool,
    filters: Vec<String>,
}

impl Mutability {
    /// The setting of a repository or a creation template, mutable by default. `None` for one that this version does
    /// not know.
    pub(super) fn of(
        setting: Option<&ImageTagMutability>,
        filters: &[ImageTagMutabilityExclusionFilter],
    ) -> Option<Self> {
        let (immutable, has_filters) = match setting {
            None | Some(ImageTagMutability::Mutable) => (false, false),
            Some(ImageTagMutability::Immutable) => (true, false),
            Some(ImageTagMutability::ImmutableWithExclusion) => (true, true),
            Some(ImageTagMutability::MutableWithExclusion) => (false, true),
            Some(_) => return None,
        };
        let filters =
            filters.iter().filter(|_| has_filters).map(|filter| filter.filter().to_owned()).collect();
        Some(Mutability { immutable, filters })
    }

    /// Whether an existing tag cannot be moved.
    pub(super) fn is_immutable(&self, tag: &str) -> bool {
        let is_excluded = self.filters.iter().any(|filter| Glob::new(filter.as_str()).matches(tag));
        self.immutable != is_excluded
    }

    /// Whether every tag can be moved.
    pub(super) fn is_mutable(&self) -> bool {
        !self.immutable && self.filters.is_empty()
    }
}

/// `tags are immutable, except sha256-*`.
impl fmt::Display for Mutability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.immutable { "tags are immutable" } else { "tags are mutable" })?;
        if self.filters.is_empty() {
            return Ok(());
        }
        write!(f, ", except {}", single_line(&self.filters.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::types::ImageTagMutabilityExclusionFilterType;

    use super::*;

    fn of(setting: &str, filters: &[&str]) -> Option<Mutability> {
        let filter = |filter: &&str| {
            ImageTagMutabilityExclusionFilter::builder()
                .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
                .filter(*filter)
                .build()
                .unwrap()
        };
        let filters: Vec<_> = filters.iter().map(filter).collect();
        Mutability::of(Some(&ImageTagMutability::from(setting)), &filters)
    }

    #[test]
    fn filters_exclude_tags_from_the_setting() {
        for (setting, filters, tag, is_immutable) in [
            ("MUTABLE", &[][..], "v1", false),
            ("IMMUTABLE", &[], "v1", true),
            ("IMMUTABLE_WITH_EXCLUSION", &["dev-*", "sha256-*.sig"], "v1", true),
            ("IMMUTABLE_WITH_EXCLUSION", &["dev-*", "sha256-*.sig"], "dev-1", false),
            ("IMMUTABLE_WITH_EXCLUSION", &["dev-*", "sha256-*.sig"], "sha256-ab.sig", false),
            ("IMMUTABLE_WITH_EXCLUSION", &["dev-*", "sha256-*.sig"], "sha256-ab.att", true),
            ("MUTABLE_WITH_EXCLUSION", &["v*"], "v1", true),
            ("MUTABLE_WITH_EXCLUSION", &["v*"], "latest", false),
            // Filters without such a setting have no effect.
            ("IMMUTABLE", &["dev-*"], "dev-1", true),
        ] {
            let mutability = of(setting, filters).unwrap();
            assert_eq!(mutability.is_immutable(tag), is_immutable, "{setting} {filters:?} {tag}");
        }
        assert_eq!(of("IMMUTABLE_BY_MOON", &[]), None);
        assert_eq!(Mutability::of(None, &[]).map(|all| all.is_mutable()), Some(true));
        let shown = of("IMMUTABLE_WITH_EXCLUSION", &["a*", "b\u{1b}[2J"]).unwrap().to_string();
        assert!(
            shown.starts_with("tags are immutable, except a*, b") && !shown.contains('\u{1b}'),
            "{shown:?}"
        );
    }
}
