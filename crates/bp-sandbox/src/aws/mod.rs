//! Models of the AWS APIs that a delivery calls: ECR, ECS, EKS, Secrets Manager, Systems Manager, STS, CloudWatch
//! alarms and others.
//!
//! One endpoint serves all of them; the credential scope of the request's signature (or, for JSON protocols,
//! `X-Amz-Target`, and for CBOR the path) selects the service. State is kept per account and region. The access key of a request selects its
//! account: see [`Aws::access_key`].

mod alarms;
mod cbor;
mod ecr;
pub mod ecs;
mod eks;
mod logs;
mod lookups;
mod secretsmanager;
mod ssm;
mod sts;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, Weak},
};

use futures_core::future::BoxFuture;
use http::{Request, Response, request};

use self::wire::{ApiError, Call, Protocol};
use crate::{body::Body, clock::Clock, endpoint::Endpoint, runtime::Runtime, sandbox::Shared, sync::lock};

pub use self::{
    alarms::{Alarm, AlarmState},
    secretsmanager::Secrets,
    ssm::Parameters,
};

/// The account of requests with an unknown access key.
pub const DEFAULT_ACCOUNT: &str = "111111111111";

/// The AWS APIs of one sandbox.
pub struct Aws {
    pub(crate) clock: Clock,
    pub(crate) runtime: Arc<Runtime>,
    #[cfg_attr(not(feature = "kube"), allow(dead_code))]
    pub(crate) shared: Weak<Shared>,
    /// Access key id -> account and caller ARN.
    identities: Mutex<BTreeMap<String, Identity>>,
    /// IAM actions that are denied to all callers.
    denied: Mutex<BTreeSet<String>>,
    alarms: alarms::Alarms,
    ecr: ecr::Ecr,
    ecs: ecs::Ecs,
    eks: eks::Eks,
    logs: logs::Logs,
    lookups: lookups::Lookups,
    secretsmanager: secretsmanager::SecretsManager,
    ssm: ssm::Ssm,
}

/// The caller identity of an access key.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
}

impl Aws {
    pub(crate) fn new(clock: Clock, runtime: Arc<Runtime>, shared: Weak<Shared>) -> Self {
        Aws {
            clock,
            runtime,
            shared,
            identities: Mutex::default(),
            denied: Mutex::default(),
            alarms: alarms::Alarms::default(),
            ecr: ecr::Ecr::default(),
            ecs: ecs::Ecs::default(),
            eks: eks::Eks::default(),
            logs: logs::Logs::default(),
            lookups: lookups::Lookups::default(),
            secretsmanager: secretsmanager::SecretsManager::default(),
            ssm: ssm::Ssm::default(),
        }
    }

    /// Assigns `access_key_id` to `account`. Unknown keys belong to [`DEFAULT_ACCOUNT`].
    pub fn access_key(&self, access_key_id: &str, account: &str) {
        self.identify(
            access_key_id,
            Identity { account: account.to_owned(), arn: format!("arn:aws:iam::{account}:user/sandbox") },
        );
    }

    /// Assigns `access_key_id` to `account` with the caller `arn`, such as a role session.
    pub fn access_key_as(&self, access_key_id: &str, account: &str, arn: &str) {
        self.identify(access_key_id, Identity { account: account.to_owned(), arn: arn.to_owned() });
    }

    /// Denies an IAM action such as `ecr:BatchGetImage` to all callers.
    pub fn deny(&self, action: &str) {
        lock(&self.denied).insert(action.to_owned());
    }

    /// Removes a [denial](Self::deny).
    pub fn allow(&self, action: &str) {
        lock(&self.denied).remove(action);
    }

    /// Rejects a call whose action is denied, with the message of IAM.
    fn authorize(&self, call: &Call) -> Result<(), ApiError> {
        self.authorize_action(call, &format!("{}:{}", call.service, call.operation))
    }

    /// Refuses a call that needs `action` besides its own, if that is denied.
    fn authorize_action(&self, call: &Call, action: &str) -> Result<(), ApiError> {
        if !lock(&self.denied).contains(action) {
            return Ok(());
        }
        let caller = self.identity(&call.access_key_id).arn;
        let message = format!(
            "User: {caller} is not authorized to perform: {action} on resource: * because no identity-based policy \
             allows the {action} action"
        );
        let (status, code) = match call.protocol {
            Protocol::Json => (400, "AccessDeniedException"),
            Protocol::Rest => (403, "AccessDeniedException"),
            Protocol::Cbor | Protocol::Query => (403, "AccessDenied"),
        };
        Err(ApiError::new(status, code, message))
    }

    pub(crate) fn identify(&self, access_key_id: &str, identity: Identity) {
        let mut identities = lock(&self.identities);
        identities.insert(access_key_id.to_owned(), identity);
    }

    pub(crate) fn identity(&self, access_key_id: &str) -> Identity {
        let identities = lock(&self.identities);
        identities.get(access_key_id).cloned().unwrap_or_else(|| Identity {
            account: DEFAULT_ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{DEFAULT_ACCOUNT}:user/sandbox"),
        })
    }

    /// The secrets of an account in a region, to create and modify.
    pub fn secretsmanager(&self, account: &str, region: &str) -> Secrets<'_> {
        Secrets::new(&self.secretsmanager, &self.clock, account, region)
    }

    /// The parameters of an account in a region, to create and modify.
    pub fn ssm(&self, account: &str, region: &str) -> Parameters<'_> {
        Parameters::new(&self.ssm, &self.clock, account, region)
    }

    /// Checks that a container's `secrets[].valueFrom` can be read; the error is the ECS agent's message.
    pub(crate) fn secret_exists(&self, account: &str, region: &str, value_from: &str) -> Result<(), String> {
        match value_from.split(':').nth(2) {
            Some("secretsmanager") => self.secretsmanager.exists(account, region, value_from),
            _ => self.ssm.exists(account, region, value_from),
        }
    }

    async fn answer(&self, call: Call) -> Response<Body> {
        let protocol = call.protocol;
        if let Err(error) = self.authorize(&call) {
            return error.response(protocol);
        }
        let answer = match call.service.as_str() {
            "ecr" => self.ecr.call(self, &call).await,
            "ecs" => self.ecs.call(self, &call).await,
            "eks" => self.eks.call(self, &call).await,
            "secretsmanager" => self.secretsmanager.call(self, &call).await,
            "ssm" => self.ssm.call(self, &call).await,
            "cloudwatch" => self.alarms.call(&call),
            "logs" => self.logs.call(self, &call),
            "sts" => return sts::call(self, &call),
            "iam" | "elasticloadbalancing" => return self.lookups.call(&call),
            _ => Err(call.unknown()),
        };
        match answer {
            Ok(value) => wire::answer(200, protocol, &value),
            Err(error) => error.response(protocol),
        }
    }
}

/// Whether `host` is one of the regional API hosts, in any partition.
pub(crate) fn is_api_host(host: &str) -> bool {
    (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") || host.ends_with(".api.aws"))
        && !host.contains(".dkr.")
}

impl Endpoint for Aws {
    fn name(&self) -> String {
        "aws".to_owned()
    }

    /// The service and the API operation, such as `ecs:DescribeServices`.
    fn operation(&self, parts: &request::Parts, body: &[u8]) -> String {
        let (service, operation, _) = wire::route(parts, body);
        format!("{service}:{operation}")
    }

    fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            match body.bytes().await {
                Ok(body) => match Call::read(&self, &parts, &body) {
                    Ok(call) => self.answer(call).await,
                    Err(error) => error.response(Protocol::Json),
                },
                Err(_) => Response::new(Body::empty()),
            }
        })
    }
}
