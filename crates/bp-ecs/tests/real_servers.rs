//! Tests against moto's ECS API: `cargo xtask e2e --only aws` starts moto and sets its URL in `BP_E2E_MOTO`.
//!
//! moto implements task definitions and services, but neither rollouts nor service deployments. The tests verify that
//! it accepts our requests, and returns what was registered unmodified.

mod aws {
    use std::time::Duration;

    use aws_credential_types::Credentials;
    use aws_sdk_ecs::{
        Client,
        config::{BehaviorVersion, Region},
    };
    use bp_artifact::{Digest, DigestRef};
    use bp_ecs::{Cluster, ContainerOverlay, Error, Options, Overlay, TaskDefinition};
    use serde_json::json;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn client() -> Client {
        let endpoint = std::env::var("BP_E2E_MOTO").expect("BP_E2E_MOTO: the URL of the API");
        let config = aws_sdk_ecs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(endpoint)
            .build();
        Client::from_conf(config)
    }

    fn image(name: &str) -> DigestRef {
        format!("registry.example.com/shop/web@{}", Digest::sha256(name)).parse().expect("a reference")
    }

    fn definition(family: &str) -> TaskDefinition {
        let json = json!({
            "family": family,
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "256",
            "memory": "512",
            "tags": [{ "key": "Team", "value": "shop" }],
            "volumes": [{ "name": "data", "efsVolumeConfiguration": { "fileSystemId": "fs-1", "rootDirectory": "/" } }],
            "ephemeralStorage": { "sizeInGiB": 30 },
            "runtimePlatform": { "cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX" },
            "containerDefinitions": [{
                "name": "web",
                "image": "registry.example.com/shop/web:1",
                "essential": true,
                "environment": [{ "name": "EMPTY", "value": "" }, { "name": "MODE", "value": "test" }],
                "secrets": [{ "name": "DB", "valueFrom": "/shop/db" }],
                "portMappings": [{ "containerPort": 8080 }],
                "healthCheck": { "command": ["CMD", "true"] },
            }],
        });
        TaskDefinition::from_json("e2e.json", &json.to_string()).expect("a definition")
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn registers_a_definition_unmodified_and_reuses_an_identical_one() {
        let cluster = Cluster::new(client(), "e2e");
        let registered = cluster.register(&definition("whole"), PATIENCE).await.expect("registers");
        // moto stores the tags, but omits them in its response to the registration.
        let first = cluster.definition(registered.arn().expect("an ARN")).await.expect("describes");
        let changes = definition("whole").changes(&first);
        assert!(changes.is_empty(), "the returned definition differs: {changes:?}");
        assert_eq!(first.as_json()["tags"], json!([{ "key": "Team", "value": "shop" }]));

        let again = cluster.register(&definition("whole"), PATIENCE).await.expect("reuses");
        assert_eq!(again.arn(), first.arn());

        let web = ContainerOverlay::default().variable("MODE", "live").variable("DEPLOY_PLATFORM", "ecs");
        let overlay = Overlay::default().memory("1GB").container("web", web);
        let wanted = first.with(&overlay).and_then(|d| d.with_image("web", &image("2"))).expect("fits");
        let second = cluster.register(&wanted, PATIENCE).await.expect("registers");
        assert_ne!(second.arn(), first.arn());
        let described = cluster.definition(second.arn().expect("an ARN")).await.expect("describes");
        assert!(described.is_same(&wanted), "{:?}", wanted.changes(&described));
        let latest = cluster.definition("whole").await.expect("describes");
        assert_eq!(latest.arn(), second.arn(), "a family alone is its latest revision");
        let changes: Vec<String> = first.changes(&described).iter().map(ToString::to_string).collect();
        assert_eq!(changes.len(), 4, "{changes:?}");
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn errors_state_the_missing_object() {
        let ecs = client();
        ecs.create_cluster().cluster_name("e2e-named").send().await.expect("create-cluster");
        let options = Options::new(Duration::from_secs(60)).expect("options");
        let web = Cluster::new(ecs.clone(), "e2e-named").service("web", options).container("web");
        let error = web.definition().await.expect_err("no service");
        assert!(matches!(error, Error::ServiceNotFound { .. }), "{error}");
        let error = web.revision("no-such-family").await.expect_err("no definition");
        assert_eq!(error.to_string(), "there is no task definition \"no-such-family\"");
        let cluster = Cluster::new(ecs, "e2e-named");
        let registered = cluster.register(&definition("named"), PATIENCE).await.expect("registers");
        let error = registered.with_image("wbe", &image("1")).expect_err("no container");
        assert!(error.to_string().ends_with("has no container \"wbe\"; it has web"), "{error}");
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn rejects_other_controllers() {
        let ecs = client();
        ecs.create_cluster().cluster_name("e2e-blue").send().await.expect("create-cluster");
        let cluster = Cluster::new(ecs.clone(), "e2e-blue");
        let registered = cluster.register(&definition("blue"), PATIENCE).await.expect("registers");
        let controller = aws_sdk_ecs::types::DeploymentController::builder()
            .r#type(aws_sdk_ecs::types::DeploymentControllerType::CodeDeploy)
            .build()
            .expect("a controller");
        let create = ecs.create_service().cluster("e2e-blue").service_name("web").desired_count(1);
        create
            .task_definition(registered.arn().expect("an ARN"))
            .deployment_controller(controller)
            .send()
            .await
            .expect("create-service");
        let options = Options::new(Duration::from_secs(60)).expect("options");
        let error = cluster
            .service("web", options)
            .container("web")
            .deploy(&image("2").into())
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("CODE_DEPLOY"), "{error}");
    }
}
