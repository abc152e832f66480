//! How much all waiting bytes of a loop may take together.
//!
//! ```text
//!  0 ──────────────────────── 90 % ───────────── 100 %
//!    everything goes on        │  nothing grows   │ the largest closes,
//!                              │  that can wait   │ until it is below 90 %
//! ```
//!
//! Where bytes wait is the pool's; who may go on follows from both, in `Conn::room`.

/// The most bytes, and whether someone waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    max: usize,
    /// From here on nothing grows that can wait.
    high: usize,
    /// A connection is not read from because there is no room for what it sends. The
    /// kernel will not remind of it: see `Pool::room_for_starved`.
    pub(super) starved: bool,
}

impl Budget {
    /// The default of a server, in bytes.
    pub(crate) const DEFAULT: usize = 256 << 20;
    /// The least, in bytes: what one read can bring.
    pub(crate) const MIN: usize = 64 << 10;

    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(Self::MIN);
        Self { max, high: max - max / 10, starved: false }
    }

    /// The most, in bytes.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// What is to be closed down to, in bytes, when it is too much.
    pub(super) fn high(&self) -> usize {
        self.high
    }

    pub(super) fn is_tight(&self, held: usize) -> bool {
        held >= self.high
    }

    pub(super) fn is_over(&self, held: usize) -> bool {
        held > self.max
    }
}

/// Who drives a connection alone has its own idea of how much is too much.
impl Default for Budget {
    fn default() -> Self {
        Self { max: usize::MAX, high: usize::MAX, starved: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tight_from_nine_tenths_on_and_over_one_byte_beyond_the_whole() {
        let budget = Budget::new(100 << 10);
        for (held, tight, over) in [
            (0, false, false),
            ((90 << 10) - 1, false, false),
            (90 << 10, true, false),
            (100 << 10, true, false),
            ((100 << 10) + 1, true, true),
        ] {
            assert_eq!((budget.is_tight(held), budget.is_over(held)), (tight, over), "{held}");
        }
        assert!(!Budget::new(0).is_over(64 << 10), "less than one read is none");
        assert!(!Budget::default().is_tight(usize::MAX - 1));
    }
}
