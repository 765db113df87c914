//! Flows over one bottleneck, from event to event.
//!
//! Invariants: the n-th datagram offered to a direction of the link meets the fate that seed and n decide, whoever sent it; events at one
//! instant are handled in the order in which they were made; a run ends at its time.
//! Not here: what is compared (`case.rs`).

use super::end::{Datagram, End};
use net_sim_model::{Direction, Key, Link, LinkSpec};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One sender and one receiver.
pub struct Flow {
    /// The sender, which dials, and the receiver.
    pub ends: [Box<dyn End>; 2],
    /// When the sender begins, ns.
    pub starts: u64,
}

/// What is in the air, ordered by arrival.
struct Airborne {
    at: u64,
    sequence: u64,
    flow: usize,
    to: usize,
    datagram: Datagram,
}

impl PartialEq for Airborne {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Airborne {}

impl PartialOrd for Airborne {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Airborne {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Airborne {
    const fn key(&self) -> (u64, u64) {
        (self.at, self.sequence)
    }
}

/// Payload bytes that each stream of each flow had delivered by a time.
pub type Delivered = Vec<Vec<u64>>;

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// At the marks asked for, and at the end.
    pub delivered: Vec<Delivered>,
    /// How long each datagram from senders to receivers waited at the bottleneck after everyone had begun, its own transmission
    /// included, ns.
    pub waits: Vec<u32>,
    /// Datagrams from senders to receivers that were offered to the link, and that it dropped.
    pub offered: u64,
    /// See `offered`.
    pub dropped: u64,
}

struct World<'f> {
    flows: &'f mut [Flow],
    /// From senders to receivers, and back.
    links: [Link; 2],
    /// Travel time without the bottleneck.
    delay: u64,
    offered: [u64; 2],
    air: BinaryHeap<Reverse<Airborne>>,
    sequence: u64,
    /// From here on waiting is counted.
    settled: u64,
    outcome: Outcome,
}

/// Runs `flows` for `until` ns over a link that is `spec` in both directions; `delay` is the travel time that `spec` has. What was
/// delivered is noted at each of `marks` (ascending) and at the end.
pub fn run(flows: &mut [Flow], spec: &LinkSpec, delay: u64, seed: u64, marks: &[u64], until: u64) -> Outcome {
    let key = Key::new(seed);
    let settled = flows.iter().map(|flow| flow.starts).max().unwrap_or(0);
    let mut world = World {
        flows,
        links: [Direction::Forward, Direction::Backward].map(|way| Link::new(spec.clone(), key.link(0, way))),
        delay,
        offered: [0; 2],
        air: BinaryHeap::new(),
        sequence: 0,
        settled,
        outcome: Outcome::default(),
    };
    let mut started = vec![false; world.flows.len()];
    let mut marks = marks.iter().copied().chain([until]).peekable();
    while let Some(now) = world.next(&started) {
        while let Some(mark) = marks.next_if(|mark| *mark <= now) {
            world.note();
            if mark == until {
                break;
            }
        }
        if now >= until {
            break;
        }
        world.step(now, &mut started);
    }
    // Where everything fell silent before its time.
    marks.for_each(|_| world.note());
    let counts = world.links[0].counts();
    world.outcome.offered = counts.offered;
    world.outcome.dropped = counts.dropped.iter().sum();
    world.outcome
}

impl World<'_> {
    /// When something happens next.
    fn next(&self, started: &[bool]) -> Option<u64> {
        let arrival = self.air.peek().map(|Reverse(first)| first.at);
        let flows = self.flows.iter().zip(started);
        let due = flows.filter_map(|(flow, &started)| {
            if !started {
                return Some(flow.starts);
            }
            flow.ends.iter().filter_map(|end| end.deadline()).min()
        });
        due.chain(arrival).min()
    }

    fn step(&mut self, now: u64, started: &mut [bool]) {
        for (flow, begun) in started.iter_mut().enumerate() {
            if !*begun && self.flows[flow].starts <= now {
                *begun = true;
                for side in [1, 0] {
                    self.flows[flow].ends[side].start(now);
                    self.collect(now, flow, side);
                }
            }
        }
        while let Some(Reverse(first)) = self.air.pop() {
            if first.at > now {
                self.air.push(Reverse(first));
                break;
            }
            self.flows[first.flow].ends[first.to].receive(now, first.datagram);
            self.collect(now, first.flow, first.to);
        }
        for flow in (0..started.len()).filter(|flow| started[*flow]) {
            for side in 0..2 {
                if self.flows[flow].ends[side].deadline().is_some_and(|at| at <= now) {
                    self.flows[flow].ends[side].wake(now);
                    self.collect(now, flow, side);
                }
            }
        }
    }

    /// What an end sent goes to the link.
    fn collect(&mut self, now: u64, flow: usize, side: usize) {
        while let Some(datagram) = self.flows[flow].ends[side].outbox().pop_front() {
            let fates = self.links[side].offer(now, self.offered[side], datagram.bytes.len());
            self.offered[side] += 1;
            let Ok(arrival) = fates.first else { continue };
            if side == 0 && now >= self.settled {
                let wait = (arrival.at - now).saturating_sub(self.delay);
                self.outcome.waits.push(u32::try_from(wait).unwrap_or(u32::MAX));
            }
            let ecn = if arrival.marked && datagram.ecn != 0 {
                3
            } else {
                datagram.ecn
            };
            self.sequence += 1;
            self.air.push(Reverse(Airborne {
                at: arrival.at,
                sequence: self.sequence,
                flow,
                to: 1 - side,
                datagram: Datagram { ecn, ..datagram },
            }));
        }
    }

    fn note(&mut self) {
        let delivered = self.flows.iter().map(|flow| flow.ends[1].delivered().to_vec());
        self.outcome.delivered.push(delivered.collect());
    }
}
