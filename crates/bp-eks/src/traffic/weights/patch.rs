//! Change the weights and the record of the shift in one request, with the resource version that was read.

use backon::BackoffBuilder;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use super::{
    WeightedPair, action,
    ramp::{self, Ramp},
    route,
    share::{Pair, shown},
    split::{Content, Split, Verb},
};
use crate::{
    api::manager::is_ours,
    error::{Conflict, Error},
    traffic::{
        api::{Applied, MANAGER, pauses},
        error::TrafficError,
    },
};

/// The result of a change of the weights.
pub(super) enum Patched {
    /// The weights are set; the object as it is now.
    Done(Box<DynamicObject>),
    /// Another client changed the weights first; what they are now.
    Superseded(String),
}

impl WeightedPair {
    /// Sets the weights, unless another client changed them since `split` was read. A change of something else leads to
    /// another attempt.
    pub(super) async fn set(
        &self,
        split: &Split,
        weights: &[Pair],
        ramp: &Ramp,
    ) -> Result<Patched, TrafficError> {
        let expected = split.weights();
        let mut pauses = pauses().build();
        let mut latest: Option<Split> = None;
        loop {
            let split = latest.as_ref().unwrap_or(split);
            if let Applied::Done(object) = self.send(split, weights, ramp).await? {
                return Ok(Patched::Done(Box::new(object)));
            }
            let Some(pause) = pauses.next() else {
                return Err(TrafficError::Contended { object: self.object() });
            };
            tokio::time::sleep(pause).await;
            let again = self.split(self.read().await?)?;
            let found = again.weights();
            // An earlier attempt succeeded, but its answer was lost.
            if found == weights && again.ramp.as_ref() == Some(ramp) {
                return Ok(Patched::Done(Box::new(again.object)));
            }
            if found != expected {
                return Ok(Patched::Superseded(shown(&found)));
            }
            latest = Some(again);
        }
    }

    async fn send(
        &self,
        split: &Split,
        weights: &[Pair],
        ramp: &Ramp,
    ) -> Result<Applied<DynamicObject>, TrafficError> {
        let version = split.object.metadata.resource_version.clone();
        let (record, ramp) = (ramp::annotation(&self.services), ramp.to_text());
        let operation = self.operation(Verb::Patch);
        match &split.content {
            Content::Rules(rules) => {
                let config = json!({
                    "apiVersion": self.resource().api_version,
                    "kind": self.resource().kind,
                    "metadata": {
                        "name": self.object.name(),
                        "resourceVersion": version,
                        "annotations": { record: ramp },
                    },
                    // The list has one owner: it is applied as a whole.
                    "spec": { "rules": route::edit(&split.object, rules, weights) },
                });
                let take_over = self.options.take_over;
                let (api, object) = (self.api(), self.reference());
                self.namespace.apply_with(&api, operation, &object, &config, take_over).await
            }
            Content::Actions(actions) => {
                let mut annotations = json!({ record: ramp });
                let mut changed = Vec::new();
                for ((key, _), pair) in actions.iter().zip(weights) {
                    let before = split.object.annotations().get(key).map(String::as_str).unwrap_or_default();
                    let edited =
                        action::edit(before, &self.services, *pair).map_err(|why| self.invalid(why))?;
                    if !is_same_json(before, &edited) {
                        annotations[key] = json!(edited);
                        changed.push(key.as_str());
                    }
                }
                self.check_owners(&split.object, &changed)?;
                let patch = json!({ "metadata": { "resourceVersion": version, "annotations": annotations } });
                let params =
                    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                match self.api().patch(self.object.name(), &params, &Patch::Merge(patch)).await {
                    Ok(object) => Ok(Applied::Done(object)),
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(Applied::Stale),
                    Err(e) => Err(self.reference().error(operation, e).into()),
                }
            }
        }
    }

    /// Fails when a foreign field manager owns one of these annotations, unless `take_over` is set.
    fn check_owners(&self, object: &DynamicObject, annotations: &[&str]) -> Result<(), TrafficError> {
        let conflicts = owners(object, annotations);
        if conflicts.is_empty() || self.options.take_over {
            return Ok(());
        }
        Err(Error::Conflict { object: Box::new(self.reference()), conflicts }.into())
    }
}

/// Whether two texts are the same JSON: then the annotation is not written anew.
fn is_same_json(one: &str, two: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    parse(one).is_some_and(|one| Some(one) == parse(two))
}

/// The foreign field managers that own one of these annotations.
fn owners(object: &DynamicObject, annotations: &[&str]) -> Vec<Conflict> {
    let entries = object.managed_fields().iter();
    let others = entries.filter(|entry| !is_ours(entry.manager.as_deref().unwrap_or_default()));
    others
        .flat_map(|entry| {
            let owned = entry.fields_v1.as_ref().map(|fields| &fields.0["f:metadata"]["f:annotations"]);
            let is_owned =
                move |key: &&&str| owned.is_some_and(|owned| owned.get(format!("f:{key}")).is_some());
            annotations.iter().filter(is_owned).map(move |key| Conflict {
                manager: entry.manager.clone().unwrap_or_default(),
                field: format!(".metadata.annotations.{key}"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_foreign_owners_of_the_changed_annotations_only() {
        let owned = |manager: &str, annotation: &str| {
            json!({ "manager": manager, "operation": "Update", "apiVersion": "networking.k8s.io/v1", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:metadata": { "f:annotations": { ".": {}, (format!("f:{annotation}")): {} } } } })
        };
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": "shop", "managedFields": [
                owned("argocd-controller", "a/web"), owned("bp-eks:traffic", "a/web"), owned("helm", "a/other"),
                { "manager": "controller", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {} },
            ] },
        }))
        .unwrap();
        let field = ".metadata.annotations.a/web".to_owned();
        assert_eq!(owners(&object, &["a/web"]), [Conflict { manager: "argocd-controller".into(), field }]);
        assert_eq!(owners(&object, &[]), []);
        assert!(is_same_json("{\"a\": 1}", "{\"a\":1}") && !is_same_json("{", "{"));
    }
}
