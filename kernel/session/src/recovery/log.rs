//! The packets sent, in order of their numbers, until they are settled.
//!
//! Invariants: the front entry is outstanding; a settled run is skipped in amortised logarithmic time, so
//! repeated acks of the same ranges cost nothing; gaps of any size take no memory.
//! Not here: when a packet counts as lost (`mod.rs`).

use alloc::collections::VecDeque;
use net_base::Instant;

use super::SentInfo;

/// Deliberately skipped numbers remembered; a peer that acknowledges unseen packets trips over one.
const SKIPPED_MEMORY: usize = 256;
/// Unacknowledged packets kept that the peer need not acknowledge.
const MAX_PASSIVE: usize = 1_024;

/// One packet as it was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) number: u64,
    /// Running count of logged packets, assigned by the log: neighbours in it were sent one after the other.
    pub(super) position: u64,
    pub(super) info: SentInfo,
    pub(super) sent_at: Instant,
    /// The path it was sent on.
    pub(super) path: u32,
    /// Whether it carried ECT(0).
    pub(super) marked: bool,
}

impl Packet {
    const fn passive(&self) -> bool {
        !self.info.ack_eliciting && !self.info.in_flight
    }
}

#[derive(Clone, Debug)]
struct Entry<T> {
    packet: Packet,
    /// `None` once settled.
    content: Option<T>,
    /// Of a settled entry: a later position at or before the next outstanding one.
    skip: u64,
}

/// Sent packets with what they carried.
#[derive(Clone, Debug)]
pub(super) struct SentLog<T> {
    entries: VecDeque<Entry<T>>,
    /// Position of the front entry.
    popped: u64,
    next_number: u64,
    /// (lowest, highest) of the newest gaps.
    skipped: VecDeque<(u64, u64)>,
    eliciting: usize,
    passive: usize,
}

impl<T> SentLog<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            popped: 0,
            next_number: 0,
            skipped: VecDeque::new(),
            eliciting: 0,
            passive: 0,
        }
    }

    /// Appends a packet whose number is higher than any before.
    pub(super) fn push(&mut self, mut packet: Packet, content: T) {
        assert!(packet.number >= self.next_number, "packet numbers strictly increase");
        if packet.number > self.next_number {
            // At once, so that no packet of a busy session allocates; at the first gap, so that an idle one holds nothing.
            if self.skipped.capacity() < SKIPPED_MEMORY {
                self.skipped.reserve_exact(SKIPPED_MEMORY);
            }
            if self.skipped.len() == SKIPPED_MEMORY {
                self.skipped.pop_front();
            }
            self.skipped.push_back((self.next_number, packet.number - 1));
        }
        self.next_number = packet.number + 1;
        if packet.passive() && !self.room_for_passive() {
            return;
        }
        packet.position = self.popped + self.entries.len() as u64;
        self.passive += usize::from(packet.passive());
        self.eliciting += usize::from(packet.info.ack_eliciting);
        self.entries.push_back(Entry {
            packet,
            content: Some(content),
            skip: 0,
        });
    }

    /// One more than the highest number sent.
    pub(super) const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Outstanding ack-eliciting packets.
    pub(super) const fn eliciting(&self) -> usize {
        self.eliciting
    }

    /// Whether every number from `low` to `high` was sent, as far as is remembered.
    pub(super) fn all_sent(&self, low: u64, high: u64) -> bool {
        let gap = self.skipped.partition_point(|&(_, top)| top < low);
        high < self.next_number && self.skipped.get(gap).is_none_or(|&(bottom, _)| bottom > high)
    }

    /// The packet of this number, if it is outstanding.
    pub(super) fn outstanding(&self, number: u64) -> Option<&Packet> {
        let entry = self.entries.get(self.at_or_after(number))?;
        (entry.packet.number == number && entry.content.is_some()).then_some(&entry.packet)
    }

    /// The oldest outstanding packet.
    pub(super) fn first_outstanding(&self) -> Option<&Packet> {
        self.entries.front().map(|entry| &entry.packet)
    }

    /// Outstanding packets and contents, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Packet, &T)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((&entry.packet, entry.content.as_ref()?)))
    }

    /// Takes out the oldest outstanding packet with a number in `low..=high`.
    #[inline]
    pub(super) fn settle_first(&mut self, low: u64, high: u64) -> Option<(Packet, T)> {
        // Acks come in the order of the packets, so mostly it is the front one, which leaves without being searched for.
        let front = self.entries.front()?.packet.number;
        if low <= front && front <= high {
            let Entry { packet, content, .. } = self.entries.pop_front()?;
            self.popped += 1;
            self.forget(&packet);
            self.drop_settled_front();
            return content.map(|content| (packet, content));
        }
        self.settle_behind(low, high)
    }

    fn settle_behind(&mut self, low: u64, high: u64) -> Option<(Packet, T)> {
        let index = self.next_outstanding(self.at_or_after(low));
        let entry = self
            .entries
            .get_mut(index)
            .filter(|entry| entry.packet.number <= high)?;
        let content = entry.content.take()?;
        let packet = entry.packet;
        entry.skip = packet.position + 1;
        self.forget(&packet);
        Some((packet, content))
    }

    fn forget(&mut self, packet: &Packet) {
        self.passive -= usize::from(packet.passive());
        self.eliciting -= usize::from(packet.info.ack_eliciting);
    }

    /// Index of the first entry with at least this number. Its distance from the front is at most the
    /// difference of the numbers, and at least that minus the numbers missing from the log.
    fn at_or_after(&self, number: u64) -> usize {
        let (Some(front), Some(back)) = (self.entries.front(), self.entries.back()) else {
            return 0;
        };
        let length = self.entries.len();
        let Some(distance) = number.checked_sub(front.packet.number) else {
            return 0;
        };
        if number > back.packet.number {
            return length;
        }
        let missing = back.packet.number - front.packet.number + 1 - length as u64;
        let mut low = usize::try_from(distance.saturating_sub(missing))
            .unwrap_or(length)
            .min(length);
        let mut high = usize::try_from(distance).unwrap_or(length).min(length);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entries[middle].packet.number < number {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    /// Follows the skips of settled entries from `index` on and shortens them on the way.
    fn next_outstanding(&mut self, index: usize) -> usize {
        let mut root = index;
        while let Some(entry) = self.entries.get(root).filter(|entry| entry.content.is_none()) {
            root = self.index_of(entry.skip);
        }
        let target = self.popped + root as u64;
        let mut walk = index;
        while walk < root {
            let entry = &mut self.entries[walk];
            let next = entry.skip;
            entry.skip = target;
            walk = self.index_of(next);
        }
        root
    }

    fn index_of(&self, position: u64) -> usize {
        usize::try_from(position.saturating_sub(self.popped)).unwrap_or(usize::MAX)
    }

    fn drop_settled_front(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.content.is_none()) {
            self.entries.pop_front();
            self.popped += 1;
        }
    }

    /// A peer that never acknowledges our acks costs bounded memory: the oldest is forgotten.
    fn room_for_passive(&mut self) -> bool {
        if self.passive < MAX_PASSIVE {
            return true;
        }
        if !self.entries.front().is_some_and(|entry| entry.packet.passive()) {
            return false;
        }
        self.entries.pop_front();
        self.popped += 1;
        self.passive -= 1;
        self.drop_settled_front();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn packet(number: u64, ack_eliciting: bool) -> Packet {
        let info = SentInfo {
            bytes: 100,
            ack_eliciting,
            in_flight: ack_eliciting,
            mtu_probe: false,
        };
        Packet {
            number,
            position: 0,
            info,
            sent_at: Instant::ZERO,
            path: 0,
            marked: false,
        }
    }

    #[test]
    fn skipped_numbers_are_remembered_after_their_neighbours_are_settled() {
        let mut log = SentLog::new();
        for number in [3, 4, 6, 7, 1_000_000] {
            log.push(packet(number, true), ());
        }
        while log.settle_first(0, u64::MAX).is_some() {}
        // (lowest, highest, all sent)
        let cases = [
            (3, 4, true),
            (6, 7, true),
            (1_000_000, 1_000_000, true),
            (0, 0, false),
            (2, 3, false),
            (4, 6, false),
            (5, 5, false),
            (7, 8, false),
            (999_999, 1_000_000, false),
            (1_000_001, 1_000_001, false),
            (0, u64::MAX, false),
        ];
        for (low, high, sent) in cases {
            assert_eq!(log.all_sent(low, high), sent, "{low}..={high}");
        }
    }

    #[test]
    fn packets_nobody_needs_to_acknowledge_take_bounded_memory() {
        let mut log = SentLog::new();
        for number in 0..10_000 {
            log.push(packet(number, false), number);
        }
        assert_eq!(
            (log.entries.len(), log.iter().next().map(|(_, &number)| number)),
            (MAX_PASSIVE, Some(8_976))
        );
        // Behind an outstanding packet they are not even recorded, and are still known as sent.
        let mut log = SentLog::new();
        log.push(packet(0, true), 0);
        for number in 1..10_000 {
            log.push(packet(number, false), number);
        }
        assert_eq!(log.entries.len(), MAX_PASSIVE + 1);
        assert!(log.all_sent(0, 9_999));
        assert_eq!((log.eliciting(), log.outstanding(9_999).is_some()), (1, false));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { skip: u64, eliciting: bool },
        Settle { low: u64, length: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (prop_oneof![4 => Just(0u64), 1 => 1..5u64, 1 => 100..1_000u64], any::<bool>())
                .prop_map(|(skip, eliciting)| Step::Push { skip, eliciting }),
            1 => (0..400u64, 0..30u64).prop_map(|(low, length)| Step::Settle { low, length }),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_an_ordered_map(steps in proptest::collection::vec(step(), 1..400)) {
            let mut log = SentLog::new();
            let mut model: BTreeMap<u64, bool> = BTreeMap::new();
            let mut sent: Vec<u64> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push { skip, eliciting } => {
                        next += skip;
                        log.push(packet(next, eliciting), next);
                        model.insert(next, eliciting);
                        sent.push(next);
                        next += 1;
                    }
                    Step::Settle { low, length } => {
                        // Half of the time counted from the newest number, where the action is.
                        let low = if low % 2 == 0 { low } else { next.saturating_sub(low) };
                        let expected = model.range(low..=low + length).next().map(|(&number, _)| number);
                        if let Some(number) = expected {
                            model.remove(&number);
                        }
                        let settled = log.settle_first(low, low + length).map(|(packet, content)| {
                            assert_eq!(packet.number, content);
                            content
                        });
                        prop_assert_eq!(settled, expected);
                        let all = (low..=low + length).all(|number| sent.binary_search(&number).is_ok());
                        prop_assert_eq!(log.all_sent(low, low + length), all);
                    }
                }
                prop_assert_eq!(log.eliciting(), model.values().filter(|&&eliciting| eliciting).count());
                prop_assert_eq!(log.first_outstanding().map(|packet| packet.number), model.keys().next().copied());
            }
            let left: Vec<u64> = log.iter().map(|(packet, _)| packet.number).collect();
            prop_assert_eq!(left, model.keys().copied().collect::<Vec<_>>());
        }
    }
}
