//! The AWS calls made to both moto and the sandbox, in this order: later calls depend on earlier ones.

/// One call of aws-cli.
pub(super) struct Call {
    pub(super) command: &'static str,
    /// Prefixes of paths that moto returns and the sandbox may omit, or that are a known defect of moto.
    ignored: &'static [&'static str],
    /// The documented AWS error code of a call that moto accepts.
    pub(super) refused: Option<&'static str>,
}

impl Call {
    pub(super) fn ignores(&self, path: &str) -> bool {
        path.starts_with(".ResponseMetadata") || self.ignored.iter().any(|prefix| path.starts_with(prefix))
    }
}

const fn call(command: &'static str) -> Call {
    Call { command, ignored: &[], refused: None }
}

const fn call_ignoring(command: &'static str, ignored: &'static [&'static str]) -> Call {
    Call { command, ignored, refused: None }
}

const fn call_refused(command: &'static str, code: &'static str) -> Call {
    Call { command, ignored: &[], refused: Some(code) }
}

/// AWS returns these only if the request includes them, which ours never does.
const SETTINGS: &[&str] = &[".cluster.settings", ".clusters[].settings"];
/// AWS returns the registered value; moto returns a default.
const NETWORK: &[&str] = &[".taskDefinition.networkMode"];
/// Optional in the AWS API model; absent means ECS.
const CONTROLLER: &[&str] = &[".service.deploymentController", ".services[].deploymentController"];

pub(super) const CALLS: &[Call] = &[
    call("sts get-caller-identity"),
    call_ignoring(
        "sts assume-role --role-arn arn:aws:iam::111111111111:role/deployer --role-session-name ci",
        // AWS returns it only with a session policy; moto always.
        &[".PackedPolicySize"],
    ),
    call("secretsmanager create-secret --name app/db --secret-string hush"),
    call("secretsmanager create-secret --name app/db --secret-string again"),
    call("secretsmanager get-secret-value --secret-id app/db"),
    call("secretsmanager get-secret-value --secret-id app/db --version-stage AWSPREVIOUS"),
    call("secretsmanager put-secret-value --secret-id app/db --secret-string newer"),
    call("secretsmanager get-secret-value --secret-id app/db --version-stage AWSPREVIOUS"),
    call("secretsmanager get-secret-value --secret-id app/none"),
    call("secretsmanager describe-secret --secret-id app/db"),
    call("secretsmanager describe-secret --secret-id app/none"),
    call("secretsmanager list-secrets"),
    call("secretsmanager batch-get-secret-value --secret-id-list app/db"),
    call("ssm put-parameter --name /app/host --type String --value db.internal"),
    call("ssm put-parameter --name /app/host --type String --value again"),
    call("ssm put-parameter --name /app/key --type SecureString --value hush"),
    call("ssm get-parameter --name /app/key --with-decryption"),
    call("ssm get-parameter --name /app/none"),
    call("ssm get-parameter --name /app/host:7"),
    call("ssm get-parameters --names /app/host /app/none"),
    call("ssm get-parameters-by-path --path /app"),
    call("ecr create-repository --repository-name shop/web"),
    call("ecr create-repository --repository-name shop/web"),
    call("ecr describe-repositories"),
    call("ecr describe-repositories --repository-names shop/none"),
    call("ecr list-images --repository-name shop/web"),
    call("ecr describe-images --repository-name shop/web"),
    call("ecr describe-images --repository-name shop/web --image-ids imageTag=none"),
    call("ecr describe-images --repository-name shop/none"),
    call("ecr batch-get-image --repository-name shop/web --image-ids imageTag=none"),
    call("ecr get-authorization-token"),
    call_ignoring("ecs create-cluster --cluster-name shop", SETTINGS),
    call_ignoring("ecs describe-clusters --clusters shop none", SETTINGS),
    call_ignoring(
        "ecs register-task-definition --family web \
         --container-definitions name=web,image=registry.example.com/shop/web:1,memory=64",
        NETWORK,
    ),
    call("ecs register-task-definition --family web --container-definitions name=web,memory=64"),
    call_ignoring("ecs describe-task-definition --task-definition web", NETWORK),
    call("ecs describe-task-definition --task-definition none"),
    call("ecs list-task-definitions --family-prefix web"),
    call_ignoring(
        "ecs create-service --cluster shop --service-name web --task-definition web --desired-count 1",
        CONTROLLER,
    ),
    call("ecs create-service --cluster shop --service-name api --task-definition none --desired-count 1"),
    call("ecs create-service --cluster none --service-name web --task-definition web --desired-count 1"),
    call_ignoring("ecs describe-services --cluster shop --services web none", CONTROLLER),
    call("ecs describe-services --cluster none --services web"),
    call_ignoring("ecs update-service --cluster shop --service web --desired-count 2", CONTROLLER),
    call("ecs update-service --cluster shop --service none --desired-count 2"),
    call("ecs update-service --cluster shop --service web --task-definition web:9"),
    call_refused("ecs list-tasks --cluster shop --service-name none", "ServiceNotFoundException"),
    call("ecs describe-tasks --cluster shop --tasks 0123456789abcdef0123456789abcdef"),
    call_ignoring("ecs deregister-task-definition --task-definition web:1", NETWORK),
    call("eks describe-cluster --name none"),
];

/// Scenarios that moto does not support, and the reasons.
pub(super) const SANDBOX_ONLY: &[(&str, &str)] = &[
    (
        "an ECS deployment progresses, fails and rolls back",
        "moto's deployments stay IN_PROGRESS without running tasks",
    ),
    ("an ECS service deployment is described", "moto returns 500"),
    ("a running task's image digest", "moto's tasks have no digest"),
    ("an image pushed to ECR by its digest", "moto computes digests from layers, and does not serve /v2/"),
];
