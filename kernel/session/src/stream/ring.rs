//! Messages waiting to be sent or acknowledged, kept as the EVENT frames they will travel in.
//!
//! Invariants: offsets run on for ever and are masked into a buffer whose capacity is a power of two; the buffer
//! grows by doubling and never shrinks, so a steady stream allocates nothing.
//! Not here: where messages begin and end (`send.rs`).

use alloc::vec;
use alloc::vec::Vec;

use net_wire::varint;
use net_wire::{FrameType, FrameWriter, event_frame_len};

const MIN_CAPACITY: usize = 1024;

/// A ring of bytes addressed by absolute offsets.
#[derive(Debug, Default)]
pub(super) struct FrameRing {
    bytes: Vec<u8>,
    head: u64,
    tail: u64,
}

impl FrameRing {
    /// Offset after the last byte.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Bytes held.
    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.tail - self.head
    }

    /// Appends `message` as an EVENT frame.
    #[inline]
    pub(super) fn append(&mut self, message: &[u8]) {
        let frame = event_frame_len(message.len());
        let used = (self.tail - self.head) as usize;
        if used + frame > self.bytes.len() {
            self.grow(used + frame);
        }
        let at = self.index(self.tail);
        match self.bytes.get_mut(at..at + frame) {
            Some(space) => {
                let written = FrameWriter::new(space).event(message);
                debug_assert!(written, "the space is the frame's own length");
            }
            None => self.append_across_the_end(message),
        }
        self.tail += frame as u64;
    }

    /// Copies the bytes from offset `from` on, as many as `out` takes.
    #[inline]
    pub(super) fn copy_out(&self, from: u64, out: &mut [u8]) {
        debug_assert!(from >= self.head && from + out.len() as u64 <= self.tail);
        let at = self.index(from);
        let first = out.len().min(self.bytes.len() - at);
        let (front, back) = out.split_at_mut(first);
        front.copy_from_slice(&self.bytes[at..at + first]);
        back.copy_from_slice(&self.bytes[..back.len()]);
    }

    /// Forgets everything before offset `to`.
    #[inline]
    pub(super) fn release_to(&mut self, to: u64) {
        debug_assert!((self.head..=self.tail).contains(&to));
        self.head = to;
    }

    fn append_across_the_end(&mut self, message: &[u8]) {
        let mut front = [0; 1 + varint::MAX_LEN];
        front[0] = FrameType::Event as u8;
        let length = varint::write(&mut front[1..], message.len() as u64)
            .expect("the array holds a frame type and the longest varint");
        self.copy_in(self.tail, &front[..1 + length]);
        self.copy_in(self.tail + 1 + length as u64, message);
    }

    fn copy_in(&mut self, to: u64, bytes: &[u8]) {
        let at = self.index(to);
        let (front, back) = bytes.split_at(bytes.len().min(self.bytes.len() - at));
        self.bytes[at..at + front.len()].copy_from_slice(front);
        self.bytes[..back.len()].copy_from_slice(back);
    }

    #[inline(never)]
    fn grow(&mut self, need: usize) {
        let mut larger = vec![0; need.next_power_of_two().max(MIN_CAPACITY)];
        let mut at = self.head;
        while at < self.tail {
            let from = self.index(at);
            let to = at as usize & (larger.len() - 1);
            // Where the larger ring ends, a multiple of its capacity, the smaller one ends too.
            let length = ((self.tail - at) as usize).min(self.bytes.len() - from);
            larger[to..to + length].copy_from_slice(&self.bytes[from..from + length]);
            at += length as u64;
        }
        self.bytes = larger;
    }

    #[inline]
    fn index(&self, offset: u64) -> usize {
        offset as usize & (self.bytes.len() - 1)
    }
}
