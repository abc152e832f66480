//! Limits by address and by rate, written down a second time, to the nanosecond: who may
//! come in, how fast one may speak, and how often be wrong. Knows no socket.

use std::collections::BTreeMap;

use oneloop::{CloseReason, Rate};

use super::kernel::SECOND;

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Divides a second into whole nanoseconds.
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

impl Pace {
    pub(crate) fn rate(self) -> Rate {
        Rate::per_second(self.per_second).burst(self.burst)
    }
}

/// What is left: in billionths of one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    left: i64,
    at: Option<u64>,
}

const ONE: i64 = SECOND as i64;

impl Bucket {
    fn fill(&mut self, pace: Pace, now: u64) {
        let full = i64::from(pace.burst) * ONE;
        let Some(at) = self.at.replace(now) else {
            self.left = full;
            return;
        };
        let more = (now - at).min(1 << 32) as i64 * i64::from(pace.per_second);
        self.left = self.left.saturating_add(more).min(full);
    }

    /// Whether one is left.
    pub(crate) fn has_one(&mut self, pace: Pace, now: u64) -> bool {
        self.fill(pace, now);
        self.left >= ONE
    }

    pub(crate) fn is_overdrawn(&self) -> bool {
        self.left < 0
    }

    /// Takes one, if only on credit; false: it was.
    pub(crate) fn take(&mut self, pace: Pace, now: u64) -> bool {
        self.fill(pace, now);
        self.left -= ONE;
        self.left >= 0
    }
}

/// What each address has.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    open: BTreeMap<u32, usize>,
    calls: BTreeMap<u32, Bucket>,
}

impl Hosts {
    /// What becomes of a caller from `host`: nothing, or the reason to hang up.
    pub(crate) fn fate(
        &mut self,
        host: u32,
        most: Option<usize>,
        pace: Option<Pace>,
        now: u64,
    ) -> Option<CloseReason> {
        if let Some(pace) = pace {
            let bucket = self.calls.entry(host).or_default();
            if !bucket.has_one(pace, now) {
                return Some(CloseReason::Rate);
            }
            bucket.take(pace, now);
        }
        let open = self.open.get(&host).copied().unwrap_or_default();
        most.filter(|&most| open >= most).map(|_| CloseReason::PerIp)
    }

    pub(crate) fn enter(&mut self, host: u32) -> usize {
        let open = self.open.entry(host).or_default();
        *open += 1;
        *open
    }

    pub(crate) fn leave(&mut self, host: u32) {
        *self.open.entry(host).or_default() -= 1;
    }
}
