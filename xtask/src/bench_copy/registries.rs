//! The source and destination registries, and their request counts.

use std::{
    fs,
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;

use super::{contestants::Contestant, images::Set};
use crate::{
    clock,
    e2e::{
        http,
        server::{Server, free_port},
        tools::{DISTRIBUTION, DOCKER_REGISTRY, Tool, Toolbox},
    },
};

/// The version of Distribution at source and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Version {
    /// Distribution 3.1, with hardware-accelerated hashing
    #[value(name = "3.1")]
    Current,
    /// Distribution 2.8, as packaged by Debian
    #[value(name = "2.8")]
    Debian,
}

impl Version {
    pub(super) fn name(self) -> &'static str {
        match self {
            Version::Current => "Distribution 3.1",
            Version::Debian => "Distribution 2.8",
        }
    }

    fn tool(self) -> Tool {
        match self {
            Version::Current => DISTRIBUTION,
            Version::Debian => DOCKER_REGISTRY,
        }
    }
}

/// A source and a destination.
pub(super) struct Pair {
    pub(super) source: Registry,
    pub(super) destination: Registry,
    pub(super) scratch: PathBuf,
    /// The number of repositories used for copies so far.
    fresh: AtomicUsize,
    /// The last copy of each tool and set.
    copied: Mutex<Vec<(&'static str, Set, String)>>,
}

impl Pair {
    pub(super) fn start(version: Version, tools: &Toolbox, scratch: &Path) -> Result<Self> {
        Ok(Pair {
            source: Registry::start(version, tools, scratch, "source")?,
            destination: Registry::start(version, tools, scratch, "destination")?,
            scratch: scratch.to_owned(),
            fresh: AtomicUsize::new(0),
            copied: Mutex::default(),
        })
    }

    /// The name of a new repository at the destination.
    pub(super) fn fresh(&self, contestant: &Contestant, set: Set) -> String {
        let n = self.fresh.fetch_add(1, Ordering::Relaxed);
        let repository = format!("copy-{n}/{}", set.name());
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        copied.retain(|(name, other, _)| (*name, *other) != (contestant.name, set));
        copied.push((contestant.name, set, repository.clone()));
        repository
    }

    /// The repositories of the last copies of these tools.
    pub(super) fn copied<'a>(&self, of: impl Iterator<Item = &'a &'a Contestant>) -> Vec<(String, Set)> {
        let names: Vec<&str> = of.map(|contestant| contestant.name).collect();
        let copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = copied.iter().filter(|(name, ..)| names.contains(name));
        ours.map(|(_, set, repository)| (repository.clone(), *set)).collect()
    }
}

/// A registry with an access log.
pub(super) struct Registry {
    pub(super) address: String,
    server: Server,
    /// The log offset that was read, and the number of requests up to it.
    log: Mutex<(u64, usize)>,
}

impl Registry {
    fn start(version: Version, tools: &Toolbox, scratch: &Path, name: &str) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = scratch.join(format!("{name}.yml"));
        let root = scratch.join(name);
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{ level: error }}\nstorage:\n  filesystem: {{ rootdirectory: \"{}\" }}\n\
                 http: {{ addr: \"{address}\" }}\n",
                root.display()
            ),
        )?;
        let mut process = tools.command(version.tool())?;
        process.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
        let ready = || http::responds(&address, "/v2/");
        let server = Server::start(name, &address, scratch, &mut process, ready)?;
        Ok(Registry { address, server, log: Mutex::default() })
    }

    /// The number of requests in the access log.
    pub(super) fn requests(&self) -> usize {
        // A request is logged after its response: wait until the log stops growing.
        clock::poll(Duration::from_secs(2), || {
            clock::pause(Duration::from_millis(20));
            (self.read_log() == 0).then_some(())
        });
        self.log().1
    }

    /// Counts the new requests in the log; returns the number of bytes read.
    fn read_log(&self) -> usize {
        let mut log = self.log();
        let mut new = Vec::new();
        let read = fs::File::open(self.server.log()).and_then(|mut file| {
            file.seek(io::SeekFrom::Start(log.0))?;
            file.read_to_end(&mut new)
        });
        // An incomplete last line is read the next time.
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = String::from_utf8_lossy(&new[..whole]);
        log.0 += whole as u64;
        log.1 += lines.lines().filter(|line| line.contains(" HTTP/1.")).count();
        read.unwrap_or_default()
    }

    fn log(&self) -> MutexGuard<'_, (u64, usize)> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
