//! A simulated kernel that misbehaves by seed, peers that do so, too, and the loop
//! between them, which must not.
//!
//! ```text
//!  seed ─▶ Plan ─▶ World: sockets, peers, clock, faults ─▶ SimSys ─▶ Server ─▶ SimService
//!                     └──────────── oracle: I1 .. I16 ◀────────────────────────────┘
//! ```
//!
//! One run has three parts: faults, as many events as the plan says; healing, in which
//! all that is honest must come to its end; shutdown, after which nothing may be left. Or
//! two servers have one each, if one is relieved by another.
//! A run depends on its plan alone. This file knows the order of the parts, the others
//! know one thing each: `plan` what is drawn, `kernel`, `socket`, `sys`, `edges` and
//! `transfer` the kernel, `peers`, `script`, `talk` and `wire` who calls, `stop` how it ends,
//! `oracle`, `ends`, `sleep`, `turn`, `quota` and `log` what must hold.

use std::cell::RefCell;
use std::rc::Rc;

use oneloop::net::Turn;
use oneloop::{AnyFraming, CloseReason, EndpointId, Limits, Prefix, Server};

pub(crate) mod cover;
pub(crate) mod edges;
pub(crate) mod ends;
pub(crate) mod kernel;
pub(crate) mod log;
pub(crate) mod million;
pub(crate) mod oracle;
pub(crate) mod peers;
pub(crate) mod plan;
pub(crate) mod quota;
pub(crate) mod rng;
pub(crate) mod script;
pub(crate) mod service;
pub(crate) mod shrink;
pub(crate) mod sleep;
pub(crate) mod socket;
pub(crate) mod stop;
pub(crate) mod sys;
pub(crate) mod talk;
pub(crate) mod transfer;
pub(crate) mod turn;
pub(crate) mod wire;

use cover::Cover;
use kernel::{SECOND, World};
use peers::Peer;
use plan::{Fault, Plan};
use quota::Pace;
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
    /// Turns that began with nine tenths of the memory in use.
    pub(crate) tight: u64,
    pub(crate) hung_up: u64,
    /// Records of the log that were checked.
    pub(crate) records: u64,
    /// Ends, by reason.
    pub(crate) ends: [u64; CloseReason::ALL.len()],
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
        self.tight += other.tight;
        self.hung_up += other.hung_up;
        self.records += other.records;
        for (sum, count) in self.ends.iter_mut().zip(other.ends) {
            *sum += count;
        }
        self.cover.add(&other.cover);
    }
}

/// Calls into the kernel for each event, message and reply, at most, and some to begin with.
const WORK: u64 = 8;

/// A server on a simulated kernel.
struct Run {
    world: Rc<RefCell<World>>,
    server: Server<SimSys>,
    names: service::Names,
    listener: EndpointId,
}

/// Runs `plan` to its end.
///
/// # Panics
///
/// An invariant does not hold; the text says which.
pub(crate) fn run(plan: &Plan) -> Report {
    log::watch();
    let (mut run, mut sum) = (Run::new(plan), Report::default());
    run.misbehave();
    if plan.chance(Fault::Restart) > 0 {
        let (report, successor) = run.restart();
        (sum, run) = (report, successor);
        run.misbehave();
    }
    run.heal();
    run.stop();
    sum.add(&run.report());
    sum
}

impl Run {
    fn new(plan: &Plan) -> Self {
        let mut world = World::new(plan.clone());
        for index in 0..plan.peers as u32 {
            let peer = Peer::new(index, plan, false);
            world.peers.push(Some(Box::new(peer)));
            let from = if plan.herd { 0 } else { world.rng.scale(1, SECOND) };
            let time = world.now + from;
            world.schedule(index, time);
        }
        if plan.chance(Fault::Restart) > 0 {
            // At any time.
            world.until = world.rng.below(plan.events);
        }
        Self::serve(Rc::new(RefCell::new(world)))
    }

    /// A server in `world`.
    fn serve(world: Rc<RefCell<World>>) -> Self {
        let plan = &world.borrow().plan.clone();
        let mut server = Server::with_sys(SimSys(world.clone()));
        let framing = || {
            AnyFraming::from_spec(plan.codec.spec(), Some(plan.max_message)).expect("a valid SPEC")
        };
        let prefix: Prefix = "2001:db8::/64".parse().expect("a prefix");
        let limits = Limits::default()
            .abort_on_panic(plan.chance(Fault::HandlerPanic) == 0)
            .max_connections(plan.max_connections)
            .when_full(plan.when_full)
            .output_high(plan.high)
            .output_low(plan.high / 2)
            .frame_timeout(Some(plan.frame_timeout))
            .write_timeout(Some(plan.write_timeout))
            .idle_timeout(plan.idle_timeout)
            .max_per_ip(plan.per_ip)
            .accepts_per_ip(plan.accept_rate.map(Pace::rate))
            .exempt(if plan.exempt { vec![prefix] } else { Vec::new() })
            .messages_per_second(plan.message_rate.map(Pace::rate))
            .errors_per_second(plan.error_rate.map(Pace::rate));
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
        server.drain_timeout(plan.drain);
        if let Some(bytes) = plan.memory {
            server.memory_budget(bytes);
        }
        // Whoever is told that it does not work may try again.
        let listens = (0..1000).any(|_| server.listen(first, "127.0.0.1:7000").is_ok());
        assert!(listens && world.borrow().listening, "I4: no listener");
        Self { world, server, names, listener: first }
    }

    /// What it did.
    fn report(&self) -> Report {
        let w = self.world.borrow();
        let ledger = &w.ledger;
        let (calls, work) = (ledger.calls, ledger.events + ledger.messages + ledger.replies);
        assert!(calls <= WORK * work + 10_000, "I16: {calls} calls for {work} events and messages");
        Report {
            events: ledger.events,
            calls: ledger.calls,
            turns: w.turn,
            messages: ledger.messages,
            replies: ledger.replies,
            connections: (w.sockets.len() - w.inherited) as u64,
            seconds: w.now / SECOND,
            hash: w.hash,
            tight: ledger.tight_turns,
            hung_up: ledger.hung_up,
            records: log::take_records(),
            ends: self.server.counters().closed,
            cover: w.cover.clone(),
        }
    }

    /// One turn, and what must hold after it.
    fn turn(&mut self) -> Turn {
        {
            let mut w = self.world.borrow_mut();
            (w.asleep, w.host, w.ledger.no_host) = (false, false, true);
        }
        let turn = self.server.turn(None).expect("I15: wait fails with EINTR at most");
        if let Some(text) = log::take_wrong() {
            panic!("{text}");
        }
        let (counters, buffered) = (self.server.counters(), self.server.buffered_bytes());
        let mut w = self.world.borrow_mut();
        assert_eq!(turn.host, w.host, "I8: the signal was not heard");
        // A server that is relieved goes on for two seconds more, of a microsecond a turn.
        let times = if w.until == u64::MAX { 5 } else { 1 };
        assert!(w.turn < times * (1_000_000 + 100 * w.plan.events), "I9: no end in sight");
        w.after_turn(&counters, buffered);
        if w.turn.is_multiple_of(16) {
            w.note_unfair();
        }
        // While there are faults, all may wait for room that nobody makes.
        let content = |w: &mut World| w.faulty || Self::is_content(w);
        if w.asleep && !turn.finished && !content(&mut w) {
            panic!("I12: asleep for ever, though one waits: {}", Self::discontent(&w));
        }
        turn
    }

    fn misbehave(&mut self) {
        loop {
            let finished = self.turn().finished;
            let mut w = self.world.borrow_mut();
            let asleep = std::mem::take(&mut w.asleep);
            if finished || asleep || w.ledger.events >= w.until || Self::is_content(&mut w) {
                return;
            }
            if w.hits(Fault::Command) {
                drop(w);
                self.command();
            }
        }
    }

    /// Another thread asks for something.
    fn command(&mut self) {
        let handle = self.server.handle();
        let mut said = 0;
        {
            let mut w = self.world.borrow_mut();
            let (what, names) = (w.rng.below(4), self.names.borrow());
            let at = w.rng.below(names.len() as u64) as usize;
            let mut text = Vec::new();
            match (what, names.get(at)) {
                (0, Some(&(id, conn))) => {
                    let stage = w.sockets[conn as usize].stage();
                    w.cover.note(Fault::Command, stage);
                    w.wire.note(b'H', conn, 0, &mut text);
                    said = text.len() as u64 + 32;
                    handle.send(id, text).expect("the server is there");
                }
                (1, Some(&(id, conn))) => {
                    let stage = w.sockets[conn as usize].stage();
                    w.cover.note(Fault::Command, stage);
                    w.track(conn).close_ordered = true;
                    handle.close(id).expect("the server is there");
                }
                (2, _) => {
                    let number = w.ledger.shouts;
                    w.ledger.shouts += 1;
                    w.wire.note(b'B', 0, number, &mut text);
                    said = (text.len() as u64 + 32) * (w.ledger.live[0] as u64 + 8);
                    handle.broadcast(self.listener, text).expect("the server is there");
                }
                _ => w.cover.note(Fault::Command, cover::Stage::Nobody),
            }
        }
        let answer = handle.counters().expect("the server is there");
        // A signal may come first, more than once.
        let heard = (0..20).any(|_| {
            {
                let ledger = &mut self.world.borrow_mut().ledger;
                (ledger.posts, ledger.said) = (ledger.posts + 4, ledger.said + said);
            }
            self.turn().finished || answer.try_recv().is_ok()
        });
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
            w.cover.note(Fault::Shutdown, cover::Stage::Nobody);
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
            // Whoever may not speak faster needs its time.
            let most = 4 * u64::from(w.plan.messages);
            let pace = w.plan.message_rate.map_or(0, |pace| most / u64::from(pace.per_second));
            w.alarm = w.now + (600 + pace) * SECOND;
            w.alarm
        };
        loop {
            {
                let mut w = self.world.borrow_mut();
                if Self::is_content(&mut w) && w.listener.queue.is_empty() {
                    break;
                }
                if w.now > until {
                    panic!("I12: not done long after healing: {}", Self::discontent(&w));
                }
            }
            // Nobody but us may wake it up.
            let _ = self.turn();
        }
        self.settle();
    }

    /// All is said: nothing may be on its way any more.
    fn settle(&mut self) {
        let until = {
            let mut w = self.world.borrow_mut();
            w.ledger.no_host = false;
            w.now + 5 * SECOND
        };
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
            // Whoever was called last may be slower than it would like to be.
            let rests = w.plan.message_rate.is_some() && track.delivered < track.sent;
            if !healthy || rests {
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
            let heard = track.shouts_heard.map_or(track.shouts_from, |last| last + 1);
            let all = socket.dialed || heard >= w.ledger.shouts;
            assert!(all, "I1: {conn} lacks what another thread said: {socket:?}");
            let log = &w.ledger.broadcasts[usize::from(socket.dialed)];
            let from = track.heard.map_or(track.hears_from, |last| last + 1);
            let own = |entry: &&(u8, u32, u32)| {
                !(entry.0 == wire::Act::Others as u8 && entry.1 == conn as u32)
            };
            let lacks = log[from.min(log.len())..].iter().filter(own).count();
            assert_eq!(lacks, 0, "I1: {conn} lacks {:?}: {socket:?}", &log[from..]);
        }
    }
}
