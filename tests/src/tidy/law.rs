//! The dependency law, read from the manifests: who may build on whom, and on which crates from outside.
//!
//! Invariants: everything under kernel/ is an allow list, so a new dependency there is a decision and never an accident.
//! Not here: licences and duplicate versions (`deny.toml`).

use super::{Finding, SourceFile, Tree};

/// What each of our packages may name of ours. `base <- wire <- {session, mesh, trust} <- kernel <- {io-real, io-sim} <- cli`;
/// session and mesh may name trust's types; outside kernel/ the protocol is seen through `net-kernel` alone.
const OURS: &[(&str, &[&str])] = &[
    ("net-base", &[]),
    ("net-wire", &["net-base"]),
    ("net-trust", &["net-base", "net-wire"]),
    ("net-session", &["net-base", "net-wire", "net-trust"]),
    ("net-mesh", &["net-base", "net-wire", "net-trust"]),
    ("net-transfer", &["net-base"]),
    (
        "net-kernel",
        &[
            "net-base",
            "net-wire",
            "net-trust",
            "net-session",
            "net-mesh",
            "net-transfer",
        ],
    ),
    ("net-sim-model", &[]),
    ("net-io-real", &["net-kernel"]),
    ("net-io-sim", &["net-kernel", "net-sim-model"]),
    (
        "net-chaos",
        &["net-kernel", "net-io-real", "net-io-sim", "net-sim-model"],
    ),
    ("net-cli", &["net-kernel", "net-io-real", "net-io-sim", "net-sim-model"]),
];

/// Packages that look at everything and that nothing builds on.
const OBSERVERS: &[&str] = &["net-tests", "net-benches", "net-fuzz", "net-sim-shell"];

/// Crates from outside that kernel/ may build on: pure computation, no IO, no clock, no entropy.
const KERNEL_OUTSIDE: &[&str] = &[
    "arbitrary",
    "argon2",
    "blake2",
    "blake3",
    "bytes",
    "chacha20",
    "chacha20poly1305",
    "crc32c",
    "curve25519-dalek",
    "ed25519-dalek",
    "indexmap",
    "postcard",
    "rand_chacha",
    "rand_core",
    "slab",
    "snow",
    "subtle",
    "x25519-dalek",
    "xxhash-rust",
    "zerocopy",
    "zeroize",
];

/// The same for their tests.
const KERNEL_OUTSIDE_TESTS: &[&str] = &["proptest", "serde", "serde_json", "insta"];

const SECTIONS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// Edges between our packages follow the law.
#[must_use]
pub fn layers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, package, dependencies) in manifests(tree) {
        if OBSERVERS.contains(&package.as_str()) {
            continue;
        }
        let Some((_, allowed)) = OURS.iter().find(|(name, _)| *name == package) else {
            let what = format!("package `{package}` has no place in the dependency law");
            findings.push(file.finding(
                1,
                what,
                "give it a row in OURS of tests/src/tidy/law.rs and in docs/architecture.md",
            ));
            continue;
        };
        for dependency in dependencies {
            let ours = dependency.name.starts_with("net-");
            if ours && dependency.name != package && !allowed.contains(&dependency.name.as_str()) {
                let what = format!("`{package}` must not build on `{}`", dependency.name);
                findings.push(dependency.finding(
                    file,
                    what,
                    "move the shared type down a layer, or wire the two in kernel/",
                ));
            }
        }
    }
    findings
}

/// Nothing under kernel/ builds on what could do IO, read a clock or draw entropy.
#[must_use]
pub fn kernel_outside(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, package, dependencies) in manifests(tree) {
        if !file.path.starts_with("kernel/") {
            continue;
        }
        for dependency in dependencies {
            let name = dependency.name.as_str();
            let tests = dependency.section == "dev-dependencies" && KERNEL_OUTSIDE_TESTS.contains(&name);
            if !name.starts_with("net-") && !KERNEL_OUTSIDE.contains(&name) && !tests {
                let what = format!("`{package}` lies in kernel/ and must not build on `{name}`");
                findings.push(dependency.finding(
                    file,
                    what,
                    "do it in io-real behind an input, or argue for a row in KERNEL_OUTSIDE",
                ));
            }
        }
    }
    findings
}

/// Versions stand once, in the workspace manifest.
#[must_use]
pub fn versions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, package, dependencies) in manifests(tree) {
        // fuzz/ lies outside the workspace, because cargo-fuzz builds it with flags of its own.
        if package == "net-fuzz" {
            continue;
        }
        for dependency in dependencies.into_iter().filter(|dependency| !dependency.inherited) {
            let what = format!("`{}` does not inherit its version", dependency.name);
            findings.push(dependency.finding(
                file,
                what,
                "write the version in [workspace.dependencies] and `workspace = true` here",
            ));
        }
    }
    findings
}

struct Dependency {
    name: String,
    section: &'static str,
    inherited: bool,
}

impl Dependency {
    fn finding(&self, file: &SourceFile, what: String, remedy: &'static str) -> Finding {
        let names = |line: &str| line.split(['=', '.', ' ']).next() == Some(self.name.as_str());
        let line = file.text.lines().position(names).map_or(1, |index| index + 1);
        file.finding(line, what, remedy)
    }
}

/// Every package's manifest with its name and dependencies, those of `[target.*]` included.
fn manifests(tree: &Tree) -> Vec<(&SourceFile, String, Vec<Dependency>)> {
    let manifests = tree.files().filter(|file| file.path.ends_with("Cargo.toml"));
    let read = manifests.filter_map(|file| {
        let table: toml::Table = file.text.parse().expect("cargo has read this manifest before us");
        let name = table.get("package")?.get("name")?.as_str()?.to_owned();
        let mut dependencies = dependencies_of(&table);
        let targets = table
            .get("target")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flat_map(|targets| targets.values());
        for target in targets.filter_map(toml::Value::as_table) {
            dependencies.append(&mut dependencies_of(target));
        }
        Some((file, name, dependencies))
    });
    read.collect()
}

fn dependencies_of(table: &toml::Table) -> Vec<Dependency> {
    let mut dependencies = Vec::new();
    for &section in SECTIONS {
        let rows = table.get(section).and_then(toml::Value::as_table).into_iter().flatten();
        for (key, value) in rows {
            let by_path = value.get("path").is_some() && value.get("version").is_none();
            let inherited = by_path || value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
            dependencies.push(Dependency {
                name: name.to_owned(),
                section,
                inherited,
            });
        }
    }
    dependencies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, name: &str, rest: &str) -> Tree {
        Tree::one(path, &format!("[package]\nname = \"{name}\"\n{rest}"))
    }

    #[test]
    fn a_layer_must_not_reach_up_or_sideways() {
        let up = manifest(
            "kernel/wire/Cargo.toml",
            "net-wire",
            "[dependencies]\nnet-session = { workspace = true }\n",
        );
        assert_eq!(layers(&up)[0].line, 4);
        let sideways = "[dependencies]\nnet-session.workspace = true\n";
        assert_eq!(
            layers(&manifest("kernel/mesh/Cargo.toml", "net-mesh", sideways)).len(),
            1
        );
        let past_the_kernel = "[dev-dependencies]\nnet-wire.workspace = true\n";
        assert_eq!(
            layers(&manifest("io-real/Cargo.toml", "net-io-real", past_the_kernel)).len(),
            1
        );
        let down = "[dependencies]\nnet-base.workspace = true\n";
        assert!(layers(&manifest("kernel/wire/Cargo.toml", "net-wire", down)).is_empty());
    }

    #[test]
    fn an_unknown_package_needs_a_place_first() {
        assert_eq!(layers(&manifest("kernel/new/Cargo.toml", "net-new", "")).len(), 1);
    }

    #[test]
    fn the_kernel_must_not_build_on_a_runtime_a_socket_or_entropy() {
        for name in ["tokio", "quinn-udp", "getrandom", "socket2", "rand"] {
            let rest = format!("[dependencies]\n{name} = {{ workspace = true }}\n");
            assert_eq!(
                kernel_outside(&manifest("kernel/base/Cargo.toml", "net-base", &rest)).len(),
                1,
                "{name}"
            );
            let rest = format!("[target.'cfg(unix)'.dependencies]\n{name} = {{ workspace = true }}\n");
            assert_eq!(
                kernel_outside(&manifest("kernel/base/Cargo.toml", "net-base", &rest)).len(),
                1,
                "{name}"
            );
            let rest = format!("[dependencies]\ninnocent = {{ workspace = true, package = \"{name}\" }}\n");
            assert_eq!(
                kernel_outside(&manifest("kernel/base/Cargo.toml", "net-base", &rest)).len(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn test_crates_are_for_tests_only() {
        let rest = |section: &str| format!("[{section}]\nproptest = {{ workspace = true }}\n");
        assert!(
            kernel_outside(&manifest(
                "kernel/base/Cargo.toml",
                "net-base",
                &rest("dev-dependencies")
            ))
            .is_empty()
        );
        assert_eq!(
            kernel_outside(&manifest("kernel/base/Cargo.toml", "net-base", &rest("dependencies"))).len(),
            1
        );
    }

    #[test]
    fn a_version_outside_the_workspace_manifest_is_found() {
        let rest = "[dependencies]\nblake3 = \"1\"\n";
        assert_eq!(versions(&manifest("kernel/base/Cargo.toml", "net-base", rest)).len(), 1);
        let rest = "[dependencies]\nblake3 = { workspace = true }\n";
        assert!(versions(&manifest("kernel/base/Cargo.toml", "net-base", rest)).is_empty());
    }
}
