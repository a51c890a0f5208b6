//! Writes a container image with one program and CA certificates into an OCI layout, without Docker. The same arguments
//! give the same digest, which is printed:
//! `cargo run -p bp-promote --example image -- LAYOUT TAG PLATFORM EPOCH COMMIT PROGRAM CERTIFICATES`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, error::Error, fs, io::Write as _, path::Path};

use bp_artifact::{
    Digest, Platform, Tag,
    media_type::{OCI_CONFIG, OCI_MANIFEST},
};
use bp_promote::{
    content::{Descriptor, Manifest},
    layout::OciLayout,
    store::{BlobStream, Destination as _},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::{FutureExt as _, stream};
use jiff::Timestamp;
use serde_json::json;
use tar::{Builder, EntryType, Header};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
/// The user that distroless images call nonroot.
const USER: u64 = 65532;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [layout, tag, platform, epoch, commit, program, certificates] = arguments.as_slice() else {
        return Err("usage: image LAYOUT TAG PLATFORM EPOCH COMMIT PROGRAM CERTIFICATES".into());
    };
    let tag: Tag = tag.parse()?;
    let platform: Platform = platform.parse()?;
    let epoch: i64 = epoch.parse()?;

    let files = layer(epoch, Path::new(program), Path::new(certificates))?;
    let layer = compressed(&files)?;
    let created = Timestamp::from_second(epoch)?.to_string();
    let config = json!({
        "architecture": platform.architecture(),
        "os": platform.os(),
        "created": created,
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": ["/usr/bin/bp"],
            "WorkingDir": "/work",
            "Env": [
                "PATH=/usr/bin",
                "HOME=/work",
                format!("SSL_CERT_FILE=/{CERTIFICATES}"),
            ],
            "Labels": { "org.opencontainers.image.revision": commit },
        },
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(&files)] },
        "history": [{ "created": created, "created_by": "cargo xtask dist" }],
    });
    let config = serde_json::to_vec(&config)?;
    let blobs = [(OCI_CONFIG, config), (LAYER, layer)]
        .map(|(media_type, bytes)| (descriptor(media_type, &bytes), Bytes::from(bytes)));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blobs[0].0,
        "layers": [blobs[1].0],
        "annotations": {
            "org.opencontainers.image.created": created,
            "org.opencontainers.image.revision": commit,
            "org.opencontainers.image.version": tag.as_str(),
        },
    });
    let manifest = Manifest::read(None, None, serde_json::to_vec(&manifest)?.into())?;

    let layout = OciLayout::create(layout).await?;
    for (descriptor, bytes) in blobs {
        let source = async { Ok(Box::pin(stream::iter([Ok(bytes)])) as BlobStream) }.boxed();
        layout.put_blob(&descriptor, None, source).await?;
    }
    layout.put_manifest(&manifest).await?;
    layout.publish(&tag.into(), &manifest).await?;
    println!("{}", manifest.digest);
    Ok(())
}

/// The layer: an archive whose bytes depend only on the arguments.
fn layer(epoch: i64, program: &Path, certificates: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let modified = u64::try_from(epoch)?;
    let mut archive = Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, owner: u64, content: Option<&[u8]>| {
        let mut header = Header::new_ustar();
        header.set_path(path)?;
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(modified);
        header.set_entry_type(if content.is_some() { EntryType::Regular } else { EntryType::Directory });
        let content = content.unwrap_or_default();
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content)
    };
    for directory in ["etc/", "etc/ssl/", "etc/ssl/certs/", "usr/", "usr/bin/"] {
        add(directory, 0o755, 0, None)?;
    }
    add("tmp/", 0o1777, 0, None)?;
    add("work/", 0o755, USER, None)?;
    add("etc/passwd", 0o644, 0, Some(format!("nonroot:x:{USER}:{USER}::/work:\n").as_bytes()))?;
    add(CERTIFICATES, 0o644, 0, Some(&fs::read(certificates)?))?;
    add("usr/bin/bp", 0o755, 0, Some(&fs::read(program)?))?;
    Ok(archive.into_inner()?)
}

fn compressed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // Without a time and a file name in its header.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type, Digest::sha256(bytes), bytes.len() as u64)
}
