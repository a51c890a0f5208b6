//! Integration into CI systems: log groups, annotations, step summary and outputs of GitHub Actions; variables of a shell,
//! which CodeBuild exports.
//!
//! Results contain text from registries, containers and clusters. Each form has one place that escapes it: workflow
//! commands [`Clean`](bp_artifact::text::Clean), the summary [`html`], variables [`shell`].

mod html;
mod shell;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use bp_artifact::{
    ExitCode,
    document::{self, Location},
    sync::lock,
    text::{
        Clean, single_line,
        workflow::{Annotation, AnnotationLevel},
    },
};
use serde_json::Value;

use crate::{
    Failure,
    look::Entry,
    printer::{Printer, Stream},
};

/// The most entries of results that are kept for the summary.
const MOST_ENTRIES: usize = 200;

/// What a program writes for the CI system that runs it. Nothing by default.
#[derive(Debug, Default)]
pub struct Ci {
    /// Whether the log is read by the runner of GitHub Actions.
    github: bool,
    summary: Option<PathBuf>,
    outputs: Option<PathBuf>,
    export: Option<PathBuf>,
    results: Mutex<Results>,
}

/// What was printed as results.
#[derive(Debug, Default)]
struct Results {
    entries: Vec<String>,
    values: Values,
    /// The error that ends the command.
    failure: Option<(String, Option<Location>)>,
    /// The stream of the group that is open.
    group: Option<Stream>,
}

/// The values of a result that later steps use.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Values {
    verdict: Option<String>,
    image: Option<String>,
    digest: Option<String>,
}

impl Ci {
    /// The integration for the CI system that the variables describe: GitHub Actions, unless `BP_CI` is `off`. `export` is
    /// the file of shell variables to write, if any.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>, export: Option<PathBuf>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let github =
            set("GITHUB_ACTIONS").as_deref() == Some("true") && set("BP_CI").as_deref() != Some("off");
        let file = |name: &str| set(name).filter(|_| github).map(PathBuf::from);
        Ci {
            github,
            summary: file("GITHUB_STEP_SUMMARY"),
            outputs: file("GITHUB_OUTPUT"),
            export,
            results: Mutex::default(),
        }
    }

    /// Starts a group of log lines; returns whether the CI system has groups.
    pub(crate) fn group(&self, printer: &Printer, stream: Stream, title: &str) -> bool {
        if self.github {
            self.end_group(printer);
            lock(&self.results).group = Some(stream);
            printer.clean(stream, &Clean::group(title));
        }
        self.github
    }

    /// Ends the group, if one has been started: what follows is always shown.
    pub(crate) fn end_group(&self, printer: &Printer) {
        if let Some(stream) = lock(&self.results).group.take() {
            printer.clean(stream, &Clean::end_group());
        }
    }

    /// Keeps a result for the summary and for later steps.
    pub(crate) fn result(&self, entries: &[String], value: impl FnOnce() -> Value) {
        if self.summary.is_none() && self.outputs.is_none() && self.export.is_none() && !self.github {
            return;
        }
        let mut results = lock(&self.results);
        let room = MOST_ENTRIES.saturating_sub(results.entries.len());
        results.entries.extend(entries.iter().take(room).cloned());
        let found = Values::of(&value());
        let values = &mut results.values;
        values.verdict = found.verdict.or(values.verdict.take());
        values.image = found.image.or(values.image.take());
        values.digest = found.digest.or(values.digest.take());
    }

    /// Keeps the error that ends the command.
    pub(crate) fn failed(&self, failure: &Failure) {
        lock(&self.results).failure = Some((failure.to_string(), failure.location().cloned()));
    }

    /// Writes what a command ends with. A file that cannot be written is a warning: the command is complete.
    pub(crate) fn end(&self, printer: &Printer, verb: &str, code: ExitCode) {
        self.end_group(printer);
        let Results { entries, values, failure, .. } = std::mem::take(&mut *lock(&self.results));
        let (message, location) = failure.unzip();
        if self.github && code != ExitCode::Done {
            let title = format!("bp {verb}: {}", meaning(code));
            let message = message.clone().unwrap_or_else(|| entries.join("\n"));
            let location = location.flatten();
            let file = location.as_ref().map(|at| (at.file.as_str(), at.line, at.column));
            let level = if code == ExitCode::AwaitingApproval {
                AnnotationLevel::Notice
            } else {
                AnnotationLevel::Error
            };
            let annotation = Annotation { level, title: &title, file, message: &message };
            printer.clean(Stream::Err, &Clean::annotation(&annotation));
        }
        let mut failed = Vec::new();
        if let Some(path) = &self.summary {
            let text = html::summary(verb, code, meaning(code), &entries, message.as_deref());
            failed.extend(append(path, &text).err().map(|error| (path, error.to_string())));
        }
        let pairs = values.pairs(code);
        if let Some(path) = &self.outputs {
            // The runner reads NAME=VALUE up to the end of the line.
            let lines: String = pairs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            failed.extend(append(path, &lines).err().map(|error| (path, error.to_string())));
        }
        if let Some(path) = &self.export {
            let text = shell::exports(&pairs);
            let written = document::write(path, text.as_bytes());
            failed.extend(written.err().map(|error| (path, bp_artifact::error::chain(&error))));
        }
        for (path, error) in failed {
            let text = format!("warning: cannot write {}: {error}", path.display());
            printer.entry(Stream::Err, Entry::plain(&text));
        }
    }
}

impl Values {
    /// The values in the JSON of a result: of a receipt, an outcome, an artifact or a digest.
    fn of(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(single_line).filter(|text| !text.is_empty());
        let image = &value["image"];
        let reference = match (text(&image["reference"]), text(&image["repository"]), text(&image["digest"]))
        {
            (Some(reference), ..) => Some(reference),
            (None, Some(repository), Some(digest)) => Some(format!("{repository}@{digest}")),
            _ => text(image).filter(|image| image.contains('@')),
        };
        let of_reference =
            reference.as_ref().and_then(|image| image.rsplit_once('@')).map(|(_, digest)| digest);
        let digest = text(&value["digest"]).or_else(|| of_reference.map(str::to_owned));
        Values { verdict: text(&value["verdict"]), image: reference, digest }
    }

    fn pairs(&self, code: ExitCode) -> Vec<(&'static str, String)> {
        let or_empty = |value: &Option<String>| value.clone().unwrap_or_default();
        vec![
            ("exit-code", code.code().to_string()),
            ("verdict", or_empty(&self.verdict)),
            ("image", or_empty(&self.image)),
            ("digest", or_empty(&self.digest)),
        ]
    }
}

/// The exit code in words.
fn meaning(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Done => "done",
        ExitCode::Unexpected => "unexpected error",
        ExitCode::BadInput => "invalid input",
        ExitCode::RolledBack => "failed and rolled back",
        ExitCode::Failed => "failed, and the previous revision is not running",
        ExitCode::Refused => "refused",
        ExitCode::Drift => "drift, or the digest could not be proven",
        ExitCode::Unavailable => "unavailable or out of time",
        ExitCode::Superseded => "superseded, stopped or deleted",
        ExitCode::AwaitingApproval => "awaiting approval",
        ExitCode::RunFailed => "the task could not be run",
        ExitCode::HungUp | ExitCode::Interrupted | ExitCode::Terminated => "interrupted",
        ExitCode::Child(_) => "the task failed",
    }
}

/// Appends to a file of the runner: other steps and programs write to it too.
fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    fn ci(directory: &Path, extra: &[(&str, &str)]) -> Ci {
        let mut variables: HashMap<String, String> =
            extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (name, file) in [("GITHUB_STEP_SUMMARY", "summary"), ("GITHUB_OUTPUT", "outputs")] {
            variables.insert(name.to_owned(), directory.join(file).display().to_string());
        }
        Ci::from_environment(|name| variables.get(name).cloned(), Some(directory.join("bp.env")))
    }

    #[test]
    fn values_of_receipts_outcomes_artifacts_and_digests() {
        let digest = bp_artifact::Digest::sha256("x").to_string();
        let image = format!("r.example.com/web@{digest}");
        for (value, verdict) in [
            (json!({ "verdict": "deployed", "image": { "reference": image } }), Some("deployed")),
            (json!({ "verdict": "rolled-back", "image": image, "target": "ecs/a/b" }), Some("rolled-back")),
            (json!({ "image": { "repository": "r.example.com/web", "tag": "1", "digest": digest } }), None),
        ] {
            let found = Values::of(&value);
            assert_eq!(found.verdict.as_deref(), verdict, "{value}");
            assert_eq!(
                (found.image.as_ref(), found.digest.as_ref()),
                (Some(&image), Some(&digest)),
                "{value}"
            );
        }
        let tag = Values::of(&json!({ "image": "r.example.com/web:1", "digest": digest }));
        assert_eq!((tag.image, tag.digest), (None, Some(digest)));
        assert_eq!(Values::of(&json!([1, { "verdict": 7 }])), Values::default());
    }

    #[test]
    fn writes_summary_outputs_and_variables_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let read = |file: &str| std::fs::read_to_string(directory.path().join(file)).unwrap_or_default();
        std::fs::write(directory.path().join("outputs"), "earlier=1\n").unwrap();
        let printer = Printer::new(true);
        let own = ci(directory.path(), &[("GITHUB_ACTIONS", "true")]);
        own.result(&["web: deployed".to_owned()], || json!({ "verdict": "deployed\nexit-code=9" }));
        own.end(&printer, "deploy-ecs", ExitCode::Drift);
        assert!(read("summary").contains("deploy-ecs") && read("summary").contains("web&#58; deployed"));
        assert_eq!(
            read("outputs"),
            "earlier=1\nexit-code=6\nverdict=deployed exit-code=9\nimage=\ndigest=\n"
        );
        assert!(read("bp.env").contains("export BP_RESULT_EXIT_CODE='6'"), "{}", read("bp.env"));

        // Outside of GitHub Actions, or if it is turned off, only what was asked for is written.
        for extra in [&[][..], &[("GITHUB_ACTIONS", "true"), ("BP_CI", "off")]] {
            let directory = tempfile::tempdir().unwrap();
            ci(directory.path(), extra).end(&printer, "verify", ExitCode::Done);
            let files: Vec<_> =
                std::fs::read_dir(directory.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
            assert_eq!(files, ["bp.env"], "{extra:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_changes_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("summary")).unwrap();
        ci(directory.path(), &[("GITHUB_ACTIONS", "true")]).end(&Printer::new(true), "x", ExitCode::Done);
        assert!(directory.path().join("outputs").is_file());
    }
}
