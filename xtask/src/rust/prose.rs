//! The prose of a source file: comments, string literals and the names of functions.

use super::{block_comment, string};

/// A piece of prose and where it starts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prose {
    pub(crate) kind: Kind,
    /// The text. Consecutive line comments are one text, its lines separated by `\n`.
    pub(crate) text: String,
    /// The line number of its first character, starting at 1.
    pub(crate) line: usize,
    /// Whether it is part of a `#[cfg(test)]` item. Tests are expected at the end of a file.
    pub(crate) in_tests: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `//` or `/* */`.
    Comment,
    /// `///` or `//!`.
    Doc,
    /// A string literal, without its quotes.
    Literal,
    /// The name of a function, its words separated by spaces.
    Function,
}

/// The comments, string literals and function names in `source`.
pub(crate) fn prose(source: &str) -> Vec<Prose> {
    let mut found: Vec<Prose> = Vec::new();
    let tests = source.find("\n#[cfg(test)]\n").unwrap_or(source.len());
    let (mut at, mut line) = (0, 1);
    let mut last_comment = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let is_name = |c: char| c == '_' || c.is_alphanumeric();
        let (length, piece) = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            (length, Some(line_comment(&rest[..length])))
        } else if rest.starts_with("/*") {
            let length = block_comment(rest);
            (length, Some((Kind::Comment, rest[..length].to_owned())))
        } else if let Some(length) = string(rest) {
            (length, rest[..length].contains('"').then(|| (Kind::Literal, unquoted(&rest[..length]))))
        } else if let Some(name) = rest.strip_prefix("fn ").filter(|_| !source[..at].ends_with(is_name)) {
            let length = name.find(|c| !is_name(c)).unwrap_or(name.len());
            (3 + length, Some((Kind::Function, name[..length].replace('_', " "))))
        } else if is_name(first) {
            (rest.find(|c| !is_name(c)).unwrap_or(rest.len()), None)
        } else {
            (first.len_utf8(), None)
        };
        if let Some((kind, text)) = piece {
            let is_line_comment = rest.starts_with("//");
            match found.last_mut() {
                Some(last) if is_line_comment && last.kind == kind && last_comment + 1 == line => {
                    last.text.push('\n');
                    last.text.push_str(&text);
                }
                _ => found.push(Prose { kind, text, line, in_tests: at > tests }),
            }
            if is_line_comment {
                last_comment = line;
            }
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

fn line_comment(text: &str) -> (Kind, String) {
    let doc = ["///", "//!"].into_iter().find_map(|marker| text.strip_prefix(marker));
    match doc {
        Some(text) => (Kind::Doc, text.trim().to_owned()),
        None => (Kind::Comment, text[2..].trim().to_owned()),
    }
}

/// The content of a literal. Escaped line ends are kept, so that line numbers stay right.
fn unquoted(literal: &str) -> String {
    let start = literal.find('"').map_or(0, |at| at + 1);
    let end = literal.rfind('"').unwrap_or(literal.len());
    literal.get(start..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_comments_literals_and_function_names_with_their_lines() {
        let source = "//! Opens.\n//! A crate.\n\n// why\nfn a_name<'a>(x: &'a str) -> char { let s = r#\"one \"two\"\"#; 'c' }\n\
                      /// Doc.\n#[cfg(test)]\nmod tests { fn rejects_it() { f(\"a \\\"b\\\"\nc\"); /* end */ } }\n";
        let read: Vec<_> = prose(source).into_iter().map(|p| (p.kind, p.text, p.line, p.in_tests)).collect();
        let expected = [
            (Kind::Doc, "Opens.\nA crate.", 1, false),
            (Kind::Comment, "why", 4, false),
            (Kind::Function, "a name", 5, false),
            (Kind::Literal, "one \"two\"", 5, false),
            (Kind::Doc, "Doc.", 6, false),
            (Kind::Function, "rejects it", 8, true),
            (Kind::Literal, "a \\\"b\\\"\nc", 8, true),
            (Kind::Comment, "/* end */", 9, true),
        ];
        assert_eq!(read, expected.map(|(kind, text, line, tests)| (kind, text.to_owned(), line, tests)));
    }

    #[test]
    fn a_comment_after_code_is_not_joined_with_one_above() {
        let read = prose("let a; // one\n\n// two\nlet b;\n");
        assert_eq!(read.iter().map(|p| p.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    }
}
