//! One layer of settings: a file, environment variables, flags. Every setting is text with its origin.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::Duration,
};

use serde::Serialize;
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{
    ConfigError, Environment, Origin, ServiceName,
    keys::{DEPLOYED, ENVIRONMENT, GATE, Key, Keys, Kind, NAME, OFF, ON, SERVICE_NAME},
};
use crate::{document::Location, parse::ParseError, time::parse_duration};

/// A setting and its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// Its key: `region`, `ecs.cluster`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Its origin.
    pub origin: Origin,
}

impl Setting {
    pub(super) fn invalid(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { at: self.origin.clone(), reason: reason.into() }
    }
}

/// Settings by key. Overlays take precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, Setting>);

impl Settings {
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.0.get(key)
    }

    pub(super) fn has_section(&self, section: &str) -> bool {
        self.section(section).next().is_some()
    }

    /// The settings of a section, with their names within the section.
    pub(super) fn section(&self, section: &str) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.values().filter_map(move |setting| {
            let name = setting.key.strip_prefix(section)?.strip_prefix('.')?;
            Some((name, setting))
        })
    }

    /// The names of the tables in a section, without duplicates.
    pub(super) fn names(&self, section: &str) -> BTreeSet<String> {
        let name = |(name, _): (&str, &Setting)| name.split('.').next().unwrap_or_default().to_owned();
        self.section(section).map(name).collect()
    }

    /// Removes the settings of a section and returns them, with their names within the section.
    pub(super) fn take_section(&mut self, section: &str) -> Settings {
        let prefix = format!("{section}.");
        let (taken, kept) =
            std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key.starts_with(&prefix));
        self.0 = kept;
        let taken: BTreeMap<String, Setting> = taken;
        Settings(
            taken
                .into_iter()
                .map(|(key, setting)| {
                    let name = key.strip_prefix(&prefix).unwrap_or(&key).to_owned();
                    (name.clone(), Setting { key: name, ..setting })
                })
                .collect(),
        )
    }

    /// Adds the settings of `lower` that are missing here.
    pub(super) fn underlay(&mut self, lower: &Settings) {
        for setting in lower.0.values() {
            self.insert_if_missing(&setting.key, &setting.value, setting.origin.clone());
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|key, _| keep(key));
    }

    pub(super) fn insert(&mut self, setting: Setting) {
        self.0.insert(setting.key.clone(), setting);
    }

    pub(super) fn insert_if_missing(&mut self, key: &str, value: impl Into<String>, origin: Origin) {
        let setting = Setting { key: key.to_owned(), value: value.into(), origin };
        self.0.entry(key.to_owned()).or_insert(setting);
    }

    /// Overlays `upper` on this layer.
    pub(super) fn overlay(&mut self, upper: Settings) {
        self.0.extend(upper.0);
    }

    pub(super) fn into_list(self) -> Vec<Setting> {
        self.0.into_values().collect()
    }

    /// The parsed value of a key.
    pub(super) fn parse<T: FromStr<Err = ParseError>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let Some(setting) = self.get(key) else { return Ok(None) };
        setting.value.parse().map(Some).map_err(|error: ParseError| setting.invalid(error.to_string()))
    }

    /// The text of a key, which must not be empty.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            Some(setting) if setting.value.trim().is_empty() => {
                Err(setting.invalid(format!("{key} is empty")))
            }
            setting => Ok(setting.map(|setting| setting.value.clone())),
        }
    }
}

/// Variables named `BP_<ENVIRONMENT>_<KEY>`, as in `BP_PROD_ECS_CLUSTER`, for a service
/// `BP_<ENVIRONMENT>_SERVICE_<NAME>_<KEY>`, and for a gate `BP_<ENVIRONMENT>_GATE_<NAME>_<KEY>`. Empty variables count
/// as unset.
pub(super) fn variables<'a>(
    environment: &Environment,
    services: impl Iterator<Item = &'a ServiceName>,
    gates: impl Iterator<Item = &'a str>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Settings {
    let screaming = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
    let mut settings = Settings::default();
    let mut read = |key: String| {
        let name = format!("BP_{}_{}", screaming(environment.as_str()), screaming(&key));
        if let Some(value) = variable(&name).filter(|value| !value.is_empty()) {
            settings.insert(Setting { key, value, origin: Origin::Variable(name) });
        }
    };
    let single = |key: &&Key| !key.name.ends_with('*');
    ENVIRONMENT.iter().chain(DEPLOYED).filter(single).for_each(|key| read(key.name.to_owned()));
    for service in services {
        DEPLOYED.iter().filter(single).for_each(|key| read(format!("service.{service}.{}", key.name)));
    }
    for gate in gates {
        GATE.iter().filter(single).for_each(|key| read(format!("gate.{gate}.{}", key.name)));
    }
    settings
}

/// The settings of one file: of the project, of services and of environments.
pub(super) struct FileLayer {
    pub(super) project: Settings,
    pub(super) services: Vec<(ServiceName, Origin, Settings)>,
    pub(super) environments: Vec<(Environment, Origin, Settings)>,
    /// The end of the file: the location of errors about missing keys.
    pub(super) end: Origin,
}

/// The text, to convert byte offsets to locations.
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
        // Some messages of the parser have several lines.
        at.invalid(offset, error.message().replace('\n', "; "))
    })?;
    let mut layer = FileLayer {
        project: Settings::default(),
        services: Vec::new(),
        environments: Vec::new(),
        end: at.origin(text.len()),
    };
    let mut versioned = false;
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("version", DeValue::Integer(version)) if version.as_str() == VERSION => versioned = true,
            ("version", _) => {
                let reason = format!("unsupported format version, expected {VERSION}");
                return Err(at.invalid(value.span().start, reason));
            }
            ("project", DeValue::Table(table)) => {
                flatten(&at, table, "", &Keys::project(), &mut layer.project)?;
            }
            ("service", DeValue::Array(tables)) => {
                let kind = Named { table: "service", keys: Keys::service().named(&SERVICE_NAME) };
                for table in tables.iter() {
                    layer.services.push(kind.read(&at, table, &layer.services)?);
                }
            }
            ("environment", DeValue::Array(tables)) => {
                let kind = Named { table: "environment", keys: Keys::environment().named(&NAME) };
                for table in tables.iter() {
                    layer.environments.push(kind.read(&at, table, &layer.environments)?);
                }
            }
            ("project", _) => return Err(at.invalid(value.span().start, "expected a table [project]")),
            (name @ ("environment" | "service"), _) => {
                let reason = format!("expected tables [[{name}]], in double brackets");
                return Err(at.invalid(key.span().start, reason));
            }
            (key_, _) => {
                let reason =
                    format!("unknown key `{key_}`, expected one of version, project, service, environment");
                return Err(at.invalid(key.span().start, reason));
            }
        }
    }
    if versioned {
        Ok(layer)
    } else {
        Err(at.invalid(0, format!("the first line must be version = {VERSION}")))
    }
}

/// Arrays of named tables: `[[environment]]`, `[[service]]`.
struct Named {
    table: &'static str,
    keys: Keys,
}

impl Named {
    fn read<N: FromStr<Err = ParseError> + PartialEq + fmt::Display>(
        &self,
        at: &Text<'_>,
        value: &Spanned<DeValue<'_>>,
        earlier: &[(N, Origin, Settings)],
    ) -> Result<(N, Origin, Settings), ConfigError> {
        let what = self.table;
        let DeValue::Table(table) = value.get_ref() else {
            return Err(at.invalid(value.span().start, format!("expected a table [[{what}]]")));
        };
        let mut settings = Settings::default();
        flatten(at, table, "", &self.keys, &mut settings)?;
        let missing = || at.invalid(value.span().start, format!("the {what} has no `name`"));
        let name: N = settings.parse("name")?.ok_or_else(missing)?;
        let origin = settings.get("name").map_or(Origin::Default, |setting| setting.origin.clone());
        if earlier.iter().any(|(other, ..)| *other == name) {
            let reason = format!("the {what} {name} is defined twice");
            return Err(ConfigError::Invalid { at: origin, reason });
        }
        settings.0.remove("name");
        Ok((name, origin, settings))
    }
}

/// Reads the values of a table and of its nested tables; their keys are joined with dots.
fn flatten(
    at: &Text<'_>,
    table: &DeTable<'_>,
    prefix: &str,
    keys: &Keys,
    settings: &mut Settings,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        let start = value.span().start;
        let value = match (keys.find(&path), value.get_ref()) {
            (None, DeValue::Table(below)) if keys.has_below(&path) => {
                flatten(at, below, &format!("{path}."), keys, settings)?;
                continue;
            }
            (None, _) => {
                let reason = format!("unknown key `{path}`, expected one of {}", keys.names());
                return Err(at.invalid(key.span().start, reason));
            }
            (Some(Key { kind: Kind::Words, .. }), list) => words(list).ok_or_else(|| {
                at.invalid(start, format!("`{path}` is a list of strings, found {}", kind(list)))
            })?,
            (Some(Key { kind: Kind::True, .. }), DeValue::Boolean(true)) => "true".to_owned(),
            (Some(Key { kind: Kind::True, .. }), _) => {
                return Err(at.invalid(start, format!("`{path}` must be true or omitted")));
            }
            (_, DeValue::String(text)) => text.to_string(),
            (
                Some(Key { kind: Kind::Count | Kind::Number | Kind::CountOrPercent | Kind::Status, .. }),
                DeValue::Integer(number),
            ) => digits(number),
            (Some(Key { kind: Kind::Count | Kind::Number | Kind::Status, .. }), other) => {
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

/// Serializes a list of strings as JSON. `None` for any other value.
fn words(list: &DeValue<'_>) -> Option<String> {
    let DeValue::Array(words) = list else { return None };
    let word = |word: &Spanned<DeValue<'_>>| match word.get_ref() {
        DeValue::String(word) => Some(word.to_string()),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    };
    let words: Option<Vec<String>> = words.iter().map(word).collect();
    serde_json::to_string(&words?).ok()
}

/// The value of a list of strings, which the layers keep as JSON. Empty for another value of a variable or flag.
pub(super) fn list_of_strings(setting: &Setting) -> Vec<String> {
    serde_json::from_str(&setting.value).unwrap_or_default()
}

/// The text of a number. Numbers in another base keep their prefix, so that parsing rejects them.
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

/// The duration of a setting that has a default.
pub(super) fn duration(settings: &Settings, key: &str) -> Result<Duration, ConfigError> {
    let Some(setting) = settings.get(key) else { unreachable!("it has a default") };
    parse_duration(&setting.value).map_err(|error| setting.invalid(error.to_string()))
}

/// The error about a required key of an environment.
pub(super) fn missing(key: &str, name: &Environment, origin: &Origin) -> ConfigError {
    ConfigError::Invalid { at: origin.clone(), reason: format!("the environment {name} has no `{key}`") }
}

/// Splits comma-separated texts.
pub(super) fn list(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The settings of a section, by their names within the section. An empty text is a value.
pub(super) fn names(settings: &Settings, section: &str) -> BTreeMap<String, String> {
    settings.section(section).map(|(name, setting)| (name.to_owned(), setting.value.clone())).collect()
}

/// The value of a switch.
pub(super) fn switch(settings: &Settings, key: &str) -> Result<Option<bool>, ConfigError> {
    let Some(setting) = settings.get(key) else { return Ok(None) };
    match setting.value.as_str() {
        ON => Ok(Some(true)),
        OFF => Ok(Some(false)),
        other => Err(setting.invalid(format!("{other:?} is neither {ON:?} nor {OFF:?}"))),
    }
}
