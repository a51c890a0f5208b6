//! The project's name from the variables of CI systems, or from the working directory.

use std::path::Path;

use super::draft::Known;

/// The variables that contain the repository's name, possibly after its owner or in its URL.
const VARIABLES: [&str; 6] = [
    "GITHUB_REPOSITORY",
    "CI_PROJECT_PATH",
    "BITBUCKET_REPO_SLUG",
    "CIRCLE_PROJECT_REPONAME",
    "BUILDKITE_REPO",
    "CODEBUILD_SOURCE_REPO_URL",
];

/// The project's name: that of the source repository which the CI system reports, or else of the working directory.
pub(crate) fn project(variable: impl Fn(&str) -> Option<String>, directory: Option<&Path>) -> Option<Known> {
    let of_ci = VARIABLES.iter().find_map(|name| {
        let value = variable(name)?;
        Some(Known::new(last_segment(&value)?, *name))
    });
    of_ci.or_else(|| {
        let name = directory?.file_name()?.to_str()?;
        Some(Known::new(last_segment(name)?, "the name of the working directory"))
    })
}

/// The last segment of a path or URL, without `.git`.
fn last_segment(text: &str) -> Option<&str> {
    let path = text.split(['?', '#']).next().unwrap_or(text).trim_end_matches('/');
    let name = path.rsplit(['/', ':']).next().unwrap_or(path);
    let name = name.strip_suffix(".git").unwrap_or(name).trim();
    (!name.is_empty() && !name.chars().any(char::is_control)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_name_of_the_source_repository() {
        for (variable, value, expected) in [
            ("GITHUB_REPOSITORY", "example/shop", Some("shop")),
            ("CI_PROJECT_PATH", "group/sub/shop", Some("shop")),
            ("CODEBUILD_SOURCE_REPO_URL", "https://git.example.com/v1/repos/shop.git", Some("shop")),
            ("BUILDKITE_REPO", "git@github.com:example/shop.git", Some("shop")),
            ("CODEBUILD_SOURCE_REPO_URL", "https://git.example.com/shop/?x=1", Some("shop")),
            ("GITHUB_REPOSITORY", "", Some("directory")),
            ("HOME", "/users/shop", Some("directory")),
            ("GITHUB_REPOSITORY", "a/b\u{1b}[2J", Some("directory")),
        ] {
            let found = project(
                |name| (name == variable && !value.is_empty()).then(|| value.to_owned()),
                Some(Path::new("/src/directory")),
            );
            assert_eq!(found.map(|known| known.value).as_deref(), expected, "{variable}={value}");
        }
        assert_eq!(project(|_| None, Some(Path::new("/"))), None);
    }
}
