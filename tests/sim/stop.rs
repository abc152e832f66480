//! How a server ends: told to by a signal or by a call, at once at the second signal, or
//! relieved by another process.
//!
//! ```text
//!  signal ─▶ drain ─▶ all are gone, or time is up ─▶ nothing is left
//!              └──── second signal ─▶ now ──────────────┘
//!
//!  old: both accept ─▶ stops listening ─▶ a second more ─▶ drain ─▶ nothing is left
//!  new:                 takes the queue ─▶ lives as any other
//! ```
//!
//! Two processes have nothing in common but the listener. So each has a world of its own,
//! with the same clock, and one is run behind the other: who waits in the queue goes over
//! to the second with all that was sent by then, and so does who calls later.

use std::cell::RefCell;
use std::mem::take;
use std::rc::Rc;

use super::kernel::{Event, FIXED, MILLI, SECOND, World};
use super::peers::Peer;
use super::plan::Fault;
use super::rng::Rng;
use super::socket::Socket;
use super::{Report, Run};

/// How long the old server goes on with those it has, as the program does.
const LAST_CALLERS: u64 = SECOND;
/// What the loop may take to see that the drain is over.
const SLACK: u64 = 100 * MILLI;

impl Run {
    /// The server is shut down: nothing is left of anything.
    pub(super) fn stop(&mut self) {
        let signals = {
            let mut w = self.world.borrow_mut();
            w.alarm = u64::MAX;
            w.plan.chance(Fault::Signal) > 0
        };
        if signals {
            self.wait_for_signal(MILLI);
        }
        let (until, drained) = {
            let mut w = self.world.borrow_mut();
            w.ledger.stopping = true;
            w.note_due();
            let jumps = if w.plan.time_jumps() { 10_000 * SECOND } else { 0 };
            let drain = w.plan.drain.as_nanos() as u64;
            if signals {
                let second = w.now + w.rng.scale(1, 2 * drain);
                w.at(second, Event::Signal);
            }
            (w.now + 100 * SECOND + jumps, w.now + drain + SLACK + jumps)
        };
        if signals || self.world.borrow_mut().rng.below(2) == 0 {
            self.server.shutdown();
        } else {
            self.server.handle().shutdown().expect("the server is there");
        }
        loop {
            let turn = self.turn();
            if turn.finished {
                break;
            }
            if turn.host {
                self.stop_now();
                break;
            }
            let now = self.world.borrow().now;
            assert!(now < until, "I12: not down after 100 s: {:?}", self.server.counters());
        }
        let mut w = self.world.borrow_mut();
        assert!(w.now <= drained, "I7: down {} ns after the end of the drain", w.now - drained);
        assert_eq!((w.open, w.ledger.streams), (FIXED, 0), "I12: descriptors are left");
        for (conn, socket) in w.sockets.iter().enumerate() {
            let ends = !socket.track.opened || socket.track.over.is_some();
            assert!(ends, "I4: {conn} was opened and never closed");
        }
        w.arrive();
    }

    /// The second signal: whoever is left is closed, and not a turn later.
    fn stop_now(&mut self) {
        {
            let mut w = self.world.borrow_mut();
            w.note_all(Fault::Signal);
            // Nothing has to be answered any more.
            w.ledger.stop_at = None;
        }
        self.server.shutdown_now();
        let counters = self.server.counters();
        let left = (counters.open, counters.lingering, counters.dialing);
        assert_eq!(left, (0, 0, 0), "I12: left by the second signal");
        assert!(self.turn().finished, "I12: it goes on after the second signal");
    }

    /// Turns until the host of the loop is told of a signal, which comes at some time
    /// within `time`.
    fn wait_for_signal(&mut self, time: u64) {
        {
            let mut w = self.world.borrow_mut();
            let at = w.now + w.rng.below(time);
            w.at(at, Event::Signal);
        }
        while !self.turn().host {}
    }

    /// Another process takes the place of this one, which ends. What it did, and the other.
    pub(super) fn restart(mut self) -> (Report, Self) {
        let time = {
            let mut w = self.world.borrow_mut();
            w.until = u64::MAX;
            w.listener.shared = true;
            w.rng.scale(MILLI, SECOND)
        };
        // Both accept, until the other says that it listens.
        self.wait_for_signal(time);
        let mut next = {
            let mut w = self.world.borrow_mut();
            w.note_all(Fault::Restart);
            w.faulty = w.rng.below(2) == 0;
            drop(w);
            self.server.stop_listening();
            self.world.borrow_mut().hand_over()
        };
        let drain = self.world.borrow().now + LAST_CALLERS;
        self.world.borrow_mut().at(drain, Event::Signal);
        while !self.turn().host {}
        self.stop();
        let mut w = self.world.borrow_mut();
        for (time, index) in take(&mut w.listener.late) {
            next.take_over(&mut w, index, time);
        }
        for index in 0..w.plan.peers as u32 {
            let calls = w.peers[index as usize].as_ref().is_some_and(|peer| peer.will_call());
            if calls {
                let now = w.now;
                next.take_over(&mut w, index, now);
            }
        }
        drop(w);
        (self.report(), Self::serve(Rc::new(RefCell::new(next))))
    }
}

impl World {
    /// Another process that has the same listener may be faster.
    pub(super) fn lose_callers(&mut self) {
        while self.listener.shared && !self.listener.queue.is_empty() && self.rng.below(2) == 0 {
            let taken = self.listener.queue.pop_front();
            self.listener.taken.extend(taken);
        }
    }

    /// The world of the process that has the listener now.
    fn hand_over(&mut self) -> Self {
        let mut next = Self::new(self.plan.clone());
        (next.now, next.told_now, next.rng) = (self.now, self.now, Rng(self.rng.next()));
        next.inherited = self.sockets.len();
        // Numbers are names, in every message: they stay what they are.
        let elsewhere = || Socket { closed: true, ..Socket::default() };
        next.sockets.resize_with(self.sockets.len(), elsewhere);
        next.peers.resize_with(self.peers.len(), || None);
        for index in
            take(&mut self.listener.taken).into_iter().chain(take(&mut self.listener.queue))
        {
            let socket = &mut self.sockets[index as usize];
            let peer = socket.peer;
            next.sockets[index as usize] = std::mem::replace(socket, elsewhere());
            next.listener.queue.push_back(index);
            // It may have left, and called again.
            let stays = |peer: &Peer| peer.connection() == Some(index);
            if self.peers[peer as usize].as_deref().is_some_and(stays) {
                let now = self.now;
                next.take_over(self, peer, now);
            }
        }
        next
    }

    /// A peer of another process's world goes on in this one.
    fn take_over(&mut self, from: &mut Self, index: u32, time: u64) {
        let Some(mut peer) = from.peers[index as usize].take() else { return };
        let due = std::mem::replace(&mut peer.due, u64::MAX);
        self.peers[index as usize] = Some(peer);
        self.schedule(index, if due == u64::MAX { time } else { due });
    }

    /// The server is gone, and what it has sent arrives.
    fn arrive(&mut self) {
        let until = self.now + 5 * SECOND;
        while let Some(next) = self.next_event()
            && next <= until
        {
            self.now = self.now.max(next);
            self.run_due();
        }
    }
}
