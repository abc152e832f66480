//! What happened, in numbers: what a status page shows and a test balances.

use crate::proto::service::{CloseReason, Traffic};

/// What happened since the start.
///
/// At every instant `accepted + dialed` is `open + dialing` plus the sum of `closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections taken from the kernel.
    pub accepted: u64,
    /// Connections that we called for ourselves.
    pub dialed: u64,
    /// Those of them that nobody has answered yet.
    pub dialing: usize,
    /// Connections open now.
    pub open: usize,
    /// Connections that are over but wait for the peer's FIN now.
    pub lingering: usize,
    /// Connections that ended, by [`CloseReason`], in the order of
    /// [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Messages in and out.
    pub traffic: Traffic,
    /// Messages and closes for a connection that was gone.
    pub gone: u64,
    /// Messages for a connection that had no room for them.
    pub full: u64,
}

impl Counters {
    /// Connections that ended for this reason.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.dialed += other.dialed;
        self.dialing += other.dialing;
        self.open += other.open;
        self.lingering += other.lingering;
        for (sum, closed) in self.closed.iter_mut().zip(other.closed) {
            *sum += closed;
        }
        self.traffic.messages_in += other.traffic.messages_in;
        self.traffic.messages_out += other.traffic.messages_out;
        self.traffic.skipped += other.traffic.skipped;
        self.traffic.bad_frames += other.traffic.bad_frames;
        self.traffic.other_protocols += other.traffic.other_protocols;
        self.gone += other.gone;
        self.full += other.full;
    }

    /// Whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.dialing == 0 && self.open == 0 && self.lingering == 0
    }
}
