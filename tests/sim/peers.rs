//! The other ends: scripts that call, talk, listen, and misbehave.
//!
//! ```text
//!  call ─▶ read ─▶ say more ─▶ all said and answered? ─▶ FIN, stay or call again
//!   ▲        └─────── due: the next step ──────┘              │
//!   └──────────────────────────────────────────────────────────┘
//! ```
//!
//! How each behaves says its script, what it says and hears is in `talk.rs`. They know the
//! kernel's sockets and no server.

use std::collections::VecDeque;
use std::fmt;

use oneloop::CloseReason;

use super::kernel::{MILLI, SECOND, World};
use super::plan::{Fault, Plan};
use super::rng::Rng;
use super::script::Script;
use super::wire::Codec;

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
    pub(super) is_called: bool,
    pub(super) script: Script,
    pub(super) rng: Rng,
    pub(super) conn: Option<u32>,
    /// The connection it has, or had.
    pub(crate) last: Option<u32>,
    pub(super) refusals: u32,
    /// Said but not sent yet, and where each message ends, counted from the first byte.
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    pub(super) begun: u64,
    pub(super) ends: VecDeque<u64>,
    pub(super) last_end: u64,
    /// The number of the next message to say, and of the next to be answered.
    pub(super) next: u32,
    pub(super) expects: u32,
    pub(super) copies: u32,
    pub(super) heard: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) closed_for: u64,
    pub(super) finished: bool,
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

impl Peer {
    pub(crate) fn new(index: u32, plan: &Plan, is_called: bool) -> Self {
        let mut rng = Rng(plan.seed ^ u64::from(index + 1).wrapping_mul(0x1234_5678_9abc_def1));
        let mut script = Script::draw(&mut rng, plan);
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

    /// It has none, and will have.
    pub(crate) fn will_call(&self) -> bool {
        self.conn.is_none() && !self.done && !self.is_called
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
        let elsewhere = w.listener.shared && !w.listening;
        let nowhere = w.ledger.stopping && !elsewhere;
        if self.script.calls == 0 || self.refusals > 50 || nowhere {
            self.done = true;
            return;
        }
        if elsewhere {
            w.listener.late.push((w.now, self.index));
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
            w.peer_finishes(conn);
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
                    | CloseReason::WriteStall
                    | CloseReason::PeerReset
                    | CloseReason::Memory
                    | CloseReason::Evicted
                    | CloseReason::HandlerPanic
                    | CloseReason::IoError
                    | CloseReason::RegisterFailed
            )
        );
        let in_order = in_order && (track.over != Some(CloseReason::Shutdown) || track.in_time);
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
            let bytes = w.wire.codec.nonsense(w.plan.max_message, &mut self.rng);
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
            // A string, but for what stands behind it, is whole when nothing does.
            if w.wire.codec == Codec::Json && self.ends.front() == Some(&(self.begun + 1)) {
                let track = w.track(conn);
                track.sent += 1;
                track.partial_since = None;
            }
            w.peer_finishes(conn);
            self.finished = true;
            return false;
        } else {
            return false;
        }
        self.conn = None;
        self.due = w.now + self.script.delay;
        true
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
