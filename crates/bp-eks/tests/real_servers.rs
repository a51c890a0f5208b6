//! Rollouts on a real kube-apiserver with its controllers and scheduler, and kwok nodes; run by `cargo xtask e2e`.
//! The kwok stages write the pod status that a kubelet would report, selected by the image's digest. Previous logs do
//! not exist there; the sandbox tests cover them.

#[cfg(feature = "helm")]
mod bench;
mod real;

mod kubernetes {
    #[cfg(feature = "helm")]
    mod charts;
    mod conditions;
    #[cfg(feature = "helm")]
    pub(super) mod helm;
    mod kubectl;
    mod logs;
    mod manifests;
    mod traffic;
    mod weights;

    use std::time::Duration;

    use bp_artifact::{
        Verdict,
        deploy::{Cause, DeployEvent},
        error::{Classified, ErrorClass},
    };
    use bp_eks::{Error, OnFailure, preflight::Lookups};

    use super::real::{
        EXITS, NEVER_READY, QUOTA, READY_LATER, RUNS, RUNS_TOO, Real, daemon_set, deploy, deployment, image,
        job, options, refusing, stateful_set,
    };

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn rollout_succeeds_when_kubectl_does_and_is_verified() {
        let real = Real::with("success", &deployment(RUNS)).await;
        let target = real.target("deployment/web", options(60)).await;
        let mut work = target.deploy(&image(READY_LATER));
        // From the change on, kubectl watches too.
        let mut kubectl = None;
        while let Some(event) = work.next_event().await {
            if matches!(event, DeployEvent::Applied { .. }) {
                kubectl = Some(real.rollout_status("deployment/web", 60));
            }
        }
        let outcome = work.await.unwrap();
        let running = real.running().await;
        let said = kubectl.unwrap().wait_with_output().await.unwrap();
        assert!(said.status.success(), "{said:?}");
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
        assert_eq!(outcome.proof.observations.len(), 3, "{outcome:?}");
        assert_eq!(outcome.previous.unwrap().image, image(RUNS).reference.to_string());
        assert_eq!(running, vec![image(READY_LATER).reference.to_string(); 3], "all pods run the image");

        let (_, again) = deploy(&target, &image(READY_LATER)).await;
        let again = again.unwrap();
        assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
        let back = target.rollback().await.unwrap();
        assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
        assert_eq!(real.running().await.len(), 3);
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn reports_each_cause_while_kubectl_waits_and_rolls_back() {
        for (beginning, cause, exit) in [
            (EXITS, Cause::ContainerExited, Some(3)),
            ("dead", Cause::OutOfMemory, Some(137)),
            ("404", Cause::ImageNotFound, None),
            ("401", Cause::ImagePullDenied, None),
            ("c0de", Cause::WrongArchitecture, Some(128)),
            ("5ec", Cause::SecretMissing, None),
        ] {
            let real = Real::with(&format!("cause-{beginning}"), &deployment(RUNS)).await;
            let patience = options(60).grace(Duration::from_secs(5));
            let target = real.target("deployment/web", patience).await;
            let begun = tokio::time::Instant::now();
            let mut work = target.deploy(&image(beginning));
            let (mut kubectl, mut failing) = (None, None);
            while let Some(event) = work.next_event().await {
                match event {
                    DeployEvent::Applied { .. } => kubectl = Some(real.rollout_status("deployment/web", 60)),
                    DeployEvent::Failing { failure, .. } => {
                        failing = Some(failure);
                        // kubectl reads only the Deployment: it waits until the progress deadline.
                        let still = kubectl.as_mut().unwrap().try_wait().unwrap();
                        assert_eq!(still, None, "{beginning}: kubectl reports no failure yet");
                        assert!(begun.elapsed() < Duration::from_secs(20), "{beginning}: reported early");
                    }
                    _ => {}
                }
            }
            let outcome = work.await.unwrap();
            let failure = failing.unwrap_or_else(|| panic!("{beginning}: {outcome:?}"));
            assert_eq!((failure.cause, failure.exit_code), (cause, exit), "{beginning}: {failure}");
            assert!(!failure.evidence.is_empty(), "{beginning}");
            assert_eq!(outcome.verdict(), Verdict::RolledBack, "{beginning}: {}", outcome.detail);
            assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 3], "{beginning}");
            // Finally kubectl reports success, of the undo.
            assert!(kubectl.unwrap().wait().await.unwrap().success(), "{beginning}");
            real.leave().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn failing_probe_ends_at_the_progress_deadline_like_kubectl() {
        let real = Real::with("probe", &deployment(RUNS)).await;
        real.patch("deployment", r#"{"spec":{"progressDeadlineSeconds":6}}"#).await;
        let target = real.target("deployment/web", options(60).on_failure(OnFailure::Leave)).await;
        let outcome = deploy(&target, &image(NEVER_READY)).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.cause, Cause::HealthCheckFailed, "{failure}");
        assert!(failure.message.contains("probe failed"), "{failure}");
        let said = real.rollout_status("deployment/web", 30).wait_with_output().await.unwrap();
        let said = (said.status.success(), String::from_utf8(said.stderr).unwrap());
        assert!(!said.0 && said.1.contains("exceeded its progress deadline"), "{said:?}");
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn explains_unschedulable_pods_missing_volumes_and_quotas() {
        for (name, patch, manifest, cause, says) in [
            (
                "nowhere",
                r#"{"spec":{"progressDeadlineSeconds":6,"template":{"spec":{"nodeSelector":{"disk":"nvme"}}}}}"#,
                "",
                Cause::Unschedulable,
                "didn't match Pod's node affinity/selector",
            ),
            (
                "volume",
                r#"{"spec":{"progressDeadlineSeconds":6,"template":{"spec":{"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}}]}}}}"#,
                "",
                Cause::ResourceInitialization,
                "persistentvolumeclaim \"data\" not found",
            ),
            (
                "quota",
                r#"{"spec":{"progressDeadlineSeconds":60}}"#,
                QUOTA,
                Cause::QuotaExceeded,
                "exceeded quota: pods",
            ),
        ] {
            let real = Real::with(name, &deployment(RUNS)).await;
            if !manifest.is_empty() {
                real.apply(manifest).await;
                // Admission enforces the quota once its controller has counted the pods.
                let used = ["get", "resourcequota", "pods", "-o", "jsonpath={.status.used.pods}"];
                while real.admin(&used).await != "3" {}
            }
            real.patch("deployment", patch).await;
            let target = real.target("deployment/web", options(60).on_failure(OnFailure::Leave)).await;
            let outcome = deploy(&target, &image(RUNS_TOO)).await.1.unwrap();
            let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{name}: {outcome:?}"));
            assert_eq!(
                (outcome.verdict(), failure.cause),
                (Verdict::FailedInPlace, cause),
                "{name}: {failure}"
            );
            assert!(failure.message.contains(says), "{name}: {failure}");
            real.leave().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn admission_refuses_pods_or_the_change_itself() {
        // Pod Security refuses each pod: the ReplicaSet cannot create one, and no pod shows the cause.
        let real = Real::with("pods", &deployment(RUNS)).await;
        let namespace = real.namespace.clone();
        real.admin(&["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"])
            .await;
        let target = real.target("deployment/web", options(60).on_failure(OnFailure::Leave)).await;
        let outcome = deploy(&target, &image(RUNS_TOO)).await.1.unwrap();
        let failure = outcome.failure.as_ref().unwrap();
        assert_eq!((outcome.verdict(), failure.cause), (Verdict::FailedInPlace, Cause::AdmissionRefused));
        assert!(failure.message.contains("violates PodSecurity"), "{failure}");
        real.leave().await;

        let real = Real::with("policy", &deployment(RUNS)).await;
        let name = real.namespace.clone();
        real.apply(&refusing(&name)).await;
        let target = real.target("deployment/web", options(60)).await;
        // The API server enforces a policy with a delay.
        let change = ["annotate", "deployment", "web", "a=b", "--dry-run=server"];
        while real.kubectl("admin", &change).output().await.unwrap().status.success() {}
        let error = deploy(&target, &image(RUNS_TOO)).await.1.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Refused, "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("images must be signed"), "{source}");
        real.admin(&["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", &name]).await;
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn conflict_reports_owner_and_field_and_take_over_is_needed_once() {
        let real = Real::with("conflict", &deployment(RUNS)).await;
        let modest = real.target("deployment/web", options(60).take_over(false)).await;
        let error = deploy(&modest, &image(RUNS_TOO)).await.1.unwrap_err();
        let Error::Conflict { conflicts, .. } = &error else { panic!("{error}") };
        assert_eq!(conflicts.len(), 1, "{error}");
        assert_eq!(conflicts[0].manager, "kubectl-client-side-apply");
        assert_eq!(conflicts[0].field, ".spec.template.spec.containers[name=\"web\"].image");
        assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 3]);

        let bold = real.target("deployment/web", options(60)).await;
        assert_eq!(deploy(&bold, &image(RUNS_TOO)).await.1.unwrap().verdict(), Verdict::Deployed);
        assert_eq!(deploy(&modest, &image("a13")).await.1.unwrap().verdict(), Verdict::Deployed);
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn reports_verbs_denied_by_rbac() {
        let real = Real::with("rbac", &deployment(RUNS)).await;
        // The user `stranger` has no Role.
        let target = real.target_of("stranger", "deployment/web", options(20)).await;
        let error = deploy(&target, &image(RUNS_TOO)).await.1.unwrap_err();
        let Error::Forbidden { verb, resource, .. } = &error else { panic!("{error}") };
        assert_eq!((verb.as_str(), resource.as_str()), ("get", "deployments.apps"));
        // With read permissions only.
        real.admin(&["create", "rolebinding", "stranger", "--clusterrole=view", "--user=stranger"]).await;
        let error = deploy(&target, &image(RUNS_TOO)).await.1.unwrap_err();
        let Error::Forbidden { verb, resource, .. } = &error else { panic!("{error}") };
        assert_eq!((verb.as_str(), resource.as_str()), ("patch", "deployments.apps"));
        assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 3]);
        assert_eq!(target.prove().await.unwrap().judge(&image(RUNS)), Verdict::Deployed);
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn detects_foreign_pause_change_and_deletion() {
        let real = Real::with("others", &deployment(RUNS)).await;
        let target = real.target("deployment/web", options(60)).await;
        let mut work = target.deploy(&image(NEVER_READY));
        while let Some(event) = work.next_event().await {
            if matches!(event, DeployEvent::Applied { .. }) {
                let other = format!("web={}", image(RUNS_TOO).reference);
                real.admin(&["set", "image", "deployment/web", &other]).await;
            }
        }
        let outcome = work.await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Superseded, "{outcome:?}");
        assert!(outcome.detail.contains(&image(RUNS_TOO).reference.to_string()), "{}", outcome.detail);

        let mut work = target.deploy(&image(NEVER_READY));
        while let Some(event) = work.next_event().await {
            if matches!(event, DeployEvent::Applied { .. }) {
                real.admin(&["rollout", "pause", "deployment/web"]).await;
            }
        }
        assert_eq!(work.await.unwrap().verdict(), Verdict::Stopped);
        let error = deploy(&target, &image(RUNS)).await.1.unwrap_err();
        assert!(matches!(error, Error::Paused { .. }), "{error}");
        real.admin(&["rollout", "resume", "deployment/web"]).await;

        let mut work = target.deploy(&image(READY_LATER));
        while let Some(event) = work.next_event().await {
            if matches!(event, DeployEvent::Applied { .. }) {
                real.admin(&["delete", "deployment", "web", "--wait=false"]).await;
            }
        }
        assert_eq!(work.await.unwrap().verdict(), Verdict::Gone);
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn adopts_the_rollout_of_a_killed_run() {
        let real = Real::with("adopted", &deployment(RUNS)).await;
        let target = real.target("deployment/web", options(60)).await;
        let mut work = target.deploy(&image(READY_LATER));
        while let Some(event) = work.next_event().await {
            if matches!(event, DeployEvent::Applied { .. }) {
                break;
            }
        }
        drop(work);
        let (events, outcome) = deploy(&target, &image(READY_LATER)).await;
        assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
        assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: true, .. })), "{events:?}");
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn unknown_image_id_is_unproven_not_a_mismatch() {
        let real = Real::with("imageid", &deployment(RUNS)).await;
        let target = real.target("deployment/web", options(60)).await;
        let outcome = deploy(&target, &image("0dd")).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Unproven, "{outcome:?}");
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn stateful_set_rolls_out_and_rolls_back_where_kubectl_hangs() {
        let real = Real::with("stateful", &stateful_set(RUNS)).await;
        let target = real.target("statefulset/web", options(60)).await;
        let outcome = deploy(&target, &image(RUNS_TOO)).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
        assert_eq!((outcome.proof.observations.len(), outcome.revision.unwrap().id), (3, "2".to_owned()));
        assert!(real.rollout_status("statefulset/web", 5).wait().await.unwrap().success());

        // A failing pod blocks the controller, which could not even roll back by itself.
        let (events, outcome) = deploy(&target, &image(EXITS)).await;
        let outcome = outcome.unwrap();
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
        assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
        let deleted = |e: &DeployEvent| matches!(e, DeployEvent::Notice { message, .. } if message.contains("web-2 was deleted"));
        assert!(events.iter().any(deleted), "{events:?}");
        assert_eq!(real.running().await, vec![image(RUNS_TOO).reference.to_string(); 3]);
        // kubectl's undo does not delete the pod: it hangs.
        let broken = format!("web={}", image(EXITS).reference);
        real.admin(&["set", "image", "statefulset/web", &broken]).await;
        let waiting = [
            "wait",
            "pod/web-2",
            "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
        ];
        real.admin(&waiting).await;
        real.admin(&["rollout", "undo", "statefulset/web"]).await;
        assert!(!real.rollout_status("statefulset/web", 5).wait().await.unwrap().success());
        // The next deployment fixes the stuck rollout.
        let outcome = deploy(&target, &image(RUNS)).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");

        real.patch("statefulset", r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}"#).await;
        let outcome = deploy(&target, &image(RUNS_TOO)).await.1.unwrap();
        assert_eq!(
            (outcome.verdict(), outcome.proof.observations.len()),
            (Verdict::Deployed, 1),
            "{outcome:?}"
        );
        assert!(outcome.detail.contains("partition 2"), "{}", outcome.detail);
        assert!(real.rollout_status("statefulset/web", 5).wait().await.unwrap().success());

        real.patch("statefulset", r#"{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}"#)
            .await;
        let error = deploy(&target, &image(RUNS)).await.1.unwrap_err();
        assert!(matches!(error, Error::OnDelete { .. }), "{error}");
        assert!(
            !real.rollout_status("statefulset/web", 5).wait().await.unwrap().success(),
            "kubectl fails too"
        );
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn daemon_set_rolls_out_and_rolls_back() {
        let real = Real::with("daemon", &daemon_set(RUNS)).await;
        let target = real.target("daemonset/web", options(60)).await;
        let outcome = deploy(&target, &image(RUNS_TOO)).await.1.unwrap();
        assert_eq!(
            (outcome.verdict(), outcome.proof.observations.len()),
            (Verdict::Deployed, 2),
            "{outcome:?}"
        );
        assert!(real.rollout_status("daemonset/web", 5).wait().await.unwrap().success());
        let outcome = deploy(&target, &image("404")).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
        assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
        assert_eq!(real.running().await, vec![image(RUNS_TOO).reference.to_string(); 2]);
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn each_image_gets_its_own_job() {
        let real = Real::new("jobs").await;
        real.apply(&job(RUNS)).await;
        let target = real.target("job/web", options(60)).await;
        let outcome = deploy(&target, &image(RUNS_TOO)).await.1.unwrap();
        assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
        let made = outcome.revision.unwrap().id;
        assert_eq!(made, "web-a120000000");
        let again = deploy(&target, &image(RUNS_TOO)).await.1.unwrap();
        assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");

        let outcome = deploy(&target, &image(EXITS)).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
        let failure = outcome.failure.unwrap();
        assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)), "{failure}");
        // The failed Job is kept for inspection.
        let outcome = deploy(&target, &image(EXITS)).await.1.unwrap();
        assert_eq!(outcome.revision.unwrap().id, "web-bad0000000-2");
        // The Job controller would wait for this pull forever.
        let outcome = deploy(&target, &image("404")).await.1.unwrap();
        assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
        assert!(matches!(target.rollback().await, Err(Error::NotUndoable { .. })));
        real.leave().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a cluster: cargo xtask e2e"]
    async fn server_side_dry_run_shows_changes_and_changes_nothing() {
        let real = Real::with("plan", &deployment(RUNS)).await;
        let options = options(60).environment("DEPLOY_PLATFORM", "eks");
        let target = real.target("deployment/web", options).await;
        let plan = target.preflight(&image(RUNS_TOO), &Lookups::default()).await.unwrap();
        let changes: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
        let path = "spec.template.spec.containers[web]";
        assert_eq!(
            changes,
            [
                format!("+ {path}.env[DEPLOY_PLATFORM].value: eks"),
                format!("~ {path}.image: {} -> {}", image(RUNS).reference, image(RUNS_TOO).reference),
            ]
        );
        let said = plan.to_string();
        assert!(said.contains("field manager \"kubectl-client-side-apply\""), "{said}");
        assert_eq!(real.running().await, vec![image(RUNS).reference.to_string(); 3]);
        assert_eq!(deploy(&target, &image(RUNS_TOO)).await.1.unwrap().verdict(), Verdict::Deployed);
        let plan = target.preflight(&image(RUNS_TOO), &Lookups::default()).await.unwrap();
        assert!(plan.changes.is_empty(), "{plan}");
        real.leave().await;
    }

    #[tokio::test]
    #[ignore = "needs aws-cli: cargo xtask e2e"]
    async fn token_equals_the_token_of_aws_cli() {
        use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
        use aws_sdk_eks::config::{BehaviorVersion, Region};
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        use bp_artifact::time::TimeSource;
        use bp_sandbox::{Sandbox, kube::ClusterOptions};
        use secrecy::ExposeSecret;

        let (key, secret, session) =
            ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+with=signs");
        let said =
            tokio::process::Command::new(std::env::var("BP_E2E_AWS_CLI").expect("set by cargo xtask e2e"))
                .args(["eks", "get-token", "--cluster-name", "shop", "--region", "eu-central-1"])
                .args(["--query", "status.token", "--output", "text"])
                .env_remove("AWS_ENDPOINT_URL")
                .envs([
                    ("AWS_ACCESS_KEY_ID", key),
                    ("AWS_SECRET_ACCESS_KEY", secret),
                    ("AWS_SESSION_TOKEN", session),
                ])
                .output()
                .await
                .unwrap();
        let theirs = String::from_utf8(said.stdout).unwrap().trim().to_owned();
        let url = URL_SAFE_NO_PAD.decode(theirs.strip_prefix("k8s-aws-v1.").expect("a token")).unwrap();
        let url = String::from_utf8(url).unwrap();
        let (_, date) = url.split_once("X-Amz-Date=").unwrap();
        let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &date[..16]).unwrap();
        let signed_at = date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();

        let sandbox = Sandbox::builder().cluster("shop", ClusterOptions::default()).build();
        let credentials = Credentials::new(key, secret, Some(session.to_owned()), None, "test");
        let config = aws_sdk_eks::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(credentials.clone())
            .http_client(sandbox.http_client())
            .build();
        let ours = bp_eks::Connector::new(
            aws_sdk_eks::Client::from_conf(config),
            SharedCredentialsProvider::new(credentials),
            "eu-central-1",
            "shop",
        )
        .time_source(TimeSource::from_fn(move || signed_at))
        .token()
        .await
        .unwrap();
        assert_eq!(ours.expose_secret(), theirs);
    }
}
