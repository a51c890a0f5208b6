//! Deploy container images by digest to Kubernetes workloads on Amazon EKS, with typed verdicts, failure causes and
//! rollback.
//!
//! ```no_run
//! use std::time::Duration;
//! use aws_credential_types::provider::SharedCredentialsProvider;
//! use bp_artifact::{DigestRef, ResolvedImage};
//! use bp_eks::{Cluster, Connector, Options};
//!
//! # type AnyError = Box<dyn std::error::Error>;
//! # async fn run(eks: aws_sdk_eks::Client, credentials: SharedCredentialsProvider) -> Result<(), AnyError> {
//! // Without kubeconfig, kubectl or AWS CLI; to use a kubeconfig: `bp_eks::from_kubeconfig`.
//! let client = Connector::new(eks, credentials, "eu-central-1", "prod").connect().await?;
//! let options = Options::new(Duration::from_secs(900))?;
//! let shop = Cluster::new(client, "prod").namespace("shop");
//! let web = shop.workload("deployment/web".parse()?, options).container("web");
//!
//! let image: DigestRef = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web@sha256:\
//!                         44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".parse()?;
//! let mut rollout = web.deploy(&ResolvedImage::from(image));
//! while let Some(event) = rollout.next_event().await {
//!     // A failure is reported as `DeployEvent::Failing`, with events and logs, before the rollback.
//!     tracing::info!(?event);
//! }
//! let outcome = rollout.await?;
//! if !outcome.verdict().is_success() {
//!     tracing::error!("{}: {:?}", outcome.verdict(), outcome.failure.map(|f| f.to_string()));
//! }
//! # Ok(()) }
//! ```
//!
//! Other operations: preflight, current state, verification, drift and rollback:
//!
//! ```no_run
//! # use bp_eks::preflight::Lookups;
//! # async fn run(web: bp_eks::EksTarget, image: bp_artifact::ResolvedImage) -> Result<(), bp_eks::Error> {
//! // The changes of a dry run, denied RBAC verbs, missing Secrets, nodes of another architecture.
//! tracing::info!("{}", web.preflight(&image, &Lookups::default()).await?);
//! let current = web.current().await?;
//! let verdict = web.prove().await?.judge(&image);
//! let drift = web.drift(&image).await?;
//! let undone = web.rollback().await?;
//! let restored = web.restore(&current.stable).await?;
//! # Ok(()) }
//! ```
//!
//! The workload is `deployment/web`, `statefulset/db`, `daemonset/agent` or `job/migrate`. The template of a Job is
//! immutable: each image gets its own Job. The image of `cronjob/nightly` is that of its next Jobs, and its specification
//! proves the digest. `docs/eks-scenarios.md` lists all scenarios with their tests.
//!
//! # Differences to `kubectl rollout` and similar tools
//! - Follows the generation that *its own* apply returned; the `Available` condition of a Deployment may be about an
//!   earlier one.
//! - Watches pods, events and ReplicaSets, so that a failure is reported as soon as it shows, not after a timeout, with
//!   the container, exit code or missing Secret.
//! - Retries transient refusals of the API server (an unreachable webhook, a quota about to be freed, a conflict) for a
//!   [grace period](Options::grace): in a rollout, in its own change and in an undo.
//! - A rollout that cannot be observed does not count as failed: the verdict is
//!   [`Unobserved`](bp_artifact::Verdict::Unobserved), and a rerun of the same command resumes.
//! - Collects evidence (states, warnings, last log lines) before it rolls back to the previous revision.
//! - Reports the logs of the new pods during the rollout, [optionally](Options::live_logs) and with limits.
//! - Changes one field, the container's image (and the variables that are [set with it](Options::environment)), by
//!   server-side apply, and takes it from other field managers only with [`Options::take_over`].
//! - Deletes a StatefulSet's failing pod that blocks its own replacement, where `kubectl rollout undo` hangs.
//! - Verifies which digest the pods run.
//!
//! # Permissions
//! To connect: the IAM action `eks:DescribeCluster`, and in the cluster an access entry for the identity. To look up
//! [the access entry](Connector::access) of a rejected caller: `eks:DescribeAccessEntry` and
//! `eks:ListAccessEntries`. To roll out, a Role in the namespace:
//!
//! | resources | verbs |
//! |---|---|
//! | `deployments.apps`, `statefulsets.apps`, `daemonsets.apps` | `get`, `list`, `watch`, `patch`; `update` for undo |
//! | `jobs.batch` | `get`, `list`, `watch`, `create` |
//! | `cronjobs.batch` | `get`, `patch` |
//! | `replicasets.apps` of Deployments, `controllerrevisions.apps` of the others | `list`, `watch` |
//! | `pods` | `list`, `watch`; of StatefulSets also `delete` |
//! | `events` | `list`, `watch`; without them causes are less exact |
//! | `pods/log` | `get`; without it neither live logs nor log lines in the evidence |
//!
//! # Modules
//! - [`check`]: a smoke test by a Kubernetes Job, with a verdict and the last log lines.
//! - [`connect`]: a `kube::Client` from a cluster's name, and access entries of rejected callers.
//! - [`manifests`]: [`Manifests`] creates and updates all objects of a directory, and watches their workloads to one
//!   verdict.
//! - [`options`]: options of a rollout, including [live logs](options::LiveLogs). [`preflight`]: checks before it.
//! - [`traffic`]: [`BlueGreen`] stages an image next to the live one and moves all traffic of a Service atomically;
//!   [`IngressSwitch`] moves an Ingress from one permanent Service to another; [`WeightedTraffic`] shifts the traffic of
//!   an Application Load Balancer or an HTTPRoute between them in steps.
//! - `helm` (feature `helm`): `HelmRelease` upgrades a release with the `helm` program, with evidence, rollback and
//!   verified digests.
//! - [`pull_secret`]: [`PullSecret`] renews the Secret with which a cluster pulls from Amazon ECR.
//! - [`workload`]: rollout status of workloads. [`error`]: errors of a rollout.
//!
//! Each public function lists its RBAC verbs.
//!
//! # Features
//! - `iam`: preflight checks the IAM roles of pods (`preflight::Lookups::iam`). Off by default: adds an AWS SDK.
//! - `elbv2`: reads the health of load balancer targets while traffic is shifted. Off by default: adds an AWS SDK.
//! - `helm`: [the module `helm`](#modules). Off by default: adds an HTTP server and process management.
//!
//! The crate selects no version of the Kubernetes API: the binary enables one of `k8s-openapi`'s version features.
#![cfg_attr(docsrs, feature(doc_cfg))]
// A new cause, verdict or kind of workload must be decided at each place that distinguishes them.
#![deny(clippy::wildcard_enum_match_arm)]

mod answer;
mod api;
pub mod check;
mod cluster;
pub mod connect;
mod ending;
pub mod error;
#[cfg(feature = "helm")]
pub mod helm;
pub mod manifests;
mod namespace;
mod object;
pub mod options;
pub mod preflight;
pub mod pull_secret;
mod record;
mod rollout;
mod target;
pub mod traffic;
pub mod workload;

pub use aws_sdk_eks;
#[cfg(feature = "elbv2")]
pub use aws_sdk_elasticloadbalancingv2;
#[cfg(feature = "iam")]
pub use aws_sdk_iam;
pub use bp_artifact::deploy::OnFailure;
pub use cluster::Cluster;
pub use connect::{ConnectError, Connector, from_kubeconfig};
pub use error::Error;
#[cfg(feature = "helm")]
pub use helm::{HelmError, HelmRelease};
pub use k8s_openapi;
pub use kube;
pub use manifests::{Manifests, ManifestsError};
pub use namespace::Namespace;
pub use options::Options;
pub use pull_secret::PullSecret;
pub use target::{EksTarget, Rollout};
pub use traffic::{BlueGreen, IngressSwitch, TrafficError, WeightedTraffic};
