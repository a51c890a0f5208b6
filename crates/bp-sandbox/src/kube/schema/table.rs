//! The table of messages, and lookups in it.

use std::{collections::HashMap, sync::OnceLock};

const TABLE: &str = include_str!("messages.txt");

/// A message of the API.
#[derive(Debug)]
pub(in crate::kube) struct Message {
    /// `core.v1.Pod`.
    pub(in crate::kube) name: &'static str,
    /// Whether server-side apply replaces it as a whole.
    pub(in crate::kube) atomic: bool,
    pub(in crate::kube) fields: Vec<Field>,
}

/// A field of a message.
#[derive(Debug)]
pub(in crate::kube) struct Field {
    pub(in crate::kube) number: u32,
    /// Empty if its fields are those of the message in JSON.
    pub(in crate::kube) json: &'static str,
    pub(in crate::kube) kind: Kind,
    pub(in crate::kube) shape: Shape,
    /// Whether null differs from zero.
    pub(in crate::kube) pointer: bool,
    /// Whether JSON contains it even if it is zero.
    pub(in crate::kube) always: bool,
    pub(in crate::kube) strategy: Option<Strategy>,
    /// The key by which a strategic merge patch merges a list; empty for a list of scalars.
    pub(in crate::kube) merge_key: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kube) enum Shape {
    One,
    List,
    /// A map with strings as keys.
    Map,
}

/// How server-side apply merges a list or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kube) enum Strategy {
    Keys(Vec<&'static str>),
    Set,
    Atomic,
}

/// The type of a field or of its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kube) enum Kind {
    Text,
    Int32,
    Int64,
    Bool,
    Bytes,
    Double,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Duration,
    /// Any JSON, stored as bytes in a message.
    Json,
    /// A list of strings, wrapped in a message.
    Strings,
    /// JSON whose conversion to protobuf is not supported.
    Any,
    Message(&'static str),
}

impl Kind {
    fn read(text: &'static str) -> Self {
        match text {
            "string" => Kind::Text,
            "int32" | "uint32" => Kind::Int32,
            "int64" => Kind::Int64,
            "bool" => Kind::Bool,
            "bytes" => Kind::Bytes,
            "double" => Kind::Double,
            "Quantity" => Kind::Quantity,
            "IntOrString" => Kind::IntOrString,
            "Time" => Kind::Time,
            "MicroTime" => Kind::MicroTime,
            "Duration" => Kind::Duration,
            "Json" => Kind::Json,
            "Strings" => Kind::Strings,
            "Any" => Kind::Any,
            message => Kind::Message(message),
        }
    }

    /// The message, if it is one.
    pub(in crate::kube) fn message(self) -> Option<&'static Message> {
        match self {
            Kind::Message(name) => message(name),
            Kind::Text
            | Kind::Int32
            | Kind::Int64
            | Kind::Bool
            | Kind::Bytes
            | Kind::Double
            | Kind::Quantity
            | Kind::IntOrString
            | Kind::Time
            | Kind::MicroTime
            | Kind::Duration
            | Kind::Json
            | Kind::Strings
            | Kind::Any => None,
        }
    }
}

impl Message {
    /// The field with this name in JSON, also in inlined messages.
    pub(in crate::kube) fn field(&self, json: &str) -> Option<&'static Field> {
        let this = message(self.name)?;
        let own = this.fields.iter().find(|field| field.json == json && !json.is_empty());
        let inlined = this.fields.iter().filter(|field| field.json.is_empty());
        own.or_else(|| inlined.filter_map(|field| field.kind.message()?.field(json)).next())
    }

    /// All fields as JSON has them, those of inlined messages included.
    pub(in crate::kube) fn properties(&self) -> Vec<&'static Field> {
        let Some(this) = message(self.name) else { return Vec::new() };
        let of = |field: &'static Field| match (field.json, field.kind.message()) {
            ("", Some(inlined)) => inlined.properties(),
            (_, _) => vec![field],
        };
        this.fields.iter().flat_map(of).collect()
    }

    fn read(lines: &mut std::iter::Peekable<std::str::Lines<'static>>) -> Option<Self> {
        let mut head = lines.next()?.split(' ');
        let mut message =
            Message { name: head.next()?, atomic: head.next() == Some("="), fields: Vec::new() };
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            message.fields.push(Field::read(line)?);
        }
        Some(message)
    }
}

impl Field {
    fn read(line: &'static str) -> Option<Self> {
        let mut words = line.split(' ');
        let number = words.next()?.parse().ok()?;
        let json = words.next().map(|name| if name == "~" { "" } else { name })?;
        let kind = words.next()?;
        let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
            (Some(item), _) => (Shape::List, item),
            (_, Some(item)) => (Shape::Map, item),
            (None, None) => (Shape::One, kind),
        };
        let mut field = Field {
            number,
            json,
            kind: Kind::read(kind),
            shape,
            pointer: false,
            always: false,
            strategy: None,
            merge_key: None,
        };
        for word in words {
            match word.split_once('=') {
                None if word == "*" => field.pointer = true,
                None => field.always = true,
                Some(("merge", key)) => field.merge_key = Some(key),
                Some((_, "atomic")) => field.strategy = Some(Strategy::Atomic),
                Some((_, "set")) => field.strategy = Some(Strategy::Set),
                Some((_, keys)) => field.strategy = Some(Strategy::Keys(keys.split(',').collect())),
            }
        }
        Some(field)
    }
}

fn messages() -> &'static HashMap<&'static str, Message> {
    static MESSAGES: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let mut lines = TABLE.lines().peekable();
        let mut messages = HashMap::new();
        while let Some(line) = lines.peek() {
            if line.is_empty() || line.starts_with('#') {
                lines.next();
                continue;
            }
            let Some(message) = Message::read(&mut lines) else { break };
            messages.insert(message.name, message);
        }
        messages
    })
}

/// The message with this name, such as `core.v1.Pod`.
pub(in crate::kube) fn message(name: &str) -> Option<&'static Message> {
    messages().get(name)
}

/// The message of a built-in kind.
pub(in crate::kube) fn of(api_version: &str, kind: &str) -> Option<&'static Message> {
    // These have the `apiVersion` of the resource that they are sent to.
    if matches!(kind, "DeleteOptions" | "Status" | "PartialObjectMetadata" | "PartialObjectMetadataList") {
        return message(&format!("meta.v1.{kind}"));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = match group {
        "" => "core",
        "rbac.authorization.k8s.io" => "rbac",
        group => match group.strip_suffix(".k8s.io").unwrap_or(group) {
            name if name.contains('.') => return None,
            name => name,
        },
    };
    // The group `core` is written without a name, and `meta` is not a group.
    if group == "core" || group == "meta" {
        return None;
    }
    message(&format!("{package}.{version}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        assert!(messages().len() > 400, "{} messages", messages().len());
        let entries = TABLE.lines().filter(|line| line.contains(".v")).count();
        assert!(entries > messages().len());
        for message in messages().values() {
            for field in &message.fields {
                if let Kind::Message(name) = field.kind {
                    assert!(super::message(name).is_some(), "{} refers to {name}", message.name);
                }
            }
        }
    }

    #[test]
    fn finds_kinds_by_their_api_version() {
        for (api_version, kind, name) in [
            ("v1", "Secret", "core.v1.Secret"),
            ("apps/v1", "Deployment", "apps.v1.Deployment"),
            ("networking.k8s.io/v1", "Ingress", "networking.v1.Ingress"),
            ("rbac.authorization.k8s.io/v1", "RoleList", "rbac.v1.RoleList"),
            ("apps/v1", "DeleteOptions", "meta.v1.DeleteOptions"),
        ] {
            assert_eq!(of(api_version, kind).map(|message| message.name), Some(name), "{api_version} {kind}");
        }
        for (api_version, kind) in
            [("v2", "Pod"), ("core/v1", "Pod"), ("apps.example.com/v1", "Deployment"), ("", "")]
        {
            assert!(of(api_version, kind).is_none(), "{api_version} {kind}");
        }
    }

    #[test]
    fn knows_merge_strategies_and_inlined_fields() {
        let container = message("core.v1.Container").unwrap();
        let ports = container.field("ports").unwrap();
        assert_eq!(ports.strategy, Some(Strategy::Keys(vec!["containerPort", "protocol"])));
        assert_eq!(ports.merge_key, Some("containerPort"));
        let volume = message("core.v1.Volume").unwrap();
        assert_eq!(volume.field("emptyDir").unwrap().kind, Kind::Message("core.v1.EmptyDirVolumeSource"));
        assert!(volume.field("").is_none());
        assert!(volume.properties().iter().any(|field| field.json == "secret"));
        assert!(message("meta.v1.LabelSelector").unwrap().atomic);
    }
}
