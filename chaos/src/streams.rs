//! Streams of a node process: what is sent, at which pace, and what must come.
//!
//! Invariants: what is told as delivered was compared byte for byte with what was sent; a message is told once.
//! Not here: sessions (`node.rs`), what was delivered before (`apps.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use net_io_real::{RecvError, RecvHalf, Reliability, SendError, SendHalf};
use net_io_sim::check::{Checker as _, Expected, Observation, StreamOrder};
use net_io_sim::payload;
use net_io_sim::scenario::StreamWorkload;
use tokio::time::{Instant, sleep, sleep_until};

use crate::protocol::{Flow, Told, hex};

/// How often a reader gives up waiting and begins anew.
const BEAT: Duration = Duration::from_millis(1);

/// One direction of an instance.
#[derive(Clone, Debug)]
pub struct Half {
    /// The instance.
    pub instance: u16,
    /// 0 forward, 1 backward.
    pub way: usize,
    /// What is sent; nothing where this direction is silent.
    pub expected: Expected,
    /// How.
    pub stream: StreamWorkload,
    /// The scenario's time 0.
    pub began: Instant,
}

impl Half {
    /// A direction of an instance of `flow` after `base` delivered messages.
    #[must_use]
    pub fn new(flow: &Flow, instance: u16, way: usize, base: [u64; 2], began: Instant) -> Self {
        let expected = match flow.ways.get(way) {
            Some(direction) => Expected {
                base: base[way],
                count: direction.expected.count.saturating_sub(base[way]),
                ..direction.expected
            },
            None => Expected {
                count: 0,
                ..flow.ways[0].expected
            },
        };
        Self {
            instance,
            way,
            expected,
            stream: flow.stream.clone(),
            began,
        }
    }

    /// Message `number` of this instance.
    #[must_use]
    pub fn message(&self, number: u64) -> Vec<u8> {
        message(&self.expected, number)
    }
}

/// Message `number` of a direction.
#[must_use]
pub fn message(expected: &Expected, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(expected.len(number)).unwrap_or(0)];
    payload::fill(expected.payload, expected.base + number, 0, &mut bytes);
    bytes
}

/// Sends everything at its pace and waits until the peer has it.
///
/// # Errors
/// The stream's end before that.
pub async fn write(half: &Half, out: SendHalf) -> Result<(), SendError> {
    let begun = Instant::now();
    for number in 0..half.expected.count {
        if half.stream.rate_milli > 0 {
            let after = u128::from(number) * 1_000_000_000_000 / u128::from(half.stream.rate_milli);
            sleep_until(begun + Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX))).await;
        }
        out.send(&half.message(number)).await?;
    }
    out.finish().await
}

/// Reads everything at its pace, tells what comes, and ends when the peer has finished.
///
/// # Errors
/// The stream's end before that.
pub async fn read(half: &Half, mut from: RecvHalf, tell: &(dyn Fn(&Told) + Sync)) -> Result<(), RecvError> {
    let mut judge = Judge::new(half);
    // An application does other things while it waits: a receive that is given up must not lose a message.
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut bytes, mut since) = (0u64, Instant::now());
    loop {
        rest(half).await;
        let received = tokio::select! {
            biased;
            received = from.recv() => received?,
            _ = beat.tick() => continue,
        };
        let Some(message) = received else {
            judge.finished(tell);
            return Ok(());
        };
        judge.delivered(&message, tell);
        if half.stream.drain > 0 {
            bytes += message.len() as u64;
            let due = u128::from(bytes) * 1_000_000_000 / u128::from(half.stream.drain);
            sleep_until(since + Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))).await;
        } else {
            since = Instant::now();
        }
    }
}

/// Waits out the time in which the reader does not read.
async fn rest(half: &Half) {
    let Some((from, until)) = half.stream.stop_reading else {
        return;
    };
    let now = u64::try_from(half.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if (from..until).contains(&now) {
        sleep(Duration::from_nanos(until - now)).await;
    }
}

/// Compares what comes with what was sent.
struct Judge<'h> {
    half: &'h Half,
    checker: StreamOrder,
    next: u64,
    /// Messages not seen yet by their hash, where the stream keeps no order.
    unseen: BTreeMap<[u8; 32], Vec<u64>>,
}

impl<'h> Judge<'h> {
    fn new(half: &'h Half) -> Self {
        let mut checker = StreamOrder::default();
        let reading = Observation::Reading {
            half: 0,
            expected: half.expected,
        };
        // The first thing it is told of a direction cannot be wrong.
        let _ = checker.observe(&reading);
        let mut unseen: BTreeMap<[u8; 32], Vec<u64>> = BTreeMap::new();
        if half.expected.reliability != Reliability::Reliable {
            for number in (0..half.expected.count).rev() {
                let hash = *blake3::hash(&half.message(number)).as_bytes();
                unseen.entry(hash).or_default().push(number);
            }
        }
        Self {
            half,
            checker,
            next: 0,
            unseen,
        }
    }

    fn delivered(&mut self, message: &[u8], tell: &dyn Fn(&Told)) {
        let hash = *blake3::hash(message).as_bytes();
        let number = if self.half.expected.reliability == Reliability::Reliable {
            let number = self.next;
            self.next += 1;
            number
        } else if let Some(number) = self.unseen.get_mut(&hash).and_then(Vec::pop) {
            number
        } else {
            let what = format!(
                "a message of {} bytes came that was not sent, or came again",
                message.len()
            );
            return tell(&self.violation(what));
        };
        let seen = self.checker.observe(&Observation::Delivered {
            half: 0,
            number,
            offset: 0,
            end: true,
            bytes: message,
        });
        match seen {
            Ok(()) => tell(&Told::Delivered {
                instance: self.half.instance,
                way: self.half.way,
                number,
                hash: hex(&hash),
            }),
            Err(what) => tell(&self.violation(what)),
        }
    }

    fn finished(&mut self, tell: &dyn Fn(&Told)) {
        match self.checker.observe(&Observation::Finished { half: 0 }) {
            Ok(()) => tell(&Told::Finished {
                instance: self.half.instance,
                way: self.half.way,
            }),
            Err(what) => tell(&self.violation(what)),
        }
    }

    fn violation(&self, what: String) -> Told {
        Told::Violation {
            checker: self.checker.name().to_owned(),
            what: format!("instance {}, way {}: {what}", self.half.instance, self.half.way),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::flows;
    use net_io_sim::scenario::Scenario;
    use std::sync::Mutex;

    fn half(reliability: &str) -> Half {
        let text = format!(
            "schema = 1\nname = \"t\"\nduration = \"1s\"\n[topology]\nnodes = [ {{ id = \"a\" }}, {{ id = \"b\" }} ]\n\
             [[workload]]\nkind = \"stream\"\nfrom = \"a\"\nto = \"b\"\ncount = 5\nsize = [4, 90]\n\
             reliability = \"{reliability}\"\n"
        );
        let scenario = Scenario::check("t", &text).unwrap();
        Half::new(&flows(&scenario, 3)[0], 0, 0, [1, 0], Instant::now())
    }

    fn told(half: &Half, messages: &[Vec<u8>], finished: bool) -> Vec<Told> {
        let all = Mutex::new(Vec::new());
        let tell = |told: &Told| all.lock().unwrap().push(told.clone());
        let mut judge = Judge::new(half);
        messages.iter().for_each(|message| judge.delivered(message, &tell));
        if finished {
            judge.finished(&tell);
        }
        all.into_inner().unwrap()
    }

    fn violated(told: &[Told]) -> bool {
        told.iter().any(|told| matches!(told, Told::Violation { .. }))
    }

    #[tokio::test]
    async fn order_once_and_equality_are_judged() {
        let half = half("reliable");
        let sent: Vec<_> = (0..4).map(|number| half.message(number)).collect();
        let good = told(&half, &sent, true);
        assert_eq!(good.len(), 5);
        assert!(!violated(&good));
        assert!(violated(&told(&half, &sent[1..], false)), "one is missing");
        assert!(
            violated(&told(&half, &[sent[0].clone(), sent[0].clone()], false)),
            "twice"
        );
        assert!(violated(&told(&half, &sent[..3], true)), "the end came early");
        let mut bad = sent;
        bad[2][0] ^= 1;
        assert!(violated(&told(&half, &bad, false)), "changed");
    }

    #[tokio::test]
    async fn unordered_messages_are_known_by_what_they_are() {
        let half = half("unordered");
        let sent: Vec<_> = [3, 0, 2, 1].map(|number| half.message(number)).into();
        assert!(!violated(&told(&half, &sent, true)));
        let mut again = sent.clone();
        again.push(sent[1].clone());
        assert!(violated(&told(&half, &again, false)));
        assert!(violated(&told(&half, &[vec![1; 8]], false)));
    }
}
