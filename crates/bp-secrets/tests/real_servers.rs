//! Against an AWS API that others wrote: `cargo xtask e2e --only aws` starts it and names it in `BP_E2E_MOTO`.

mod aws {
    use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
    use bp_secrets::{Depth, ParameterStore, Reference, SecretsManager, Store as _, Stores, check};

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
}
