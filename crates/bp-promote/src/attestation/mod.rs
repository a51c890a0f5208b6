//! Signed statements about images: in-toto statements in DSSE envelopes, attached to the image as referrers.
//!
//! A statement is stored in the form in which cosign stores attestations: a Sigstore bundle of version 0.3, as the only
//! layer of an artifact whose subject is the image. `cosign verify-attestation --key` and other tools read it; it has no
//! entry in a transparency log.
//!
//! A statement counts only once its signature was verified with a key that the reader knows: [`Envelope::verify`] is the
//! only way to read its content.

mod bundle;
mod dsse;
mod error;
mod key;
mod key_id;
mod predicate;
mod statement;
pub(crate) mod store;

pub use self::{
    bundle::Bundle,
    dsse::Envelope,
    error::{AttestationError, KeyError},
    key::{Keyring, LocalSigner, PublicKey, Signer},
    key_id::KeyId,
    predicate::{
        Approved, BreakGlass, Deployed, Entered, Predicate, Recalled, UpstreamRecord, VERIFICATION_SUMMARY,
        verification_summary,
    },
    statement::{Statement, Subject},
    store::{Attached, Attestations, attach, attestations},
};
