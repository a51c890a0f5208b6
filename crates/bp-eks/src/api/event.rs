//! Read the times, the count and the container of an event; find the events about an object.

use std::{collections::HashMap, ops::Deref, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use super::text::Text;

/// Events, found by the object that they are about: a namespace may have thousands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events {
    all: Vec<Arc<Event>>,
    /// The positions by the object's uid.
    about: HashMap<String, Vec<usize>>,
}

impl Events {
    /// Those about the object with this uid.
    pub(crate) fn about(&self, uid: &str) -> impl Iterator<Item = &Event> + Clone {
        let positions = self.about.get(uid).map(Vec::as_slice).unwrap_or_default();
        positions.iter().filter_map(|at| self.all.get(*at)).map(AsRef::as_ref)
    }
}

impl FromIterator<Arc<Event>> for Events {
    fn from_iter<I: IntoIterator<Item = Arc<Event>>>(events: I) -> Self {
        let all: Vec<Arc<Event>> = events.into_iter().collect();
        let mut about: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, event) in all.iter().enumerate() {
            if let Some(uid) = &event.involved_object.uid {
                about.entry(uid.clone()).or_default().push(at);
            }
        }
        Events { all, about }
    }
}

impl Deref for Events {
    type Target = [Arc<Event>];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

/// When the event was last observed. Events of `events.k8s.io` have a series, or only `eventTime`.
pub(crate) fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0).or_else(|| series.map(|time| time.0));
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

/// How often it was observed.
pub(crate) fn count(event: &Event) -> u32 {
    let series = event.series.as_ref().and_then(|series| series.count);
    event.count.or(series).unwrap_or(1).max(1).unsigned_abs()
}

/// The container that the event is about: `spec.containers{web}`.
pub(crate) fn container(event: &Event) -> Option<&str> {
    let (_, rest) = event.involved_object.field_path.as_deref()?.split_once('{')?;
    rest.strip_suffix('}')
}

/// Whether the event may be about this container: one without a container may.
pub(crate) fn concerns(event: &Event, container: &str) -> bool {
    self::container(event).is_none_or(|name| name == container)
}

/// Whether the event was observed after `time`, if both are known.
pub(crate) fn is_since(event: &Event, time: Option<Timestamp>) -> bool {
    // Events are recorded with a precision of a second.
    match (last_seen(event), time) {
        (Some(seen), Some(time)) => seen.as_second() >= time.as_second(),
        (None, _) | (_, None) => true,
    }
}

/// Whether it is a warning.
pub(crate) fn is_warning(event: &Event) -> bool {
    event.type_.text() != "Normal"
}
