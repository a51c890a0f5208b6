//! Replication of ECR registries: configure and describe it, and the status of an image. What is pushed through an API
//! afterwards arrives at the destinations after the registry's replication lag.

use std::{collections::BTreeMap, sync::Mutex};

use serde_json::{Value, json};

use super::{
    images::{ImageId, no_image},
    request::{Target, host, invalid, registry_id},
};
use crate::{
    aws::{
        context::Context,
        wire::{Answer, Call},
    },
    registry::Replica,
    sync::lock,
};

/// Registry id and region.
type RegistryKey = (String, String);

/// The configuration of each registry.
#[derive(Debug, Default)]
pub(super) struct Replication(Mutex<BTreeMap<RegistryKey, Value>>);

/// The members of a list in a request.
fn members(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

impl Replication {
    pub(super) fn put(&self, context: &Context, call: &Call) -> Answer {
        let rules = &call.input["replicationConfiguration"]["rules"];
        if members(rules).count() > 10 {
            return Err(invalid(
                "Invalid parameter at 'rules' failed to satisfy constraint: 'Member must have length less than or equal \
                 to 10'",
            ));
        }
        let mut replicas = Vec::new();
        for rule in members(rules) {
            let filters = members(&rule["repositoryFilters"]);
            let prefixes: Vec<String> =
                filters.filter_map(|filter| filter["filter"].as_str()).map(str::to_owned).collect();
            for destination in members(&rule["destinations"]) {
                let region = destination["region"].as_str().unwrap_or_default().to_owned();
                let account = destination["registryId"].as_str().unwrap_or_default().to_owned();
                if region == call.region && account == call.account {
                    return Err(invalid(
                        "Invalid parameter at 'replicationConfiguration' failed to satisfy constraint: 'Replication \
                         destination cannot be the same as the source registry'",
                    ));
                }
                let to = context.runtime.registry(&host(&account, &region));
                replicas.push(Replica::new(region, account, prefixes.clone(), to.as_ref()));
            }
        }
        if let Some(registry) = context.runtime.registry(&host(&call.account, &call.region)) {
            registry.set_replicas(replicas);
        }
        let configuration = json!({ "rules": members(rules).cloned().collect::<Vec<_>>() });
        lock(&self.0).insert((call.account.clone(), call.region.clone()), configuration.clone());
        Ok(json!({ "replicationConfiguration": configuration }))
    }

    /// `DescribeRegistry`, which has no registry id: it describes the caller's.
    pub(super) fn describe(&self, call: &Call) -> Answer {
        let all = lock(&self.0);
        let configuration = all.get(&(call.account.clone(), call.region.clone())).cloned();
        let configuration = configuration.unwrap_or_else(|| json!({ "rules": [] }));
        Ok(json!({ "registryId": call.account, "replicationConfiguration": configuration }))
    }
}

/// `DescribeImageReplicationStatus`.
pub(super) fn status(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let id = ImageId::one(&call.input["imageId"]);
    let manifest = id.stored(&target).map_err(|_| no_image(&target, &id))?;
    let status = |status: crate::registry::ReplicaStatus| {
        let mut shown = json!({
            "region": status.region,
            "registryId": status.account,
            "status": status.status,
        });
        if let Some(code) = status.failure {
            shown["failureCode"] = json!(code);
        }
        shown
    };
    let statuses = target.registry.replications(target.name, &manifest.digest);
    Ok(json!({
        "repositoryName": target.name,
        "registryId": registry_id(call),
        "imageId": id.json(Some(&manifest.digest)),
        "replicationStatuses": statuses.into_iter().map(status).collect::<Vec<_>>(),
    }))
}
