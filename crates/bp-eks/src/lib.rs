//! Deploy container images by digest to Kubernetes workloads on Amazon EKS, with typed verdicts, failure causes and
//! rollback.
//!
//! ```no_run
//! use std::time::Duration;
//! use aws_credential_types::provider::SharedCredentialsProvider;
//! use bp_artifact::{DigestRef, ResolvedImage};
//! use bp_eks::{Cluster, Connector, Options};
//!
//! # async fn run(eks: aws_sdk_eks::Client, credentials: SharedCredentialsProvider) -> Result<(), Box<dyn std::error::Error>> {
//! // No kubeconfig, kubectl or AWS CLI; `bp_eks::from_kubeconfig` takes one all the same.
//! let client = Connector::new(eks, credentials, "eu-central-1", "prod").connect().await?;
//! let options = Options::new(Duration::from_secs(900))?;
//! let shop = Cluster::new(client, "prod").namespace("shop");
//! let web = shop.workload("deployment/web".parse()?, options).container("web");
//!
//! let image: DigestRef = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web@sha256:\
//!                         44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".parse()?;
//! let mut rollout = web.deploy(&ResolvedImage::from(image));
//! while let Some(event) = rollout.next_event().await {
//!     // A failure arrives here as `DeployEvent::Failing`, with events and logs, before anything is undone.
//!     tracing::info!(?event);
//! }
//! let outcome = rollout.await?;
//! if !outcome.verdict().is_success() {
//!     tracing::error!("{}: {:?}", outcome.verdict(), outcome.failure.map(|f| f.to_string()));
//! }
//! # Ok(()) }
//! ```
//!
//! The other operations: preflight, state, proof, drift and rollback:
//!
//! ```no_run
//! # use bp_eks::preflight::Lookups;
//! # async fn run(web: bp_eks::EksTarget, image: bp_artifact::ResolvedImage) -> Result<(), bp_eks::Error> {
//! // What would change, by a dry run; verbs that RBAC denies, secrets that are missing, nodes of another architecture.
//! tracing::info!("{}", web.preflight(&image, &Lookups::default()).await?);
//! let current = web.current().await?;
//! let verdict = web.prove().await?.judge(&image);
//! let drift = web.drift(&image).await?;
//! let undone = web.rollback().await?;
//! let restored = web.restore(&current.stable).await?;
//! # Ok(()) }
//! ```
//!
//! The workload is `deployment/web`, `statefulset/db`, `daemonset/agent` or `job/migrate`. Of a Job, whose template never
//! changes, one is made for each image. What happens when, row by row with its test, is in `docs/eks-scenarios.md`.
//!
//! # What it does that others do not
//! - It follows the generation that *its own* apply made; that a Deployment is available says nothing about it.
//! - It looks at pods, events and ReplicaSets, so it fails as soon as the API knows, not at a time-out, and says which
//!   container, which exit code, which secret.
//! - It waits out what the API server refuses for a while (a webhook that is down, a quota about to be freed, a conflict)
//!   for a [grace period](Options::grace), in a rollout, in its own change and in an undo.
//! - It takes nothing for a failure that it cannot observe: the verdict is then
//!   [`Unobserved`](bp_artifact::Verdict::Unobserved), and the same command resumes.
//! - It keeps the evidence (states, warnings, the last log lines) and only then goes back to what ran before.
//! - It tells what the new pods write while they are rolled out, [if asked](Options::live_logs), within bounds.
//! - It changes one field, the container's image (and the variables that are [set with it](Options::environment)), by
//!   server-side apply, and takes it from nobody unless it is [told to](Options::take_over).
//! - It does not let a StatefulSet's broken pod block its own replacement, where `kubectl rollout undo` hangs.
//! - It shows which digest the pods run.
//!
//! # Permissions
//! To connect: the IAM action `eks:DescribeCluster`, and in the cluster an access entry for the identity. To be told [why a
//! cluster refuses](Connector::access): `eks:DescribeAccessEntry` and `eks:ListAccessEntries`. To roll out, a Role in the
//! namespace:
//!
//! | resources | verbs |
//! |---|---|
//! | `deployments.apps`, `statefulsets.apps`, `daemonsets.apps` | `get`, `list`, `watch`, `patch`; `update` to undo more than an image |
//! | `jobs.batch` | `get`, `list`, `watch`, `create` |
//! | `replicasets.apps` of Deployments, `controllerrevisions.apps` of the others | `list`, `watch` |
//! | `pods` | `list`, `watch`; of StatefulSets also `delete` |
//! | `events` | `list`, `watch`: without them causes are less exact |
//! | `pods/log` | `get`: without it there are no live logs, and no log lines in the evidence |
//!
//! # Modules
//! - [`check`]: a smoke test by a Kubernetes Job, with a verdict and the last log lines.
//! - [`connect`]: a `kube::Client` from a cluster's name, and why a cluster refuses its caller.
//! - [`options`]: how a rollout is done, [live logs](options::LiveLogs) included. [`preflight`]: what is checked before it.
//! - [`traffic`]: [`BlueGreen`] stages an image beside the live one, moves all traffic of a Service atomically, and back;
//!   [`IngressSwitch`] leads an Ingress from one permanent Service to another.
//! - `helm` (feature `helm`): `HelmRelease` upgrades a release by the `helm` program, with evidence, rollback and proof.
//! - [`pull_secret`]: [`PullSecret`] keeps the Secret fresh with which a cluster pulls from Amazon ECR.
//! - [`workload`]: what the status of a workload says. [`error`]: what can fail.
//!
//! Each public function lists its RBAC verbs.
//!
//! # Features
//! - `iam`: preflight asks IAM for the roles of pods (`preflight::Lookups::iam`). Off by default: one more SDK.
//! - `helm`: [the module `helm`](#modules). Off by default: it brings a small HTTP server, processes and a reader of YAML.
//!
//! The crate picks no version of the Kubernetes API: the binary enables one of `k8s-openapi`'s version features.

mod answer;
mod api;
pub mod check;
mod cluster;
pub mod connect;
mod ending;
pub mod error;
#[cfg(feature = "helm")]
pub mod helm;
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

pub use bp_artifact::deploy::OnFailure;
pub use cluster::Cluster;
pub use connect::{ConnectError, Connector, from_kubeconfig};
pub use error::Error;
#[cfg(feature = "helm")]
pub use helm::{HelmError, HelmRelease};
pub use namespace::Namespace;
pub use options::Options;
pub use pull_secret::PullSecret;
pub use target::{EksTarget, Rollout};
pub use traffic::{BlueGreen, IngressSwitch, TrafficError};
