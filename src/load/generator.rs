//! The connections of a run: what each has sent, what it waits for, and what a reply says.
//!
//! ```text
//!  schedule ─▶ due ─▶ pending (sent, not answered; at most `depth`) ─▶ reply: two latencies
//!                └──▶ waiting (due, but the connection is busy) ──┘
//! ```
//!
//! In a closed loop a reply makes the next message due. At a rate it is due at its own time;
//! if its connection is busy it waits, and its time goes on from when it was due: what a
//! stalled server keeps from being sent is measured, too.
//!
//! Knows messages and times; opens nothing and sleeps nowhere.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::message::{Message, Stamp};
use super::plan::{Check, EndBy, Pace, Plan, Shape};
use super::stats::Stats;
use crate::proto::dial::ConnectError;
use crate::proto::framing::FrameError;
use crate::proto::service::{CloseReason, ConnId, Context, Served, Service};

/// Times are nanoseconds since the run was made.
pub(super) type Nanos = u64;

/// Replies that may be timed with one look at the clock: those that came in one read.
const SHARED_TIME: u32 = 16;
/// Of so many replies one is compared.
const SAMPLE: u64 = 16;
/// Messages of a fan-out whose sending is remembered.
const REMEMBERED: usize = 4096;

/// What one connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It sends, and waits for replies.
    Speaker,
    /// It is there.
    Silent,
    /// It hears what another sends.
    Hearer,
}

/// A connection of the run.
pub(super) struct Line {
    pub(super) id: ConnId,
    pub(super) role: Role,
    /// It is connected.
    open: bool,
    called_at: Nanos,
    pub(super) pending: Pending,
    /// When messages were due that wait for a reply before them.
    waiting: VecDeque<Nanos>,
    /// Of the next message to send, and of the next reply.
    next: u64,
    expected: u64,
}

/// A message that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    due: Nanos,
    pub(super) at: Nanos,
}

/// Messages that wait for their replies, oldest first. One is the rule.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) first: Option<Sent>,
    more: VecDeque<Sent>,
}

impl Pending {
    fn push(&mut self, sent: Sent) {
        match self.first {
            None => self.first = Some(sent),
            Some(_) => self.more.push_back(sent),
        }
    }

    fn pop(&mut self) -> Option<Sent> {
        let next = self.more.pop_front();
        std::mem::replace(&mut self.first, next)
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }
}

/// All that the loop and its service share.
pub(super) struct Run {
    epoch: Instant,
    shape: Shape,
    check: Check,
    /// The next message is due when a reply has come.
    closed_loop: bool,
    depth: usize,
    message: Message,
    pub(super) lines: Slab<Line>,
    /// Lines that are not connected yet.
    calling: HashMap<ConnId, usize>,
    /// Connections open, silent ones included.
    pub(super) open: usize,
    pub(super) connected: u64,
    /// Messages are sent.
    pub(super) going: bool,
    /// What is due from then on is measured.
    pub(super) measured_from: Nanos,
    /// Messages that may still be sent, if their number is limited.
    pub(super) left: Option<u64>,
    /// Connections of a churn that have ended.
    pub(super) ended: usize,
    pub(super) now: Stats,
    pub(super) total: Stats,
    pub(super) connect_error: Option<ConnectError>,
    pub(super) frame_error: Option<FrameError>,
    /// The last look at the clock: in which turn, for whom, how often used, and the time.
    look: (Duration, u32, u32, Nanos),
    fanout: Fanout,
}

/// What one connection sends and all others hear.
struct Fanout {
    published: u64,
    /// Hearings that are to come of it.
    outstanding: u64,
    /// When the last messages were sent, by their number.
    sent_at: Vec<Nanos>,
}

impl Run {
    pub(super) fn new(plan: &Plan, message: Message) -> Self {
        let open_loop = plan.pace != Pace::Closed;
        let remembered = if plan.shape == Shape::Fanout { REMEMBERED } else { 0 };
        Self {
            epoch: Instant::now(),
            shape: plan.shape,
            check: plan.check,
            closed_loop: !open_loop,
            depth: plan.depth,
            message,
            lines: Slab::new(),
            calling: HashMap::new(),
            open: 0,
            connected: 0,
            going: false,
            measured_from: 0,
            left: plan.requests,
            ended: 0,
            now: Stats::new(open_loop),
            total: Stats::new(open_loop),
            connect_error: None,
            frame_error: None,
            look: (Duration::MAX, 0, 0, 0),
            fanout: Fanout { published: 0, outstanding: 0, sent_at: vec![0; remembered] },
        }
    }

    pub(super) fn clock(&self) -> Nanos {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Connections that are being called for.
    pub(super) fn calling(&self) -> usize {
        self.calling.len()
    }

    /// A connection was called for.
    pub(super) fn called(&mut self, id: ConnId, role: Role) {
        let line = Line {
            id,
            role,
            open: false,
            called_at: self.clock(),
            pending: Pending::default(),
            waiting: VecDeque::new(),
            next: 0,
            expected: 0,
        };
        let key = self.lines.insert(line);
        self.calling.insert(id, key);
    }

    /// Messages that were due and were not sent.
    pub(super) fn unsent(&self) -> u64 {
        self.lines.iter().map(|(_, line)| line.waiting.len() as u64).sum()
    }

    /// A message is due on the line `key`. Returns what to send there now, if it is not busy.
    pub(super) fn due(&mut self, key: usize, due: Nanos, now: Nanos) -> Option<(ConnId, &[u8])> {
        let line = self.lines.get_mut(key).filter(|line| line.open)?;
        if line.pending.len() < self.depth {
            if !self.closed_loop {
                self.now.lag.record(now.saturating_sub(due));
            }
            let id = line.id;
            let bytes = self.send(key, due, now)?;
            return Some((id, bytes));
        }
        line.waiting.push_back(due);
        None
    }

    /// Notes a message as sent, if more may be, and returns its bytes.
    fn send(&mut self, key: usize, due: Nanos, now: Nanos) -> Option<&[u8]> {
        match &mut self.left {
            Some(0) => return None,
            // What is sent before the measured part comes on top.
            Some(left) if now >= self.measured_from => *left -= 1,
            _ => {}
        }
        let line = &mut self.lines[key];
        self.now.sent += 1;
        let number = line.next;
        line.next += 1;
        if self.shape == Shape::Fanout {
            self.fanout.published += 1;
            self.fanout.outstanding += self.open.saturating_sub(1) as u64;
            self.fanout.sent_at[number as usize % REMEMBERED] = now;
        } else {
            line.pending.push(Sent { due, at: now });
        }
        Some(self.message.next(Stamp { number, nanos: due }))
    }

    /// Whether what was due then and is done now is timed. What was due in the warm-up is, in
    /// there, and never after.
    fn counts(&self, due: Nanos, now: Nanos) -> bool {
        due >= self.measured_from || now < self.measured_from
    }

    /// The time for a reply, looked at anew unless it came in one read with the last.
    fn look(&mut self, turn: Duration, key: u32) -> Nanos {
        let (last_turn, last_key, used, time) = self.look;
        if turn == last_turn && key == last_key && used < SHARED_TIME {
            self.look.2 += 1;
            return time;
        }
        let time = self.clock();
        self.look = (turn, key, 1, time);
        time
    }

    /// A reply has come: records it, and returns when the next message was due, if one is.
    fn reply(&mut self, key: usize, reply: &[u8], now: Nanos) -> Option<Nanos> {
        self.now.received += 1;
        self.now.received_bytes += reply.len() as u64;
        let line = &mut self.lines[key];
        if line.role == Role::Hearer {
            return self.heard(key, reply, now);
        }
        let Some(sent) = line.pending.pop() else {
            self.now.errors.unasked += 1;
            return None;
        };
        let number = line.expected;
        line.expected += 1;
        let in_order = !self.message.is_stamped()
            || self.message.stamp_of(reply).is_none_or(|stamp| stamp.number == number);
        let compared = self.check == Check::Echo && number.is_multiple_of(SAMPLE);
        if !in_order || (compared && !self.message.comes_back_in(reply)) {
            self.now.errors.wrong += 1;
        }
        if self.counts(sent.due, now) {
            let line = &self.lines[key];
            let from =
                if matches!(self.shape, Shape::Churn(_)) { line.called_at } else { sent.due };
            self.now.corrected.record(now - from);
            if let Some(uncorrected) = &mut self.now.uncorrected {
                uncorrected.record(now - sent.at);
            }
        }
        if self.closed_loop {
            return Some(now);
        }
        let line = &mut self.lines[key];
        line.waiting.pop_front()
    }

    /// A message of another connection has come to one that hears.
    fn heard(&mut self, key: usize, message: &[u8], now: Nanos) -> Option<Nanos> {
        let line = &mut self.lines[key];
        let Some(stamp) = self.message.stamp_of(message) else {
            self.now.errors.wrong += 1;
            return None;
        };
        self.now.errors.wrong += u64::from(stamp.number != line.expected);
        line.expected = stamp.number + 1;
        self.fanout.outstanding = self.fanout.outstanding.saturating_sub(1);
        if self.counts(stamp.nanos, now) {
            self.now.corrected.record(now.saturating_sub(stamp.nanos));
            let sent = self.fanout.sent_at[stamp.number as usize % REMEMBERED];
            if let Some(uncorrected) = &mut self.now.uncorrected {
                uncorrected.record(now.saturating_sub(sent));
            }
        }
        None
    }

    /// Whether a fan-out in a closed loop has been heard by all, and may go on.
    pub(super) fn all_have_heard(&self) -> bool {
        self.fanout.outstanding == 0
    }

    /// A connection is over.
    fn over(&mut self, key: usize, reason: CloseReason, error: Option<ConnectError>) {
        let Some(line) = self.lines.try_remove(key) else { return };
        if !line.open {
            self.calling.remove(&line.id);
            self.now.errors.connect += 1;
            self.connect_error = self.connect_error.or(error);
            self.ended += usize::from(matches!(self.shape, Shape::Churn(_)));
            return;
        }
        self.open -= 1;
        let errors = &mut self.now.errors;
        match reason {
            // Ours, or told of as bad input.
            CloseReason::AppClose
            | CloseReason::Shutdown
            | CloseReason::BadFrame
            | CloseReason::TooLong
            | CloseReason::Truncated => {}
            CloseReason::PeerEof => {
                // Of who is silent or hears, the server's end is an error as well.
                let due = line.pending.len() > 0 || line.role != Role::Speaker;
                errors.closed += u64::from(due);
            }
            _ => errors.reset += 1,
        }
        self.ended += usize::from(matches!(self.shape, Shape::Churn(_)));
    }
}

/// The service behind all connections of a run.
#[derive(Clone)]
pub(super) struct Generator(pub(super) Rc<RefCell<Run>>);

/// Which line a connection is: known once it is connected.
#[derive(Default)]
pub(super) struct Seat(Option<u32>);

impl Service for Generator {
    type Session = Seat;

    fn opened(&mut self, cx: &mut Context<'_>, seat: &mut Seat) -> Served {
        let run = &mut *self.0.borrow_mut();
        let Some(key) = run.calling.remove(&cx.id()) else { return Ok(()) };
        *seat = Seat(u32::try_from(key).ok());
        let now = run.clock();
        run.lines[key].open = true;
        run.open += 1;
        run.connected += 1;
        let took = now - run.lines[key].called_at;
        run.now.connect.record(took);
        if run.going
            && matches!(run.shape, Shape::Churn(_))
            && let Some(bytes) = run.send(key, now, now)
        {
            return cx.reply(bytes);
        }
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, seat: &mut Seat, message: &[u8]) -> Served {
        let run = &mut *self.0.borrow_mut();
        let Some(seat) = seat.0 else { return Ok(()) };
        let (key, now) = (seat as usize, run.look(cx.now(), seat));
        let due = run.reply(key, message, now);
        match run.shape {
            Shape::Churn(EndBy::Fin) => cx.close_after_flush(),
            Shape::Churn(EndBy::Rst) => cx.reset(),
            Shape::Requests | Shape::Fanout => {
                if let Some(due) = due
                    && let Some(bytes) = run.send(key, due, now)
                {
                    return cx.reply(bytes);
                }
            }
        }
        Ok(())
    }

    fn bad_input(&mut self, _: &mut Context<'_>, _: &mut Seat, error: &FrameError) -> Served {
        let run = &mut *self.0.borrow_mut();
        run.now.errors.frame += 1;
        run.frame_error.get_or_insert_with(|| error.clone());
        Ok(())
    }

    fn closed(&mut self, cx: &mut Context<'_>, seat: &mut Seat, reason: CloseReason) {
        let run = &mut *self.0.borrow_mut();
        let key = match seat.0 {
            Some(key) => Some(key as usize),
            None => run.calling.get(&cx.id()).copied(),
        };
        if let Some(key) = key {
            run.over(key, reason, cx.connect_error());
        }
    }
}
