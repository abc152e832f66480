//! Messages that end in a delimiter, and perhaps begin with a start byte.
//!
//! ```text
//!  delim:BYTES   |   payload   | delimiter |
//!  nul           |   payload   |    00     |
//!  stx-etx       | 02 |   payload   |  03   |     bytes before a 02 are skipped
//!  mllp          | 0b |   payload   | 1c 0d |     bytes before a 0b are skipped
//! ```
//!
//! Nothing is escaped: a payload cannot contain its delimiter. Lines are a framing
//! of their own, [`super::lines`], because an LF may or may not have a CR before it.

use memchr::memchr;

use super::{
    ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, Phase, Scan, check_len, spec,
};

/// A message is what stands before a delimiter of one or more bytes.
///
/// An oversize message is reported once and skipped up to its delimiter, no byte of
/// it is delivered, and the next message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimited {
    start: Option<u8>,
    end: Vec<u8>,
    max: usize,
}

impl Delimited {
    /// Ended by `delimiter`, 1 to 16 bytes. SPEC word `delim:BYTES`.
    pub fn by(delimiter: impl Into<Vec<u8>>) -> Self {
        Self { start: None, end: delimiter.into(), max: spec::DEFAULT_MAX }
    }

    /// Ended by a zero byte, as in GELF. SPEC word `nul`.
    pub fn nul() -> Self {
        Self::by(b"\0")
    }

    /// From STX to ETX. SPEC word `stx-etx`.
    pub fn stx_etx() -> Self {
        Self { start: Some(0x02), ..Self::by(b"\x03") }
    }

    /// From VT to FS CR: HL7's Minimal Lower Layer Protocol. SPEC word `mllp`.
    pub fn mllp() -> Self {
        Self { start: Some(0x0b), ..Self::by(b"\x1c\r") }
    }

    /// The longest payload, in bytes. Default: 1 MiB. At the limit,
    /// [`FrameError::TooLong`], and the message is skipped. Where messages have a
    /// start byte, more than this many bytes before one end the connection.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    fn start_len(&self) -> usize {
        usize::from(self.start.is_some())
    }

    /// The first `end` in `bytes`: found by its last byte, checked backwards.
    fn find_end(&self, bytes: &[u8]) -> Option<usize> {
        let last = *self.end.last()?;
        let mut from = self.end.len() - 1;
        while let Some(at) = bytes.get(from..).and_then(|rest| memchr(last, rest)) {
            let end = from + at + 1;
            if bytes[..end].ends_with(&self.end) {
                return Some(end - self.end.len());
            }
            from = end;
        }
        None
    }

    /// Skips what stands before a start byte.
    fn skip_to_start(
        &self,
        state: &mut Scan,
        start: u8,
        input: &[u8],
    ) -> Result<Decoded, FrameError> {
        let consumed = memchr(start, input).unwrap_or(input.len());
        let between = state.count_of(Phase::Between) + consumed;
        if between > self.max {
            return Err(FrameError::Between { max: self.max, start });
        }
        *state = Scan::new(Phase::Between, between);
        Ok(match consumed {
            0 => Decoded::Incomplete { need: 0 },
            consumed => Decoded::Skip { consumed, error: None },
        })
    }

    /// Skips what cannot be a part of the delimiter.
    fn skip_most(&self, input: &[u8], error: Option<FrameError>) -> Decoded {
        match input.len().saturating_sub(self.end.len() - 1) {
            0 => Decoded::Incomplete { need: 0 },
            consumed => Decoded::Skip { consumed, error },
        }
    }
}

impl Framing for Delimited {
    type State = Scan;

    fn decode(&self, state: &mut Scan, input: &mut [u8], end: bool) -> Result<Decoded, FrameError> {
        if state.is_skipping() {
            if let Some(at) = self.find_end(input) {
                *state = Scan::default();
                return Ok(Decoded::Skip { consumed: at + self.end.len(), error: None });
            }
            return Ok(match input.len() {
                // Its loss has been reported; that its end is missing is no second one.
                consumed @ 1.. if end => Decoded::Skip { consumed, error: None },
                _ => self.skip_most(input, None),
            });
        }
        if let Some(start) = self.start
            && input.first() != Some(&start)
        {
            return self.skip_to_start(state, start, input);
        }
        let start = self.start_len();
        let window = start + self.max + self.end.len();
        let seen = &input[..input.len().min(window)];
        let from = state.count_of(Phase::Searching).max(start).min(seen.len());
        if let Some(at) = self.find_end(&seen[from..]) {
            let end = from + at;
            *state = Scan::default();
            return Ok(Decoded::Message { message: start..end, consumed: end + self.end.len() });
        }
        if seen.len() == window {
            *state = Scan::new(Phase::Skipping, 0);
            let too_long = FrameError::TooLong { announced: None, max: self.max };
            return Ok(self.skip_most(seen, Some(too_long)));
        }
        // A delimiter may have begun in the last bytes.
        let searched = (seen.len() + 1).saturating_sub(self.end.len());
        *state = Scan::new(Phase::Searching, searched);
        Ok(Decoded::Incomplete { need: 0 })
    }

    fn is_skipping(&self, state: &Scan) -> bool {
        state.is_skipping()
    }
}

impl Encode for Delimited {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.max)?;
        let before = out.len();
        out.extend(self.start);
        let payload = out.len();
        out.extend_from_slice(message);
        out.extend_from_slice(&self.end);
        // Searched with all but the last byte of its delimiter behind it: the two
        // together may hold one that ends early.
        match self.find_end(&out[payload..out.len().saturating_sub(1).max(payload)]) {
            Some(at) => {
                out.truncate(before);
                Err(EncodeError::Delimiter { at })
            }
            None => Ok(()),
        }
    }

    fn max_frame(&self) -> usize {
        self.start_len() + self.max + self.end.len()
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_DELIMITER).contains(&self.end.len()) {
            return Err(ConfigError::Delimiter { len: self.end.len(), max: MAX_DELIMITER });
        }
        spec::check_max(self.max, u64::MAX)
    }
}

/// The longest delimiter, in bytes.
const MAX_DELIMITER: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn too_long() -> Result<&'static [u8], FrameError> {
        Err(FrameError::TooLong { announced: None, max: 4 })
    }

    #[test]
    fn a_stream_gives_these_messages_however_it_is_cut() {
        type Items = Vec<Result<&'static [u8], FrameError>>;
        type Case = (&'static str, Delimited, &'static [u8], Items, Option<FrameError>);
        let truncated = |received| Some(FrameError::Truncated { received });
        let outside = |start| Some(FrameError::Between { max: 4, start });
        let (ab, aab) = (|| Delimited::by("ab"), || Delimited::by("aab"));

        #[rustfmt::skip]
        let cases: Vec<Case> = vec![
            // what is being shown            framing               bytes                           items                        end
            ("nothing",                       Delimited::nul(),     b"",                            vec![],                      None),
            ("two messages",                  Delimited::nul(),     b"x\0yz\0",                     vec![Ok(b"x"), Ok(b"yz")],   None),
            ("empty ones are messages",       Delimited::nul(),     b"\0\0",                        vec![Ok(b""), Ok(b"")],      None),
            ("end inside",                    Delimited::nul(),     b"x\0yz",                       vec![Ok(b"x")],              truncated(2)),
            ("the longest",                   Delimited::nul(),     b"wxyz\0",                      vec![Ok(b"wxyz")],           None),
            ("one more",                      Delimited::nul(),     b"vwxyz\0n\0",                  vec![too_long(), Ok(b"n")],  None),
            ("far more, once",                Delimited::nul(),     b"0123456789abcdef\0n\0",       vec![too_long(), Ok(b"n")],  None),
            ("end inside a skipped one",      Delimited::nul(),     b"0123456789",                  vec![too_long()],            None),
            ("two bytes",                     ab(),                 b"xabyab",                      vec![Ok(b"x"), Ok(b"y")],    None),
            ("half of it is data",            ab(),                 b"aabb ab",                     vec![Ok(b"a"), Ok(b"b ")],   None),
            ("half of it at the end",         ab(),                 b"xa",                          vec![],                      truncated(2)),
            ("the longest, two bytes",        ab(),                 b"wxyaab",                      vec![Ok(b"wxya")],           None),
            ("one more, two bytes",           ab(),                 b"vwxyaabnab",                  vec![too_long(), Ok(b"n")],  None),
            ("three bytes that overlap",      aab(),                b"aaabaaaab",                   vec![Ok(b"a"), Ok(b"aa")],   None),
            ("skipping ends at the first",    aab(),                b"vwxyzaaabnaab",               vec![too_long(), Ok(b"n")],  None),
            ("from STX to ETX",               Delimited::stx_etx(), b"\x02hi\x03\x02\x03",          vec![Ok(b"hi"), Ok(b"")],    None),
            ("noise between",                 Delimited::stx_etx(), b"??\x02hi\x03\r\n\x02yo\x03",  vec![Ok(b"hi"), Ok(b"yo")],  None),
            ("noise up to the limit",         Delimited::stx_etx(), b"????\x02hi\x03",              vec![Ok(b"hi")],             None),
            ("too much noise",                Delimited::stx_etx(), b"\x02hi\x03?????\x02no\x03",   vec![Ok(b"hi")],             outside(2)),
            ("noise at the end is nobody's",  Delimited::stx_etx(), b"\x02hi\x03\r\n",              vec![Ok(b"hi")],             None),
            ("a start byte inside is data",   Delimited::stx_etx(), b"\x02\x02\x02\x03",            vec![Ok(b"\x02\x02")],       None),
            ("the longest, enclosed",         Delimited::stx_etx(), b"\x02wxyz\x03",                vec![Ok(b"wxyz")],           None),
            ("one more, enclosed",            Delimited::stx_etx(), b"\x02vwxyz\x03\x02n\x03",      vec![too_long(), Ok(b"n")],  None),
            ("from VT to FS CR",              Delimited::mllp(),    b"\x0bM\rS\x1c\r\x0b\x1cx\x1c\r", vec![Ok(b"M\rS"), Ok(b"\x1cx")], None),
            ("end inside, enclosed",          Delimited::mllp(),    b"\x0bM\x1c",                   vec![],                      truncated(3)),
        ];
        for (name, framing, bytes, items, end) in cases {
            let framing = framing.max(4);
            assert_eq!(framing.check(), Ok(()), "{name}");
            let outcome = check::splits(&framing, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            let items: Vec<_> = items.into_iter().map(|item| item.map(<[u8]>::to_vec)).collect();
            assert_eq!(outcome.items, items, "{name}");
            assert_eq!(outcome.error, end, "{name}");
        }
    }

    #[test]
    fn a_message_that_would_end_early_is_refused_and_writes_nothing() {
        let delimiter = |at| Err(EncodeError::Delimiter { at });
        #[rustfmt::skip]
        let cases = [
            (Delimited::nul(),     &b"a\0b"[..],  delimiter(1)),
            (Delimited::by("ab"),  b"ba",         Ok(())),
            (Delimited::by("ab"),  b"cab",        delimiter(1)),
            // "a" and "aa" make "aaa", which ends after nothing.
            (Delimited::by("aa"),  b"a",          delimiter(0)),
            (Delimited::by("aa"),  b"ab",         Ok(())),
            (Delimited::mllp(),    b"\x1c",       Ok(())),
            (Delimited::mllp(),    b"x\x1c\ry",   delimiter(1)),
            (Delimited::stx_etx(), b"\x02",       Ok(())),
            (Delimited::nul(),     b"12345",      Err(EncodeError::TooLong { len: 5, max: 4 })),
        ];
        for (framing, message, expected) in cases {
            let framing = framing.max(4);
            let mut out = b"before".to_vec();
            assert_eq!(framing.encode(message, &mut out), expected, "{framing:?} {message:?}");
            let wire = &out[6..];
            assert_eq!(wire.is_empty(), expected.is_err(), "{framing:?}");
            if expected.is_ok() {
                assert!(wire.len() <= framing.max_frame());
                let outcome = check::splits(&framing, wire).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(outcome.messages(), [message]);
            }
        }
    }

    #[test]
    fn a_delimiter_has_one_to_sixteen_bytes() {
        for (len, fits) in [(0, false), (1, true), (16, true), (17, false)] {
            assert_eq!(Delimited::by(vec![b'x'; len]).check().is_ok(), fits, "{len}");
        }
    }
}
