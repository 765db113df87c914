//! Size budgets: what grows past one needs a level inserted in the tree, not a longer file.
//!
//! Invariants: tests are not counted; a function is counted from its signature to its closing brace.
//! Not here: who may use whom (`law.rs`).

use super::{Finding, SourceFile, Tree, is_cfg_test, test_lines};
use std::collections::BTreeMap;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of a source file, its tests aside.
pub const FILE_LINES: usize = 1_200;
/// Lines of a function.
pub const FUNCTION_LINES: usize = 70;
/// Lines of one layer's wiring, and of `kernel.rs`.
pub const WIRING_LINES: usize = 400;
/// Tables a machine may read.
pub const VIEW_TABLES: usize = 6;
/// Variants of a machine's In and Out.
pub const VARIANTS: usize = 16;

/// Files within their budget.
#[must_use]
pub fn files(tree: &Tree) -> Vec<Finding> {
    let sized = tree.rust().filter(|file| !tree.is_test(file));
    let over = sized.filter_map(|file| {
        let wiring = file.path.starts_with("kernel/src/wiring/") || file.path == "kernel/src/kernel.rs";
        let budget = if wiring { WIRING_LINES } else { FILE_LINES };
        let lines = lines_without_tests(file);
        let what = format!("{lines} lines without tests, the budget is {budget}");
        (lines > budget).then(|| {
            file.finding(
                1,
                what,
                "insert a level: split by responsibility into a folder of modules",
            )
        })
    });
    over.collect()
}

/// Functions within their budget.
#[must_use]
pub fn functions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| !tree.is_test(file)) {
        let Some(syntax) = file.syntax() else { continue };
        let mut long = LongFunctions {
            file,
            findings: Vec::new(),
        };
        long.visit_file(&syntax);
        findings.append(&mut long.findings);
    }
    findings
}

/// Machines within their budgets: tables of the View, variants of In and Out.
#[must_use]
pub fn machines(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut shapes: BTreeMap<(String, String), Shape> = BTreeMap::new();
    let files: Vec<_> = tree.rust().filter_map(|file| Some((file, file.syntax()?))).collect();
    for (file, syntax) in &files {
        for item in &syntax.items {
            if let Some((name, shape)) = shape_of(item) {
                shapes.insert((crate_of(&file.path), name), shape);
            }
        }
    }
    for (file, syntax) in &files {
        let machines = syntax.items.iter().filter_map(machine_impl);
        for machine in machines {
            for item in &machine.items {
                let syn::ImplItem::Type(associated) = item else {
                    continue;
                };
                let line = associated.span().start().line;
                findings.extend(over_budget(file, line, associated, &shapes));
            }
        }
    }
    findings
}

enum Shape {
    Enum(usize),
    Struct(usize),
}

fn over_budget(
    file: &SourceFile,
    line: usize,
    associated: &syn::ImplItemType,
    shapes: &BTreeMap<(String, String), Shape>,
) -> Option<Finding> {
    let role = associated.ident.to_string();
    let named = || {
        let syn::Type::Path(path) = &associated.ty else {
            return None;
        };
        let name = path.path.segments.last()?.ident.to_string();
        shapes.get(&(crate_of(&file.path), name))
    };
    match role.as_str() {
        "View" => {
            let tables = match &associated.ty {
                syn::Type::Tuple(tuple) => tuple.elems.len(),
                _ => match named() {
                    Some(Shape::Struct(fields)) => *fields,
                    Some(Shape::Enum(_)) | None => 1,
                },
            };
            let what = format!("this machine reads {tables} tables, the budget is {VIEW_TABLES}");
            (tables > VIEW_TABLES)
                .then(|| file.finding(line, what, "split the machine, or let a fact carry what it needs"))
        }
        "In" | "Out" => match named() {
            Some(Shape::Enum(variants)) if *variants > VARIANTS => {
                let what = format!("{role} has {variants} variants, the budget is {VARIANTS}");
                Some(file.finding(line, what, "insert a level: a machine inside with its own In and Out"))
            }
            Some(Shape::Enum(_) | Shape::Struct(_)) | None => None,
        },
        _ => None,
    }
}

fn machine_impl(item: &syn::Item) -> Option<&syn::ItemImpl> {
    let syn::Item::Impl(implementation) = item else {
        return None;
    };
    let (_, path, _) = implementation.trait_.as_ref()?;
    (path.segments.last()?.ident == "Machine").then_some(implementation)
}

fn shape_of(item: &syn::Item) -> Option<(String, Shape)> {
    match item {
        syn::Item::Enum(item) => Some((item.ident.to_string(), Shape::Enum(item.variants.len()))),
        syn::Item::Struct(item) => Some((item.ident.to_string(), Shape::Struct(item.fields.len()))),
        _ => None,
    }
}

/// The crate a path belongs to: what lies before `src/` or `tests/`.
fn crate_of(path: &str) -> String {
    let end = path.find("/src/").or_else(|| path.find("/tests/")).unwrap_or(0);
    path[..end].to_owned()
}

fn lines_without_tests(file: &SourceFile) -> usize {
    let tests: usize = match file.syntax() {
        Some(syntax) => test_lines(&syntax).iter().map(|(first, last)| last - first + 1).sum(),
        None => 0,
    };
    file.text.lines().count() - tests
}

struct LongFunctions<'t> {
    file: &'t SourceFile,
    findings: Vec<Finding>,
}

impl LongFunctions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let lines = block.span().end().line - first + 1;
        if lines > FUNCTION_LINES {
            let what = format!(
                "`{}` has {lines} lines, the budget is {FUNCTION_LINES}",
                signature.ident
            );
            self.findings.push(
                self.file
                    .finding(first, what, "name its parts as functions of their own"),
            );
        }
    }
}

impl<'ast> Visit<'ast> for LongFunctions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_cfg_test(&function.attrs) {
            self.measure(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_cfg_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function_of(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    let _ = 1;\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_over_its_budget_is_found_and_its_tests_do_not_count() {
        let code = "const A: u8 = 1;\n".repeat(FILE_LINES);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn a() {}\n".repeat(50));
        assert!(files(&Tree::one("a/src/b.rs", &(code.clone() + &tests))).is_empty());
        assert_eq!(files(&Tree::one("a/src/b.rs", &(code + "const B: u8 = 1;\n"))).len(), 1);
    }

    #[test]
    fn wiring_and_the_kernel_have_a_tighter_budget() {
        let code = "const A: u8 = 1;\n".repeat(WIRING_LINES + 1);
        assert_eq!(files(&Tree::one("kernel/src/wiring/session.rs", &code)).len(), 1);
        assert_eq!(files(&Tree::one("kernel/src/kernel.rs", &code)).len(), 1);
        assert!(files(&Tree::one("kernel/src/api.rs", &code)).is_empty());
    }

    #[test]
    fn a_long_function_is_found_at_its_line_wherever_it_stands() {
        let code = format!("\n{}", function_of(FUNCTION_LINES + 1));
        let found = functions(&Tree::one("a/src/b.rs", &code));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
        let inside = format!("impl A {{\n{}}}\n", function_of(FUNCTION_LINES + 1));
        assert_eq!(functions(&Tree::one("a/src/b.rs", &inside)).len(), 1);
        assert!(functions(&Tree::one("a/src/b.rs", &function_of(FUNCTION_LINES))).is_empty());
        let tested = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function_of(FUNCTION_LINES + 1));
        assert!(functions(&Tree::one("a/src/b.rs", &tested)).is_empty());
    }

    #[test]
    fn a_machine_that_reads_or_says_too_much_is_found() {
        let variants = |count: usize| (0..count).map(|i| format!("V{i},")).collect::<String>();
        let code = |inputs: usize, tables: usize| {
            format!(
                "pub enum PeerIn {{ {} }}\nimpl base::Machine for Peer {{\n type In<'b> = PeerIn;\n type View<'v> = ({});\n}}\n",
                variants(inputs),
                "&'v T,".repeat(tables)
            )
        };
        assert!(machines(&Tree::one("a/src/b.rs", &code(VARIANTS, VIEW_TABLES))).is_empty());
        assert_eq!(
            machines(&Tree::one("a/src/b.rs", &code(VARIANTS + 1, VIEW_TABLES)))[0].line,
            3
        );
        assert_eq!(
            machines(&Tree::one("a/src/b.rs", &code(VARIANTS, VIEW_TABLES + 1)))[0].line,
            4
        );
    }

    #[test]
    fn a_view_may_be_a_struct_of_tables_in_another_file() {
        let fields = (0..=VIEW_TABLES).map(|i| format!("t{i}: &'v T,")).collect::<String>();
        let tree = Tree::of(vec![
            (
                "a/src/view.rs".into(),
                format!("pub struct PeerView<'v> {{ {fields} }}"),
            ),
            (
                "a/src/peer.rs".into(),
                "impl Machine for Peer {\n type View<'v> = PeerView<'v>;\n}\n".into(),
            ),
        ]);
        assert_eq!(machines(&tree).len(), 1);
    }
}
