//! What is shown of the events of a copy.

use bp_artifact::Digest;
use bp_promote::copy::{CopyEvent, Progress};
use indicatif::HumanBytes;
use tokio::time::Instant;

use super::{
    action::{Action, Detail, duration},
    names::path,
};
use crate::look::{Bar, Tone};

/// The key of the progress of a copy.
const KEY: &str = "copy";
/// How many images a summary lists.
const LISTED: usize = 3;

/// What is remembered of the copy that is followed.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Each image with the repository that it is copied to.
    images: Vec<(Digest, String)>,
    tagged: Vec<String>,
    present: usize,
    progress: Progress,
    since: Option<Instant>,
}

impl Copies {
    /// An event of a copy.
    pub(super) fn event(&mut self, event: &CopyEvent, detail: Detail) -> Vec<Action> {
        match event {
            CopyEvent::Resolved { destination, digest, present, .. } => {
                self.images.push((digest.clone(), destination.clone()));
                self.present += usize::from(*present);
                self.since.get_or_insert_with(Instant::now);
                let is_printed = *present || detail == Detail::Log;
                is_printed.then(|| Action::Line(Tone::Plain, event.to_string())).into_iter().collect()
            }
            CopyEvent::Progress(progress) => {
                self.progress = *progress;
                let Progress { blobs, blobs_total, bytes, bytes_total, .. } = *progress;
                let (done, all) = (HumanBytes(bytes), HumanBytes(bytes_total));
                let message = format!("{blobs}/{blobs_total} blobs, {done} of {all}");
                let bar = Bar { name: "copying".into(), position: bytes, length: bytes_total, message };
                vec![Action::Bar { key: KEY.into(), bar, logged: true }]
            }
            CopyEvent::Tagged { tag, digest } => {
                let image = self.images.iter().rev().find(|(known, _)| known == digest);
                let image = image.map_or_else(String::new, |(_, repository)| path(repository).to_owned());
                let name = format!("{image}:{tag}");
                let line = format!("{name} points to {}", digest.abbreviated());
                self.tagged.push(name);
                (detail == Detail::Log).then_some(Action::Line(Tone::Plain, line)).into_iter().collect()
            }
            // The progress counts them.
            CopyEvent::Blob { .. } | CopyEvent::Manifest { .. } | CopyEvent::Referrer { .. } => Vec::new(),
            CopyEvent::Kept(_) | CopyEvent::Skipped(_) | CopyEvent::Warning { .. } => {
                vec![Action::Line(Tone::Warning, event.to_string())]
            }
            _ => vec![Action::Line(Tone::Plain, event.to_string())],
        }
    }

    /// The end of the copy: its progress becomes one line.
    pub(super) fn end(&mut self, detail: Detail) -> Vec<Action> {
        let Copies { images, mut tagged, present, progress, since } = std::mem::take(self);
        tagged.sort();
        let mut actions = vec![Action::Gone(KEY.into())];
        if progress.blobs_total == 0 && tagged.is_empty() {
            return actions;
        }
        let is_complete = tagged.len() + present >= images.len();
        let names = match tagged.len() {
            0 => String::new(),
            _ if detail == Detail::Log => format!("{} tags: ", tagged.len()),
            more if more > LISTED => {
                format!("{} and {} more: ", tagged[..LISTED].join(", "), more - LISTED)
            }
            _ => format!("{}: ", tagged.join(", ")),
        };
        let Progress { blobs, blobs_total, bytes, .. } = progress;
        let took = since.map_or_else(String::new, |since| format!(", {}", duration(since.elapsed())));
        let text = format!("copied {names}{blobs} of {blobs_total} blobs, {}{took}", HumanBytes(bytes));
        actions.push(Action::Line(if is_complete { Tone::Good } else { Tone::Plain }, text));
        actions
    }
}
