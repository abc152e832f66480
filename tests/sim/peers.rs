//! The other ends: scripts that call, talk, listen, and misbehave.
//!
//! ```text
//!  call ─▶ read ─▶ say more ─▶ all said and answered? ─▶ FIN, stay or call again
//!   ▲        └─────── due: the next step ──────┘              │
//!   └──────────────────────────────────────────────────────────┘
//! ```
//!
//! All of them follow one script with other numbers: a dripper sends one byte at a time,
//! a mute never reads. What they get they check byte by byte against what they sent.
//! They know the kernel's sockets and no server.

use std::collections::VecDeque;
use std::fmt;

use oneloop::CloseReason;

use super::kernel::{MILLI, SECOND, World};
use super::plan::Fault;
use super::rng::Rng;
use super::wire::{Act, Codec, RECEIPT};

/// How one peer behaves.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Messages of one connection, and how many connections.
    messages: u32,
    calls: u32,
    /// Messages that may wait for their answer.
    depth: u32,
    /// Bytes sent and read in one step, and the time between two, in ns.
    chunk: usize,
    appetite: usize,
    delay: u64,
    reads: bool,
    /// Finishes sending before the answers are there.
    half_closes: bool,
    /// Stays until the server ends it.
    stays: bool,
}

impl Script {
    fn draw(rng: &mut Rng, messages: u32, herd: bool) -> Self {
        let plain = Self {
            messages,
            calls: 1,
            depth: rng.scale(1, 64) as u32,
            chunk: rng.scale(1, 100_000) as usize,
            appetite: rng.scale(16, 100_000) as usize,
            delay: rng.scale(1000, 10 * MILLI),
            reads: true,
            half_closes: false,
            stays: false,
        };
        if herd {
            return Self { chunk: 1 << 20, appetite: 1 << 20, ..plain };
        }
        match rng.below(10) {
            // dripper, mute, half-closer, flooder, reconnector
            0 => Self { messages: messages.min(5), chunk: 1, delay: 20 * MILLI, ..plain },
            1 => Self { reads: false, depth: 1 << 20, ..plain },
            2 => Self { half_closes: true, depth: 1 << 20, ..plain },
            3 => Self { messages: messages * 4, depth: 1000, chunk: 1 << 20, delay: 1000, ..plain },
            4 => Self { messages: messages.min(20), calls: 20, ..plain },
            5 | 6 => Self { stays: true, ..plain },
            _ => plain,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, conn, script, next, expects, due, finished, .. } = self;
        let (out, heard) = (self.out.len() - self.sent, self.heard.len());
        write!(
            f,
            "peer {index} on {conn:?}: next {next}, expects {expects}, {out} bytes to send, \
             {heard} of a message heard, due {due}, finished {finished}, {script:?}"
        )
    }
}

/// One peer, perhaps with a connection.
pub(crate) struct Peer {
    pub(crate) index: u32,
    /// When it takes its next step; `u64::MAX`: when it is woken.
    pub(crate) due: u64,
    pub(crate) latency: u64,
    /// Called by the server, it does not answer.
    pub(crate) refuses: bool,
    /// What it was told before it answered.
    pub(crate) greeting: Option<(u32, u32)>,
    /// There is nothing more it wants.
    pub(crate) done: bool,
    is_called: bool,
    script: Script,
    rng: Rng,
    conn: Option<u32>,
    /// The connection it has, or had.
    pub(crate) last: Option<u32>,
    refusals: u32,
    /// Said but not sent yet, and where each message ends, counted from the first byte.
    out: Vec<u8>,
    sent: usize,
    begun: u64,
    ends: VecDeque<u64>,
    last_end: u64,
    /// The number of the next message to say, and of the next to be answered.
    next: u32,
    expects: u32,
    copies: u32,
    heard: Vec<u8>,
    scratch: Vec<u8>,
    closed_for: u64,
    finished: bool,
}

impl Peer {
    pub(crate) fn new(index: u32, seed: u64, messages: u32, herd: bool, is_called: bool) -> Self {
        let mut rng = Rng(seed ^ u64::from(index + 1).wrapping_mul(0x1234_5678_9abc_def1));
        let mut script = Script::draw(&mut rng, messages, herd);
        if is_called {
            (script.messages, script.calls) = (script.messages.min(10), 1);
        }
        Self {
            index,
            due: u64::MAX,
            latency: rng.scale(1000, MILLI),
            refuses: false,
            greeting: None,
            done: false,
            is_called,
            script,
            rng,
            conn: None,
            last: None,
            refusals: 0,
            out: Vec::new(),
            sent: 0,
            begun: 0,
            ends: VecDeque::new(),
            last_end: 0,
            next: 0,
            expects: 0,
            copies: 0,
            heard: Vec::new(),
            scratch: Vec::new(),
            closed_for: 0,
            finished: false,
        }
    }

    /// It has a connection now.
    pub(crate) fn begin(&mut self, conn: u32) {
        self.conn = Some(conn);
        self.last = self.conn;
        (self.sent, self.begun, self.next, self.expects, self.copies) = (0, 0, 0, 0, 0);
        self.out.clear();
        self.ends.clear();
        self.last_end = 0;
        self.heard.clear();
        self.closed_for = 0;
        self.finished = false;
    }

    pub(crate) fn connection(&self) -> Option<u32> {
        self.conn
    }

    /// The faults are over: it says no more than it has begun, and does so at once.
    pub(crate) fn hurry(&mut self, crowded: bool) {
        let script = &mut self.script;
        (script.chunk, script.appetite, script.delay) = (1 << 20, 1 << 20, 10_000);
        script.messages = self.next;
        script.calls = script.calls.min(1);
        // Where there is no room for all, nobody stays.
        script.stays &= !crowded;
        self.closed_for = 0;
    }

    /// Whether it ends as it should, once nothing disturbs it.
    pub(crate) fn is_honest(&self) -> bool {
        self.script.reads
    }

    pub(crate) fn is_content(&self, w: &World) -> bool {
        let stays = || {
            self.script.stays
                && self.conn.is_some_and(|conn| {
                    self.out.len() == self.sent && self.answered(w) && w.sockets[conn as usize].ours
                })
        };
        let gone = || self.conn.is_none_or(|conn| w.sockets[conn as usize].closed);
        self.done || !self.script.reads || (self.is_called && gone()) || stays()
    }

    pub(crate) fn step(&mut self, w: &mut World) {
        if self.done {
            return;
        }
        let Some(conn) = self.conn else { return self.dial(w) };
        if w.sockets[conn as usize].answer != Some(Ok(())) {
            return;
        }
        self.read(w, conn);
        if self.is_over(w, conn) {
            return self.leave(w, conn);
        }
        if w.faulty && self.misbehaves(w, conn) {
            return;
        }
        if !self.finished {
            self.say(w, conn);
        }
        self.plan_next(w, conn);
    }

    fn dial(&mut self, w: &mut World) {
        if self.is_called {
            return;
        }
        if self.script.calls == 0 || self.refusals > 50 || w.ledger.stopping {
            self.done = true;
            return;
        }
        match w.call(self.index) {
            Some(conn) => {
                self.script.calls -= 1;
                self.begin(conn);
                self.due = w.now + self.script.delay;
            }
            None => self.due = w.now + SECOND + self.rng.below(SECOND),
        }
    }

    /// Takes what came, and checks it.
    fn read(&mut self, w: &mut World, conn: u32) {
        let socket = &w.sockets[conn as usize];
        if !self.script.reads || w.now < self.closed_for || socket.outbound.is_empty() {
            return;
        }
        let count = socket.outbound.len().min(self.script.appetite);
        self.heard.extend_from_slice(&socket.outbound.waiting()[..count]);
        w.peer_takes(conn, count);
        let mut used = 0;
        // Someone who was turned away is told so in words that are no message of ours.
        if !w.sockets[conn as usize].track.may_be_refused || w.track(conn).opened {
            while let Some((message, len)) = w.wire.codec.decode(&self.heard[used..]) {
                let message = used + message.start..used + message.end;
                self.hear(w, conn, message);
                used += len;
            }
        }
        self.heard.drain(..used);
    }

    fn hear(&mut self, w: &mut World, conn: u32, message: std::ops::Range<usize>) {
        w.ledger.replies += 1;
        let message = &self.heard[message];
        let replies = |w: &World, number: u32| w.wire.replies(conn, number);
        while self.expects < self.next && self.copies >= replies(w, self.expects) {
            (self.expects, self.copies) = (self.expects + 1, 0);
        }
        let (expects, act) = (self.expects, w.wire.act(conn, self.expects));
        if message == RECEIPT {
            assert!(act == Act::Receipt, "I2: {conn} gets a receipt, {act:?} {expects} is due");
        } else {
            let endpoint = usize::from(self.is_called);
            let (kind, whose, number) = w.heard(conn, message, endpoint);
            match Act::from_byte(kind) {
                Some(Act::Others | Act::Everyone | Act::Send) => return,
                _ if kind == b'T' => {
                    assert_eq!(whose, conn, "I1: another's timer");
                    w.track(conn).notes_got += 1;
                    return;
                }
                _ if kind == b'G' => {
                    let told = self.greeting.take();
                    assert_eq!(told, Some((whose, number)), "I1: a greeting for another");
                    return;
                }
                _ => {}
            }
            assert!(
                (whose, number) == (conn, expects) && act != Act::Receipt,
                "I2: the reply to {expects} of {conn} is due, that to {number} of {whose} came"
            );
        }
        assert!(self.copies < replies(w, expects), "I2: {conn} gets a reply too many");
        self.copies += 1;
        w.track(conn).got += 1;
    }

    /// Whether nothing more will come, and nothing can be said.
    fn is_over(&self, w: &World, conn: u32) -> bool {
        let socket = &w.sockets[conn as usize];
        let ended = socket.reset_out || socket.fin_out || socket.closed;
        let heard_all = socket.outbound.is_empty() || !self.script.reads;
        ended && (heard_all || socket.reset_out)
    }

    /// The server has ended it.
    fn leave(&mut self, w: &mut World, conn: u32) {
        self.check_end(w, conn);
        let socket = &w.sockets[conn as usize];
        // Said once more than was served: only half of it is over.
        if socket.track.finish_ordered && !socket.closed && !self.finished {
            // There will be no answer to wait for.
            self.script.depth = u32::MAX;
            self.say(w, conn);
            if !self.finished && (self.next < self.script.messages || !self.all_sent()) {
                return self.plan_next(w, conn);
            }
        }
        let refused = !socket_opened(w, conn);
        if !w.sockets[conn as usize].closed {
            self.finish(w, conn);
        }
        self.conn = None;
        if refused && !self.is_called {
            self.refusals += 1;
            self.script.calls += 1;
        }
        self.due = w.now + self.script.delay + if refused { SECOND } else { 0 };
    }

    /// Whether all replies came that the server gave.
    fn check_end(&self, w: &World, conn: u32) {
        let socket = &w.sockets[conn as usize];
        let track = &socket.track;
        let whole = !socket.reset_out && !track.left_behind && !track.may_fail && !socket.reset_in;
        let in_order = !matches!(
            track.over,
            None | Some(
                CloseReason::OutputCap
                    | CloseReason::Shutdown
                    | CloseReason::WriteStall
                    | CloseReason::PeerReset
                    | CloseReason::IoError
                    | CloseReason::RegisterFailed
            )
        );
        if !whole || !in_order || !self.script.reads || socket.no_space {
            return;
        }
        assert!(self.heard.is_empty() || track.may_be_refused, "I2: {conn} gets half a message");
        assert!(
            track.finish_ordered || (track.owed, track.notes_owed) == (track.got, track.notes_got),
            "I2: {conn} ends in order, but lacks replies: {track:?}"
        );
    }

    /// Does something a peer should not. True: nothing else in this step.
    fn misbehaves(&mut self, w: &mut World, conn: u32) -> bool {
        // Steps are many; one in 64 is a chance.
        if self.rng.below(64) > 0 {
            return false;
        }
        if w.strikes(Fault::ZeroWindow, conn) {
            self.closed_for = w.now + self.rng.scale(MILLI, 60 * SECOND);
        }
        if w.strikes(Fault::Silent, conn) {
            self.due = w.now + self.rng.scale(MILLI, 60 * SECOND);
            return true;
        }
        if self.finished {
            return false;
        }
        if w.strikes(Fault::Reset, conn) {
            w.peer_resets(conn);
        } else if w.strikes(Fault::Nonsense, conn) {
            // Whole messages come first, perhaps; then a lie, or a message with one wrong byte.
            let at = self.sent;
            self.out.truncate(at);
            self.ends.clear();
            let bytes = w.wire.codec.nonsense(&mut self.rng);
            w.track(conn).nonsense = true;
            w.peer_sends(conn, &bytes);
            if self.rng.below(2) == 0 {
                w.peer_finishes(conn);
            } else {
                self.due = w.now + self.rng.scale(MILLI, 40 * SECOND);
                self.finished = true;
                return true;
            }
        } else if w.strikes(Fault::Truncate, conn) {
            // It finishes wherever it is.
            w.track(conn).cut_off = true;
            self.finish(w, conn);
            self.finished = true;
            return false;
        } else {
            return false;
        }
        self.conn = None;
        self.due = w.now + self.script.delay;
        true
    }

    fn all_sent(&self) -> bool {
        self.sent == self.out.len()
    }

    fn answered(&self, w: &World) -> bool {
        let Some(conn) = self.conn else { return true };
        let track = &w.sockets[conn as usize].track;
        let mut number = self.expects;
        let mut copies = self.copies;
        while number < self.next && copies >= w.wire.replies(conn, number) {
            (number, copies) = (number + 1, 0);
        }
        number == self.next && track.notes_owed == track.notes_got && track.timer.is_none()
    }

    /// Goes past the messages that have all their answers.
    fn note_answered(&mut self, w: &World, conn: u32) {
        while self.expects < self.next && self.copies >= w.wire.replies(conn, self.expects) {
            (self.expects, self.copies) = (self.expects + 1, 0);
        }
    }

    /// Says more, if it may, and sends what there is room for.
    fn say(&mut self, w: &mut World, conn: u32) {
        while self.out.len() - self.sent < self.script.chunk && self.next < self.script.messages {
            self.note_answered(w, conn);
            if self.next - self.expects >= self.script.depth {
                break;
            }
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
            }
            self.scratch.clear();
            w.wire.payload(conn, self.next, &mut self.scratch);
            w.wire.codec.encode(&self.scratch, &mut self.out);
            let tail = w.wire.codec.tail();
            self.ends.push_back(self.begun + (self.out.len() - self.sent - tail) as u64);
            self.next += 1;
        }
        let chunk = (self.out.len() - self.sent).min(self.script.chunk);
        if chunk > 0 {
            // A message is said before its last byte is there: the loop may run at once.
            let count = w.peer_sends(conn, &self.out[self.sent..self.sent + chunk]);
            self.sent += count;
            self.begun_by(w, conn, count as u64);
        }
        let all = self.all_sent() && self.next >= self.script.messages;
        let ends = self.script.half_closes || (!self.script.stays && self.answered(w));
        let fin = w.faulty && self.all_sent() && self.rng.below(64) == 0;
        if (all && ends) || (fin && w.strikes(Fault::Fin, conn)) {
            self.finished = true;
            w.peer_finishes(conn);
        }
    }

    /// `count` more bytes are with the kernel.
    fn begun_by(&mut self, w: &mut World, conn: u32, count: u64) {
        self.begun += count;
        let (now, begun, limit) = (w.now, self.begun, w.plan.frame_timeout.as_nanos() as u64);
        let slack = w.ledger.slow + 100 * MILLI;
        let idle = w.plan.idle_timeout;
        let track = w.track(conn);
        let heard = track.sent_before.max(track.last_read);
        track.was_silent |= idle.is_some_and(|idle| now + slack >= heard + idle.as_nanos() as u64);
        track.was_late |= track.partial_since.is_some_and(|from| now + slack >= from + limit);
        let mut whole = false;
        while self.ends.front().is_some_and(|&end| end <= begun) {
            self.last_end = self.ends.pop_front().unwrap_or_default();
            track.sent += 1;
            whole = true;
        }
        // The line end behind a JSON list is part of no message.
        let tail = if self.last_end > 0 { w.wire.codec.tail() as u64 } else { 0 };
        let track = w.track(conn);
        let inside = !self.ends.is_empty() && begun > self.last_end + tail;
        if whole || count > 0 {
            // In the middle of a message, and since when; not told between two.
            track.partial_since = match (inside, whole, track.partial_since) {
                (false, _, _) => None,
                (true, false, Some(since)) => Some(since),
                (true, ..) => Some(now),
            };
        }
        if self.ends.is_empty() {
            // Counting goes on from here.
            track.partial_since = None;
        }
    }

    /// Sends nothing more. A JSON string that lacks only the byte behind it is whole with that:
    /// the end of the stream ends it as well.
    fn finish(&mut self, w: &mut World, conn: u32) {
        let lacks_one = self.ends.front() == Some(&(self.begun + 1));
        if lacks_one && w.wire.codec == Codec::Json {
            self.ends.pop_front();
            let track = w.track(conn);
            track.sent += 1;
            track.partial_since = None;
        }
        w.peer_finishes(conn);
    }

    fn plan_next(&mut self, w: &World, conn: u32) {
        self.note_answered(w, conn);
        let socket = &w.sockets[conn as usize];
        let full = socket.inbound.len() >= w.plan.receive_buffer;
        let to_say = self.next < self.script.messages
            && self.next.saturating_sub(self.expects) < self.script.depth;
        let talks = !self.finished && !full && (!self.all_sent() || to_say);
        let reads = self.script.reads && !socket.outbound.is_empty();
        if talks || reads {
            let next = w.now + self.script.delay / 2 + self.rng.below(self.script.delay + 1);
            self.due = if talks { next } else { next.max(self.closed_for) };
        }
    }

    /// Whoever would hold the server up for ever goes.
    pub(crate) fn give_up(&mut self, w: &mut World) {
        let lies = self.conn.is_some_and(|conn| w.track(conn).nonsense);
        if self.script.reads && !lies {
            return;
        }
        if let Some(conn) = self.conn.take()
            && w.sockets[conn as usize].answer == Some(Ok(()))
        {
            w.peer_resets(conn);
        }
        self.done = true;
    }
}

fn socket_opened(w: &World, conn: u32) -> bool {
    w.sockets[conn as usize].track.opened
}
