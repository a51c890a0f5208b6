//! Tests against third-party servers: `cargo xtask e2e --only aws` starts Moto and sets its URL in `BP_E2E_MOTO`.

mod aws {
    use std::process::Command;

    use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
    use bp_secrets::{
        Depth, ParameterStore, Reference, SecretsManager, Store as _, Stores, check,
        projection::{Bindings, ecs},
    };
    use serde_json::{Value, json};

    fn config() -> aws_types::SdkConfig {
        let endpoint = std::env::var("BP_E2E_MOTO").expect("BP_E2E_MOTO: the URL of the API");
        aws_types::SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "test", "test", None, None, "test",
            )))
            .endpoint_url(endpoint)
            .build()
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn references_are_checked_and_fetched() {
        let config = config();
        let (secrets, parameters) =
            (aws_sdk_secretsmanager::Client::new(&config), aws_sdk_ssm::Client::new(&config));
        let created = secrets.create_secret().name("e2e/db").secret_string(r#"{"password":"hush"}"#).send();
        let arn = created.await.expect("create-secret").arn.expect("an ARN");
        let kind = aws_sdk_ssm::types::ParameterType::SecureString;
        parameters
            .put_parameter()
            .name("/e2e/host")
            .value("db.internal")
            .r#type(kind)
            .send()
            .await
            .expect("put");

        let stores = Stores::new()
            .secrets_manager(SecretsManager::new(secrets))
            .parameter_store(ParameterStore::new(parameters));
        let parse = |text: &str| text.parse::<Reference>().unwrap_or_else(|error| panic!("{text}: {error}"));
        let good = [parse(&arn), parse(&format!("{arn}:password::")), parse("/e2e/host")];
        let report = check(&stores, &good, Depth::Keys).await;
        assert_eq!(report.errors().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
        let values: Vec<Vec<u8>> = stores
            .fetch(&good)
            .await
            .into_iter()
            .map(|fetched| fetched.expect("it was checked").value().expose_bytes().to_vec())
            .collect();
        assert_eq!(values, [&br#"{"password":"hush"}"#[..], b"hush", b"db.internal"]);

        let bad =
            [parse(&format!("{arn}:user::")), parse("/e2e/none"), parse(&arn.replace("e2e/db", "e2e/no"))];
        let report = check(&stores, &bad, Depth::Keys).await;
        assert_eq!(report.errors().count(), 3, "{:?}", report.errors().collect::<Vec<_>>());
        let shown = format!("{report:?}");
        assert!(!shown.contains("hush"), "a report shows a value: {shown}");
    }

    /// Runs the AWS CLI, which validates input against the service's model before it sends it.
    fn aws(arguments: &[&str]) -> Value {
        let variable =
            |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name}: see cargo xtask e2e"));
        let mut aws = Command::new(variable("BP_E2E_AWS_CLI"));
        aws.args([
            "--endpoint-url",
            &variable("BP_E2E_MOTO"),
            "--region",
            "eu-central-1",
            "--output",
            "json",
        ]);
        aws.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]).args(arguments);
        let ended = aws.output().expect("aws starts");
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_slice(&ended.stdout).expect("JSON")
    }

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn references_in_a_task_definition_round_trip() {
        let arn = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf";
        let texts = [
            ("WHOLE", arn.to_owned()),
            ("KEY", format!("{arn}:password::")),
            ("STAGE", format!("{arn}:password:AWSPREVIOUS:")),
            ("VERSION", format!("{arn}:::9d4cb84b-ad69-40c0-a0ab-cead36b967e8")),
            ("NAME", "/prod/host".into()),
            ("PARAMETER", "arn:aws:ssm:eu-central-1:111111111111:parameter/prod/host".into()),
        ];
        let parsed = texts.map(|(name, text)| (name, text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))));
        let bindings = Bindings::new(parsed).expect("bindings");
        let secrets = ecs::print(&bindings).expect("each can be written for ECS");
        let container = json!({ "name": "web", "image": "web", "memory": 64, "secrets": secrets });
        let definition = json!({ "family": "references", "containerDefinitions": [container] }).to_string();
        aws(&["ecs", "register-task-definition", "--cli-input-json", &definition]);
        let answer = aws(&["ecs", "describe-task-definition", "--task-definition", "references"]);
        let described = &answer["taskDefinition"]["containerDefinitions"][0]["secrets"];
        assert_eq!(ecs::parse(described), Ok(bindings));
    }
}

/// Applies printed objects to a real API server with the projects' CustomResourceDefinitions:
/// `cargo xtask e2e --only kubernetes`.
mod kubernetes {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use bp_secrets::{
        projection::{
            Bindings,
            ascp::{SecretProviderClass, volume},
            external_secrets::{ExternalSecret, cluster_store, parse_store},
            kubernetes::{config_map, parse_config_map, parse_secret, secret, service_account},
        },
        reference::Service,
    };
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};

    fn variable(name: &str) -> String {
        std::env::var(name).unwrap_or_else(|_| panic!("{name}: see cargo xtask e2e --only kubernetes"))
    }

    /// The server's dry-run result for an object: defaults filled in, unknown fields rejected.
    fn dry_run(object: &str) -> Result<Value, String> {
        let mut kubectl = Command::new(variable("BP_E2E_KUBECTL"));
        kubectl.env("KUBECONFIG", variable("BP_E2E_KUBECONFIG_ADMIN"));
        kubectl.args([
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-o",
            "json",
            "-f",
            "-",
        ]);
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().expect("kubectl starts");
        child.stdin.take().expect("piped").write_all(object.as_bytes()).expect("written");
        let ended = child.wait_with_output().expect("kubectl ends");
        if ended.status.success() {
            Ok(serde_json::from_slice(&ended.stdout).expect("JSON"))
        } else {
            Err(String::from_utf8_lossy(&ended.stderr).into_owned())
        }
    }

    fn accepted(object: &Value) -> Value {
        dry_run(&object.to_string()).unwrap_or_else(|error| panic!("{object:#}\n{error}"))
    }

    fn service(store: &str) -> Option<Service> {
        match store {
            "sm" => Some(Service::SecretsManager),
            "ps" => Some(Service::Ssm),
            _ => None,
        }
    }

    /// Every kind of reference.
    fn bindings() -> Bindings {
        let arn = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf";
        let texts = [
            ("USER", format!("{arn}:user::")),
            ("PASSWORD", format!("{arn}:pass.word::")),
            ("OLD", "secretsmanager:prod/old::AWSPREVIOUS:".into()),
            ("FIXED", "secretsmanager:prod/fixed:::9d4cb84b-ad69-40c0-a0ab-cead36b967e8".into()),
            ("HOST", "/prod/host".into()),
            ("PORT", "/prod/port:3".into()),
            ("COLOUR", "/prod/colour:blue".into()),
        ];
        let parsed = texts.map(|(name, text)| (name, text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))));
        Bindings::new(parsed).expect("bindings")
    }

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn printed_objects_pass_a_strict_dry_run_and_round_trip() {
        let (namespace, all) = (variable("BP_E2E_NAMESPACE"), bindings());
        let external = ExternalSecret::new("web").namespace(&namespace).stores("sm", "ps");
        let answer = accepted(&external.clone().immutable().print(&all));
        assert_eq!(ExternalSecret::parse(&answer, service), Ok(all.clone()));
        let whole: bp_secrets::Reference = "secretsmanager:prod/flags".parse().expect("a reference");
        let templated = external.template("URL", "postgres://{{ .USER }}@{{ .HOST }}").extract(whole.clone());
        let answer = accepted(&templated.print(&all));
        let mut expected = all.references();
        expected.push(whole);
        assert_eq!(ExternalSecret::references(&answer, service), Ok(expected));
        for (name, service) in [("sm", Service::SecretsManager), ("ps", Service::Ssm)] {
            let answer =
                accepted(&cluster_store(name, service, "eu-central-1", ("external-secrets", "reader")));
            assert_eq!(parse_store(&answer), Ok((name.to_owned(), service)));
        }

        let class = SecretProviderClass::new("web").namespace(&namespace);
        let class = class.failover_region("eu-west-1").synced("web-env");
        let answer = accepted(&class.print(&all).expect("a class"));
        let sorted = |bindings: &Bindings| {
            let mut all: Vec<String> =
                bindings.iter().map(|b| format!("{}={}", b.name, b.reference)).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&SecretProviderClass::parse(&answer).expect("a class")), sorted(&all));
        accepted(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "namespace": namespace },
            "spec": {
                "containers": [{ "name": "web", "image": "r.example.com/web:1",
                                 "volumeMounts": [{ "name": "secrets", "mountPath": "/secrets" }] }],
                "volumes": [volume("secrets", "web")],
            },
        }));

        let answer = accepted(&config_map("web", Some(&namespace), &all));
        assert_eq!(sorted(&parse_config_map(&answer).expect("a ConfigMap")), sorted(&all));
        accepted(&service_account("web", Some(&namespace), "arn:aws:iam::111111111111:role/web"));
        let none = secret("web", Some(&namespace), []).expect("a Secret");
        let answer = dry_run(none.expose_secret()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parse_secret(&answer), Ok(Bindings::default()));

        // The server rejects invalid objects.
        let mut wrong = config_map("web", Some(&namespace), &all);
        wrong["kind"] = json!("ConfigMop");
        assert!(dry_run(&wrong.to_string()).is_err());
        let mut wrong = ExternalSecret::new("web").namespace(&namespace).print(&all);
        wrong["spec"]["target"]["immutabel"] = json!(true);
        let error = dry_run(&wrong.to_string()).expect_err("an unknown field");
        assert!(error.contains("immutabel"), "{error}");
    }
}
