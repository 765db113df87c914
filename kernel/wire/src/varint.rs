//! Unsigned LEB128 with one encoding per value (protocol.md, preamble).
//!
//! Invariants: `read` accepts exactly what `write` writes: at most ten bytes, shortest form, below 2^64.
//! Not here: fixed-width integers.

/// Longest encoding, in bytes.
pub const MAX_LEN: usize = 10;

/// Bytes that `value` takes.
#[inline]
#[must_use]
pub const fn len(value: u64) -> usize {
    if value < 0x80 {
        return 1;
    }
    // Seven bits per byte; `| 1` is not needed because the value is not zero here.
    (70 - value.leading_zeros() as usize) / 7
}

/// Takes a value off the front of `bytes`: the value and the rest, or `None` where the bytes end early, exceed 64 bits
/// or are longer than need be.
#[inline]
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        [first, rest @ ..] if *first < 0x80 => Some((*first as u64, rest)),
        [first, second @ 1..0x80, rest @ ..] => Some(((*first & 0x7F) as u64 | (*second as u64) << 7, rest)),
        _ => read_long(bytes),
    }
}

/// Writes `value` to the front of `out`: the bytes written, or `None` (and nothing written) where they do not fit.
#[inline]
#[must_use]
pub fn write(out: &mut [u8], value: u64) -> Option<usize> {
    match out {
        [first, ..] if value < 0x80 => {
            *first = value as u8;
            Some(1)
        }
        [first, second, ..] if value < 0x4000 => {
            *first = value as u8 | 0x80;
            *second = (value >> 7) as u8;
            Some(2)
        }
        _ => write_long(out, value),
    }
}

#[inline(never)]
fn read_long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let seven = |byte: &u8, at: u32| ((*byte & 0x7F) as u64) << (7 * at);
    match bytes {
        // Positions and limits mostly take three to five bytes.
        [a, b @ 0x80..=0xFF, c @ 1..0x80, rest @ ..] if *a >= 0x80 => {
            Some((seven(a, 0) | seven(b, 1) | seven(c, 2), rest))
        }
        [a, b @ 0x80..=0xFF, c @ 0x80..=0xFF, d @ 1..0x80, rest @ ..] if *a >= 0x80 => {
            Some((seven(a, 0) | seven(b, 1) | seven(c, 2) | seven(d, 3), rest))
        }
        [
            a,
            b @ 0x80..=0xFF,
            c @ 0x80..=0xFF,
            d @ 0x80..=0xFF,
            e @ 1..0x80,
            rest @ ..,
        ] if *a >= 0x80 => {
            let low = seven(a, 0) | seven(b, 1) | seven(c, 2) | seven(d, 3);
            Some((low | seven(e, 4), rest))
        }
        _ => read_bytewise(bytes),
    }
}

fn read_bytewise(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(MAX_LEN).enumerate() {
        value |= ((*byte & 0x7F) as u64) << (7 * at);
        if *byte < 0x80 {
            // A last byte of zero adds nothing; the tenth byte has room for one bit.
            let canonical = (at == 0 || *byte != 0) && (at < MAX_LEN - 1 || *byte == 1);
            return if canonical {
                Some((value, &bytes[at + 1..]))
            } else {
                None
            };
        }
    }
    None
}

#[inline(never)]
fn write_long(out: &mut [u8], value: u64) -> Option<usize> {
    let length = len(value);
    let (last, front) = out.get_mut(..length)?.split_last_mut()?;
    let mut rest = value;
    for byte in front {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    *last = rest as u8;
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_change_at_every_seventh_bit() {
        let mut out = [0; MAX_LEN];
        for bits in 1..=9u32 {
            let edge = 1u64 << (7 * bits);
            assert_eq!(len(edge - 1), bits as usize);
            assert_eq!(len(edge), bits as usize + 1);
            assert_eq!(write(&mut out, edge - 1), Some(bits as usize));
            assert_eq!(write(&mut out[..bits as usize], edge), None);
        }
        assert_eq!(len(0), 1);
        assert_eq!(len(u64::MAX), MAX_LEN);
    }

    #[test]
    fn every_length_reads_what_was_written_and_leaves_the_rest() {
        for bits in 0..64u32 {
            for value in [1u64 << bits, (1u64 << bits) - 1, u64::MAX >> bits] {
                let mut out = [0xFF; MAX_LEN + 1];
                let length = write(&mut out, value).expect("there is room");
                assert_eq!(read(&out[..length]), Some((value, &[][..])));
                assert_eq!(read(&out), Some((value, &out[length..])));
                assert_eq!(read_bytewise(&out), read(&out));
                assert_eq!(read(&out[..length - 1]), None, "it ends early");
            }
        }
        for length in 2..MAX_LEN {
            let mut longer = [0xFF; MAX_LEN];
            longer[length - 1] = 0;
            assert_eq!(read(&longer), None, "not the shortest form");
        }
    }

    #[test]
    fn longer_forms_and_overflow_are_refused() {
        assert_eq!(read(&[0x80, 0x00]), None);
        assert_eq!(read(&[0x81, 0x80, 0x00]), None);
        assert_eq!(read(&[0xFF; 10]), None);
        assert_eq!(
            read(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]),
            None
        );
        assert_eq!(
            read(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 7]),
            Some((u64::MAX, &[7][..]))
        );
    }
}
