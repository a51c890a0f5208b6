//! A client of the API in memory, and manifests.

use std::sync::Arc;

use bp_sandbox::{
    Body, ImageBuilder, Sandbox,
    kube::{Cluster, ClusterOptions},
    registry::RegistryOptions,
};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
pub(crate) const PODS: &str = "/api/v1/namespaces/shop/pods";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";

pub(crate) struct Api {
    pub(crate) sandbox: Sandbox,
    pub(crate) cluster: Arc<Cluster>,
}

/// A response.
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.bytes)))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.bytes.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// The status and the message of a failure.
    pub(crate) fn failure(&self) -> (u16, String) {
        (self.status, self.json()["message"].as_str().unwrap_or_default().to_owned())
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::builder()
            .registry("registry.example.com", RegistryOptions::default())
            .cluster("demo", ClusterOptions::default())
            .build();
        let image = ImageBuilder::new().platform("linux/amd64").build();
        sandbox.registry("registry.example.com").push(&image, "shop/web", "1");
        let cluster = sandbox.cluster("demo");
        cluster.create(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "first", "namespace": "shop" },
        }));
        Api { sandbox, cluster }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Seen {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.cluster.host()))
            .header("authorization", format!("Bearer {}", self.cluster.static_token()))
            .header("user-agent", "kubectl/v1.34");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.into())).unwrap();
        let response = self.sandbox.transport().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Seen { status: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Seen {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    pub(crate) async fn get_as(&self, accept: &str, path: &str) -> Seen {
        self.send(Method::GET, path, &[("accept", accept)], Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Seen {
        self.send(Method::POST, path, &[("content-type", JSON)], object.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Seen {
        self.send(Method::PUT, path, &[("content-type", JSON)], object.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Seen {
        self.send(Method::PATCH, path, &[("content-type", kind)], patch.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Seen {
        self.send(Method::DELETE, path, &[("content-type", JSON)], options.to_string()).await
    }

    /// The names of the objects of a list.
    pub(crate) async fn names(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await.json();
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// A Deployment without a namespace.
pub(crate) fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "web", "image": "registry.example.com/shop/web:1" }] },
            },
        },
    })
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "b" } })
}
