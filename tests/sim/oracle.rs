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
use std::time::Duration;

use oneloop::CloseReason;

use super::kernel::{MILLI, World};
use super::quota::Bucket;
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
    sent_before: u64,
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
    /// It said nothing for as long as that may be.
    pub(crate) was_idle: bool,
    pub(crate) cut_off: bool,
    pub(crate) nonsense: bool,
    pub(crate) close_ordered: bool,
    pub(crate) finish_ordered: bool,
    /// The turn in which that was, and the last message that was answered before it.
    pub(crate) finish_turn: u64,
    pub(crate) speaks_to: u32,
    pub(crate) opened: bool,
    pub(crate) over: Option<CloseReason>,
    /// How fast it speaks, and how often it is wrong.
    pub(crate) messages: Bucket,
    pub(crate) errors: Bucket,
    pub(crate) reset_ordered: bool,
    /// The service panicked over it.
    pub(crate) panicked: bool,
    /// It did so when it heard of the end, which is at once then.
    pub(crate) panicked_last: bool,
    /// Messages that were there when the server was told to end.
    pub(crate) due: Option<u32>,
    /// It ended before the drain was over.
    pub(crate) in_time: bool,
    /// Messages of other threads to all: those before it came, and the last it heard.
    pub(crate) shouts_from: u32,
    pub(crate) shouts_heard: Option<u32>,
    /// It was closed with bytes that the server still had for it.
    pub(crate) left_behind: bool,
}

impl Track {
    /// The peer sends something.
    pub(crate) fn note_sent(&mut self, now: u64, told_now: u64, idle: Option<Duration>) {
        let silent = now - self.last_sent + TICK;
        self.was_idle |= idle.is_some_and(|idle| silent >= idle.as_nanos() as u64);
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
    /// Messages of other threads to all, so far.
    pub(crate) shouts: u32,
    pub(crate) stopping: bool,
    /// When the server was told to end.
    pub(crate) stop_at: Option<u64>,
    /// Connections that count, by endpoint.
    pub(crate) live: [usize; 2],
    /// Bytes the service has said, counted for each who is to hear them.
    pub(crate) said: u64,
    /// The same, and bytes read, when the turn began, and what waited then.
    pub(super) said_before: u64,
    pub(super) read_before: u64,
    pub(crate) buffered: usize,
    /// Callers wait, and there is too little memory to let them in, since then.
    pub(super) shut_since: Option<u64>,
    pub(crate) tight_turns: u64,
    pub(crate) hung_up: u64,
    pub(crate) panics: u64,
    /// Connections that were wrong more often than they may be.
    pub(crate) overdrawn: Vec<u32>,
    /// Messages for others in this turn.
    pub(crate) posts: u32,
    /// The host does not say how long the loop may sleep.
    pub(crate) no_host: bool,
    pub(crate) calling: usize,
    /// Waits in a row in which nothing happened.
    pub(crate) idle_waits: u32,
    pub(crate) progress: u64,
    pub(super) last_progress: u64,
    pub(crate) accepts_failed: VecDeque<u64>,
    /// A connection was closed since the last accept that failed.
    pub(crate) freed: bool,
    /// Time that slow handlers took.
    pub(crate) slow: u64,
    pub(crate) longest_turn: u64,
    /// The process was stopped at some time.
    pub(crate) stopped: bool,
    pub(crate) accepts_this_turn: u32,
    pub(super) waits: u64,
}

/// Every check of a rule names it.
macro_rules! rule {
    ($name:literal, $holds:expr, $($text:tt)*) => {
        if !$holds {
            panic!("{}: {}", $name, format!($($text)*));
        }
    };
}

pub(super) use rule;

pub(super) const TICK: u64 = 100 * MILLI;
pub(super) const PROGRESS: usize = 16 << 10;

impl World {
    pub(crate) fn track(&mut self, conn: u32) -> &mut Track {
        &mut self.sockets[conn as usize].track
    }

    /// The service hears a message of `conn`: which?
    pub(crate) fn deliver(&mut self, conn: u32, message: &[u8]) -> Option<(Act, u32)> {
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
        self.ledger.messages += 1;
        if let Some(pace) = self.plan.message_rate {
            let now = self.told_now;
            let may = self.track(conn).messages.take(pace, now);
            rule!("I6", may, "message {number} of {conn} is one too many: {pace:?}");
        }
        // What was read before is served piece by piece, as its replies leave: no neglect.
        let turn = self.turn;
        let socket = &mut self.sockets[conn as usize];
        if socket.told > 0 {
            (socket.told, socket.told_at) = (turn, self.now);
        }
        socket.track.delivered += 1;
        Some((self.wire.act(conn, number), number))
    }

    /// The service answers that message; once we have finished, the answer goes nowhere.
    pub(crate) fn note_answer(&mut self, conn: u32, number: u32) {
        let turn = self.turn;
        let track = self.track(conn);
        if !track.finish_ordered || track.finish_turn == turn {
            track.speaks_to = number;
        }
    }

    /// The service orders that we finish, which is done when the turn is over at the latest.
    pub(crate) fn note_finish(&mut self, conn: u32) {
        let turn = self.turn;
        let track = self.track(conn);
        if !track.finish_ordered {
            (track.finish_ordered, track.finish_turn) = (true, turn);
        }
        self.ledger.posts += 1;
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
            // Of another thread, to this one.
            None if kind == b'H' => {
                rule!("I1", whose == conn, "{conn} hears what {whose} was told")
            }
            // Of another thread, to all.
            None if kind == b'B' => {
                let from = track.shouts_from;
                let next = track.shouts_heard.map_or(number.max(from), |last| last + 1);
                // Who was accepted a moment later may be among those who hear it.
                let first = track.shouts_heard.is_none() && number + 8 >= from && number <= from;
                rule!(
                    "I1",
                    number == next || first,
                    "{conn} hears {number} of {next}, from {from}"
                );
                track.shouts_heard = Some(number);
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
}
