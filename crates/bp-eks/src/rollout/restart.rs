//! Annotations of the pod template that replace the pods although the image is the same: a restart on request, and one
//! when a referenced Secret or ConfigMap has changed.

use std::collections::{BTreeMap, BTreeSet};

use bp_artifact::{Digest, time::TimeSource};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};

use super::WorkloadRollout;
use crate::{
    error::Error,
    workload::{Live, references::references},
};

/// When the pods were restarted on request.
const RESTARTED_AT: &str = "bp-eks/restarted-at";
/// The checksum of the Secrets and ConfigMaps that the template refers to.
const CHECKSUM: &str = "bp-eks/config-checksum";

impl WorkloadRollout {
    /// The annotations that the pod template keeps: without them it would change.
    pub(super) fn kept_annotations(live: &Live) -> BTreeMap<String, String> {
        let annotations = &live.template()["metadata"]["annotations"];
        let kept = [RESTARTED_AT, CHECKSUM].into_iter();
        kept.filter_map(|name| Some((name.to_owned(), annotations[name].as_str()?.to_owned()))).collect()
    }

    /// The annotations that replace the pods; empty if nothing requests that.
    ///
    /// # Errors
    /// When a referenced Secret or ConfigMap cannot be read.
    pub(super) async fn restarting(&self, live: &Live) -> Result<BTreeMap<String, String>, Error> {
        let mut annotations = BTreeMap::new();
        if self.options.restart {
            annotations.insert(RESTARTED_AT.to_owned(), TimeSource::system().now().to_string());
        }
        let known = &live.template()["metadata"]["annotations"][CHECKSUM];
        // Without references there is nothing that could change.
        if self.options.restart_on_config && (known.is_string() || !references(live.template()).is_empty()) {
            let checksum = self.checksum(live).await?;
            if live.template()["metadata"]["annotations"][CHECKSUM] != checksum.as_str() {
                annotations.insert(CHECKSUM.to_owned(), checksum);
            }
        }
        Ok(annotations)
    }

    /// The checksum over all referenced objects. It contains their uids, which only those who may read an object know:
    /// a value cannot be guessed from the annotation.
    async fn checksum(&self, live: &Live) -> Result<String, Error> {
        let names: BTreeSet<(bool, String)> =
            references(live.template()).into_iter().map(|r| (r.is_secret, r.name)).collect();
        let mut bytes = Vec::new();
        for (is_secret, name) in names {
            field(&mut bytes, if is_secret { b"secret" } else { b"config" });
            field(&mut bytes, name.as_bytes());
            if is_secret {
                let found = self.api.scope.api::<Secret>().get_opt(&name).await;
                let found =
                    found.map_err(|e| self.api.scope.object("secret", &name).error("get secrets", e))?;
                if let Some(secret) = found {
                    field(&mut bytes, secret.metadata.uid.unwrap_or_default().as_bytes());
                    binary(&mut bytes, &secret.data);
                }
            } else {
                let found = self.api.scope.api::<ConfigMap>().get_opt(&name).await;
                let found = found
                    .map_err(|e| self.api.scope.object("configmap", &name).error("get configmaps", e))?;
                if let Some(map) = found {
                    field(&mut bytes, map.metadata.uid.unwrap_or_default().as_bytes());
                    for (key, value) in map.data.iter().flatten() {
                        field(&mut bytes, key.as_bytes());
                        field(&mut bytes, value.as_bytes());
                    }
                    binary(&mut bytes, &map.binary_data);
                }
            }
        }
        Ok(Digest::sha256(&bytes).hex().to_owned())
    }
}

fn binary(bytes: &mut Vec<u8>, data: &Option<BTreeMap<String, ByteString>>) {
    for (key, value) in data.iter().flatten() {
        field(bytes, key.as_bytes());
        field(bytes, &value.0);
    }
}

/// Appends a field with its length, so that two fields cannot be mistaken for one.
fn field(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend((value.len() as u64).to_be_bytes());
    bytes.extend(value);
}
