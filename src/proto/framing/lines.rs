//! Lines of bytes, ended by LF or CRLF.

use memchr::memchr;
#[cfg(feature = "simd")]
use wide::u8x16;

use super::{
    ConfigError, Decoded, Encode, EncodeError, Encoder, FrameError, Framing, Next, Phase, Rest,
    Scan, Visitor, check_len, next, spec,
};

/// A message is a line without its end. Bytes are opaque; a lone CR is data.
///
/// An oversize line is reported once and skipped up to its end, no byte of it is
/// a message, and the next line is. The limit counts the bytes before the line
/// end: a line that is just short enough stays so when its CR arrives alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    max: usize,
    ends: LineEnd,
    eof_is_end: bool,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnd {
    /// LF, and one CR before it is dropped. Writes LF. SPEC word `lines`.
    ///
    /// Convenient between people and programs; where two programs must never
    /// disagree about a line, choose one of the others.
    #[default]
    Either,
    /// LF; CR is data. Writes LF. SPEC word `lines:lf`.
    Lf,
    /// CRLF; a bare LF ends the connection. Writes CRLF. SPEC word `lines:crlf`.
    CrLf,
}

impl Lines {
    /// The longest line, in bytes without its end. Default: 64 KiB. A longer one is
    /// [`FrameError::TooLong`] and is skipped.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// What ends a line. Default: [`LineEnd::Either`].
    pub fn ended_by(mut self, ends: LineEnd) -> Self {
        self.ends = ends;
        self
    }

    /// Whether the end of the stream ends the last line too. Default: no, and a
    /// last line without its end is [`FrameError::Truncated`].
    pub fn eof_is_end(mut self, yes: bool) -> Self {
        self.eof_is_end = yes;
        self
    }

    /// The bytes that a line of the maximum length may take with its end. One
    /// more without LF, and the line is too long however it goes on.
    fn window(&self) -> usize {
        let end = match self.ends {
            LineEnd::Lf => 1,
            LineEnd::Either | LineEnd::CrLf => 2,
        };
        self.max.saturating_add(end)
    }

    fn end(&self) -> &'static [u8] {
        match self.ends {
            LineEnd::Either | LineEnd::Lf => b"\n",
            LineEnd::CrLf => b"\r\n",
        }
    }

    fn too_long(&self) -> Option<FrameError> {
        Some(FrameError::TooLong { announced: None, max: self.max })
    }

    /// The payload length of a line whose bytes before the LF end in `line`, with
    /// `before` skipped ones in front.
    fn payload(&self, before: u32, line: &[u8]) -> Result<usize, FrameError> {
        match (self.ends, line) {
            (LineEnd::Either | LineEnd::CrLf, [payload @ .., b'\r']) => Ok(payload.len()),
            (LineEnd::Either | LineEnd::Lf, _) => Ok(line.len()),
            (LineEnd::CrLf, _) => {
                Err(FrameError::BareLf { at: u64::from(before) + line.len() as u64 })
            }
        }
    }

    /// The bytes of the line at the front of `input`, if its end is there and it is not too
    /// long at first sight; else `state` says how far that was looked for.
    #[inline]
    fn search(&self, state: &mut Scan, input: &[u8]) -> Option<usize> {
        if state.is_skipping() {
            return None;
        }
        let (scanned, window) = (state.count_of(Phase::Searching), input.len().min(self.window()));
        let found = memchr(b'\n', &input[scanned..window]).map(|at| scanned + at);
        *state = match found {
            Some(at) if at <= self.max => Scan::default(),
            Some(at) => Scan::new(Phase::Searching, at),
            None => Scan::new(Phase::Searching, window),
        };
        found
    }

    /// Bytes of the longest line end.
    pub(in crate::proto) const LONGEST_END: usize = 2;

    /// Appends a line in the usual case: there is memory for it, it is not too long, and it is
    /// `of_line`, a part of a line that came, or holds no LF. False: nothing was done.
    #[inline(always)]
    pub(in crate::proto) fn append(
        &self,
        message: &[u8],
        of_line: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let room = out.spare_capacity_mut().len().checked_sub(message.len());
        if message.len() > self.max || room.is_none_or(|room| room < Self::LONGEST_END) {
            return false;
        }
        if !of_line && line_end_inside(message).is_some() {
            return false;
        }
        out.extend_from_slice(message);
        if self.ends == LineEnd::CrLf {
            out.push(b'\r');
        }
        out.push(b'\n');
        true
    }

    /// Goes on skipping an oversize line.
    fn skip(&self, state: &mut Scan, input: &[u8]) -> Result<Decoded, FrameError> {
        let Some(at) = memchr(b'\n', input) else {
            return Ok(self.skip_all(state, input, None));
        };
        self.payload(state.count, &input[..at])?;
        *state = Scan::default();
        Ok(Decoded::Skip { consumed: at + 1, error: None })
    }

    /// Skips `input`, which holds no LF, but for a CR that may belong to the end
    /// of the line: whether an LF is bare must not depend on the cut.
    fn skip_all(&self, state: &mut Scan, input: &[u8], error: Option<FrameError>) -> Decoded {
        let held_back = self.ends == LineEnd::CrLf && input.last() == Some(&b'\r');
        let consumed = input.len() - usize::from(held_back);
        if consumed == 0 {
            return Decoded::Incomplete { need: 0 };
        }
        *state = Scan::new(Phase::Skipping, state.count_of(Phase::Skipping) + consumed);
        Decoded::Skip { consumed, error }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self { max: spec::DEFAULT_MAX_LINE, ends: LineEnd::default(), eof_is_end: false }
    }
}

impl Framing for Lines {
    type State = Scan;

    #[inline]
    fn decode(&self, state: &mut Scan, input: &mut [u8], end: bool) -> Result<Decoded, FrameError> {
        if state.is_skipping() {
            let skipped = self.skip(state, input)?;
            // The lost line has been reported; that it also lacks its end is no
            // second loss.
            return Ok(match skipped {
                Decoded::Incomplete { .. } if end && !input.is_empty() => {
                    Decoded::Skip { consumed: input.len(), error: None }
                }
                skipped => skipped,
            });
        }
        let window = input.len().min(self.window());
        let scanned = state.count_of(Phase::Searching);
        if let Some(at) = memchr(b'\n', &input[scanned..window]) {
            let line = scanned + at;
            *state = Scan::default();
            let payload = self.payload(0, &input[..line])?;
            let consumed = line + 1;
            return Ok(if payload > self.max {
                Decoded::Skip { consumed, error: self.too_long() }
            } else {
                Decoded::Message { message: 0..payload, consumed }
            });
        }
        if window == self.window() {
            return Ok(self.skip_all(state, &input[..window], self.too_long()));
        }
        if end && self.eof_is_end && !input.is_empty() {
            *state = Scan::default();
            let len = input.len();
            return Ok(if len > self.max {
                Decoded::Skip { consumed: len, error: self.too_long() }
            } else {
                Decoded::Message { message: 0..len, consumed: len }
            });
        }
        *state = Scan::new(Phase::Searching, window);
        Ok(Decoded::Incomplete { need: 0 })
    }

    /// Whole lines are found right here: while they are short, all the line ends of a block at
    /// once, since to begin a search for each costs more than the search; else with memchr.
    /// Whatever is not just the next line is left to [`decode`](Self::decode).
    #[inline]
    fn visit(
        &self,
        state: &mut Scan,
        input: &mut [u8],
        end: bool,
        visitor: &mut impl Visitor,
    ) -> Result<Rest, FrameError> {
        let mut used = 0;
        // The line ends from `used` on, of the block that ends at `looked_at`. There is none
        // before it, and if these are 0 there is none at all from `used` to there.
        let (mut ends, mut looked_at) = (0u64, 0);
        loop {
            let line_end = match ends {
                0 => self.search(state, &input[used..]).map(|at| used + at),
                _ => Some(looked_at - BLOCK + ends.trailing_zeros() as usize),
            };
            ends &= ends.wrapping_sub(1);
            let Some(line_end) = line_end.filter(|line_end| line_end - used <= self.max) else {
                // Most reads end with a line.
                if used > 0 && used == input.len() && !end {
                    return Ok(Rest { used, need: 0 });
                }
                (ends, looked_at) = (0, 0);
                // As the provided `visit` does it; a function for both costs up to 8 instructions a line.
                match next(self, state, &mut input[used..], end)? {
                    Next::Item { item, consumed } => {
                        used += consumed;
                        if item.is_some_and(|item| visitor.item(item).is_break()) {
                            return Ok(Rest { used, need: 0 });
                        }
                    }
                    Next::Incomplete { need } => return Ok(Rest { used, need }),
                }
                continue;
            };
            let line = &input[used..line_end];
            let message = &line[..self.payload(0, line)?];
            used = line_end + 1;
            if visitor.item(Ok(message)).is_break() {
                return Ok(Rest { used, need: 0 });
            }
            if ends == 0 && line.len() < SHORT {
                looked_at = looked_at.max(used);
                for bytes in input[looked_at..].as_chunks().0.iter().take(BLOCKS) {
                    looked_at += BLOCK;
                    ends = line_ends(bytes);
                    if ends != 0 {
                        break;
                    }
                }
                if ends == 0 {
                    *state = Scan::new(Phase::Searching, (looked_at - used).min(self.window()));
                }
            }
        }
    }

    fn is_skipping(&self, state: &Scan) -> bool {
        state.is_skipping()
    }

    fn excluded(&self) -> Option<u8> {
        Some(b'\n')
    }

    fn max_input(&self) -> usize {
        self.window()
    }
}

impl Encode for Lines {
    /// A payload with LF inside is refused. One that ends in CR is not, though a
    /// reader of [`LineEnd::Either`] will take that CR for a part of the end.
    #[inline(always)]
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.max)?;
        if let Some(at) = line_end_inside(message) {
            return Err(EncodeError::Delimiter { at });
        }
        out.extend_from_slice(message);
        if self.ends == LineEnd::CrLf {
            out.push(b'\r');
        }
        out.push(b'\n');
        Ok(())
    }

    fn encoder(&self) -> Option<Encoder<'_>> {
        Some(Encoder::Lines(self))
    }

    fn max_frame(&self) -> usize {
        self.max.saturating_add(self.end().len())
    }

    fn check(&self) -> Result<(), ConfigError> {
        spec::check_max(self.max, u64::MAX)
    }
}

/// Behind a line of fewer bytes, the next one is looked for in blocks.
const SHORT: usize = if cfg!(feature = "simd") { BLOCKS * BLOCK } else { 32 };
/// In so many, and then by a search, which costs a hundred instructions to begin. A block costs
/// 20 or, without `simd`, 60.
const BLOCKS: usize = if cfg!(feature = "simd") { 4 } else { 1 };
/// Bytes that [`line_ends`] looks at: one for each bit of its answer.
const BLOCK: usize = 64;
/// Every byte of a word an LF, every low bit of a byte, every high bit of a byte.
const LF: u64 = LOW * b'\n' as u64;
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// Bit `n` tells whether byte `n` is an LF.
#[cfg(feature = "simd")]
#[inline]
fn line_ends(block: &[u8; BLOCK]) -> u64 {
    let mut ends = 0;
    for (n, &part) in block.as_chunks().0.iter().enumerate() {
        let found = u8x16::new(part).simd_eq(u8x16::splat(b'\n'));
        ends |= u64::from(found.to_bitmask()) << (16 * n);
    }
    ends
}

/// The same, without a crate that can say it in one instruction.
#[cfg(not(feature = "simd"))]
#[inline]
fn line_ends(block: &[u8; BLOCK]) -> u64 {
    // Four vector comparisons, as compiled.
    let found = block.map(|byte| u8::from(byte == b'\n'));
    let (words, _) = found.as_chunks();
    let mut ends = 0;
    for (n, &word) in words.iter().enumerate() {
        // The product moves the eight low bits side by side into its top byte.
        let bits = u64::from_le_bytes(word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        ends |= bits << (8 * n);
    }
    ends
}

/// Nearly always there is none, and in a short message that is found out faster than a search
/// begins.
#[inline]
fn line_end_inside(message: &[u8]) -> Option<usize> {
    // One vector comparison, as compiled.
    let holds = |bytes: &[u8; 16]| bytes.iter().fold(false, |found, &byte| found | (byte == b'\n'));
    let word_holds = |word: &[u8; 8]| {
        let zero = u64::from_le_bytes(*word) ^ LF;
        zero.wrapping_sub(LOW) & !zero & HIGH != 0
    };
    // The last ones may be looked at again.
    let may_be =
        match (message.len(), message.last_chunk(), message.last_chunk(), message.first_chunk()) {
            (len, ..) if len > BLOCK => true,
            (_, Some(last), ..) => holds(last) || message.as_chunks().0.iter().any(holds),
            (_, None, Some(last), Some(first)) => word_holds(first) | word_holds(last),
            _ => message.contains(&b'\n'),
        };
    if may_be { memchr(b'\n', message) } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    const EITHER: LineEnd = LineEnd::Either;
    const LF_ONLY: LineEnd = LineEnd::Lf;
    const CRLF: LineEnd = LineEnd::CrLf;

    fn too_long() -> Result<&'static [u8], FrameError> {
        Err(FrameError::TooLong { announced: None, max: 4 })
    }

    #[test]
    fn a_stream_gives_these_lines_however_it_is_cut() {
        type Items = Vec<Result<&'static [u8], FrameError>>;
        let ok = |lines: &[&'static str]| lines.iter().map(|l| Ok(l.as_bytes())).collect::<Items>();
        let bare = |at| Some(FrameError::BareLf { at });
        let truncated = |received| Some(FrameError::Truncated { received });

        type Case = (&'static str, LineEnd, &'static [u8], Items, Option<FrameError>);
        #[rustfmt::skip]
        let cases: Vec<Case> = vec![
            // what is being shown               mode    bytes                items                    end
            ("nothing",                          EITHER, b"",                 ok(&[]),                 None),
            ("one line",                         EITHER, b"abc\n",            ok(&["abc"]),            None),
            ("an empty line is a message",       EITHER, b"\n\r\n",           ok(&["", ""]),           None),
            ("CR before LF is dropped",          EITHER, b"ab\r\nc\n",        ok(&["ab", "c"]),        None),
            ("only one CR is",                   EITHER, b"ab\r\r\n",         ok(&["ab\r"]),           None),
            ("a lone CR is data",                EITHER, b"a\rb\n",           ok(&["a\rb"]),           None),
            ("bytes are opaque",                 EITHER, b"\0\x1b\x7f\n",     ok(&["\0\x1b\x7f"]),     None),
            ("CR is data",                       LF_ONLY, b"ab\r\n",           ok(&["ab\r"]),           None),
            ("CRLF",                             CRLF,   b"ab\r\nc\r\n",      ok(&["ab", "c"]),        None),
            ("a bare LF ends it",                CRLF,   b"ab\r\ncd\nef\r\n", ok(&["ab"]),             bare(2)),
            ("the longest",                      EITHER, b"abcd\n",           ok(&["abcd"]),           None),
            ("the longest, CRLF",                EITHER, b"abcd\r\n",         ok(&["abcd"]),           None),
            ("the longest, strict",              CRLF,   b"abcd\r\n",         ok(&["abcd"]),           None),
            ("the longest counts CR as data",    LF_ONLY, b"abc\r\n",          ok(&["abc\r"]),          None),
            ("one too many",                     EITHER, b"abcde\nf\n",       vec![too_long(), Ok(b"f")], None),
            ("one too many, CRLF",               EITHER, b"abcde\r\nf\n",     vec![too_long(), Ok(b"f")], None),
            ("one too many, LF only",            LF_ONLY, b"abcde\nf\n",       vec![too_long(), Ok(b"f")], None),
            ("one too many, strict",             CRLF,   b"abcde\r\nf\r\n",   vec![too_long(), Ok(b"f")], None),
            ("CR one past the longest",          LF_ONLY, b"abcd\r\nf\n",      vec![too_long(), Ok(b"f")], None),
            ("far too many, reported once",      EITHER, b"0123456789abcdef\nf\n", vec![too_long(), Ok(b"f")], None),
            ("skipped CRs count for nothing",    CRLF,   b"abc\rdefgh\r\r\nf\r\n", vec![too_long(), Ok(b"f")], None),
            ("each is reported",                 EITHER, b"abcdefg\nhijklmn\n", vec![too_long(), too_long()], None),
            ("a bare LF ends a skipped line",    CRLF,   b"abcdefgh\nf\r\n",  vec![too_long()],        bare(8)),
            ("end inside a line",                EITHER, b"ab\ncd",           ok(&["ab"]),             truncated(2)),
            ("end after CR",                     EITHER, b"cd\r",             ok(&[]),                 truncated(3)),
            ("end inside a skipped line",        EITHER, b"abcdefgh",         vec![too_long()],        None),
            ("end after a CR that is skipped",   CRLF,   b"abcdefgh\r",       vec![too_long()],        None),
        ];
        for (name, ends, bytes, items, end) in cases {
            let lines = Lines::default().max(4).ended_by(ends);
            let outcome = check::splits(&lines, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(outcome.error, end, "{name}");
            let items: Vec<_> = items.into_iter().map(|item| item.map(<[u8]>::to_vec)).collect();
            assert_eq!(outcome.items, items, "{name}");
        }
    }

    /// Cut to pieces, lines come one at a time; whole, in blocks: the same lines.
    #[test]
    fn blocks_and_single_searches_find_the_same() {
        for seed in 0..60u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let stream: Vec<u8> = (0..seed * 8)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    b"aaaa\r\r\n\n\x8a\x0b"[(random % 10) as usize]
                })
                .collect();
            // Strict lines hardly ever survive random bytes: every LF gets its CR.
            let strict = stream.split(|&b| b == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
            for (ends, stream) in
                [(EITHER, &stream), (LF_ONLY, &stream), (CRLF, &stream), (CRLF, &strict)]
            {
                for max in [3, 9, 100] {
                    let lines = Lines::default().max(max).ended_by(ends);
                    if let Err(difference) = check::splits(&lines, stream) {
                        panic!("stream {seed}, {ends:?}, max {max}: {difference}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_of_any_length_is_found_behind_a_short_one() {
        for len in (0..=6 * BLOCK).filter(|len| (len + 3) % BLOCK < 6) {
            let long = "y".repeat(len);
            for stream in [format!("x\n{long}\nz\n"), format!("x\r\n{long}\r\nz"), long] {
                for max in [3, BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK - 1, 4 * BLOCK, 1000] {
                    let lines = Lines::default().max(max);
                    if let Err(difference) = check::splits(&lines, stream.as_bytes()) {
                        panic!("{len} bytes, max {max}: {difference}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_lf_is_found_wherever_it_is() {
        for len in 0..200 {
            let mut message = vec![b'\n' ^ 0x80; len];
            let mut out = Vec::new();
            assert_eq!(Lines::default().encode(&message, &mut out), Ok(()), "{len}");
            for at in (0..len).rev() {
                message[at] = b'\n';
                let refused = Err(EncodeError::Delimiter { at });
                assert_eq!(Lines::default().encode(&message, &mut out), refused, "{len}");
            }
        }
    }

    #[test]
    fn the_short_way_out_writes_the_same_or_nothing() {
        for ends in [EITHER, LF_ONLY, CRLF] {
            let lines = Lines::default().max(90).ended_by(ends);
            for (len, room) in (0..100).flat_map(|len| [0, len, len + 1, 200].map(|r| (len, r))) {
                for message in [vec![b'x'; len], [&vec![b'x'; len][..], b"\n"].concat()] {
                    let (mut slow, mut quick) = (vec![1], Vec::with_capacity(1 + room));
                    quick.push(1);
                    let (encoded, capacity) = (lines.encode(&message, &mut slow), quick.capacity());
                    let done = lines.append(&message, false, &mut quick);
                    assert_eq!(quick, if done { &slow[..] } else { &[1] }, "{message:?}, {room}");
                    assert_eq!(quick.capacity(), capacity, "{message:?}, {room}");
                    let fits = message.len() + 2 < capacity;
                    assert_eq!(done, encoded.is_ok() && fits, "{message:?}, {room}");
                }
            }
        }
    }

    #[test]
    fn the_end_of_the_stream_ends_a_line_only_if_asked() {
        let lines = Lines::default().max(4).eof_is_end(true);
        for (bytes, last) in
            [(&b"a\nbcd"[..], &b"bcd"[..]), (b"a\nb\r", b"b\r"), (b"\nabcd", b"abcd")]
        {
            let outcome = check::splits(&lines, bytes).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(outcome.items.last(), Some(&Ok(last.to_vec())));
            assert_eq!(outcome.error, None);
        }
        let outcome = check::splits(&lines, b"abcde").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(outcome.items, [Err(FrameError::TooLong { announced: None, max: 4 })]);
    }

    #[test]
    fn each_mode_writes_its_own_line_end_and_refuses_lf_inside() {
        for (ends, expected) in [(EITHER, &b"ab\n"[..]), (LF_ONLY, b"ab\n"), (CRLF, b"ab\r\n")] {
            let lines = Lines::default().max(4).ended_by(ends);
            let mut out = Vec::new();
            assert_eq!(lines.encode(b"ab", &mut out), Ok(()));
            assert_eq!(lines.encode(b"a\nb", &mut out), Err(EncodeError::Delimiter { at: 1 }));
            assert_eq!(
                lines.encode(b"abcde", &mut out),
                Err(EncodeError::TooLong { len: 5, max: 4 })
            );
            assert_eq!(out, expected, "a refused message leaves no byte behind");
            assert!(out.len() <= lines.max_frame());
        }
    }

    #[test]
    fn every_byte_of_a_trickled_line_is_looked_at_once() {
        let lines = Lines::default();
        let mut state = Scan::default();
        let mut bytes = vec![b'x'; 60_000];
        for len in 1..=bytes.len() {
            let decoded = lines.decode(&mut state, &mut bytes[..len], false);
            assert_eq!(decoded, Ok(Decoded::Incomplete { need: 0 }));
            assert_eq!(state.count_of(Phase::Searching), len);
        }
    }
}
