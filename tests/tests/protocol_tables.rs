//! Keeps the tables of docs/protocol.md, the vectors of tests/vectors/ and the seeds of fuzz/corpus/ equal to the code.
//!
//! All are rewritten by `NET_REGENERATE=1 cargo test -p net-tests --test protocol_tables`, and only by that.

use net_wire::fuzz;
use std::path::{Path, PathBuf};

#[path = "golden/tables.rs"]
mod tables;
#[path = "golden/vectors.rs"]
mod vectors;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(1)
        .expect("tests/ lies in the root")
        .to_owned()
}

fn regenerating() -> bool {
    std::env::var_os("NET_REGENERATE").is_some()
}

/// Holds a file to what the code says, or rewrites it.
fn hold(path: &str, expected: impl Fn(&str) -> String) {
    let full = root().join(path);
    let current = std::fs::read_to_string(&full).unwrap_or_default();
    let expected = expected(&current);
    if regenerating() {
        std::fs::write(&full, expected).expect("the tree is writable when regenerating");
        return;
    }
    let at = current
        .lines()
        .zip(expected.lines())
        .take_while(|(is, should)| is == should)
        .count()
        + 1;
    assert!(
        current == expected,
        "{path} line {at} is not what the code says; if the code is right, run \
         NET_REGENERATE=1 cargo test -p net-tests --test protocol_tables\n  is:     {:?}\n  should: {:?}",
        current.lines().nth(at - 1),
        expected.lines().nth(at - 1),
    );
}

#[test]
fn the_protocol_document_shows_the_tables_of_the_code() {
    hold("docs/protocol.md", |document| tables::insert(document, &tables::all()));
}

#[test]
fn the_vectors_are_what_the_code_decides() {
    for (name, about, vectors) in vectors::all() {
        hold(&format!("tests/vectors/{name}.txt"), |_| {
            vectors::render(about, &vectors)
        });
    }
}

/// Reads the committed files as another implementation would, from bytes to verdict.
#[test]
fn the_committed_bytes_lead_to_the_committed_verdicts() {
    if regenerating() {
        // The files are being written by another test at this moment.
        return;
    }
    let mut count = 0;
    for (name, ..) in vectors::all() {
        let text = std::fs::read_to_string(root().join(format!("tests/vectors/{name}.txt"))).expect("a committed file");
        for (input, bytes, verdict) in vectors::parse(&text) {
            assert_eq!(vectors::judge(name, &bytes), verdict, "{name}: {input}");
            count += 1;
        }
    }
    assert!(count > 150, "only {count} vectors were found");
}

#[test]
fn every_codec_has_accepted_and_refused_vectors() {
    for (name, _, vectors) in vectors::all() {
        let refused = vectors
            .iter()
            .filter(|vector| vectors::judge(name, &vector.bytes).starts_with("refused"))
            .count();
        assert!(refused > 0 || name == "mask", "{name} has no rejects");
        assert!(refused < vectors.len(), "{name} has no accepted input");
    }
}

type Body = fn(&[u8]);

/// The fuzz targets, with the vector files that seed their corpora.
const TARGETS: [(&str, Body, &[&str]); 9] = [
    ("header", fuzz::header, &["header", "mask", "datagram"]),
    ("frames", fuzz::frames, &["frames"]),
    ("ack", fuzz::ack, &["ack"]),
    ("handshake", fuzz::handshake, &["handshake", "payload"]),
    ("ticket", fuzz::ticket, &["ticket"]),
    ("routing", fuzz::routing, &["routing"]),
    ("mesh", fuzz::mesh, &["mesh"]),
    ("beacon", fuzz::beacon, &["beacon"]),
    ("varint", fuzz::varint, &["varint"]),
];

/// What fuzzing found once stays found, without a fuzzer.
#[test]
fn every_committed_fuzz_input_holds() {
    for (target, body, sources) in TARGETS {
        let folder = root().join("fuzz/corpus").join(target);
        if regenerating() {
            std::fs::create_dir_all(&folder).expect("the tree is writable when regenerating");
            for (name, bytes) in vectors::seeds(sources) {
                std::fs::write(folder.join(name), bytes).expect("the tree is writable when regenerating");
            }
        }
        let inputs = std::fs::read_dir(&folder).expect("a committed folder");
        let count = inputs
            .map(|input| body(&std::fs::read(input.expect("an entry").path()).expect("a file")))
            .count();
        assert!(count > 1, "{target} has no corpus");
    }
}
