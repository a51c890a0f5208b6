//! Manifests on the sandbox in memory with a paused clock: plan, first creation, changes, conflicts, failures, rollback.

mod common;

use std::{path::PathBuf, time::Duration};

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent, Target},
    error::{Classified, ErrorClass},
    saga::{Saga, SingleReceipt},
};
use bp_eks::{
    Manifests, ManifestsError, OnFailure, Options,
    manifests::{ManifestSet, PlannedAction},
};
use bp_sandbox::{Behaviour, Effect, Fault, ImageBuilder};
use serde_json::{Value, json};

use common::{REGISTRY, World, check_stream, crash};

/// Everything that a shop needs, in the wrong order, with tags.
const SHOP: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: shop }
spec: { rules: [{ host: shop.example.com }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: shop } }
  template:
    metadata: { labels: { app: shop } }
    spec:
      serviceAccountName: shop
      initContainers:
      - { name: migrate, image: shop/web }
      containers:
      - name: shop
        image: registry.example.com/shop/web:latest
        envFrom: [{ secretRef: { name: shop } }, { configMapRef: { name: shop } }]
---
apiVersion: v1
kind: List
items:
- { apiVersion: v1, kind: Service, metadata: { name: shop }, spec: { selector: { app: shop }, ports: [{ port: 80 }] } }
- { apiVersion: v1, kind: ConfigMap, metadata: { name: shop }, data: { COLOUR: blue } }
- { apiVersion: v1, kind: Secret, metadata: { name: shop }, stringData: { PASSWORD: hunter2 } }
- { apiVersion: v1, kind: ServiceAccount, metadata: { name: shop } }
- { apiVersion: v1, kind: Namespace, metadata: { name: new } }
"#;

fn options() -> Options {
    Options::new(Duration::from_secs(300)).unwrap()
}

fn in_namespace(world: &World, namespace: &str, text: &str, options: Options) -> Manifests {
    let set = ManifestSet::parse(text, "shop.yaml").unwrap();
    world.namespace_called(namespace).manifests("shop", set, options)
}

fn shop(world: &World, text: &str) -> Manifests {
    in_namespace(world, "new", text, options())
}

async fn deploy(
    manifests: &Manifests,
    image: &ResolvedImage,
) -> (Vec<DeployEvent>, Result<Outcome, ManifestsError>) {
    let mut work = manifests.deploy(image);
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    (events, work.await)
}

/// Init containers end, others run.
fn runs(world: &World, tag: &str) -> ResolvedImage {
    world.image(tag, Behaviour::default())
}

fn notices(events: &[DeployEvent]) -> String {
    let notice = |event: &DeployEvent| {
        if let DeployEvent::Notice { message, .. } = event { Some(message.clone()) } else { None }
    };
    events.iter().filter_map(notice).collect::<Vec<_>>().join("\n")
}

fn image_of(world: &World, plural: &str, namespace: &str, name: &str) -> Value {
    let object = world.cluster.object(plural, namespace, name).unwrap();
    object["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

fn deployment(name: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: {name} }}\nspec:\n  replicas: 2\n  selector: {{ matchLabels: \
         {{ app: {name} }} }}\n  template:\n    metadata: {{ labels: {{ app: {name} }} }}\n    spec: {{ containers: [{{ name: web, \
         image: \"{image}\", readinessProbe: {{ httpGet: {{ path: /, port: 80 }}, periodSeconds: 5 }} }}] }}\n"
    )
}

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("bp-eks-manifests-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[tokio::test(start_paused = true)]
async fn creates_everything_in_order_proves_the_digest_and_is_idempotent() {
    let world = World::new().await;
    let second = runs(&world, "second");
    let manifests = shop(&world, SHOP);
    let plan = manifests.plan(&second).await.unwrap();
    assert!(
        plan.changes() && plan.objects.iter().all(|object| object.action == PlannedAction::Create),
        "{plan}"
    );
    assert!(
        plan.to_string().contains("deployment/shop: created (not checked: its namespace is created first)")
    );
    assert!(world.cluster.object("namespaces", "", "new").is_none(), "a plan changes nothing");
    assert!(manifests.current().await.unwrap().is_none());

    world.sandbox.ledger().clear();
    let (events, outcome) = deploy(&manifests, &second).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    check_stream("manifests", &manifests.id(), &events, &outcome);
    assert_eq!(outcome.revision.as_ref().unwrap().id, "deployment:shop=1");
    assert_eq!(outcome.proof.observations.len(), 4, "two containers of two pods: {:?}", outcome.proof);
    let entries = world.sandbox.ledger().entries();
    let patches: Vec<&str> =
        entries.iter().filter_map(|entry| entry.operation.strip_prefix("patch ")).collect();
    let order =
        ["namespaces", "serviceaccounts", "configmaps", "secrets", "services", "deployments", "ingresses"];
    assert_eq!(patches[patches.len() - order.len()..], order);
    let pinned = second.reference.to_string();
    let object = world.cluster.object("deployments", "new", "shop").unwrap();
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!(
        (&spec["containers"][0]["image"], &spec["initContainers"][0]["image"]),
        (&json!(pinned), &json!(pinned))
    );
    assert_eq!(object["metadata"]["managedFields"][0]["manager"], "bp-eks::manifests:shop");
    assert_eq!(world.cluster.object("secrets", "new", "shop").unwrap()["data"]["PASSWORD"], "aHVudGVyMg==");
    assert!(
        !format!("{events:?} {manifests:?}").contains("hunter2") && !notices(&events).contains("aHVudGVyMg")
    );

    let version = |plural: &str| {
        world.cluster.object(plural, "new", "shop").unwrap()["metadata"]["resourceVersion"].clone()
    };
    let before = (version("configmaps"), version("deployments"));
    let (events, again) = deploy(&manifests, &second).await;
    let again = again.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    assert_eq!((version("configmaps"), version("deployments")), before);
    assert!(notices(&events).contains("7 of 7 objects are unchanged"), "{events:?}");
    assert!(manifests.drift(&second).await.unwrap().is_none());
    assert!(!manifests.drift(&world.first).await.unwrap().is_none());
    assert_eq!(manifests.prove().await.unwrap().judge(&second), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn plan_shows_changed_fields_and_hides_values_of_secrets() {
    let world = World::new().await;
    let second = runs(&world, "second");
    deploy(&shop(&world, SHOP), &second).await.1.unwrap();
    let third = runs(&world, "third");
    let changed =
        SHOP.replace("hunter2", "hunter3").replace("blue", "green").replace("replicas: 2", "replicas: 3");
    let plan = shop(&world, &changed).plan(&third).await.unwrap();
    let text = plan.to_string();
    assert!(text.contains("secret/shop: changed\n  ~ data.PASSWORD: <hidden> -> <hidden>"), "{text}");
    assert!(text.contains("configmap/shop: changed\n  ~ data.COLOUR: blue -> green"), "{text}");
    assert!(text.contains("  ~ spec.replicas: 2 -> 3"), "{text}");
    assert!(
        text.contains(&third.reference.to_string()) && text.contains("service/shop: unchanged"),
        "{text}"
    );
    let json = serde_json::to_string(&plan).unwrap();
    assert!(!text.contains("aHVudGVy") && !json.contains("aHVudGVy"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_reported_by_owner_and_field_before_any_change() {
    let world = World::new().await;
    let second = runs(&world, "second");
    // `deployment/web` was created by kubectl, with other replicas and another image.
    let text = format!(
        "{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: extra }}\n",
        deployment("web", "shop/web")
    );
    let error = deploy(&in_namespace(&world, "prod", &text, options()), &second).await.1.unwrap_err();
    let ManifestsError::Invalid { problems, of: 2 } = &error else { panic!("{error}") };
    assert_eq!(problems[0].object, "deployment/web");
    let fields: Vec<(&str, &str)> =
        problems[0].conflicts.iter().map(|c| (c.manager.as_str(), c.field.as_str())).collect();
    let image = ".spec.template.spec.containers[name=\"web\"].image";
    assert!(fields.contains(&("kubectl-client-side-apply", image)), "{fields:?}");
    assert!(fields.contains(&("kubectl-client-side-apply", ".spec.replicas")), "{fields:?}");
    assert_eq!(error.class(), ErrorClass::Refused);
    assert!(error.to_string().contains("--take-over"), "{error}");
    assert!(world.cluster.object("configmaps", "prod", "extra").is_none(), "nothing was changed");
    assert_eq!(world.running_image(), world.first.reference.to_string());

    let bold = in_namespace(&world, "prod", &text, options().take_over(true));
    let outcome = deploy(&bold, &second).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    // A deployment of the image alone, and the manifests again: both are of bp-eks.
    let third = runs(&world, "third");
    let target = world.of("web", "web", options());
    assert_eq!(target.deploy(&third).await.unwrap().verdict(), Verdict::Deployed);
    let again = deploy(&in_namespace(&world, "prod", &text, options()), &second).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, true), "{again:?}");
    // Other manifests do not take the fields.
    let set = ManifestSet::parse(&text, "other.yaml").unwrap();
    let other = world.namespace().manifests("other", set, options());
    assert!(matches!(other.deploy(&third).await, Err(ManifestsError::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn refuses_what_is_not_allowed_before_any_change() {
    let world = World::new().await;
    let second = runs(&world, "second");
    let with = |more: &str| format!("{}---\n{more}", deployment("api", "shop/web"));
    let tagged = with(&deployment("proxy", "envoyproxy/envoy:v1.31"));
    let role = with("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a, namespace: kube-system }\n");
    let class = with("apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: { name: alb }\n");
    let unknown = with("apiVersion: example.com/v1\nkind: Shop\nmetadata: { name: a }\n");
    let invalid =
        with(&deployment("broken", "shop/web").replace("labels: { app: broken }", "labels: { app: other }"));
    let secret = with("apiVersion: v1\nkind: Secret\nmetadata: { name: web }\ndata: { a: hunter2 }\n");
    world.cluster.refuse("secrets", "policy", "the value hunter2 is weak");
    for (text, reason) in [
        (tagged.as_str(), "envoyproxy/envoy:v1.31 (deployment/proxy)"),
        (&role, "configmap/a in kube-system"),
        (&class, "ingressclass/alb"),
        (&unknown, "does not serve Shop of example.com/v1"),
        (&invalid, "`selector` does not match template `labels`"),
        (
            &deployment("api", "shop/api:1"),
            "no container of the manifests has an image of registry.example.com/shop/web",
        ),
        (&secret, "secret/web"),
        ("# nothing", "no object"),
    ] {
        let error = deploy(&in_namespace(&world, "prod", text, options()), &second).await.1.unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(world.cluster.object("deployments", "prod", "api").is_none(), "{reason}");
    }
    let allowed = in_namespace(&world, "prod", &tagged, options()).allow_tags(true);
    let plan = allowed.plan(&second).await.unwrap();
    assert_eq!(plan.tags, ["envoyproxy/envoy:v1.31 (deployment/proxy)"]);
    let allowed = in_namespace(&world, "prod", &class, options()).outside_namespace(true);
    assert_eq!(deploy(&allowed, &second).await.1.unwrap().verdict(), Verdict::Deployed);
    assert!(world.cluster.object("ingressclasses", "", "alb").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_failure_rolls_back_existing_workloads_and_leaves_created_ones() {
    let world = World::new().await;
    let second = runs(&world, "second");
    let two = format!("{}---\n{}", deployment("api", "shop/web"), deployment("worker", "shop/web"));
    let manifests = in_namespace(&world, "prod", &two, options());
    assert_eq!(deploy(&manifests, &second).await.1.unwrap().verdict(), Verdict::Deployed);

    let broken = world.image("crash", crash());
    let (events, outcome) = deploy(&manifests, &broken).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert_eq!(outcome.failure.as_ref().unwrap().cause, Cause::ContainerExited);
    check_stream("rolled back", &manifests.id(), &events, &outcome);
    for name in ["api", "worker"] {
        assert_eq!(image_of(&world, "deployments", "prod", name), second.reference.to_string(), "{name}");
    }
    let failing = events.iter().filter(|event| matches!(event, DeployEvent::Failing { .. })).count();
    assert_eq!(failing, 1, "one failure of the operation");

    // A new workload has nothing to return to.
    let three = format!("{two}---\n{}", deployment("cron", "shop/web"));
    let more = in_namespace(&world, "prod", &three, options());
    let outcome = deploy(&more, &broken).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    assert!(
        outcome.detail.contains("created by this run and left in place: deployment/cron"),
        "{}",
        outcome.detail
    );
    assert_eq!(image_of(&world, "deployments", "prod", "api"), second.reference.to_string());
    assert_eq!(image_of(&world, "deployments", "prod", "cron"), broken.reference.to_string());

    let left = in_namespace(&world, "prod", &two, options().on_failure(OnFailure::Leave));
    let outcome = deploy(&left, &broken).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    assert_eq!(image_of(&world, "deployments", "prod", "api"), broken.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn the_worst_verdict_of_all_workloads_wins() {
    let world = World::new().await;
    let second = runs(&world, "second");
    // A workload of another image, by digest, that never becomes ready before the deadline.
    let slow = ImageBuilder::new().platform("linux/amd64").layer([("app", b"slow".to_vec())]).build();
    world.sandbox.registry(REGISTRY).push(&slow, "shop/other", "slow");
    world.sandbox.script(slow.digest(), Behaviour::Healthy(Duration::from_secs(900)));
    let other = format!("{REGISTRY}/shop/other@{}", slow.digest());
    let text = format!("{}---\n{}", deployment("api", "shop/web"), deployment("cache", &other));
    let manifests = in_namespace(&world, "prod", &text, options());
    let outcome = deploy(&manifests, &second).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::DeadlineExceeded, "{outcome:?}");
    assert!(outcome.detail.starts_with("deployment/cache: "), "{}", outcome.detail);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_rolls_the_workloads_back() {
    let world = World::new().await;
    let directory = temporary("receipt");
    let path = directory.join("receipt.json");
    let second = runs(&world, "second");
    let text = format!("{}---\n{}", deployment("api", "shop/web"), deployment("worker", "shop/web"));
    let manifests = in_namespace(&world, "prod", &text, options());
    deploy(&manifests, &second).await.1.unwrap();
    let third = runs(&world, "third");
    let receipt = SingleReceipt::start(&manifests, &third, &path).await.unwrap();
    assert_eq!(receipt.previous().unwrap().id, "deployment:api=1 deployment:worker=1");
    let outcome = deploy(&manifests, &third).await.1.unwrap();
    assert_eq!(outcome.revision.as_ref().unwrap().id, "deployment:api=2 deployment:worker=2");
    receipt.ended(&outcome).unwrap();

    // Without the files.
    let alone = world.namespace().manifests("shop", ManifestSet::default(), options());
    let target: std::sync::Arc<dyn Target> = std::sync::Arc::new(alone.clone());
    let receipt = Saga::rollback(vec![target], &path).await.unwrap();
    assert_eq!(receipt.rollback_verdict(), Verdict::Deployed, "{receipt:?}");
    for name in ["api", "worker"] {
        assert_eq!(image_of(&world, "deployments", "prod", name), second.reference.to_string(), "{name}");
    }
    // Revision 1 is 3 now: its earlier number is still known.
    let again = alone.restore(&bp_artifact::deploy::Revision::new(
        "deployment:api=1",
        second.reference.to_string().as_str(),
    ));
    assert_eq!(again.await.unwrap().verdict(), Verdict::Deployed);
    let previous = manifests.previous().await.unwrap();
    assert_eq!(previous.id, "deployment:api=2 deployment:worker=2");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_object_after_others_says_what_was_applied() {
    let world = World::new().await;
    let second = runs(&world, "second");
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: api }\n";
    let text = format!("{}---\n{ingress}", deployment("api", "shop/web"));
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "admission webhook \"policy\" denied the request: no",
    });
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let refused = Effect::Answer { status: 403, headers, body: body.to_string() };
    // The dry run passes.
    world.sandbox.faults().inject(Fault::new(refused).on("patch ingresses").after(1));
    let manifests = in_namespace(&world, "prod", &text, options());
    let outcome = deploy(&manifests, &second).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    let failure = outcome.failure.as_ref().unwrap();
    assert_eq!(failure.cause, Cause::AdmissionRefused);
    assert!(
        failure.message.contains("ingress/api was not applied")
            && failure.message.contains("denied the request")
    );
    assert!(failure.message.contains("1 objects before it were applied, 0 after it were not"), "{failure}");
    assert!(outcome.changed && world.cluster.object("deployments", "prod", "api").is_some());
    // The same command resumes.
    let outcome = deploy(&manifests, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_once_per_image() {
    let world = World::new().await;
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: { name: migrate }\nspec:\n  ttlSecondsAfterFinished: 60\n  template:\n    \
               spec: { restartPolicy: Never, containers: [{ name: migrate, image: shop/web }] }\n";
    let done = |tag: &str| {
        world.image(tag, Behaviour::Exits { after: Duration::from_secs(3), code: 0, log: vec![] })
    };
    let manifests = in_namespace(&world, "prod", job, options());
    for image in [done("second"), done("third")] {
        for changed in [true, false] {
            let outcome = deploy(&manifests, &image).await.1.unwrap();
            assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, changed), "{outcome:?}");
        }
    }
    let jobs = world.cluster.objects("jobs", "prod");
    assert_eq!(jobs.len(), 2, "one for each image");
    assert!(jobs.iter().all(|job| job["metadata"]["labels"]["bp-eks/derived-from"] == "migrate"));
    let failed = world.image("crash", crash());
    let broken = job.replace("spec:\n", "spec:\n  backoffLimit: 0\n");
    let manifests = in_namespace(&world, "prod", &broken, options());
    for jobs in [3, 4] {
        let outcome = deploy(&manifests, &failed).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
        assert_eq!(world.cluster.objects("jobs", "prod").len(), jobs, "a failed one is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_workload_is_watched_and_rolled_back_together() {
    let world = World::new().await;
    let pod = "metadata: { labels: { app: NAME } }, spec: { containers: [{ name: web, image: shop/web, readinessProbe: \
               { httpGet: { path: /, port: 80 }, periodSeconds: 5 } }] }";
    let of = |kind: &str, name: &str, more: &str| {
        let template = pod.replace("NAME", name);
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {more} selector: {{ matchLabels: {{ app: \
             {name} }} }}, template: {{ {template} }} }}\n---\n"
        )
    };
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: { name: nightly }\nspec: { schedule: '0 3 * * *', jobTemplate: \
                { spec: { template: { spec: { restartPolicy: Never, containers: [{ name: a, image: shop/web }] } } } } }\n";
    let text = format!(
        "{}{}{}{cron}",
        of("Deployment", "api", "replicas: 2,"),
        of("StatefulSet", "queue", "replicas: 2, serviceName: queue,"),
        of("DaemonSet", "agent", "")
    );
    let manifests = in_namespace(&world, "prod", &text, options());
    let second = runs(&world, "second");
    let outcome = deploy(&manifests, &second).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    let mut units: Vec<&str> =
        outcome.proof.observations.iter().map(|o| o.unit.split('-').next().unwrap()).collect();
    units.sort_unstable();
    units.dedup();
    assert_eq!(units, ["cronjob/nightly", "pod/agent", "pod/api", "pod/queue"]);
    let broken = world.image("crash", crash());
    let outcome = deploy(&manifests, &broken).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    for (plural, name) in [("deployments", "api"), ("statefulsets", "queue"), ("daemonsets", "agent")] {
        assert_eq!(image_of(&world, plural, "prod", name), second.reference.to_string(), "{name}");
    }
    let cron = world.cluster.object("cronjobs", "prod", "nightly").unwrap();
    let spec = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(spec["containers"][0]["image"], second.reference.to_string());
    let states = manifests.statuses().await.unwrap();
    let ids: Vec<&str> = states.iter().map(|status| status.target.as_str()).collect();
    assert_eq!(
        ids,
        ["deployment/api", "statefulset/queue", "daemonset/agent", "cronjob/nightly"]
            .map(|id| format!("eks/shop/prod/{id}"))
    );
}

#[tokio::test(start_paused = true)]
async fn resumes_a_killed_run() {
    let world = World::new().await;
    let slow = world.image("slow", Behaviour::Healthy(Duration::from_secs(20)));
    let text = format!("{}---\n{}", deployment("api", "shop/web"), deployment("worker", "shop/web"));
    let manifests = in_namespace(&world, "prod", &text, options());
    let work = manifests.deploy(&slow);
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(work);
    let (_, outcome) = deploy(&manifests, &slow).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false), "{outcome:?}");
    assert_eq!(outcome.revision.unwrap().id, "deployment:api=1 deployment:worker=1");
}

#[tokio::test(start_paused = true)]
async fn wait_follows_rollouts_of_another_run_and_rolls_back_on_request() {
    let world = World::new().await;
    let second = runs(&world, "second");
    let text = format!("{}---\n{}", deployment("api", "shop/web"), deployment("worker", "shop/web"));
    let manifests = in_namespace(&world, "prod", &text, options());
    let repository = second.reference.repository();
    assert!(manifests.deployed_image(repository).await.unwrap().is_none());
    assert!(matches!(manifests.watch(&second).await, Err(ManifestsError::NotCreated)));
    assert_eq!(deploy(&manifests, &second).await.1.unwrap().verdict(), Verdict::Deployed);
    let again = manifests.watch(&second).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");

    // A run that only starts the deployment stops when it is applied.
    for (tag, behaviour, verdict) in [
        ("slow", Behaviour::Healthy(Duration::from_secs(20)), Verdict::Deployed),
        ("crash", crash(), Verdict::FailedInPlace),
    ] {
        let image = world.image(tag, behaviour);
        let mut work = manifests.deploy(&image);
        while let Some(event) = work.next_event().await {
            if matches!(event, DeployEvent::Applied { .. }) {
                work.cancel();
            }
        }
        assert!(matches!(work.await, Err(ManifestsError::Interrupted { .. })), "{tag}");
        assert_eq!(manifests.deployed_image(repository).await.unwrap().as_ref(), Some(&image.reference));
        world.sandbox.ledger().clear();
        let outcome = manifests.watch(&image).await.unwrap();
        assert_eq!(outcome.verdict(), verdict, "{tag}: {outcome:?}");
        let changes = world.sandbox.ledger().count(|entry| {
            ["patch ", "update ", "delete "].iter().any(|verb| entry.operation.starts_with(verb))
        });
        assert_eq!(changes, 0, "{tag}: changes nothing");
    }
    let broken = world.image("crash", crash());
    let mut work = manifests.resume(&broken);
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    check_stream("resumed", &manifests.id(), &events, &outcome);
    let slow = world.image("slow", Behaviour::Healthy(Duration::from_secs(20)));
    for name in ["api", "worker"] {
        assert_eq!(image_of(&world, "deployments", "prod", name), slow.reference.to_string(), "{name}");
    }
}

/// A run that only starts the deployment cancels it at `Applied`: a refusal is rolled back nevertheless.
#[tokio::test(start_paused = true)]
async fn a_refused_object_is_rolled_back_although_the_caller_stops_at_the_change() {
    let world = World::new().await;
    let (second, third) = (runs(&world, "second"), runs(&world, "third"));
    let api = deployment("api", "shop/web");
    let manifests = in_namespace(&world, "prod", &api, options());
    assert_eq!(deploy(&manifests, &second).await.1.unwrap().verdict(), Verdict::Deployed);
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "admission webhook \"policy\" denied the request: no",
    });
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let refused = Effect::Answer { status: 403, headers, body: body.to_string() };
    world.sandbox.faults().inject(Fault::new(refused).on("patch ingresses").after(1));
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: api }\n";
    let more = in_namespace(&world, "prod", &format!("{api}---\n{ingress}"), options());
    let mut work = more.deploy(&third);
    while let Some(event) = work.next_event().await {
        if matches!(event, DeployEvent::Applied { .. }) {
            work.cancel();
        }
    }
    assert_eq!(work.await.unwrap().verdict(), Verdict::RolledBack);
    assert_eq!(image_of(&world, "deployments", "prod", "api"), second.reference.to_string());
}
