//! Listeners, a framing, a service, and the connections that share them.
//!
//! ```text
//!  dyn Endpoint ◀── one call per readiness event ── Server
//!       │
//!  TypedEndpoint<Sys, Framing, Service>
//!       ├── acceptors      none, for connections we open ourselves, or several
//!       ├── dialer         those that we open, until they are connected
//!       ├── slab of peers  hot: what a turn touches, a cache line or less each
//!       └── addrs          cold: who they are
//! ```
//!
//! From here inwards everything is typed, so decoding and serving are compiled
//! into one piece; the loop outside sees only the trait object.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::acceptor::Acceptor;
use super::counters::Counters;
use super::dialer::Dialer;
use super::kernel::Mio;
use super::limits::{Limits, WhenFull};
use super::peer::Peer;
use super::quota::{Pace, Quota};
use super::relief::{Holder, Weight, largest_first};
use super::server::Workspace;
use super::sys::{ListenOptions, MAX_LISTENERS, Ready, Sys, Token};
use super::worst_case::Share;
use crate::proto::buffer::{Piece, Pool};
use crate::proto::conn::{Clocks, OutputLimits};
use crate::proto::dial::Dial;
use crate::proto::framing::Framing;
use crate::proto::post::{Address, Letter};
use crate::proto::service::{CallInfo, CloseReason, ConnId, PeerAddr, Service};
use crate::proto::tick::Tick;
use crate::throttle::Throttle;

mod calls;
mod door;
mod visit;

/// How often a sweep looks at every connection's clocks.
const SWEEP: Duration = Duration::from_secs(1);
/// The most often, for clocks shorter than a few seconds.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

/// Opens a listener with these options and under this name.
pub(crate) type Open<'a, Y> =
    dyn FnMut(&mut Y, &ListenOptions, Token) -> io::Result<<Y as Sys>::Listener> + 'a;

/// What the loop knows of an endpoint.
pub(crate) trait Endpoint<Y: Sys> {
    /// Takes over the listener that `open` opens for it.
    fn listen(&mut self, sys: &mut Y, open: &mut Open<'_, Y>) -> io::Result<()>;

    /// Takes over a listener that was opened for it.
    fn adopt(&mut self, listener: Y::Listener);

    /// Calls `f` with each of its listeners.
    fn each_listener(&mut self, f: &mut dyn FnMut(&mut Y::Listener));

    /// Closes its listeners.
    fn stop_listening(&mut self, sys: &mut Y);

    /// A listener has callers.
    fn note_callers(&mut self, listener: usize);

    /// Accepts who waits, within the turn's bounds.
    fn accept(&mut self, sys: &mut Y, work: &mut Workspace);

    /// When accepting can go on, if someone waits and there is room.
    fn accept_at(&self) -> Option<Duration>;

    /// Calls for a connection that is to be `id`.
    fn connect(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId, dial: Dial);

    /// Gives one connection its turn.
    fn serve(&mut self, sys: &mut Y, work: &mut Workspace, ready: Ready);

    /// Gives one its turn that had to rest, and may go on.
    fn rested(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId);

    /// Has `id` called at `at`, if it is still a connection.
    fn set_timer(&mut self, work: &mut Workspace, id: ConnId, at: Duration);

    /// Calls the timer of `id`.
    fn timer(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId);

    /// Finishes sending to `id`; or, for good, closes it in order, with the reason of the
    /// service.
    fn end(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId, for_good: bool);

    /// Queues a letter for `id`, to be sent when it is next served; what is too large to
    /// wait is sent now.
    fn deliver(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        id: ConnId,
        letter: &Letter,
        bytes: &[u8],
    );

    /// Sends messages for all connections to each.
    fn deliver_all(&mut self, sys: &mut Y, work: &mut Workspace, letters: &[Letter], bytes: &[u8]);

    /// Tells what each connection holds.
    fn weigh(&self, pool: &Pool, into: &mut Vec<Weight>);

    /// Closes one that holds too much.
    fn unload(&mut self, sys: &mut Y, work: &mut Workspace, holder: Holder);

    /// Has each looked at that can be read, as if its event came again.
    fn requeue(&mut self, work: &mut Workspace);

    /// Ends whoever is late at that time; at most `budget` of them.
    fn sweep(&mut self, sys: &mut Y, work: &mut Workspace, at: Tick, budget: &mut usize);

    /// How often it wants to be swept.
    fn sweep_every(&self) -> Duration;

    /// Whether a connection has a clock running though it waits for nothing.
    fn watches_idle(&self) -> bool;

    /// Stops accepting and calling, and has each connection looked at once more.
    fn drain(&mut self, sys: &mut Y, work: &mut Workspace);

    /// Closes everything at once.
    fn abort(&mut self, sys: &mut Y, work: &mut Workspace);

    /// Tells its framing the time of day.
    fn set_time(&self, unix: u64);

    fn counters(&self) -> Counters;

    /// What it may take of memory.
    fn share(&self) -> Share;
}

/// The endpoint of one framing and one service.
pub(crate) struct TypedEndpoint<Y: Sys, F: Framing, S: Service> {
    number: u8,
    framing: Rc<F>,
    service: S,
    limits: Limits,
    clocks: Clocks,
    output: OutputLimits,
    acceptors: Vec<Acceptor<Y::Listener>>,
    dialer: Dialer<Y::Stream>,
    /// Invariant: `live` of them are not counted out, the others linger.
    peers: Slab<Peer<Y::Stream, F::State, S::Session>>,
    /// By the same index; stale where `peers` is vacant.
    addrs: Vec<PeerAddr>,
    live: usize,
    quota: Quota,
    pace: Pace,
    generation: u32,
    counters: Counters,
    bad_replies: Throttle,
    bad_watches: Throttle,
    crowded: Throttle,
    unreachable: Throttle,
    panics: Throttle,
    slow_turns: Throttle,
    turned_away: Throttle,
}

impl<Y: Sys, F: Framing, S: Service> TypedEndpoint<Y, F, S> {
    /// `limits` must have been checked.
    pub(crate) fn new(number: u8, framing: Rc<F>, service: S, limits: Limits) -> Self {
        Self {
            number,
            quota: Quota::default(),
            pace: Pace::new(&limits),
            clocks: limits.clocks(),
            output: limits.output(framing.max_frame()),
            framing,
            service,
            limits,
            acceptors: Vec::new(),
            dialer: Dialer::default(),
            peers: Slab::new(),
            addrs: Vec::new(),
            live: 0,
            generation: 0,
            counters: Counters::default(),
            bad_replies: Throttle::default(),
            bad_watches: Throttle::default(),
            crowded: Throttle::default(),
            unreachable: Throttle::default(),
            panics: Throttle::default(),
            slow_turns: Throttle::default(),
            turned_away: Throttle::default(),
        }
    }

    fn info(&self, id: ConnId, peer: PeerAddr, now: Duration) -> CallInfo {
        let (connections, output) = (self.live, self.output);
        CallInfo { id, peer, now, connections, output, connect_error: None }
    }

    /// The name of a slot's connection for the kernel, and the one for services: see
    /// [`ConnId`].
    fn names(&self, key: usize, generation: u32) -> (ConnId, ConnId) {
        let slot = ConnId::new(self.number, key, generation);
        match generation & ConnId::OURS {
            0 => (slot, slot),
            _ => (slot, ConnId::dialed(self.number, generation)),
        }
    }

    /// The index of `id`, if it is still that connection.
    fn find(&self, id: ConnId) -> Option<usize> {
        let key = if id.is_dialed() { self.dialer.key_of(id)? } else { id.index() };
        let peer = self.peers.get(key)?;
        // What a 32-bit token cannot carry, it cannot compare: see `Token`.
        let unknown = cfg!(not(target_pointer_width = "64")) && id.generation() == 0;
        (unknown || peer.generation == id.generation()).then_some(key)
    }

    fn is_full(&self) -> bool {
        self.live + self.dialer.dialing() >= self.limits.max_connections
    }

    /// Gives a connection its slot.
    fn move_in(&mut self, mut peer: Peer<Y::Stream, F::State, S::Session>, addr: PeerAddr) {
        // A read from a Unix socket ends where its peer has passed a descriptor along,
        // with bytes behind it: there a short read never says that it is empty.
        peer.read_closed = matches!(addr, PeerAddr::Unix(_));
        let key = self.peers.insert(peer);
        if self.addrs.len() <= key {
            self.addrs.resize(key + 1, addr);
        }
        self.addrs[key] = addr;
        self.pace.begin(key);
    }

    /// Has what waits for a connection leave, if its socket may have room and the next `len`
    /// bytes would make it more than should wait: one turn can have any amount for it, and
    /// whoever takes all it gets must not be closed for that. The answer is whether it is
    /// still there.
    fn make_way(&mut self, sys: &mut Y, work: &mut Workspace, key: usize, len: usize) -> bool {
        let Some(peer) = self.peers.get(key) else { return false };
        let queued = peer.conn.waiting(&work.pool);
        if queued == 0 || queued + len <= self.output.high || peer.is_blocked() {
            return true;
        }
        self.visit(sys, work, key, &mut |peer, sys, shared| {
            peer.flush(sys, shared);
            peer.conn.wants_resume(&shared.info.output, shared.pool)
        });
        self.peers.contains(key)
    }

    /// Closes those of its own that hold the most: in the middle of a letter to all, its
    /// laggards are the ones that grow.
    fn relieve(&mut self, sys: &mut Y, work: &mut Workspace) {
        let (below, mut weights) = (work.pool.relief(), Vec::new());
        self.weigh(&work.pool, &mut weights);
        for (_, _, holder) in largest_first(weights) {
            if work.pool.held_bytes() < below {
                break;
            }
            self.unload(sys, work, holder);
        }
    }

    /// All keys that may be in use.
    fn keys(&self) -> std::ops::Range<usize> {
        0..self.addrs.len()
    }
}

/// The shape of slab's own, which is private: the enums in a slot leave room for its tag.
#[expect(dead_code, reason = "only its size is of interest")]
enum Entry<T> {
    Vacant(usize),
    Occupied(T),
}

/// Bytes of our memory that an idle connection takes: its place in the slab and its
/// address. The kernel has some KiB for it as well.
pub fn idle_bytes<F: Framing, S: Service>() -> usize {
    type Slot<T, C> = Peer<<Mio as Sys>::Stream, T, C>;
    size_of::<Entry<Slot<F::State, S::Session>>>() + size_of::<PeerAddr>()
}

/// The queue entry that a connection makes for itself: it reports nothing.
fn self_entry(id: ConnId) -> Ready {
    Ready { token: Token::conn(id), readable: false, writable: false, read_closed: false }
}

impl<Y: Sys, F: Framing, S: Service> Endpoint<Y> for TypedEndpoint<Y, F, S> {
    fn listen(&mut self, sys: &mut Y, open: &mut Open<'_, Y>) -> io::Result<()> {
        let number = self.acceptors.len();
        if number >= MAX_LISTENERS {
            let text = format!("an endpoint has {MAX_LISTENERS} listeners at most");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let token = Token::listener(self.number, number);
        let listener = open(sys, &self.limits.listen_options(), token)?;
        self.adopt(listener);
        Ok(())
    }

    fn adopt(&mut self, listener: Y::Listener) {
        self.acceptors.push(Acceptor::new(listener));
    }

    fn each_listener(&mut self, f: &mut dyn FnMut(&mut Y::Listener)) {
        self.acceptors.iter_mut().for_each(|acceptor| f(&mut acceptor.listener));
    }

    fn stop_listening(&mut self, sys: &mut Y) {
        for acceptor in self.acceptors.drain(..) {
            sys.close_listener(acceptor.listener);
        }
    }

    fn note_callers(&mut self, listener: usize) {
        if let Some(acceptor) = self.acceptors.get_mut(listener) {
            acceptor.note_callers();
        }
    }

    fn accept(&mut self, sys: &mut Y, work: &mut Workspace) {
        self.take_callers(sys, work);
    }

    fn accept_at(&self) -> Option<Duration> {
        if self.is_full() && self.limits.when_full == WhenFull::Wait {
            return None;
        }
        self.acceptors.iter().filter_map(Acceptor::ready_at).min()
    }

    fn connect(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId, dial: Dial) {
        self.call(sys, work, id, dial);
    }

    fn serve(&mut self, sys: &mut Y, work: &mut Workspace, ready: Ready) {
        let id = ConnId::from_bits(ready.token.0);
        if id.is_dialed() {
            return self.call_ready(sys, work, id);
        }
        // mio may report what is no longer so, even a connection that is gone.
        let Some(key) = self.find(id) else { return };
        let peer = &mut self.peers[key];
        peer.readable |= ready.readable;
        peer.read_closed |= ready.read_closed;
        if ready.writable {
            peer.note_writable();
        }
        if ready == self_entry(ConnId::new(self.number, key, peer.generation)) {
            peer.queued = false;
        } else if peer.queued {
            // Its own entry stands further back in the queue: no turn for two.
            return;
        }
        self.turn(sys, work, key);
    }

    fn rested(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId) {
        if let Some(key) = self.find(id) {
            self.pace.rested(key);
            self.turn(sys, work, key);
        }
    }

    fn set_timer(&mut self, work: &mut Workspace, id: ConnId, at: Duration) {
        if self.find(id).is_some_and(|key| !self.peers[key].conn.is_counted_out()) {
            work.timers.set(id, at);
        }
    }

    fn timer(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId) {
        if self.dialer.find(id).is_some() {
            return self.call_timer(sys, work, id);
        }
        let Some(key) = self.find(id) else { return };
        self.visit(sys, work, key, &mut |peer, sys, shared| {
            peer.conn.timer(shared);
            peer.flush(sys, shared);
            peer.conn.wants_resume(&shared.info.output, shared.pool)
        });
    }

    fn end(&mut self, sys: &mut Y, work: &mut Workspace, id: ConnId, for_good: bool) {
        if let Some(attempt) = self.dialer.find(id) {
            match for_good {
                true => self.give_up(sys, work, id, CloseReason::AppClose),
                false => attempt.finish = true,
            }
            return;
        }
        let Some(key) = self.find(id) else {
            self.counters.gone += 1;
            return;
        };
        self.visit(sys, work, key, &mut |peer, sys, shared| {
            match for_good {
                true => peer.conn.close(CloseReason::AppClose, shared.pool),
                false => peer.conn.finish(shared.pool),
            }
            peer.flush(sys, shared);
            peer.readable
        });
    }

    fn deliver(
        &mut self,
        sys: &mut Y,
        work: &mut Workspace,
        id: ConnId,
        letter: &Letter,
        bytes: &[u8],
    ) {
        let bytes = &bytes[letter.range.clone()];
        if let Some(attempt) = self.dialer.find(id) {
            match attempt.queue(bytes, self.output.max, &mut work.pool, work.tick) {
                true => self.counters.traffic.messages_out += letter.messages,
                false => self.counters.full += letter.messages,
            }
            return;
        }
        let key = self.find(id).filter(|&key| self.make_way(sys, work, key, bytes.len()));
        let Some(key) = key else {
            self.counters.gone += letter.messages;
            return;
        };
        let peer = &mut self.peers[key];
        let ended = !peer.conn.life().speaks();
        let messages = letter.messages;
        let taken = match bytes.len() > self.output.high {
            true => peer.push(sys, id, Piece::Own(bytes), &self.output, &mut work.pool, work.tick),
            false => peer.conn.queue(bytes, &self.output, &mut work.pool, work.tick),
        };
        if taken {
            self.counters.traffic.messages_out += messages;
        } else if ended {
            self.counters.gone += messages;
        } else {
            self.counters.full += messages;
        }
        work.congested |= peer.conn.is_behind(&self.output, &work.pool);
        if !peer.queued {
            peer.queued = true;
            work.outgoing.push(self_entry(ConnId::new(self.number, key, peer.generation)));
        }
    }

    fn deliver_all(&mut self, sys: &mut Y, work: &mut Workspace, letters: &[Letter], bytes: &[u8]) {
        let all = letters.iter().map(|letter| letter.range.len()).sum();
        let begin = letters.first().map_or(0, |letter| letter.range.start);
        let whole = begin..letters.last().map_or(begin, |letter| letter.range.end);
        work.pool.begin_shared();
        for key in self.keys() {
            if !self.make_way(sys, work, key, all) {
                continue;
            }
            let generation = self.peers[key].generation;
            let (slot, id) = self.names(key, generation);
            let peer = &mut self.peers[key];
            if !peer.conn.life().speaks() {
                continue;
            }
            let mut taken = true;
            let mut push = |range: &mut std::ops::Range<usize>| {
                let range = std::mem::take(range);
                if taken && !range.is_empty() {
                    let (pool, tick) = (&mut work.pool, work.tick);
                    let piece = match range == whole {
                        true => Piece::Shared { all: &bytes[range], skip: 0 },
                        false => Piece::Own(&bytes[range]),
                    };
                    taken = peer.push(sys, id, piece, &self.output, pool, tick);
                }
            };
            // Letters that lie side by side leave in one write.
            let (mut run, mut count) = (0..0, 0);
            for letter in letters.iter().filter(|letter| letter.to.includes(id)) {
                if run.end != letter.range.start {
                    push(&mut run);
                    run.start = letter.range.start;
                }
                run.end = letter.range.end;
                count += letter.messages;
            }
            push(&mut run);
            work.congested |= peer.conn.is_behind(&self.output, &work.pool);
            if taken {
                self.counters.traffic.messages_out += count;
            } else {
                self.counters.full += count;
            }
            if peer.conn.life().final_reason().is_some() {
                self.visit(sys, work, key, &mut |_, _, _| false);
            } else if peer.conn.wants_write() && !peer.is_blocked() && !peer.queued {
                peer.queued = true;
                work.outgoing.push(self_entry(slot));
            }
            if work.pool.is_over() {
                self.relieve(sys, work);
            }
        }
    }

    fn weigh(&self, pool: &Pool, into: &mut Vec<Weight>) {
        let slots = self.peers.iter();
        let slots = slots.map(|(key, peer)| (peer.conn.held_bytes(pool), Holder::Slot(key)));
        let calls = self.dialer.held(pool).map(|(bytes, number)| (bytes, Holder::Call(number)));
        let holders = slots.chain(calls).filter(|(bytes, _)| *bytes > 0);
        into.extend(holders.map(|(bytes, holder)| (bytes, self.number, holder)));
    }

    fn unload(&mut self, sys: &mut Y, work: &mut Workspace, holder: Holder) {
        let key = match holder {
            Holder::Slot(key) => key,
            Holder::Call(number) => {
                let id = ConnId::dialed(self.number, number);
                return self.give_up(sys, work, id, CloseReason::Memory);
            }
        };
        self.visit(sys, work, key, &mut |peer, _, shared| {
            peer.conn.fail(CloseReason::Memory, shared.pool);
            false
        });
    }

    fn requeue(&mut self, work: &mut Workspace) {
        for (key, peer) in &mut self.peers {
            if peer.readable && peer.conn.wants_read() && !peer.queued {
                peer.queued = true;
                work.queue.push_back(self_entry(ConnId::new(self.number, key, peer.generation)));
            }
        }
    }

    fn sweep(&mut self, sys: &mut Y, work: &mut Workspace, at: Tick, budget: &mut usize) {
        for key in self.keys() {
            let Some(peer) = self.peers.get(key) else { continue };
            let late = peer.conn.late(at, &self.clocks, &work.pool).or_else(|| {
                let limit = self.limits.idle_timeout?;
                let silent = at.since(peer.last_read) > limit;
                // Who has sent what we have no room or leave to read is not silent.
                let waits = peer.conn.is_listening() && !peer.readable;
                (silent && waits).then_some(CloseReason::Idle)
            });
            let Some(reason) = late else {
                if peer.conn.wants_write() && !peer.is_blocked() {
                    self.turn(sys, work, key);
                }
                if work.pool.is_over() {
                    // The rest is for the next turn, which makes room first.
                    *budget = 0;
                    return;
                }
                continue;
            };
            if *budget == 0 {
                return;
            }
            *budget -= 1;
            let clocks = self.clocks;
            self.visit(sys, work, key, &mut |peer, sys, shared| {
                let ending = peer.conn.life().reason().is_some();
                if reason == CloseReason::WriteStall && !peer.is_blocked() {
                    // There is room, and nobody has tried yet: it was we who were slow.
                    peer.flush(sys, shared);
                    if peer.conn.late(at, &clocks, shared.pool).is_none() {
                        return peer.wants_turn()
                            || peer.conn.wants_resume(&shared.info.output, shared.pool);
                    }
                }
                match reason {
                    // It may still read what we have to say. But only once: who is ending
                    // for this reason already, and is late again, has had its time.
                    CloseReason::FrameDeadline | CloseReason::Idle if !ending => {
                        peer.conn.close_late(reason, shared);
                    }
                    _ => peer.conn.fail(reason, shared.pool),
                }
                peer.flush(sys, shared);
                peer.readable && peer.conn.wants_read()
            });
        }
    }

    fn sweep_every(&self) -> Duration {
        let clocks = [self.clocks.frame, self.clocks.write, self.limits.idle_timeout];
        let shortest = clocks.into_iter().flatten().min().unwrap_or(SWEEP * 4);
        (shortest / 4).clamp(SHORTEST_SWEEP, SWEEP)
    }

    fn watches_idle(&self) -> bool {
        self.limits.idle_timeout.is_some() && self.live > 0
    }

    fn drain(&mut self, sys: &mut Y, work: &mut Workspace) {
        self.stop_listening(sys);
        for id in self.dialer.all(self.number) {
            self.give_up(sys, work, id, CloseReason::Shutdown);
        }
        for key in self.keys() {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            // What has come but was not told yet must be answered, so each is read
            // once more; whoever has nothing then gets its FIN.
            peer.readable = true;
            if !peer.queued {
                peer.queued = true;
                work.queue.push_back(self_entry(ConnId::new(self.number, key, peer.generation)));
            }
        }
    }

    fn abort(&mut self, sys: &mut Y, work: &mut Workspace) {
        for key in self.keys() {
            self.visit(sys, work, key, &mut |peer, _, shared| {
                peer.conn.fail(CloseReason::Shutdown, shared.pool);
                false
            });
        }
    }

    fn set_time(&self, unix: u64) {
        self.framing.set_time(unix);
    }

    fn counters(&self) -> Counters {
        let (open, dialing) = (self.live, self.dialer.dialing());
        Counters { open, dialing, lingering: self.peers.len() - open, ..self.counters }
    }

    fn share(&self) -> Share {
        let slot = size_of::<Entry<Peer<Y::Stream, F::State, S::Session>>>();
        Share {
            slots: self.limits.max_connections.saturating_add(self.limits.max_lingering()),
            slot: slot + size_of::<PeerAddr>() + Pace::slot_bytes(&self.limits),
            quotas: Quota::most_bytes(&self.limits),
            max_input: self.framing.max_input(),
            max_frame: self.framing.max_frame(),
            max_output: self.output.max,
        }
    }
}

impl Address {
    /// Whether a letter to all of an endpoint is for `id`, one of them.
    fn includes(self, id: ConnId) -> bool {
        match self {
            Self::One(to) => to == id,
            Self::All { except, .. } => except != Some(id),
        }
    }
}

/// In release builds only: in debug builds mio keeps an id beside each socket.
#[cfg(all(test, not(debug_assertions)))]
mod tests {
    use super::*;
    use crate::proto::framing::{AnyFraming, Lines};
    use crate::services::Echo;

    #[test]
    fn a_slot_takes_40_bytes_or_48_slab_entry_included() {
        let addr = size_of::<PeerAddr>();
        let slots = (idle_bytes::<Lines, Echo>() - addr, idle_bytes::<AnyFraming, Echo>() - addr);
        assert_eq!(slots, (40, 48));
    }
}
