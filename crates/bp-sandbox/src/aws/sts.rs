//! Model of the AWS STS API: GetCallerIdentity and AssumeRole.

use http::Response;

use super::{
    context::Context,
    identity::Identity,
    wire::{ApiError, Call, Protocol, escape, request_id, xml},
};
use crate::body::Body;

/// The maximum length of a session's name.
const SESSION_NAME: usize = 64;

pub(super) fn call(context: &Context, call: &Call) -> Response<Body> {
    match call.operation.as_str() {
        "GetCallerIdentity" => {
            let identity = context.identities.of(&call.access_key_id);
            answer(
                "GetCallerIdentity",
                &format!(
                    "<Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account>",
                    escape(&identity.arn),
                    escape(&call.access_key_id),
                    identity.account
                ),
            )
        }
        "AssumeRole" => assume_role(context, call),
        _ => call.unknown().response(Protocol::Query),
    }
}

/// Credentials whose access key belongs to the role's account; they expire after an hour by default.
fn assume_role(context: &Context, call: &Call) -> Response<Body> {
    let (role, session) = (call.text("RoleArn"), call.text("RoleSessionName"));
    // arn:<partition>:iam::<account>:role/<path and name>
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let (partition, account, name) = match parts.as_slice() {
        ["arn", partition, "iam", "", account, resource] => match resource.strip_prefix("role/") {
            // The ARN of a session does not contain the role's path.
            Some(path) => (partition, (*account).to_owned(), path.rsplit('/').next().unwrap_or(path)),
            None => return invalid(role),
        },
        _ => return invalid(role),
    };
    if session.len() > SESSION_NAME {
        let message = format!(
            "1 validation error detected: Value '{session}' at 'roleSessionName' failed to satisfy constraint: Member must \
             have length less than or equal to {SESSION_NAME}"
        );
        return ApiError::new(400, "ValidationError", message).response(Protocol::Query);
    }
    let key = format!("ASIA{:016X}", fastrand::u64(..));
    let arn = format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}");
    context.identities.assign(&key, Identity { account, arn: arn.clone() });
    let seconds = call.text("DurationSeconds").parse().unwrap_or(3600);
    let expiration = context.clock.now() + std::time::Duration::from_secs(seconds);
    answer(
        "AssumeRole",
        &format!(
            "<AssumedRoleUser><AssumedRoleId>AROASANDBOX:{}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser><Credentials>\
             <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>sandbox-secret</SecretAccessKey>\
             <SessionToken>sandbox-token</SessionToken><Expiration>{expiration:.0}</Expiration></Credentials>",
            escape(session),
            escape(&arn),
        ),
    )
}

fn invalid(role: &str) -> Response<Body> {
    ApiError::new(400, "ValidationError", format!("{role} is invalid")).response(Protocol::Query)
}

fn answer(operation: &str, result: &str) -> Response<Body> {
    xml(
        200,
        &format!(
            "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>{result}\
             </{operation}Result><ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{operation}Response>",
            request_id()
        ),
    )
}
