//! What is sent: bytes that are framed once, and in them, if wanted, a number and a time.

use crate::proto::framing::{Encode, EncodeError, Exchange, Reply};

/// A message as it goes over the wire, again and again.
#[derive(Clone, Debug)]
pub struct Message {
    wire: Vec<u8>,
    /// The message itself; nothing, of what has a head.
    message: Vec<u8>,
    /// Where in `wire` the stamp is.
    stamp: Option<usize>,
}

/// A number and a time, 16 hexadecimal digits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) number: u64,
    pub(super) nanos: u64,
}

/// Bytes that a stamp takes at the front of a message.
pub const STAMP_LEN: usize = 32;

impl Message {
    /// `message` in the frame of `framing`; bytes, or what has a head.
    ///
    /// # Errors
    ///
    /// It cannot be framed so.
    pub fn new<'m>(
        framing: &dyn Encode,
        message: impl Into<Reply<'m>>,
    ) -> Result<Self, EncodeError> {
        let message = message.into();
        let bytes = match message {
            Reply::Bytes(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        };
        let mut wire = Vec::new();
        framing.reply(&message, &mut Exchange::None, &mut wire)?;
        Ok(Self { wire, message: bytes, stamp: None })
    }

    /// The same with a stamp in the first 32 bytes of each.
    ///
    /// # Errors
    ///
    /// It is shorter than that, or cannot be framed so.
    pub fn stamped(framing: &dyn Encode, message: &[u8]) -> Result<Self, EncodeError> {
        let Some(rest) = message.get(STAMP_LEN..) else {
            return Err(EncodeError::TooShort { len: message.len(), min: STAMP_LEN });
        };
        let placeholder = b"0123456789abcdef0123456789abcdef";
        let mut made = Self::new(framing, &[&placeholder[..], rest].concat())?;
        // No framing changes digits; where a header put them is where they stay.
        made.stamp = memchr::memmem::find(&made.wire, placeholder);
        if made.stamp.is_none() {
            return Err(EncodeError::Head { what: "this framing writes over the stamp" });
        }
        Ok(made)
    }

    /// Whether each is different.
    pub fn is_stamped(&self) -> bool {
        self.stamp.is_some()
    }

    /// Bytes of the message without its frame.
    pub fn bytes(&self) -> usize {
        self.message.len()
    }

    /// The bytes of one, with whatever stamp.
    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The bytes to send, with that stamp if they have one.
    pub(super) fn next(&mut self, stamp: Stamp) -> &[u8] {
        if let Some(at) = self.stamp {
            let digits = &mut self.wire[at..at + STAMP_LEN];
            put_hex(&mut digits[..16], stamp.number);
            put_hex(&mut digits[16..], stamp.nanos);
        }
        &self.wire
    }

    /// The stamp of a message that came back. It ends as it was sent: without its frame, or
    /// with it where that is part of the message (RESP).
    pub(super) fn stamp_of(&self, reply: &[u8]) -> Option<Stamp> {
        let framed = self.wire.len() - self.stamp?;
        [self.message.len(), framed].into_iter().find_map(|from_end| {
            let tail = &reply[reply.len().checked_sub(from_end)?..];
            let (number, nanos) = tail.get(..STAMP_LEN)?.split_at(16);
            Some(Stamp { number: hex(number)?, nanos: hex(nanos)? })
        })
    }

    /// Whether `reply` has in it what was sent, all but its stamp.
    pub(super) fn comes_back_in(&self, reply: &[u8]) -> bool {
        let same = &self.message[self.stamp.map_or(0, |_| STAMP_LEN)..];
        reply.ends_with(same) || memchr::memmem::find(reply, same).is_some()
    }
}

fn put_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::framing::{AnyFraming, Framing};

    #[test]
    fn a_stamp_comes_back_from_every_framing() {
        // The others want other messages.
        let words = AnyFraming::WORDS.iter().filter(|w| !matches!(**w, "json" | "xml" | "modbus"));
        for word in words {
            let word = word.replace("BYTES", ";").replace('N', "40");
            let framing: AnyFraming = word.parse().expect("a word of the list");
            let client = framing.clone().for_client("a");
            let Ok(mut message) = Message::stamped(&client, &[b'x'; 40]) else {
                panic!("{word}: 40 bytes cannot be sent")
            };
            for stamp in [Stamp { number: 0, nanos: u64::MAX }, Stamp { number: 77, nanos: 1 }] {
                let mut wire = message.next(stamp).to_vec();
                let mut found = None;
                let each = framing.each(&mut Default::default(), &mut wire, false, |item| {
                    found = item.ok().and_then(|reply| message.stamp_of(reply));
                    std::ops::ControlFlow::Break(())
                });
                assert!(each.is_ok(), "{word}: {each:?}");
                assert_eq!(found, Some(stamp), "{word}");
            }
        }
    }
}
