//! No ambient state below io-*: what a kernel file may not name, its tests included, and what may not race unbiased.
//!
//! Invariants: rules look at tokens, so that comments and strings never matter and nested macros are seen.
//! Not here: the same law as clippy holds it by resolved path (`kernel/clippy.toml`); this one also sees what clippy
//! skips, such as code under a `cfg` that is off.

use super::{Finding, SourceFile, Tree, test_lines, within};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Modules of `std` (and of `core`, `alloc`, where they share the name) that hold ambient state or IO.
const MODULES: &[&str] = &["time", "net", "fs", "thread", "env", "process", "cell", "os", "io"];

/// Of `core`, these stay: integers in a `Duration`'s printing, plain address types.
const CORE_MAY: &[&str] = &["time", "net"];

/// Names that are forbidden wherever they come from.
const NAMES: &[&str] = &[
    "HashMap",
    "HashSet",
    "RandomState",
    "DefaultHasher",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Condvar",
    "RefCell",
    "UnsafeCell",
    "OnceCell",
    "OnceLock",
    "LazyCell",
    "LazyLock",
    "AtomicBool",
    "AtomicU8",
    "AtomicU16",
    "AtomicU32",
    "AtomicU64",
    "AtomicUsize",
    "AtomicI8",
    "AtomicI16",
    "AtomicI32",
    "AtomicI64",
    "AtomicIsize",
    "AtomicPtr",
    "thread_local",
    "println",
    "eprintln",
    "tokio",
    "getrandom",
    "OsRng",
    "thread_rng",
];

/// The one file that may hold a global: the choice of a planted bug, which exists under `--cfg net_mutants` only.
const PLANTED: &str = "kernel/base/src/mutant.rs";

/// Nothing in kernel/ names time, entropy, IO, random-ordered maps or shared mutable state.
#[must_use]
pub fn kernel(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kernel = |file: &&SourceFile| file.path.starts_with("kernel/") && file.path != PLANTED;
    for file in tree.rust().filter(kernel) {
        let Some(tokens) = file.tokens() else { continue };
        let mut hits = Vec::new();
        named(tokens, &mut hits);
        for (line, name) in hits {
            let remedy =
                "pass it as an argument or an input: time as `now`, entropy as a stream, effects through Fx or Io";
            findings.push(file.finding(
                line,
                format!("`{name}` is ambient state, which kernel/ must not name"),
                remedy,
            ));
        }
    }
    findings
}

/// Nothing in kernel/ computes with floats, whose results differ between machines and whose NaN breaks orders.
#[must_use]
pub fn integers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree
        .rust()
        .filter(|file| file.path.starts_with("kernel/") && !tree.is_test(file))
    {
        let (Some(tokens), Some(syntax)) = (file.tokens(), file.syntax()) else {
            continue;
        };
        let tests = test_lines(&syntax);
        let mut hits = Vec::new();
        floats(tokens, &mut hits);
        let hits = hits.into_iter().filter(|&line| !within(&tests, line));
        findings.extend(hits.map(|line| {
            file.finding(
                line,
                "a float on the decision path",
                "scale to an integer, or use Duration::mul_ratio",
            )
        }));
    }
    findings
}

/// Every `select!` opens with `biased;`: the order of an unbiased one is seeded by no simulator.
#[must_use]
pub fn biased(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let Some(tokens) = file.tokens() else { continue };
        let mut hits = Vec::new();
        unbiased(tokens, &mut hits);
        let remedy = "open it with `biased;` and put the branch that must not starve first";
        findings.extend(
            hits.into_iter()
                .map(|line| file.finding(line, "an unbiased select!", remedy)),
        );
    }
    findings
}

fn named(tokens: TokenStream, hits: &mut Vec<(usize, String)>) {
    let trees: Vec<_> = tokens.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                if NAMES.contains(&name.as_str()) {
                    hits.push((ident.span().start().line, name));
                } else if matches!(name.as_str(), "std" | "core" | "alloc") && is_path_separator(&trees, index + 1) {
                    modules_of(&name, trees.get(index + 3), hits);
                }
            }
            TokenTree::Group(group) => named(group.stream(), hits),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Reports the modules named directly after `std::`, whether as a path or as the first level of a `{..}` list.
fn modules_of(root: &str, next: Option<&TokenTree>, hits: &mut Vec<(usize, String)>) {
    let mut judge = |ident: &proc_macro2::Ident| {
        let module = ident.to_string();
        let allowed = root != "std" && CORE_MAY.contains(&module.as_str());
        if MODULES.contains(&module.as_str()) && !allowed {
            hits.push((ident.span().start().line, format!("{root}::{module}")));
        }
    };
    match next {
        Some(TokenTree::Ident(ident)) => judge(ident),
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let mut first = true;
            for tree in group.stream() {
                match &tree {
                    TokenTree::Ident(ident) if first => judge(ident),
                    TokenTree::Ident(_) | TokenTree::Group(_) | TokenTree::Literal(_) | TokenTree::Punct(_) => {}
                }
                first = matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == ',');
            }
        }
        Some(TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) | None => {}
    }
}

fn is_path_separator(trees: &[TokenTree], index: usize) -> bool {
    let colon = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(trees.get(index)) && colon(trees.get(index + 1))
}

fn floats(tokens: TokenStream, hits: &mut Vec<usize>) {
    for tree in tokens {
        match tree {
            TokenTree::Ident(ident) if ident == "f32" || ident == "f64" => hits.push(ident.span().start().line),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let digits = text.starts_with(|c: char| c.is_ascii_digit()) && !text.starts_with("0x");
                if digits && (text.contains('.') || text.ends_with("f32") || text.ends_with("f64")) {
                    hits.push(literal.span().start().line);
                }
            }
            TokenTree::Group(group) => floats(group.stream(), hits),
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn unbiased(tokens: TokenStream, hits: &mut Vec<usize>) {
    let trees: Vec<_> = tokens.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            unbiased(group.stream(), hits);
        }
        let TokenTree::Ident(ident) = tree else { continue };
        let called = matches!(trees.get(index + 1), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
        if let (true, true, Some(TokenTree::Group(body))) = (ident == "select", called, trees.get(index + 2)) {
            let mut body = body.stream().into_iter();
            let word = matches!(body.next(), Some(TokenTree::Ident(word)) if word == "biased");
            let end = matches!(body.next(), Some(TokenTree::Punct(punct)) if punct.as_char() == ';');
            if !(word && end) {
                hits.push(ident.span().start().line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel_finds(text: &str) -> Vec<String> {
        let found = kernel(&Tree::one("kernel/base/src/a.rs", text));
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn ambient_state_is_found_in_every_spelling() {
        for text in [
            "use std::time::Instant;",
            "use std::{fmt, fs};",
            "fn a() { std::thread::sleep(x) }",
            "fn a() { ::std::env::var(x) }",
            "use core::cell::Cell;",
            "#[cfg(test)] mod tests { use std::collections::HashMap; }",
            "macro_rules! m { () => { println!() } }",
            "use hashbrown::HashMap;",
            "fn a() { tokio::spawn(x) }",
        ] {
            assert_eq!(kernel_finds(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_only_looks_ambient_is_left_alone() {
        for text in [
            "// std::time::Instant\nconst A: &str = \"HashMap\";",
            "use core::time::Duration; use core::net::SocketAddr;",
            "use std::{fmt, vec::{self, Vec}};",
            "use alloc::collections::BTreeMap;",
            "use crate::time::Instant; use crate::io::Io;",
        ] {
            assert!(kernel_finds(text).is_empty(), "{text}");
        }
        assert!(kernel(&Tree::one("io-real/src/a.rs", "use std::time::Instant;")).is_empty());
    }

    #[test]
    fn floats_are_found_outside_tests_only() {
        let lines = |text: &str| integers(&Tree::one("kernel/base/src/a.rs", text)).len();
        assert_eq!(lines("fn a(x: f64) {}"), 1);
        assert_eq!(lines("const A: u8 = 1.5 as u8;"), 1);
        assert_eq!(lines("const A: u8 = 1; const B: u64 = 0x2f32; fn a(t: T) { t.0 }"), 0);
        assert_eq!(lines("#[cfg(test)]\nmod tests {\n const A: f64 = 1.0;\n}"), 0);
    }

    #[test]
    fn an_unbiased_select_is_found_even_inside_another_macro() {
        let lines = |text: &str| biased(&Tree::one("io-real/src/a.rs", text)).len();
        assert_eq!(lines("async fn a() { tokio::select! { _ = b => {} } }"), 1);
        assert_eq!(lines("async fn a() { m! { select! { _ = b => {} } } }"), 1);
        assert_eq!(
            lines("async fn a() { tokio::select! { biased; _ = b => { select!(_ = c => {}) } } }"),
            1
        );
        assert_eq!(lines("async fn a() { tokio::select! { biased; _ = b => {} } }"), 0);
    }
}
