//! The two registries, and what they were asked.

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

/// Which registry is at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Version {
    /// Distribution 3.1, whose hashing is as fast as the machine allows
    #[value(name = "3.1")]
    Current,
    /// Distribution 2.8, as Debian ships it
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
    /// How many repositories were made up for copies so far.
    fresh: AtomicUsize,
    /// The last copy of each contestant and set.
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

    /// A repository at the destination that was never there.
    pub(super) fn fresh(&self, contestant: &Contestant, set: Set) -> String {
        let n = self.fresh.fetch_add(1, Ordering::Relaxed);
        let repository = format!("copy-{n}/{}", set.name());
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        copied.retain(|(name, other, _)| (*name, *other) != (contestant.name, set));
        copied.push((contestant.name, set, repository.clone()));
        repository
    }

    /// The repositories of these contestants' last copies.
    pub(super) fn copied<'a>(&self, of: impl Iterator<Item = &'a &'a Contestant>) -> Vec<(String, Set)> {
        let names: Vec<&str> = of.map(|contestant| contestant.name).collect();
        let copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = copied.iter().filter(|(name, ..)| names.contains(name));
        ours.map(|(_, set, repository)| (repository.clone(), *set)).collect()
    }
}

/// A registry that tells every request.
pub(super) struct Registry {
    pub(super) address: String,
    server: Server,
    /// How far its log was read, and the requests in it.
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
        let ready = || http::answers(&address, "/v2/");
        let server = Server::start(name, &address, scratch, &mut process, ready)?;
        Ok(Registry { address, server, log: Mutex::default() })
    }

    /// How many requests it has answered so far, by its access log.
    pub(super) fn requests(&self) -> usize {
        // A request is logged after its answer: wait until no more comes.
        clock::poll(Duration::from_secs(2), || {
            clock::pause(Duration::from_millis(20));
            (self.read_log() == 0).then_some(())
        });
        self.log().1
    }

    /// Counts what is new in the log; returns how much that was.
    fn read_log(&self) -> usize {
        let mut log = self.log();
        let mut new = Vec::new();
        let read = fs::File::open(self.server.log()).and_then(|mut file| {
            file.seek(io::SeekFrom::Start(log.0))?;
            file.read_to_end(&mut new)
        });
        // The rest of a line that is being written is for the next time.
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
