//! The timers that services set: at most one a connection.
//!
//! The clocks that every connection has are not in here. Those are found by a
//! sweep over all connections once a second, which costs nothing per message.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::proto::service::ConnId;

/// Forgotten entries that are always allowed, so that a heap of a few is not cleaned all
/// the time.
const FEW: usize = 64;

/// Who wants to be called, and when.
///
/// A heap gives up none but its first, so what was forgotten stays in it until it comes
/// up, or until half of the heap is like that.
///
/// Invariant: each pair of `by_conn` is in `by_time`, and what is first there is one.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BinaryHeap<Reverse<(Duration, ConnId)>>,
    by_conn: HashMap<ConnId, Duration>,
}

impl Timers {
    /// Calls `id` at `time`, and not at the time set before.
    pub(crate) fn set(&mut self, id: ConnId, time: Duration) {
        self.by_conn.insert(id, time);
        self.by_time.push(Reverse((time, id)));
        self.clean();
    }

    /// Forgets `id`.
    pub(crate) fn cancel(&mut self, id: ConnId) {
        if self.by_conn.is_empty() {
            return;
        }
        self.by_conn.remove(&id);
        self.clean();
    }

    /// Takes the next one whose time has come.
    pub(crate) fn due(&mut self, now: Duration) -> Option<ConnId> {
        let &Reverse((time, id)) = self.by_time.peek()?;
        if time > now {
            return None;
        }
        self.cancel(id);
        Some(id)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.peek().map(|&Reverse((time, _))| time)
    }

    /// Lets go of what was forgotten, as far as it is first or too much.
    fn clean(&mut self) {
        let by_conn = &self.by_conn;
        let holds = |&Reverse((time, id)): &_| by_conn.get(&id) == Some(&time);
        if self.by_time.len() > 2 * by_conn.len() + FEW {
            self.by_time.retain(holds);
        }
        while self.by_time.peek().is_some_and(|first| !holds(first)) {
            self.by_time.pop();
        }
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

    #[test]
    fn a_timer_that_is_set_again_and_again_takes_no_more_memory_and_comes_once() {
        let mut timers = Timers::default();
        let [early, late] = [1, 2].map(|generation| ConnId::new(0, 0, generation));
        let millis = Duration::from_millis;
        timers.set(early, millis(1));
        // Behind one that comes first, so that none of these ever comes up.
        (0..10_000).for_each(|n| timers.set(late, millis(10_000 - n % 100)));
        assert!(timers.by_time.len() <= 2 * 2 + FEW, "{} entries", timers.by_time.len());
        assert_eq!([timers.due(millis(9_900)), timers.due(millis(9_900))], [Some(early), None]);
        assert_eq!(timers.next(), Some(millis(9_901)));
        assert_eq!([timers.due(millis(9_901)), timers.due(millis(99_999))], [Some(late), None]);
        assert_eq!(timers.by_time.len(), 0);
    }

    /// One cancel makes the bound two smaller and the heap no smaller, so the two need not
    /// meet: whoever asks whether they are equal may never clean again.
    #[test]
    fn what_is_cancelled_behind_an_early_timer_stays_up_to_the_bound_and_never_above_it() {
        let id = |generation| ConnId::new(0, 0, generation);
        let bound = |live: usize| 2 * live + FEW;
        // An odd number and an even one: a heap that jumps over its bound, and one that meets it.
        for count in [999, 1000] {
            let mut timers = Timers::default();
            timers.set(id(0), Duration::from_millis(1));
            for n in 1..count {
                timers.set(id(n), Duration::from_secs(1 + u64::from(n)));
                assert_eq!(timers.by_time.len(), timers.by_conn.len(), "{count}: set {n}");
            }
            for n in 1..count {
                let before = timers.by_time.len();
                timers.cancel(id(n));
                let live = timers.by_conn.len();
                let expected = if before <= bound(live) { before } else { live };
                assert_eq!(timers.by_time.len(), expected, "{count}: cancel {n}, {live} live");
            }
            assert_eq!(timers.next(), Some(Duration::from_millis(1)), "{count}");
        }
    }
}
