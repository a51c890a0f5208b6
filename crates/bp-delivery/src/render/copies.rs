//! What is shown of the events of a copy.

use bp_artifact::Digest;
use bp_promote::copy::{CopyEvent, Progress, Transfer};
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
    /// Blobs that were sent, with their bytes, and blobs that the destination had.
    sent: (u64, u64),
    kept: u64,
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
            CopyEvent::Blob { size, how, .. } => {
                if *how == Transfer::Sent {
                    self.sent = (self.sent.0 + 1, self.sent.1.saturating_add(*size));
                } else {
                    self.kept += 1;
                }
                Vec::new()
            }
            CopyEvent::Manifest { .. } | CopyEvent::Referrer { .. } => Vec::new(),
            CopyEvent::Kept(_) | CopyEvent::Skipped(_) | CopyEvent::Warning { .. } => {
                vec![Action::Line(Tone::Warning, event.to_string())]
            }
            _ => vec![Action::Line(Tone::Plain, event.to_string())],
        }
    }

    /// The end of the copy: its progress becomes one line.
    pub(super) fn end(&mut self, detail: Detail) -> Vec<Action> {
        let Copies { images, mut tagged, present, sent: (sent, bytes), kept, since } = std::mem::take(self);
        tagged.sort();
        let mut actions = vec![Action::Gone(KEY.into())];
        if sent + kept == 0 && tagged.is_empty() {
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
        let took = since.map_or_else(String::new, |since| format!(", {}", duration(since.elapsed())));
        let kept = if kept == 0 { String::new() } else { format!(", {kept} already present") };
        let text = format!("copied {names}{sent} blobs sent, {}{kept}{took}", HumanBytes(bytes));
        actions.push(Action::Line(if is_complete { Tone::Good } else { Tone::Plain }, text));
        actions
    }
}
