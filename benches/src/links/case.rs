//! What is measured: links, the flows on them, and who sends.
//!
//! Invariants: within a case every line-up meets the same link and the same seeds; the reference of a case is its first line-up of quinn's.
//! Not here: how a run goes (`run.rs`), statistics (`figure.rs`).

use super::figure::{Sample, jain};
use super::run::{Flow, run};
use super::{kernel_end, quic_end};
use crate::contender::Failure;
use net_kernel::api::Algorithm;
use net_sim_model::{Distribution, Key, LinkSpec, Loss, PPB, Rate};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Travel time in one direction of every link here.
const DELAY: u64 = 10 * MS;
/// Flows that begin together begin within this time, drawn by seed: otherwise all would lose at the same instants.
const STAGGER: u64 = 100 * MS;

/// A sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Ours.
    Net(Algorithm),
    /// quinn-proto.
    Quinn(quic_end::Algorithm),
}

impl Who {
    fn name(self) -> String {
        let (who, algorithm) = match self {
            Self::Net(algorithm) => ("net", format!("{algorithm:?}")),
            Self::Quinn(algorithm) => ("quinn", format!("{algorithm:?}")),
        };
        format!("{who} {}", algorithm.to_lowercase())
    }
}

/// Flows that share the link.
#[derive(Clone, Debug)]
pub struct LineUp {
    /// As printed.
    pub name: String,
    /// Who sends, and when it begins, ns.
    pub flows: Vec<(Who, u64)>,
    /// Streams of each flow.
    pub streams: usize,
}

/// A link and everybody who is measured on it.
#[derive(Clone, Debug)]
pub struct Case {
    /// As printed.
    pub name: &'static str,
    /// The link in both directions.
    pub spec: LinkSpec,
    /// How many times as long a run takes as was asked for: several flows take longer to find their shares.
    pub stretch: u64,
    /// Who is measured.
    pub line_ups: Vec<LineUp>,
}

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    let solo = || {
        everybody()
            .into_iter()
            .map(|who| line_up(vec![(who, 0)], 1))
            .collect::<Vec<_>>()
    };
    vec![
        Case {
            name: "1 Gbit/s, 20 ms, 1 % lost",
            spec: link(1_000, 2, PPB / 100),
            stretch: 1,
            line_ups: solo(),
        },
        Case {
            name: "1 Gbit/s, 20 ms, 5 % lost",
            spec: link(1_000, 2, PPB / 20),
            stretch: 1,
            line_ups: solo(),
        },
        Case {
            name: "100 Mbit/s, 20 ms, queue of 2 BDP",
            spec: link(100, 2, 0),
            stretch: 1,
            line_ups: solo(),
        },
        Case {
            name: "100 Mbit/s, 20 ms, queue of 2 BDP, 1 % lost",
            spec: link(100, 2, PPB / 100),
            stretch: 1,
            line_ups: solo(),
        },
        Case {
            name: "10 Mbit/s, 20 ms, queue of 20 BDP",
            spec: link(10, 20, 0),
            stretch: 1,
            line_ups: solo(),
        },
        shared("two flows, 100 Mbit/s, 20 ms, queue of 2 BDP", 0),
        shared("the second flow 5 s later, same link", 5 * SECOND),
        Case {
            name: "two streams of one session, same link",
            spec: link(100, 2, 0),
            stretch: 1,
            line_ups: everybody().into_iter().map(|who| line_up(vec![(who, 0)], 2)).collect(),
        },
    ]
}

fn everybody() -> Vec<Who> {
    vec![
        Who::Quinn(quic_end::Algorithm::Cubic),
        Who::Net(Algorithm::Cubic),
        Who::Quinn(quic_end::Algorithm::NewReno),
        Who::Net(Algorithm::NewReno),
        Who::Net(Algorithm::Copa),
        Who::Quinn(quic_end::Algorithm::Bbr),
    ]
}

fn shared(name: &'static str, later: u64) -> Case {
    let (quinn, net) = (Who::Quinn(quic_end::Algorithm::Cubic), Who::Net(Algorithm::Cubic));
    let (reno, copa) = (Who::Net(Algorithm::NewReno), Who::Net(Algorithm::Copa));
    let mut pairs = vec![
        (quinn, quinn),
        (net, net),
        (net, quinn),
        (reno, reno),
        (reno, net),
        (copa, copa),
        (copa, net),
    ];
    if later > 0 {
        pairs.insert(3, (quinn, net));
    }
    Case {
        name,
        spec: link(100, 2, 0),
        stretch: 4,
        line_ups: pairs
            .into_iter()
            .map(|(a, b)| line_up(vec![(a, 0), (b, later)], 1))
            .collect(),
    }
}

fn line_up(flows: Vec<(Who, u64)>, streams: usize) -> LineUp {
    let names: Vec<_> = flows.iter().map(|(who, _)| who.name()).collect();
    LineUp {
        name: names.join(" + "),
        flows,
        streams,
    }
}

/// `mbit` Mbit/s both ways with a queue of `depth` bandwidth-delay products, `ppb` of the datagrams lost.
fn link(mbit: u64, depth: u64, ppb: u64) -> LinkSpec {
    let bytes_per_s = mbit * 125_000;
    let product = bytes_per_s * 2 * DELAY / SECOND;
    LinkSpec {
        delay: Distribution::Constant(DELAY),
        loss: if ppb == 0 {
            Loss::None
        } else {
            Loss::Independent { ppb }
        },
        rate: Some(Rate {
            bytes_per_s,
            queue: product * depth,
            mark: 0,
        }),
        ..LinkSpec::clean(DELAY)
    }
}

/// What runs share: quinn's configurations, which take a certificate.
#[derive(Default)]
pub struct Kit(BTreeMap<u8, quic_end::Configs>);

impl Kit {
    fn ends(&mut self, who: Who, seed: u64, streams: usize) -> Result<[Box<dyn super::end::End>; 2], Failure> {
        match who {
            Who::Net(algorithm) => Ok(kernel_end::pair(algorithm, seed, streams)),
            Who::Quinn(algorithm) => {
                let configs = match self.0.entry(algorithm as u8) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(quic_end::Configs::new(algorithm)?),
                };
                Ok(quic_end::pair(configs, seed, streams))
            }
        }
    }
}

/// One seed of one line-up, `seconds` long. `says` prints what the senders counted.
///
/// # Errors
/// Where quinn cannot be configured.
pub fn sample(
    case: &Case,
    line_up: &LineUp,
    seed: u64,
    seconds: u64,
    kit: &mut Kit,
    says: bool,
) -> Result<Sample, Failure> {
    let key = Key::new(seed).with_text("starts");
    let mut flows = Vec::new();
    for (index, &(who, starts)) in line_up.flows.iter().enumerate() {
        let stagger = if line_up.flows.len() > 1 {
            key.below(index as u64, STAGGER)
        } else {
            0
        };
        flows.push(Flow {
            ends: kit.ends(who, seed * 2 + index as u64, line_up.streams)?,
            starts: starts + stagger,
        });
    }
    let until = seconds * case.stretch * SECOND;
    let mut outcome = run(&mut flows, &case.spec, DELAY, seed, &[until / 2], until);
    if says {
        for flow in &flows {
            println!("    {} seed {seed}: {}", line_up.name, flow.ends[0].says());
        }
    }
    let total = |at: usize| -> Vec<u64> { outcome.delivered[at].concat() };
    let (half, end) = (total(0), total(1));
    let shares: Vec<f64> = end
        .iter()
        .enumerate()
        .map(|(index, bytes)| (bytes - half.get(index).copied().unwrap_or(0)) as f64)
        .collect();
    let mbit = end.iter().sum::<u64>() as f64 * 8.0 / (until as f64 / SECOND as f64) / 1e6;
    outcome.waits.sort_unstable();
    let waits = &outcome.waits;
    let mean = waits.iter().map(|wait| f64::from(*wait)).sum::<f64>() / waits.len().max(1) as f64;
    let late = waits.get(waits.len() * 99 / 100).copied().unwrap_or(0);
    let expected = line_up.flows.len() * line_up.streams;
    Ok(Sample {
        mbit,
        jain: (expected > 1).then(|| jain(&shares, expected)),
        first_share: shares.first().copied().unwrap_or(0.0) / shares.iter().sum::<f64>().max(1.0),
        wait_ms: mean / MS as f64,
        late_ms: f64::from(late) / MS as f64,
        lost: outcome.dropped as f64 / outcome.offered.max(1) as f64,
    })
}
