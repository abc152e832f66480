//! Where a message ends: the contract between a byte stream and its messages.
//!
//! ```text
//!  ...hel  lo\nwor  ld\n     reads, cut anywhere
//!       └─ decode ─┘
//!      "hello"  "world"      messages, the same for every way of cutting
//!       └─ encode ─┘
//!      hello\nworld\n
//! ```
//!
//! A framing is a plain value with its limits inside; what one connection has to
//! remember between two reads lives apart, in [`Framing::State`]. It sees bytes
//! and knows neither where they come from nor who wants the messages.

use std::fmt;
use std::ops::{ControlFlow, Range};

mod any;
mod blocks;
pub mod check;
mod decimal;
mod delimited;
mod fixed;
mod guess;
mod headed;
#[cfg(feature = "http")]
mod http;
mod json;
mod length;
mod lines;
mod modbus;
mod pair;
mod raw;
mod resp;
mod spec;
mod stuffed;
mod varint;
mod xml;

pub use any::{AnyFraming, AnyState};
pub use decimal::Decimal;
pub use delimited::Delimited;
pub use fixed::Fixed;
pub use guess::Guess;
pub use headed::{Fields, Reply, Request, Response};
#[cfg(feature = "http")]
pub use http::Http;
pub use json::Json;
pub use length::{Endian, LengthField};
pub use lines::{LineEnd, Lines};
pub use modbus::Modbus;
pub use pair::Pair;
pub use raw::Raw;
pub use resp::Resp;
pub use spec::{ConfigError, MAX_MESSAGE, SpecProblem, parse_size};
pub use stuffed::Stuffed;
pub use varint::Varint;
pub use xml::Xml;

/// How one connection's bytes are cut into messages.
///
/// # Contract: split invariance
///
/// Messages and errors depend on the bytes alone, never on how reads cut them.
/// [`check::splits`] tests exactly that; run it on framings of your own.
///
/// Implement [`decode`](Self::decode) and [`Encode`]; the rest is provided.
pub trait Framing: Encode {
    /// What one connection remembers between reads: how far it was scanned, how
    /// deep it is nested. At most 16 bytes; box what is larger.
    type State: Default;

    /// Looks for one message at the front of `input`.
    ///
    /// `input` begins where the last `consumed` ended and holds all that has
    /// arrived since; it is mutable so that a framing can join pieces in place.
    /// With `end`, no byte will follow: a framing whose last message needs no
    /// terminator delivers it then. [`Decoded::Incomplete`] on a non-empty input
    /// at the end means that the message was cut off, and the caller reports
    /// [`FrameError::Truncated`].
    ///
    /// # Errors
    ///
    /// The position of the next message is unknown, so the connection ends. A
    /// message that can be skipped is [`Decoded::Skip`] instead.
    fn decode(
        &self,
        state: &mut Self::State,
        input: &mut [u8],
        end: bool,
    ) -> Result<Decoded, FrameError>;

    /// Decodes all of `input`, calling `f` for each message, and for each error
    /// that was skipped over. `f` can stop it between two messages.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](Self::decode), and [`FrameError::Truncated`]. What
    /// came before the error has been passed to `f`.
    fn each(
        &self,
        state: &mut Self::State,
        input: &mut [u8],
        end: bool,
        f: impl FnMut(Result<&[u8], FrameError>) -> ControlFlow<()>,
    ) -> Result<Rest, FrameError> {
        self.visit(state, input, end, &mut Each(f))
    }

    /// The same for a [`Visitor`]. Implement it where all messages of a read can be found
    /// faster than one after the other.
    ///
    /// # Errors
    ///
    /// As [`each`](Self::each).
    fn visit(
        &self,
        state: &mut Self::State,
        input: &mut [u8],
        end: bool,
        visitor: &mut impl Visitor,
    ) -> Result<Rest, FrameError> {
        let mut used = 0;
        loop {
            match next(self, state, &mut input[used..], end)? {
                Next::Item { item, consumed } => {
                    used += consumed;
                    if item.is_some_and(|item| visitor.item(item).is_break()) {
                        return Ok(Rest { used, need: 0 });
                    }
                }
                Next::Incomplete { need } => return Ok(Rest { used, need }),
            }
        }
    }

    /// Whether the connection is inside a message of which no byte is kept, as
    /// while an oversize line is skipped. Its clock then goes on.
    fn is_skipping(&self, _state: &Self::State) -> bool {
        false
    }

    /// A byte that is in no message that it decodes. Default: there is none.
    ///
    /// Believed, and nobody looks again: where it is LF, a part of a message is sent on as a
    /// line. Said wrongly, that reply is two lines. [`check::splits`] tests it.
    fn excluded(&self) -> Option<u8> {
        None
    }

    /// What `input`, at whose front there is no message, probably is instead. Called
    /// after an error, for the log alone. Default: what common protocols begin with.
    fn guess(&self, input: &[u8]) -> Option<Guess> {
        Guess::protocol(input)
    }

    /// What the reply to the message that was decoded last has to know, or who sent what
    /// is no message. Only asked of who [converses](Encode::converses). Default: nothing.
    fn exchange(&self) -> Exchange {
        Exchange::None
    }

    /// The most bytes that one message and its frame take on the way in.
    ///
    /// More than this is never kept for a message that is not complete.
    fn max_input(&self) -> usize {
        self.max_frame()
    }
}

/// The most that a framing of this crate keeps of a half message beside its
/// [`State`](Framing::State), in bytes, with what the allocator adds.
pub(crate) const MAX_STATE: usize = 160;

/// The way out: a message becomes bytes. Apart from [`Framing`] so that a service
/// can hold any encoder behind a reference.
pub trait Encode {
    /// Appends `message` with its frame to `out`.
    ///
    /// # Errors
    ///
    /// The message cannot be sent by this framing; `out` is as it was.
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Appends the reply to a message of which `exchange` says what a reply has to know.
    /// Default: as any other message; heads are refused.
    ///
    /// # Errors
    ///
    /// It cannot be sent by this framing, or not now; `out` is as it was.
    fn reply(
        &self,
        reply: &Reply<'_>,
        _exchange: &mut Exchange,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match reply {
            Reply::Bytes(message) => self.encode(message, out),
            Reply::Response(_) | Reply::Request(_) => Err(EncodeError::NoHead),
        }
    }

    /// What encodes in the end: asked once for all replies of a read. Default: the value
    /// itself, in a way that the caller does not know.
    fn encoder(&self) -> Option<Encoder<'_>> {
        None
    }

    /// Whether a reply depends on what it answers. Otherwise all replies are
    /// [`encode`](Self::encode)d, and [`settle`](Self::settle) has nothing to do. Default:
    /// no.
    fn converses(&self) -> bool {
        false
    }

    /// Appends what the framing itself owes the peer, now that the service has been
    /// called, or cannot be. True: the connection ends with it. Default: nothing.
    fn settle(&self, _exchange: Exchange, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// Tells the time of day, in seconds since 1970, whenever a second has passed.
    /// Default: nothing needs it.
    fn set_time(&self, _unix: u64) {}

    /// The most bytes that one message and its frame take on the way out.
    fn max_frame(&self) -> usize;

    /// Whether the settings of this value fit each other. Called before it is used.
    ///
    /// # Errors
    ///
    /// What is wrong, with the numbers.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// What encodes. The commonest are named, so that a reply is compiled for them: a call to
/// an unknown one costs a short message as much as the rest of its way out.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Encoder<'a> {
    /// Lines.
    Lines(&'a Lines),
    /// A binary length in front.
    LengthField(&'a LengthField),
    /// Any other.
    Other(&'a dyn Encode),
}

/// Where a connection stands between a message and its reply, for framings whose
/// replies depend on what they answer. Others never leave [`None`](Self::None).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    /// Nothing was asked.
    #[default]
    None,
    /// A message wants its reply.
    Asked(Asked),
    /// It has been replied to; with `last`, the connection ends.
    Answered {
        /// Whether it was the last.
        last: bool,
    },
    /// The peer waits for leave to send the rest of its message.
    Continue,
    /// The peer is owed an error, and then the end.
    Failed {
        /// As HTTP numbers it.
        status: u16,
    },
}

/// What a reply has to know of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Only the head of a reply is wanted.
    pub head: bool,
    /// The peer speaks HTTP/1.0.
    pub old: bool,
    /// The connection ends with the reply.
    pub last: bool,
}

/// Gets the messages of a read: what a closure is to [`Framing::each`], but compiled into
/// the loop that finds them if its method is `#[inline(always)]`, which no closure can be.
pub trait Visitor {
    /// A message, or an error that was skipped over. `Break` ends the visit.
    fn item(&mut self, item: Result<&[u8], FrameError>) -> ControlFlow<()>;
}

struct Each<F>(F);

impl<F> Visitor for Each<F>
where
    F: FnMut(Result<&[u8], FrameError>) -> ControlFlow<()>,
{
    #[inline(always)]
    fn item(&mut self, item: Result<&[u8], FrameError>) -> ControlFlow<()> {
        self.0(item)
    }
}

/// What [`Framing::decode`] found at the front of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// One message.
    Message {
        /// Where it lies in the input.
        message: Range<usize>,
        /// Bytes it takes with its frame. At least 1.
        consumed: usize,
    },
    /// Bytes that are nobody's message: padding, or the next piece of one that is
    /// too long.
    Skip {
        /// How many. At least 1.
        consumed: usize,
        /// Why, said once for each message that is lost.
        error: Option<FrameError>,
    },
    /// Not enough has arrived. A status, not an error.
    Incomplete {
        /// Bytes the message will take in all, as far as the peer has announced them;
        /// 0 where the wire does not say.
        need: usize,
    },
}

/// Where [`Framing::each`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Bytes of the input that are done with.
    pub used: usize,
    /// Bytes that the unfinished message will take in all, as announced; 0 if it does
    /// not say.
    pub need: usize,
}

/// What a framing remembers that searches for the end of its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    phase: Phase,
    /// Bytes, as the phase says.
    count: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// So many bytes of a message are known not to hold its end: each byte is looked
    /// at once.
    #[default]
    Searching,
    /// A message was too long, has been reported, and so many bytes of it are gone.
    Skipping,
    /// So many bytes since the last message belong to none.
    Between,
}

impl Scan {
    fn new(phase: Phase, count: usize) -> Self {
        Self { phase, count: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// The count, if it is of this phase.
    fn count_of(self, phase: Phase) -> usize {
        if self.phase == phase { self.count as usize } else { 0 }
    }

    fn is_skipping(self) -> bool {
        self.phase == Phase::Skipping
    }
}

/// One step of [`Framing::each`].
enum Next<'a> {
    /// Something ended: a message, an error that was skipped over, or padding.
    Item { item: Option<Result<&'a [u8], FrameError>>, consumed: usize },
    /// Nothing more does.
    Incomplete { need: usize },
}

/// Decodes once, and holds the framing to its contract.
#[inline]
fn next<'a, F: Framing + ?Sized>(
    framing: &F,
    state: &mut F::State,
    input: &'a mut [u8],
    end: bool,
) -> Result<Next<'a>, FrameError> {
    let (item, consumed) = match framing.decode(state, input, end)? {
        Decoded::Message { message, consumed } => (Some(Ok(&input[message])), consumed),
        Decoded::Skip { consumed, error } => (error.map(Err), consumed),
        Decoded::Incomplete { .. } if end && !input.is_empty() => {
            return Err(FrameError::Truncated { received: input.len() });
        }
        Decoded::Incomplete { need } => return Ok(Next::Incomplete { need }),
    };
    // A framing that consumes nothing would be asked the same for ever.
    match consumed {
        0 => Err(FrameError::NoProgress),
        _ => Ok(Next::Item { item, consumed }),
    }
}

/// Why bytes from the peer are not messages.
///
/// Passed on by [`Decoded::Skip`] it costs that one message; as the error of
/// [`Framing::decode`] it ends the connection: the position of the next message
/// is unknown, and no later byte can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A message larger than the limit.
    TooLong {
        /// Payload length the peer announced, in bytes; `None` where the wire
        /// announces nothing and the end just did not come.
        announced: Option<u64>,
        /// The limit, in bytes.
        max: usize,
    },
    /// A length below the least that a message can have.
    TooShort {
        /// Length the peer announced, in bytes.
        announced: u64,
        /// The least possible, in bytes.
        min: usize,
    },
    /// A length that, adjusted, is less than nothing.
    BadLength {
        /// The number in the length field.
        value: u64,
        /// What the framing adds to it.
        adjust: i64,
    },
    /// LF without CR before it where CRLF ends a line.
    BareLf {
        /// Bytes of the line before the LF.
        at: u64,
    },
    /// A byte that cannot stand where it stands.
    BadByte {
        /// Where, in bytes from the beginning of the message with its frame.
        at: usize,
        /// The byte.
        byte: u8,
        /// What could.
        expected: &'static str,
    },
    /// More bytes between two messages than a message may have.
    Between {
        /// The limit, in bytes.
        max: usize,
        /// The byte that would begin a message.
        start: u8,
    },
    /// A message nested deeper than the limit.
    TooDeep {
        /// The limit, in levels.
        max: usize,
    },
    /// The peer finished sending in the middle of a message.
    Truncated {
        /// Bytes of it that did arrive, frame included.
        received: usize,
    },
    /// What else a framing from outside this crate finds wrong, such as a checksum.
    Invalid {
        /// What it is, in a few words.
        what: &'static str,
    },
    /// The framing itself is wrong: it consumed nothing. Only a framing written
    /// outside this crate can do so.
    NoProgress,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { announced: Some(announced), max } => {
                write!(f, "message of {announced} bytes exceeds the limit of {max}")
            }
            Self::TooLong { announced: None, max } => {
                write!(f, "message did not end within the limit of {max} bytes")
            }
            Self::TooShort { announced, min } => {
                write!(f, "message of {announced} bytes is shorter than the {min} it has to have")
            }
            Self::BadLength { value, adjust } => {
                write!(f, "length {value} adjusted by {adjust} is below zero")
            }
            Self::BareLf { at } => {
                write!(f, "LF without CR after {at} bytes of a line that must end in CRLF")
            }
            Self::BadByte { at, byte, expected } => {
                write!(f, "byte {at} is 0x{byte:02x} where there should be {expected}")
            }
            Self::Between { max, start } => {
                write!(f, "more than {max} bytes without the 0x{start:02x} that begins a message")
            }
            Self::TooDeep { max } => write!(f, "message nests deeper than the limit of {max}"),
            Self::Truncated { received } => {
                write!(f, "stream ended {received} bytes into a message")
            }
            Self::Invalid { what } => write!(f, "{what}"),
            Self::NoProgress => write!(f, "the framing consumed nothing"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Why a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message is larger than the limit, or than its length field can say.
    TooLong {
        /// Its length, in bytes.
        len: usize,
        /// The most that fits, in bytes.
        max: usize,
    },
    /// The message is shorter than any this framing can send: it should begin with the
    /// header that decoding left in it, or not be empty.
    TooShort {
        /// Its length, in bytes.
        len: usize,
        /// The least possible, in bytes.
        min: usize,
    },
    /// The message contains what marks its end.
    Delimiter {
        /// Where, in bytes from its beginning.
        at: usize,
    },
    /// Each message gets one reply, and nothing else can be sent.
    NoRequest,
    /// A message with a head, for a framing that has none.
    NoHead,
    /// A head that cannot be.
    Head {
        /// What would be right.
        what: &'static str,
    },
    /// Too much waits already: for this connection, or, of what one call of a service
    /// sent to others, for them.
    OutputFull {
        /// Bytes that would be queued with this message.
        queued: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The system has no memory for it. The connection that it was for closes.
    NoMemory {
        /// Bytes that were asked for.
        len: usize,
    },
}

/// Makes room for a message of `len` bytes, and a usual frame around it, behind `out`.
pub(super) fn make_room(out: &mut Vec<u8>, len: usize) -> Result<(), EncodeError> {
    const FRAME: usize = 64;
    out.try_reserve(len.saturating_add(FRAME)).map_err(|_| EncodeError::NoMemory { len })
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => {
                write!(f, "message of {len} bytes exceeds the limit of {max}")
            }
            Self::TooShort { len, min } => {
                write!(f, "message of {len} bytes is shorter than the {min} it has to have")
            }
            Self::Delimiter { at } => write!(f, "message contains its own delimiter at byte {at}"),
            Self::NoRequest => write!(f, "there is no request that this could answer"),
            Self::NoHead => write!(f, "this framing carries bytes, and no status or fields"),
            Self::Head { what } => write!(f, "{what}"),
            Self::OutputFull { queued, max } => {
                write!(f, "{queued} bytes to send exceed the limit of {max}")
            }
            Self::NoMemory { len } => {
                write!(f, "the system has no memory for a message of {len} bytes")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

/// Refuses what is longer than `max`.
fn check_len(message: &[u8], max: usize) -> Result<(), EncodeError> {
    if message.len() > max {
        return Err(EncodeError::TooLong { len: message.len(), max });
    }
    Ok(())
}
