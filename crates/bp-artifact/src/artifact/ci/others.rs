//! The variables of Bitbucket Pipelines, CircleCI, Buildkite and Jenkins.

use super::{
    super::{Source, without_credentials},
    origin::{CiError, Origin, Variables},
};

pub(super) const BITBUCKET: &str = "Bitbucket Pipelines";
pub(super) const CIRCLE: &str = "CircleCI";

/// A pull request's pipeline merges the target branch into the checkout, without a commit of its own.
///
/// Source: <https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/>
pub(super) fn bitbucket(variables: &Variables<'_>) -> Result<Origin, CiError> {
    let request = variables.get("BITBUCKET_PR_ID").map(|number| format!("pull-requests/{number}"));
    let own = request.is_none().then_some(false);
    Ok(Origin::Known(Source {
        repository: variables.url("BITBUCKET_GIT_HTTP_ORIGIN"),
        commit: Some(variables.built("BITBUCKET_COMMIT", BITBUCKET)?),
        reference: request
            .or_else(|| variables.tag("BITBUCKET_TAG"))
            .or_else(|| variables.branch("BITBUCKET_BRANCH")),
        fork: own,
        ..Source::default()
    }))
}

/// The variables of pull requests from forks are not available in all integrations, so without them a fork is possible.
///
/// Source: <https://circleci.com/docs/reference/variables/>
pub(super) fn circle(variables: &Variables<'_>) -> Result<Origin, CiError> {
    let branch = variables.get("CIRCLE_BRANCH");
    let of_branch = branch.as_deref().and_then(|branch| branch.strip_prefix("pull/").map(str::to_owned));
    let is_fork =
        variables.get("CIRCLE_PR_REPONAME").is_some() || variables.get("CIRCLE_PR_NUMBER").is_some();
    let request = variables.get("CIRCLE_PR_NUMBER").or(of_branch);
    Ok(Origin::Known(Source {
        repository: variables.url("CIRCLE_REPOSITORY_URL"),
        commit: Some(variables.built("CIRCLE_SHA1", CIRCLE)?),
        reference: request
            .map(|number| format!("refs/pull/{number}/head"))
            .or_else(|| variables.tag("CIRCLE_TAG"))
            .or_else(|| variables.branch("CIRCLE_BRANCH")),
        fork: is_fork.then_some(true),
        ..Source::default()
    }))
}

/// Source: <https://buildkite.com/docs/pipelines/configure/environment-variables>
pub(super) fn buildkite(variables: &Variables<'_>) -> Result<Origin, CiError> {
    let Some(commit) = variables.commit("BUILDKITE_COMMIT") else {
        return Ok(Origin::unknown(
            "BUILDKITE_COMMIT is not a full commit ID, as in a build of HEAD that was started by hand",
        ));
    };
    let repository = variables.url("BUILDKITE_REPO");
    let request = variables.get("BUILDKITE_PULL_REQUEST").filter(|number| number != "false");
    if request.is_some()
        && variables.get("BUILDKITE_PULL_REQUEST_USING_MERGE_REFSPEC").is_some_and(|on| on == "true")
    {
        return Ok(Origin::unknown(
            "the build checks out the merge commit of a pull request, and no variable has its ID",
        ));
    }
    let head = variables.url("BUILDKITE_PULL_REQUEST_REPO");
    let same = head.as_deref().zip(repository.as_deref()).map(|(head, own)| plain(head) == plain(own));
    let is_push = variables.get("BUILDKITE_SOURCE").is_some_and(|source| source == "webhook");
    let fork = if request.is_some() { same.map(|same| !same) } else { is_push.then_some(false) };
    Ok(Origin::Known(Source {
        repository,
        commit: Some(commit),
        reference: request
            .map(|number| format!("refs/pull/{number}/head"))
            .or_else(|| variables.tag("BUILDKITE_TAG"))
            .or_else(|| variables.branch("BUILDKITE_BRANCH")),
        head_repository: head.filter(|_| fork == Some(true)),
        fork,
        ..Source::default()
    }))
}

/// Host and path of a repository, to compare its URL over HTTPS with that over SSH.
fn plain(url: &str) -> String {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let url = url.trim_end_matches('/').trim_end_matches(".git");
    url.replacen(':', "/", 1).to_ascii_lowercase()
}

/// Sources: <https://plugins.jenkins.io/git/>, and `<JENKINS_URL>/env-vars.html` of every server.
pub(super) fn jenkins(variables: &Variables<'_>) -> Result<Origin, CiError> {
    if let Some(change) = variables.get("CHANGE_ID") {
        return Ok(Origin::unknown(format!(
            "of the change request {change} either the head or its merge with the target is checked out, and GIT_COMMIT \
             may be a local merge commit"
        )));
    }
    let Some(commit) = variables.commit("GIT_COMMIT") else {
        return Ok(Origin::unknown(
            "GIT_COMMIT is not set: the git plugin did not check out the source in this stage",
        ));
    };
    let branch = variables.branch("BRANCH_NAME");
    let tracked = || {
        let branch = variables.get("GIT_BRANCH")?;
        Some(branch.strip_prefix("origin/").map_or(branch.clone(), |name| format!("refs/heads/{name}")))
    };
    Ok(Origin::Known(Source {
        repository: variables
            .get("GIT_URL")
            .or_else(|| variables.get("GIT_URL_1"))
            .as_deref()
            .and_then(without_credentials),
        commit: Some(commit),
        // A multibranch project finds only branches and tags of its own repository.
        fork: branch.is_some().then_some(false),
        reference: variables.tag("TAG_NAME").or(branch).or_else(tracked),
        ..Source::default()
    }))
}
