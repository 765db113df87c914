//! The bytes of a fuzz input, read as a program: choices, numbers and raw data.
//!
//! Invariants: reading past the end gives zeros, so every input is a program. Not here: what a program does (`mod.rs`).

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Whether the next byte is odd.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// One of `0..count`; 0 where `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    /// Two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number of any size from two bytes: eight significant bits and a shift, so that every magnitude is near.
    pub fn number(&mut self) -> u64 {
        let (value, shift) = (self.byte(), self.byte());
        u64::from(value) << (shift % 57)
    }

    /// Raw data: its length, then as much as there is.
    pub fn data(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (data, rest) = self.0.split_at(len);
        self.0 = rest;
        data
    }
}
