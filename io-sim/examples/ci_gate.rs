//! Scenario files as a gate: a `#[test]` that runs a file's seeds with a checker of one's own beside the standard ones.
//!
//!     cargo test -p net-io-sim --example ci_gate
//!     cargo run -p net-io-sim --example ci_gate -- scenarios/swarm.toml 200
//!
//! In a crate of one's own the test stands in `tests/` and names one's own scenario file.

use net_io_sim::check::{Checker, Observation, wants};
use net_io_sim::kernel::ClearKernel;
use net_io_sim::suite::Suite;
use net_kernel::wire::{Datagram, HandshakeKind, peek};

/// Nobody begins more than so many handshakes in a run: reconnecting must not become a flood.
struct FewHandshakes {
    begun: u64,
    most: u64,
}

impl Checker for FewHandshakes {
    fn name(&self) -> &'static str {
        "few-handshakes"
    }

    fn wants(&self) -> u8 {
        wants::SENT
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Sent { node, bytes, .. } = observation else {
            return Ok(());
        };
        if let Ok(Datagram::Handshake {
            kind: HandshakeKind::Initiation,
            ..
        }) = peek(bytes)
        {
            self.begun += 1;
            if self.begun > self.most {
                return Err(format!("{} handshakes were begun, the last by node {node}", self.begun));
            }
        }
        Ok(())
    }
}

fn gate(path: &str, seeds: u64, most: u64) -> Result<net_io_sim::suite::Summary, String> {
    let suite = Suite::load(path)?.seeds(1..=seeds).artifacts("netsim-failures");
    Ok(suite
        .checker(move || FewHandshakes { begun: 0, most })
        .run::<ClearKernel>())
}

fn main() -> Result<(), String> {
    let mut words = std::env::args().skip(1);
    let path = words
        .next()
        .unwrap_or_else(|| "scenarios/partition-heal.toml".to_owned());
    let seeds = words.next().and_then(|text| text.parse().ok()).unwrap_or(20);
    let summary = gate(&path, seeds, 2_000)?;
    println!("{summary}");
    match summary.failures().count() {
        0 => Ok(()),
        failed => Err(format!("{failed} runs failed")),
    }
}

#[cfg(test)]
const PARTITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/partition-heal.toml");

#[test]
fn a_partition_heals_without_a_flood_of_handshakes() {
    let summary = gate(PARTITION, 10, 2_000).expect("the file is there");
    summary.assert_passed();
    assert!(summary.sum("link.partition") > 0, "the partition cut something");
}

#[test]
fn the_checker_can_fire() {
    let suite = Suite::load(PARTITION).expect("the file is there").seeds(1..=1);
    let summary = suite
        .checker(|| FewHandshakes { begun: 0, most: 0 })
        .run::<ClearKernel>();
    let found = summary.failures().next().expect("a session begins with a handshake");
    assert_eq!(found.checker.as_deref(), Some("few-handshakes"));
}
