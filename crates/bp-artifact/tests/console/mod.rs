//! How a terminal and the log parsers of CI systems interpret an output, implemented from their documentation and
//! sources, independent of `bp_artifact::text`. Each function returns what the output would trigger; it must be empty.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

/// The control functions that a terminal would execute: every C0 and C1 control except the line feed and the tab.
/// Escape sequences are included, because each begins with one.
pub fn terminal(output: &str) -> Vec<char> {
    let harmless = ['\n', '\t'];
    output.chars().filter(|c| (c.is_control() && !harmless.contains(c)) || is_disguise(*c)).collect()
}

/// Bidirectional controls, zero-width characters, and line ends that a terminal does not recognise.
fn is_disguise(character: char) -> bool {
    matches!(u32::from(character),
        0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x3164 | 0xffa0 | 0xfeff
        | 0x180b..=0x180f | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        | 0xfe00..=0xfe0f | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
}

/// The lines that CI systems would interpret as commands.
///
/// The runner of GitHub Actions (`ActionCommand.cs`): `TryParseV2` trims white space at the start of a line, looks for
/// `::` there and for another `::` after the command; `TryParse` looks for `##[` anywhere and `]` after it. Both
/// compare by culture, so what a culture ignores is removed first. Azure Pipelines takes `##vso[`, TeamCity
/// `##teamcity[`. .NET ends lines at CR, LF and CR LF; other readers at more.
pub fn commands(output: &str) -> Vec<String> {
    let lines = output.split(['\r', '\n', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']);
    lines.filter(|line| is_command(line)).map(str::to_owned).collect()
}

fn is_command(line: &str) -> bool {
    // The characters that a culture ignores because Unicode gives them no weight: controls, formats, and many marks.
    let ignored = |c: char| {
        (c.is_control() && c != '\t')
            || is_disguise(c)
            || matches!(u32::from(c), 0x300..=0x36f | 0x488 | 0x489)
    };
    let seen: String = line.chars().filter(|c| !ignored(*c)).collect();
    let seen = seen.to_ascii_lowercase();
    let after_sign = |sign: &str| seen.split_once(sign).is_some_and(|(_, rest)| rest.contains(']'));
    let version_2 = seen.trim_start().strip_prefix("::").is_some_and(|rest| rest.contains("::"));
    version_2 || ["##[", "##vso[", "##teamcity["].into_iter().any(after_sign)
}

/// Nothing for a terminal or a CI system to act on.
#[track_caller]
pub fn assert_inert(output: &str) {
    assert_eq!((commands(output), terminal(output)), (Vec::new(), Vec::new()), "in {output:?}");
}

#[test]
fn detects_commands_and_controls() {
    for hostile in [
        "::add-mask::e",
        " \t\u{a0}\u{3000}::set-output name=a::b",
        "progress\r::stop-commands::x",
        "a\u{b}::group::b",
        "a\u{2028}::group::b",
        "\u{200d}::group::b",
        ":\u{ad}:group::b",
        "see ##[add-path]/tmp",
        "#\u{200b}#[add-path]/tmp",
        "##vso[task.setvariable variable=a]b",
        "##teamcity[buildStop]",
    ] {
        assert_eq!(commands(hostile).len(), 1, "{hostile:?}");
    }
    for harmless in ["arn:aws:iam::1:role/a", "a::b::c", "#[derive]", "## [a]", "::", "::a"] {
        assert!(commands(harmless).is_empty(), "{harmless:?}");
    }
    assert_eq!(terminal("a\u{1b}[2J\u{9b}\u{7}\u{7f}\u{202e}\u{200b}\tb\n").len(), 6);
}

/// A command that the runner of GitHub Actions executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub properties: Vec<(String, String)>,
    pub data: String,
}

/// The commands of the second version in an output, as `ActionCommand.TryParseV2` of the runner parses them: the line
/// without leading white space starts with `::`; up to the next `::` are the name and, after a space, properties separated
/// by commas; escapes are decoded.
pub fn executed(output: &str) -> Vec<Command> {
    output.split(['\r', '\n']).filter_map(command).collect()
}

fn command(line: &str) -> Option<Command> {
    let rest = line.trim_start().strip_prefix("::")?;
    let (head, data) = rest.split_once("::")?;
    let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
    let property = |text: &str| {
        let (name, value) = text.trim().split_once('=')?;
        Some((
            name.to_owned(),
            unescaped(value, &[("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")]),
        ))
    };
    Some(Command {
        name: name.to_owned(),
        properties: properties.split(',').filter(|text| !text.is_empty()).filter_map(property).collect(),
        data: unescaped(data, &[("%0D", "\r"), ("%0A", "\n"), ("%25", "%")]),
    })
}

fn unescaped(text: &str, escapes: &[(&str, &str)]) -> String {
    escapes.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}
