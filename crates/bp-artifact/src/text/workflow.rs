//! Commands for the runner of GitHub Actions: the only text of this project that a CI system executes.
//!
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use super::{Clean, printable, truncate};

/// The maximum length of a message in characters.
const MAX_MESSAGE: usize = 4000;
/// The maximum length of a title or file name in characters.
const MAX_PROPERTY: usize = 250;

/// The kind of an [`Annotation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationLevel {
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// A notice.
    Notice,
}

impl AnnotationLevel {
    fn command(self) -> &'static str {
        match self {
            AnnotationLevel::Error => "error",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Notice => "notice",
        }
    }
}

/// A message that GitHub Actions shows above the log, and beside a line of a file if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Annotation<'a> {
    /// Its kind.
    pub level: AnnotationLevel,
    /// Its title.
    pub title: &'a str,
    /// A file with a line and a column, from 1.
    pub file: Option<(&'a str, usize, usize)>,
    /// The message, which may have several lines.
    pub message: &'a str,
}

impl Clean {
    /// A workflow command of GitHub Actions that shows a message. Whatever the texts contain, the runner executes this
    /// command and no other one.
    ///
    /// ```
    /// use bp_artifact::text::{Clean, workflow::{Annotation, AnnotationLevel}};
    ///
    /// let annotation = Annotation {
    ///     level: AnnotationLevel::Error,
    ///     title: "bp: config, check",
    ///     file: Some(("bp.toml", 3, 14)),
    ///     message: "100 % wrong\n::add-mask::e",
    /// };
    /// assert_eq!(
    ///     Clean::annotation(&annotation).as_str(),
    ///     "::error title=bp%3A config%2C check,file=bp.toml,line=3,col=14::100 %25 wrong%0A: :add-mask::e",
    /// );
    /// ```
    pub fn annotation(annotation: &Annotation<'_>) -> Self {
        let Annotation { level, title, file, message } = annotation;
        let mut properties = format!("title={}", property(title));
        if let Some((file, line, column)) = file {
            properties.push_str(&format!(",file={},line={line},col={column}", property(file)));
        }
        Clean(format!("::{} {properties}::{}", level.command(), data(message, MAX_MESSAGE)))
    }

    /// A workflow command of GitHub Actions: the following lines are a group with this title, which is shown folded.
    pub fn group(title: &str) -> Self {
        Clean(format!("::group::{}", data(title, MAX_PROPERTY)))
    }

    /// A workflow command of GitHub Actions that ends a [`group`](Self::group).
    pub fn end_group() -> Self {
        Clean("::endgroup::".to_owned())
    }
}

/// Escapes a message, as the runner unescapes it.
fn data(text: &str, most: usize) -> String {
    let text = printable(text);
    let text = text.trim_end_matches('\n');
    let mut escaped = String::with_capacity(text.len());
    for character in truncate(text, most).chars() {
        match character {
            '%' => escaped.push_str("%25"),
            '\r' => escaped.push_str("%0D"),
            '\n' => escaped.push_str("%0A"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Escapes the value of a property.
fn property(text: &str) -> String {
    data(text, MAX_PROPERTY).replace(':', "%3A").replace(',', "%2C")
}
