//! Field validation: unknown and duplicate fields, values of a wrong type (`fieldValidation`).

use serde_json::Value;

use super::{
    call::Call,
    custom,
    payload::Payload,
    resource::Resource,
    schema,
    status::{Answer, Failure},
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
            other => Err(Failure::invalid_options(
                options,
                &format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                ),
            )),
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
    check_version(resource, &object)?;
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
pub(super) fn patched(call: &Call<'_>, document: &Payload, object: &mut Value) -> Answer<()> {
    let directive = Directive::of(call, "PatchOptions")?;
    check_types(call.resource(), object)?;
    let problems = problems(call.resource(), object, &document.duplicates);
    match directive {
        Directive::Strict if !problems.is_empty() => Err(Failure::invalid_patch(
            &document.object,
            &format!("strict decoding error: {}", problems.join(", ")),
        )),
        Directive::Warn => {
            problems.into_iter().for_each(|problem| call.warn(problem));
            Ok(())
        }
        Directive::Strict | Directive::Ignore => Ok(()),
    }
}

/// Checks the configuration of a server-side apply, which rejects unknown fields whatever the directive is.
pub(super) fn applied(call: &Call<'_>, config: &Value) -> Answer<()> {
    let resource = call.resource();
    let typed = |why: String| {
        let target = format!(
            "{}/{}; {}, Kind={}",
            call.namespace(),
            call.name(),
            resource.api_version(),
            resource.kind
        );
        Failure::unknown(format!("failed to create typed patch object ({target}): {why}"))
    };
    let unknown = unknown_fields(resource, &mut config.clone());
    let error = |path: &String| format!(".{path}: field not declared in schema");
    match unknown.as_slice() {
        [] => {}
        [path] => return Err(typed(error(path))),
        paths => {
            let lines: Vec<String> = paths.iter().map(|path| format!("  {}", error(path))).collect();
            return Err(typed(format!("errors:\n{}", lines.join("\n"))));
        }
    }
    match schema::of(&resource.api_version(), resource.kind)
        .map(|message| schema::check_types(message, config))
    {
        Some(Err(wrong)) => {
            let path = wrong.field.split_once('.').map_or("", |(_, path)| path);
            Err(typed(format!(".{path}: expected {}, got {}", wrong.expected, wrong.found)))
        }
        Some(Ok(())) | None => Ok(()),
    }
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

/// Rejects an object of another version.
fn check_version(resource: &Resource, object: &Value) -> Answer<()> {
    let (sent, expected) = (object["apiVersion"].as_str().unwrap_or_default(), resource.api_version());
    if sent.is_empty() || sent == expected {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "the API version in the data ({sent}) does not match the expected API version ({expected})"
    )))
}

fn check_types(resource: &Resource, object: &Value) -> Answer<()> {
    let Some(message) = schema::of(&resource.api_version(), resource.kind).filter(|_| !resource.is_custom())
    else {
        return Ok(());
    };
    schema::check_types(message, object).map_err(|wrong| {
        let why = format!(
            "json: cannot unmarshal {} into Go struct field {} of type {}",
            wrong.found, wrong.field, wrong.expected
        );
        undecodable(resource, &why)
    })
}

fn undecodable(resource: &Resource, why: &str) -> Failure {
    let (kind, version) = (resource.kind, resource.version);
    Failure::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}
