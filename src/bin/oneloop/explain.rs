//! `oneloop explain`: what a SPEC means, and what it makes of captured bytes.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use oneloop::net::idle_bytes;
use oneloop::proto::framing::check;
use oneloop::services::Echo;
use oneloop::{AnyFraming, Decoded, Encode, EncodeError, FrameError, Framing, MAX_MESSAGE};

use crate::Failure;
use crate::journal::Shown;
use crate::units;

#[derive(Args)]
#[command(after_help = "\
Examples:
  oneloop explain u16be,offset=2,adjust=-4       the layout, a sample, the limits
  oneloop explain lines capture.bin              the messages in a file, and whether they
                                                 are the same however it is cut")]
pub(crate) struct Explain {
    /// A framing, as for `oneloop serve --framing`
    spec: String,

    /// Bytes as they came from a socket
    file: Option<PathBuf>,

    /// Connections to count memory for
    #[arg(short, long, value_name = "N", value_parser = units::count, default_value = "10k")]
    connections: usize,
}

/// Words, what a message is, and whether one that is too long is skipped (else the
/// connection closes).
#[rustfmt::skip]
const MEANINGS: [(&str, &str, bool); 31] = [
    ("lines",         "what ends in LF; one CR before it is dropped",              true),
    ("lines:lf",      "what ends in LF; CR is data",                               true),
    ("lines:crlf",    "what ends in CR LF; a bare LF ends the connection",         true),
    ("delim:BYTES",   "what ends in the delimiter",                                true),
    ("nul",           "what ends in a zero byte",                                  true),
    ("stx-etx",       "what stands between STX and ETX; bytes before are skipped", true),
    ("mllp",          "what stands between VT and FS CR; bytes before are skipped", true),
    ("fixed:N",       "so many bytes",                                             false),
    ("u8",            "what follows its length in one byte",                       false),
    ("u16be",         "what follows its length in two bytes, the most significant first", false),
    ("u16le",         "what follows its length in two bytes, the least significant first", false),
    ("u24be",         "what follows its length in three bytes, the most significant first", false),
    ("u24le",         "what follows its length in three bytes, the least significant first", false),
    ("u32be",         "what follows its length in four bytes, the most significant first", false),
    ("u32le",         "what follows its length in four bytes, the least significant first", false),
    ("u64be",         "what follows its length in eight bytes, the most significant first", false),
    ("u64le",         "what follows its length in eight bytes, the least significant first", false),
    ("base128",       "what follows its length in two digits to the base of 128, the low one first", false),
    ("varint",        "what follows its length as protocol buffers write it",      false),
    ("ascii:N",       "what follows its length in ASCII digits, zeros in front",   false),
    ("ascii:N:space", "what follows its length in ASCII digits, spaces behind",    false),
    ("netstring",     "what stands between its length, a colon, and a comma",      false),
    ("syslog",        "what follows its length and a space; or a line that begins with <", false),
    ("slip",          "what ends in C0; C0 and DB inside are escaped",             true),
    ("cobs",          "what ends in a zero byte; zeros inside are stuffed away",   true),
    ("resp",          "a value of Redis' protocol, or a line",                     false),
    ("modbus",        "a unit of Modbus TCP, its header included",                 false),
    ("json",          "one JSON value; white space, commas and RS between them are skipped", false),
    ("xml",           "one XML document; white space between them is skipped",     false),
    ("http",          "a request of HTTP/1.1: its head and its body, chunks joined",        false),
    ("raw",           "whatever one read brings",                                  false),
];

impl Explain {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let framing = AnyFraming::from_spec(&self.spec, None)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let text = match &self.file {
            None => self.picture(&framing),
            Some(file) => replay(&framing, &read(file)?),
        };
        match io::stdout().write_all(text.as_bytes()) {
            // Who reads the first lines only has what they wanted.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| Failure::Runtime(format!("cannot print: {error}"))),
        }
    }

    fn picture(&self, framing: &AnyFraming) -> String {
        let mut text = String::new();
        let max = largest(framing);
        let meaning = meaning(&self.spec).0;
        let Limits { payload, too_long, wire, cut_off, time } = limits(framing, &self.spec, max);
        let idle = self.connections * idle_bytes::<AnyFraming, Echo>();
        let waiting = self.connections.saturating_mul(framing.max_input());
        let mut line = |name: &str, what: &str| {
            writeln!(text, "{}", format!("{name:<12}{what}").trim_end())
                .expect("a string takes everything");
        };
        line("framing", &self.spec);
        line("message", meaning);
        line("", "");
        let layout = layout(framing);
        for row in &layout {
            line("", row);
        }
        if layout.is_empty() {
            line("", "no message is so short");
        }
        line("", "");
        line("payload", &payload);
        line("", too_long);
        line("on the wire", &wire);
        line("cut off", cut_off);
        line("time", time);
        let held = units::bytes(idle as u64);
        line("memory", &format!("{held} for {} idle connections;", self.connections));
        line(
            "",
            &format!(
                "{} more if each has sent all but the end of the largest",
                units::bytes(waiting as u64)
            ),
        );
        for remark in remarks(framing, &self.spec, max) {
            line("doubtful", remark);
        }
        text
    }
}

fn meaning(spec: &str) -> (&'static str, bool) {
    let word = spec.split(',').next().unwrap_or(spec);
    let found = MEANINGS.iter().find(|(known, ..)| is_filled_in(known, word));
    found.map_or(("", false), |&(_, meaning, skips)| (meaning, skips))
}

/// Whether `word` is `known` with something in place of its capitals.
fn is_filled_in(known: &str, word: &str) -> bool {
    let mut parts = word.split(':');
    for known in known.split(':') {
        match (known, parts.next()) {
            // A delimiter may have colons in it.
            ("BYTES", Some(_)) => return true,
            ("N", Some(_)) => {}
            (known, Some(part)) if known == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// What is said of the limits of a framing.
struct Limits {
    payload: String,
    too_long: &'static str,
    wire: String,
    cut_off: &'static str,
    time: &'static str,
}

fn limits(framing: &AnyFraming, spec: &str, max: usize) -> Limits {
    let skips = meaning(spec).1;
    let (fixed, raw) =
        (matches!(framing, AnyFraming::Fixed(_)), matches!(framing, AnyFraming::Raw(_)));
    let (json, xml) =
        (matches!(framing, AnyFraming::Json(_)), matches!(framing, AnyFraming::Xml(_)));
    let http = matches!(framing, AnyFraming::Http(_));
    Limits {
        payload: match framing {
            AnyFraming::Fixed(_) => format!("{max} bytes, in and out; a reply of another size"),
            AnyFraming::Raw(_) => {
                format!("up to {max} bytes, in and out; a read of more than that")
            }
            AnyFraming::Http(_) => format!("up to {max} bytes, head and body; one that is longer"),
            _ => format!("up to {max} bytes, in and out; one that is longer"),
        },
        too_long: match () {
            () if fixed => "is refused, and closes its connection, bad_reply",
            () if raw => "is several messages",
            () if http => "gets a 413 and closes its connection, too_long",
            () if skips => "is skipped up to its end and counted; the next one is served",
            () => "closes its connection, too_long",
        },
        wire: match http {
            true => {
                format!("up to {} bytes, if its body comes in small chunks", framing.max_input())
            }
            false if fixed => format!("{max} bytes"),
            false => format!("up to {} bytes with its frame", on_the_wire(framing, max)),
        },
        cut_off: match () {
            () if raw => "never: what came is a message",
            () if spec.contains("eof=message") => {
                "when the stream ends before its line does: delivered all the same"
            }
            () if json => "when the stream ends inside of it: `truncated`; a scalar is delivered",
            () => "when the stream ends inside of it: `truncated`, nothing of it delivered",
        },
        time: match () {
            () if raw => "none: it is there at once",
            // They do not say how long they will be.
            () if skips || json || xml => "30 s to arrive",
            () => "30 s to arrive, and 1 s more for each 4 KiB that it announces",
        },
    }
}

/// The largest payload: what the framing says when it is given more.
fn largest(framing: &AnyFraming) -> usize {
    let more = vec![0; framing.max_frame().min(MAX_MESSAGE) + 1];
    // A server of HTTP writes nothing without a request.
    match framing.clone().for_client("localhost").encode(&more, &mut Vec::new()) {
        Err(EncodeError::TooLong { max, .. }) => max,
        _ => framing.max_frame(),
    }
}

/// How long the largest message is in its frame; of what gets longer by what is in it, at
/// most.
fn on_the_wire(framing: &AnyFraming, max: usize) -> usize {
    /// So much may be tried.
    const MOST: usize = 16 << 20;
    let mut wire = Vec::new();
    match framing {
        AnyFraming::Stuffed(_) => framing.max_frame(),
        _ if max > MOST || framing.encode(&vec![b'_'; max], &mut wire).is_err() => {
            framing.max_frame()
        }
        _ => wire.len(),
    }
}

/// A message in its frame: offsets, hex, text, and what the parts are.
fn layout(framing: &AnyFraming) -> Vec<String> {
    let modbus: &[u8] = b"\x12\x34\0\0\0\x06\x01\x03\0\x6b\0\x03";
    let samples: &[&[u8]] = match framing {
        AnyFraming::Modbus(_) => &[modbus],
        _ => &[b"hello", b"[\"hello\"]", b"<hello/>"],
    };
    let frame = |message: &[u8]| {
        let mut wire = Vec::new();
        // As a peer sends it.
        framing.clone().for_client("localhost").encode(message, &mut wire).ok()?;
        let mut back = wire.clone();
        match framing.decode(&mut Default::default(), &mut back, false) {
            Ok(Decoded::Message { message, .. }) => Some((wire, message)),
            _ => None,
        }
    };
    // A framing of fixed size takes that size alone, and one that leaves its header to the
    // message some more than that.
    let largest = largest(framing);
    let len = if matches!(framing, AnyFraming::Fixed(_)) { largest } else { largest.min(16) };
    let filled = vec![b'x'; len];
    let samples = match framing {
        AnyFraming::LengthField(_) => vec![samples[0], &filled],
        _ => [samples, &[&filled, b""]].concat(),
    };
    let Some((wire, message)) = samples.into_iter().find_map(frame) else {
        return Vec::new();
    };
    let message = message.start..message.end.min(wire.len());
    let blank = wire.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
    let parts = match framing {
        AnyFraming::Http(_) => vec![(0..blank, "head"), (blank..wire.len(), "body")],
        // They are stuffed on the wire, and end in one byte.
        AnyFraming::Stuffed(_) => {
            let end = wire.len() - 1;
            vec![(0..end, "message, stuffed"), (end..wire.len(), "end")]
        }
        _ => vec![
            (0..message.start, "header"),
            (message.clone(), "message"),
            (message.end..wire.len(), "end"),
        ],
    };
    let mut rows = ["at", "hex", "text", "is"].map(|name| format!("{name:<8}"));
    for (range, name) in parts.into_iter().filter(|(range, _)| !range.is_empty()) {
        let part = &wire[range.clone()];
        let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
        let cells = [
            range.start.to_string(),
            shortened(part.iter().map(|byte| format!("{byte:02x}")), part.len(), " "),
            shortened(part.iter().map(|byte| shown(byte).to_string()), part.len(), ""),
            name.to_string(),
        ];
        let width = cells.iter().map(String::len).max().unwrap_or(0) + 2;
        for (row, cell) in rows.iter_mut().zip(cells) {
            write!(row, "{cell:width$}").expect("a string takes everything");
        }
    }
    rows.map(|row| row.trim_end().to_string()).to_vec()
}

/// The first and the last, if there are very many.
fn shortened(all: impl Iterator<Item = String>, len: usize, between: &str) -> String {
    const MOST: usize = 16;
    let last = len.saturating_sub(1);
    let kept = all.enumerate().filter_map(|(at, one)| match at {
        _ if len <= MOST || at < MOST - 2 || at == last => Some(one),
        at if at == MOST - 2 => Some("..".to_string()),
        _ => None,
    });
    kept.collect::<Vec<_>>().join(between)
}

/// What may be meant otherwise.
fn remarks(framing: &AnyFraming, spec: &str, max: usize) -> Vec<&'static str> {
    let word = spec.split([',', ':']).next().unwrap_or(spec);
    let letter = |bytes: &[u8]| matches!(bytes, [b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ']);
    let mut end = Vec::new();
    // What ends an empty message is the delimiter.
    let delimiter = word == "delim" && framing.encode(b"", &mut end).is_ok();
    let cases = [
        (word == "raw", "messages are as TCP cuts them: two sends may come as one, one as two"),
        (delimiter && letter(&end), "the delimiter is a character that text is made of"),
        (max > 64 << 20, "a message lies in memory in one piece, and each peer may send one"),
        (
            word == "u8" || word == "base128",
            "the length holds little: a longer message cannot be said",
        ),
        (spec.contains("eof=message"), "a line that was cut off is not told from the last one"),
        (
            spec.contains("adjust=") && !spec.contains("adjust=-"),
            "the length says less than follows it; most adjustments are negative",
        ),
        (spec.contains("strip=0"), "replies have to begin with a header, too"),
    ];
    cases.into_iter().filter(|(doubtful, _)| *doubtful).map(|(_, remark)| remark).collect()
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::Runtime(format!("{}: {error}", file.display())))
}

/// Streams up to this length are cut in many ways.
const MAX_CUT: usize = 64 << 10;
/// Of a message, in bytes.
const MAX_SHOWN: usize = 60;

/// The messages in `stream`, and the first thing that is wrong.
fn replay(framing: &AnyFraming, stream: &[u8]) -> String {
    let mut text = String::new();
    let mut say = |line: String| writeln!(text, "{line}").expect("a string takes everything");
    let (mut state, mut at, mut bytes) = (Default::default(), 0, stream.to_vec());
    let mut messages = 0;
    loop {
        let rest = &mut bytes[at..];
        match framing.decode(&mut state, rest, true) {
            Ok(Decoded::Message { message, consumed }) => {
                messages += 1;
                let shown = Shown(&rest[message.clone()][..message.len().min(MAX_SHOWN)]);
                let more = if message.len() > MAX_SHOWN { "..." } else { "" };
                say(format!("{at:>8}  {:>8} bytes  {shown}{more}", message.len()));
                at += consumed;
            }
            Ok(Decoded::Skip { consumed, error }) => {
                if let Some(error) = error {
                    say(format!("{at:>8}  skipped: {error}"));
                }
                at += consumed;
            }
            Ok(Decoded::Incomplete { .. }) if rest.is_empty() => {
                say(format!("{at:>8}  the end, after {messages} messages"));
                break;
            }
            Ok(Decoded::Incomplete { .. }) => {
                say(format!(
                    "{at:>8}  the stream ends {} bytes into message {}",
                    rest.len(),
                    messages + 1
                ));
                break;
            }
            Err(error) => {
                let place = match error {
                    FrameError::BadByte { at: off, .. } => format!("; {} in the file", at + off),
                    _ => String::new(),
                };
                let guess = framing.guess(rest).map(|guess| format!("; {guess}"));
                say(format!(
                    "{at:>8}  message {}: {error}{place}{}",
                    messages + 1,
                    guess.unwrap_or_default()
                ));
                let begins: Vec<_> = rest.iter().take(16).map(|b| format!("{b:02x}")).collect();
                say(format!(
                    "{:>8}  it begins {}  {}",
                    "",
                    begins.join(" "),
                    Shown(&rest[..rest.len().min(16)])
                ));
                break;
            }
        }
    }
    let (part, joined) =
        (&stream[..stream.len().min(MAX_CUT)], matches!(framing, AnyFraming::Raw(_)));
    let cut = if joined { check::joined(framing, part) } else { check::splits(framing, part) };
    match cut {
        Ok(_) if joined => {
            say("the same bytes however it is cut; its messages are the reads".into())
        }
        Ok(_) => say(format!("the same however its first {} bytes are cut", part.len())),
        // A defect of the framing, not of the capture.
        Err(difference) => say(format!("not the same however it is cut: {difference}")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_meaning_and_a_picture() {
        for (index, word) in AnyFraming::WORDS.iter().enumerate() {
            assert_eq!(MEANINGS[index].0, *word);
            let spec = word.replace("BYTES", ";").replace('N', "8");
            assert_eq!(meaning(&spec), (MEANINGS[index].1, MEANINGS[index].2), "{spec}");
            let framing: AnyFraming = spec.parse().expect("a word, filled in");
            assert_eq!(layout(&framing).len(), 4, "{spec}");
        }
        assert_eq!(MEANINGS.len(), AnyFraming::WORDS.len());
    }

    /// What is said is what would happen, where that is not the same for all.
    #[test]
    fn a_picture_says_what_holds_for_this_framing() {
        #[rustfmt::skip]
        let cases = [
            ("fixed:100000",      "payload     100000 bytes"),
            ("raw",               "cut off     never"),
            ("http",              "payload     up to 1048576 bytes, head and body"),
            ("http",              "is      head                                             body"),
            ("http,max=10",       "no message is so short"),
            ("lines,eof=message", "delivered all the same"),
            ("json",              "time        30 s to arrive\n"),
            ("base128",           "on the wire up to 16385 bytes"),
            ("cobs",              "hex     06 68 65 6c 6c 6f  00"),
            ("modbus",            "hex     12 34 00 00 00 06 01 03 00 6b 00 03"),
            ("u8,max=3",          "hex     03      78 78 78"),
        ];
        for (spec, says) in cases {
            let framing: AnyFraming = spec.parse().expect("a SPEC");
            let explain = Explain { spec: spec.into(), file: None, connections: 100 };
            let text = explain.picture(&framing);
            assert!(text.contains(says), "{spec}: no {says:?} in\n{text}");
        }
    }

    #[test]
    fn a_capture_is_shown_up_to_the_first_byte_that_is_wrong() {
        let framing: AnyFraming = "u16be,max=100".parse().expect("a SPEC");
        let text = replay(&framing, b"\0\x02hi\0\0GET / HTTP/1.1\r\n");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], "0         2 bytes  hi");
        assert_eq!(lines[1], "4         0 bytes");
        assert!(lines[2].starts_with("6  message 3: message of 18245 bytes"), "{text}");
        assert!(lines[2].ends_with("this looks like HTTP"), "{text}");
        assert!(lines[3].starts_with("it begins 47 45 54 20"), "{text}");
        assert_eq!(lines[4], "the same however its first 22 bytes are cut");

        let json: AnyFraming = "json".parse().expect("a SPEC");
        let text = replay(&json, br#"{"a":1} {]"#);
        assert!(text.contains(r#"  {"a":1}"#), "text as it is: {text}");
        assert!(text.contains("byte 1 is 0x5d"), "{text}");
        assert!(text.contains("; 9 in the file"), "{text}");
    }
}
