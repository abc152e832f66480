//! One simulated connection, both ends of it, and the bytes between them.

use std::fmt;

use oneloop::CloseReason;
use oneloop::net::Token;

use super::cover::Stage;
use super::oracle::Track;

/// Bytes on their way.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 4096 && self.start * 2 > self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
        if self.bytes.capacity() > 64 << 10 {
            self.bytes = Vec::new();
        }
    }

    /// Gives its memory back, too.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }
}

/// One connection, both ends of it.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    pub(crate) inbound: Queue,
    pub(crate) outbound: Queue,
    /// Whose script the other end follows.
    pub(crate) peer: u32,
    pub(crate) token: Option<Token>,
    pub(crate) watches_write: bool,
    /// It is on the list of those to be told of.
    pub(crate) listed: bool,
    /// The server has accepted it, or called.
    pub(crate) ours: bool,
    /// The server called; what comes of it, when that is known.
    pub(crate) dialed: bool,
    pub(crate) answer: Option<Result<(), i32>>,
    /// The peer has finished sending, and the server has seen it.
    pub(crate) fin_in: bool,
    pub(crate) fin_read: bool,
    pub(crate) reset_in: bool,
    /// The server has finished, closed, closed with a reset.
    pub(crate) fin_out: bool,
    pub(crate) closed: bool,
    pub(crate) reset_out: bool,
    /// The last write found too little room: an edge will come when there is more.
    pub(crate) no_space: bool,
    /// The last write failed in a way that no edge ends.
    pub(crate) write_failed: bool,
    pub(crate) told_at: u64,
    /// It was told readable in that turn, and not read since; 0: nothing is open.
    pub(crate) told: u64,
    /// What is to become of this caller, by its address.
    pub(crate) fate: Option<CloseReason>,
    pub(crate) finished_at: u64,
    pub(crate) bytes_read: u64,
    pub(crate) write_tried: u64,
    /// Edges that are sure to come.
    pub(crate) armed: u32,
    pub(crate) reads_this_turn: u32,
    pub(crate) told_this_turn: u32,
    pub(crate) track_turn: u32,
    pub(crate) track: Track,
}

impl Socket {
    pub(crate) fn has_news(&self) -> bool {
        !self.inbound.is_empty() || (self.fin_in && !self.fin_read) || self.reset_in
    }

    /// Counting begins anew with each turn.
    pub(crate) fn note_turn(&mut self, turn: u64) {
        if self.track_turn != turn as u32 {
            (self.track_turn, self.reads_this_turn, self.told_this_turn) = (turn as u32, 0, 0);
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        if self.closed {
            Stage::Closed
        } else if self.dialed && self.answer != Some(Ok(())) {
            Stage::Dialing
        } else if !self.ours {
            Stage::Queued
        } else if self.fin_out {
            Stage::Finished
        } else if self.fin_in {
            Stage::PeerFinished
        } else if self.no_space {
            Stage::Blocked
        } else if self.track.partial_since.is_some() {
            Stage::InMessage
        } else {
            Stage::Idle
        }
    }
}
