//! Models of the AWS APIs that a delivery calls: ECR, ECS, EKS, EventBridge, Secrets Manager, Systems Manager, STS,
//! CloudWatch alarms and others.
//!
//! One endpoint serves all of them; the credential scope of the request's signature (or, for JSON protocols,
//! `X-Amz-Target`, and for CBOR the path) selects the service. State is kept per account and region. The access key of
//! a request selects its account: see [`Aws::access_key`].

mod alarms;
mod cbor;
mod context;
mod ecr;
pub mod ecs;
mod eks;
mod identity;
mod logs;
mod lookups;
mod permissions;
mod schedules;
mod secretsmanager;
mod ssm;
mod sts;
mod wire;

use std::sync::Arc;

use futures_core::future::BoxFuture;
use http::{Request, Response, request};
use serde_json::{Value, json};

use self::{
    alarms::Alarms,
    context::Context,
    ecr::Ecr,
    ecs::Ecs,
    identity::Identity,
    logs::Logs,
    lookups::Lookups,
    schedules::{Events, Scheduler},
    secretsmanager::SecretsManager,
    ssm::Ssm,
    wire::{Call, Protocol},
};
pub(crate) use self::{eks::Eks, identity::Identities};
use crate::{body::Body, clock::Clock, endpoint::Endpoint, ledger::Permission, runtime::Runtime};

pub use self::{
    alarms::{Alarm, AlarmState},
    identity::DEFAULT_ACCOUNT,
    schedules::Schedules,
    secretsmanager::Secrets,
    ssm::Parameters,
};

/// The AWS APIs of one sandbox.
pub struct Aws {
    context: Arc<Context>,
    alarms: Alarms,
    ecr: Ecr,
    ecs: Arc<Ecs>,
    eks: Eks,
    events: Events,
    logs: Logs,
    lookups: Lookups,
    scheduler: Scheduler,
    secretsmanager: Arc<SecretsManager>,
    ssm: Arc<Ssm>,
}

impl Aws {
    pub(crate) fn new(clock: Clock, runtime: Arc<Runtime>, identities: Arc<Identities>, eks: Eks) -> Self {
        let context = Arc::new(Context::new(clock, runtime, identities));
        let (secretsmanager, ssm) = (Arc::<SecretsManager>::default(), Arc::<Ssm>::default());
        Aws {
            ecs: Arc::new(Ecs::new(Arc::clone(&context), Arc::clone(&secretsmanager), Arc::clone(&ssm))),
            alarms: Alarms::default(),
            ecr: Ecr::default(),
            eks,
            events: Events::default(),
            logs: Logs::default(),
            lookups: Lookups::default(),
            scheduler: Scheduler::default(),
            secretsmanager,
            ssm,
            context,
        }
    }

    /// Assigns `access_key_id` to `account`. Unknown keys belong to [`DEFAULT_ACCOUNT`].
    pub fn access_key(&self, access_key_id: &str, account: &str) {
        self.context.identities.assign(
            access_key_id,
            Identity { account: account.to_owned(), arn: format!("arn:aws:iam::{account}:user/sandbox") },
        );
    }

    /// Assigns `access_key_id` to `account` with the caller `arn`, such as a role session.
    pub fn access_key_as(&self, access_key_id: &str, account: &str, arn: &str) {
        self.context
            .identities
            .assign(access_key_id, Identity { account: account.to_owned(), arn: arn.to_owned() });
    }

    /// Denies an IAM action such as `ecr:BatchGetImage` to all callers.
    pub fn deny(&self, action: &str) {
        self.context.deny(action);
    }

    /// Removes a [denial](Self::deny).
    pub fn allow(&self, action: &str) {
        self.context.allow(action);
    }

    /// Creates an IAM role that `service`, such as `ecs-tasks.amazonaws.com`, may assume.
    pub fn role(self: &Arc<Self>, account: &str, name: &str, service: &str) {
        let policy = json!({ "Statement": [
            { "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole" },
        ] });
        self.role_with(account, name, &policy);
    }

    /// Creates an IAM role with this trust policy.
    pub fn role_with(self: &Arc<Self>, account: &str, name: &str, trust_policy: &Value) {
        self.lookups.create_role(account, name, trust_policy);
    }

    /// Creates a target group with this target type (`ip`, `instance`), behind a load balancer or not.
    pub fn target_group(self: &Arc<Self>, arn: &str, target_type: &str, behind_load_balancer: bool) {
        self.lookups.create_target_group(arn, target_type, behind_load_balancer);
    }

    /// Sets the DNS name and the state (`provisioning`, `active`, `active_impaired`, `failed`) of the load balancer of all
    /// target groups that are [behind one](Self::target_group).
    pub fn load_balancer(&self, dns_name: &str, state: &str) {
        self.lookups.set_load_balancer(lookups::LOAD_BALANCER, dns_name, state);
    }

    /// Sets the targets of a target group that Elastic Load Balancing reports: addresses with their states, such as
    /// `healthy`.
    pub fn targets(&self, arn: &str, targets: &[(&str, &str)]) {
        self.lookups.set_targets(arn, targets);
    }

    /// The CloudWatch alarm `name` of an account in a region.
    pub fn alarm(self: &Arc<Self>, account: &str, region: &str, name: &str) -> Alarm<'_> {
        let key = (account.to_owned(), region.to_owned(), name.to_owned());
        Alarm::new(&self.alarms, &self.context.clock, key)
    }

    /// Creates a log group in CloudWatch Logs. Its streams are those of the tasks that log to it.
    pub fn log_group(self: &Arc<Self>, account: &str, region: &str, name: &str) {
        self.logs.create_group(account, region, name);
    }

    /// The secrets of an account in a region, to create and modify.
    pub fn secretsmanager(&self, account: &str, region: &str) -> Secrets<'_> {
        Secrets::new(&self.secretsmanager, &self.context.clock, account, region)
    }

    /// The parameters of an account in a region, to create and modify.
    pub fn ssm(&self, account: &str, region: &str) -> Parameters<'_> {
        Parameters::new(&self.ssm, &self.context.clock, account, region)
    }

    fn answer(&self, call: &Call) -> Response<Body> {
        let protocol = call.protocol;
        if let Err(error) = self.context.authorize(call) {
            return error.response(protocol);
        }
        let answer = match call.service.as_str() {
            "ecr" => self.ecr.call(&self.context, call),
            "ecs" => self.ecs.call(call),
            "eks" => self.eks.call(call),
            "events" => self.events.call(&self.context, call),
            "scheduler" => self.scheduler.call(&self.context, call),
            "secretsmanager" => self.secretsmanager.call(&self.context, call),
            "ssm" => self.ssm.call(&self.context, call),
            "cloudwatch" => self.alarms.call(call),
            "logs" => self.logs.call(&self.ecs, call),
            "sts" => return sts::call(&self.context, call),
            "iam" | "elasticloadbalancing" => return self.lookups.call(call),
            _ => Err(call.unknown()),
        };
        match answer {
            Ok(value) => wire::answer(200, protocol, &value),
            Err(error) => error.response(protocol),
        }
    }

    /// EventBridge and EventBridge Scheduler of an account in a region.
    pub fn schedules(&self, account: &str, region: &str) -> Schedules<'_> {
        Schedules::new(&self.events, &self.scheduler, &self.context.clock, account, region)
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

    fn authorization(&self, parts: &request::Parts, body: &[u8]) -> (Option<String>, Vec<Permission>) {
        let identities = &self.context.identities;
        match Call::read(identities, parts, body) {
            Ok(call) => (Some(identities.of(&call.access_key_id).arn), permissions::of(&call)),
            Err(_) => (None, Vec::new()),
        }
    }

    fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            match body.bytes().await {
                Ok(body) => match Call::read(&self.context.identities, &parts, &body) {
                    Ok(call) => self.answer(&call),
                    Err(error) => error.response(Protocol::Json),
                },
                Err(_) => Response::new(Body::empty()),
            }
        })
    }
}
