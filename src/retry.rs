//! When to call a server again: how often, and how long apart.

use std::time::Duration;

/// When to call a server again that did not answer, or that hung up before it said
/// anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub(crate) tries: u32,
    first: Duration,
    most: Duration,
}

/// One call. Should the server hang up again and again, calls are 100 ms to 10 s apart.
impl Default for Retry {
    fn default() -> Self {
        Self::growing(1, Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Retry {
    /// So many calls at most, `delay` apart.
    pub fn every(tries: u32, delay: Duration) -> Self {
        Self { tries: tries.max(1), first: delay, most: delay }
    }

    /// So many calls at most; the pause between them begins with `first` and doubles up
    /// to `most`. Each is shortened by up to a half, at random: clients that were cut
    /// off together do not come back together.
    pub fn growing(tries: u32, first: Duration, most: Duration) -> Self {
        Self { tries: tries.max(1), first, most: most.max(first) }
    }

    /// The pause after so many failures, with `random` out of all 64-bit numbers.
    pub(crate) fn pause(self, failures: u32, random: u64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let pause = doubled.min(self.most);
        if self.first == self.most {
            return pause;
        }
        let half = pause / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_lie_in_the_upper_half() {
        let retry = Retry::growing(9, Duration::from_millis(100), Duration::from_secs(1));
        let pauses = |random| -> Vec<u128> {
            (1..=6).map(|failures| retry.pause(failures, random).as_millis()).collect()
        };
        assert_eq!(pauses(u64::MAX), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pauses(0), [50, 100, 200, 400, 500, 500]);
        assert_eq!(retry.pause(u32::MAX, 0).as_millis(), 500);
        let steady = Retry::every(10, Duration::from_secs(1));
        assert_eq!((1..11).map(|n| steady.pause(n, 0).as_secs()).sum::<u64>(), 10);
    }
}
