//! Bytes that came and are no message yet.

use std::io;

/// What a receiving half has read.
///
/// ```text
/// |   used   |   waiting   |   free   |
/// 0        start          end     bytes.len()
/// ```
///
/// Invariant: `start <= end <= bytes.len()`.
///
/// Bytes are moved to the front once per read, not once per message: a read full of
/// small replies costs one move in all.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Read at a time, in bytes. A buffer that has grown beyond four times this for one
/// large message is given back behind it.
const CHUNK: usize = 64 << 10;

impl Input {
    pub(super) fn waiting(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Whether as much waits as one read brings.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start >= CHUNK
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "{} > {}", self.start, self.end);
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Adds what `read` brings.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == 0 && self.bytes.len() > 4 * CHUNK {
            self.bytes = Vec::new();
        }
        if self.bytes.len() < self.end + CHUNK {
            self.bytes.resize(self.end + CHUNK, 0);
        }
        let count = read(&mut self.bytes[self.end..])?;
        self.end += count;
        debug_assert!(self.end <= self.bytes.len(), "{} > {}", self.end, self.bytes.len());
        Ok(count)
    }
}
