//! What the limits of a server can add up to.
//!
//! ```text
//!  the budget        all that waits, of whomever
//!  one turn          what a connection may take beyond it, until the largest is closed
//!  each connection   its slot, its places in the loop's lists, its buffers' own records
//!  the loop          what is read into, the replies of a turn, what is for others
//! ```
//!
//! A bound and no forecast: an idle server takes none of it. Knows sizes only.

use super::relief::Weight;
use super::server::Server;
use super::sys::{Ready, Sys};
use crate::proto::buffer::{MAX_SPARE, MIN_TRIM, Pool};
use crate::proto::framing::MAX_STATE;
use crate::proto::post::HEAVY;

/// What an endpoint has to do with it, in bytes but for `slots`.
pub(crate) struct Share {
    /// Connections, those that linger included.
    pub(crate) slots: usize,
    /// What the endpoint keeps of each.
    pub(crate) slot: usize,
    /// What it keeps of addresses.
    pub(crate) quotas: usize,
    /// The largest half message.
    pub(crate) max_input: usize,
    /// The largest message on the way out.
    pub(crate) max_frame: usize,
    /// Output that may wait for one connection.
    pub(crate) max_output: usize,
}

/// A timer's places: in a heap of 24 bytes each, with as many that were forgotten, and in a
/// table of 25 that is half empty; the heap is there three times while it grows, and the table
/// one and a half.
const TIMER: usize = 240;
/// The queue, those who are held, those who were sent something: an entry each; and while
/// the largest are looked for, its weight.
const ENTRIES: usize = 3 * size_of::<Ready>() + size_of::<Weight>();

impl Share {
    /// All its connections and what is known of them; not what waits.
    fn connections(&self) -> usize {
        // Input and output. From a framing of this crate, the state of a half message.
        let lists = self.slot + ENTRIES + 2 * Pool::OVERHEAD;
        grown(self.slots.saturating_mul(lists))
            .saturating_add(self.slots.saturating_mul(TIMER + MAX_STATE))
            .saturating_add(self.quotas)
    }

    /// What one connection can take while nobody looks: its buffers grow by doubling, and
    /// are there twice meanwhile.
    fn turn(&self, read: usize) -> usize {
        let both = self.max_input.saturating_add(read).saturating_add(self.max_output);
        both.saturating_mul(4)
    }

    /// Replies to one read, the last of which is found to be too much when it is there.
    fn replies(&self) -> usize {
        grown(self.max_output.saturating_add(self.max_frame))
    }

    /// What those share who wait for what all were told.
    fn log(&self) -> usize {
        grown(self.max_output.saturating_mul(2).max(MIN_TRIM)).saturating_mul(2)
    }

    /// What is for others, and what comes of it while that is delivered.
    fn post(&self) -> usize {
        grown(self.max_frame.saturating_add(HEAVY)).saturating_mul(2)
    }
}

/// A vector to which bytes are added may be twice as large as they are, and half of that is
/// there once more while it moves.
fn grown(bytes: usize) -> usize {
    bytes.saturating_mul(3)
}

impl<Y: Sys> Server<Y> {
    /// The most memory that peers can have this server ask for, in bytes, by the limits it
    /// has now: what the process may grow by, whoever calls and whatever is sent. It is
    ///
    /// - the [budget](Self::memory_budget) for all that waits, and 1 MiB that is kept for
    ///   use again;
    /// - four times what may wait of one connection, in and out, as the budget is looked at
    ///   when its turn is over;
    /// - a slot, some entries in lists and the records of two buffers, some 1,350 bytes
    ///   together, for each connection that may be open, and for as many (1,024 at least)
    ///   that linger;
    /// - the tables of [`max_per_ip`](crate::Limits::max_per_ip) and
    ///   [`accepts_per_ip`](crate::Limits::accepts_per_ip), where those are set;
    /// - for the loop, what is read into, the replies of one turn, and what that has for
    ///   others: 128 KiB, three times the output that may wait and a message, six times a
    ///   message and 32 KiB, and twelve times the output that may wait, once for all.
    ///
    /// Not in it: the program and its code; what the kernel holds for its sockets; what a
    /// service or a framing of your own keeps, beyond its session; a service that has more
    /// for others in one call than a message, 16 MiB at most; where connections that you
    /// open are to go; and holes in the allocator's memory.
    pub fn worst_case(&self) -> usize {
        let shares: Vec<Share> = self.endpoints.iter().map(|endpoint| endpoint.share()).collect();
        let most = |of: &dyn Fn(&Share) -> usize| shares.iter().map(of).max().unwrap_or(0);
        let read = self.work.read.len();
        let parts = [
            self.work.pool.budget(),
            MAX_SPARE,
            most(&|share| share.turn(read)),
            shares.iter().map(Share::connections).fold(0, usize::saturating_add),
            read,
            most(&Share::replies),
            most(&Share::post),
            most(&Share::log),
        ];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the documentation of [`Server::worst_case`] tells, with numbers of which none
    /// can stand for another.
    #[test]
    fn the_parts_of_the_bound_are_those_that_its_documentation_tells() {
        let (max_input, max_frame, max_output) = (1_000_003, 2_000_029, 3_000_017);
        let share = Share { slots: 5, slot: 7, quotas: 11, max_input, max_frame, max_output };
        let read = 131_071;
        assert_eq!(share.turn(read), 4 * (max_input + read + max_output));
        assert_eq!(share.replies(), 3 * (max_output + max_frame));
        assert_eq!(share.post(), 6 * (max_frame + (32 << 10)));
        assert_eq!(share.log(), 12 * max_output);
        let quiet = Share { max_output: 1, ..share };
        assert_eq!(quiet.log(), 6 * MIN_TRIM, "it is not trimmed any earlier");
    }
}
