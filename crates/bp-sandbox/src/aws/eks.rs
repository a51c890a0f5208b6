//! The model of the service `eks`: the clusters of the sandbox, described.

use serde_json::json;

use super::{
    Aws,
    wire::{Answer, ApiError, Call},
};

/// The service has no state of its own: the clusters have.
#[derive(Debug, Default)]
pub(super) struct Eks {}

impl Eks {
    pub(super) async fn call(&self, aws: &Aws, call: &Call) -> Answer {
        match (call.operation.as_str(), call.path.as_slice()) {
            ("DescribeCluster", [_, name]) => describe(aws, call, name),
            ("ListClusters", _) => {
                let names = clusters(aws, call).into_iter().map(|found| found.name).collect::<Vec<_>>();
                Ok(json!({ "clusters": names, "nextToken": null }))
            }
            _ => Err(call.unknown()),
        }
    }
}

/// What the API tells of one cluster.
struct Found {
    name: String,
    endpoint: String,
    authority: String,
    version: String,
    created_at: String,
}

/// The clusters of the caller's account and region.
#[cfg(feature = "kube")]
fn clusters(aws: &Aws, call: &Call) -> Vec<Found> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let Some(shared) = aws.shared.upgrade() else { return Vec::new() };
    let ours = |cluster: &&std::sync::Arc<crate::kube::Cluster>| {
        let options = cluster.options();
        options.account == call.account && options.region == call.region
    };
    let found = |cluster: &std::sync::Arc<crate::kube::Cluster>| Found {
        name: cluster.name().to_owned(),
        endpoint: match shared.listening(cluster.host()) {
            Some(address) => format!("https://{address}"),
            None => format!("https://{}", cluster.host()),
        },
        authority: STANDARD.encode(shared.authority().pem()),
        version: cluster.options().version.clone(),
        created_at: cluster.created_at(),
    };
    shared.clusters().values().filter(ours).map(found).collect()
}

#[cfg(not(feature = "kube"))]
fn clusters(_: &Aws, _: &Call) -> Vec<Found> {
    Vec::new()
}

fn describe(aws: &Aws, call: &Call, name: &str) -> Answer {
    let Some(found) = clusters(aws, call).into_iter().find(|found| found.name == name) else {
        let message = format!("No cluster found for name: {name}.");
        return Err(ApiError::new(404, "ResourceNotFoundException", message));
    };
    let created: f64 = found.created_at.parse::<jiff::Timestamp>().map_or(0.0, |t| t.as_second() as f64);
    let (account, region) = (&call.account, &call.region);
    Ok(json!({ "cluster": {
        "name": name,
        "arn": format!("arn:aws:eks:{region}:{account}:cluster/{name}"),
        "createdAt": created,
        "version": found.version,
        "endpoint": found.endpoint,
        "roleArn": format!("arn:aws:iam::{account}:role/eks-cluster"),
        "status": "ACTIVE",
        "certificateAuthority": { "data": found.authority },
        "platformVersion": "eks.1",
        "tags": {},
        "accessConfig": { "authenticationMode": "API_AND_CONFIG_MAP" },
        "identity": { "oidc": { "issuer": format!("https://oidc.eks.{region}.amazonaws.com/id/SANDBOX") } },
    } }))
}

/// The API's name of what a method and path ask for.
pub(super) fn operation(method: &http::Method, path: &[String]) -> String {
    match (method, path) {
        (&http::Method::GET, [clusters]) if clusters == "clusters" => "ListClusters".to_owned(),
        (&http::Method::GET, [clusters, _]) if clusters == "clusters" => "DescribeCluster".to_owned(),
        _ => format!("{method} /{}", path.join("/")),
    }
}
