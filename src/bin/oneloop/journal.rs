//! What the program says: whole lines on stderr, and the lines about connections.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, LineWriter, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log};
use oneloop::{CloseReason, Context, FrameError, PeerAddr, Served, Service};
use simplelog::{ConfigBuilder, WriteLogger};
use time::macros::format_description;

use crate::paper::{MAX_WRITE, Paper};

/// A logger that hands whole lines to `out`, each in one write: lines of many
/// threads, or of many processes on one terminal, never interleave.
pub(crate) fn logger(level: LevelFilter, out: impl Write + Send + 'static) -> Box<dyn Log> {
    let mut config = ConfigBuilder::new();
    config
        // Ours and the library's, not what mio says of every registration.
        .add_filter_allow_str("oneloop")
        .set_time_format_custom(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        ))
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off);
    WriteLogger::new(level, config.build(), LineWriter::with_capacity(MAX_WRITE, out))
}

/// Logs to stderr from now on, panics included: the standard way would wait for whoever
/// reads it, and shows what a peer may have sent.
pub(crate) fn start(level: LevelFilter) {
    log::set_max_level(level);
    // It is already set only if this is called twice, and then it is right.
    let _ = log::set_boxed_logger(logger(level, Paper::new(io::stderr())));
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload();
        let what =
            what.downcast_ref::<String>().map(String::as_str).or(what.downcast_ref().copied());
        let what = what.unwrap_or("no text");
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        let place = place.as_deref().unwrap_or("somewhere");
        log::error!("[PANIC] {place}: {}", Shown(what.as_bytes()));
    }));
}

/// A service, with a line in the log for what happens to its connections.
pub(crate) struct Logged<S> {
    pub(crate) service: S,
    /// At which level messages are shown.
    pub(crate) messages: Level,
    pub(crate) gates: Rc<Gates>,
}

impl<S> Logged<S> {
    #[cold]
    fn show(&self, peer: PeerAddr, message: &[u8]) {
        log::log!(self.messages, "[{peer}] {}", Shown(message));
    }
}

impl<S: Service> Service for Logged<S> {
    type Session = S::Session;

    fn opened(&mut self, cx: &mut Context<'_>, session: &mut S::Session) -> Served {
        if self.gates.info.opens(2) {
            log::info!("[NEW CONNECTION] {} connected.", cx.peer());
            log::info!("[ACTIVE CONNECTIONS] {}", cx.connections());
        }
        self.service.opened(cx, session)
    }

    #[inline(always)]
    fn message(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut S::Session,
        message: &[u8],
    ) -> Served {
        if self.messages <= log::max_level() {
            self.show(cx.peer(), message);
        }
        self.service.message(cx, session, message)
    }

    fn bad_input(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut S::Session,
        error: &FrameError,
    ) -> Served {
        if self.gates.warn.opens(1) {
            match cx.guess() {
                Some(guess) => log::warn!("[BAD INPUT] {}: {error}; {guess}", cx.peer()),
                None => log::warn!("[BAD INPUT] {}: {error}", cx.peer()),
            }
        }
        self.service.bad_input(cx, session, error)
    }

    fn finished(&mut self, cx: &mut Context<'_>, session: &mut S::Session) -> Served {
        self.service.finished(cx, session)
    }

    fn timer(&mut self, cx: &mut Context<'_>, session: &mut S::Session) -> Served {
        self.service.timer(cx, session)
    }

    fn closed(&mut self, cx: &mut Context<'_>, session: &mut S::Session, reason: CloseReason) {
        let gate = match reason {
            CloseReason::FrameDeadline
            | CloseReason::WriteStall
            | CloseReason::OutputCap
            | CloseReason::Memory
            | CloseReason::Rate
            | CloseReason::IoError
            | CloseReason::BadReply
            | CloseReason::HandlerPanic => &self.gates.warn,
            _ => &self.gates.info,
        };
        if gate.opens(1) {
            log::log!(gate.level, "[CLOSED] {}: {reason}", cx.peer());
        }
        self.service.closed(cx, session, reason);
    }
}

/// Lines about connections that are written in one second; the rest is counted. A
/// storm of connections must not become a storm of lines.
const LINES_PER_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// The lines that peers can cause, by level, so that neither crowds out the other.
pub(crate) struct Gates {
    info: Gate,
    warn: Gate,
}

impl Gates {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { info: Gate::new(Level::Info), warn: Gate::new(Level::Warn) })
    }

    /// Says what was not shown, if its second is over.
    pub(crate) fn turn_over(&self) {
        self.info.turn_over();
        self.warn.turn_over();
    }

    /// Says what was not shown.
    pub(crate) fn say_hidden(&self) {
        self.info.say_hidden();
        self.warn.say_hidden();
    }

    /// How long the loop may sleep before something is to be said.
    pub(crate) fn due(&self) -> Option<Duration> {
        [self.info.due(), self.warn.due()].into_iter().flatten().min()
    }
}

/// Lets the first lines of each second through.
struct Gate {
    level: Level,
    since: Cell<Instant>,
    shown: Cell<u32>,
    hidden: Cell<u64>,
}

impl Gate {
    fn new(level: Level) -> Self {
        let since = Cell::new(Instant::now());
        Self { level, since, shown: Cell::new(0), hidden: Cell::new(0) }
    }

    /// Whether an event of so many lines may be shown.
    fn opens(&self, lines: u32) -> bool {
        if self.level > log::max_level() {
            return false;
        }
        self.turn_over();
        let shown = self.shown.get() + lines;
        if shown > LINES_PER_SECOND {
            self.hidden.set(self.hidden.get() + 1);
            return false;
        }
        self.shown.set(shown);
        true
    }

    fn turn_over(&self) {
        if self.since.get().elapsed() >= SECOND {
            self.since.set(Instant::now());
            self.shown.set(0);
            self.say_hidden();
        }
    }

    fn say_hidden(&self) {
        match self.hidden.take() {
            0 => {}
            1 => log::log!(self.level, "[CONNECTIONS] 1 more event not shown"),
            count => log::log!(self.level, "[CONNECTIONS] {count} more events not shown"),
        }
    }

    fn due(&self) -> Option<Duration> {
        (self.hidden.get() > 0).then(|| SECOND.saturating_sub(self.since.get().elapsed()))
    }
}

/// A message in the log: printable ASCII as it is, all else escaped, at most 256
/// bytes of it. No byte of a peer can start a line or move a cursor.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

const MAX_SHOWN: usize = 256;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(message) = self;
        for &byte in message.iter().take(MAX_SHOWN) {
            match byte {
                b' '..=b'~' => f.write_char(byte.into())?,
                _ => write!(f, "{}", byte.escape_ascii())?,
            }
        }
        if message.len() > MAX_SHOWN {
            write!(f, "... ({} bytes)", message.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::Record;

    use super::*;

    #[test]
    fn a_message_in_the_log_is_printable_and_bounded() {
        let shown = |message: &[u8]| Shown(message).to_string();
        assert_eq!(shown(b"say \"hi\" \\o/"), "say \"hi\" \\o/");
        assert_eq!(shown(b"a\r\n\x1b[2J\0\xe2\x80\xae"), r"a\r\n\x1b[2J\x00\xe2\x80\xae");
        assert_eq!(shown(&[b'x'; 256]).len(), 256);
        assert_eq!(shown(&[b'x'; 1 << 20]), format!("{}... (1048576 bytes)", "x".repeat(256)));
    }

    #[test]
    fn a_storm_of_connections_is_ten_lines_and_a_number() {
        log::set_max_level(LevelFilter::Info);
        let gates = Gates::new();
        let shown = (0..5000).filter(|_| gates.info.opens(2)).count();
        assert_eq!((shown, gates.info.hidden.get()), (5, 4995));
        assert!(gates.due().is_some_and(|due| due <= SECOND));
        assert!(gates.warn.opens(1), "a storm of the one hides nothing of the other");
        assert!(!Gate::new(Level::Debug).opens(1), "what nobody sees is not counted");
    }

    /// Remembers what each write brought.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_eight_threads_never_interleave() {
        let writes = Writes::default();
        let logger = logger(LevelFilter::Info, writes.clone());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let logger = &logger;
                scope.spawn(move || {
                    for line in 0..500 {
                        let text = Shown(&[0xff; 300][..line % 300]).to_string();
                        logger.log(
                            &Record::builder()
                                .level(Level::Info)
                                .target("oneloop")
                                .args(format_args!("{thread} {line} {text} end"))
                                .build(),
                        );
                    }
                });
            }
        });
        let writes = writes.0.lock().expect("no writer panics");
        assert_eq!(writes.len(), 8 * 500, "each line is one write");
        let mut next = [0; 8];
        for write in writes.iter() {
            let line = std::str::from_utf8(write).expect("text");
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some("end"), Some("[INFO]")) = (words.last().copied(), words.get(1).copied())
            else {
                panic!("not a whole line: {line:?}")
            };
            let thread: usize = words[2].parse().expect("the number of a thread");
            assert_eq!(words[3], next[thread].to_string(), "{line:?}");
            assert!(line.ends_with(" end\n") && line.matches('\n').count() == 1, "{line:?}");
            next[thread] += 1;
        }
    }
}
