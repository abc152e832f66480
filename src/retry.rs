//! When to call a server again: how often, and how long apart.
//!
//! ```text
//!  call ✗ ── pause ──▶ call ✗ ──── pause ────▶ call ✓ ··· message: from the beginning
//! ```
//!
//! Times are arguments; nothing here sleeps.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

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
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        // None of it to all of it, as `random` is of all numbers.
        let part = (u128::from(nanos) * (u128::from(random) + 1)) >> 64;
        half + Duration::from_nanos(part as u64)
    }
}

/// How it went lately, and so when the next call is due.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    /// Calls in a row of which nothing came.
    failures: u32,
    /// Not before this.
    due: Option<Instant>,
    connected: Option<Instant>,
}

impl Backoff {
    /// How long to wait before the next call.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// A call, begun at `begin`, was not taken.
    pub(crate) fn failed(&mut self, retry: Retry, begin: Instant) {
        self.failures = self.failures.saturating_add(1);
        // It differs from client to client; nothing secret hangs on it.
        let random = RandomState::new().hash_one(self.failures);
        // Later than any clock can say is never.
        self.due = begin.checked_add(retry.pause(self.failures, random)).or(self.due);
    }

    /// A call was taken.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.connected = Some(now);
    }

    /// A connection has ended that brought no message. One that lasted is no failure.
    pub(crate) fn ended_mute(&mut self, retry: Retry, now: Instant) {
        let begin = self.connected.unwrap_or(now);
        match now.saturating_duration_since(begin) > retry.most {
            true => self.reset(),
            false => self.failed(retry, begin),
        }
    }

    /// All is well.
    pub(crate) fn reset(&mut self) {
        (self.failures, self.due) = (0, None);
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

    #[test]
    fn calls_are_a_growing_pause_apart_until_a_message_comes_or_a_connection_lasts() {
        let ms = Duration::from_millis;
        let retry = Retry::growing(1, ms(100), ms(400));
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(start), ms(0), "the first call is not held up");
        for (number, most) in [100, 200, 400, 400].into_iter().enumerate() {
            if number % 2 == 0 {
                backoff.failed(retry, start);
            } else {
                backoff.connected(start);
                backoff.ended_mute(retry, start + ms(10));
            }
            let pause = backoff.pause(start);
            assert!((ms(most / 2)..=ms(most)).contains(&pause), "failure {number}: {pause:?}");
            assert_eq!(backoff.pause(start + pause), ms(0), "failure {number}");
        }
        backoff.connected(start);
        backoff.ended_mute(retry, start + ms(401));
        assert_eq!(backoff.pause(start), ms(0), "it lasted");
        backoff.failed(retry, start);
        backoff.reset();
        assert_eq!(backoff.pause(start), ms(0), "a message came");
        backoff.failed(Retry::every(1, Duration::MAX), start);
    }
}
