//! Manifests and CronJobs on a real kube-apiserver with its controllers.

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{Cause, Revision},
    error::{Classified, ErrorClass},
};
use bp_eks::{Cluster, Manifests, ManifestsError, manifests::ManifestSet};

use super::super::real::{EXITS, READY_LATER, RUNS, RUNS_TOO, Real, image, options};

const RBAC: &str = include_str!("../../../../docs/iam/deploy-manifests-rbac.yaml");

/// A shop, in the wrong order.
const SHOP: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: web }
spec: { rules: [{ host: shop.example.com, http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } }] } }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  progressDeadlineSeconds: 60
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      serviceAccountName: web
      terminationGracePeriodSeconds: 1
      containers:
      - { name: web, image: "registry.example.com/shop/web:latest", envFrom: [{ secretRef: { name: web } }] }
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: queue }
spec:
  replicas: 1
  serviceName: queue
  selector: { matchLabels: { app: queue } }
  template:
    metadata: { labels: { app: queue } }
    spec: { terminationGracePeriodSeconds: 1, containers: [{ name: queue, image: shop/web }] }
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: nightly }
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec: { template: { spec: { restartPolicy: Never, containers: [{ name: report, image: shop/web }] } } }
---
apiVersion: v1
kind: List
items:
- { apiVersion: v1, kind: Service, metadata: { name: web }, spec: { selector: { app: web }, ports: [{ port: 80 }] } }
- { apiVersion: v1, kind: ConfigMap, metadata: { name: web }, data: { COLOUR: blue } }
- { apiVersion: v1, kind: Secret, metadata: { name: web }, stringData: { PASSWORD: hunter2, OLD: x } }
- { apiVersion: v1, kind: ServiceAccount, metadata: { name: web } }
"#;

async fn real(name: &str) -> Real {
    let real = Real::new(name).await;
    real.apply(&RBAC.replace("namespace: shop", &format!("namespace: {}", real.namespace))).await;
    real
}

async fn manifests(real: &Real, user: &str, text: &str) -> Manifests {
    let set = ManifestSet::parse(text, "shop.yaml").unwrap();
    let options = options(60).take_over(false);
    Cluster::new(real.client(user).await, "e2e").namespace(&real.namespace).manifests("shop", set, options)
}

async fn deploy(manifests: &Manifests, image: &ResolvedImage) -> Result<Outcome, ManifestsError> {
    manifests.deploy(image).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn manifests_are_created_changed_rolled_back_and_applied_again_without_changes() {
    let real = real("manifests").await;
    let shop = manifests(&real, "deployer", SHOP).await;
    let plan = shop.plan(&image(RUNS)).await.unwrap();
    assert_eq!(plan.objects.len(), 8, "{plan}");
    assert!(plan.to_string().contains("deployment/web: created"), "{plan}");
    let outcome = deploy(&shop, &image(RUNS)).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    let first = outcome.revision.unwrap();
    assert!(first.id.starts_with("deployment:web=1 statefulset:queue=1 cronjob:nightly="), "{first:?}");
    assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 2]);
    let status = ["rollout", "status", "deployment/web", "--timeout=20s"];
    real.admin(&status).await;

    let state = async || {
        let workloads =
            ["get", "deployment,statefulset,cronjob", "-o", "jsonpath={.items[*].metadata.generation}"];
        let others = [
            "get",
            "configmap/web",
            "secret/web",
            "ingress/web",
            "-o",
            "jsonpath={.items[*].metadata.resourceVersion}",
        ];
        (real.admin(&workloads).await, real.admin(&others).await)
    };
    let before = state().await;
    let again = deploy(&shop, &image(RUNS)).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    assert_eq!(state().await, before);
    assert!(shop.drift(&image(RUNS)).await.unwrap().is_none());

    // A value of the Secret that is removed from the file is removed.
    let changed = SHOP.replace("blue", "green").replace(", OLD: x", "");
    let shop = manifests(&real, "deployer", &changed).await;
    let plan = shop.plan(&image(READY_LATER)).await.unwrap().to_string();
    assert!(plan.contains("configmap/web: changed\n  ~ data.COLOUR: blue -> green"), "{plan}");
    assert!(plan.contains("- data.OLD: <hidden>") && !plan.contains("hunter2"), "{plan}");
    let outcome = deploy(&shop, &image(READY_LATER)).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    assert_eq!(real.admin(&["get", "secret", "web", "-o", "jsonpath={.data.OLD}"]).await, "");

    let outcome = deploy(&shop, &image(EXITS)).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    assert_eq!(real.running().await, vec![image(READY_LATER).reference.to_string(); 2]);

    // Back to the first revision, without the files.
    let alone = manifests(&real, "deployer", "").await;
    let back = alone.restore(&Revision::new(workloads(&first.id), first.image.as_str())).await.unwrap();
    assert_eq!(back.verdict(), Verdict::Deployed, "{back:?}");
    assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 2]);
    real.leave().await;
}

/// Without the CronJob, whose image has changed twice since.
fn workloads(id: &str) -> String {
    id.split(' ').filter(|part| !part.starts_with("cronjob:")).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn manifests_report_conflicts_and_invalid_objects_before_any_change() {
    let real = real("manifests-refused").await;
    real.apply(&SHOP.replace("shop/web }]", "\"registry.example.com/shop/web:1\" }]")).await;
    let shop = manifests(&real, "deployer", SHOP).await;
    let error = deploy(&shop, &image(RUNS_TOO)).await.unwrap_err();
    let ManifestsError::Invalid { problems, .. } = &error else { panic!("{error}") };
    let web = problems.iter().find(|problem| problem.object == "deployment/web").unwrap();
    assert_eq!(web.conflicts[0].manager, "kubectl-client-side-apply");
    assert!(web.conflicts[0].field.ends_with(".containers[name=\"web\"].image"), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);

    let broken =
        "apiVersion: v1\nkind: Service\nmetadata: { name: new }\nspec: { ports: [{ port: 99999 }] }\n---\n";
    let unknown = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: typo }\ndatas: { a: b }\n---\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: web }\nspec: { containers: [{ name: web, image: shop/web }] }\n";
    let shop = manifests(&real, "admin", &format!("{broken}{unknown}{pod}")).await;
    let error = deploy(&shop, &image(RUNS)).await.unwrap_err().to_string();
    assert!(error.contains("service/new (shop.yaml, document 1)") && error.contains("99999"), "{error}");
    assert!(error.contains("configmap/typo") && error.contains("datas"), "{error}");
    let missing = real.kubectl("admin", &["get", "pod/web"]).output().await.unwrap();
    assert!(!missing.status.success(), "nothing was changed");
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn manifests_create_a_namespace_and_custom_resources() {
    let real = Real::new("manifests-kinds").await;
    let (group, space) = (format!("{}.example.com", real.namespace), format!("{}-new", real.namespace));
    let text = format!(
        "apiVersion: {group}/v1\nkind: Shop\nmetadata: {{ name: one }}\nspec: {{ size: 3 }}\n---\n\
         apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{ name: shops.{group} }}\n\
         spec:\n  group: {group}\n  scope: Namespaced\n  names: {{ plural: shops, singular: shop, kind: Shop }}\n  versions:\n  \
         - name: v1\n    served: true\n    storage: true\n    schema: {{ openAPIV3Schema: {{ type: object, properties: {{ spec: \
         {{ type: object, properties: {{ size: {{ type: integer }} }} }} }} }} }}\n---\n{SHOP}---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {space} }}\n"
    );
    let set = ManifestSet::parse(&text, "shop.yaml").unwrap();
    let shop =
        Cluster::new(real.client("admin").await, "e2e").namespace(&space).manifests("shop", set, options(60));
    let error = deploy(&shop, &image(RUNS)).await.unwrap_err();
    assert!(matches!(error, ManifestsError::Outside { .. }), "{error}");
    let shop = shop.outside_namespace(true);
    let outcome = deploy(&shop, &image(RUNS)).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    let size = ["get", &format!("shops.{group}"), "one", "-n", &space, "-o", "jsonpath={.spec.size}"];
    assert_eq!(real.admin(&size).await, "3");
    let again = deploy(&shop, &image(RUNS)).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    real.admin(&["delete", "crd", &format!("shops.{group}"), "--wait=false"]).await;
    real.admin(&["delete", "namespace", &space, "--wait=false"]).await;
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn cron_job_gets_the_image_of_its_next_jobs() {
    let real = Real::new("cron").await;
    let cron = format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{ name: web }}\nspec:\n  schedule: \"0 3 1 1 *\"\n  jobTemplate:\n    \
         spec: {{ template: {{ spec: {{ restartPolicy: Never, containers: [{{ name: web, image: \"{}\" }}] }} }} }}\n",
        image(NEVER).reference
    );
    real.apply(&cron).await;
    real.admin(&["create", "job", "running", "--from=cronjob/web"]).await;
    let target = real.target("cronjob/web", options(60)).await;
    let outcome = target.deploy(&image(RUNS_TOO)).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    assert!(
        outcome.detail.contains("job/running is in progress and keeps the earlier image"),
        "{}",
        outcome.detail
    );
    // Creation times have seconds only.
    real.admin(&["delete", "job", "running"]).await;
    real.admin(&["create", "job", "next", "--from=cronjob/web"]).await;
    let wanted = ["get", "job", "next", "-o", "jsonpath={.spec.template.spec.containers[0].image}"];
    assert_eq!(real.admin(&wanted).await, image(RUNS_TOO).reference.to_string());
    real.admin(&["wait", "--for=condition=complete", "job/next", "--timeout=60s"]).await;
    let status = target.status().await.unwrap();
    assert!(status.state.contains("job/next, is complete"), "{}", status.state);
    let back = target.rollback().await.unwrap();
    assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
    real.leave().await;
}

/// A Job with it never ends.
const NEVER: &str = "404";
