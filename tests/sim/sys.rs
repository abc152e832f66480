//! The simulated kernel as the loop sees it: the second implementation of `Sys`.
//!
//! Each call may fail as the plan says, and what it promises it keeps: a short read is
//! followed by another edge, a write that found no room by writable. Knows what fault
//! excuses which end of a connection, and nothing of messages.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use oneloop::net::{DialOptions, ListenOptions, Ready, Sys, Token, Watch};
use oneloop::{PeerAddr, Target};

use super::kernel::{Event, MILLI, Socket, World};
use super::plan::Fault;

/// The port of those who called us; others are called by us at [`CALLED`].
pub(crate) const CALLER: u16 = 1;
pub(crate) const CALLED: u16 = 2;

const EINTR: i32 = 4;
const EMFILE: i32 = 24;
const ECONNREFUSED: i32 = 111;
const READ_ERRNOS: [i32; 7] = [104, 110, 113, 5, 12, 32, 9999];
const WRITE_ERRNOS: [i32; 6] = [104, 110, 32, 113, 5, 9999];
const WATCH_ERRNOS: [i32; 3] = [12, 28, 9999];
/// Of the listener, or unknown: the callers stay where they are.
const ACCEPT_ERRNOS: [i32; 6] = [12, 23, 24, 105, 22, 9999];
/// Of one caller, who is gone with it.
const LOST_ERRNOS: [i32; 8] = [103, 104, 71, 1, 100, 113, 112, 92];

fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The kernel of one run; all of it is in the [`World`].
#[derive(Clone)]
pub(crate) struct SimSys(pub(crate) Rc<RefCell<World>>);

impl World {
    /// What is true of a socket, as far as it is watched.
    fn state(&self, socket: &Socket) -> (bool, bool, bool) {
        let broken = match socket.answer {
            None => return (false, false, false),
            Some(answer) => answer.is_err() || socket.reset_in,
        };
        let readable = !socket.inbound.is_empty() || socket.fin_in || broken;
        let writable = socket.watches_write && (self.has_room(socket) || broken);
        (readable, writable, socket.fin_in || broken)
    }

    /// Takes the oldest off the list, up to a batch, and shuffles them.
    fn harvest(&mut self, batch: &mut Vec<Ready>) -> bool {
        if self.bell.take() {
            let token = Token::WAKER;
            batch.push(Ready { token, readable: true, writable: false, read_closed: false });
        }
        if std::mem::take(&mut self.listener.listed)
            && let Some(token) = self.listener.token
        {
            batch.push(Ready { token, readable: true, writable: false, read_closed: false });
        }
        let (mut rest, mut more) = (self.list.len(), false);
        while batch.len() < self.plan.batch && rest > 0 {
            rest -= 1;
            let Some(index) = self.list.pop_front() else { break };
            if !batch.is_empty() && self.strikes(Fault::Delay, index) {
                self.list.push_back(index);
                more = true;
                continue;
            }
            self.report(index, batch);
        }
        for last in (1..batch.len()).rev() {
            let other = self.rng.below(last as u64 + 1) as usize;
            batch.swap(last, other);
        }
        more || batch.len() >= self.plan.batch
    }

    fn report(&mut self, index: u32, batch: &mut Vec<Ready>) {
        let turn = self.turn;
        let socket = &mut self.sockets[index as usize];
        socket.listed = false;
        let (Some(token), false) = (socket.token, socket.closed) else { return };
        let (readable, writable, read_closed) = self.state(&self.sockets[index as usize]);
        if !(readable || writable) {
            return;
        }
        let now = self.now;
        let socket = &mut self.sockets[index as usize];
        if readable && socket.told == 0 {
            socket.told = turn;
        }
        if writable && socket.no_space {
            socket.no_space = false;
            (socket.track.unblocked, socket.track.unblocked_turn) = (now, turn);
        }
        self.ledger.events += 1;
        self.ledger.progress += 1;
        self.trace(9, u64::from(index));
        let ready = Ready { token, readable, writable, read_closed };
        if readable && writable && self.strikes(Fault::Split, index) {
            batch.push(Ready { writable: false, ..ready });
            batch.push(Ready { readable: false, read_closed: false, ..ready });
        } else {
            batch.push(ready);
        }
        if self.strikes(Fault::Twice, index) {
            batch.push(ready);
        }
    }

    /// Reports that are not so: of any connection that is, or was.
    fn lie(&mut self, batch: &mut Vec<Ready>) {
        let count = self.sockets.len() as u64;
        for fault in [Fault::Spurious, Fault::Stale] {
            if count == 0 || !self.hits(fault) {
                continue;
            }
            let index = self.rng.below(count) as u32;
            let socket = &self.sockets[index as usize];
            if let Some(token) = socket.token
                && socket.closed == (fault == Fault::Stale)
            {
                self.cover.note(fault, socket.stage());
                let flags = self.rng.next();
                let (readable, writable) = (flags & 1 > 0, flags & 2 > 0);
                batch.push(Ready { token, readable, writable, read_closed: flags & 4 > 0 });
            }
        }
    }

    /// Lets time pass until something is to be told, at most until `deadline`.
    fn pass(&mut self, deadline: Option<u64>) {
        loop {
            self.run_due();
            // The test wants to look.
            if self.now > self.alarm || self.ledger.events >= self.until {
                return;
            }
            if !self.list.is_empty() || self.listener.listed || self.bell.rings() {
                return;
            }
            match (self.next_event(), deadline) {
                (Some(next), None) => self.now = next,
                (Some(next), Some(deadline)) if next <= deadline => self.now = next,
                (_, Some(deadline)) => {
                    self.now = self.now.max(deadline);
                    self.run_due();
                    return;
                }
                (None, None) => {
                    self.asleep = true;
                    return;
                }
            }
        }
    }

    /// A fault that is nobody's: it meets all who are open.
    fn note_all(&mut self, fault: Fault) {
        for socket in &self.sockets {
            if !socket.closed {
                self.cover.note(fault, socket.stage());
            }
        }
    }

    fn free(&mut self, index: u32) {
        let dialing = {
            let socket = &self.sockets[index as usize];
            assert!(!socket.closed, "closed twice: {socket:?}");
            socket.dialed && socket.answer != Some(Ok(()))
        };
        self.open -= 1;
        self.ledger.streams -= 1;
        self.ledger.freed = true;
        self.ledger.dialing -= usize::from(dialing);
        self.ledger.progress += 1;
        let socket = &mut self.sockets[index as usize];
        socket.closed = true;
        socket.told = 0;
        socket.track.left_behind = socket.no_space || socket.write_failed;
        if !socket.inbound.is_empty() {
            // RFC 1122, 4.2.2.13: what is under way is lost, or a part of it.
            socket.reset_out = true;
            socket.outbound.clear();
        }
        socket.inbound.end();
        if socket.reset_in {
            socket.outbound.end();
        }
        self.trace(10, u64::from(index));
        self.wake_peer(index);
    }
}

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
        w.listener.token = Some(token);
        w.listening = true;
        w.open += 1;
        Ok(((), addr))
    }

    fn accept(&mut self, (): &mut ()) -> io::Result<(u32, PeerAddr)> {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        w.ledger.accepts_this_turn += 1;
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
        let full = w.plan.refuse && w.ledger.streams >= w.plan.max_connections;
        let socket = &mut w.sockets[index as usize];
        socket.ours = true;
        socket.track.may_be_refused = full;
        socket.track.write_since = now;
        socket.track.last_sent = now;
        w.open += 1;
        w.ledger.streams += 1;
        w.ledger.progress += 1;
        w.trace(11, u64::from(index));
        let addr = SocketAddrV4::new(Ipv4Addr::from_bits(index), CALLER);
        Ok((index, SocketAddr::V4(addr).into()))
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
        socket.token = Some(token);
        socket.watches_write = watch != Watch::Read;
        w.ledger.progress += 1;
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
        socket.fin_out = true;
        w.ledger.progress += 1;
        w.wake_peer(index);
        Ok(())
    }

    fn close(&mut self, index: u32) {
        let w = &mut *self.0.borrow_mut();
        w.enter();
        w.free(index);
    }
}

impl World {
    fn read(&mut self, index: u32, into: &mut [u8]) -> io::Result<usize> {
        let rearms = self.plan.chance(Fault::Rearm) > 0;
        let socket = &mut self.sockets[index as usize];
        assert!(!socket.closed, "read after close");
        socket.told = 0;
        if self.strikes(Fault::ReadEintr, index) {
            return Err(errno(EINTR));
        }
        if self.strikes(Fault::ReadErrno, index) {
            self.track(index).may_fail = true;
            return Err(errno(self.rng.pick(&READ_ERRNOS)));
        }
        if self.sockets[index as usize].has_news() && self.strikes(Fault::ReadBlock, index) {
            self.tell_later(index);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let socket = &mut self.sockets[index as usize];
        let waiting = socket.inbound.waiting();
        if waiting.is_empty() {
            if socket.reset_in {
                return Err(errno(104));
            }
            if socket.fin_in {
                socket.fin_read = true;
                self.ledger.progress += 1;
                return Ok(0);
            }
            if rearms {
                self.cover.note(Fault::Rearm, self.sockets[index as usize].stage());
                self.tell(index);
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = waiting.len().min(into.len());
        if count > 1 && self.strikes(Fault::ShortRead, index) {
            // The rest comes a moment later, with an edge of its own.
            count = self.rng.between(1, count as u64 - 1) as usize;
            self.tell(index);
        }
        let capacity = self.plan.receive_buffer;
        let socket = &mut self.sockets[index as usize];
        let full = socket.inbound.len() >= capacity;
        into[..count].copy_from_slice(&socket.inbound.waiting()[..count]);
        socket.inbound.consume(count);
        socket.track.last_read = self.told_now;
        self.ledger.bytes_read += count as u64;
        self.ledger.progress += 1;
        self.trace(12, count as u64);
        if full {
            self.wake_peer(index);
        }
        Ok(count)
    }

    fn write(&mut self, index: u32, bytes: &[u8]) -> io::Result<usize> {
        let socket = &mut self.sockets[index as usize];
        assert!(!socket.closed, "write after close");
        assert!(!socket.fin_out, "write after finish");
        if socket.reset_in {
            socket.track.may_be_reset = true;
            return Err(errno(self.rng.pick(&[32, 104])));
        }
        for (fault, error) in [(Fault::WriteEintr, EINTR), (Fault::WriteNoBufs, 105)] {
            if self.strikes(fault, index) {
                self.sockets[index as usize].write_failed = true;
                // What could not be sent waits from now on, and what goes later is progress.
                self.note_written(index, bytes.len(), 0);
                return Err(errno(error));
            }
        }
        if self.strikes(Fault::WriteErrno, index) {
            self.track(index).may_fail = true;
            return Err(errno(self.rng.pick(&WRITE_ERRNOS)));
        }
        let socket = &self.sockets[index as usize];
        let room = self.plan.send_buffer.saturating_sub(socket.outbound.len());
        let mut count = bytes.len().min(room);
        if count > 0 && self.strikes(Fault::WriteBlock, index) {
            count = 0;
        } else if count > 1 && self.strikes(Fault::ShortWrite, index) {
            count = self.rng.between(1, count as u64 - 1) as usize;
        }
        let socket = &mut self.sockets[index as usize];
        socket.outbound.push(&bytes[..count]);
        socket.write_failed = false;
        socket.no_space = count < bytes.len();
        self.note_written(index, bytes.len(), count);
        self.trace(13, count as u64);
        if count < bytes.len() && count < room {
            // There was room after all, or is again: that is told.
            self.tell_later(index);
        }
        if count > 0 {
            self.ledger.progress += 1;
            self.wake_peer(index);
            return Ok(count);
        }
        if self.plan.chance(Fault::Rearm) > 0 {
            self.tell(index);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}
