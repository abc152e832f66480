//! The timers that services set: at most one a connection.
//!
//! The clocks that every connection has are not in here. Those are found by a
//! sweep over all connections once a second, which costs nothing per message.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::proto::service::ConnId;

/// Who wants to be called, and when.
///
/// Invariant: both maps hold the same pairs.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Duration, ConnId)>,
    by_conn: HashMap<ConnId, Duration>,
}

impl Timers {
    /// Calls `id` at `time`, and not at the time set before.
    pub(crate) fn set(&mut self, id: ConnId, time: Duration) {
        self.cancel(id);
        self.by_conn.insert(id, time);
        self.by_time.insert((time, id));
    }

    /// Forgets `id`.
    pub(crate) fn cancel(&mut self, id: ConnId) {
        if self.by_conn.is_empty() {
            return;
        }
        if let Some(time) = self.by_conn.remove(&id) {
            self.by_time.remove(&(time, id));
        }
        debug_assert_eq!(self.by_time.len(), self.by_conn.len());
    }

    /// Takes the next one whose time has come.
    pub(crate) fn due(&mut self, now: Duration) -> Option<ConnId> {
        let &(time, id) = self.by_time.first()?;
        if time > now {
            return None;
        }
        self.cancel(id);
        Some(id)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|&(time, _)| time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_due_in_order_and_a_later_setting_wins() {
        let secs = Duration::from_secs;
        let [a, b, c] = [1, 2, 3].map(|generation| ConnId::new(0, 0, generation));
        let mut timers = Timers::default();
        timers.set(a, secs(3));
        timers.set(b, secs(2));
        timers.set(c, secs(1));
        timers.set(c, secs(5));
        timers.set(a, secs(2));
        assert_eq!(timers.next(), Some(secs(2)));
        assert_eq!(timers.due(secs(1)), None);
        assert_eq!([timers.due(secs(4)), timers.due(secs(4))], [Some(a), Some(b)]);
        assert_eq!(timers.due(secs(4)), None);
        timers.cancel(c);
        assert_eq!((timers.due(secs(9)), timers.next()), (None, None));
    }
}
