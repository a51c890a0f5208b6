//! Examples and exit codes of the verbs.

use super::{Example, Help};

const fn example(about: &'static str, arguments: &'static str) -> Example {
    Example { about, arguments }
}

type Code = (u8, &'static str);

const DONE: Code = (0, "done");
const DEPLOYED: Code = (0, "deployed, and the digest was verified to be running");
const CHECKED: Code = (0, "valid");
const INPUT: Code = (2, "invalid input: a flag, a file, or a name that does not exist; nothing was changed");
const ROLLED_BACK: Code = (3, "failed and rolled back: the previous revision is running");
const FAILED: Code = (4, "failed, and the previous revision is not running");
const REFUSED: Code = (5, "refused by a policy or a precondition; nothing was changed");
const DRIFT: Code = (6, "drift, digest mismatch, or the digest could not be proven");
const UNAVAILABLE: Code = (7, "unavailable, no permission, out of time, or not observed; rerun to resume");
const UNREACHABLE: Code = (7, "unavailable, no credentials or no permission");
const SUPERSEDED: Code = (8, "superseded by another deployment, stopped by another party, or deleted");
const APPROVAL: Code = (9, "awaiting approval");

/// The exit codes of a deployment.
const DEPLOYMENT: &[Code] =
    &[DEPLOYED, INPUT, ROLLED_BACK, FAILED, REFUSED, DRIFT, UNAVAILABLE, SUPERSEDED, APPROVAL];
/// Those of a command that only reads.
const READING: &[Code] = &[DONE, INPUT, UNREACHABLE];
/// Those of a copy.
const COPYING: &[Code] = &[
    DONE,
    INPUT,
    REFUSED,
    (6, "content does not have its digest"),
    (7, "unavailable or out of time; rerun to resume"),
];

pub(crate) const APPROVE: Help = Help {
    examples: &[
        example("approve that the artifact's image enters prod", "approve --env prod --sign alice.key"),
        example(
            "for one day, with a comment",
            "approve --env prod --sign alice.key --expires-in 24h --comment 'release 1.4'",
        ),
    ],
    exit_codes: &[DONE, INPUT, REFUSED, UNREACHABLE],
};

pub(crate) const AUDIT: Help = Help {
    examples: &[
        example(
            "the records of an image in its registry",
            "audit 333333333333.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1.4.2",
        ),
        example("of a saved copy, without network", "audit oci:saved:web"),
    ],
    exit_codes: &[
        (0, "the image has records, and all are valid"),
        INPUT,
        (5, "the image has no records, or one is not valid"),
        UNREACHABLE,
    ],
};

pub(crate) const COMPLETIONS: Help = Help {
    examples: &[
        example(
            "complete commands and flags in bash",
            "completions bash > ~/.local/share/bash-completion/completions/bp",
        ),
        example("in zsh, in a directory of fpath", "completions zsh > ~/.zfunc/_bp"),
        example("in fish", "completions fish > ~/.config/fish/completions/bp.fish"),
    ],
    exit_codes: &[DONE, INPUT],
};

pub(crate) const CONFIG: Help = Help {
    examples: &[
        example("show every setting of an environment and where it comes from", "config show --env prod"),
        example("with a setting of this run", "config show --env prod --set ecs.cluster=blue"),
        example("check the file in a pipeline", "config check"),
        example("write the JSON Schema for an editor", "config schema"),
    ],
    exit_codes: &[CHECKED, INPUT],
};

pub(crate) const COPY: Help = Help {
    examples: &[
        example(
            "copy an image with its signatures to another registry",
            "copy registry.example.com/shop/web:1.4.2 111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web",
        ),
        example("show what would be copied", "copy --plan registry.example.com/shop/web:1.4.2 oci:web"),
        example(
            "import a directory that a build wrote",
            "copy oci:dist/image registry.example.com/tools/bp:1.0.0",
        ),
    ],
    exit_codes: COPYING,
};

pub(crate) const DEPLOY_ECS: Help = Help {
    examples: &[
        example("deploy the image of artifact.json and watch it to a verdict", "deploy-ecs --env prod"),
        example("show what would change and whether it can work", "deploy-ecs --env prod --check"),
        example("start it, and follow it later with wait", "deploy-ecs --env prod --no-wait"),
        example("return to an earlier revision", "deploy-ecs --env prod --revision web:41"),
    ],
    exit_codes: DEPLOYMENT,
};

pub(crate) const DEPLOY_EKS: Help = Help {
    examples: &[
        example("roll out the image of artifact.json and watch it to a verdict", "deploy-eks --env prod"),
        example("show what would change, permissions included", "deploy-eks --env prod --check"),
        example("the first time, after kubectl created the workload", "deploy-eks --env prod --take-over"),
        example("with the logs and events of the new pods", "deploy-eks --env prod --logs --events"),
    ],
    exit_codes: DEPLOYMENT,
};

#[cfg(feature = "helm")]
pub(crate) const DEPLOY_HELM: Help = Help {
    examples: &[
        example("upgrade the release of bp.toml", "deploy-helm --env prod"),
        example(
            "upgrade a release that is not in bp.toml",
            "deploy-helm --env prod --release web --chart ./chart --values prod.yaml",
        ),
        example("show the revisions", "deploy-helm --env prod history"),
        example("roll back to the previous revision", "deploy-helm --env prod rollback"),
    ],
    exit_codes: DEPLOYMENT,
};

pub(crate) const DEPLOY_MANIFESTS: Help = Help {
    examples: &[
        example(
            "apply a directory with the image of artifact.json",
            "deploy-manifests --env prod -f k8s/prod",
        ),
        example("show the changed fields", "deploy-manifests --env prod -f k8s/prod --check"),
    ],
    exit_codes: DEPLOYMENT,
};

pub(crate) const DIGEST: Help = Help {
    examples: &[
        example("resolve a tag", "digest registry.example.com/shop/web:1.4.2"),
        example("of one platform", "digest registry.example.com/shop/web:1.4.2 --platform linux/arm64"),
    ],
    exit_codes: READING,
};

pub(crate) const DOCTOR: Help = Help {
    examples: &[
        example("check every environment of bp.toml from this machine", "doctor"),
        example("one environment, for a script", "doctor --env prod --output json"),
        example("with less patience", "doctor --env prod --timeout 10s"),
    ],
    exit_codes: &[
        (0, "no check failed, and every check that was tried has a result; warnings do not count"),
        INPUT,
        (5, "at least one check failed: a command would fail with it"),
        (7, "no check failed, and at least one could not be completed (unreachable, throttled, out of time)"),
    ],
};

pub(crate) const DUAL_DEPLOY: Help = Help {
    examples: &[
        example(
            "deploy all services to all their targets, or roll all of them back",
            "dual-deploy --env prod --all",
        ),
        example("one service", "dual-deploy --env prod --service web"),
        example("show the stages and the planned changes", "dual-deploy --env prod --all --plan"),
        example("continue after an approval", "dual-deploy --env prod --all --approve go-live"),
    ],
    exit_codes: DEPLOYMENT,
};

pub(crate) const EMIT_ARTIFACT: Help = Help {
    examples: &[
        example(
            "after docker push, with the credentials of the build",
            "emit-artifact --image 111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1a2b3c4",
        ),
        example(
            "one of several services, with the role of an environment",
            "emit-artifact --env dev --service web --image 111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1a2b3c4",
        ),
    ],
    exit_codes: &[DONE, INPUT, (7, "no image within --image-timeout, unavailable, or no permission")],
};

pub(crate) const INIT: Help = Help {
    examples: &[
        example(
            "without network, for one environment with an ECS service",
            "init --offline --project shop --repository shop/web --env prod --region eu-central-1 --account 111111111111 --ecs-cluster prod --ecs-service web",
        ),
        example(
            "from a service that runs: reads its region, registry, repository and container",
            "init --env prod --ecs-cluster prod --ecs-service web",
        ),
        example(
            "from a Kubernetes workload, with the current context of kubectl",
            "init --env prod --eks-workload deployment/web",
        ),
        example(
            "two environments that differ in account and cluster",
            "init --project shop --repository shop/web --region eu-central-1 --env staging --env prod --setting staging.account=111111111111 --setting prod.account=222222222222 --ecs-service web --setting staging.ecs.cluster=staging --setting prod.ecs.cluster=prod",
        ),
        example(
            "show the file without writing it",
            "init --plan --offline --project shop --repository shop/web --env dev --region eu-central-1 --registry registry.example.com",
        ),
    ],
    exit_codes: &[
        (0, "written, or the file has this content already"),
        (2, "invalid input, or a required setting is not known; nothing was written"),
        (5, "the file exists with another content; nothing was written"),
        (7, "the service or workload could not be read"),
    ],
};

pub(crate) const INSPECT: Help = Help {
    examples: &[
        example("platforms, layers and labels", "inspect registry.example.com/shop/web:1.4.2"),
        example(
            "the whole manifest and configuration",
            "inspect registry.example.com/shop/web:1.4.2 --output json",
        ),
    ],
    exit_codes: READING,
};

pub(crate) const LIST: Help = Help {
    examples: &[
        example("the tags of a repository", "ls registry.example.com/shop/web"),
        example("the images of a layout", "ls oci:dist/image"),
    ],
    exit_codes: READING,
};

pub(crate) const LOG_IN: Help = Help {
    examples: &[example(
        "with a password from standard input",
        "login registry.example.com --username ci --password-stdin",
    )],
    exit_codes: READING,
};

pub(crate) const LOG_OUT: Help = Help {
    examples: &[example("remove the login", "logout registry.example.com")],
    exit_codes: &[DONE, INPUT],
};

pub(crate) const MAN: Help = Help {
    examples: &[example("write a page for each command", "man /usr/local/share/man/man1")],
    exit_codes: &[DONE, INPUT],
};

pub(crate) const PROMOTE: Help = Help {
    examples: &[
        example("copy the images of artifact.json to an environment", "promote --to staging --all"),
        example("show what would be copied", "promote --to prod --all --plan"),
        example("with a record of the previous digests", "promote --to prod --record promotion.jsonl"),
    ],
    exit_codes: COPYING,
};

pub(crate) const RECALL: Help = Help {
    examples: &[example(
        "refuse an image in all environments from now on",
        "recall sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865 --because CVE-2026-1 \
         --sign prod.key",
    )],
    exit_codes: &[
        (0, "recalled in every environment that has a copy"),
        INPUT,
        REFUSED,
        (7, "not recalled everywhere; rerun to resume"),
    ],
};

pub(crate) const RECORD: Help = Help {
    examples: &[
        example("what ECS reports about a service", "record --env prod --platform ecs"),
        example("a namespace of the cluster", "record --env prod --namespace shop --file incident.json"),
    ],
    exit_codes: READING,
};

pub(crate) const REFRESH_PULL_SECRET: Help = Help {
    examples: &[
        example("every hour, from a CronJob", "refresh-pull-secret --env prod"),
        example("another Secret", "refresh-pull-secret --env prod --secret registry --margin 3h"),
    ],
    exit_codes: READING,
};

pub(crate) const ROLLBACK: Help = Help {
    examples: &[
        example("restore every target of receipt.json", "rollback --env prod"),
        example("show what would be restored", "rollback --env prod --check"),
        example(
            "without a receipt, to the revisions that ECS and Kubernetes report",
            "rollback --env prod --no-receipt --all",
        ),
    ],
    exit_codes: &[
        (0, "rolled back, and the previous digest was verified to be running"),
        INPUT,
        FAILED,
        (5, "refused: there is nothing to roll back to"),
        DRIFT,
        UNAVAILABLE,
        SUPERSEDED,
    ],
};

pub(crate) const RUN_TASK: Help = Help {
    examples: &[
        example(
            "migrate with the image and the settings of the service",
            "run-task --env prod --command ./manage migrate --noinput",
        ),
        example("with more memory", "run-task --env prod --memory 2GB --command ./report"),
    ],
    exit_codes: &[
        (0, "the container exited with 0; its other exit codes are passed through"),
        (125, "the task could not be run"),
    ],
};

pub(crate) const SECRETS: Help = Help {
    examples: &[
        example("check the references of the ECS service with those of bp.toml", "secrets check --env prod"),
        example("check a file of NAME=reference lines", "secrets check --env prod --references shop.env"),
        example(
            "print them for External Secrets",
            "secrets print --references shop.env --form external-secret --namespace shop",
        ),
    ],
    exit_codes: &[DONE, (2, "a reference is invalid, or the secret or key does not exist"), UNREACHABLE],
};

pub(crate) const STATUS: Help = Help {
    examples: &[
        example("what runs in an environment", "status --env prod"),
        example("one service, for a script", "status --env prod --service web --output json"),
    ],
    exit_codes: &[(0, "every target could be read, whatever its state"), INPUT, UNREACHABLE],
};

pub(crate) const SWITCH_TRAFFIC: Help = Help {
    examples: &[
        example("deploy to the idle slot", "switch-traffic --env prod stage"),
        example(
            "switch, and watch the new pods under traffic",
            "switch-traffic --env prod switch --bake 10m",
        ),
        example("switch back", "switch-traffic --env prod back"),
        example(
            "shift by weights in steps",
            "switch-traffic --env prod shift --object httproute/shop --services web-blue,web-green --steps 10,50,100",
        ),
    ],
    exit_codes: DEPLOYMENT,
};

pub(crate) const VERIFY: Help = Help {
    examples: &[
        example("compare what runs with artifact.json", "verify --env prod"),
        example(
            "with a digest",
            "verify --env prod --service web --image 111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        example(
            "with the service's own answer",
            "verify --env prod --url https://shop.example.com/readyz --expect 200 --expect /platform=ecs",
        ),
    ],
    exit_codes: &[
        (0, "all checks passed"),
        INPUT,
        (6, "a check failed"),
        (7, "no check failed, and one could not be observed"),
    ],
};

pub(crate) const WAIT: Help = Help {
    examples: &[
        example("follow the deployment in progress", "wait --env prod --receipt receipt.json"),
        example("and roll back if it fails", "wait --env prod --all --rollback-on-failure"),
    ],
    exit_codes: DEPLOYMENT,
};

pub(crate) const WITH_SECRETS: Help = Help {
    examples: &[
        example(
            "run a migration with the secrets of the ECS service",
            "with-secrets --env prod -- ./manage migrate",
        ),
        example(
            "with those of a file of NAME=reference lines",
            "with-secrets --env prod --references shop.env -- ./manage migrate",
        ),
    ],
    exit_codes: &[
        (0, "the command succeeded; otherwise its own exit code"),
        INPUT,
        (125, "the command was not started"),
    ],
};
