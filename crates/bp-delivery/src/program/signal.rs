//! Signals that ask a program to end.

use std::fmt;

use bp_artifact::ExitCode;

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the terminal was closed.
    HangUp,
    /// SIGINT: somebody pressed Ctrl-C, or a workflow was cancelled.
    Interrupt,
    /// SIGTERM: the machine, the container or the build is being stopped.
    Terminate,
}

impl Signal {
    /// How a program ends that ends because of it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Signal::HangUp => ExitCode::HungUp,
            Signal::Interrupt => ExitCode::Interrupted,
            Signal::Terminate => ExitCode::Terminated,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::HangUp => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        })
    }
}

/// The signals to a process. While it exists they do not end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    listening: Vec<(Signal, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    /// Starts to listen. SIGHUP remains ignored under `nohup`.
    ///
    /// # Panics
    /// When called outside of a tokio runtime with I/O.
    pub fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let ignored = ignored();
        let kinds = [
            (Signal::HangUp, SignalKind::hangup()),
            (Signal::Interrupt, SignalKind::interrupt()),
            (Signal::Terminate, SignalKind::terminate()),
        ];
        // A process that cannot listen to a signal ends by it.
        let listening = kinds
            .into_iter()
            .filter(|(kind, _)| !(*kind == Signal::HangUp && ignored & 1 != 0))
            .filter_map(|(kind, number)| Some((kind, signal(number).ok()?)))
            .collect();
        Signals { listening }
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (kind, signal) in &mut self.listening {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*kind);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Starts to listen.
    pub fn listen() -> Self {
        Signals {}
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The set of signals that the process ignores, signal 1 in bit 0. Empty where the system does not report it.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok())
        .unwrap_or_default()
}
