//! A chunked body, joined in place.
//!
//! ```text
//!  head  5 CR LF hello CR LF  3 CR LF you CR LF  0 CR LF CR LF      as it came
//!  head  helloyou ...........................................      as it is served
//!                └ joined                                    └ at
//! ```
//!
//! Each byte of a chunk is moved once, to the end of those before it. What lies between
//! `joined` and `at` is spent, and leaves with the message.

use super::super::FrameError;
use super::Refusal;
use super::head::{HEAD_MAX, Scan};

/// The longest line before a chunk, in bytes: its size and what is said of it.
pub(super) const LINE_MAX: usize = 1 << 10;
/// Digits of a size: zeros in front are no way to send for ever.
const DIGITS_MAX: u8 = 16;

/// How far a chunked body has come. Places are bytes from the beginning of the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    /// Where the joined body ends.
    pub(super) joined: usize,
    /// The next byte to look at.
    pub(super) at: usize,
    /// Of the chunk: its size while that is read, then what is still to come.
    left: u64,
    /// Where the line of the chunk began.
    line: usize,
    phase: Phase,
    trailer: Scan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The size, in hexadecimal digits: so many so far.
    Size(u8),
    /// What is said of a chunk behind its size, and nobody wants to know.
    Extension,
    SizeEnd,
    Data,
    DataStop,
    DataEnd,
    Trailer,
}

impl Chunks {
    /// Of the body that begins `at` there.
    pub(super) fn new(at: usize) -> Self {
        let (left, phase) = (0, Phase::Size(0));
        Self { joined: at, at, left, line: at, phase, trailer: Scan::of_fields(at) }
    }

    /// Bytes that the chunk which has begun will have reached to.
    pub(super) fn need(&self) -> usize {
        if self.phase == Phase::Data { self.at.saturating_add(self.left as usize) } else { 0 }
    }

    /// Joins what is there. True: that was all of the body. Head and body together may
    /// have `max` bytes.
    pub(super) fn run(&mut self, input: &mut [u8], max: usize) -> Result<bool, Refusal> {
        loop {
            if self.phase == Phase::Data {
                let count = self.left.min((input.len() - self.at) as u64) as usize;
                input.copy_within(self.at..self.at + count, self.joined);
                self.at += count;
                self.joined += count;
                self.left -= count as u64;
                if self.left > 0 {
                    return Ok(false);
                }
                self.phase = Phase::DataStop;
            }
            if self.phase == Phase::Trailer {
                return self.end(input);
            }
            let Some(&byte) = input.get(self.at) else { return Ok(false) };
            self.phase = self.step(byte, max)?;
            self.at += 1;
        }
    }

    /// The phase behind `byte`.
    fn step(&mut self, byte: u8, max: usize) -> Result<Phase, Refusal> {
        let at = self.at;
        let wrong = |expected| {
            Err(Refusal { status: 400, error: FrameError::BadByte { at, byte, expected } })
        };
        if matches!(self.phase, Phase::Size(_) | Phase::Extension) && at - self.line == LINE_MAX {
            return wrong("CR LF behind the size of a chunk");
        }
        match (self.phase, byte) {
            (Phase::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == DIGITS_MAX {
                    return wrong("at most 16 digits");
                }
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                self.left = self.left << 4 | digit;
                Ok(Phase::Size(digits + 1))
            }
            (Phase::Size(1..), b'\r') | (Phase::Extension, b'\r') => Ok(Phase::SizeEnd),
            (Phase::Size(1..), b';') => Ok(Phase::Extension),
            (Phase::Size(_), _) => wrong("the size of a chunk in hexadecimal digits"),
            (Phase::Extension, b'\t' | b' '..=b'~' | 0x80..) => Ok(Phase::Extension),
            (Phase::SizeEnd, b'\n') => self.begin(max),
            (Phase::DataStop, b'\r') => Ok(Phase::DataEnd),
            (Phase::DataEnd, b'\n') => {
                self.line = at + 1;
                self.left = 0;
                Ok(Phase::Size(0))
            }
            (Phase::Extension | Phase::SizeEnd, _) => wrong("CR LF behind the size of a chunk"),
            (Phase::DataStop | Phase::DataEnd | Phase::Data | Phase::Trailer, _) => {
                wrong("CR LF behind a chunk")
            }
        }
    }

    /// A size is complete: may there be so much?
    fn begin(&mut self, max: usize) -> Result<Phase, Refusal> {
        let too_long = |announced| {
            let error = FrameError::TooLong { announced: Some(announced), max };
            Err(Refusal { status: 413, error })
        };
        let total = self.left.saturating_add(self.joined as u64);
        if total > max as u64 {
            return too_long(total);
        }
        // Many small chunks take more room on the way than they have to say.
        if self.at + 1 - self.joined > overhead(max) {
            return too_long(self.at as u64 + 1);
        }
        if self.left > 0 {
            return Ok(Phase::Data);
        }
        self.trailer = Scan::of_fields(self.at + 1);
        self.line = self.at + 1;
        Ok(Phase::Trailer)
    }

    /// Fields behind the last chunk: read, and forgotten.
    fn end(&mut self, input: &[u8]) -> Result<bool, Refusal> {
        let max = self.line + HEAD_MAX;
        match self.trailer.run(&input[..input.len().min(max)])? {
            Some(end) => {
                self.at = end;
                Ok(true)
            }
            None if input.len() < max => Ok(false),
            None => {
                let error = FrameError::TooLong { announced: None, max: HEAD_MAX };
                Err(Refusal { status: 431, error })
            }
        }
    }
}

/// The most bytes that chunks may take on the way beside their data: as many as the
/// largest message, so that small chunks pass.
fn overhead(max: usize) -> usize {
    max + HEAD_MAX
}

/// The most bytes that a message of `max` takes on the way in chunks.
pub(super) fn max_input(max: usize) -> usize {
    max + overhead(max) + LINE_MAX + HEAD_MAX
}
