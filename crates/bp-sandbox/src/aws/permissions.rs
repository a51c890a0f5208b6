//! The IAM actions and resources that a call requires, as in the Service Authorization Reference: an action without
//! resource types requires `*`.

use serde_json::Value;

use super::wire::Call;
use crate::ledger::Permission;

/// The permissions that a call requires.
pub(super) fn of(call: &Call) -> Vec<Permission> {
    let action = format!("{}:{}", call.service, call.operation);
    let on = |resources: Vec<String>| -> Vec<Permission> {
        let all = if resources.is_empty() { vec!["*".to_owned()] } else { resources };
        all.into_iter().map(|resource| Permission::new(action.clone(), resource)).collect()
    };
    match call.service.as_str() {
        // Every caller may call it.
        "sts" if call.operation == "GetCallerIdentity" => Vec::new(),
        "sts" => on(texts(&call.input, "RoleArn")),
        "ecr" => on(repositories(call)),
        "ecs" => [on(ecs(call)), also(call)].concat(),
        "eks" => on(eks(call)),
        "secretsmanager" => {
            let ids = [texts(&call.input, "SecretId"), texts(&call.input, "SecretIdList")].concat();
            // The ARN of a secret ends in six random characters.
            on(named(call, &ids, "secret:", "-AbCdEf"))
        }
        "ssm" => {
            let names = [texts(&call.input, "Name"), texts(&call.input, "Names")].concat();
            let names: Vec<String> = names.iter().map(|name| parameter(name)).collect();
            on(named(call, &names, "parameter/", ""))
        }
        "logs" => on(logs(call)),
        "events" => [on(rules(call)), also(call)].concat(),
        "scheduler" => [on(schedules(call)), also(call)].concat(),
        "iam" => {
            let names = texts(&call.input, "RoleName");
            on(names.iter().map(|name| format!("arn:aws:iam::{}:role/{name}", call.account)).collect())
        }
        _ => on(Vec::new()),
    }
}

/// A text, or the texts of a list.
fn texts(input: &Value, field: &str) -> Vec<String> {
    match &input[field] {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn arn(call: &Call, resource: &str) -> String {
    format!("arn:aws:{}:{}:{}:{resource}", call.service, call.region, call.account)
}

/// ARNs as they are, and the ARNs of names.
fn named(call: &Call, names: &[String], prefix: &str, suffix: &str) -> Vec<String> {
    let of = |name: &String| {
        if name.starts_with("arn:") { name.clone() } else { arn(call, &format!("{prefix}{name}{suffix}")) }
    };
    names.iter().map(of).collect()
}

/// A parameter's name as in its ARN: without the first slash, version and label.
fn parameter(name: &str) -> String {
    if name.starts_with("arn:") {
        return name.to_owned();
    }
    let name = name.trim_start_matches('/');
    name.split(':').next().unwrap_or(name).to_owned()
}

fn repositories(call: &Call) -> Vec<String> {
    let registry = match call.text("registryId") {
        "" => call.account.as_str(),
        id => id,
    };
    let names = [texts(&call.input, "repositoryName"), texts(&call.input, "repositoryNames")].concat();
    let of = |name: &String| format!("arn:aws:ecr:{}:{registry}:repository/{name}", call.region);
    match call.operation.as_str() {
        "DescribeRepositories" if names.is_empty() => vec![of(&"*".to_owned())],
        _ => names.iter().map(of).collect(),
    }
}

/// The last part of an ARN, or the name as it is.
fn short(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}

fn ecs(call: &Call) -> Vec<String> {
    let cluster = match short(call.text("cluster")) {
        "" => "default",
        name => name,
    };
    let of_cluster = |kind: &str, names: Vec<String>| -> Vec<String> {
        names.iter().map(|name| arn(call, &format!("{kind}/{cluster}/{}", short(name)))).collect()
    };
    let input = &call.input;
    match call.operation.as_str() {
        "DescribeServices" => of_cluster("service", texts(input, "services")),
        "UpdateService" | "ListServiceDeployments" => of_cluster("service", texts(input, "service")),
        "DescribeServiceDeployments" => texts(input, "serviceDeploymentArns"),
        "DescribeServiceRevisions" => texts(input, "serviceRevisionArns"),
        "StopServiceDeployment" | "ContinueServiceDeployment" => texts(input, "serviceDeploymentArn"),
        "RegisterTaskDefinition" => texts(input, "family")
            .iter()
            .map(|family| arn(call, &format!("task-definition/{family}:*")))
            .collect(),
        "RunTask" => definitions(call),
        "DescribeTasks" => of_cluster("task", texts(input, "tasks")),
        "StopTask" => of_cluster("task", texts(input, "task")),
        "ListContainerInstances" => vec![arn(call, &format!("cluster/{cluster}"))],
        "DescribeContainerInstances" => of_cluster("container-instance", texts(input, "containerInstances")),
        "DescribeCapacityProviders" => {
            let names = texts(input, "capacityProviders");
            names.iter().map(|name| arn(call, &format!("capacity-provider/{}", short(name)))).collect()
        }
        "ListTagsForResource" => texts(input, "resourceArn"),
        // DescribeTaskDefinition and the lists have no resources that this API's callers could be limited to.
        _ => Vec::new(),
    }
}

/// The task definition of a call, without its revision if the call has none.
fn definitions(call: &Call) -> Vec<String> {
    let of = |name: &String| {
        let name = short(name);
        arn(call, &format!("task-definition/{name}{}", if name.contains(':') { "" } else { ":*" }))
    };
    texts(&call.input, "taskDefinition").iter().map(of).collect()
}

/// Actions that a call requires besides its own: to tag what it creates, and to pass roles to other services.
fn also(call: &Call) -> Vec<Permission> {
    let input = &call.input;
    let mut all = Vec::new();
    let is_tagged = input["tags"].as_array().is_some_and(|tags| !tags.is_empty());
    if is_tagged && call.operation == "RegisterTaskDefinition" {
        all.extend(ecs(call).into_iter().map(|resource| Permission::new("ecs:TagResource", resource)));
    }
    let propagates = input["propagateTags"].as_str().is_some_and(|from| from != "NONE");
    if call.operation == "RunTask" && (is_tagged || propagates) {
        let task = arn(call, &format!("task/{}/*", short(call.text("cluster"))));
        all.push(Permission::new("ecs:TagResource", task));
    }
    let mut roles = [texts(input, "taskRoleArn"), texts(input, "executionRoleArn")].concat();
    for target in input["Targets"].as_array().into_iter().flatten().chain(input.get("Target")) {
        roles.extend(texts(target, "RoleArn"));
    }
    roles.sort();
    roles.dedup();
    all.extend(roles.into_iter().map(|role| Permission::new("iam:PassRole", role)));
    all
}

fn eks(call: &Call) -> Vec<String> {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let resource = match path.as_slice() {
        ["clusters", cluster, "access-entries", principal] => format!("access-entry/{cluster}/{principal}"),
        ["clusters", cluster, "pod-identity-associations", id] => {
            format!("podidentityassociation/{cluster}/{id}")
        }
        ["clusters", cluster, ..] => format!("cluster/{cluster}"),
        _ => return Vec::new(),
    };
    vec![arn(call, &resource)]
}

fn logs(call: &Call) -> Vec<String> {
    let group = texts(&call.input, "logGroupName");
    let stream = call.text("logStreamName");
    group.iter().map(|group| arn(call, &format!("log-group:{group}:log-stream:{stream}"))).collect()
}

fn rules(call: &Call) -> Vec<String> {
    let bus = match short(call.text("EventBusName")) {
        "" | "default" => String::new(),
        name => format!("{name}/"),
    };
    let names = match call.operation.as_str() {
        "DescribeRule" => texts(&call.input, "Name"),
        "ListTargetsByRule" | "PutTargets" => texts(&call.input, "Rule"),
        _ => return Vec::new(),
    };
    names.iter().map(|name| arn(call, &format!("rule/{bus}{name}"))).collect()
}

fn schedules(call: &Call) -> Vec<String> {
    let [list, name] = call.path.as_slice() else { return Vec::new() };
    let group = [call.text("GroupName"), call.text("groupName"), "default"];
    let group = group.into_iter().find(|group| !group.is_empty()).unwrap_or_default();
    if list == "schedules" { vec![arn(call, &format!("schedule/{group}/{name}"))] } else { Vec::new() }
}
