//! One direction of a link: what becomes of the n-th datagram it is offered.
//!
//! A datagram first passes the bottleneck (rate and queue), then travels (delay), and only then may be lost, cut off,
//! held back, doubled or damaged. Nothing that happens after the bottleneck changes when another datagram arrives, so
//! removing one fault leaves the fate of every other datagram as it was.
//! Invariants: without reordering a link delivers in the order it was offered; every decision is keyed by n; integers
//! only.
//! Not here: who is at the ends, what a datagram means (`net-io-sim`).

use crate::corrupt::{Corruption, Damage};
use crate::distribution::Distribution;
use crate::fate::{FateKind, Listed, Struck};
use crate::key::{Family, Key, scale};
use crate::loss::{Kinds, Loss, Lossy};

/// A bottleneck: bytes drain at a rate from a queue that drops its tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Bytes per second; not 0.
    pub bytes_per_s: u64,
    /// Bytes that may wait.
    pub queue: u64,
    /// Datagrams that find more than this many bytes waiting are marked as having met congestion, where they are
    /// capable of it (RFC 3168); 0 marks none.
    pub mark: u64,
}

/// What one direction of a link is like when no fault is active. Probabilities in parts per billion, times in ns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkSpec {
    /// Travel time.
    pub delay: Distribution,
    /// Loss.
    pub loss: Loss,
    /// Probability of being held back.
    pub reorder: u64,
    /// A datagram that is held back waits up to this much longer.
    pub hold: u64,
    /// Probability of arriving twice.
    pub duplicate: u64,
    /// Probability of damage.
    pub corrupt: u64,
    /// What damage.
    pub damage: Damage,
    /// The bottleneck, if any.
    pub rate: Option<Rate>,
    /// Longer datagrams vanish; 0 lets all pass.
    pub mtu: u32,
}

impl LinkSpec {
    /// A link that only takes `delay` ns.
    #[must_use]
    pub const fn clean(delay: u64) -> Self {
        Self {
            delay: Distribution::Constant(delay),
            loss: Loss::None,
            reorder: 0,
            hold: 0,
            duplicate: 0,
            corrupt: 0,
            damage: Damage::Bits,
            rate: None,
            mtu: 0,
        }
    }
}

/// What a fault does to a link while it is active.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing passes. With `flap` (ns up, ns down) the link comes and goes, beginning with down.
    Partition {
        /// Periods of a flapping link.
        flap: Option<(u64, u64)>,
    },
    /// Loss beside the link's own.
    Loss(Loss),
    /// Delay on top of the link's own.
    Delay(Distribution),
    /// Datagrams are held back up to `hold` ns.
    Reorder {
        /// Probability.
        ppb: u64,
        /// Longest hold.
        hold: u64,
    },
    /// Datagrams arrive twice.
    Duplicate {
        /// Probability.
        ppb: u64,
    },
    /// Datagrams are damaged.
    Corrupt {
        /// Probability.
        ppb: u64,
        /// How.
        damage: Damage,
    },
    /// A bottleneck in place of the link's own.
    Rate(Rate),
    /// A black hole for datagrams longer than this.
    Mtu(u32),
}

/// A fault of one link direction in a window of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkFault {
    /// The index under which its effects are counted.
    pub id: u32,
    /// When it begins, ns.
    pub from: u64,
    /// When it ends, ns, exclusive.
    pub until: u64,
    /// What it does.
    pub effect: Effect,
}

/// Why a link delivered nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Cause {
    /// The loss model.
    Loss = 0,
    /// The bottleneck's queue was full.
    Queue = 1,
    /// Longer than the path MTU.
    Mtu = 2,
    /// A partition.
    Partition = 3,
}

impl Cause {
    /// Every cause, by number.
    pub const ALL: [Self; 4] = [Self::Loss, Self::Queue, Self::Mtu, Self::Partition];

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Queue => "queue",
            Self::Mtu => "mtu",
            Self::Partition => "partition",
        }
    }
}

/// One copy's arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When, ns.
    pub at: u64,
    /// Its damage, if any.
    pub corrupt: Option<Corruption>,
    /// Whether the bottleneck marked it.
    pub marked: bool,
}

/// What becomes of one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fates {
    /// The datagram, or why it does not arrive.
    pub first: Result<Arrival, Cause>,
    /// A second, undamaged copy.
    pub second: Option<Arrival>,
    /// Whether it was held back behind later ones.
    pub reordered: bool,
}

/// What a link did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Datagrams offered.
    pub offered: u64,
    /// Datagrams that arrive, second copies aside.
    pub passed: u64,
    /// Datagrams that do not, by [`Cause`].
    pub dropped: [u64; 4],
    /// Second copies.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Damaged.
    pub corrupted: u64,
    /// Marked by a bottleneck.
    pub marked: u64,
}

impl Counts {
    /// Adds another link's counts.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.passed += other.passed;
        for (sum, more) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += more;
        }
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.marked += other.marked;
    }
}

/// The state of one direction of a link.
#[derive(Clone, Debug)]
pub struct Link {
    spec: LinkSpec,
    keys: Keys,
    lossy: Lossy,
    faults: Vec<Active>,
    lists: Vec<(Listed, Keys)>,
    struck: Option<Vec<Struck>>,
    busy_until: u64,
    last_arrival: u64,
    counts: Counts,
    by_kind: bool,
    carries_marks: bool,
    /// Faults that are over for good: id, datagrams.
    ended: Vec<(u32, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Keys {
    delay: Key,
    reorder: Key,
    duplicate: Key,
    corrupt: Key,
}

impl Keys {
    const fn new(key: Key) -> Self {
        Self {
            delay: key.family(Family::Delay),
            reorder: key.family(Family::Reorder),
            duplicate: key.family(Family::Duplicate),
            corrupt: key.family(Family::Corrupt),
        }
    }
}

#[derive(Clone, Debug)]
struct Active {
    fault: LinkFault,
    keys: Keys,
    lossy: Lossy,
    hits: u64,
}

/// A datagram as a link is offered it.
#[derive(Clone, Copy)]
struct Offered {
    now: u64,
    n: u64,
    len: usize,
    kind: Kinds,
}

/// What is decided about a datagram before it is counted.
struct Decision {
    fates: Fates,
    hold: u64,
    /// Who is deciding, and what was decided, where that is written down.
    decider: Option<u32>,
    written: Option<Vec<(Option<u32>, FateKind)>>,
}

impl Link {
    /// One direction of a link whose decisions stand under `key` (seed, link, direction).
    #[must_use]
    pub fn new(spec: LinkSpec, key: Key) -> Self {
        let lossy = Lossy::new(spec.loss, key);
        let by_kind = spec.loss.by_kind();
        let carries_marks = spec.rate.is_some_and(|rate| rate.mark != 0);
        Self {
            spec,
            carries_marks,
            by_kind,
            ended: Vec::new(),
            keys: Keys::new(key),
            lossy,
            faults: Vec::new(),
            lists: Vec::new(),
            struck: None,
            busy_until: 0,
            last_arrival: 0,
            counts: Counts::default(),
        }
    }

    /// Adds a fault. Its decisions stand under `key` (the link's, and the fault's name), not under its id, which may be
    /// another one in a smaller scenario.
    pub fn add(&mut self, fault: LinkFault, key: Key) {
        let key = of_fault(key);
        let model = if let Effect::Loss(model) = fault.effect {
            model
        } else {
            Loss::None
        };
        self.by_kind |= model.by_kind();
        self.carries_marks |= matches!(fault.effect, Effect::Rate(rate) if rate.mark != 0);
        self.faults.push(Active {
            fault,
            keys: Keys::new(key),
            lossy: Lossy::new(model, key),
            hits: 0,
        });
    }

    /// Lists datagrams with their fate. Amounts are drawn under `key`, that of the fault that decided them at first; `None`
    /// is the link itself.
    pub fn list(&mut self, listed: Listed, key: Option<Key>) {
        let keys = key.map_or(self.keys, |key| Keys::new(of_fault(key)));
        self.lists.push((listed, keys));
    }

    /// Writes down from now on which chances took effect.
    pub fn keep_fates(&mut self) {
        self.struck.get_or_insert_default();
    }

    /// The chances that took effect, by number of their datagram; empty where they are not written down.
    #[must_use]
    pub fn struck(&self) -> &[Struck] {
        self.struck.as_deref().unwrap_or_default()
    }

    /// Ends every fault and every impairment but the delay, for good.
    pub fn heal(&mut self) {
        self.lists.clear();
        let ended = self.faults.drain(..);
        self.ended.extend(ended.map(|active| (active.fault.id, active.hits)));
        let delay = self.spec.delay.clone();
        self.spec = LinkSpec {
            delay,
            ..LinkSpec::clean(0)
        };
        self.lossy = Lossy::new(Loss::None, Key::new(0));
        self.by_kind = false;
    }

    /// Moves the window of fault `id`, as when what triggers it has happened.
    pub fn set_window(&mut self, id: u32, from: u64, until: u64) {
        for active in self.faults.iter_mut().filter(|active| active.fault.id == id) {
            (active.fault.from, active.fault.until) = (from, until);
        }
    }

    /// From now on the link is like this; what is decided stands under the same keys, what is queued stays queued.
    pub fn set_spec(&mut self, spec: LinkSpec) {
        self.lossy.set_model(spec.loss);
        self.carries_marks = spec.rate.is_some_and(|rate| rate.mark != 0);
        self.by_kind = spec.loss.by_kind() || self.faults.iter().any(|active| active.lossy.model().by_kind());
        self.spec = spec;
    }

    /// Lets nothing pass from now on.
    pub fn cut(&mut self) {
        let effect = Effect::Partition { flap: None };
        self.add(
            LinkFault {
                id: u32::MAX,
                from: 0,
                until: u64::MAX,
                effect,
            },
            Key::new(0),
        );
    }

    /// Nothing that is offered from now on arrives before this, ns: what was queued goes first.
    #[must_use]
    pub const fn queued_until(&self) -> u64 {
        self.last_arrival
    }

    /// What this link did so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How often each fault had an effect: (fault id, datagrams).
    pub fn hits(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let live = self.faults.iter().map(|active| (active.fault.id, active.hits));
        live.chain(self.ended.iter().copied())
    }

    /// Whether the kind of a datagram matters to this link: then [`Self::offer_kind`] must be told it.
    #[inline]
    #[must_use]
    pub const fn by_kind(&self) -> bool {
        self.by_kind
    }

    /// Whether congestion marks pass this link; others wipe them.
    #[inline]
    #[must_use]
    pub const fn carries_marks(&self) -> bool {
        self.carries_marks
    }

    /// What becomes of the `n`-th datagram, offered at `now` ns with `len` bytes. `now` and `n` ascend.
    pub fn offer(&mut self, now: u64, n: u64, len: usize) -> Fates {
        self.offer_kind(now, n, len, Kinds::PROTECTED)
    }

    /// As [`Self::offer`], for a datagram of this kind.
    pub fn offer_kind(&mut self, now: u64, n: u64, len: usize, kind: Kinds) -> Fates {
        let offered = Offered { now, n, len, kind };
        let fates = match self.travel(now, n, len) {
            Ok(arrival) => self.decide(offered, arrival),
            Err(cause) => {
                // It counts among its kind all the same: a bottleneck must not shift whom a loss befalls.
                self.lossy.skip(kind);
                self.faults.iter_mut().for_each(|active| active.lossy.skip(kind));
                Fates {
                    first: Err(cause),
                    second: None,
                    reordered: false,
                }
            }
        };
        self.count(&fates);
        fates
    }

    /// The bottleneck and the way: when the datagram would arrive if nothing else happened to it.
    fn travel(&mut self, now: u64, n: u64, len: usize) -> Result<Arrival, Cause> {
        let mut rate = self.spec.rate;
        let mut extra = 0u64;
        for active in self.faults.iter_mut().filter(|active| active.on(now)) {
            match &active.fault.effect {
                Effect::Rate(slower) => {
                    rate = Some(*slower);
                    active.hits += 1;
                }
                Effect::Delay(more) => {
                    extra = extra.saturating_add(more.draw(n, active.keys.delay.at(n)));
                    active.hits += 1;
                }
                Effect::Partition { .. }
                | Effect::Loss(_)
                | Effect::Reorder { .. }
                | Effect::Duplicate { .. }
                | Effect::Corrupt { .. }
                | Effect::Mtu(_) => {}
            }
        }
        let (mut leaves, mut marked) = (now, false);
        if let Some(rate) = rate {
            (leaves, marked) = queue(&mut self.busy_until, now, rate, len)?;
        }
        let delay = self.spec.delay.draw(n, self.keys.delay.at(n));
        let arrival = leaves
            .saturating_add(delay)
            .saturating_add(extra)
            .max(self.last_arrival);
        self.last_arrival = arrival;
        Ok(Arrival {
            at: arrival,
            corrupt: None,
            marked,
        })
    }

    /// Everything that may happen to a datagram on its way, each by its own key.
    fn decide(&mut self, offered: Offered, arrival: Arrival) -> Fates {
        let spec = &self.spec;
        let Offered { n, len, kind, .. } = offered;
        let lost = self.lossy.loses(n, kind);
        let mut one = Decision {
            fates: Fates {
                first: Ok(arrival),
                second: None,
                reordered: false,
            },
            hold: 0,
            decider: None,
            written: self.struck.as_ref().map(|_| Vec::new()),
        };
        one.reorder(&self.keys, n, spec.reorder, spec.hold);
        one.duplicate(&self.keys, n, spec.duplicate, arrival);
        one.corrupt(&self.keys, n, spec.corrupt, spec.damage);
        if lost {
            one.lose();
        }
        if spec.mtu != 0 && len > spec.mtu as usize {
            one.fates.first = Err(Cause::Mtu);
        }
        for active in &mut self.faults {
            active.apply(offered, arrival, &mut one);
        }
        // What is listed is no chance.
        let written = one.written.take();
        for (listed, keys) in self.lists.iter().filter(|(listed, _)| listed.holds(n)) {
            one.strike(listed, keys, n, arrival);
        }
        one.written = written;
        if let Ok(first) = &mut one.fates.first {
            first.at = first.at.saturating_add(one.hold);
            one.fates.reordered = one.hold > 0;
        } else {
            one.fates.second = None;
            one.fates.reordered = false;
        }
        self.write_down(n, &mut one);
        one.fates
    }

    /// Of what was decided about a datagram only what shows is written down: what is lost is neither held nor damaged.
    fn write_down(&mut self, n: u64, one: &mut Decision) {
        let (Some(struck), Some(written)) = (&mut self.struck, one.written.take()) else {
            return;
        };
        let lost = one.fates.first == Err(Cause::Loss);
        for (fault, kind) in written {
            let shows = match kind {
                FateKind::Lost => lost,
                FateKind::Held | FateKind::Doubled | FateKind::Damaged => one.fates.first.is_ok(),
            };
            if shows {
                struck.push(Struck { fault, kind, n });
            }
        }
    }

    fn count(&mut self, fates: &Fates) {
        let counts = &mut self.counts;
        counts.offered += 1;
        match fates.first {
            Ok(arrival) => {
                counts.passed += 1;
                counts.corrupted += u64::from(arrival.corrupt.is_some());
                counts.marked += u64::from(arrival.marked);
            }
            Err(cause) => counts.dropped[cause as usize] += 1,
        }
        counts.duplicated += u64::from(fates.second.is_some());
        counts.reordered += u64::from(fates.reordered);
    }
}

impl Active {
    const fn on(&self, now: u64) -> bool {
        now >= self.fault.from && now < self.fault.until
    }

    fn apply(&mut self, offered: Offered, arrival: Arrival, one: &mut Decision) {
        let Offered { now, n, len, kind } = offered;
        // The burst channel advances with every datagram, so that its window does not shift its bursts.
        let lost = self.lossy.loses(n, kind);
        if !self.on(now) {
            return;
        }
        let before = (one.fates, one.hold);
        one.decider = Some(self.fault.id);
        match &self.fault.effect {
            Effect::Partition { flap } => {
                let down = flap.is_none_or(|(up, down)| (now - self.fault.from) % (up + down).max(1) < down);
                if down {
                    one.fates.first = Err(Cause::Partition);
                }
            }
            Effect::Loss(_) => {
                if lost {
                    one.lose();
                }
            }
            Effect::Mtu(mtu) => {
                if len > *mtu as usize {
                    one.fates.first = Err(Cause::Mtu);
                }
            }
            Effect::Reorder { ppb, hold } => one.reorder(&self.keys, n, *ppb, *hold),
            Effect::Duplicate { ppb } => one.duplicate(&self.keys, n, *ppb, arrival),
            Effect::Corrupt { ppb, damage } => one.corrupt(&self.keys, n, *ppb, *damage),
            Effect::Delay(_) | Effect::Rate(_) => {}
        }
        self.hits += u64::from(before != (one.fates, one.hold));
    }
}

impl Decision {
    #[inline]
    fn reorder(&mut self, keys: &Keys, n: u64, ppb: u64, hold: u64) {
        if keys.reorder.hits(n, ppb) {
            self.hold_back(keys, n, hold);
        }
    }

    #[inline]
    fn duplicate(&mut self, keys: &Keys, n: u64, ppb: u64, arrival: Arrival) {
        if keys.duplicate.hits(n, ppb) {
            self.double(keys, n, arrival);
        }
    }

    #[inline]
    fn corrupt(&mut self, keys: &Keys, n: u64, ppb: u64, damage: Damage) {
        if keys.corrupt.hits(n, ppb) {
            self.spoil(keys, n, damage);
        }
    }

    fn lose(&mut self) {
        self.fates.first = Err(Cause::Loss);
        self.write(FateKind::Lost);
    }

    fn hold_back(&mut self, keys: &Keys, n: u64, hold: u64) {
        // A second decision under the same key must not be the first one's word.
        self.hold = self.hold.max(1 + scale(keys.reorder.with(1).at(n), hold));
        self.write(FateKind::Held);
    }

    fn double(&mut self, keys: &Keys, n: u64, arrival: Arrival) {
        let behind = scale(keys.duplicate.with(1).at(n), DUPLICATE_SPREAD);
        self.fates.second = Some(Arrival {
            at: arrival.at.saturating_add(behind),
            corrupt: None,
            marked: arrival.marked,
        });
        self.write(FateKind::Doubled);
    }

    fn spoil(&mut self, keys: &Keys, n: u64, damage: Damage) {
        if let Ok(first) = &mut self.fates.first {
            first.corrupt = Some(Corruption {
                damage,
                word: keys.corrupt.with(1).at(n),
            });
            self.write(FateKind::Damaged);
        }
    }

    /// What a list says of this datagram.
    fn strike(&mut self, listed: &Listed, keys: &Keys, n: u64, arrival: Arrival) {
        match listed.kind {
            // Why else it does not arrive counts first: a partition, its size.
            FateKind::Lost if self.fates.first.is_ok() => self.lose(),
            FateKind::Lost => {}
            FateKind::Held => self.hold_back(keys, n, listed.hold),
            FateKind::Doubled => self.double(keys, n, arrival),
            FateKind::Damaged => self.spoil(keys, n, listed.damage),
        }
    }

    fn write(&mut self, kind: FateKind) {
        if let Some(written) = &mut self.written {
            written.push((self.decider, kind));
        }
    }
}

/// The key of a fault's own decisions under the key that names it.
const fn of_fault(key: Key) -> Key {
    key.with(1 << 32)
}

/// A second copy follows the first within this many ns.
const DUPLICATE_SPREAD: u64 = 2_000_000;

/// Passes `len` bytes through the bottleneck; answers when the last of them leaves it, and whether they are marked.
fn queue(busy_until: &mut u64, now: u64, rate: Rate, len: usize) -> Result<(u64, bool), Cause> {
    let wait = busy_until.saturating_sub(now);
    let waiting = u128::from(wait) * u128::from(rate.bytes_per_s) / 1_000_000_000;
    if waiting + len as u128 > u128::from(rate.queue).max(len as u128) {
        return Err(Cause::Queue);
    }
    let takes = (len as u128 * 1_000_000_000).div_ceil(u128::from(rate.bytes_per_s.max(1)));
    *busy_until = now
        .max(*busy_until)
        .saturating_add(u64::try_from(takes).unwrap_or(u64::MAX));
    Ok((*busy_until, rate.mark != 0 && waiting > u128::from(rate.mark)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Direction;

    const MS: u64 = 1_000_000;

    fn key() -> Key {
        Key::new(11).link(4, Direction::Forward)
    }

    fn rough() -> LinkSpec {
        LinkSpec {
            delay: Distribution::Normal {
                mean: 20 * MS,
                deviation: 4 * MS,
                min: MS,
            },
            loss: Loss::GilbertElliott {
                to_bad: 20_000_000,
                to_good: 300_000_000,
                good: 1_000_000,
                bad: 500_000_000,
            },
            reorder: 50_000_000,
            hold: 10 * MS,
            duplicate: 30_000_000,
            corrupt: 20_000_000,
            damage: Damage::Any,
            rate: Some(Rate {
                bytes_per_s: 2_000_000,
                queue: 60_000,
                mark: 0,
            }),
            mtu: 1_400,
        }
    }

    fn faults() -> Vec<LinkFault> {
        let fault = |id, effect| LinkFault {
            id,
            from: 100 * MS,
            until: 600 * MS,
            effect,
        };
        vec![
            fault(
                1,
                Effect::Partition {
                    flap: Some((40 * MS, 10 * MS)),
                },
            ),
            fault(2, Effect::Loss(Loss::Independent { ppb: 100_000_000 })),
            fault(
                3,
                Effect::Reorder {
                    ppb: 100_000_000,
                    hold: 5 * MS,
                },
            ),
            fault(4, Effect::Duplicate { ppb: 100_000_000 }),
            fault(
                5,
                Effect::Corrupt {
                    ppb: 100_000_000,
                    damage: Damage::Bits,
                },
            ),
            fault(6, Effect::Mtu(1_200)),
        ]
    }

    fn run(spec: &LinkSpec, faults: &[LinkFault]) -> (Vec<Fates>, Counts) {
        let mut link = Link::new(spec.clone(), key());
        for fault in faults {
            link.add(fault.clone(), key());
        }
        let lens = [64, 300, 1_250, 1_452];
        let fates = (0..4_000)
            .map(|n| link.offer(n * 200_000, n, lens[(n % 4) as usize]))
            .collect();
        (fates, *link.counts())
    }

    /// What a datagram went through apart from one family's doing.
    fn differing(a: &[Fates], b: &[Fates], same: impl Fn(&Fates, &Fates) -> bool) -> usize {
        a.iter().zip(b).filter(|(a, b)| !same(a, b)).count()
    }

    #[test]
    fn removing_one_fault_leaves_the_fate_of_every_other_datagram_unchanged() {
        let (all, _) = run(&rough(), &faults());
        for removed in 0..faults().len() {
            let mut rest = faults();
            let gone = rest.remove(removed);
            let (without, _) = run(&rough(), &rest);
            let touched = differing(&all, &without, PartialEq::eq);
            assert!(touched > 0, "{gone:?} had no effect");
            let mut link = Link::new(rough(), key());
            faults().into_iter().for_each(|fault| link.add(fault, key()));
            let lens = [64, 300, 1_250, 1_452];
            for n in 0..4_000 {
                link.offer(n * 200_000, n, lens[(n % 4) as usize]);
            }
            let hits = link.hits().find(|(id, _)| *id == gone.id).map_or(0, |(_, hits)| hits);
            assert!(
                touched as u64 <= hits,
                "{gone:?} touched {touched} datagrams but was counted for {hits}"
            );
        }
    }

    #[test]
    fn removing_one_of_a_links_own_impairments_leaves_the_others_as_they_were() {
        let (all, _) = run(&rough(), &[]);
        let (calm, _) = run(
            &LinkSpec {
                loss: Loss::None,
                ..rough()
            },
            &[],
        );
        let same = |a: &Fates, b: &Fates| a == b || a.first == Err(Cause::Loss);
        assert_eq!(
            differing(&all, &calm, same),
            0,
            "without loss only what was lost differs"
        );
        let (single, _) = run(
            &LinkSpec {
                duplicate: 0,
                ..rough()
            },
            &[],
        );
        let same = |a: &Fates, b: &Fates| (a.first, a.reordered) == (b.first, b.reordered) && b.second.is_none();
        assert_eq!(
            differing(&all, &single, same),
            0,
            "without duplication only second copies differ"
        );
        let (sound, _) = run(&LinkSpec { corrupt: 0, ..rough() }, &[]);
        let same = |a: &Fates, b: &Fates| {
            a.first.map(|first| first.at) == b.first.map(|first| first.at) && a.second == b.second
        };
        assert_eq!(differing(&all, &sound, same), 0, "without damage only damage differs");
    }

    #[test]
    fn a_link_without_reordering_keeps_order() {
        let (fates, _) = run(&LinkSpec { reorder: 0, ..rough() }, &[]);
        let arrivals: Vec<u64> = fates.iter().filter_map(|fates| Some(fates.first.ok()?.at)).collect();
        assert!(arrivals.len() > 1_000 && arrivals.is_sorted());
        let (fates, counts) = run(&rough(), &[]);
        let arrivals: Vec<u64> = fates.iter().filter_map(|fates| Some(fates.first.ok()?.at)).collect();
        assert!(counts.reordered > 0 && !arrivals.is_sorted());
    }

    #[test]
    fn every_offered_datagram_is_counted_once() {
        let (_, counts) = run(&rough(), &faults());
        assert_eq!(counts.offered, counts.passed + counts.dropped.iter().sum::<u64>());
        assert!(
            counts.dropped.iter().all(|&dropped| dropped > 0),
            "every cause occurred: {counts:?}"
        );
    }

    #[test]
    fn a_bottleneck_paces_and_drops_its_tail() {
        let spec = LinkSpec {
            rate: Some(Rate {
                bytes_per_s: 1_000_000,
                queue: 3_000,
                mark: 0,
            }),
            ..LinkSpec::clean(0)
        };
        let mut link = Link::new(spec, key());
        let fates: Vec<_> = (0..5).map(|n| link.offer(0, n, 1_000).first).collect();
        let at = |ms| {
            Ok(Arrival {
                at: ms * MS,
                corrupt: None,
                marked: false,
            })
        };
        assert_eq!(fates, [at(1), at(2), at(3), Err(Cause::Queue), Err(Cause::Queue)]);
        assert_eq!(link.offer(3 * MS, 5, 1_000).first, at(4), "it drains");
    }

    #[test]
    fn a_bottleneck_marks_what_finds_a_long_queue() {
        let spec = LinkSpec {
            rate: Some(Rate {
                bytes_per_s: 1_000_000,
                queue: 10_000,
                mark: 2_500,
            }),
            ..LinkSpec::clean(0)
        };
        let mut link = Link::new(spec, key());
        let marked: Vec<bool> = (0..5)
            .map(|n| link.offer(0, n, 1_000).first.is_ok_and(|arrival| arrival.marked))
            .collect();
        assert_eq!(marked, [false, false, false, true, true], "from 3,000 waiting bytes on");
        assert_eq!(link.counts().marked, 2);
    }

    #[test]
    fn a_fault_acts_in_the_window_it_is_moved_to_and_its_hits_outlive_healing() {
        let mut link = Link::new(LinkSpec::clean(0), key());
        let effect = Effect::Partition { flap: None };
        let (from, until) = (u64::MAX, u64::MAX);
        link.add(
            LinkFault {
                id: 7,
                from,
                until,
                effect,
            },
            key(),
        );
        assert!(link.offer(0, 0, 64).first.is_ok());
        link.set_window(7, 2, 4);
        let passed: Vec<bool> = (1..5).map(|n| link.offer(n, n, 64).first.is_ok()).collect();
        assert_eq!(passed, [true, false, false, true]);
        link.heal();
        assert_eq!(link.hits().collect::<Vec<_>>(), [(7, 2)]);
    }

    #[test]
    fn a_healed_link_passes_everything_and_a_cut_one_nothing() {
        let mut link = Link::new(rough(), key());
        faults().into_iter().for_each(|fault| link.add(fault, key()));
        link.heal();
        assert!((0..1_000).all(|n| link.offer(n * MS, n, 1_452).first.is_ok()));
        link.cut();
        assert_eq!(link.offer(2_000 * MS, 1_000, 64).first, Err(Cause::Partition));
    }

    #[test]
    fn a_flapping_partition_comes_and_goes() {
        let mut link = Link::new(LinkSpec::clean(0), key());
        let effect = Effect::Partition {
            flap: Some((2 * MS, MS)),
        };
        link.add(
            LinkFault {
                id: 1,
                from: 0,
                until: u64::MAX,
                effect,
            },
            key(),
        );
        let passed: Vec<bool> = (0..6).map(|n| link.offer(n * MS, n, 64).first.is_ok()).collect();
        assert_eq!(passed, [false, true, true, false, true, true]);
    }
}
