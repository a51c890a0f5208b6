//! Tests of the Secrets Manager and Parameter Store models in their wire format.
#![cfg(feature = "aws")]

use bp_sandbox::{Body, Sandbox};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Calls an operation (`secretsmanager.GetSecretValue`) and returns its response, or the error code as a string.
async fn call(sandbox: &Sandbox, target: &str, input: Value) -> Value {
    let request = Request::post("https://api.eu-central-1.amazonaws.com/")
        .header("x-amz-target", target)
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-central-1/x/aws4_request, SignedHeaders=host, Signature=0",
        )
        .body(Body::from(input.to_string()))
        .unwrap();
    let response = sandbox.transport().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    if status.is_success() { answer } else { answer["__type"].clone() }
}

#[tokio::test(start_paused = true)]
async fn staging_labels_move_as_in_a_rotation() {
    let sandbox = Sandbox::builder().build();
    let sm =
        async |operation: &str, input| call(&sandbox, &format!("secretsmanager.{operation}"), input).await;
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    let create = json!({ "Name": "db", "SecretString": "a", "ClientRequestToken": one });
    let created = sm("CreateSecret", create.clone()).await;
    assert_eq!(created["VersionId"], one);
    assert_eq!(sm("CreateSecret", create).await, "ResourceExistsException");

    let put = json!({ "SecretId": "db", "SecretString": "b", "ClientRequestToken": two, "VersionStages": ["AWSPENDING"] });
    assert_eq!(sm("PutSecretValue", put.clone()).await["VersionId"], two);
    assert_eq!(
        sm("PutSecretValue", put).await["VersionId"],
        two,
        "a repeated request with the same token and value"
    );
    let other = json!({ "SecretId": "db", "SecretString": "c", "ClientRequestToken": two });
    assert_eq!(sm("PutSecretValue", other).await, "ResourceExistsException");
    assert_eq!(sm("GetSecretValue", json!({ "SecretId": "db" })).await["SecretString"], "a");

    let finish = |from| json!({ "SecretId": "db", "VersionStage": "AWSCURRENT", "MoveToVersionId": two, "RemoveFromVersionId": from });
    assert_eq!(sm("UpdateSecretVersionStage", finish(Value::Null)).await, "InvalidParameterException");
    sm("UpdateSecretVersionStage", finish(json!(one))).await;
    let described = sm("DescribeSecret", json!({ "SecretId": created["ARN"] })).await;
    assert_eq!(
        described["VersionIdsToStages"],
        json!({ one.as_str(): ["AWSPREVIOUS"], two.as_str(): ["AWSCURRENT", "AWSPENDING"] })
    );
    let mismatch = json!({ "SecretId": "db", "VersionId": one, "VersionStage": "AWSCURRENT" });
    assert_eq!(sm("GetSecretValue", mismatch).await, "InvalidRequestException");

    sm("DeleteSecret", json!({ "SecretId": "db" })).await;
    assert_eq!(sm("GetSecretValue", json!({ "SecretId": "db" })).await, "InvalidRequestException");
    sm("DeleteSecret", json!({ "SecretId": "db", "ForceDeleteWithoutRecovery": true })).await;
    assert_eq!(sm("GetSecretValue", json!({ "SecretId": "db" })).await, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn lists_are_paginated_and_batches_are_limited() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(bp_sandbox::aws::DEFAULT_ACCOUNT, "eu-central-1");
    let parameters = sandbox.aws().ssm(bp_sandbox::aws::DEFAULT_ACCOUNT, "eu-central-1");
    for n in 0..25 {
        secrets.create(&format!("s{n:02}"), "x");
        parameters.put(&format!("/p/{n:02}"), "x");
    }
    parameters.put("/p/deep/er", "x");

    let mut pages = Vec::new();
    let mut next = Value::Null;
    loop {
        let input = json!({ "MaxResults": 10, "NextToken": next });
        let page = call(&sandbox, "secretsmanager.ListSecrets", input).await;
        pages.push(page["SecretList"].as_array().unwrap().len());
        next = page["NextToken"].clone();
        if next.is_null() {
            break;
        }
    }
    assert_eq!(pages, [10, 10, 5]);

    let by_path = async |input: Value| call(&sandbox, "AmazonSSM.GetParametersByPath", input).await;
    let first = by_path(json!({ "Path": "/p", "Recursive": true })).await;
    assert_eq!(first["Parameters"].as_array().unwrap().len(), 10);
    let last = by_path(json!({ "Path": "/p", "Recursive": true, "NextToken": "/p/19" })).await;
    assert_eq!((last["Parameters"].as_array().unwrap().len(), &last["NextToken"]), (6, &Value::Null));
    let flat = by_path(json!({ "Path": "/p", "NextToken": "/p/19" })).await;
    assert_eq!(flat["Parameters"].as_array().unwrap().len(), 5);

    let ids = |n: usize| -> Vec<String> { (0..n).map(|n| format!("s{n:02}")).collect() };
    let batch = async |ids: Vec<String>| {
        call(&sandbox, "secretsmanager.BatchGetSecretValue", json!({ "SecretIdList": ids })).await
    };
    assert_eq!(batch(ids(20)).await["SecretValues"].as_array().unwrap().len(), 20);
    assert_eq!(batch(ids(21)).await, "ValidationException");
    let some = batch(vec!["s01".into(), "none".into()]).await;
    assert_eq!(some["Errors"][0]["SecretId"], "none");
    assert_eq!(some["Errors"][0]["ErrorCode"], "ResourceNotFoundException");

    let many =
        async |names: Value| call(&sandbox, "AmazonSSM.GetParameters", json!({ "Names": names })).await;
    assert_eq!(
        many(json!(["/p/01", "/none", "/p/01:9"])).await["InvalidParameters"],
        json!(["/none", "/p/01:9"])
    );
    assert_eq!(many(json!([])).await, "ValidationException");
    assert_eq!(
        many(json!((0..11).map(|n| format!("/p/{n:02}")).collect::<Vec<_>>())).await,
        "ValidationException"
    );
}

#[tokio::test(start_paused = true)]
async fn parameters_have_versions_labels_and_encrypted_values() {
    let sandbox = Sandbox::builder().build();
    let ssm = async |operation: &str, input| call(&sandbox, &format!("AmazonSSM.{operation}"), input).await;
    let put =
        |overwrite| json!({ "Name": "/a", "Value": "v", "Type": "SecureString", "Overwrite": overwrite });
    assert_eq!(ssm("PutParameter", put(false)).await["Version"], 1);
    assert_eq!(ssm("PutParameter", put(false)).await, "ParameterAlreadyExists");
    assert_eq!(ssm("PutParameter", put(true)).await["Version"], 2);
    let label =
        |name: &str| json!({ "Name": "/a", "ParameterVersion": 1, "Labels": [name, "9bad", "awsbad"] });
    assert_eq!(ssm("LabelParameterVersion", label("blue")).await["InvalidLabels"], json!(["9bad", "awsbad"]));

    let sealed = ssm("GetParameter", json!({ "Name": "/a" })).await;
    assert_ne!(sealed["Parameter"]["Value"], "v");
    let open = ssm("GetParameter", json!({ "Name": "/a:blue", "WithDecryption": true })).await;
    assert_eq!(open["Parameter"]["Value"], "v");
    assert_eq!((&open["Parameter"]["Version"], &open["Parameter"]["Selector"]), (&json!(1), &json!(":blue")));
    assert_eq!(ssm("GetParameter", json!({ "Name": "/a:3" })).await, "ParameterVersionNotFound");
    assert_eq!(ssm("GetParameter", json!({ "Name": "/b" })).await, "ParameterNotFound");
}
