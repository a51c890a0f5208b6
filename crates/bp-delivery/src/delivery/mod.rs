//! Create deployment targets on ECS and EKS from an environment of `bp.toml`.

mod ecs;
#[cfg(feature = "helm")]
mod helm;
mod limits;
mod traffic;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bp_artifact::{
    Artifact, ResolvedImage,
    config::{DeployPlatform, EksObject, EnvironmentConfig, FailureLimit, ReleaseConfig, ServiceConfig},
    deploy::Target,
    recording::Recording,
    saga::Step,
};
use bp_ecs::{Cluster, EcsTarget, OneOff, Options};
use bp_eks::{Manifests, manifests::ManifestSet};
use jiff::Timestamp;

use self::ecs::Build;
use crate::{Clients, Failure, governance::Admission, promotion::registries};

/// One service in an environment, with the clients to deploy it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The environment.
    pub environment: EnvironmentConfig,
    /// The service.
    pub service: ServiceConfig,
    /// The environment's clients.
    pub clients: Clients,
    deadline: Duration,
    poll_interval: Option<Duration>,
    take_over: bool,
    accept_unproven_rollback: bool,
    admission: Option<Admission>,
    pins: bool,
    build: Build,
}

impl Delivery {
    /// Creates a delivery with the deadline of `deploy.timeout`.
    pub fn new(environment: EnvironmentConfig, service: ServiceConfig, clients: Clients) -> Self {
        let deadline = service.deploy.timeout;
        Delivery {
            environment,
            service,
            clients,
            deadline,
            poll_interval: None,
            take_over: false,
            accept_unproven_rollback: false,
            admission: None,
            pins: true,
            build: Build::default(),
        }
    }

    /// Sets the check of images that the environment requires, if any.
    pub fn admission(mut self, admission: Option<Admission>) -> Self {
        self.admission = admission;
        self
    }

    /// Checks that the image may be deployed: see [`Admission::check`]. Without such a check, every image may.
    ///
    /// # Errors
    /// As [`Admission::check`].
    ///
    /// # Permissions
    /// Pull from the service's repository.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn admit(&self, image: &ResolvedImage) -> Result<(), Failure> {
        let Some(admission) = &self.admission else { return Ok(()) };
        let side = (&self.environment, &self.clients);
        let client = registries(&[side], self.clients.endpoints())?;
        admission.check(&client.repository(image.reference.repository()), image.digest()).await
    }

    /// Sets the build of the image: new revisions on ECS get the tags Commit and Version.
    pub fn built_from(mut self, artifact: &Artifact) -> Self {
        let (commit, version) = artifact.build_of(&self.service);
        self.build = Build { commit: commit.map(ToString::to_string), version: version.map(str::to_owned) };
        self
    }

    /// Overrides the deadline, if one is given.
    pub fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline.unwrap_or(self.deadline);
        self
    }

    /// Takes ownership of the image field in Kubernetes from its current field manager.
    pub fn take_over(mut self, yes: bool) -> Self {
        self.take_over = yes;
        self
    }

    /// Deploys even if the revision that a failure would return to cannot run any more.
    pub fn accept_unproven_rollback(mut self, yes: bool) -> Self {
        self.accept_unproven_rollback = yes;
        self
    }

    /// Does not look up the versions of secrets, whatever `ecs.pin-secrets` is: for targets that deploy no new definition,
    /// such as those of a rollback.
    pub fn without_pins(mut self) -> Self {
        self.pins = false;
        self
    }

    /// Overrides the interval at which ECS services are polled.
    pub fn poll_interval(mut self, poll_interval: Duration) -> Self {
        self.poll_interval = Some(poll_interval);
        self
    }

    /// The ECS service, with the task definition overlay, the one-off tasks and the scheduled tasks of bp.toml.
    ///
    /// # Errors
    /// When no service is configured, `ecs.container` is missing and the task definition has several containers, the
    /// file of `ecs.definition` is invalid, `ecs.schedules` requires the feature `schedules`, or a secret cannot be pinned
    /// to its version.
    ///
    /// # Permissions
    /// `ecs:DescribeServices` and `ecs:DescribeTaskDefinition`, if bp.toml has no `ecs.container` or `limits.failures`
    /// is a percentage; with `ecs.pin-secrets` those of [`bp_secrets::pin`].
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn ecs(&self) -> Result<EcsTarget, Failure> {
        self.ecs_with(|options| options).await
    }

    /// As [`ecs`](Self::ecs), with options adjusted by the caller.
    ///
    /// # Errors
    /// As [`ecs`](Self::ecs).
    ///
    /// # Permissions
    /// As [`ecs`](Self::ecs).
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn ecs_with(&self, adjust: impl FnOnce(Options) -> Options) -> Result<EcsTarget, Failure> {
        let ecs = self.service.ecs()?;
        let mut options = adjust(Options::new(self.deadline)?);
        if let Some(poll_interval) = self.poll_interval {
            options = options.poll_interval(poll_interval)?;
        }
        options = options
            .on_failure(self.service.deploy.on_failure)
            .accept_unproven_rollback(self.accept_unproven_rollback);
        if let Some(time) = ecs.stable_for {
            options = options.stable_for(time);
        }
        let cluster = Cluster::new(self.clients.ecs(), &ecs.cluster);
        if let Some(limit) = self.service.limits.failures {
            options = options.fail_after(limits::tasks(limit, &self.clients.ecs(), ecs).await?);
        }
        let service = cluster.service(&ecs.service, options).lookups(self.clients.lookups());
        let first = match &ecs.container {
            Some(container) => container.clone(),
            None => service.definition().await?.only_container().map_err(ecs::container_not_named)?,
        };
        let secrets = if ecs.pin_secrets && self.pins {
            crate::pins::pinned(&ecs.secrets, &self.clients).await?
        } else {
            ecs.secrets.clone()
        };
        let overlay = ecs::overlay(&self.service, ecs, &secrets, &first, &self.build);
        let service = service.container(first).overlay(overlay);
        #[cfg(feature = "logs")]
        let service = service.logs(self.clients.logs());
        let service = ecs.also.iter().fold(service, EcsTarget::container);
        let service = ecs::with_tasks(service, ecs);
        let service = if ecs.schedules { self.with_schedules(service)? } else { service };
        match &ecs.definition {
            Some(file) => Ok(service.base(ecs::definition(file)?)),
            None => Ok(service),
        }
    }

    #[cfg(feature = "schedules")]
    #[allow(clippy::unnecessary_wraps, reason = "a build without the feature returns an error")]
    fn with_schedules(&self, service: EcsTarget) -> Result<EcsTarget, Failure> {
        Ok(service.schedules(self.clients.schedules()))
    }

    #[cfg(not(feature = "schedules"))]
    fn with_schedules(&self, _: EcsTarget) -> Result<EcsTarget, Failure> {
        Err(Failure::bad_input(
            "ecs.schedules requires a build with the feature `schedules`, such as the default build of bp (bp-cli)",
        ))
    }

    /// A one-off task of the ECS service, with the timeout and the container of bp.toml.
    ///
    /// # Errors
    /// When no service is configured.
    pub fn one_off(&self) -> Result<OneOff, Failure> {
        Ok(ecs::one_off(self.service.ecs()?))
    }

    /// The ECS service for reading only: without containers and overlays.
    ///
    /// # Errors
    /// When no service is configured.
    pub fn ecs_service(&self) -> Result<EcsTarget, Failure> {
        let ecs = self.service.ecs()?;
        let cluster = Cluster::new(self.clients.ecs(), &ecs.cluster);
        Ok(cluster.service(&ecs.service, Options::new(self.deadline)?))
    }

    /// The workload or the Helm release on EKS.
    ///
    /// # Errors
    /// When none is configured, the cluster cannot be reached, or a Helm release requires the feature `helm`.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`; `get` on the workload, if `limits.failures` is a percentage.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn eks(&self) -> Result<Arc<dyn Target>, Failure> {
        match &self.service.eks()?.object {
            EksObject::Workload(_) => Ok(Arc::new(self.eks_with(|options| options).await?)),
            EksObject::Release(release) => self.release(release).await,
            EksObject::Manifests(_) => Ok(Arc::new(self.manifests(None).await?)),
        }
    }

    /// The manifests: `set`, or else those of bp.toml, with its options.
    ///
    /// # Errors
    /// When EKS is not configured, there are neither, the files are invalid, or the cluster cannot be reached.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn manifests(&self, set: Option<ManifestSet>) -> Result<Manifests, Failure> {
        let eks = self.service.eks()?;
        let configured =
            if let EksObject::Manifests(configured) = &eks.object { Some(configured) } else { None };
        let set = match (set, configured) {
            (Some(set), _) => set,
            (None, Some(configured)) => ManifestSet::read(&configured.paths)?,
            (None, None) => {
                return Err(Failure::bad_input(
                    "there are no manifests: set --manifests, or eks.manifests of bp.toml",
                ));
            }
        };
        let manifests = self.manifests_of(set).await?;
        Ok(match configured {
            Some(configured) => {
                manifests.allow_tags(configured.allow_tags).outside_namespace(configured.outside_namespace)
            }
            None => manifests,
        })
    }

    /// These manifests, named after the service, or after the repository of the only one.
    pub(crate) async fn manifests_of(&self, set: ManifestSet) -> Result<Manifests, Failure> {
        Ok(self.namespace().await?.manifests(self.manifests_name(), set, self.eks_workload_options()?))
    }

    fn manifests_name(&self) -> String {
        let path = self.service.repository.path();
        let of_repository = || path.rsplit('/').next().unwrap_or(path).to_owned();
        self.service.name.as_ref().map_or_else(of_repository, ToString::to_string)
    }

    #[cfg(feature = "helm")]
    async fn release(&self, _: &ReleaseConfig) -> Result<Arc<dyn Target>, Failure> {
        Ok(Arc::new(self.helm_release().await?))
    }

    /// The blue/green deployment of a Kubernetes Service.
    ///
    /// # Errors
    /// When no workload is configured, or the cluster cannot be reached.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn blue_green(
        &self,
        kubernetes_service: &str,
        slots: bp_eks::traffic::Slots,
    ) -> Result<bp_eks::BlueGreen, Failure> {
        let (eks, options) = (self.service.eks()?, self.eks_workload_options()?);
        if !eks.also.is_empty() {
            return Err(Failure::bad_input("eks.also: blue/green deployments change only one container"));
        }
        let target = self.namespace().await?.blue_green(kubernetes_service, slots, options);
        Ok(eks.container.iter().fold(target, bp_eks::BlueGreen::container))
    }

    #[cfg(not(feature = "helm"))]
    async fn release(&self, release: &ReleaseConfig) -> Result<Arc<dyn Target>, Failure> {
        Err(requires_helm(&release.name))
    }

    /// The EKS workload, with options adjusted by the caller.
    ///
    /// # Errors
    /// When none is configured, or the cluster cannot be reached.
    ///
    /// # Permissions
    /// As [`eks`](Self::eks).
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn eks_with(
        &self,
        change: impl FnOnce(bp_eks::Options) -> bp_eks::Options,
    ) -> Result<bp_eks::EksTarget, Failure> {
        let eks = self.service.eks()?;
        let workload = match &eks.object {
            EksObject::Workload(workload) => workload,
            EksObject::Release(_) => {
                return Err(Failure::bad_input(
                    "eks.release configures a Helm release, not a workload: use dual-deploy or deploy-helm",
                ));
            }
            EksObject::Manifests(_) => {
                return Err(Failure::bad_input(
                    "eks.manifests configures manifests, not a workload: use dual-deploy or deploy-manifests",
                ));
            }
        };
        let client = self.clients.kube(&eks.cluster).await?;
        let mut options = self.eks_workload_options()?;
        if let Some(limit) = self.service.limits.failures {
            options = options.fail_after(limits::pods(limit, &client, &eks.namespace, workload).await?);
        }
        let registry = self.clients.resolver(self.service.repository.registry())?;
        let options = options.registry(registry.into());
        let namespace = bp_eks::Cluster::new(client, &eks.cluster).namespace(&eks.namespace);
        let target = namespace.workload(workload.clone(), change(options));
        let target = eks.container.iter().fold(target, bp_eks::EksTarget::container);
        Ok(eks.also.iter().fold(target, bp_eks::EksTarget::also))
    }

    /// Records the responses of the Kubernetes API about the workload or the Helm release, redacted.
    ///
    /// # Errors
    /// When none is configured or it cannot be read, or a Helm release requires the feature `helm`.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`, and those of [`EksTarget::record`](bp_eks::EksTarget::record) or of
    /// `HelmRelease::record`.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn record_eks(&self, recorded_at: Timestamp) -> Result<Recording, Failure> {
        match &self.service.eks()?.object {
            EksObject::Workload(_) => Ok(self.eks_with(|options| options).await?.record(recorded_at).await?),
            #[cfg(feature = "helm")]
            EksObject::Release(_) => Ok(self.helm_release().await?.record(recorded_at).await?),
            #[cfg(not(feature = "helm"))]
            EksObject::Release(release) => Err(requires_helm(&release.name)),
            EksObject::Manifests(_) => Err(Failure::bad_input(
                "eks.manifests configures several objects: record --namespace records them",
            )),
        }
    }

    /// The namespace on the EKS cluster.
    ///
    /// # Errors
    /// When no EKS target is configured, or the cluster cannot be reached.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn namespace(&self) -> Result<bp_eks::Namespace, Failure> {
        let eks = self.service.eks()?;
        let client = self.clients.kube(&eks.cluster).await?;
        Ok(bp_eks::Cluster::new(client, &eks.cluster).namespace(&eks.namespace))
    }

    /// The options of rollouts on the EKS cluster, including the variables of bp.toml.
    ///
    /// # Errors
    /// When the deadline is zero, or no workload is configured.
    pub fn eks_workload_options(&self) -> Result<bp_eks::Options, Failure> {
        let variables = &self.service.eks()?.variables;
        Ok(variables
            .iter()
            .fold(self.eks_options()?, |options, (name, value)| options.environment(name, value)))
    }

    /// The tags of `bp.toml`, and commit and version, as annotations of objects created on EKS. Characters that are not
    /// allowed in annotation names become `_`.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        let build = self.build.annotations().into_iter();
        let tags = self.service.tags.iter().map(|(name, value)| (name.as_str(), value));
        build.chain(tags).filter_map(|(name, value)| Some((annotation(name)?, value.clone()))).collect()
    }

    /// The options of operations on the EKS cluster.
    ///
    /// # Errors
    /// When the deadline is zero, or no EKS target is configured.
    pub fn eks_options(&self) -> Result<bp_eks::Options, Failure> {
        let eks = self.service.eks()?;
        let options = bp_eks::Options::new(self.deadline)?
            .take_over(self.take_over)
            .on_failure(self.service.deploy.on_failure)
            .allow_owner(eks.allow_owner)
            .allow_no_replicas(eks.allow_no_replicas)
            .restart_on_config(eks.restart_on_config)
            .accept_unproven_rollback(self.accept_unproven_rollback);
        let options = self
            .build
            .annotations()
            .into_iter()
            .filter(|_| eks.annotate)
            .fold(options, |options, (name, value)| {
                options.build_annotation(format!("bp-eks/{name}"), value)
            });
        let options = eks.restarts.into_iter().fold(options, bp_eks::Options::restarts);
        let options = eks.grace.into_iter().fold(options, bp_eks::Options::grace);
        let options =
            self.annotations().into_iter().fold(options, |options, (n, v)| options.annotation(n, v));
        Ok(match self.service.limits.failures {
            Some(FailureLimit::Count(pods)) => options.fail_after(pods),
            // The number of replicas is unknown until the workload is read.
            Some(FailureLimit::Percent(_)) | None => options,
        })
    }

    /// Every target of the service.
    ///
    /// # Errors
    /// When one cannot be reached.
    ///
    /// # Permissions
    /// As [`ecs`](Self::ecs) and [`eks`](Self::eks).
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn targets(&self) -> Result<Vec<Arc<dyn Target>>, Failure> {
        Ok(self.on_platforms().await?.into_iter().map(|(_, target)| target).collect())
    }

    /// The platforms and the names of the service's targets, without reading anything: `ecs/<cluster>/<service>`,
    /// `eks/<cluster>/<namespace>/<object>`.
    pub fn target_names(&self) -> Vec<(DeployPlatform, String)> {
        let mut names = Vec::new();
        if let Ok(ecs) = self.service.ecs() {
            let name = |arn: &str| arn.rsplit('/').next().unwrap_or(arn).to_owned();
            names.push((DeployPlatform::Ecs, format!("ecs/{}/{}", name(&ecs.cluster), name(&ecs.service))));
        }
        if let Ok(eks) = self.service.eks() {
            let object = match &eks.object {
                EksObject::Workload(workload) => workload.to_string(),
                EksObject::Release(release) => format!("helm/{}", release.name),
                EksObject::Manifests(_) => format!("manifests/{}", self.manifests_name()),
            };
            names.push((DeployPlatform::Eks, format!("eks/{}/{}/{object}", eks.cluster, eks.namespace)));
        }
        names
    }

    async fn on_platforms(&self) -> Result<Vec<(DeployPlatform, Arc<dyn Target>)>, Failure> {
        let mut targets: Vec<(DeployPlatform, Arc<dyn Target>)> = Vec::new();
        if self.service.has_ecs() {
            targets.push((DeployPlatform::Ecs, Arc::new(self.ecs().await?)));
        }
        if self.service.has_eks() {
            targets.push((DeployPlatform::Eks, self.eks().await?));
        }
        Ok(targets)
    }
}

#[cfg(not(feature = "helm"))]
pub(crate) fn requires_helm(release: &str) -> Failure {
    Failure::bad_input(format!("Helm release {release} requires a build with the feature `helm`"))
}

/// The annotation name of a tag: at most 63 characters, without leading and trailing punctuation.
fn annotation(tag: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = tag.chars().map(|c| if is_allowed(c) { c } else { '_' }).take(63).collect();
    let name = name.trim_matches(['-', '_', '.']);
    (!name.is_empty()).then(|| format!("bp-eks/{name}"))
}

/// The steps of a deployment of several services, each with its image, ordered by `after` and `deploy.order` of
/// bp.toml.
///
/// # Errors
/// When a target cannot be reached.
///
/// # Permissions
/// Those to read the targets: `ecs:DescribeServices`, `eks:DescribeCluster`.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn steps(services: &[(Delivery, ResolvedImage)]) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for (delivery, image) in services {
        for (platform, target) in delivery.on_platforms().await? {
            let stage = stage(&delivery.service, platform, services);
            steps.push(Step { target, image: image.clone(), stage });
        }
    }
    Ok(steps)
}

/// The stage in which a service is deployed to a platform.
pub(crate) fn stage(
    service: &ServiceConfig,
    platform: DeployPlatform,
    chosen: &[(Delivery, ResolvedImage)],
) -> u32 {
    let second = service.deploy.first.is_some_and(|first| first != platform);
    2 * depth(service, chosen) + u32::from(second)
}

/// The length of the longest chain of selected services that must be deployed before this one. Services that are not
/// selected do not count.
fn depth(service: &ServiceConfig, chosen: &[(Delivery, ResolvedImage)]) -> u32 {
    let is_before = |delivery: &&Delivery| {
        delivery.service.name.as_ref().is_some_and(|name| service.after.contains(name))
    };
    let before = chosen.iter().map(|(delivery, _)| delivery).filter(is_before);
    before.map(|delivery| depth(&delivery.service, chosen) + 1).max().unwrap_or(0)
}
