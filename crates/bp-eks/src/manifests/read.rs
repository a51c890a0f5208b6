//! Read manifests from files, directories and streams, with limits.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{error::ManifestsError, object::Manifest};

/// The maximum size of a file or stream, and of all together.
const FILE_BYTES: u64 = 8 << 20;
const TOTAL_BYTES: u64 = 32 << 20;
/// The maximum number of entries of a directory, and of objects.
const FILES: usize = 1000;
const OBJECTS: usize = 1000;
/// The maximum nesting of a document; the schemas of custom resources are nested deeply.
const DEPTH: usize = 120;
/// The maximum nesting of lists of objects.
const LISTS: usize = 3;

/// The objects of manifests, in the order of their files and documents.
///
/// ```
/// use bp_eks::manifests::ManifestSet;
///
/// let set = ManifestSet::parse("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: web }\n", "web.yaml")?;
/// assert_eq!(set.objects().collect::<Vec<_>>(), ["configmap/web"]);
/// # Ok::<(), bp_eks::manifests::ManifestsError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManifestSet {
    pub(super) manifests: Vec<Manifest>,
}

impl ManifestSet {
    /// Reads files, and the files `*.yaml`, `*.yml` and `*.json` of directories, but not those of their subdirectories, in
    /// the order of their names. A file may contain several documents, and lists of objects.
    ///
    /// # Errors
    /// When a path cannot be read, a symbolic link leads out of its directory, a limit is exceeded, a document is not a
    /// Kubernetes object with a name, or an object is defined twice.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self, ManifestsError> {
        let mut reading = Reading::default();
        for path in paths {
            let path = path.as_ref();
            let is_directory = fs::metadata(path).map_err(|source| file_error(path, source))?.is_dir();
            let files = if is_directory { files(path)? } else { vec![path.to_owned()] };
            for file in files {
                let source = File::open(&file).map_err(|source| file_error(&file, source))?;
                reading.stream(source, &file.display().to_string())?;
            }
        }
        reading.finish()
    }

    /// Reads a stream, such as the output of `kubectl kustomize`; `name` is its name in messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_reader(stream: impl Read, name: &str) -> Result<Self, ManifestsError> {
        let mut reading = Reading::default();
        reading.stream(stream, name)?;
        reading.finish()
    }

    /// Parses a text of one or more documents; `name` is its name in messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, name: &str) -> Result<Self, ManifestsError> {
        Self::from_reader(text.as_bytes(), name)
    }

    /// The objects, such as `deployment/web`.
    pub fn objects(&self) -> impl Iterator<Item = String> {
        self.manifests.iter().map(ToString::to_string)
    }
}

fn file_error(path: &Path, source: std::io::Error) -> ManifestsError {
    ManifestsError::File { path: path.display().to_string(), source }
}

/// The manifests of a directory, sorted by name.
fn files(directory: &Path) -> Result<Vec<PathBuf>, ManifestsError> {
    let failed = |source| file_error(directory, source);
    let refused = |path: &Path, reason: &str| ManifestsError::Refused {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let inside = fs::canonicalize(directory).map_err(failed)?;
    let mut found = Vec::new();
    for (number, entry) in fs::read_dir(directory).map_err(failed)?.enumerate() {
        if number >= FILES {
            return Err(refused(directory, "the directory has more than 1,000 entries"));
        }
        let path = entry.map_err(failed)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if stem.eq_ignore_ascii_case("kustomization") {
            let reason = "the directory is a kustomization: render it (kubectl kustomize DIRECTORY) and pass the output, \
                          with - as the path";
            return Err(refused(directory, reason));
        }
        if !matches!(extension, "yaml" | "yml" | "json") {
            continue;
        }
        let real = fs::canonicalize(&path).map_err(|source| file_error(&path, source))?;
        if !real.starts_with(&inside) {
            return Err(refused(
                &path,
                "the symbolic link leads out of the directory; copy the file, or pass its path",
            ));
        }
        if real.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The objects read so far.
#[derive(Default)]
struct Reading {
    manifests: Vec<Manifest>,
    bytes: u64,
}

impl Reading {
    fn stream(&mut self, stream: impl Read, name: &str) -> Result<(), ManifestsError> {
        let refused =
            |reason: &str| ManifestsError::Refused { path: name.to_owned(), reason: reason.to_owned() };
        let mut bytes = Vec::new();
        let read = stream.take(FILE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| ManifestsError::File { path: name.to_owned(), source })?;
        self.bytes += bytes.len() as u64;
        if bytes.len() as u64 > FILE_BYTES {
            return Err(refused("it is larger than 8 MiB"));
        }
        if self.bytes > TOTAL_BYTES {
            return Err(refused("the manifests are larger than 32 MiB together"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is not UTF-8"))?;
        let documents = documents(text.strip_prefix('\u{feff}').unwrap_or(text), name)?;
        let only = documents.len() == 1;
        for (number, document) in documents.into_iter().enumerate() {
            let at = if only { name.to_owned() } else { format!("{name}, document {}", number + 1) };
            self.document(document, &at, 0)?;
        }
        Ok(())
    }

    /// Adds an object, or the objects of a list.
    fn document(&mut self, document: Value, at: &str, depth: usize) -> Result<(), ManifestsError> {
        let malformed =
            |reason: &str| ManifestsError::Malformed { at: at.to_owned(), reason: reason.to_owned() };
        let mut document = document;
        if document.is_null() {
            return Ok(());
        }
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        let is_list = kind.ends_with("List") && document["metadata"]["name"].is_null();
        if let Some(items) = document.get_mut("items").filter(|_| is_list) {
            if depth >= LISTS {
                return Err(malformed("lists of lists are nested too deeply"));
            }
            let Value::Array(items) = items.take() else {
                return Err(malformed("the items of the list are not a list"));
            };
            for (number, mut item) in items.into_iter().enumerate() {
                // The items of a list of one kind, such as `ConfigMapList`, need not repeat it.
                let of_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
                if let (Some(of_kind), Some(fields)) = (of_kind, item.as_object_mut()) {
                    fields.entry("kind").or_insert_with(|| of_kind.into());
                    fields.entry("apiVersion").or_insert_with(|| document["apiVersion"].clone());
                }
                self.document(item, &format!("{at}, item {}", number + 1), depth + 1)?;
            }
            return Ok(());
        }
        if self.manifests.len() >= OBJECTS {
            return Err(malformed("the manifests have more than 1,000 objects"));
        }
        self.manifests.push(Manifest::new(document, at)?);
        Ok(())
    }

    fn finish(self) -> Result<ManifestSet, ManifestsError> {
        let mut seen: BTreeMap<_, &Manifest> = BTreeMap::new();
        for manifest in &self.manifests {
            if let Some(first) = seen.insert(manifest.identity(), manifest) {
                return Err(ManifestsError::Duplicate {
                    object: manifest.to_string(),
                    first: first.at.clone(),
                    second: manifest.at.clone(),
                });
            }
        }
        Ok(ManifestSet { manifests: self.manifests })
    }
}

/// The documents of a text. Scalars are read as by kubectl, in YAML 1.1: `0644` is octal, `on` is a boolean.
fn documents(text: &str, name: &str) -> Result<Vec<Value>, ManifestsError> {
    let malformed = |reason: String| ManifestsError::Malformed { at: name.to_owned(), reason };
    if text.trim_start().starts_with('{') {
        let parsed =
            serde_json::Deserializer::from_str(text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
        if let Ok(documents) = parsed {
            return Ok(documents);
        }
    }
    let mut options = serde_saphyr::Options::default();
    options.legacy_octal_numbers = true;
    options.with_snippet = false;
    let mut budget = options.budget.take().unwrap_or_default();
    budget.max_depth = DEPTH;
    budget.flow_nesting_limit = DEPTH;
    budget.max_documents = OBJECTS;
    options.budget = Some(budget);
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        // The message could quote the text.
        let line = error.location().map(|location| format!(" at line {}", location.line()));
        malformed(format!("is not valid YAML{}", line.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        ManifestSet::parse(text, "a.yaml")
            .map(|set| set.objects().collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn reads_documents_lists_and_json() {
        let text = "# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n---\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: { name: b }\n\
                    - apiVersion: v1\n  kind: SecretList\n  items: [{ metadata: { name: c } }]\n";
        assert_eq!(read(text).unwrap(), ["configmap/a", "deployment/b", "secret/c"]);
        let one = r#"{ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a" } }"#;
        assert_eq!(
            read(&format!("{one}\n{}", one.replace("\"a\"", "\"b\""))).unwrap(),
            ["service/a", "service/b"]
        );
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        assert_eq!(read("\u{feff}apiVersion: v1\nkind: Secret\nmetadata: {name: a}").unwrap(), ["secret/a"]);
    }

    #[test]
    fn reads_scalars_as_kubectl_does() {
        let text = "apiVersion: v1\nkind: X\nmetadata: { name: a }\nspec: { mode: 0644, flag: on, text: \"0644\", n: 10, \
                    s: 1h, float: 0.5 }\n";
        let set = ManifestSet::parse(text, "a").unwrap();
        let spec = &set.manifests[0].object["spec"];
        assert_eq!(
            *spec,
            serde_json::json!({ "mode": 420, "flag": true, "text": "0644", "n": 10, "s": "1h", "float": 0.5 })
        );
    }

    #[test]
    fn rejects_what_is_not_an_object_and_never_quotes_it() {
        let nested = format!("a: {}{}", "[".repeat(1000), "]".repeat(1000));
        for (text, reason) in [
            ("- a", "is not a Kubernetes object"),
            ("kind: X\nmetadata: { name: a }", "has no apiVersion"),
            ("apiVersion: v1\nmetadata: { name: a }", "has no kind"),
            ("apiVersion: v1\nkind: X", "has no metadata.name"),
            ("apiVersion: v1\nkind: X\nmetadata: { generateName: a- }", "metadata.generateName"),
            ("apiVersion: v1\nkind: X\nmetadata: { name: a, uid: b }", "metadata.uid"),
            (
                "apiVersion: v1\nkind: X\nmetadata: { name: a, resourceVersion: \"1\" }",
                "metadata.resourceVersion",
            ),
            ("apiVersion: v1\nkind: List\nitems: hunter2", "the items of the list are not a list"),
            ("a: [hunter2", "is not valid YAML"),
            ("a: hunter2\na: b", "is not valid YAML"),
            (nested.as_str(), "is not valid YAML"),
            ("apiVersion: v1\nkind: X\nmetadata: { name: \"a\\nb\" }", "has an invalid name"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("a.yaml") && error.contains(reason), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n";
        let error = read(&format!("{config}---\n{config}")).unwrap_err();
        assert_eq!(
            error,
            "configmap/a is defined twice, in a.yaml, document 1 and a.yaml, document 2; remove one of them"
        );
    }

    #[test]
    fn limits_size_and_number() {
        let error = read(&format!("# {}", "x".repeat(9 << 20))).unwrap_err();
        assert_eq!(error, "a.yaml: it is larger than 8 MiB");
        let items: Vec<String> = (0..1001)
            .map(|n| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c{n}}}}}"))
            .collect();
        let error = read(&format!("apiVersion: v1\nkind: List\nitems: [{}]", items.join(", "))).unwrap_err();
        assert!(error.contains("more than 1,000 objects"), "{error}");
        // Aliases that multiply.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
        }
        assert!(read(&bomb).unwrap_err().contains("is not valid YAML"));
    }

    #[test]
    fn reads_a_directory_and_refuses_links_out_of_it_and_kustomizations() {
        let directory = std::env::temp_dir().join(format!("bp-eks-manifests-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let inside = directory.join("manifests");
        fs::create_dir_all(inside.join("nested")).unwrap();
        let config = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name} }}\n");
        fs::write(inside.join("b.yml"), config("b")).unwrap();
        fs::write(inside.join("a.yaml"), config("a")).unwrap();
        fs::write(inside.join("c.json"), r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"c"}}"#)
            .unwrap();
        fs::write(inside.join("README.md"), "no manifest").unwrap();
        fs::write(inside.join("nested/d.yaml"), config("d")).unwrap();
        std::os::unix::fs::symlink("a.yaml", inside.join("0.txt")).unwrap();
        let read = |path: &PathBuf| {
            ManifestSet::read(&[path])
                .map(|set| set.objects().collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(&inside).unwrap(), ["configmap/a", "configmap/b", "secret/c"]);
        assert_eq!(read(&inside.join("b.yml")).unwrap(), ["configmap/b"]);

        fs::write(directory.join("secret.yaml"), "password: hunter2").unwrap();
        let link = inside.join("link.yaml");
        std::os::unix::fs::symlink(directory.join("secret.yaml"), &link).unwrap();
        let error = read(&inside).unwrap_err();
        assert!(error.contains("link.yaml: the symbolic link leads out of the directory"), "{error}");
        fs::remove_file(&link).unwrap();
        fs::write(inside.join("kustomization.yaml"), "resources: [a.yaml]").unwrap();
        assert!(read(&inside).unwrap_err().contains("kubectl kustomize"));
        assert!(read(&directory.join("missing")).unwrap_err().starts_with("cannot read the manifests in "));
        fs::remove_dir_all(&directory).unwrap();
    }
}
