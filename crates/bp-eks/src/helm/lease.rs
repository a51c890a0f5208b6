//! Lock a Helm release with a Kubernetes Lease, which is renewed while a run works and expires when the run dies.
//!
//! A foreign Lease counts as expired, as in leader election, when it has not changed for its whole duration by the
//! local clock; clocks need not be synchronized.

use std::time::Duration;

use bp_artifact::time::TimeSource;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, ResourceExt, api::PostParams};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::Instrument as _;

use super::error::HelmError;
use crate::object::ObjectRef;

/// Annotation: the revision of the release that the holder was creating.
const REVISION: &str = "bp-eks/helm-revision";
/// How long a Lease is valid after its last renewal.
pub(super) const DURATION: Duration = Duration::from_secs(15);

/// The configuration of a release's Lease.
#[derive(Clone)]
pub(super) struct LeaseConfig {
    pub(super) api: Api<Lease>,
    pub(super) object: ObjectRef,
    pub(super) release: String,
    pub(super) time: TimeSource,
}

/// A held Lease. On drop it is no longer renewed, and expires.
pub(super) struct HeldLease {
    lease_config: LeaseConfig,
    lease: watch::Receiver<Lease>,
    valid: Validity,
    notes: tokio::sync::mpsc::UnboundedSender<String>,
    renewing: JoinHandle<()>,
    /// The revision that the previous holder was creating. That holder is dead or has released the Lease.
    pub(super) inherited: Option<u32>,
}

/// Reports whether the Lease is still held.
#[derive(Clone)]
pub(super) struct Validity(watch::Receiver<Renewal>);

/// The result of the latest renewal.
#[derive(Debug, Clone)]
enum Renewal {
    /// Renewed at this time.
    Done(Instant),
    /// Another run acquired the Lease, or it was deleted.
    Taken,
    /// Renewal failed for the whole duration of the Lease, for this reason.
    Failed(String),
}

impl Validity {
    /// Whether the last renewal is recent enough that no other run can hold the Lease.
    pub(super) fn holds(&self) -> bool {
        matches!(&*self.0.borrow(), Renewal::Done(at) if at.elapsed() < DURATION)
    }

    /// Completes when the Lease is lost, with the reason if renewal failed.
    pub(super) async fn lost(&mut self) -> Option<String> {
        let lost = self.0.wait_for(|renewal| !matches!(renewal, Renewal::Done(_))).await;
        match lost.as_deref() {
            Ok(Renewal::Failed(why)) => Some(why.clone()),
            // The renewal task has ended.
            Ok(Renewal::Done(_) | Renewal::Taken) | Err(_) => None,
        }
    }
}

/// The name of a release's Lease.
pub(super) fn name(release: &str) -> String {
    format!("bp-eks-helm-{release}")
}

impl LeaseConfig {
    fn name(&self) -> String {
        name(&self.release)
    }

    fn claim(&self, lease: &mut Lease, holder: &str) {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(holder.to_owned());
        spec.lease_duration_seconds = Some(DURATION.as_secs() as i32);
        spec.renew_time = Some(MicroTime(self.time.now()));
    }

    /// Acquires the Lease: immediately when it is free, after its duration when its holder is dead.
    pub(super) async fn acquire(self, holder: &str) -> Result<HeldLease, HelmError> {
        let mut watched: Option<(String, Instant)> = None;
        loop {
            let found = self.api.get_opt(&self.name()).await;
            let Some(mut lease) = found.map_err(|e| self.object.error("get leases", e))? else {
                let mut lease = Lease { spec: Some(LeaseSpec::default()), ..Lease::default() };
                lease.metadata.name = Some(self.name());
                self.claim(&mut lease, holder);
                match self.api.create(&PostParams::default(), &lease).await {
                    Ok(lease) => return Ok(self.hold(lease, None)),
                    Err(kube::Error::Api(status)) if status.is_already_exists() => continue,
                    Err(e) => return Err(self.object.error("create leases", e).into()),
                }
            };
            let version = lease.resource_version().unwrap_or_default();
            let other = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
            let other = other.filter(|other| !other.is_empty() && other != holder);
            match (&watched, other) {
                (Some((seen, _)), Some(holder)) if *seen != version => {
                    return Err(HelmError::Busy { release: self.release.clone(), holder });
                }
                (Some((_, since)), Some(_)) if since.elapsed() < DURATION => sleep(DURATION / 8).await,
                (None, Some(_)) => watched = Some((version, Instant::now())),
                _ => {
                    let inherited = lease.annotations().get(REVISION).and_then(|text| text.parse().ok());
                    self.claim(&mut lease, holder);
                    match self.api.replace(&self.name(), &PostParams::default(), &lease).await {
                        Ok(lease) => return Ok(self.hold(lease, inherited)),
                        Err(kube::Error::Api(status)) if status.code == 409 => watched = None,
                        Err(e) => return Err(self.object.error("update leases", e).into()),
                    }
                }
            }
        }
    }

    fn hold(self, lease: Lease, inherited: Option<u32>) -> HeldLease {
        let (leases, lease) = watch::channel(lease);
        let (renewed, valid) = watch::channel(Renewal::Done(Instant::now()));
        let (notes, noted) = tokio::sync::mpsc::unbounded_channel();
        let renewing = tokio::spawn(renew(self.clone(), leases, renewed, noted).in_current_span());
        HeldLease { lease_config: self, lease, valid: Validity(valid), notes, renewing, inherited }
    }
}

/// Renews until the Lease is taken or its duration has passed without a renewal: then it is lost.
async fn renew(
    lease_config: LeaseConfig,
    leases: watch::Sender<Lease>,
    renewed: watch::Sender<Renewal>,
    mut noted: tokio::sync::mpsc::UnboundedReceiver<String>,
) {
    let mut last = Instant::now();
    let end = loop {
        let note = timeout(DURATION / 4, noted.recv()).await;
        let mut lease = leases.borrow().clone();
        if let Ok(Some(note)) = note {
            lease.annotations_mut().insert(REVISION.to_owned(), note);
        }
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        lease_config.claim(&mut lease, &holder);
        let at = Instant::now();
        let (name, params) = (lease_config.name(), PostParams::default());
        let why = match timeout(DURATION / 4, lease_config.api.replace(&name, &params, &lease)).await {
            Ok(Ok(lease)) => {
                last = at;
                leases.send_replace(lease);
                renewed.send_replace(Renewal::Done(at));
                continue;
            }
            // Another run holds it.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => break Renewal::Taken,
            Ok(Err(error)) => lease_config.object.error("update leases", error).without_advice(),
            Err(_) => "the API server did not answer in time".to_owned(),
        };
        if last.elapsed() >= DURATION {
            break Renewal::Failed(why);
        }
    };
    renewed.send_replace(end);
}

impl HeldLease {
    pub(super) fn validity(&self) -> Validity {
        self.valid.clone()
    }

    /// Records on the Lease which revision is being created, and waits until that is written.
    pub(super) async fn record_revision(&mut self, revision: u32) -> Result<(), HelmError> {
        let text = revision.to_string();
        let lost = || HelmError::LeaseLost { release: self.lease_config.release.clone() };
        self.notes.send(text.clone()).map_err(|_| lost())?;
        let written = |lease: &Lease| lease.annotations().get(REVISION) == Some(&text);
        self.lease.wait_for(written).await.map(drop).map_err(|_| lost())
    }

    /// Releases the Lease, so that the next run need not wait.
    pub(super) async fn release(&self) {
        self.renewing.abort();
        let mut lease = self.lease.borrow().clone();
        lease.spec.get_or_insert_default().holder_identity = None;
        // If this fails, the Lease expires.
        let _ =
            self.lease_config.api.replace(&self.lease_config.name(), &PostParams::default(), &lease).await;
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use serde_json::json;

    use super::*;
    use crate::object::ObjectRef;

    /// A held Lease whose renewals are answered with `status`.
    fn held(status: u16) -> HeldLease {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let body = json!({ "kind": "Status", "code": status, "reason": "Unauthorized", "message": "no" });
            Ok::<_, std::convert::Infallible>(
                Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap(),
            )
        });
        let lease_config = LeaseConfig {
            api: Api::namespaced(Client::new(service, "shop"), "shop"),
            object: ObjectRef::all("prod", "shop", "lease").named("bp-eks-helm-web"),
            release: "web".to_owned(),
            time: TimeSource::system(),
        };
        lease_config.hold(Lease { spec: Some(LeaseSpec::default()), ..Lease::default() }, None)
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_a_lease_for_its_duration_when_renewal_fails() {
        let begun = Instant::now();
        let held = held(401);
        let why = held.validity().lost().await;
        assert!(why.is_some_and(|why| why.contains("401")));
        assert!((DURATION..DURATION * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert!(!held.validity().holds());
    }

    #[tokio::test(start_paused = true)]
    async fn loses_a_lease_immediately_on_conflict() {
        let begun = Instant::now();
        assert_eq!(held(409).validity().lost().await, None);
        assert!(begun.elapsed() < DURATION, "{:?}", begun.elapsed());
    }
}
