//! Check that the image supports the platforms of the nodes.

use std::collections::BTreeSet;

use bp_artifact::{
    Platform, ResolvedImage,
    deploy::{
        Cause,
        preflight::{Finding, FindingState},
    },
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{rollout::api::WorkloadApi, workload::Live};

/// The platform of a node.
fn of(node: &Node) -> Option<Platform> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    Platform::new(&info.operating_system, &info.architecture, None).ok()
}

fn listed<'p>(platforms: impl IntoIterator<Item = &'p Platform>) -> String {
    platforms.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl WorkloadApi {
    /// Whether the image supports the operating system and architecture of every node that the node selector matches.
    /// The platform of a manifest that is not an index is known only if its configuration was read.
    pub(super) async fn platform(&self, live: &Live, image: &ResolvedImage) -> Finding {
        let found = |state, message: String| {
            let finding = Finding::new(format!("image {}", image.reference), state, message);
            if state == FindingState::Present { finding } else { finding.cause(Cause::WrongArchitecture) }
        };
        if image.platforms.is_empty() {
            return found(FindingState::Unknown, "its platforms are not known".to_owned());
        }
        let wanted = live.template()["spec"]["nodeSelector"].as_object().cloned().unwrap_or_default();
        let nodes: Api<Node> = Api::all(self.scope.client.clone());
        let Ok(nodes) = nodes.list(&ListParams::default()).await else {
            let message = "cannot compare its platforms with the nodes: listing nodes (cluster-wide) failed";
            return found(FindingState::Unknown, message.to_owned());
        };
        let fits =
            |node: &&Node| wanted.iter().all(|(k, v)| node.labels().get(k).map(String::as_str) == v.as_str());
        let there: BTreeSet<Platform> = nodes.items.iter().filter(fits).filter_map(of).collect();
        let runs_on = |node: &&Platform| image.platforms.iter().any(|built| built.platform.runs(node));
        let (_, missing): (Vec<&Platform>, Vec<&Platform>) = there.iter().partition(runs_on);
        if there.is_empty() {
            return found(FindingState::Unknown, "no node matches the node selector of the pods".to_owned());
        }
        if missing.is_empty() {
            return found(FindingState::Present, format!("for {}", listed(&there)));
        }
        let built = listed(image.platforms.iter().map(|built| &built.platform));
        let all = missing.len() == there.len();
        let missing = listed(missing);
        if all {
            let message = format!(
                "built for {built}, but all nodes that match the node selector are {missing}; build it for them, or change the \
                node selector"
            );
            return found(FindingState::Invalid, message);
        }
        // Taints or affinity may exclude these nodes.
        found(FindingState::Warning, format!("built for {built}, but some nodes are {missing}"))
    }
}
