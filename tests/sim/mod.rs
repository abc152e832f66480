//! A simulated kernel that misbehaves by seed, peers that do so, too, and the loop
//! between them, which must not.
//!
//! ```text
//!  seed ─▶ Plan ─▶ World: sockets, peers, clock, faults ─▶ SimSys ─▶ Server ─▶ SimService
//!                     └──────────── oracle: I1 .. I16 ◀────────────────────────────┘
//! ```
//!
//! One run has three parts: faults, as many events as the plan says; healing, in which
//! all that is honest must come to its end; shutdown, after which nothing may be left.
//! A run depends on its plan alone. This file knows the order of the parts, the others
//! know one thing each.

use std::cell::RefCell;
use std::rc::Rc;

use oneloop::{AnyFraming, Limits, Server, WhenFull};

pub(crate) mod cover;
pub(crate) mod kernel;
pub(crate) mod million;
pub(crate) mod oracle;
pub(crate) mod peers;
pub(crate) mod plan;
pub(crate) mod rng;
pub(crate) mod service;
pub(crate) mod shrink;
pub(crate) mod sys;
pub(crate) mod wire;

use cover::Cover;
use kernel::{SECOND, World};
use peers::Peer;
use plan::{Fault, Plan};
use service::SimService;
use sys::SimSys;

/// What one run did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) events: u64,
    pub(crate) calls: u64,
    pub(crate) turns: u64,
    pub(crate) messages: u64,
    pub(crate) replies: u64,
    pub(crate) connections: u64,
    pub(crate) seconds: u64,
    pub(crate) hash: u64,
    pub(crate) cover: Cover,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.calls += other.calls;
        self.turns += other.turns;
        self.messages += other.messages;
        self.replies += other.replies;
        self.connections += other.connections;
        self.seconds += other.seconds;
        self.hash ^= other.hash;
        self.cover.add(&other.cover);
    }
}

/// A server on a simulated kernel.
struct Run {
    world: Rc<RefCell<World>>,
    server: Server<SimSys>,
}

/// Runs `plan` to its end.
///
/// # Panics
///
/// An invariant does not hold; the text says which.
pub(crate) fn run(plan: &Plan) -> Report {
    let mut run = Run::new(plan);
    run.misbehave();
    run.heal();
    run.stop();
    let w = run.world.borrow();
    Report {
        events: w.ledger.events,
        calls: w.ledger.calls,
        turns: w.turn,
        messages: w.ledger.messages,
        replies: w.ledger.replies,
        connections: w.sockets.len() as u64,
        seconds: w.now / SECOND,
        hash: w.hash,
        cover: w.cover.clone(),
    }
}

impl Run {
    fn new(plan: &Plan) -> Self {
        let world = Rc::new(RefCell::new(World::new(plan.clone())));
        let mut server = Server::with_sys(SimSys(world.clone()));
        let framing = || {
            AnyFraming::from_spec(plan.codec.spec(), Some(plan.max_message)).expect("a valid SPEC")
        };
        let limits = Limits::default()
            .abort_on_panic(true)
            .max_connections(plan.max_connections)
            .when_full(if plan.refuse { WhenFull::Refuse } else { WhenFull::Wait })
            .output_high(plan.high)
            .output_low(plan.high / 2)
            .frame_timeout(Some(plan.frame_timeout))
            .write_timeout(Some(plan.write_timeout))
            .idle_timeout(plan.idle_timeout);
        let names = service::Names::default();
        // Endpoints are numbered from 0 on; the second one, which calls, is added first in
        // a server of its own to learn its name.
        let caller = {
            let mut other = Server::with_sys(SimSys(world.clone()));
            let sink = || oneloop::services::Sink;
            other.add(framing(), sink(), limits.clone()).expect("valid settings");
            other.add(framing(), sink(), limits.clone()).expect("valid settings")
        };
        let service = |endpoint| SimService {
            world: world.clone(),
            names: names.clone(),
            endpoint,
            caller,
            scratch: Vec::new(),
        };
        let first = server.add(framing(), service(0), limits.clone()).expect("valid settings");
        let second = server.add(framing(), service(1), limits).expect("valid settings");
        assert_eq!(second, caller);
        server.listen(first, "127.0.0.1:7000").expect("the kernel listens anywhere");
        {
            let mut w = world.borrow_mut();
            for index in 0..plan.peers as u32 {
                let peer = Peer::new(index, plan.seed, plan.messages, plan.herd, false);
                w.peers.push(Some(Box::new(peer)));
                let from = if plan.herd { 0 } else { w.rng.scale(1, SECOND) };
                let time = w.now + from;
                w.schedule(index, time);
            }
        }
        Self { world, server }
    }

    /// One turn, and what must hold after it. True: the server has finished.
    fn turn(&mut self) -> bool {
        self.world.borrow_mut().asleep = false;
        let turn = self.server.turn(None).expect("I15: wait fails with EINTR at most");
        let (counters, buffered) = (self.server.counters(), self.server.buffered_bytes());
        let mut w = self.world.borrow_mut();
        // Who drips through a long drain has a turn for each byte.
        let most = 1_000_000 + 100 * w.plan.events + w.ledger.bytes_read;
        assert!(w.turn < most, "I9: no end in sight");
        w.after_turn(&counters, buffered);
        if w.turn.is_multiple_of(16) {
            w.note_unfair();
        }
        // While there are faults, all may wait for room that nobody makes.
        let content = |w: &mut World| w.faulty || Self::is_content(w);
        if w.asleep && !turn.finished && !content(&mut w) {
            panic!("I12: asleep for ever, though one waits: {}", Self::discontent(&w));
        }
        turn.finished
    }

    fn misbehave(&mut self) {
        loop {
            let finished = self.turn();
            let mut w = self.world.borrow_mut();
            let asleep = std::mem::take(&mut w.asleep);
            if finished || asleep || w.ledger.events >= w.plan.events || Self::is_content(&mut w) {
                return;
            }
            if w.hits(Fault::Command) {
                w.cover.note(Fault::Command, cover::Stage::Idle);
                drop(w);
                self.command();
            }
        }
    }

    /// Another thread asks for something.
    fn command(&mut self) {
        let handle = self.server.handle();
        let answer = handle.counters().expect("the server is there");
        // A signal may come first, more than once.
        let heard = (0..20).any(|_| self.turn() || answer.try_recv().is_ok());
        assert!(heard, "I8: the waker was not heard");
    }

    /// Whether there is nothing more that anyone waits for.
    fn is_content(w: &mut World) -> bool {
        w.peers.iter().flatten().all(|peer| peer.is_content(w))
    }

    /// Someone who waits, and its connection.
    fn discontent(w: &World) -> String {
        let peer = w.peers.iter().flatten().find(|peer| !peer.is_content(w));
        let socket = peer.and_then(|peer| peer.connection());
        let socket = socket.map(|conn| &w.sockets[conn as usize]);
        format!("{peer:?} {socket:?} {:?}", w.listener)
    }

    /// The faults are over: whoever is honest comes to its end, soon.
    fn heal(&mut self) {
        self.world.borrow_mut().until = u64::MAX;
        if self.world.borrow().plan.chance(Fault::Shutdown) > 0 {
            // The end comes in the middle.
            let mut w = self.world.borrow_mut();
            w.cover.note(Fault::Shutdown, cover::Stage::Idle);
            w.faulty = w.rng.below(2) == 0;
            return;
        }
        let until = {
            let mut w = self.world.borrow_mut();
            w.faulty = false;
            let count = w.peers.len();
            let crowded = w.plan.max_connections.min(w.plan.descriptors) < count;
            for index in 0..count {
                let Some(mut peer) = w.peers[index].take() else { continue };
                peer.hurry(crowded);
                peer.give_up(&mut w);
                w.peers[index] = Some(peer);
                let now = w.now;
                w.schedule(index as u32, now + 1);
            }
            w.alarm = w.now + 600 * SECOND;
            w.alarm
        };
        loop {
            {
                let mut w = self.world.borrow_mut();
                if Self::is_content(&mut w) && w.listener.queue.is_empty() {
                    break;
                }
                if w.now > until {
                    panic!("I12: not done 600 s after healing: {}", Self::discontent(&w));
                }
            }
            // Nobody but us may wake it up.
            self.turn();
        }
        self.settle();
    }

    /// All is said: nothing may be on its way any more.
    fn settle(&mut self) {
        let until = self.world.borrow().now + 5 * SECOND;
        while self.world.borrow().now < until {
            let turn = self.server.turn(Some(std::time::Duration::from_secs(1)));
            let _ = turn.expect("I15: wait fails with EINTR at most");
        }
        let w = self.world.borrow();
        for (conn, socket) in w.sockets.iter().enumerate() {
            let track = &socket.track;
            let healthy = track.opened
                && track.over.is_none()
                // Whoever was called last may still be reading, at its own pace.
                && socket.outbound.is_empty()
                && !track.nonsense
                && !track.cut_off
                && !track.close_ordered
                && !track.finish_ordered
                && !socket.fin_in
                && w.peers[socket.peer as usize].as_ref().is_some_and(|peer| peer.is_honest());
            if !healthy {
                continue;
            }
            assert_eq!(track.sent, track.delivered, "I1: {conn} was not heard: {socket:?}");
            let got = (track.got, track.notes_got);
            assert_eq!((track.owed, track.notes_owed), got, "I2: {conn} lacks replies: {socket:?}");
            let mail = w.ledger.mail.get(&(conn as u32)).map_or(0, |mail| mail.len());
            assert_eq!(
                mail,
                0,
                "I1: {conn} lacks messages of others: {socket:?} {:?}",
                self.server.counters()
            );
            let log = &w.ledger.broadcasts[usize::from(socket.dialed)];
            let from = track.heard.map_or(track.hears_from, |last| last + 1);
            let own = |entry: &&(u8, u32, u32)| {
                !(entry.0 == wire::Act::Others as u8 && entry.1 == conn as u32)
            };
            let lacks = log[from.min(log.len())..].iter().filter(own).count();
            assert_eq!(lacks, 0, "I1: {conn} lacks {:?}: {socket:?}", &log[from..]);
        }
    }

    /// The server is shut down: nothing is left of anything.
    fn stop(mut self: &mut Self) {
        let until = {
            let mut w = self.world.borrow_mut();
            w.ledger.stopping = true;
            w.alarm = u64::MAX;
            w.now + 100 * SECOND + if w.plan.time_jumps() { 10_000 * SECOND } else { 0 }
        };
        if self.world.borrow_mut().rng.below(2) == 0 {
            self.server.shutdown();
        } else {
            self.server.handle().shutdown().expect("the server is there");
        }
        loop {
            let this = &mut self;
            if this.turn() {
                break;
            }
            let now = this.world.borrow().now;
            assert!(now < until, "I12: not down after 100 s: {:?}", this.server.counters());
        }
        let counters = self.server.counters();
        assert_eq!((counters.open, counters.lingering, counters.dialing), (0, 0, 0), "I12");
        assert_eq!(self.server.buffered_bytes(), 0, "I12: bytes are left");
        let w = self.world.borrow();
        assert_eq!((w.open, w.ledger.streams), (kernel::FIXED, 0), "I12: descriptors are left");
        for (conn, socket) in w.sockets.iter().enumerate() {
            let ends = !socket.track.opened || socket.track.over.is_some();
            assert!(ends, "I4: {conn} was opened and never closed");
        }
    }
}
