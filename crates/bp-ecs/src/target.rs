//! The deployment target: a container of an ECS service, with deploy, watch, restore, rollback and drift.

use std::sync::Arc;

use aws_sdk_ecs::types::DeploymentLifecycleHookAction;
use bp_artifact::{
    DigestRef, Operation, Outcome, ResolvedImage,
    deploy::{
        Current, DeployEvent, Drift, OnFailure, Proof, Reporter, Revision, RollbackCheck, Target,
        TargetError, TargetId, status::Status,
    },
    text::SingleLine,
};
use futures_core::future::BoxFuture;
use tracing::{field::Empty, info_span};

use crate::{
    api::{Api, Shared},
    definition::{Overlay, TaskDefinition},
    error::Error,
    names::name_of,
    one_off::Steps,
    options::Options,
    preflight::Lookups,
    rollout::{RollbackChecked, ServiceRollout, until_cancelled},
};

/// A running deployment: a stream of its events, and a future of its outcome.
pub type Deployment = Operation<DeployEvent, Result<Outcome, Error>>;

/// One container of one ECS service, as a target of deployments. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EcsTarget(pub(crate) Arc<ServiceRollout>);

/// An answer to a deployment that [awaits approval](bp_artifact::Verdict::AwaitingApproval).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Continue with the next stage.
    Continue,
    /// Roll back to the previous revision.
    RollBack,
}

impl EcsTarget {
    pub(crate) fn of(cluster: Arc<Shared>, service: String, options: Options) -> Self {
        let id = TargetId::new(format!("ecs/{}/{}", name_of(&cluster.name), name_of(&service)));
        let api = Api::new(cluster, service, options.deadline);
        EcsTarget(Arc::new(ServiceRollout {
            api,
            id,
            containers: Vec::new(),
            images: Vec::new(),
            base: None,
            overlay: None,
            steps: Steps::default(),
            options,
            lookups: Lookups::default(),
            #[cfg(feature = "logs")]
            logs: None,
            #[cfg(feature = "schedules")]
            schedules: None,
        }))
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut ServiceRollout)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Deploys the image to this container; defaults to the definition's only container. Further calls add containers
    /// that run the same image, such as a worker; failures of the first one take precedence in reports.
    pub fn container(self, name: impl Into<String>) -> Self {
        self.change(|rollout| rollout.containers.push(name.into()))
    }

    /// Applies `overlay` to every definition that is deployed. Settings of an earlier overlay that this one lacks are
    /// removed: each revision records their names in the docker label `dev.bp.set`. Without an overlay they are kept.
    pub fn overlay(self, overlay: Overlay) -> Self {
        self.change(|rollout| rollout.overlay = Some(overlay))
    }

    /// Bases new revisions on `definition`, for example from a file, instead of the one that the service runs. The
    /// images are replaced, its ARN, if any, is ignored, and nothing is removed from it.
    pub fn base(self, definition: TaskDefinition) -> Self {
        self.change(|rollout| rollout.base = Some(definition.unregistered().without_inventory()))
    }

    /// Checks images and secrets of the rollback revision with these clients before a deployment changes anything.
    /// Without a client they are unknown, which is reported and does not refuse the deployment. With a client for Elastic
    /// Load Balancing, failure reports contain the health of targets (`elasticloadbalancing:DescribeTargetHealth`; if it is
    /// denied, the report says so).
    pub fn lookups(self, lookups: Lookups) -> Self {
        self.change(|rollout| rollout.lookups = lookups)
    }

    /// Adds the platforms of an image, against which [`watch`](Self::watch) and [`resume`](Self::resume) verify the
    /// digests of tasks: the definition contains only the digest of the image itself.
    pub fn known_image(self, image: ResolvedImage) -> Self {
        self.change(|rollout| rollout.images.push(image))
    }

    /// `ecs/<cluster>/<service>`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<ServiceRollout>, Reporter) -> F + Send + 'static) -> Deployment
    where
        F: Future<Output = Result<Outcome, Error>> + Send,
    {
        let rollout = Arc::clone(&self.0);
        Operation::spawn(|events| async move {
            let _active = rollout.api.cluster.start_operation();
            let reporter = Reporter::new(&events, rollout.id.clone());
            let work = async { work(rollout.with_containers().await?, reporter.clone()).await };
            until_cancelled(work, &reporter).await
        })
    }

    /// Deploys `image` and follows the deployment to its end: reads the service, checks that the revision that a failure
    /// returns to can still run, changes only the image of our container, registers the definition or reuses an
    /// identical one, updates the service, follows *that* deployment, rolls back when it fails, and verifies the running
    /// digests.
    ///
    /// A rerun adopts the deployment that an earlier run started, or finds that nothing has to change.
    ///
    /// # Errors
    /// When the input is invalid, the rollback revision [cannot run](Error::UnprovenRollback), or AWS rejects a call or
    /// cannot be reached before anything was changed. A failed deployment is a verdict, and so is one that was or may
    /// have been started and can no longer be observed: [`Unobserved`](bp_artifact::Verdict::Unobserved).
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:RegisterTaskDefinition` (`ecs:TagResource` when the
    /// definition has tags), `iam:PassRole` on its roles, `ecs:UpdateService`, `ecs:ListServiceDeployments`,
    /// `ecs:DescribeServiceDeployments`, `ecs:DescribeServiceRevisions`, `ecs:StopServiceDeployment`,
    /// `ecs:ListTasks`, `ecs:DescribeTasks`; optional: those of the [`lookups`](Self::lookups). With
    /// [`before`](Self::before) or [`after`](Self::after) also those of [`run_task`](Self::run_task).
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops a one-off task that runs, and stops watching at once; the deployment
    /// continues, nothing is rolled back, and the next run resumes.
    pub fn deploy(&self, image: &ResolvedImage) -> Deployment {
        self.deployment(image, RollbackChecked::Here)
    }

    /// As [`deploy`](Self::deploy), for a caller that has [checked](Self::check_rollback) the rollback revision.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy), except that the rollback revision cannot run.
    ///
    /// # Permissions
    /// As [`deploy`](Self::deploy), without those of the [`lookups`](Self::lookups).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn deploy_checked(&self, image: &ResolvedImage) -> Deployment {
        self.deployment(image, RollbackChecked::ByCaller)
    }

    fn deployment(&self, image: &ResolvedImage, checked: RollbackChecked) -> Deployment {
        let span = info_span!(
            "ecs_deploy",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        let image = image.clone();
        span.in_scope(|| {
            if self.0.has_no_steps() {
                self.spawn(move |rollout, reporter| async move {
                    rollout.deploy(&image, checked, &reporter).await
                })
            } else {
                self.0.spawn_with_steps(image, checked)
            }
        })
    }

    /// Follows the deployment in progress, or reports the last one. Changes nothing: a failure that ECS does not roll
    /// back is left in place.
    ///
    /// # Errors
    /// When the service cannot be read.
    ///
    /// # Permissions
    /// The describe and list permissions of [`deploy`](Self::deploy).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub fn watch(&self) -> Deployment {
        let span = info_span!("ecs_watch", target_id = %SingleLine(&self.0.id), verdict = Empty);
        let work = |rollout: Arc<ServiceRollout>, reporter| async move {
            rollout.watch(OnFailure::Leave, &reporter).await
        };
        span.in_scope(|| self.spawn(work))
    }

    /// As [`watch`](Self::watch), and rolls back a deployment that fails, as [`deploy`](Self::deploy) does.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    ///
    /// # Permissions
    /// Those of [`watch`](Self::watch), `ecs:StopServiceDeployment`, `ecs:UpdateService`, and `iam:PassRole` on the
    /// roles of the previous definition.
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn resume(&self) -> Deployment {
        let span = info_span!("ecs_resume", target_id = %SingleLine(&self.0.id), verdict = Empty);
        let work = |rollout: Arc<ServiceRollout>, reporter| async move {
            rollout.watch(OnFailure::RollBack, &reporter).await
        };
        span.in_scope(|| self.spawn(work))
    }

    /// Restores `revision` and follows the deployment to its end. If ECS is already rolling back to it, that is
    /// followed.
    ///
    /// The verdict is about the restored revision: `Deployed`, or `Unproven` when its image has no digest.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    ///
    /// # Permissions
    /// Those of [`deploy`](Self::deploy) without `ecs:RegisterTaskDefinition`.
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn restore(&self, revision: &Revision) -> Deployment {
        let revision = revision.clone();
        let span = info_span!("ecs_restore", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| {
            self.spawn(|rollout, reporter| async move { rollout.restore(&revision, &reporter).await })
        })
    }

    /// Rolls back: to the last stable revision while a deployment is in progress or has failed in place, otherwise to
    /// the one that the last deployment replaced.
    ///
    /// # Errors
    /// [`Error::NoPrevious`] when there is none; otherwise as [`restore`](Self::restore).
    ///
    /// # Permissions
    /// As [`restore`](Self::restore).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn rollback(&self) -> Deployment {
        let span = info_span!("ecs_rollback", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| {
            self.spawn(|rollout, reporter| async move {
                let revision = rollout.previous().await?;
                rollout.restore(&revision, &reporter).await
            })
        })
    }

    /// Answers the pause hook of the deployment in progress. Deploy or watch again to resume following it.
    ///
    /// # Errors
    /// [`Error::NotAwaitingApproval`] when no deployment awaits approval.
    ///
    /// # Permissions
    /// `ecs:ListServiceDeployments`, `ecs:DescribeServiceDeployments`, `ecs:ContinueServiceDeployment`.
    ///
    /// # Cancel safety
    /// If dropped, it may or may not have answered; answering twice returns an error and changes nothing.
    pub async fn approve(&self, approval: Approval) -> Result<(), Error> {
        let action = match approval {
            Approval::Continue => DeploymentLifecycleHookAction::Continue,
            Approval::RollBack => DeploymentLifecycleHookAction::Rollback,
        };
        self.0.approve(action).await
    }

    /// Returns the definition that the service runs now: to show [planned changes](TaskDefinition::changes), and to
    /// list its [secrets](TaskDefinition::secrets).
    ///
    /// # Errors
    /// When the service or definition cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:ListServiceDeployments`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn definition(&self) -> Result<TaskDefinition, Error> {
        let survey = self.0.observe().await?;
        self.0.api.definition(&survey.definition).await
    }

    /// Returns the definition that deploying `image` would give the service, to [compare](TaskDefinition::changes) with
    /// the current one.
    ///
    /// # Errors
    /// As [`definition`](Self::definition), and when a container is missing.
    ///
    /// # Permissions
    /// Those of [`definition`](Self::definition).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn planned_definition(&self, image: &DigestRef) -> Result<TaskDefinition, Error> {
        self.0.with_containers().await?.wanted(&self.definition().await?, image)
    }

    /// Finds a revision to [restore](Self::restore) by name: `web:41` or an ARN. A family alone is its latest revision.
    ///
    /// # Errors
    /// When the definition does not exist, or lacks our container.
    ///
    /// # Permissions
    /// `ecs:DescribeTaskDefinition`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn revision(&self, definition: &str) -> Result<Revision, Error> {
        self.0.with_containers().await?.revision(definition).await
    }

    /// Returns the stable revision, and the one that is being rolled out.
    ///
    /// # Errors
    /// When the service cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:ListServiceDeployments`,
    /// `ecs:DescribeServiceDeployments`, `ecs:DescribeServiceRevisions`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn current(&self) -> Result<Current, Error> {
        self.0.with_containers().await?.current().await
    }

    /// Returns the revision to which [`rollback`](Self::rollback) would roll back.
    ///
    /// # Errors
    /// [`Error::NoPrevious`] when there is none, or when the service cannot be read.
    ///
    /// # Permissions
    /// As [`current`](Self::current).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn previous(&self) -> Result<Revision, Error> {
        self.0.with_containers().await?.previous().await
    }

    /// Returns the digests that our container's running tasks report, to be [judged](Proof::judge) against an image.
    /// Tasks of earlier deployments count only while a deployment is in progress; after its success ECS stops them.
    ///
    /// # Errors
    /// When the service or its tasks cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeServiceRevisions`, `ecs:ListTasks`, `ecs:DescribeTasks`; while the service
    /// shows several deployments also `ecs:ListServiceDeployments` and `ecs:DescribeServiceDeployments`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn prove(&self) -> Result<Proof, Error> {
        self.0.with_containers().await?.prove().await
    }

    /// Moves scheduled tasks with each deployment: targets of EventBridge rules and schedules of EventBridge Scheduler
    /// that start tasks of the service's task definition family in its cluster.
    ///
    /// After a [`deploy`](Self::deploy) has succeeded, and its tasks [`after`](Self::after) it, they start tasks of the
    /// deployed revision. If one cannot be changed, the deployment has failed, and
    /// [`Options::on_failure`](crate::Options::on_failure) applies. [`restore`](Self::restore) and a rollback move them
    /// back: to the definitions recorded in [`Revision::schedules`](bp_artifact::deploy::Revision::schedules), or with a
    /// revision that has none to that revision. [`prune`](Self::prune) keeps revisions that a schedule of any cluster uses.
    ///
    /// Only the task definition of a schedule is changed: every other member is written as it was read, and read again
    /// afterwards. Left as they are: schedules that have ended, rules that an AWS service manages, and targets that call
    /// `ecs:RunTask` with an input of their own.
    ///
    /// # Permissions
    /// `events:ListEventBuses`, `events:ListRuleNamesByTarget`, `events:DescribeRule`, `events:ListTargetsByRule`,
    /// `events:PutTargets`, `scheduler:ListSchedules`, `scheduler:GetSchedule`, `scheduler:UpdateSchedule`, and
    /// `iam:PassRole` on the roles of the schedules.
    #[cfg(feature = "schedules")]
    pub fn schedules(self, schedules: crate::schedules::Schedules) -> Self {
        self.change(|rollout| rollout.schedules = Some(schedules))
    }
}

impl EcsTarget {
    /// Checks whether `previous`, the revision that a failed deployment of `image` returns to, can still run: its
    /// definition, and with [`lookups`](Self::lookups) its images and secrets. `None` when the deployment would change
    /// nothing. [`deploy`](Self::deploy) does this itself; a saga calls it for all targets first.
    ///
    /// # Errors
    /// When the service or a definition cannot be read. A failed lookup is a finding, not an error.
    ///
    /// # Permissions
    /// Those of [`current`](Self::current); optional: those of the [`lookups`](Self::lookups).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn check_rollback(
        &self,
        image: &ResolvedImage,
        previous: &Revision,
    ) -> Result<Option<RollbackCheck>, Error> {
        self.0.with_containers().await?.check_rollback_to(&image.reference, previous).await
    }

    /// Returns what runs, the deployments in progress, and the last failures and events, in at most eight calls: one
    /// page of tasks, three service deployments. Parts that cannot be read are notes.
    ///
    /// # Errors
    /// When the service cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`; without `ecs:DescribeTaskDefinition`, `ecs:ListServiceDeployments`,
    /// `ecs:DescribeServiceDeployments`, `ecs:ListTasks` and `ecs:DescribeTasks` the status is incomplete.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(name = "ecs_status", skip_all, fields(target_id = %SingleLine(&self.0.id)))]
    pub async fn status(&self) -> Result<Status, Error> {
        self.0.status().await
    }

    /// Compares the service with a completed deployment of `image`: the definition, the service itself, and the running
    /// digests.
    ///
    /// # Errors
    /// When the service, its definition or its tasks cannot be read.
    ///
    /// # Permissions
    /// Those of [`definition`](Self::definition) and of [`prove`](Self::prove); with clients for schedules those that
    /// read them.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(
        name = "ecs_verify",
        skip_all,
        fields(target_id = %SingleLine(&self.0.id), image = %image.reference)
    )]
    pub async fn drift(&self, image: &ResolvedImage) -> Result<Drift, Error> {
        self.0.with_containers().await?.drift(image).await
    }
}

impl Target for EcsTarget {
    fn id(&self) -> TargetId {
        EcsTarget::id(self)
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async { EcsTarget::current(self).await.map_err(TargetError::new) })
    }

    fn check_rollback<'a>(
        &'a self,
        image: &'a ResolvedImage,
        previous: &'a Revision,
    ) -> BoxFuture<'a, Result<Option<RollbackCheck>, TargetError>> {
        Box::pin(async {
            let check = EcsTarget::check_rollback(self, image, previous).await;
            check.map_err(TargetError::new)
        })
    }

    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>> {
        Box::pin(async { EcsTarget::previous(self).await.map_err(TargetError::new) })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        self.deploy_checked(image).map_err(TargetError::new)
    }

    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        EcsTarget::restore(self, revision).map_err(TargetError::new)
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { EcsTarget::prove(self).await.map_err(TargetError::new) })
    }

    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { EcsTarget::drift(self, image).await.map_err(TargetError::new) })
    }
}
