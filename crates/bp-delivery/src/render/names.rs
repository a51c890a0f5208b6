//! Short names for progress; results have the full ones.

use std::collections::BTreeMap;

use bp_artifact::deploy::TargetId;

/// The short names of the targets of a run: a short name is used for one target only.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, TargetId>);

impl Names {
    /// The short name of a target: `ecs/shop-web`, `eks/web`; its ID if another target has that name.
    pub(super) fn of(&mut self, target: &TargetId) -> String {
        let name = short(target.as_str());
        let owner = self.0.entry(name.clone()).or_insert_with(|| target.clone());
        if owner == target { name } else { target.as_str().to_owned() }
    }
}

/// Without the cluster and the namespace, and of a Deployment without its kind.
fn short(target: &str) -> String {
    let parts: Vec<&str> = target.split('/').collect();
    match parts[..] {
        ["ecs", _, ref rest @ ..] if !rest.is_empty() => format!("ecs/{}", rest.join("/")),
        ["eks", _, _, "deployment", name] => format!("eks/{name}"),
        ["eks", _, _, ref rest @ ..] if !rest.is_empty() => format!("eks/{}", rest.join("/")),
        _ => target.to_owned(),
    }
}

/// A repository without its registry: `shop/web`.
pub(super) fn path(repository: &str) -> &str {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) && !host.starts_with('.') && !path.is_empty() => path,
        _ => repository,
    }
}

/// The text with image references and digests as progress shows them: `shop/web@sha256:44136fa355b3`. For display only.
pub(super) fn abbreviated(text: &str) -> String {
    const ALGORITHM: &str = "sha256:";
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(ALGORITHM) {
        let (before, digest) = rest.split_at(at + ALGORITHM.len());
        let hex = digest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (digest, after) = digest.split_at(hex);
        let before = before.strip_suffix(ALGORITHM).unwrap_or(before);
        let reference = before.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let (before, repository) = before.split_at(reference);
        short.push_str(before);
        short.push_str(if repository.ends_with('@') { path(repository) } else { repository });
        short.push_str(ALGORITHM);
        short.push_str(if hex == 64 { &digest[..12] } else { digest });
        rest = after;
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_unique() {
        let mut names = Names::default();
        for (target, name) in [
            ("ecs/staging/shop-web", "ecs/shop-web"),
            ("ecs/staging/shop-web/task", "ecs/shop-web/task"),
            ("eks/staging/shop/deployment/web", "eks/web"),
            ("eks/staging/shop/service/web", "eks/service/web"),
            ("eks/staging/other/deployment/web", "eks/staging/other/deployment/web"),
            ("eks/staging/shop/deployment/web", "eks/web"),
            ("elsewhere", "elsewhere"),
        ] {
            assert_eq!(names.of(&TargetId::new(target)), name);
        }
    }

    #[test]
    fn digests_are_shortened_and_other_text_is_not() {
        let digest = format!("sha256:{}", "4".repeat(64));
        for (text, short) in [
            (
                format!("~ image: 1.example.com/shop/web@{digest} -> b"),
                "~ image: shop/web@sha256:444444444444 -> b",
            ),
            (format!("{digest}, {digest}"), "sha256:444444444444, sha256:444444444444"),
            (format!("é [x] web:1@{digest}…"), "é [x] web:1@sha256:444444444444…"),
            ("sha256: sha256:12 @sha256:".to_owned(), "sha256: sha256:12 @sha256:"),
            (String::new(), ""),
        ] {
            assert_eq!(abbreviated(&text), short);
        }
    }

    #[test]
    fn a_repository_is_shown_without_its_registry() {
        for (repository, name) in [
            ("1.dkr.ecr.eu-central-1.amazonaws.com/shop/web", "shop/web"),
            ("localhost:5000/web", "web"),
            ("/tmp/shop.oci", "/tmp/shop.oci"),
            ("../shop/web", "../shop/web"),
            ("shop/web", "shop/web"),
        ] {
            assert_eq!(path(repository), name);
        }
    }
}
