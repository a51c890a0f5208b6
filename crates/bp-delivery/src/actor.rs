//! Who runs a command, as the environment states.

use bp_artifact::deploy::Claim;

/// The user who runs the program, as reported by variables of the build system or the shell. Not verified: anyone who
/// can run the command can set these variables.
///
/// ```
/// let variable = |name: &str| (name == "GITHUB_ACTOR").then(|| "octocat".to_owned());
/// let claim = bp_delivery::actor(variable).unwrap();
/// assert_eq!((claim.name.as_str(), claim.source.as_str()), ("octocat", "GITHUB_ACTOR"));
/// ```
pub fn actor(variable: impl Fn(&str) -> Option<String>) -> Option<Claim> {
    ["GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR", "CODEBUILD_INITIATOR", "GITLAB_USER_LOGIN", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|source| {
            let name = variable(source).filter(|name| !name.trim().is_empty())?;
            Some(Claim { name: bp_artifact::text::single_line(&name), source: source.to_owned() })
        })
}
