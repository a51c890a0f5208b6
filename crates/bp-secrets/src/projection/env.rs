//! `.env` files and environment variables, with references or with values.

use std::fmt::Write as _;

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

use super::{Binding, Bindings, ProjectionError};
use crate::{reference::Reference, value::Fetched};

/// `NAME=reference` lines. They hold no secret and may be committed.
///
/// # Errors
/// When a name is none that a shell takes.
pub fn print(bindings: &Bindings) -> Result<String, ProjectionError> {
    bindings.iter().try_fold(String::new(), |mut file, Binding { name, reference }| {
        check_variable(name)?;
        writeln!(file, "{name}={}", quoted(&reference.to_string())).expect("writing to a String");
        Ok(file)
    })
}

/// Reads `NAME=reference` lines; blank lines, `#` comments, `export` and quotes are understood.
///
/// # Errors
/// With the number of the line when it is not of that form, and with the name when it is no reference.
pub fn parse(file: &str) -> Result<Bindings, ProjectionError> {
    let mut texts: Vec<(&str, String)> = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let wrong = |reason: &str| ProjectionError::shape(format!("line {}", number + 1), reason);
        let (name, text) = line.split_once('=').ok_or_else(|| wrong("is not NAME=reference"))?;
        check_variable(name.trim())?;
        texts.push((name.trim(), unquoted(text.trim()).ok_or_else(|| wrong("has a quote without its end"))?));
    }
    Bindings::parsed(texts.iter().map(|(name, text)| (*name, text.as_str())), str::parse)
}

/// Reads the environment: the variables that say themselves that they are references (`arn:`, `secretsmanager:`,
/// `ssm:`); all others are left alone.
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
/// With the name when what looks like a reference is none.
pub fn from_variables<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Bindings, ProjectionError> {
    let says_so = |text: &str| {
        let service = text.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(1));
        matches!(service, Some("secretsmanager" | "ssm"))
            || text.starts_with("secretsmanager:")
            || text.starts_with("ssm:")
    };
    Bindings::parsed(variables.into_iter().filter(|(_, text)| says_so(text)), str::parse)
}

/// The environment with references: what [`from_variables`] reads. A parameter by name gets the prefix `ssm:`.
pub fn to_variables(bindings: &Bindings) -> Vec<(String, String)> {
    let text = |reference: &Reference| match reference {
        Reference::Parameter(parameter) if parameter.arn().is_none() => {
            format!("ssm:{}", parameter.selected())
        }
        reference => reference.to_string(),
    };
    bindings.iter().map(|binding| (binding.name.clone(), text(&binding.reference))).collect()
}

/// `NAME='value'` lines with the values themselves, quoted for a POSIX shell (`set -a; . ./file`).
///
/// # Errors
/// When a name is none that a shell takes, or a value is no text without NUL.
pub fn print_values<'a>(
    values: impl IntoIterator<Item = (&'a str, &'a Fetched)>,
) -> Result<SecretString, ProjectionError> {
    let mut texts: Vec<(&str, &str)> = Vec::new();
    for (name, fetched) in values {
        check_variable(name)?;
        match fetched.value().text().map(|text| text.expose_secret()).filter(|text| !text.contains('\0')) {
            Some(text) => texts.push((name, text)),
            None => return Err(ProjectionError::not_expressible(name, ".env", "the value is binary")),
        }
    }
    // Room for the worst case, four characters for a quote: a text that grows leaves unwiped copies behind.
    let room = texts.iter().map(|(name, text)| name.len() + 4 * text.len() + 4).sum();
    let mut file = Zeroizing::new(String::with_capacity(room));
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
    match starts && name.chars().all(legal) {
        true => Ok(()),
        false => Err(ProjectionError::Name {
            name: name.chars().filter(|c| legal(*c)).take(40).collect(),
            reason: "is none that a shell takes: letters, digits and `_`, no digit first",
        }),
    }
}

/// As it is when it is plain, else in single quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+,=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Takes quotes off; `None` when one has no end.
fn unquoted(text: &str) -> Option<String> {
    match text.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let inner = text[1..].strip_suffix(quote)?;
            Some(inner.replace(r"'\''", "'"))
        }
        _ => Some(text.split(" #").next().unwrap_or_default().trim_end().to_owned()),
    }
}
