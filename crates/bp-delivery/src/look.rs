//! The layout of printed entries: margins, symbols, colours, and lines of the terminal's width.
//!
//! Text is sanitized first; symbols and colours are added to it afterwards, and only here. They repeat what the text
//! states, so that the output reads the same without them. `docs/output.md` has the rules.

use std::fmt;

use bp_artifact::text::Clean;
use console::{Style, measure_text_width, truncate_str};

/// What an entry reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// The title of a step.
    Heading,
    /// A fact.
    Plain,
    /// A success.
    Good,
    /// A failure.
    Bad,
    /// A warning.
    Warning,
}

impl Tone {
    fn symbol(self) -> Option<&'static str> {
        match self {
            Tone::Heading | Tone::Plain => None,
            Tone::Good => Some("✓"),
            Tone::Bad => Some("✗"),
            Tone::Warning => Some("!"),
        }
    }

    /// Colours of the terminal's own palette that are readable on light and on dark backgrounds: yellow, cyan, white and
    /// dimmed text are not.
    fn style(self) -> Style {
        let style = Style::new().force_styling(true);
        match self {
            Tone::Heading | Tone::Warning => style.bold(),
            Tone::Plain => style,
            Tone::Good => style.green(),
            Tone::Bad => style.red().bold(),
        }
    }
}

/// How a stream shows entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether it is a terminal for a person: with symbols, progress in place, and lines wrapped at its width.
    pub(crate) rich: bool,
    /// Whether colours are used.
    pub(crate) colors: bool,
}

impl Look {
    /// The look of a stream, by the environment variables `CI`, `TERM`, `NO_COLOR`, `CLICOLOR_FORCE` and `CLICOLOR`.
    pub(crate) fn of(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_dumb = set("TERM").map_or(cfg!(unix), |terminal| terminal == "dumb");
        let rich = is_terminal && variable("CI").is_none() && !is_dumb;
        let is_forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let is_disabled = set("CLICOLOR").is_some_and(|value| value == "0");
        let colors = set("NO_COLOR").is_none() && (is_forced || rich && !is_disabled);
        Look { rich, colors }
    }
}

/// An entry to print: its text comes from anywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'t> {
    pub(crate) tone: Tone,
    /// 0 at column 1, 1 below the title of a step.
    pub(crate) depth: usize,
    pub(crate) text: &'t str,
}

impl<'t> Entry<'t> {
    /// A fact at column 1.
    pub(crate) fn plain(text: &'t str) -> Self {
        Entry { tone: Tone::Plain, depth: 0, text }
    }

    /// The lines of the entry; they are wrapped at `width`, if any.
    pub(crate) fn lines(&self, look: Look, width: Option<usize>) -> Vec<Line> {
        let has_symbols = look.rich && self.tone != Tone::Heading;
        let symbol = self.tone.symbol().filter(|_| has_symbols);
        let indented = has_symbols && (self.depth > 0 || symbol.is_some());
        let margin = 2 * (self.depth + usize::from(indented));
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(margin).max(20));
        let entry = Clean::entry(self.text);
        let wrapped = entry.as_str().split('\n').enumerate().flat_map(|(number, line)| {
            let pieces = wrap(line, room).into_iter().enumerate();
            pieces.map(move |(piece, text)| (number == 0 && piece == 0, text))
        });
        wrapped
            .map(|(is_first, text)| {
                // A part of a line could look like a command that the line does not contain.
                let text = Clean::line(&text);
                let lead = match self.tone {
                    Tone::Heading => text.as_str().len(),
                    Tone::Plain => 0,
                    Tone::Good | Tone::Bad | Tone::Warning if is_first => lead(text.as_str()),
                    Tone::Good | Tone::Bad | Tone::Warning => 0,
                };
                let style = Some(self.tone.style()).filter(|_| look.colors);
                Line { margin, symbol: symbol.filter(|_| is_first), text, lead, style }
            })
            .collect()
    }
}

/// The length of what the first line is about: `ecs/web:`, `error:`.
fn lead(text: &str) -> usize {
    text.find(": ").map_or(text.len(), |colon| colon + 1)
}

/// A line to print.
#[derive(Debug)]
pub(crate) struct Line {
    margin: usize,
    symbol: Option<&'static str>,
    text: Clean,
    /// How many bytes of the text are styled.
    lead: usize,
    style: Option<Style>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_str();
        if text.is_empty() {
            return Ok(());
        }
        let styled = |f: &mut fmt::Formatter<'_>, text: &str| match &self.style {
            Some(style) if !text.is_empty() => write!(f, "{}", style.apply_to(text)),
            _ => f.write_str(text),
        };
        match self.symbol {
            Some(symbol) => {
                write!(f, "{:width$}", "", width = self.margin.saturating_sub(2))?;
                styled(f, symbol)?;
                f.write_str(" ")?;
            }
            None => write!(f, "{:width$}", "", width = self.margin)?,
        }
        let (lead, rest) = text.split_at(self.lead);
        styled(f, lead)?;
        f.write_str(rest)
    }
}

/// The parts of a line that fit in `width` columns: broken between words, the further parts indented. A word that fits on
/// no line, such as an image by digest, stays where it is and is not broken, so that it can be copied.
fn wrap(line: &str, width: usize) -> Vec<String> {
    if measure_text_width(line) <= width {
        return vec![line.to_owned()];
    }
    let words = line.trim_start_matches(' ');
    let indent = line.len() - words.len();
    let hanging = " ".repeat((indent + column(words).unwrap_or_default() + 2).min(width / 2));
    let mut lines = Vec::new();
    let mut current = " ".repeat(indent);
    let mut is_empty = true;
    for word in words.split(' ') {
        let length = measure_text_width(word);
        let needed = measure_text_width(&current) + usize::from(!is_empty) + length;
        let fits_below = hanging.len() + length <= width || measure_text_width(&current) > width;
        if !is_empty && needed > width && fits_below {
            lines.push(std::mem::replace(&mut current, hanging.clone()));
            is_empty = true;
        }
        if is_empty && word.is_empty() {
            continue;
        }
        if !is_empty {
            current.push(' ');
        }
        current.push_str(word);
        is_empty = false;
    }
    lines.push(current);
    lines
}

/// The column of the text after a label that is aligned with others: `cause:     text`.
fn column(words: &str) -> Option<usize> {
    let label = words.find(' ')?;
    let text = words[label..].find(|c| c != ' ')?;
    (text > 1 && words[..label].ends_with(':')).then_some(label + text)
}

/// Progress that is shown in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) position: u64,
    /// 0 if it is not known.
    pub(crate) length: u64,
    pub(crate) message: String,
}

/// How wide the bar itself is.
const CELLS: usize = 20;

impl Bar {
    /// The line of the bar, cut at `width`.
    pub(crate) fn line(&self, seconds: u64, look: Look, width: usize) -> String {
        let clean = |text: &str| Clean::short_line(text, 200).as_str().replace('\t', " ");
        let (name, message) = (clean(&self.name), clean(&self.message));
        let filled = match self.length {
            0 => None,
            length => {
                let part = u128::from(self.position.min(length)) * CELLS as u128 / u128::from(length);
                Some(usize::try_from(part).unwrap_or(CELLS))
            }
        };
        let elapsed = if seconds == 0 { String::new() } else { format!(" ({seconds} s)") };
        let head = format!("    {name}: ");
        let bar = filled.map(|filled| format!("[{}{}] ", "=".repeat(filled), " ".repeat(CELLS - filled)));
        let bar = bar.unwrap_or_default();
        let plain = format!("{head}{bar}{message}{elapsed}");
        let cut = truncate_str(&plain, width.saturating_sub(1), "…");
        match cut.strip_prefix(&format!("{head}{bar}")) {
            Some(rest) if look.colors && !bar.is_empty() => {
                format!("{head}{}{rest}", Tone::Good.style().apply_to(bar))
            }
            _ => cut.into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(is_terminal: bool, variables: &[(&str, &str)]) -> (bool, bool) {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
        let look = Look::of(is_terminal, |name| found(name).map(|(_, value)| (*value).to_owned()));
        (look.rich, look.colors)
    }

    #[test]
    fn decides_by_the_stream_and_the_variables() {
        let term = ("TERM", "xterm-256color");
        for (is_terminal, variables, expected) in [
            (true, &[term][..], (true, true)),
            (false, &[term], (false, false)),
            (true, &[term, ("NO_COLOR", "1")], (true, false)),
            (true, &[term, ("NO_COLOR", "")], (true, true)),
            (true, &[term, ("CLICOLOR", "0")], (true, false)),
            (true, &[term, ("CI", "true")], (false, false)),
            (true, &[("TERM", "dumb")], (false, false)),
            (false, &[term, ("CLICOLOR_FORCE", "1")], (false, true)),
            (false, &[term, ("CLICOLOR_FORCE", "0")], (false, false)),
            (false, &[term, ("CI", "true"), ("CLICOLOR_FORCE", "1")], (false, true)),
            (true, &[term, ("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], (true, false)),
        ] {
            assert_eq!(look(is_terminal, variables), expected, "{is_terminal} {variables:?}");
        }
    }

    fn shown(tone: Tone, depth: usize, text: &str, look: Look, width: Option<usize>) -> Vec<String> {
        Entry { tone, depth, text }.lines(look, width).iter().map(ToString::to_string).collect()
    }

    const RICH: Look = Look { rich: true, colors: false };
    const PLAIN: Look = Look { rich: false, colors: false };

    #[test]
    fn breaks_lines_between_words_and_never_in_a_log() {
        let text = "ecs/web: FAILING: a container exited\n    cause:      it exited with code 78 at once";
        assert_eq!(
            shown(Tone::Bad, 1, text, RICH, Some(30)),
            [
                "  ✗ ecs/web: FAILING: a",
                "      container exited",
                "        cause:      it exited",
                "                 with code 78",
                "                 at once"
            ]
        );
        assert_eq!(
            shown(Tone::Bad, 1, text, PLAIN, None),
            ["  ecs/web: FAILING: a container exited", "      cause:      it exited with code 78 at once"]
        );
        let image = format!("deployed: r.example.com/web@sha256:{}", "0".repeat(64));
        assert_eq!(shown(Tone::Plain, 0, &image, RICH, Some(40)), [&*image], "it can be copied");
        let lines = shown(Tone::Plain, 0, &format!("{image} (started)"), RICH, Some(40));
        assert_eq!(lines, [&*image, "  (started)"]);
    }

    #[test]
    fn a_wrapped_line_does_not_start_with_a_command() {
        let lines = shown(Tone::Plain, 0, "the registry answers ::add-mask::e", RICH, Some(21));
        assert_eq!(lines, ["the registry answers", "  : :add-mask::e"]);
    }

    #[test]
    fn colours_repeat_what_the_text_states() {
        let colors = Look { rich: false, colors: true };
        let lines = shown(Tone::Good, 1, "ecs/web: deployed", colors, None);
        assert_eq!(lines, ["  \u{1b}[32mecs/web:\u{1b}[0m deployed"]);
        let hostile = shown(Tone::Bad, 0, "error: \u{1b}[31mno", colors, None);
        assert_eq!(hostile, ["\u{1b}[31m\u{1b}[1merror:\u{1b}[0m no"]);
    }

    #[test]
    fn a_bar_fits_on_its_line() {
        let bar =
            Bar { name: "ecs/web".into(), position: 1, length: 2, message: "1/2 running\n::x::".into() };
        assert_eq!(bar.line(0, RICH, 80), "    ecs/web: [==========          ] 1/2 running ::x::");
        assert_eq!(bar.line(7, RICH, 30), "    ecs/web: [==========    …");
        let unknown = Bar { length: 0, message: "waits".into(), ..bar };
        assert_eq!(unknown.line(7, RICH, 80), "    ecs/web: waits (7 s)");
    }
}
