//! What the runner of GitHub Actions executes in lines of this project: exactly our commands, whatever the texts contain.

mod console;

use bp_artifact::text::{
    Clean,
    workflow::{Annotation, AnnotationLevel},
};
use console::{Command, commands, executed, terminal};
use proptest::prelude::*;

fn annotation<'a>(title: &'a str, file: Option<&'a str>, message: &'a str) -> Annotation<'a> {
    let file = file.map(|file| (file, 3, 14));
    Annotation { level: AnnotationLevel::Error, title, file, message }
}

#[test]
fn the_runner_reads_what_was_written() {
    let text = "100 % of a:b, c=d; [x]";
    let line = Clean::annotation(&annotation(text, Some("a, b:c.toml"), text)).to_string();
    let expected = Command {
        name: "error".into(),
        properties: vec![
            ("title".into(), text.into()),
            ("file".into(), "a, b:c.toml".into()),
            ("line".into(), "3".into()),
            ("col".into(), "14".into()),
        ],
        data: text.into(),
    };
    assert_eq!(executed(&line), [expected]);
    let group = |data: &str| Command { name: "group".into(), properties: Vec::new(), data: data.into() };
    assert_eq!(executed(Clean::group("50%\nnext").as_str()), [group("50%\nnext")]);
    let end = Command { name: "endgroup".into(), properties: Vec::new(), data: String::new() };
    assert_eq!(executed(Clean::end_group().as_str()), [end]);
    assert_eq!(Clean::annotation(&annotation("", None, "")).as_str(), "::error title=::");
}

#[test]
fn hostile_texts_are_one_command_on_one_line() {
    for hostile in [
        "x\n::add-mask::e",
        "x\r::stop-commands::t",
        "::error file=a::b\n##[add-path]/tmp",
        "%0A::set-output name=a::b",
        "%250A::group::x",
        "a,file=b::c",
        "title=x::",
        "\u{2028}::group::b\u{85}::group::c\u{b}::group::d",
        "\u{1b}[31m::add-path::/tmp\u{1b}[0m",
        "##vso[task.setvariable variable=a]b",
    ] {
        for line in [
            Clean::annotation(&annotation(hostile, Some(hostile), hostile)),
            Clean::annotation(&annotation(hostile, None, "m")),
            Clean::group(hostile),
        ] {
            assert_one(line.as_str());
        }
    }
}

#[track_caller]
fn assert_one(line: &str) {
    let found = executed(line);
    assert!(found.len() == 1 && ["error", "group"].contains(&found[0].name.as_str()), "{line:?}: {found:?}");
    assert_eq!(commands(line), [line], "another parser sees the same single command");
    assert!(terminal(line).is_empty(), "{line:?}");
    for (name, value) in &found[0].properties {
        assert!(["title", "file", "line", "col"].contains(&name.as_str()), "{line:?}");
        assert!(name != "line" || value == "3", "{line:?}");
    }
}

#[test]
fn long_texts_are_truncated() {
    let long = "%".repeat(1 << 20);
    let line = Clean::annotation(&annotation(&long, Some(&long), &long)).to_string();
    assert!(line.len() < 20_000 && line.contains("more characters"), "{}", line.len());
    assert_one(&line);
}

proptest! {
    #[test]
    fn any_text_is_one_command(title in any_text(), file in any_text(), message in any_text()) {
        assert_one(Clean::annotation(&annotation(&title, Some(&file), &message)).as_str());
        assert_one(Clean::group(&message).as_str());
    }
}

/// Texts of parts of commands.
fn any_text() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "::", ":", ",", "=", "%", "0A", "25", "\n", "\r", " ", "##[", "]", "error", "add-mask", "\u{85}",
        "\u{2028}", "\u{200d}", "é", "\u{1b}[",
    ];
    proptest::collection::vec(
        prop_oneof![proptest::sample::select(PIECES).prop_map(str::to_owned), ".{0,4}"],
        0..12,
    )
    .prop_map(|parts| parts.concat())
}
