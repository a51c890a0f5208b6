//! Convert bindings to and from `.env` files and environment variables, with references or with values.

use std::fmt::Write as _;

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

use super::{Binding, Bindings, ProjectionError};
use crate::{reference::Reference, value::Fetched};

/// Prints `NAME=reference` lines. They contain no secret and may be committed.
///
/// # Errors
/// When a name is not a valid shell variable.
pub fn print(bindings: &Bindings) -> Result<String, ProjectionError> {
    bindings.iter().try_fold(String::new(), |mut file, Binding { name, reference }| {
        check_variable(name)?;
        writeln!(file, "{name}={}", quoted(&reference.to_string())).expect("writing to a String");
        Ok(file)
    })
}

/// Parses `NAME=reference` lines; blank lines, `#` comments, `export` and quotes are supported. A name may also be a key
/// of a Kubernetes `Secret`, such as `tls.crt`, which [`print()`] rejects.
///
/// # Errors
/// With the line number when a line has another format, and with the name when its value is not a valid reference.
pub fn parse(file: &str) -> Result<Bindings, ProjectionError> {
    let mut texts: Vec<(&str, String)> = Vec::new();
    for (number, line) in (1..).zip(file.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let wrong = |reason: &str| ProjectionError::shape(format!("line {number}"), reason);
        let (name, text) = line.split_once('=').ok_or_else(|| wrong("is not NAME=reference"))?;
        // The message does not quote the name: the line may be part of a secret.
        let name = name.trim();
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || !name.chars().all(legal) {
            return Err(wrong("has a name with other characters than letters, digits, `_`, `-` and `.`"));
        }
        let text =
            unquoted(text.trim()).ok_or_else(|| wrong("has an unterminated quote, or text after a quote"))?;
        texts.push((name, text));
    }
    Bindings::parsed(texts.iter().map(|(name, text)| (*name, text.as_str())), str::parse)
}

/// Parses the environment variables whose values are references by their prefix (`arn:`, `secretsmanager:`, `ssm:`);
/// ignores all others.
///
/// ```
/// use bp_secrets::projection::env;
///
/// let variables = [("PATH", "/usr/bin"), ("DB_HOST", "ssm:/prod/db/host")];
/// let bindings = env::from_variables(variables)?;
/// assert_eq!(bindings.len(), 1);
/// # Ok::<(), bp_secrets::projection::ProjectionError>(())
/// ```
///
/// # Errors
/// With the name when a value with such a prefix is not a valid reference.
pub fn from_variables<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Bindings, ProjectionError> {
    let has_prefix = |text: &str| {
        let service = text.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(1));
        matches!(service, Some("secretsmanager" | "ssm"))
            || text.starts_with("secretsmanager:")
            || text.starts_with("ssm:")
    };
    Bindings::parsed(variables.into_iter().filter(|(_, text)| has_prefix(text)), str::parse)
}

/// The environment variables that [`from_variables`] parses. A parameter by name gets the prefix `ssm:`.
pub fn to_variables(bindings: &Bindings) -> Vec<(String, String)> {
    let text = |reference: &Reference| match reference {
        Reference::Parameter(parameter) if parameter.arn().is_none() => {
            format!("ssm:{}", parameter.selected())
        }
        reference => reference.to_string(),
    };
    bindings.iter().map(|binding| (binding.name.clone(), text(&binding.reference))).collect()
}

/// Prints `NAME='value'` lines with the values themselves, quoted for a POSIX shell (`set -a; . ./file`).
///
/// # Errors
/// When a name is not a valid shell variable, or a value is binary or contains NUL.
pub fn print_values<'a>(
    values: impl IntoIterator<Item = (&'a str, &'a Fetched)>,
) -> Result<SecretString, ProjectionError> {
    let mut texts: Vec<(&str, &str)> = Vec::new();
    for (name, fetched) in values {
        check_variable(name)?;
        match fetched.value().text().map(|text| text.expose_secret()).filter(|text| !text.contains('\0')) {
            Some(text) => texts.push((name, text)),
            None => {
                let reason = "the value is binary, or contains NUL";
                return Err(ProjectionError::not_expressible(name, ".env", reason));
            }
        }
    }
    // Capacity for the worst case (a quote takes four characters): a reallocation would leave unwiped copies.
    let longest = |(name, text): &(&str, &str)| {
        text.len().saturating_mul(4).saturating_add(name.len().saturating_add(4))
    };
    let capacity = texts.iter().map(longest).fold(0, usize::saturating_add);
    let mut file = Zeroizing::new(String::with_capacity(capacity));
    for (name, text) in texts {
        file.push_str(name);
        file.push('=');
        file.push_str(&Zeroizing::new(quoted(text)));
        file.push('\n');
    }
    Ok(SecretString::from(file.as_str()))
}

fn check_variable(name: &str) -> Result<(), ProjectionError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.chars().all(legal) {
        Ok(())
    } else {
        Err(ProjectionError::Name {
            name: name.chars().filter(|c| legal(*c)).take(40).collect(),
            reason: "is not a valid shell variable: use letters, digits and `_`, not starting with a digit",
        })
    }
}

/// The text unchanged when it is plain, otherwise in single quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The text without quotes and the comment behind it; `None` when a quote is unterminated, or other text follows it.
fn unquoted(text: &str) -> Option<String> {
    let is_comment = |rest: &str| {
        let rest = rest.trim_start();
        rest.is_empty() || rest.starts_with('#')
    };
    let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'));
    let Some(quote) = quote else {
        let comment = [" #", "\t#"].iter().filter_map(|start| text.find(start)).min();
        return Some(text.get(..comment.unwrap_or(text.len()))?.trim_end().to_owned());
    };
    let (mut plain, mut rest) = (String::new(), text.strip_prefix(quote)?);
    loop {
        let (quoted, behind) = rest.split_once(quote)?;
        plain.push_str(quoted);
        // A quote within single quotes, as a shell writes it.
        match behind.strip_prefix(r"\''").filter(|_| quote == '\'') {
            Some(more) => {
                plain.push('\'');
                rest = more;
            }
            None => return is_comment(behind).then_some(plain),
        }
    }
}
