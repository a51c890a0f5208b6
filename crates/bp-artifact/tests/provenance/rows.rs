//! The events of each build system: their variables, and the documented source.

pub(crate) const HEAD: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";
pub(crate) const MERGE: &str = "ffffffffffffffffffffffffffffffffffffffff";
pub(crate) const S3: &str = "arn:aws:s3:::codepipeline-bucket/shop/source/abc";

/// An event whose variables do not determine what was built.
pub(crate) const REFUSED: &str = "refused";

pub(crate) struct Row {
    pub(crate) system: &'static str,
    pub(crate) event: &'static str,
    pub(crate) variables: &'static [(&'static str, &'static str)],
    pub(crate) payload: &'static str,
    pub(crate) commit: &'static str,
    pub(crate) reference: &'static str,
    pub(crate) repository: &'static str,
    pub(crate) fork: &'static str,
    pub(crate) merge: &'static str,
}

/// The variables that a system sets for every event.
pub(crate) fn base(system: &str) -> &'static [(&'static str, &'static str)] {
    match system {
        "CodeBuild" => &[
            ("CODEBUILD_BUILD_ID", "shop:b1e6661e-e4f2-4156-9ab9-82a19EXAMPLE"),
            ("CODEBUILD_BUILD_ARN", "arn:aws:codebuild:eu-central-1:111111111111:build/shop:b1e6661e"),
            ("CODEBUILD_START_TIME", "1760000000000"),
            ("CODEBUILD_INITIATOR", "GitHub-Hookshot/1"),
        ],
        "GitHub Actions" => &[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "example/shop"),
            ("GITHUB_RUN_ID", "4711"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_ACTOR", "someone"),
        ],
        "GitLab CI/CD" => &[
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_URL", "https://gitlab.com/example/shop"),
            ("CI_JOB_ID", "4711"),
            ("CI_JOB_URL", "https://gitlab.com/example/shop/-/jobs/4711"),
            ("CI_JOB_STARTED_AT", "2026-01-01T12:00:00Z"),
        ],
        "Bitbucket" => &[
            ("BITBUCKET_BUILD_NUMBER", "12"),
            ("BITBUCKET_GIT_HTTP_ORIGIN", "https://bitbucket.org/example/shop"),
            ("BITBUCKET_COMMIT", HEAD),
        ],
        "CircleCI" => &[
            ("CIRCLECI", "true"),
            ("CIRCLE_BUILD_NUM", "12"),
            ("CIRCLE_REPOSITORY_URL", "https://github.com/example/shop.git"),
            ("CIRCLE_SHA1", HEAD),
        ],
        "Buildkite" => &[
            ("BUILDKITE", "true"),
            ("BUILDKITE_BUILD_ID", "0190"),
            ("BUILDKITE_REPO", "https://github.com/example/shop.git"),
        ],
        "Jenkins" => &[
            ("JENKINS_URL", "https://jenkins.example.com/"),
            ("BUILD_TAG", "jenkins-shop-12"),
            ("GIT_URL", "https://github.com/example/shop.git"),
        ],
        other => panic!("{other}"),
    }
}

pub(crate) const CODEBUILD_URL: (&str, &str) =
    ("CODEBUILD_SOURCE_REPO_URL", "https://github.com/example/shop.git");
pub(crate) const RESOLVED: (&str, &str) = ("CODEBUILD_RESOLVED_SOURCE_VERSION", HEAD);
pub(crate) const FORK: &str = r#"{"full_name":"attacker/shop"}"#;
pub(crate) const SAME: &str = r#"{"full_name":"Example/Shop"}"#;

/// A row without variables and with the cells that most events have.
pub(crate) const ROW: Row = Row {
    system: "",
    event: "",
    variables: &[],
    payload: "",
    commit: "",
    reference: "none",
    repository: "none",
    fork: "unknown",
    merge: "none",
};
pub(crate) const CODEBUILD: Row = Row {
    system: "CodeBuild",
    commit: "{CODEBUILD_RESOLVED_SOURCE_VERSION}",
    repository: "{CODEBUILD_SOURCE_REPO_URL}",
    ..ROW
};
pub(crate) const GITHUB: Row = Row {
    system: "GitHub Actions",
    commit: "{GITHUB_SHA}",
    reference: "{GITHUB_REF}",
    repository: "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}",
    fork: "no",
    ..ROW
};
pub(crate) const GITHUB_REQUEST: Row = Row {
    commit: "{event.pull_request.head.sha}",
    reference: "refs/pull/{event.pull_request.number}/head",
    merge: "{GITHUB_SHA}",
    ..GITHUB
};
pub(crate) const GITHUB_REFUSED: Row = Row { commit: REFUSED, ..GITHUB };
pub(crate) const GITLAB: Row = Row {
    system: "GitLab CI/CD",
    commit: "{CI_COMMIT_SHA}",
    repository: "{CI_PROJECT_URL}",
    fork: "no",
    ..ROW
};
pub(crate) const BITBUCKET: Row = Row {
    system: "Bitbucket",
    commit: "{BITBUCKET_COMMIT}",
    repository: "{BITBUCKET_GIT_HTTP_ORIGIN}",
    fork: "no",
    ..ROW
};
pub(crate) const CIRCLE: Row =
    Row { system: "CircleCI", commit: "{CIRCLE_SHA1}", repository: "{CIRCLE_REPOSITORY_URL}", ..ROW };
pub(crate) const BUILDKITE: Row =
    Row { system: "Buildkite", commit: "{BUILDKITE_COMMIT}", repository: "{BUILDKITE_REPO}", ..ROW };
pub(crate) const JENKINS: Row =
    Row { system: "Jenkins", commit: "{GIT_COMMIT}", repository: "{GIT_URL}", ..ROW };

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            event: "webhook, push to a branch or of a tag",
            variables: &[
                ("CODEBUILD_WEBHOOK_EVENT", "PUSH"),
                ("CODEBUILD_WEBHOOK_TRIGGER", "branch/main"),
                ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
                ("CODEBUILD_SOURCE_VERSION", "refs/heads/main^{1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d}"),
                RESOLVED,
                CODEBUILD_URL,
            ],
            reference: "{CODEBUILD_WEBHOOK_HEAD_REF}",
            fork: "no",
            ..CODEBUILD
        },
        Row {
            event: "webhook, pull request, also from a fork",
            variables: &[
                ("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_UPDATED"),
                ("CODEBUILD_WEBHOOK_TRIGGER", "pr/3"),
                ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
                ("CODEBUILD_WEBHOOK_BASE_REF", "refs/heads/main"),
                ("CODEBUILD_SOURCE_VERSION", "pr/3"),
                RESOLVED,
                CODEBUILD_URL,
            ],
            reference: "{CODEBUILD_WEBHOOK_TRIGGER}",
            ..CODEBUILD
        },
        Row {
            event: "webhook, pull request merged by squashing (Bitbucket, GitLab)",
            variables: &[
                ("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_MERGED"),
                ("CODEBUILD_WEBHOOK_TRIGGER", "pr/3"),
                ("CODEBUILD_WEBHOOK_MERGE_COMMIT", MERGE),
                ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/topic"),
                ("CODEBUILD_SOURCE_VERSION", "pr/3"),
                RESOLVED,
                CODEBUILD_URL,
            ],
            reference: "{CODEBUILD_WEBHOOK_TRIGGER}",
            merge: "{CODEBUILD_WEBHOOK_MERGE_COMMIT}",
            ..CODEBUILD
        },
        Row {
            event: "batch build of a pull request",
            variables: &[
                ("CODEBUILD_BATCH_BUILD_IDENTIFIER", "linux"),
                ("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_CREATED"),
                ("CODEBUILD_WEBHOOK_TRIGGER", "pr/123"),
                ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
                ("CODEBUILD_SOURCE_VERSION", HEAD),
                RESOLVED,
                CODEBUILD_URL,
            ],
            reference: "{CODEBUILD_WEBHOOK_TRIGGER}",
            ..CODEBUILD
        },
        Row {
            event: "a pull request by its reference",
            variables: &[
                ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
                ("CODEBUILD_SOURCE_VERSION", "refs/pull/12/head^{1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d}"),
                RESOLVED,
                CODEBUILD_URL,
            ],
            reference: "refs/pull/12/head",
            ..CODEBUILD
        },
        Row {
            event: "a pull request event without a number",
            variables: &[
                ("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_CREATED"),
                ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
                ("CODEBUILD_SOURCE_VERSION", HEAD),
                RESOLVED,
            ],
            commit: REFUSED,
            ..CODEBUILD
        },
        Row {
            event: "started by hand with a branch, tag or pull request",
            variables: &[("CODEBUILD_SOURCE_VERSION", "release-1.4"), RESOLVED, CODEBUILD_URL],
            reference: "{CODEBUILD_SOURCE_VERSION}",
            ..CODEBUILD
        },
        Row {
            event: "started by hand with a commit, or without a version",
            variables: &[("CODEBUILD_SOURCE_VERSION", HEAD), RESOLVED, CODEBUILD_URL],
            ..CODEBUILD
        },
        Row {
            event: "CodePipeline",
            variables: &[
                ("CODEBUILD_INITIATOR", "codepipeline/shop"),
                ("CODEBUILD_SOURCE_VERSION", S3),
                ("CODEBUILD_SOURCE_REPO_URL", ""),
                RESOLVED,
            ],
            repository: "none",
            ..CODEBUILD
        },
        Row {
            event: "source in S3: an object version is not a commit",
            variables: &[
                ("CODEBUILD_SOURCE_VERSION", "3sL4kqtJlcpXroDTDmJ_rmSpXd3dIbrHY"),
                ("CODEBUILD_RESOLVED_SOURCE_VERSION", "3sL4kqtJlcpXroDTDmJ_rmSpXd3dIbrHY"),
                ("CODEBUILD_SOURCE_REPO_URL", "s3://bucket/source.zip"),
            ],
            commit: "none",
            ..CODEBUILD
        },
        Row {
            event: "`push` to a branch",
            variables: &[
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", HEAD),
            ],
            ..GITHUB
        },
        Row {
            event: "`push` of a tag, `release`",
            variables: &[
                ("GITHUB_EVENT_NAME", "push"),
                ("GITHUB_REF", "refs/tags/v1.4.2"),
                ("GITHUB_SHA", HEAD),
            ],
            ..GITHUB
        },
        Row {
            event: "`workflow_dispatch`, `schedule`, `repository_dispatch` and all other events",
            variables: &[
                ("GITHUB_EVENT_NAME", "workflow_dispatch"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", HEAD),
            ],
            ..GITHUB
        },
        Row {
            event: "`merge_group`",
            variables: &[
                ("GITHUB_EVENT_NAME", "merge_group"),
                ("GITHUB_REF", "refs/heads/gh-readonly-queue/main/pr-5-1a2b3c4"),
                ("GITHUB_SHA", HEAD),
            ],
            ..GITHUB
        },
        Row {
            event: "`pull_request`, `pull_request_review`, `pull_request_review_comment`",
            variables: &[
                ("GITHUB_EVENT_NAME", "pull_request_review"),
                ("GITHUB_REF", "refs/pull/5/merge"),
                ("GITHUB_SHA", MERGE),
            ],
            payload: r#"{"pull_request":{"number":5,"merged":false,"head":{"sha":HEAD,"ref":"main","repo":SAME}}}"#,
            ..GITHUB_REQUEST
        },
        Row {
            event: "the same, from a fork",
            variables: &[
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/pull/5/merge"),
                ("GITHUB_SHA", MERGE),
            ],
            payload: r#"{"number":5,"pull_request":{"number":5,"head":{"sha":HEAD,"ref":"main","repo":FORK}}}"#,
            fork: "yes",
            ..GITHUB_REQUEST
        },
        Row {
            event: "`pull_request` after the merge (`closed`, `merged` is true)",
            variables: &[
                ("GITHUB_EVENT_NAME", "pull_request"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", MERGE),
            ],
            payload: r#"{"number":5,"pull_request":{"number":5,"merged":true,"head":{"sha":HEAD,"repo":FORK}}}"#,
            ..GITHUB
        },
        Row {
            event: "`pull_request_target`",
            variables: &[
                ("GITHUB_EVENT_NAME", "pull_request_target"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", MERGE),
            ],
            payload: r#"{"number":5,"pull_request":{"number":5,"head":{"sha":HEAD,"repo":FORK}}}"#,
            ..GITHUB_REFUSED
        },
        Row {
            event: "`workflow_run`, if its head is another commit or in a fork",
            variables: &[
                ("GITHUB_EVENT_NAME", "workflow_run"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", MERGE),
            ],
            payload: r#"{"workflow_run":{"head_sha":HEAD,"head_branch":"main","head_repository":FORK}}"#,
            ..GITHUB_REFUSED
        },
        Row {
            event: "`workflow_run`, if its head is `GITHUB_SHA`",
            variables: &[
                ("GITHUB_EVENT_NAME", "workflow_run"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", HEAD),
            ],
            payload: r#"{"workflow_run":{"head_sha":HEAD,"head_branch":"main","head_repository":SAME}}"#,
            ..GITHUB
        },
        Row {
            event: "`check_run`, `check_suite`, `status`, if their commit is not `GITHUB_SHA`",
            variables: &[
                ("GITHUB_EVENT_NAME", "check_suite"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", MERGE),
            ],
            payload: r#"{"check_suite":{"head_sha":HEAD,"head_branch":"topic"}}"#,
            ..GITHUB_REFUSED
        },
        Row {
            event: "`issue_comment` on a pull request",
            variables: &[
                ("GITHUB_EVENT_NAME", "issue_comment"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_SHA", MERGE),
            ],
            payload: r#"{"issue":{"number":5,"pull_request":{}}}"#,
            ..GITHUB_REFUSED
        },
        Row {
            event: "branch",
            variables: &[
                ("CI_COMMIT_SHA", HEAD),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_COMMIT_REF_NAME", "main"),
            ],
            reference: "refs/heads/{CI_COMMIT_BRANCH}",
            ..GITLAB
        },
        Row {
            event: "tag",
            variables: &[
                ("CI_COMMIT_SHA", HEAD),
                ("CI_COMMIT_TAG", "v1.4.2"),
                ("CI_COMMIT_REF_NAME", "v1.4.2"),
            ],
            reference: "refs/tags/{CI_COMMIT_TAG}",
            ..GITLAB
        },
        Row {
            event: "merge request",
            variables: &[
                ("CI_PIPELINE_SOURCE", "merge_request_event"),
                ("CI_COMMIT_SHA", HEAD),
                ("CI_COMMIT_REF_NAME", "main"),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "detached"),
                ("CI_MERGE_REQUEST_REF_PATH", "refs/merge-requests/7/head"),
                ("CI_MERGE_REQUEST_PROJECT_ID", "1"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "1"),
                ("CI_MERGE_REQUEST_PROJECT_URL", "https://gitlab.com/example/shop"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_URL", "https://gitlab.com/example/shop"),
            ],
            reference: "{CI_MERGE_REQUEST_REF_PATH}",
            repository: "{CI_MERGE_REQUEST_PROJECT_URL}",
            ..GITLAB
        },
        Row {
            event: "merge request from a fork, pipeline in the fork or in the project",
            variables: &[
                ("CI_PIPELINE_SOURCE", "merge_request_event"),
                ("CI_PROJECT_URL", "https://gitlab.com/attacker/shop"),
                ("CI_COMMIT_SHA", HEAD),
                ("CI_COMMIT_REF_NAME", "main"),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "detached"),
                ("CI_MERGE_REQUEST_REF_PATH", "refs/merge-requests/7/head"),
                ("CI_MERGE_REQUEST_PROJECT_ID", "1"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "99"),
                ("CI_MERGE_REQUEST_PROJECT_URL", "https://gitlab.com/example/shop"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_URL", "https://gitlab.com/attacker/shop"),
            ],
            reference: "{CI_MERGE_REQUEST_REF_PATH}",
            repository: "{CI_MERGE_REQUEST_PROJECT_URL}",
            fork: "yes",
            ..GITLAB
        },
        Row {
            event: "merged results, merge train",
            variables: &[
                ("CI_PIPELINE_SOURCE", "merge_request_event"),
                ("CI_COMMIT_SHA", MERGE),
                ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", HEAD),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "merged_result"),
                ("CI_MERGE_REQUEST_REF_PATH", "refs/merge-requests/7/head"),
                ("CI_MERGE_REQUEST_PROJECT_ID", "1"),
                ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "1"),
                ("CI_MERGE_REQUEST_PROJECT_URL", "https://gitlab.com/example/shop"),
            ],
            commit: "{CI_MERGE_REQUEST_SOURCE_BRANCH_SHA}",
            reference: "{CI_MERGE_REQUEST_REF_PATH}",
            repository: "{CI_MERGE_REQUEST_PROJECT_URL}",
            merge: "{CI_COMMIT_SHA}",
            ..GITLAB
        },
        Row {
            event: "merged results without `CI_MERGE_REQUEST_SOURCE_BRANCH_SHA`",
            variables: &[
                ("CI_COMMIT_SHA", MERGE),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("CI_MERGE_REQUEST_EVENT_TYPE", "merge_train"),
            ],
            commit: REFUSED,
            ..GITLAB
        },
        Row {
            event: "pull request of an external repository, from a fork",
            variables: &[
                ("CI_PIPELINE_SOURCE", "external_pull_request_event"),
                ("CI_COMMIT_SHA", HEAD),
                ("CI_COMMIT_BRANCH", "main"),
                ("CI_EXTERNAL_PULL_REQUEST_IID", "7"),
                ("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA", HEAD),
                ("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY", "attacker/shop"),
                ("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY", "example/shop"),
            ],
            commit: "{CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA}",
            reference: "refs/pull/{CI_EXTERNAL_PULL_REQUEST_IID}/head",
            fork: "yes",
            ..GITLAB
        },
        Row {
            event: "branch",
            variables: &[("BITBUCKET_BRANCH", "main")],
            reference: "refs/heads/{BITBUCKET_BRANCH}",
            ..BITBUCKET
        },
        Row {
            event: "tag",
            variables: &[("BITBUCKET_TAG", "v1.4.2")],
            reference: "refs/tags/{BITBUCKET_TAG}",
            ..BITBUCKET
        },
        Row {
            event: "pull request",
            variables: &[("BITBUCKET_BRANCH", "main"), ("BITBUCKET_PR_ID", "7")],
            reference: "pull-requests/{BITBUCKET_PR_ID}",
            fork: "unknown",
            ..BITBUCKET
        },
        Row {
            event: "branch",
            variables: &[("CIRCLE_BRANCH", "main")],
            reference: "refs/heads/{CIRCLE_BRANCH}",
            ..CIRCLE
        },
        Row {
            event: "tag",
            variables: &[("CIRCLE_TAG", "v1.4.2")],
            reference: "refs/tags/{CIRCLE_TAG}",
            ..CIRCLE
        },
        Row {
            event: "pull request from a fork",
            variables: &[
                ("CIRCLE_BRANCH", "pull/7"),
                ("CIRCLE_PR_NUMBER", "7"),
                ("CIRCLE_PR_USERNAME", "attacker"),
                ("CIRCLE_PR_REPONAME", "shop"),
            ],
            reference: "refs/pull/{CIRCLE_PR_NUMBER}/head",
            fork: "yes",
            ..CIRCLE
        },
        Row {
            event: "pull request of the project itself, with the variables of a fork",
            variables: &[
                ("CIRCLE_BRANCH", "topic"),
                ("CIRCLE_PR_NUMBER", "7"),
                ("CIRCLE_PR_USERNAME", "Example"),
                ("CIRCLE_PR_REPONAME", "shop"),
                ("CIRCLE_PROJECT_USERNAME", "example"),
                ("CIRCLE_PROJECT_REPONAME", "shop"),
            ],
            reference: "refs/pull/{CIRCLE_PR_NUMBER}/head",
            ..CIRCLE
        },
        Row {
            event: "push, started by a webhook",
            variables: &[
                ("BUILDKITE_COMMIT", HEAD),
                ("BUILDKITE_BRANCH", "main"),
                ("BUILDKITE_SOURCE", "webhook"),
                ("BUILDKITE_PULL_REQUEST", "false"),
                ("BUILDKITE_PULL_REQUEST_REPO", ""),
            ],
            reference: "refs/heads/{BUILDKITE_BRANCH}",
            fork: "no",
            ..BUILDKITE
        },
        Row {
            event: "tag",
            variables: &[
                ("BUILDKITE_COMMIT", HEAD),
                ("BUILDKITE_BRANCH", "v1.4.2"),
                ("BUILDKITE_TAG", "v1.4.2"),
                ("BUILDKITE_SOURCE", "webhook"),
                ("BUILDKITE_PULL_REQUEST", "false"),
            ],
            reference: "refs/tags/{BUILDKITE_TAG}",
            fork: "no",
            ..BUILDKITE
        },
        Row {
            event: "pull request",
            variables: &[
                ("BUILDKITE_COMMIT", HEAD),
                ("BUILDKITE_BRANCH", "topic"),
                ("BUILDKITE_PULL_REQUEST", "7"),
                ("BUILDKITE_PULL_REQUEST_REPO", "git://github.com/Example/shop.git"),
            ],
            reference: "refs/pull/{BUILDKITE_PULL_REQUEST}/head",
            fork: "no",
            ..BUILDKITE
        },
        Row {
            event: "pull request from a fork",
            variables: &[
                ("BUILDKITE_COMMIT", HEAD),
                ("BUILDKITE_BRANCH", "main"),
                ("BUILDKITE_SOURCE", "webhook"),
                ("BUILDKITE_PULL_REQUEST", "7"),
                ("BUILDKITE_PULL_REQUEST_REPO", "git@github.com:attacker/shop.git"),
            ],
            reference: "refs/pull/{BUILDKITE_PULL_REQUEST}/head",
            fork: "yes",
            ..BUILDKITE
        },
        Row {
            event: "the merge commit of a pull request; a build of `HEAD`",
            variables: &[
                ("BUILDKITE_COMMIT", HEAD),
                ("BUILDKITE_PULL_REQUEST", "7"),
                ("BUILDKITE_PULL_REQUEST_USING_MERGE_REFSPEC", "true"),
            ],
            commit: REFUSED,
            ..BUILDKITE
        },
        Row {
            event: "multibranch project, branch",
            variables: &[("GIT_COMMIT", HEAD), ("BRANCH_NAME", "main"), ("GIT_BRANCH", "main")],
            reference: "refs/heads/{BRANCH_NAME}",
            fork: "no",
            ..JENKINS
        },
        Row {
            event: "multibranch project, tag",
            variables: &[("GIT_COMMIT", HEAD), ("BRANCH_NAME", "v1.4.2"), ("TAG_NAME", "v1.4.2")],
            reference: "refs/tags/{TAG_NAME}",
            fork: "no",
            ..JENKINS
        },
        Row {
            event: "other projects",
            variables: &[("GIT_COMMIT", HEAD), ("GIT_BRANCH", "upstream/main")],
            reference: "{GIT_BRANCH}",
            ..JENKINS
        },
        Row {
            event: "other projects, a commit by its ID",
            variables: &[("GIT_COMMIT", HEAD), ("GIT_BRANCH", "detached")],
            ..JENKINS
        },
        Row {
            event: "pull request, started by a plugin (GitHub, GitLab, Bitbucket) or by its reference",
            variables: &[("GIT_COMMIT", MERGE), ("GIT_BRANCH", "origin/pr/7/merge"), ("ghprbPullId", "7")],
            commit: REFUSED,
            ..JENKINS
        },
        Row {
            event: "change request; a stage without a checkout by the git plugin",
            variables: &[("GIT_COMMIT", HEAD), ("BRANCH_NAME", "PR-7"), ("CHANGE_ID", "7")],
            commit: REFUSED,
            ..JENKINS
        },
    ]
}
