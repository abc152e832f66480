//! RESP, the protocol of Redis: values that say what they are in their first byte.
//!
//! ```text
//!  *2 CR LF  $4 CR LF ECHO CR LF  $2 CR LF hi CR LF      an array of two bulk strings
//!  └ values to come   └ bytes to come
//!  +OK CR LF   :1 CR LF   $-1 CR LF                      a line each
//!  PING CR LF                                            an inline request: any other line
//! ```

use memchr::memchr;

use super::decimal::shortest;
use super::{ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, check_len, spec};

/// One RESP value (version 2 or 3) is one message, from its first byte to its last CRLF,
/// and so is an inline request, without its end.
///
/// A message that is a whole RESP value is written as it is, so what was received can be
/// sent on; any other becomes a bulk string. Values whose length is not announced
/// (`$?`) are refused. SPEC word `resp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resp {
    max: usize,
}

impl Default for Resp {
    fn default() -> Self {
        Self { max: spec::DEFAULT_MAX }
    }
}

impl Resp {
    /// The longest value, in bytes, and the largest number of values in it. Default:
    /// 1 MiB. A longer one is [`FrameError::TooLong`] and ends the connection. Inline
    /// requests are 64 KiB at most, as Redis has it.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    fn too_long(&self, announced: Option<u64>) -> FrameError {
        FrameError::TooLong { announced, max: self.max }
    }

    /// Looks for the end of the value that begins at `progress.done`. `None`: it has not
    /// all come; `progress.need` says how much of the message there has to be.
    fn step(&self, progress: &mut Progress, input: &[u8]) -> Result<Option<usize>, FrameError> {
        let start = progress.done as usize;
        let Some(line) = self.line(progress, input)? else { return Ok(None) };
        let end = start + line.len() + CRLF;
        let kind = line[0];
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(Some(end)),
            b'$' | b'!' | b'=' => match length(line, start)? {
                // Null has no bytes.
                None => Ok(Some(end)),
                Some(len) => {
                    let after = (end as u64).saturating_add(len).saturating_add(CRLF as u64);
                    if after > self.max as u64 {
                        return Err(self.too_long(Some(after)));
                    }
                    let after = after as usize;
                    progress.need = after as u32;
                    self.bulk_end(input, after)
                }
            },
            _ => {
                let values = length(line, start)?.unwrap_or(0);
                // Attributes and maps have two values for each of their entries.
                let values = values.saturating_mul(if matches!(kind, b'%' | b'|') { 2 } else { 1 });
                let own = u64::from(progress.values).saturating_add(values);
                // An attribute stands before the value it belongs to.
                let all = own.saturating_add(u64::from(kind == b'|'));
                // Each takes three bytes at least: so many may not fit, and need not come.
                let least = (all - 1).saturating_mul(3).saturating_add(end as u64);
                match u32::try_from(all) {
                    Ok(all) if least <= self.max as u64 => progress.values = all,
                    _ => return Err(self.too_long(Some(least))),
                }
                Ok(Some(end))
            }
        }
    }

    /// The CRLF behind the bytes of a bulk string, which ends at `after`.
    fn bulk_end(&self, input: &[u8], after: usize) -> Result<Option<usize>, FrameError> {
        // Not before both are there: the same error, however they are cut.
        let Some(&[cr, lf]) = input.get(after - CRLF..after) else { return Ok(None) };
        for (at, byte, wanted) in [(after - 2, cr, b'\r'), (after - 1, lf, b'\n')] {
            if byte != wanted {
                let expected = "CR LF behind a bulk string";
                return Err(FrameError::BadByte { at, byte, expected });
            }
        }
        Ok(Some(after))
    }

    /// The line at `progress.done`, without its end.
    fn line<'a>(
        &self,
        progress: &mut Progress,
        input: &'a [u8],
    ) -> Result<Option<&'a [u8]>, FrameError> {
        let start = progress.done as usize;
        let seen = input.len().min(self.max);
        let from = (progress.searched as usize).max(start);
        let Some(lf) = memchr(b'\n', &input[from.min(seen)..seen]).map(|at| from + at) else {
            // A length has a few digits; what has more is none, and need not be awaited. What
            // lies behind the byte that is one too many says nothing any more.
            let line = input.get(start..input.len().min(self.max + 1));
            if let Some(line) = line.filter(|line| line.len() > MAX_DIGITS + CRLF)
                && has_length(line)
            {
                length(line, start)?;
            }
            if input.len() > self.max {
                return Err(self.too_long(None));
            }
            progress.searched = seen as u32;
            progress.need = 0;
            return Ok(None);
        };
        match input[start..lf].strip_suffix(b"\r") {
            Some(line) if !line.is_empty() => Ok(Some(line)),
            _ => {
                // What is wrong before the end comes first, as when the end has not come.
                let line = &input[start..lf];
                if line.len() > 1 && has_length(line) {
                    length(line, start)?;
                }
                let expected = "CR LF at the end of a line";
                Err(FrameError::BadByte { at: lf, byte: b'\n', expected })
            }
        }
    }

    /// A line that is a request: its end may be a bare LF.
    fn inline(&self, progress: &mut Progress, input: &[u8]) -> Result<Decoded, FrameError> {
        let max = self.max.min(MAX_INLINE);
        let window = max + CRLF;
        let seen = input.len().min(window);
        let from = (progress.searched as usize).min(seen);
        let Some(lf) = memchr(b'\n', &input[from..seen]).map(|at| from + at) else {
            if seen == window {
                return Err(FrameError::TooLong { announced: None, max });
            }
            progress.searched = seen as u32;
            return Ok(Decoded::Incomplete { need: 0 });
        };
        let line = input[..lf].strip_suffix(b"\r").unwrap_or(&input[..lf]);
        let consumed = lf + 1;
        Ok(match line.len() {
            // Redis passes over empty lines as well.
            0 => Decoded::Skip { consumed, error: None },
            len if len > max => return Err(FrameError::TooLong { announced: None, max }),
            len => Decoded::Message { message: 0..len, consumed },
        })
    }
}

const CRLF: usize = 2;
/// As Redis has it, in bytes.
const MAX_INLINE: usize = 64 << 10;
/// Of a length, its sign included.
const MAX_DIGITS: usize = 20;

/// How far one value has been looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the values in it that are complete.
    done: u32,
    /// Values to come behind those.
    values: u32,
    /// Bytes in which the end of a line has been searched.
    searched: u32,
    /// Bytes there have to be for the next step; 0 if the wire does not say.
    need: u32,
}

/// The number behind the first byte of a line that begins `start` bytes into the
/// message; `None` is -1, the null of RESP 2.
fn length(line: &[u8], start: usize) -> Result<Option<u64>, FrameError> {
    let digits = &line[1..];
    if digits == b"-1" {
        return Ok(None);
    }
    let mut value = 0_u64;
    for (index, &byte) in digits.iter().enumerate() {
        if !byte.is_ascii_digit() || index >= MAX_DIGITS {
            let expected = if index >= MAX_DIGITS {
                "a length of 20 digits at most"
            } else {
                "a digit of a length"
            };
            return Err(FrameError::BadByte { at: start + 1 + index, byte, expected });
        }
        value = value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    }
    match digits {
        [] => {
            Err(FrameError::BadByte { at: start + 1, byte: b'\r', expected: "a digit of a length" })
        }
        _ => Ok(Some(value)),
    }
}

/// Whether a length or a number of values stands behind the first byte.
fn has_length(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'$' | b'!' | b'=' | b'*' | b'%' | b'~' | b'>' | b'|'))
}

fn is_value(byte: u8) -> bool {
    b"+-:$*_#,(!=%~>|".contains(&byte)
}

impl Framing for Resp {
    /// Only a value that is cut needs to be remembered.
    type State = Option<Box<Progress>>;

    fn decode(
        &self,
        state: &mut Self::State,
        input: &mut [u8],
        _end: bool,
    ) -> Result<Decoded, FrameError> {
        let mut fresh = Progress::default();
        let progress = match state {
            Some(progress) => progress,
            None => &mut fresh,
        };
        let decoded = self.next(progress, input)?;
        match (&decoded, state.is_some()) {
            (Decoded::Incomplete { .. }, false) => *state = Some(Box::new(fresh)),
            (Decoded::Incomplete { .. }, true) => {}
            _ => *state = None,
        }
        Ok(decoded)
    }

    fn max_input(&self) -> usize {
        self.max + CRLF
    }
}

impl Resp {
    fn next(&self, progress: &mut Progress, input: &[u8]) -> Result<Decoded, FrameError> {
        match input.first() {
            None => return Ok(Decoded::Incomplete { need: 0 }),
            Some(&first) if !is_value(first) => return self.inline(progress, input),
            Some(_) => {}
        }
        if progress.done == 0 {
            progress.values = progress.values.max(1);
        }
        while progress.values > 0 {
            let start = progress.done as usize;
            if input.len() < progress.need as usize {
                return Ok(Decoded::Incomplete { need: progress.need as usize });
            }
            if let Some(&byte) = input.get(start)
                && !is_value(byte)
            {
                let expected = "the first byte of a RESP value";
                return Err(FrameError::BadByte { at: start, byte, expected });
            }
            let Some(end) = self.step(progress, input)? else {
                return Ok(Decoded::Incomplete { need: progress.need as usize });
            };
            if end > self.max {
                return Err(self.too_long(None));
            }
            progress.values -= 1;
            (progress.done, progress.searched, progress.need) = (end as u32, 0, 0);
        }
        let consumed = progress.done as usize;
        Ok(Decoded::Message { message: 0..consumed, consumed })
    }
}

impl Encode for Resp {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.max)?;
        let start = out.len();
        out.extend_from_slice(message);
        let whole = Decoded::Message { message: 0..message.len(), consumed: message.len() };
        let first = message.first().copied().unwrap_or(0);
        if is_value(first) && self.next(&mut Progress::default(), &out[start..]) == Ok(whole) {
            return Ok(());
        }
        out.truncate(start);
        out.push(b'$');
        out.extend_from_slice(shortest(message.len(), &mut [0; MAX_DIGITS]));
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(message);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn max_frame(&self) -> usize {
        self.max + MAX_DIGITS + 3 * CRLF
    }

    fn check(&self) -> Result<(), ConfigError> {
        spec::check_max(self.max, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_stream_gives_these_values_however_it_is_cut() {
        type Case = (&'static str, &'static [u8], &'static [&'static [u8]]);
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("nothing",             b"",                                            &[]),
            ("inline requests",     b"PING\r\nECHO hi\n\r\n\nSET a\r b\r\n",        &[b"PING", b"ECHO hi", b"SET a\r b"]),
            ("an array",            b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n",            &[b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n"]),
            ("lines",               b"+OK\r\n-ERR no\r\n:-5\r\n_\r\n#t\r\n,1.5\r\n(99\r\n", &[b"+OK\r\n", b"-ERR no\r\n", b":-5\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(99\r\n"]),
            ("bulk strings",        b"$0\r\n\r\n$-1\r\n$4\r\n\r\n\r\n\r\n",         &[b"$0\r\n\r\n", b"$-1\r\n", b"$4\r\n\r\n\r\n\r\n"]),
            ("empty arrays",        b"*0\r\n*-1\r\n",                               &[b"*0\r\n", b"*-1\r\n"]),
            ("nested",              b"*2\r\n*1\r\n:1\r\n*2\r\n*0\r\n:2\r\n:3\r\n",  &[b"*2\r\n*1\r\n:1\r\n*2\r\n*0\r\n:2\r\n", b":3\r\n"]),
            ("a map of RESP 3",     b"%1\r\n+a\r\n:1\r\n:2\r\n",                    &[b"%1\r\n+a\r\n:1\r\n", b":2\r\n"]),
            ("an attribute before", b"|1\r\n+a\r\n:1\r\n:2\r\n:3\r\n",              &[b"|1\r\n+a\r\n:1\r\n:2\r\n", b":3\r\n"]),
            ("sets, pushes, errors", b"~1\r\n:1\r\n>1\r\n:1\r\n!3\r\nERR\r\n=5\r\ntxt:a\r\n", &[b"~1\r\n:1\r\n", b">1\r\n:1\r\n", b"!3\r\nERR\r\n", b"=5\r\ntxt:a\r\n"]),
            ("both kinds",          b"PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n",        &[b"PING", b"*1\r\n$4\r\nPING\r\n", b"PING"]),
        ];
        for (name, bytes, messages) in cases {
            let outcome =
                check::splits(&Resp::default(), bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((&outcome.messages()[..], &outcome.error), (*messages, &None), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_ends_the_stream_at_that_byte_however_it_is_cut() {
        let resp = Resp::default().max(40);
        let bad = |at, byte, expected| FrameError::BadByte { at, byte, expected };
        let too_long = |announced| FrameError::TooLong { announced, max: 40 };
        let digit = "a digit of a length";
        #[rustfmt::skip]
        let cases: Vec<(&str, &[u8], usize, FrameError)> = vec![
            ("no length",           b"PING\r\n$\r\n",               1, bad(1, b'\r', digit)),
            ("a sign",              b"$+5\r\nhello\r\n",            0, bad(1, b'+', digit)),
            ("less than null",      b"*-2\r\n",                     0, bad(1, b'-', digit)),
            ("a letter",            b"*1\r\n$1a\r\n",               0, bad(6, b'a', digit)),
            ("streamed",            b"$?\r\n",                      0, bad(1, b'?', digit)),
            ("21 digits",           b"*000000000000000000001\r\n:1\r\n", 0, bad(21, b'1', "a length of 20 digits at most")),
            ("no end",              b"*00000000000000000000000",    0, bad(21, b'0', "a length of 20 digits at most")),
            ("a bare LF, no digits", b"$$$$$$$$$$$$$$$$$$$$$$$$$\n", 0, bad(1, b'$', digit)),
            ("a bare LF",           b":1\n",                        0, bad(2, b'\n', "CR LF at the end of a line")),
            ("no CR behind bytes",  b"$2\r\nhi!\n",                 0, bad(6, b'!', "CR LF behind a bulk string")),
            ("no LF behind bytes",  b"$2\r\nhi\r!",                 0, bad(7, b'!', "CR LF behind a bulk string")),
            ("no value inside",     b"*1\r\nPING\r\n",              0, bad(4, b'P', "the first byte of a RESP value")),
            ("a bulk string too long", b"$64\r\n",                  0, too_long(Some(71))),
            ("much too long",       b"$18446744073709551615\r\n",   0, too_long(Some(u64::MAX))),
            ("too many values",     b"*41\r\n",                     0, too_long(Some(128))),
            ("still more",          b"%99999999999999999999\r\n",   0, too_long(Some(u64::MAX))),
            ("a line too long",     b"+01234567890123456789012345678901234567890\r\n", 0, too_long(None)),
            ("a request too long",  b"01234567890123456789012345678901234567890\r\n", 0, too_long(None)),
            ("an array too long",   b"*3\r\n$9\r\n123456789\r\n$9\r\n123456789\r\n$9\r\n123456789\r\n", 0, too_long(Some(49))),
            ("a length across the limit", b"*2\r\n+0123456789012345678901\r\n!A00000000000000000000000000000000", 0, too_long(None)),
            ("cut off",             b"$5\r\nhel",                   0, FrameError::Truncated { received: 7 }),
            ("cut off at CR",       b"$2\r\nhi!",                   0, FrameError::Truncated { received: 7 }),
        ];
        for (name, bytes, messages, error) in cases {
            let outcome = check::splits(&resp, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                (outcome.messages().len(), outcome.error),
                (messages, Some(error)),
                "{name}"
            );
        }
    }

    #[test]
    fn nested_arrays_use_no_stack_and_what_is_no_value_becomes_a_bulk_string() {
        let mut deep = [&b"*1\r\n".repeat(100_000)[..], b":1\r\n"].concat();
        let len = deep.len();
        let whole = Ok(Decoded::Message { message: 0..len, consumed: len });
        assert_eq!(Resp::default().decode(&mut None, &mut deep, false), whole);

        #[rustfmt::skip]
        let cases: &[(&[u8], &[u8])] = &[
            (b"hello",          b"$5\r\nhello\r\n"),
            (b"",               b"$0\r\n\r\n"),
            (b"+OK\r\n",        b"+OK\r\n"),
            (b"+OK",            b"$3\r\n+OK\r\n"),
            (b"+OK\r\n+OK\r\n", b"$10\r\n+OK\r\n+OK\r\n\r\n"),
            (b"*1\r\n:1\r\n",   b"*1\r\n:1\r\n"),
            (b"*2\r\n:1\r\n",   b"$8\r\n*2\r\n:1\r\n\r\n"),
        ];
        for (message, wire) in cases {
            let mut out = b"before".to_vec();
            assert_eq!(Resp::default().encode(message, &mut out), Ok(()));
            assert_eq!(out[6..].escape_ascii().to_string(), wire.escape_ascii().to_string());
        }
    }
}
