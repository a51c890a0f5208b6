//! Processes that are started, waited for, and surely ended.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{clock, command, report};

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Every child that runs, by process id: a signal must end those that no stack unwinds to.
static RUNNING: Mutex<BTreeMap<u32, Child>> = Mutex::new(BTreeMap::new());

fn running() -> MutexGuard<'static, BTreeMap<u32, Child>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every server when this process is interrupted or told to end.
pub(crate) fn end_all_on_signal() -> Result<()> {
    ctrlc::set_handler(|| {
        for child in running().values_mut() {
            let _ = child.kill();
        }
        std::process::exit(130);
    })
    .context("cannot handle signals")
}

/// Leaves them up until then.
pub(crate) fn stay() -> ! {
    report::line("Ctrl-C ends them");
    loop {
        clock::pause(Duration::from_secs(3600));
    }
}

/// A port on loopback that is free now, and none that this run has been given before. It lies below the ports that the
/// kernel gives to connections, so that none of those takes it before its server does.
pub(crate) fn free_port() -> Result<u16> {
    const RANGE: std::ops::Range<u32> = 16_000..32_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Another run at the same time begins somewhere else.
    let start = std::process::id().wrapping_mul(97);
    for _ in RANGE {
        let offset = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % (RANGE.end - RANGE.start);
        let port = u16::try_from(RANGE.start + offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of 127.0.0.1 from {} to {} is free", RANGE.start, RANGE.end)
}

/// A server of this run. Dropping it ends the process.
pub(crate) struct Server {
    name: String,
    /// How to reach it.
    address: String,
    id: u32,
    log: PathBuf,
}

impl Server {
    /// Starts it, with its output in a log, and waits until `ready`.
    pub(crate) fn start(
        name: &str,
        address: &str,
        scratch: &Path,
        process: &mut Command,
        mut ready: impl FnMut() -> bool,
    ) -> Result<Self> {
        let log = scratch.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = process
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start `{}`", command::show(process)))?;
        let id = child.id();
        running().insert(id, child);
        let server = Server { name: name.to_owned(), address: address.to_owned(), id, log };

        let (up, took) = clock::timed(|| {
            clock::poll(PATIENCE, || match server.ended() {
                true => Some(false),
                false => ready().then_some(true),
            })
        });
        match up {
            Some(true) => {
                report::line(format_args!("     {server} is up ({:.1} s)", took.as_secs_f64()));
                Ok(server)
            }
            Some(false) => bail!("{name} ended at once:\n{}", server.last_lines()),
            None => bail!("{name} was not ready within {} s:\n{}", PATIENCE.as_secs(), server.last_lines()),
        }
    }

    /// All that it has printed.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where that is written.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn last_lines(&self) -> String {
        command::tail(&self.output(), 20)
    }

    fn ended(&self) -> bool {
        running().get_mut(&self.id).is_none_or(|child| matches!(child.try_wait(), Ok(Some(_)) | Err(_)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = running().remove(&self.id);
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, process {}", self.name, self.address, self.id)
    }
}
