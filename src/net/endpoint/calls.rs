//! Connections that an endpoint opens itself: from the call to the slot in the slab, or
//! to the service that hears why not.
//!
//! How one call goes on is the [`Dialer`](super::super::dialer::Dialer)'s; this is what it
//! means for counters, timers and the service.

use std::io;

use super::super::border::guard;
use super::super::dialer::{Attempt, Step};
use super::super::peer::Peer;
use super::super::server::Workspace;
use super::super::sys::{DialOptions, Sys, Token, Watch};
use super::TypedEndpoint;
use super::visit::say_panic;
use crate::proto::buffer::Piece;
use crate::proto::conn::{Conn, Shared};
use crate::proto::dial::Dial;
use crate::proto::framing::Framing;
use crate::proto::service::{CloseReason, ConnId, PeerAddr, Service};

/// What a call does next: one of [`Attempt`]'s methods.
type Act<Y> =
    fn(&mut Attempt<<Y as Sys>::Stream>, &mut Y, ConnId, &DialOptions) -> Step<<Y as Sys>::Stream>;

impl<Y: Sys, F: Framing, S: Service> TypedEndpoint<Y, F, S> {
    /// Begins a call for a connection that is to be `id`.
    pub(super) fn call(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId, dial: Dial) {
        self.counters.dialed += 1;
        if work.stopping {
            // Nobody is told: a service that calls again would do so for ever.
            self.counters.closed[CloseReason::Shutdown as usize] += 1;
            return;
        }
        let fate = self.is_full().then_some(CloseReason::MaxConnections);
        self.dialer.begin(id, dial, fate);
        match fate {
            // For the same reason nobody is told at once, but in the turn's bounds.
            Some(_) => work.timers.set(id, work.now),
            None => self.call_on(sys, work, id, Attempt::call),
        }
    }

    /// The kernel tells something of a call.
    pub(super) fn call_ready(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId) {
        match id.generation() {
            // What a 32-bit token cannot carry: it may be any of them.
            0 => {
                for id in self.dialer.all(self.number) {
                    self.call_on(sys, work, id, Attempt::ready);
                }
            }
            _ => self.call_on(sys, work, id, Attempt::ready),
        }
    }

    /// A call has had its time.
    pub(super) fn call_timer(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId) {
        match self.dialer.find(id).and_then(|attempt| attempt.fate) {
            Some(reason) => self.give_up(sys, work, id, reason),
            None => self.call_on(sys, work, id, Attempt::timer),
        }
    }

    /// Takes the next step of a call, if it is still one.
    fn call_on(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId, act: Act<Y>) {
        let Some(attempt) = self.dialer.find(id) else { return };
        let options = attempt.options(self.limits.dial_options());
        match act(attempt, sys, id, &options) {
            Step::Wait => {}
            Step::WaitFor(time) => work.timers.set(id, work.now.saturating_add(time)),
            Step::Connected(stream, addr) => self.connected(sys, work, id, stream, addr),
            Step::Over => {
                attempt.fate = Some(CloseReason::ConnectFailed);
                work.timers.set(id, work.now);
            }
        }
    }

    /// A call was answered: from here on it is a connection like any other.
    fn connected(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        id: ConnId,
        mut stream: Y::Stream,
        addr: PeerAddr,
    ) {
        let key = self.peers.vacant_key();
        let slot = ConnId::new(self.number, key, id.generation());
        // Under its new name; what is true already is told again.
        if sys.watch(&mut stream, Token::conn(slot), Watch::ReadWrite).is_err() {
            sys.close(stream);
            self.give_up(sys, work, id, CloseReason::RegisterFailed);
            return;
        }
        work.timers.cancel(id);
        let Some(attempt) = self.dialer.end(id) else { return };
        self.dialer.connected(id, key);
        let mut peer = Peer::new(stream, id.generation(), work.tick, Conn::new());
        peer.watches_room();
        self.move_in(peer, addr);
        self.live += 1;
        self.visit(sys, work, key, &mut |peer, sys, shared| {
            peer.conn.opened(shared);
            peer.flush(sys, shared);
            if let Some(queued) = attempt.queued {
                let waiting = shared.pool.lend(queued);
                let (output, tick) = (&shared.info.output, shared.tick);
                // What it has no room for any more ends it; that was counted as sent.
                peer.push(sys, id, Piece::Own(waiting.waiting()), output, shared.pool, tick);
                shared.pool.restore(queued, waiting);
            }
            if attempt.finish {
                peer.conn.finish(shared.pool);
                peer.flush(sys, shared);
            }
            peer.conn.wants_resume(&shared.info.output, shared.pool)
        });
        // Only here: a service that panics when it hears of the connection skips the rest.
        if let Some(queued) = attempt.queued {
            work.pool.release(queued);
        }
    }

    /// A call comes to nothing: the service hears why.
    pub(super) fn give_up(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        id: ConnId,
        reason: CloseReason,
    ) {
        let Some(mut attempt) = self.dialer.end(id) else { return };
        attempt.hang_up(sys);
        work.timers.cancel(id);
        work.freed = true;
        if let Some(queued) = attempt.queued {
            work.pool.release(queued);
        }
        self.counters.closed[reason as usize] += 1;
        let addr = attempt.addr();
        if reason == CloseReason::ConnectFailed && self.unreachable.allows(work.now) {
            log::warn!("{addr}: cannot connect: {}", io::Error::from(attempt.error));
        }
        let mut info = self.info(id, addr, work.now);
        info.connect_error = Some(attempt.error);
        let mut conn = Conn::new();
        conn.fail(reason, &mut work.pool);
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
            http_courtesy: false,
            allowance: 0,
            refused: None,
            reset: false,
        };
        if guard(self.limits.abort_on_panic, || conn.closed(&mut shared)).is_none() {
            conn.panicked(&mut shared);
            say_panic(&mut self.panics, work.now, addr);
        }
    }
}
