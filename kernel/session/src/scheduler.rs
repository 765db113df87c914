//! Which stream may fill the next packet: deficit round robin with bounded priority.
//!
//! Invariants: see below.
//! Not here: what the stream sends.

/// Turns after which a waiting lower priority is served once although a higher one has data.
pub const OVERTAKE_LIMIT: u64 = 16;

/// Deficit round robin over keys (use the `StreamId`).
#[derive(Debug)]
pub struct Scheduler<K> {
    keys: alloc::vec::Vec<K>,
}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl<K: Copy + Ord> Scheduler<K> {
    /// `quantum`: bytes per turn and unit of weight; at least the largest packet makes every operation O(log n).
    pub fn new(quantum: u32) -> Self {
        Self {
            keys: alloc::vec::Vec::new(),
        }
    }
    /// The stream has something to send. No effect when it is active already.
    pub fn activate(&mut self, key: K, weight: u16, priority: u8) {
        unimplemented!()
    }
    /// Nothing to send for now; its place in memory is kept.
    pub fn deactivate(&mut self, key: K) {
        unimplemented!()
    }
    /// The stream is gone.
    pub fn remove(&mut self, key: K) {
        unimplemented!()
    }
    /// Whose turn it is; answers the same until `charge`, `deactivate` or a more urgent `activate`.
    pub fn pick(&mut self) -> Option<K> {
        unimplemented!()
    }
    /// `key` sent `bytes` in the turn it was picked for.
    pub fn charge(&mut self, key: K, bytes: usize) {
        unimplemented!()
    }
    pub fn is_active(&self, key: K) -> bool {
        unimplemented!()
    }
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
}
