//! A person at a terminal: a line that can be edited, those before it, and replies above.

use std::io::{self, IsTerminal, stdin, stdout};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use oneloop::AnyFraming;
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor, ExternalPrinter};

use super::output::{Form, Output};
use super::sendable;
use super::source::{Notation, Source};
use crate::Failure;

/// Lines that are typed.
pub(super) struct Terminal {
    editor: DefaultEditor,
    notation: Notation,
    framing: AnyFraming,
}

/// Whether there is one at both ends, and not for a pipe to read along.
pub(super) fn is_there() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// Messages from it, and replies to it.
pub(super) fn open(
    notation: Notation,
    framing: &AnyFraming,
    form: Form,
) -> Result<(Source, Output), Failure> {
    let failed =
        |error: ReadlineError| Failure::Runtime(format!("cannot use the terminal: {error}"));
    // Several lines that are pasted are as many messages. What was typed is kept as long
    // as the program runs: it may be secret.
    let config = Config::builder().auto_add_history(true).bracketed_paste(false).build();
    let mut editor = DefaultEditor::with_config(config).map_err(failed)?;
    let output = match editor.create_external_printer() {
        Ok(mut printer) => {
            Output::above(form, move |text| printer.print(text).map_err(io::Error::other))
        }
        // One that is too simple to have a line above: TERM=dumb.
        Err(_) => Output::new(form),
    };
    Ok((Source::terminal(Terminal { editor, notation, framing: framing.clone() }), output))
}

impl Terminal {
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        /// As the shell has it for who is interrupted.
        const SIGINT: i32 = 2;
        loop {
            let line = match self.editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) => return Err(Failure::Signal(SIGINT)),
                Err(error) => return Err(Failure::Runtime(format!("cannot read a line: {error}"))),
            };
            let read = self.notation.read(line.as_bytes()).and_then(|message| {
                sendable(&self.framing, &message)?;
                Ok(message)
            });
            match read {
                Ok(message) => return Ok(Some(message)),
                // Who typed it can type it again.
                Err(error) => eprintln!("not sent: {error}"),
            }
        }
    }
}

/// How the terminal was: while a line is edited it echoes nothing, and the conversation
/// may end meanwhile.
pub(super) struct Saved(Option<Termios>);

impl Saved {
    pub(super) fn now() -> Self {
        Self(tcgetattr(stdin()).ok())
    }

    pub(super) fn restore(&self) {
        let (Some(before), Ok(now)) = (&self.0, tcgetattr(stdin())) else { return };
        if *before != now {
            // Out of the line that is being typed.
            eprintln!();
            // It was a terminal a moment ago. If it is gone, there is nothing to restore.
            let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, before);
        }
    }
}
