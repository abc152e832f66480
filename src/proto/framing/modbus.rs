//! Modbus TCP: a header that says what it is before it says how long.
//!
//! ```text
//!  | transaction | protocol | length |  unit  | function, data |
//!  |      2      |   00 00  |    2   |    1   |   1 to 253     |
//!                               └ counts unit, function and data: 2 to 254
//! ```
//!
//! The message is all of it: an answer repeats the transaction of its question. Who
//! believes the length and not the protocol takes any two bytes of a client that lost
//! its place for a length, and waits; so both are checked as soon as they are there.

use super::{ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, check_len};

/// One application data unit of Modbus TCP (MODBUS Messaging on TCP/IP, 1.0b) is one
/// message, header included, 8 to 260 bytes. Encoding sets protocol and length. SPEC
/// word `modbus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modbus;

/// Bytes before what the length counts.
const HEADER: usize = 6;
const MIN: usize = 2;
const MAX: usize = 254;

impl Framing for Modbus {
    type State = ();

    fn decode(&self, (): &mut (), input: &mut [u8], _end: bool) -> Result<Decoded, FrameError> {
        let mut protocol = input.iter().copied().enumerate().take(4).skip(2);
        if let Some((at, byte)) = protocol.find(|&(_, byte)| byte != 0) {
            let expected = "zero, the protocol of Modbus";
            return Err(FrameError::BadByte { at, byte, expected });
        }
        let &[_, _, _, _, high, low, ..] = &*input else {
            return Ok(Decoded::Incomplete { need: HEADER });
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let consumed = HEADER + len;
        match len {
            ..MIN => Err(FrameError::TooShort { announced: len as u64, min: MIN }),
            MIN..=MAX if input.len() < consumed => Ok(Decoded::Incomplete { need: consumed }),
            MIN..=MAX => Ok(Decoded::Message { message: 0..consumed, consumed }),
            _ => Err(FrameError::TooLong { announced: Some(len as u64), max: MAX }),
        }
    }
}

impl Encode for Modbus {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, HEADER + MAX)?;
        let (Some([first, second, ..]), true) =
            (message.first_chunk::<HEADER>(), message.len() >= HEADER + MIN)
        else {
            return Err(EncodeError::TooShort { len: message.len(), min: HEADER + MIN });
        };
        let [high, low] = ((message.len() - HEADER) as u16).to_be_bytes();
        out.extend([*first, *second, 0, 0, high, low]);
        out.extend_from_slice(&message[HEADER..]);
        Ok(())
    }

    fn max_frame(&self) -> usize {
        HEADER + MAX
    }

    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_stream_gives_these_messages_however_it_is_cut() {
        const READ: &[u8] = b"\x12\x34\0\0\0\x06\x01\x03\0\x6b\0\x03";
        let protocol = |at, byte| {
            Some(FrameError::BadByte { at, byte, expected: "zero, the protocol of Modbus" })
        };
        #[rustfmt::skip]
        let cases: Vec<(&str, Vec<u8>, usize, Option<FrameError>)> = vec![
            ("nothing",                 vec![],                                 0, None),
            ("two requests",            READ.repeat(2),                         2, None),
            ("the shortest",            b"\0\0\0\0\0\x02\x01\x07".to_vec(),     1, None),
            ("the longest",             [&b"\0\0\0\0\0\xfe"[..], &[7; 254]].concat(), 1, None),
            ("shorter than any",        [READ, b"\0\0\0\0\0\x01\x01"].concat(), 1, Some(FrameError::TooShort { announced: 1, min: 2 })),
            ("longer than any",         b"\0\0\0\0\0\xff\x01".to_vec(),         0, Some(FrameError::TooLong { announced: Some(255), max: 254 })),
            ("another protocol",        b"\0\0\0\x01\0\x02\x01\x07".to_vec(),   0, protocol(3, 1)),
            ("its first byte is enough", b"GET".to_vec(),                       0, protocol(2, b'T')),
            ("cut off",                 READ[..7].to_vec(),                     0, Some(FrameError::Truncated { received: 7 })),
        ];
        for (name, bytes, messages, error) in cases {
            let outcome = check::splits(&Modbus, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((outcome.messages().len(), outcome.error), (messages, error), "{name}");
        }
    }

    #[test]
    fn a_reply_keeps_its_transaction_and_gets_its_length() {
        let mut out = Vec::new();
        assert_eq!(Modbus.encode(b"\x12\x34\xff\xff\xff\xff\x01\x03\x00", &mut out), Ok(()));
        assert_eq!(out, b"\x12\x34\0\0\0\x03\x01\x03\x00");
        assert_eq!(
            Modbus.encode(b"\0\0\0\0\0\x01\x01", &mut out),
            Err(EncodeError::TooShort { len: 7, min: 8 })
        );
        assert_eq!(
            Modbus.encode(&[0; 261], &mut out),
            Err(EncodeError::TooLong { len: 261, max: 260 })
        );
    }
}
