//! Does a connection keep its promises, whatever happens to it in whatever order? What a
//! fuzzer calls, and a test with random bytes.
//!
//! The bytes are a script: what comes from the peer, how much the socket takes, how time
//! passes, what the service and others do. The caller's four promises (see
//! [`conn`](super)) are kept; everything else is arbitrary. A model beside it knows what
//! was said and heard.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::{Clocks, Conn, Life, OutputLimits, Shared};
use crate::proto::buffer::Pool;
use crate::proto::framing::check::messages;
use crate::proto::framing::{AnyFraming, AnyState, Encode};
use crate::proto::post::Post;
use crate::proto::service::{CallInfo, CloseReason, ConnId, Context, PeerAddr, Served};
use crate::proto::service::{Service, Traffic};
use crate::proto::tick::Tick;

/// A promise that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// After so many steps of the script.
    pub step: usize,
    /// Which one.
    pub what: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.what)
    }
}

impl std::error::Error for Broken {}

/// Limits that short scripts reach.
const OUTPUT: OutputLimits = OutputLimits { high: 40, low: 20, max: 150 };
const CLOCKS: Clocks =
    Clocks { frame: Some(Duration::from_secs(5)), write: Some(Duration::from_secs(5)) };
/// The framings that a script chooses from.
const SPECS: [&str; 4] = ["lines,max=30", "u8,max=30", "netstring,max=30", "json,max=30"];

/// Echoes, and does what the first byte of a message says; writes down what it hears and
/// says.
struct Model {
    framing: AnyFraming,
    heard: Vec<Vec<u8>>,
    /// All that was said and taken, as it must leave.
    said: Vec<u8>,
    goes_on: bool,
    closed: usize,
}

impl Model {
    fn say(&mut self, cx: &mut Context<'_>, message: &[u8]) -> Served {
        cx.reply(message)?;
        self.framing.encode(message, &mut self.said)
    }
}

impl Service for Model {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        self.heard.push(message.to_vec());
        match message.first() {
            Some(b'c') => cx.close_after_flush(),
            Some(b'r') => cx.reset(),
            Some(b's') => return Ok(()),
            Some(b'g') => self.goes_on = true,
            _ => {}
        }
        self.say(cx, message)
    }

    fn finished(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        if self.goes_on {
            cx.keep_open();
        }
        Ok(())
    }

    fn timer(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        self.say(cx, b"9")
    }

    fn closed(&mut self, _: &mut Context<'_>, (): &mut (), _: CloseReason) {
        self.closed += 1;
    }
}

/// A connection, all it needs, and what is known of it.
struct Rig {
    conn: Conn<AnyState, ()>,
    pool: Pool,
    replies: Vec<u8>,
    post: Post,
    traffic: Traffic,
    now: Duration,
    model: Model,
    /// What the peer has sent, and what it was given.
    came: Vec<u8>,
    left: Vec<u8>,
    peer_is_done: bool,
    /// We have sent FIN.
    finished: bool,
}

/// Runs the script in `data`; its first byte chooses the framing.
///
/// # Errors
///
/// The promise that was not kept, and after which step.
pub fn any_life(data: &[u8]) -> Result<(), Broken> {
    let Some((&choice, mut script)) = data.split_first() else { return Ok(()) };
    let spec = SPECS[usize::from(choice) % SPECS.len()];
    let framing: AnyFraming = spec.parse().expect("the list is of right ones");
    let mut rig = Rig::new(framing);
    let mut step = 0;
    while let Some((&first, rest)) = script.split_first() {
        script = rest;
        step += 1;
        let len = usize::from(first >> 4).min(script.len());
        let bytes = &script[..len];
        if matches!(first & 15, 0..=4 | 9) {
            script = &script[len..];
        }
        rig.act(first & 15, bytes)
            .and_then(|()| rig.look())
            .map_err(|what| Broken { step, what })?;
        if let Life::Closed(_) = rig.conn.life() {
            break;
        }
    }
    rig.end().map_err(|what| Broken { step, what })
}

impl Rig {
    fn new(framing: AnyFraming) -> Self {
        let mut post = Post::new();
        post.add_encoder(Rc::new(framing.clone()));
        let (heard, said) = (Vec::new(), Vec::new());
        Self {
            conn: Conn::new(),
            pool: Pool::new(),
            replies: Vec::new(),
            post,
            traffic: Traffic::default(),
            now: Duration::ZERO,
            model: Model { framing, heard, said, goes_on: false, closed: 0 },
            came: Vec::new(),
            left: Vec::new(),
            peer_is_done: false,
            finished: false,
        }
    }

    fn with(
        &mut self,
        act: impl FnOnce(&mut Conn<AnyState, ()>, &mut Shared<'_, AnyFraming, Model>),
    ) {
        let framing = self.model.framing.clone();
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut shared = Shared {
            framing: &framing,
            service: &mut self.model,
            pool: &mut self.pool,
            replies: &mut self.replies,
            posted: self.post.size(),
            post: &mut self.post,
            traffic: &mut self.traffic,
            info: CallInfo {
                id: ConnId::new(0, 0, 1),
                peer: PeerAddr::from(addr),
                now: self.now,
                connections: 1,
                output: OUTPUT,
                connect_error: None,
            },
            tick: Tick::at(self.now),
            http_courtesy: false,
            allowance: usize::MAX,
            refused: None,
            reset: false,
        };
        act(&mut self.conn, &mut shared);
    }

    /// One step: something happens, and the socket then takes all, some or nothing.
    fn act(&mut self, what: u8, bytes: &[u8]) -> Result<(), &'static str> {
        let tick = Tick::at(self.now);
        match what {
            0..=4 if self.conn.wants_read() && !self.peer_is_done => {
                self.came.extend_from_slice(bytes);
                // Room for what is held: none, too little, or enough.
                let room = [0, 1, 7, 60, 4096][usize::from(what)];
                let mut buffer = vec![b'?'; room];
                buffer.extend_from_slice(bytes);
                self.with(|conn, shared| conn.received(&mut buffer, room, shared));
                self.send(if what == 4 { 3 } else { usize::MAX })?;
            }
            5 if self.conn.wants_read() && !self.peer_is_done => {
                self.peer_is_done = true;
                self.with(|conn, shared| conn.peer_finished(shared));
                self.send(0)?;
            }
            6 => self.send(7)?,
            7 => self.send(usize::MAX)?,
            8 => self.pass(Duration::from_secs(2)),
            9 => {
                let taken = self.conn.queue(bytes, &OUTPUT, &mut self.pool, tick);
                if taken {
                    self.model.said.extend_from_slice(bytes);
                }
                self.send(2)?;
            }
            10 => self.conn.close(CloseReason::AppClose, &mut self.pool),
            11 => self.conn.finish(&mut self.pool),
            12 => {
                self.with(|conn, shared| conn.timer(shared));
                self.send(5)?;
            }
            13 => self.conn.fail(CloseReason::PeerReset, &mut self.pool),
            _ => {}
        }
        Ok(())
    }

    /// The socket takes at most `room` bytes, as the pump would have it.
    fn send(&mut self, room: usize) -> Result<(), &'static str> {
        let tick = Tick::at(self.now);
        let bytes = self.conn.to_send(&self.pool, &self.replies);
        let taken = bytes[..bytes.len().min(room)].to_vec();
        if self.finished && !taken.is_empty() {
            return Err("bytes are to be sent behind our FIN");
        }
        self.left.extend_from_slice(&taken);
        self.conn.sent(taken.len(), &mut self.pool, &mut self.replies, tick);
        if self.conn.to_send(&self.pool, &self.replies).is_empty() {
            self.finished |= self.conn.flushed(&mut self.pool, tick);
        }
        self.with(|conn, shared| _ = conn.resume(shared));
        if !self.replies.is_empty() {
            // What came of resuming leaves later.
            let bytes = self.conn.to_send(&self.pool, &self.replies).len();
            self.conn.sent(0, &mut self.pool, &mut self.replies, tick);
            if bytes > 0 && !self.conn.wants_write() && !self.is_closed() {
                return Err("replies were lost");
            }
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let tick = Tick::at(self.now);
        if let Some(reason) = self.conn.late(tick, &CLOCKS, &self.pool) {
            match reason {
                CloseReason::FrameDeadline if self.conn.life().reason().is_none() => {
                    self.with(|conn, shared| conn.close_late(reason, shared));
                }
                _ => self.conn.fail(reason, &mut self.pool),
            }
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.conn.life(), Life::Closed(_))
    }

    /// What holds after every step.
    fn look(&mut self) -> Result<(), &'static str> {
        if let (false, Some(_)) = (self.conn.is_counted_out(), self.conn.life().final_reason()) {
            self.with(|conn, shared| conn.closed(shared));
        }
        if !self.model.said.starts_with(&self.left) {
            return Err("what left is not what was said, in order");
        }
        if self.is_closed() && self.pool.buffers() > 0 {
            return Err("a closed connection holds a buffer");
        }
        if self.pool.buffers() > 2 {
            return Err("a connection holds more than two buffers");
        }
        if self.model.closed > 1 {
            return Err("the service was told twice");
        }
        let waits = self.model.said.len() - self.left.len();
        if waits > OUTPUT.max && self.conn.life().speaks() {
            return Err("more waits than the limit");
        }
        Ok(())
    }

    /// What holds at the end: all that was heard is what was sent, and all that was said has
    /// left if the connection ended in order.
    fn end(&mut self) -> Result<(), &'static str> {
        let whole = messages(&self.model.framing, &self.came, self.peer_is_done);
        if !whole.starts_with(&self.model.heard) {
            return Err("what was heard is not what was sent, in order");
        }
        let open = self.conn.life() == Life::Open;
        if open && self.conn.wants_read() && whole != self.model.heard {
            return Err("a message that has come whole was not served");
        }
        for _ in 0..1000 {
            self.send(usize::MAX)?;
        }
        if self.conn.life().speaks() && self.model.said != self.left {
            return Err("something that was said never left");
        }
        self.look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fuzzer runs, on every machine and for a moment.
    #[test]
    #[cfg_attr(miri, ignore = "a hundred lives of it take longer than three minutes")]
    fn a_connection_keeps_its_promises_whatever_happens_to_it() {
        let words: [&[u8]; 8] =
            [b"hello\n", b"c\n", b"\x05hello", b"\x01g", b"5:hello,", b"[1]\n", b"s\n", b"{"];
        for seed in 0..30_000_u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let mut script = vec![(next() >> 20) as u8];
            for _ in 0..next() % 40 {
                let what = (next() >> 10) as u8 % 14;
                let word = words[(next() >> 30) as usize % words.len()];
                script.push((word.len() as u8) << 4 | what);
                if matches!(what, 0..=4 | 9) {
                    script.extend_from_slice(word);
                }
            }
            if let Err(broken) = any_life(&script) {
                panic!("seed {seed}: {broken}: {}", script.escape_ascii());
            }
        }
    }
}
