//! A copy that is dropped at any await leaves no incomplete image behind a tag, and the same command completes it.

mod common;

use bp_promote::{CopyOptions, OciLayout, content::Reference, copy, store::ImageAt};
use bp_sandbox::cut;
use common::*;

/// A paused clock, and no other task between two polls.
fn paused() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).event_interval(1).build().unwrap()
}

/// Up to which poll each one is tried, in `cargo xtask soak --kills` more of them.
fn dense() -> usize {
    if std::env::var_os("BP_SOAK").is_some() { 300 } else { 15 }
}

#[test]
fn a_copy_dropped_at_any_await_is_completed_by_a_rerun() {
    let image = multi();
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let world = World::plain();
        world.push(&image);
        let ended = cut.run(|| world.copy()).await;
        // The tag moves last.
        match world.sandbox.registry(DST).tags("shop/web").get("v1") {
            Some(_) => world.assert_copied(&image),
            None => assert!(ended.is_none(), "dropped after poll {}", cut.polls()),
        }
        world.copy().await.unwrap();
        world.assert_copied(&image);
    });
    assert!(cuts > 15, "{cuts}");
}

#[test]
fn a_copy_into_a_layout_dropped_at_any_await_is_completed_by_a_rerun() {
    let image = multi();
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let world = World::plain();
        world.push(&image);
        let directory = tempfile::tempdir().unwrap();
        let save = async || {
            let from = world.client.repository(&format!("{SRC}/shop/web").parse().unwrap());
            let tag = || Reference::Tag("v1".parse().unwrap());
            let layout = OciLayout::create(directory.path().join("layout")).await.unwrap();
            copy(from.at(tag()), ImageAt::new(layout, tag()), CopyOptions::default()).await.unwrap()
        };
        cut.run(save).await;
        save().await;
        let layout = OciLayout::open(directory.path().join("layout")).await.unwrap();
        assert_eq!(layout.images().await.unwrap().len(), 1, "dropped after poll {}", cut.polls());
        let to = world.client.repository(&format!("{DST}/shop/web").parse().unwrap());
        let tag = || Reference::Tag("v1".parse().unwrap());
        copy(ImageAt::new(layout, tag()), to.at(tag()), CopyOptions::default()).await.unwrap();
        world.assert_copied(&image);
        let mut left = vec![directory.path().to_owned()];
        while let Some(path) = left.pop() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(!name.ends_with(".tmp"), "{name}, dropped after poll {}", cut.polls());
            if path.is_dir() {
                left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    });
    assert!(cuts > 15, "{cuts}");
}
