//! Lengths of seven bits a byte, low bits first.
//!
//! ```text
//!  varint    | 1xxxxxxx | 0yyyyyyy |   payload   |    length yyyyyyyxxxxxxx, 1 to 10 bytes
//!  base128   | 0xxxxxxx | 0yyyyyyy |   payload   |    the same, always 2 bytes
//! ```

use super::{
    ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, Guess, check_len, spec,
};

/// A payload behind its length in base 128.
///
/// Only the shortest form of a length is taken: two ways to write the same would be
/// a way to say different things to different readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Varint {
    form: Form,
    max: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The high bit of a byte says that another follows.
    Continued,
    /// Two bytes, low digit first, no high bits.
    TwoDigits,
}

/// The most bytes of a 64-bit length: nine of 7 bits, and one bit.
const MAX_BYTES: usize = 10;

impl Varint {
    /// As protocol buffers write lengths. SPEC word `varint`.
    pub fn protobuf() -> Self {
        Self { form: Form::Continued, max: None }
    }

    /// Two digits to the base of 128: payloads up to 16,383 bytes. SPEC word
    /// `base128`.
    pub fn base128() -> Self {
        Self { form: Form::TwoDigits, max: None }
    }

    /// The largest payload, in bytes. Default: 1 MiB, of `base128` 16,383. At the
    /// limit, [`FrameError::TooLong`], and the connection ends.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = Some(bytes);
        self
    }

    fn limit(&self) -> usize {
        self.max.unwrap_or(match self.form {
            Form::Continued => spec::DEFAULT_MAX,
            Form::TwoDigits => self.holds() as usize,
        })
    }

    /// The largest length that can be written.
    fn holds(&self) -> u64 {
        match self.form {
            Form::Continued => u64::MAX,
            Form::TwoDigits => (1 << 14) - 1,
        }
    }

    /// The length at the front of `input`, and how many bytes it takes; `None` if it
    /// is not all there.
    #[inline]
    fn read(&self, input: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
        match self.form {
            Form::Continued => {
                let mut value = 0;
                for (at, &byte) in input.iter().enumerate().take(MAX_BYTES) {
                    if at == MAX_BYTES - 1 && byte > 1 {
                        let expected = "00 or 01, the last bit of a 64-bit length";
                        return Err(FrameError::BadByte { at, byte, expected });
                    }
                    value |= u64::from(byte & 0x7f) << (7 * at);
                    if byte < 0x80 {
                        if byte == 0 && at > 0 {
                            let expected =
                                "the shortest form of a length, which does not end in 00";
                            return Err(FrameError::BadByte { at, byte, expected });
                        }
                        return Ok(Some((value, at + 1)));
                    }
                }
                Ok(None)
            }
            Form::TwoDigits => {
                for (at, &byte) in input.iter().enumerate().take(2) {
                    if byte >= 0x80 {
                        let expected = "a digit below 80; with the high bit it looks like a varint";
                        return Err(FrameError::BadByte { at, byte, expected });
                    }
                }
                Ok(match *input {
                    [low, high, ..] => Some((u64::from(low) | u64::from(high) << 7, 2)),
                    _ => None,
                })
            }
        }
    }
}

impl Framing for Varint {
    type State = ();

    #[inline]
    fn decode(&self, (): &mut (), input: &mut [u8], _end: bool) -> Result<Decoded, FrameError> {
        let Some((announced, header)) = self.read(input)? else {
            return Ok(Decoded::Incomplete { need: 0 });
        };
        let max = self.limit();
        let len = match usize::try_from(announced) {
            Ok(len) if len <= max => len,
            _ => return Err(FrameError::TooLong { announced: Some(announced), max }),
        };
        let consumed = header + len;
        Ok(match input.len() < consumed {
            true => Decoded::Incomplete { need: consumed },
            false => Decoded::Message { message: header..consumed, consumed },
        })
    }

    fn guess(&self, input: &[u8]) -> Option<Guess> {
        Guess::protocol(input).or(match *input {
            [low @ 0x80..=0xff, high @ ..0x80, ..] if self.form == Form::TwoDigits => {
                let len = u64::from(low & 0x7f) | u64::from(high) << 7;
                Some(Guess::ContinuedLength { len })
            }
            _ => None,
        })
    }
}

impl Encode for Varint {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.limit())?;
        let mut rest = message.len();
        match self.form {
            Form::Continued => {
                while rest >= 0x80 {
                    out.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }
            Form::TwoDigits => out.extend([(rest & 0x7f) as u8, (rest >> 7) as u8]),
        }
        out.extend_from_slice(message);
        Ok(())
    }

    fn max_frame(&self) -> usize {
        MAX_BYTES + self.limit()
    }

    fn check(&self) -> Result<(), ConfigError> {
        spec::check_max(self.max.unwrap_or(0), self.holds())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_stream_gives_these_messages_however_it_is_cut() {
        type Case = (&'static str, Varint, &'static [u8], Vec<&'static [u8]>, Option<&'static str>);
        let (v, b) = (|| Varint::protobuf().max(200), || Varint::base128().max(200));
        let x129: &[u8] = &[b'x'; 129];
        let v129: &[u8] = [b"\x81\x01".as_slice(), x129].concat().leak();
        let b129: &[u8] = [b"\x01\x01".as_slice(), x129].concat().leak();
        let too_long = "message of 201 bytes exceeds the limit of 200";

        #[rustfmt::skip]
        let cases: Vec<Case> = vec![
            // what is being shown       framing  bytes                         messages              the end, in part
            ("one byte of length",       v(),     b"\x02hi\0",                  vec![b"hi", b""],     None),
            ("two bytes of length",      v(),     v129,                         vec![x129],           None),
            ("half a length",            v(),     b"\x81",                      vec![],               Some("1 bytes into")),
            ("too long",                 v(),     b"\xc9\x01",                  vec![],               Some(too_long)),
            ("all ones",                 v(),     b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", vec![], Some("18446744073709551615 bytes")),
            ("above 64 bits",            v(),     b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", vec![], Some("byte 9 is 0x02")),
            ("eleven bytes",             v(),     &[0x80; 11],                  vec![],               Some("byte 9 is 0x80")),
            ("overlong zero",            v(),     b"\x80\0",                    vec![],               Some("shortest form")),
            ("overlong one",             v(),     b"\x01a\x81\x80\0a",          vec![b"a"],           Some("byte 2 is 0x00")),
            ("two digits",               b(),     b"\x02\0hi\0\0",              vec![b"hi", b""],     None),
            ("the high digit",           b(),     b129,                         vec![x129],           None),
            ("half of two digits",       b(),     b"\x02",                      vec![],               Some("1 bytes into")),
            ("a high bit in the first",  b(),     b"\x82",                      vec![],               Some("byte 0 is 0x82")),
            ("a high bit in the second", b(),     b"\0\0\x02\x82",              vec![b""],            Some("byte 1 is 0x82")),
            ("too long, two digits",     b(),     b"\x49\x01",                  vec![],               Some(too_long)),
        ];
        for (name, framing, bytes, messages, end) in cases {
            let outcome = check::splits(&framing, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(outcome.messages(), messages, "{name}");
            let error = outcome.error.map(|error| error.to_string());
            let told = error.as_deref().unwrap_or("");
            assert!(
                error.is_some() == end.is_some() && told.contains(end.unwrap_or("")),
                "{name}: {told}"
            );
        }
    }

    #[test]
    fn every_length_comes_back_and_one_more_than_the_limit_is_refused() {
        for (framing, limit) in [(Varint::protobuf(), 1 << 20), (Varint::base128(), 16_383)] {
            assert_eq!(framing.check(), Ok(()));
            for len in
                [0, 1, 127, 128, 16_383, 16_384, limit].into_iter().filter(|&len| len <= limit)
            {
                let mut wire = Vec::new();
                assert_eq!(framing.encode(&vec![b'x'; len], &mut wire), Ok(()));
                assert!(wire.len() <= framing.max_frame());
                let decoded = framing.decode(&mut (), &mut wire, false);
                let header = wire.len() - len;
                assert_eq!(
                    decoded,
                    Ok(Decoded::Message { message: header..wire.len(), consumed: wire.len() })
                );
            }
            let refused = framing.encode(&vec![0; limit + 1], &mut Vec::new());
            assert_eq!(refused, Err(EncodeError::TooLong { len: limit + 1, max: limit }));
        }
        assert!(Varint::base128().max(16_384).check().is_err());
    }
}
