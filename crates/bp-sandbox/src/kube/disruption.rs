//! PodDisruptionBudgets: their status, and evictions.

use serde_json::{Value, json};

use super::{
    call::Call,
    pods,
    selector::selects,
    status::{Answer, Failure},
    store::{Key, Object},
    world::{World, is_ready, number},
};

/// Updates the status of every budget.
pub(super) fn reconcile(world: &mut World) {
    for budget in world.store.list("poddisruptionbudgets", "").cloned().collect::<Vec<_>>() {
        let text = |field: &str| budget["metadata"][field].as_str().unwrap_or_default();
        let status = status(world, &budget);
        world.update(&Key::new("poddisruptionbudgets", text("namespace"), text("name")), |budget| {
            budget["status"] = status;
        });
    }
}

fn status(world: &World, budget: &Value) -> Value {
    let pods = covered(world, budget);
    let (expected, healthy) =
        (expected(world, &pods), pods.iter().filter(|pod| pods::is_available(pod)).count() as i64);
    let spec = &budget["spec"];
    let desired = match (&spec["minAvailable"], &spec["maxUnavailable"]) {
        (Value::Null, Value::Null) => 1,
        (Value::Null, allowed) => (expected - share(allowed, expected)).max(0),
        (wanted, _) => share(wanted, expected),
    };
    json!({
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": if expected > 0 { (healthy - desired).max(0) } else { 0 },
        "observedGeneration": budget["metadata"]["generation"],
    })
}

/// A number, or a share of the pods, rounded up.
fn share(value: &Value, pods: i64) -> i64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    percent.map_or_else(|| number(value), |percent| (pods.saturating_mul(percent) + 99) / 100)
}

fn covered(world: &World, budget: &Value) -> Vec<Object> {
    let namespace = budget["metadata"]["namespace"].as_str().unwrap_or_default();
    let pods = world.store.list("pods", namespace);
    // Without a selector a budget covers no pod; an empty one covers all.
    let covers = |pod: &&Object| {
        !budget["spec"]["selector"].is_null()
            && selects(&budget["spec"]["selector"], &pod["metadata"]["labels"])
    };
    pods.filter(|pod| !pods::is_finished(pod)).filter(covers).cloned().collect()
}

/// The number of pods that the controllers of these pods want.
fn expected(world: &World, pods: &[Object]) -> i64 {
    let mut seen = Vec::new();
    let mut total = 0;
    for pod in pods {
        let owner = &pod["metadata"]["ownerReferences"][0];
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let sets =
            world.store.list("replicasets", namespace).chain(world.store.list("statefulsets", namespace));
        let set = sets.into_iter().find(|set| set["metadata"]["uid"] == owner["uid"]);
        match set {
            None => total += 1,
            Some(set) if seen.contains(&set["metadata"]["uid"]) => {}
            Some(set) => {
                total += number(&set["spec"]["replicas"]);
                seen.push(set["metadata"]["uid"].clone());
            }
        }
    }
    total
}

/// Evicts a pod, if its budget allows it.
pub(super) fn evict(world: &mut World, call: &Call<'_>, eviction: &Value) -> Answer<Value> {
    let pod = world.store.get(&call.key()).cloned();
    let pod = pod.ok_or_else(|| Failure::not_found(call.resource(), call.name()))?;
    let budgets: Vec<Object> = world
        .store
        .list("poddisruptionbudgets", call.namespace())
        .filter(|budget| {
            !budget["spec"]["selector"].is_null()
                && selects(&budget["spec"]["selector"], &pod["metadata"]["labels"])
        })
        .cloned()
        .collect();
    let counts = is_ready(&pod) && !pods::is_terminating(&pod) && !pods::is_finished(&pod);
    let dry_run = call.dry_run() || eviction["deleteOptions"]["dryRun"][0] == "All";
    match budgets.as_slice() {
        [] => {}
        _ if !counts => {}
        [budget] => take_disruption(world, budget, dry_run)?,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Failure::internal(why));
        }
    }
    if !dry_run {
        world.delete(&call.key());
    }
    Ok(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }))
}

fn take_disruption(world: &mut World, budget: &Object, dry_run: bool) -> Answer<()> {
    let status = status(world, budget);
    let text = |field: &str| budget["metadata"][field].as_str().unwrap_or_default();
    // Pods whose eviction was allowed before the controller has seen it are counted through their deletion.
    if number(&status["disruptionsAllowed"]) <= 0 {
        let why = format!(
            "The disruption budget {} needs {} healthy pods and has {} currently",
            text("name"),
            status["desiredHealthy"],
            status["currentHealthy"]
        );
        return Err(Failure::disruption_budget(&why));
    }
    if !dry_run {
        let key = Key::new("poddisruptionbudgets", text("namespace"), text("name"));
        world.update(&key, |budget| {
            budget["status"] = status.clone();
            budget["status"]["disruptionsAllowed"] = json!(number(&status["disruptionsAllowed"]) - 1);
        });
    }
    Ok(())
}
