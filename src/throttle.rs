//! Warnings that peers can cause, seldom enough to do no harm.

use std::time::Duration;

/// The shortest time between two warnings of a kind. Counters count all of them.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one warning through, and then none for a while.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Option<Duration>,
}

impl Throttle {
    /// Whether to write it, at `now`.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        let due = self.last.is_none_or(|last| last + EVERY <= now);
        if due {
            self.last = Some(now);
        }
        due
    }
}
