//! Child processes that end with this one: in a process group of their own, which is killed as a whole.

use std::{io, process::ExitStatus, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

/// How much of the end of standard error is kept.
const MAX_STDERR: usize = 64 << 10;

/// How long the output of a process is still read after its end, if a process that it left running may write more.
const DRAIN: Duration = Duration::from_secs(1);

/// Gives the process a group of its own, and kills it when its handle is dropped.
///
/// In its own group it gets no signals of the terminal: the program that runs it decides how it ends. Combine it with
/// [`Group`], which includes the processes that it starts.
pub fn own_group(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    command.process_group(0);
    command.kill_on_drop(true)
}

/// The group of a process that was started in [its own](own_group). On drop all its processes are killed, unless the
/// first one has [ended](Group::ended).
///
/// ```
/// use bp_artifact::process::{Group, own_group};
/// use tokio::process::Command;
///
/// # async fn run() -> std::io::Result<()> {
/// let child = own_group(Command::new("sh").args(["-c", "sleep 60 & wait"])).spawn()?;
/// let group = Group::of(&child);
/// // Dropped before that, it kills the shell and the sleep.
/// let output = child.wait_with_output().await?;
/// group.ended();
/// # let _ = output; Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "on drop the processes are killed"]
pub struct Group {
    leader: Option<u32>,
}

impl Group {
    /// The group of a process that was just started.
    pub fn of(child: &Child) -> Self {
        Group { leader: child.id() }
    }

    /// The process has ended. What it left running, such as a daemon, continues.
    pub fn ended(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(leader) = self.leader.and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            // They may have ended already.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

/// How a process ended, and its output.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// Standard output, if it is piped.
    pub stdout: Vec<u8>,
    /// The last 64 KiB of standard error, if it is piped.
    pub stderr: Vec<u8>,
}

/// Waits for the end of a process in [its own group](own_group), whose output may be of any size: of standard output at most
/// `most` bytes are accepted. What the process leaves running continues; its output is not awaited.
///
/// # Errors
/// When standard output is longer, or cannot be read. The processes of the group are killed.
///
/// # Permissions
/// None.
///
/// # Cancel safety
/// Dropped, it kills the processes of the group.
pub async fn ended(mut child: Child, most: usize) -> io::Result<Ended> {
    let group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let status = {
        let reading =
            async { tokio::try_join!(all_of(stdout, most, &mut output), end_of(stderr, &mut errors)) };
        tokio::pin!(reading);
        let mut is_read = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                read = &mut reading, if !is_read => {
                    read?;
                    is_read = true;
                }
            }
        };
        if !is_read && let Ok(read) = tokio::time::timeout(DRAIN, reading).await {
            read?;
        }
        status
    };
    group.ended();
    Ok(Ended { status, stdout: output, stderr: errors })
}

/// Reads to the end, at most `most` bytes.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>, most: usize, output: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    while pipe.read_buf(output).await? > 0 {
        if output.len() > most {
            return Err(io::Error::other(format!("its output exceeds {most} bytes")));
        }
    }
    Ok(())
}

/// Reads to the end, and keeps the last bytes.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>, output: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    while pipe.read_buf(output).await? > 0 {
        if output.len() > 2 * MAX_STDERR {
            output.drain(..output.len().saturating_sub(MAX_STDERR));
        }
    }
    output.drain(..output.len().saturating_sub(MAX_STDERR));
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Stdio;

    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;

    /// Starts a shell that starts a `sleep`, whose process ID it prints.
    async fn started(script: &str) -> (Child, Group, i32) {
        let mut shell = Command::new("sh");
        let mut child = own_group(shell.args(["-c", script])).stdout(Stdio::piped()).spawn().unwrap();
        let group = Group::of(&child);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pid = lines.next_line().await.unwrap().unwrap().parse().unwrap();
        (child, group, pid)
    }

    fn is_running(pid: i32) -> bool {
        // An orphan that nobody has waited for yet is not running.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }

    #[tokio::test]
    async fn kills_what_the_process_has_started() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return;
        }
        let (child, group, pid) = started("sleep 600 >/dev/null & echo $!; wait").await;
        assert!(is_running(pid));
        drop((group, child));
        let gone = async {
            while is_running(pid) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the grandchild is killed");
    }

    fn shell(script: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        own_group(&mut shell).spawn().unwrap()
    }

    #[tokio::test]
    async fn output_of_any_size_is_bounded() {
        let flood = "yes abcdefg | head -c 20000000 >&2; echo; echo last >&2; exit 3";
        let output = ended(shell(flood), 100).await.unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"\n"[..]));
        assert!(output.stderr.len() == MAX_STDERR && output.stderr.ends_with(b"last\n"));
        let error = ended(shell("yes | head -c 20000000"), 100_000).await.unwrap_err();
        assert_eq!(error.to_string(), "its output exceeds 100000 bytes");
    }

    #[tokio::test]
    async fn what_a_process_leaves_running_is_not_awaited() {
        // It has the pipes of the process.
        let output = ended(shell("sleep 600 & echo $!; echo done >&2"), 100).await.unwrap();
        assert!(output.status.success());
        assert_eq!(output.stderr, b"done\n");
        let pid: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert!(is_running(pid));
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn leaves_a_daemon_of_a_process_that_has_ended() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return;
        }
        let (mut child, group, pid) = started("sleep 600 >/dev/null & echo $!").await;
        assert!(child.wait().await.unwrap().success());
        group.ended();
        assert!(is_running(pid));
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
