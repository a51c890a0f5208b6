//! Test fixture: a Helm release with a fake helm program and a cluster in memory.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use bp_artifact::{Outcome, ResolvedImage, deploy::DeployEvent};
use bp_eks::{HelmError, HelmRelease, Options, helm::HelmRun};
use bp_sandbox::{Behaviour, Clock};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::common::World;

/// A fake helm that answers from files in its directory, and waits for the file `done`. It keeps its arguments and its
/// logins, and deletes the object at the path in the file `delete`.
fn helm(home: &Path) -> std::path::PathBuf {
    let program = home.join("helm");
    let script = r#"#!/usr/bin/env bash
cd 'HOME' || exit 1
echo "$*" >> arguments
if [ -n "$HELM_REGISTRY_CONFIG" ]; then
    cp "$HELM_REGISTRY_CONFIG" logins; stat -c %a "$HELM_REGISTRY_CONFIG" > mode; echo "$HELM_REGISTRY_CONFIG" > path
fi
case "$1 $*" in
'version '*) echo v4.0.0 ;;
'history '*) cat history ;;
'get get metadata'*) cat metadata ;;
*--revision=1*) cat manifest1 ;;
'get '*) : > got; cat manifest ;;
*'--dry-run=server'*) cat dry-run ;;
*)
    : > "$1"
    until [ -e done ]; do
        if [ -e delete ]; then
            address=${HELM_KUBEAPISERVER#http://127.0.0.1:}
            exec 3<> "/dev/tcp/127.0.0.1/${address%%/*}"
            printf 'DELETE /%s%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n' \
                "${address#*/}" "$(cat delete)" >&3
            cat <&3 > deleted
            rm delete
        fi
        sleep 0.02
    done
    exit "$(cat done)"
    ;;
esac
"#;
    std::fs::write(&program, script.replace("HOME", &home.display().to_string())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

pub(crate) fn manifest(image: &ResolvedImage) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web }}\nspec: {{ template: {{ spec: {{ containers: [ {{ name: \
         web, image: \"{}\" }} ] }} }} }}\n",
        image.reference
    )
}

pub(crate) struct Release {
    pub(crate) world: World,
    pub(crate) home: tempfile::TempDir,
    pub(crate) release: HelmRelease,
    pub(crate) second: ResolvedImage,
    _driver: JoinHandle<()>,
}

impl Release {
    /// Revision 1 is deployed with the first image; the chart would deploy the second image.
    pub(crate) async fn new(options: Options) -> Self {
        let clock = Clock::tokio();
        let driven = clock.clone();
        let driver = tokio::spawn(async move {
            loop {
                driven.advance(Duration::from_millis(200));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let world = World::on(clock, |_| {}).await;
        let second = world.image("second", Behaviour::default());
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        file("history", &json!([{ "revision": 1, "status": "deployed" }]).to_string());
        file("manifest1", &manifest(&world.first));
        file("manifest", &manifest(&second));
        file("metadata", "{}");
        file("dry-run", &json!({ "manifest": manifest(&second) }).to_string());
        let release = world.namespace().helm("web", options).chart("charts/web").program(helm(home.path()));
        Release { world, home, release, second, _driver: driver }
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.home.path().join(file).exists()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.home.path().join(file)).unwrap_or_default()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.home.path().join(file), text).unwrap();
    }

    /// Reads all events, and calls `act` once when helm has started.
    pub(crate) async fn run(
        &self,
        mut work: HelmRun,
        verb: &str,
        act: impl Fn(&Self),
    ) -> (Vec<DeployEvent>, Result<Outcome, HelmError>) {
        let (mut events, mut acted) = (Vec::new(), false);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                event = work.next_event() => match event {
                    Some(event) => events.push(event),
                    None => return (events, work.await),
                },
                _ = tick.tick(), if !acted => if self.has(verb) {
                    acted = true;
                    act(self);
                },
            }
        }
    }

    pub(crate) fn apply(&self, image: &ResolvedImage) {
        self.apply_as("helm", image);
    }

    pub(crate) fn apply_as(&self, manager: &str, image: &ResolvedImage) {
        let containers = json!([{ "name": "web", "image": image.reference.to_string() }]);
        let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        self.world.cluster.patch(manager, "deployments", "prod", "web", &patch);
    }
}
