//! Where replies go, and how they look there.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::json;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// As they are, a line end behind each.
    Text,
    /// As they are, and nothing else.
    Raw,
    Hex,
    Json,
}

/// Prints replies.
pub(super) struct Output {
    form: Form,
    /// Replies so far.
    pub(super) count: u64,
    to: To,
}

enum To {
    Stdout {
        out: BufWriter<Stdout>,
        /// What is in a reply must not move the cursor about, or worse.
        escape: bool,
    },
    /// Above the line that is being typed.
    Above(Box<dyn FnMut(String) -> io::Result<()> + Send>),
}

impl Output {
    pub(super) fn new(form: Form) -> Self {
        let escape = io::stdout().is_terminal();
        Self { form, count: 0, to: To::Stdout { out: BufWriter::new(io::stdout()), escape } }
    }

    pub(super) fn above(
        form: Form,
        print: impl FnMut(String) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self { form, count: 0, to: To::Above(Box::new(print)) }
    }

    pub(super) fn print(&mut self, reply: &[u8]) -> io::Result<()> {
        self.count += 1;
        match &mut self.to {
            To::Stdout { out, escape } => {
                out.write_all(&shown(self.form, self.count, reply, *escape))?;
                out.flush()
            }
            To::Above(print) => {
                let shown = shown(self.form, self.count, reply, self.form != Form::Raw);
                print(String::from_utf8_lossy(&shown).into_owned())
            }
        }
    }

    /// Something for the person, who is not reading stdout alone.
    pub(super) fn note(&mut self, text: &str) {
        match &mut self.to {
            To::Stdout { .. } => eprintln!("{text}"),
            // If that cannot be printed, replies cannot either, and that is said.
            To::Above(print) => drop(print(format!("{text}\n"))),
        }
    }
}

fn shown(form: Form, number: u64, reply: &[u8], escape: bool) -> Cow<'_, [u8]> {
    match form {
        Form::Raw => Cow::Borrowed(reply),
        Form::Text if escape => Cow::Owned(format!("{}\n", printable(reply)).into_bytes()),
        Form::Text => Cow::Owned([reply, b"\n"].concat()),
        Form::Hex => Cow::Owned(format!("{}\n", hex(reply)).into_bytes()),
        Form::Json => {
            let content = match std::str::from_utf8(reply) {
                Ok(text) => ("text", Value::from(text)),
                Err(_) => ("hex", hex(reply).into()),
            };
            let members = [("n", number.into()), ("bytes", reply.len().into()), content];
            Cow::Owned(format!("{}\n", json::object(&members)).into_bytes())
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Text as it is, line ends and tabs with it; what a terminal would act on, escaped.
fn printable(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => shown.push(c),
                c if c.is_control() => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        write!(shown, "{}", chunk.invalid().escape_ascii()).expect("a string takes everything");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_looks_as_was_asked_for_and_does_nothing_to_a_terminal() {
        #[rustfmt::skip]
        let cases: [(Form, &[u8], bool, &[u8]); 8] = [
            (Form::Text, b"hello",       false, b"hello\n"),
            (Form::Text, b"\x1b[2J\xff", false, b"\x1b[2J\xff\n"),
            (Form::Text, b"\x1b[2J\xff", true,  b"\\u{1b}[2J\\xff\n"),
            (Form::Text, "naïve\n\t€".as_bytes(), true, "naïve\n\t€\n".as_bytes()),
            (Form::Raw,  b"\x00hello",   true,  b"\x00hello"),
            (Form::Hex,  b"\x00hi\xff",  false, b"006869ff\n"),
            (Form::Json, b"hello",       false, b"{\"n\":7,\"bytes\":5,\"text\":\"hello\"}\n"),
            (Form::Json, b"\xa0\x01",    false, b"{\"n\":7,\"bytes\":2,\"hex\":\"a001\"}\n"),
        ];
        for (form, reply, escape, expected) in cases {
            assert_eq!(shown(form, 7, reply, escape), expected, "{form:?} {reply:?}");
        }
    }
}
