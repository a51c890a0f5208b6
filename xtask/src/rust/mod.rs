//! A minimal reader of Rust source: tokens for the import graph, prose for the language checks.

mod prose;
mod tokens;

pub(crate) use prose::{Kind, prose};
pub(crate) use tokens::{Token, outside_tests};

/// The length of the block comment at the start of `text`. Such comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of the string or character literal at the start of `text`, if there is one.
fn string(text: &str) -> Option<usize> {
    let unprefixed = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - unprefixed.len();
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if prefix <= 1 && raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = prefix + 1 + hashes + 1;
            return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
    }
    let quote = unprefixed.chars().next().filter(|quote| prefix <= 1 && matches!(quote, '"' | '\''))?;
    let mut characters = unprefixed.char_indices().skip(1);
    if quote == '\'' {
        // A lifetime is a quote and a name, without a second quote.
        let (_, first) = characters.next()?;
        let (_, second) = characters.next()?;
        if first != '\\' && second != '\'' {
            return None;
        }
        characters = unprefixed.char_indices().skip(1);
    }
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return Some(prefix + at + 1);
        }
    }
    Some(text.len())
}
