//! The probes for every registry.

use super::{
    probe::{MANIFEST, OCTETS, Probe, descriptor, sha256, sha512, status, with_digest},
    servers::{CURRENT, DEBIAN, FERRO_OCI},
};

pub(super) const PROBES: &[Probe] = &[
    Probe { name: "the API version check", requests: |c| c.get("/v2/"), expect: status(&[200]), known: &[] },
    Probe {
        name: "a blob that does not exist",
        requests: |c| {
            c.blob(b"there")?;
            c.get(&format!("blobs/{}", sha256(b"nobody has this")))
        },
        expect: status(&[404]).body("BLOB_UNKNOWN"),
        known: &[],
    },
    Probe {
        name: "a manifest that does not exist",
        requests: |c| {
            c.image("there")?;
            c.get("manifests/missing")
        },
        expect: status(&[404]).body("MANIFEST_UNKNOWN"),
        known: &[],
    },
    Probe {
        name: "a repository that does not exist",
        requests: |c| c.get("tags/list"),
        expect: status(&[404]).body("NAME_UNKNOWN"),
        known: &[(FERRO_OCI, status(&[200]))],
    },
    Probe {
        name: "an upload is started",
        requests: |c| c.send("POST", "blobs/uploads/", &[], &[]),
        expect: status(&[202]).headers(&["Location"]),
        known: &[],
    },
    Probe {
        name: "a blob is stored in a single PUT",
        requests: |c| c.send("PUT", &with_digest(&c.upload()?, &sha256(b"whole")), &[OCTETS], b"whole"),
        expect: status(&[201]).headers(&["Location"]),
        known: &[],
    },
    Probe {
        name: "a blob is stored in a single POST",
        requests: |c| c.send("POST", &with_digest("blobs/uploads/", &sha256(b"once")), &[OCTETS], b"once"),
        // The specification allows a registry to decline with 202 and start an upload.
        expect: status(&[201]).headers(&["Location"]),
        known: &[(DEBIAN, status(&[202])), (CURRENT, status(&[202]))],
    },
    Probe {
        name: "a blob is stored in chunks",
        requests: |c| {
            let first = c.send("PATCH", &c.upload()?, &[OCTETS, ("Content-Range", "0-3")], b"four")?;
            let second =
                c.send("PATCH", &c.location(&first)?, &[OCTETS, ("Content-Range", "4-8")], b"-five")?;
            c.send("PUT", &with_digest(&c.location(&second)?, &sha256(b"four-five")), &[], &[])
        },
        expect: status(&[201]).headers(&["Location"]),
        known: &[],
    },
    Probe {
        name: "a chunk is acknowledged with its range",
        requests: |c| c.send("PATCH", &c.upload()?, &[OCTETS, ("Content-Range", "0-3")], b"four"),
        expect: status(&[202]).headers(&["Location", "Range"]),
        known: &[],
    },
    Probe {
        name: "a chunk out of order",
        requests: |c| {
            let first = c.send("PATCH", &c.upload()?, &[OCTETS, ("Content-Range", "0-3")], b"four")?;
            c.send("PATCH", &c.location(&first)?, &[OCTETS, ("Content-Range", "7-10")], b"late")
        },
        expect: status(&[416]),
        known: &[(DEBIAN, status(&[202]))],
    },
    Probe {
        name: "the status of an upload",
        requests: |c| {
            let first = c.send("PATCH", &c.upload()?, &[OCTETS, ("Content-Range", "0-3")], b"four")?;
            c.get(&c.location(&first)?)
        },
        expect: status(&[204]).headers(&["Location", "Range"]),
        known: &[],
    },
    Probe {
        name: "an upload is cancelled",
        requests: |c| c.send("DELETE", &c.upload()?, &[], &[]),
        expect: status(&[204]),
        known: &[],
    },
    Probe {
        name: "a blob under a wrong digest",
        requests: |c| c.send("PUT", &with_digest(&c.upload()?, &sha256(b"said")), &[OCTETS], b"sent"),
        expect: status(&[400]).body("DIGEST_INVALID"),
        known: &[],
    },
    Probe {
        name: "a blob under sha512",
        requests: |c| c.send("PUT", &with_digest(&c.upload()?, &sha512(b"long")), &[OCTETS], b"long"),
        expect: status(&[201]),
        known: &[],
    },
    Probe {
        name: "a blob's HEAD",
        requests: |c| c.send("HEAD", &format!("blobs/{}", c.blob(b"head")?), &[], &[]),
        expect: status(&[200]).headers(&["Content-Length", "Docker-Content-Digest"]),
        known: &[],
    },
    Probe {
        name: "a part of a blob",
        requests: |c| {
            c.send("GET", &format!("blobs/{}", c.blob(b"0123456789")?), &[("Range", "bytes=2-5")], &[])
        },
        expect: status(&[206]).headers(&["Content-Range"]).body("2345"),
        known: &[(FERRO_OCI, status(&[200]))],
    },
    Probe {
        name: "a blob is mounted from another repository",
        requests: |c| {
            let (ours, blob) = (c.repository.clone(), c.blob(b"shared")?);
            c.repository = format!("{ours}-target");
            c.send("POST", &format!("blobs/uploads/?mount={blob}&from={ours}"), &[], &[])
        },
        expect: status(&[201]).headers(&["Location"]),
        known: &[(FERRO_OCI, status(&[202]))],
    },
    Probe {
        name: "a blob is mounted that does not exist",
        requests: |c| {
            c.send("POST", &format!("blobs/uploads/?mount={}&from=probe/none", sha256(b"none")), &[], &[])
        },
        expect: status(&[202]).headers(&["Location"]),
        known: &[],
    },
    Probe {
        name: "a manifest is stored",
        requests: |c| {
            let manifest = c.manifest("stored", None)?;
            c.send("PUT", "manifests/v1", &[MANIFEST], &manifest)
        },
        expect: status(&[201]).headers(&["Location", "Docker-Content-Digest"]),
        known: &[],
    },
    Probe {
        name: "a manifest under a wrong digest",
        requests: |c| {
            let manifest = c.manifest("sent", None)?;
            c.send("PUT", &format!("manifests/{}", sha256(b"said")), &[MANIFEST], &manifest)
        },
        expect: status(&[400]).body("DIGEST_INVALID"),
        known: &[],
    },
    Probe {
        name: "a manifest whose layer is missing",
        requests: |c| {
            let mut manifest: serde_json::Value = serde_json::from_slice(&c.manifest("layer", None)?)?;
            manifest["layers"][0] = descriptor("application/octet-stream", &sha256(b"none"), b"none");
            c.send("PUT", "manifests/v1", &[MANIFEST], manifest.to_string().as_bytes())
        },
        // The specification requires an error and does not define its status.
        expect: status(&[400, 404]).body("BLOB_UNKNOWN"),
        known: &[],
    },
    Probe {
        name: "a manifest that is not valid JSON",
        requests: |c| {
            c.image("good")?;
            c.send("PUT", "manifests/v1", &[MANIFEST], b"{")
        },
        expect: status(&[400]).body("MANIFEST_INVALID"),
        known: &[],
    },
    Probe {
        name: "a manifest's HEAD by tag",
        requests: |c| {
            c.image("v1")?;
            c.send("HEAD", "manifests/v1", &[("Accept", MANIFEST.1)], &[])
        },
        expect: status(&[200]).headers(&["Content-Length", "Content-Type", "Docker-Content-Digest"]),
        known: &[],
    },
    Probe {
        name: "a manifest is returned byte for byte",
        requests: |c| {
            let sent = c.image("v1")?;
            let response =
                c.send("GET", &format!("manifests/{}", sha256(&sent)), &[("Accept", MANIFEST.1)], &[])?;
            anyhow::ensure!(response.body == sent, "the returned bytes differ");
            Ok(response)
        },
        expect: status(&[200]),
        known: &[],
    },
    Probe {
        name: "a manifest that the client already has",
        requests: |c| {
            let tag = format!("\"{}\"", sha256(&c.image("v1")?));
            c.send("GET", "manifests/v1", &[("Accept", MANIFEST.1), ("If-None-Match", &tag)], &[])
        },
        expect: status(&[304]),
        known: &[(FERRO_OCI, status(&[200]))],
    },
    Probe {
        name: "tags with pagination",
        requests: |c| {
            c.image("a")?;
            c.image("b")?;
            c.image("c")?;
            c.get("tags/list?n=2")
        },
        expect: status(&[200]).headers(&["Link"]).body("\"a\",\"b\"]"),
        // It lists all tags, in any order.
        known: &[(DEBIAN, status(&[200]).body("\"a\""))],
    },
    Probe {
        name: "tags after a given tag",
        requests: |c| {
            c.image("a")?;
            c.image("b")?;
            c.image("c")?;
            c.get("tags/list?n=2&last=b")
        },
        expect: status(&[200]).body("[\"c\"]"),
        // It lists all tags, in any order.
        known: &[(DEBIAN, status(&[200]).body("\"a\""))],
    },
    Probe {
        name: "a manifest with a subject",
        requests: |c| {
            let subject = c.image("v1")?;
            let referrer = c.manifest("referrer", Some(&subject))?;
            c.send("PUT", &format!("manifests/{}", sha256(&referrer)), &[MANIFEST], &referrer)
        },
        expect: status(&[201]).headers(&["OCI-Subject"]),
        known: &[(DEBIAN, status(&[201])), (CURRENT, status(&[201]))],
    },
    Probe {
        name: "the referrers of a manifest",
        requests: |c| {
            let subject = c.image("v1")?;
            let referrer = c.manifest("referrer", Some(&subject))?;
            c.send("PUT", &format!("manifests/{}", sha256(&referrer)), &[MANIFEST], &referrer)?;
            c.get(&format!("referrers/{}", sha256(&subject)))
        },
        expect: status(&[200]).body("application/vnd.example.probe"),
        known: &[(DEBIAN, status(&[404])), (CURRENT, status(&[404]))],
    },
    Probe {
        name: "the referrers of one type",
        requests: |c| {
            let subject = c.image("v1")?;
            let referrer = c.manifest("referrer", Some(&subject))?;
            c.send("PUT", &format!("manifests/{}", sha256(&referrer)), &[MANIFEST], &referrer)?;
            c.get(&format!("referrers/{}?artifactType=application/vnd.example.other", sha256(&subject)))
        },
        expect: status(&[200]).headers(&["OCI-Filters-Applied"]).body("\"manifests\":[]"),
        known: &[(DEBIAN, status(&[404])), (CURRENT, status(&[404]))],
    },
    Probe {
        name: "the referrers of a digest without referrers",
        requests: |c| {
            c.image("v1")?;
            c.get(&format!("referrers/{}", sha256(b"alone")))
        },
        expect: status(&[200]).body("\"manifests\":[]"),
        known: &[(DEBIAN, status(&[404])), (CURRENT, status(&[404]))],
    },
    Probe {
        name: "a tag is deleted",
        requests: |c| {
            c.image("v1")?;
            c.send("DELETE", "manifests/v1", &[], &[])
        },
        expect: status(&[202]),
        known: &[(DEBIAN, status(&[400])), (FERRO_OCI, status(&[405]))],
    },
    Probe {
        name: "a manifest is deleted",
        requests: |c| {
            let digest = sha256(&c.image("v1")?);
            c.send("DELETE", &format!("manifests/{digest}"), &[], &[])?;
            c.get("manifests/v1")
        },
        expect: status(&[404]),
        known: &[],
    },
    Probe {
        name: "a blob is deleted",
        requests: |c| {
            let blob = c.blob(b"gone")?;
            c.send("DELETE", &format!("blobs/{blob}"), &[], &[])?;
            c.get(&format!("blobs/{blob}"))
        },
        expect: status(&[404]),
        known: &[],
    },
    Probe {
        name: "an invalid repository name",
        requests: |c| c.get("/v2/Not_A_Name/tags/list"),
        expect: status(&[400, 404]),
        known: &[],
    },
];
