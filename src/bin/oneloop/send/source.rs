//! Where messages come from, and how they are written there.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::sync::Arc;

use oneloop::{AnyFraming, Encode};

use super::terminal::Terminal;
use crate::Failure;

/// How messages are written in arguments and lines.
#[derive(Clone, Copy)]
pub(super) enum Notation {
    Plain,
    Escaped,
    Hex,
}

/// Messages, one after the other.
pub(super) struct Source {
    from: From,
    /// Messages so far.
    pub(super) count: u64,
}

enum From {
    Arguments(Arc<[Vec<u8>]>),
    Stdin { notation: Notation, limit: usize, input: BufReader<io::Stdin>, line: Vec<u8> },
    Terminal(Box<Terminal>),
}

/// What is left of a source, for a report.
#[derive(Clone)]
pub(super) enum Left {
    /// All messages that there are.
    Of(Arc<[Vec<u8>]>),
    /// Lines that nobody has read yet.
    Lines,
}

/// What is sent at once is read at once, in bytes.
const CHUNK: usize = 64 << 10;

impl Source {
    pub(super) fn arguments(all: Arc<[Vec<u8>]>) -> Self {
        Self { from: From::Arguments(all), count: 0 }
    }

    pub(super) fn stdin(notation: Notation, framing: &AnyFraming) -> Self {
        let input = BufReader::with_capacity(CHUNK, io::stdin());
        // A byte takes four characters at most, as in \x00.
        let limit = framing.max_frame().saturating_mul(4).saturating_add(2);
        Self { from: From::Stdin { notation, limit, input, line: Vec::new() }, count: 0 }
    }

    pub(super) fn terminal(terminal: Terminal) -> Self {
        Self { from: From::Terminal(Box::new(terminal)), count: 0 }
    }

    /// Says what is expected of a person, if there is one.
    pub(super) fn greet(&self) {
        let typed = match &self.from {
            From::Arguments(_) => false,
            From::Stdin { .. } => io::stdin().is_terminal(),
            From::Terminal(_) => true,
        };
        if typed {
            eprintln!("(type lines, Ctrl-D to end)");
        }
    }

    pub(super) fn rest(&self) -> Left {
        match &self.from {
            From::Arguments(all) => Left::Of(all.clone()),
            From::Stdin { .. } | From::Terminal(_) => Left::Lines,
        }
    }

    /// The next message; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let message = match &mut self.from {
            From::Arguments(all) => {
                let index = usize::try_from(self.count).unwrap_or(usize::MAX);
                all.get(index).cloned()
            }
            From::Stdin { notation, limit, input, line } => {
                let read = read_line(input, line, *limit)
                    .and_then(|some| some.then(|| notation.read(line)).transpose());
                read.map_err(|error| Failure::Runtime(format!("line {}: {error}", self.count + 1)))?
            }
            From::Terminal(terminal) => terminal.next()?,
        };
        self.count += u64::from(message.is_some());
        Ok(message)
    }

    /// What the last message is called in an error.
    pub(super) fn name(&self) -> String {
        match &self.from {
            From::Arguments(_) => format!("message {}", self.count),
            From::Stdin { .. } | From::Terminal(_) => format!("line {}", self.count),
        }
    }
}

/// Reads a line without its end; false after the last.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, limit: usize) -> Result<bool, String> {
    line.clear();
    let mut bounded = input.take(u64::try_from(limit).unwrap_or(u64::MAX));
    let count = bounded.read_until(b'\n', line);
    if count.map_err(|error| format!("cannot read stdin: {error}"))? == 0 {
        return Ok(false);
    }
    match line.last() {
        Some(b'\n') => drop(line.pop()),
        _ if line.len() == limit => {
            return Err(format!("more than {limit} bytes, and no message is as long"));
        }
        _ => {}
    }
    Ok(true)
}

/// The whole of a file, unless it cannot be one message anyway.
pub(super) fn read_file(framing: &AnyFraming, file: &str) -> Result<Vec<u8>, String> {
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

impl Notation {
    /// The message that is written as `text`.
    pub(super) fn read(self, text: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Plain => Ok(text.to_vec()),
            Self::Escaped => unescape(text),
            Self::Hex => unhex(text),
        }
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

    #[test]
    fn a_line_ends_with_lf_or_the_input_and_is_no_longer_than_the_limit() {
        let mut input = &b"one\n\nlast"[..];
        let mut line = Vec::new();
        for expected in [&b"one"[..], b"", b"last"] {
            assert_eq!(read_line(&mut input, &mut line, 100), Ok(true));
            assert_eq!(line, expected);
        }
        assert_eq!(read_line(&mut input, &mut line, 100), Ok(false));
        assert!(read_line(&mut &b"12345"[..], &mut line, 5).is_err());
        assert_eq!(read_line(&mut &b"1234\n"[..], &mut line, 5), Ok(true));
    }
}
