//! What the two halves of a client share: the connection, and what waits for replies.
//!
//! ```text
//!           connect               finish
//!   Down ──────────▶ Open ──────────────────▶ Finished
//!    ▲                 │ writing failed            │
//!    │                 ▼                           │
//!    │              Broken                         │
//!    │  leave          │  leave                    │  leave
//!    └─────────────────┴───────────────────────────┘
//! ```
//!
//! Only the receiving half takes leave of a connection, since it alone knows which
//! replies came before the end. A sending half that fails leaves the connection Broken:
//! if it said at once what was not answered, it would name messages whose replies lie in
//! the socket still, and who sends those again has them twice.
//!
//! Locks are taken in the order `calling`, `on_state`, `line`. No one holds `line` while
//! anything blocks.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::call::call;
use super::{ClientError, ClientOptions, LostBy, State};
use crate::retry::Backoff;

/// Held by both halves.
pub(super) struct Shared {
    pub(super) addr: String,
    pub(super) options: ClientOptions,
    line: Mutex<Line>,
    /// A reply has made room, or the receiving half has taken leave.
    changed: Condvar,
    /// Held while calling: who comes second waits for what comes of it.
    calling: Mutex<Option<Failure>>,
    /// Held while the state changes and is told, so that it is told in its order.
    on_state: Mutex<Box<dyn FnMut(State) + Send>>,
}

struct Line {
    stage: Stage,
    /// Whether there is a receiving half.
    received: bool,
    /// Messages without a reply, oldest first.
    unanswered: VecDeque<Vec<u8>>,
    /// What they count, in bytes.
    bytes: usize,
    /// Whether the sending half waits for a change: to tell it costs a system call.
    awaited: bool,
    /// Whether this connection has brought a message.
    heard: bool,
    backoff: Backoff,
    /// Times that calling was given up.
    failures: u64,
}

/// Where the connection is in its life.
enum Stage {
    /// There is none.
    Down,
    /// Messages flow both ways.
    Open(Arc<TcpStream>),
    /// We have finished sending, the server has not.
    Finished(Arc<TcpStream>),
    /// It is lost, but what had come on it before is still to be received.
    Broken(Arc<TcpStream>),
}

/// Why calling was given up, for who waited for it. An `io::Error` cannot be cloned.
struct Failure {
    tries: u32,
    kind: io::ErrorKind,
    text: String,
}

/// What a message counts besides its bytes: about what it takes to keep it.
const EACH: usize = 64;

impl Shared {
    pub(super) fn new(addr: String, options: ClientOptions) -> Self {
        let line = Line {
            stage: Stage::Down,
            received: true,
            unanswered: VecDeque::new(),
            bytes: 0,
            awaited: false,
            heard: false,
            backoff: Backoff::default(),
            failures: 0,
        };
        Self {
            addr,
            options,
            line: Mutex::new(line),
            changed: Condvar::new(),
            calling: Mutex::new(None),
            on_state: Mutex::new(Box::new(|_| {})),
        }
    }

    pub(super) fn on_state(&self, f: Box<dyn FnMut(State) + Send>) {
        *lock(&self.on_state) = f;
    }

    /// Whether each message is answered, and so kept until it is.
    pub(super) fn answers(&self) -> bool {
        self.options.answered
    }

    /// Messages that wait for their replies.
    pub(super) fn unanswered(&self) -> usize {
        lock(&self.line).unanswered.len()
    }

    /// Whether writing has failed, and what came before is still to be received.
    pub(super) fn is_broken(&self) -> bool {
        matches!(lock(&self.line).stage, Stage::Broken(_))
    }

    /// Makes a connection, if there is none.
    pub(super) fn connect(&self) -> Result<(), ClientError> {
        let failures = lock(&self.line).failures;
        let mut last = lock(&self.calling);
        let line = lock(&self.line);
        if !matches!(line.stage, Stage::Down) {
            return Ok(());
        }
        if let Some(failure) = last.as_ref().filter(|_| line.failures != failures) {
            return Err(self.not_connected(failure));
        }
        drop(line);
        let retry = self.options.retry;
        let mut tries = 1;
        loop {
            let pause = lock(&self.line).backoff.pause(Instant::now());
            thread::sleep(pause);
            let begin = Instant::now();
            match call(&self.addr, &self.options) {
                Ok(stream) => {
                    self.opened(stream);
                    return Ok(());
                }
                Err(error) => {
                    let mut line = lock(&self.line);
                    line.backoff.failed(retry, begin);
                    // A wrong address stays wrong.
                    if tries >= retry.tries || error.kind() == io::ErrorKind::InvalidInput {
                        line.failures += 1;
                        let (kind, text) = (error.kind(), error.to_string());
                        *last = Some(Failure { tries, kind, text });
                        let addr = self.addr.clone();
                        return Err(ClientError::Connect { addr, tries, error });
                    }
                }
            }
            tries += 1;
        }
    }

    fn not_connected(&self, failure: &Failure) -> ClientError {
        ClientError::Connect {
            addr: self.addr.clone(),
            tries: failure.tries,
            error: io::Error::new(failure.kind, failure.text.clone()),
        }
    }

    fn opened(&self, stream: TcpStream) {
        let mut tell = lock(&self.on_state);
        let mut line = lock(&self.line);
        line.stage = Stage::Open(Arc::new(stream));
        line.heard = false;
        line.backoff.connected(Instant::now());
        drop(line);
        tell(State::Connected);
    }

    /// A connection to send `message` on, which is kept from now on until it is answered.
    /// With `wait`, the receiving half is on another thread and may make room for it.
    pub(super) fn enter(&self, message: &[u8], wait: bool) -> Result<Arc<TcpStream>, ClientError> {
        let begin = Instant::now();
        let mut line = lock(&self.line);
        loop {
            let refusal = match &line.stage {
                Stage::Down => {
                    drop(line);
                    self.connect()?;
                    line = lock(&self.line);
                    continue;
                }
                Stage::Finished(_) => {
                    return Err(ClientError::Finished { addr: self.addr.clone() });
                }
                Stage::Broken(_) if !line.received => {
                    drop(line);
                    let (why, mut unanswered) = self.leave(LostBy::OtherHalf);
                    unanswered.push(message.to_vec());
                    return Err(self.lost(why, unanswered));
                }
                Stage::Broken(_) => ClientError::Behind {
                    addr: self.addr.clone(),
                    after: self.options.write_timeout.unwrap_or_default(),
                },
                Stage::Open(stream) => {
                    let stream = stream.clone();
                    match line.remember(message, &self.options) {
                        Ok(()) => return Ok(stream),
                        Err(bytes) => ClientError::Unanswered {
                            addr: self.addr.clone(),
                            bytes,
                            max: self.options.max_unanswered,
                        },
                    }
                }
            };
            line = match wait {
                true => self.wait(line, begin).ok_or(refusal)?,
                false => return Err(refusal),
            };
        }
    }

    /// Waits for the receiving half; `None` if that takes too long since `begin`.
    fn wait<'l>(
        &'l self,
        mut line: MutexGuard<'l, Line>,
        begin: Instant,
    ) -> Option<MutexGuard<'l, Line>> {
        line.awaited = true;
        let line = match self.options.write_timeout {
            None => self.changed.wait(line).unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let left = time.checked_sub(begin.elapsed())?;
                let waited = self.changed.wait_timeout(line, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        Some(line)
    }

    /// Writing `message` to `stream` has failed.
    pub(super) fn broken(
        &self,
        stream: &Arc<TcpStream>,
        why: LostBy,
        message: &[u8],
    ) -> ClientError {
        let mut tell = lock(&self.on_state);
        let mut line = lock(&self.line);
        let ours = line.stage.stream().is_some_and(|current| Arc::ptr_eq(current, stream));
        let fresh = ours && !matches!(line.stage, Stage::Broken(_));
        if fresh {
            line.stage = Stage::Broken(stream.clone());
            // Wakes the receiving half, which then finds what had come, and the end.
            // An error means that the socket is gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let alone = !line.received;
        drop(line);
        if fresh {
            tell(State::Disconnected);
        }
        drop(tell);
        if fresh && alone && self.options.answered {
            return self.lost(why, self.leave(LostBy::OtherHalf).1);
        }
        // Of messages that are not kept, this one is known not to have left.
        let unanswered = if self.options.answered { vec![] } else { vec![message.to_vec()] };
        self.lost(if ours { why } else { LostBy::OtherHalf }, unanswered)
    }

    /// Tells the server that nothing will follow, if there is a connection.
    pub(super) fn finish(&self) {
        let mut line = lock(&self.line);
        if let Stage::Open(stream) = &line.stage {
            let stream = stream.clone();
            // To who is gone nothing has to be said.
            let _ = stream.shutdown(Shutdown::Write);
            line.stage = Stage::Finished(stream);
        }
    }

    /// A connection to receive from.
    pub(super) fn stream(&self) -> Result<Arc<TcpStream>, ClientError> {
        loop {
            if let Some(stream) = lock(&self.line).stage.stream() {
                return Ok(stream.clone());
            }
            self.connect()?;
        }
    }

    /// A message has come: the reply to the oldest that has none.
    pub(super) fn answered(&self) {
        let mut line = lock(&self.line);
        line.heard = true;
        line.backoff.reset();
        if let Some(message) = line.unanswered.pop_front() {
            line.bytes -= message.len() + EACH;
            if std::mem::take(&mut line.awaited) {
                self.changed.notify_one();
            }
        }
    }

    /// All that came is received: ends the connection, and returns what ended it and
    /// what was not answered.
    pub(super) fn leave(&self, why: LostBy) -> (LostBy, Vec<Vec<u8>>) {
        let mut tell = lock(&self.on_state);
        let mut line = lock(&self.line);
        let stage = std::mem::replace(&mut line.stage, Stage::Down);
        if let Some(stream) = stage.stream() {
            // Fails a write of the sending half. An error: the socket is gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        if !line.heard {
            line.backoff.ended_mute(self.options.retry, Instant::now());
        }
        line.bytes = 0;
        let unanswered = std::mem::take(&mut line.unanswered).into();
        drop(line);
        self.changed.notify_all();
        match stage {
            Stage::Open(_) | Stage::Finished(_) => tell(State::Disconnected),
            Stage::Broken(_) => return (LostBy::OtherHalf, unanswered),
            Stage::Down => {}
        }
        (why, unanswered)
    }

    pub(super) fn lost(&self, why: LostBy, unanswered: Vec<Vec<u8>>) -> ClientError {
        ClientError::Lost { addr: self.addr.clone(), why, unanswered }
    }

    /// The receiving half is gone: what it would have to say is the other's to say.
    pub(super) fn receiver_dropped(&self) {
        lock(&self.line).received = false;
        self.changed.notify_all();
    }
}

impl Line {
    /// Keeps a message until it is answered.
    ///
    /// # Errors
    ///
    /// It would be more than the limit: the bytes there would be.
    fn remember(&mut self, message: &[u8], options: &ClientOptions) -> Result<(), usize> {
        if !options.answered {
            return Ok(());
        }
        let bytes = self.bytes.saturating_add(message.len() + EACH);
        if bytes > options.max_unanswered && !self.unanswered.is_empty() {
            return Err(bytes);
        }
        self.bytes = bytes;
        self.unanswered.push_back(message.to_vec());
        Ok(())
    }
}

impl Stage {
    fn stream(&self) -> Option<&Arc<TcpStream>> {
        match self {
            Self::Down => None,
            Self::Open(stream) | Self::Finished(stream) | Self::Broken(stream) => Some(stream),
        }
    }
}

/// A panic in a callback of the caller's leaves nothing half done in here.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
