//! Does a framing keep its contract? The test every framing of this crate takes.
//!
//! ```
//! use oneloop::proto::framing::check;
//! use oneloop::Lines;
//!
//! let outcome = check::splits(&Lines::default(), b"one\ntwo\r\n")?;
//! assert_eq!(outcome.messages(), [b"one", b"two"]);
//! assert_eq!(outcome.error, None);
//! # Ok::<(), Box<check::Difference>>(())
//! ```

use std::fmt;
use std::ops::ControlFlow;

use super::{AnyFraming, Encode, FrameError, Framing, Json, Xml};

/// What a stream was decoded to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Messages, and errors that were skipped over, in order.
    pub items: Vec<Result<Vec<u8>, FrameError>>,
    /// The error that ended it, if one did.
    pub error: Option<FrameError>,
}

impl Outcome {
    /// The messages alone.
    pub fn messages(&self) -> Vec<&[u8]> {
        self.items.iter().flatten().map(Vec::as_slice).collect()
    }
}

/// The same stream, decoded to something else when cut in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Lengths of the pieces, the rest of the stream being one more piece.
    pub pieces: Vec<usize>,
    /// The seed the pieces were drawn from, if they were.
    pub seed: Option<u64>,
    /// The stream fed at once.
    pub whole: Outcome,
    /// The stream fed in these pieces.
    pub cut: Outcome,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fed in pieces of {:?} bytes", self.pieces)?;
        if let Some(seed) = self.seed {
            write!(f, " (seed {seed})")?;
        }
        write!(f, ": {:?}, but whole: {:?}", self.cut, self.whole)
    }
}

impl std::error::Error for Difference {}

/// Streams up to this many bytes are cut at every pair of places.
const EXHAUSTIVE: usize = 96;
/// Ways of cutting at random that are tried on every stream, by seed. Odd ones stop
/// after every message.
const RANDOM_CUTS: u64 = 64;
/// Names the stream that is fed whole, but stopped after every message.
const STOPPED: u64 = u64::MAX;

/// Checks that `framing` decodes `stream`, and its end, to the same however it is
/// cut: whole, byte by byte, at every pair of places if it is at most 96 bytes
/// long, and in 64 random ways; and whole again, but stopped after every message, as
/// backpressure stops it. Returns what it decodes to.
///
/// # Errors
///
/// The first difference, with the cuts that show it.
///
/// # Panics
///
/// A message holds the byte that is [`excluded`](Framing::excluded).
pub fn splits<F: Framing>(framing: &F, stream: &[u8]) -> Result<Outcome, Box<Difference>> {
    splits_as(framing, stream, |outcome| outcome)
}

/// [`splits`] for a framing whose messages are the reads themselves: only the
/// joined bytes are compared, and returned as one message.
///
/// # Errors
///
/// The first difference, with the cuts that show it.
pub fn joined<F: Framing>(framing: &F, stream: &[u8]) -> Result<Outcome, Box<Difference>> {
    splits_as(framing, stream, |outcome| {
        let joined = outcome.messages().concat();
        Outcome { items: vec![Ok(joined)], error: outcome.error }
    })
}

fn splits_as<F: Framing>(
    framing: &F,
    stream: &[u8],
    view: impl Fn(Outcome) -> Outcome,
) -> Result<Outcome, Box<Difference>> {
    let whole = view(decode(framing, stream, &[], ControlFlow::Continue(())));
    let compare = |pieces: Vec<usize>, seed| {
        // Random cuts come with and without stops.
        let flow = match seed {
            Some(seed) if seed % 2 == 1 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let cut = view(decode(framing, stream, &pieces, flow));
        if cut == whole {
            return Ok(());
        }
        Err(Box::new(Difference { pieces, seed, whole: whole.clone(), cut }))
    };
    compare(vec![stream.len()], None)?;
    compare(vec![stream.len()], Some(STOPPED))?;
    compare(vec![1; stream.len()], None)?;
    if stream.len() <= EXHAUSTIVE {
        for first in 0..=stream.len() {
            for second in 0..=stream.len() - first {
                compare(vec![first, second], None)?;
            }
        }
    }
    for seed in 0..RANDOM_CUTS {
        let mut random = SplitMix64(seed);
        // Small pieces on some seeds, large ones on others.
        let most = 1 + random.next() as usize % (2 + stream.len() / 2);
        let mut left = stream.len();
        let mut pieces = Vec::new();
        while left > 0 {
            let piece = (random.next() as usize % (most + 1)).min(left);
            pieces.push(piece);
            left -= piece;
        }
        compare(pieces, Some(seed))?;
    }
    Ok(whole)
}

/// The framings that [`any_framing`] chooses from, small limits among them; not `raw`,
/// whose messages are the reads.
const SPECS: &[&str] = &[
    "lines",
    "lines:lf,max=9",
    "lines:crlf",
    "lines,eof=message,max=5",
    r"delim:ab",
    r"delim:\r\n,max=7",
    "nul",
    "stx-etx,max=6",
    "mllp",
    "mllp,max=3",
    "fixed:3",
    "u8",
    "u16be",
    "u16le,max=9",
    "u24be,max=300",
    "u24le",
    "u32be,offset=2,adjust=-3",
    "u32le,strip=1",
    "u64be",
    "u64le,adjust=5,max=20",
    "base128",
    "base128,max=100",
    "varint",
    "varint,max=300",
    "ascii:1",
    "ascii:8,max=50",
    "ascii:64:space",
    "ascii:3:space,max=9",
    "netstring",
    "netstring,max=12",
    "syslog",
    "syslog,max=8",
    "slip",
    "slip,max=5",
    "cobs",
    "cobs,max=260",
    "resp",
    "resp,max=40",
    "modbus",
    "json",
    "json,depth=3,max=30",
    "xml",
    "xml,depth=3,max=40",
    #[cfg(feature = "http")]
    "http",
    #[cfg(feature = "http")]
    "http,max=60",
];

/// Checks a framing that the first byte of `data` chooses with the cuts and the stream
/// behind it, as [`any_cuts`]. What a fuzzer calls, and a test with what one found.
///
/// # Errors
///
/// The difference, if the framing breaks its contract.
pub fn any_framing(data: &[u8]) -> Result<(), Box<Difference>> {
    let Some((&choice, data)) = data.split_first() else { return Ok(()) };
    let spec = SPECS[usize::from(choice) % SPECS.len()];
    let framing: AnyFraming = spec.parse().expect("the list is of right ones");
    any_cuts(&framing, data)
}

/// [`any_cuts`] of `json`, with limits that short streams reach.
///
/// # Errors
///
/// The difference, if the framing breaks its contract.
pub fn any_json(data: &[u8]) -> Result<(), Box<Difference>> {
    any_cuts(&Json::default().max(4096).depth(16), data)
}

/// [`any_cuts`] of `xml`, with limits that short streams reach.
///
/// # Errors
///
/// The difference, if the framing breaks its contract.
pub fn any_xml(data: &[u8]) -> Result<(), Box<Difference>> {
    any_cuts(&Xml::default().max(4096).depth(16), data)
}

/// [`any_cuts`] of `http`. The first byte of `data` chooses the side: requests if it is
/// even, responses if it is odd.
///
/// # Errors
///
/// The difference, if the framing breaks its contract.
#[cfg(feature = "http")]
pub fn any_http(data: &[u8]) -> Result<(), Box<Difference>> {
    let Some((side, data)) = data.split_first() else { return Ok(()) };
    let framing = super::Http::default().max(4096);
    let framing = if side % 2 == 0 { framing } else { framing.client("a") };
    any_cuts(&framing, data)
}

/// Checks that a stream decodes to the same whole and in pieces. The first byte of
/// `data` says how many pieces (up to 15), so many bytes behind it how long they are,
/// and the rest is the stream.
///
/// # Errors
///
/// The difference, if the framing breaks its contract.
pub fn any_cuts<F: Framing>(framing: &F, data: &[u8]) -> Result<(), Box<Difference>> {
    let Some((&count, data)) = data.split_first() else { return Ok(()) };
    let (lengths, stream) = data.split_at(data.len().min(usize::from(count % 16)));
    let mut left = stream.len();
    let pieces: Vec<usize> = lengths
        .iter()
        .map(|&length| {
            let piece = usize::from(length).min(left);
            left -= piece;
            piece
        })
        .collect();
    let whole = decode(framing, stream, &[], ControlFlow::Continue(()));
    for flow in [ControlFlow::Continue(()), ControlFlow::Break(())] {
        let cut = decode(framing, stream, &pieces, flow);
        if cut != whole {
            return Err(Box::new(Difference { pieces, seed: None, whole, cut }));
        }
    }
    Ok(())
}

/// The messages of a stream, and whether it ends.
pub(crate) fn messages<F: Framing>(framing: &F, stream: &[u8], end: bool) -> Vec<Vec<u8>> {
    let (mut state, mut stream, mut found) = (F::State::default(), stream.to_vec(), Vec::new());
    // Of an error, what came before it is enough.
    let _ = framing.each(&mut state, &mut stream, end, |item| {
        found.extend(item.ok().map(<[u8]>::to_vec));
        ControlFlow::Continue(())
    });
    found
}

/// Checks that any text is a SPEC, or an error that says where; and that what is one can
/// frame a message. What a fuzzer calls.
///
/// # Errors
///
/// The difference, if what it frames decodes to something else when it is cut.
pub fn any_spec(text: &[u8]) -> Result<(), Box<Difference>> {
    let Ok(text) = std::str::from_utf8(text) else { return Ok(()) };
    let framing: AnyFraming = match text.parse() {
        Ok(framing) => framing,
        Err(error) => {
            debug_assert!(!error.to_string().is_empty());
            return Ok(());
        }
    };
    let mut stream = Vec::new();
    for message in [&b"[1]"[..], b"", b"<a/>", &[b'7'; 40]] {
        // A message that this one cannot carry is refused.
        let _ = framing.clone().for_client("a").encode(message, &mut stream);
    }
    // The messages of `raw` are the reads.
    if text.starts_with("raw") { Ok(()) } else { splits(&framing, &stream).map(drop) }
}

/// Feeds `stream` as a connection would: what is left over is kept and comes
/// first the next time. The last piece comes together with the end. After each
/// message `flow` says whether to go on, or to stop and be called again.
fn decode<F: Framing>(
    framing: &F,
    stream: &[u8],
    pieces: &[usize],
    flow: ControlFlow<()>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut state = F::State::default();
    let mut kept: Vec<u8> = Vec::new();
    let mut rest = stream;
    for piece in pieces.iter().copied().map(Some).chain([None]) {
        let (now, later) = rest.split_at(piece.unwrap_or(rest.len()));
        rest = later;
        kept.extend_from_slice(now);
        loop {
            let before = outcome.items.len();
            let result = framing.each(&mut state, &mut kept, piece.is_none(), |item| {
                let holds = |byte| item.as_ref().is_ok_and(|message| message.contains(&byte));
                let lie = framing.excluded().filter(|&byte| holds(byte));
                assert_eq!(lie, None, "a message has what Framing::excluded says that none has");
                outcome.items.push(item.map(<[u8]>::to_vec));
                flow
            });
            match result {
                Ok(found) => drop(kept.drain(..found.used)),
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
            if flow.is_continue() || outcome.items.len() == before {
                break;
            }
        }
    }
    outcome
}

/// A small random generator: the cuts must be the same on every machine.
/// (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.)
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Encode, EncodeError, Endian, LengthField, Lines, Pair, Raw};
    use super::*;

    /// Takes whatever a read brings for a message: the bug that every framing
    /// exists to avoid.
    struct ReadIsMessage;

    impl Framing for ReadIsMessage {
        type State = ();

        fn decode(&self, (): &mut (), input: &mut [u8], _: bool) -> Result<Decoded, FrameError> {
            let len = input.len();
            Ok(match len {
                0 => Decoded::Incomplete { need: 1 },
                _ => Decoded::Message { message: 0..len, consumed: len },
            })
        }
    }

    impl Encode for ReadIsMessage {
        fn encode(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), EncodeError> {
            Ok(())
        }

        fn max_frame(&self) -> usize {
            0
        }
    }

    /// Lines that are said to hold no x.
    struct NoX(Lines);

    impl Framing for NoX {
        type State = <Lines as Framing>::State;

        fn decode(
            &self,
            state: &mut Self::State,
            input: &mut [u8],
            end: bool,
        ) -> Result<Decoded, FrameError> {
            self.0.decode(state, input, end)
        }

        fn excluded(&self) -> Option<u8> {
            Some(b'x')
        }
    }

    impl Encode for NoX {
        fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
            self.0.encode(message, out)
        }

        fn max_frame(&self) -> usize {
            self.0.max_frame()
        }
    }

    #[test]
    #[should_panic(expected = "what Framing::excluded says that none has")]
    fn a_byte_that_is_said_to_be_in_no_message_and_is_in_one_is_found() {
        let _ = splits(&NoX(Lines::default()), b"a\nx\n");
    }

    /// Consumes nothing, for ever.
    struct Stuck;

    impl Framing for Stuck {
        type State = ();

        fn decode(&self, (): &mut (), _: &mut [u8], _: bool) -> Result<Decoded, FrameError> {
            Ok(Decoded::Message { message: 0..0, consumed: 0 })
        }
    }

    impl Encode for Stuck {
        fn encode(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), EncodeError> {
            Ok(())
        }

        fn max_frame(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_framing_that_depends_on_reads_is_caught_with_the_cut() {
        let difference = splits(&ReadIsMessage, b"ab").expect_err("its messages are the reads");
        assert_eq!(difference.pieces, [1, 1]);
        assert!(joined(&ReadIsMessage, b"ab").is_ok(), "the bytes themselves are kept");
    }

    #[test]
    fn a_framing_that_consumes_nothing_ends_in_an_error_not_in_a_loop() {
        let outcome = splits(&Stuck, b"ab").expect("the same for every cut");
        assert_eq!(outcome.error, Some(FrameError::NoProgress));
    }

    #[test]
    fn raw_loses_no_byte() {
        let outcome = joined(&Raw::default().max(3), b"any bytes \r\n\0\xff");
        assert_eq!(outcome.map(|o| o.messages().concat()), Ok(b"any bytes \r\n\0\xff".to_vec()));
    }

    /// Long streams of valid messages with damage at one random place.
    #[test]
    fn random_streams_decode_the_same_however_they_are_cut() {
        for word in AnyFraming::WORDS.iter().filter(|word| !matches!(**word, "raw" | "fixed:N")) {
            let word = &word.replace("BYTES", "~!").replace('N', "4");
            for seed in 0..40 {
                // A head of HTTP takes some 90 bytes.
                let max = if word == "http" { 300 } else { 200 };
                let framing = AnyFraming::from_spec(word, Some(max)).expect("a word of the list");
                let client = framing.clone().for_client("a");
                let mut random = SplitMix64(seed);
                let mut stream = Vec::new();
                for _ in 0..random.next() % 40 {
                    let byte = b' ' + (random.next() % 90) as u8;
                    let bytes = vec![byte; 1 + random.next() as usize % 190];
                    let text = vec![b'a' + byte % 26; bytes.len()];
                    let message = match word.as_str() {
                        "json" => [&b"[\""[..], &text, b"\"]"].concat(),
                        "xml" => [&b"<a>"[..], &text, b"</a>"].concat(),
                        "modbus" => [&[0; 8][..], &bytes].concat(),
                        _ => bytes,
                    };
                    client.encode(&message, &mut stream).expect("within the limit");
                }
                if seed % 2 == 1 && !stream.is_empty() {
                    let at = random.next() as usize % stream.len();
                    stream[at] = random.next() as u8;
                }
                if let Err(difference) = splits(&framing, &stream) {
                    panic!("{word}, stream seed {seed}: {difference}");
                }
            }
        }
    }

    /// What the fuzzer runs, on every machine and for a moment; what it has found is
    /// among its seeds, which `tests/fuzz_seeds.rs` runs.
    #[test]
    fn any_bytes_in_any_framing_are_the_same_however_they_are_cut() {
        let check = |data: &[u8]| {
            if let Err(difference) = any_framing(data) {
                panic!("{}: {difference}", data.escape_ascii());
            }
        };
        let tokens: [&[u8]; 20] = [
            b"\n",
            b"\r\n",
            b"\0",
            b"\xc0",
            b"\xdb\xdc",
            b"5",
            b":",
            b",",
            b" ",
            b"{",
            b"}",
            b"[\"",
            b"\\\"]",
            b"<a>",
            b"</a>",
            b"<!--",
            b"-->",
            b"$3\r\n",
            b"*2\r\n",
            b"\x02\0",
        ];
        for seed in 0..40_000 {
            let mut random = SplitMix64(seed);
            let mut data: Vec<u8> = (0..17).map(|_| (random.next() % 24) as u8).collect();
            data[0] = random.next() as u8;
            for _ in 0..random.next() % 24 {
                match random.next() % 3 {
                    0 => data.push(random.next() as u8),
                    _ => data.extend_from_slice(tokens[random.next() as usize % tokens.len()]),
                }
            }
            check(&data);
        }
    }

    /// A seed is named after the SPEC that its first byte chooses, and `.what` may stand
    /// behind that. Who changes the list has to change the seeds.
    #[test]
    fn every_framing_has_a_seed_to_be_fuzzed_from_and_every_seed_its_framing() {
        let mut missing: Vec<&str> = SPECS.to_vec();
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/framings");
        for seed in std::fs::read_dir(seeds).expect("seeds are beside the sources") {
            let seed = seed.expect("a directory").path();
            let data = std::fs::read(&seed).expect("a file");
            let name = seed.file_stem().expect("a name").to_string_lossy();
            let Some(spec) = SPECS.get(usize::from(data[0])) else {
                assert!(name.starts_with("http") && !cfg!(feature = "http"), "{name}");
                continue;
            };
            let words: Vec<&str> = spec
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| !word.is_empty())
                .collect();
            assert_eq!(name, words.join("-"), "{}: {spec}", seed.display());
            missing.retain(|other| other != spec);
        }
        assert_eq!(missing, [""; 0], "framings without a seed");
    }

    #[test]
    fn a_pair_decodes_with_one_and_encodes_with_the_other() {
        let pair = Pair { decode: LengthField::u16(Endian::Big), encode: Lines::default() };
        let outcome = splits(&pair, b"\0\x02hi").expect("a length field");
        let mut out = Vec::new();
        pair.encode(outcome.messages()[0], &mut out).expect("no LF inside");
        assert_eq!(out, b"hi\n");
        let wrong = Pair { decode: Raw::default(), encode: LengthField::u8().max(256) };
        assert!(wrong.check().is_err(), "both halves are checked");
    }
}
