//! The shape of a file: how it opens, what its crate root declares, how it argues for `unsafe`.
//!
//! Invariants: a rule that a reader relies on when opening any file holds for all of them.
//! Not here: how long it may be (`size.rs`).

use super::{Finding, SourceFile, Tree, is_cfg_test};
use proc_macro2::{TokenStream, TokenTree};

/// Crates that may hold `unsafe`, each use with its argument: the driver's system calls, a benchmark's counting allocator.
const UNSAFE_CRATES: &[&str] = &["io-real/", "benches/"];

/// Every source file opens with its role, `Invariants:` and `Not here:`; a test file at least with its role.
#[must_use]
pub fn headers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let header = file.header();
        if header.is_empty() {
            findings.push(file.finding(
                1,
                "opens without a `//!` block",
                "say in one sentence what the file is for",
            ));
            continue;
        }
        if tree.is_test(file) || file.path.starts_with("fuzz/") {
            continue;
        }
        for part in ["Invariants:", "Not here:"] {
            if !header.contains(part) {
                let what = format!("the opening block does not say `{part}`");
                findings.push(file.finding(
                    1,
                    what,
                    "say what always holds here, and what a reader should seek elsewhere",
                ));
            }
        }
    }
    findings
}

/// The map in a crate's root names every module the root declares.
#[must_use]
pub fn maps(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| is_crate_root(&file.path)) {
        let (header, Some(syntax)) = (file.header(), file.syntax()) else {
            continue;
        };
        for item in &syntax.items {
            let syn::Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let mapped = [format!("`{name}.rs`"), format!("`{name}/`")]
                .iter()
                .any(|entry| header.contains(entry));
            if module.content.is_none() && !is_cfg_test(&module.attrs) && !mapped {
                let what = format!("the map of this crate lacks `{name}.rs` or `{name}/`");
                findings.push(file.finding(
                    module.ident.span().start().line,
                    what,
                    "add a row to the table in the opening block",
                ));
            }
        }
    }
    findings
}

/// Every crate forbids unsafe code but the driver and the benchmarks; the kernel's are `no_std`.
#[must_use]
pub fn roots(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree
        .rust()
        .filter(|file| is_crate_root(&file.path) && !file.path.starts_with("fuzz/"))
    {
        let may_be_unsafe = UNSAFE_CRATES.iter().any(|folder| file.path.starts_with(folder));
        if !may_be_unsafe && !file.text.contains("#![forbid(unsafe_code)]") {
            findings.push(file.finding(
                1,
                "the crate does not forbid unsafe code",
                "add `#![forbid(unsafe_code)]`",
            ));
        }
        if file.path.starts_with("kernel/") && !file.text.contains("#![no_std]") {
            findings.push(file.finding(
                1,
                "a crate of the kernel links std",
                "add `#![no_std]` and `extern crate alloc;`",
            ));
        }
    }
    findings
}

/// Every `unsafe` carries its argument just above it.
#[must_use]
pub fn safety(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let Some(tokens) = file.tokens() else { continue };
        let mut hits = Vec::new();
        unsafe_lines(tokens, &mut hits);
        for line in hits.into_iter().filter(|&line| !argued(file, line)) {
            let remedy = "write `// SAFETY:` above it: which contract is relied on, and why it holds here";
            findings.push(file.finding(line, "`unsafe` without its argument", remedy));
        }
    }
    findings
}

fn is_crate_root(path: &str) -> bool {
    let path = path.strip_prefix("src/").map_or(path, |_| path);
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("src/bin/")
}

/// An argument counts when it stands on the line or in the comment block at most five lines above.
fn argued(file: &SourceFile, line: usize) -> bool {
    let above = file.text.lines().skip(line.saturating_sub(6)).take(line.min(6));
    above
        .into_iter()
        .any(|text| text.contains("SAFETY:") || text.contains("# Safety"))
}

fn unsafe_lines(tokens: TokenStream, hits: &mut Vec<usize>) {
    for tree in tokens {
        match tree {
            TokenTree::Ident(ident) if ident == "unsafe" => hits.push(ident.span().start().line),
            TokenTree::Group(group) => unsafe_lines(group.stream(), hits),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "//! Role.\n//!\n//! Invariants: none.\n//! Not here: all else.\n";

    #[test]
    fn a_file_must_say_what_it_is_and_is_not() {
        assert!(headers(&Tree::one("a/src/b.rs", GOOD)).is_empty());
        assert_eq!(headers(&Tree::one("a/src/b.rs", "//! Role.\n")).len(), 2);
        assert_eq!(headers(&Tree::one("a/src/b.rs", "fn a() {}\n")).len(), 1);
        assert!(headers(&Tree::one("a/tests/b.rs", "//! Role.\n")).is_empty());
        assert_eq!(headers(&Tree::one("a/tests/b.rs", "fn a() {}\n")).len(), 1);
    }

    #[test]
    fn a_map_that_lags_behind_the_modules_is_found() {
        let root = |rows: &str| format!("//! Role.\n//!\n{rows}\npub mod time;\n#[cfg(test)]\nmod tests;\n");
        assert_eq!(
            maps(&Tree::one("a/src/lib.rs", &root("//! | `id.rs` | ids |")))[0].line,
            4
        );
        assert!(maps(&Tree::one("a/src/lib.rs", &root("//! | `time.rs` | time |"))).is_empty());
        assert!(maps(&Tree::one("a/src/lib.rs", &root("//! | `time/` | time |"))).is_empty());
    }

    #[test]
    fn a_root_that_allows_unsafe_code_or_links_std_in_the_kernel_is_found() {
        assert_eq!(roots(&Tree::one("kernel/base/src/lib.rs", "")).len(), 2);
        assert_eq!(roots(&Tree::one("cli/src/main.rs", "")).len(), 1);
        assert!(roots(&Tree::one("io-real/src/lib.rs", "")).is_empty());
        assert!(
            roots(&Tree::one(
                "kernel/base/src/lib.rs",
                "#![forbid(unsafe_code)]\n#![no_std]\n"
            ))
            .is_empty()
        );
    }

    #[test]
    fn unsafe_code_must_be_argued_for() {
        assert_eq!(
            safety(&Tree::one("io-real/src/a.rs", "fn a() { unsafe { b() } }")).len(),
            1
        );
        let argued = "fn a() {\n    // SAFETY: b has no contract.\n    unsafe { b() }\n}";
        assert!(safety(&Tree::one("io-real/src/a.rs", argued)).is_empty());
        assert!(safety(&Tree::one("io-real/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";")).is_empty());
    }
}
