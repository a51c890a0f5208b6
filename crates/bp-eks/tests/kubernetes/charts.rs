//! Helm 4 on a real kube-apiserver: hooks, changes by hand, other namespaces, and a chart in a registry that requires a
//! login.

use std::{path::Path, time::Duration};

use bp_artifact::{
    Verdict,
    deploy::{DeployEvent, EvidenceKind},
};
use bp_eks::{
    Cluster, Error, HelmError, HelmRelease, Options,
    helm::{HelmFlags, VariablesForm},
    pull_secret::RegistryToken,
};
use bp_sandbox::{
    Sandbox,
    registry::{Auth, RegistryOptions},
};
use serde_json::json;
use tokio::process::Command;

use super::super::real::{EXITS, RUNS, RUNS_TOO, Real, image, options};
use super::helm::{BY_DIGEST, chart, real};

fn program() -> String {
    std::env::var("BP_E2E_HELM").expect("BP_E2E_HELM: the program")
}

async fn release(real: &Real, chart: &str, options: Options) -> HelmRelease {
    let client = real.client("deployer").await;
    Cluster::new(client, "e2e")
        .namespace(&real.namespace)
        .helm("web", options)
        .chart(chart)
        .program(program())
}

fn add(chart: &Path, name: &str, template: &str) {
    std::fs::write(chart.join("templates").join(name), template).unwrap();
}

async fn collect(
    mut work: bp_eks::helm::HelmRun,
) -> (Vec<DeployEvent>, Result<bp_artifact::Outcome, HelmError>) {
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    (events, work.await)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_failed_hook_is_explained_although_helm_deletes_it() {
    let (real, chart) = (real("helmhook").await, chart("hook", BY_DIGEST));
    let job = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {{{{ .Release.Name }}}}-migrate\n  annotations:\n    \
         helm.sh/hook: pre-upgrade\n    helm.sh/hook-delete-policy: before-hook-creation,hook-failed,hook-succeeded\nspec:\n  \
         backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: migrate\n        \
         image: {{{{ .Values.migrate | default \"{}\" | quote }}}}\n",
        image(RUNS).reference
    );
    add(&chart, "migrate.yaml", &job);
    let path = chart.display().to_string();
    let web = release(&real, &path, options(60)).await;
    assert_eq!(web.upgrade(&image(RUNS)).await.unwrap().verdict(), Verdict::Deployed);
    let fails = web.clone().set_string(format!("migrate={}", image(EXITS).reference));
    let (events, outcome) = collect(fails.upgrade(&image(RUNS_TOO))).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.exit_code, Some(3), "{failure}");
    let hook = "pre-upgrade hook job/web-migrate (web/templates/migrate.yaml): ";
    assert!(failure.message.starts_with(hook), "{failure}");
    assert!(
        failure.evidence.iter().any(|e| e.kind == EvidenceKind::Log && !e.message.is_empty()),
        "{failure:?}"
    );
    let failing = |event: &DeployEvent| matches!(event, DeployEvent::Failing { failure, .. } if failure.message.starts_with(hook));
    assert_eq!(events.iter().filter(|event| failing(event)).count(), 1, "{events:?}");
    assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 2]);
    // A hook that succeeds and is deleted does not fail the upgrade.
    assert_eq!(web.upgrade(&image(RUNS_TOO)).await.unwrap().verdict(), Verdict::Deployed);
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn changes_by_hand_are_refused_taken_over_and_found() {
    let (real, chart) = (real("helmhand").await, chart("hand", BY_DIGEST));
    let path = chart.display().to_string();
    let web = release(&real, &path, Options::new(Duration::from_secs(60)).unwrap()).await;
    assert_eq!(web.upgrade(&image(RUNS)).await.unwrap().verdict(), Verdict::Deployed);
    assert!(web.drift(&image(RUNS)).await.unwrap().is_none());
    let by_hand = format!("web={}", image(RUNS_TOO).reference);
    real.admin(&["set", "image", "deployment/web", &by_hand]).await;
    real.admin(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    let drift = web.drift(&image(RUNS)).await.unwrap();
    let image_change = |change: &&bp_artifact::deploy::Change| change.path.ends_with("containers[web].image");
    let changes: Vec<_> = drift.definition.iter().filter(image_change).collect();
    assert!(!drift.verdict.is_success() && changes.len() == 1, "{drift}");
    assert!(changes[0].to.as_ref().is_some_and(|found| found.ends_with("(set with kubectl-set)")), "{drift}");
    // The manifest is unchanged, but helm could not apply it.
    let error = web.upgrade(&image(RUNS)).await.unwrap_err();
    let HelmError::Rollout(Error::Conflict { conflicts, .. }) = &error else { panic!("{error:?}") };
    assert!(conflicts.iter().any(|conflict| conflict.manager == "kubectl-set"), "{conflicts:?}");
    assert_eq!(web.history().await.unwrap().len(), 1, "helm was not started");

    let bold = release(&real, &path, options(60)).await;
    let (events, outcome) = collect(bold.upgrade(&image(RUNS))).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    let outside = |event: &DeployEvent| matches!(event, DeployEvent::Notice { message, .. } if message.contains("changed outside of helm"));
    assert!(events.iter().any(outside), "{events:?}");
    assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 2]);

    // Helm keeps what its chart does not have.
    real.admin(&["set", "env", "deployment/web", "DEBUG=1"]).await;
    real.admin(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    assert_eq!(web.upgrade(&image(RUNS_TOO)).await.unwrap().verdict(), Verdict::Deployed);
    let drift = web.drift(&image(RUNS_TOO)).await.unwrap();
    let named = drift.definition.iter().any(|change| change.path.contains("env[DEBUG]"));
    assert!(named && drift.verdict.is_success(), "{drift}");
    let status = web.status().await.unwrap();
    assert_eq!((status.state.as_str(), status.progress.running), ("deployed", 2), "{status}");
    assert_eq!(web.watch().await.unwrap().verdict(), Verdict::Deployed);
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_workload_in_another_namespace_is_proven_there() {
    let (real, edge) = (real("helmhome").await, super::helm::real("helmedge").await);
    let chart = chart("edge", BY_DIGEST);
    let template = std::fs::read_to_string(chart.join("templates/web.yaml")).unwrap();
    let moved = template.replacen(
        "metadata: { name: {{ .Release.Name }} }",
        "metadata: { name: {{ .Release.Name }}, namespace: {{ .Values.edge }} }",
        1,
    );
    assert_ne!(template, moved);
    add(&chart, "web.yaml", &moved);
    let web = release(&real, &chart.display().to_string(), options(60))
        .await
        .value("edge", edge.namespace.as_str());
    let first = web.upgrade(&image(RUNS)).await.unwrap();
    assert_eq!((first.verdict(), first.proof.observations.len()), (Verdict::Deployed, 2), "{first:?}");
    assert_eq!(edge.running().await, vec![image(RUNS).reference.to_string(); 2]);
    let failed = web.upgrade(&image(EXITS)).await.unwrap();
    assert_eq!(failed.verdict(), Verdict::RolledBack, "{failed:?}");
    assert!(web.drift(&image(RUNS)).await.unwrap().is_none());
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
    edge.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_chart_in_a_registry_is_pulled_with_the_login() {
    const HOST: &str = "charts.example.com";
    let (real, chart) = (real("helmoci").await, chart("oci", BY_DIGEST));
    let env = "image: \"{{ .Values.image.repository }}@{{ .Values.image.digest }}\"";
    let template = std::fs::read_to_string(chart.join("templates/web.yaml")).unwrap();
    let with_env = template.replace(env, &format!("{env}\n        env: {{{{ toJson .Values.extraEnv }}}}"));
    assert_ne!(template, with_env);
    add(&chart, "web.yaml", &with_env);
    let packed =
        Command::new(program()).arg("package").arg(&chart).arg("--destination").arg(&chart).output().await;
    assert!(packed.unwrap().status.success());

    let auth = Auth::basic("AWS", "hush-hush");
    let sandbox = Sandbox::builder().registry(HOST, RegistryOptions::default().auth(auth)).build();
    let registry = sandbox.registry(HOST);
    let config = r#"{"name":"web","version":"0.1.0","apiVersion":"v2"}"#;
    let config_size = config.len();
    let config = registry.put_blob("charts/web", config);
    let archive = std::fs::read(chart.join("web-0.1.0.tgz")).unwrap();
    let size = archive.len();
    let layer = registry.put_blob("charts/web", archive);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": layer, "size": size }],
    });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let digest = registry.put_manifest("charts/web", media_type, manifest.to_string());
    registry.tag("charts/web", "0.1.0", &digest);
    let served = sandbox.serve().await.unwrap();
    let address = served.address(HOST).unwrap().to_string();

    let web = release(&real, &format!("oci://{address}/charts/web"), options(60)).await;
    let web = web.chart_version("0.1.0").flags(HelmFlags::parse(["--plain-http"]).unwrap()).variables(
        "extraEnv",
        VariablesForm::List,
        [("DEPLOY_PLATFORM", "eks")],
    );
    let error = web.upgrade(&image(RUNS)).await.unwrap_err();
    assert!(matches!(error, HelmError::Failed { .. }), "{error:?}");
    let web = web.chart_login(|registry| async move {
        Ok(Some(RegistryToken::new(registry.as_str(), "QVdTOmh1c2gtaHVzaA==", jiff::Timestamp::MAX)))
    });
    let outcome = web.upgrade(&image(RUNS)).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    let set = "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='DEPLOY_PLATFORM')].value}";
    assert_eq!(real.admin(&["get", "deployment", "web", "-o", set]).await, "eks");
    let ignored = web.variables("nowhere", VariablesForm::Map, [("MODE", "prod")]);
    let error = ignored.upgrade(&image(RUNS)).await.unwrap_err();
    assert!(matches!(error, HelmError::VariablesIgnored { .. }), "{error:?}");
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
}
