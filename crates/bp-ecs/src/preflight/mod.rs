//! Preflight checks: images, roles, log groups and target groups, before anything is changed.

pub(crate) mod limits;
#[cfg(feature = "elbv2")]
mod load_balancer;
#[cfg(feature = "logs")]
mod log_group;
#[cfg(any(feature = "iam", feature = "elbv2", feature = "logs"))]
mod lookup_error;
mod platform;
#[cfg(feature = "iam")]
mod role;
mod settings;

use std::fmt;

use bp_artifact::{
    ImageRef, Platform, ResolvedImage,
    deploy::{
        Cause,
        preflight::{Finding, FindingState, Preflight},
    },
    resolve::Resolve,
    text::SingleLine,
};

use crate::{
    definition::TaskDefinition,
    error::Error,
    rollout::{ServiceRollout, Survey},
    target::EcsTarget,
};

/// Clients for preflight checks outside ECS. A check without a client is reported as unknown.
#[derive(Clone, Default)]
pub struct Lookups<'a> {
    registry: Option<&'a dyn Resolve>,
    #[cfg(feature = "iam")]
    iam: Option<aws_sdk_iam::Client>,
    #[cfg(feature = "elbv2")]
    load_balancers: Option<aws_sdk_elasticloadbalancingv2::Client>,
    #[cfg(feature = "logs")]
    logs: Option<aws_sdk_cloudwatchlogs::Client>,
}

impl fmt::Debug for Lookups<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("registry", &self.registry.is_some()).finish_non_exhaustive()
    }
}

impl<'a> Lookups<'a> {
    /// Checks with this resolver whether images exist, and for which platforms.
    pub fn registry(mut self, resolver: &'a dyn Resolve) -> Self {
        self.registry = Some(resolver);
        self
    }

    /// Checks with this client whether roles exist and ECS tasks may assume them.
    #[cfg(feature = "iam")]
    pub fn iam(mut self, client: aws_sdk_iam::Client) -> Self {
        self.iam = Some(client);
        self
    }

    /// Checks with this client whether target groups exist, have the right target type and a load balancer.
    #[cfg(feature = "elbv2")]
    pub fn load_balancers(mut self, client: aws_sdk_elasticloadbalancingv2::Client) -> Self {
        self.load_balancers = Some(client);
        self
    }

    /// Checks with this client whether log groups exist.
    #[cfg(feature = "logs")]
    pub fn logs(mut self, client: aws_sdk_cloudwatchlogs::Client) -> Self {
        self.logs = Some(client);
        self
    }
}

impl EcsTarget {
    /// Returns the changes that deploying `image` would make, and whether everything it requires exists: images for the
    /// platform, roles, log groups, target groups. Secrets are listed for the caller to check.
    ///
    /// # Errors
    /// The errors that [`deploy`](Self::deploy) returns before its first change, such as an unknown service or
    /// container, and when the service or definition cannot be read. A failed lookup is a finding, not an error.
    ///
    /// # Permissions
    /// Those of [`definition`](Self::definition), `ecs:DescribeServiceRevisions`; for the configured lookups: those of the
    /// resolver, `iam:GetRole`, `elasticloadbalancing:DescribeTargetGroups`, `logs:DescribeLogGroups`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(
        name = "ecs_preflight",
        skip_all,
        fields(target_id = %SingleLine(&self.0.id), image = %image.reference)
    )]
    pub async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups<'_>) -> Result<Preflight, Error> {
        self.0.with_containers().await?.preflight(image, lookups).await
    }
}

impl ServiceRollout {
    async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups<'_>) -> Result<Preflight, Error> {
        let survey = self.survey().await?;
        let current = self.api.definition(&survey.definition).await?;
        let wanted = self.wanted(&current, &image.reference)?;
        limits::check(&survey.service, &wanted)?;
        if !wanted.is_same(&current) {
            wanted.check_known()?;
        }
        let mut findings = vec![service_state(&survey)];
        findings.extend(self.settings(&survey.service).await);
        findings.extend(images(image, &wanted, lookups.registry).await);
        findings.extend(execution_role(&wanted));
        for (member, arn) in roles(&wanted) {
            findings.push(lookups.role(member, arn).await);
        }
        for (container, group) in log_groups(&wanted) {
            findings.push(lookups.log_group(&container, &group).await);
        }
        for group in survey.service.load_balancers().iter().filter_map(|lb| lb.target_group_arn()) {
            findings.push(lookups.target_group(group, &wanted).await);
        }
        let found = Preflight::new(self.id.clone(), findings);
        Ok(found.changes(current.changes(&wanted)).secrets(wanted.secrets()))
    }
}

/// Whether another deployment is in progress or has failed.
fn service_state(survey: &Survey) -> Finding {
    let service = format!("service {}", survey.service.service_name().unwrap_or_default());
    match (&survey.in_flight, survey.failed) {
        (Some(followed), _) => {
            let message = format!("{} is in progress, deploying {}", followed.id, followed.definition);
            Finding::new(service, FindingState::Warning, message)
        }
        (None, true) => {
            Finding::new(service, FindingState::Warning, "its last deployment failed and was not rolled back")
        }
        (None, false) => Finding::new(service, FindingState::Present, ""),
    }
}

/// Checks the image of each container for the definition's platform.
async fn images(
    ours: &ResolvedImage,
    wanted: &TaskDefinition,
    registry: Option<&dyn Resolve>,
) -> Vec<Finding> {
    let platform = platform::of(wanted);
    let mut findings = Vec::new();
    for container in wanted.container_names() {
        let written = wanted.image(&container).unwrap_or_default();
        let subject = format!("image {written} ({container})");
        let found = match (written.parse::<ImageRef>(), registry) {
            _ if written == ours.reference.to_string() && registry.is_none() => Ok(ours.clone()),
            (Err(error), _) => Err((FindingState::Invalid, error.to_string())),
            (Ok(_), None) => Err((
                FindingState::Unknown,
                "not checked, because no registry client is configured".to_owned(),
            )),
            (Ok(image), Some(registry)) => registry.resolve(&image).await.map_err(|error| {
                let missing = error.is_not_found();
                (if missing { FindingState::Missing } else { FindingState::Unknown }, error.to_string())
            }),
        };
        findings.push(match found {
            Ok(image) => for_platform(subject, &image, &platform),
            Err((state, message)) => {
                let finding = Finding::new(subject, state, message);
                if state.is_fatal() { finding.cause(Cause::ImageNotFound) } else { finding }
            }
        });
    }
    findings
}

fn for_platform(subject: String, image: &ResolvedImage, platform: &Platform) -> Finding {
    if image.platforms.is_empty() {
        return Finding::new(subject, FindingState::Present, "its platforms are unknown");
    }
    if image.platforms.iter().any(|built| built.platform.runs(platform)) {
        return Finding::new(subject, FindingState::Present, format!("for {platform}"));
    }
    let built: Vec<String> = image.platforms.iter().map(|p| p.platform.to_string()).collect();
    let message = format!(
        "built for {}, but the definition runs on {platform}; build for it, or change runtimePlatform",
        built.join(", ")
    );
    Finding::new(subject, FindingState::Invalid, message).cause(Cause::WrongArchitecture)
}

/// The roles of a definition, with the member that contains each.
fn roles(wanted: &TaskDefinition) -> Vec<(&'static str, &str)> {
    let named = |member: &'static str| Some((member, wanted.as_json().get(member)?.as_str()?));
    ["executionRoleArn", "taskRoleArn"].into_iter().filter_map(named).collect()
}

/// Reports a missing execution role: it is required for secrets, and on Fargate for log groups.
fn execution_role(wanted: &TaskDefinition) -> Option<Finding> {
    let json = wanted.as_json();
    let fargate = json
        .get("requiresCompatibilities")
        .and_then(|all| all.as_array())
        .is_some_and(|all| all.iter().any(|one| one == "FARGATE"));
    let needed = match (wanted.secrets().is_empty(), fargate && !log_groups(wanted).is_empty()) {
        (false, _) => "secrets require it",
        (true, true) => "logging to CloudWatch from Fargate requires it",
        (true, false) => return None,
    };
    let missing = !json.contains_key("executionRoleArn");
    missing.then(|| {
        let message = format!("{needed}; set it in the definition");
        Finding::new("executionRoleArn", FindingState::Missing, message).cause(Cause::PermissionMissing)
    })
}

/// The CloudWatch log groups that must exist, because the agent does not create them, with their containers.
fn log_groups(wanted: &TaskDefinition) -> Vec<(String, String)> {
    let group = |name: String| {
        let options = wanted.log_options(&name, "awslogs")?;
        let created = options.get("awslogs-create-group").is_some_and(|v| v.as_str() == Some("true"));
        let group = options.get("awslogs-group")?.as_str()?.to_owned();
        (!created).then_some((name, group))
    };
    wanted.container_names().into_iter().filter_map(group).collect()
}

#[cfg(not(all(feature = "iam", feature = "elbv2", feature = "logs")))]
const NOT_COMPILED_IN: &str = "not checked, because this build lacks the feature";
#[cfg(any(feature = "iam", feature = "elbv2", feature = "logs"))]
const NO_CLIENT: &str = "not checked, because no client is configured";

impl Lookups<'_> {
    async fn role(&self, member: &str, arn: &str) -> Finding {
        let subject = format!("role {arn} ({member})");
        #[cfg(feature = "iam")]
        return match &self.iam {
            Some(client) => role::check(client, subject, arn).await,
            None => Finding::new(subject, FindingState::Unknown, NO_CLIENT),
        };
        #[cfg(not(feature = "iam"))]
        Finding::new(subject, FindingState::Unknown, NOT_COMPILED_IN)
    }

    async fn log_group(&self, container: &str, group: &str) -> Finding {
        let subject = format!("log group {group} ({container})");
        #[cfg(feature = "logs")]
        return match &self.logs {
            Some(client) => log_group::check(client, subject, group).await,
            None => Finding::new(subject, FindingState::Unknown, NO_CLIENT),
        };
        #[cfg(not(feature = "logs"))]
        Finding::new(subject, FindingState::Unknown, NOT_COMPILED_IN)
    }

    #[cfg_attr(
        not(feature = "elbv2"),
        allow(unused_variables, reason = "only the feature elbv2 reads the definition")
    )]
    async fn target_group(&self, arn: &str, wanted: &TaskDefinition) -> Finding {
        let subject = format!("target group {arn}");
        #[cfg(feature = "elbv2")]
        return match &self.load_balancers {
            Some(client) => load_balancer::check(client, subject, arn, wanted).await,
            None => Finding::new(subject, FindingState::Unknown, NO_CLIENT),
        };
        #[cfg(not(feature = "elbv2"))]
        Finding::new(subject, FindingState::Unknown, NOT_COMPILED_IN)
    }
}
