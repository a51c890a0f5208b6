//! Registries that answer with malice, by mistake, or behind a proxy that was set up badly: in memory, on a paused clock.

mod answers;
mod images;
mod lists;
mod net;
mod origins;
mod property;
mod source;
mod tokens;
