//! What the API calls each kind of workload.

use bp_artifact::WorkloadKind;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
};
use kube::core::ApiResource;

/// A kind of workload, the kind that keeps its revisions, and the calls as errors name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) get: &'static str,
    pub(super) create: &'static str,
    pub(super) patch: &'static str,
    pub(super) update: &'static str,
    pub(super) list_versions: &'static str,
    pub(super) watch: &'static str,
    pub(super) watch_versions: &'static str,
}

const DEPLOYMENT: Names = Names {
    get: "get deployments",
    create: "create deployments",
    patch: "patch deployments",
    update: "update deployments",
    list_versions: "list replicasets",
    watch: "watch deployments",
    watch_versions: "watch replicasets",
};

const STATEFUL_SET: Names = Names {
    get: "get statefulsets",
    create: "create statefulsets",
    patch: "patch statefulsets",
    update: "update statefulsets",
    list_versions: "list controllerrevisions",
    watch: "watch statefulsets",
    watch_versions: "watch controllerrevisions",
};

const DAEMON_SET: Names = Names {
    get: "get daemonsets",
    create: "create daemonsets",
    patch: "patch daemonsets",
    update: "update daemonsets",
    watch: "watch daemonsets",
    ..STATEFUL_SET
};

const JOB: Names = Names {
    get: "get jobs",
    create: "create jobs",
    patch: "patch jobs",
    update: "update jobs",
    list_versions: "list jobs",
    watch: "watch jobs",
    watch_versions: "watch jobs",
};

impl Names {
    pub(super) fn of(kind: WorkloadKind) -> Self {
        match kind {
            WorkloadKind::StatefulSet => STATEFUL_SET,
            WorkloadKind::DaemonSet => DAEMON_SET,
            WorkloadKind::Job => JOB,
            _ => DEPLOYMENT,
        }
    }
}

/// The resource of a kind of workload.
pub(super) fn resource(kind: WorkloadKind) -> ApiResource {
    match kind {
        WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        WorkloadKind::Job => ApiResource::erase::<Job>(&()),
        _ => ApiResource::erase::<Deployment>(&()),
    }
}

/// The resource that keeps the revisions of a kind of workload; a Job has none.
pub(super) fn versions(kind: WorkloadKind) -> Option<ApiResource> {
    match kind {
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
            Some(ApiResource::erase::<ControllerRevision>(&()))
        }
        WorkloadKind::Job => None,
        _ => Some(ApiResource::erase::<ReplicaSet>(&())),
    }
}
