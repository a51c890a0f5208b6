//! The columns of the built-in kinds, and those that only `-o wide` shows.

use serde_json::{Value, json};

const TEMPLATE: &[&str] = &["Containers", "Images", "Selector"];
const NONE: &[&str] = &[];

/// The columns of a kind: always shown, and shown with `-o wide`.
pub(super) fn columns(kind: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        "Pod" => (
            &["Name", "Ready", "Status", "Restarts", "Age"],
            &["IP", "Node", "Nominated Node", "Readiness Gates"],
        ),
        "Deployment" => (&["Name", "Ready", "Up-to-date", "Available", "Age"], TEMPLATE),
        "ReplicaSet" | "ReplicationController" => (&["Name", "Desired", "Current", "Ready", "Age"], TEMPLATE),
        "StatefulSet" => (&["Name", "Ready", "Age"], &["Containers", "Images"]),
        "DaemonSet" => (
            &["Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"],
            TEMPLATE,
        ),
        "Job" => (&["Name", "Status", "Completions", "Duration", "Age"], TEMPLATE),
        "CronJob" => {
            (&["Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"], TEMPLATE)
        }
        "Service" => (&["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"], &["Selector"]),
        "Ingress" => (&["Name", "Class", "Hosts", "Address", "Ports", "Age"], NONE),
        // In this order: see `priority`.
        "Event" => (
            &[
                "Last Seen",
                "Type",
                "Reason",
                "Object",
                "Subobject",
                "Source",
                "Message",
                "First Seen",
                "Count",
                "Name",
            ],
            NONE,
        ),
        "ConfigMap" => (&["Name", "Data", "Age"], NONE),
        "Secret" => (&["Name", "Type", "Data", "Age"], NONE),
        "Namespace" => (&["Name", "Status", "Age"], NONE),
        "Node" => (
            &["Name", "Status", "Roles", "Age", "Version"],
            &["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"],
        ),
        "ServiceAccount" => (&["Name", "Secrets", "Age"], NONE),
        "HorizontalPodAutoscaler" => {
            (&["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"], NONE)
        }
        "PodDisruptionBudget" => {
            (&["Name", "Min Available", "Max Unavailable", "Allowed Disruptions", "Age"], NONE)
        }
        "Lease" => (&["Name", "Holder", "Age"], NONE),
        "ControllerRevision" => (&["Name", "Controller", "Revision", "Age"], NONE),
        "RoleBinding" | "ClusterRoleBinding" => {
            (&["Name", "Role", "Age"], &["Users", "Groups", "ServiceAccounts"])
        }
        "Endpoints" => (&["Name", "Endpoints", "Age"], NONE),
        "PersistentVolume" => (
            &[
                "Name",
                "Capacity",
                "Access Modes",
                "Reclaim Policy",
                "Status",
                "Claim",
                "StorageClass",
                "VolumeAttributesClass",
                "Reason",
                "Age",
            ],
            &["VolumeMode"],
        ),
        "EndpointSlice" => (&["Name", "AddressType", "Ports", "Endpoints", "Age"], NONE),
        "PersistentVolumeClaim" => (
            &[
                "Name",
                "Status",
                "Volume",
                "Capacity",
                "Access Modes",
                "StorageClass",
                "VolumeAttributesClass",
                "Age",
            ],
            &["VolumeMode"],
        ),
        "ResourceQuota" => (&["Name", "Request", "Limit", "Age"], NONE),
        "IngressClass" => (&["Name", "Controller", "Parameters", "Age"], NONE),
        "NetworkPolicy" => (&["Name", "Pod-Selector", "Age"], NONE),
        "StorageClass" => (
            &["Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"],
            NONE,
        ),
        "PriorityClass" => (&["Name", "Value", "Global-Default", "Age", "PreemptionPolicy"], NONE),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            (&["Name", "Webhooks", "Age"], NONE)
        }
        _ => (&["Name", "Created At"], NONE),
    }
}

/// The priority of a column that is not at the end, if `-o wide` only shows it.
pub(super) fn priority(kind: &str, column: &str) -> Option<u8> {
    let wide = ["Subobject", "Source", "First Seen", "Count", "Name"];
    (kind == "Event" && wide.contains(&column)).then_some(1)
}

/// The definition of a column.
pub(super) fn column(name: &str, priority: u8) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({ "name": name, "type": "string", "format": format, "description": "", "priority": priority })
}
