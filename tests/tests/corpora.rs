//! Replays the committed corpora of the fuzz targets that drive whole kernels, worlds and file transfers, without a fuzzer.
//!
//! Invariants: a target of `fuzz/` is replayed here or in `protocol_tables.rs`. Not here: the bodies, which live beside the
//! code they fuzz.

use std::path::Path;

/// What fuzzing found once stays found.
fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let inputs = std::fs::read_dir(&folder).expect("a committed folder");
    let mut paths: Vec<_> = inputs.map(|input| input.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() > 1, "{target} has no corpus");
    for path in paths {
        let bytes = std::fs::read(&path).expect("a file");
        if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
            eprintln!("the input is {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn the_corpus_of_two_kernels_holds() {
    replay("session", net_kernel::fuzz::session);
}

#[test]
fn the_corpus_of_disks_holds() {
    replay("store", net_kernel::fuzz::store);
}

#[test]
fn the_corpus_of_drawn_scenarios_holds() {
    replay("scenario", net_io_sim::fuzz::scenario);
}

#[test]
fn the_corpus_of_scenario_texts_holds() {
    replay("scenario_text", net_io_sim::fuzz::scenario_text);
}

#[test]
fn the_corpus_of_file_transfers_holds() {
    replay("transfer", net_transfer::fuzz::transfer);
}

#[test]
fn the_corpus_of_messages_of_the_file_transfer_holds() {
    replay("transfer_message", net_transfer::fuzz::message);
}
