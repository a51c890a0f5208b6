//! Objects whose traffic is switched: a Service with two slots, and an HTTPRoute with weights.

use std::time::Duration;

use bp_examples::world::shop;
use serde_json::{Value, json};

use super::Stage;

/// What `switch-traffic` needs for the Service `site`.
pub const SITE: &[&str] = &["--env", "staging", "--take-over", "--kubernetes-service", "site"];

fn deployment(name: &str, labels: &Value, replicas: u32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            },
        },
    })
}

fn service(name: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "ports": [{ "port": 80 }], "selector": selector },
    })
}

impl Stage {
    /// Creates the Service `site`, whose slot `blue` runs version 0.9.0, and stages version 1.0.0 in `green`.
    pub async fn staged_site(&self) {
        let environment = &self.world.config.environments()[1];
        let running = format!("{}@{}", environment.services()[0].repository, shop("0.9.0").build().digest());
        let cluster = self.world.sandbox.cluster("staging");
        let labels = json!({ "app": "site", "slot": "blue" });
        cluster.create(deployment("site-blue", &labels, 2, &running));
        cluster.create(service("site", &labels));
        self.world.sandbox.clock().advance(Duration::from_secs(120));
        let end = self.run("switch-traffic", &[SITE, &["stage"]].concat()).await;
        assert_eq!(end.code, 0, "{end:?}");
        std::fs::remove_file(self.path("receipt.json")).unwrap();
    }

    /// The slot that the Service `site` selects.
    pub fn live_slot(&self) -> String {
        let service = self.world.sandbox.cluster("staging").object("services", "shop", "site").unwrap();
        service["spec"]["selector"]["slot"].as_str().unwrap().to_owned()
    }

    /// Creates the HTTPRoute `shop` with all traffic on `front-blue`, which runs version 0.8.0; `front-green` runs 1.0.0.
    pub fn weighted_front(&self) {
        let cluster = self.world.sandbox.cluster("staging");
        let host = self.world.config.environments()[1].registry().clone();
        for (slot, tag) in [("blue", "0.8.0"), ("green", "1.0.0")] {
            let image = shop(tag).build();
            self.world.sandbox.registry(host.as_str()).push(&image, "shop/web", tag);
            let labels = json!({ "app": "front", "slot": slot });
            let name = format!("front-{slot}");
            cluster.create(deployment(&name, &labels, 1, &format!("{host}/shop/web@{}", image.digest())));
            cluster.create(service(&name, &labels));
        }
        let group = "gateway.networking.k8s.io/v1";
        cluster.create(json!({
            "apiVersion": group, "kind": "Gateway", "metadata": { "name": "public", "namespace": "shop" },
            "spec": { "gatewayClassName": "x" },
        }));
        let backend = |slot: &str, weight: u32| json!({ "name": format!("front-{slot}"), "port": 80, "weight": weight });
        cluster.create(json!({
            "apiVersion": group, "kind": "HTTPRoute", "metadata": { "name": "shop", "namespace": "shop" },
            "spec": { "parentRefs": [{ "name": "public" }], "rules": [{
                "backendRefs": [backend("blue", 100), backend("green", 0)],
            }] },
        }));
        self.world.sandbox.clock().advance(Duration::from_secs(60));
    }

    /// The weights of `front-blue` and `front-green`.
    pub fn weights(&self) -> [u64; 2] {
        let route = self.world.sandbox.cluster("staging").object("httproutes", "shop", "shop").unwrap();
        [0, 1].map(|at| route["spec"]["rules"][0]["backendRefs"][at]["weight"].as_u64().unwrap())
    }
}
