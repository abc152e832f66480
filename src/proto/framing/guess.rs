//! What bytes probably are that are no message: a guess for whoever reads the log.
//!
//! Errors are exact and the same however a stream is cut; a guess is neither. It is made
//! once, from what there is of a message when it turns out to be none, and changes
//! nothing but what is said about it.

use std::fmt;

/// What a peer seems to speak instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guess {
    /// An HTTP request or response.
    Http,
    /// The hello of a TLS client.
    Tls,
    /// The banner of an SSH peer.
    Ssh,
    /// The header that a proxy puts before a connection (HAProxy's PROXY protocol).
    Proxy,
    /// A length with its bytes in the other order.
    OtherByteOrder {
        /// What it would be, in bytes.
        len: u64,
    },
    /// Text where a binary length should be.
    Ascii,
    /// A length in two bytes of seven bits, of which the first says that another
    /// follows.
    ContinuedLength {
        /// What it would be, in bytes.
        len: u64,
    },
}

impl Guess {
    /// The protocol whose beginning `bytes` are, if they are that of a common one.
    pub fn protocol(bytes: &[u8]) -> Option<Self> {
        const HTTP: [&[u8]; 11] = [
            b"GET ",
            b"POST ",
            b"HEAD ",
            b"PUT ",
            b"DELETE ",
            b"OPTIONS ",
            b"PATCH ",
            b"CONNECT ",
            b"TRACE ",
            b"PRI * HTTP/2",
            b"HTTP/1.",
        ];
        const PROXY: [&[u8]; 3] = [b"PROXY TCP", b"PROXY UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n"];
        let begins = |words: &[&[u8]]| words.iter().any(|word| bytes.starts_with(word));
        match bytes {
            // A handshake record, of any version.
            [0x16, 0x03, 0..=4, ..] => Some(Self::Tls),
            _ if begins(&HTTP) => Some(Self::Http),
            _ if begins(&[b"SSH-"]) => Some(Self::Ssh),
            _ if begins(&PROXY) => Some(Self::Proxy),
            _ => None,
        }
    }
}

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => write!(f, "this looks like HTTP"),
            Self::Tls => write!(f, "this looks like TLS; there is none here"),
            Self::Ssh => write!(f, "this looks like SSH"),
            Self::Proxy => write!(f, "this looks like a PROXY header; none is expected"),
            Self::OtherByteOrder { len } => {
                write!(f, "in the other byte order it would be {len} bytes")
            }
            Self::Ascii => write!(f, "this looks like text, not like a binary length"),
            Self::ContinuedLength { len } => write!(
                f,
                "with the high bit for `another byte follows`, as in varint, it would be {len} bytes"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AnyFraming;
    use super::*;
    use crate::proto::framing::Framing;

    #[test]
    fn the_beginning_of_a_common_protocol_is_known_and_nothing_else() {
        #[rustfmt::skip]
        let cases: &[(&str, &[u8], Option<Guess>)] = &[
            ("u32be",       b"GET / HTTP/1.1\r\n",              Some(Guess::Http)),
            ("ascii:8",     b"POST /x HTTP/1.1\r\n",            Some(Guess::Http)),
            ("varint",      b"HTTP/1.1 400 Bad Request\r\n",    Some(Guess::Http)),
            ("json",        b"PRI * HTTP/2.0\r\n",              Some(Guess::Http)),
            ("modbus",      b"\x16\x03\x01\x02\0\x01",          Some(Guess::Tls)),
            ("netstring",   b"SSH-2.0-OpenSSH_9.6\r\n",         Some(Guess::Ssh)),
            ("xml",         b"PROXY TCP4 1.2.3.4 ",             Some(Guess::Proxy)),
            ("base128",     b"\r\n\r\n\0\r\nQUIT\n\x21\x11",    Some(Guess::Proxy)),
            ("u32be",       b"\x05\0\0\0hello",                 Some(Guess::OtherByteOrder { len: 5 })),
            ("u32le",       b"\0\0\0\x05hello",                 Some(Guess::OtherByteOrder { len: 5 })),
            ("u16be,max=9", b"\x04\0four",                      Some(Guess::OtherByteOrder { len: 4 })),
            ("u32be",       b"00000005hello",                   Some(Guess::Ascii)),
            ("u64le",       b"hello world",                     Some(Guess::Ascii)),
            ("u32be",       b"\xff\xff\xff\xff",                None),
            ("base128",     b"\x85\x01",                        Some(Guess::ContinuedLength { len: 133 })),
            ("base128",     b"\x05\x85",                        None),
            ("ascii:8",     b"hello",                           None),
            ("json",        b"GE",                              None),
            ("json",        b"",                                None),
        ];
        for (spec, bytes, expected) in cases {
            let framing: AnyFraming = spec.parse().unwrap_or_else(|e| panic!("{spec}: {e}"));
            assert_eq!(framing.guess(bytes), *expected, "{spec}: {}", bytes.escape_ascii());
        }
    }
}
