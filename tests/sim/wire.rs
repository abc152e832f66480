//! What the simulated peers say: framings written down a second time, slowly, and
//! messages that tell whose they are.
//!
//! ```text
//!  payload   kind(1) conn(8 hex) number(8 hex) filler(0..)      in JSON a string, or in a list
//! ```
//!
//! The library's framings are not used here: two that agree byte for byte were written
//! apart. The filler follows from connection and number, so whoever gets a message can
//! tell every one of its bytes. Knows no socket.

use super::rng::{Rng, mix};

/// How messages are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Lines,
    Nul,
    U16le,
    U32be,
    Varint,
    Netstring,
    /// Strings: each needs something behind it, as all that is no list or object.
    Json,
    /// Lists, which end themselves.
    JsonList,
}

impl Codec {
    pub(crate) const ALL: [Self; 8] = [
        Self::Lines,
        Self::Nul,
        Self::U16le,
        Self::U32be,
        Self::Varint,
        Self::Netstring,
        Self::Json,
        Self::JsonList,
    ];

    /// The same for the library.
    pub(crate) fn spec(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Nul => "nul",
            Self::U16le => "u16le",
            Self::U32be => "u32be",
            Self::Varint => "varint",
            Self::Netstring => "netstring",
            Self::Json | Self::JsonList => "json",
        }
    }

    pub(crate) fn encode(self, message: &[u8], out: &mut Vec<u8>) {
        let len = message.len();
        match self {
            Self::Lines | Self::Nul | Self::Json | Self::JsonList => {}
            Self::U16le => out.extend((len as u16).to_le_bytes()),
            Self::U32be => out.extend((len as u32).to_be_bytes()),
            Self::Varint => {
                let mut rest = len;
                while rest >= 128 {
                    out.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                out.push(rest as u8);
            }
            Self::Netstring => out.extend(format!("{len}:").bytes()),
        }
        out.extend_from_slice(message);
        match self {
            Self::Lines | Self::Json | Self::JsonList => out.push(b'\n'),
            Self::Nul => out.push(0),
            Self::Netstring => out.push(b','),
            Self::U16le | Self::U32be | Self::Varint => {}
        }
    }

    /// What stands around the text of a message.
    fn quotes(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Json => (b"\"", b"\""),
            Self::JsonList => (b"[\"", b"\"]"),
            _ => (b"", b""),
        }
    }

    /// Bytes behind a message without which it is whole.
    pub(crate) fn tail(self) -> usize {
        usize::from(self == Self::JsonList)
    }

    /// The first message of `bytes`, and where the next one begins.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
        let end_at = |byte: u8| bytes.iter().position(|&b| b == byte);
        let sized = |head: usize, len: usize, tail: usize| {
            (bytes.len() >= head + len + tail).then_some((head..head + len, head + len + tail))
        };
        match self {
            // JSON as the service encodes it: one to a line.
            Self::Lines | Self::Json | Self::JsonList => end_at(b'\n').map(|end| (0..end, end + 1)),
            Self::Nul => end_at(0).map(|end| (0..end, end + 1)),
            Self::U16le => sized(2, u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?).into(), 0),
            Self::U32be => {
                sized(4, u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize, 0)
            }
            Self::Varint => {
                let head = bytes.iter().position(|&b| b < 128)? + 1;
                let digits = bytes[..head].iter().rev();
                sized(head, digits.fold(0, |len, &b| len * 128 + usize::from(b % 128)), 0)
            }
            Self::Netstring => {
                let head = end_at(b':')? + 1;
                let len = std::str::from_utf8(&bytes[..head - 1]).ok()?.parse().ok()?;
                sized(head, len, 1)
            }
        }
    }

    /// Bytes that are no message, or the beginning of one that never ends: a lie about a
    /// length where there is one.
    pub(crate) fn nonsense(self, max: usize, rng: &mut Rng) -> Vec<u8> {
        let wild: Vec<u8> = (0..rng.between(1, 40)).map(|_| rng.next() as u8).collect();
        match (self, rng.below(3)) {
            // Too long again and again: each is skipped.
            (Self::Lines | Self::Nul, 1) if max < 3000 => {
                let end = if self == Self::Nul { 0 } else { b'\n' };
                let line = [&vec![b'y'; max + 1][..], &[end]].concat();
                line.repeat(rng.between(1, 20) as usize)
            }
            (Self::U16le, 0) => vec![0xff, 0xff],
            (Self::U32be, 0) => vec![0xff, 0xff, 0xff, 0xff, b'x'],
            (Self::U32be, 1) => vec![0, 0, 0x10, 0, b'x'],
            (Self::Varint, 0) => vec![0xff; 11],
            (Self::Netstring, 0) => b"99999999999999999999:".to_vec(),
            (Self::Netstring, 1) => b"-5:hello,".to_vec(),
            (Self::Json | Self::JsonList, 0) => b"[".repeat(500),
            (Self::Json | Self::JsonList, 1) => b"} nonsense".to_vec(),
            (Self::Lines | Self::Nul, 0) => vec![b'x'; rng.scale(1, 200_000) as usize],
            _ => wild,
        }
    }
}

/// What the service does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Act {
    /// Sends it back.
    Echo = b'e',
    /// Answers with the receipt.
    Receipt = b'r',
    /// Sends it back [`FAN`] times.
    Fan = b'x',
    /// Hands it to everyone else.
    Others = b'o',
    /// Hands it to everyone.
    Everyone = b'a',
    /// Hands it to one other.
    Send = b's',
    /// Closes another connection.
    CloseOther = b'c',
    /// Closes its own.
    CloseSelf = b'k',
    /// Says nothing more to its own.
    FinishSelf = b'f',
    /// Answers later.
    Timer = b't',
    /// Calls someone, and greets them before they answer.
    Call = b'd',
    /// Ends its own with a reset.
    Reset = b'z',
}

impl Act {
    pub(crate) const ALL: [Self; 12] = [
        Self::Echo,
        Self::Receipt,
        Self::Fan,
        Self::Others,
        Self::Everyone,
        Self::Send,
        Self::CloseOther,
        Self::CloseSelf,
        Self::FinishSelf,
        Self::Timer,
        Self::Call,
        Self::Reset,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|act| *act as u8 == byte)
    }
}

/// Replies to [`Act::Fan`].
pub(crate) const FAN: u32 = 7;
/// The answer of [`Act::Receipt`].
pub(crate) const RECEIPT: &[u8] = b"\"Msg received\"";
/// Kind, connection and number.
const HEADER: usize = 17;
/// The most that stands around them.
const QUOTES: usize = 4;

/// What is said, and how, in one run.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) codec: Codec,
    pub(crate) seed: u64,
    /// The longest payload; the library's limit is the same.
    pub(crate) max: usize,
    /// The longest of ordinary ones.
    pub(crate) usual: usize,
    /// Of 65,536 messages, how many of each act; the rest is echoed.
    pub(crate) acts: [u32; Act::ALL.len()],
    filler: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(
        codec: Codec,
        seed: u64,
        max: usize,
        usual: usize,
        acts: [u32; Act::ALL.len()],
    ) -> Self {
        // Printable, and nothing that a framing has a meaning for.
        let alphabet = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-";
        let filler = (0..max as u64 + 256).map(|n| alphabet[(mix(n) % 64) as usize]).collect();
        Self { codec, seed, max, usual, acts, filler }
    }

    pub(crate) fn act(&self, conn: u32, number: u32) -> Act {
        let mut draw = (self.key(conn, number) >> 48) as u32;
        for (act, share) in Act::ALL.into_iter().zip(self.acts) {
            if draw < share {
                return act;
            }
            draw -= share;
        }
        Act::Echo
    }

    /// How many replies come of a message, in their order.
    pub(crate) fn replies(&self, conn: u32, number: u32) -> u32 {
        match self.act(conn, number) {
            Act::Echo | Act::Receipt => 1,
            // Together no more than the longest message: there is room for that always.
            Act::Fan => {
                let each = self.filler(conn, number).len() + HEADER + 16;
                FAN.min((self.max / each) as u32).max(1)
            }
            _ => 0,
        }
    }

    fn key(&self, conn: u32, number: u32) -> u64 {
        mix(self.seed ^ (u64::from(conn) << 32 | u64::from(number)))
    }

    /// Where the filler of a message begins, and how long it is.
    fn filler(&self, conn: u32, number: u32) -> &[u8] {
        let key = self.key(conn, number);
        let overhead = HEADER + QUOTES;
        let longest = self.max - overhead;
        let len = match key % 64 {
            0 => longest,
            1 => (key >> 8) as usize % (longest + 1),
            2..8 => 0,
            _ => (key >> 8) as usize % self.usual.min(longest).max(1),
        };
        let from = (key >> 40) as usize % 251;
        &self.filler[from..from + len]
    }

    /// Appends that message, without a frame.
    pub(crate) fn payload(&self, conn: u32, number: u32, out: &mut Vec<u8>) {
        let (before, behind) = self.codec.quotes();
        out.extend_from_slice(before);
        out.push(self.act(conn, number) as u8);
        for shift in (0..8).rev() {
            out.push(b"0123456789abcdef"[(conn >> (4 * shift)) as usize & 15]);
        }
        for shift in (0..8).rev() {
            out.push(b"0123456789abcdef"[(number >> (4 * shift)) as usize & 15]);
        }
        out.extend_from_slice(self.filler(conn, number));
        out.extend_from_slice(behind);
    }

    /// Whose message it is: kind, connection, number. Every byte of it is checked.
    pub(crate) fn read(&self, message: &[u8]) -> Result<(u8, u32, u32), String> {
        let (before, behind) = self.codec.quotes();
        let inner = message
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(behind))
            .ok_or_else(|| format!("no quotes: {}", show(message)))?;
        let hex = |range: std::ops::Range<usize>| {
            let digits = inner.get(range)?;
            digits.iter().try_fold(0u32, |sum, &b| Some(sum << 4 | (b as char).to_digit(16)?))
        };
        let head = inner.first().zip(hex(1..9)).zip(hex(9..17));
        let Some(((&kind, conn), number)) = head else {
            return Err(format!("no header: {}", show(message)));
        };
        if inner[HEADER..] != *self.filler(conn, number) {
            return Err(format!("not as it was sent: {}", show(message)));
        }
        Ok((kind, conn, number))
    }

    /// A message of the service itself about message `number` of `conn`.
    pub(crate) fn note(&self, kind: u8, conn: u32, number: u32, out: &mut Vec<u8>) {
        let from = out.len();
        self.payload(conn, number, out);
        let at = from + self.codec.quotes().0.len();
        out[at] = kind;
    }
}

pub(crate) fn show(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(60)];
    format!("{:?} ({} bytes)", String::from_utf8_lossy(head), bytes.len())
}
