//! References to secrets, and the objects of other tools that contain them.

#[cfg(feature = "yaml")]
use bp_secrets::projection::from_yaml;
use bp_secrets::{
    Reference,
    projection::{Bindings, ascp::SecretProviderClass, ecs, env, external_secrets, kubernetes},
};

use super::replay::Target;

/// The targets of this file.
pub const TARGETS: &[Target] = &[
    ("secret_reference", secret_reference),
    ("secret_objects", secret_objects),
    ("secret_lines", secret_lines),
];

/// A reference: what parses is displayed in a form that parses to the same value.
pub fn secret_reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for read in [text.parse::<Reference>(), Reference::from_value_from(text)] {
        match read {
            Ok(reference) => {
                assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference));
                let _ = (reference.name(), reference.key(), reference.arn(), reference.whole());
                let grants = bp_secrets::permissions::grants(&[reference], None);
                assert!(!grants.is_empty());
            }
            // The text may be a secret.
            Err(error) => assert!(text.len() < 12 || !error.to_string().contains(text), "{error}"),
        }
    }
}

#[cfg(not(feature = "yaml"))]
fn from_yaml(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// An `ExternalSecret`, a store, a `SecretProviderClass`, a `ConfigMap`, a `Secret` and `secrets` of ECS, in YAML or JSON.
pub fn secret_objects(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(object) = from_yaml(text) else { return };
    let service = external_secrets::parse_store(&object);
    let store = |_: &str| service.as_ref().ok().map(|(_, service)| *service);
    let _ = external_secrets::ExternalSecret::parse(&object, store).map(|found| printable(&found));
    let _ = external_secrets::ExternalSecret::references(&object, store);
    let _ = SecretProviderClass::parse(&object).map(|bindings| printable(&bindings));
    let _ = kubernetes::parse_config_map(&object).map(|bindings| printable(&bindings));
    let _ = kubernetes::parse_secret(&object).map(|bindings| printable(&bindings));
    let _ = ecs::parse(&object).map(|bindings| printable(&bindings));
}

/// `NAME=reference` lines.
pub fn secret_lines(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(bindings) = env::parse(text) else { return };
    printable(&bindings);
    // Names such as `tls.crt` are keys, but no variables.
    if let Ok(written) = env::print(&bindings) {
        assert_eq!(env::parse(&written).expect("it reads what it wrote"), bindings);
    }
}

/// Whatever was parsed can be printed for every consumer, or is refused.
fn printable(bindings: &Bindings) {
    let _ = (ecs::print(bindings), env::print(bindings), kubernetes::config_map("web", None, bindings));
    let _ = external_secrets::ExternalSecret::new("web").print(bindings);
    let _ = SecretProviderClass::new("web").print(bindings);
}
