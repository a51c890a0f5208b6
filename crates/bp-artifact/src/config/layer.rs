//! One layer of settings: a file, the environment's variables, flags. Every setting is text with its origin.

use std::{collections::BTreeMap, str::FromStr};

use serde::Serialize;
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{
    ConfigError, Environment, Origin,
    keys::{self, ENVIRONMENT, Key, Kind, NAME, PROJECT},
};
use crate::{document::Location, parse::ParseError};

/// A setting and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// Its key: `region`, `ecs.cluster`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Setting {
    pub(super) fn invalid(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { at: self.origin.clone(), reason: reason.into() }
    }
}

/// Settings by key. Laid over each other, the upper one wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, Setting>);

impl Settings {
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.0.get(key)
    }

    pub(super) fn has_section(&self, section: &str) -> bool {
        self.section(section).next().is_some()
    }

    /// The settings of a section, with their names in it.
    pub(super) fn section(&self, section: &str) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.values().filter_map(move |setting| {
            let name = setting.key.strip_prefix(section)?.strip_prefix('.')?;
            Some((name, setting))
        })
    }

    pub(super) fn insert(&mut self, setting: Setting) {
        self.0.insert(setting.key.clone(), setting);
    }

    pub(super) fn insert_if_missing(&mut self, key: &str, value: impl Into<String>, origin: Origin) {
        let setting = Setting { key: key.to_owned(), value: value.into(), origin };
        self.0.entry(key.to_owned()).or_insert(setting);
    }

    /// Lays `upper` over this.
    pub(super) fn overlay(&mut self, upper: Settings) {
        self.0.extend(upper.0);
    }

    pub(super) fn into_list(self) -> Vec<Setting> {
        self.0.into_values().collect()
    }

    /// The value of a key in its type.
    pub(super) fn parse<T: FromStr<Err = ParseError>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let Some(setting) = self.get(key) else { return Ok(None) };
        setting.value.parse().map(Some).map_err(|error: ParseError| setting.invalid(error.to_string()))
    }

    /// The text of a key, which must say something.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            Some(setting) if setting.value.trim().is_empty() => {
                Err(setting.invalid(format!("{key} is empty")))
            }
            setting => Ok(setting.map(|setting| setting.value.clone())),
        }
    }
}

/// Variables named `BP_<ENVIRONMENT>_<KEY>`, as in `BP_PROD_ECS_CLUSTER`. Empty ones are taken for missing.
pub(super) fn variables(environment: &Environment, variable: &dyn Fn(&str) -> Option<String>) -> Settings {
    let screaming = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
    let mut settings = Settings::default();
    for key in ENVIRONMENT.iter().filter(|key| !key.name.ends_with('*')) {
        let name = format!("BP_{}_{}", screaming(environment.as_str()), screaming(key.name));
        if let Some(value) = variable(&name).filter(|value| !value.is_empty()) {
            let origin = Origin::Variable(name);
            settings.insert(Setting { key: key.name.to_owned(), value, origin });
        }
    }
    settings
}

/// A file as it is written: a part of the project and of environments.
pub(super) struct FileLayer {
    pub(super) project: Settings,
    pub(super) environments: Vec<(Environment, Origin, Settings)>,
    /// Where the file ends: the place of what is missing in it.
    pub(super) end: Origin,
}

/// The text, for turning byte offsets into places.
struct Text<'a> {
    file: &'a str,
    text: &'a str,
}

impl Text<'_> {
    fn origin(&self, offset: usize) -> Origin {
        Origin::File(Location::of(self.file, self.text, offset))
    }

    fn invalid(&self, offset: usize, reason: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { at: self.origin(offset), reason: reason.into() }
    }
}

/// The version of the format.
const VERSION: &str = "1";

pub(super) fn read(text: &str, file: &str) -> Result<FileLayer, ConfigError> {
    let at = Text { file, text };
    let document = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        // Some messages of the parser go over several lines.
        at.invalid(offset, error.message().replace('\n', "; "))
    })?;
    let mut layer =
        FileLayer { project: Settings::default(), environments: Vec::new(), end: at.origin(text.len()) };
    let mut versioned = false;
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("version", DeValue::Integer(version)) if version.as_str() == VERSION => versioned = true,
            ("version", _) => {
                let reason = format!("this version of the format is not supported; {VERSION} is");
                return Err(at.invalid(value.span().start, reason));
            }
            ("project", DeValue::Table(table)) => {
                flatten(&at, table, "", &PROJECT.iter().collect::<Vec<_>>(), &mut layer.project)?;
            }
            ("environment", DeValue::Array(tables)) => {
                for table in tables.iter() {
                    layer.environments.push(environment(&at, table, &layer.environments)?);
                }
            }
            ("project", _) => return Err(at.invalid(value.span().start, "expected a table [project]")),
            ("environment", _) => {
                return Err(
                    at.invalid(key.span().start, "expected tables [[environment]], in double brackets")
                );
            }
            (key_, _) => {
                let reason = format!("unknown key `{key_}`, expected one of version, project, environment");
                return Err(at.invalid(key.span().start, reason));
            }
        }
    }
    match versioned {
        true => Ok(layer),
        false => Err(at.invalid(0, format!("the first line must be version = {VERSION}"))),
    }
}

fn environment(
    at: &Text<'_>,
    value: &Spanned<DeValue<'_>>,
    earlier: &[(Environment, Origin, Settings)],
) -> Result<(Environment, Origin, Settings), ConfigError> {
    let DeValue::Table(table) = value.get_ref() else {
        return Err(at.invalid(value.span().start, "expected a table [[environment]]"));
    };
    let mut settings = Settings::default();
    let keys: Vec<&Key> = std::iter::once(&NAME).chain(ENVIRONMENT).collect();
    flatten(at, table, "", &keys, &mut settings)?;
    let name: Environment = settings
        .parse("name")?
        .ok_or_else(|| at.invalid(value.span().start, "the environment has no `name`"))?;
    let origin = settings.get("name").map_or(Origin::Default, |setting| setting.origin.clone());
    if earlier.iter().any(|(other, ..)| *other == name) {
        return Err(ConfigError::Invalid {
            at: origin,
            reason: format!("the environment {name} is there twice"),
        });
    }
    settings.0.remove("name");
    Ok((name, origin, settings))
}

/// Reads the values of a table and of the tables below it; their keys are joined with dots.
fn flatten(
    at: &Text<'_>,
    table: &DeTable<'_>,
    prefix: &str,
    keys: &[&Key],
    settings: &mut Settings,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        let start = value.span().start;
        let value = match (keys::find(keys, &path), value.get_ref()) {
            (None, DeValue::Table(below)) if is_section(keys, &path) => {
                flatten(at, below, &format!("{path}."), keys, settings)?;
                continue;
            }
            (None, _) => {
                let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
                let reason = format!("unknown key `{path}`, expected one of {}", known.join(", "));
                return Err(at.invalid(key.span().start, reason));
            }
            (_, DeValue::String(text)) => text.to_string(),
            (Some(Key { kind: Kind::Count, .. }), DeValue::Integer(number)) => digits(number),
            (Some(Key { kind: Kind::Count, .. }), other) => {
                let reason = format!("`{path}` is a number, found {}", kind(other));
                return Err(at.invalid(start, reason));
            }
            (_, other) => {
                let reason = format!("`{path}` is a string, found {}: put it in quotes", kind(other));
                return Err(at.invalid(start, reason));
            }
        };
        settings.insert(Setting { key: path, value, origin: at.origin(start) });
    }
    Ok(())
}

fn is_section(keys: &[&Key], path: &str) -> bool {
    keys.iter().any(|key| key.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// A number as it is read again: numbers of another base keep their prefix, and are refused.
fn digits(number: &DeInteger<'_>) -> String {
    match number.radix() {
        10 => number.as_str().replace('_', ""),
        _ => number.to_string(),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
