//! The step summary of GitHub Actions: Markdown whose external text is in HTML elements, with all of its special
//! characters as entities, so that it is shown as it is.

use std::fmt::Write as _;

use bp_artifact::{
    ExitCode,
    text::{printable, truncate},
};

/// The maximum length of the result in characters. A step may write 1 MiB, and other commands write to the same file.
const MAX_TEXT: usize = 60_000;

/// The summary of a command.
pub(super) fn summary(
    verb: &str,
    code: ExitCode,
    meaning: &str,
    entries: &[String],
    failure: Option<&str>,
) -> String {
    let symbol = if code == ExitCode::Done { "✅" } else { "❌" };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<h3>{symbol} bp {}: {} (exit code {})</h3>",
        escaped(verb),
        escaped(meaning),
        code.code()
    );
    for part in failure.map(str::to_owned).into_iter().chain([entries.join("\n")]) {
        if !part.is_empty() {
            let _ = writeln!(text, "<pre>{}</pre>", escaped(&truncate(&printable(&part), MAX_TEXT)));
        }
    }
    // A blank line ends the block of HTML.
    text.push('\n');
    text
}

/// Text as HTML. Line ends are references too: a blank line in it cannot end a block of HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            // Markdown, mentions, emoji and references to issues.
            '`' | '*' | '_' | '[' | ']' | '\\' | '|' | '~' | '#' | '@' | ':' | '!' | '$' => {
                let _ = write!(escaped, "&#{};", u32::from(character));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that a reader of the HTML sees.
    fn shown(html: &str) -> String {
        let mut text = String::new();
        let mut rest = html;
        while let Some((before, from)) = rest.split_once('&') {
            let (entity, after) = from.split_once(';').unwrap();
            text.push_str(before);
            text.push(match entity {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                number => char::from_u32(number.strip_prefix('#').unwrap().parse().unwrap()).unwrap(),
            });
            rest = after;
        }
        text + rest
    }

    #[test]
    fn hostile_text_stays_in_its_element() {
        let hostile = "</pre><img src=x onerror=y>\n\n# title\n[link](https://evil.example.com) @team :tada: `a` | b | $x$\n\
                       ```\n<!-- --> &lt; ![i](u) ~~s~~ **b** \\";
        let text = summary("verify", ExitCode::Drift, "drift", &[hostile.to_owned()], Some(hostile));
        let elements = ["<h3>", "</h3>", "<pre>", "</pre>"];
        let mut tags: Vec<&str> = Vec::new();
        for part in text.split('<').skip(1) {
            let tag = elements.iter().find(|element| part.starts_with(&element[1..]));
            tags.push(tag.unwrap_or_else(|| panic!("another element: {part}")));
        }
        assert_eq!(tags, ["<h3>", "</h3>", "<pre>", "</pre>", "<pre>", "</pre>"]);
        let body = text.split("<pre>").nth(1).unwrap().split("</pre>").next().unwrap();

        assert!(!body.replace("&#", "").contains(['`', '[', '@', '*', '|', '$', '!', '~', '\\']), "{body}");
        assert_eq!(shown(body), hostile);
    }

    #[test]
    fn a_long_result_is_truncated() {
        let text = summary("verify", ExitCode::Done, "done", &["x".repeat(1 << 20)], None);
        assert!(text.len() < 200_000 && text.contains("more characters"), "{}", text.len());
    }
}
