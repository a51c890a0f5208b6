//! Detection of task definition members that the SDK does not support and registering could drop.

use aws_sdk_ecs::{operation::register_task_definition::RegisterTaskDefinitionInput, types as t};
use aws_smithy_schema::Schema;
use serde_json::{Map, Value};

/// The shape of a member that is an object or a list of objects. `None` for plain values, and for maps with keys chosen
/// by the user.
#[allow(deprecated, reason = "old definitions still contain deprecated members")]
fn nested_shape(shape: &str, member: &str) -> Option<&'static Schema<'static>> {
    Some(match (shape, member) {
        ("RegisterTaskDefinitionRequest", "containerDefinitions") => t::ContainerDefinition::SCHEMA,
        ("RegisterTaskDefinitionRequest", "volumes") => t::Volume::SCHEMA,
        ("RegisterTaskDefinitionRequest", "placementConstraints") => {
            t::TaskDefinitionPlacementConstraint::SCHEMA
        }
        ("RegisterTaskDefinitionRequest", "tags") => t::Tag::SCHEMA,
        ("RegisterTaskDefinitionRequest", "proxyConfiguration") => t::ProxyConfiguration::SCHEMA,
        ("RegisterTaskDefinitionRequest", "inferenceAccelerators") => t::InferenceAccelerator::SCHEMA,
        ("RegisterTaskDefinitionRequest", "ephemeralStorage") => t::EphemeralStorage::SCHEMA,
        ("RegisterTaskDefinitionRequest", "runtimePlatform") => t::RuntimePlatform::SCHEMA,
        ("ContainerDefinition", "repositoryCredentials") => t::RepositoryCredentials::SCHEMA,
        ("ContainerDefinition", "portMappings") => t::PortMapping::SCHEMA,
        ("ContainerDefinition", "restartPolicy") => t::ContainerRestartPolicy::SCHEMA,
        ("ContainerDefinition", "environment") => t::KeyValuePair::SCHEMA,
        ("ContainerDefinition", "environmentFiles") => t::EnvironmentFile::SCHEMA,
        ("ContainerDefinition", "mountPoints") => t::MountPoint::SCHEMA,
        ("ContainerDefinition", "volumesFrom") => t::VolumeFrom::SCHEMA,
        ("ContainerDefinition", "linuxParameters") => t::LinuxParameters::SCHEMA,
        ("ContainerDefinition", "secrets") => t::Secret::SCHEMA,
        ("ContainerDefinition", "dependsOn") => t::ContainerDependency::SCHEMA,
        ("ContainerDefinition", "extraHosts") => t::HostEntry::SCHEMA,
        ("ContainerDefinition", "ulimits") => t::Ulimit::SCHEMA,
        ("ContainerDefinition", "logConfiguration") => t::LogConfiguration::SCHEMA,
        ("ContainerDefinition", "healthCheck") => t::HealthCheck::SCHEMA,
        ("ContainerDefinition", "systemControls") => t::SystemControl::SCHEMA,
        ("ContainerDefinition", "resourceRequirements") => t::ResourceRequirement::SCHEMA,
        ("ContainerDefinition", "firelensConfiguration") => t::FirelensConfiguration::SCHEMA,
        ("LinuxParameters", "capabilities") => t::KernelCapabilities::SCHEMA,
        ("LinuxParameters", "devices") => t::Device::SCHEMA,
        ("LinuxParameters", "tmpfs") => t::Tmpfs::SCHEMA,
        ("LogConfiguration", "secretOptions") => t::Secret::SCHEMA,
        ("Volume", "host") => t::HostVolumeProperties::SCHEMA,
        ("Volume", "dockerVolumeConfiguration") => t::DockerVolumeConfiguration::SCHEMA,
        ("Volume", "efsVolumeConfiguration") => t::EfsVolumeConfiguration::SCHEMA,
        ("Volume", "s3filesVolumeConfiguration") => t::S3FilesVolumeConfiguration::SCHEMA,
        ("Volume", "fsxWindowsFileServerVolumeConfiguration") => {
            t::FSxWindowsFileServerVolumeConfiguration::SCHEMA
        }
        ("EFSVolumeConfiguration", "authorizationConfig") => t::EfsAuthorizationConfig::SCHEMA,
        ("FSxWindowsFileServerVolumeConfiguration", "authorizationConfig") => {
            t::FSxWindowsFileServerAuthorizationConfig::SCHEMA
        }
        ("ProxyConfiguration", "properties") => t::KeyValuePair::SCHEMA,
        _ => return None,
    })
}

const INPUT: &Schema<'static> = RegisterTaskDefinitionInput::SCHEMA;

/// The name of a shape, as in [`nested_shape`].
fn shape_name(shape: &Schema<'_>) -> String {
    let (top, id) = (INPUT.shape_id().as_str(), shape.shape_id().as_str());
    if id == top { "RegisterTaskDefinitionRequest" } else { id.rsplit(['#', '$']).next().unwrap_or(id) }
        .to_owned()
}

/// The paths of nested members of RegisterTaskDefinition's input for which the SDK has no field. The caller checks the
/// top-level members.
pub(super) fn unknown(input: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (member, value) in input {
        if let Some(shape) = nested_shape(&shape_name(INPUT), member) {
            search(member, value, shape, &mut found);
        }
    }
    found
}

fn search(path: &str, value: &Value, shape: &'static Schema<'static>, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let at = item["name"].as_str().map_or_else(|| at.to_string(), str::to_owned);
                search(&format!("{path}[{at}]"), item, shape, found);
            }
        }
        Value::Object(members) => {
            for (member, value) in members {
                let path = format!("{path}.{member}");
                match (shape.member_schema(member), nested_shape(&shape_name(shape), member)) {
                    (None, _) => found.push(path),
                    (Some(_), Some(shape)) => search(&path, value, shape, found),
                    (Some(_), None) => {}
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_nested_object_of_the_sdk_has_a_shape() {
        fn walk(shape: &'static Schema<'static>, path: &str) {
            for member in shape.members() {
                let name_of_member = member.member_name().unwrap();
                let path = format!("{path}.{name_of_member}");
                let item = if member.is_list() { member.member().unwrap() } else { member };
                let nested = nested_shape(&shape_name(shape), name_of_member);
                assert_eq!(nested.is_some(), item.is_structure(), "{path} in {}", shape_name(shape));
                if let Some(nested) = nested {
                    walk(nested, &path);
                }
            }
        }
        walk(INPUT, "");
    }

    #[test]
    fn reports_unknown_members_by_path() {
        let input = json!({
            "containerDefinitions": [{
                "name": "web", "image": "i", "enviroment": [],
                "dockerLabels": { "any.label": "is the user's" },
                "logConfiguration": { "logDriver": "awslogs", "options": { "any": "option" }, "level": "info" },
                "secrets": [{ "name": "A", "valueFrom": "x", "optional": true }],
            }],
            "volumes": [{ "name": "v", "efsVolumeConfiguration": { "fileSystemId": "fs", "authorizationConfig": { "iam": "ENABLED", "mtls": true } } }],
        });
        let mut found = unknown(input.as_object().unwrap());
        found.sort();
        assert_eq!(
            found,
            [
                "containerDefinitions[web].enviroment",
                "containerDefinitions[web].logConfiguration.level",
                "containerDefinitions[web].secrets[A].optional",
                "volumes[v].efsVolumeConfiguration.authorizationConfig.mtls",
            ]
        );
    }
}
