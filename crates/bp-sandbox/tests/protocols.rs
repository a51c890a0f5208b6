//! Tests of the wire protocols: operations that are not modelled are rejected in the protocol of the request.
#![cfg(feature = "aws")]

use bp_sandbox::{Body, Sandbox};
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// Sends a request that is signed for `service`; returns status and body of the response.
async fn send(service: &str, request: http::request::Builder, body: &str) -> (u16, String) {
    let credential = format!("AKIATEST/20260101/us-east-1/{service}/aws4_request");
    let request = request
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={credential}, Signature=0"))
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = Sandbox::builder().build().transport().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn post() -> http::request::Builder {
    Request::post("https://api.us-east-1.amazonaws.com/")
}

#[tokio::test(start_paused = true)]
async fn unknown_operations_are_rejected_in_the_protocol_of_the_request() {
    let get = |path: &str| Request::get(format!("https://api.us-east-1.amazonaws.com{path}"));
    let form = "Action=Frobnicate&Version=2012-11-05";
    for (service, request, body, status, expected) in [
        (
            "ssm",
            post().header("x-amz-target", "AmazonSSM.Frobnicate"),
            "{}",
            400,
            "\"__type\":\"UnknownOperationException\"",
        ),
        (
            "dynamodb",
            post().header("x-amz-target", "DynamoDB_20120810.Frobnicate"),
            "{}",
            400,
            "\"UnknownOperationException\"",
        ),
        ("sts", post(), form, 400, "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidAction</Code>"),
        (
            "autoscaling",
            post(),
            form,
            400,
            "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidAction</Code>",
        ),
        ("sqs", get("/?Action=Frobnicate"), "", 400, "<ErrorResponse>"),
        ("ec2", post(), form, 400, "<Response><Errors><Error><Code>InvalidAction</Code>"),
        ("route53", get("/2013-04-01/hostedzone"), "", 404, "<ErrorResponse>"),
        ("s3", get("/bucket"), "", 501, "<Error><Code>NotImplemented</Code>"),
        ("s3", Request::put("https://api.us-east-1.amazonaws.com/bucket/key"), "not JSON", 501, "<Error>"),
        ("lambda", get("/2015-03-31/functions"), "", 404, "\"__type\":\"UnknownOperationException\""),
        ("eks", get("/addons"), "", 404, "\"__type\":\"UnknownOperationException\""),
    ] {
        let (found, text) = send(service, request, body).await;
        assert_eq!(found, status, "{service}: {text}");
        assert!(text.contains(expected) && text.contains("bp-sandbox does not model"), "{service}: {text}");
    }
}
