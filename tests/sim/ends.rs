//! How connections may end: whether the reason that is given is true, and whether a
//! socket is closed, or reset, only when there is a cause.

use oneloop::{CloseReason, WhenFull};

use super::kernel::{SECOND, World};
use super::oracle::{PROGRESS, TICK, rule};
use super::plan::Fault;
use super::socket::Socket;

/// Bytes that a closed connection reads at most before it is given up.
const PATIENCE: u64 = 4 << 20;

impl World {
    /// A connection is there for the service.
    pub(crate) fn open(&mut self, conn: u32, endpoint: usize) {
        self.ledger.live[endpoint] += 1;
        self.ledger.progress += 1;
        let (from, shouts) = (self.ledger.broadcasts[endpoint].len(), self.ledger.shouts);
        let track = self.track(conn);
        rule!("I4", !track.opened, "{conn} is opened twice");
        track.opened = true;
        (track.hears_from, track.shouts_from) = (from, shouts);
        let (live, most) = (self.ledger.live[endpoint], self.plan.max_connections);
        rule!("I6", live <= most, "{live} connections");
        if endpoint == 0 {
            let host = self.host(conn);
            let open = self.hosts.enter(host);
            let exempt = self.plan.exempt && host == 0;
            let most = self.plan.per_ip.filter(|_| !exempt);
            rule!("I6", most.is_none_or(|most| open <= most), "{open} of one address");
        }
    }

    /// A connection is over for the service: is the reason true?
    pub(crate) fn close(&mut self, conn: u32, reason: CloseReason) {
        self.ledger.progress += 1;
        self.trace(8, u64::from(conn) << 8 | reason as u64);
        let (now, socket) = (self.now, &self.sockets[conn as usize]);
        let track = &socket.track;
        rule!("I4", track.over.is_none(), "{conn} ends twice: {:?}, {reason}", track.over);
        rule!("I2", self.is_true(conn, reason), "{conn} ends with {reason} at {now}: {socket:?}");
        rule!(
            "I15",
            !track.panicked || reason == CloseReason::HandlerPanic,
            "{conn} ends with {reason}, and its service panicked"
        );
        let in_time = self.is_in_time();
        let endpoint = usize::from(socket.dialed);
        if endpoint == 0 {
            let host = self.host(conn);
            self.hosts.leave(host);
        }
        self.ledger.live[endpoint] -= 1;
        let track = self.track(conn);
        (track.over, track.in_time) = (Some(reason), in_time);
        self.ledger.mail.remove(&conn);
    }

    /// Whether `conn` can have ended for that reason.
    fn is_true(&self, conn: u32, reason: CloseReason) -> bool {
        let (now, stopping) = (self.now, self.ledger.stopping);
        let plan = &self.plan;
        // What begins in a long turn, or while a handler is slow, begins, to the loop, before.
        let long = self.ledger.longest_turn.max(now - self.told_now);
        let since = |from: u64, limit: std::time::Duration| {
            now.saturating_sub(from) + TICK + self.ledger.slow + long >= limit.as_nanos() as u64
        };
        let socket = &self.sockets[conn as usize];
        let track = &socket.track;
        let partial = track.partial_since;
        let eof = socket.fin_in && socket.inbound.is_empty() && partial.is_none();
        let all = track.delivered == track.sent || track.nonsense;
        let blocks = plan.chance(Fault::WriteBlock) + plan.chance(Fault::ShortWrite) > 0;
        match reason {
            CloseReason::PeerEof => eof && all || track.nonsense,
            CloseReason::Truncated => socket.fin_in && (partial.is_some() || track.nonsense),
            CloseReason::PeerReset => track.may_be_reset || track.may_fail,
            CloseReason::BadFrame | CloseReason::TooLong => track.nonsense,
            CloseReason::FrameDeadline => {
                let late = partial.is_some_and(|from| since(from, plan.frame_timeout));
                // Stopped for long, it reads once more; but not what is withheld then.
                let away = self.ledger.stopped || self.ledger.slow > 0;
                let withholds = [Fault::ReadBlock, Fault::ShortRead, Fault::Delay];
                let withheld = away && withholds.iter().any(|&fault| plan.chance(fault) > 0);
                // Who is not read for want of memory can be late by that, too.
                let starved = plan.memory.is_some() && !socket.inbound.is_empty();
                track.nonsense || track.was_late || late || withheld || starved
            }
            CloseReason::Idle => {
                let heard = match socket.inbound.is_empty() {
                    true => track.last_read,
                    false => track.known_sent(self.told_now).max(track.last_read),
                };
                track.was_idle || plan.idle_timeout.is_some_and(|idle| since(heard, idle))
            }
            CloseReason::WriteStall => {
                socket.no_space && since(track.write_since, plan.write_timeout)
                    || socket.write_failed
                    || track.may_fail
                    // Stopped for long, the loop gives one more chance, of one buffer.
                    || (self.ledger.stopped && (plan.send_buffer < PROGRESS || blocks))
            }
            CloseReason::OutputCap => {
                // What is said to all may come to it before its turn, which would have made room.
                let waits = track.unblocked_turn == self.turn;
                let behind = track.writes || socket.no_space || socket.write_failed || waits;
                behind || track.may_be_capped
            }
            CloseReason::Memory => self.is_short_of_memory() && self.may_hold(socket),
            CloseReason::Rate => track.errors.is_overdrawn(),
            CloseReason::Evicted => self.is_the_longest_silent(conn),
            CloseReason::HandlerPanic => track.panicked,
            CloseReason::MaxConnections => track.may_be_refused,
            CloseReason::RegisterFailed => track.may_be_unwatched,
            CloseReason::IoError => track.may_fail,
            CloseReason::AppClose => track.close_ordered,
            CloseReason::Shutdown => stopping && self.may_be_shut_down(socket),
            _ => false,
        }
    }

    /// Whether there may be so little memory that someone has to go: at least nine tenths
    /// of it are held, with all that can have come since the turn began.
    fn is_short_of_memory(&self) -> bool {
        let ledger = &self.ledger;
        let come = ledger.bytes_read - ledger.read_before + ledger.said - ledger.said_before;
        // A buffer that has to grow takes twice as much.
        let held = 2 * ledger.buffered as u64 + 4 * come + 128 * ledger.streams as u64;
        self.plan.memory.is_some_and(|memory| 10 * held >= 9 * memory as u64)
    }

    /// Whether anything can wait for it.
    fn may_hold(&self, socket: &Socket) -> bool {
        let track = &socket.track;
        let output = track.writes || socket.no_space || socket.write_failed;
        let input = socket.bytes_read > 0 && track.partial_since.is_some()
            || track.delivered < track.sent
            || track.cut_off;
        let others = track.unblocked_turn == self.turn || self.ledger.posts > 0;
        output || input || others || track.nonsense || socket.fin_out
    }

    /// Whether all places are taken, and nobody has been silent for longer.
    fn is_the_longest_silent(&self, conn: u32) -> bool {
        let full = self.ledger.live[0] >= self.plan.max_connections;
        let read = |socket: &Socket| socket.track.last_read;
        let when = read(&self.sockets[conn as usize]);
        let silent = self.is_silent(&self.sockets[conn as usize]);
        let here =
            |socket: &&Socket| !socket.dialed && socket.track.opened && socket.track.over.is_none();
        let longer = |socket: &Socket| read(socket) + TICK < when;
        let longest = !self.sockets.iter().filter(here).any(longer);
        self.plan.when_full == WhenFull::Evict && full && silent && longest
    }

    /// The server is told to end: what has come by now is to be answered.
    pub(crate) fn note_due(&mut self) {
        self.ledger.stop_at = Some(self.now);
        for socket in &mut self.sockets {
            let track = &mut socket.track;
            let sure = !track.nonsense && !track.close_ordered && !track.finish_ordered;
            let due = !self.faulty && sure && socket.token.is_some() && !socket.reset_in;
            // One that was begun, too: all of it that there is has been read.
            let begun = track.partial_since.is_some() && socket.inbound.is_empty();
            track.due = due.then_some(track.sent + u32::from(begun));
        }
    }

    /// Whether nothing was read from it for a second.
    fn is_silent(&self, socket: &Socket) -> bool {
        self.told_now.saturating_sub(socket.track.last_read) + TICK >= SECOND
    }

    /// Whether the drain is not over.
    fn is_in_time(&self) -> bool {
        let drain = self.plan.drain.as_nanos() as u64;
        self.ledger.stop_at.is_some_and(|at| self.now < at + drain)
    }

    /// Before the drain is over, what had come when the server was told to end is answered.
    fn may_be_shut_down(&self, socket: &Socket) -> bool {
        let due = socket.track.due.unwrap_or_default();
        !self.is_in_time() || socket.track.delivered >= due
    }

    /// A socket is closed: whoever is not at its end, and did nothing, would be reset, or
    /// lose what is under way.
    pub(crate) fn check_close(&mut self, conn: u32) {
        let socket = &self.sockets[conn as usize];
        let track = &socket.track;
        rule!("I2", !track.reset_ordered, "{conn} was to be reset, and is closed");
        let called = socket.dialed && !track.opened;
        if called || socket.answer != Some(Ok(())) || socket.fin_read || socket.reset_in {
            return;
        }
        if !socket.dialed && socket.token.is_none() && !track.may_be_unwatched {
            rule!("I6", socket.fate.is_some(), "{conn} is hung up on: {socket:?}");
            self.ledger.hung_up += 1;
            return;
        }
        let excused =
            track.may_fail || track.may_be_reset || track.may_be_unwatched || track.panicked_last;
        let at_once = match track.over {
            Some(
                CloseReason::WriteStall
                | CloseReason::OutputCap
                | CloseReason::Memory
                | CloseReason::Evicted
                | CloseReason::HandlerPanic,
            ) => true,
            // Who is ending in order may have to go before.
            Some(_) => {
                let late = self.ledger.stopping && !self.is_in_time();
                let evicts = self.plan.when_full == WhenFull::Evict && self.is_silent(socket);
                late || self.is_short_of_memory() || evicts
            }
            // Only the service's connections are heard of.
            None => track.opened || self.ledger.stopping,
        };
        let waited = socket.fin_out && self.now + TICK >= socket.finished_at + SECOND;
        // What began while a handler was slow began, to the loop, before that.
        let blocked = self.now - track.write_since + TICK + self.ledger.slow;
        let stalled = self.plan.write_timeout.as_nanos() as u64 <= blocked
            && (socket.no_space || socket.write_failed);
        let patient = waited || stalled || socket.bytes_read >= PATIENCE;
        rule!("I2", excused || at_once || patient, "{conn} is closed for nothing: {socket:?}");
    }

    /// A socket is reset: someone wants that.
    pub(crate) fn check_reset(&mut self, conn: u32) {
        let track = self.track(conn);
        let ordered = std::mem::take(&mut track.reset_ordered);
        rule!("I2", ordered, "{conn} is reset for nothing: {track:?}");
    }
}
