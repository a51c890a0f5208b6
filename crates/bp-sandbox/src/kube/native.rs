//! Set up, modify and inspect a cluster in tests, without HTTP.

use std::{sync::Arc, time::Duration};

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Cluster, api,
    call::Call,
    resource::{Resource, Target},
    status::Failure,
    store::{Change, Key, seconds},
    world::{condition, condition_of, is_ready},
};

/// One change of an object in the history of a cluster.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ObjectChange {
    /// When it happened, by the cluster's clock.
    pub at: Timestamp,
    /// The resource version that it created.
    pub version: u64,
    /// The object's name.
    pub name: String,
    /// The object after the change; `None` if it was removed.
    pub object: Option<Arc<Value>>,
}

impl ObjectChange {
    fn of(change: &Change) -> Self {
        let Change { at, version, key, after, .. } = change;
        ObjectChange { at: *at, version: *version, name: key.name.clone(), object: after.clone() }
    }
}

impl Cluster {
    /// The namespaces, service accounts and nodes that every cluster has.
    pub(super) fn create_defaults(&self) {
        let (nodes, architecture) = (self.options.nodes, self.options.architecture.clone());
        self.write(|world| {
            for namespace in ["default", "kube-system"] {
                let object =
                    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
                world.put(Key::new("namespaces", "", namespace), object);
            }
            for node in 0..nodes {
                let name = format!("ip-10-0-0-{}.ec2.internal", node + 10);
                let mut object = json!({
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": { "name": name, "labels": {
                        "kubernetes.io/arch": architecture,
                        "kubernetes.io/os": "linux",
                        "kubernetes.io/hostname": name,
                    } },
                    "status": { "nodeInfo": { "architecture": architecture, "operatingSystem": "linux" } },
                });
                let now = world.now;
                condition(&mut object["status"], "Ready", "True", "KubeletReady", "", now);
                world.put(Key::new("nodes", "", &name), object);
            }
        });
    }

    /// Creates an object, as `kubectl create` would; creates its namespace if it does not exist.
    ///
    /// # Panics
    /// When the kind is not supported or the object is invalid.
    pub fn create(&self, object: Value) -> Value {
        let resource = self.resource_of(&object).expect("the sandbox supports this kind");
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let target = Target {
            resource,
            namespace: resource.namespaced.then(|| namespace.clone()),
            name: None,
            subresource: None,
        };
        let manager = "kubectl-client-side-apply".to_owned();
        let call = Call { manager, ..Call::new(target, "create", "kubernetes-admin") };
        self.write(|world| {
            let space = Key::new("namespaces", "", &namespace);
            if world.store.get(&space).is_none() {
                let object =
                    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
                world.put(space, object);
            }
            match api::create(world, &call, object) {
                Ok(object) => Value::clone(&object),
                Err(failure) => panic!("{}", failure.message()),
            }
        })
    }

    /// Creates a Deployment of three replicas with a readiness probe in each container, given as name and image.
    ///
    /// # Panics
    /// When it already exists.
    pub fn deployment(&self, namespace: &str, name: &str, containers: &[(&str, &str)]) -> Value {
        let containers: Vec<Value> = containers
            .iter()
            .map(|(name, image)| {
                json!({
                    "name": name,
                    "image": image,
                    "ports": [{ "containerPort": 8080 }],
                    "readinessProbe": { "httpGet": { "path": "/ready", "port": 8080 }, "periodSeconds": 5 },
                })
            })
            .collect();
        self.create(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
            "spec": {
                "replicas": 3,
                "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": { "labels": { "app": name } },
                    "spec": { "containers": containers },
                },
            },
        }))
    }

    /// An object by the plural of its kind.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let stored = self.resources.by_plural(plural)?.stored;
        self.enter().store.get(&Key::new(stored, namespace, name)).map(|object| Value::clone(object))
    }

    /// All objects of a kind in a namespace.
    pub fn objects(&self, plural: &str, namespace: &str) -> Vec<Value> {
        let Some(resource) = self.resources.by_plural(plural) else { return Vec::new() };
        self.enter().store.list(resource.stored, namespace).map(|object| Value::clone(object)).collect()
    }

    /// The changes of the objects of a kind in a namespace, in order; of all objects, the latest 10,000 changes are kept.
    pub fn history(&self, plural: &str, namespace: &str) -> Vec<ObjectChange> {
        let Some(resource) = self.resources.by_plural(plural) else { return Vec::new() };
        self.enter().store.history(resource.stored, namespace).map(ObjectChange::of).collect()
    }

    /// Patches an object as the field manager `manager` would, with a strategic merge patch.
    ///
    /// # Panics
    /// When it does not exist or the result is invalid.
    pub fn patch(self: &Arc<Self>, manager: &str, plural: &str, namespace: &str, name: &str, patch: &Value) {
        let query = format!("fieldManager={manager}");
        self.send_patch("application/strategic-merge-patch+json", &query, plural, namespace, name, patch);
    }

    /// Applies an object server-side as the field manager `manager` would with `--force-conflicts`; that manager owns
    /// the object's fields afterwards.
    ///
    /// # Panics
    /// When the kind is not supported or the object is invalid.
    pub fn apply(self: &Arc<Self>, manager: &str, object: &Value) {
        let resource = self.resource_of(object).expect("the sandbox supports this kind");
        let field = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let query = format!("fieldManager={manager}&force=true");
        let kind = "application/apply-patch+yaml";
        self.send_patch(kind, &query, resource.plural, field("namespace"), field("name"), object);
    }

    fn send_patch(
        self: &Arc<Self>,
        content_type: &str,
        query: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) {
        let resource = self.resources.by_plural(plural).expect("the sandbox supports this kind");
        let path = match resource.group {
            "" => format!("/api/v1/namespaces/{namespace}/{plural}/{name}"),
            group => format!("/apis/{group}/{}/namespaces/{namespace}/{plural}/{name}", resource.version),
        };
        let request = http::Request::builder().method(Method::PATCH).uri(format!("{path}?{query}")).body(());
        let (parts, ()) = request.expect("constant parts").into_parts();
        let call = Call::read(&parts, "kubernetes-admin", &self.resources).expect("a valid path");
        if let Err(failure) = api::answer(self, &call, content_type, patch.to_string().as_bytes()) {
            panic!("{}", failure.message());
        }
    }

    /// Deletes an object.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        if let Some(resource) = self.resources.by_plural(plural) {
            self.write(|world| world.delete(&Key::new(resource.stored, namespace, name)));
        }
    }

    /// The resource of a manifest.
    fn resource_of(&self, object: &Value) -> Option<&'static Resource> {
        self.resources.by_kind(object["apiVersion"].as_str()?, object["kind"].as_str()?)
    }

    /// Appends lines to the log of a container.
    ///
    /// # Panics
    /// When the pod or container does not exist.
    pub fn write_log(&self, namespace: &str, pod: &str, container: &str, lines: &[&str]) {
        self.write(|world| {
            let now = world.now;
            let run = world.pods.get_mut(&Key::new("pods", namespace, pod)).expect("the pod exists");
            let mut containers = run.containers.iter_mut();
            let container =
                containers.find(|run| run.name() == container).expect("the pod has the container");
            lines.iter().for_each(|line| container.write(now, (*line).to_owned()));
        });
    }

    /// The image digests of the ready pods of a Deployment, one per container.
    pub fn running(&self, namespace: &str, deployment: &str) -> Vec<String> {
        let world = self.enter();
        let Some(object) = world.store.get(&Key::new("deployments", namespace, deployment)) else {
            return Vec::new();
        };
        let sets = world.controlled_by("replicasets", namespace, &object["metadata"]["uid"]);
        let pods =
            sets.iter().flat_map(|set| world.controlled_by("pods", namespace, &set["metadata"]["uid"]));
        let ready = pods.filter(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
        let ids = |pod: Arc<Value>| -> Vec<String> {
            let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
            statuses
                .iter()
                .filter_map(|s| Some(s["imageID"].as_str()?.split_once('@')?.1.to_owned()))
                .collect()
        };
        ready.flat_map(ids).collect()
    }

    /// Waits up to an hour (by the sandbox's clock) for a Deployment's rollout to complete; returns whether it did.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn settled(&self, namespace: &str, deployment: &str) -> bool {
        let end = self.clock.now() + Duration::from_secs(3600);
        while self.clock.now() < end {
            let due = {
                let world = self.enter();
                let done =
                    world.store.get(&Key::new("deployments", namespace, deployment)).is_some_and(|d| {
                        d["status"]["observedGeneration"] == d["metadata"]["generation"]
                            && condition_of(&d["status"], "Progressing")["reason"] == "NewReplicaSetAvailable"
                            && d["status"]["updatedReplicas"] == d["status"]["replicas"]
                    });
                if done {
                    return true;
                }
                world.next_due()
            };
            self.clock.sleep_until(due.unwrap_or(end)).await;
        }
        false
    }

    /// Denies a verb on a resource (`pods`, `pods/log`) to all users, as a missing RBAC rule does.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.rules().denied.insert((verb.to_owned(), resource.to_owned()));
    }

    /// Removes a [denial](Self::deny).
    pub fn allow(&self, verb: &str, resource: &str) {
        self.rules().denied.remove(&(verb.to_owned(), resource.to_owned()));
    }

    /// Makes an admission webhook deny all changes of a resource.
    pub fn refuse(&self, resource: &str, webhook: &str, reason: &str) {
        self.rules().webhooks.push((resource.to_owned(), webhook.to_owned(), reason.to_owned()));
    }

    /// Makes the API server reject every pod that a controller creates from now on, with this status code and message;
    /// the controllers retry with exponential back-off.
    ///
    /// ```
    /// # let sandbox = bp_sandbox::Sandbox::builder()
    /// #     .cluster("shop", bp_sandbox::kube::ClusterOptions::default()).build();
    /// # let cluster = sandbox.cluster("shop");
    /// let down = "Internal error occurred: failed calling webhook \"mpod.elbv2.k8s.aws\": failed to call webhook: \
    ///             Post \"https://aws-load-balancer-webhook-service.kube-system.svc:443/mutate-v1-pod?timeout=10s\": \
    ///             no endpoints available for service \"aws-load-balancer-webhook-service\"";
    /// cluster.refuse_pods(500, down);
    /// cluster.admit_pods();
    /// ```
    pub fn refuse_pods(&self, code: u16, message: &str) {
        self.write(|world| world.refused_pods = Some(Failure::scripted(code, message)));
    }

    /// Accepts pods again after [`refuse_pods`](Self::refuse_pods).
    pub fn admit_pods(&self) {
        self.write(|world| world.refused_pods = None);
    }

    /// Ends a pod in the phase `Failed`, as the kubelet does when it evicts or rejects one; its controller replaces it.
    /// Returns whether the pod exists and had not ended.
    ///
    /// ```
    /// # let sandbox = bp_sandbox::Sandbox::builder()
    /// #     .cluster("shop", bp_sandbox::kube::ClusterOptions::default()).build();
    /// # let cluster = sandbox.cluster("shop");
    /// assert!(!cluster.fail_pod("shop", "web-1", "Evicted", "The node was low on resource: memory. "));
    /// ```
    pub fn fail_pod(&self, namespace: &str, pod: &str, reason: &str, message: &str) -> bool {
        let key = Key::new("pods", namespace, pod);
        self.write(|world| {
            let now = world.now;
            let Some(run) = world.pods.get_mut(&key).filter(|run| run.ends.is_none() && !run.failed) else {
                return false;
            };
            run.failed = true;
            let failed = world.update(&key, |pod| {
                let status = &mut pod["status"];
                status["phase"] = json!("Failed");
                status["reason"] = json!(reason);
                status["message"] = json!(message);
                let containers = status.get_mut("containerStatuses").and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    let since = container["state"]["running"]["startedAt"].clone();
                    container["ready"] = json!(false);
                    container["started"] = json!(false);
                    if !since.is_null() {
                        container["state"] = json!({ "terminated": {
                            "exitCode": 137, "reason": "Error", "startedAt": since, "finishedAt": seconds(now),
                        } });
                    }
                }
                for kind in ["ContainersReady", "Ready"] {
                    condition(status, kind, "False", "PodFailed", "", now);
                }
            });
            if let Some(pod) = failed {
                world.event(&pod, "kubelet", "Warning", reason, message);
            }
            true
        })
    }

    /// Makes a registry reject pulls from this cluster's nodes with 403.
    pub fn deny_pulls(&self, registry: &str) {
        self.write(|world| world.denied_pulls.insert(registry.to_owned()));
    }

    /// Closes every open watch, as an API server that restarts does.
    pub fn end_watches(&self) {
        self.restarted.send_replace(());
    }

    /// Discards the change history, as etcd's compaction does: a watch from an older version gets 410 Gone.
    pub fn compact(&self) {
        self.write(|world| world.store.compact());
    }

    /// A bearer token of an administrator, for clients without AWS credentials.
    pub fn static_token(&self) -> String {
        format!("sandbox-admin-{}", self.name)
    }

    /// A kubeconfig for the API at `server` (`https://127.0.0.1:<port>`) with this certificate authority.
    pub fn kubeconfig(&self, server: &str, ca_pem: &str) -> String {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let (name, ca, token) = (&self.name, STANDARD.encode(ca_pem), self.static_token());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters:\n- name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
             users:\n- name: {name}\n  user:\n    token: {token}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n"
        )
    }

    /// The creation time, for the EKS API.
    #[cfg_attr(not(feature = "aws"), allow(dead_code))]
    pub(crate) fn created_at(&self) -> String {
        let key = Key::new("namespaces", "", "kube-system");
        let world = self.enter();
        let created = world
            .store
            .get(&key)
            .and_then(|o| o["metadata"]["creationTimestamp"].as_str().map(str::to_owned));
        created.unwrap_or_else(|| seconds(world.now))
    }
}
