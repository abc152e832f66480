//! Where messages come from.

use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::sync::Arc;

use oneloop::{AnyFraming, Encode};

use super::terminal::Terminal;
use crate::Failure;
use crate::notation::Notation;

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

#[cfg(test)]
mod tests {
    use super::*;

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
