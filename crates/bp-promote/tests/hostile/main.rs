//! Registries that answer with malice, by mistake, or behind a proxy that was set up badly: in memory, on a paused clock.

mod net;
mod origins;
mod property;
