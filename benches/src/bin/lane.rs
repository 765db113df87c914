//! `lane`: what the kernel adds to its cipher, and how fast two kernels are when nothing lies between them.
//!
//! Invariants: contenders take turns within each round; figures are medians over rounds, of processor time. Not here: sockets (`loopback`),
//! instruction counts (`gate`).

use clap::Parser;
use net_benches::arithmetic::Operations;
use net_benches::kernel::lanes::LanePair;
use net_benches::kernel::null::Null;
use net_benches::kernel::pair::Pair;
use net_io_real::aead::Ring;
use net_kernel::api::{SessionConfig, StreamOptions};
use net_kernel::base::StreamId;
use net_kernel::base::rng::Secret;
use net_kernel::session::aead::Aead;
use net_kernel::wire::Suite;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// Measures sealing and opening through the lane against bare ring, and two kernels in memory.
#[derive(Parser)]
struct Arguments {
    /// Interleaved rounds; figures are medians over them
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only figures whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Plaintext bytes of the packets that are sealed and opened.
const PLAINTEXT: usize = 1_200;
/// The STREAM frame of a packet and the head of its one message.
const FRAMES: usize = 10;
/// Packets sealed before they are opened.
const BURST: usize = 16;

/// One figure: nanoseconds of one unit of work.
struct Figure {
    name: &'static str,
    /// Measured once per round.
    measure: Box<dyn FnMut() -> f64>,
    /// What the rate is of, where it is worth telling, and how many bytes one is.
    unit: Option<(&'static str, usize)>,
    samples: Vec<f64>,
}

fn main() {
    let arguments = Arguments::parse();
    let mut figures: Vec<Figure> = figures();
    if let Some(only) = &arguments.only {
        figures.retain(|figure| figure.name.contains(only.as_str()));
    }
    for round in 0..arguments.rounds {
        let count = figures.len();
        for at in 0..count {
            let figure = &mut figures[(at + round) % count];
            let sample = (figure.measure)();
            figure.samples.push(sample);
        }
    }
    print(&mut figures);
}

fn figures() -> Vec<Figure> {
    vec![
        figure("bare ring: seal and open 1,200 B", None, bare_ring()),
        figure("lane: seal and open 1,200 B (ring)", None, lane::<Ring>()),
        figure("lane: seal and open 1,200 B (no cipher)", None, lane::<Null>()),
        figure("header protection: two masks", None, masks()),
        figure(
            "64 B, 64 per call (ring)",
            Some(("message", 64)),
            stream::<Ring>(64, 64),
        ),
        figure(
            "64 B, one per call (ring)",
            Some(("message", 64)),
            stream::<Ring>(64, 1),
        ),
        figure(
            "64 B, 64 per call (no cipher)",
            Some(("message", 64)),
            stream::<Null>(64, 64),
        ),
        figure(
            "64 B, one per call (no cipher)",
            Some(("message", 64)),
            stream::<Null>(64, 1),
        ),
        figure("1 KiB (ring)", Some(("message", 1 << 10)), stream::<Ring>(1 << 10, 1)),
        figure(
            "64 KiB (ring)",
            Some(("message", 64 << 10)),
            stream::<Ring>(64 << 10, 1),
        ),
        figure(
            "64 KiB (no cipher)",
            Some(("message", 64 << 10)),
            stream::<Null>(64 << 10, 1),
        ),
        figure("bare handshake: 8 DH, 2 key generations", None, || {
            Operations::measure(200).of_one_handshake().as_nanos() as f64
        }),
        figure("handshake of two kernels", None, handshake),
    ]
}

fn figure(name: &'static str, unit: Option<(&'static str, usize)>, measure: impl FnMut() -> f64 + 'static) -> Figure {
    Figure {
        name,
        measure: Box::new(measure),
        unit,
        samples: Vec::new(),
    }
}

/// Nanoseconds of one of `count` repetitions.
fn timed(count: usize, mut act: impl FnMut()) -> f64 {
    let begun = processor_nanos();
    for _ in 0..count {
        act();
    }
    (processor_nanos() - begun) as f64 / count as f64
}

/// Processor time of this thread: nothing here waits, so what other processes take must not count.
fn processor_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn bare_ring() -> impl FnMut() -> f64 {
    let key = Ring::key(Suite::ChaChaPoly, &Secret([7; 32]));
    let mut text = vec![7_u8; PLAINTEXT];
    let aad = [9_u8; 64];
    let mut nonce = 0_u64;
    move || {
        timed(20_000, || {
            nonce += 1;
            let mut bytes = [0; 12];
            bytes[4..].copy_from_slice(&nonce.to_le_bytes());
            let tag = Ring::seal(&key, &bytes, &aad, &mut text);
            let opened = Ring::open(&key, &bytes, &aad, black_box(&mut text), &tag);
            assert!(opened.is_ok(), "what was sealed opens");
        })
    }
}

fn masks() -> impl FnMut() -> f64 {
    let key = Ring::header_key(&Secret([7; 32]));
    move || {
        timed(20_000, || {
            for side in [1, 2] {
                black_box(Ring::mask(&key, black_box(&[side; 16])));
            }
        })
    }
}

/// One packet pushed, filled, sealed, opened, read and delivered, with its share of acknowledgement and credit.
fn lane<A: Aead>() -> impl FnMut() -> f64 {
    let message = vec![7; PLAINTEXT - FRAMES];
    let mut pair = LanePair::<A>::new(&message);
    move || {
        timed(600, || {
            for _ in 0..BURST {
                pair.push(&message);
                pair.transmit(0);
            }
            assert_eq!(pair.receive::<BURST>(1), BURST, "one message, one packet");
            pair.exchange();
        }) / BURST as f64
    }
}

/// One message through two kernels, with its share of everything: turns, credit, acknowledgements.
fn stream<A: Aead>(size: usize, batch: usize) -> impl FnMut() -> f64 {
    let messages = vec![7; size * batch];
    let total = (16 << 20) / size.max(160) as u64;
    let mut running: Option<(Pair<A>, StreamId)> = None;
    move || {
        let (pair, stream) = running.get_or_insert_with(|| {
            let mut pair = Pair::connected(&SessionConfig::default());
            let stream = pair.open(0, StreamOptions::default());
            pair.stream_through(stream, &messages, batch, total);
            (pair, stream)
        });
        timed(1, || pair.stream_through(*stream, &messages, batch, total)) / total as f64
    }
}

/// A whole handshake of two kernels one after another, first message to the events on both sides.
fn handshake() -> f64 {
    let config = SessionConfig::default();
    let mut samples: Vec<f64> = (0..50)
        .map(|_| {
            let mut pair: Pair<Ring> = Pair::apart(&config);
            timed(1, || pair.connect())
        })
        .collect();
    median(&mut samples)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn print(figures: &mut [Figure]) {
    println!(
        "{:<42} {:>10} {:>10} {:>10}",
        "nanoseconds each", "median", "least", "most"
    );
    let mut medians = Vec::new();
    for figure in figures {
        let median = median(&mut figure.samples);
        medians.push((figure.name, median));
        let most = figure.samples.last().copied().unwrap_or(median);
        print!(
            "{:<42} {median:>10.0} {:>10.0} {most:>10.0}",
            figure.name, figure.samples[0]
        );
        match figure.unit {
            Some((unit, size)) => println!(
                "   {:.2} M {unit}s/s, {:.0} MB/s",
                1_000.0 / median,
                size as f64 * 1_000.0 / median
            ),
            None => println!(),
        }
    }
    let of = |name: &str| {
        medians
            .iter()
            .find(|(known, _)| known.starts_with(name))
            .map(|&(_, median)| median)
    };
    let pairs = [
        ("lane: seal and open 1,200 B (ring)", "bare ring"),
        ("handshake of two kernels", "bare handshake"),
    ];
    for (ours, theirs) in pairs {
        if let (Some(a), Some(b)) = (of(ours), of(theirs)) {
            println!("{ours} / {theirs}: {:.2}", a / b);
        }
    }
}
