//! Whatever bytes a registry gives for a manifest: they keep their digest, and each link comes once.
#![no_main]

use std::collections::HashSet;

use bp_promote::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for told in [None, Some("application/vnd.oci.image.index.v1+json")] {
        let Ok(manifest) = Manifest::read(told, None, bytes.to_vec().into()) else { continue };
        assert!(manifest.digest.verifies(bytes));
        assert!(Manifest::read(told, Some(&manifest.digest), bytes.to_vec().into()).is_ok());
        let Ok(links) = manifest.links() else { continue };
        for all in [&links.blobs, &links.manifests] {
            let digests: HashSet<_> = all.iter().map(|link| &link.digest).collect();
            assert_eq!(digests.len(), all.len());
        }
    }
});
