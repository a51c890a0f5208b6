//! Convert layers of settings to a validated [`Config`].

use std::{collections::BTreeMap, fmt, num::NonZeroU32, str::FromStr, time::Duration};

use super::{
    AccountId, Config, ConfigError, DeployPlatform, DeployPolicy, EcsConfig, EksConfig, EksObject,
    Environment, EnvironmentConfig, FailureLimit, Limits, Project, Region, RoleArn, ServiceConfig,
    ServiceName, Workload, gates,
    keys::{LEAVE, OFF, ROLL_BACK},
    layer::{FileLayer, Setting, Settings, duration, list, missing, names, switch},
    manifests,
    name::is_dns_name,
    origin::Origin,
    paths,
    policy::{self, PolicyConfig},
    release, services, shift,
    tags::tags,
    tasks,
};
use crate::{
    check::CheckKind,
    deploy::OnFailure,
    parse::ParseError,
    reference::{DigestRef, Registry, Repository},
};

/// Applies an overlay to the base. It cannot add environments or services: their order is that of the base.
pub(super) fn overlay(base: &mut FileLayer, upper: FileLayer) -> Result<(), ConfigError> {
    base.project.overlay(upper.project);
    overlay_named(&mut base.services, upper.services, "service")?;
    overlay_named(&mut base.environments, upper.environments, "environment")
}

fn overlay_named<N: PartialEq + fmt::Display>(
    base: &mut [(N, Origin, Settings)],
    upper: Vec<(N, Origin, Settings)>,
    what: &str,
) -> Result<(), ConfigError> {
    for (name, origin, settings) in upper {
        match base.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., below)) => below.overlay(settings),
            None => {
                let reason = format!("the {what} {name} is not in the file that this one overlays");
                return Err(ConfigError::Invalid { at: origin, reason });
            }
        }
    }
    Ok(())
}

pub(super) fn config(file: &str, layer: FileLayer) -> Result<Config, ConfigError> {
    let missing = |reason: &str| ConfigError::Invalid { at: layer.end.clone(), reason: reason.to_owned() };
    let project =
        Project { name: layer.project.text("name")?.ok_or_else(|| missing("[project] has no `name`"))? };
    if layer.services.is_empty() && layer.project.text("repository")?.is_none() {
        return Err(missing("[project] has no `repository`"));
    }
    if layer.environments.is_empty() {
        return Err(missing("it has no [[environment]]"));
    }
    services::check_order(&layer.services)?;
    let names: Vec<Environment> = layer.environments.iter().map(|(name, ..)| name.clone()).collect();
    let mut environments: Vec<EnvironmentConfig> = Vec::with_capacity(layer.environments.len());
    for (name, origin, settings) in layer.environments {
        let before = environments.last().map(|environment| &environment.name);
        let policy = policy::read(&settings, &names, before)?;
        let reader =
            EnvironmentReader { file, project: &layer.project, services: &layer.services, name, origin };
        environments.push(reader.environment(settings, policy)?);
    }
    Ok(Config { file: file.to_owned(), project, environments })
}

/// Reads one environment.
struct EnvironmentReader<'a> {
    file: &'a str,
    project: &'a Settings,
    services: &'a [(ServiceName, Origin, Settings)],
    name: Environment,
    origin: Origin,
}

impl EnvironmentReader<'_> {
    fn environment(
        self,
        mut settings: Settings,
        policy: PolicyConfig,
    ) -> Result<EnvironmentConfig, ConfigError> {
        let account: Option<AccountId> = settings.parse("account")?;
        let region: Region = required(&settings, "region", &self.name, &self.origin)?;
        let role: Option<RoleArn> = settings.parse("role")?;
        let registry: Registry = required(&settings, "registry", &self.name, &self.origin)?;
        check_role(&settings, account.as_ref(), role.as_ref())?;
        check_registry(&settings, &region, &registry)?;
        let services = if self.services.is_empty() {
            services::check_none(&settings)?;
            self.inherit(&mut settings, None);
            vec![self.service(None, self.origin.clone(), settings.clone(), &registry)?]
        } else {
            let own = services::split(&mut settings, self.services)?;
            let mut services = Vec::with_capacity(own.len());
            for ((name, origin, _), mut of_service) in self.services.iter().zip(own) {
                self.inherit(&mut of_service, Some(name));
                services.push(self.service(Some(name.clone()), origin.clone(), of_service, &registry)?);
            }
            check_targets(&services)?;
            services
        };
        let verify_skips = skips(&settings)?;
        let gates = gates::read(&mut settings, &services)?;
        shift::check(&services, &gates)?;
        Ok(EnvironmentConfig {
            name: self.name,
            account,
            region,
            role,
            verify_skips,
            registry,
            services,
            gates,
            policy,
            settings: settings.into_list(),
            origin: self.origin,
            file: self.file.to_owned(),
        })
    }

    /// Adds the settings of the project, and the defaults.
    fn inherit(&self, settings: &mut Settings, service: Option<&ServiceName>) {
        if let Some(repository) = self.project.get("repository") {
            settings.insert_if_missing("repository", &repository.value, repository.origin.clone());
        }
        for (_, tag) in self.project.section("tags") {
            settings.insert_if_missing(&tag.key, &tag.value, tag.origin.clone());
        }
        if let Some(owner) = self.project.get("owner") {
            settings.insert_if_missing("tags.Owner", &owner.value, owner.origin.clone());
        }
        let of = |setting: Option<&Setting>| {
            setting.map_or((String::new(), Origin::Default), |s| (s.value.clone(), s.origin.clone()))
        };
        let (repository, repository_origin) = of(settings.get("repository"));
        let (project, project_origin) = of(self.project.get("name"));
        let app = repository.rsplit('/').next().unwrap_or_default();
        if let Some(service) = service {
            settings.insert_if_missing("tags.Service", service.as_str(), Origin::Default);
        }
        for (key, value, origin) in [
            ("tags.Project", project.as_str(), project_origin),
            ("tags.App", app, repository_origin),
            ("tags.Environment", self.name.as_str(), Origin::Default),
            ("tags.ManagedBy", "bp", Origin::Default),
            ("deploy.timeout", "15m", Origin::Default),
            ("deploy.image-timeout", "5m", Origin::Default),
            ("deploy.on-failure", ROLL_BACK, Origin::Default),
        ] {
            settings.insert_if_missing(key, value, origin);
        }
        // The same image runs on both platforms, and may need to know on which.
        for platform in ["ecs", "eks"] {
            let is_off =
                settings.get(&format!("{platform}.platform-variable")).is_some_and(|set| set.value == OFF);
            if settings.has_section(platform) && !is_off {
                let key = format!("{platform}.environment.DEPLOY_PLATFORM");
                settings.insert_if_missing(&key, platform, Origin::Default);
            }
        }
    }

    fn service(
        &self,
        name: Option<ServiceName>,
        origin: Origin,
        settings: Settings,
        registry: &Registry,
    ) -> Result<ServiceConfig, ConfigError> {
        Ok(ServiceConfig {
            after: after(&settings)?,
            paths: paths::read(&settings)?,
            repository: repository(&settings, registry.clone())?,
            ecs: ecs(&settings, &self.name, &origin)?,
            eks: eks(&settings, &self.name, &origin)?,
            deploy: DeployPolicy {
                timeout: duration(&settings, "deploy.timeout")?,
                image_timeout: duration(&settings, "deploy.image-timeout")?,
                on_failure: on_failure(&settings)?,
                first: first(&settings)?,
            },
            limits: Limits {
                failures: failures(&settings)?,
                transfers: count(&settings, "limits.transfers")?,
            },
            tags: tags(&settings)?,
            name,
            settings: settings.into_list(),
            environment: self.name.clone(),
            origin,
        })
    }
}

/// Checks that no two services of an environment have the same target.
fn check_targets(services: &[ServiceConfig]) -> Result<(), ConfigError> {
    let mut taken: BTreeMap<String, &ServiceConfig> = BTreeMap::new();
    for service in services {
        let ecs = service.ecs.as_ref().map(|ecs| format!("ecs/{}/{}", ecs.cluster, ecs.service));
        let eks = service.eks.as_ref().map(|eks| {
            let object = match &eks.object {
                EksObject::Workload(workload) => workload.to_string(),
                EksObject::Release(release) => format!("helm/{}", release.name),
                EksObject::Manifests(manifests) => format!("manifests/{:?}", manifests.paths),
            };
            format!("eks/{}/{}/{object}", eks.cluster, eks.namespace)
        });
        for target in ecs.into_iter().chain(eks) {
            if let Some(other) = taken.insert(target.clone(), service) {
                let name = |service: &ServiceConfig| service.name.as_ref().map(ToString::to_string);
                let reason = format!(
                    "the services {} and {} are both deployed to {target} in {}",
                    name(other).unwrap_or_default(),
                    name(service).unwrap_or_default(),
                    service.environment
                );
                return Err(ConfigError::Invalid { at: service.origin.clone(), reason });
            }
        }
    }
    Ok(())
}

fn required<T: FromStr<Err = ParseError>>(
    settings: &Settings,
    key: &str,
    name: &Environment,
    origin: &Origin,
) -> Result<T, ConfigError> {
    settings.parse(key)?.ok_or_else(|| missing(key, name, origin))
}

fn check_role(
    settings: &Settings,
    account: Option<&AccountId>,
    role: Option<&RoleArn>,
) -> Result<(), ConfigError> {
    match (account, role, settings.get("role")) {
        (Some(account), Some(role), Some(setting)) if role.account() != account.as_str() => {
            Err(setting.invalid(format!("the role belongs to account {}, not to {account}", role.account())))
        }
        _ => Ok(()),
    }
}

fn check_registry(settings: &Settings, region: &Region, registry: &Registry) -> Result<(), ConfigError> {
    match (registry.ecr(), settings.get("registry")) {
        (Some((_, found)), Some(setting)) if found != region.as_str() => Err(setting.invalid(format!(
            "the registry is in {found} and the environment in {region}: use the registry of that region"
        ))),
        _ => Ok(()),
    }
}

fn repository(settings: &Settings, registry: Registry) -> Result<Repository, ConfigError> {
    let Some(setting) = settings.get("repository") else { unreachable!("it was checked before") };
    Repository::new(registry, &setting.value).map_err(|error| setting.invalid(error.to_string()))
}

fn ecs(settings: &Settings, name: &Environment, origin: &Origin) -> Result<Option<EcsConfig>, ConfigError> {
    if !settings.has_section("ecs") {
        return Ok(None);
    }
    let text = |key| settings.text(key)?.ok_or_else(|| missing(key, name, origin));
    switch(settings, "ecs.platform-variable")?;
    Ok(Some(EcsConfig {
        cluster: text("ecs.cluster")?,
        service: text("ecs.service")?,
        container: settings.text("ecs.container")?,
        also: list(settings.text("ecs.also")?),
        definition: settings.text("ecs.definition")?.map(Into::into),
        cpu: settings.text("ecs.cpu")?,
        memory: settings.text("ecs.memory")?,
        variables: names(settings, "ecs.environment"),
        secrets: names(settings, "ecs.secrets"),
        pin_secrets: switch(settings, "ecs.pin-secrets")?.unwrap_or(false),
        log_options: names(settings, "ecs.log-options"),
        images: images(settings)?,
        tagging: switch(settings, "ecs.tagging")?.unwrap_or(true),
        schedules: switch(settings, "ecs.schedules")?.unwrap_or(false),
        without_members: list(settings.text("ecs.without-members")?),
        stable_for: stable_for(settings)?,
        tasks: tasks::read(settings)?,
    }))
}

fn stable_for(settings: &Settings) -> Result<Option<Duration>, ConfigError> {
    match settings.get("ecs.stable-for") {
        None => Ok(None),
        Some(setting) if setting.value == "0s" => Ok(Some(Duration::ZERO)),
        Some(_) => duration(settings, "ecs.stable-for").map(Some),
    }
}

/// The checks that `verify` leaves out.
fn skips(settings: &Settings) -> Result<Vec<CheckKind>, ConfigError> {
    let Some(setting) = settings.get("verify.skip") else { return Ok(Vec::new()) };
    let kinds = list(Some(setting.value.clone())).into_iter().map(|kind| kind.parse());
    kinds.collect::<Result<_, ParseError>>().map_err(|error| setting.invalid(error.to_string()))
}

fn after(settings: &Settings) -> Result<Vec<ServiceName>, ConfigError> {
    let Some(setting) = settings.get("after") else { return Ok(Vec::new()) };
    let names = list(Some(setting.value.clone())).into_iter().map(|name| name.parse());
    names.collect::<Result<_, ParseError>>().map_err(|error| setting.invalid(error.to_string()))
}

fn images(settings: &Settings) -> Result<BTreeMap<String, DigestRef>, ConfigError> {
    let image = |(name, setting): (&str, &Setting)| {
        let image = setting.value.parse().map_err(|error: ParseError| setting.invalid(error.to_string()))?;
        Ok((name.to_owned(), image))
    };
    settings.section("ecs.images").map(image).collect()
}

fn eks(settings: &Settings, name: &Environment, origin: &Origin) -> Result<Option<EksConfig>, ConfigError> {
    if !settings.has_section("eks") {
        return Ok(None);
    }
    let text = |key| settings.text(key)?.ok_or_else(|| missing(key, name, origin));
    switch(settings, "eks.platform-variable")?;
    let namespace = text("eks.namespace")?;
    if let Some(setting) = settings.get("eks.namespace").filter(|_| !is_dns_name(&namespace)) {
        return Err(setting.invalid(format!(
            "{namespace:?} is not a namespace: expected lower-case letters, digits and dashes"
        )));
    }
    Ok(Some(EksConfig {
        cluster: text("eks.cluster")?,
        namespace,
        object: object(settings, name, origin)?,
        container: settings.text("eks.container")?,
        also: list(settings.text("eks.also")?),
        variables: names(settings, "eks.environment"),
        restarts: count(settings, "eks.restarts")?,
        grace: settings.get("eks.grace").map(|_| duration(settings, "eks.grace")).transpose()?,
        allow_owner: switch(settings, "eks.allow-owner")?.unwrap_or(false),
        allow_no_replicas: switch(settings, "eks.allow-no-replicas")?.unwrap_or(false),
        traffic: shift::read(settings)?,
        annotate: switch(settings, "eks.annotate")?.unwrap_or(true),
        restart_on_config: switch(settings, "eks.restart-on-config")?.unwrap_or(false),
    }))
}

/// The workload, the release with its chart, or the manifests.
fn object(settings: &Settings, name: &Environment, origin: &Origin) -> Result<EksObject, ConfigError> {
    if let Some(manifests) = manifests::read(settings)? {
        return Ok(EksObject::Manifests(manifests));
    }
    match release::read(settings, name, origin)? {
        Some(release) => Ok(EksObject::Release(Box::new(release))),
        None => Ok(EksObject::Workload(required::<Workload>(settings, "eks.workload", name, origin)?)),
    }
}

fn first(settings: &Settings) -> Result<Option<DeployPlatform>, ConfigError> {
    let Some(setting) = settings.get("deploy.order") else { return Ok(None) };
    match setting.value.split(',').map(str::trim).collect::<Vec<_>>().as_slice() {
        ["ecs", "eks"] => Ok(Some(DeployPlatform::Ecs)),
        ["eks", "ecs"] => Ok(Some(DeployPlatform::Eks)),
        _ => Err(setting.invalid(format!("{:?} is neither \"ecs, eks\" nor \"eks, ecs\"", setting.value))),
    }
}

fn failures(settings: &Settings) -> Result<Option<FailureLimit>, ConfigError> {
    let key = "limits.failures";
    let Some(setting) = settings.get(key) else { return Ok(None) };
    let Some(percent) = setting.value.strip_suffix('%') else {
        return Ok(count(settings, key)?.map(FailureLimit::Count));
    };
    let percent = percent.parse().ok().filter(|percent: &NonZeroU32| percent.get() <= 100);
    let reason = || format!("{:?} is not a percentage from 1% to 100%", setting.value);
    percent.map(|percent| Some(FailureLimit::Percent(percent))).ok_or_else(|| setting.invalid(reason()))
}

fn on_failure(settings: &Settings) -> Result<OnFailure, ConfigError> {
    match settings.get("deploy.on-failure") {
        None => Ok(OnFailure::default()),
        Some(setting) => match setting.value.as_str() {
            ROLL_BACK => Ok(OnFailure::RollBack),
            LEAVE => Ok(OnFailure::Leave),
            other => Err(setting.invalid(format!("{other:?} is neither {ROLL_BACK:?} nor {LEAVE:?}"))),
        },
    }
}

fn count(settings: &Settings, key: &str) -> Result<Option<NonZeroU32>, ConfigError> {
    let Some(setting) = settings.get(key) else { return Ok(None) };
    let reason = || format!("{:?} is not a number from 1 to {}", setting.value, u32::MAX);
    setting.value.parse().map(Some).map_err(|_| setting.invalid(reason()))
}
