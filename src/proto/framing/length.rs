//! A binary length in front of each message, or inside its header.
//!
//! ```text
//!  |  offset  |  length field  |          payload          |
//!  0       offset           header          header + value + adjust
//!      └── strip: bytes dropped from the front of the frame
//! ```

use super::{
    ConfigError, Decoded, Encode, EncodeError, Encoder, FrameError, Framing, Guess, Rest, Visitor,
    check_len, spec,
};

/// Frames with a fixed header that says how long the rest is.
///
/// By default the header is the length field alone, the value counts the payload
/// alone, and the message is the payload. The limit counts the payload: what
/// follows the length field, after adjusting. It is checked as soon as the header
/// is complete, so a huge length costs the peer its connection and us nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LengthField {
    width: usize,
    endian: Endian,
    offset: usize,
    adjust: i64,
    strip: Option<usize>,
    max: Option<usize>,
    /// What follows from the others, so that no message has to find it out: the largest
    /// payload, in bytes.
    limit: usize,
}

/// Which byte of a length comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// The most significant one, as in most network protocols.
    Big,
    /// The least significant one.
    Little,
}

impl LengthField {
    /// A length of one byte: messages up to 255 bytes. SPEC word `u8`.
    pub fn u8() -> Self {
        Self::new(1, Endian::Big)
    }

    /// A length of two bytes: messages up to 65,535 bytes. SPEC words `u16be`, `u16le`.
    pub fn u16(endian: Endian) -> Self {
        Self::new(2, endian)
    }

    /// A length of three bytes. SPEC words `u24be`, `u24le`.
    pub fn u24(endian: Endian) -> Self {
        Self::new(3, endian)
    }

    /// A length of four bytes. SPEC words `u32be`, `u32le`.
    pub fn u32(endian: Endian) -> Self {
        Self::new(4, endian)
    }

    /// A length of eight bytes. SPEC words `u64be`, `u64le`.
    pub fn u64(endian: Endian) -> Self {
        Self::new(8, endian)
    }

    fn new(width: usize, endian: Endian) -> Self {
        Self { width, endian, offset: 0, adjust: 0, strip: None, max: None, limit: 0 }.limited()
    }

    fn limited(self) -> Self {
        let holds = usize::try_from(self.holds().unwrap_or(0)).unwrap_or(usize::MAX);
        Self { limit: self.max.unwrap_or(spec::DEFAULT_MAX).min(holds), ..self }
    }

    /// Bytes of the frame before the length field, at most 255. Default: 0.
    pub fn offset(mut self, bytes: usize) -> Self {
        self.offset = bytes;
        self
    }

    /// What to add to the value of the field to get the bytes that follow it.
    /// Default: 0. Where the value counts the header too, minus the header.
    pub fn adjust(mut self, bytes: i64) -> Self {
        self.adjust = bytes;
        self.limited()
    }

    /// Bytes to drop from the front of a frame to get the message. Default: the
    /// whole header. What is dropped is sent as zeros, but for the length; with 0 the
    /// message is the whole frame, and a reply brings its header with it.
    pub fn strip(mut self, bytes: usize) -> Self {
        self.strip = Some(bytes);
        self
    }

    /// The largest payload, in bytes. Default: 1 MiB, or what the field can hold
    /// if that is less. A larger one is [`FrameError::TooLong`] and ends the
    /// connection.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = Some(bytes);
        self.limited()
    }

    fn header(&self) -> usize {
        self.offset + self.width
    }

    fn stripped(&self) -> usize {
        self.strip.unwrap_or(self.header())
    }

    /// The largest payload that the field can express, in bytes; `None` if not
    /// even an empty one.
    fn holds(&self) -> Option<u64> {
        let value = u64::MAX >> (64 - 8 * self.width);
        match self.adjust {
            ..0 => value.checked_add_signed(self.adjust),
            0.. => Some(value.saturating_add_signed(self.adjust)),
        }
    }

    /// The length of the frame at the front of `input`, in bytes, once it is known.
    #[inline]
    fn frame_len(&self, input: &[u8]) -> Result<Option<usize>, FrameError> {
        let header = self.header();
        let Some(field) = input.get(self.offset..header) else { return Ok(None) };
        let (value, max) = (self.read(field), self.limit);
        let Some(payload) = value.checked_add_signed(self.adjust) else {
            // Above 2^64 or below zero: the first is too long for any limit.
            return Err(if self.adjust < 0 {
                FrameError::BadLength { value, adjust: self.adjust }
            } else {
                FrameError::TooLong { announced: Some(u64::MAX), max }
            });
        };
        match usize::try_from(payload) {
            Ok(len) if len <= max => Ok(Some(header + len)),
            _ => Err(FrameError::TooLong { announced: Some(payload), max }),
        }
    }

    #[inline]
    fn read(&self, field: &[u8]) -> u64 {
        // Most widths are one load; 3 bytes take the loop.
        match (self.endian, field) {
            (_, &[a]) => a.into(),
            (Endian::Big, &[a, b]) => u16::from_be_bytes([a, b]).into(),
            (Endian::Little, &[a, b]) => u16::from_le_bytes([a, b]).into(),
            (Endian::Big, &[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]).into(),
            (Endian::Little, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]).into(),
            (Endian::Big, &[a, b, c, d, e, f, g, h]) => {
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }
            (Endian::Little, &[a, b, c, d, e, f, g, h]) => {
                u64::from_le_bytes([a, b, c, d, e, f, g, h])
            }
            (Endian::Big, bytes) => bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b)),
            (Endian::Little, bytes) => bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)),
        }
    }

    /// Appends the length field.
    #[inline]
    fn write(&self, value: u64, out: &mut Vec<u8>) {
        let (big, little) = (value.to_be_bytes(), value.to_le_bytes());
        // A copy of known length is one store.
        match (self.endian, self.width) {
            (Endian::Big, 2) => out.extend_from_slice(&big[6..]),
            (Endian::Big, 4) => out.extend_from_slice(&big[4..]),
            (Endian::Little, 2) => out.extend_from_slice(&little[..2]),
            (Endian::Little, 4) => out.extend_from_slice(&little[..4]),
            (Endian::Big, width) => out.extend_from_slice(&big[8 - width..]),
            (Endian::Little, width) => out.extend_from_slice(&little[..width]),
        }
    }
}

impl Framing for LengthField {
    type State = ();

    #[inline]
    fn decode(&self, (): &mut (), input: &mut [u8], _end: bool) -> Result<Decoded, FrameError> {
        Ok(match self.frame_len(input)? {
            Some(len) if len <= input.len() => {
                Decoded::Message { message: self.stripped()..len, consumed: len }
            }
            len => Decoded::Incomplete { need: len.unwrap_or(self.header()) },
        })
    }

    /// The same in one short loop.
    #[inline]
    fn visit(
        &self,
        (): &mut (),
        input: &mut [u8],
        end: bool,
        visitor: &mut impl Visitor,
    ) -> Result<Rest, FrameError> {
        let (mut used, stripped) = (0, self.stripped());
        loop {
            let left = &input[used..];
            match self.frame_len(left)? {
                Some(len) if len <= left.len() => {
                    used += len;
                    if visitor.item(Ok(&left[stripped..len])).is_break() {
                        return Ok(Rest { used, need: 0 });
                    }
                }
                _ if end && !left.is_empty() => {
                    return Err(FrameError::Truncated { received: left.len() });
                }
                len => return Ok(Rest { used, need: len.unwrap_or(self.header()) }),
            }
        }
    }

    fn guess(&self, input: &[u8]) -> Option<Guess> {
        let field = input.get(self.offset..self.header())?;
        let other = self.other_order().read(field).checked_add_signed(self.adjust);
        Guess::protocol(input).or(match other {
            _ if field.len() > 1 && field.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
                Some(Guess::Ascii)
            }
            Some(len @ 1..) if len <= self.limit as u64 => Some(Guess::OtherByteOrder { len }),
            _ => None,
        })
    }
}

impl LengthField {
    /// With its bytes in the other order.
    fn other_order(&self) -> Self {
        let endian = match self.endian {
            Endian::Big => Endian::Little,
            Endian::Little => Endian::Big,
        };
        Self { endian, ..self.clone() }
    }
}

impl Encode for LengthField {
    /// Writes what decoding strips, with zeros where it is not the length, and then the
    /// message; or that, and the length into its place.
    #[inline(always)]
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (header, stripped) = (self.header(), self.stripped());
        let kept = header - stripped;
        let Some(payload) = message.get(kept..) else {
            return Err(EncodeError::TooShort { len: message.len(), min: kept });
        };
        check_len(payload, self.limit)?;
        let Some(value) = (payload.len() as u64).checked_add_signed(self.adjust.saturating_neg())
        else {
            // The value would be negative: the field cannot say so little.
            return Err(EncodeError::TooShort { len: payload.len(), min: self.adjust as usize });
        };
        if kept == 0 {
            if self.offset > 0 {
                out.resize(out.len() + self.offset, 0);
            }
            self.write(value, out);
            out.extend_from_slice(message);
            return Ok(());
        }
        // The message brings some of the header along; its length is written over that.
        let start = out.len();
        out.resize(start + stripped, 0);
        out.extend_from_slice(message);
        let mut field = Vec::with_capacity(self.width);
        self.write(value, &mut field);
        out[start + self.offset..start + header].copy_from_slice(&field);
        Ok(())
    }

    fn encoder(&self) -> Option<Encoder<'_>> {
        Some(Encoder::LengthField(self))
    }

    fn max_frame(&self) -> usize {
        self.header() + self.limit
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.offset > spec::MAX_OFFSET {
            return Err(ConfigError::Offset { offset: self.offset, max: spec::MAX_OFFSET });
        }
        if self.adjust.unsigned_abs() > MAX_ADJUST {
            return Err(ConfigError::Adjust { adjust: self.adjust, max: MAX_ADJUST });
        }
        if self.stripped() > self.header() {
            return Err(ConfigError::Strip { strip: self.stripped(), header: self.header() });
        }
        match self.holds() {
            Some(holds) => spec::check_max(self.max.unwrap_or(0), holds),
            None => Err(ConfigError::NoLength { width: self.width, adjust: self.adjust }),
        }
    }
}

/// The largest adjustment either way, in bytes.
const MAX_ADJUST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn field(width: usize, endian: Endian) -> LengthField {
        LengthField::new(width, endian).max(4)
    }

    #[test]
    fn a_stream_gives_these_messages_however_it_is_cut() {
        let be2 = || field(2, Endian::Big);
        let le4 = || field(4, Endian::Little);
        let too_long = |announced| Some(FrameError::TooLong { announced: Some(announced), max: 4 });
        let bad = |value, adjust| Some(FrameError::BadLength { value, adjust });
        let truncated = |received| Some(FrameError::Truncated { received });

        type Case =
            (&'static str, LengthField, &'static [u8], Vec<&'static [u8]>, Option<FrameError>);
        #[rustfmt::skip]
        let cases: Vec<Case> = vec![
            // what is being shown          framing                         bytes                           messages                end
            ("nothing",                     be2(),                          b"",                            vec![],                 None),
            ("half a header",               be2(),                          b"\0",                          vec![],                 truncated(1)),
            ("one byte short",              be2(),                          b"\0\x03ab",                    vec![],                 truncated(4)),
            ("two messages",                be2(),                          b"\0\x01a\0\x02bc",             vec![b"a", b"bc"],      None),
            ("an empty one is a message",   be2(),                          b"\0\0\0\x01a",                 vec![b"", b"a"],        None),
            ("one byte wide",               field(1, Endian::Big),          b"\x02ab\x01c",                 vec![b"ab", b"c"],      None),
            ("three bytes, big",            field(3, Endian::Big),          b"\0\0\x02ab",                  vec![b"ab"],            None),
            ("three bytes, little",         field(3, Endian::Little),       b"\x02\0\0ab",                  vec![b"ab"],            None),
            ("four bytes, little",          le4(),                          b"\x02\0\0\0ab",                vec![b"ab"],            None),
            ("eight bytes, big",            field(8, Endian::Big),          b"\0\0\0\0\0\0\0\x02ab",        vec![b"ab"],            None),
            ("eight bytes, little",         field(8, Endian::Little),       b"\x02\0\0\0\0\0\0\0ab",        vec![b"ab"],            None),
            ("the largest",                 be2(),                          b"\0\x04abcd",                  vec![b"abcd"],          None),
            ("one more",                    be2(),                          b"\0\x01a\0\x05abcde",          vec![b"a"],             too_long(5)),
            ("the other byte order",        be2(),                          b"\x02\0ab",                    vec![],                 too_long(512)),
            ("all ones",                    le4(),                          b"\xff\xff\xff\xff",            vec![],                 too_long(u32::MAX.into())),
            ("all ones, eight bytes",       field(8, Endian::Big),          &[0xff; 8],                     vec![],                 too_long(u64::MAX)),
            ("all ones and some",           field(8, Endian::Big).adjust(9), &[0xff; 8],                    vec![],                 too_long(u64::MAX)),
            ("2^63",                        field(8, Endian::Little),       b"\0\0\0\0\0\0\0\x80",          vec![],                 too_long(1 << 63)),
            ("the value counts the header", be2().adjust(-2),               b"\0\x02\0\x04ab",              vec![b"", b"ab"],       None),
            ("less than the header",        be2().adjust(-2),               b"\0\x04ab\0\x01a",             vec![b"ab"],            bad(1, -2)),
            ("the limit counts adjusted",   be2().adjust(-2),               b"\0\x06abcd\0\x07",            vec![b"abcd"],          too_long(5)),
            ("a trailer the value omits",   be2().adjust(2),                b"\0\x01abc\0\0de",             vec![b"abc", b"de"],    None),
            ("a header before the length",  be2().offset(2),                b"XY\0\x02abXY\0\0",            vec![b"ab", b""],       None),
            ("the whole frame",             be2().offset(2).strip(0),       b"XY\0\x02ab",                  vec![b"XY\0\x02ab"],    None),
            ("a part of the header",        be2().offset(2).strip(1),       b"XY\0\x02ab",                  vec![b"Y\0\x02ab"],     None),
            ("a part of the length",        be2().strip(1),                 b"\0\x02ab",                    vec![b"\x02ab"],        None),
        ];
        for (name, framing, bytes, messages, end) in cases {
            assert_eq!(framing.check(), Ok(()), "{name}");
            let outcome = check::splits(&framing, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(outcome.messages(), messages, "{name}");
            assert_eq!(outcome.error, end, "{name}");
        }
    }

    /// Whatever is added to them, they are too long: nothing wraps round to something small.
    #[test]
    fn lengths_near_the_largest_number_are_refused_with_any_settings() {
        for endian in [Endian::Big, Endian::Little] {
            for (adjust, offset) in [(0, 0), (1, 0), (16, 3), (-1, 0), (-12, 4)] {
                for value in (u64::MAX - 15..=u64::MAX).chain([1 << 63, (1 << 63) - 1]) {
                    let mut bytes = vec![b'x'; offset];
                    bytes.extend(match endian {
                        Endian::Big => value.to_be_bytes(),
                        Endian::Little => value.to_le_bytes(),
                    });
                    let framing = LengthField::new(8, endian).offset(offset).adjust(adjust).max(4);
                    let outcome = check::splits(&framing, &bytes).unwrap_or_else(|e| panic!("{e}"));
                    let refused = matches!(outcome.error, Some(FrameError::TooLong { .. }));
                    assert!(refused, "{value:#x}, {framing:?}: {outcome:?}");
                }
            }
        }
    }

    #[test]
    fn a_length_that_counts_the_header_and_is_smaller_than_it_is_refused() {
        for endian in [Endian::Big, Endian::Little] {
            let framing = LengthField::new(2, endian).offset(2).adjust(-4).max(9);
            for value in 0..4_u16 {
                let [first, second] = match endian {
                    Endian::Big => value.to_be_bytes(),
                    Endian::Little => value.to_le_bytes(),
                };
                let stream = [b'x', b'y', first, second, b'a'];
                let outcome = check::splits(&framing, &stream).unwrap_or_else(|e| panic!("{e}"));
                let expected = FrameError::BadLength { value: value.into(), adjust: -4 };
                assert_eq!((outcome.items, outcome.error), (vec![], Some(expected)), "{value}");
            }
        }
    }

    #[test]
    fn encoding_and_decoding_are_each_others_inverse() {
        for width in [1, 2, 3, 4, 8] {
            for endian in [Endian::Big, Endian::Little] {
                for (offset, adjust, strip) in
                    [(0, 0, None), (3, -2, None), (3, 1, Some(0)), (2, 0, Some(1))]
                {
                    let mut framing = LengthField::new(width, endian).offset(offset).adjust(adjust);
                    framing.strip = strip;
                    let kept = framing.header() - framing.stripped();
                    // A kept header comes back with its length set.
                    let mut message = vec![0; kept];
                    message.extend_from_slice(b"hello");
                    let mut wire = Vec::new();
                    assert_eq!(framing.encode(&message, &mut wire), Ok(()));
                    let outcome = check::splits(&framing, &wire).unwrap_or_else(|e| panic!("{e}"));
                    let [back] = outcome.messages()[..] else { panic!("{framing:?}: {outcome:?}") };
                    assert_eq!(&back[kept..], b"hello", "{framing:?}");
                    assert!(wire.len() <= framing.max_frame());
                    let mut again = Vec::new();
                    assert_eq!(framing.encode(back, &mut again), Ok(()));
                    assert_eq!(again, wire, "{framing:?}");
                }
            }
        }
    }

    #[test]
    fn what_the_field_cannot_say_is_refused_and_writes_nothing() {
        let mut out = Vec::new();
        let byte = LengthField::new(1, Endian::Big);
        assert_eq!(byte.encode(&[0; 255], &mut out), Ok(()));
        out.clear();
        let refused = byte.encode(&[0; 256], &mut out);
        assert_eq!(refused, Err(EncodeError::TooLong { len: 256, max: 255 }));
        let trailer = LengthField::new(1, Endian::Big).adjust(2);
        assert_eq!(trailer.encode(b"a", &mut out), Err(EncodeError::TooShort { len: 1, min: 2 }));
        let whole = LengthField::new(2, Endian::Big).strip(0);
        assert_eq!(whole.encode(b"a", &mut out), Err(EncodeError::TooShort { len: 1, min: 2 }));
        assert_eq!(out, b"");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_the_numbers() {
        let u16be = || LengthField::new(2, Endian::Big);
        let max = |max, holds| Err(ConfigError::MaxTooLarge { max, holds });
        #[rustfmt::skip]
        let cases = [
            (u16be().max(65_535),              Ok(())),
            (u16be().max(65_536),              max(65_536, 65_535)),
            (u16be().adjust(-2).max(65_534),   max(65_534, 65_533)),
            (u16be().adjust(1).max(65_536),    Ok(())),
            (LengthField::new(8, Endian::Big).max(2 << 30), max(2 << 30, 1 << 30)),
            (LengthField::u8().adjust(-255),   Ok(())),
            (LengthField::u8().adjust(-256),   Err(ConfigError::NoLength { width: 1, adjust: -256 })),
            (u16be().offset(256),              Err(ConfigError::Offset { offset: 256, max: 255 })),
            (u16be().offset(2).strip(4),       Ok(())),
            (u16be().offset(2).strip(5),       Err(ConfigError::Strip { strip: 5, header: 4 })),
            (u16be().adjust(i64::MIN),         Err(ConfigError::Adjust { adjust: i64::MIN, max: MAX_ADJUST })),
        ];
        for (framing, expected) in cases {
            assert_eq!(framing.check(), expected, "{framing:?}");
        }
    }
}
