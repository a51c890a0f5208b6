//! The subset of the Protocol Buffers language that `generated.proto` uses: flat messages of scalar, message, repeated and
//! map fields.

use anyhow::{Context, Result, bail};

/// A message.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

/// A field of a message.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) shape: Shape,
    /// A scalar, or a message with its package in the table's notation: `core.v1.Pod`.
    pub(super) kind: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    One,
    List,
    /// The keys are strings.
    Map,
}

/// The messages of a file; `package` is the file's own in the table's notation.
pub(super) fn read(package: &str, text: &str) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ").and_then(|rest| rest.strip_suffix('{')) {
            messages.push(Message { name: name.trim().to_owned(), fields: Vec::new() });
            open = true;
        } else if line == "}" {
            open = false;
        } else if open && !line.is_empty() && !line.starts_with("//") {
            let field = field(package, line).with_context(|| format!("cannot read {line:?} of {package}"))?;
            messages.last_mut().context("a field outside a message")?.fields.push(field);
        }
    }
    Ok(messages)
}

fn field(package: &str, line: &str) -> Result<Field> {
    let (declared, number) = line.split_once(" = ").context("no number")?;
    let number = number.split([';', ' ']).next().unwrap_or_default().parse()?;
    let (shape, rest) = match declared.strip_prefix("map<string, ") {
        Some(rest) => (Shape::Map, rest.replacen('>', "", 1)),
        None => match declared.split_once(' ').context("no type")? {
            ("optional" | "required", rest) => (Shape::One, rest.to_owned()),
            ("repeated", rest) => (Shape::List, rest.to_owned()),
            (label, _) => bail!("unknown label {label:?}"),
        },
    };
    let (kind, name) = rest.trim().split_once(' ').context("no name")?;
    Ok(Field { number, name: name.trim().to_owned(), shape, kind: qualified(package, kind) })
}

/// The name of a type in the table: `.k8s.io.api.core.v1.Pod` is `core.v1.Pod`.
fn qualified(package: &str, kind: &str) -> String {
    const SCALARS: [&str; 7] = ["string", "int32", "int64", "bool", "bytes", "double", "uint32"];
    if SCALARS.contains(&kind) {
        return kind.to_owned();
    }
    let Some(path) = kind.strip_prefix('.') else { return format!("{package}.{kind}") };
    let parts: Vec<&str> = path.split('.').collect();
    match parts.as_slice() {
        [.., "resource", name] | [.., "intstr", name] | [.., "runtime", name] => (*name).to_owned(),
        [.., group, version, name] => format!("{group}.{version}.{name}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_lists_maps_and_types_of_other_packages() {
        let text = "package x;\n\n// A box.\nmessage Box {\n  // its lid\n  optional .k8s.io.api.core.v1.Lid lid = 1;\n\n\
                    \x20 repeated Part parts = 12;\n  map<string, .k8s.io.apimachinery.pkg.api.resource.Quantity> sizes = 3;\n}\n";
        let field = |number, name: &str, shape, kind: &str| Field {
            number,
            name: name.to_owned(),
            shape,
            kind: kind.to_owned(),
        };
        let fields = vec![
            field(1, "lid", Shape::One, "core.v1.Lid"),
            field(12, "parts", Shape::List, "toys.v1.Part"),
            field(3, "sizes", Shape::Map, "Quantity"),
        ];
        assert_eq!(read("toys.v1", text).unwrap(), [Message { name: "Box".to_owned(), fields }]);
        assert!(read("toys.v1", "message Box {\n  group Lid = 1;\n}\n").is_err());
    }
}
