//! What must hold when the loop goes to sleep: all that is left to do is remembered, by
//! an edge that will come or by a time at which it wakes up (I7, I8), it does not spin
//! (I9), and nobody outlives a clock.

use oneloop::WhenFull;

use super::kernel::{MILLI, SECOND, World};
use super::oracle::rule;
use super::plan::Fault;

impl World {
    /// The server goes to sleep for `timeout` ns: is all that is left remembered?
    pub(crate) fn before_sleep(&mut self, timeout: Option<u64>) {
        self.ledger.waits += 1;
        let progress = std::mem::replace(&mut self.ledger.last_progress, self.ledger.progress);
        let rests = timeout != Some(0) || progress != self.ledger.progress;
        self.ledger.idle_waits = if rests { 0 } else { self.ledger.idle_waits + 1 };
        rule!("I9", self.ledger.idle_waits < 300, "300 waits in a row, and nothing happens");
        rule!("I10", self.ledger.accepts_this_turn <= 129, "too many accepts in a turn");
        self.ledger.accepts_this_turn = 0;
        let rate = self.ledger.accepts_failed.len();
        rule!("I9", rate < 100, "{rate} accepts fail within a second");
        // Looking at a crowd at each wait would be all that is done.
        let seldom = self.sockets.len() as u64 / 8 + 1;
        if self.ledger.waits.is_multiple_of(seldom)
            && self.list.is_empty()
            && !self.bell.rings()
            && !self.signal
        {
            self.look_for_the_forgotten(timeout);
        }
    }

    /// How long a sweep may be put off: after a signal there may be more to read first.
    pub(super) fn delays(&self) -> u64 {
        u64::from(self.plan.chance(Fault::WaitEintr) > 0) * 60 * SECOND
    }

    fn look_for_the_forgotten(&self, timeout: Option<u64>) {
        let within = |time: u64| timeout.is_some_and(|timeout| timeout <= time);
        let waits = self.plan.when_full == WhenFull::Wait;
        let full = self.ledger.streams >= self.plan.max_connections && waits;
        // While memory is short, who waits is thought of at each sweep.
        let soon = if self.is_tight() { 1100 * MILLI } else { 110 * MILLI };
        if !self.listener.queue.is_empty() && self.listening && !self.listener.listed && !full {
            rule!(
                "I8",
                within(soon),
                "{} callers wait, and the server sleeps for {timeout:?}",
                self.listener.queue.len()
            );
        }
        let nobody = self.ledger.streams + self.ledger.calling == 0 && self.ledger.no_host;
        if nobody && self.listener.queue.is_empty() && !self.ledger.stopping {
            // Who was paused, or is to be accepted later, may have left since.
            let soon = self.plan.message_rate.is_some() || within(110 * MILLI);
            rule!(
                "I9",
                timeout.is_none() || soon,
                "nobody is there, and it will wake up in {timeout:?}"
            );
        }
        for (conn, socket) in self.sockets.iter().enumerate() {
            let surely = socket.listed || socket.armed > 0;
            if socket.closed || !socket.ours || surely || socket.token.is_none() {
                continue;
            }
            let track = &socket.track;
            if socket.dialed && socket.answer != Some(Ok(())) {
                rule!("I8", timeout.is_some(), "nobody answers {conn}, and the server waits");
                continue;
            }
            if socket.no_space {
                // Who is turned away is told so once, as far as there is room.
                let told = socket.watches_write || !track.opened;
                rule!("I8", told, "{conn} has no room, nobody asked for more: {socket:?}");
            } else if socket.write_failed {
                rule!("I8", within(1100 * MILLI), "{conn} was not written, nobody tries again");
                let since = self.now - socket.write_tried;
                let patient = 4 * SECOND + self.delays();
                rule!(
                    "I8",
                    since <= patient || self.plan.time_jumps(),
                    "{conn} has waited for {since}"
                );
            } else if socket.has_news() && track.over.is_none() && !socket.fin_read {
                // 10 ms is how long who speaks faster than others listen is held; a second who
                // speaks faster than it may, or needs memory.
                let soon = match (self.plan.message_rate, self.plan.memory.is_some()) {
                    (Some(_), _) => 1010 * MILLI,
                    (None, true) => 1100 * MILLI,
                    (None, false) => 11 * MILLI,
                };
                rule!("I8", within(soon), "{conn} has news, asleep for {timeout:?}: {socket:?}");
            }
            // Who is ending hears no timer, and that shows only by what waits to be sent.
            let ending = socket.no_space || socket.write_failed || track.close_ordered;
            let sure = !socket.fin_in && !socket.fin_out && !ending && !track.nonsense;
            if let (Some(due), true) = (track.timer, sure && track.over.is_none()) {
                let left = due.saturating_sub(self.now) + 2 * MILLI;
                rule!("I7", within(left), "the timer of {conn} is due in {left}");
            }
            self.look_at_clocks(conn, timeout);
        }
    }

    /// Nobody outlives a deadline by more than a sweep and a tick.
    fn look_at_clocks(&self, conn: usize, timeout: Option<u64>) {
        let socket = &self.sockets[conn];
        let track = &socket.track;
        // Who says nothing more, and listens, may do so for ever.
        let ends = socket.fin_out && !track.finish_ordered;
        if socket.no_space || (track.partial_since.is_some() && !track.nonsense) || ends {
            rule!(
                "I7",
                timeout.is_some(),
                "{conn} has a clock, and the server has none: {socket:?}"
            );
        }
        let rests = self.plan.message_rate.is_some() || self.is_tight();
        if self.plan.time_jumps() || !socket.inbound.is_empty() || socket.write_failed || rests {
            return;
        }
        let slack = 3 * SECOND + self.delays();
        let late = |from: u64, limit: std::time::Duration| {
            self.now > from + limit.as_nanos() as u64 + slack
        };
        let listens = !socket.no_space && !socket.fin_out && !socket.fin_in && !track.nonsense;
        if let (Some(from), true) = (track.partial_since, listens && track.over.is_none()) {
            let announced = (self.plan.max_message as u64 >> 12) * SECOND;
            let from = from.max(track.unblocked).max(track.last_sent) + announced;
            rule!(
                "I7",
                !late(from, self.plan.frame_timeout),
                "{conn} is in a message since {from}"
            );
        }
        if socket.no_space && track.over.is_none() {
            let from = track.write_since.max(track.unblocked);
            rule!(
                "I7",
                !late(from, self.plan.write_timeout),
                "{conn} takes nothing since {from}, now {}: {socket:?} {:?}",
                self.now,
                self.plan
            );
        }
    }
}
