//! What must not be left lying about: markers of unfinished work, paths of one machine, fuzz targets without corpora.
//!
//! Invariants: the forbidden words are put together at run time, so that this file does not find itself.
//! Not here: style of code (rustfmt and clippy hold it).

use super::{Finding, Tree};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;

/// Lines of a fuzz target; its body lives beside the code it fuzzes.
pub const FUZZ_TARGET_LINES: usize = 40;

/// No markers of unfinished work, in code or prose.
#[must_use]
pub fn markers(tree: &Tree) -> Vec<Finding> {
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["X", "XX"].concat(),
        ["Place", "holder."].concat(),
    ];
    let mut findings = Vec::new();
    for file in tree.files() {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| holds_word(line, word)) {
                let what = format!("`{word}` marks unfinished work");
                findings.push(file.finding(
                    index + 1,
                    what,
                    "finish it, or file an issue and describe what is true today",
                ));
            }
        }
        let mut hits = Vec::new();
        unfinished_macros(file.tokens().unwrap_or_default(), &mut hits);
        for (line, name) in hits {
            findings.push(file.finding(
                line,
                format!("`{name}!` marks unfinished work"),
                "finish it, or answer with a typed refusal",
            ));
        }
    }
    findings
}

/// No path that exists on one machine only.
#[must_use]
pub fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let roots = ["home", "root", "Users", "work"].map(|folder| format!("/{folder}/"));
    let mut findings = Vec::new();
    for file in tree.files() {
        for (index, line) in file.text.lines().enumerate() {
            let starts = |root: &String| {
                line.match_indices(root.as_str()).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-~}/*".contains(before))
                })
            };
            if let Some(root) = roots.iter().find(|root| starts(root)) {
                let what = format!("`{root}...` exists on one machine only");
                findings.push(file.finding(index + 1, what, "use a path relative to the root, or an argument"));
            }
        }
    }
    findings
}

/// Every relative link of a document leads to a file or folder of the tree.
#[must_use]
pub fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files().filter(|file| file.path.ends_with(".md")) {
        for (index, line) in file.text.lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = target.split('#').next().unwrap_or_default();
                if target.is_empty() || target.contains("://") {
                    continue;
                }
                let path = resolved(&file.path, target);
                let leads = tree.files().any(|other| {
                    other.path == path
                        || other
                            .path
                            .strip_prefix(path.as_str())
                            .is_some_and(|rest| rest.starts_with('/'))
                });
                if !leads {
                    let what = format!("the link to `{target}` leads nowhere");
                    findings.push(file.finding(index + 1, what, "link to what is there, or remove the link"));
                }
            }
        }
    }
    findings
}

/// `target` as seen from the document `from`, relative to the root, without a slash at its end.
fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Fuzz targets are thin.
#[must_use]
pub fn fuzz_targets(tree: &Tree) -> Vec<Finding> {
    let targets = tree.rust().filter(|file| file.path.starts_with("fuzz/fuzz_targets/"));
    let long = targets.filter_map(|file| {
        let lines = file.text.lines().count();
        let what = format!("{lines} lines, the budget of a fuzz target is {FUZZ_TARGET_LINES}");
        (lines > FUZZ_TARGET_LINES).then(|| file.finding(1, what, "move the body beside the code it fuzzes"))
    });
    long.collect()
}

/// Every fuzz target has a committed corpus. `corpora` names the folders of fuzz/corpus that hold at least one input.
#[must_use]
pub fn fuzz_corpora(tree: &Tree, corpora: &BTreeSet<String>) -> Vec<Finding> {
    let targets = tree.rust().filter_map(|file| {
        let name = file.path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs")?;
        Some((file, name))
    });
    let bare = targets.filter(|(_, name)| !corpora.contains(*name));
    let remedy = "commit at least one valid and one invalid input under fuzz/corpus/<target>/";
    bare.map(|(file, name)| file.finding(1, format!("fuzz target `{name}` has no corpus"), remedy))
        .collect()
}

fn holds_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word))
}

fn unfinished_macros(tokens: TokenStream, hits: &mut Vec<(usize, String)>) {
    let names = [
        ["d", "bg"].concat(),
        ["to", "do"].concat(),
        ["unimple", "mented"].concat(),
    ];
    let trees: Vec<_> = tokens.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Ident(ident) => {
                let called = matches!(trees.get(index + 1), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
                let name = ident.to_string();
                if called && names.contains(&name) {
                    hits.push((ident.span().start().line, name));
                }
            }
            TokenTree::Group(group) => unfinished_macros(group.stream(), hits),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found_in_prose_and_code() {
        let marker = ["TO", "DO"].concat();
        assert_eq!(
            markers(&Tree::one("docs/a.md", &format!("fine\n{marker}: more\n")))[0].line,
            2
        );
        assert!(markers(&Tree::one("docs/a.md", &format!("{marker}LIST and MAS{marker}\n"))).is_empty());
        let call = ["fn a() { to", "do!() }"].concat();
        assert_eq!(markers(&Tree::one("a/src/b.rs", &call)).len(), 1);
        assert!(markers(&Tree::one("a/src/b.rs", "fn todo() {}")).is_empty());
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_relative_one_is_not() {
        for folder in ["home", "root", "Users", "work"] {
            assert_eq!(
                machine_paths(&Tree::one("docs/a.md", &format!("see /{folder}/x\n"))).len(),
                1
            );
            assert!(machine_paths(&Tree::one("docs/a.md", &format!("see net/{folder}/x\n"))).is_empty());
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let tree = |text: &str| {
            let page = ("docs/a.md".to_owned(), text.to_owned());
            Tree::of(vec![
                page,
                ("docs/decisions/1.md".into(), String::new()),
                ("LICENSE".into(), String::new()),
            ])
        };
        assert_eq!(links(&tree("see [b](b.md)")).len(), 1);
        let good = "[1](decisions/1.md#why) [all](decisions/) [up](../LICENSE) [web](https://example.org) [here](#x)";
        assert!(links(&tree(good)).is_empty());
    }

    #[test]
    fn a_fat_fuzz_target_and_one_without_corpus_are_found() {
        let tree = |lines: usize| Tree::one("fuzz/fuzz_targets/frames.rs", &"\n".repeat(lines));
        assert_eq!(fuzz_targets(&tree(FUZZ_TARGET_LINES + 1)).len(), 1);
        assert!(fuzz_targets(&tree(FUZZ_TARGET_LINES)).is_empty());
        assert_eq!(fuzz_corpora(&tree(1), &BTreeSet::new()).len(), 1);
        assert!(fuzz_corpora(&tree(1), &BTreeSet::from(["frames".to_owned()])).is_empty());
    }
}
