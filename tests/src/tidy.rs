//! The tree as data: its files, what of them is test code, and what a rule reports.
//!
//! Invariants: paths are relative to the root with forward slashes, and sorted; a rule sees text only, never the disk.
//! Not here: the rules (`tidy/*.rs`) and the list of which run (`tests/tidy.rs`).

pub mod ambient;
pub mod hygiene;
pub mod law;
pub mod shape;
pub mod size;

use proc_macro2::TokenStream;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;

/// One breach of a rule: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the root.
    pub path: String,
    /// Counted from 1; 1 where the whole file is meant.
    pub line: usize,
    /// The breach.
    pub what: String,
    /// The way out.
    pub remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    do: {}", self.path, self.line, self.what, self.remedy)
    }
}

/// One text file of the tree.
pub struct SourceFile {
    /// Relative to the root, forward slashes.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

impl SourceFile {
    /// A finding in this file.
    #[must_use]
    pub fn finding(&self, line: usize, what: impl Into<String>, remedy: &'static str) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            what: what.into(),
            remedy,
        }
    }

    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The file's tokens, with their lines. `None` where it is not Rust or does not lex (then it does not compile).
    #[must_use]
    pub fn tokens(&self) -> Option<TokenStream> {
        if self.is_rust() { self.text.parse().ok() } else { None }
    }

    /// The file's syntax tree, with lines. `None` as for [`SourceFile::tokens`].
    #[must_use]
    pub fn syntax(&self) -> Option<syn::File> {
        if self.is_rust() {
            syn::parse_file(&self.text).ok()
        } else {
            None
        }
    }

    /// Whether the file is a test or a benchmark as a whole by where it lies.
    #[must_use]
    pub fn lies_among_tests(&self) -> bool {
        self.path
            .split('/')
            .rev()
            .skip(1)
            .any(|folder| matches!(folder, "tests" | "benches" | "examples"))
            && !self.path.contains("/src/")
    }

    /// The leading block of `//!` lines, joined.
    #[must_use]
    pub fn header(&self) -> String {
        let lines = self
            .text
            .lines()
            .map(str::trim_start)
            .take_while(|line| line.starts_with("//!"));
        lines
            .map(|line| line.trim_start_matches("//!").trim())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The files a rule looks at.
pub struct Tree {
    files: Vec<SourceFile>,
    test_modules: BTreeSet<String>,
}

impl Tree {
    /// Reads every text file below `root`, build products and version control aside. Panics where the disk cannot be
    /// read, for then no rule means anything.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let mut paths = Vec::new();
        walk(root, &mut paths);
        paths.sort();
        let relative = |path: &Path| {
            let inside = path.strip_prefix(root).expect("walk yields paths below its root");
            inside.to_string_lossy().replace('\\', "/")
        };
        let files = paths.iter().filter_map(|path| {
            let text = String::from_utf8(std::fs::read(path).expect("a file that was just listed")).ok()?;
            Some((relative(path), text))
        });
        Self::of(files.collect())
    }

    /// A tree of the given (path, text) pairs.
    #[must_use]
    pub fn of(files: Vec<(String, String)>) -> Self {
        let files: Vec<_> = files
            .into_iter()
            .map(|(path, text)| SourceFile { path, text })
            .collect();
        let test_modules = files.iter().flat_map(declared_test_modules).collect();
        Self { files, test_modules }
    }

    /// A tree of one file, for the rules' own tests.
    #[must_use]
    pub fn one(path: &str, text: &str) -> Self {
        Self::of(vec![(path.to_owned(), text.to_owned())])
    }

    /// Every text file, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    /// Every Rust file.
    pub fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// Whether all of `file` is test code: by its place, or because its parent declares it under `#[cfg(test)]`.
    #[must_use]
    pub fn is_test(&self, file: &SourceFile) -> bool {
        let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let declared = || {
            self.test_modules.iter().any(|module| {
                stem == module
                    || stem
                        .strip_prefix(module.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
            })
        };
        file.lies_among_tests() || declared()
    }
}

/// The inclusive line ranges of a file's `#[cfg(test)]` items.
#[must_use]
pub fn test_lines(syntax: &syn::File) -> Vec<(usize, usize)> {
    let tests = syntax.items.iter().filter(|item| is_cfg_test(attributes(item)));
    tests
        .map(|item| (item.span().start().line, item.span().end().line))
        .collect()
}

/// Whether `line` lies in one of `ranges`.
#[must_use]
pub fn within(ranges: &[(usize, usize)], line: usize) -> bool {
    ranges.iter().any(|&(first, last)| (first..=last).contains(&line))
}

/// Whether the attributes hold exactly `#[cfg(test)]`.
#[must_use]
pub fn is_cfg_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test"))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// Stems (paths without `.rs`) of the modules a file declares as `#[cfg(test)] mod name;`.
fn declared_test_modules(file: &SourceFile) -> Vec<String> {
    let Some(syntax) = file.syntax() else { return Vec::new() };
    let stem = file.path.trim_end_matches(".rs");
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let folder = if matches!(name, "lib" | "main" | "mod") {
        folder
    } else {
        stem
    };
    let outside = syntax.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && is_cfg_test(&module.attrs) => Some(module),
        _ => None,
    });
    let parent = stem.rsplit_once('/').map_or("", |(parent, _)| parent);
    let place = |module: &syn::ItemMod| match path_attribute(&module.attrs) {
        Some(path) => format!("{parent}/{}", path.trim_end_matches(".rs")),
        None => format!("{folder}/{}", module.ident),
    };
    outside.map(place).collect()
}

/// The value of `#[path = "..."]`, which is relative to the folder of the file it stands in.
fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        let syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(text),
            ..
        }) = &pair.value
        else {
            return None;
        };
        pair.path.is_ident("path").then(|| text.value())
    })
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    const SKIPPED: &[&str] = &[
        "target",
        ".git",
        "artifacts",
        "coverage",
        "corpus",
        "node_modules",
        "mutants.out",
    ];
    for entry in std::fs::read_dir(folder).expect("the tree is readable") {
        let path = entry.expect("the tree is readable").path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                walk(&path, paths);
            }
        } else if name != ".git" {
            // In a linked worktree `.git` is a file that names a folder of its machine.
            paths.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_declared_for_tests_only_counts_as_test_code_wherever_it_lies() {
        let tree = Tree::of(vec![
            ("a/src/lib.rs".into(), "mod x;".into()),
            (
                "a/src/x.rs".into(),
                "#[cfg(test)]\nmod cases;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;".into(),
            ),
            ("a/src/x/cases.rs".into(), String::new()),
            ("a/src/x/cases/deep.rs".into(), String::new()),
            ("a/src/x_tests.rs".into(), String::new()),
            ("a/tests/whole.rs".into(), String::new()),
        ]);
        let tests: Vec<_> = tree
            .files()
            .filter(|file| tree.is_test(file))
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(
            tests,
            [
                "a/src/x/cases.rs",
                "a/src/x/cases/deep.rs",
                "a/src/x_tests.rs",
                "a/tests/whole.rs"
            ]
        );
    }

    #[test]
    fn the_lines_of_a_test_module_include_its_attribute() {
        let syntax = syn::parse_file("fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n").unwrap();
        assert_eq!(test_lines(&syntax), [(2, 5)]);
    }
}
