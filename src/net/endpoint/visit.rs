//! One connection's turn, and what follows from it for everyone else.
//!
//! ```text
//!  visit ──▶ lend it the loop's buffers ──▶ act ──▶ still there? ──▶ queue it again
//!                                            │          └ no ──▶ count it out, free its slot
//!                                            └ panicked ──▶ close it, put the rest right
//! ```

use std::time::Duration;

use super::super::border::guard;
use super::super::peer::Peer;
use super::super::server::{HOLD, Workspace};
use super::super::sys::Sys;
use super::{TypedEndpoint, self_entry};
use crate::proto::conn::{Life, Shared};
use crate::proto::framing::Framing;
use crate::proto::service::{CloseReason, PeerAddr, Service};
use crate::throttle::Throttle;

impl<Y: Sys, F: Framing, S: Service> TypedEndpoint<Y, F, S> {
    /// Lets `act` work on one connection, with all it needs from the loop, and
    /// then draws the conclusions. `act` answers whether it wants another turn.
    pub(super) fn visit<A>(&mut self, sys: &mut Y, work: &mut Workspace, key: usize, act: A)
    where
        A: FnOnce(
            &mut Peer<Y::Stream, F::State, S::Session>,
            &mut Y,
            &mut [u8],
            &mut Shared<'_, F, S>,
        ) -> bool,
    {
        let Some(generation) = self.peers.get(key).map(|peer| peer.generation) else { return };
        let (slot, id) = self.names(key, generation);
        let info = self.info(id, self.addrs[key], work.now);
        let abort = self.limits.abort_on_panic;
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
            refused: None,
        };
        let again = guard(abort, || {
            let again = act(peer, sys, &mut work.read, &mut shared);
            if work.stopping && !again && peer.conn.is_idle() {
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
        if let Some(error) = shared.refused.take()
            && self.bad_replies.allows(work.now)
        {
            log::warn!("{}: bad reply: {error}", self.addrs[key]);
        }
        let spoke = shared.spoke();
        // Over, it no longer counts as a connection, though it may linger.
        if let (false, Some(reason)) = (peer.conn.is_counted_out(), peer.conn.life().final_reason())
        {
            shared.info.connections -= 1;
            if guard(abort, || peer.conn.closed(&mut shared)).is_none() {
                peer.conn.panicked(&mut shared);
                say_panic(&mut self.panics, work.now, self.addrs[key]);
            }
            self.live -= 1;
            self.counters.closed[reason as usize] += 1;
            work.timers.cancel(id);
            work.freed = true;
        }
        if let Life::Closed(_) = peer.conn.life() {
            let peer = self.peers.remove(key);
            self.dialer.forget(peer.generation);
            sys.close(peer.stream);
            work.freed = true;
        } else if spoke && work.congested && !peer.queued {
            peer.queued = true;
            if work.held.is_empty() {
                work.held_until = work.now + HOLD;
            }
            work.held.push(self_entry(slot));
        } else if again == Some(true) && !peer.queued {
            peer.queued = true;
            work.queue.push_back(self_entry(slot));
        }
    }
}

/// Says that a service panicked: in the program's log, since where the panic itself was
/// told is the host's business.
pub(super) fn say_panic(throttle: &mut Throttle, now: Duration, addr: PeerAddr) {
    if throttle.allows(now) {
        log::error!("{addr}: the service panicked; this connection is closed, the others go on");
    }
}
