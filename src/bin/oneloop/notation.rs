//! How messages are written: in arguments and lines, and in files.

use std::fs::File;
use std::io::{self, Read};

use oneloop::{AnyFraming, Encode};

/// How messages are written in arguments and lines.
#[derive(Clone, Copy)]
pub(crate) enum Notation {
    Plain,
    Escaped,
    Hex,
}

impl Notation {
    /// The message that is written as `text`.
    pub(crate) fn read(self, text: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Plain => Ok(text.to_vec()),
            Self::Escaped => unescape(text),
            Self::Hex => unhex(text),
        }
    }
}

/// The whole of a file, unless it cannot be one message anyway.
pub(crate) fn read_file(framing: &AnyFraming, file: &str) -> Result<Vec<u8>, String> {
    let limit = framing.max_frame();
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = match file {
        "-" => io::stdin().take(bound).read_to_end(&mut bytes),
        file => File::open(file).and_then(|file| file.take(bound).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("cannot read: {error}"))?;
    match bytes.len() > limit {
        true => Err(format!("more than {limit} bytes, the longest message with its frame")),
        false => Ok(bytes),
    }
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut message = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'\\' {
            message.push(byte);
            continue;
        }
        let wrong = || {
            let escape = text[text.len() - behind.len() - 1..].iter().take(4).copied();
            let shown = String::from_utf8_lossy(&escape.collect::<Vec<_>>()).into_owned();
            format!(r"{shown:?} is no escape; there are \n \r \t \0 \\ and \x00 to \xff")
        };
        let (&kind, behind) = behind.split_first().ok_or_else(wrong)?;
        rest = behind;
        message.push(match kind {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let (digits, behind) = behind.split_first_chunk::<2>().ok_or_else(wrong)?;
                rest = behind;
                byte_of(digits).ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        });
    }
    Ok(message)
}

fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    let (pairs, odd) = digits.as_chunks::<2>();
    if let Some(wrong) = digits.iter().find(|digit| !digit.is_ascii_hexdigit()) {
        return Err(format!("'{}' is no hex digit", wrong.escape_ascii()));
    }
    if !odd.is_empty() {
        return Err(format!("{} hex digits; two make a byte", digits.len()));
    }
    Ok(pairs.iter().filter_map(byte_of).collect())
}

fn byte_of(digits: &[u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_their_notation_says_and_what_is_none_is_shown() {
        let escaped = |text: &str| Notation::Escaped.read(text.as_bytes());
        assert_eq!(escaped(r"a\n\r\t\0\\\x00\xfF€"), Ok(b"a\n\r\t\0\\\0\xff\xe2\x82\xac".to_vec()));
        for text in [r"\", r"a\q", r"\x", r"\x1", r"\xg1", r"\€"] {
            let error = escaped(text).unwrap_err();
            assert!(error.contains("is no escape"), "{text}: {error}");
        }
        let hex = |text: &str| Notation::Hex.read(text.as_bytes());
        assert_eq!(hex("A0 01\t40 1e"), Ok(vec![0xa0, 1, 0x40, 0x1e]));
        assert_eq!(hex(""), Ok(vec![]));
        assert_eq!(hex("a0 0"), Err("3 hex digits; two make a byte".into()));
        assert_eq!(hex("0x10"), Err("'x' is no hex digit".into()));
        assert_eq!(Notation::Plain.read(br"\n"), Ok(br"\n".to_vec()));
    }
}
