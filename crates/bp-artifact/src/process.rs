//! Child processes that end with this one: in a process group of their own, which is killed as a whole.

use tokio::process::{Child, Command};

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

#[cfg(all(test, unix))]
mod tests {
    use std::{process::Stdio, time::Duration};

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
