//! A person at a terminal: a line that can be edited, those before it, and replies above.
//!
//! rustyline can print above the line by itself, but then keys that come faster than one
//! by one are left in its buffer until the next key. So it tells us the line, as it tells
//! whoever gives hints, and the line is drawn again behind what is printed.

use std::env;
use std::io::{self, IsTerminal, Write, stdin, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use oneloop::AnyFraming;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};

use super::output::{Form, Output};
use super::sendable;
use super::source::Source;
use crate::Failure;
use crate::notation::Notation;

const PROMPT: &str = "> ";

/// Lines that are typed.
pub(super) struct Terminal {
    editor: Editor<Watching, DefaultHistory>,
    typed: Typed,
    notation: Notation,
    framing: AnyFraming,
}

/// The line that is being typed and the place of the cursor, in bytes; none between two.
#[derive(Clone, Default)]
struct Typed(Arc<Mutex<Option<(String, usize)>>>);

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
    let mut editor = Editor::with_config(config).map_err(failed)?;
    let typed = Typed::default();
    // Some cannot draw a line again; rustyline has the same list.
    let simple = env::var("TERM").is_ok_and(|it| ["dumb", "cons25", "emacs"].contains(&&*it));
    let output = match simple {
        true => Output::new(form),
        false => {
            editor.set_helper(Some(Watching(typed.clone())));
            let typed = typed.clone();
            Output::above(form, move |text| typed.print_above(&text))
        }
    };
    let framing = framing.clone();
    Ok((Source::terminal(Terminal { editor, typed, notation, framing }), output))
}

impl Typed {
    fn lock(&self) -> MutexGuard<'_, Option<(String, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, line: &str, cursor: usize) {
        *self.lock() = Some((line.to_string(), cursor));
    }

    /// In one write, so that nothing comes between. Of a line that is longer than the
    /// terminal is wide, the rows above the cursor's stay where they were.
    fn print_above(&self, text: &str) -> io::Result<()> {
        let typed = self.lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let all = match typed.as_ref().and_then(|(line, cursor)| line.split_at_checked(*cursor)) {
            // To the left and clear; at the end, back to where the cursor was.
            Some((before, behind)) => {
                format!("\r\x1b[J{text}{end}{PROMPT}{before}\x1b7{behind}\x1b8")
            }
            None => format!("{text}{end}"),
        };
        stdout().write_all(all.as_bytes())?;
        stdout().flush()
    }
}

/// Hears of each change of the line.
struct Watching(Typed);

impl Helper for Watching {}
impl Validator for Watching {}

impl Completer for Watching {
    type Candidate = String;
}

impl Hinter for Watching {
    type Hint = String;

    fn hint(&self, line: &str, cursor: usize, _: &Context<'_>) -> Option<String> {
        self.0.is(line, cursor);
        None
    }
}

impl Highlighter for Watching {
    /// Asked when the cursor moves, too.
    fn highlight_char(&self, line: &str, cursor: usize, _: CmdKind) -> bool {
        self.0.is(line, cursor);
        false
    }
}

impl Terminal {
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        /// As the shell has it for who is interrupted.
        const SIGINT: i32 = 2;
        loop {
            let read = self.editor.readline(PROMPT);
            self.typed.lock().take();
            let line = match read {
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
