//! Check that a command exits with code 0.

use std::{path::PathBuf, process::Stdio};

use futures_core::future::BoxFuture;
use tokio::process::Command;

use super::{Check, CheckVerdict};
use crate::{
    process::{ended, own_group},
    text,
};

/// Runs a command, such as a smoke test, which passes with exit code 0.
///
/// Its environment is `PATH` and the given variables, without the caller's credentials. It is killed, with the
/// processes that it has started, when the check is dropped or times out.
#[derive(Debug, Clone)]
pub struct CommandCheck {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl CommandCheck {
    /// Creates a check that runs `program`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        CommandCheck { program: program.into(), arguments: Vec::new(), variables: Vec::new() }
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds an environment variable.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    async fn run(&self) -> CheckVerdict {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.variables.iter().cloned());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = async { ended(own_group(&mut command).spawn()?, 0).await };
        let ended = match output.await {
            Ok(ended) => ended,
            Err(error) => return CheckVerdict::unobserved(format!("cannot run {}: {error}", self.name())),
        };
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let last = text::truncate(&text::single_line(last), 200).into_owned();
        match ended.status.code() {
            Some(0) => CheckVerdict::Passed,
            Some(code) => CheckVerdict::failed(format!("exit code {code}: {last}")),
            None => CheckVerdict::unobserved(format!("killed by a signal: {last}")),
        }
    }
}

impl Check for CommandCheck {
    /// The program only: the arguments may contain secrets.
    fn name(&self) -> String {
        self.program.display().to_string()
    }

    fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
        Box::pin(self.run())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    async fn shell(script: &str) -> CheckVerdict {
        CommandCheck::new("sh").argument("-c").argument(script).variable("MODE", "test").attempt().await
    }

    #[tokio::test]
    async fn passes_with_exit_code_zero_only() {
        assert_eq!(shell("test \"$MODE\" = test && test -z \"$HOME\"").await, CheckVerdict::Passed);
        let verdict = shell("echo first >&2; echo 'no orders' >&2; exit 3").await;
        assert_eq!(verdict, CheckVerdict::failed("exit code 3: no orders"));
        assert!(matches!(shell("kill -9 $$").await, CheckVerdict::Unobserved { .. }));
        let none = CommandCheck::new("/no/such/program").attempt().await;
        assert!(matches!(none, CheckVerdict::Unobserved { reason } if reason.contains("/no/such/program")));
    }

    #[tokio::test]
    async fn a_server_that_the_command_starts_does_not_delay_the_verdict() {
        let verdict = shell("sleep 600 & echo $!; echo \"$!\" >&2; exit 4").await;
        let CheckVerdict::Failed { reason } = verdict else { panic!("{verdict:?}") };
        let pid: i32 = reason.strip_prefix("exit code 4: ").unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it was left running");
    }

    #[tokio::test]
    async fn a_dropped_check_ends_with_the_processes_that_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! >{0}.new; mv {0}.new {0}; wait", file.display());
        let check = CommandCheck::new("sh").argument("-c").argument(script);
        let started = async {
            while !file.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            verdict = check.attempt() => panic!("{verdict:?}"),
            () = started => {}
        }
        let pid = std::fs::read_to_string(file).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = async {
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("the sleep is killed");
    }
}
