//! What must hold: the invariants I1 to I16, as far as they can be seen from outside.
//!
//! ```text
//!  peer sends ─▶ Track.sent    service hears ─▶ Track.delivered    in order, no other's
//!  service replies ─▶ owed     peer reads ─▶ got                   in order, all of them
//!  closed(reason) ─▶ is it true?    wait ─▶ is all that is left remembered?
//! ```
//!
//! A connection carries its own account, the [`Ledger`] what is common. Every check
//! panics with what is wrong; the runner adds seed and command.

use std::collections::{BTreeMap, VecDeque};

use oneloop::{CloseReason, Counters};

use super::kernel::{FIXED, MILLI, SECOND, World};
use super::plan::Fault;
use super::wire::{Act, show};

/// The account of one connection.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// Whole messages the peer has sent, and what of them was heard.
    pub(crate) sent: u32,
    pub(crate) delivered: u32,
    /// Replies the service gave, and what of them came.
    pub(crate) owed: u32,
    pub(crate) got: u32,
    /// The same of what timers said.
    pub(crate) notes_owed: u32,
    pub(crate) notes_got: u32,
    /// Which broadcasts it heard, by their place in the log: from here, up to here.
    pub(crate) hears_from: usize,
    pub(crate) heard: Option<usize>,
    /// The peer is in the middle of a message since then.
    pub(crate) partial_since: Option<u64>,
    pub(crate) last_sent: u64,
    /// The same of what was there when the turn began.
    pub(crate) sent_before: u64,
    pub(crate) last_read: u64,
    pub(crate) unblocked: u64,
    /// The turn in which it was told that there is room again.
    pub(crate) unblocked_turn: u64,
    /// Bytes written since the write clock was set anew, and when that was.
    pub(crate) writes: bool,
    pub(crate) write_tally: usize,
    pub(crate) write_since: u64,
    pub(crate) timer: Option<u64>,
    /// What has been done to it, and so how it may end.
    pub(crate) may_be_reset: bool,
    pub(crate) may_fail: bool,
    pub(crate) may_be_unwatched: bool,
    pub(crate) may_be_capped: bool,
    pub(crate) may_be_refused: bool,
    /// A message took as long as its clock allows; the end may come later.
    pub(crate) was_late: bool,
    /// It was silent as long as it may be; the same.
    pub(crate) was_silent: bool,
    pub(crate) cut_off: bool,
    pub(crate) nonsense: bool,
    pub(crate) close_ordered: bool,
    pub(crate) finish_ordered: bool,
    pub(crate) opened: bool,
    pub(crate) over: Option<CloseReason>,
    /// It was closed with bytes that the server still had for it.
    pub(crate) left_behind: bool,
}

impl Track {
    /// The peer sends something.
    pub(crate) fn note_sent(&mut self, now: u64, told_now: u64) {
        self.sent_before = self.known_sent(told_now);
        self.last_sent = now;
    }

    /// When it last sent something, as far as the server can know: what comes while it is
    /// closed for its silence comes too late.
    pub(crate) fn known_sent(&self, told_now: u64) -> u64 {
        if self.last_sent <= told_now { self.last_sent } else { self.sent_before }
    }
}

/// What is common to all connections.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) calls: u64,
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) replies: u64,
    pub(crate) bytes_read: u64,
    pub(crate) streams: usize,
    pub(crate) dialing: usize,
    /// Messages to all, by endpoint, in the order of their posting.
    pub(crate) broadcasts: [Vec<(u8, u32, u32)>; 2],
    /// Messages to one connection that have not come yet.
    pub(crate) mail: BTreeMap<u32, VecDeque<(u32, u32)>>,
    pub(crate) stopping: bool,
    /// Waits in a row in which nothing happened.
    pub(crate) idle_waits: u32,
    pub(crate) progress: u64,
    last_progress: u64,
    pub(crate) accepts_failed: VecDeque<u64>,
    /// A connection was closed since the last accept that failed.
    pub(crate) freed: bool,
    /// Time that slow handlers took.
    pub(crate) slow: u64,
    /// The process was stopped at some time.
    pub(crate) stopped: bool,
    pub(crate) accepts_this_turn: u32,
    waits: u64,
}

/// Every check of a rule names it.
macro_rules! rule {
    ($name:literal, $holds:expr, $($text:tt)*) => {
        if !$holds {
            panic!("{}: {}", $name, format!($($text)*));
        }
    };
}

const TICK: u64 = 100 * MILLI;
/// Reads of one connection in one turn: four, and four more if others wrote to it.
const READS: u32 = 16;
const PROGRESS: usize = 16 << 10;

impl World {
    pub(crate) fn track(&mut self, conn: u32) -> &mut Track {
        &mut self.sockets[conn as usize].track
    }

    /// The service hears a message of `conn`: which?
    pub(crate) fn deliver(&mut self, conn: u32, message: &[u8]) -> Option<(Act, u32)> {
        self.ledger.messages += 1;
        self.ledger.progress += 1;
        self.trace(7, u64::from(conn) << 32 | message.len() as u64);
        let track = &self.sockets[conn as usize].track;
        let (nonsense, number, sent) = (track.nonsense, track.delivered, track.sent);
        rule!("I5", track.opened && track.over.is_none(), "a message of {conn}, which is over");
        let read = self.wire.read(message);
        if nonsense && number >= sent {
            // What it says from there on may be anything, but nobody else's words.
            return None;
        }
        let read = read.unwrap_or_else(|error| panic!("I1: {conn} is said to have sent {error}"));
        let (kind, whose, its) = read;
        rule!(
            "I1",
            (whose, its) == (conn, number) && kind == self.wire.act(conn, number) as u8,
            "message {number} of {conn} was to come, and {its} of {whose} came: {}",
            show(message)
        );
        rule!(
            "I1",
            number < sent,
            "message {number} of {conn} came before its end was sent: {:?} {:?}",
            self.sockets[conn as usize],
            self.peers[self.sockets[conn as usize].peer as usize]
        );
        // What was read before is served piece by piece, as its replies leave: no neglect.
        let turn = self.turn;
        let socket = &mut self.sockets[conn as usize];
        socket.told = if socket.told > 0 { turn } else { 0 };
        socket.track.delivered += 1;
        Some((self.wire.act(conn, number), number))
    }

    /// A connection is over for the service: is the reason true?
    pub(crate) fn close(&mut self, conn: u32, reason: CloseReason) {
        self.ledger.progress += 1;
        self.trace(8, u64::from(conn) << 8 | reason as u64);
        let (now, stopping) = (self.now, self.ledger.stopping);
        let plan = &self.plan;
        let since = |from: u64, limit: std::time::Duration| {
            // What begins while a handler is slow begins, to the loop, before that.
            now.saturating_sub(from) + TICK + self.ledger.slow >= limit.as_nanos() as u64
        };
        let socket = &self.sockets[conn as usize];
        let track = &socket.track;
        rule!("I4", track.over.is_none(), "{conn} ends twice: {:?}, {reason}", track.over);
        let partial = track.partial_since;
        let eof = socket.fin_in && socket.inbound.is_empty() && partial.is_none();
        let all = track.delivered == track.sent || track.nonsense;
        let blocks = plan.chance(Fault::WriteBlock) + plan.chance(Fault::ShortWrite) > 0;
        let allowed = match reason {
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
                track.nonsense || track.was_late || late || withheld
            }
            CloseReason::Idle => {
                let heard = track.known_sent(self.told_now).max(track.last_read);
                track.was_silent || plan.idle_timeout.is_some_and(|idle| since(heard, idle))
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
            CloseReason::MaxConnections => track.may_be_refused,
            CloseReason::RegisterFailed => track.may_be_unwatched,
            CloseReason::IoError => track.may_fail,
            CloseReason::AppClose => track.close_ordered,
            CloseReason::Shutdown => stopping,
            _ => false,
        };
        rule!("I2", allowed, "{conn} ends with {reason} at {now}: {socket:?}");
        self.track(conn).over = Some(reason);
        self.ledger.mail.remove(&conn);
    }

    /// The peer of `conn` reads a message that the server sent.
    pub(crate) fn heard(&mut self, conn: u32, message: &[u8], endpoint: usize) -> (u8, u32, u32) {
        self.ledger.progress += 1;
        let read = self.wire.read(message);
        let (kind, whose, number) =
            read.unwrap_or_else(|error| panic!("I2: {conn} is told {error}"));
        let log = &self.ledger.broadcasts[endpoint];
        let track = &mut self.sockets[conn as usize].track;
        match Act::from_byte(kind) {
            Some(Act::Others | Act::Everyone) => {
                let mut place = match track.heard {
                    Some(last) => last + 1,
                    // Who was accepted a moment later may be among those who hear it.
                    None => log[..track.hears_from]
                        .iter()
                        .rposition(|entry| *entry == (kind, whose, number))
                        .unwrap_or(track.hears_from),
                };
                let skips =
                    |entry: &(u8, u32, u32)| entry.0 == Act::Others as u8 && entry.1 == conn;
                while log.get(place).is_some_and(skips) {
                    place += 1;
                }
                rule!(
                    "I1",
                    log.get(place) == Some(&(kind, whose, number)),
                    "{conn} was to hear {:?}, and hears {number} of {whose}: {place}, {track:?}",
                    log.get(place)
                );
                track.heard = Some(place);
            }
            Some(Act::Send) => {
                let next = self.ledger.mail.get_mut(&conn).and_then(VecDeque::pop_front);
                let over = self.sockets[conn as usize].track.over.is_some();
                rule!(
                    "I1",
                    next == Some((whose, number)) || over && next.is_none(),
                    "{conn} was to get {next:?}, and gets {number} of {whose}"
                );
            }
            _ => {}
        }
        (kind, whose, number)
    }

    /// The server writes: `taken` of `len` bytes.
    pub(crate) fn note_written(&mut self, conn: u32, len: usize, taken: usize) {
        let now = self.now;
        let track = self.track(conn);
        let begins = taken < len && !std::mem::replace(&mut track.writes, taken < len);
        track.write_tally += taken;
        if track.write_tally >= PROGRESS || taken == len || begins {
            track.writes = taken < len;
            track.write_tally = 0;
            track.write_since = now;
        }
    }

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
        if self.ledger.waits.is_multiple_of(seldom) && self.list.is_empty() && !self.bell.rings() {
            self.look_for_the_forgotten(timeout);
        }
    }

    fn look_for_the_forgotten(&self, timeout: Option<u64>) {
        let within = |time: u64| timeout.is_some_and(|timeout| timeout <= time);
        let full = self.ledger.streams >= self.plan.max_connections && !self.plan.refuse;
        if !self.listener.queue.is_empty() && self.listening && !self.listener.listed && !full {
            rule!(
                "I8",
                within(110 * MILLI),
                "{} callers wait, and the server sleeps for {timeout:?}",
                self.listener.queue.len()
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
            } else if socket.has_news() && track.over.is_none() && !socket.fin_read {
                // 10 ms is how long who speaks faster than others listen is held.
                rule!(
                    "I8",
                    within(11 * MILLI),
                    "{conn} has news, asleep for {timeout:?}: {socket:?}"
                );
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
        if self.plan.time_jumps() || !socket.inbound.is_empty() || socket.write_failed {
            return;
        }
        let slack = 3 * SECOND + u64::from(self.plan.chance(Fault::WaitEintr) > 0) * 60 * SECOND;
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

    /// Holds after every turn.
    pub(crate) fn after_turn(&mut self, counters: &Counters, buffered: usize) {
        let closed: u64 = counters.closed.iter().sum();
        let now = (counters.open + counters.dialing) as u64;
        rule!("I4", counters.accepted + counters.dialed == now + closed, "{counters:?}");
        let (here, streams) = (counters.open + counters.lingering, self.ledger.streams);
        rule!(
            "I4",
            (here..=here + counters.dialing).contains(&streams),
            "{streams} sockets, {} of them calling: {counters:?}",
            self.ledger.dialing
        );
        let listener = usize::from(self.listening);
        rule!("I4", self.open == FIXED + listener + streams, "descriptors: {}", self.open);
        let max = self.plan.max_connections * 2;
        rule!("I6", counters.open + counters.dialing <= max, "{} are too many", counters.open);
        let frame = self.plan.max_message + 32;
        // Input: one message and one read; output: the cap. Both in powers of two.
        let each = 2 * (2 * frame + self.plan.high + (64 << 10));
        let all = (counters.open + counters.lingering + counters.dialing) * each;
        rule!("I6", buffered <= all, "{buffered} bytes wait for {counters:?}");
        let fan = self.plan.acts.iter().skip(2).all(|&share| share == 0);
        let most = 4 * self.ledger.bytes_read as usize + 1024 * streams;
        rule!("I16", !fan || buffered <= most, "{buffered} bytes of {}", self.ledger.bytes_read);
        self.turn += 1;
    }

    /// Counts an accept that failed for want of something; forgets those of last second.
    pub(crate) fn note_failed_accept(&mut self) {
        let now = self.now;
        // A descriptor that is freed is a reason to try again.
        if std::mem::replace(&mut self.ledger.freed, false) {
            return;
        }
        let failed = &mut self.ledger.accepts_failed;
        failed.push_back(now);
        while failed.front().is_some_and(|&time| time + SECOND < now) {
            failed.pop_front();
        }
    }

    /// A read of `conn` is about to happen.
    pub(crate) fn note_read(&mut self, conn: u32) {
        let socket = &mut self.sockets[conn as usize];
        let turn = self.turn as u32;
        if socket.track_turn != turn {
            socket.track_turn = turn;
            socket.reads_this_turn = 0;
        }
        socket.reads_this_turn += 1;
        let plain = self.plan.acts.iter().skip(3).all(|&share| share == 0);
        rule!("I10", !plain || socket.reads_this_turn <= READS, "{conn} is read too often");
    }

    /// An edge was told: it must be looked at within a few turns.
    pub(crate) fn note_unfair(&self) {
        let plain = self.plan.acts.iter().skip(3).all(|&share| share == 0);
        for (conn, socket) in self.sockets.iter().enumerate() {
            let track = &socket.track;
            let waits = socket.told > 0 && socket.told + 8 < self.turn;
            // Who has output waiting is not read.
            let idle = track.writes
                || socket.no_space
                || socket.write_failed
                || socket.closed
                || socket.fin_read;
            let over = socket.track.over.is_some();
            rule!(
                "I11",
                !plain || !waits || idle || over,
                "{conn} waits since {}: {socket:?}",
                socket.told
            );
        }
    }
}
