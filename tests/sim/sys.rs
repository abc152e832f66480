//! The simulated kernel as the loop sees it: the second implementation of `Sys`.
//!
//! Each call may fail as the plan says, and what it promises it keeps: a short read is
//! followed by another edge, a write that found no room by writable. Knows what fault
//! excuses which end of a connection, and nothing of messages.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use oneloop::net::{DialOptions, ListenOptions, Ready, Sys, Token, Watch};
use oneloop::{PeerAddr, Target, WhenFull};

use super::cover::Stage;
use super::kernel::{Event, MILLI, World};
use super::plan::Fault;
use super::socket::Socket;

/// The port of those who called us; others are called by us at [`CALLED`].
pub(crate) const CALLER: u16 = 1;
pub(crate) const CALLED: u16 = 2;

pub(super) const EINTR: i32 = 4;
const EMFILE: i32 = 24;
const ECONNREFUSED: i32 = 111;
const WATCH_ERRNOS: [i32; 3] = [12, 28, 9999];
/// Of the listener, or unknown: the callers stay where they are.
const ACCEPT_ERRNOS: [i32; 6] = [12, 23, 24, 105, 22, 9999];
/// Of a listener that the kernel will not open, or not watch.
const LISTEN_ERRNOS: [i32; 6] = [98, 13, 99, 24, 12, 28];
/// Of one caller, who is gone with it.
const LOST_ERRNOS: [i32; 8] = [103, 104, 71, 1, 100, 113, 112, 92];

pub(super) fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The kernel of one run; all of it is in the [`World`].
#[derive(Clone)]
pub(crate) struct SimSys(pub(crate) Rc<RefCell<World>>);

impl Sys for SimSys {
    type Listener = ();
    type Stream = u32;

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut report: impl FnMut(Ready),
    ) -> io::Result<bool> {
        let mut world = self.0.borrow_mut();
        let w = &mut *world;
        // As the kernel takes it: in whole milliseconds, rounded up.
        let timeout = timeout.map(|time| (time.as_nanos() as u64).div_ceil(MILLI) * MILLI);
        w.enter();
        w.before_sleep(timeout);
        if w.hits(Fault::WaitEintr) {
            w.note_all(Fault::WaitEintr);
            w.now += w.rng.below(MILLI);
            return Err(errno(EINTR));
        }
        let before = w.now;
        w.pass(timeout.map(|timeout| w.now.saturating_add(timeout)));
        if w.now != before {
            w.ledger.progress += 1;
        }
        let mut batch = Vec::new();
        let full = w.harvest(&mut batch);
        w.lie(&mut batch);
        if w.hits(Fault::ClockGap) {
            w.note_all(Fault::ClockGap);
            w.ledger.stopped = true;
            // The process is stopped; the world goes on.
            let until = w.now + w.rng.scale(MILLI, 200_000 * MILLI);
            while let Some(next) = w.next_event()
                && next <= until
            {
                w.now = w.now.max(next);
                w.run_due();
            }
            w.now = until;
        }
        drop(world);
        batch.into_iter().for_each(&mut report);
        Ok(full)
    }

    fn now(&mut self) -> Duration {
        let mut w = self.0.borrow_mut();
        w.told_now = w.now;
        Duration::from_nanos(w.now)
    }

    fn waker(&self) -> Waker {
        self.0.borrow().bell.clone().into()
    }

    fn listen(
        &mut self,
        addr: SocketAddr,
        _: &ListenOptions,
        token: Token,
    ) -> io::Result<((), SocketAddr)> {
        let mut w = self.0.borrow_mut();
        if w.hits(Fault::ListenErrno) {
            w.cover.note(Fault::ListenErrno, Stage::Nobody);
            return Err(errno(w.rng.pick(&LISTEN_ERRNOS)));
        }
        w.listener.token = Some(token);
        w.listening = true;
        // Who waits already, in the queue that another process has left, is told of.
        w.listener.listed = !w.listener.queue.is_empty();
        w.open += 1;
        Ok(((), addr))
    }

    fn accept(&mut self, (): &mut ()) -> io::Result<(u32, PeerAddr)> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        w.ledger.accepts_this_turn += 1;
        w.lose_callers();
        let Some(&index) = w.listener.queue.front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if w.strikes(Fault::AcceptEintr, index) {
            return Err(errno(EINTR));
        }
        if w.strikes(Fault::AcceptLost, index) {
            w.listener.queue.pop_front();
            let socket = &mut w.sockets[index as usize];
            (socket.closed, socket.reset_out) = (true, true);
            w.wake_peer(index);
            return Err(errno(w.rng.pick(&LOST_ERRNOS)));
        }
        if w.strikes(Fault::AcceptErrno, index) {
            w.note_failed_accept();
            return Err(errno(w.rng.pick(&ACCEPT_ERRNOS)));
        }
        if w.ledger.streams >= w.plan.descriptors || w.strikes(Fault::NoDescriptor, index) {
            w.note_failed_accept();
            return Err(errno(EMFILE));
        }
        w.listener.queue.pop_front();
        let now = w.now;
        let full =
            w.plan.when_full == WhenFull::Refuse && w.ledger.live[0] >= w.plan.max_connections;
        let host = w.host(index);
        let (per_ip, rate) = match w.plan.exempt && host == 0 {
            true => (None, None),
            false => (w.plan.per_ip, w.plan.accept_rate),
        };
        let fate = w.hosts.fate(host, per_ip, rate, w.told_now);
        let socket = &mut w.sockets[index as usize];
        socket.ours = true;
        socket.fate = fate;
        socket.track.may_be_refused = full;
        socket.track.write_since = now;
        socket.track.last_sent = now;
        socket.track.last_read = w.told_now;
        w.open += 1;
        w.ledger.streams += 1;
        w.ledger.progress += 1;
        w.trace(11, u64::from(index));
        // All of one network of IPv6, and so one address to the limits.
        let [high, low] = [(index >> 16) as u16, index as u16];
        let addr = Ipv6Addr::new(0x2001, 0xdb8, 0, host as u16, 0, 0, high, low);
        Ok((index, PeerAddr::V6(addr, CALLER)))
    }

    fn shed(&mut self, (): &mut ()) -> bool {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        let Some(index) = w.listener.queue.pop_front() else { return false };
        let socket = &mut w.sockets[index as usize];
        (socket.closed, socket.reset_out) = (true, true);
        w.wake_peer(index);
        true
    }

    fn close_listener(&mut self, (): ()) {
        let w = &mut *self.0.borrow_mut();
        w.listening = false;
        w.open -= 1;
        w.listener.listed = false;
        // The queue is there as long as the listener is, and another process has that.
        if w.listener.shared {
            return;
        }
        while let Some(index) = w.listener.queue.pop_front() {
            let socket = &mut w.sockets[index as usize];
            (socket.closed, socket.reset_out) = (true, true);
            w.wake_peer(index);
        }
    }

    fn connect(&mut self, target: &Target, _: &DialOptions) -> io::Result<u32> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        let Target::Tcp(SocketAddr::V4(addr)) = target else { panic!("calls {target}") };
        let peer = addr.ip().to_bits();
        if w.ledger.streams >= w.plan.descriptors {
            return Err(errno(EMFILE));
        }
        let index = w.sockets.len() as u32;
        let now = w.now;
        let socket = Socket { peer, ours: true, dialed: true, ..Socket::default() };
        w.sockets.push(socket);
        let track = w.track(index);
        (track.write_since, track.last_sent) = (now, now);
        if w.strikes(Fault::ConnectErrno, index) {
            w.sockets[index as usize].closed = true;
            return Err(errno(w.rng.pick(&[ECONNREFUSED, 99, 101, 113, 12])));
        }
        w.open += 1;
        w.ledger.streams += 1;
        w.ledger.dialing += 1;
        let refuses = w.strikes(Fault::ConnectRefused, index);
        if let Some(Some(script)) = w.peers.get_mut(peer as usize) {
            script.refuses = refuses;
            script.begin(index);
        }
        if !w.strikes(Fault::ConnectSilent, index) {
            let late = w.strikes(Fault::ConnectLate, index);
            let delay = if late { w.rng.scale(MILLI, 20_000 * MILLI) } else { w.rng.below(MILLI) };
            w.at(now + delay, Event::Answer(index));
        }
        Ok(index)
    }

    fn connect_result(&mut self, &mut index: &mut u32) -> io::Result<bool> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        let socket = &w.sockets[index as usize];
        match socket.answer {
            Some(Ok(())) if socket.reset_in => Err(errno(104)),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(errno(error)),
            None => Ok(false),
        }
    }

    fn random(&mut self) -> u64 {
        self.0.borrow_mut().rng.next()
    }

    fn watch(&mut self, &mut index: &mut u32, token: Token, watch: Watch) -> io::Result<()> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        if w.strikes(Fault::WatchErrno, index) {
            w.track(index).may_be_unwatched = true;
            return Err(errno(w.rng.pick(&WATCH_ERRNOS)));
        }
        let socket = &mut w.sockets[index as usize];
        let fate = socket.fate;
        socket.token = Some(token);
        socket.watches_write = watch != Watch::Read;
        w.ledger.progress += 1;
        assert!(fate.is_none(), "I6: {index} was let in, and {fate:?} was due");
        w.tell(index);
        Ok(())
    }

    fn read(&mut self, &mut index: &mut u32, into: &mut [u8]) -> io::Result<usize> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        w.note_read(index);
        w.read(index, into)
    }

    fn write(&mut self, &mut index: &mut u32, bytes: &[u8]) -> io::Result<usize> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        w.write(index, bytes)
    }

    fn finish(&mut self, &mut index: &mut u32) -> io::Result<()> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        if w.strikes(Fault::FinishErrno, index) {
            w.track(index).may_fail = true;
            return Err(errno(107));
        }
        let socket = &mut w.sockets[index as usize];
        // A second time, at shutdown for one, is allowed and changes nothing.
        if !socket.fin_out {
            // As the loop has it: a handler that was slow since the turn began counts.
            socket.finished_at = w.told_now;
        }
        socket.fin_out = true;
        w.ledger.progress += 1;
        w.wake_peer(index);
        Ok(())
    }

    fn close(&mut self, index: u32) {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        w.check_close(index);
        w.free(index);
    }

    fn reset(&mut self, index: u32) {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        w.check_reset(index);
        w.free(index);
        let socket = &mut w.sockets[index as usize];
        socket.reset_out = true;
        socket.outbound.end();
        w.wake_peer(index);
    }
}
