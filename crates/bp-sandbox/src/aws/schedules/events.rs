//! EventBridge: event buses, rules and targets.

use std::{collections::BTreeMap, sync::Mutex};

use serde_json::{Value, json};

use super::parameters::{Place, ecs_parameters, invalid, page, place};
use crate::{
    aws::{
        context::Context,
        wire::{Answer, ApiError, Call, text},
    },
    sync::lock,
};

/// The maximum number of targets of a rule.
const TARGETS: usize = 5;
/// The maximum number of items on a page.
const PAGE: u64 = 100;

/// The rules, by bus and name.
type Rules = BTreeMap<String, BTreeMap<String, Rule>>;

/// The service.
#[derive(Debug, Default)]
pub(in crate::aws) struct Events(Mutex<BTreeMap<Place, Rules>>);

#[derive(Debug, Default)]
struct Rule {
    /// The members of DescribeRule's response.
    members: Value,
    targets: Vec<Value>,
}

impl Events {
    pub(in crate::aws) fn call(&self, context: &Context, call: &Call) -> Answer {
        let here = place(call);
        match call.operation.as_str() {
            "ListEventBuses" => self.list_buses(call),
            "ListRules" => self.list_rules(call),
            "DescribeRule" => self.at(&here, &call.input, "Name", |rule| Ok(rule.members.clone())),
            "ListRuleNamesByTarget" => self.list_rule_names(call),
            "ListTargetsByRule" => self.at(&here, &call.input, "Rule", |rule| {
                let (targets, next) = paged(call, &rule.targets)?;
                Ok(json!({ "Targets": targets, "NextToken": next }))
            }),
            "PutTargets" => {
                let passes = call.input["Targets"].as_array().into_iter().flatten();
                if passes.into_iter().any(|target| target["RoleArn"].is_string()) {
                    context.authorize_action(call, "iam:PassRole")?;
                }
                self.put(&here, &call.input)
            }
            _ => Err(call.unknown()),
        }
    }

    fn with<T>(&self, here: &Place, work: impl FnOnce(&mut Rules) -> T) -> T {
        let mut places = lock(&self.0);
        let rules = places.entry(here.clone()).or_default();
        rules.entry("default".to_owned()).or_default();
        work(rules)
    }

    /// Works on the rule that the member `name` of the input names.
    fn at<T>(
        &self,
        here: &Place,
        input: &Value,
        name: &str,
        work: impl FnOnce(&mut Rule) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let (bus, name) = (bus_of(input), text(input, name));
        self.with(here, |rules| {
            let missing = || not_found(format!("Rule {name} does not exist on EventBus {bus}."));
            work(rules.get_mut(&bus).ok_or_else(|| no_bus(&bus))?.get_mut(name).ok_or_else(missing)?)
        })
    }

    fn list_buses(&self, call: &Call) -> Answer {
        let (account, region) = place(call);
        let bus = |name: &String| json!({ "Name": name, "Arn": format!("arn:aws:events:{region}:{account}:event-bus/{name}") });
        let all: Vec<Value> = self.with(&place(call), |rules| rules.keys().map(bus).collect());
        let (buses, next) = paged(call, &all)?;
        Ok(json!({ "EventBuses": buses, "NextToken": next }))
    }

    fn list_rules(&self, call: &Call) -> Answer {
        let all = self.rules(call, |_| true)?;
        let (rules, next) = paged(call, &all)?;
        Ok(json!({ "Rules": rules, "NextToken": next }))
    }

    fn list_rule_names(&self, call: &Call) -> Answer {
        let arn = call.text("TargetArn");
        if arn.is_empty() {
            return Err(invalid(
                "1 validation error detected: Value null at 'targetArn' failed to satisfy constraint",
            ));
        }
        let found = self.rules(call, |rule| rule.targets.iter().any(|target| target["Arn"] == arn))?;
        let names: Vec<Value> = found.into_iter().map(|mut rule| rule["Name"].take()).collect();
        let (names, next) = paged(call, &names)?;
        Ok(json!({ "RuleNames": names, "NextToken": next }))
    }

    /// The rules of a bus.
    fn rules(&self, call: &Call, is_wanted: impl Fn(&Rule) -> bool) -> Result<Vec<Value>, ApiError> {
        let bus = bus_of(&call.input);
        self.with(&place(call), |rules| {
            let rules = rules.get(&bus).ok_or_else(|| no_bus(&bus))?.values();
            Ok(rules.filter(|rule| is_wanted(rule)).map(|rule| rule.members.clone()).collect())
        })
    }

    /// PutTargets: a target with the same id is replaced as a whole.
    pub(super) fn put(&self, here: &Place, input: &Value) -> Answer {
        let targets = input["Targets"].as_array().cloned().unwrap_or_default();
        if targets.is_empty() || targets.len() > PAGE as usize {
            return Err(invalid(
                "1 validation error detected: Value at 'targets' failed to satisfy constraint: Member must have length \
                 between 1 and 100",
            ));
        }
        let targets = targets.into_iter().map(checked).collect::<Result<Vec<Value>, _>>()?;
        self.at(here, input, "Rule", |rule| {
            if rule.members["ManagedBy"].is_string() {
                let message = "Rule is a managed rule and its targets cannot be changed.";
                return Err(ApiError::new(400, "ManagedRuleException", message));
            }
            let mut changed = rule.targets.clone();
            for target in targets {
                match changed.iter_mut().find(|known| known["Id"] == target["Id"]) {
                    Some(known) => *known = target,
                    None => changed.push(target),
                }
            }
            if changed.len() > TARGETS {
                let message = "The requested resource exceeds the maximum number allowed.";
                return Err(ApiError::new(400, "LimitExceededException", message));
            }
            rule.targets = changed;
            Ok(json!({ "FailedEntryCount": 0, "FailedEntries": [] }))
        })
    }

    pub(super) fn create_rule(&self, here: &Place, bus: &str, name: &str, members: Value) {
        let (account, region) = here;
        let path = if bus == "default" { name.to_owned() } else { format!("{bus}/{name}") };
        let mut view = json!({
            "Name": name, "EventBusName": bus, "State": "ENABLED",
            "Arn": format!("arn:aws:events:{region}:{account}:rule/{path}"),
        });
        for (member, value) in members.as_object().into_iter().flatten() {
            view[member] = value.clone();
        }
        self.with(here, |rules| {
            rules.entry(bus.to_owned()).or_default().entry(name.to_owned()).or_default().members = view;
        });
    }

    pub(super) fn delete_rule(&self, here: &Place, bus: &str, name: &str) {
        self.with(here, |rules| rules.get_mut(bus).and_then(|rules| rules.remove(name)));
    }

    pub(super) fn targets(&self, here: &Place, bus: &str, name: &str) -> Vec<Value> {
        self.with(here, |rules| Some(rules.get(bus)?.get(name)?.targets.clone())).unwrap_or_default()
    }
}

/// The bus of a request: a name or an ARN.
fn bus_of(input: &Value) -> String {
    let name = text(input, "EventBusName");
    let name = name.rsplit('/').next().unwrap_or(name);
    if name.is_empty() { "default".to_owned() } else { name.to_owned() }
}

/// A target as it is stored, with defaults.
fn checked(mut target: Value) -> Result<Value, ApiError> {
    let (id, arn) = (text(&target, "Id").to_owned(), text(&target, "Arn").to_owned());
    if id.is_empty() || arn.is_empty() {
        return Err(invalid("1 validation error detected: Value null at 'targets.1.member.arn' failed"));
    }
    if arn.contains(":ecs:") {
        if text(&target, "RoleArn").is_empty() {
            return Err(invalid(format!("RoleArn is required for target {arn}.")));
        }
        if !target["EcsParameters"].is_object() {
            return Err(invalid(format!("Parameter(s) EcsParameters must be specified for target: {id}.")));
        }
        ecs_parameters(&mut target["EcsParameters"])?;
        for member in ["EnableECSManagedTags", "EnableExecuteCommand"] {
            if target["EcsParameters"][member].is_null() {
                target["EcsParameters"][member] = json!(false);
            }
        }
    } else if !target["EcsParameters"].is_null() {
        return Err(invalid(format!("Parameter(s) EcsParameters not valid for target: {id}.")));
    }
    Ok(target)
}

fn paged(call: &Call, all: &[Value]) -> Result<(Vec<Value>, Option<String>), ApiError> {
    let limit = call.input["Limit"].as_u64().unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(invalid("1 validation error detected: Value at 'limit' failed to satisfy constraint"));
    }
    page(all, call.text("NextToken"), limit as usize)
}

fn not_found(message: String) -> ApiError {
    ApiError::new(400, "ResourceNotFoundException", message)
}

fn no_bus(bus: &str) -> ApiError {
    not_found(format!("Event bus {bus} does not exist."))
}
