//! Messages in which the delimiter is stuffed away, so that they may hold any byte.
//!
//! ```text
//!  slip   | payload, C0 as DB DC, DB as DB DD | C0 |        RFC 1055
//!  cobs   | 03 'a' 'b' 02 'c'                 | 00 |        "ab" 00 "c"
//!           │          └ 1 byte, then the end
//!           └ 2 bytes, then a zero
//! ```
//!
//! Both find back by themselves: what is damaged is reported once, and the message
//! behind the next delimiter is served.

use memchr::{memchr, memchr2};

use super::{
    ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, Phase, Scan, check_len, spec,
};

/// A message is what stands before a delimiter, unstuffed. Between two delimiters in a
/// row there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuffed {
    code: Code,
    max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Slip,
    Cobs,
}

const END: u8 = 0xc0;
const ESC: u8 = 0xdb;
const ESC_END: u8 = 0xdc;
const ESC_ESC: u8 = 0xdd;
/// The longest block of COBS, its code included; no zero follows it.
const FULL: usize = 255;

impl Stuffed {
    /// The serial line protocol of RFC 1055. SPEC word `slip`.
    pub fn slip() -> Self {
        Self { code: Code::Slip, max: spec::DEFAULT_MAX }
    }

    /// Consistent Overhead Byte Stuffing (Cheshire and Baker, 1997). SPEC word `cobs`.
    pub fn cobs() -> Self {
        Self { code: Code::Cobs, max: spec::DEFAULT_MAX }
    }

    /// The longest payload, in bytes, without stuffing. Default: 1 MiB. A longer one is
    /// [`FrameError::TooLong`], and is skipped.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    fn delimiter(&self) -> u8 {
        match self.code {
            Code::Slip => END,
            Code::Cobs => 0,
        }
    }

    /// The most bytes that the longest payload is stuffed to, without its delimiter.
    fn longest(&self) -> usize {
        match self.code {
            Code::Slip => 2 * self.max,
            // A code for each block, and one that may stand behind the last full one.
            Code::Cobs => self.max + self.max / (FULL - 1) + 1,
        }
    }

    /// Unstuffs in place; the bytes it becomes come first.
    fn unstuff(&self, stuffed: &mut [u8]) -> Result<usize, FrameError> {
        let len = match self.code {
            Code::Slip => unescape(stuffed)?,
            Code::Cobs => unblock(stuffed)?,
        };
        match len > self.max {
            true => Err(FrameError::TooLong { announced: None, max: self.max }),
            false => Ok(len),
        }
    }
}

fn unescape(bytes: &mut [u8]) -> Result<usize, FrameError> {
    let Some(first) = memchr(ESC, bytes) else { return Ok(bytes.len()) };
    let (mut to, mut from) = (first, first);
    while from < bytes.len() {
        let byte = match (bytes[from], bytes.get(from + 1)) {
            (ESC, Some(&ESC_END)) => END,
            (ESC, Some(&ESC_ESC)) => ESC,
            (ESC, _) => {
                return Err(FrameError::Invalid { what: "0xdb without 0xdc or 0xdd behind it" });
            }
            (byte, _) => {
                bytes[to] = byte;
                (to, from) = (to + 1, from + 1);
                continue;
            }
        };
        bytes[to] = byte;
        (to, from) = (to + 1, from + 2);
    }
    Ok(to)
}

fn unblock(bytes: &mut [u8]) -> Result<usize, FrameError> {
    let (mut to, mut from) = (0, 0);
    while from < bytes.len() {
        let code = usize::from(bytes[from]);
        let next = from + code;
        if next > bytes.len() {
            return Err(FrameError::Invalid { what: "a COBS block that goes on behind the zero" });
        }
        bytes.copy_within(from + 1..next, to);
        to += code - 1;
        from = next;
        if code < FULL && from < bytes.len() {
            bytes[to] = 0;
            to += 1;
        }
    }
    Ok(to)
}

fn block(message: &[u8], out: &mut Vec<u8>) {
    let mut rest = message;
    loop {
        let run = &rest[..rest.len().min(FULL - 1)];
        let zero = memchr(0, run);
        let data = zero.map_or(run, |zero| &run[..zero]);
        // At most FULL, which is what a byte holds.
        out.push((data.len() + 1) as u8);
        out.extend_from_slice(data);
        rest = &rest[data.len() + usize::from(zero.is_some())..];
        // Behind a zero something has to follow, if it is only the end of the message;
        // behind a full block nothing has to.
        if zero.is_none() && rest.is_empty() {
            return;
        }
    }
}

impl Framing for Stuffed {
    type State = Scan;

    fn decode(
        &self,
        state: &mut Scan,
        input: &mut [u8],
        _end: bool,
    ) -> Result<Decoded, FrameError> {
        if state.is_skipping() {
            return Ok(match memchr(self.delimiter(), input) {
                Some(at) => {
                    *state = Scan::default();
                    Decoded::Skip { consumed: at + 1, error: None }
                }
                None if input.is_empty() => Decoded::Incomplete { need: 0 },
                // Its loss has been reported; that its end is missing is no second one.
                None => Decoded::Skip { consumed: input.len(), error: None },
            });
        }
        let window = self.longest() + 1;
        let seen = input.len().min(window);
        let from = state.count_of(Phase::Searching).min(seen);
        let Some(at) = memchr(self.delimiter(), &input[from..seen]) else {
            if seen == window {
                *state = Scan::new(Phase::Skipping, 0);
                let error = FrameError::TooLong { announced: None, max: self.max };
                return Ok(Decoded::Skip { consumed: seen, error: Some(error) });
            }
            *state = Scan::new(Phase::Searching, seen);
            return Ok(Decoded::Incomplete { need: 0 });
        };
        let stuffed = from + at;
        *state = Scan::default();
        let consumed = stuffed + 1;
        if stuffed == 0 {
            return Ok(Decoded::Skip { consumed, error: None });
        }
        Ok(match self.unstuff(&mut input[..stuffed]) {
            Ok(len) => Decoded::Message { message: 0..len, consumed },
            Err(error) => Decoded::Skip { consumed, error: Some(error) },
        })
    }

    fn is_skipping(&self, state: &Scan) -> bool {
        state.is_skipping()
    }
}

impl Encode for Stuffed {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.max)?;
        match self.code {
            Code::Slip if message.is_empty() => {
                // Nothing between two delimiters is no message.
                return Err(EncodeError::TooShort { len: 0, min: 1 });
            }
            Code::Slip => {
                let mut rest = message;
                while let Some(at) = memchr2(END, ESC, rest) {
                    out.extend_from_slice(&rest[..at]);
                    out.extend([ESC, if rest[at] == END { ESC_END } else { ESC_ESC }]);
                    rest = &rest[at + 1..];
                }
                out.extend_from_slice(rest);
            }
            Code::Cobs => block(message, out),
        }
        out.push(self.delimiter());
        Ok(())
    }

    fn max_frame(&self) -> usize {
        self.longest() + 1
    }

    fn check(&self) -> Result<(), ConfigError> {
        spec::check_max(self.max, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn broken(what: &'static str) -> Result<&'static [u8], FrameError> {
        Err(FrameError::Invalid { what })
    }

    #[test]
    fn a_stream_gives_these_messages_however_it_is_cut() {
        let slip = || Stuffed::slip().max(4);
        let cobs = || Stuffed::cobs().max(4);
        let too_long = || Err(FrameError::TooLong { announced: None, max: 4 });
        let escape = || broken("0xdb without 0xdc or 0xdd behind it");
        let block = || broken("a COBS block that goes on behind the zero");
        type Case = (
            &'static str,
            Stuffed,
            &'static [u8],
            Vec<Result<&'static [u8], FrameError>>,
            Option<FrameError>,
        );
        #[rustfmt::skip]
        let cases: Vec<Case> = vec![
            ("nothing",                     slip(), b"",                            vec![], None),
            ("two messages",                slip(), b"ab\xc0cd\xc0",                vec![Ok(b"ab"), Ok(b"cd")], None),
            ("empty frames are none",       slip(), b"\xc0\xc0ab\xc0\xc0",          vec![Ok(b"ab")], None),
            ("both escapes",                slip(), b"\xdb\xdca\xdb\xdd\xc0",       vec![Ok(b"\xc0a\xdb")], None),
            ("the longest, all escaped",    slip(), b"\xdb\xdc\xdb\xdc\xdb\xdc\xdb\xdc\xc0", vec![Ok(b"\xc0\xc0\xc0\xc0")], None),
            ("an escape of nothing",        slip(), b"a\xdb\xc0ok\xc0",             vec![escape(), Ok(b"ok")], None),
            ("an escape of another byte",   slip(), b"a\xdbb\xc0ok\xc0",            vec![escape(), Ok(b"ok")], None),
            ("one too long",                slip(), b"abcde\xc0ok\xc0",             vec![too_long(), Ok(b"ok")], None),
            ("one much too long",           slip(), b"abcdefghijkl\xc0ok\xc0",      vec![too_long(), Ok(b"ok")], None),
            ("cut off",                     slip(), b"ok\xc0ab",                    vec![Ok(b"ok")], Some(FrameError::Truncated { received: 2 })),
            ("cut off, too long",           slip(), b"abcdefghijkl",                vec![too_long()], None),
            ("two messages",                cobs(), b"\x03ab\0\x01\x01\0",          vec![Ok(b"ab"), Ok(b"\0")], None),
            ("an empty message",            cobs(), b"\x01\0\0\0",                  vec![Ok(b"")], None),
            ("zeros inside",                cobs(), b"\x02a\x02b\x01\0",            vec![Ok(b"a\0b\0")], None),
            ("the longest",                 cobs(), b"\x05abcd\0",                  vec![Ok(b"abcd")], None),
            ("a block too short",           cobs(), b"\x05ab\0\x02a\0",             vec![block(), Ok(b"a")], None),
            ("one too long",                cobs(), b"\x06abcde\0\x02a\0",          vec![too_long(), Ok(b"a")], None),
            ("one much too long",           cobs(), b"\x09abcdefgh\0\x02a\0",       vec![too_long(), Ok(b"a")], None),
            ("cut off",                     cobs(), b"\x03ab",                      vec![], Some(FrameError::Truncated { received: 3 })),
        ];
        for (name, framing, bytes, items, error) in cases {
            let outcome = check::splits(&framing, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            let found: Vec<_> =
                outcome.items.iter().map(|item| item.as_deref().map_err(Clone::clone)).collect();
            assert_eq!((found, &outcome.error), (items, &error), "{framing:?}, {name}");
        }
    }

    /// Around 254, where a block is full and has no zero behind it.
    #[test]
    fn any_bytes_come_back_and_cobs_writes_no_code_that_says_nothing() {
        for framing in [Stuffed::slip(), Stuffed::cobs()] {
            for len in (1..10).chain(250..260).chain(505..512).chain([762]) {
                for zero_every in [1, 2, 7, 254, 255, 1000] {
                    let byte = |at: usize| match (at + 1) % zero_every {
                        0 => 0,
                        _ => [0xc0, 0xdb, 0xdc, 0xdd, b'a'][at % 5],
                    };
                    let message: Vec<u8> = (0..len).map(byte).collect();
                    let mut wire = Vec::new();
                    assert_eq!(framing.encode(&message, &mut wire), Ok(()));
                    let outcome = check::joined(&framing, &wire).unwrap_or_else(|e| panic!("{e}"));
                    assert_eq!(outcome.messages(), [&message[..]], "{len} bytes, {zero_every}");
                    assert!(wire.len() <= framing.clone().max(len).max_frame(), "{len}");
                }
            }
        }
        let mut wire = Vec::new();
        assert_eq!(Stuffed::cobs().encode(&[7; 254], &mut wire), Ok(()));
        assert_eq!((wire.len(), &wire[254..]), (256, &[7, 0][..]), "no 01 behind a full block");
        // The decoder takes it with one, too.
        wire.insert(255, 1);
        let outcome = check::joined(&Stuffed::cobs(), &wire).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(outcome.messages(), [&[7; 254]]);
    }
}
