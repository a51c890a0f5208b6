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
    let of_branch = branch.as_deref().and_then(|branch| number(branch.strip_prefix("pull/")?));
    let name = |user: &str, repository: &str| {
        let name = format!("{}/{}", variables.get(user)?, variables.get(repository)?);
        Some(name.to_ascii_lowercase())
    };
    let head = name("CIRCLE_PR_USERNAME", "CIRCLE_PR_REPONAME");
    // Some projects set them for their own pull requests too.
    let is_own = head.is_some() && head == name("CIRCLE_PROJECT_USERNAME", "CIRCLE_PROJECT_REPONAME");
    let is_request =
        variables.get("CIRCLE_PR_REPONAME").is_some() || variables.get("CIRCLE_PR_NUMBER").is_some();
    let is_fork = is_request && !is_own;
    let request = variables.get("CIRCLE_PR_NUMBER").or_else(|| of_branch.map(str::to_owned));
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

/// The digits at the start of `7`, or of `7/head`.
fn number(text: &str) -> Option<&str> {
    let (number, _) = text.split_once('/').unwrap_or((text, ""));
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(number)
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

/// The variables that contain the number of a change request: of multibranch projects, and of the plugins that start other
/// projects for pull requests of GitHub, GitLab and Bitbucket.
const CHANGES: [&str; 4] = ["CHANGE_ID", "ghprbPullId", "gitlabMergeRequestIid", "BITBUCKET_PULL_REQUEST_ID"];

/// What follows the name of the remote in the references of change requests, before their number.
const REQUESTS: [&str; 4] = ["pr/", "pull/", "pull-requests/", "merge-requests/"];

/// The number of the change request that `origin/pr/7/merge` belongs to.
fn change_in(branch: &str) -> Option<&str> {
    let (_, rest) = branch.split_once('/')?;
    REQUESTS.iter().find_map(|prefix| number(rest.strip_prefix(prefix)?))
}

/// Sources: <https://plugins.jenkins.io/git/>, <https://plugins.jenkins.io/ghprb/>,
/// <https://plugins.jenkins.io/gitlab-plugin/>, and `<JENKINS_URL>/env-vars.html` of every server.
pub(super) fn jenkins(variables: &Variables<'_>) -> Result<Origin, CiError> {
    // Of a commit that was checked out by its ID.
    let tracked =
        variables.get("GIT_BRANCH").filter(|branch| !matches!(branch.as_str(), "detached" | "HEAD"));
    let change = CHANGES.iter().find_map(|name| variables.get(name));
    let change = change.or_else(|| Some(change_in(tracked.as_deref()?)?.to_owned()));
    if let Some(change) = change {
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
    let tracked = tracked.map(|branch| match branch.strip_prefix("origin/") {
        Some(name) => format!("refs/heads/{name}"),
        None => branch,
    });
    Ok(Origin::Known(Source {
        repository: variables
            .get("GIT_URL")
            .or_else(|| variables.get("GIT_URL_1"))
            .as_deref()
            .and_then(without_credentials),
        commit: Some(commit),
        // A multibranch project finds only branches and tags of its own repository.
        fork: branch.is_some().then_some(false),
        reference: variables.tag("TAG_NAME").or(branch).or(tracked),
        ..Source::default()
    }))
}
