//! The record of a run: it changes nothing, accounts for every datagram, and leads from a failure back to its cause.

use std::collections::BTreeMap;
use std::path::Path;

use net_io_sim::history::{Fact, History};
use net_io_sim::kernel::ClearKernel;
use net_io_sim::run::{Report, Spec, Verdict, run, run_recorded};

fn spec(name: &str) -> Spec {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{name}.toml"));
    let text = std::fs::read_to_string(&file).expect("the scenario is part of the tree");
    Spec::new(file.display().to_string(), text).expect("a correct scenario")
}

fn recorded(spec: &Spec, seed: u64, limit: usize, bytes: bool) -> (Report, History) {
    let (report, history) = run_recorded::<ClearKernel>(spec, seed, limit, bytes);
    (report, history.expect("the scenario can be read"))
}

const ROUGH: [&str; 6] = [
    "swarm",
    "crash-restart",
    "replay-reflect",
    "corrupted-race",
    "pause-suspend",
    "clone",
];

#[test]
fn recording_changes_neither_digest_nor_counters() {
    for name in ROUGH {
        let spec = spec(name);
        let plain = run::<ClearKernel>(&spec, 7);
        for (limit, bytes) in [(10, false), (usize::MAX, true)] {
            let (report, _) = recorded(&spec, 7, limit, bytes);
            assert_eq!(
                (&report.digest, &report.counters),
                (&plain.digest, &plain.counters),
                "{name}"
            );
        }
    }
}

#[test]
fn ids_are_dense_times_ascend_and_causes_are_older() {
    for name in ROUGH {
        let (_, history) = recorded(&spec(name), 3, usize::MAX, false);
        assert_eq!(history.forgotten(), 0);
        let mut before = 0;
        for (id, entry) in (0..).zip(history.iter()) {
            assert_eq!(entry.id, id, "{name}");
            assert!(entry.at >= before, "{name}: {entry:?}");
            assert!(entry.cause.is_none_or(|cause| cause < id), "{name}: {entry:?}");
            before = entry.at;
            let line = history.line(entry);
            assert!(line.ends_with(']') && !line.contains('\n'), "{name}: {line}");
        }
    }
}

#[test]
fn every_datagram_is_accounted_for() {
    for name in ROUGH {
        let (report, history) = recorded(&spec(name), 5, usize::MAX, false);
        let mut kinds = BTreeMap::<&str, u64>::new();
        let mut lost = BTreeMap::<String, u64>::new();
        for entry in history.iter() {
            *kinds.entry(entry.what.name()).or_default() += 1;
            if let Fact::Dropped { cause, .. } = entry.what {
                *lost.entry(format!("lost.{cause}")).or_default() += 1;
            }
            if matches!(entry.what, Fact::Delivered { .. } | Fact::Dropped { .. }) {
                let origin = history.get(entry.cause.expect("a datagram comes from somewhere"));
                assert!(
                    origin.is_some_and(|origin| origin.what.is_datagram()),
                    "{name}: {entry:?}"
                );
            }
        }
        let count = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
        let counter = |counter: &str| report.counters.get(counter).copied().unwrap_or(0);
        assert_eq!(count("sent"), counter("datagrams"), "{name}");
        assert_eq!(count("turn"), report.turns, "{name}");
        assert_eq!(count("duplicated"), counter("link.duplicated"), "{name}");
        assert_eq!(count("held"), counter("link.reordered"), "{name}");
        let counted = report.counters.iter().filter(|(key, _)| key.starts_with("lost."));
        assert!(counted.eq(lost.iter()), "{name}: {lost:?}");
    }
}

#[test]
fn what_the_kernels_refused_is_written_where_it_was_counted() {
    let (report, history) = recorded(&spec("replay-reflect"), 2, usize::MAX, false);
    let mut refused = BTreeMap::<String, u64>::new();
    for entry in history.iter() {
        if let Fact::Refused { reason, count } = entry.what {
            *refused.entry(format!("drop.{}", reason.name())).or_default() += count;
        }
    }
    let counted = report.counters.iter().filter(|(key, _)| key.starts_with("drop."));
    assert!(!refused.is_empty() && counted.eq(refused.iter()), "{refused:?}");
}

#[test]
fn a_message_leads_back_to_the_command_that_sent_it_through_both_machines() {
    let (_, history) = recorded(&spec("demo"), 1, usize::MAX, false);
    let message = history
        .iter()
        .rev()
        .find(|entry| matches!(entry.what, Fact::Message { .. }));
    let cone = history.cone(message.expect("messages arrive").id);
    let lines: Vec<String> = cone
        .iter()
        .filter_map(|id| history.get(*id))
        .map(|entry| history.line(entry))
        .collect();
    let nodes: std::collections::BTreeSet<_> = cone.iter().filter_map(|id| history.get(*id)?.node).collect();
    assert!(nodes.len() >= 2, "{lines:#?}");
    for what in ["sends datagram", "is handed datagram", "turn "] {
        assert!(lines.iter().any(|line| line.contains(what)), "{what}: {lines:#?}");
    }
}

#[test]
fn the_end_of_a_long_run_is_kept_with_its_violation() {
    let text = spec("demo").text.replace("moved = 1", "moved = 1000");
    let spec = Spec::new("demo.toml", text).expect("a correct scenario");
    let (report, history) = recorded(&spec, 1, 100, false);
    assert_eq!(report.verdict, Verdict::Fail);
    assert_eq!(history.len(), 100);
    assert!(history.forgotten() > 100);
    let violation = history.violation().expect("the violation is written");
    assert_eq!(Some(violation.id), history.iter().next_back().map(|entry| entry.id));
    assert!(history.line(violation).contains("VIOLATION of expect: moved is"));
    assert!(
        report
            .log
            .last()
            .is_some_and(|line| line.contains("VIOLATION of expect")),
        "{:#?}",
        report.log
    );
}
