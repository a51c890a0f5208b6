//! Deploy container images by digest to Amazon ECS services, with typed verdicts, failure causes and rollback.
//!
//! ```no_run
//! use std::time::Duration;
//! use bp_artifact::{DigestRef, ResolvedImage};
//! use bp_ecs::{Cluster, Options};
//!
//! # async fn run(config: &aws_sdk_ecs::config::Config) -> Result<(), Box<dyn std::error::Error>> {
//! let client = aws_sdk_ecs::Client::from_conf(config.clone());
//! let options = Options::new(Duration::from_secs(900))?;
//! let web = Cluster::new(client, "shop").service("web", options).container("web");
//!
//! let image: DigestRef = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web@sha256:\
//!                         44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".parse()?;
//! let mut deployment = web.deploy(&ResolvedImage::from(image));
//! while let Some(event) = deployment.next_event().await {
//!     // A failure is reported here as `DeployEvent::Failing`, before ECS ends the deployment.
//!     tracing::info!(?event);
//! }
//! let outcome = deployment.await?;
//! if !outcome.verdict().is_success() {
//!     tracing::error!("{}: {:?}", outcome.verdict(), outcome.failure.map(|f| f.to_string()));
//! }
//! # Ok(()) }
//! ```
//!
//! # Differences from other tools
//! - It follows *its own* deployment, by id. A stable service is not a success: it is also stable after a rollback.
//! - It reads the task definition as raw JSON and registers it unmodified except for the image.
//! - It checks before the first change that the revision to which a failure would return can still run.
//! - It reports a failure as soon as it is visible, with exit code and reason, and only then rolls back.
//! - It reports which digest the tasks of its own deployment run.
//! - It does not treat lost observation as a failure: expired credentials, throttling or a denied read end in a verdict
//!   of their own, and the same call resumes.
//!
//! # Permissions
//! To deploy: `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:RegisterTaskDefinition`, `ecs:TagResource`,
//! `ecs:UpdateService`, `ecs:ListServiceDeployments`, `ecs:DescribeServiceDeployments`,
//! `ecs:DescribeServiceRevisions`, `ecs:StopServiceDeployment`, `ecs:ListTasks`, `ecs:DescribeTasks`, and
//! `iam:PassRole` on the definition's roles; to answer a pause hook also `ecs:ContinueServiceDeployment`; to run one-off
//! tasks also `ecs:RunTask` and `ecs:StopTask`.
//!
//! Permissions per function: `docs/iam/README.md`.
//!
//! # Watching
//! Follows the deployment in progress, or reports how the last one ended; changes nothing.
//! ```no_run
//! # use bp_ecs::EcsTarget;
//! # async fn run(web: EcsTarget) -> Result<(), Box<dyn std::error::Error>> {
//! let mut watching = web.watch();
//! while let Some(event) = watching.next_event().await {
//!     tracing::info!(?event);
//! }
//! tracing::info!("{}", watching.await?.verdict());
//! # Ok(()) }
//! ```
//!
//! # Rollback
//! To the revision that the last deployment replaced, or to a revision by name.
//! ```no_run
//! # use bp_ecs::EcsTarget;
//! # async fn run(web: EcsTarget) -> Result<(), Box<dyn std::error::Error>> {
//! web.rollback().await?;
//! web.restore(&web.revision("web:41").await?).await?;
//! # Ok(()) }
//! ```
//!
//! # Blue/green with an approval
//! A pause hook ends the call with [`AwaitingApproval`](bp_artifact::Verdict::AwaitingApproval). After the answer, the
//! same call resumes following the same deployment.
//! ```no_run
//! # use bp_artifact::{ResolvedImage, Verdict};
//! # use bp_ecs::{Approval, EcsTarget};
//! # async fn run(web: EcsTarget, image: ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
//! let mut outcome = web.deploy(&image).await?;
//! if outcome.verdict() == Verdict::AwaitingApproval {
//!     web.approve(Approval::Continue).await?;
//!     outcome = web.deploy(&image).await?;
//! }
//! tracing::info!("{}", outcome.verdict());
//! # Ok(()) }
//! ```
//!
//! # One-off tasks
//! A database migration with the same digest and settings as the service, alone or before a deployment.
//! ```no_run
//! # use bp_artifact::ResolvedImage;
//! # use bp_ecs::{EcsTarget, OneOff};
//! # async fn run(web: EcsTarget, image: ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
//! let migrate = OneOff::default().command(["./manage", "migrate"]);
//! let outcome = web.run_task(&image, &migrate).await?;
//! tracing::info!("exit code {:?}", outcome.exit_code);
//!
//! // If the migration fails, the service is not changed.
//! web.before("migrate", migrate).deploy(&image).await?;
//! # Ok(()) }
//! ```
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `logs` | the last log lines in failure reports, the log of one-off tasks while they run, and checks of log groups in preflight, with `aws_sdk_cloudwatchlogs` |
//! | `iam` | checks of roles in preflight, with `aws_sdk_iam` |
//! | `alarms` | [`check`]: checks of CloudWatch alarms, with `aws_sdk_cloudwatch` |
//! | `elbv2` | checks of target groups in preflight, with `aws_sdk_elasticloadbalancingv2` |
//! | `schedules` | [`EcsTarget::schedules`]: scheduled tasks move with deployments, with `aws_sdk_eventbridge` and `aws_sdk_scheduler` |
//!
//! None is enabled by default.
#![cfg_attr(docsrs, feature(doc_cfg))]
// A new cause, verdict or kind of workload must be decided at each place that distinguishes them.
#![deny(clippy::wildcard_enum_match_arm)]

mod api;
mod balancing;
#[cfg(feature = "alarms")]
pub mod check;
mod cluster;
mod definition;
mod error;
mod names;
mod one_off;
mod options;
mod preflight;
mod prune;
mod record;
mod rollout;
#[cfg(feature = "schedules")]
mod schedules;
mod target;
mod tasks;

#[cfg(feature = "alarms")]
pub use aws_sdk_cloudwatch;
#[cfg(feature = "logs")]
pub use aws_sdk_cloudwatchlogs;
pub use aws_sdk_ecs;
#[cfg(feature = "elbv2")]
pub use aws_sdk_elasticloadbalancingv2;
#[cfg(feature = "schedules")]
pub use aws_sdk_eventbridge;
#[cfg(feature = "iam")]
pub use aws_sdk_iam;
#[cfg(feature = "schedules")]
pub use aws_sdk_scheduler;
pub use bp_artifact::deploy::{
    Change, OnFailure, RollbackCheck,
    preflight::{CheckSecrets, Finding, FindingState, Preflight, SecretReference},
};
pub use cluster::Cluster;
pub use definition::{ContainerOverlay, Overlay, TaskDefinition};
pub use error::Error;
pub use one_off::OneOff;
pub use options::{InFlight, Options};
pub use preflight::Lookups;
pub use prune::{KeptRevision, Pruned};
#[cfg(feature = "schedules")]
pub use schedules::Schedules;
pub use target::{Approval, Deployment, EcsTarget};
