//! Lengths written out in ASCII digits.
//!
//! ```text
//!  ascii:8          | 00000005 |  hello  |
//!  ascii:8:space    | 5        |  hello  |      digits, then spaces
//!  netstring        | 5: |  hello  | ,
//!  syslog           | 5 SP |  hello  |   or   | <34>hello LF |
//! ```
//!
//! Digits are the bytes 30 to 39 and nothing else. The number parsers of most
//! languages take more (a sign, spaces, underscores, the digits of other scripts), so
//! none of them reads a length from a wire here.

use memchr::memchr;

use super::{
    ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, Phase, Scan, check_len, spec,
};

/// A payload behind its length in decimal.
///
/// A wrong byte ends the connection as soon as it is seen: a peer that counts
/// characters instead of bytes, or is no peer of this kind at all, is found out where
/// it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    form: Form,
    max: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Exactly so many digits.
    Zeros(usize),
    /// Digits, then spaces, in so many bytes.
    Spaces(usize),
    /// Digits and a colon; a comma behind the payload.
    Netstring,
    /// Digits and a space; or no length at all but an LF at the end.
    Syslog,
}

/// What was made of the beginning of a message.
enum Header {
    /// Its length, or `None` if that is beyond 64 bits, and the bytes it took.
    Length(Option<u64>, usize),
    /// There is none: the message ends in LF.
    Line,
    /// It is not all there.
    Incomplete,
}

/// The most digits of a 64-bit length.
pub(super) const MAX_DIGITS: usize = 20;
/// The widest header, in bytes.
const MAX_WIDTH: usize = 255;

impl Decimal {
    /// `width` digits, filled up with zeros on the left. SPEC word `ascii:N`.
    pub fn zeros(width: usize) -> Self {
        Self { form: Form::Zeros(width), max: None }
    }

    /// Digits, filled up to `width` bytes with spaces on the right. SPEC word
    /// `ascii:N:space`.
    pub fn spaces(width: usize) -> Self {
        Self { form: Form::Spaces(width), max: None }
    }

    /// Bernstein's netstrings: `5:hello,`. SPEC word `netstring`.
    pub fn netstring() -> Self {
        Self { form: Form::Netstring, max: None }
    }

    /// Syslog over TCP (RFC 6587): each message either counted, or ended by LF if it
    /// begins with `<`. Writes counted ones. SPEC word `syslog`.
    pub fn syslog() -> Self {
        Self { form: Form::Syslog, max: None }
    }

    /// The largest payload, in bytes. Default: 1 MiB, or what the digits can say if
    /// that is less. At the limit, [`FrameError::TooLong`]: the connection ends, but
    /// for a syslog message that ends in LF, which is skipped.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = Some(bytes);
        self
    }

    fn limit(&self) -> usize {
        let holds = usize::try_from(self.holds()).unwrap_or(usize::MAX);
        self.max.unwrap_or(spec::DEFAULT_MAX).min(holds)
    }

    /// The largest length that can be written.
    fn holds(&self) -> u64 {
        let (Form::Zeros(width) | Form::Spaces(width)) = self.form else { return u64::MAX };
        u32::try_from(width)
            .ok()
            .and_then(|width| 10u64.checked_pow(width))
            .map_or(u64::MAX, |n| n - 1)
    }

    /// The most bytes beside the payload.
    fn overhead(&self) -> usize {
        match self.form {
            Form::Zeros(width) | Form::Spaces(width) => width,
            Form::Netstring => MAX_DIGITS + 2,
            Form::Syslog => MAX_DIGITS + 1,
        }
    }

    #[inline]
    fn header(&self, input: &[u8]) -> Result<Header, FrameError> {
        match self.form {
            Form::Zeros(width) => fixed_header(input, width, false),
            Form::Spaces(width) => fixed_header(input, width, true),
            Form::Netstring => counted_header(input, b':', "a digit or the colon"),
            Form::Syslog if input.first() == Some(&b'<') => Ok(Header::Line),
            Form::Syslog => counted_header(input, b' ', "a digit, or < at the beginning"),
        }
    }

    /// A syslog message without a count.
    fn decode_line(&self, state: &mut Scan, input: &[u8]) -> Decoded {
        let max = self.limit();
        let seen = &input[..input.len().min(max + 1)];
        let searched = state.count_of(Phase::Searching);
        match memchr(b'\n', &seen[searched..]) {
            Some(at) => {
                let end = searched + at;
                *state = Scan::default();
                Decoded::Message { message: 0..end, consumed: end + 1 }
            }
            None if seen.len() == max + 1 => {
                *state = Scan::new(Phase::Skipping, 0);
                let error = Some(FrameError::TooLong { announced: None, max });
                Decoded::Skip { consumed: seen.len(), error }
            }
            None => {
                *state = Scan::new(Phase::Searching, seen.len());
                Decoded::Incomplete { need: 0 }
            }
        }
    }
}

/// A length in the first `width` bytes.
#[inline]
fn fixed_header(input: &[u8], width: usize, spaces: bool) -> Result<Header, FrameError> {
    let mut value = Some(0u64);
    let mut digits = 0;
    for (at, &byte) in input.iter().enumerate().take(width) {
        match byte {
            b'0'..=b'9' if digits == at => {
                let digit = u64::from(byte - b'0');
                value = value.and_then(|n| n.checked_mul(10)?.checked_add(digit));
                digits += 1;
            }
            b' ' if spaces && at > 0 => {}
            _ => {
                let expected = match (spaces, digits == at) {
                    (false, _) => "a digit",
                    (true, true) if at == 0 => "a digit: the length stands on the left",
                    (true, true) => "a digit or a space",
                    (true, false) => "a space: the length has ended",
                };
                return Err(FrameError::BadByte { at, byte, expected });
            }
        }
    }
    Ok(if input.len() < width { Header::Incomplete } else { Header::Length(value, width) })
}

/// A length ended by `end`. A zero stands alone or not at all.
#[inline]
fn counted_header(input: &[u8], end: u8, expected: &'static str) -> Result<Header, FrameError> {
    let mut value = Some(0u64);
    for (at, &byte) in input.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at > 0 && input[0] == b'0' => {
                let expected = "no digit after a leading zero";
                return Err(FrameError::BadByte { at, byte, expected });
            }
            b'0'..=b'9' if at < MAX_DIGITS => {
                let digit = u64::from(byte - b'0');
                value = value.and_then(|n| n.checked_mul(10)?.checked_add(digit));
            }
            b'0'..=b'9' => {
                let expected = "an end of the length after 20 digits at most";
                return Err(FrameError::BadByte { at, byte, expected });
            }
            _ if byte == end && at > 0 => return Ok(Header::Length(value, at + 1)),
            _ => return Err(FrameError::BadByte { at, byte, expected }),
        }
    }
    Ok(Header::Incomplete)
}

impl Framing for Decimal {
    type State = Scan;

    #[inline]
    fn decode(
        &self,
        state: &mut Scan,
        input: &mut [u8],
        _end: bool,
    ) -> Result<Decoded, FrameError> {
        if state.is_skipping() && !input.is_empty() {
            let consumed = match memchr(b'\n', input) {
                Some(at) => {
                    *state = Scan::default();
                    at + 1
                }
                None => input.len(),
            };
            return Ok(Decoded::Skip { consumed, error: None });
        }
        let (announced, header) = match self.header(input)? {
            Header::Length(announced, header) => (announced, header),
            Header::Line => return Ok(self.decode_line(state, input)),
            Header::Incomplete => return Ok(Decoded::Incomplete { need: 0 }),
        };
        let max = self.limit();
        let len = match announced.and_then(|announced| usize::try_from(announced).ok()) {
            Some(len) if len <= max => len,
            _ => {
                let announced = Some(announced.unwrap_or(u64::MAX));
                return Err(FrameError::TooLong { announced, max });
            }
        };
        let end = header + len;
        let consumed = end + usize::from(self.form == Form::Netstring);
        if let (Form::Netstring, Some(&byte)) = (self.form, input.get(end))
            && byte != b','
        {
            let expected = "the comma behind the payload";
            return Err(FrameError::BadByte { at: end, byte, expected });
        }
        Ok(match input.len() < consumed {
            true => Decoded::Incomplete { need: consumed },
            false => Decoded::Message { message: header..end, consumed },
        })
    }

    fn is_skipping(&self, state: &Scan) -> bool {
        state.is_skipping()
    }
}

/// The digits of `number`, without leading zeros; written into `digits`, so that nothing
/// is allocated.
pub(super) fn shortest(number: usize, digits: &mut [u8; MAX_DIGITS]) -> &[u8] {
    let mut rest = number;
    let mut first = MAX_DIGITS;
    while rest > 0 || first == MAX_DIGITS {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    &digits[first..]
}

impl Encode for Decimal {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.limit())?;
        let mut digits = [0; MAX_DIGITS];
        let shortest = shortest(message.len(), &mut digits);
        match self.form {
            Form::Zeros(width) => {
                out.resize(out.len() + width.saturating_sub(shortest.len()), b'0');
                out.extend_from_slice(shortest);
            }
            Form::Spaces(width) => {
                out.extend_from_slice(shortest);
                out.resize(out.len() + width.saturating_sub(shortest.len()), b' ');
            }
            Form::Netstring | Form::Syslog => {
                out.extend_from_slice(shortest);
                out.push(if self.form == Form::Netstring { b':' } else { b' ' });
            }
        }
        out.extend_from_slice(message);
        out.extend((self.form == Form::Netstring).then_some(b','));
        Ok(())
    }

    fn max_frame(&self) -> usize {
        self.overhead() + self.limit()
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Form::Zeros(width) | Form::Spaces(width) = self.form
            && !(1..=MAX_WIDTH).contains(&width)
        {
            return Err(ConfigError::Size { size: width, max: MAX_WIDTH });
        }
        spec::check_max(self.max.unwrap_or(0), self.holds())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_stream_gives_these_messages_however_it_is_cut() {
        type Case = (&'static str, Decimal, &'static [u8], Vec<&'static [u8]>, &'static str);
        let z = || Decimal::zeros(8);
        let s = || Decimal::spaces(8);
        let n = Decimal::netstring;
        let y = Decimal::syslog;

        #[rustfmt::skip]
        let cases: Vec<Case> = vec![
            // what is being shown        framing  bytes                          messages              the end, in part
            ("zeros on the left",         z(),     b"00000002hi00000000",         vec![b"hi", b""],     ""),
            ("the longest",               z(),     b"00000005hello",              vec![b"hello"],       ""),
            ("one more",                  z(),     b"00000006",                   vec![],               "message of 6 bytes exceeds the limit of 5"),
            ("all nines",                 z(),     b"99999999",                   vec![],               "99999999 bytes"),
            ("end in the header",         z(),     b"0000",                       vec![],               "4 bytes into"),
            ("end in the payload",        z(),     b"00000002h",                  vec![],               "9 bytes into"),
            ("a minus",                   z(),     b"-0000001x",                  vec![],               "byte 0 is 0x2d"),
            ("a plus",                    z(),     b"+0000005hello",              vec![],               "byte 0 is 0x2b"),
            ("a space",                   z(),     b" 0000005hello",              vec![],               "byte 0 is 0x20"),
            ("hex",                       z(),     b"0x000005hello",              vec![],               "byte 1 is 0x78"),
            ("an underscore",             z(),     b"1_000000",                   vec![],               "byte 1 is 0x5f"),
            ("a point",                   z(),     b"5.000000",                   vec![],               "byte 1 is 0x2e"),
            ("a letter, at once",         z(),     b"00000002hi0a",               vec![b"hi"],          "byte 1 is 0x61"),
            ("another script's digit",    z(),     "٣0000005".as_bytes(),         vec![],               "byte 0 is 0xd9"),
            ("a wide digit",              z(),     "0000000１".as_bytes(),        vec![],               "byte 7 is 0xef"),
            ("a raised digit",            s(),     "²       ".as_bytes(),         vec![],               "byte 0 is 0xc2"),
            ("spaces on the right",       s(),     b"2       hi0       ",         vec![b"hi", b""],     ""),
            ("leading zeros pass",        s(),     b"00002   hi",                 vec![b"hi"],          ""),
            ("no spaces needed",          s(),     b"00000002hi",                 vec![b"hi"],          ""),
            ("all spaces",                s(),     b"        ",                   vec![],               "byte 0 is 0x20"),
            ("spaces on the left",        s(),     b"       2hi",                 vec![],               "byte 0 is 0x20"),
            ("a digit after a space",     s(),     b"1 2     x",                  vec![],               "byte 2 is 0x32"),
            ("zero bytes as padding",     s(),     b"2\0\0\0\0\0\0\0hi",          vec![],               "byte 1 is 0x00"),
            ("netstrings",                n(),     b"2:hi,0:,",                   vec![b"hi", b""],     ""),
            ("no comma",                  n(),     b"2:hi,1:ab",                  vec![b"hi"],          "byte 3 is 0x62"),
            ("a leading zero",            n(),     b"02:hi,",                     vec![],               "byte 1 is 0x32"),
            ("two zeros",                 n(),     b"00:,",                       vec![],               "byte 1 is 0x30"),
            ("no digit",                  n(),     b":hi,",                       vec![],               "byte 0 is 0x3a"),
            ("a netstring too long",      n(),     b"6:",                         vec![],               "message of 6 bytes"),
            ("digits without end",        n(),     b"111111111111111111111",      vec![],               "byte 20 is 0x31"),
            ("beyond 64 bits",            n(),     b"99999999999999999999:",      vec![],               "18446744073709551615 bytes"),
            ("a netstring cut off",       n(),     b"2:hi",                       vec![],               "4 bytes into"),
            ("counted and not counted",   y(),     b"4 <1>a<2>b\n3 <3>",          vec![b"<1>a", b"<2>b", b"<3>"], ""),
            ("neither digit nor <",       y(),     b"2 hihello\n",                vec![b"hi"],          "byte 0 is 0x68"),
            ("a counted one too long",    y(),     b"6 <1>abc",                   vec![],               "message of 6 bytes"),
            ("one without LF",            y(),     b"<1>a",                       vec![],               "4 bytes into"),
        ];
        for (name, framing, bytes, messages, end) in cases {
            let framing = framing.max(5);
            assert_eq!(framing.check(), Ok(()), "{name}");
            let outcome = check::splits(&framing, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(outcome.messages(), messages, "{name}");
            let error = outcome.error.map(|error| error.to_string());
            let told = error.as_deref().unwrap_or("");
            assert!(error.is_some() != end.is_empty() && told.contains(end), "{name}: {told}");
        }
    }

    #[test]
    fn an_oversize_syslog_line_is_skipped_and_reported_once() {
        let stream = b"<1>too long\n<2>b\n<3>never ends";
        let outcome =
            check::splits(&Decimal::syslog().max(5), stream).unwrap_or_else(|e| panic!("{e}"));
        let too_long = Err(FrameError::TooLong { announced: None, max: 5 });
        assert_eq!(outcome.items, [too_long.clone(), Ok(b"<2>b".to_vec()), too_long]);
        assert_eq!(outcome.error, None);
    }

    #[test]
    fn a_header_wider_than_any_length_does_not_overflow() {
        let header = |digits: &str| format!("{digits:<64}");
        let framing = Decimal::spaces(64).max(5);
        for (digits, end) in [
            ("0".repeat(64), None),
            ("9".repeat(64), Some(FrameError::TooLong { announced: Some(u64::MAX), max: 5 })),
            (
                "18446744073709551616".into(),
                Some(FrameError::TooLong { announced: Some(u64::MAX), max: 5 }),
            ),
        ] {
            let outcome = check::splits(&framing, header(&digits).as_bytes())
                .unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(outcome.error, end, "{digits}");
        }
    }

    #[test]
    fn each_form_writes_its_own_header() {
        #[rustfmt::skip]
        let cases = [
            (Decimal::zeros(8),   &b"00000005hello"[..]),
            (Decimal::zeros(1),   b"5hello"),
            (Decimal::spaces(8),  b"5       hello"),
            (Decimal::netstring(), b"5:hello,"),
            (Decimal::syslog(),   b"5 hello"),
        ];
        for (framing, expected) in cases {
            let mut out = Vec::new();
            assert_eq!(framing.encode(b"hello", &mut out), Ok(()));
            assert_eq!(out, expected);
            assert!(out.len() <= framing.max_frame());
        }
        let mut out = Vec::new();
        let digit = Decimal::zeros(1);
        assert_eq!(digit.encode(&[0; 10], &mut out), Err(EncodeError::TooLong { len: 10, max: 9 }));
        assert_eq!(Decimal::netstring().encode(b"", &mut out), Ok(()));
        assert_eq!(out, b"0:,");
        assert!(Decimal::zeros(1).max(10).check().is_err());
        assert!(Decimal::zeros(0).check().is_err() && Decimal::spaces(256).check().is_err());
    }
}
