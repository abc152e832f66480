//! What simulated peers say and hear: messages one behind the other, in pieces, and the
//! answers to them, each checked byte by byte.

use super::kernel::{MILLI, World};
use super::peers::Peer;
use super::plan::Fault;
use super::wire::{Act, RECEIPT};

impl Peer {
    /// Takes what came, and checks it.
    pub(super) fn read(&mut self, w: &mut World, conn: u32) {
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

    pub(super) fn hear(&mut self, w: &mut World, conn: u32, message: std::ops::Range<usize>) {
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
                _ if kind == b'H' || kind == b'B' => return,
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
        let speaks_to = w.track(conn).speaks_to;
        assert!(expects <= speaks_to, "I2: {conn} gets a reply to {expects} behind our end");
        assert!(self.copies < replies(w, expects), "I2: {conn} gets a reply too many");
        self.copies += 1;
        w.track(conn).got += 1;
    }

    pub(super) fn all_sent(&self) -> bool {
        self.sent == self.out.len()
    }

    pub(super) fn answered(&self, w: &World) -> bool {
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
    pub(super) fn note_answered(&mut self, w: &World, conn: u32) {
        while self.expects < self.next && self.copies >= w.wire.replies(conn, self.expects) {
            (self.expects, self.copies) = (self.expects + 1, 0);
        }
    }

    /// Says more, if it may, and sends what there is room for.
    pub(super) fn say(&mut self, w: &mut World, conn: u32) {
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
    pub(super) fn begun_by(&mut self, w: &mut World, conn: u32, count: u64) {
        self.begun += count;
        let (now, begun, limit) = (w.now, self.begun, w.plan.frame_timeout.as_nanos() as u64);
        let slack = w.ledger.slow + 100 * MILLI;
        let track = w.track(conn);
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

    pub(super) fn plan_next(&mut self, w: &World, conn: u32) {
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
}
