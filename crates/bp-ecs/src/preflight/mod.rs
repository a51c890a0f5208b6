//! Preflight checks before anything is changed: images, secrets, roles, log groups, target groups, room for tasks, and the
//! rollback revision.

mod capacity;
pub(crate) mod limits;
#[cfg(feature = "elbv2")]
mod load_balancer;
#[cfg(feature = "logs")]
mod log_group;
#[cfg(any(feature = "iam", feature = "elbv2", feature = "logs"))]
mod lookup_error;
mod lookups;
mod platform;
#[cfg(feature = "iam")]
mod role;
mod rollback;
mod room;
mod settings;

use bp_artifact::{
    ImageRef, Platform, ResolvedImage,
    deploy::{
        Cause,
        preflight::{Finding, FindingState, Preflight},
    },
    resolve::{Resolve, ResolveError},
    text::SingleLine,
};

pub use self::lookups::Lookups;
use crate::{
    definition::TaskDefinition,
    error::Error,
    one_off::OneOff,
    rollout::{ServiceRollout, Survey},
    target::EcsTarget,
};

impl EcsTarget {
    /// Returns the changes that deploying `image` would make, whether everything it requires exists (images for the
    /// platform, secrets, roles, log groups, target groups, room for tasks), and whether the revision that a failure
    /// would return to can still run.
    ///
    /// # Errors
    /// The errors that [`deploy`](Self::deploy) returns before its first change, such as an unknown service or
    /// container, and when the service or definition cannot be read. A failed lookup is a finding, not an error.
    ///
    /// # Permissions
    /// Those of [`definition`](Self::definition), `ecs:DescribeServiceRevisions`, and those of [`current`](Self::current)
    /// during or after a failed deployment; for a service on EC2 `ecs:ListContainerInstances` and
    /// `ecs:DescribeContainerInstances`, with capacity providers `ecs:DescribeCapacityProviders`; for the configured
    /// lookups: those of the resolver and of the check of secrets, `iam:GetRole`,
    /// `elasticloadbalancing:DescribeTargetGroups`, `logs:DescribeLogGroups`. What is denied is unknown.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(
        name = "ecs_preflight",
        skip_all,
        fields(target_id = %SingleLine(&self.0.id), image = %image.reference)
    )]
    pub async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups) -> Result<Preflight, Error> {
        self.0.with_containers().await?.preflight(image, lookups).await
    }
}

impl ServiceRollout {
    async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups) -> Result<Preflight, Error> {
        let survey = self.survey().await?;
        let current = self.api.definition(&survey.definition).await?;
        let wanted = self.wanted(&current, &image.reference)?;
        limits::check(&survey.service, &wanted)?;
        if !wanted.is_same(&current) {
            wanted.check_known()?;
        }
        let mut findings = vec![service_state(&survey)];
        findings.extend(self.settings(&survey.service).await);
        findings.extend(images(image, &wanted, lookups.registry.as_deref()).await);
        findings.extend(lookups.check_secrets(&wanted.secrets()).await);
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
        findings.extend(self.step_findings());
        #[cfg(feature = "schedules")]
        {
            let definitions = [survey.definition.as_str(), wanted.family()];
            findings.extend(self.schedule_findings(&self.movable(&survey.service, &definitions).await?));
        }
        findings.extend(capacity::check(&self.api, &survey.service, &wanted).await);
        let found = Preflight::new(self.id.clone(), findings);
        let found = found.changes(current.changes(&wanted)).secrets(wanted.secrets());
        if !self.would_change(&survey, &current, &image.reference).await? {
            return Ok(found);
        }
        let stable = self.rollback_definition(&survey, &current).await?;
        let check = self.check_rollback(stable.as_ref(), lookups).await?;
        Ok(found.rollback(Some(check)))
    }

    /// The one-off tasks of the deployment, and whether their containers run the image.
    fn step_findings(&self) -> Vec<Finding> {
        let of = |when: &'static str, steps: &[(String, OneOff)]| -> Vec<Finding> {
            let finding = |(name, task): &(String, OneOff)| {
                let container = task.container.as_ref().or(self.containers.first());
                let container = container.map_or("", String::as_str);
                let subject = format!("task {name} {when} the deployment");
                if self.containers.iter().all(|ours| ours != container) {
                    let message = format!("the container {container} does not run the image");
                    return Finding::new(subject, FindingState::Invalid, message).cause(Cause::ConfigInvalid);
                }
                let command = match task.command.as_slice() {
                    [] => "its own command".to_owned(),
                    words => words.join(" "),
                };
                let seconds = task.timeout.unwrap_or(self.options.deadline).as_secs();
                let message = format!("{command} (container {container}, at most {seconds} s)");
                Finding::new(subject, FindingState::Present, message)
            };
            steps.iter().map(finding).collect()
        };
        [of("before", &self.steps.before), of("after", &self.steps.after)].concat()
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
                let missing = error.is_not_found() || matches!(error, ResolveError::Archived { .. });
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
