//! The manifests of examples/gitops on a real API server: a strict dry run, and the admission policy.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    super::test_run::TestRun,
    cluster::Cluster,
    control_plane::{NAMESPACE, SERVER},
    node::digest,
};
use crate::{clock, command};

/// The kustomizations of the example.
const KUSTOMIZATIONS: [&str; 3] = ["web/overlays/staging", "web/overlays/prod", "platform"];
/// How long the API server may take to enforce a new policy.
const ENFORCED: Duration = Duration::from_secs(60);

pub(super) fn run(test_run: &mut TestRun, cluster: &Cluster) {
    test_run
        .table
        .scenario(SERVER, "the manifests of the GitOps example: strict dry run", || dry_run(cluster));
    test_run.table.scenario(SERVER, "the admission policy of the GitOps example admits digests only", || {
        let checked = policy(cluster);
        // The other scenarios create workloads with tags.
        cluster.admin(&[
            "delete",
            "validatingadmissionpolicybinding,validatingadmissionpolicy",
            "images-by-digest",
        ])?;
        checked
    });
}

fn example(path: &str) -> String {
    command::root().join("examples/gitops").join(path).display().to_string()
}

fn dry_run(cluster: &Cluster) -> Result<String> {
    cluster.admin(&["create", "namespace", "argocd"])?;
    let mut objects = 0;
    let (root, applications) = (example("root.yaml"), example("apps"));
    let kustomizations = KUSTOMIZATIONS.map(example);
    let kustomizations = kustomizations.iter().map(|directory| vec!["-k", directory.as_str()]);
    for source in kustomizations.chain([vec!["-f", root.as_str(), "-f", applications.as_str()]]) {
        let flags =
            ["--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--output=name"];
        let names = cluster.admin(&[&["apply"], &source[..], &flags[..]].concat())?;
        objects += names.lines().count();
    }
    ensure!(objects >= 16, "only {objects} objects");
    Ok(format!("{objects} objects"))
}

fn policy(cluster: &Cluster) -> Result<String> {
    let file = example("platform/digests-only.yaml");
    cluster.admin(&["apply", "-f", &file])?;
    let by_tag = pod_of("registry.example.com/shop/web:1.4.2");
    let refused = clock::poll(ENFORCED, || create(cluster, &by_tag).ok()?.err());
    let refused = refused.context("the policy was not enforced")?;
    ensure!(refused.contains("images must have a digest") && refused.contains("shop/web:1.4.2"), "{refused}");
    let image = format!("registry.example.com/shop/web@{}", digest("a11"));
    for kind in [pod_of(&image), deployment_of(&image, &image)] {
        ensure!(create(cluster, &kind)?.is_ok(), "an image by digest is refused");
    }
    let mixed = deployment_of(&image, "registry.example.com/shop/init:1");
    let refused = create(cluster, &mixed)?.err().context("an init container by tag is admitted")?;
    ensure!(refused.contains("shop/init:1") && !refused.contains("shop/web"), "{refused}");
    Ok("pods and workloads, containers and init containers".to_owned())
}

/// Creates an object in a dry run: `Err` with what the API server said.
fn create(cluster: &Cluster, manifest: &str) -> Result<Result<(), String>> {
    let file = cluster.home().join("admitted.yaml");
    fs::write(&file, manifest)?;
    let path = file.display().to_string();
    let mut kubectl = cluster.kubectl("admin", &["create", "--dry-run=server", "-f", &path]);
    let output = kubectl.stdin(Stdio::null()).output()?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(message) })
}

fn pod_of(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: admitted, namespace: {NAMESPACE} }}\n\
         spec: {{ containers: [{{ name: web, image: \"{image}\" }}] }}\n"
    )
}

fn deployment_of(image: &str, init: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: admitted, namespace: {NAMESPACE} }}\n\
         spec:\n  selector: {{ matchLabels: {{ app: admitted }} }}\n  template:\n    metadata: {{ labels: {{ app: admitted }} }}\n    \
         spec:\n      initContainers: [{{ name: init, image: \"{init}\" }}]\n      \
         containers: [{{ name: web, image: \"{image}\" }}]\n"
    )
}
