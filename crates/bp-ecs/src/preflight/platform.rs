//! The platform of a task definition's tasks.

use bp_artifact::Platform;

use crate::definition::TaskDefinition;

/// The platform of `runtimePlatform`; defaults to `linux/amd64`, as in ECS.
pub(super) fn of(definition: &TaskDefinition) -> Platform {
    let runtime = definition.as_json().get("runtimePlatform");
    let text = |field: &str| runtime.and_then(|r| r[field].as_str()).map(str::to_ascii_uppercase);
    let os = match text("operatingSystemFamily") {
        Some(family) if family.starts_with("WINDOWS") => "windows",
        _ => "linux",
    };
    let architecture = match text("cpuArchitecture").as_deref() {
        Some("ARM64") => "arm64",
        _ => "amd64",
    };
    Platform::new(os, architecture, None).expect("constant names")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn converts_runtime_platforms() {
        for (runtime, platform) in [
            (Value::Null, "linux/amd64"),
            (json!({ "cpuArchitecture": "ARM64" }), "linux/arm64"),
            (json!({ "cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX" }), "linux/amd64"),
            (json!({ "operatingSystemFamily": "WINDOWS_SERVER_2022_CORE" }), "windows/amd64"),
        ] {
            let mut json =
                json!({ "family": "web", "containerDefinitions": [{ "name": "web", "image": "i" }] });
            if !runtime.is_null() {
                json["runtimePlatform"] = runtime;
            }
            let definition = TaskDefinition::from_json("test", &json.to_string()).unwrap();
            assert_eq!(of(&definition).to_string(), platform);
        }
    }
}
