//! Bytes between the loop and the simulated kernel: what one read and one write do, and
//! what of it fails.

use std::io;

use super::kernel::World;
use super::plan::Fault;
use super::sys::{EINTR, errno};

const READ_ERRNOS: [i32; 7] = [104, 110, 113, 5, 12, 32, 9999];
const WRITE_ERRNOS: [i32; 6] = [104, 110, 32, 113, 5, 9999];

impl World {
    pub(super) fn read(&mut self, index: u32, into: &mut [u8]) -> io::Result<usize> {
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
        socket.bytes_read += count as u64;
        self.ledger.bytes_read += count as u64;
        self.ledger.progress += 1;
        self.trace(12, count as u64);
        if full {
            self.wake_peer(index);
        }
        Ok(count)
    }

    pub(super) fn write(&mut self, index: u32, bytes: &[u8]) -> io::Result<usize> {
        let socket = &mut self.sockets[index as usize];
        assert!(!socket.closed, "write after close");
        assert!(!socket.fin_out, "write after finish");
        socket.write_tried = self.now;
        if socket.reset_in {
            socket.track.may_be_reset = true;
            return Err(errno(self.rng.pick(&[32, 104])));
        }
        for (fault, error) in [(Fault::WriteEintr, EINTR), (Fault::WriteNoBufs, 105)] {
            if self.strikes(fault, index) {
                self.sockets[index as usize].write_failed = true;
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
