//! Bytes that wait: input for the rest of its frame, output for room in a socket.
//!
//! ```text
//!             read whole              nothing left over
//!  socket ──▶ loop's read buffer ──▶ messages ──▶ (no buffer held)
//!                     │ half a frame is left
//!                     ▼
//!               Pool::keep ──▶ BufferId, four bytes in the connection
//! ```
//!
//! What all have to hear is kept once for all who cannot take it now: their buffers then
//! only say from where to where, in the log of the pool.
//!
//! An idle connection holds no buffer at all. One that waits for something holds
//! a [`BufferId`] into the [`Pool`] of its loop, and gives it back as soon as
//! nothing waits. The pool knows nothing of frames, sockets or connections.

use std::num::NonZeroU32;
use std::ops::Range;

use slab::Slab;

use super::budget::Budget;
use super::tick::Tick;

/// Waiting bytes, and what the clocks need to know about them.
///
/// ```text
/// |   used   |   waiting   |   free   |
/// 0        start       bytes.len()  capacity
/// ```
///
/// Invariant: `start <= bytes.len()`.
///
/// `consume` only moves `start`. Bytes are moved to the front when the free part
/// is used up and at least half of the buffer is used, so every byte is moved at
/// most once on average.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    /// Where its bytes stand in the log of the pool; empty if they are its own.
    shared: Range<u64>,
    /// Since when these bytes wait.
    pub(super) since: Tick,
    /// Of input: bytes that the unfinished frame will take in all, as far as it
    /// says. Of output: bytes sent since `since`. While a closed connection
    /// lingers: bytes read and thrown away.
    pub(super) tally: usize,
}

impl Buffer {
    /// The bytes that wait, oldest first.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The same, to be changed in place.
    pub fn waiting_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Forgets the oldest `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        self.assert_invariant();
    }

    /// What it counts as, in bytes of memory.
    fn size(&self) -> usize {
        self.bytes.capacity() + (self.shared.end - self.shared.start) as usize
    }

    fn assert_invariant(&self) {
        debug_assert!(self.start <= self.bytes.len(), "{} > {}", self.start, self.bytes.len());
    }
}

/// Bytes that are to wait.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Of one connection alone.
    Own(&'a [u8]),
    /// The end, from `skip` on, of what all are told now.
    Shared {
        /// What they are told, whole: the same for each of them.
        all: &'a [u8],
        /// How much of it this one has taken.
        skip: usize,
    },
}

impl<'a> Piece<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared { all, skip } => &all[skip..],
        }
    }

    /// Without its first `count` bytes.
    pub(crate) fn skip(self, count: usize) -> Self {
        match self {
            Self::Own(bytes) => Self::Own(&bytes[count..]),
            Self::Shared { all, skip } => Self::Shared { all, skip: skip + count },
        }
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Piece<'a> {
    fn from(bytes: &'a T) -> Self {
        Self::Own(bytes.as_ref())
    }
}

/// What all have been told and some still wait for, one behind the other.
///
/// Who waits for all that was said since it fell behind holds two numbers of it. Who waits for
/// something of its own as well gets a copy, as what it waits for is no part of this any more.
///
/// Each of them is counted as if it had its own, which it may need at once. The log comes on top:
/// no more than twice what may wait for one connection and what all are told, or 64 KiB if that
/// is more, in a vector that may be twice as large.
#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    /// The number of the first of these bytes; positions are counted from the beginning.
    base: u64,
    /// Where that begins which all are told now, if it is in here already.
    current: Option<u64>,
    /// Buffers that refer to it.
    readers: usize,
    /// How long it may become before somebody looks for what nobody waits for.
    trim_at: usize,
}

impl Log {
    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn get(&self, range: &Range<u64>) -> &[u8] {
        &self.bytes[(range.start - self.base) as usize..(range.end - self.base) as usize]
    }
}

/// Names a [`Buffer`] of a [`Pool`]; an `Option<BufferId>` takes four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(NonZeroU32);

impl BufferId {
    fn new(key: usize) -> Self {
        let number = u32::try_from(key + 1).ok().and_then(NonZeroU32::new);
        Self(
            number.expect(
                "a process has fewer than 2^31 descriptors, a connection two buffers at most",
            ),
        )
    }

    fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// All waiting bytes of one loop.
///
/// Memory comes in powers of two from 64 bytes on and is used again, so a
/// connection that stops in the middle of a frame now and then costs no
/// allocation each time. A buffer is sized by bytes that have arrived, never by an
/// announced length, and keeps its size until it is released. What is spare is no
/// more than was held since the last [`Pool::trim`], or 1 MiB.
#[derive(Debug, Default)]
pub struct Pool {
    buffers: Slab<Buffer>,
    /// Spare memory by size: `spare[k]` holds vectors of capacity `MIN << k`.
    spare: [Vec<Vec<u8>>; CLASSES],
    spare_bytes: usize,
    held_bytes: usize,
    /// The most that was held since the last [`Pool::trim`], in bytes.
    peak: usize,
    log: Log,
    budget: Budget,
    /// The system had no memory for a buffer.
    refused: bool,
    /// As if it had none.
    #[cfg(test)]
    pub(super) refuses: bool,
}

/// There is no memory for bytes that should wait; they are lost, and the connection that
/// they belong to with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// The smallest buffer, in bytes.
const MIN: usize = 64;
/// Sizes that are kept for use again: 64 bytes to 1 MiB. Larger ones go back to
/// the allocator.
const CLASSES: usize = 15;
/// What the log may have before it is looked through, and keeps when nobody waits, in bytes.
pub(crate) const MIN_TRIM: usize = 64 << 10;
/// Spare memory that a pool keeps for ever, in bytes. More is kept until the next
/// [`Pool::trim`], if it was held a moment ago.
pub(crate) const MAX_SPARE: usize = 1 << 20;

impl Pool {
    /// An empty pool. Allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory that waiting bytes occupy now, over all connections.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(crate) fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Whether nothing should grow that can wait.
    pub(crate) fn is_tight(&self) -> bool {
        self.budget.is_tight(self.held_bytes)
    }

    /// Whether it is more than there may be, or than there is.
    pub(crate) fn is_over(&self) -> bool {
        self.refused || self.budget.is_over(self.held_bytes)
    }

    /// What has to be closed down to, in bytes, if [`Pool::is_over`]: a tenth below what
    /// may be held, or below what is held if that was all there is.
    pub(crate) fn relief(&mut self) -> usize {
        let high = self.budget.high();
        match std::mem::take(&mut self.refused) {
            true => high.min(self.held_bytes - self.held_bytes / 10),
            false => high,
        }
    }

    /// Whether a connection waits until it may grow.
    pub(crate) fn is_starved(&self) -> bool {
        self.budget.starved
    }

    /// A connection waits until it may grow.
    pub(crate) fn note_starved(&mut self) {
        self.budget.starved = true;
    }

    /// Whether connections wait for memory, and there is some.
    pub(crate) fn room_for_starved(&self) -> bool {
        self.budget.starved && !self.is_tight()
    }

    /// They are being looked at.
    pub(crate) fn forget_starved(&mut self) {
        self.budget.starved = false;
    }

    /// Memory that `id` takes, in bytes.
    pub(crate) fn size(&self, id: BufferId) -> usize {
        self.get(id).size()
    }

    /// Bytes that can be added to `id` without more memory.
    pub(crate) fn free(&self, id: BufferId) -> usize {
        let bytes = &self.get(id).bytes;
        bytes.capacity() - bytes.len()
    }

    /// Buffers in use now.
    pub fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// What a buffer takes beside its bytes, itself and what the allocator adds.
    pub(crate) const OVERHEAD: usize = size_of::<Buffer>() + size_of::<usize>() + 16;

    /// The most that it may hold, in bytes.
    pub(crate) fn budget(&self) -> usize {
        self.budget.max()
    }

    /// Puts `bytes` (possibly none) aside.
    ///
    /// # Errors
    ///
    /// There is no memory for them.
    pub fn keep(&mut self, bytes: &[u8], since: Tick) -> Result<BufferId, NoMemory> {
        let mut buffer = Buffer { since, ..Buffer::default() };
        self.append(&mut buffer, bytes)?;
        Ok(BufferId::new(self.buffers.insert(buffer)))
    }

    /// A buffer without bytes, which only says since when something is awaited.
    pub fn clock(&mut self, since: Tick) -> BufferId {
        BufferId::new(self.buffers.insert(Buffer { since, ..Buffer::default() }))
    }

    /// The buffer behind `id`.
    pub fn get(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.key()]
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: BufferId) -> &mut Buffer {
        &mut self.buffers[id.key()]
    }

    /// The bytes that wait in `id`, oldest first.
    pub fn waiting(&self, id: BufferId) -> &[u8] {
        let buffer = self.get(id);
        match buffer.shared.is_empty() {
            true => buffer.waiting(),
            false => self.log.get(&buffer.shared),
        }
    }

    /// Forgets the oldest `count` bytes of `id`.
    pub fn consume(&mut self, id: BufferId, count: usize) {
        let buffer = self.get_mut(id);
        if buffer.shared.is_empty() {
            return buffer.consume(count);
        }
        buffer.shared.start += count as u64;
        let is_empty = buffer.shared.is_empty();
        self.held_bytes -= count;
        if is_empty {
            self.leave_log();
        }
    }

    /// From now on [`Piece::Shared`] means something else than before.
    pub(crate) fn begin_shared(&mut self) {
        self.log.current = None;
    }

    /// Has `piece` wait behind what waits in `id`.
    ///
    /// # Errors
    ///
    /// As [`Pool::extend`].
    pub(super) fn queue(
        &mut self,
        id: Option<BufferId>,
        piece: Piece<'_>,
        since: Tick,
    ) -> Result<BufferId, NoMemory> {
        let (all, skip) = match (piece, id) {
            (Piece::Own(bytes), None) => return self.keep(bytes, since),
            (Piece::Own(bytes), Some(id)) => return self.extend(id, bytes).map(|()| id),
            (Piece::Shared { all, skip }, _) => (all, skip),
        };
        if let Some(id) = id {
            let (shared, begin) = (&self.get(id).shared, self.log.current);
            if shared.is_empty() || shared.end != begin.unwrap_or(self.log.end()) {
                return self.extend(id, &all[skip..]).map(|()| id);
            }
        }
        let begin = match self.log.current {
            Some(begin) => begin,
            None => self.add_to_log(all)?,
        };
        let end = begin + all.len() as u64;
        self.held_bytes += all.len() - skip;
        let Some(id) = id else {
            self.log.readers += 1;
            let buffer = Buffer { since, shared: begin + skip as u64..end, ..Buffer::default() };
            return Ok(BufferId::new(self.buffers.insert(buffer)));
        };
        self.get_mut(id).shared.end = end;
        Ok(id)
    }

    /// Puts what all are told behind what they were told before.
    fn add_to_log(&mut self, all: &[u8]) -> Result<u64, NoMemory> {
        if self.log.bytes.len() + all.len() > self.log.trim_at {
            let starts = self.buffers.iter().map(|(_, buffer)| &buffer.shared);
            let first = starts.filter(|shared| !shared.is_empty()).map(|shared| shared.start).min();
            let first = first.unwrap_or(self.log.end());
            self.log.bytes.drain(..(first - self.log.base) as usize);
            self.log.base = first;
            self.log.trim_at = 2 * (self.log.bytes.len() + all.len()).max(MIN_TRIM);
        }
        if self.log.bytes.try_reserve(all.len()).is_err() {
            self.refused = true;
            return Err(NoMemory);
        }
        let begin = self.log.end();
        self.log.bytes.extend_from_slice(all);
        self.log.current = Some(begin);
        Ok(begin)
    }

    /// One buffer less refers to the log; nobody waits for what no buffer refers to.
    fn leave_log(&mut self) {
        self.log.readers -= 1;
        if self.log.readers == 0 {
            self.log.base = self.log.end();
            self.log.current = None;
            self.log.bytes.clear();
            if self.log.bytes.capacity() > MIN_TRIM {
                self.log.bytes = Vec::new();
            }
        }
    }

    /// Gives `id` a copy of what it shares.
    fn own(&mut self, id: BufferId) -> Result<(), NoMemory> {
        let shared = self.get(id).shared.clone();
        if !shared.is_empty() {
            let mut bytes = self.take((shared.end - shared.start) as usize)?;
            bytes.extend_from_slice(self.log.get(&shared));
            let buffer = self.get_mut(id);
            (buffer.bytes, buffer.start, buffer.shared) = (bytes, 0, 0..0);
            self.held_bytes -= (shared.end - shared.start) as usize;
            self.leave_log();
        }
        Ok(())
    }

    /// Takes the buffer out, so that its bytes can be borrowed while the pool
    /// serves others. An empty one stands in until [`Pool::restore`].
    pub fn lend(&mut self, id: BufferId) -> Buffer {
        std::mem::take(self.get_mut(id))
    }

    /// Ends a [`Pool::lend`].
    pub fn restore(&mut self, id: BufferId, buffer: Buffer) {
        *self.get_mut(id) = buffer;
    }

    /// Counts anew: a panic has ended a [`Pool::lend`] without [`Pool::restore`].
    pub(super) fn recount(&mut self) {
        self.held_bytes = self.buffers.iter().map(|(_, buffer)| buffer.size()).sum();
    }

    /// Adds `more` behind what waits in `id`.
    ///
    /// # Errors
    ///
    /// There is no memory for it; the buffer is as it was.
    pub fn extend(&mut self, id: BufferId, more: &[u8]) -> Result<(), NoMemory> {
        self.own(id)?;
        let mut buffer = self.lend(id);
        let added = self.append(&mut buffer, more);
        self.restore(id, buffer);
        added
    }

    /// Adds `more` to a buffer that is lent out.
    ///
    /// # Errors
    ///
    /// As [`Pool::extend`].
    pub fn append(&mut self, buffer: &mut Buffer, more: &[u8]) -> Result<(), NoMemory> {
        let capacity = buffer.bytes.capacity();
        if capacity - buffer.bytes.len() < more.len() {
            let len = buffer.waiting().len() + more.len();
            if len <= capacity / 2 {
                buffer.bytes.drain(..buffer.start);
            } else {
                let mut larger = self.take(len)?;
                larger.extend_from_slice(buffer.waiting());
                self.give_back(std::mem::replace(&mut buffer.bytes, larger));
            }
            buffer.start = 0;
        }
        buffer.bytes.extend_from_slice(more);
        buffer.assert_invariant();
        Ok(())
    }

    /// Has `bytes` wait in a buffer that is lent out, instead of what does.
    ///
    /// # Errors
    ///
    /// As [`Pool::extend`], but what waited is gone.
    pub(super) fn replace(&mut self, buffer: &mut Buffer, bytes: &[u8]) -> Result<(), NoMemory> {
        buffer.bytes.clear();
        buffer.start = 0;
        self.append(buffer, bytes)
    }

    /// Ends the use of `id`.
    pub fn release(&mut self, id: BufferId) {
        let buffer = self.buffers.remove(id.key());
        if !buffer.shared.is_empty() {
            self.held_bytes -= buffer.size();
            self.leave_log();
        }
        self.give_back(buffer.bytes);
    }

    /// An empty vector with room for `len` bytes.
    fn take(&mut self, len: usize) -> Result<Vec<u8>, NoMemory> {
        let capacity = len.next_power_of_two().max(MIN);
        let spare = self.spare.get_mut(class(capacity)).and_then(Vec::pop);
        let bytes = match spare {
            Some(bytes) => {
                self.spare_bytes -= bytes.capacity();
                bytes
            }
            None => {
                // What is spare is of other sizes: together it must not become more.
                self.cut_spare(self.most_spare(self.held_bytes + capacity));
                self.allocate(capacity)?
            }
        };
        self.held_bytes += bytes.capacity();
        self.peak = self.peak.max(self.held_bytes);
        Ok(bytes)
    }

    /// How much may be spare while so much is held. A buffer of 256 KiB that comes from the
    /// system anew for each large message costs more, in pages that it clears, than all else
    /// that is done for the message.
    fn most_spare(&self, held: usize) -> usize {
        self.peak.saturating_sub(held).max(MAX_SPARE)
    }

    /// Frees spare memory, the largest first, until there are `most` bytes.
    fn cut_spare(&mut self, most: usize) {
        for spare in self.spare.iter_mut().rev() {
            while self.spare_bytes > most
                && let Some(bytes) = spare.pop()
            {
                self.spare_bytes -= bytes.capacity();
            }
        }
    }

    /// Gives back what is spare only because much was held since the last time. A loop calls
    /// it about once a second, and before a sleep that has no end.
    pub fn trim(&mut self) {
        self.peak = self.held_bytes;
        if self.spare_bytes > MAX_SPARE {
            self.cut_spare(MAX_SPARE);
            self.spare.iter_mut().for_each(Vec::shrink_to_fit);
        }
    }

    /// New memory, if need be instead of all that is spare. Where the system has none,
    /// Rust's collections end the process, unless they are asked like this.
    fn allocate(&mut self, capacity: usize) -> Result<Vec<u8>, NoMemory> {
        let mut bytes = Vec::new();
        #[cfg(test)]
        let capacity = if self.refuses { usize::MAX } else { capacity };
        if bytes.try_reserve_exact(capacity).is_err() {
            self.spare = Default::default();
            self.spare_bytes = 0;
            if bytes.try_reserve_exact(capacity).is_err() {
                self.refused = true;
                return Err(NoMemory);
            }
        }
        Ok(bytes)
    }

    fn give_back(&mut self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        self.held_bytes -= capacity;
        // A capacity the allocator rounded up is no exact class: free it.
        let exact = capacity.is_power_of_two() && capacity >= MIN;
        if exact
            && self.spare_bytes + capacity <= self.most_spare(self.held_bytes)
            && let Some(spare) = self.spare.get_mut(class(capacity))
            && spare.try_reserve(1).is_ok()
        {
            bytes.clear();
            self.spare_bytes += capacity;
            spare.push(bytes);
        }
    }
}

/// Index into [`Pool::spare`] of a power of two.
fn class(capacity: usize) -> usize {
    (capacity / MIN).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(pool: &mut Pool, bytes: &[u8]) -> BufferId {
        pool.keep(bytes, Tick::default()).expect("there is memory for a test")
    }

    #[test]
    fn what_was_appended_comes_out_in_order_and_once() {
        let mut pool = Pool::new();
        let id = pool.clock(Tick::default());
        let mut expected = Vec::new();
        let (mut came, mut went) = (0u32, 0u32);
        for round in 0..2000usize {
            let more: Vec<u8> = (0..round % 97).map(|_| (came as u8, came += 1).0).collect();
            expected.extend_from_slice(&more);
            assert_eq!(pool.extend(id, &more), Ok(()));
            assert_eq!(pool.get(id).waiting(), expected, "round {round}");

            let count = (round * 7 % 101).min(expected.len());
            pool.get_mut(id).consume(count);
            for byte in expected.drain(..count) {
                assert_eq!(byte, went as u8, "round {round}");
                went += 1;
            }
        }
    }

    #[test]
    fn memory_held_is_at_most_four_times_what_waits() {
        let mut pool = Pool::new();
        let id = keep(&mut pool, b"x");
        let most = if cfg!(miri) { 5000 } else { 100_000usize };
        for len in 1..most {
            if len % 1000 == 0 {
                assert!(pool.held_bytes() <= 4 * len, "{} for {len}", pool.held_bytes());
            }
            assert_eq!(pool.extend(id, b"y"), Ok(()));
        }
        pool.release(id);
        assert_eq!((pool.held_bytes(), pool.buffers()), (0, 0));
    }

    #[test]
    fn a_released_buffer_is_used_again_without_an_allocation() {
        let mut pool = Pool::new();
        for len in [1, 64, 65, 4000, 60_000] {
            let bytes = vec![7; len];
            let id = keep(&mut pool, &bytes);
            pool.release(id);
            let info = allocation_counter::measure(|| {
                let id = keep(&mut pool, &bytes);
                pool.release(id);
            });
            assert_eq!(info.count_total, 0, "{len} bytes");
        }
    }

    #[test]
    fn spare_memory_is_no_more_than_was_held_lately_and_a_trim_leaves_little() {
        let mut pool = Pool::new();
        let handles: Vec<_> = (0..100).map(|_| keep(&mut pool, &[0; 65_536])).collect();
        handles.into_iter().for_each(|id| pool.release(id));
        assert_eq!(pool.spare_bytes, 100 * 65_536);
        // Of another size, and of one that is not kept: what is held takes from what is spare.
        let others: Vec<_> = (0..9).map(|_| keep(&mut pool, &[0; 262_144])).collect();
        assert_eq!(pool.spare_bytes, 100 * 65_536 - 9 * 262_144);
        others.into_iter().for_each(|id| pool.release(id));
        let large = keep(&mut pool, &vec![0; 4 << 20]);
        assert_eq!(pool.spare_bytes, 36 * 65_536);
        pool.release(large);
        assert_eq!(pool.held_bytes(), 0);
        pool.trim();
        assert_eq!(pool.spare_bytes, MAX_SPARE);
        assert_eq!(pool.spare.iter().flatten().map(Vec::capacity).sum::<usize>(), MAX_SPARE);
    }

    #[test]
    fn what_the_system_has_no_memory_for_changes_nothing_and_costs_the_spare_memory() {
        let mut pool = Pool::new();
        let spare = keep(&mut pool, b"spare");
        pool.release(spare);
        let id = keep(&mut pool, b"waits");
        pool.refuses = true;
        assert_eq!(pool.extend(id, &[b'x'; 99]), Err(NoMemory));
        assert_eq!(pool.keep(b"more", Tick::default()), Err(NoMemory));
        assert_eq!((pool.get(id).waiting(), pool.held_bytes()), (&b"waits"[..], MIN));
        assert_eq!((pool.spare_bytes, pool.spare.iter().flatten().count()), (0, 0));
        // It says so once; then less may be held than was.
        assert!(pool.is_over());
        assert_eq!((pool.relief(), pool.is_over()), (MIN - MIN / 10, false));
    }

    #[test]
    fn what_fits_when_it_is_moved_to_the_front_costs_no_memory() {
        let mut pool = Pool::new();
        let id = keep(&mut pool, &[7; 4096]);
        pool.get_mut(id).consume(3000);
        let info = allocation_counter::measure(|| {
            assert_eq!(pool.extend(id, &[8; 900]), Ok(()));
        });
        assert_eq!((info.count_total, pool.held_bytes()), (0, 4096));
        let info = allocation_counter::measure(|| {
            assert_eq!(pool.extend(id, &[9; 4096 - 1096 - 900]), Ok(()));
        });
        assert_eq!((info.count_total, pool.held_bytes(), pool.free(id)), (0, 4096, 0));
    }

    #[test]
    fn spare_memory_that_is_used_again_is_not_spare() {
        let mut pool = Pool::new();
        let ids = [10, 100, 1000].map(|len| keep(&mut pool, &vec![0; len]));
        ids.into_iter().for_each(|id| pool.release(id));
        assert_eq!(pool.spare_bytes, 64 + 128 + 1024);
        keep(&mut pool, &[0; 100]);
        assert_eq!(pool.spare_bytes, 64 + 1024);
    }

    #[test]
    fn what_all_wait_for_is_there_once_and_each_gets_its_own_rest_of_it() {
        let mut random = 7u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % below
        };
        let mut pool = Pool::new();
        let mut all: Vec<(Option<BufferId>, Vec<u8>)> = vec![(None, Vec::new()); 20];
        for round in 0..5000usize {
            let said: Vec<u8> = (0..next(300) + 1).map(|n| (round + n) as u8).collect();
            pool.begin_shared();
            // Most hear it, some in part; who is 0 does not read.
            for (who, (id, expected)) in all.iter_mut().enumerate() {
                let piece = match (who, next(20)) {
                    (_, 0) => Piece::Own(&said),
                    (1.., 1..4) => continue,
                    // Only who waits for nothing has taken a part.
                    _ if id.is_none() => Piece::Shared { all: &said, skip: next(said.len()) },
                    _ => Piece::Shared { all: &said, skip: 0 },
                };
                expected.extend_from_slice(piece.bytes());
                *id = pool.queue(*id, piece, Tick::default()).ok();
            }
            for (who, (id, expected)) in all.iter_mut().enumerate() {
                let Some(waits) = *id else { continue };
                assert_eq!(pool.waiting(waits), expected, "{who} in round {round}");
                let count = match next(8) {
                    0..3 if who > 0 || round % 100 == 99 => expected.len(),
                    3..6 => next(expected.len()),
                    _ => 0,
                };
                pool.consume(waits, count);
                expected.drain(..count);
                assert_eq!(pool.waiting(waits), expected, "{who} in round {round}");
                if expected.is_empty() {
                    pool.release(waits);
                    *id = None;
                }
            }
            let held = pool.held_bytes();
            pool.recount();
            assert_eq!(pool.held_bytes(), held, "round {round}");
        }
        all.iter().filter_map(|(id, _)| *id).for_each(|id| pool.release(id));
        assert_eq!((pool.held_bytes(), pool.buffers(), pool.log.readers), (0, 0, 0));
    }

    #[test]
    fn what_nobody_waits_for_any_more_takes_no_memory_though_somebody_always_waits() {
        let mut pool = Pool::new();
        let said = [b'x'; 1000];
        let mut waiting = std::collections::VecDeque::new();
        for _ in 0..10_000 {
            pool.begin_shared();
            let piece = Piece::Shared { all: &said, skip: 0 };
            waiting.push_back(pool.queue(None, piece, Tick::default()).expect("memory"));
            // Ten at a time, each for one message.
            if waiting.len() > 10 {
                waiting.pop_front().into_iter().for_each(|id| pool.release(id));
            }
        }
        let memory = pool.log.bytes.capacity();
        assert!(memory <= 4 * MIN_TRIM, "{memory} bytes");
        assert_eq!(pool.held_bytes(), 10 * said.len());
    }

    #[test]
    fn what_a_thousand_wait_for_takes_no_more_memory_for_each_message() {
        let said = [b'x'; 256];
        let piece = Piece::Shared { all: &said, skip: 0 };
        let mut pool = Pool::new();
        let mut waiting = vec![None; 1000];
        let info = allocation_counter::measure(|| {
            for _ in 0..100 {
                pool.begin_shared();
                for id in &mut waiting {
                    *id = pool.queue(*id, piece, Tick::default()).ok();
                }
            }
        });
        let buffers = 2 * 1024 * size_of::<Buffer>();
        assert!(info.bytes_max < (buffers + 3 * 25_600) as u64, "{} bytes", info.bytes_max);
        assert_eq!(pool.held_bytes(), 1000 * 25_600);
    }

    #[test]
    fn when_nobody_waits_the_log_keeps_what_is_small_and_nothing_that_is_large() {
        let mut pool = Pool::new();
        for (len, keeps) in [(1000, true), (MIN_TRIM + 1, false), (1000, true)] {
            pool.begin_shared();
            let piece = Piece::Shared { all: &vec![b'x'; len], skip: 0 };
            let id = pool.queue(None, piece, Tick::default()).expect("memory");
            pool.release(id);
            assert_eq!(pool.log.bytes.capacity() > 0, keeps, "{len} bytes");
        }
    }
}
