//! `relay`: what a relay's kernel does for a packet, beside the two tags that every hop needs.
//!
//! Invariants: contenders take turns within each round; figures are medians over rounds, of processor time, of turns alone: the
//! packets were made before. Not here: sockets, instruction counts (`gate`).

use std::hint::black_box;

use clap::Parser;
use net_benches::kernel::null::Null;
use net_benches::kernel::relay::{BATCH, FILLING_1200, Row};
use net_io_real::aead::Ring;
use net_kernel::base::rng::Secret;
use net_kernel::session::aead::Aead;
use net_kernel::wire::Suite;
use rustix::time::{ClockId, clock_gettime};

/// Measures turns of a relay that has packets of others to send on.
#[derive(Parser)]
struct Arguments {
    /// Interleaved rounds; figures are medians over them
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Turns of each size in a round
    #[arg(long, default_value_t = 50)]
    turns: usize,
}

/// One size of message, and its figures in nanoseconds a packet.
struct Contender {
    name: &'static str,
    ring: Row<Ring>,
    null: Row<Null>,
    /// The whole with ring, alone without a cipher, and the tags alone.
    samples: [Vec<f64>; 3],
    datagram: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let mut contenders = [("64 B", 64), ("a datagram of 1,200 B", FILLING_1200)].map(|(name, len)| Contender {
        name,
        ring: Row::new(len),
        null: Row::new(len),
        samples: Default::default(),
        datagram: 0,
    });
    for _ in 0..arguments.rounds {
        for contender in &mut contenders {
            let (whole, datagram) = turns(&mut contender.ring, arguments.turns);
            let (protocol, _) = turns(&mut contender.null, arguments.turns);
            contender.datagram = datagram;
            let tags = tags(datagram, arguments.turns * BATCH);
            for (samples, sample) in contender.samples.iter_mut().zip([whole, protocol, tags]) {
                samples.push(sample);
            }
        }
    }
    println!(
        "ns a packet, batches of {BATCH}, medians of {} rounds",
        arguments.rounds
    );
    println!(
        "{:<24} {:>9} {:>7} {:>12} {:>10}",
        "", "datagram", "whole", "no cipher", "two tags"
    );
    for contender in &mut contenders {
        let [whole, protocol, tags] = contender.samples.each_mut().map(|samples| {
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        });
        println!(
            "{:<24} {:>7} B {whole:>7.0} {protocol:>12.0} {tags:>10.0}",
            contender.name, contender.datagram
        );
    }
}

/// Nanoseconds that a relay's turns take for a packet, and the packet's length.
fn turns<A: Aead>(row: &mut Row<A>, count: usize) -> (f64, usize) {
    let (mut spent, mut datagram) = (0, 0);
    for _ in 0..count {
        row.load(BATCH);
        datagram = row.waiting()[0];
        let begun = now();
        let sent = row.relay();
        spent += now() - begun;
        assert_eq!(sent, BATCH, "all were sent on");
    }
    (spent as f64 / (count * BATCH) as f64, datagram)
}

/// Nanoseconds that opening and sealing the tags of a routed datagram of this length takes.
fn tags(len: usize, count: usize) -> f64 {
    let key = Ring::key(Suite::ChaChaPoly, &Secret([7; 32]));
    let covered = vec![7; len - 24];
    let begun = now();
    for number in 0..count {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&(number as u64).to_le_bytes());
        let tag = Ring::seal(&key, &nonce, &covered, &mut []);
        Ring::open(&key, &nonce, &covered, &mut [], black_box(&tag)).expect("it is the tag");
    }
    (now() - begun) as f64 / count as f64
}

/// Processor time of this thread, in nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
