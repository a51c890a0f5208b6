//! Sanitized text never contains control sequences for a terminal or commands for a CI system, whatever the input.

mod console;

use bp_artifact::text;
use console::{assert_inert, commands, terminal};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Parts of sequences and commands, which the text is composed of in any order.
const PIECES: &[&str] = &[
    "::",
    ":",
    "##",
    "#",
    "[",
    "]",
    "##[",
    "vso[",
    "teamcity[",
    "add-mask",
    "set-output name=a",
    " ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\u{1b}",
    "\u{1b}[",
    "31m",
    "2J",
    "\u{1b}]0;",
    "\u{1b}]8;;",
    "\u{7}",
    "\u{1b}\\",
    "\u{1b}P",
    "\u{1b}_",
    "\u{1b}(B",
    "\u{9b}",
    "\u{9d}",
    "\u{9c}",
    "\u{90}",
    "\0",
    "\u{8}",
    "\u{7f}",
    "\u{200b}",
    "\u{200d}",
    "\u{202e}",
    "\u{2066}",
    "\u{ad}",
    "\u{feff}",
    "\u{fe0f}",
    "\u{e0100}",
    "\u{e0041}",
    "\u{301}",
    "\u{488}",
    "\u{a0}",
    "\u{3000}",
    "é",
    "表",
    "🎉",
    "\\",
    "\"",
    "x",
];

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => proptest::sample::select(PIECES).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => ".{0,6}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn printed_text_has_no_commands_or_control_sequences(text in hostile()) {
        let printed = text::printable(&text);
        prop_assert!(commands(&printed).is_empty() && terminal(&printed).is_empty(), "{:?}", printed);
        let line = text::single_line(&text);
        prop_assert!(commands(&line).is_empty() && terminal(&line).is_empty(), "{:?}", line);
        prop_assert!(!line.contains('\n'));
    }

    #[test]
    fn is_idempotent(text in hostile()) {
        let (lines, line) = (text::printable(&text), text::single_line(&text));
        prop_assert_eq!(&text::printable(&lines), &lines);
        prop_assert_eq!((&text::single_line(&line), &text::printable(&line)), (&line, &line));
    }

    #[test]
    fn json_keeps_its_value(text in hostile(), key in hostile()) {
        let value = json!({ "type": "event", "data": { key: [text.clone(), "##"], "[x]": text } });
        for serialized in [value.to_string(), format!("{value:#}")] {
            let printed = text::json(&serialized);
            prop_assert_eq!(&serde_json::from_str::<Value>(&printed).unwrap(), &value);
            prop_assert!(commands(&printed).is_empty() && terminal(&printed).is_empty(), "{}", printed);
            prop_assert_eq!(&text::json(&printed), &printed);
            prop_assert_eq!(printed.lines().count(), serialized.lines().count());
        }
    }

    #[test]
    fn keeps_harmless_text_unchanged(text in "[a-z][ -\"$-~äß表🎉\t]{0,60}") {
        prop_assert_eq!(text::printable(&text), text.as_str());
        prop_assert_eq!(text::json(&json!(text).to_string()), json!(text).to_string());
    }

    #[test]
    fn truncates_long_text_once_with_a_note(text in hostile(), most in 40..100_usize) {
        let cut = text::truncate(&text, most);
        prop_assert!(cut.chars().count() <= most);
        prop_assert_eq!(&text::truncate(&cut, most), &cut);
        if text.chars().count() > most {
            let (kept, note) = cut.rsplit_once("… (").unwrap();
            let missing: usize = note.strip_suffix(" more characters)").unwrap().parse().unwrap();
            prop_assert!(text.starts_with(kept));
            prop_assert_eq!(kept.chars().count() + missing, text.chars().count());
        } else {
            prop_assert_eq!(cut, text.as_str());
        }
    }
}

#[test]
fn removes_complete_sequences_and_hides_no_text() {
    for (text, printed) in [
        ("\u{1b}[1;31mred\u{1b}[0m", "red"),
        ("\u{9b}31mred\u{9b}m", "red"),
        ("\u{1b}]0;title\u{7}a", "a"),
        ("\u{1b}]0;title\u{1b}\\a", "a"),
        ("\u{9d}0;title\u{9c}a", "a"),
        ("\u{1b}]8;;https://x.example\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
        ("\u{1b}Pq#0;2;0\u{1b}\\a\u{90}x\u{9c}b", "ab"),
        ("\u{1b}(Ba\u{1b}7b\u{1b}cc", "abc"),
        // Not terminated, or not on the same line: the text is kept.
        ("\u{1b}]0;error: it failed", "0;error: it failed"),
        ("\u{1b}]0;first\nerror: second\u{7}", "0;first\nerror: second"),
        ("\u{1b}[31", ""),
        ("\u{1b}[31\nnext", "\nnext"),
        ("a\u{1b}", "a"),
        ("10 %\r20 %\r\ndone\u{85}end", "10 %\n20 %\ndone\nend"),
        ("a\u{8}\u{0}\u{7f}b\tc", "ab\tc"),
        ("pay\u{202e}lap\u{200b}", "pay\\u{202e}lap\\u{200b}"),
        ("⚠\u{fe0f} warning", "⚠ warning"),
        ("  ::add-mask::e", "  : :add-mask::e"),
        ("#\u{1b}[m#[group]x ##vso[a]b ###[c]d", "# #[group]x # #vso[a]b ## #[c]d"),
        ("\u{1b}[m:\u{1b}[m:group::x", ": :group::x"),
    ] {
        assert_eq!(text::printable(text), printed, "{text:?}");
        assert_inert(&text::printable(text));
    }
}

#[test]
fn takes_linear_time_for_large_text() {
    for piece in ["\u{1b}]", "#", "##", "#é", "::", "\u{1b}[1", "\u{9d}x", "##é"] {
        let text = piece.repeat(100_000);
        assert_inert(&text::printable(&text));
        assert_inert(&text::json(&json!(text).to_string()));
    }
}
