//! How often something may happen: so many a second, and so many at once.

use std::time::Duration;

use crate::proto::framing::ConfigError;

/// So many a second, after a pause up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// `per_second` from 1 to 1,000,000,000, and as many at once.
    pub fn per_second(per_second: u32) -> Self {
        Self { per_second, burst: per_second }
    }

    /// How many may come at once after a pause, at least 1.
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        let Self { per_second, burst } = self;
        match (1..=NANOS as u32).contains(&per_second) && burst > 0 {
            true => Ok(()),
            false => Err(ConfigError::Rate { per_second, burst }),
        }
    }

    /// Nanoseconds after which one more may happen.
    fn gap(self) -> u64 {
        NANOS / u64::from(self.per_second)
    }
}

const NANOS: u64 = 1_000_000_000;

/// What is left of a [`Rate`]: a token bucket, stored as the time at which it is full
/// again, in nanoseconds since the loop began. One that was never used is full.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket(u64);

impl Bucket {
    /// How many may happen now.
    pub(super) fn left(self, rate: Rate, now: Duration) -> usize {
        let (now, gap) = (nanos(now), rate.gap());
        let owed = self.0.saturating_sub(now).div_ceil(gap);
        usize::try_from(u64::from(rate.burst).saturating_sub(owed)).unwrap_or(usize::MAX)
    }

    /// So many have happened; more than were left is a debt.
    pub(super) fn take(&mut self, rate: Rate, now: Duration, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.0 = self.0.max(nanos(now)).saturating_add(rate.gap().saturating_mul(count));
    }

    /// When one may happen again.
    pub(super) fn next(self, rate: Rate) -> Duration {
        let all_but_one = rate.gap().saturating_mul(u64::from(rate.burst) - 1);
        Duration::from_nanos(self.0.saturating_sub(all_but_one))
    }

    /// Whether it is as if it had never been used.
    pub(super) fn is_full(self, now: Duration) -> bool {
        self.0 <= nanos(now)
    }
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate_to_the_nanosecond() {
        for (per_second, burst) in [(1, 1), (10, 1), (10, 10), (3, 7), (1_000_000_000, 5)] {
            let rate = Rate::per_second(per_second).burst(burst);
            let start = Duration::from_secs(5);
            let mut bucket = Bucket::default();
            assert_eq!(bucket.left(rate, start), burst as usize);
            bucket.take(rate, start, burst as usize);
            let gap = Duration::from_nanos(rate.gap());
            for n in 1..50 {
                let due = start + gap * n;
                assert_eq!(bucket.left(rate, due - Duration::from_nanos(1)), 0, "{rate:?} {n}");
                assert_eq!((bucket.left(rate, due), bucket.next(rate)), (1, due), "{rate:?} {n}");
                bucket.take(rate, due, 1);
            }
            assert!(!bucket.is_full(start + gap * (48 + burst)));
            assert!(bucket.is_full(start + gap * (49 + burst)));
        }
    }

    #[test]
    fn a_rate_of_nothing_or_more_than_one_a_nanosecond_is_refused() {
        for (rate, ok) in [
            (Rate::per_second(1), true),
            (Rate::per_second(1_000_000_000), true),
            (Rate::per_second(1_000_000_001), false),
            (Rate::per_second(0), false),
            (Rate::per_second(1).burst(0), false),
        ] {
            assert_eq!(rate.check().is_ok(), ok, "{rate:?}");
        }
    }
}
