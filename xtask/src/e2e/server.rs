//! Server processes: started, waited for until ready, and stopped in any case.

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

/// Start timeout of a server, long enough for a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(240);

/// All running children by process id: the signal handler kills them, because a signal does not unwind the stack.
static RUNNING: Mutex<BTreeMap<u32, Child>> = Mutex::new(BTreeMap::new());

fn running() -> MutexGuard<'static, BTreeMap<u32, Child>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all servers when this process receives SIGINT or SIGTERM.
pub(crate) fn stop_all_on_signal() -> Result<()> {
    ctrlc::set_handler(|| {
        for child in running().values_mut() {
            let _ = child.kill();
        }
        std::process::exit(130);
    })
    .context("cannot install the signal handler")
}

/// Keeps the servers running until Ctrl-C.
pub(crate) fn wait_for_ctrl_c() -> ! {
    report::line("press Ctrl-C to stop");
    loop {
        clock::pause(Duration::from_secs(3600));
    }
}

/// A free port on loopback that this run has not returned before. It is below the kernel's ephemeral ports, so that no
/// outgoing connection can use it before its server does.
pub(crate) fn free_port() -> Result<u16> {
    const RANGE: std::ops::Range<u32> = 16_000..32_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Concurrent runs start at different offsets.
    let start = std::process::id().wrapping_mul(97);
    for _ in RANGE {
        let offset = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % (RANGE.end - RANGE.start);
        let port = u16::try_from(RANGE.start + offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 from {} to {}", RANGE.start, RANGE.end)
}

/// A server process. Dropping it kills the process.
pub(crate) struct Server {
    name: String,
    /// The address shown in reports.
    address: String,
    id: u32,
    log: PathBuf,
}

impl Server {
    /// Starts a server, with its output in a log file, and waits until it is `ready`.
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
            clock::poll(START_TIMEOUT, || {
                if server.has_exited() { Some(false) } else { ready().then_some(true) }
            })
        });
        match up {
            Some(true) => {
                report::line(format_args!("     {server} is up ({:.1} s)", took.as_secs_f64()));
                Ok(server)
            }
            Some(false) => bail!("{name} exited during startup:\n{}", server.last_lines()),
            None => {
                bail!("{name} was not ready within {} s:\n{}", START_TIMEOUT.as_secs(), server.last_lines())
            }
        }
    }

    /// The output of the server so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The path of the log file.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn last_lines(&self) -> String {
        command::tail(&self.output(), 20)
    }

    fn has_exited(&self) -> bool {
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
