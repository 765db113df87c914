//! Fixed-offset little-endian loads and stores that compile to single machine words.
//!
//! Invariants: offsets are constants checked at compile time, so none of these can panic.
//! Not here: variable-length integers (`varint.rs`).

/// Reads the eight bytes from `AT` of an array.
#[inline(always)]
pub(crate) const fn load_u64<const AT: usize, const N: usize>(bytes: &[u8; N]) -> u64 {
    const { assert!(AT + 8 <= N) };
    u64::from_le_bytes([
        bytes[AT],
        bytes[AT + 1],
        bytes[AT + 2],
        bytes[AT + 3],
        bytes[AT + 4],
        bytes[AT + 5],
        bytes[AT + 6],
        bytes[AT + 7],
    ])
}

/// Writes eight bytes from `AT` of an array.
#[inline(always)]
pub(crate) fn store_u64<const AT: usize, const N: usize>(bytes: &mut [u8; N], value: u64) {
    store::<AT, 8, N>(bytes, &value.to_le_bytes());
}

/// Copies `LEN` bytes to `AT` of an array.
#[inline(always)]
pub(crate) fn store<const AT: usize, const LEN: usize, const N: usize>(bytes: &mut [u8; N], value: &[u8; LEN]) {
    const { assert!(AT + LEN <= N) };
    bytes[AT..AT + LEN].copy_from_slice(value);
}

/// Borrows `LEN` bytes from `AT` of an array.
#[inline(always)]
pub(crate) fn part<const AT: usize, const LEN: usize, const N: usize>(bytes: &[u8; N]) -> &[u8; LEN] {
    const { assert!(AT + LEN <= N) };
    bytes[AT..AT + LEN]
        .first_chunk()
        .expect("the range is LEN bytes long and inside the array, checked at compile time")
}
