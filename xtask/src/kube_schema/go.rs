//! Struct tags and markers of `types.go`: JSON names, pointers, inlined structs and merge strategies.

use std::collections::BTreeMap;

/// The tags of a struct's fields, by field number, and whether the struct is replaced as a whole by server-side apply.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tags {
    pub(super) fields: BTreeMap<u32, Tag>,
    pub(super) atomic: bool,
}

/// The tag of a field.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tag {
    /// Empty if the struct is inlined.
    pub(super) json: String,
    /// Whether JSON contains it if it is zero.
    pub(super) always: bool,
    pub(super) pointer: bool,
    /// `set`, `atomic`, or the keys of an associative list.
    pub(super) strategy: Option<String>,
    pub(super) merge_key: Option<String>,
}

/// The structs of a file, by name.
pub(super) fn read(text: &str) -> BTreeMap<String, Tags> {
    let mut structs: BTreeMap<String, Tags> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut markers: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(marker) = line.strip_prefix("// +") {
            markers.push(marker.trim());
            continue;
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if let Some(name) = line.strip_prefix("type ").and_then(|rest| rest.strip_suffix(" struct {")) {
            let atomic = markers.contains(&"structType=atomic");
            structs.insert(name.to_owned(), Tags { atomic, ..Tags::default() });
            current = Some(name.to_owned());
        } else if line == "}" {
            current = None;
        } else if let Some(fields) = current.as_ref().and_then(|name| structs.get_mut(name))
            && let Some((number, tag)) = field(line, &markers)
        {
            fields.fields.insert(number, tag);
        }
        markers.clear();
    }
    structs
}

/// The number and tag of a field, if it has a number.
fn field(line: &str, markers: &[&str]) -> Option<(u32, Tag)> {
    let (declared, tags) = line.split_once('`')?;
    let tag =
        |name: &str| Some(tags.split_once(&format!("{name}:\""))?.1.split('"').next().unwrap_or_default());
    let number = tag("protobuf")?.split(',').nth(1)?.parse().ok()?;
    let mut json = tag("json")?.split(',');
    let name = json.next().unwrap_or_default();
    let always = !json.any(|option| matches!(option, "omitempty" | "inline"));
    let marker = |name: &str| {
        markers
            .iter()
            .filter_map(move |marker| marker.strip_prefix(name)?.strip_prefix('='))
            .collect::<Vec<_>>()
    };
    let atomic_map = marker("mapType").contains(&"atomic") || marker("structType").contains(&"atomic");
    let strategy = match marker("listType").first() {
        Some(&"map") => Some(marker("listMapKey").join(",")),
        Some(kind) => Some((*kind).to_owned()),
        None if atomic_map => Some("atomic".to_owned()),
        None => None,
    };
    let merges = tag("patchStrategy").is_some_and(|strategy| strategy.split(',').any(|s| s == "merge"));
    let merge_key = tag("patchMergeKey").map(str::to_owned).or(merges.then(String::new));
    let pointer = declared.split_whitespace().last().is_some_and(|kind| kind.starts_with('*'));
    Some((number, Tag { json: name.to_owned(), always, pointer, strategy, merge_key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_pointers_and_strategies() {
        let text = "// Box is atomic.\n// +structType=atomic\ntype Box struct {\n\tmetav1.TypeMeta `json:\",inline\"`\n\
                    \tLid *Lid `json:\"lid,omitempty\" protobuf:\"bytes,1,opt,name=lid\"`\n\t// +listType=map\n\
                    \t// +listMapKey=port\n\t// +listMapKey=protocol\n\
                    \tParts []Part `json:\"parts\" patchStrategy:\"merge\" patchMergeKey:\"port\" protobuf:\"bytes,12,rep,name=parts\"`\n\
                    \tSource `json:\",inline\" protobuf:\"bytes,2,opt,name=source\"`\n}\n";
        let structs = read(text);
        let tags = &structs["Box"];
        assert!(tags.atomic);
        assert_eq!(tags.fields.keys().copied().collect::<Vec<_>>(), [1, 2, 12]);
        assert_eq!(
            (tags.fields[&1].json.as_str(), tags.fields[&1].pointer, tags.fields[&1].always),
            ("lid", true, false)
        );
        assert_eq!((tags.fields[&2].json.as_str(), tags.fields[&2].always), ("", false));
        let parts = &tags.fields[&12];
        assert_eq!((parts.always, parts.strategy.as_deref()), (true, Some("port,protocol")));
        assert_eq!(parts.merge_key.as_deref(), Some("port"));
    }
}
