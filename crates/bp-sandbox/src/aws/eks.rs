//! Model of the Amazon EKS API: clusters, access entries and Pod Identity associations of the sandbox.

#[cfg(feature = "kube")]
use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::wire::{Answer, ApiError, Call};
#[cfg(feature = "kube")]
use crate::{
    kube::{Cluster, PodIdentity},
    sockets::Sockets,
};

/// The service. Its state is in the clusters.
#[cfg_attr(not(feature = "kube"), derive(Default))]
pub(crate) struct Eks {
    #[cfg(feature = "kube")]
    clusters: BTreeMap<String, Arc<Cluster>>,
    #[cfg(feature = "kube")]
    sockets: Arc<Sockets>,
}

impl Eks {
    #[cfg(feature = "kube")]
    pub(crate) fn new(clusters: BTreeMap<String, Arc<Cluster>>, sockets: Arc<Sockets>) -> Self {
        Eks { clusters, sockets }
    }

    pub(super) fn call(&self, call: &Call) -> Answer {
        match (call.operation.as_str(), call.path.as_slice()) {
            ("DescribeCluster", [_, name]) => describe(&self.find(call, name)?, call),
            ("ListAccessEntries", [_, name, _]) => list_entries(&self.find(call, name)?, call),
            ("DescribeAccessEntry", [_, name, _, principal]) => {
                describe_entry(&self.find(call, name)?, call, principal)
            }
            ("ListPodIdentityAssociations", [_, name, _]) => list_identities(&self.find(call, name)?, call),
            ("DescribePodIdentityAssociation", [_, name, _, id]) => {
                describe_identity(&self.find(call, name)?, call, id)
            }
            ("ListClusters", _) => {
                let names = self.clusters(call).into_iter().map(|found| found.name).collect::<Vec<_>>();
                Ok(json!({ "clusters": names, "nextToken": null }))
            }
            _ => Err(call.unknown()),
        }
    }

    /// The clusters of the caller's account and region.
    #[cfg(feature = "kube")]
    fn clusters(&self, call: &Call) -> Vec<ClusterInfo> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let in_scope = |cluster: &&Arc<Cluster>| {
            let options = cluster.options();
            options.account == call.account && options.region == call.region
        };
        let found = |cluster: &Arc<Cluster>| ClusterInfo {
            name: cluster.name().to_owned(),
            endpoint: match self.sockets.address_of(cluster.host()) {
                Some(address) => format!("https://{address}"),
                None => format!("https://{}", cluster.host()),
            },
            authority: STANDARD.encode(self.sockets.authority().pem()),
            version: cluster.options().version.clone(),
            created_at: cluster.created_at(),
            mode: cluster.mode(),
            entries: cluster.entries(),
            pod_identities: cluster.pod_identities(),
        };
        self.clusters.values().filter(in_scope).map(found).collect()
    }

    #[cfg(not(feature = "kube"))]
    fn clusters(&self, _: &Call) -> Vec<ClusterInfo> {
        Vec::new()
    }

    fn find(&self, call: &Call, name: &str) -> Result<ClusterInfo, ApiError> {
        let found = self.clusters(call).into_iter().find(|found| found.name == name);
        found.ok_or_else(|| not_found(format!("No cluster found for name: {name}.")))
    }
}

/// One cluster as the API describes it.
struct ClusterInfo {
    name: String,
    endpoint: String,
    authority: String,
    version: String,
    created_at: String,
    mode: String,
    /// The principals with an access entry; `None` when every principal of the account has one.
    entries: Option<std::collections::BTreeSet<String>>,
    pod_identities: Vec<PodIdentity>,
}

/// An association of EKS Pod Identity.
#[cfg(not(feature = "kube"))]
struct PodIdentity {
    id: String,
    namespace: String,
    service_account: String,
    role: String,
}

fn not_found(message: String) -> ApiError {
    ApiError::new(404, "ResourceNotFoundException", message)
}

fn describe(found: &ClusterInfo, call: &Call) -> Answer {
    let created: f64 = found.created_at.parse::<jiff::Timestamp>().map_or(0.0, |t| t.as_second() as f64);
    let (account, region) = (&call.account, &call.region);
    Ok(json!({ "cluster": {
        "name": found.name,
        "arn": format!("arn:aws:eks:{region}:{account}:cluster/{}", found.name),
        "createdAt": created,
        "version": found.version,
        "endpoint": found.endpoint,
        "roleArn": format!("arn:aws:iam::{account}:role/eks-cluster"),
        "status": "ACTIVE",
        "certificateAuthority": { "data": found.authority },
        "platformVersion": "eks.1",
        "tags": {},
        "accessConfig": { "authenticationMode": found.mode },
        "identity": { "oidc": { "issuer": format!("https://oidc.eks.{region}.amazonaws.com/id/SANDBOX") } },
    } }))
}

/// The access entries; an error in an authentication mode without access entries.
fn entries(found: &ClusterInfo, call: &Call) -> Result<Vec<String>, ApiError> {
    if found.mode == "CONFIG_MAP" {
        let message = "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform \
                       this operation.";
        return Err(ApiError::new(400, "InvalidRequestException", message));
    }
    let everybody = || vec![format!("arn:aws:iam::{}:user/sandbox", call.account)];
    Ok(found.entries.as_ref().map_or_else(everybody, |entries| entries.iter().cloned().collect()))
}

fn list_entries(found: &ClusterInfo, call: &Call) -> Answer {
    let entries = entries(found, call)?;
    let size = call.text("maxResults").parse().unwrap_or(100).clamp(1, 100);
    let from: usize = call.text("nextToken").parse().unwrap_or(0);
    let page: Vec<&String> = entries.iter().skip(from).take(size).collect();
    let next = (from + size < entries.len()).then(|| (from + size).to_string());
    Ok(json!({ "accessEntries": page, "nextToken": next }))
}

fn describe_entry(found: &ClusterInfo, call: &Call, principal: &str) -> Answer {
    let entries = entries(found, call)?;
    let of_account = principal.split(':').nth(4) == Some(call.account.as_str());
    let has_one = entries.iter().any(|entry| entry == principal) || (found.entries.is_none() && of_account);
    if !has_one {
        let message = format!(
            "The specified principalArn could not be found. You can view your access entries with 'aws eks \
             list-access-entries --cluster-name {}'. {principal}",
            found.name
        );
        return Err(not_found(message));
    }
    let (account, region, name) = (&call.account, &call.region, &found.name);
    Ok(json!({ "accessEntry": {
        "clusterName": name,
        "principalArn": principal,
        "kubernetesGroups": [],
        "accessEntryArn": format!("arn:aws:eks:{region}:{account}:access-entry/{name}/sandbox"),
        "username": principal,
        "type": "STANDARD",
        "tags": {},
    } }))
}

fn list_identities(found: &ClusterInfo, call: &Call) -> Answer {
    let is = |requested: &str, value: &str| requested.is_empty() || requested == value;
    let wanted = found.pod_identities.iter().filter(|one| {
        is(call.text("namespace"), &one.namespace) && is(call.text("serviceAccount"), &one.service_account)
    });
    let all: Vec<_> = wanted.map(|one| summary(found, call, one)).collect();
    Ok(json!({ "associations": all }))
}

fn describe_identity(found: &ClusterInfo, call: &Call, id: &str) -> Answer {
    let one = found.pod_identities.iter().find(|one| one.id == id);
    let one = one.ok_or_else(|| not_found(format!("No association found for id: {id}.")))?;
    let mut association = summary(found, call, one);
    association["roleArn"] = json!(one.role);
    Ok(json!({ "association": association }))
}

fn summary(found: &ClusterInfo, call: &Call, one: &PodIdentity) -> serde_json::Value {
    let (account, region, name) = (&call.account, &call.region, &found.name);
    json!({
        "clusterName": name,
        "namespace": one.namespace,
        "serviceAccount": one.service_account,
        "associationId": one.id,
        "associationArn": format!("arn:aws:eks:{region}:{account}:podidentityassociation/{name}/{}", one.id),
    })
}
