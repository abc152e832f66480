//! Who comes in: callers, from the kernel's queue to their slots or away.
//!
//! ```text
//!  accept ─▶ too many, or too often, of that address? ─▶ hung up on
//!     │
//!     ├─▶ all connections in use? ─▶ wait (not accepted at all), refuse, or evict another
//!     ▼
//!  a slot, and Service::opened
//! ```

use std::collections::BinaryHeap;
use std::io;
use std::time::Duration;

use super::super::acceptor::{ACCEPTS_PER_TURN, Accepted, Acceptor};
use super::super::limits::WhenFull;
use super::super::peer::Peer;
use super::super::server::Workspace;
use super::super::sys::{MAX_CONNECTIONS, Sys, Token, Watch};
use super::TypedEndpoint;
use crate::proto::conn::Conn;
use crate::proto::framing::{Exchange, Framing, Reply};
use crate::proto::service::{CloseReason, ConnId, PeerAddr, Service};

/// Whoever was heard in this time is not evicted: a storm of callers must not throw out
/// those who are in the middle of a conversation.
const NOT_SILENT: Duration = Duration::from_secs(1);

impl<Y: Sys, F: Framing, S: Service> TypedEndpoint<Y, F, S> {
    /// Accepts who waits, within the turn's bounds.
    pub(super) fn take_callers(&mut self, sys: &mut Y, work: &mut Workspace) {
        if work.freed {
            self.acceptors.iter_mut().for_each(Acceptor::unpause);
        }
        let mut silent = None;
        for index in 0..self.acceptors.len() {
            // Each listener has its own: a storm on one shuts out no other.
            let mut budget = ACCEPTS_PER_TURN;
            // One who is greeted may need memory, too.
            while budget > 0 && work.has_memory() && self.acceptors[index].is_ready(work.now) {
                let full = self.is_full();
                if full {
                    self.say_full(work.now);
                }
                match self.limits.when_full {
                    WhenFull::Wait if full => return,
                    // Before the caller is taken: it can wait where it is.
                    WhenFull::Evict if full && self.silent(&mut silent, work).is_empty() => {
                        self.acceptors[index].pause(work.now);
                        break;
                    }
                    _ => {}
                }
                budget -= 1;
                match self.acceptors[index].accept(sys, work.now) {
                    Accepted::Caller(stream, addr) => {
                        self.receive(sys, work, stream, addr, &mut silent);
                    }
                    Accepted::Shed => {
                        self.counters.accepted += 1;
                        self.counters.closed[CloseReason::MaxConnections as usize] += 1;
                    }
                    Accepted::Lost | Accepted::Nobody => {}
                }
            }
        }
    }

    fn say_full(&mut self, now: Duration) {
        if self.crowded.allows(now) {
            let (count, what) = match self.limits.when_full {
                WhenFull::Wait => (self.live, "newcomers wait"),
                WhenFull::Refuse => (self.live, "newcomers are refused"),
                WhenFull::Evict => (self.live, "the longest silent go"),
            };
            log::warn!("all {count} connections are in use; {what}");
        }
    }

    /// Decides about a caller.
    fn receive(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        stream: Y::Stream,
        addr: PeerAddr,
        silent: &mut Option<BinaryHeap<Silent>>,
    ) {
        if let Err(reason) = self.quota.admits(addr.ip(), &self.limits, work.now) {
            self.counters.accepted += 1;
            self.counters.closed[reason as usize] += 1;
            if self.turned_away.allows(work.now) {
                log::warn!("{addr}: hung up on, {reason}");
            }
            sys.close(stream);
            return;
        }
        if self.is_full() && self.limits.when_full == WhenFull::Evict {
            self.evict(sys, work, silent);
        }
        match self.is_full() {
            true => self.refuse(sys, work, stream, addr),
            false => self.welcome(sys, work, stream, addr),
        }
    }

    /// Those who can be evicted in this turn, the longest silent on top: looked for once.
    fn silent<'s>(
        &self,
        found: &'s mut Option<BinaryHeap<Silent>>,
        work: &Workspace,
    ) -> &'s mut BinaryHeap<Silent> {
        found.get_or_insert_with(|| {
            let accepted = |generation: u32| generation & ConnId::OURS == 0;
            self.peers
                .iter()
                .filter(|(_, peer)| accepted(peer.generation) && !peer.conn.is_counted_out())
                .map(|(key, peer)| (work.tick.since(peer.last_read), key, peer.generation))
                .filter(|(silence, ..)| *silence >= NOT_SILENT)
                .collect()
        })
    }

    /// Closes the longest silent at once: a place is needed now, and whoever says nothing
    /// has nothing unread that a plain close would turn into a reset.
    fn evict(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        silent: &mut Option<BinaryHeap<Silent>>,
    ) {
        while self.is_full()
            && let Some((_, key, generation)) = self.silent(silent, work).pop()
        {
            if self.peers.get(key).is_some_and(|peer| peer.generation == generation) {
                self.visit(sys, work, key, &mut |peer, _, shared| {
                    peer.conn.fail(CloseReason::Evicted, shared.pool);
                    false
                });
            }
        }
    }

    /// Takes a caller into the slab.
    fn admit(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        mut stream: Y::Stream,
        addr: PeerAddr,
        conn: Conn<F::State, S::Session>,
    ) -> Option<usize> {
        self.counters.accepted += 1;
        // 0 is what a token without generation shows.
        self.generation = (self.generation + 1) % ConnId::OURS;
        self.generation = self.generation.max(1);
        let key = self.peers.vacant_key();
        let id = ConnId::new(self.number, key, self.generation);
        let watched = match key {
            ..MAX_CONNECTIONS => sys.watch(&mut stream, Token::conn(id), Watch::Read),
            _ => Err(io::ErrorKind::OutOfMemory.into()),
        };
        if let Err(error) = watched {
            if self.bad_watches.allows(work.now) {
                log::warn!("{addr}: cannot watch: {error}");
            }
            self.counters.closed[CloseReason::RegisterFailed as usize] += 1;
            let mut conn = conn;
            conn.fail(CloseReason::RegisterFailed, &mut work.pool);
            sys.close(stream);
            return None;
        }
        self.move_in(Peer::new(stream, self.generation, work.tick, conn), addr);
        Some(key)
    }

    fn welcome(&mut self, sys: &mut Y, work: &mut Workspace, stream: Y::Stream, addr: PeerAddr) {
        let Some(key) = self.admit(sys, work, stream, addr, Conn::new()) else { return };
        self.live += 1;
        self.quota.enter(addr.ip(), &self.limits);
        self.visit(sys, work, key, &mut |peer, sys, shared| {
            peer.conn.opened(shared);
            peer.flush(sys, shared);
            peer.conn.wants_resume(&shared.info.output, shared.pool)
        });
    }

    /// Tells a caller for whom there is no room, and waits for it to leave.
    fn refuse(&mut self, sys: &mut Y, work: &mut Workspace, mut stream: Y::Stream, addr: PeerAddr) {
        let reason = CloseReason::MaxConnections;
        let text = format!("busy: all {} connections are in use", self.limits.max_connections);
        let mut refusal = Vec::new();
        let mut exchange = Exchange::Failed { status: 503 };
        // A framing that cannot say it says nothing; and a new socket has room for
        // a line, or it is broken and there is nobody to tell.
        if self.framing.reply(&Reply::from(&text), &mut exchange, &mut refusal).is_ok() {
            let _ = sys.write(&mut stream, &refusal);
        }
        let _ = sys.finish(&mut stream);
        if self.peers.len() - self.live >= self.limits.max_lingering() {
            self.counters.accepted += 1;
            self.counters.closed[reason as usize] += 1;
            return sys.close(stream);
        }
        let conn = Conn::refused(reason, &mut work.pool, work.tick);
        if self.admit(sys, work, stream, addr, conn).is_some() {
            self.counters.closed[reason as usize] += 1;
        }
    }
}

/// For how long, and whose slot.
type Silent = (Duration, usize, u32);
