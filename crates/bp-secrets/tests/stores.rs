//! Tests of the stores: values, number of API calls, errors, regions, accounts and replicas.

mod common;

use bp_sandbox::{Effect, Fault, Sandbox};
use bp_secrets::{Store as _, Stores};
use common::{ACCOUNT, REGION, references, stores, texts};

#[tokio::test(start_paused = true)]
async fn reads_every_form_of_reference_in_order() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let parameters = sandbox.aws().ssm(ACCOUNT, REGION);
    let arn = secrets.create("prod/db", r#"{"user": "old"}"#);
    let id = secrets.rotate("prod/db", r#"{"user": "app", "port": 5432}"#);
    secrets.create_binary("key", b"\x00\xff");
    parameters.put("/prod/host", "one.example");
    parameters.put("/prod/host", "two.example");
    parameters.label("/prod/host", 1, "blue");
    parameters.put_secure("token", "t0ken");
    let host = parameters.arn("/prod/host");

    let wanted = [
        arn.clone(),
        format!("{arn}:user::"),
        format!("{arn}:port::"),
        format!("{arn}:user:AWSPREVIOUS:"),
        format!("{arn}:user::{id}"),
        arn[..arn.len() - 7].to_owned(),
        "secretsmanager:prod/db:user:AWSCURRENT:".into(),
        "/prod/host".into(),
        "/prod/host:1".into(),
        "/prod/host:blue".into(),
        host.clone(),
        format!("{host}:1"),
        "token".into(),
    ];
    let fetched = stores(&sandbox).fetch(&references(wanted.iter().map(String::as_str))).await;
    assert_eq!(
        texts(&fetched),
        [
            r#"{"user": "app", "port": 5432}"#,
            "app",
            "5432",
            "old",
            "app",
            r#"{"user": "app", "port": 5432}"#,
            "app",
            "two.example",
            "one.example",
            "one.example",
            "two.example",
            "one.example",
            "t0ken",
        ]
    );
    assert_eq!(fetched[1].as_ref().unwrap().version(), id);
    assert_eq!(fetched[8].as_ref().unwrap().version(), "1");

    let binary = stores(&sandbox).fetch_one(&"secretsmanager:key".parse().unwrap()).await.unwrap();
    assert_eq!(binary.value().expose_bytes(), b"\x00\xff");
}

#[tokio::test(start_paused = true)]
async fn reads_in_batches_without_duplicates() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let parameters = sandbox.aws().ssm(ACCOUNT, REGION);
    let mut wanted = Vec::new();
    for n in 0..45 {
        secrets.create(&format!("s{n}"), r#"{"a": "1", "b": "2"}"#);
        wanted.extend([format!("secretsmanager:s{n}:a::"), format!("secretsmanager:s{n}:b::")]);
    }
    for n in 0..25 {
        parameters.put(&format!("/p/{n}"), "3");
        wanted.extend([format!("/p/{n}"), format!("/p/{n}")]);
    }
    let fetched = stores(&sandbox).fetch(&references(wanted.iter().map(String::as_str))).await;
    assert_eq!(texts(&fetched), [["1", "2"].repeat(45), ["3", "3"].repeat(25)].concat());
    assert_eq!(sandbox.ledger().count_of("secretsmanager:BatchGetSecretValue"), 3);
    assert_eq!(sandbox.ledger().count_of("secretsmanager:GetSecretValue"), 0);
    assert_eq!(sandbox.ledger().count_of("ssm:GetParameters"), 3);

    sandbox.ledger().clear();
    let one = stores(&sandbox).fetch(&references(["secretsmanager:s1:a::", "secretsmanager:s1:b::"])).await;
    assert_eq!(texts(&one), ["1", "2"]);
    assert_eq!(sandbox.ledger().operations("aws"), ["secretsmanager:GetSecretValue"]);

    sandbox.ledger().clear();
    assert!(stores(&sandbox).fetch(&[]).await.is_empty());
    assert!(sandbox.ledger().entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_reference_does_not_affect_the_others() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let parameters = sandbox.aws().ssm(ACCOUNT, REGION);
    secrets.create("good", "yes");
    secrets.create("gone", "x");
    secrets.delete("gone");
    secrets.create("closed", "x");
    secrets.deny("closed", "secretsmanager:GetSecretValue");
    secrets.create("sealed", "x");
    secrets.deny("sealed", "kms:Decrypt");
    parameters.put("good", "yes");
    parameters.put("closed", "x");
    parameters.deny("closed", "ssm:GetParameters");
    parameters.put_secure("sealed", "x");
    parameters.deny("sealed", "kms:Decrypt");

    let wanted = references([
        "secretsmanager:good",
        "secretsmanager:none",
        "secretsmanager:gone",
        "secretsmanager:closed",
        "secretsmanager:sealed",
        "secretsmanager:good::AWSPENDING:",
        "secretsmanager:good:::9d4cb84b-ad69-40c0-a0ab-cead36b967e8",
        "secretsmanager:good:key::",
        "good",
        "none",
        "none:3",
        "good:2",
        "good:blue",
        "closed",
        "sealed",
    ]);
    let fetched = stores(&sandbox).fetch(&wanted).await;
    assert_eq!(
        texts(&fetched),
        [
            "yes",
            "missing",
            "deleted",
            "denied",
            "denied",
            "no-such-version",
            "no-such-version",
            "not-json",
            "yes",
            "missing",
            "missing",
            "no-such-version",
            "no-such-version",
            "denied",
            "denied",
        ]
    );
    let message = |at: usize| fetched[at].as_ref().unwrap_err().to_string();
    assert!(
        message(3)
            .contains("allow secretsmanager:GetSecretValue on arn:*:secretsmanager:*:*:secret:closed-??????")
    );
    assert!(message(4).contains("allow kms:Decrypt on"), "{}", message(4));
    assert!(
        message(13).contains("allow ssm:GetParameters on arn:*:ssm:*:*:parameter/closed"),
        "{}",
        message(13)
    );
    assert!(message(14).contains("allow kms:Decrypt on"), "{}", message(14));
    for (wanted, answer) in wanted.iter().zip(&fetched) {
        if let Err(error) = answer {
            assert_eq!(error.reference(), wanted);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reads_one_by_one_without_the_permission_for_batches() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    secrets.create("a", "1");
    secrets.create("b", "2");
    secrets.deny("a", "secretsmanager:BatchGetSecretValue");
    let fetched = stores(&sandbox).fetch(&references(["secretsmanager:a", "secretsmanager:b"])).await;
    assert_eq!(texts(&fetched), ["1", "2"]);
    assert_eq!(sandbox.ledger().count_of("secretsmanager:GetSecretValue"), 2);
}

#[tokio::test(start_paused = true)]
async fn errors_of_an_unavailable_service_are_retryable() {
    let sandbox = Sandbox::builder().build();
    sandbox.aws().secretsmanager(ACCOUNT, REGION).create("a", "1");
    let read = async || stores(&sandbox).fetch_one(&"secretsmanager:a".parse().unwrap()).await;
    for fault in [Fault::status(503), Fault::new(Effect::Reset)] {
        sandbox.faults().inject(fault.times(u32::MAX));
        let error = read().await.unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), ("unavailable", true), "{error:?}");
        sandbox.faults().clear();
    }
    let throttled = r#"{"__type": "ThrottlingException", "message": "Rate exceeded"}"#;
    sandbox.faults().inject(Fault::new(Effect::Answer {
        status: 400,
        headers: vec![],
        body: throttled.into(),
    }));
    assert!(read().await.is_ok(), "the SDK retries a throttled call");

    let expired = r#"{"__type": "ExpiredTokenException", "message": "The security token is expired"}"#;
    sandbox.faults().inject(Fault::new(Effect::Answer {
        status: 400,
        headers: vec![],
        body: expired.into(),
    }));
    let error = read().await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("credentials", false));
}

#[tokio::test(start_paused = true)]
async fn reads_a_reference_from_the_store_of_its_region() {
    let sandbox = Sandbox::builder().build();
    let here = sandbox.aws().secretsmanager(ACCOUNT, REGION).create("a", "here");
    let there = sandbox.aws().secretsmanager(ACCOUNT, "eu-west-1").create("a", "there");
    sandbox.aws().ssm(ACCOUNT, "eu-west-1").put("/a", "far");
    let far = sandbox.aws().ssm(ACCOUNT, "eu-west-1").arn("/a");
    let both = stores(&sandbox).secrets_manager(common::secrets_manager(&sandbox, "eu-west-1"));
    let fetched = both.fetch(&references([&*there, &*here, "secretsmanager:a", &*far])).await;
    assert_eq!(texts(&fetched), ["there", "here", "here", "no-store"]);
    let error = fetched[3].as_ref().unwrap_err().to_string();
    assert!(error.ends_with("add one for Parameter Store in eu-west-1"), "{error}");

    let none = Stores::new().fetch(&references(["secretsmanager:a", "a"])).await;
    assert_eq!(texts(&none), ["no-store", "no-store"]);
}

#[tokio::test(start_paused = true)]
async fn reads_shared_secrets_of_another_account_by_arn() {
    let sandbox = Sandbox::builder().build();
    let theirs = sandbox.aws().secretsmanager("222222222222", REGION);
    let (open, closed) = (theirs.create("open", "1"), theirs.create("closed", "2"));
    theirs.share("open", ACCOUNT);
    let parameters = sandbox.aws().ssm("222222222222", REGION);
    parameters.put("/open", "3");
    parameters.share("/open", ACCOUNT);
    let parameter = parameters.arn("/open");
    let fetched = stores(&sandbox).fetch(&references([&*open, &*closed, &*parameter])).await;
    assert_eq!(texts(&fetched), ["1", "denied", "3"]);
    let error = fetched[1].as_ref().unwrap_err().to_string();
    assert!(error.contains(&format!("allow secretsmanager:GetSecretValue on {closed}")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn reads_the_replica_only_while_the_primary_region_is_unavailable() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let arn = secrets.create("a", "1");
    let replica = secrets.replicate("a", "eu-west-1");
    let there = aws_sdk_secretsmanager::Client::new(&common::config(&sandbox, "eu-west-1"));
    let store = common::secrets_manager(&sandbox, REGION).with_replica(there);
    let wanted = references([&*arn, "secretsmanager:none"]);

    assert_eq!(texts(&store.fetch(&wanted).await), ["1", "missing"]);
    assert_eq!(sandbox.ledger().entries().len(), 1, "the replica is not called");

    // The batch fails for all attempts of the SDK; then the replica is read.
    sandbox.faults().inject(Fault::status(500).on("secretsmanager:BatchGetSecretValue").times(3));
    let fetched = store.fetch(&wanted).await;
    assert_eq!(texts(&fetched), ["1", "unavailable"]);
    assert_eq!(fetched[0].as_ref().unwrap().arn(), replica);
    assert!(sandbox.faults().is_empty());
}
