//! Why a container cannot be created or started: the configuration of the pod, the program in the image, or the node.
//!
//! The kubelet retries each of these. Final is only what a retry with the same pod and image cannot change.

use bp_artifact::deploy::Cause;

use super::clauses::{Clause, Clauses, Rule, is_format_error, rule};
use crate::api::symptom::{Recovery, Symptom};

/// Another controller may create the object: External Secrets, cert-manager, a CSI driver.
const REFERENCES: [Rule; 15] = [
    rule(Clause::Starts("secret <name> not found"), Cause::SecretMissing, Recovery::Retried),
    rule(Clause::Starts("secrets <name> not found"), Cause::SecretMissing, Recovery::Retried),
    rule(Clause::Starts("references non-existent secret key"), Cause::SecretMissing, Recovery::Retried),
    rule(Clause::Starts("configmap <name> not found"), Cause::ConfigInvalid, Recovery::Retried),
    rule(Clause::Starts("configmaps <name> not found"), Cause::ConfigInvalid, Recovery::Retried),
    rule(Clause::Starts("references non-existent config key"), Cause::ConfigInvalid, Recovery::Retried),
    rule(Clause::Starts("serviceaccounts <name> not found"), Cause::PermissionMissing, Recovery::Retried),
    // The Secrets Store CSI driver and its provider for AWS.
    rule(Clause::Starts("failed to get secretproviderclass"), Cause::ConfigInvalid, Recovery::Retried),
    rule(
        Clause::Starts("an iam role must be associated with service account"),
        Cause::PermissionMissing,
        Recovery::Retried,
    ),
    rule(Clause::Has("sts:assumerolewithwebidentity"), Cause::PermissionMissing, Recovery::Retried),
    rule(Clause::Has("accessdeniedexception"), Cause::SecretDenied, Recovery::Retried),
    rule(Clause::Has("resourcenotfoundexception"), Cause::SecretMissing, Recovery::Retried),
    rule(Clause::Has("parameternotfound"), Cause::SecretMissing, Recovery::Retried),
    rule(Clause::Starts("failed to fetch secret from all regions"), Cause::SecretMissing, Recovery::Retried),
    rule(Clause::Starts("failed to fetch parameters"), Cause::SecretMissing, Recovery::Retried),
];

/// A missing Secret, ConfigMap, key or role in the message of a kubelet or of a volume's driver.
pub(super) fn reference(message: &str) -> Option<Symptom> {
    let clauses = Clauses::of(message);
    let key = |object: &'static str| {
        clauses.iter().any(|clause| clause.starts_with("couldn't find key ") && clause.contains(object))
    };
    let (cause, recovery) = match () {
        () if key(" in secret ") => (Cause::SecretMissing, Recovery::Retried),
        () if key(" in configmap ") => (Cause::ConfigInvalid, Recovery::Retried),
        () => clauses.first_of(&REFERENCES)?,
    };
    Some(Symptom::new(cause, recovery, message))
}

/// Whether the kubelet's own caches are not filled yet, as on a node that has just started: it is about no object.
pub(super) fn is_cache(message: &str) -> bool {
    let clauses = Clauses::of(message);
    let syncs =
        clauses.iter().any(|clause| clause.starts_with("failed to sync ") && clause.ends_with(" cache"));
    syncs
        || clauses.say(Clause::Starts("services have not yet been read at least once"))
        || clauses.iter().any(|clause| clause.starts_with("object ") && clause.ends_with(" not registered"))
}

/// `CreateContainerConfigError`.
pub(super) fn configuration(message: &str) -> Option<Symptom> {
    if is_cache(message) {
        return None;
    }
    if let Some(reference) = reference(message) {
        return Some(reference);
    }
    let clauses = Clauses::of(message);
    let is_user = clauses.say(Clause::Starts("container has runasnonroot"))
        || clauses.say(Clause::Starts("container's runasuser breaks non-root policy"));
    let recovery = if is_user { Recovery::Never } else { Recovery::Retried };
    Some(Symptom::new(Cause::ConfigInvalid, recovery, message))
}

/// Errors about the pod or the image which end a step of the container runtime.
const SETTINGS: [Clause; 14] = [
    Clause::Starts("chdir to cwd"),
    Clause::Starts("unable to find user"),
    Clause::Starts("unable to find group"),
    Clause::Starts("no users found"),
    Clause::Starts("no matching entries in passwd file"),
    Clause::Starts("no command specified"),
    Clause::Starts("unknown capability"),
    Clause::Starts("invalid capability"),
    Clause::Starts("cannot load seccomp profile"),
    Clause::Starts("apparmor profile"),
    Clause::Starts("are you trying to mount a directory onto a file"),
    Clause::Starts("executable file"),
    // Of an image's own file.
    Clause::Is("path escapes from parent"),
    Clause::Starts("invalid image config"),
];

/// Errors of starting the program, after `exec`.
const PROGRAM: [Clause; 5] = [
    Clause::Starts("executable file not found in"),
    Clause::Is("no such file or directory"),
    Clause::Is("permission denied"),
    Clause::Is("is a directory"),
    Clause::Is("not a directory"),
];

/// Errors of a mount at a place that the image does not have.
const MOUNT_POINT: [Clause; 2] = [Clause::Is("not a directory"), Clause::Is("read-only file system")];

/// `CreateContainerError`, `RunContainerError`, and the end of a container that was never started (`StartError`).
pub(super) fn start(message: &str) -> Symptom {
    let (cause, recovery) = of_runtime(message);
    Symptom::new(cause, recovery, message)
}

fn of_runtime(message: &str) -> (Cause, Recovery) {
    if is_format_error(message) {
        return (Cause::WrongArchitecture, Recovery::Never);
    }
    let clauses = Clauses::of(message);
    if clauses.say(Clause::Starts("container init was oom-killed")) {
        return (Cause::OutOfMemory, Recovery::Never);
    }
    let after = |step: Clause, errors: &[Clause]| {
        clauses.position(step).is_some_and(|step| errors.iter().any(|error| clauses.say_after(step, *error)))
    };
    let exec = [Clause::Is("exec"), Clause::Starts("exec <"), Clause::Is("open executable")];
    let is_program = exec.into_iter().any(|step| after(step, &PROGRAM));
    let is_mount = after(Clause::Starts("error mounting"), &MOUNT_POINT);
    if is_program || is_mount || SETTINGS.iter().any(|clause| clauses.say(*clause)) {
        return (Cause::ConfigInvalid, Recovery::Never);
    }
    // A timeout, a name that an earlier attempt holds, cgroups, processes, disks: the node's.
    (Cause::ResourceInitialization, Recovery::Retried)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_missing_references_by_their_kind_not_by_names() {
        let volume = |error: &str| format!("MountVolume.SetUp failed for volume \"secret-401\" : {error}");
        for (message, expected) in [
            ("secret \"db\" not found".to_owned(), Some(Cause::SecretMissing)),
            ("couldn't find key url in Secret shop/configmap".to_owned(), Some(Cause::SecretMissing)),
            ("couldn't find key secret in ConfigMap shop/secret".to_owned(), Some(Cause::ConfigInvalid)),
            (volume("configmap \"secret\" not found"), Some(Cause::ConfigInvalid)),
            (volume("references non-existent secret key: tls.crt"), Some(Cause::SecretMissing)),
            (
                volume(
                    "rpc error: code = Unknown desc = failed to mount secrets store objects for pod shop/web, err: rpc \
                     error: code = Unknown desc = Failed to fetch secret from all regions: arn:aws:secretsmanager:x",
                ),
                Some(Cause::SecretMissing),
            ),
            // The driver is not registered on a new node yet.
            (
                volume(
                    "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name secrets-store.csi.k8s.io not \
                     found in the list of registered CSI drivers",
                ),
                None,
            ),
            ("persistentvolumeclaim \"secret\" not found".to_owned(), None),
        ] {
            assert_eq!(reference(&message).map(|s| s.cause), expected, "{message}");
        }
    }

    #[test]
    fn final_is_what_the_same_pod_cannot_change() {
        let runc = |error: &str| {
            format!(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
                 failed: unable to start container process: error during container init: {error}: unknown"
            )
        };
        for (message, expected) in [
            (runc("exec: \"/web\": permission denied"), (Cause::ConfigInvalid, Recovery::Never)),
            (runc("exec /web: no such file or directory"), (Cause::ConfigInvalid, Recovery::Never)),
            (
                runc("exec: \"web\": executable file not found in $PATH"),
                (Cause::ConfigInvalid, Recovery::Never),
            ),
            (runc("exec /web: exec format error"), (Cause::WrongArchitecture, Recovery::Never)),
            (
                runc("chdir to cwd (\"/app\") set in config.json failed: permission denied"),
                (Cause::ConfigInvalid, Recovery::Never),
            ),
            (
                runc("error mounting \"/a\" to rootfs at \"/b\": mkdirat b: read-only file system"),
                (Cause::ConfigInvalid, Recovery::Never),
            ),
            (
                runc("error mounting \"/a\" to rootfs at \"/b\": mount src=/a: no such file or directory"),
                (Cause::ResourceInitialization, Recovery::Retried),
            ),
            (
                runc("lstat /proc/0/ns/ipc: no such file or directory"),
                (Cause::ResourceInitialization, Recovery::Retried),
            ),
            (
                runc("fork/exec /usr/bin/runc: resource temporarily unavailable"),
                (Cause::ResourceInitialization, Recovery::Retried),
            ),
            ("context deadline exceeded".to_owned(), (Cause::ResourceInitialization, Recovery::Retried)),
        ] {
            assert_eq!(of_runtime(&message), expected, "{message}\n{:?}", Clauses::of(&message));
        }
    }
}
