//! When all buffers together take too much: who waits, who goes, and who goes on.
//!
//! ```text
//!  above 90 %   newcomers stay in the backlog; who would need a larger buffer is not read
//!  above 100 %  the largest close, `memory`, until it is below 90 % again
//!  standstill   as above 100 %
//! ```
//!
//! Whoever needs no buffer (whole messages in, replies that leave at once) notices
//! nothing. Half messages alone can hold 90 % for as long as their clocks let them, and
//! none of them can end, since each would have to grow: that is a standstill. Where the
//! system has less memory than the budget allows, a tenth of what is held is given back. The bytes of a turn's own replies and letters are not counted: they have
//! limits of their own and are gone with the turn.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::server::{Server, Workspace};
use super::sys::Sys;
use crate::proto::budget::Budget;

/// How long those wait who need memory, newcomers among them, while none is freed.
const STANDSTILL: Duration = Duration::from_secs(1);

/// For how long newcomers come first then: those who wait to grow would take all that was
/// freed in one turn, which lets in no more of a long queue than a turn accepts.
const NEWCOMERS_FIRST: Duration = Duration::from_millis(100);

/// What one connection holds: bytes, endpoint, and which one. In this order the largest is
/// last.
pub(super) type Weight = (usize, u8, Holder);

/// Who holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// The connection of that slot.
    Slot(usize),
    /// A call that nobody has answered, for what is to be sent then: its number.
    Call(u32),
}

impl<Y: Sys> Server<Y> {
    /// Memory that waiting input and output of all connections may take together, in
    /// bytes. Default: 256 MiB; less than 64 KiB is taken for 64 KiB. At 90 % of it no
    /// one is accepted, and connections that would need more memory are not read from
    /// until some is free; above it, or when they have waited for a second, the
    /// largest close with [`CloseReason::Memory`](crate::CloseReason::Memory).
    ///
    /// Where an endpoint's [`Limits::memory`](crate::Limits::memory) is less, that holds.
    pub fn memory_budget(&mut self, bytes: usize) {
        self.memory = bytes;
        let least = self.endpoints_memory.unwrap_or(bytes);
        self.work.pool.set_budget(Budget::new(bytes.min(least)));
    }

    /// What waiting input and output may take together now, in bytes.
    pub fn memory(&self) -> usize {
        self.work.pool.budget()
    }

    /// Closes the largest connections if there is too much. Usually there is not, and this
    /// is one comparison.
    pub(super) fn relieve(&mut self) {
        if self.work.pool.is_over() {
            self.unload_largest();
        }
    }

    fn unload_largest(&mut self) {
        let below = self.work.pool.relief();
        let mut weights: Vec<Weight> = Vec::new();
        for endpoint in &self.endpoints {
            endpoint.weigh(&self.work.pool, &mut weights);
        }
        for (_, endpoint, holder) in largest_first(weights) {
            if self.work.pool.held_bytes() < below {
                break;
            }
            self.endpoints[usize::from(endpoint)].unload(&mut self.sys, &mut self.work, holder);
        }
    }

    /// Has those looked at again that could not be read for lack of memory, if there is
    /// some now.
    pub(super) fn feed_starved(&mut self) {
        if self.feeds_starved() {
            self.work.pool.forget_starved();
            for endpoint in &mut self.endpoints {
                endpoint.requeue(&mut self.work);
            }
        }
    }

    /// Whether those can go on who could not be read.
    pub(super) fn feeds_starved(&self) -> bool {
        self.work.pool.room_for_starved() && self.feed_at <= self.work.now
    }

    /// Says that there is too little, and sees to it that nobody waits for ever for what
    /// others hold.
    pub(super) fn end_standstill(&mut self) {
        if !self.work.pool.is_tight() {
            self.tight_since = None;
            return;
        }
        let now = self.work.now;
        if self.work.tight.allows(now) {
            let held = self.work.pool.held_bytes();
            log::warn!("buffers take {held} bytes, 90 % of all they may: growth has to wait");
        }
        let since = *self.tight_since.get_or_insert(now);
        let someone_waits = self.callers || self.work.pool.is_starved();
        if someone_waits && now.saturating_sub(since) >= STANDSTILL {
            self.tight_since = None;
            self.unload_largest();
            self.feed_at = now + NEWCOMERS_FIRST;
        }
    }
}

/// A heap, since a few of them are enough as a rule: searching again for each would take
/// longer, and so would sorting all.
pub(super) fn largest_first(weights: Vec<Weight>) -> impl Iterator<Item = Weight> {
    let mut heap = BinaryHeap::from(weights);
    std::iter::from_fn(move || heap.pop())
}

impl Workspace {
    /// Whether newcomers can be let in.
    pub(super) fn has_memory(&self) -> bool {
        !self.pool.is_tight()
    }
}
