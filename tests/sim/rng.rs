/// SplitMix64: all that is random in the simulation, from one seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

/// The mixing step alone: a number that depends on all bits of `x`.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        let x = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x
    }

    /// Below `n`; 0 if that is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // 2^64 is so much larger than any `n` here that the bias is none.
        if n == 0 { 0 } else { self.next() % n }
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `p` times in 65,536.
    pub(crate) fn chance(&mut self, p: u32) -> bool {
        p > 0 && (self.next() & 0xffff) < u64::from(p)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Small numbers as likely as large ones: each power of two has the same chance.
    pub(crate) fn scale(&mut self, low: u64, high: u64) -> u64 {
        let (from, to) = (low.max(1).ilog2(), high.max(1).ilog2());
        let power = self.between(u64::from(from), u64::from(to));
        self.between(1 << power, (2 << power) - 1).clamp(low, high)
    }
}
