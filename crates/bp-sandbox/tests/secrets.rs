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
    assert_eq!(sm("CreateSecret", create).await, created, "a repeated request with the same token and value");
    let other = json!({ "Name": "db", "SecretString": "b", "ClientRequestToken": one });
    assert_eq!(sm("CreateSecret", other).await, "ResourceExistsException");
    let another = json!({ "Name": "db", "SecretString": "a" });
    assert_eq!(sm("CreateSecret", another).await, "ResourceExistsException");

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
    let pages = async |recursive: bool| {
        let (mut pages, mut next) = (Vec::new(), Value::Null);
        loop {
            let page = by_path(json!({ "Path": "/p", "Recursive": recursive, "NextToken": next })).await;
            pages.push(page["Parameters"].as_array().unwrap().len());
            next = page["NextToken"].clone();
            if next.is_null() {
                return pages;
            }
        }
    };
    assert_eq!(pages(true).await, [10, 10, 6]);
    assert_eq!(pages(false).await, [10, 10, 5]);
    assert_eq!(by_path(json!({ "Path": "/p", "MaxResults": 11 })).await, "ValidationException");
    assert_eq!(by_path(json!({ "Path": "/p", "NextToken": "/p/19" })).await, "InvalidNextToken");

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

/// The names of the secrets or parameters in a response.
fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().filter_map(|item| item["Name"].as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn secrets_are_filtered_in_the_order_of_their_creation() {
    let sandbox = Sandbox::builder().build();
    let sm =
        async |operation: &str, input| call(&sandbox, &format!("secretsmanager.{operation}"), input).await;
    for (name, description, key) in
        [("web/db", "one and two", "team"), ("api/db", "one", "cost"), ("web/key", "two", "team")]
    {
        let tags = json!([{ "Key": key, "Value": "shop" }]);
        let create = json!({ "Name": name, "SecretString": "x", "Description": description, "Tags": tags });
        assert!(sm("CreateSecret", create).await["ARN"].is_string());
    }
    let described = sm("DescribeSecret", json!({ "SecretId": "api/db" })).await;
    assert_eq!(described["Tags"], json!([{ "Key": "cost", "Value": "shop" }]));

    let listed =
        async |filters: Value| sm("ListSecrets", json!({ "Filters": filters })).await["SecretList"].clone();
    assert_eq!(names(&listed(json!([])).await), ["web/db", "api/db", "web/key"]);
    for (key, values, expected) in [
        ("name", json!(["web/"]), vec!["web/db", "web/key"]),
        ("name", json!(["WEB"]), vec![]),
        ("name", json!(["api", "web/k"]), vec!["api/db", "web/key"]),
        ("name", json!(["!web"]), vec!["api/db"]),
        ("description", json!(["TWO one"]), vec!["web/db"]),
        ("tag-key", json!(["te"]), vec!["web/db", "web/key"]),
        ("tag-value", json!(["shop"]), vec!["web/db", "api/db", "web/key"]),
        ("all", json!(["key"]), vec!["web/key"]),
        ("owning-service", json!(["rds"]), vec![]),
        ("primary-region", json!(["eu"]), vec![]),
    ] {
        let found = listed(json!([{ "Key": key, "Values": values }])).await;
        assert_eq!(names(&found), expected, "{key} {values}");
    }
    let both = json!([{ "Key": "name", "Values": ["web"] }, { "Key": "description", "Values": ["one"] }]);
    assert_eq!(names(&listed(both.clone()).await), ["web/db"]);
    for (filter, error) in [
        (json!({ "Values": ["x"] }), "InvalidParameterException"),
        (json!({ "Key": "name" }), "InvalidParameterException"),
        (json!({ "Key": "colour", "Values": ["x"] }), "ValidationException"),
    ] {
        assert_eq!(sm("ListSecrets", json!({ "Filters": [filter] })).await, error);
    }
    let reversed = sm("ListSecrets", json!({ "SortBy": "name", "SortOrder": "desc" })).await;
    assert_eq!(names(&reversed["SecretList"]), ["web/key", "web/db", "api/db"]);

    let batch = async |input: Value| sm("BatchGetSecretValue", input).await;
    let filters = json!([{ "Key": "name", "Values": ["web"] }]);
    let first = batch(json!({ "Filters": filters, "MaxResults": 1 })).await;
    assert_eq!(names(&first["SecretValues"]), ["web/db"]);
    let second = batch(json!({ "Filters": filters, "MaxResults": 1, "NextToken": first["NextToken"] })).await;
    assert_eq!((names(&second["SecretValues"]), &second["NextToken"]), (vec!["web/key"], &Value::Null));
    for input in [
        json!({ "Filters": both, "SecretIdList": ["web/db"] }),
        json!({ "SecretIdList": ["web/db"], "MaxResults": 1 }),
        json!({}),
    ] {
        assert_eq!(batch(input).await, "InvalidParameterException");
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_deleted_within_the_rules() {
    let sandbox = Sandbox::builder().build();
    let sm =
        async |operation: &str, input| call(&sandbox, &format!("secretsmanager.{operation}"), input).await;
    assert!(sm("CreateSecret", json!({ "Name": "db" })).await["VersionId"].is_null());
    assert!(sm("DescribeSecret", json!({ "SecretId": "db" })).await["VersionIdsToStages"].is_null());
    let pending = json!({ "SecretId": "db", "SecretString": "x", "VersionStages": ["AWSPENDING"] });
    assert_eq!(sm("PutSecretValue", pending).await["VersionStages"], json!(["AWSPENDING", "AWSCURRENT"]));
    assert_eq!(sm("PutSecretValue", json!({ "SecretId": "db" })).await, "InvalidRequestException");
    let short = json!({ "SecretId": "db", "SecretString": "x", "ClientRequestToken": "1" });
    assert_eq!(sm("PutSecretValue", short).await, "InvalidParameterException");

    let delete = async |input: Value| sm("DeleteSecret", input).await;
    for days in [0, 6, 31] {
        let input = json!({ "SecretId": "db", "RecoveryWindowInDays": days });
        assert_eq!(delete(input).await, "InvalidParameterException");
    }
    let both = json!({ "SecretId": "db", "RecoveryWindowInDays": 7, "ForceDeleteWithoutRecovery": true });
    assert_eq!(delete(both).await, "InvalidParameterException");
    assert_eq!(delete(json!({ "SecretId": "db" })).await["Name"], "db");
    assert_eq!(delete(json!({ "SecretId": "db" })).await, "InvalidRequestException");
    assert_eq!(names(&sm("ListSecrets", json!({})).await["SecretList"]), [""; 0]);
    let planned = sm("ListSecrets", json!({ "IncludePlannedDeletion": true })).await;
    assert_eq!(names(&planned["SecretList"]), ["db"]);
    for _ in 0..2 {
        let force = json!({ "SecretId": "db", "ForceDeleteWithoutRecovery": true });
        assert_eq!(delete(force).await["Name"], "db", "also when it does not exist");
    }
    assert_eq!(delete(json!({ "SecretId": "db" })).await, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn parameters_are_validated() {
    let sandbox = Sandbox::builder().build();
    let ssm = async |operation: &str, input| call(&sandbox, &format!("AmazonSSM.{operation}"), input).await;
    let put = async |mut changes: Value| {
        let mut input = json!({ "Name": "/app/host", "Value": "v", "Type": "String" });
        input.as_object_mut().unwrap().append(changes.as_object_mut().unwrap());
        ssm("PutParameter", input).await
    };
    for (changes, error) in [
        (json!({ "Value": "" }), "ValidationException"),
        (json!({ "Type": "str" }), "ValidationException"),
        (json!({ "Type": null }), "ValidationException"),
        (json!({ "Type": null, "Overwrite": true }), "ValidationException"),
        (json!({ "DataType": "binary" }), "ValidationException"),
        (json!({ "Name": "aws_host" }), "ValidationException"),
        (json!({ "Name": "/SSM/host" }), "ValidationException"),
        (json!({ "Name": "/AWS/app/host" }), "AccessDeniedException"),
        (json!({ "Overwrite": true, "Tags": [{ "Key": "a", "Value": "b" }] }), "ValidationException"),
    ] {
        assert_eq!(put(changes.clone()).await, error, "{changes}");
    }
    assert_eq!(put(json!({ "DataType": "aws:ec2:image" })).await["Version"], 1);
    assert_eq!(put(json!({ "Type": null, "Overwrite": true })).await["Version"], 2);
    let kept = ssm("GetParameter", json!({ "Name": "/app/host" })).await;
    assert_eq!(
        (&kept["Parameter"]["Type"], &kept["Parameter"]["DataType"]),
        (&json!("String"), &json!("aws:ec2:image"))
    );
    assert_eq!(ssm("GetParameter", json!({ "Name": "/app/host:1:2" })).await, "ParameterNotFound");

    let label = async |labels: Vec<String>| {
        ssm("LabelParameterVersion", json!({ "Name": "/app/host", "ParameterVersion": 1, "Labels": labels }))
            .await
    };
    let labels = |range: std::ops::Range<u32>| range.map(|n| format!("l{n}")).collect::<Vec<_>>();
    assert_eq!(label(labels(0..11)).await, "ParameterVersionLabelLimitExceeded");
    assert_eq!(label(labels(0..10)).await["InvalidLabels"], json!([]));
    assert_eq!(label(labels(5..10)).await["InvalidLabels"], json!([]));
    assert_eq!(label(labels(10..11)).await, "ParameterVersionLabelLimitExceeded");
    assert_eq!(label(vec!["l".repeat(101)]).await, "ValidationException");

    for _ in 2..100 {
        put(json!({ "Overwrite": true })).await;
    }
    assert_eq!(put(json!({ "Overwrite": true })).await, "ParameterMaxVersionLimitExceeded");
}

#[tokio::test(start_paused = true)]
async fn parameters_are_found_by_path_and_filter() {
    let sandbox = Sandbox::builder().build();
    let ssm = async |operation: &str, input| call(&sandbox, &format!("AmazonSSM.{operation}"), input).await;
    for (name, kind, key) in [
        ("root", "String", Value::Null),
        ("/app/list", "StringList", Value::Null),
        ("/app/key", "SecureString", Value::Null),
        ("/app/own", "SecureString", json!("alias/shop")),
    ] {
        let put = json!({ "Name": name, "Value": "v", "Type": kind, "KeyId": key });
        assert_eq!(ssm("PutParameter", put).await["Version"], 1);
    }
    ssm("LabelParameterVersion", json!({ "Name": "/app/list", "Labels": ["live"] })).await;
    let found = async |path: &str, filters: Value| {
        ssm("GetParametersByPath", json!({ "Path": path, "ParameterFilters": filters })).await
    };
    assert_eq!(names(&found("/", json!([])).await["Parameters"]), ["root"]);
    for (filter, expected) in [
        (json!({ "Key": "Type", "Values": ["StringList"] }), vec!["/app/list"]),
        (
            json!({ "Key": "Type", "Option": "BeginsWith", "Values": ["Secure"] }),
            vec!["/app/key", "/app/own"],
        ),
        (json!({ "Key": "KeyId", "Values": ["alias/aws/ssm"] }), vec!["/app/key"]),
        (json!({ "Key": "Label", "Values": ["live"] }), vec!["/app/list"]),
    ] {
        assert_eq!(names(&found("/app", json!([filter])).await["Parameters"]), expected, "{filter}");
    }
    assert_eq!(found("/app", json!([{ "Key": "Name", "Values": ["x"] }])).await, "InvalidFilterKey");
    let option = json!([{ "Key": "Type", "Option": "Contains", "Values": ["x"] }]);
    assert_eq!(found("/app", option).await, "InvalidFilterOption");
}
