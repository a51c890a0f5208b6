//! Field validation: unknown and duplicate fields, values of a wrong type (`fieldValidation`).

use serde_json::Value;

use super::{
    call::Call,
    custom,
    fields::{self, List, item_key, list_kind},
    payload::Payload,
    resource::Resource,
    schema::{self, WrongType},
    status::{Answer, Failure, go_format},
};

/// What happens to objects with unknown or duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Ignore,
    Warn,
    Strict,
}

impl Directive {
    fn of(call: &Call<'_>, options: &str) -> Answer<Self> {
        match call.text("fieldValidation") {
            "" | "Warn" => Ok(Directive::Warn),
            "Ignore" => Ok(Directive::Ignore),
            "Strict" => Ok(Directive::Strict),
            other => {
                let supported = "\"\", \"Ignore\", \"Strict\", \"Warn\"";
                let why = format!("Unsupported value: {other:?}: supported values: {supported}");
                Err(Failure::invalid_options(options, "fieldValidation", &why))
            }
        }
    }
}

/// The object of a create or update request, without unknown fields.
pub(super) fn object(call: &Call<'_>, payload: Payload, options: &str) -> Answer<Value> {
    let (resource, mut object) = (call.resource(), payload.object);
    let directive = Directive::of(call, options)?;
    if !object.is_object() {
        let why = "json: cannot unmarshal a value that is not an object into Go value of type map[string]interface {}";
        return Err(undecodable(resource, why));
    }
    check_kind(resource, &object)?;
    check_types(resource, &object)?;
    let problems = problems(resource, &mut object, &payload.duplicates);
    match directive {
        Directive::Strict if !problems.is_empty() => {
            Err(undecodable(resource, &format!("strict decoding error: {}", problems.join(", "))))
        }
        Directive::Warn => {
            problems.into_iter().for_each(|problem| call.warn(problem));
            Ok(object)
        }
        Directive::Strict | Directive::Ignore => Ok(object),
    }
}

/// Checks the result of a patch, and removes its unknown fields.
pub(super) fn patched(
    call: &Call<'_>,
    document: &Payload,
    is_strategic: bool,
    object: &mut Value,
) -> Answer<()> {
    let directive = Directive::of(call, "PatchOptions")?;
    // The server quotes a strategic merge patch, and the result of the other patches.
    let shown = |object: &Value| if is_strategic { go_format(&document.object) } else { object.to_string() };
    if let Err(wrong) = wrong_type(call.resource(), object) {
        let why =
            if is_strategic { format!("unrecognized type: {}", wrong.expected) } else { unmarshal(&wrong) };
        return Err(Failure::invalid_patch(&shown(&*object), &why));
    }
    let before = shown(&*object);
    let problems = problems(call.resource(), object, &document.duplicates);
    match directive {
        Directive::Strict if !problems.is_empty() => {
            Err(Failure::invalid_patch(&before, &format!("strict decoding error: {}", problems.join(", "))))
        }
        Directive::Warn => {
            problems.into_iter().for_each(|problem| call.warn(problem));
            Ok(())
        }
        Directive::Strict | Directive::Ignore => Ok(()),
    }
}

/// Checks the configuration of a server-side apply, which rejects unknown fields whatever the directive is. Like the
/// server, it reports one of them.
pub(super) fn applied(call: &Call<'_>, config: &Value) -> Answer<()> {
    let resource = call.resource();
    let typed = |why: String| {
        let namespace = config["metadata"]["namespace"].as_str().unwrap_or_default();
        let target =
            format!("{namespace}/{}; {}, Kind={}", call.name(), resource.api_version(), resource.kind);
        Failure::unknown(format!("failed to create typed patch object ({target}): {why}"))
    };
    if let Some(path) = unknown_fields(resource, &mut config.clone()).into_iter().min() {
        return Err(typed(format!("{}: field not declared in schema", by_keys(config, &path))));
    }
    wrong_type(resource, config).map_err(|wrong| {
        let path = wrong.field.split_once('.').map_or("", |(_, path)| path);
        let (expected, found) = match wrong.expected.as_str() {
            "int32" | "int64" | "float64" => ("numeric (int or float)", wrong.found.to_owned()),
            "string" => ("string", wrong.shown.clone()),
            "bool" => ("boolean", wrong.shown.clone()),
            expected if expected.starts_with("[]") => ("list", wrong.shown.clone()),
            _ => ("map", wrong.shown.clone()),
        };
        typed(format!(".{path}: expected {expected}, got {found}"))
    })
}

/// A path with the keys of list items instead of their indexes: `.spec.containers[name="web"].image`.
fn by_keys(object: &Value, path: &str) -> String {
    let (mut at, mut shown) = (object, String::new());
    for part in path.split('.') {
        let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
        shown.push('.');
        shown.push_str(name);
        at = &at[name];
        for index in indexes.split('[').filter_map(|index| index.strip_suffix(']')?.parse::<usize>().ok()) {
            let items = at.as_array().map_or(&[][..], Vec::as_slice);
            match (list_kind(name, items), items.get(index)) {
                (List::Keyed(keys), Some(item)) => shown.push_str(&fields::display(&[item_key(item, keys)])),
                (_, _) => shown.push_str(&format!("[{index}]")),
            }
            at = &at[index];
        }
    }
    shown
}

/// The problems that `fieldValidation` is about; unknown fields are removed.
fn problems(resource: &Resource, object: &mut Value, duplicates: &[String]) -> Vec<String> {
    let unknown = unknown_fields(resource, object);
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    unknown.chain(duplicates.iter().map(|path| format!("duplicate field {path:?}"))).collect()
}

fn unknown_fields(resource: &Resource, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    match (resource.custom, schema::of(&resource.api_version(), resource.kind)) {
        (Some(definition), _) => custom::prune(definition, object, &mut unknown),
        (None, Some(message)) => schema::prune(message, object, &mut unknown),
        (None, None) => {}
    }
    unknown
}

/// Rejects an object of another kind or version.
fn check_kind(resource: &Resource, object: &Value) -> Answer<()> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (sent, kind, expected) = (text("apiVersion"), text("kind"), resource.api_version());
    if !kind.is_empty() && kind != resource.kind {
        let version = sent.rsplit('/').next().unwrap_or_default();
        let group = if resource.group.is_empty() { "core" } else { resource.group };
        return Err(Failure::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {own}: converting ({version}.{kind}) to ({group}.{own}): \
             unknown conversion",
            own = resource.kind
        )));
    }
    if sent.is_empty() || sent == expected {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "the API version in the data ({sent}) does not match the expected API version ({expected})"
    )))
}

fn check_types(resource: &Resource, object: &Value) -> Answer<()> {
    wrong_type(resource, object).map_err(|wrong| undecodable(resource, &unmarshal(&wrong)))
}

/// The error of Go's decoder.
fn unmarshal(wrong: &WrongType) -> String {
    let WrongType { field, found, expected, .. } = wrong;
    format!("json: cannot unmarshal {found} into Go struct field {field} of type {expected}")
}

/// The first value of a wrong type in an object of a built-in kind.
fn wrong_type(resource: &Resource, object: &Value) -> Result<(), WrongType> {
    match schema::of(&resource.api_version(), resource.kind).filter(|_| !resource.is_custom()) {
        Some(message) => schema::check_types(message, object),
        None => Ok(()),
    }
}

fn undecodable(resource: &Resource, why: &str) -> Failure {
    let (kind, version) = (resource.kind, resource.version);
    Failure::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}
