//! Where in 64 bytes certain bytes stand: one bit for each place.
//!
//! ```text
//!  bytes   {"a":[1,2]}......
//!  {[      10001000000......      bit 0 is the first byte
//!  "       01010000000......
//! ```
//!
//! Written so that the compiler makes vector instructions of it: one loop that compares
//! 16 bytes at a time and collects in bytes, then a transposition of 8 x 8 bits. The
//! obvious `mask |= bit << place` for each byte is five times slower.

use std::ops::BitOr;

/// Bytes looked at together.
pub(super) const BLOCK: usize = 64;

/// The places in a block that hold bytes of one kind.
///
/// Still to be transposed: most blocks have none of the rarer kinds.
#[derive(Clone, Copy)]
pub(super) struct Found(u64);

impl Found {
    /// A bit for each place, the first in the lowest.
    #[inline(always)]
    pub(super) fn places(self) -> u64 {
        transposed(self.0)
    }

    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Of either kind.
impl BitOr for Found {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Looks for `N` kinds of bytes.
#[inline(always)]
pub(super) fn find<const N: usize>(
    block: &[u8; BLOCK],
    kinds: impl Fn(u8) -> [bool; N],
) -> [Found; N] {
    // In byte j, bit k: the place j + 8 * k, once the second half is folded in.
    let mut found = [[0u8; 16]; N];
    for (part, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
        for (at, &byte) in bytes.iter().enumerate() {
            let bit = 1 << (2 * part + at / 8);
            let is = kinds(byte);
            for kind in 0..N {
                found[kind][at] |= if is[kind] { bit } else { 0 };
            }
        }
    }
    found.map(|halves| {
        let (words, _) = halves.as_chunks();
        let [low, high] = [words[0], words[1]].map(u64::from_le_bytes);
        Found(low | high)
    })
}

/// 8 bytes of 8 bits, rows for columns (Hacker's Delight, 7-3).
#[inline(always)]
fn transposed(mut x: u64) -> u64 {
    for (shift, mask) in
        [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)]
    {
        let swap = (x ^ (x >> shift)) & mask;
        x ^= swap ^ (swap << shift);
    }
    x
}

/// For each place, whether an odd number of bits stands at or before it: between two
/// quotes, if the bits are quotes.
#[inline(always)]
pub(super) fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_is_the_place_of_its_byte() {
        for place in 0..BLOCK {
            let mut block = [b'.'; BLOCK];
            block[place] = b'x';
            let found = find(&block, |byte| [byte == b'x', byte == b'.', byte == b'y']);
            assert_eq!(found.map(Found::places), [1 << place, !(1 << place), 0], "{place}");
            assert_eq!(found.map(Found::is_empty), [false, false, true], "{place}");
        }
    }

    #[test]
    fn parity_is_on_from_each_odd_bit_to_the_next() {
        assert_eq!(parity(0), 0);
        assert_eq!(parity(1), !0);
        assert_eq!(parity(0b0100_1000), 0b0011_1000);
        assert_eq!(parity(1 | 1 << 4 | 1 << 7), 0b1111 | !0 << 7);
    }
}
