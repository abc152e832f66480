//! One connection with its socket: the pump between the kernel and a `Conn`.
//!
//! ```text
//!           readable                          blocked
//!  kernel ───────────▶ read ▶ Conn ▶ write ───────────▶ kernel
//!            at most 4 reads a turn, one write a read
//! ```
//!
//! Readiness is remembered here, because the kernel tells each change once
//! (edge-triggered); what to do about it follows from the [`Conn`]. The pump knows
//! no messages and does not know who else is in the loop.

use std::io::{self, ErrorKind};

use super::sys::{Sys, Token, Watch};
use crate::proto::buffer::{Piece, Pool};
use crate::proto::conn::{Conn, Life, OutputLimits, Shared};
use crate::proto::framing::Framing;
use crate::proto::service::{CloseReason, ConnId, Service};
use crate::proto::tick::Tick;

/// One read takes at most this many bytes. The buffer that it goes to has as many in front,
/// for the beginning of the message that it completes.
pub(crate) const READ: usize = 64 << 10;
/// What one connection gets before the others get their turn. A single read a
/// turn would be fairer still and cost bulk transfer more than half its speed.
const READS_PER_TURN: usize = 4;
/// Attempts at a write that signals keep interrupting; after them the sweep tries again.
const WRITE_TRIES: usize = 4;

/// A slot of the slab. `C` is the session, `T` the state of the framing, `R` the
/// stream.
pub(crate) struct Peer<R, T, C> {
    pub(crate) conn: Conn<T, C>,
    pub(crate) stream: R,
    /// Tells this connection from the others that had or will have this slot.
    pub(crate) generation: u32,
    /// When something last came.
    pub(crate) last_read: Tick,
    /// There may be something to read.
    pub(crate) readable: bool,
    /// A short read says nothing: see [`Ready::read_closed`](super::Ready::read_closed).
    pub(crate) read_closed: bool,
    room: Room,
    /// It has an entry of its own in the ready queue.
    pub(crate) queued: bool,
}

/// Whether the socket takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// It has taken all so far. Writable is not told: asking for that at accept costs a
    /// wake-up for each connection, so it is asked for at the first short write.
    Unwatched,
    /// It may.
    Some,
    /// It took less than it was given; writable will be told.
    None,
}

impl<R, T: Default, C: Default> Peer<R, T, C> {
    pub(crate) fn new(stream: R, generation: u32, tick: Tick, conn: Conn<T, C>) -> Self {
        Self {
            conn,
            stream,
            generation,
            last_read: tick,
            readable: false,
            read_closed: false,
            room: Room::Unwatched,
            queued: false,
        }
    }

    /// Writable is told already, as it is for who waits to be connected.
    pub(crate) fn watches_room(&mut self) {
        self.room = Room::Some;
    }

    /// The socket took less than it was given; writable will be told.
    pub(crate) fn is_blocked(&self) -> bool {
        self.room == Room::None
    }

    /// The socket may take more.
    pub(crate) fn note_writable(&mut self) {
        if self.room == Room::None {
            self.room = Room::Some;
        }
    }

    /// Moves bytes both ways until there is nothing to do, or the turn is over:
    /// true, then, and the connection goes to the back of the queue, because the
    /// kernel will not remind us.
    pub(crate) fn turn<Y, F, S>(
        &mut self,
        sys: &mut Y,
        buffer: &mut [u8],
        shared: &mut Shared<'_, F, S>,
    ) -> bool
    where
        Y: Sys<Stream = R>,
        F: Framing<State = T>,
        S: Service<Session = C>,
    {
        if !self.conn.is_quiet() {
            self.flush(sys, shared);
        }
        for _ in 0..READS_PER_TURN {
            if shared.post.is_heavy() || (shared.spoke() && self.conn.is_ending()) {
                // What it has for others leaves first, and for itself.
                break;
            }
            if shared.allowance == 0 && self.conn.life().reason().is_none() {
                // It was too fast, and is called when it may go on. (What is only thrown
                // away is no message.)
                return false;
            }
            if self.conn.resume(shared) {
                self.flush(sys, shared);
                continue;
            }
            if !self.wants_turn() {
                return false;
            }
            // Whoever has finished goes on: it will soon give back what it holds.
            let most = match self.read_closed && shared.info.peer.ip().is_some() {
                true => READ,
                false => self.conn.room(shared.pool).min(READ),
            };
            if most == 0 {
                shared.pool.note_starved();
                return false;
            }
            match sys.read(&mut self.stream, &mut buffer[READ..][..most]) {
                Ok(0) => {
                    self.readable = false;
                    // Behind the end a reset cannot be read.
                    let again = self.conn.life() == Life::HalfOpen;
                    if again && !matches!(sys.connect_result(&mut self.stream), Ok(true)) {
                        self.conn.fail(CloseReason::PeerReset, shared.pool);
                    }
                    self.conn.peer_finished(shared);
                }
                Ok(count) => {
                    // A short read has emptied the socket, so the read that would
                    // say EAGAIN is saved: one call in three. The exception is a
                    // FIN queued behind the data: one edge announced both, no
                    // other will come, and a peer that sent and closed at once
                    // would sit here for ever. See epoll(7).
                    self.readable = count == most || self.read_closed;
                    self.last_read = shared.tick;
                    self.conn.received(&mut buffer[..READ + count], READ, shared);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.fail(&error, shared.pool),
            }
            self.flush(sys, shared);
        }
        self.wants_turn() || self.conn.wants_resume(&shared.info.output, shared.pool)
    }

    /// Writes what is to be written, and takes the next step of closing when that
    /// was all.
    pub(crate) fn flush<Y, F, S>(&mut self, sys: &mut Y, shared: &mut Shared<'_, F, S>)
    where
        Y: Sys<Stream = R>,
    {
        for _ in 0..WRITE_TRIES {
            let bytes = self.conn.to_send(shared.pool, shared.replies);
            if bytes.is_empty() || self.is_blocked() {
                break;
            }
            let written = sys.write(&mut self.stream, bytes);
            let len = bytes.len();
            let count = self.note_write(sys, shared.info.id, len, written, shared.pool);
            self.conn.sent(count, shared.pool, shared.replies, shared.tick);
        }
        let done = self.conn.to_send(shared.pool, shared.replies).is_empty();
        if done
            && self.conn.flushed(shared.pool, shared.tick)
            && let Err(error) = sys.finish(&mut self.stream)
        {
            self.fail(&error, shared.pool);
        }
    }

    /// Sends bytes that are no reply, at once if nothing waits before them. The
    /// answer is whether they were taken, as that of [`Conn::queue`].
    pub(crate) fn push<Y>(
        &mut self,
        sys: &mut Y,
        id: ConnId,
        piece: Piece<'_>,
        limits: &OutputLimits,
        pool: &mut Pool,
        tick: Tick,
    ) -> bool
    where
        Y: Sys<Stream = R>,
    {
        if self.conn.wants_write() || self.is_blocked() || !self.conn.life().speaks() {
            return self.conn.queue(piece, limits, pool, tick);
        }
        let bytes = piece.bytes();
        let written = sys.write(&mut self.stream, bytes);
        let count = self.note_write(sys, id, bytes.len(), written, pool);
        count == bytes.len() || self.conn.queue(piece.skip(count), limits, pool, tick)
    }

    /// Learns from a write of `len` bytes: how many went, and what comes next.
    #[inline]
    fn note_write<Y>(
        &mut self,
        sys: &mut Y,
        id: ConnId,
        len: usize,
        written: io::Result<usize>,
        pool: &mut Pool,
    ) -> usize
    where
        Y: Sys<Stream = R>,
    {
        match written {
            Ok(count) if count == len => count,
            written => self.note_short_write(sys, id, written, pool),
        }
    }

    fn note_short_write<Y>(
        &mut self,
        sys: &mut Y,
        id: ConnId,
        written: io::Result<usize>,
        pool: &mut Pool,
    ) -> usize
    where
        Y: Sys<Stream = R>,
    {
        let (count, full) = match written {
            Ok(count) => (count, true),
            Err(error) => {
                match error.kind() {
                    ErrorKind::WouldBlock => {}
                    // No edge will tell when this is over; the sweep tries again.
                    ErrorKind::Interrupted | ErrorKind::OutOfMemory => {}
                    _ if error.raw_os_error() == Some(ENOBUFS) => {}
                    _ => self.fail(&error, pool),
                }
                (0, error.kind() == ErrorKind::WouldBlock)
            }
        };
        if full {
            // Room that came since the write is told as well: watching anew reports
            // what is true already.
            if self.room == Room::Unwatched
                && sys.watch(&mut self.stream, Token::conn(id), Watch::ReadWrite).is_err()
            {
                self.conn.fail(CloseReason::RegisterFailed, pool);
                return count;
            }
            self.room = Room::None;
        }
        count
    }

    /// Whether the socket may have something that the connection has a use for.
    pub(crate) fn wants_turn(&self) -> bool {
        self.readable && self.conn.wants_read()
    }

    fn fail(&mut self, error: &io::Error, pool: &mut Pool) {
        let reason = match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => CloseReason::PeerReset,
            // The kernel gave up: on bytes not acknowledged, or on a silent peer.
            ErrorKind::TimedOut if self.conn.wants_write() => CloseReason::WriteStall,
            ErrorKind::TimedOut => CloseReason::PeerReset,
            _ => CloseReason::IoError,
        };
        self.conn.fail(reason, pool);
    }
}

/// The kernel is out of memory for packets, on Linux. On other systems 105 is an errno
/// that `send` never returns.
const ENOBUFS: i32 = 105;
