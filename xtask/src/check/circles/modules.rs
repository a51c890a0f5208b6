//! Imports between the modules of a crate, from its source files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::rust::{Token, outside_tests};

/// Segments of a path from the crate root.
type Path = Vec<String>;

/// For each file of a crate, the files it imports from and the imported names.
pub(super) type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Modules, imports and names in one file.
#[derive(Default)]
struct Scan<'a> {
    /// Its own module and inline modules.
    modules: Vec<Path>,
    /// Names that modules bind by `use`.
    bindings: Vec<Use>,
    /// Paths in the code, from the crate root.
    paths: Vec<Path>,
    /// Identifiers outside of imports.
    names: HashSet<&'a str>,
}

/// One name that a module imports, or a glob without a name.
struct Use {
    module: Path,
    target: Path,
    name: Option<String>,
    is_public: bool,
}

/// Reads the imports of a crate from its sources: paths below `src` and texts.
pub(super) fn imports<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Imports {
    let scans: Vec<(&str, Scan<'_>)> =
        sources.into_iter().filter_map(|(file, text)| Some((file, scan(module_of(file)?, text)))).collect();
    let mut files: HashMap<Path, &str> = HashMap::new();
    let mut bindings: HashMap<(Path, String), Path> = HashMap::new();
    for (file, scan) in &scans {
        files.extend(scan.modules.iter().map(|module| (module.clone(), *file)));
        for Use { module, target, name, .. } in &scan.bindings {
            bindings.extend(name.iter().map(|name| ((module.clone(), name.clone()), target.clone())));
        }
    }
    let crate_modules = Modules { files, bindings };
    let mut imports = Imports::new();
    for (file, scan) in &scans {
        // A re-export alone is not a use.
        let is_used = |import: &&Use| {
            !import.is_public || import.name.as_deref().is_some_and(|name| scan.names.contains(name))
        };
        let used = scan.bindings.iter().filter(is_used).map(|import| &import.target);
        for path in used.chain(&scan.paths) {
            if let Some(target) = crate_modules.definer(path, 0).filter(|target| target != file) {
                let names = imports.entry((*file).to_owned()).or_default().entry(target.to_owned());
                names.or_default().extend(path.last().cloned());
            }
        }
    }
    imports
}

struct Modules<'a> {
    files: HashMap<Path, &'a str>,
    bindings: HashMap<(Path, String), Path>,
}

impl Modules<'_> {
    /// The file that defines the item at `path`, following re-exports.
    fn definer(&self, path: &[String], hops: usize) -> Option<&str> {
        const MAX_HOPS: usize = 16;
        let is_module = |length: &usize| self.files.contains_key(&path[..*length]);
        let length = (0..=path.len()).take_while(is_module).last()?;
        let (module, rest) = path.split_at(length);
        if let Some((name, rest)) = rest.split_first()
            && let Some(target) = self.bindings.get(&(module.to_vec(), name.clone()))
            && hops < MAX_HOPS
        {
            return self.definer(&[target, rest].concat(), hops + 1);
        }
        self.files.get(module).copied()
    }
}

/// The module of a file in `src`; `None` for a binary.
fn module_of(file: &str) -> Option<Path> {
    if file.starts_with("bin/") {
        return None;
    }
    let path = file.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" => Some(Path::new()),
        path => Some(path.split('/').map(str::to_owned).collect()),
    }
}

fn scan(module: Path, text: &str) -> Scan<'_> {
    let tokens = outside_tests(text);
    let children: HashSet<&str> = tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [Token::Name("mod"), Token::Name(child)] => Some(*child),
            _ => None,
        })
        .collect();
    let mut scan = Scan { modules: vec![module.clone()], ..Scan::default() };
    let mut reader = Reader { tokens: &tokens, at: 0, children, module, opened: Vec::new(), depth: 0 };
    reader.read(&mut scan);
    scan
}

struct Reader<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    /// The modules that the file declares.
    children: HashSet<&'a str>,
    /// The module at this point.
    module: Path,
    /// The depths at which modules were opened in the file.
    opened: Vec<usize>,
    depth: usize,
}

impl<'a> Reader<'_, 'a> {
    fn token(&self, offset: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + offset).copied()
    }

    fn before(&self) -> Option<Token<'a>> {
        self.at.checked_sub(1).map(|at| self.tokens[at])
    }

    fn read(&mut self, scan: &mut Scan<'a>) {
        while let Some(token) = self.token(0) {
            match (token, self.token(1), self.token(2)) {
                (Token::Name("mod"), Some(Token::Name(name)), Some(Token::Sign('{'))) => {
                    self.module.push(name.to_owned());
                    scan.modules.push(self.module.clone());
                    self.opened.push(self.depth);
                    self.depth += 1;
                    self.at += 3;
                }
                (Token::Name("mod"), Some(Token::Name(_)), _) => self.at += 2,
                (Token::Name("use"), Some(next), _) if next != Token::Sign('<') => {
                    let is_public = matches!(self.before(), Some(Token::Name("pub") | Token::Sign(')')));
                    self.at += 1;
                    let start = if next == Token::Colons { None } else { Some(Path::new()) };
                    self.tree(start, is_public, scan);
                }
                (Token::Name(first), Some(Token::Colons), _) if self.before() != Some(Token::Colons) => {
                    // `pub(in crate::x)` is a visibility, not an import.
                    let is_visibility = self.before() == Some(Token::Name("in"))
                        && self.at >= 2
                        && self.tokens[self.at - 2] == Token::Sign('(');
                    scan.names.insert(first);
                    let mut path = vec![first.to_owned()];
                    self.at += 1;
                    while let (Some(Token::Colons), Some(Token::Name(name))) = (self.token(0), self.token(1))
                    {
                        path.push(name.to_owned());
                        self.at += 2;
                    }
                    scan.paths.extend(self.absolute(&path).filter(|_| !is_visibility));
                }
                (token, ..) => {
                    match token {
                        Token::Sign('{') => self.depth += 1,
                        Token::Sign('}') => self.close(),
                        Token::Name(name) => drop(scan.names.insert(name)),
                        Token::Sign(_) | Token::Colons => {}
                    }
                    self.at += 1;
                }
            }
        }
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.opened.last() == Some(&self.depth) {
            self.opened.pop();
            self.module.pop();
        }
    }

    /// Reads a use tree below `prefix`, which is `None` for another crate.
    fn tree(&mut self, prefix: Option<Path>, is_public: bool, scan: &mut Scan<'a>) {
        let mut path = prefix;
        let mut name = None;
        while let Some(token) = self.token(0) {
            self.at += 1;
            match token {
                Token::Name("as") => {
                    if let Some(Token::Name(alias)) = self.token(0) {
                        name = Some(alias.to_owned());
                        self.at += 1;
                    }
                }
                Token::Name("self") if path.as_ref().is_some_and(|path| !path.is_empty()) => {
                    name = path.as_ref().and_then(|path| path.last().cloned());
                }
                Token::Name(segment) => {
                    name = Some(segment.to_owned());
                    if let Some(path) = &mut path {
                        path.push(segment.to_owned());
                    }
                }
                Token::Sign('{') => {
                    while !matches!(self.token(0), None | Some(Token::Sign('}'))) {
                        self.tree(path.clone(), is_public, scan);
                        if self.token(0) == Some(Token::Sign(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                Token::Sign('*') => name = None,
                Token::Sign(_) => {
                    // The caller reads the token that ends this branch.
                    self.at -= 1;
                    break;
                }
                Token::Colons => {}
            }
        }
        if let Some(target) = path.and_then(|path| self.absolute(&path)) {
            scan.bindings.push(Use { module: self.module.clone(), target, name, is_public });
        }
    }

    /// The path from the crate root; `None` if it points to another crate or not to a module.
    fn absolute(&self, path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([&self.module, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                let kept = self.module.len().checked_sub(ups)?;
                Some([&self.module[..kept], &path[ups..]].concat())
            }
            child if self.children.contains(child) => Some([&self.module, path].concat()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sources: &[(&'static str, &'static str)]) -> Vec<String> {
        let arrows = imports(sources.iter().copied()).into_iter().flat_map(|(file, targets)| {
            targets.into_iter().map(move |(target, names)| {
                format!("{file} -> {target}: {}", names.into_iter().collect::<Vec<_>>().join(" "))
            })
        });
        arrows.collect()
    }

    #[test]
    fn follows_re_exports_to_the_defining_file() {
        let arrows = read(&[
            ("lib.rs", "mod a; mod b; pub use a::One;"),
            ("a/mod.rs", "mod inner; pub use self::inner::{One, Two as Second}; pub struct Own;"),
            ("a/inner.rs", "pub struct One; pub struct Two;"),
            ("b.rs", "use crate::{One, a::{self, Own, Second}}; use std::fmt::{self, Write};"),
        ]);
        assert_eq!(arrows, ["b.rs -> a/inner.rs: One Second", "b.rs -> a/mod.rs: Own a"].map(str::to_owned));
    }

    #[test]
    fn reads_paths_in_code_and_ignores_comments_and_tests() {
        let arrows = read(&[
            ("lib.rs", "mod a; mod b; mod c; pub fn f() { b::g::<a>() }"),
            (
                "a.rs",
                "//! crate::b::X\nfn f() { super::c::h() }\n#[cfg(test)] mod tests { use crate::b::X; }",
            ),
            ("b.rs", "mod inline { pub(in crate::a) fn f() { super::super::a::f(); super::g() } } fn g() {}"),
            ("c.rs", "struct S { b: u8 }"),
            ("bin/tool.rs", "use crate::a;"),
        ]);
        assert_eq!(arrows, ["a.rs -> c.rs: h", "b.rs -> a.rs: f", "lib.rs -> b.rs: g"].map(str::to_owned));
    }

    #[test]
    fn a_re_export_is_a_use_only_if_the_code_contains_its_name() {
        let arrows = read(&[
            ("lib.rs", "mod a; pub use a::{Only, Used}; pub fn f(_: Used) {}"),
            ("a.rs", "pub struct Only; pub struct Used;"),
        ]);
        assert_eq!(arrows, ["lib.rs -> a.rs: Used".to_owned()]);
    }
}
