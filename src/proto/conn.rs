//! One connection, without its socket.
//!
//! ```text
//!  bytes in ─▶ Framing ─▶ Service ─▶ Framing ─▶ bytes out
//!  received()  └─ decode, message, encode ─┘    to_send(), sent()
//! ```
//!
//! A [`Conn`] is fed bytes and yields bytes. It opens no socket, reads no clock
//! and logs nothing, so a test drives it with slices and gets the same result
//! every time. `net::peer` does the same with a real socket.
//!
//! The caller keeps four promises. After each call: send [`Conn::to_send`], report
//! what went to [`Conn::sent`], and when nothing is left call [`Conn::flushed`]. Read
//! only while [`Conn::wants_read`]: that is the backpressure. When output has left,
//! call [`Conn::resume`]: nothing else ends a pause. When [`Life::final_reason`] has a
//! reason, call [`Conn::closed`] once, and at [`Life::Closed`] drop the connection.

use std::ops::ControlFlow;
use std::time::Duration;

use super::buffer::{Buffer, BufferId, NoMemory, Piece, Pool};
use super::framing::{EncodeError, Encoder, Exchange, FrameError, Framing, Guess, Rest, Visitor};
use super::post::Post;
use super::service::{
    CallInfo, CloseReason, Context, Region, Served, Service, Traffic, Verdict, count,
};
use super::tick::Tick;

pub mod check;
#[cfg(test)]
mod tests;

/// What a loop keeps of one connection: at most 16 bytes beside the state of its
/// framing and the session of its service.
///
/// Invariant: `input` is held exactly while a message is unfinished or unread, or the
/// peer's FIN is awaited; `output` exactly while bytes wait for the socket. So every
/// clock that runs has a buffer that says since when.
#[derive(Debug, Default)]
pub struct Conn<T, C> {
    framing: T,
    session: C,
    /// Bytes of an unfinished message, or, while paused, of messages not looked
    /// at. From `Draining` on: empty, it counts what is thrown away.
    input: Option<BufferId>,
    /// Bytes the socket did not take.
    output: Option<BufferId>,
    life: Life,
    /// Output passed its high mark and has not come down to the low one, there was enough
    /// to deliver to others, or as many messages were served as may be for now.
    paused: bool,
    /// It no longer counts as a connection: its service knows that it is over.
    counted_out: bool,
}

/// Where a connection is in its life.
///
/// ```text
///     ┌▶ Finishing ─▶ Finished ─┐
///   Open ───────────▶ Draining ─▶ Lingering ─┐
///     │                  │                   ▼
///     └▶ Ending ──────▶ Flushing ─────────▶ Closed
///           └▶ HalfOpen ──┘
/// ```
///
/// An error of the socket leads to `Closed` from anywhere. There is no way back to
/// the left, and the reason given first is kept. The upper rows wait for the
/// peer's FIN, in the lower ones it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Messages flow both ways.
    #[default]
    Open,

    /// The peer has finished sending; messages it sent before are still waiting.
    ///
    /// Ends when they are answered: in `HalfOpen` if the service asks for that, else in
    /// `Flushing`.
    Ending {
        /// So have we, but for what is queued.
        finished: bool,
    },

    /// The peer has finished sending, and the service goes on.
    ///
    /// Ends when it closes the connection.
    HalfOpen,

    /// The service says nothing more, and listens; what is queued is sent, replies go
    /// nowhere.
    ///
    /// Ends in `Finished` when it is written.
    Finishing,

    /// We have finished sending; messages of the peer are still served, and replies go
    /// nowhere.
    ///
    /// Ends with the peer's FIN.
    Finished,

    /// Input is read and thrown away; queued replies are still sent.
    ///
    /// Ends when the last reply is written: we finish sending too.
    Draining(CloseReason),

    /// The peer has finished and nothing it sent is left; queued replies are still
    /// sent. Ends when they are written.
    Flushing(CloseReason),

    /// We have finished sending, the peer has not; its input is thrown away.
    ///
    /// Closing now would be a mistake: if input is left unread, the kernel answers
    /// with RST, and replies under way are lost (RFC 1122, section 4.2.2.13).
    /// Ends with the peer's FIN, or when time or patience is up: [`LINGER_TIME`],
    /// [`LINGER_BYTES`].
    Lingering(CloseReason),

    /// Nothing more will happen here. The owner drops the connection.
    Closed(CloseReason),
}

/// How long a finished connection waits for the peer's FIN. A sweep a second finds
/// it, so up to 2 s pass.
pub const LINGER_TIME: Duration = Duration::from_secs(1);
/// How many bytes a closed connection reads and throws away.
pub const LINGER_BYTES: usize = 4 << 20;
/// The progress that restarts the write clock, in bytes.
pub const WRITE_PROGRESS: usize = 16 << 10;
/// What an HTTP client is told by a server of another protocol, if it is told.
pub const HTTP_COURTESY: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\n\r\nthis port does not speak HTTP\n";
/// The slowest a long message may arrive, in bytes a second: its clock is longer
/// by its announced length divided by this.
pub const FRAME_RATE: usize = 4 << 10;

impl Life {
    /// The reason, once there is one for the connection to end.
    pub fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Open
            | Self::Ending { .. }
            | Self::HalfOpen
            | Self::Finishing
            | Self::Finished => None,
            Self::Draining(reason)
            | Self::Flushing(reason)
            | Self::Lingering(reason)
            | Self::Closed(reason) => Some(reason),
        }
    }

    /// The reason, once the service is done with it: no reply can be sent any more.
    pub fn final_reason(self) -> Option<CloseReason> {
        match self {
            Self::Lingering(reason) | Self::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the peer's messages are served.
    fn listens(self) -> bool {
        matches!(self, Self::Open | Self::Finishing | Self::Finished)
    }

    /// Whether what the service says is sent.
    pub fn speaks(self) -> bool {
        matches!(self, Self::Open | Self::Ending { finished: false } | Self::HalfOpen)
    }
}

/// How much output may wait for one connection, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// Above this, reading and decoding pause.
    pub high: usize,
    /// At this, they go on.
    pub low: usize,
    /// Above this, the connection closes with [`CloseReason::OutputCap`].
    pub max: usize,
}

/// How long a connection may keep others waiting; `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// For one message to arrive, and longer by its length at [`FRAME_RATE`].
    pub frame: Option<Duration>,
    /// For the peer to take [`WRITE_PROGRESS`] bytes of what waits for it.
    pub write: Option<Duration>,
}

/// What a [`Conn`] borrows from its owner for the time of a call.
pub struct Shared<'a, F, S> {
    /// The framing of the endpoint.
    pub framing: &'a F,
    /// The service of the endpoint.
    pub service: &'a mut S,
    /// The loop's waiting bytes.
    pub pool: &'a mut Pool,
    /// Replies of this turn. Empty between turns: what the socket did not take
    /// has moved to the pool.
    pub replies: &'a mut Vec<u8>,
    /// What the service asks for others.
    pub post: &'a mut Post,
    /// How much that was when the connection's turn began, in bytes.
    pub posted: usize,
    /// Counters of the endpoint.
    pub traffic: &'a mut Traffic,
    /// Who and when.
    pub info: CallInfo,
    /// The same moment, as connections store it.
    pub tick: Tick,
    /// Whether an HTTP client is told, in HTTP, that this is another protocol.
    pub http_courtesy: bool,
    /// How many messages may still be served, bad ones included; at 0 the connection
    /// pauses. Served ones are taken off.
    pub allowance: usize,
    /// Set when the service handed an error on, for the log.
    pub refused: Option<EncodeError>,
    /// Set when the connection is to end with RST.
    pub reset: bool,
}

impl<T, C> Conn<T, C>
where
    T: Default,
    C: Default,
{
    /// A connection that was just accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection that is over before it began: it only waits for the peer's FIN.
    pub fn refused(reason: CloseReason, pool: &mut Pool, tick: Tick) -> Self {
        let input = Some(pool.clock(tick));
        // No service has heard of it.
        Self { life: Life::Lingering(reason), input, counted_out: true, ..Self::default() }
    }

    /// Lets the service greet the peer. Call it once, first.
    pub fn opened<F, S>(&mut self, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        self.call(shared, |service, cx, session| service.opened(cx, session));
    }

    /// Lets the service know that its timer has come.
    pub fn timer<F, S>(&mut self, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        if self.life.reason().is_none() {
            self.call(shared, |service, cx, session| service.timer(cx, session));
        }
    }

    /// Whether [`Conn::closed`] has been called, or need not be.
    pub fn is_counted_out(&self) -> bool {
        self.counted_out
    }

    /// Tells the service that it is over. Call it once, when [`Life::final_reason`] says so.
    pub fn closed<F, S>(&mut self, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        self.counted_out = true;
        let sent = shared.traffic.messages_out;
        if let Some(reason) = self.life.reason() {
            self.call(shared, |service, cx, session| {
                service.closed(cx, session, reason);
                Ok(())
            });
        }
        // There is nobody left to reply to.
        shared.replies.clear();
        shared.traffic.messages_out = sent;
    }

    /// The service panicked in one of the calls above, and the panic was caught. The
    /// connection is closed; its replies of this turn are dropped, and what its buffer was
    /// lent for is as if it had been given back.
    pub fn panicked<F, S>(&mut self, shared: &mut Shared<'_, F, S>) {
        shared.replies.clear();
        shared.pool.recount();
        self.fail(CloseReason::HandlerPanic, shared.pool);
    }

    /// The peer sent what lies in `bytes` from `room` on. Messages are borrowed from them
    /// as they lie, and only an unfinished one is copied: into a buffer of its own, and
    /// back in front of what comes next if it fits into `room`.
    pub fn received<F, S>(&mut self, bytes: &mut [u8], room: usize, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        match self.life {
            Life::Open | Life::Finishing | Life::Finished => self.decode(bytes, room, shared),
            Life::Draining(reason) | Life::Lingering(reason) => {
                let waits = *self.input.get_or_insert_with(|| shared.pool.clock(shared.tick));
                let thrown_away = &mut shared.pool.get_mut(waits).tally;
                *thrown_away += bytes.len() - room;
                if *thrown_away > LINGER_BYTES {
                    self.fail(reason, shared.pool);
                }
            }
            Life::Ending { .. } | Life::HalfOpen | Life::Flushing(_) | Life::Closed(_) => {}
        }
    }

    /// The peer finished sending.
    pub fn peer_finished<F, S>(&mut self, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        match self.life {
            Life::Open | Life::Finishing | Life::Finished => {
                self.life = Life::Ending { finished: self.life != Life::Open };
                self.decode(&mut [], 0, shared);
            }
            Life::Draining(reason) => self.life = Life::Flushing(reason),
            Life::Lingering(reason) => self.fail(reason, shared.pool),
            Life::Ending { .. } | Life::HalfOpen | Life::Flushing(_) | Life::Closed(_) => {}
        }
    }

    /// Ends the connection in order because its peer is late, which a framing may say.
    pub fn close_late<F, S>(&mut self, reason: CloseReason, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
    {
        if reason == CloseReason::FrameDeadline && self.life.speaks() {
            shared.framing.settle(Exchange::Failed { status: 408 }, shared.replies);
        }
        self.hush(shared.replies);
        self.close(reason, shared.pool);
        self.queue_replies(shared);
    }

    /// Goes on with messages that were left when output was full, now that it is
    /// not: true if so, and there may be new output.
    pub fn resume<F, S>(&mut self, shared: &mut Shared<'_, F, S>) -> bool
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        if !self.wants_resume(&shared.info.output, shared.pool) {
            return false;
        }
        self.paused = false;
        if let Some(input) = self.input {
            // It was we who did not read: the clock of the message starts now.
            shared.pool.get_mut(input).since = shared.tick;
        }
        if self.life.listens() || matches!(self.life, Life::Ending { .. }) {
            self.decode(&mut [], 0, shared);
        }
        true
    }

    /// Decodes what is kept and then what is fresh, from `room` on, and has it served.
    fn decode<F, S>(&mut self, bytes: &mut [u8], room: usize, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        debug_assert!(!self.paused, "wants_read() was false");
        let end = matches!(self.life, Life::Ending { .. });
        let mut held = self.input.map(|input| shared.pool.lend(input));
        let begun = held.as_ref().map_or(0, |buffer| buffer.waiting().len());
        // The shorter part is moved to the longer: a trickle must not copy all that is held
        // for each byte.
        let joined = begun <= room && begun <= bytes.len() - room;
        let input = match &mut held {
            Some(buffer) if joined => {
                bytes[room - begun..room].copy_from_slice(buffer.waiting());
                &mut bytes[room - begun..]
            }
            Some(buffer) => {
                if shared.pool.append(buffer, &bytes[room..]).is_err() {
                    self.restore(held, shared.pool);
                    return self.fail(CloseReason::Memory, shared.pool);
                }
                buffer.waiting_mut()
            }
            None => &mut bytes[room..],
        };

        let Outcome { verdict, rest, full, kept } = self.serve(input, end, shared);
        self.hush(shared.replies);
        match verdict {
            None => {
                let fresh = joined.then(|| &bytes[room - begun..]);
                if self.keep(held, fresh, rest, kept, shared).is_err() {
                    self.fail(CloseReason::Memory, shared.pool);
                    shared.replies.clear();
                    return;
                }
                // What it said to everyone, itself among them, comes to it before the end.
                self.paused = full || (end && shared.spoke());
                if end && !self.paused {
                    self.heard_all(shared);
                }
            }
            Some(verdict) => {
                self.restore(held, shared.pool);
                self.carry_out(verdict, shared);
            }
        }
        self.queue_replies(shared);
    }

    /// The peer's last message was served: does the service go on?
    fn heard_all<F, S>(&mut self, shared: &mut Shared<'_, F, S>)
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        let goes_on = self.call(shared, |service, cx, session| service.finished(cx, session));
        if goes_on && self.life.speaks() {
            self.life = Life::HalfOpen;
            // The clock of a message that was being skipped when the end came.
            if let Some(input) = self.input.take() {
                shared.pool.release(input);
            }
        } else {
            self.close(CloseReason::PeerEof, shared.pool);
        }
    }

    /// Cuts `input` into messages and has each served.
    fn serve<F, S>(&mut self, input: &mut [u8], end: bool, shared: &mut Shared<'_, F, S>) -> Outcome
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        let queued = self.waiting(shared.pool);
        let (courtesy, allowance) = (shared.http_courtesy, shared.allowance.max(1));
        let (framing, state, session) = (shared.framing, &mut self.framing, &mut self.session);
        let (mut cx, service, refused) = shared.context(queued);
        if framing.excluded() == Some(b'\n') {
            cx.lines = Region::of(input);
        }
        let was_skipping = framing.is_skipping(state);
        let mut serving = Serving { cx, framing, service, session, refused, left: allowance };
        let result = framing.visit(state, input, end, &mut serving);
        let Serving { cx, service, session, refused, left, .. } = &mut serving;
        let left = *left;
        let full = left == 0 || cx.is_to_stop();
        // Messages that ended in here, one that was being skipped included.
        let ended = allowance - left + usize::from(was_skipping);
        let result = result.and_then(|rest| {
            // Only a framing from outside this crate waits for more than its own
            // maximum, and it would wait for ever.
            let left = input.len() - rest.used;
            if left == 0 || full || cx.verdict.is_some() {
                return Ok(rest);
            }
            match framing.max_input() {
                max if left > max => {
                    Err(FrameError::TooLong { announced: Some(rest.need as u64), max })
                }
                _ => Ok(rest),
            }
        });
        if let (Err(error), None) = (&result, cx.verdict) {
            cx.traffic.bad_frames += 1;
            // Who speaks another protocol fails at once; further on, where the message
            // began is not known here any more.
            cx.guess = if ended == 0 { framing.guess(input) } else { None };
            cx.traffic.other_protocols += u64::from(cx.guess.is_some());
            // One that ended early, or was too long in a way that only we could tell, is
            // none that the framing has found.
            cx.exchange = match framing.exchange() {
                Exchange::Failed { status } => Exchange::Failed { status },
                _ => Exchange::Failed { status: 400 },
            };
            if courtesy && cx.guess == Some(Guess::Http) {
                cx.replies.extend_from_slice(HTTP_COURTESY);
            }
            let served = service.bad_input(cx, session, error);
            if let Err(error) = served {
                cx.refuse(error, refused);
            }
            cx.end(Verdict::Close(error.into()));
            cx.settle(framing);
        }
        if result.is_ok() && !full && cx.verdict.is_none() {
            // The peer may wait for leave to go on.
            cx.exchange = framing.exchange();
            cx.settle(framing);
        }
        let skipping = framing.is_skipping(state);
        // The one that is being skipped now was counted, but has not ended.
        let same_message = ended == usize::from(skipping);
        let rest = result.unwrap_or(Rest { used: 0, need: 0 });
        let verdict = cx.verdict;
        shared.allowance = left;
        Outcome { verdict, rest, full, kept: Kept { skipping, same_message } }
    }

    /// Gives the input buffer back that was lent.
    fn restore(&self, held: Option<Buffer>, pool: &mut Pool) {
        if let (Some(input), Some(buffer)) = (self.input, held) {
            pool.restore(input, buffer);
        }
    }

    /// Keeps what was not used, in a buffer no larger than it needs. The input was `joined`,
    /// or else lies in the buffer that is `held`.
    fn keep<F, S>(
        &mut self,
        held: Option<Buffer>,
        joined: Option<&[u8]>,
        rest: Rest,
        kept: Kept,
        shared: &mut Shared<'_, F, S>,
    ) -> Result<(), NoMemory> {
        let pool = &mut *shared.pool;
        match (self.input, held) {
            // The message that was begun before goes on, and so does its clock. (What was
            // used without being skipped was padding, and the message is another.)
            (Some(input), Some(mut buffer))
                if kept.same_message && (kept.skipping || rest.used == 0) =>
            {
                let kept = joined.map(|all| pool.replace(&mut buffer, &all[rest.used..]));
                if kept.is_none() {
                    buffer.consume(rest.used);
                }
                pool.restore(input, buffer);
                kept.unwrap_or(Ok(()))?;
            }
            (input, held) => {
                let all = joined.or(held.as_ref().map(Buffer::waiting)).unwrap_or_default();
                let left = &all[rest.used..];
                let begins = !left.is_empty() || kept.skipping;
                let next = begins.then(|| pool.keep(left, shared.tick)).transpose();
                self.input = None;
                if let (Some(input), Some(buffer)) = (input, held) {
                    pool.restore(input, buffer);
                    pool.release(input);
                }
                self.input = next?;
            }
        }
        if let Some(input) = self.input {
            pool.get_mut(input).tally = rest.need;
        }
        Ok(())
    }

    /// Calls the service for something else than a message. True: it wants to go on.
    fn call<F, S>(
        &mut self,
        shared: &mut Shared<'_, F, S>,
        f: impl FnOnce(&mut S, &mut Context<'_>, &mut C) -> Served,
    ) -> bool
    where
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        let queued = self.waiting(shared.pool);
        let (mut cx, service, refused) = shared.context(queued);
        let served = f(service, &mut cx, &mut self.session);
        if let Err(error) = served {
            cx.refuse(error, refused);
        }
        let (verdict, goes_on) = (cx.verdict, cx.goes_on);
        let full = verdict.is_none() && cx.is_to_stop();
        self.paused |= full;
        self.hush(shared.replies);
        if let Some(verdict) = verdict {
            self.carry_out(verdict, shared);
        }
        self.queue_replies(shared);
        goes_on
    }

    fn carry_out<F, S>(&mut self, verdict: Verdict, shared: &mut Shared<'_, F, S>) {
        match verdict {
            Verdict::Close(reason) => self.close(reason, shared.pool),
            Verdict::Abort(reason) => self.fail(reason, shared.pool),
            Verdict::Reset => {
                shared.reset = true;
                self.fail(CloseReason::AppClose, shared.pool);
            }
        }
    }

    /// Once we say nothing more, replies go nowhere, or our FIN would never come. Call it
    /// before the life goes on: a connection that the same messages end has no way to tell
    /// any more that it had finished.
    fn hush(&self, replies: &mut Vec<u8>) {
        let over = Life::Ending { finished: true };
        if matches!(self.life, Life::Finishing | Life::Finished) || self.life == over {
            replies.clear();
        }
    }

    /// Replies must not overtake bytes that wait already.
    fn queue_replies<F, S>(&mut self, shared: &mut Shared<'_, F, S>) {
        if matches!(self.life, Life::Closed(_)) {
            shared.replies.clear();
        } else if let Some(output) = self.output {
            if shared.pool.extend(output, shared.replies).is_err() {
                self.fail(CloseReason::Memory, shared.pool);
            }
            shared.replies.clear();
        }
        self.assert_invariant(shared.pool);
    }
}

impl<F, S> Shared<'_, F, S> {
    /// Whether this connection has said something to others, perhaps to itself, in its turn.
    pub fn spoke(&self) -> bool {
        self.post.size() > self.posted
    }
}

impl<F: Framing, S: Service> Shared<'_, F, S> {
    /// What the service is called with, and where an error that it hands on goes.
    /// `queued` bytes wait for the connection already.
    #[inline(always)]
    fn context(&mut self, queued: usize) -> (Context<'_>, &mut S, &mut Option<EncodeError>) {
        let output = &self.info.output;
        let enough = output.high.min(output.max).saturating_add(1).saturating_sub(queued);
        let cx = Context {
            stop_at: if self.post.is_heavy() { 0 } else { enough },
            lines: Region::default(),
            encoder: self.framing.encoder().unwrap_or(Encoder::Other(self.framing)),
            replies: self.replies,
            post: self.post,
            traffic: self.traffic,
            info: &self.info,
            queued,
            verdict: None,
            goes_on: false,
            converses: self.framing.converses(),
            exchange: Exchange::None,
            guess: None,
        };
        (cx, self.service, &mut self.refused)
    }
}

/// Has the messages of a read served.
struct Serving<'a, 's, F, S: Service> {
    cx: Context<'s>,
    framing: &'a F,
    service: &'a mut S,
    session: &'a mut S::Session,
    /// Where an error goes that the service hands on.
    refused: &'a mut Option<EncodeError>,
    /// How many more may be.
    left: usize,
}

impl<F: Framing, S: Service> Visitor for Serving<'_, '_, F, S> {
    #[inline(always)]
    fn item(&mut self, item: Result<&[u8], FrameError>) -> ControlFlow<()> {
        match item {
            Ok(message) if self.cx.converses => self.exchange(message),
            Ok(message) => self.message(message),
            Err(error) => self.bad_input(&error),
        }
        self.left = self.left.saturating_sub(1);
        match self.left == 0 || self.cx.is_to_stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl<F: Framing, S: Service> Serving<'_, '_, F, S> {
    #[inline(always)]
    fn message(&mut self, message: &[u8]) {
        count(&mut self.cx.traffic.messages_in);
        if let Err(error) = self.service.message(&mut self.cx, self.session, message) {
            self.cx.refuse(error, self.refused);
        }
    }

    /// A message whose reply depends on it.
    #[inline(never)]
    fn exchange(&mut self, message: &[u8]) {
        self.cx.exchange = self.framing.exchange();
        self.message(message);
        self.cx.settle(self.framing);
    }

    #[cold]
    fn bad_input(&mut self, error: &FrameError) {
        if self.cx.converses {
            self.cx.exchange = self.framing.exchange();
        }
        self.cx.traffic.skipped += 1;
        if let Err(error) = self.service.bad_input(&mut self.cx, self.session, error) {
            self.cx.refuse(error, self.refused);
        }
        self.cx.settle(self.framing);
    }
}

/// What came of [`Conn::serve`].
struct Outcome {
    /// How the connection ends, if it does.
    verdict: Option<Verdict>,
    rest: Rest,
    /// It stopped because enough output waits, here or for others, or enough was served.
    full: bool,
    kept: Kept,
}

/// What is known of the bytes that [`Conn::keep`] keeps.
struct Kept {
    /// They belong to a message that is being skipped.
    skipping: bool,
    /// They belong to the message that the buffer was kept for before.
    same_message: bool,
}

impl Context<'_> {
    /// Turns an error that the service handed on into the end of the connection.
    #[cold]
    fn refuse(&mut self, error: EncodeError, refused: &mut Option<EncodeError>) {
        let reason = match error {
            EncodeError::NoMemory { .. } => CloseReason::Memory,
            _ => CloseReason::BadReply,
        };
        self.end(Verdict::Close(reason));
        refused.get_or_insert(error);
        // Whoever asked is told that nothing came of it.
        if let Exchange::Asked(_) = self.exchange {
            self.exchange = Exchange::Failed { status: 500 };
        }
    }

    /// Has the framing say what it owes now that the service has been called. The last
    /// message of a connection is as if the peer had finished behind it.
    #[inline]
    fn settle(&mut self, framing: &impl Framing) {
        if self.converses && framing.settle(std::mem::take(&mut self.exchange), self.replies) {
            self.end(Verdict::Close(CloseReason::PeerEof));
        }
    }
}

impl<T, C> Conn<T, C> {
    /// Queues a piece, already framed, that is no reply. The answer is whether they
    /// were taken; they are not when the connection is ending, nor when it would
    /// pass its hard limit or there is no memory for them, which closes it.
    pub fn queue<'p>(
        &mut self,
        piece: impl Into<Piece<'p>>,
        limits: &OutputLimits,
        pool: &mut Pool,
        tick: Tick,
    ) -> bool {
        if !self.life.speaks() {
            return false;
        }
        let piece = piece.into();
        let len = piece.bytes().len();
        let queued = self.waiting(pool) + len;
        if queued > limits.max {
            self.fail(CloseReason::OutputCap, pool);
            return false;
        }
        if len > 0 {
            match pool.queue(self.output, piece, tick) {
                Ok(output) => self.output = Some(output),
                Err(NoMemory) => {
                    self.fail(CloseReason::Memory, pool);
                    return false;
                }
            }
        }
        self.paused |= queued > limits.high;
        true
    }

    /// Ends the connection in order: unread input is lost, queued output is not.
    pub fn close(&mut self, reason: CloseReason, pool: &mut Pool) {
        self.life = match self.life {
            // After our FIN, what is left of that is done as if it were to come.
            Life::Open | Life::Finishing | Life::Finished => Life::Draining(reason),
            Life::Ending { .. } | Life::HalfOpen => Life::Flushing(reason),
            // It is ending already, and its input buffer is the clock of that end.
            Life::Draining(_) | Life::Flushing(_) | Life::Lingering(_) | Life::Closed(_) => return,
        };
        if let Some(input) = self.input.take() {
            pool.release(input);
        }
        self.assert_invariant(pool);
    }

    /// Says nothing more: what is queued is sent, then FIN, and the peer is still heard.
    pub fn finish(&mut self, pool: &mut Pool) {
        match self.life {
            Life::Open => self.life = Life::Finishing,
            // Nobody would say anything any more.
            Life::HalfOpen => self.close(CloseReason::PeerEof, pool),
            _ => {}
        }
    }

    /// Ends the connection at once, as an error of its socket does. A reason given
    /// before is kept.
    pub fn fail(&mut self, reason: CloseReason, pool: &mut Pool) {
        self.life = Life::Closed(self.life.reason().unwrap_or(reason));
        for buffer in [self.input.take(), self.output.take()].into_iter().flatten() {
            pool.release(buffer);
        }
        self.assert_invariant(pool);
    }

    /// The bytes to send next: those that wait, or else the replies of this turn.
    pub fn to_send<'a>(&self, pool: &'a Pool, replies: &'a [u8]) -> &'a [u8] {
        match self.output {
            Some(output) => pool.waiting(output),
            None => replies,
        }
    }

    /// Nothing is to be sent, and no step to the end to be taken: [`flushed`](Self::flushed)
    /// would find nothing to do.
    pub fn is_quiet(&self) -> bool {
        self.output.is_none() && matches!(self.life, Life::Open | Life::HalfOpen)
    }

    /// The socket took the first `count` bytes of [`to_send`](Self::to_send), and
    /// takes no more now if those were not all. The rest moves to the pool.
    #[inline]
    pub fn sent(&mut self, count: usize, pool: &mut Pool, replies: &mut Vec<u8>, tick: Tick) {
        if matches!(self.life, Life::Closed(_)) {
            replies.clear();
        } else if let Some(id) = self.output {
            pool.consume(id, count);
            let output = pool.get_mut(id);
            output.tally += count;
            if output.tally >= WRITE_PROGRESS {
                output.tally = 0;
                output.since = tick;
            }
            if pool.waiting(id).is_empty() {
                pool.release(id);
                self.output = None;
            }
        } else {
            let left = &replies[count..];
            if !left.is_empty() {
                match pool.keep(left, tick) {
                    Ok(output) => self.output = Some(output),
                    Err(NoMemory) => self.fail(CloseReason::Memory, pool),
                }
            }
            replies.clear();
        }
    }

    /// Call it when nothing is left to send. Takes the next step to the end, if it
    /// has begun; true asks for the socket to finish sending.
    #[must_use]
    pub fn flushed(&mut self, pool: &mut Pool, tick: Tick) -> bool {
        match self.life {
            Life::Draining(reason) => {
                self.life = Life::Lingering(reason);
                let waits = *self.input.get_or_insert_with(|| pool.clock(tick));
                pool.get_mut(waits).since = tick;
                true
            }
            Life::Flushing(reason) => {
                self.fail(reason, pool);
                false
            }
            Life::Finishing => {
                self.life = Life::Finished;
                true
            }
            _ => false,
        }
    }

    /// Whether bytes from the peer have a use, if only to be thrown away.
    pub fn wants_read(&self) -> bool {
        match self.life {
            Life::Open | Life::Finishing | Life::Finished => !self.paused,
            // The end comes again, or an error.
            Life::HalfOpen => true,
            Life::Draining(_) | Life::Lingering(_) => true,
            Life::Ending { .. } | Life::Flushing(_) | Life::Closed(_) => false,
        }
    }

    /// Bytes of its peer that may be read now, as far as memory goes. While that is tight,
    /// a connection that holds none goes on, and one with half a message gets what fits
    /// behind it; but one whose peer does not take its output has no use for more.
    pub fn room(&self, pool: &Pool) -> usize {
        if !pool.is_tight() || !self.life.listens() {
            return usize::MAX;
        }
        match (self.input, self.output) {
            (_, Some(_)) => 0,
            (Some(input), None) => pool.free(input),
            (None, None) => usize::MAX,
        }
    }

    /// Memory that its waiting bytes take, in bytes.
    pub fn held_bytes(&self, pool: &Pool) -> usize {
        [self.input, self.output].into_iter().flatten().map(|id| pool.size(id)).sum()
    }

    /// Whether it paused and may go on: see [`resume`](Self::resume).
    pub fn wants_resume(&self, limits: &OutputLimits, pool: &Pool) -> bool {
        self.paused && self.waiting(pool) <= limits.low
    }

    /// Whether more waits for it than should.
    pub fn is_behind(&self, limits: &OutputLimits, pool: &Pool) -> bool {
        self.waiting(pool) > limits.high
    }

    /// Whether bytes wait for room in the socket.
    pub fn wants_write(&self) -> bool {
        self.output.is_some()
    }

    /// Where it is in its life.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Whether the peer has finished, and the last of what it sent is being served.
    pub fn is_ending(&self) -> bool {
        matches!(self.life, Life::Ending { .. })
    }

    /// Whether it is between two messages with nothing left to send.
    pub fn is_idle(&self) -> bool {
        let rests = matches!(self.life, Life::Open | Life::Finished | Life::HalfOpen);
        rests && self.input.is_none() && self.output.is_none()
    }

    /// Whether it is the peer's turn to send: the connection is open, and it is not
    /// we who pause.
    pub fn is_listening(&self) -> bool {
        self.life.listens() && !self.paused
    }

    /// The reason to close, if a clock has run out at `tick`.
    pub fn late(&self, tick: Tick, clocks: &Clocks, pool: &Pool) -> Option<CloseReason> {
        let passed = |id: BufferId, limit: Duration| tick.since(pool.get(id).since) > limit;
        if let (Life::Lingering(reason), Some(input)) = (self.life, self.input) {
            return passed(input, LINGER_TIME).then_some(reason);
        }
        if let (Some(output), Some(limit)) = (self.output, clocks.write)
            && passed(output, limit)
        {
            return Some(CloseReason::WriteStall);
        }
        // While it is we who pause, the peer is not late.
        if let (Some(input), Some(limit)) = (self.input, clocks.frame)
            && self.is_listening()
        {
            let announced = pool.get(input).tally / FRAME_RATE;
            let limit = limit.saturating_add(Duration::from_secs(announced as u64));
            return passed(input, limit).then_some(CloseReason::FrameDeadline);
        }
        None
    }

    fn assert_invariant(&self, pool: &Pool) {
        let (input, output) = (self.input.is_some(), self.output.is_some());
        debug_assert!(!output || self.waiting(pool) > 0, "an empty buffer is held");
        match self.life {
            Life::Lingering(_) => debug_assert!(input && !output, "no clock runs"),
            Life::Closed(_) => debug_assert!(!input && !output, "a buffer leaks"),
            Life::Flushing(_) | Life::HalfOpen => debug_assert!(!input, "nothing more will come"),
            Life::Finished => debug_assert!(!output, "nothing more is sent"),
            Life::Open | Life::Ending { .. } | Life::Finishing | Life::Draining(_) => {}
        }
    }

    /// Bytes that wait for room in the socket.
    pub fn waiting(&self, pool: &Pool) -> usize {
        self.output.map_or(0, |output| pool.waiting(output).len())
    }
}
