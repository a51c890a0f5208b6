//! The table of messages, as text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::{
    go::{Tag, Tags},
    proto::{Message, Shape},
};

/// Types whose JSON is not an object of their fields: name of the message, name in the table.
const SPECIAL: &[(&str, &str)] = &[
    ("meta.v1.Time", "Time"),
    ("meta.v1.MicroTime", "MicroTime"),
    ("meta.v1.Duration", "Duration"),
    ("meta.v1.FieldsV1", "Json"),
    ("RawExtension", "Json"),
    ("authentication.v1.ExtraValue", "Strings"),
    ("authorization.v1.ExtraValue", "Strings"),
    ("apiextensions.v1.JSON", "Json"),
    ("apiextensions.v1.JSONSchemaPropsOrArray", "Any"),
    ("apiextensions.v1.JSONSchemaPropsOrBool", "Any"),
    ("apiextensions.v1.JSONSchemaPropsOrStringArray", "Any"),
];
/// Types of the table that are not messages in it.
const SCALARS: &[&str] = &[
    "string",
    "int32",
    "int64",
    "uint32",
    "bool",
    "bytes",
    "double",
    "Quantity",
    "IntOrString",
    "Time",
    "MicroTime",
    "Duration",
    "Json",
    "Strings",
    "Any",
];

const HEADER: &str = "\
# Messages of the Kubernetes API: written by `cargo xtask kube-schema`.
# Per message: its name (`=` if server-side apply replaces it as a whole), then per field its number, JSON name (`~` if it is
# inlined), type (`[]` list, `{}` map by string), and: `*` null differs from zero, `!` in JSON even if zero, `list=` the keys
# of an associative list, `set` or `atomic`, `merge=` the key of a strategic merge patch.
";

pub(super) fn table(messages: &BTreeMap<String, (Message, Tags)>, roots: &[&str]) -> Result<String> {
    let mut wanted: Vec<String> = Vec::new();
    for root in roots {
        ensure!(messages.contains_key(*root), "there is no message {root}");
        wanted.push((*root).to_owned());
        let list = format!("{root}List");
        wanted.extend(messages.contains_key(&list).then_some(list));
    }
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let (message, _) = messages.get(&name).with_context(|| format!("there is no message {name}"))?;
        if seen.insert(name) {
            let below = message.fields.iter().map(|field| special(&field.kind));
            wanted.extend(below.filter(|kind| !SCALARS.contains(kind)).map(str::to_owned));
        }
    }
    let mut table = HEADER.to_owned();
    for name in seen {
        let (message, tags) = &messages[&name];
        table.push_str(&format!("\n{name}{}\n", if tags.atomic { " =" } else { "" }));
        for field in &message.fields {
            let tag = tags.fields.get(&field.number);
            let tag = tag.with_context(|| format!("{name}.{} has no tag", field.name))?;
            let shape = match field.shape {
                Shape::One => "",
                Shape::List => "[]",
                Shape::Map => "{}",
            };
            let json = if tag.json.is_empty() { "~" } else { &tag.json };
            table.push_str(&format!(
                "{} {json} {shape}{}{}\n",
                field.number,
                special(&field.kind),
                flags(tag)
            ));
        }
    }
    Ok(table)
}

fn special(kind: &str) -> &str {
    SPECIAL.iter().find(|(message, _)| *message == kind).map_or(kind, |(_, name)| name)
}

fn flags(tag: &Tag) -> String {
    let mut text = String::new();
    if tag.pointer {
        text.push_str(" *");
    }
    if tag.always {
        text.push_str(" !");
    }
    if let Some(strategy) = &tag.strategy {
        text.push_str(&format!(" list={strategy}"));
    }
    if let Some(key) = &tag.merge_key {
        text.push_str(&format!(" merge={key}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube_schema::{go, proto};

    #[test]
    fn the_table_contains_what_the_roots_consist_of() {
        let messages = "message Box {\n  optional Lid lid = 1;\n  repeated string names = 2;\n}\n\
                        message BoxList {\n  repeated Box items = 2;\n}\nmessage Lid {\n  optional bool open = 1;\n}\n\
                        message Other {\n}\n";
        let structs = "type Box struct {\nLid *Lid `json:\"lid,omitempty\" protobuf:\"bytes,1,opt\"`\n// +listType=set\n\
                       Names []string `json:\"names\" protobuf:\"bytes,2,rep\"`\n}\ntype BoxList struct {\n\
                       Items []Box `json:\"items\" protobuf:\"bytes,2,rep\"`\n}\n// +structType=atomic\ntype Lid struct {\n\
                       Open bool `json:\"open,omitempty\" protobuf:\"varint,1,opt\"`\n}\n";
        let tags = go::read(structs);
        let messages = proto::read("toys.v1", messages).unwrap().into_iter().map(|message| {
            let tags = tags.get(&message.name).cloned().unwrap_or_default();
            (format!("toys.v1.{}", message.name), (message, tags))
        });
        let table = table(&messages.collect(), &["toys.v1.Box"]).unwrap();
        assert_eq!(
            table.strip_prefix(HEADER).unwrap(),
            "\ntoys.v1.Box\n1 lid toys.v1.Lid *\n2 names []string ! list=set\n\ntoys.v1.BoxList\n2 items []toys.v1.Box !\n\
             \ntoys.v1.Lid =\n1 open bool\n"
        );
    }
}
