//! Which stream may fill the next packet: deficit round robin within a priority, bounded overtaking between priorities.
//!
//! Invariants: a key is linked into the queue of its priority exactly while it is active; among keys of one priority that
//! stay active, bytes charged per unit of weight differ by at most one quantum and one packet each; a waiting priority is
//! served at least once in [`OVERTAKE_LIMIT`] turns, and one more for each other priority that waits as long.
//! Not here: what a key sends, how much credit or congestion window it has.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use net_base::mutant;

/// Turns that higher priorities may take while a lower one waits.
pub const OVERTAKE_LIMIT: u64 = 16;

const PRIORITIES: usize = 256;
/// Queues are made in steps of so many, up to the highest priority used: most sessions use the lowest only.
const BLOCK: usize = 16;
const NONE: u32 = u32::MAX;

/// Deficit round robin (Shreedhar and Varghese, 1995) over keys, in which a packet's size is charged after it was built,
/// so that a key may overdraw its turn by one packet, which its next turn pays.
///
/// A turn is one [`Self::pick`] with its [`Self::charge`]. Memory is kept per key from its first activation to its
/// removal, and for priorities up to the highest that was used; beyond that picking, charging, activating and
/// deactivating allocate nothing.
#[derive(Debug)]
pub struct Scheduler<K> {
    quantum: i64,
    slots: BTreeMap<K, u32>,
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    /// By priority.
    queues: Vec<Queue>,
    /// A bit per priority that has active keys.
    occupied: [u64; PRIORITIES / 64],
    /// Occupied priorities from the one served longest ago to the one served last.
    waiting: Links,
    turn: u64,
    /// The key picked for the current turn.
    picked: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node<K> {
    key: K,
    weight: u16,
    priority: u8,
    active: bool,
    deficit: i64,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    keys: Links,
    /// The turn in which it was served last, or became occupied.
    served: u64,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    head: u32,
    tail: u32,
}

const EMPTY: Links = Links { head: NONE, tail: NONE };
const UNUSED: Queue = Queue {
    keys: EMPTY,
    served: 0,
    previous: NONE,
    next: NONE,
};

impl<K: Copy + Ord> Scheduler<K> {
    /// A scheduler without keys, which gives a key of weight 1 `quantum` bytes per round (at least 1). From the largest
    /// packet on, a pick takes constant time.
    #[must_use]
    pub fn new(quantum: u32) -> Self {
        Self {
            quantum: quantum.max(1) as i64,
            slots: BTreeMap::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            queues: Vec::new(),
            occupied: [0; PRIORITIES / 64],
            waiting: EMPTY,
            turn: 0,
            picked: NONE,
        }
    }

    /// `key` has something to send. It queues behind the others of its priority; weight 0 counts as 1. No effect on an
    /// active key, so weight and priority change only while it is inactive.
    pub fn activate(&mut self, key: K, weight: u16, priority: u8) {
        let slot = self.slot(key);
        let node = &mut self.nodes[slot as usize];
        if node.active {
            return;
        }
        node.active = true;
        node.weight = weight.max(1);
        node.priority = priority;
        // Nothing is saved up while idle, but a debt remains: going idle must not pay.
        node.deficit = node.deficit.min(0) + self.quantum * node.weight as i64;
        if self.queues.len() <= usize::from(priority) {
            self.make_queue(priority);
        }
        self.push_key(slot);
    }

    /// `key` has nothing to send for now.
    pub fn deactivate(&mut self, key: K) {
        if let Some(slot) = self.slots.get(&key).copied()
            && self.nodes[slot as usize].active
        {
            self.unlink_key(slot);
            self.nodes[slot as usize].active = false;
        }
    }

    /// `key` is gone for good.
    pub fn remove(&mut self, key: K) {
        self.deactivate(key);
        if let Some(slot) = self.slots.remove(&key) {
            self.free.push(slot);
            if self.picked == slot {
                self.picked = NONE;
            }
        }
    }

    /// Whose turn it is. The turn lasts until [`Self::charge`]; until then the answer stays, unless the key is
    /// deactivated or a higher priority becomes active.
    pub fn pick(&mut self) -> Option<K> {
        let priority = self.priority_due()?;
        loop {
            let slot = self.queues[priority as usize].keys.head;
            let node = &mut self.nodes[slot as usize];
            if node.deficit > 0 {
                self.picked = slot;
                return Some(node.key);
            }
            node.deficit += self.quantum * node.weight as i64;
            self.rotate(slot);
        }
    }

    /// `key` sent `bytes` in its turn, which ends. Without a turn of its own, `bytes` are still counted against it.
    pub fn charge(&mut self, key: K, bytes: usize) {
        let Some(slot) = self.slots.get(&key).copied() else {
            return;
        };
        let node = &mut self.nodes[slot as usize];
        if !mutant!(StreamTurnUncharged) {
            node.deficit = node.deficit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if self.picked == slot {
            self.picked = NONE;
            self.turn += 1;
            if node.active {
                let priority = node.priority;
                self.served(priority);
            }
        }
    }

    /// Whether `key` has something to send.
    #[must_use]
    pub fn is_active(&self, key: K) -> bool {
        self.slots
            .get(&key)
            .is_some_and(|slot| self.nodes[*slot as usize].active)
    }

    /// Whether no key has anything to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.head == NONE
    }

    /// The highest occupied priority, or the one that waited too long.
    fn priority_due(&self) -> Option<u8> {
        let oldest = self.waiting.head;
        if oldest == NONE {
            return None;
        }
        if oldest == self.waiting.tail {
            return Some(oldest as u8);
        }
        // It must not miss the last turn of its bound.
        if self.turn - self.queues[oldest as usize].served >= OVERTAKE_LIMIT - 1 {
            return Some(oldest as u8);
        }
        let highest = self.occupied.iter().enumerate().rev().find(|(_, word)| **word != 0);
        highest.map(|(index, word)| (index * 64 + 63 - word.leading_zeros() as usize) as u8)
    }

    #[cold]
    fn make_queue(&mut self, priority: u8) {
        let count = (usize::from(priority) / BLOCK + 1) * BLOCK;
        self.queues.reserve_exact(count - self.queues.len());
        self.queues.resize(count, UNUSED);
    }

    fn slot(&mut self, key: K) -> u32 {
        if let Some(slot) = self.slots.get(&key) {
            return *slot;
        }
        let node = Node {
            key,
            weight: 1,
            priority: 0,
            active: false,
            deficit: 0,
            previous: NONE,
            next: NONE,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                // Streams are bounded far below this by the session's limits.
                self.nodes.len() as u32 - 1
            }
        };
        self.slots.insert(key, slot);
        slot
    }

    fn push_key(&mut self, slot: u32) {
        let priority = self.nodes[slot as usize].priority;
        let tail = self.queues[priority as usize].keys.tail;
        let node = &mut self.nodes[slot as usize];
        node.previous = tail;
        node.next = NONE;
        let keys = &mut self.queues[priority as usize].keys;
        keys.tail = slot;
        if tail == NONE {
            keys.head = slot;
            self.occupied[priority as usize / 64] |= 1 << (priority % 64);
            self.push_priority(priority);
        } else {
            self.nodes[tail as usize].next = slot;
        }
    }

    fn unlink_key(&mut self, slot: u32) {
        let Node {
            priority,
            previous,
            next,
            ..
        } = self.nodes[slot as usize];
        let keys = &mut self.queues[priority as usize].keys;
        match previous {
            NONE => keys.head = next,
            _ => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => keys.tail = previous,
            _ => self.nodes[next as usize].previous = previous,
        }
        if keys.head == NONE {
            self.occupied[priority as usize / 64] &= !(1 << (priority % 64));
            self.unlink_priority(priority);
        }
    }

    /// Moves the head of a queue to its tail.
    fn rotate(&mut self, slot: u32) {
        let Node { priority, next, .. } = self.nodes[slot as usize];
        if next == NONE {
            return;
        }
        let keys = &mut self.queues[priority as usize].keys;
        let tail = keys.tail;
        keys.head = next;
        keys.tail = slot;
        self.nodes[next as usize].previous = NONE;
        self.nodes[tail as usize].next = slot;
        let node = &mut self.nodes[slot as usize];
        node.previous = tail;
        node.next = NONE;
    }

    fn served(&mut self, priority: u8) {
        if self.waiting.head == self.waiting.tail {
            self.queues[priority as usize].served = self.turn;
            return;
        }
        self.unlink_priority(priority);
        self.push_priority(priority);
    }

    fn push_priority(&mut self, priority: u8) {
        let tail = self.waiting.tail;
        let queue = &mut self.queues[priority as usize];
        queue.served = self.turn;
        queue.previous = tail;
        queue.next = NONE;
        self.waiting.tail = priority as u32;
        match tail {
            NONE => self.waiting.head = priority as u32,
            _ => self.queues[tail as usize].next = priority as u32,
        }
    }

    fn unlink_priority(&mut self, priority: u8) {
        let Queue { previous, next, .. } = self.queues[priority as usize];
        match previous {
            NONE => self.waiting.head = next,
            _ => self.queues[previous as usize].next = next,
        }
        match next {
            NONE => self.waiting.tail = previous,
            _ => self.queues[next as usize].previous = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const QUANTUM: u32 = 1500;

    /// One turn in which whoever is picked sends `bytes`.
    fn turn(scheduler: &mut Scheduler<u8>, bytes: usize) -> Option<u8> {
        let key = scheduler.pick()?;
        assert_eq!(scheduler.pick(), Some(key), "the turn lasts until it is charged");
        scheduler.charge(key, bytes);
        Some(key)
    }

    #[test]
    fn equal_streams_take_turns_of_a_quantum() {
        let mut scheduler = Scheduler::new(QUANTUM);
        for key in [1, 2, 3] {
            scheduler.activate(key, 1, 0);
        }
        let order: Vec<_> = (0..12).filter_map(|_| turn(&mut scheduler, 750)).collect();
        assert_eq!(order, [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_turn_that_was_overdrawn_is_paid_back() {
        let mut scheduler = Scheduler::new(QUANTUM);
        scheduler.activate(1, 1, 0);
        scheduler.activate(2, 1, 0);
        // 1 takes three quanta at once and then waits while 2 takes its own.
        assert_eq!(turn(&mut scheduler, 4500), Some(1));
        let order: Vec<_> = (0..5).filter_map(|_| turn(&mut scheduler, 1500)).collect();
        assert_eq!(order, [2, 2, 2, 1, 2]);
    }

    #[test]
    fn an_idle_stream_saves_nothing_up_and_keeps_its_debt() {
        let mut scheduler = Scheduler::new(QUANTUM);
        scheduler.activate(1, 1, 0);
        assert_eq!(turn(&mut scheduler, 3000), Some(1));
        scheduler.deactivate(1);
        assert!(scheduler.is_empty() && !scheduler.is_active(1));
        assert_eq!(scheduler.pick(), None);
        scheduler.activate(2, 1, 0);
        scheduler.activate(1, 1, 0);
        scheduler.activate(1, 9, 9);
        let order: Vec<_> = (0..4).filter_map(|_| turn(&mut scheduler, 1500)).collect();
        assert_eq!(
            order,
            [2, 2, 1, 2],
            "the debt is one turn; activating twice changes nothing"
        );
    }

    #[test]
    fn a_higher_priority_overtakes_and_a_lower_one_is_served_within_its_bound() {
        let mut scheduler = Scheduler::new(QUANTUM);
        scheduler.activate(1, 1, 0);
        assert_eq!(turn(&mut scheduler, 1200), Some(1));
        scheduler.activate(2, 1, 200);
        assert_eq!(scheduler.pick(), Some(2));
        let order: Vec<_> = (0..3 * OVERTAKE_LIMIT)
            .filter_map(|_| turn(&mut scheduler, 1200))
            .collect();
        for window in order.chunks(OVERTAKE_LIMIT as usize) {
            assert_eq!(window.iter().filter(|key| **key == 1).count(), 1, "{order:?}");
        }
    }

    #[test]
    fn going_idle_between_packets_does_not_starve_the_others() {
        let mut scheduler = Scheduler::new(QUANTUM);
        scheduler.activate(1, 1, 0);
        let mut low = 0;
        for _ in 0..10 * OVERTAKE_LIMIT {
            scheduler.activate(2, 1, 7);
            let Some(key) = scheduler.pick() else {
                panic!("two streams are active")
            };
            if key == 2 {
                scheduler.deactivate(2);
            }
            scheduler.charge(key, 1200);
            low += u64::from(key == 1);
        }
        assert_eq!(low, 10);
    }

    #[test]
    fn removed_streams_leave_nothing_behind() {
        let mut scheduler = Scheduler::new(QUANTUM);
        for round in 0..100u8 {
            scheduler.activate(round, 1, round);
            scheduler.activate(round.wrapping_add(100), 2, 3);
            assert!(scheduler.pick().is_some());
            scheduler.remove(round);
            scheduler.remove(round.wrapping_add(100));
            scheduler.charge(round, 100);
            assert!(scheduler.is_empty());
        }
        assert!(scheduler.nodes.len() <= 2);
        assert!(scheduler.slots.is_empty());
    }

    proptest! {
        #[test]
        fn shares_are_proportional_to_weights(
            weights in prop::collection::vec(1u16..20, 2..8),
            sizes in prop::collection::vec(1usize..1500, 1..40),
        ) {
            let mut scheduler = Scheduler::new(QUANTUM);
            for (key, weight) in weights.iter().enumerate() {
                scheduler.activate(key as u8, *weight, 5);
            }
            let mut sent = vec![0i64; weights.len()];
            for round in 0..3000 {
                let size = sizes[round % sizes.len()];
                if let Some(key) = turn(&mut scheduler, size) {
                    sent[key as usize] += size as i64;
                }
                let rounds: Vec<_> = sent
                    .iter()
                    .zip(&weights)
                    .map(|(bytes, weight)| (bytes * 1000 / *weight as i64, 1500 * 1000 / *weight as i64))
                    .collect();
                for (left, packet) in &rounds {
                    for (right, other) in &rounds {
                        let slack = QUANTUM as i64 * 1000 + packet + other;
                        prop_assert!(left - right <= slack, "{sent:?} for {weights:?}");
                    }
                }
            }
        }

        #[test]
        fn nobody_starves_whatever_the_others_do(
            streams in prop::collection::vec((1u16..5, any::<u8>()), 1..12),
            events in prop::collection::vec((any::<u8>(), any::<bool>(), 1usize..1500), 400..800),
        ) {
            let mut scheduler = Scheduler::new(QUANTUM);
            // Key 0 has the lowest priority and always something to send.
            scheduler.activate(0, 1, 0);
            let mut active = vec![false; streams.len() + 1];
            let mut waited = 0u64;
            for (pick, on, bytes) in events {
                let key = 1 + pick as usize % streams.len();
                let (weight, priority) = streams[key - 1];
                if on {
                    // Priorities from 1: no other stream shares the queue of key 0.
                    scheduler.activate(key as u8, weight, priority.max(1));
                } else {
                    scheduler.deactivate(key as u8);
                }
                active[key] = on;
                prop_assert_eq!(scheduler.is_active(key as u8), on);
                let served = turn(&mut scheduler, bytes);
                prop_assert!(served.is_some_and(|served| served == 0 || active[served as usize]));
                waited = if served == Some(0) { 0 } else { waited + 1 };
                prop_assert!(waited < OVERTAKE_LIMIT + streams.len() as u64);
            }
        }

        #[test]
        fn the_queues_hold_exactly_the_active_streams(
            events in prop::collection::vec((0u8..10, 0u8..5, 0u8..4), 1..200),
        ) {
            let mut scheduler = Scheduler::new(QUANTUM);
            let mut model = alloc::collections::BTreeMap::new();
            for (key, action, priority) in events {
                match action {
                    0 | 1 => {
                        scheduler.activate(key, 1, priority * 80);
                        model.entry(key).or_insert(priority * 80);
                    }
                    2 => {
                        scheduler.deactivate(key);
                        model.remove(&key);
                    }
                    3 => {
                        scheduler.remove(key);
                        model.remove(&key);
                    }
                    _ => {
                        let served = turn(&mut scheduler, 900);
                        prop_assert_eq!(served.is_some(), !model.is_empty());
                        prop_assert!(served.is_none_or(|key| model.contains_key(&key)));
                    }
                }
                let mut linked = Vec::new();
                for (priority, queue) in scheduler.queues.iter().enumerate() {
                    let bit = scheduler.occupied[priority / 64] >> (priority % 64) & 1 == 1;
                    prop_assert_eq!(bit, queue.keys.head != NONE);
                    let mut at = queue.keys.head;
                    while at != NONE {
                        let node = &scheduler.nodes[at as usize];
                        linked.push((node.key, priority as u8));
                        at = node.next;
                    }
                }
                linked.sort_unstable();
                prop_assert_eq!(linked, model.iter().map(|(key, priority)| (*key, *priority)).collect::<Vec<_>>());
                prop_assert_eq!(scheduler.is_empty(), model.is_empty());
            }
        }
    }
}
