//! One connection's turn, and what follows from it for everyone else.
//!
//! ```text
//!  turn, visit ──▶ lend it the loop's buffers ──▶ act ──▶ still there? ──▶ queue it again
//!                                                  │          └ no ──▶ count it out, free its slot
//!                                                  └ panicked ──▶ close it, put the rest right
//! ```

use std::cmp::Reverse;
use std::time::Duration;

use super::super::border::guard;
use super::super::peer::Peer;
use super::super::server::{HOLD, Workspace};
use super::super::sys::Sys;
use super::{TypedEndpoint, self_entry};
use crate::proto::conn::{Life, Shared};
use crate::proto::framing::{EncodeError, Framing};
use crate::proto::service::{CloseReason, ConnId, PeerAddr, Service};
use crate::throttle::Throttle;

type Slot<Y, F, S> = Peer<<Y as Sys>::Stream, <F as Framing>::State, <S as Service>::Session>;
type Act<'a, Y, F, S> = dyn FnMut(&mut Slot<Y, F, S>, &mut Y, &mut Shared<'_, F, S>) -> bool + 'a;

impl<Y: Sys, F: Framing, S: Service> TypedEndpoint<Y, F, S> {
    /// A connection's turn.
    pub(super) fn turn(&mut self, sys: &mut Y, work: &mut Workspace, key: usize) {
        self.lend(sys, work, key, Peer::turn);
    }

    /// Lets `act` work on one connection, and then draws the conclusions. `act` answers
    /// whether it wants another turn.
    ///
    /// `dyn`: what happens to a connection beside its turns shares one copy of the code.
    pub(super) fn visit(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        key: usize,
        act: &mut Act<'_, Y, F, S>,
    ) {
        self.lend(sys, work, key, |peer, sys, _, shared| act(peer, sys, shared));
    }

    /// Lends a connection to `act`, with all it needs from the loop.
    fn lend(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        key: usize,
        act: impl FnOnce(&mut Slot<Y, F, S>, &mut Y, &mut [u8], &mut Shared<'_, F, S>) -> bool,
    ) {
        let begun = self.limits.slow_turn.map(|_| sys.now());
        self.attend(sys, work, key, act);
        if let Some(begun) = begun {
            self.say_if_slow(sys.now().saturating_sub(begun), key, work.now);
        }
    }

    #[cold]
    fn say_if_slow(&mut self, took: Duration, key: usize, now: Duration) {
        let slow = self.limits.slow_turn.is_some_and(|most| took > most);
        // Its address stays where it was, also if the connection is gone.
        if let Some(addr) = self.addrs.get(key)
            && slow
            && self.slow_turns.allows(now)
        {
            log::warn!("{addr}: its turn took {} ms, and all others waited", took.as_millis());
        }
    }

    fn attend(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        key: usize,
        act: impl FnOnce(&mut Slot<Y, F, S>, &mut Y, &mut [u8], &mut Shared<'_, F, S>) -> bool,
    ) {
        let Some(generation) = self.peers.get(key).map(|peer| peer.generation) else { return };
        let (slot, id) = self.names(key, generation);
        let info = self.info(id, self.addrs[key], work.now);
        let (abort, allowance) = (self.limits.abort_on_panic, self.pace.allowance(key, work.now));
        let skipped = self.counters.traffic.skipped;
        let peer = &mut self.peers[key];
        let mut shared = Shared {
            framing: &*self.framing,
            service: &mut self.service,
            pool: &mut work.pool,
            replies: &mut work.replies,
            posted: work.post.size(),
            post: &mut work.post,
            traffic: &mut self.counters.traffic,
            info,
            tick: work.tick,
            http_courtesy: self.limits.http_courtesy,
            allowance,
            refused: None,
            reset: false,
        };
        let again = guard(abort, || {
            let again = act(peer, sys, &mut work.read, &mut shared);
            // Who rests was not asked yet whether there is more.
            let rests = shared.allowance == 0;
            if work.stopping && !again && !rests && peer.conn.is_idle() {
                peer.conn.close(CloseReason::Shutdown, shared.pool);
                peer.flush(sys, &mut shared);
                return peer.readable && peer.conn.wants_read();
            }
            again
        });
        if again.is_none() {
            peer.conn.panicked(&mut shared);
            say_panic(&mut self.panics, work.now, self.addrs[key]);
        }
        if let Some(error) = shared.refused.take() {
            say_refused(&mut self.bad_replies, work.now, self.addrs[key], &error);
        }
        let (spoke, reset, left) = (shared.spoke(), shared.reset, shared.allowance);
        let errors = shared.traffic.skipped - skipped;
        if self.pace.is_too_bad(key, allowance - left, errors, work.now) {
            peer.conn.close(CloseReason::Rate, shared.pool);
            peer.flush(sys, &mut shared);
        }
        // Over, it no longer counts as a connection, though it may linger.
        if let (false, Some(reason)) = (peer.conn.is_counted_out(), peer.conn.life().final_reason())
        {
            shared.info.connections -= 1;
            if guard(abort, || peer.conn.closed(&mut shared)).is_none() {
                peer.conn.panicked(&mut shared);
                say_panic(&mut self.panics, work.now, self.addrs[key]);
            }
            self.live -= 1;
            if !id.is_dialed() {
                self.quota.leave(self.addrs[key].ip(), &self.limits);
            }
            self.counters.closed[reason as usize] += 1;
            work.timers.cancel(id);
            work.freed = true;
        }
        let life = self.life_after(work, key);
        if let Life::Closed(_) = life {
            return self.move_out(sys, work, key, reset);
        }
        let wish = match again {
            _ if spoke && work.congested => Wish::Hold,
            _ if left == 0 && life.reason().is_none() => Wish::Rest,
            Some(true) => Wish::Turn,
            _ => Wish::Nothing,
        };
        self.go_on(work, key, slot, wish);
    }

    /// Where a connection is in its life behind a turn. If it is one too many to linger,
    /// that is over: it has had our FIN, and is reset if it says more.
    fn life_after(&mut self, work: &mut Workspace, key: usize) -> Life {
        let lingering = self.peers.len() - self.live;
        let conn = &mut self.peers[key].conn;
        if let Life::Lingering(reason) = conn.life()
            && lingering > self.limits.max_lingering()
        {
            conn.fail(reason, &mut work.pool);
        }
        conn.life()
    }

    /// Frees a slot.
    fn move_out(&mut self, sys: &mut Y, work: &mut Workspace, key: usize, reset: bool) {
        let peer = self.peers.remove(key);
        self.dialer.forget(peer.generation);
        match reset {
            true => sys.reset(peer.stream),
            false => sys.close(peer.stream),
        }
        work.freed = true;
    }

    /// Sees to it that a connection goes on when it can, since no event will.
    fn go_on(&mut self, work: &mut Workspace, key: usize, slot: ConnId, wish: Wish) {
        let peer = &mut self.peers[key];
        match wish {
            Wish::Hold if !peer.queued => {
                peer.queued = true;
                if work.held.is_empty() {
                    work.held_until = work.now + HOLD;
                }
                work.held.push(self_entry(slot));
            }
            Wish::Turn if !peer.queued => {
                peer.queued = true;
                work.queue.push_back(self_entry(slot));
            }
            Wish::Rest => {
                if let Some(until) = self.pace.rest(key) {
                    work.resting.push(Reverse((until, slot)));
                }
            }
            Wish::Hold | Wish::Turn | Wish::Nothing => {}
        }
    }
}

/// What a connection needs next, beside events.
enum Wish {
    Nothing,
    /// Its next turn, behind the others.
    Turn,
    /// A pause, until those that it speaks to have caught up.
    Hold,
    /// A pause, until it may send more messages.
    Rest,
}

fn say_refused(throttle: &mut Throttle, now: Duration, addr: PeerAddr, error: &EncodeError) {
    if throttle.allows(now) {
        log::warn!("{addr}: bad reply: {error}");
    }
}

/// Says that a service panicked: in the program's log, since where the panic itself was
/// told is the host's business.
pub(super) fn say_panic(throttle: &mut Throttle, now: Duration, addr: PeerAddr) {
    if throttle.allows(now) {
        log::error!("{addr}: the service panicked; this connection is closed, the others go on");
    }
}
