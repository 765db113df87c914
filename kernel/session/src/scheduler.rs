//! Which stream may fill the next packet: deficit round robin within a priority, bounded overtaking between priorities.
//!
//! Invariants: a key is linked into the queue of its priority exactly while it is active; among keys of one priority that
//! stay active, bytes charged per unit of weight differ by at most one quantum and one packet; a waiting priority is
//! served at least once in [`OVERTAKE_LIMIT`] turns, or as many as there are priorities if those are more.
//! Not here: what a key sends, how much credit or congestion window it has.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Turns that higher priorities may take while a lower one waits.
pub const OVERTAKE_LIMIT: u64 = 16;

const PRIORITIES: usize = 256;
const NONE: u32 = u32::MAX;

/// Deficit round robin (Shreedhar and Varghese, 1995) over keys, in which a packet's size is charged after it was built,
/// so that a key may overdraw its turn by one packet, which its next turn pays.
///
/// A turn is one [`Self::pick`] with its [`Self::charge`]. Memory is kept per key from its first activation to its
/// removal; picking, charging, activating and deactivating allocate nothing.
#[derive(Debug)]
pub struct Scheduler<K> {
    quantum: i64,
    slots: BTreeMap<K, u32>,
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
    queues: Box<[Queue; PRIORITIES]>,
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
            queues: Box::new(
                [Queue {
                    keys: EMPTY,
                    served: 0,
                    previous: NONE,
                    next: NONE,
                }; PRIORITIES],
            ),
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
        node.deficit = node.deficit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
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
        // It must not miss the last turn of its bound.
        if self.turn - self.queues[oldest as usize].served >= OVERTAKE_LIMIT - 1 {
            return Some(oldest as u8);
        }
        let highest = self.occupied.iter().enumerate().rev().find(|(_, word)| **word != 0);
        highest.map(|(index, word)| (index * 64 + 63 - word.leading_zeros() as usize) as u8)
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
