//! Sanitize untrusted text (from registries, containers, clusters, command lines) for terminals and the logs of CI
//! systems.
//!
//! Such text can control a terminal with escape sequences, and a CI runner with lines that look like its commands. The
//! functions here remove the former and break up the latter; all other text is unchanged:
//!
//! | in the text | becomes |
//! |---|---|
//! | line ends: CR LF, CR, vertical tab, form feed, U+0085, U+2028, U+2029 | `\n`; a space in [`single_line`] |
//! | escape sequences: CSI, OSC, DCS and others, 7-bit and 8-bit | removed |
//! | other C0 and C1 controls except the tab, and DEL | removed |
//! | invisible characters: bidirectional controls, zero-width characters, tags | `\u{202e}` and so on |
//! | variation selectors | removed |
//! | `::` at the start of a line (GitHub Actions) | `: :` |
//! | `##[`, `##vso[`, `##teamcity[` anywhere (GitHub Actions, Azure Pipelines, TeamCity) | `# #[` and so on |
//!
//! All functions are idempotent. Commands are detected as the runners detect them, and slightly more: the GitHub
//! Actions runner compares with culture rules, which ignore many non-ASCII characters, so all of them are skipped.
//!
//! ```
//! use bp_artifact::text;
//!
//! let log = "\u{1b}[31mstarting\u{1b}[0m\r\n::set-output name=digest::sha256:0000\n";
//! assert_eq!(text::printable(log), "starting\n: :set-output name=digest::sha256:0000\n");
//! assert_eq!(text::printable("arn:aws:iam::111111111111:role/web"), "arn:aws:iam::111111111111:role/web");
//! ```

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
};

mod credentials;
pub mod workflow;

pub use self::credentials::without_credentials;

const ESCAPE: char = '\u{1b}';

/// The maximum line length of an [entry](Clean::entry) in characters; longer lines are truncated with a notice.
const MAX_LINE_CHARS: usize = 8192;
/// The maximum number of lines of an [entry](Clean::entry).
const MAX_ENTRY_LINES: usize = 500;

/// Text that is safe to print. Only the sanitizers of this module create it, so a function that prints `Clean` alone
/// cannot print anything else.
///
/// ```
/// use bp_artifact::text::Clean;
///
/// fn print(text: &Clean) {
///     println!("{text}");
/// }
/// print(&Clean::entry("the registry says: no\r\nerror: nothing is wrong"));
/// ```
///
/// Text from outside does not convert to it:
///
/// ```compile_fail
/// # use bp_artifact::text::Clean;
/// # fn print(text: &Clean) {}
/// print(&"the registry says: no".into());
/// ```
///
/// ```compile_fail
/// # use bp_artifact::text::Clean;
/// let clean = Clean("::add-mask::e".to_owned());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean(String);

impl Clean {
    /// The text on one line, as [`single_line`] has it.
    pub fn line(text: &str) -> Self {
        Clean(single_line(text))
    }

    /// The text on one line of at most `most` characters.
    pub fn short_line(text: &str, most: usize) -> Self {
        Clean(truncate(&single_line(text), most).into_owned())
    }

    /// Serialized JSON, escaped as [`json`] does it. It is never truncated.
    pub fn json(serialized: &str) -> Self {
        Clean(json(serialized))
    }

    /// The text as an entry of a log: only its first line starts at column 1, the others are indented, so it cannot forge
    /// another entry. At most 500 lines of 8192 characters, with a notice of what is missing.
    ///
    /// ```
    /// # use bp_artifact::text::Clean;
    /// assert_eq!(Clean::entry("no\n::add-mask::e").as_str(), "no\n    : :add-mask::e");
    /// ```
    pub fn entry(text: &str) -> Self {
        let text = printable(text);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut entry = String::with_capacity(text.len());
        for (number, line) in text.split('\n').take(MAX_ENTRY_LINES).enumerate() {
            if number > 0 {
                let indented = line.is_empty() || line.starts_with(char::is_whitespace);
                entry.push_str(if indented { "\n" } else { "\n    " });
            }
            entry.push_str(&truncate(line, MAX_LINE_CHARS));
        }
        let missing = text.split('\n').skip(MAX_ENTRY_LINES).count();
        if missing > 0 {
            entry.push_str(&format!("\n    … ({missing} more lines)"));
        }
        Clean(entry)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Clean> for String {
    fn from(text: Clean) -> String {
        text.0
    }
}

/// Removes control characters and breaks up commands of CI systems; keeps the lines.
///
/// The only control characters left are `\n` and the tab. See [the module](self) for the rules.
pub fn printable(text: &str) -> String {
    let plain = without_controls(text);
    let mut printable = String::with_capacity(plain.len());
    for (number, line) in plain.split('\n').enumerate() {
        if number > 0 {
            printable.push('\n');
        }
        push_without_commands(&mut printable, line);
    }
    printable
}

/// As [`printable`], but on one line: line ends become a space, empty lines are dropped.
///
/// ```
/// assert_eq!(bp_artifact::text::single_line("10 %\r20 %\r\n\ndone\n"), "10 % 20 % done");
/// ```
pub fn single_line(text: &str) -> String {
    let plain = without_controls(text);
    let lines: Vec<&str> = plain.split('\n').filter(|line| !line.is_empty()).collect();
    let mut printable = String::with_capacity(plain.len());
    push_without_commands(&mut printable, &lines.join(" "));
    printable
}

/// Displays a value as [`single_line`] prints it: for the fields of `tracing` spans and events, which are formatted only
/// when a subscriber records them.
///
/// ```
/// use bp_artifact::text::SingleLine;
///
/// assert_eq!(SingleLine("denied\n::error::x").to_string(), "denied ::error::x");
/// ```
#[derive(Clone, Copy)]
pub struct SingleLine<T>(pub T);

impl<T: Display> Display for SingleLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&single_line(&self.0.to_string()))
    }
}

/// Replaces everything in serialized JSON that a terminal or a CI system would act on by `\u` escapes. The parsed value
/// is the same.
///
/// ```
/// let json = serde_json::json!(["\u{9b}2J", "##[add-mask]e"]);
/// let printed = bp_artifact::text::json(&json.to_string());
/// assert_eq!(printed, r##"["\u009b2J","#\u0023[add-mask]e"]"##);
/// assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), json);
/// ```
pub fn json(serialized: &str) -> String {
    // Outside of strings, JSON is ASCII without number signs, and its only control characters are white space, so only
    // strings are escaped.
    let mut escaped = String::with_capacity(serialized.len());
    for (number, line) in serialized.split('\n').enumerate() {
        if number > 0 {
            escaped.push('\n');
        }
        let mut visible = String::with_capacity(line.len());
        for character in line.chars() {
            if character.is_control() || is_line_end(character) || is_invisible(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(visible, "\\u{unit:04x}");
                }
            } else {
                visible.push(character);
            }
        }
        let mut rest = visible.as_str();
        while let Some(at) = command_in(rest) {
            let (before, from) = rest.split_at(at);
            escaped.push_str(before);
            escaped.push_str("\\u0023");
            rest = from.strip_prefix('#').unwrap_or_default();
        }
        escaped.push_str(rest);
    }
    escaped
}

/// Truncates the text to at most `most` characters, including a note with the number of missing characters.
///
/// ```
/// let long = "x".repeat(1_000_000);
/// let cut = bp_artifact::text::truncate(&long, 100);
/// assert!(cut.chars().count() <= 100 && cut.ends_with("xxx… (999940 more characters)"));
/// ```
pub fn truncate(text: &str, most: usize) -> Cow<'_, str> {
    /// Space for the note with the largest possible number.
    const NOTE: usize = 40;
    if text.char_indices().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    let kept = most.saturating_sub(NOTE);
    let end = text.char_indices().nth(kept).map_or(text.len(), |(end, _)| end);
    let (kept, rest) = text.split_at(end);
    let missing = rest.chars().count();
    Cow::Owned(format!("{kept}… ({missing} more characters)"))
}

/// Normalizes line ends to `\n` and removes all other control characters except the tab.
fn without_controls(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let mut characters = rest.chars();
        let Some(character) = characters.next() else { return plain };
        let after = characters.as_str();
        rest = match character {
            '\r' => {
                plain.push('\n');
                after.strip_prefix('\n').unwrap_or(after)
            }
            end if is_line_end(end) => {
                plain.push('\n');
                after
            }
            '\t' => {
                plain.push('\t');
                after
            }
            ESCAPE => after_escape(after),
            '\u{9b}' => after_control_sequence(after),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => after_control_string(after),
            control if control.is_control() => after,
            selector if is_variation_selector(selector) => after,
            hidden if is_invisible(hidden) => {
                let _ = write!(plain, "\\u{{{:x}}}", u32::from(hidden));
                after
            }
            visible => {
                plain.push(visible);
                after
            }
        };
    }
}

/// The text after an escape sequence whose ESC was consumed (ECMA-35, ECMA-48).
fn after_escape(text: &str) -> &str {
    let mut characters = text.chars();
    match characters.next() {
        Some('[') => after_control_sequence(characters.as_str()),
        Some(']' | 'P' | 'X' | '^' | '_') => after_control_string(characters.as_str()),
        _ => {
            let text = text.trim_start_matches(|c| matches!(c, ' '..='/'));
            text.strip_prefix(|c| matches!(c, '0'..='~')).unwrap_or(text)
        }
    }
}

/// The text after a control sequence whose introducer was consumed: parameters, intermediate characters, a final one.
fn after_control_sequence(text: &str) -> &str {
    let text = text.trim_start_matches(|c| matches!(c, '0'..='?'));
    let text = text.trim_start_matches(|c| matches!(c, ' '..='/'));
    text.strip_prefix(|c| matches!(c, '@'..='~')).unwrap_or(text)
}

/// The text after a control string (a window title, a link) whose introducer was consumed. The text of a control
/// string that does not end on its line is kept.
fn after_control_string(text: &str) -> &str {
    let rest = text.trim_start_matches(|c: char| !c.is_control());
    let ends = ["\u{7}", "\u{9c}", "\u{1b}\\"];
    ends.into_iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(text)
}

/// Whether a runner, a terminal or an editor treats the character as a line end.
fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Characters that select a glyph variant of the preceding character.
fn is_variation_selector(character: char) -> bool {
    matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Invisible characters, which may change how others are displayed: Unicode's `Default_Ignorable_Code_Point`, and
/// interlinear annotations.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Appends a line with a space inserted into everything that a CI system would interpret as a command.
fn push_without_commands(text: &mut String, line: &str) {
    let mut rest = line;
    let mut found = command_at_start(rest).or_else(|| command_in(rest));
    while let Some(at) = found {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        text.push(' ');
        rest = from;
        found = command_in(rest);
    }
    text.push_str(rest);
}

/// The position of the second colon if the line begins with `::`, after white space and ignorable characters.
fn command_at_start(line: &str) -> Option<usize> {
    let ignored = |c: char| !c.is_ascii();
    let behind = line.trim_start_matches(|c: char| ignored(c) || c.is_whitespace()).strip_prefix(':')?;
    let second = behind.trim_start_matches(ignored);
    second.starts_with(':').then(|| line.len().saturating_sub(second.len()))
}

/// The position of the second number sign of the first `##word[` in the text.
fn command_in(text: &str) -> Option<usize> {
    text.match_indices('#').find_map(|(first, _)| {
        let (_, from) = text.split_at(first);
        let behind = from.strip_prefix('#')?.trim_start_matches(|c: char| !c.is_ascii());
        let second = text.len().saturating_sub(behind.len());
        let word = behind.strip_prefix('#')?;
        let word = word
            .trim_start_matches(|c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.".contains(c));
        word.starts_with('[').then_some(second)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> String {
        Clean::entry(text).into()
    }

    #[test]
    fn only_the_first_line_of_an_entry_starts_at_column_1() {
        assert_eq!(entry("one"), "one");
        assert_eq!(entry("one\n"), "one");
        assert_eq!(
            entry("the registry says: no\r\nerror: nothing is wrong\n\n  more"),
            "the registry says: no\n    error: nothing is wrong\n\n  more"
        );
        assert_eq!(entry(&entry("a\nb\n c")), entry("a\nb\n c"));
        assert_eq!(entry("log: x\n::add-mask::e"), "log: x\n    : :add-mask::e");
    }

    #[test]
    fn truncation_reports_the_omitted_characters_and_lines() {
        let long = entry(&"x".repeat(MAX_LINE_CHARS + 1));
        assert!(long.chars().count() <= MAX_LINE_CHARS && long.ends_with("… (41 more characters)"), "{long}");
        let lines = entry(&"x\n".repeat(MAX_ENTRY_LINES + 7));
        assert!(lines.ends_with("\n    … (7 more lines)") && lines.lines().count() == MAX_ENTRY_LINES + 1);
    }
}
