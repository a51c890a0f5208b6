//! Models of read-only APIs: IAM roles, and load balancers and target groups of Elastic Load Balancing.

use std::{collections::BTreeMap, sync::Mutex};

use http::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::wire::{ApiError, Call, Protocol, escape, request_id, xml};
use crate::{body::Body, sync::lock};

/// The load balancer of all target groups.
pub(super) const LOAD_BALANCER: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111111111111:loadbalancer/app/shop/0123456789abcdef";
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'-');

/// The roles and target groups.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// Account and name -> the trust policy of the role, in JSON.
    roles: Mutex<BTreeMap<(String, String), String>>,
    /// ARN -> target type, and whether a load balancer uses it.
    target_groups: Mutex<BTreeMap<String, (String, bool)>>,
    /// ARN -> DNS name and state of the load balancer.
    load_balancers: Mutex<BTreeMap<String, (String, String)>>,
    /// ARN -> the addresses of the registered targets, each with its state.
    targets: Mutex<BTreeMap<String, Vec<(String, String)>>>,
}

impl Lookups {
    pub(super) fn create_role(&self, account: &str, name: &str, trust_policy: &Value) {
        let mut roles = lock(&self.roles);
        roles.insert((account.to_owned(), name.to_owned()), trust_policy.to_string());
    }

    pub(super) fn create_target_group(&self, arn: &str, target_type: &str, behind_load_balancer: bool) {
        let mut groups = lock(&self.target_groups);
        groups.insert(arn.to_owned(), (target_type.to_owned(), behind_load_balancer));
    }

    pub(super) fn set_load_balancer(&self, arn: &str, dns_name: &str, state: &str) {
        let mut balancers = lock(&self.load_balancers);
        balancers.insert(arn.to_owned(), (dns_name.to_owned(), state.to_owned()));
    }

    pub(super) fn set_targets(&self, arn: &str, targets: &[(&str, &str)]) {
        let owned = targets.iter().map(|(address, state)| ((*address).to_owned(), (*state).to_owned()));
        lock(&self.targets).insert(arn.to_owned(), owned.collect());
    }

    pub(super) fn call(&self, call: &Call) -> Response<Body> {
        let (namespace, answer) = match (call.service.as_str(), call.operation.as_str()) {
            ("iam", "GetRole") => ("https://iam.amazonaws.com/doc/2010-05-08/", self.role(call)),
            ("elasticloadbalancing", "DescribeTargetGroups") => {
                ("http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/", self.groups(call))
            }
            ("elasticloadbalancing", "DescribeLoadBalancers") => {
                ("http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/", self.balancers(call))
            }
            ("elasticloadbalancing", "DescribeTargetHealth") => {
                ("http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/", self.health(call))
            }
            _ => return call.unknown().response(Protocol::Query),
        };
        let operation = &call.operation;
        match answer {
            Ok(result) => xml(
                200,
                &format!(
                    "<{operation}Response xmlns=\"{namespace}\"><{operation}Result>{result}</{operation}Result>\
                     <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{operation}Response>",
                    request_id()
                ),
            ),
            Err(error) => error.response(Protocol::Query),
        }
    }

    fn role(&self, call: &Call) -> Result<String, ApiError> {
        let name = call.text("RoleName");
        let roles = lock(&self.roles);
        let policy = roles.get(&(call.account.clone(), name.to_owned())).ok_or_else(|| {
            ApiError::new(404, "NoSuchEntity", format!("The role with name {name} cannot be found."))
        })?;
        let (name, account) = (escape(name), &call.account);
        // IAM returns the policy as percent-encoded JSON.
        let policy = utf8_percent_encode(policy, &ENCODED);
        Ok(format!(
            "<Role><Path>/</Path><RoleName>{name}</RoleName><RoleId>AROASANDBOX</RoleId>\
             <Arn>arn:aws:iam::{account}:role/{name}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
             <AssumeRolePolicyDocument>{policy}</AssumeRolePolicyDocument></Role>"
        ))
    }

    fn groups(&self, call: &Call) -> Result<String, ApiError> {
        let groups = lock(&self.target_groups);
        let requested = (1..)
            .map(|n| call.text(&format!("TargetGroupArns.member.{n}")))
            .take_while(|arn| !arn.is_empty());
        let member = |arn: &str| {
            let (kind, behind) = groups.get(arn).ok_or_else(|| {
                ApiError::new(400, "TargetGroupNotFound", "One or more target groups not found")
            })?;
            let balancers = if *behind { format!("<member>{LOAD_BALANCER}</member>") } else { String::new() };
            let arn = escape(arn);
            Ok(format!(
                "<member><TargetGroupArn>{arn}</TargetGroupArn><TargetType>{kind}</TargetType>\
                 <LoadBalancerArns>{balancers}</LoadBalancerArns></member>"
            ))
        };
        let members: Result<String, ApiError> = requested.map(member).collect();
        Ok(format!("<TargetGroups>{}</TargetGroups>", members?))
    }

    fn balancers(&self, call: &Call) -> Result<String, ApiError> {
        let balancers = lock(&self.load_balancers);
        let requested = (1..)
            .map(|n| call.text(&format!("LoadBalancerArns.member.{n}")))
            .take_while(|arn| !arn.is_empty());
        let member = |arn: &str| {
            let (dns_name, state) = balancers.get(arn).ok_or_else(|| {
                let message = format!("Load balancers '[{arn}]' not found");
                ApiError::new(400, "LoadBalancerNotFound", message)
            })?;
            Ok(format!(
                "<member><LoadBalancerArn>{}</LoadBalancerArn><DNSName>{}</DNSName><State><Code>{}</Code></State>\
                 </member>",
                escape(arn),
                escape(dns_name),
                escape(state)
            ))
        };
        let members: Result<String, ApiError> = requested.map(member).collect();
        Ok(format!("<LoadBalancers>{}</LoadBalancers>", members?))
    }

    fn health(&self, call: &Call) -> Result<String, ApiError> {
        let targets = lock(&self.targets);
        let registered = targets.get(call.text("TargetGroupArn")).ok_or_else(|| {
            ApiError::new(400, "TargetGroupNotFound", "One or more target groups not found")
        })?;
        let member = |(address, state): &(String, String)| {
            let why = match state.as_str() {
                "unhealthy" => {
                    "<Reason>Target.FailedHealthChecks</Reason><Description>Health checks failed</Description>"
                }
                "initial" => {
                    "<Reason>Elb.RegistrationInProgress</Reason><Description>Target registration is in progress</Description>"
                }
                _ => "",
            };
            format!(
                "<member><Target><Id>{}</Id><Port>8080</Port></Target><TargetHealth><State>{}</State>{why}</TargetHealth>\
                 </member>",
                escape(address),
                escape(state)
            )
        };
        let members: String = registered.iter().map(member).collect();
        Ok(format!("<TargetHealthDescriptions>{members}</TargetHealthDescriptions>"))
    }
}
