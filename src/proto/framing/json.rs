//! JSON values, one behind the other: each ends itself.
//!
//! ```text
//!  {"a": [1, 2]} {"b": 3}[4]  5 , "six"
//!  └──── 1 ────┘ └── 2 ─┘└3┘  4    5
//!               between: white space, commas, RS
//! ```
//!
//! Objects and arrays end with their last bracket. A scalar needs something behind it:
//! `12` may be the beginning of `123`. This finds where values end and is no parser:
//! `{"a" 1}` is a message, and whoever wants its content will say what is wrong with it.
//! Brackets have to match, because where they do not, nobody can say where the value ends.

use std::mem;

use memchr::memchr2;

use super::blocks::{BLOCK, find, parity};
use super::{ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, check_len, spec};

/// One JSON value (RFC 8259) is one message, white space around it removed.
///
/// Between values white space, commas and RS (RFC 7464) are skipped. A message is
/// written with LF behind it; whether it is JSON is the service's business. SPEC word
/// `json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json {
    max: usize,
    depth: usize,
}

impl Default for Json {
    fn default() -> Self {
        Self { max: spec::DEFAULT_MAX, depth: MAX_DEPTH }
    }
}

impl Json {
    /// The longest value, in bytes. Default: 1 MiB. A longer one is
    /// [`FrameError::TooLong`] and ends the connection.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// How deep brackets may nest, 1 to 128. Default: 128, which is where common
    /// parsers stop as well. A deeper value is [`FrameError::TooDeep`] and ends the
    /// connection.
    pub fn depth(mut self, levels: usize) -> Self {
        self.depth = levels;
        self
    }
}

/// As many bits as there are for open brackets.
const MAX_DEPTH: usize = 2 * HALF;
const HALF: usize = 64;

/// How far one value has been looked at. Its bytes are looked at once, however they
/// are cut.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Bytes of the value that have been looked at.
    seen: usize,
    nest: Nest,
    in_string: bool,
    /// The next byte stands behind a backslash.
    escaped: bool,
}

/// The open brackets of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Nest {
    depth: usize,
    /// The innermost 64, the last in the lowest bit: 1 for `{`, 0 for `[`.
    open: u64,
    /// The outermost 64, while more are open. One number of 128 bits for both would
    /// make everything slower by an eighth.
    outer: u64,
}

/// Why a byte outside of strings cannot stand there.
enum Misfit {
    Deep { max: usize },
    Byte { byte: u8, expected: &'static str },
}

/// What a look at some bytes has found.
enum Look {
    /// The value goes on behind them.
    On,
    /// It goes on, and they are all inside of one string.
    Inside,
    /// It ends after so many bytes.
    Ends(usize),
}

impl Walk {
    /// Looks at what has not been looked at of a value in brackets.
    fn look(&mut self, value: &[u8], limit: usize) -> Result<Look, FrameError> {
        // A copy that nothing else can see stays in registers.
        let mut walk = mem::take(self);
        let look = walk.go(value, limit);
        *self = walk;
        look
    }

    #[inline(always)]
    fn go(&mut self, value: &[u8], limit: usize) -> Result<Look, FrameError> {
        while let Some(block) = value[self.seen..].first_chunk::<BLOCK>() {
            match self.block(block, BLOCK, limit)? {
                Look::On => {}
                // Long strings are searched faster than looked through.
                Look::Inside => {
                    let rest = &value[self.seen..];
                    self.seen += memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                }
                ends => return Ok(ends),
            }
        }
        let rest = &value[self.seen..];
        if rest.len() < SHORT {
            return self.bytes(rest, limit);
        }
        let mut block = [b' '; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        self.block(&block, rest.len(), limit)
    }

    /// The first `len` bytes of a block, which is filled up with spaces.
    #[inline(always)]
    fn block(&mut self, block: &[u8; BLOCK], len: usize, limit: usize) -> Result<Look, FrameError> {
        // `{` and `[`, `}` and `]` differ in one bit.
        let [quotes, brackets, backslashes] = find(block, |byte| {
            [byte == b'"', byte | 0x20 == b'{' || byte | 0x20 == b'}', byte == b'\\']
        });
        let (escaped, backslashes) = if backslashes.is_empty() {
            (u64::from(self.escaped), 0)
        } else {
            let backslashes = backslashes.places();
            (escaped(backslashes, self.escaped), backslashes)
        };
        let quotes = quotes.places() & !escaped;
        let flip = if self.in_string { !0 } else { 0 };
        let strings = parity(quotes) ^ flip;
        let mut marks = (brackets.places() | backslashes) & !strings;
        let mut nest = self.nest;
        while marks != 0 {
            let at = marks.trailing_zeros() as usize;
            marks &= marks - 1;
            if nest.note(block[at], limit).map_err(|wrong| wrong.at(self.seen + at))? {
                return Ok(Look::Ends(self.seen + at + 1));
            }
        }
        self.nest = nest;
        self.seen += len;
        self.in_string = strings >> (len - 1) & 1 == 1;
        self.escaped = (backslashes & !escaped) >> (len - 1) & 1 == 1;
        Ok(if strings == !0 && backslashes == 0 { Look::Inside } else { Look::On })
    }

    /// The same, byte by byte: what is too short to be worth a block.
    fn bytes(&mut self, bytes: &[u8], limit: usize) -> Result<Look, FrameError> {
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'}' | b'[' | b']' | b'\\' if !self.in_string => {
                    let at = self.seen + at;
                    if self.nest.note(byte, limit).map_err(|wrong| wrong.at(at))? {
                        return Ok(Look::Ends(at + 1));
                    }
                }
                _ => {}
            }
        }
        self.seen += bytes.len();
        Ok(Look::On)
    }

    /// Looks for the end of a scalar: the first byte that is none of its own.
    fn scalar(&mut self, value: &[u8]) -> Result<Look, FrameError> {
        for (at, &byte) in value.iter().enumerate().skip(self.seen) {
            let inside = match byte {
                _ if self.escaped => {
                    self.escaped = false;
                    true
                }
                b'\\' if self.in_string => {
                    self.escaped = true;
                    true
                }
                // One at the beginning, one at the end.
                b'"' if self.in_string || at == 0 => {
                    self.in_string = !self.in_string;
                    true
                }
                _ if self.in_string => true,
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.' => value[0] != b'"',
                byte if is_between(byte) => return Ok(Look::Ends(at)),
                _ => false,
            };
            if !inside {
                let expected = "white space or a comma behind a scalar";
                return Err(FrameError::BadByte { at, byte, expected });
            }
        }
        self.seen = value.len();
        Ok(Look::On)
    }
}

impl Nest {
    /// Notes a bracket, or a backslash, outside of strings. True if it is the last one.
    #[inline(always)]
    fn note(&mut self, byte: u8, limit: usize) -> Result<bool, Misfit> {
        // The bit by which braces differ from square brackets.
        let kind = u64::from(byte >> 5 & 1);
        match byte | 0x20 {
            b'{' if self.depth < limit => {
                if self.depth == HALF {
                    self.outer = self.open;
                }
                self.depth += 1;
                self.open = self.open << 1 | kind;
                Ok(false)
            }
            b'}' if self.open & 1 == kind => {
                self.depth -= 1;
                self.open >>= 1;
                if self.depth == HALF {
                    self.open = self.outer;
                }
                Ok(self.depth == 0)
            }
            _ => Err(Misfit::new(byte, limit)),
        }
    }
}

impl Misfit {
    #[cold]
    fn new(byte: u8, limit: usize) -> Self {
        let expected = match byte {
            b'{' | b'[' => return Self::Deep { max: limit },
            b'}' => "the ] of an array",
            b']' => "the } of an object",
            _ => "no backslash outside of a string",
        };
        Self::Byte { byte, expected }
    }

    #[cold]
    fn at(self, at: usize) -> FrameError {
        match self {
            Self::Deep { max } => FrameError::TooDeep { max },
            Self::Byte { byte, expected } => FrameError::BadByte { at, byte, expected },
        }
    }
}

/// Bytes that are looked at one by one faster than as a block.
const SHORT: usize = 16;

/// The places behind an odd number of backslashes. `before`: one stood before the block.
///
/// Runs of backslashes that begin on odd places are added to themselves: the carry
/// comes out behind each run, on a place whose parity tells that of the run's length
/// (simdjson, 2020).
fn escaped(backslashes: u64, before: bool) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let before = u64::from(before);
    let backslashes = backslashes & !before;
    let behind = backslashes << 1 | before;
    let odd_starts = backslashes & !EVEN & !behind;
    let even_runs = odd_starts.wrapping_add(backslashes);
    (EVEN ^ (even_runs << 1)) & behind
}

/// What stands between values and is nobody's.
fn is_between(byte: u8) -> bool {
    const RS: u8 = 0x1e;
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | RS)
}

impl Framing for Json {
    /// Only a value that is cut needs to be remembered.
    type State = Option<Box<Walk>>;

    fn decode(
        &self,
        state: &mut Self::State,
        input: &mut [u8],
        end: bool,
    ) -> Result<Decoded, FrameError> {
        let between = input.iter().position(|&byte| !is_between(byte)).unwrap_or(input.len());
        if between > 0 && state.is_none() {
            return Ok(Decoded::Skip { consumed: between, error: None });
        }
        let mut fresh = Walk::default();
        let walk = match state {
            Some(walk) => walk,
            None => &mut fresh,
        };
        let value = &input[..input.len().min(self.max)];
        let look = match input.first() {
            None => return Ok(Decoded::Incomplete { need: 0 }),
            Some(b'{' | b'[') => walk.look(value, self.depth)?,
            // The byte behind the longest scalar may be its end.
            Some(b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                walk.scalar(&input[..input.len().min(self.max + 1)])?
            }
            Some(&byte) => {
                let expected = "the beginning of a JSON value";
                return Err(FrameError::BadByte { at: 0, byte, expected });
            }
        };
        match look {
            Look::Ends(at) => {
                *state = None;
                Ok(Decoded::Message { message: 0..at, consumed: at })
            }
            _ if input.len() > self.max => {
                Err(FrameError::TooLong { announced: None, max: self.max })
            }
            // Nothing can follow to make it longer.
            _ if end && walk.nest.depth == 0 && !walk.in_string => {
                *state = None;
                Ok(Decoded::Message { message: 0..input.len(), consumed: input.len() })
            }
            Look::On | Look::Inside => {
                if state.is_none() {
                    *state = Some(Box::new(fresh));
                }
                Ok(Decoded::Incomplete { need: 0 })
            }
        }
    }

    /// A scalar is known to end by what follows it.
    fn max_input(&self) -> usize {
        self.max + 1
    }
}

impl Encode for Json {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.max)?;
        out.extend_from_slice(message);
        out.push(b'\n');
        Ok(())
    }

    fn max_frame(&self) -> usize {
        self.max + 1
    }

    fn check(&self) -> Result<(), ConfigError> {
        spec::check_depth(self.depth, MAX_DEPTH)?;
        spec::check_max(self.max, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn json() -> Json {
        Json::default().max(40).depth(4)
    }

    #[test]
    fn a_stream_gives_these_values_however_it_is_cut() {
        #[rustfmt::skip]
        let cases: &[(&str, &[u8], &[&str])] = &[
            ("nothing",                     b"",                                &[]),
            ("only what is between",        b" ,\n\x1e\t\r",                    &[]),
            ("an object",                   br#"{"a":1}"#,                      &[r#"{"a":1}"#]),
            ("glued",                       b"{}[][{}]",                        &["{}", "[]", "[{}]"]),
            ("with commas and lines",       b"{},[1]\n\x1e[2] , 3\n",           &["{}", "[1]", "[2]", "3"]),
            ("brackets in strings",         br#"["]}{[",{"}":"{"}]"#,           &[r#"["]}{[",{"}":"{"}]"#]),
            ("quotes in strings",           br#"["\"]","\\"]["\\\"]"]"#,        &[r#"["\"]","\\"]"#, r#"["\\\"]"]"#]),
            ("scalars",                     br#"12 -3.5e7,true null "a b" "" "#, &["12", "-3.5e7", "true", "null", "\"a b\"", "\"\""]),
            ("a scalar before a bracket",   b"1 {}",                            &["1", "{}"]),
            ("a string with escapes",       br#""\"" "\\" "\u0022\\\"" "#,      &[r#""\"""#, r#""\\""#, r#""\u0022\\\"""#]),
            ("a scalar at the end",         b"[] 42",                           &["[]", "42"]),
            ("a string at the end",         br#""a""#,                          &[r#""a""#]),
            ("not a parser",                br#"{"a" 1,,}"#,                    &[r#"{"a" 1,,}"#]),
            ("as deep as may be",           b"[[[[]]]]",                        &["[[[[]]]]"]),
            ("as long as may be",           b"[01234567890123456789012345678901234567][]", &["[01234567890123456789012345678901234567]", "[]"]),
            ("the longest scalar",          b"0123456789012345678901234567890123456789 1", &["0123456789012345678901234567890123456789", "1"]),
            ("any bytes in strings",        b"[\"\xff\x00\n\"]",                &["[\"\u{fffd}\0\n\"]"]),
        ];
        for (name, bytes, messages) in cases {
            let outcome = check::splits(&json(), bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            let found: Vec<_> =
                outcome.messages().into_iter().map(String::from_utf8_lossy).collect();
            assert_eq!(
                (&found[..], &outcome.error),
                (&messages.iter().map(|&m| m.into()).collect::<Vec<_>>()[..], &None),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_wrong_ends_the_stream_at_that_byte_however_it_is_cut() {
        let bad = |at, byte, expected| FrameError::BadByte { at, byte, expected };
        let too_long = || FrameError::TooLong { announced: None, max: 40 };
        let truncated = |received| FrameError::Truncated { received };
        let begin = "the beginning of a JSON value";
        let behind = "white space or a comma behind a scalar";
        #[rustfmt::skip]
        let cases: Vec<(&str, &[u8], usize, FrameError)> = vec![
            ("the wrong bracket",       b"[1] {]",              1, bad(1, b']', "the } of an object")),
            ("the other wrong one",     b"[{} }",               0, bad(4, b'}', "the ] of an array")),
            ("an end at the beginning", b"[]]",                 1, bad(0, b']', begin)),
            ("no value",                b"{} hello",            1, bad(0, b'h', begin)),
            ("a byte order mark",       b"\xef\xbb\xbf{}",      0, bad(0, 0xef, begin)),
            ("two scalars",             b"12{}",                0, bad(2, b'{', behind)),
            ("two strings",             br#""a""b" "#,          0, bad(3, b'"', behind)),
            ("a string in a number",    br#"1"2" "#,            0, bad(1, b'"', behind)),
            ("a backslash outside",     br#"[\"]"#,             0, bad(1, b'\\', "no backslash outside of a string")),
            ("too deep",                b"[[[[[",               0, FrameError::TooDeep { max: 4 }),
            ("too long",                b"[012345678901234567890123456789012345678]", 0, too_long()),
            ("a scalar too long",       b"01234567890123456789012345678901234567890 ", 0, too_long()),
            ("a string that never ends", br#"{"a":"bcdefghijklmnopqrstuvwxyzabcdefghijklmn"#, 0, too_long()),
            ("cut off",                 b"[] [1, [2]",          1, truncated(7)),
            ("cut off in a string",     br#""a"#,               0, truncated(2)),
            ("cut off in an escape",    br#"["\"#,              0, truncated(3)),
        ];
        for (name, bytes, messages, error) in cases {
            let outcome = check::splits(&json(), bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                (outcome.messages().len(), outcome.error),
                (messages, Some(error)),
                "{name}"
            );
        }
    }

    struct Rng(u64);

    impl Rng {
        fn below(&mut self, n: usize) -> usize {
            // SplitMix64
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % n as u64) as usize
        }

        fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
            words[self.below(words.len())]
        }

        fn value(&mut self, depth: usize, out: &mut String) {
            let (open, close) = match self.below(if depth == 0 { 2 } else { 4 }) {
                0 => ("[", "]"),
                1 => ("{", "}"),
                _ => {
                    out.push_str(self.of(&[
                        "1",
                        "-2.5e8",
                        "null",
                        r#""""#,
                        r#""\\""#,
                        r#""a\"]}""#,
                    ]));
                    if self.below(3) == 0 {
                        let long = format!("\"{}\"", r#"\\\"x"#.repeat(self.below(40)));
                        out.push_str(&format!(",{}", if depth == 0 { "1" } else { &long }));
                    }
                    return;
                }
            };
            out.push_str(open);
            for item in 0..if depth > 6 { 0 } else { self.below(5) } {
                out.push_str(if item > 0 { "," } else { "" });
                if open == "{" {
                    out.push_str(self.of(&[r#""k":"#, r#""\"{":"#, r#""[": "#]));
                    out.push('1');
                    out.push_str(r#","l":"#);
                }
                let before = out.len();
                self.value(depth + 1, out);
                // Only one value may stand behind a key.
                if open == "{"
                    && out[before..].contains(',')
                    && !out[before..].starts_with(['[', '{'])
                {
                    out.truncate(before);
                    out.push('0');
                }
            }
            out.push_str(close);
        }
    }

    /// A failure prints its seed.
    #[test]
    fn values_end_where_a_parser_says_they_do() {
        for seed in 0..400 {
            let mut rng = Rng(seed);
            let mut stream = String::new();
            for _ in 0..8 {
                rng.value(0, &mut stream);
                stream.push_str(rng.of(&["", " ", "\n", "\r\n  "]));
            }
            let mut parser =
                serde_json::Deserializer::from_str(&stream).into_iter::<serde_json::Value>();
            let mut ends = Vec::new();
            while let Some(value) = parser.next() {
                value.unwrap_or_else(|e| panic!("seed {seed}: {e} in {stream}"));
                ends.push(parser.byte_offset());
            }
            let outcome = check::splits(&Json::default(), stream.as_bytes());
            let outcome = outcome.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let mut from = 0;
            let expected: Vec<&str> = ends
                .iter()
                .map(|&end| {
                    let value = stream[from..end].trim_start();
                    from = end;
                    value
                })
                .collect();
            let found: Vec<_> =
                outcome.messages().into_iter().map(|m| str::from_utf8(m).unwrap()).collect();
            assert_eq!((found, &outcome.error), (expected, &None), "seed {seed}");
        }
    }

    /// Nonsense, but of the bytes that matter, and long enough for blocks.
    #[test]
    fn whatever_comes_is_the_same_however_it_is_cut() {
        for seed in 0..400 {
            let mut rng = Rng(seed);
            let words = [
                "{", "}", "[", "]", "\"", "\\", "\\\\", "a", " ", ",", "1", "\"\"", "{\"a\":[",
                "]}", "\x1e",
            ];
            let mut stream = if rng.below(2) == 0 { "[\"" } else { "" }.to_string();
            (0..rng.below(120)).for_each(|_| stream.push_str(rng.of(&words)));
            let json = Json::default().max(60 + rng.below(80)).depth(1 + rng.below(5));
            if let Err(difference) = check::splits(&json, stream.as_bytes()) {
                panic!("seed {seed}: {difference}");
            }
        }
    }

    #[test]
    fn a_million_brackets_are_refused_at_the_limit_and_dribbled_bytes_are_seen_once() {
        let mut deep = b"[".repeat(1 << 20);
        let refused = Json::default().max(2 << 20).decode(&mut None, &mut deep, false);
        assert_eq!(refused, Err(FrameError::TooDeep { max: 128 }));

        // Looked at again from its beginning each time, this would take minutes.
        let json = Json::default().max(2 << 20);
        let mut state = None;
        let mut message = [&b"[\""[..], &b"\\\\\\\" ".repeat(1 << 14), b"\"]"].concat();
        for len in 1..message.len() {
            let decoded = json.decode(&mut state, &mut message[..len], false);
            assert_eq!(decoded, Ok(Decoded::Incomplete { need: 0 }), "{len}");
        }
        let len = message.len();
        let whole = Ok(Decoded::Message { message: 0..len, consumed: len });
        assert_eq!(json.decode(&mut state, &mut message, false), whole);
    }

    /// Both numbers that hold open brackets are used, and each tells its kinds apart.
    #[test]
    fn brackets_match_at_every_depth() {
        for depth in 1..=128 {
            let open = |at: usize| if [0, 3, 4].contains(&(at % 7)) { b'{' } else { b'[' };
            let close = |at: usize| if [0, 3, 4].contains(&(at % 7)) { b'}' } else { b']' };
            let right: Vec<u8> = (0..depth).map(open).chain((0..depth).rev().map(close)).collect();
            let mut bytes = right.clone();
            let whole = Decoded::Message { message: 0..2 * depth, consumed: 2 * depth };
            assert_eq!(Json::default().decode(&mut None, &mut bytes, false), Ok(whole), "{depth}");
            for at in depth..2 * depth {
                let mut bytes = right.clone();
                // `}` and `]` differ in one bit.
                bytes[at] ^= 0x20;
                let wrong = Json::default().decode(&mut None, &mut bytes, false);
                let found =
                    matches!(wrong, Err(FrameError::BadByte { at: found, .. }) if found == at);
                assert!(found, "{depth} levels, byte {at}: {wrong:?}");
            }
        }
    }

    #[test]
    fn settings_that_cannot_be_are_refused_with_what_can() {
        assert_eq!(Json::default().check(), Ok(()));
        assert_eq!(
            Json::default().depth(0).check(),
            Err(ConfigError::Depth { depth: 0, max: 128 })
        );
        assert_eq!(
            Json::default().depth(129).check(),
            Err(ConfigError::Depth { depth: 129, max: 128 })
        );
        let mut out = Vec::new();
        assert_eq!(
            json().encode(&[b'1'; 41], &mut out),
            Err(EncodeError::TooLong { len: 41, max: 40 })
        );
        assert_eq!((json().encode(b"[1]", &mut out), &out[..]), (Ok(()), &b"[1]\n"[..]));
    }
}
