//! Which paths of a repository have changed between two commits, by the `git` program or given by the caller, and which
//! targets they concern.

use std::{
    ffi::OsStr,
    fmt, io,
    path::Path,
    process::{ExitStatus, Stdio},
    str::FromStr,
    time::Duration,
};

use bp_artifact::{
    config::{DeployPlatform, ServiceConfig},
    paths::PathPatterns,
    process::{Group, own_group},
    text,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use crate::Failure;

/// The maximum size of a list of paths.
const LIMIT: u64 = 16 << 20;
/// How long `git` may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A commit, tag or branch of a git repository, as git accepts it.
///
/// ```
/// use bp_delivery::changes::Revision;
///
/// assert!("v1.4.2".parse::<Revision>().is_ok() && "HEAD~1".parse::<Revision>().is_ok());
/// // It can never be an option of git, or two revisions.
/// assert!("--output=x".parse::<Revision>().is_err() && "main..dev".parse::<Revision>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// Whether it stands for no commit: build systems report zeros for a branch that was just created.
    fn is_zero(&self) -> bool {
        self.0.len() >= 40 && self.0.bytes().all(|byte| byte == b'0')
    }
}

impl FromStr for Revision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_alphanumeric() || "._-/~^@+#=".contains(c);
        if text.is_empty() {
            return Err("it is empty: expected a commit, a tag or a branch".to_owned());
        }
        if text.len() > 255 || text.starts_with('-') || text.contains("..") || !text.chars().all(allowed) {
            return Err("expected a commit, a tag or a branch, as in 1a2b3c4 or origin/main".to_owned());
        }
        Ok(Revision(text.to_owned()))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The paths that have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// These, relative to the root of the repository.
    Paths(Vec<String>),
    /// There is nothing to compare with: everything counts as changed.
    Everything,
}

impl Changes {
    /// Parses a list of paths: separated by NUL, as `git diff --name-only -z` prints them, or one on each line.
    ///
    /// # Errors
    /// When it is larger than 16 MiB.
    pub fn parse(list: &[u8]) -> Result<Self, Failure> {
        if list.len() as u64 > LIMIT {
            return Err(Failure::bad_input(format!(
                "the list of changed paths is larger than {LIMIT} bytes"
            )));
        }
        let list = String::from_utf8_lossy(list);
        let separator = if list.contains('\0') { '\0' } else { '\n' };
        let path = |path: &str| path.strip_suffix('\r').unwrap_or(path).to_owned();
        let paths = list.split(separator).map(path).filter(|path| !path.is_empty());
        Ok(Changes::Paths(paths.collect()))
    }

    /// The paths that differ between the commits `from` and `to` of the repository at `directory`. A path that was renamed
    /// counts with both names.
    ///
    /// # Errors
    /// When `git` cannot be run or fails, the directory is in no repository, or a commit is unknown, also because the
    /// clone is shallow. Never an empty list instead.
    ///
    /// # Permissions
    /// None: reads the local repository.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn between(directory: &Path, from: &Revision, to: &Revision) -> Result<Self, Failure> {
        if from.is_zero() {
            return Ok(Changes::Everything);
        }
        let git = Git { directory };
        let (from, to) = (git.commit(from).await?, git.commit(to).await?);
        let paths = git.run(
            ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv"]
                .into_iter()
                .chain(["--no-relative", "--ignore-submodules=none", &from, &to, "--"]),
        );
        let (status, stdout, stderr) = paths.await?;
        if !status.success() {
            return Err(failed("git diff", &stderr));
        }
        Self::parse(&stdout)
    }

    /// Whether a change concerns the target of `service` on `platform`: one of its paths, or any if it has none.
    pub fn concern(&self, service: &ServiceConfig, platform: DeployPlatform) -> bool {
        self.concern_patterns(service.paths.of(platform))
    }

    fn concern_patterns(&self, patterns: &PathPatterns) -> bool {
        match self {
            Changes::Everything => true,
            Changes::Paths(_) if patterns.is_empty() => true,
            Changes::Paths(paths) => paths.iter().any(|path| patterns.matches(path)),
        }
    }

    /// `none of 12 changed paths matches services/web`
    pub fn reason(&self, service: &ServiceConfig, platform: DeployPlatform) -> String {
        let count = match self {
            Changes::Everything => 0,
            Changes::Paths(paths) => paths.len(),
        };
        let word = if count == 1 { "path" } else { "paths" };
        format!("none of {count} changed {word} matches {}", service.paths.of(platform))
    }
}

/// The `git` program.
struct Git<'a> {
    directory: &'a Path,
}

impl Git<'_> {
    /// The SHA of a commit that the repository has.
    async fn commit(&self, revision: &Revision) -> Result<String, Failure> {
        let wanted = format!("{revision}^{{commit}}");
        let (status, stdout, stderr) = self.run(["rev-parse", "--verify", "--quiet", &wanted]).await?;
        let sha = String::from_utf8_lossy(&stdout).trim().to_owned();
        let is_sha = matches!(sha.len(), 40 | 64) && sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if status.success() && is_sha {
            return Ok(sha);
        }
        if status.code() != Some(1) {
            return Err(failed("git rev-parse", &stderr));
        }
        let (_, shallow, _) = self.run(["rev-parse", "--is-shallow-repository"]).await?;
        let is_shallow = String::from_utf8_lossy(&shallow).trim() == "true";
        Err(Failure::bad_input(if is_shallow {
            format!(
                "this clone is shallow and does not contain {revision}, so what has changed is unknown: fetch it (git fetch \
                 --unshallow, or fetch-depth: 0 of actions/checkout)"
            )
        } else {
            format!(
                "this repository does not contain the commit {revision}, so what has changed is unknown: fetch it, or \
                     correct its name"
            )
        }))
    }

    async fn run(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), Failure> {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(self.directory)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let work = async {
            let mut child = own_group(&mut command).spawn()?;
            let group = Group::of(&child);
            let (out, err) = tokio::try_join!(limited(child.stdout.take()), limited(child.stderr.take()))?;
            let status = child.wait().await?;
            group.ended();
            Ok::<_, io::Error>((status, out, err))
        };
        match tokio::time::timeout(TIMEOUT, work).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(Failure::bad_input(format!("cannot run git: {error}"))),
            Err(_) => Err(Failure::unavailable(format!("git did not end within {TIMEOUT:?}"))),
        }
    }
}

/// Reads a pipe to its end.
///
/// # Errors
/// When it is too long: a part of a list would leave out what has changed.
async fn limited(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(LIMIT + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("its output is larger than {LIMIT} bytes")));
    }
    Ok(bytes)
}

fn failed(what: &str, stderr: &[u8]) -> Failure {
    let stderr = text::single_line(&String::from_utf8_lossy(stderr));
    Failure::bad_input(format!("{what} failed: {}", text::truncate(stderr.trim(), 400)))
}

#[cfg(all(test, unix))]
mod tests {
    use bp_artifact::ExitCode;

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new("git");
        let identity =
            ["-c", "user.name=bp", "-c", "user.email=bp@example.com", "-c", "commit.gpgsign=false"];
        command.args(identity).args(arguments).current_dir(directory);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A repository with three commits.
    fn repository() -> (tempfile::TempDir, [String; 3]) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        git(root, &["init", "-q", "-b", "main"]);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let commit = |message: &str| {
            git(root, &["add", "-A"]);
            git(root, &["commit", "-q", "-m", message]);
            git(root, &["rev-parse", "HEAD"])
        };
        write("services/web/main.rs", "1");
        write("services/worker/main.rs", "1");
        let first = commit("first");
        write("services/web/main.rs", "2");
        write("services/web/süß \"x\"\ny.txt", "1");
        let second = commit("second");
        git(root, &["mv", "services/worker/main.rs", "services/worker/lib.rs"]);
        git(root, &["tag", "v1"]);
        let third = commit("third");
        (directory, [first, second, third])
    }

    fn revision(text: &str) -> Revision {
        text.parse().unwrap()
    }

    async fn between(directory: &Path, from: &str, to: &str) -> Result<Vec<String>, Failure> {
        match Changes::between(directory, &revision(from), &revision(to)).await? {
            Changes::Paths(paths) => Ok(paths),
            Changes::Everything => panic!("not everything"),
        }
    }

    #[tokio::test]
    async fn lists_what_differs_between_two_commits_with_both_names_of_a_rename() {
        let (directory, [first, second, third]) = repository();
        let root = directory.path();
        let web = ["services/web/main.rs", "services/web/süß \"x\"\ny.txt"];
        assert_eq!(between(root, &first, &second).await.unwrap(), web);
        let worker = ["services/worker/lib.rs", "services/worker/main.rs"];
        assert_eq!(between(root, &second, "HEAD").await.unwrap(), worker);
        assert_eq!(between(root, "v1", &third[..10]).await.unwrap(), worker);
        // In a subdirectory, and with settings that change what git prints.
        for (key, value) in
            [("diff.relative", "true"), ("diff.renames", "copies"), ("diff.external", "false")]
        {
            git(root, &["config", key, value]);
        }
        assert_eq!(
            between(&root.join("services/web"), &first, "main").await.unwrap(),
            [&web[..], &worker].concat()
        );
        assert!(between(root, "main", "HEAD").await.unwrap().is_empty());
        let zeros = Changes::between(root, &revision(&"0".repeat(40)), &revision("HEAD")).await.unwrap();
        assert_eq!(zeros, Changes::Everything);
    }

    #[tokio::test]
    async fn a_commit_that_is_not_there_is_refused_and_never_means_unchanged() {
        let (directory, [first, ..]) = repository();
        let root = directory.path();
        let unknown = between(root, &"a".repeat(40), "HEAD").await.unwrap_err();
        assert!(unknown.to_string().contains("does not contain the commit aaaa"), "{unknown}");
        assert_eq!(unknown.exit_code(), ExitCode::BadInput);
        assert!(between(root, "no-such-branch", "HEAD").await.is_err());
        // A file's content is not a commit.
        let blob = git(root, &["rev-parse", "HEAD:services/web/main.rs"]);
        assert!(between(root, &blob, "HEAD").await.is_err());

        let clone = tempfile::tempdir().unwrap();
        let url = format!("file://{}", root.display());
        git(clone.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
        let shallow = between(&clone.path().join("shallow"), &first, "HEAD").await.unwrap_err();
        assert!(shallow.to_string().contains("this clone is shallow and does not contain"), "{shallow}");
        let outside = between(clone.path(), "HEAD", "HEAD").await.unwrap_err();
        assert!(outside.to_string().contains("git rev-parse failed: "), "{outside}");
    }

    #[test]
    fn a_revision_is_never_an_option_or_a_range() {
        for text in ["", "-x", "--output=/tmp/x", "a b", "a..b", "a...b", "HEAD:path", "a\nb", "$(x)", "a*"] {
            assert!(text.parse::<Revision>().is_err(), "{text:?}");
        }
        for text in ["HEAD", "HEAD~2", "HEAD^", "origin/feature/a-b", "v1.2.3", "@", "1a2b3c4"] {
            assert!(text.parse::<Revision>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn parses_lists_by_line_and_by_nul() {
        let paths = |list: &[u8]| match Changes::parse(list).unwrap() {
            Changes::Paths(paths) => paths,
            Changes::Everything => panic!(),
        };
        assert_eq!(paths(b"a\r\nb c\n\n"), ["a", "b c"]);
        assert_eq!(paths(b"a\nb\0c\0"), ["a\nb", "c"]);
        assert!(paths(b"").is_empty());
    }

    #[test]
    fn a_target_without_paths_is_concerned_by_every_change() {
        let changes = Changes::Paths(vec!["docs/x.md".into()]);
        let web = PathPatterns::new(["services/web"]).unwrap();
        assert!(!changes.concern_patterns(&web));
        assert!(changes.concern_patterns(&PathPatterns::default()));
        assert!(Changes::Everything.concern_patterns(&web));
        assert!(!Changes::Paths(Vec::new()).concern_patterns(&web));
    }
}
