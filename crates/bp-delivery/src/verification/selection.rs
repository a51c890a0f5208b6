//! Which checks to run.

use std::collections::BTreeSet;

use bp_artifact::check::CheckKind;

/// Which checks to run: by default all except the commands and Jobs of gates, unless bp.toml enables them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    only: Option<BTreeSet<CheckKind>>,
    skip: BTreeSet<CheckKind>,
}

impl Selection {
    /// Runs only these checks, if any are given, and none of `skip`.
    pub fn new(only: impl IntoIterator<Item = CheckKind>, skip: impl IntoIterator<Item = CheckKind>) -> Self {
        let only: BTreeSet<CheckKind> = only.into_iter().collect();
        Selection { only: (!only.is_empty()).then_some(only), skip: skip.into_iter().collect() }
    }

    /// Whether to run this check.
    pub fn has(&self, kind: CheckKind) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&kind)) && !self.skip.contains(&kind)
    }

    /// Whether the check was asked for by its name.
    pub(super) fn names(&self, kind: CheckKind) -> bool {
        self.only.as_ref().is_some_and(|only| only.contains(&kind)) && !self.skip.contains(&kind)
    }

    /// Whether one of the checks compares with an image.
    pub fn needs_image(&self) -> bool {
        use CheckKind::{Definition, Digest, Image, Rollout};
        [Rollout, Digest, Definition, Image].into_iter().any(|kind| self.has(kind))
            || self.names(CheckKind::Command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_checks_by_name() {
        use CheckKind::{Command, Digest, Http, Tls};
        let all = Selection::default();
        assert!(all.has(Http) && all.has(Digest) && all.needs_image() && !all.names(Command));
        let web = Selection::new([Http, Tls], [Tls]);
        assert!(web.has(Http) && !web.has(Tls) && !web.has(Digest) && !web.needs_image());
        let command = Selection::new([Command], []);
        assert!(command.names(Command) && command.needs_image());
        assert!(!Selection::new([], [Http]).has(Http));
    }
}
