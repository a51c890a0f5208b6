//! Helm 4 on a real kube-apiserver: the real helm program through the loopback proxy.

use std::{path::PathBuf, time::Duration};

use bp_artifact::{
    Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_eks::{Cluster, HelmError, HelmRelease, OnFailure, Options};
use tokio::time::Instant;

use super::super::real::{EXITS, NEVER_READY, RUNS, RUNS_TOO, Real, image, options};

const RBAC: &str = include_str!("../../../../docs/iam/deploy-helm-rbac.yaml");

/// A chart with the conventional image values; `image` is the template of its image.
pub(crate) fn chart(name: &str, image: &str) -> PathBuf {
    let home = std::env::temp_dir().join(format!("bp-eks-chart-{name}-{}", std::process::id()));
    std::fs::create_dir_all(home.join("templates")).unwrap();
    std::fs::write(home.join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 0.1.0\n").unwrap();
    std::fs::write(
        home.join("values.yaml"),
        "replicas: 2\nimage: { repository: none, tag: none, digest: none }\n",
    )
    .unwrap();
    std::fs::write(home.join("prod.yaml"), "replicas: 3\n").unwrap();
    let template = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: {{{{ .Release.Name }}}} }}\nspec:\n  \
         replicas: {{{{ .Values.replicas }}}}\n  \
         progressDeadlineSeconds: {{{{ .Values.progressDeadlineSeconds | default 600 }}}}\n  selector: {{ matchLabels: {{ app: web }} }}\n  template:\n    metadata:\n      \
         labels: {{ app: web }}\n      annotations: {{ build: {{{{ .Values.buildVersion | default \"none\" | quote }}}} }}\n    \
         spec:\n      containers:\n      - name: web\n        image: \"{image}\"\n---\napiVersion: v1\nkind: Secret\n\
         metadata: {{ name: {{{{ .Release.Name }}}}-db }}\nstringData: {{ password: {{{{ .Values.password | default \"-\" | quote }}}} }}\n"
    );
    std::fs::write(home.join("templates/web.yaml"), template).unwrap();
    home
}

pub(crate) const BY_DIGEST: &str = "{{ .Values.image.repository }}@{{ .Values.image.digest }}";
const BY_TAG: &str = "{{ .Values.image.repository }}:{{ .Values.image.tag }}";

pub(super) async fn real(name: &str) -> Real {
    let real = Real::new(name).await;
    real.apply(&RBAC.replace("namespace: shop", &format!("namespace: {}", real.namespace))).await;
    real
}

async fn release(real: &Real, chart: &std::path::Path, options: Options) -> HelmRelease {
    let client = real.client("deployer").await;
    Cluster::new(client, "e2e")
        .namespace(&real.namespace)
        .helm("web", options)
        .chart(chart.display().to_string())
        .program(std::env::var("BP_E2E_HELM").expect("BP_E2E_HELM: the program"))
        .values_file(chart.join("prod.yaml"))
        .value("password", "hush-hush")
        .tag("1.4.2")
        .build_version("1.4.2")
}

async fn statuses(release: &HelmRelease) -> Vec<(u32, String)> {
    let history = release.history().await.unwrap();
    history.into_iter().map(|revision| (revision.revision, revision.status)).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn helm_installs_upgrades_and_rolls_back() {
    let (real, chart) = (real("helm").await, chart("good", BY_DIGEST));
    let web = release(&real, &chart, options(60)).await;
    assert_eq!(statuses(&web).await, []);
    let first = web.upgrade(&image(RUNS)).await.unwrap();
    assert_eq!((first.verdict(), first.proof.observations.len()), (Verdict::Deployed, 3), "{first:?}");
    assert_eq!(first.previous, None);

    let mut work = web.upgrade(&image(RUNS_TOO));
    let mut seen = false;
    while let Some(event) = work.next_event().await {
        if matches!(event, DeployEvent::Applied { .. }) {
            // Secrets must not be in the arguments or the environment of any process.
            seen |= processes("upgrade").iter().any(|text| text.contains("web"));
            assert!(!processes("upgrade").iter().any(|text| text.contains("hush-hush")));
        }
    }
    assert!(seen, "helm was observed while it ran");
    let second = work.await.unwrap();
    assert_eq!((second.verdict(), second.changed), (Verdict::Deployed, true), "{second:?}");
    assert_eq!(second.previous.unwrap().image, image(RUNS).reference.to_string());
    let build = "jsonpath={.spec.template.metadata.annotations.build}";
    assert_eq!(real.admin(&["get", "deployment", "web", "-o", build]).await, "1.4.2");
    let again = web.upgrade(&image(RUNS_TOO)).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");

    let back = web.rollback(None).await.unwrap();
    assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
    assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 3]);
    assert_eq!(statuses(&web).await.last().unwrap(), &(3, "deployed".to_owned()));
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
}

/// Arguments and environment of the helm processes with `word` in their arguments, from `/proc`.
fn processes(word: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let text = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    all.map(|entry| (text(entry.path().join("cmdline")), text(entry.path().join("environ"))))
        .filter(|(arguments, _)| arguments.contains("helm") && arguments.contains(word))
        .map(|(arguments, environment)| format!("{arguments} {environment}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn failed_helm_upgrade_keeps_evidence_and_rolls_back() {
    let (real, chart) = (real("helmless").await, chart("bad", BY_DIGEST));
    let web = release(&real, &chart, options(90)).await;
    web.upgrade(&image(RUNS)).await.unwrap();
    let begun = Instant::now();
    let mut work = web.upgrade(&image(EXITS));
    let (mut failing, mut back) = (None, None);
    while let Some(event) = work.next_event().await {
        match event {
            DeployEvent::Failing { failure, .. } => failing = Some((failure, begun.elapsed())),
            DeployEvent::RollingBack { .. } => back = Some(begun.elapsed()),
            _ => {}
        }
    }
    let outcome = work.await.unwrap();
    let (failure, reported) = failing.unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)), "{failure}");
    assert!(
        !failure.evidence.is_empty() && reported < back.unwrap() && reported < Duration::from_secs(20),
        "{reported:?}"
    );
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 3]);
    let seen = statuses(&web).await;
    assert_eq!(
        seen[1..],
        [(2, "failed".to_owned()), (3, "deployed".to_owned())],
        "helm was stopped in order"
    );

    let leave = release(&real, &chart, options(90).on_failure(OnFailure::Leave)).await;
    assert_eq!(leave.upgrade(&image(EXITS)).await.unwrap().verdict(), Verdict::FailedInPlace);
    // A manual rollback from a failed revision returns to the deployed one.
    let back = leave.rollback(None).await.unwrap();
    assert_eq!(back.verdict(), Verdict::Deployed, "{back:?}");
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_chart_that_ignores_the_digest_is_refused_before_anything_changes() {
    let (real, chart) = (real("helmtag").await, chart("tag", BY_TAG));
    let web = release(&real, &chart, options(60)).await;
    let error = web.upgrade(&image(RUNS)).await.unwrap_err();
    let HelmError::DigestIgnored { images, .. } = &error else { panic!("{error}") };
    assert_eq!(images, &["registry.example.com/shop/web:1.4.2"]);
    assert!(error.to_string().contains("the chart ignores image.digest"), "{error}");
    assert_eq!(statuses(&web).await, []);
    let nowhere = release(&real, std::path::Path::new("/nowhere"), options(60)).await;
    let error = nowhere.upgrade(&image(RUNS)).await.unwrap_err();
    assert!(matches!(error, HelmError::Failed { .. }) && !error.to_string().contains("hush"), "{error}");
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn recovers_a_pending_release_when_its_owner_is_dead() {
    let (real, chart) = (real("helmstuck").await, chart("stuck", BY_DIGEST));
    let web = release(&real, &chart, options(60)).await;
    web.upgrade(&image(RUNS)).await.unwrap();

    // A run is killed without any cleanup.
    let killed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (applied, begun) = tokio::sync::oneshot::channel();
    let victim = release(&real, &chart, options(60)).await;
    let keep = killed.spawn(async move {
        let mut work = victim.upgrade(&image(NEVER_READY));
        let mut applied = Some(applied);
        while let Some(event) = work.next_event().await {
            // Progress is reported once helm has applied the image.
            if matches!(event, DeployEvent::Progress { .. })
                && let Some(applied) = applied.take()
            {
                let _ = applied.send(());
            }
        }
    });
    begun.await.unwrap();
    // While it runs, another run is refused.
    let error = web.upgrade(&image(RUNS_TOO)).await.unwrap_err();
    assert!(matches!(error, HelmError::Busy { .. }), "{error}");
    keep.abort();
    killed.shutdown_background();

    let mut freed = false;
    let mut work = web.upgrade(&image(RUNS_TOO));
    while let Some(event) = work.next_event().await {
        freed |=
            matches!(&event, DeployEvent::Notice { message, .. } if message.contains("its lease expired"));
    }
    let outcome = work.await.unwrap();
    assert!(freed || statuses(&web).await[1].1 == "failed", "{outcome:?}");
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");

    // Another tool's helm is killed, which cannot be detected.
    let mut other = tokio::process::Command::new(std::env::var("BP_E2E_HELM").unwrap());
    other.args(["upgrade", "web"]).arg(&chart).args([
        "--namespace",
        &real.namespace,
        "--wait=watcher",
        "--reuse-values",
    ]);
    other.args(["--set", &format!("image.digest={}", image(NEVER_READY).digest())]);
    other.env("KUBECONFIG", std::env::var("BP_E2E_KUBECONFIG_ADMIN").unwrap());
    let mut other =
        other.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !statuses(&web).await.last().unwrap().1.starts_with("pending") {}
    other.kill().await.unwrap();
    let error = web.upgrade(&image(RUNS)).await.unwrap_err();
    assert!(matches!(error, HelmError::Pending { .. }), "{error}");
    let bold = release(&real, &chart, options(60)).await.assume_dead_after(Duration::from_millis(1));
    let outcome = bold.upgrade(&image(RUNS)).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    let _ = std::fs::remove_dir_all(chart);
    real.leave().await;
}
