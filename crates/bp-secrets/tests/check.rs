//! Tests of checks: errors and warnings per reference, and what each depth may read.

mod common;

use bp_sandbox::Sandbox;
use bp_secrets::{
    Depth, Lint, check,
    permissions::{AccountScope, policy},
};
use common::{ACCOUNT, REGION, references, stores};

#[tokio::test(start_paused = true)]
async fn reports_an_error_for_each_invalid_reference() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    secrets.create("db", r#"{"user": "app", "limit": 1000000, "list": [1]}"#);
    secrets.create_binary("blob", b"\x00");
    sandbox.aws().ssm(ACCOUNT, REGION).put_secure("/host", "x");
    let wanted = references([
        "secretsmanager:db",
        "secretsmanager:db:user::",
        "secretsmanager:db:limit::",
        "secretsmanager:db:list::",
        "secretsmanager:db:pass::",
        "secretsmanager:db::AWSPREVIOUS:",
        "secretsmanager:none",
        "secretsmanager:blob",
        "secretsmanager:blob:key::",
        "/host",
        "/host:7",
        "/none",
    ]);
    let report = check(&stores(&sandbox), &wanted, Depth::Read).await;
    let found: Vec<&str> =
        report.checked.iter().map(|c| c.error.as_ref().map_or("ok", bp_secrets::Error::code)).collect();
    assert_eq!(
        found,
        [
            "ok",
            "ok",
            "ok",
            "ok",
            "no-such-key",
            "no-such-version",
            "missing",
            "ok",
            "binary",
            "ok",
            "no-such-version",
            "missing",
        ]
    );
    assert!(!report.is_ok());
    assert_eq!(report.checked[2].warnings, [Lint::GoNumber]);
    assert_eq!(report.checked[3].warnings, [Lint::Compound]);
    assert_eq!(report.checked[7].warnings, [Lint::Binary]);
    assert!(report.errors().any(|e| e.to_string().contains("without the key \"pass\" (it has 3 keys)")));

    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checked"][4]["error"]["code"], "no-such-key");
    assert_eq!(json["checked"][9]["version"], "1");
}

#[tokio::test(start_paused = true)]
async fn reads_no_more_than_its_depth_allows() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    secrets.create("whole", "x");
    secrets.create("keyed", r#"{"a": "1"}"#);
    sandbox.aws().ssm(ACCOUNT, REGION).put_secure("/sealed", "x");
    // Describing does not decrypt.
    sandbox.aws().ssm(ACCOUNT, REGION).deny("/sealed", "kms:Decrypt");
    let wanted = references(["secretsmanager:whole", "secretsmanager:keyed:a::", "/sealed"]);

    let report = check(&stores(&sandbox), &wanted, Depth::Describe).await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.checked.iter().map(|c| c.key_seen).collect::<Vec<_>>(), [None, Some(false), None]);
    assert_eq!(sandbox.ledger().count_of("secretsmanager:DescribeSecret"), 2);
    assert_eq!(sandbox.ledger().count(|entry| entry.operation.contains("GetSecretValue")), 0);

    sandbox.ledger().clear();
    let report = check(&stores(&sandbox), &wanted, Depth::Keys).await;
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.checked[1].key_seen, Some(true));
    assert_eq!(sandbox.ledger().count_of("secretsmanager:DescribeSecret"), 1);
    assert_eq!(sandbox.ledger().count_of("secretsmanager:GetSecretValue"), 1);

    let report = check(&stores(&sandbox), &wanted, Depth::Read).await;
    let error = report.checked[2].error.as_ref().unwrap().to_string();
    assert!(error.contains("kms:Decrypt"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_denied_check_reports_the_missing_permission() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let arn = secrets.create("a", "x");
    secrets.deny("a", "secretsmanager:DescribeSecret");
    let report = check(&stores(&sandbox), &references([&*arn]), Depth::Keys).await;
    let error = report.checked[0].error.as_ref().unwrap().to_string();
    assert!(error.contains(&format!("allow secretsmanager:DescribeSecret on {arn}")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn generates_the_policy_of_the_execution_role() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let arn = secrets.create("db", r#"{"a": "1", "b": "2"}"#);
    let wanted = references([&format!("{arn}:a::"), &*format!("{arn}:b::"), "/host:3"]);
    let report = check(&stores(&sandbox), &wanted, Depth::Describe).await;
    let document =
        policy(&report.grants(Some(&AccountScope::new(&REGION.parse().unwrap(), &ACCOUNT.parse().unwrap()))));
    assert_eq!(
        document,
        serde_json::json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": [arn] },
            { "Effect": "Allow", "Action": ["ssm:GetParameters"],
              "Resource": [format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/host")] },
        ]})
    );
}
