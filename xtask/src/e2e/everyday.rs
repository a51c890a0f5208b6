//! Everyday commands of kubectl and helm, with the same expectations of the sandbox and of the real API server.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::test_run::TestRun;
use crate::{clock, command};

/// Timeout of a command.
const LIMIT: Duration = Duration::from_secs(180);

/// The namespace of all scenarios; the last one deletes it.
const NAMESPACE: &str = "everyday";

/// The clients of one server, and the images that its pods can run.
pub(super) struct Clients<'a> {
    pub(super) server: &'static str,
    /// A kubectl command with a user that may do everything.
    pub(super) kubectl: &'a dyn Fn(&[&str]) -> Result<Command>,
    pub(super) helm: &'a dyn Fn(&[&str]) -> Result<Command>,
    /// A directory for manifests and charts.
    pub(super) home: &'a Path,
    /// An image that becomes ready, and one that exits.
    pub(super) image: String,
    pub(super) broken: String,
}

/// The body of a scenario.
type Body = fn(&Clients<'_>) -> Result<String>;

pub(super) fn run(test_run: &mut TestRun, clients: &Clients<'_>) {
    let scenarios: [(&str, Body); 6] = [
        ("kubectl applies, compares, scales, restarts, undoes and deletes", everyday),
        ("kubectl's errors for unknown fields and wrong types", validation),
        ("custom resources with kubectl", custom_resources),
        ("kubectl drains a node within a disruption budget", drains),
        ("helm installs, upgrades, fails, rolls back and uninstalls", releases),
        ("kubectl deletes with owners, finalizers and namespaces", deletes),
    ];
    for (name, body) in scenarios {
        test_run.table.scenario(clients.server, name, || {
            if clients.kubectl(&["get", "namespace", NAMESPACE]).is_err() {
                clients.kubectl(&["create", "namespace", NAMESPACE])?;
            }
            let ended = body(clients);
            if ended.is_err() {
                let kinds = "deployments,replicasets,pods,poddisruptionbudgets,configmaps";
                clients.kubectl(&["delete", kinds, "--all", "--timeout=60s"])?;
            }
            ended
        });
    }
}

impl Clients<'_> {
    /// Runs kubectl, which must succeed, in the namespace of the scenario.
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output_within(LIMIT, &mut (self.kubectl)(&in_namespace(arguments))?)
    }

    fn helm(&self, arguments: &[&str]) -> Result<String> {
        command::output_within(LIMIT, &mut (self.helm)(&in_namespace(arguments))?)
    }

    /// Runs kubectl, which must fail, and checks its error.
    fn refused(&self, arguments: &[&str], expected: &[&str]) -> Result<()> {
        let ended = command::ended_within(LIMIT, &mut (self.kubectl)(&in_namespace(arguments))?)?;
        ensure!(!ended.status.success(), "kubectl {} should have failed", arguments.join(" "));
        contains(&ended.stderr, expected)
    }

    /// Writes a manifest and returns its path.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.home.join(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn deployment(&self, replicas: u32) -> String {
        deployment(&self.image, replicas)
    }
}

fn in_namespace<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--namespace", NAMESPACE]].concat()
}

/// Checks that a text contains all parts.
fn contains(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}

fn deployment(image: &str, replicas: u32) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, labels: {{ app: web }} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{ name: web, image: "{image}" }}
"#
    )
}

fn everyday(clients: &Clients<'_>) -> Result<String> {
    let (two, three) = (
        clients.file("two.yaml", &clients.deployment(2))?,
        clients.file("three.yaml", &clients.deployment(3))?,
    );
    clients.kubectl(&["apply", "-f", &two])?;
    clients.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    contains(&clients.kubectl(&["apply", "-f", &two])?, &["deployment.apps/web unchanged"])?;
    let difference =
        command::ended_within(LIMIT, &mut (clients.kubectl)(&in_namespace(&["diff", "-f", &three]))?)?;
    ensure!(difference.status.code() == Some(1), "kubectl diff should find a difference");
    contains(&difference.stdout, &["-  replicas: 2", "+  replicas: 3"])?;
    clients.refused(
        &["apply", "--server-side", "--field-manager=ci", "-f", &three],
        &["conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"],
    )?;

    let wide = clients.kubectl(&["get", "deployment,pods", "-o", "wide"])?;
    contains(
        &wide,
        &["CONTAINERS", "IMAGES", "SELECTOR", "app=web", "NODE", "NOMINATED NODE", "READINESS GATES"],
    )?;
    contains(
        &clients.kubectl(&["describe", "deployment", "web"])?,
        &[
            "2 desired | 2 updated | 2 total | 2 available | 0 unavailable",
            "RollingUpdate",
            "NewReplicaSetAvailable",
        ],
    )?;
    let explained = clients.kubectl(&["explain", "deployment.spec.strategy.rollingUpdate"])?;
    contains(&explained, &["maxSurge", "maxUnavailable", "IntOrString"])?;
    contains(&clients.kubectl(&["api-resources"])?, &["deployments", "deploy", "customresourcedefinitions"])?;
    contains(&clients.kubectl(&["auth", "can-i", "create", "deployments.apps"])?, &["yes"])?;

    clients.kubectl(&["scale", "deployment/web", "--replicas=1"])?;
    clients.kubectl(&["set", "env", "deployment/web", "COLOUR=red"])?;
    clients.kubectl(&["label", "deployment", "web", "tier=front"])?;
    clients.kubectl(&["annotate", "deployment", "web", "kubernetes.io/change-cause=red"])?;
    clients.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    clients.kubectl(&["rollout", "restart", "deployment/web"])?;
    clients.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    contains(
        &clients.kubectl(&["rollout", "history", "deployment/web"])?,
        &["REVISION", "CHANGE-CAUSE", "1 ", "2 ", "3 ", "red"],
    )?;
    clients.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"])?;
    clients.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let environment = "jsonpath={.spec.template.spec.containers[0].env}";
    let left = clients.kubectl(&["get", "deployment", "web", "-o", environment])?;
    ensure!(left.is_empty(), "the environment of revision 1 is empty: {left:?}");

    clients.kubectl(&["create", "configmap", "settings", "--from-literal=a=1"])?;
    clients.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/data/b","value":"2"}]"#,
    ])?;
    let data = clients.kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.data}"])?;
    ensure!(data == r#"{"a":"1","b":"2"}"#, "unexpected data: {data:?}");
    clients.kubectl(&["delete", "pods", "-l", "app=web", "--wait=false"])?;
    clients.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=120s"])?;
    clients.kubectl(&["delete", "deployment", "web"])?;
    clients.kubectl(&["wait", "--for=delete", "pods", "-l", "app=web", "--timeout=120s"])?;
    Ok(String::new())
}

fn validation(clients: &Clients<'_>) -> Result<String> {
    let misspelt =
        clients.deployment(1).replace("replicas:", "replica:").replace("image:", "imagee: x, image:");
    let misspelt = clients.file("misspelt.yaml", &misspelt)?;
    let unknown =
        ["unknown field \"spec.replica\"", "unknown field \"spec.template.spec.containers[0].imagee\""];
    let strict = ["Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error:"];
    clients.refused(&["create", "-f", &misspelt], &[&strict[..], &unknown].concat())?;
    // One field: the server reports any of several.
    let one = clients.file("one.yaml", &clients.deployment(1).replace("replicas:", "replica:"))?;
    let undeclared = [
        "failed to create typed patch object (everyday/web; apps/v1, Kind=Deployment)",
        ".spec.replica: field not declared in schema",
    ];
    clients.refused(&["apply", "--server-side", "-f", &one], &undeclared)?;
    let warned = command::ended_within(
        LIMIT,
        &mut (clients.kubectl)(&in_namespace(&["create", "--validate=warn", "-f", &misspelt]))?,
    )?;
    ensure!(warned.status.success(), "a warning must not fail the command: {}", warned.stderr);
    contains(&warned.stderr, &unknown)?;
    let stored = clients.kubectl(&["get", "deployment", "web", "-o", "json"])?;
    ensure!(!stored.contains("imagee"), "unknown fields are not stored");
    clients.kubectl(&["delete", "deployment", "web"])?;
    let number = clients
        .deployment(1)
        .replace("name: web, image", "env: [{ name: PORT, value: 80 }], name: web, image");
    let number = clients.file("number.yaml", &number)?;
    clients.refused(
        &["create", "-f", &number],
        &["json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"],
    )?;
    Ok(String::new())
}

const WIDGETS: &str = r#"apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.e2e.example.com }
spec:
  group: e2e.example.com
  scope: Namespaced
  names: { plural: widgets, kind: Widget, shortNames: [wd] }
  versions:
  - name: v1
    served: true
    storage: true
    subresources: { status: {} }
    additionalPrinterColumns:
    - { name: Size, type: integer, jsonPath: .spec.size }
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: { type: integer, minimum: 1 }
              mode: { type: string, enum: [fast, safe], default: safe }
          status: { type: object, x-kubernetes-preserve-unknown-fields: true }
"#;

fn widget(spec: &str) -> String {
    format!("apiVersion: e2e.example.com/v1\nkind: Widget\nmetadata: {{ name: one }}\nspec: {{ {spec} }}\n")
}

fn custom_resources(clients: &Clients<'_>) -> Result<String> {
    let definition = clients.file("widgets.yaml", WIDGETS)?;
    clients.kubectl(&["apply", "-f", &definition])?;
    clients.kubectl(&[
        "wait",
        "--for=condition=established",
        "crd/widgets.e2e.example.com",
        "--timeout=60s",
    ])?;
    let ended = with_widgets(clients);
    clients.kubectl(&["delete", "-f", &definition, "--timeout=60s"])?;
    ended?;
    clients.refused(&["get", "widgets"], &["widgets"])?;
    Ok(String::new())
}

fn with_widgets(clients: &Clients<'_>) -> Result<()> {
    let good = clients.file("widget.yaml", &widget("size: 2"))?;
    // Discovery may lag behind the condition.
    clock::poll(Duration::from_secs(30), || clients.kubectl(&["apply", "-f", &good]).ok())
        .context("the custom resource cannot be applied within 30 s")?;
    contains(&clients.kubectl(&["get", "wd"])?, &["NAME", "SIZE", "one", "2"])?;
    let mode = clients.kubectl(&["get", "widget", "one", "-o", "jsonpath={.spec.mode}"])?;
    ensure!(mode == "safe", "the default is missing: {mode:?}");
    let bad = clients.file("bad-widget.yaml", &widget("size: 0, mode: wild"))?;
    clients.refused(
        &["apply", "-f", &bad],
        &[
            "spec.size in body should be greater than or equal to 1",
            "spec.mode: Unsupported value: \"wild\": supported values: \"fast\", \"safe\"",
        ],
    )?;
    let unknown = clients.file("unknown-widget.yaml", &widget("size: 3, sise: 4"))?;
    clients.refused(&["apply", "-f", &unknown], &["strict decoding error: unknown field \"spec.sise\""])?;
    clients.refused(
        &["apply", "--server-side", "-f", &unknown],
        &[".spec.sise: field not declared in schema"],
    )?;
    clients.kubectl(&["patch", "widget", "one", "--type=merge", "-p", r#"{"spec":{"size":5}}"#])?;
    let status = r#"{"status":{"ready":true}}"#;
    clients.kubectl(&["patch", "widget", "one", "--subresource=status", "--type=merge", "-p", status])?;
    let seen = "jsonpath={.spec.size} {.status.ready} {.metadata.generation}";
    let seen = clients.kubectl(&["get", "widget", "one", "-o", seen])?;
    ensure!(seen == "5 true 2", "unexpected size, status and generation: {seen:?}");
    Ok(())
}

fn drains(clients: &Clients<'_>) -> Result<String> {
    let web = clients.file("web.yaml", &clients.deployment(1))?;
    clients.kubectl(&["apply", "-f", &web])?;
    clients.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    clients.kubectl(&["create", "pdb", "web", "--selector=app=web", "--min-available=1"])?;
    let node = "jsonpath={.items[0].spec.nodeName}";
    let node = clients.kubectl(&["get", "pods", "-l", "app=web", "-o", node])?;
    let drain = ["drain", node.as_str(), "--ignore-daemonsets", "--pod-selector=app=web", "--timeout=3s"];
    let drained = || {
        let why = "Cannot evict pod as it would violate the pod's disruption budget.";
        clients.refused(&drain, &[why])?;
        clients.kubectl(&["delete", "pdb", "web"])?;
        clients.kubectl(&[&drain[..4], &["--timeout=60s"]].concat())?;
        contains(&clients.kubectl(&["get", "node", &node])?, &["SchedulingDisabled"])
    };
    let ended = drained();
    clients.kubectl(&["uncordon", &node])?;
    clients.kubectl(&["delete", "deployment", "web"])?;
    ended.map(|()| String::new())
}

fn deletes(clients: &Clients<'_>) -> Result<String> {
    let web = clients.file("web.yaml", &clients.deployment(1))?;
    for (cascade, left) in [("foreground", false), ("background", false), ("orphan", true)] {
        clients.kubectl(&["apply", "-f", &web])?;
        clients.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
        clients.kubectl(&[
            "delete",
            "deployment",
            "web",
            &format!("--cascade={cascade}"),
            "--timeout=60s",
        ])?;
        let sets = || clients.kubectl(&["get", "replicasets", "-o", "name"]).ok().map(|sets| sets.is_empty());
        clock::poll(Duration::from_secs(60), || (sets()? != left).then_some(()))
            .with_context(|| format!("the ReplicaSets after --cascade={cascade} are not as expected"))?;
    }
    clients.kubectl(&["create", "configmap", "held"])?;
    clients.kubectl(&[
        "patch",
        "configmap",
        "held",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/held"]}}"#,
    ])?;
    clients.kubectl(&["delete", "configmap", "held", "--wait=false"])?;
    let deleted =
        clients.kubectl(&["get", "configmap", "held", "-o", "jsonpath={.metadata.deletionTimestamp}"])?;
    ensure!(!deleted.is_empty(), "an object with a finalizer remains until it is removed");
    clients.kubectl(&[
        "patch",
        "configmap",
        "held",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    clients.refused(&["get", "configmap", "held"], &["configmaps \"held\" not found"])?;
    // With the pods of the ReplicaSet that was kept.
    clients.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"])?;
    clients.refused(&["get", "namespace", NAMESPACE], &["namespaces \"everyday\" not found"])?;
    Ok(String::new())
}

/// The chart, whose Deployment has the image and the replicas of the values.
const TEMPLATE: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: {{ .Release.Name }} }
spec:
  replicas: {{ .Values.replicas }}
  selector: { matchLabels: { app: {{ .Release.Name }} } }
  template:
    metadata: { labels: { app: {{ .Release.Name }} } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {{ .Values.image | quote }}
        readinessProbe: { tcpSocket: { port: 8080 } }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: {{ .Release.Name }} }
data: { replicas: {{ .Values.replicas | quote }} }
"#;

fn releases(clients: &Clients<'_>) -> Result<String> {
    clients.file("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 0.1.0\n")?;
    clients.file("chart/values.yaml", "replicas: 1\nimage: none\n")?;
    clients.file("chart/templates/all.yaml", TEMPLATE)?;
    let chart = clients.home.join("chart").to_string_lossy().into_owned();
    let upgrade = |image: &str, replicas: u32, timeout: &str| {
        let (image, replicas) = (format!("image={image}"), format!("replicas={replicas}"));
        let options = ["--set", &image, "--set", &replicas, "--wait", "--timeout", timeout];
        clients.helm(&[&["upgrade", "--install", "shop", &chart][..], &options].concat())
    };
    upgrade(&clients.image, 1, "120s")?;
    upgrade(&clients.image, 2, "120s")?;
    let replicas = ["get", "deployment", "shop", "-o", "jsonpath={.status.readyReplicas}"];
    ensure!(clients.kubectl(&replicas)? == "2", "two replicas are ready after the upgrade");
    if upgrade(&clients.broken, 2, "8s").is_ok() {
        bail!("the upgrade to an image that exits should have failed");
    }
    ensure!(statuses(clients)? == ["superseded", "deployed", "failed"], "unexpected history");
    clients.helm(&["rollback", "shop", "2", "--wait", "--timeout", "120s"])?;
    ensure!(
        statuses(clients)? == ["superseded", "superseded", "failed", "deployed"],
        "unexpected history after the rollback"
    );
    let image = clients.kubectl(&[
        "get",
        "deployment",
        "shop",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ])?;
    ensure!(image == clients.image, "the image after the rollback is {image}");
    contains(&clients.helm(&["list"])?, &["shop-0.1.0", "deployed"])?;
    clients.helm(&["uninstall", "shop", "--wait", "--timeout", "120s"])?;
    let left = clients.kubectl(&["get", "deployments,secrets", "-o", "name"])?;
    ensure!(!left.contains("shop"), "objects are left after the release was uninstalled: {left}");
    Ok(String::new())
}

/// The status of every revision of the release.
fn statuses(clients: &Clients<'_>) -> Result<Vec<String>> {
    let history = clients.helm(&["history", "shop", "-o", "json"])?;
    let history: Value = serde_json::from_str(&history).context("helm history is not JSON")?;
    let revisions = history.as_array().context("helm history is not a list")?;
    Ok(revisions.iter().map(|revision| revision["status"].as_str().unwrap_or_default().to_owned()).collect())
}
