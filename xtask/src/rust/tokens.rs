//! A minimal Rust tokeniser, sufficient to read imports.

use super::{block_comment, string};

/// A token. Comments, string and character literals are omitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier, a keyword or a number.
    Name(&'a str),
    /// `::`.
    Colons,
    /// Any other character.
    Sign(char),
}

/// The tokens of a source file, without `#[cfg(test)]` items.
pub(crate) fn outside_tests(text: &str) -> Vec<Token<'_>> {
    without_tests(&all(text))
}

fn all(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c == '_' || c.is_alphanumeric();
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if is_name(first) {
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            tokens.push(Token::Name(&rest[..length]));
            length
        } else if rest.starts_with("::") {
            tokens.push(Token::Colons);
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// Drops each item below `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at += attribute(&tokens[at..]);
            while tokens.get(at) == Some(&Token::Sign('#')) {
                at += attribute(&tokens[at..]);
            }
            at += item(&tokens[at..]);
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

fn is_test_attribute(tokens: &[Token<'_>]) -> bool {
    use Token::{Name, Sign};
    matches!(
        tokens,
        [Sign('#'), Sign('['), Name("cfg"), Sign('('), Name("test"), Sign(')'), ..]
            | [Sign('#'), Sign('['), Name("cfg"), Sign('('), Name("all"), Sign('('), Name("test"), ..]
    )
}

/// The length of the attribute at the start of `tokens`.
fn attribute(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('[') => depth += 1,
            Token::Sign(']') if depth == 1 => return index + 1,
            Token::Sign(']') => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The length of the item at the start of `tokens`: up to its `;`, or to the end of its block.
fn item(tokens: &[Token<'_>]) -> usize {
    let is_visibility =
        |token: &&Token<'_>| matches!(token, Token::Name("pub" | "crate" | "super") | Token::Sign('(' | ')'));
    let is_import = tokens.iter().find(|token| !is_visibility(token)) == Some(&Token::Name("use"));
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign(';') if depth == 0 => return index + 1,
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign('}') if depth == 1 && !is_import => return index + 1,
            Token::Sign('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&str> {
        let name = |token| if let Token::Name(name) = token { Some(name) } else { None };
        outside_tests(text).into_iter().filter_map(name).collect()
    }

    #[test]
    fn ignores_comments_and_literals() {
        let text = r####"a /* b /* c */ d */ // e
            "f \" g" r#"h " i"# b"j" br"k\" c"l" 'm' '\'' '"' b'n' fn<'o>(&'o str) r z"####;
        assert_eq!(names(text), ["a", "fn", "o", "o", "str", "r", "z"]);
    }

    #[test]
    fn ignores_items_for_tests() {
        let text = "#[cfg(test)]\n#[allow(x[0])]\nmod tests { use a::{b}; fn a() {} }\nfn b() { c }
            #[cfg(test)] pub(crate) use d::{e, f}; #[cfg(all(test, unix))] fn g(h: [u8; 2]) { i }
            #[cfg(test)] mod j; #[cfg(unix)] fn k() {}";
        assert_eq!(names(text), ["fn", "b", "c", "cfg", "unix", "fn", "k"]);
    }
}
