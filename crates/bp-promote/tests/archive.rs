//! Tests of tar archives with an OCI layout, as source and destination.

mod common;

use std::{fs, io::Write as _, path::Path};

use bp_promote::{
    CopyError, CopyOptions, CopyReport, OciArchive, OciLayout, content::Reference, copy, copy_all,
    layout::LayoutError, store::ImageAt,
};
use bp_sandbox::Image;
use common::*;

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().unwrap())
}

async fn save(world: &World, path: &Path) -> CopyReport {
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    let archive = OciArchive::create(path).await.unwrap();
    copy(from, ImageAt::new(archive, tag("v1")), CopyOptions::default()).await.unwrap()
}

async fn load(world: &World, layout: OciLayout) -> Result<CopyReport, CopyError> {
    let to = world.client.image(&format!("{DST}/shop/web:v1").parse().unwrap());
    copy(ImageAt::new(layout, tag("v1")), to, CopyOptions::default()).await
}

/// An archive as other tools write it: names with `./`, the index at the end.
fn foreign(image: &Image, path: &Path) {
    let directory = tempfile::tempdir().unwrap();
    image.write_layout(directory.path(), "v1").unwrap();
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    archive.append_dir_all("./blobs", directory.path().join("blobs")).unwrap();
    for name in ["oci-layout", "index.json"] {
        archive.append_path_with_name(directory.path().join(name), format!("./{name}")).unwrap();
    }
    archive.finish().unwrap();
}

#[tokio::test]
async fn archives_are_deterministic_and_read_in_place() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let directory = tempfile::tempdir().unwrap();
    let [a, b] = ["a.tar", "b.tar"].map(|name| directory.path().join(name));
    assert_eq!(save(&world, &a).await.blobs.sent, 5);
    save(&world, &b).await;
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the collected content is removed: {left:?}");

    let layout = OciLayout::open(&a).await.unwrap();
    assert_eq!(layout.only_image().await.unwrap(), tag("v1"));
    load(&world, layout).await.unwrap();
    world.assert_copied(&image);
}

#[tokio::test]
async fn reads_archives_of_other_tools_from_files_and_pipes() {
    let image = multi();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    foreign(&image, &path);
    let world = World::plain();
    load(&world, OciLayout::open(&path).await.unwrap()).await.unwrap();
    world.assert_copied(&image);

    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = fs::read(&path).unwrap();
    let pipe = std::thread::spawn(move || writer.write_all(&bytes));
    let world = World::plain();
    let layout = OciLayout::unpack(reader, directory.path().join("unpacked")).await.unwrap();
    load(&world, layout).await.unwrap();
    pipe.join().unwrap().unwrap();
    world.assert_copied(&image);
}

#[tokio::test]
async fn packing_to_a_pipe_writes_the_same_bytes_as_to_a_file() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    save(&world, &archive).await;
    let layout = OciLayout::create(directory.path().join("layout")).await.unwrap();
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    copy(from, ImageAt::new(layout.clone(), tag("v1")), CopyOptions::default()).await.unwrap();

    let (reader, writer) = std::io::pipe().unwrap();
    let packed = tokio::spawn(async move { layout.pack(writer).await.map(drop) });
    let unpacked = OciLayout::unpack(reader, directory.path().join("unpacked")).await.unwrap();
    packed.await.unwrap().unwrap();
    load(&world, unpacked).await.unwrap();
    world.assert_copied(&image);

    // Packing an archive gives the same bytes too.
    for from in [directory.path().join("layout"), archive.clone()] {
        let bytes = OciLayout::open(&from).await.unwrap().pack(Vec::new()).await.unwrap();
        assert_eq!(bytes, fs::read(&archive).unwrap(), "{}", from.display());
    }
}

#[tokio::test]
async fn restarts_an_archive_after_a_kill_while_writing() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    // What a killed run can leave: half an archive, and a directory without the blobs that were already written.
    let packing = directory.path().join("image.tar.packing");
    image.write_layout(&packing, "v1").unwrap();
    for blob in image.blobs() {
        let digest = bp_artifact::Digest::sha256(blob);
        fs::remove_file(packing.join("blobs/sha256").join(digest.hex())).unwrap();
    }
    fs::write(directory.path().join(".image.tar.0123456789abcdef.tmp"), b"half").unwrap();
    assert_eq!(save(&world, &path).await.blobs.sent, 5);
    load(&world, OciLayout::open(&path).await.unwrap()).await.unwrap();
    world.assert_copied(&image);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no other files remain");
}

#[tokio::test]
async fn several_images_in_one_archive_share_their_blobs() {
    let world = World::plain();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.tar");
    let archive = OciArchive::create(&path).await.unwrap();
    for (image, name) in [(multi(), "b"), (single(), "a")] {
        world.sandbox.registry(SRC).push(&image, "shop/web", name);
    }
    let from = world.client.repository(&format!("{SRC}/shop/web").parse().unwrap());
    let pair = |name: &str| (from.at(tag(name)), ImageAt::new(archive.clone(), tag(name)));
    copy_all(vec![pair("b"), pair("a")], CopyOptions::default()).await.into_result().unwrap();
    let names = OciLayout::open(&path).await.unwrap().images().await.unwrap();
    let names: Vec<_> = names.into_iter().filter_map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn resumes_a_killed_run_from_collected_content() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    let archive = OciArchive::create(&path).await.unwrap();
    world.sandbox.faults().inject(bp_sandbox::Fault::status(403).at(SRC).on("GET blob").after(2).times(100));
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    let options = CopyOptions::default().concurrency(1);
    copy(from, ImageAt::new(archive, tag("v1")), options).await.unwrap_err();
    assert!(!path.exists());
    world.sandbox.faults().clear();
    let report = save(&world, &path).await;
    assert_eq!((report.blobs.present, report.blobs.sent), (2, 3));
}

#[tokio::test]
async fn rejects_unreadable_archives_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    let refused = async |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        OciLayout::open(&path).await.unwrap_err().to_string()
    };
    foreign(&single(), &path);
    let whole = fs::read(&path).unwrap();
    assert!(refused(&[0x1f, 0x8b, 8, 0]).await.contains("gzip -d"));
    assert!(refused(&[0x28, 0xb5, 0x2f, 0xfd]).await.contains("zstd -d"));
    // Truncated in a header, and in the first blob.
    assert!(refused(&whole[..1_000]).await.contains("not a complete tar archive"));
    assert!(refused(&whole[..1_540]).await.contains("is truncated"));
    assert!(refused(&[b'x'; 2_000]).await.contains("not a complete tar archive"));
    assert!(refused(b"").await.contains("oci-layout is missing"));

    let mut legacy = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    legacy.append_data(&mut header, "manifest.json", &b"[]"[..]).unwrap();
    let said = refused(&legacy.into_inner().unwrap()).await;
    assert!(said.contains("docker save") && said.contains("digest differs from the registry's"), "{said}");

    // An archive cannot be updated in place.
    foreign(&single(), &path);
    let world = World::plain();
    world.push(&multi());
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    let layout = OciLayout::open(&path).await.unwrap();
    let error = copy(from, ImageAt::new(layout, tag("v2")), CopyOptions::default()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("write a new archive"), "{source}");
}

/// The files of a layout with their names.
fn files(image: &Image) -> Vec<(String, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    image.write_layout(directory.path(), "v1").unwrap();
    let blobs = fs::read_dir(directory.path().join("blobs/sha256")).unwrap();
    let names = blobs.map(|blob| format!("blobs/sha256/{}", blob.unwrap().file_name().to_str().unwrap()));
    let names: Vec<_> = names.chain(["oci-layout", "index.json"].map(str::to_owned)).collect();
    names.into_iter().map(|name| (name.clone(), fs::read(directory.path().join(name)).unwrap())).collect()
}

#[tokio::test]
async fn reads_every_format_of_archives() {
    let image = multi();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    type Write = fn(&mut tar::Builder<fs::File>, &str, &[u8]);
    // The extended headers of Python and of Go, and names that are stored twice, of which the last one counts.
    let pax: Write = |archive, name, bytes| {
        let times = [("mtime", &b"1700000000.123456789"[..]), ("path", name.as_bytes())];
        archive.append_pax_extensions(times).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, "shortened", bytes).unwrap();
    };
    let twice: Write = |archive, name, bytes| {
        for bytes in [&b"old"[..], bytes] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        }
    };
    // A long name, which leads to the same file.
    let long: Write = |archive, name, bytes| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, format!("{}{name}", "./".repeat(80)), bytes).unwrap();
    };
    for write in [pax, twice, long] {
        let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
        // What `docker save` adds for older versions.
        write(&mut archive, "manifest.json", b"[]");
        write(&mut archive, "repositories", b"{}");
        for (name, bytes) in files(&image) {
            write(&mut archive, &name, &bytes);
        }
        archive.finish().unwrap();
        let unpacked = directory.path().join("unpacked");
        let from_pipe = OciLayout::unpack(fs::File::open(&path).unwrap(), &unpacked).await.unwrap();
        for layout in [OciLayout::open(&path).await.unwrap(), from_pipe] {
            let world = World::plain();
            load(&world, layout).await.unwrap();
            world.assert_copied(&image);
        }
        fs::remove_dir_all(&unpacked).unwrap();
    }
}

#[tokio::test]
async fn states_how_to_create_an_archive_that_can_be_read() {
    let image = single();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    for (kind, part) in [
        (tar::EntryType::Link, "--hard-dereference"),
        (tar::EntryType::Symlink, "--dereference"),
        (tar::EntryType::GNUSparse, "--sparse"),
    ] {
        let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
        for (n, (name, bytes)) in files(&image).into_iter().enumerate() {
            let mut header = tar::Header::new_gnu();
            if n == 0 {
                header.set_entry_type(kind);
                header.set_size(0);
                header.set_link_name("../cache/layer").unwrap();
                header.as_gnu_mut().unwrap().set_real_size(0);
                archive.append_data(&mut header, name, &b""[..]).unwrap();
            } else {
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, name, &bytes[..]).unwrap();
            }
        }
        archive.finish().unwrap();
        let error = load(&World::plain(), OciLayout::open(&path).await.unwrap()).await.unwrap_err();
        let said = bp_artifact::error::chain(&error);
        assert!(said.contains(part), "{kind:?}: {said}");
    }
    // The whole layout in a directory of the archive.
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    for (name, bytes) in files(&image) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, format!("./out/web/{name}"), &bytes[..]).unwrap();
    }
    archive.finish().unwrap();
    let said = OciLayout::open(&path).await.unwrap_err().to_string();
    assert!(said.contains("tar -C out/web -cf"), "{said}");
}

#[tokio::test]
async fn rejects_entries_outside_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    // The writer rejects such a name, so write it into the header directly.
    header.as_old_mut().name[..18].copy_from_slice(b"blobs/../../escape");
    header.set_cksum();
    archive.append(&header, &b"evil"[..]).unwrap();
    let bytes = archive.into_inner().unwrap();
    let target = directory.path().join("inner");
    let error = OciLayout::unpack(std::io::Cursor::new(bytes), &target).await.unwrap_err();
    assert!(matches!(error, LayoutError::NotALayout { .. }), "{error}");
    assert!(!directory.path().join("escape").exists());
}

#[tokio::test]
async fn rejects_archive_entries_with_impossible_sizes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    for size in [u64::MAX, u64::MAX - 511, u64::MAX - 1_024, u64::MAX - 2_000, i64::MAX as u64, 1 << 50] {
        let mut header = tar::Header::new_gnu();
        header.set_path("blobs/sha256/x").unwrap();
        header.set_size(size);
        header.set_cksum();
        let bytes = [header.as_bytes().as_slice(), &[7; 512]].concat();
        fs::write(&path, &bytes).unwrap();
        let error = OciLayout::open(&path).await.unwrap_err();
        assert!(matches!(error, LayoutError::NotALayout { .. }), "{size}: {error}");
        let target = directory.path().join(size.to_string());
        let error = OciLayout::unpack(std::io::Cursor::new(bytes), &target).await.unwrap_err();
        assert!(matches!(error, LayoutError::NotALayout { .. }), "{size}: {error}");
    }
}
