//! Holds the whole tree to its rules. Each failure names the file, the line, the breach and the way out.

use net_tests::tidy::{Finding, Tree, ambient, hygiene, law, shape, size};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the root")
        .to_owned()
}

fn hold(rule: fn(&Tree) -> Vec<Finding>) {
    report(rule(&Tree::read(&root())));
}

fn report(mut findings: Vec<Finding>) {
    findings.sort();
    let text: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(
        findings.is_empty(),
        "{} finding(s)\n{}",
        findings.len(),
        text.join("\n")
    );
}

#[test]
fn files_are_within_their_size() {
    hold(size::files);
}

#[test]
fn functions_are_within_their_size() {
    hold(size::functions);
}

#[test]
fn machines_are_within_their_size() {
    hold(size::machines);
}

#[test]
fn packages_build_only_on_lower_layers() {
    hold(law::layers);
}

#[test]
fn the_kernel_builds_only_on_pure_crates() {
    hold(law::kernel_outside);
}

#[test]
fn versions_stand_in_the_workspace_manifest() {
    hold(law::versions);
}

#[test]
fn the_kernel_names_no_ambient_state() {
    hold(ambient::kernel);
}

#[test]
fn the_kernel_computes_with_integers() {
    hold(ambient::integers);
}

#[test]
fn every_select_is_biased() {
    hold(ambient::biased);
}

#[test]
fn every_file_opens_with_its_role() {
    hold(shape::headers);
}

#[test]
fn every_crate_maps_its_files() {
    hold(shape::maps);
}

#[test]
fn crate_roots_forbid_what_they_must() {
    hold(shape::roots);
}

#[test]
fn every_unsafe_block_is_argued_for() {
    hold(shape::safety);
}

#[test]
fn nothing_is_marked_unfinished() {
    hold(hygiene::markers);
}

#[test]
fn no_path_of_one_machine_is_named() {
    hold(hygiene::machine_paths);
}

#[test]
fn links_between_documents_lead_somewhere() {
    hold(hygiene::links);
}

#[test]
fn fuzz_targets_are_thin_and_have_corpora() {
    let tree = Tree::read(&root());
    let mut findings = hygiene::fuzz_targets(&tree);
    findings.append(&mut hygiene::fuzz_corpora(&tree, &corpora()));
    report(findings);
}

/// The folders of fuzz/corpus that hold at least one input.
fn corpora() -> BTreeSet<String> {
    let Ok(folders) = std::fs::read_dir(root().join("fuzz/corpus")) else {
        return BTreeSet::new();
    };
    let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    let filled = folders.filter(|path| std::fs::read_dir(path).is_ok_and(|mut inputs| inputs.next().is_some()));
    filled
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect()
}
