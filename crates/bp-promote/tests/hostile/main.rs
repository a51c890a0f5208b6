//! Tests against malicious, faulty and misconfigured registries, in memory and on a paused clock.

mod answers;
mod images;
mod lists;
mod logins;
mod net;
mod origins;
mod property;
mod proxies;
mod source;
mod tokens;
