//! EKS: the cluster can be reached, the workload can be read, and its permissions, by access reviews.

use bp_artifact::{
    config::{EksConfig, EksObject},
    deploy::preflight::{Finding, FindingState},
};
use bp_eks::preflight::Permission;

use super::{
    checks::Doctor,
    row::{Row, State},
};
use crate::Delivery;

/// What helm and `deploy-helm` need in every namespace, whatever the chart contains.
const HELM: &[(&str, &str, &str)] = &[
    ("get", "coordination.k8s.io", "leases"),
    ("create", "coordination.k8s.io", "leases"),
    ("update", "coordination.k8s.io", "leases"),
    ("get", "", "secrets"),
    ("list", "", "secrets"),
    ("create", "", "secrets"),
    ("update", "", "secrets"),
    ("delete", "", "secrets"),
    ("list", "", "pods"),
    ("watch", "", "pods"),
];

/// What `eks.restart-on-config` reads.
const CONFIGURATION: &[(&str, &str, &str)] = &[("get", "", "secrets"), ("get", "", "configmaps")];

fn permissions(list: &[(&'static str, &'static str, &'static str)]) -> Vec<Permission> {
    list.iter().map(|(verb, group, resource)| Permission { verb, group, resource }).collect()
}

impl Doctor {
    pub(super) async fn eks(&self, delivery: &Delivery) -> Vec<Row> {
        let Ok(eks) = delivery.service.eks() else { return Vec::new() };
        let check = format!("eks cluster {}", eks.cluster);
        let connected = async { Ok(connect(&check, delivery, eks).await) };
        let (client, version) = match self.within(&check, connected).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(row)) | Err(row) => return vec![row],
        };
        let mut rows = vec![Row::ok(check, format!("reachable, Kubernetes {version}"))];
        let check = match &eks.object {
            EksObject::Workload(workload) => format!("eks {}/{workload}", eks.namespace),
            EksObject::Release(release) => format!("eks {}/release {}", eks.namespace, release.name),
            EksObject::Manifests(_) => format!("eks {}/manifests", eks.namespace),
        };
        let read = async { Ok(object(&check, delivery, eks, &client).await) };
        match self.within(&check, read).await {
            Ok(found) => rows.extend(found),
            Err(row) => rows.push(row),
        }
        rows
    }
}

/// Connects to the cluster, and asks for its version.
async fn connect(check: &str, delivery: &Delivery, eks: &EksConfig) -> Result<(kube::Client, String), Row> {
    let remedy = "correct eks.cluster and region, or allow eks:DescribeCluster (docs/iam/deploy-eks.json)";
    let client = delivery.clients.try_kube(&eks.cluster, None).await;
    let client = client.map_err(|error| Row::of_error(check, &error, remedy))?;
    match client.apiserver_version().await {
        Ok(version) => Ok((client, version.git_version)),
        Err(error) => {
            let unreachable =
                "a private endpoint requires a network path: a VPN, a bastion, or a runner in the VPC";
            let state = match &error {
                kube::Error::Api(_) => State::Failed,
                _ => State::Unknown,
            };
            Err(Row::new(check, state, bp_artifact::error::chain(&error)).remedy(match state {
                State::Failed => "give the role an access entry (docs/iam/deploy-eks-rbac.yaml)",
                _ => unreachable,
            }))
        }
    }
}

/// The permissions and the state of the workload, release or manifests.
async fn object(check: &str, delivery: &Delivery, eks: &EksConfig, client: &kube::Client) -> Vec<Row> {
    let namespace = bp_eks::Cluster::new(client.clone(), &eks.cluster).namespace(&eks.namespace);
    let rbac = "docs/iam/deploy-eks-rbac.yaml";
    let permitted = format!("{check}, verbs");
    let mut rows = Vec::new();
    match &eks.object {
        EksObject::Workload(workload) => {
            let options = match delivery.eks_workload_options() {
                Ok(options) => options,
                Err(failure) => return vec![Row::of_failure(check, &failure, "correct bp.toml")],
            };
            let target = namespace.workload(workload.clone(), options);
            rows.extend(reviewed(&permitted, target.permissions().await, rbac));
            let is_denied = rows.iter().any(|row| row.state == State::Failed);
            match target.current().await {
                Ok(current) => {
                    rows.insert(0, Row::ok(check, format!("runs revision {}", current.stable.short_id())));
                }
                // The reviews list the verb already.
                Err(bp_eks::Error::Forbidden { .. }) if is_denied => {}
                Err(error) => {
                    let remedy = "create the workload, or correct eks.namespace and eks.workload";
                    rows.insert(0, Row::of_error(check, &error, remedy));
                }
            }
        }
        EksObject::Release(_) => {
            let rbac = "docs/iam/deploy-helm-rbac.yaml";
            rows.extend(reviewed(&permitted, namespace.permissions(&permissions(HELM)).await, rbac));
            let detail = "the kinds of objects of the chart: they are known only when it is rendered";
            rows.push(
                Row::new(check, State::NotTried, detail).remedy(format!("compare the Role with {rbac}")),
            );
        }
        EksObject::Manifests(_) => {
            let detail = "create and patch of the kinds in the manifests";
            let remedy = "deploy-manifests --check applies them as a dry run";
            rows.push(Row::new(check, State::NotTried, detail).remedy(remedy));
        }
    }
    if eks.restart_on_config {
        let found = namespace.permissions(&permissions(CONFIGURATION)).await;
        rows.extend(reviewed(&format!("{check}, eks.restart-on-config"), found, rbac));
    }
    rows
}

/// The rows of access reviews.
fn reviewed(check: &str, found: Result<Vec<Finding>, bp_eks::Error>, rbac: &str) -> Vec<Row> {
    let findings = match found {
        Ok(findings) => findings,
        Err(error) => {
            let remedy = format!("give the role an access entry whose group is bound to the Role of {rbac}");
            return vec![Row::of_error(check, &error, &remedy)];
        }
    };
    let row = |finding: &Finding| {
        let detail = format!("{}: {}", finding.subject, finding.message);
        let state = match finding.state {
            FindingState::Present => return Row::ok(check, detail),
            FindingState::Warning => State::Warning,
            FindingState::Missing | FindingState::Invalid | FindingState::Denied => State::Failed,
            _ => State::Unknown,
        };
        Row::new(check, state, detail).remedy(format!("add the verb to the Role ({rbac})"))
    };
    findings.iter().map(row).collect()
}
