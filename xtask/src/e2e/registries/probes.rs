//! What every registry is asked.

use super::{
    probe::{MANIFEST, OCTETS, Probe, descriptor, sha256, sha512, status, with_digest},
    servers::{CURRENT, DEBIAN, FERRO_OCI},
};

pub(super) const PROBES: &[Probe] = &[
    Probe { name: "the API is there", ask: |c| c.get("/v2/"), expect: status(&[200]), known: &[] },
    Probe {
        name: "a blob that is not there",
        ask: |c| {
            c.blob(b"there")?;
            c.get(&format!("blobs/{}", sha256(b"nobody has this")))
        },
        expect: status(&[404]).says("BLOB_UNKNOWN"),
        known: &[],
    },
    Probe {
        name: "a manifest that is not there",
        ask: |c| {
            c.image("there")?;
            c.get("manifests/missing")
        },
        expect: status(&[404]).says("MANIFEST_UNKNOWN"),
        known: &[],
    },
    Probe {
        name: "a repository that is not there",
        ask: |c| c.get("tags/list"),
        expect: status(&[404]).says("NAME_UNKNOWN"),
        known: &[(FERRO_OCI, status(&[200]))],
    },
    Probe {
        name: "an upload begins",
        ask: |c| c.send("POST", "blobs/uploads/", &[], &[]),
        expect: status(&[202]).headers(&["Location"]),
        known: &[],
    },
    Probe {
        name: "a blob is stored in one PUT",
        ask: |c| c.send("PUT", &with_digest(&c.upload()?, &sha256(b"whole")), &[OCTETS], b"whole"),
        expect: status(&[201]).headers(&["Location"]),
        known: &[],
    },
    Probe {
        name: "a blob is stored in one POST",
        ask: |c| c.send("POST", &with_digest("blobs/uploads/", &sha256(b"once")), &[OCTETS], b"once"),
        // The specification lets a registry decline with 202 and take an upload.
        expect: status(&[201]).headers(&["Location"]),
        known: &[(DEBIAN, status(&[202])), (CURRENT, status(&[202]))],
    },
    Probe {
        name: "a blob is stored in chunks",
        ask: |c| {
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
        ask: |c| c.send("PATCH", &c.upload()?, &[OCTETS, ("Content-Range", "0-3")], b"four"),
        expect: status(&[202]).headers(&["Location", "Range"]),
        known: &[],
    },
    Probe {
        name: "a chunk out of order",
        ask: |c| {
            let first = c.send("PATCH", &c.upload()?, &[OCTETS, ("Content-Range", "0-3")], b"four")?;
            c.send("PATCH", &c.location(&first)?, &[OCTETS, ("Content-Range", "7-10")], b"late")
        },
        expect: status(&[416]),
        known: &[(DEBIAN, status(&[202]))],
    },
    Probe {
        name: "the state of an upload",
        ask: |c| {
            let first = c.send("PATCH", &c.upload()?, &[OCTETS, ("Content-Range", "0-3")], b"four")?;
            c.get(&c.location(&first)?)
        },
        expect: status(&[204]).headers(&["Location", "Range"]),
        known: &[],
    },
    Probe {
        name: "an upload is given up",
        ask: |c| c.send("DELETE", &c.upload()?, &[], &[]),
        expect: status(&[204]),
        known: &[],
    },
    Probe {
        name: "a blob under a wrong digest",
        ask: |c| c.send("PUT", &with_digest(&c.upload()?, &sha256(b"said")), &[OCTETS], b"sent"),
        expect: status(&[400]).says("DIGEST_INVALID"),
        known: &[],
    },
    Probe {
        name: "a blob under sha512",
        ask: |c| c.send("PUT", &with_digest(&c.upload()?, &sha512(b"long")), &[OCTETS], b"long"),
        expect: status(&[201]),
        known: &[],
    },
    Probe {
        name: "a blob's HEAD",
        ask: |c| c.send("HEAD", &format!("blobs/{}", c.blob(b"head")?), &[], &[]),
        expect: status(&[200]).headers(&["Content-Length", "Docker-Content-Digest"]),
        known: &[],
    },
    Probe {
        name: "a part of a blob",
        ask: |c| c.send("GET", &format!("blobs/{}", c.blob(b"0123456789")?), &[("Range", "bytes=2-5")], &[]),
        expect: status(&[206]).headers(&["Content-Range"]).says("2345"),
        known: &[(FERRO_OCI, status(&[200]))],
    },
    Probe {
        name: "a blob is mounted from another repository",
        ask: |c| {
            let (ours, blob) = (c.repository.clone(), c.blob(b"shared")?);
            c.repository = format!("{ours}-target");
            c.send("POST", &format!("blobs/uploads/?mount={blob}&from={ours}"), &[], &[])
        },
        expect: status(&[201]).headers(&["Location"]),
        known: &[(FERRO_OCI, status(&[202]))],
    },
    Probe {
        name: "a blob is mounted that is not there",
        ask: |c| {
            c.send("POST", &format!("blobs/uploads/?mount={}&from=probe/none", sha256(b"none")), &[], &[])
        },
        expect: status(&[202]).headers(&["Location"]),
        known: &[],
    },
    Probe {
        name: "a manifest is stored",
        ask: |c| {
            let manifest = c.manifest("stored", None)?;
            c.send("PUT", "manifests/v1", &[MANIFEST], &manifest)
        },
        expect: status(&[201]).headers(&["Location", "Docker-Content-Digest"]),
        known: &[],
    },
    Probe {
        name: "a manifest under a wrong digest",
        ask: |c| {
            let manifest = c.manifest("sent", None)?;
            c.send("PUT", &format!("manifests/{}", sha256(b"said")), &[MANIFEST], &manifest)
        },
        expect: status(&[400]).says("DIGEST_INVALID"),
        known: &[],
    },
    Probe {
        name: "a manifest whose layer is missing",
        ask: |c| {
            let mut manifest: serde_json::Value = serde_json::from_slice(&c.manifest("layer", None)?)?;
            manifest["layers"][0] = descriptor("application/octet-stream", &sha256(b"none"), b"none");
            c.send("PUT", "manifests/v1", &[MANIFEST], manifest.to_string().as_bytes())
        },
        // The specification asks for a refusal and leaves the status open.
        expect: status(&[400, 404]).says("BLOB_UNKNOWN"),
        known: &[],
    },
    Probe {
        name: "a manifest that is no JSON",
        ask: |c| {
            c.image("good")?;
            c.send("PUT", "manifests/v1", &[MANIFEST], b"{")
        },
        expect: status(&[400]).says("MANIFEST_INVALID"),
        known: &[],
    },
    Probe {
        name: "a manifest's HEAD by tag",
        ask: |c| {
            c.image("v1")?;
            c.send("HEAD", "manifests/v1", &[("Accept", MANIFEST.1)], &[])
        },
        expect: status(&[200]).headers(&["Content-Length", "Content-Type", "Docker-Content-Digest"]),
        known: &[],
    },
    Probe {
        name: "a manifest's bytes are those that were sent",
        ask: |c| {
            let sent = c.image("v1")?;
            let answer =
                c.send("GET", &format!("manifests/{}", sha256(&sent)), &[("Accept", MANIFEST.1)], &[])?;
            anyhow::ensure!(answer.body == sent, "other bytes came back");
            Ok(answer)
        },
        expect: status(&[200]),
        known: &[],
    },
    Probe {
        name: "a manifest that one has already",
        ask: |c| {
            let tag = format!("\"{}\"", sha256(&c.image("v1")?));
            c.send("GET", "manifests/v1", &[("Accept", MANIFEST.1), ("If-None-Match", &tag)], &[])
        },
        expect: status(&[304]),
        known: &[(FERRO_OCI, status(&[200]))],
    },
    Probe {
        name: "the tags, a page at a time",
        ask: |c| {
            c.image("a")?;
            c.image("b")?;
            c.image("c")?;
            c.get("tags/list?n=2")
        },
        expect: status(&[200]).headers(&["Link"]).says("\"a\",\"b\"]"),
        // It lists all of them, in any order.
        known: &[(DEBIAN, status(&[200]).says("\"a\""))],
    },
    Probe {
        name: "the tags after one",
        ask: |c| {
            c.image("a")?;
            c.image("b")?;
            c.image("c")?;
            c.get("tags/list?n=2&last=b")
        },
        expect: status(&[200]).says("[\"c\"]"),
        // It lists all of them, in any order.
        known: &[(DEBIAN, status(&[200]).says("\"a\""))],
    },
    Probe {
        name: "a manifest with a subject",
        ask: |c| {
            let subject = c.image("v1")?;
            let referrer = c.manifest("referrer", Some(&subject))?;
            c.send("PUT", &format!("manifests/{}", sha256(&referrer)), &[MANIFEST], &referrer)
        },
        expect: status(&[201]).headers(&["OCI-Subject"]),
        known: &[(DEBIAN, status(&[201])), (CURRENT, status(&[201]))],
    },
    Probe {
        name: "the referrers of a manifest",
        ask: |c| {
            let subject = c.image("v1")?;
            let referrer = c.manifest("referrer", Some(&subject))?;
            c.send("PUT", &format!("manifests/{}", sha256(&referrer)), &[MANIFEST], &referrer)?;
            c.get(&format!("referrers/{}", sha256(&subject)))
        },
        expect: status(&[200]).says("application/vnd.example.probe"),
        known: &[(DEBIAN, status(&[404])), (CURRENT, status(&[404]))],
    },
    Probe {
        name: "the referrers of one type",
        ask: |c| {
            let subject = c.image("v1")?;
            let referrer = c.manifest("referrer", Some(&subject))?;
            c.send("PUT", &format!("manifests/{}", sha256(&referrer)), &[MANIFEST], &referrer)?;
            c.get(&format!("referrers/{}?artifactType=application/vnd.example.other", sha256(&subject)))
        },
        expect: status(&[200]).headers(&["OCI-Filters-Applied"]).says("\"manifests\":[]"),
        known: &[(DEBIAN, status(&[404])), (CURRENT, status(&[404]))],
    },
    Probe {
        name: "the referrers of what nobody refers to",
        ask: |c| {
            c.image("v1")?;
            c.get(&format!("referrers/{}", sha256(b"alone")))
        },
        expect: status(&[200]).says("\"manifests\":[]"),
        known: &[(DEBIAN, status(&[404])), (CURRENT, status(&[404]))],
    },
    Probe {
        name: "a tag is deleted",
        ask: |c| {
            c.image("v1")?;
            c.send("DELETE", "manifests/v1", &[], &[])
        },
        expect: status(&[202]),
        known: &[(DEBIAN, status(&[400])), (FERRO_OCI, status(&[405]))],
    },
    Probe {
        name: "a manifest is deleted",
        ask: |c| {
            let digest = sha256(&c.image("v1")?);
            c.send("DELETE", &format!("manifests/{digest}"), &[], &[])?;
            c.get("manifests/v1")
        },
        expect: status(&[404]),
        known: &[],
    },
    Probe {
        name: "a blob is deleted",
        ask: |c| {
            let blob = c.blob(b"gone")?;
            c.send("DELETE", &format!("blobs/{blob}"), &[], &[])?;
            c.get(&format!("blobs/{blob}"))
        },
        expect: status(&[404]),
        known: &[],
    },
    Probe {
        name: "a name that is none",
        ask: |c| c.get("/v2/Not_A_Name/tags/list"),
        expect: status(&[400, 404]),
        known: &[],
    },
];
