//! The simulated kernel: sockets, the list of those that have something to tell, the
//! clock, and what is to happen when.
//!
//! ```text
//!  peer ──▶ inbound  ──▶ read       a change puts the socket on the list, once;
//!  peer ◀── outbound ◀── write      wait looks at the state then, and takes it off
//! ```
//!
//! Edges as epoll has them: only a change, or a new watch, lists a socket; what is told
//! is what is true when it is told. Time passes in [`World::wait`] and, a little, in
//! each call, and peers act whenever their time has come, so in the middle of a batch,
//! too. Knows no message and no server.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use oneloop::net::Token;

use super::cover::Cover;
use super::oracle::Ledger;
use super::peers::Peer;
use super::plan::{Fault, Plan};
use super::quota::Hosts;
use super::rng::Rng;
use super::socket::Socket;
use super::wire::Wire;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLI: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) token: Option<Token>,
    pub(crate) queue: VecDeque<u32>,
    pub(crate) listed: bool,
    /// Another process has it, too; whom that one has taken from the queue.
    pub(crate) shared: bool,
    pub(crate) taken: Vec<u32>,
    /// Who called when it was that other process's alone, and when.
    pub(crate) late: Vec<(u64, u32)>,
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A peer takes its next step.
    Peer(u32),
    /// Something is told of a socket after all.
    Tell(u32),
    /// Whom we called answers.
    Answer(u32),
    /// The host of the loop is sent a signal.
    Signal,
}

/// Rung by another thread, as far as the loop can tell.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Bell {
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn rings(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// All there is beside the server.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) wire: Wire,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    /// The time that the server was told last.
    pub(crate) told_now: u64,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) peers: Vec<Option<Box<Peer>>>,
    pub(crate) listener: Listener,
    pub(crate) listening: bool,
    /// Sockets to tell of, oldest first.
    pub(crate) list: VecDeque<u32>,
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    pub(crate) bell: Arc<Bell>,
    /// A signal that the host was not told of yet, and one that this turn has to tell of.
    pub(crate) signal: bool,
    pub(crate) host: bool,
    /// Descriptors the server has.
    pub(crate) open: usize,
    /// Faults happen.
    pub(crate) faulty: bool,
    /// Nothing will ever wake the server.
    pub(crate) asleep: bool,
    /// Whoever sleeps then is woken up.
    pub(crate) alarm: u64,
    pub(crate) until: u64,
    pub(crate) turn: u64,
    pub(crate) hash: u64,
    pub(crate) hosts: Hosts,
    pub(crate) ledger: Ledger,
    pub(crate) cover: Cover,
    /// Sockets of the process before this one, if there was one.
    pub(crate) inherited: usize,
}

/// A descriptor for the selector, and one kept in reserve.
pub(crate) const FIXED: usize = 2;

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let wire =
            Wire::new(plan.codec, plan.seed, plan.max_message, plan.usual_message, plan.acts);
        Self {
            wire,
            rng: Rng(plan.seed ^ 0xc0de_5eed),
            now: SECOND,
            told_now: SECOND,
            sockets: Vec::new(),
            peers: Vec::new(),
            listener: Listener::default(),
            listening: false,
            list: VecDeque::new(),
            heap: BinaryHeap::new(),
            order: 0,
            bell: Arc::default(),
            signal: false,
            host: false,
            open: FIXED,
            faulty: true,
            asleep: false,
            alarm: u64::MAX,
            until: plan.events,
            turn: 1,
            hash: plan.seed,
            hosts: Hosts::default(),
            ledger: Ledger::default(),
            cover: Cover::default(),
            inherited: 0,
            plan,
        }
    }

    /// Whether that fault happens now.
    pub(crate) fn hits(&mut self, fault: Fault) -> bool {
        self.faulty && self.rng.chance(self.plan.chances[fault as usize])
    }

    /// Whether that fault happens to `socket` now; written down.
    pub(crate) fn strikes(&mut self, fault: Fault, socket: u32) -> bool {
        let hit = self.hits(fault);
        if hit {
            self.cover.note(fault, self.sockets[socket as usize].stage());
            self.trace(1000 + fault as u64, u64::from(socket));
        }
        hit
    }

    /// The address of who is at the other end.
    pub(crate) fn host(&self, conn: u32) -> u32 {
        self.sockets[conn as usize].peer % self.plan.hosts
    }

    /// Goes into the hash by which two runs of a seed are compared.
    pub(crate) fn trace(&mut self, what: u64, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ what ^ value << 12 ^ self.now)
            .wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse((time, self.order, event)));
    }

    /// When something happens next.
    pub(crate) fn next_event(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((time, ..))| *time)
    }

    /// Has everything happen whose time has come.
    pub(crate) fn run_due(&mut self) {
        while let Some(&Reverse((time, _, event))) = self.heap.peek()
            && time <= self.now
        {
            self.heap.pop();
            match event {
                Event::Peer(peer) => self.step(peer, time),
                Event::Tell(socket) => {
                    self.sockets[socket as usize].armed -= 1;
                    self.tell(socket);
                }
                Event::Answer(socket) => self.answer(socket),
                Event::Signal => self.signal = true,
            }
        }
    }

    /// A call into the kernel begins.
    pub(crate) fn enter(&mut self) {
        self.ledger.calls += 1;
        self.now += self.plan.call_time;
        self.run_due();
    }

    /// Something has changed: the socket is told of.
    pub(crate) fn tell(&mut self, index: u32) {
        let socket = &mut self.sockets[index as usize];
        if socket.token.is_some() && !socket.listed && !socket.closed {
            socket.listed = true;
            self.list.push_back(index);
        }
    }

    /// Something happened that its peer should look at.
    pub(crate) fn wake_peer(&mut self, socket: u32) {
        let peer = self.sockets[socket as usize].peer;
        let latency = match self.peers.get(peer as usize) {
            Some(Some(peer)) => peer.latency,
            _ => return,
        };
        self.schedule(peer, self.now + latency);
    }

    /// Has a peer take its next step at `time` at the latest.
    pub(crate) fn schedule(&mut self, index: u32, time: u64) {
        let Some(Some(peer)) = self.peers.get_mut(index as usize) else { return };
        if time < peer.due {
            peer.due = time;
            self.at(time, Event::Peer(index));
        }
    }

    /// Tells of a socket a moment later.
    pub(crate) fn tell_later(&mut self, socket: u32) {
        let later = self.now + self.rng.below(MILLI);
        self.sockets[socket as usize].armed += 1;
        self.at(later, Event::Tell(socket));
    }

    fn step(&mut self, index: u32, time: u64) {
        let Some(slot) = self.peers.get_mut(index as usize) else { return };
        // It was scheduled anew since.
        if slot.as_ref().is_none_or(|peer| peer.due != time) {
            return;
        }
        let Some(mut peer) = slot.take() else { return };
        self.ledger.events += 1;
        peer.due = u64::MAX;
        peer.step(self);
        let due = std::mem::replace(&mut peer.due, u64::MAX);
        self.peers[index as usize] = Some(peer);
        if due != u64::MAX {
            self.schedule(index, due);
        }
    }

    /// A peer calls the server: its socket, if there is room in the queue.
    pub(crate) fn call(&mut self, peer: u32) -> Option<u32> {
        if !self.listening || self.listener.queue.len() >= self.plan.backlog {
            return None;
        }
        let index = self.sockets.len() as u32;
        let answer = Some(Ok(()));
        self.sockets.push(Socket { peer, answer, ..Socket::default() });
        self.listener.queue.push_back(index);
        self.listener.listed = true;
        Some(index)
    }

    /// Whom the server called answers.
    fn answer(&mut self, index: u32) {
        let socket = &mut self.sockets[index as usize];
        if socket.closed || socket.answer.is_some() {
            return;
        }
        let peer = socket.peer;
        let refused = self.peers[peer as usize].as_ref().is_some_and(|peer| peer.refuses);
        self.sockets[index as usize].answer = Some(if refused { Err(111) } else { Ok(()) });
        self.tell(index);
        if !refused {
            self.schedule(peer, self.now);
        }
    }

    /// What the peer sends: as much as there is room for.
    pub(crate) fn peer_sends(&mut self, index: u32, bytes: &[u8]) -> usize {
        let room = self.plan.receive_buffer;
        let socket = &mut self.sockets[index as usize];
        let count = bytes.len().min(room.saturating_sub(socket.inbound.len()));
        if count == 0 {
            return 0;
        }
        // Behind the server's close everything is answered with a reset.
        if socket.closed {
            socket.reset_out = true;
            return count;
        }
        socket.inbound.push(&bytes[..count]);
        socket.track.note_sent(self.now, self.told_now, self.plan.idle_timeout);
        self.tell(index);
        count
    }

    pub(crate) fn peer_finishes(&mut self, index: u32) {
        let socket = &mut self.sockets[index as usize];
        if !socket.fin_in {
            socket.fin_in = true;
            self.tell(index);
        }
    }

    pub(crate) fn peer_resets(&mut self, index: u32) {
        let keep = self.rng.below(2) == 0;
        let socket = &mut self.sockets[index as usize];
        socket.reset_in = true;
        socket.track.may_be_reset = true;
        if !keep {
            socket.inbound.clear();
        }
        socket.outbound.end();
        self.tell(index);
    }

    /// The peer takes `count` bytes of what was sent to it.
    pub(crate) fn peer_takes(&mut self, index: u32, count: usize) {
        let capacity = self.plan.send_buffer;
        let socket = &mut self.sockets[index as usize];
        socket.outbound.consume(count);
        // The kernel says so when a third is free, not at every byte.
        let room = capacity.saturating_sub(socket.outbound.len());
        if socket.no_space && socket.watches_write && room >= capacity.div_ceil(3) {
            self.tell(index);
        }
    }

    pub(crate) fn has_room(&self, socket: &Socket) -> bool {
        let capacity = self.plan.send_buffer;
        capacity.saturating_sub(socket.outbound.len()) >= capacity.div_ceil(3)
    }
}
