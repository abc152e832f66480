//! The two halves of a client, usable from two threads.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use super::input::Input;
use super::line::Shared;
use super::{ClientError, LostBy};
use crate::proto::framing::{Decoded, Exchange, FrameError, Framing, Reply};

/// The half of a [`Client`](crate::Client) that sends.
///
/// # When the connection is lost
///
/// Whichever half notices first, [`Receiver::receive`] first delivers what had come, and
/// then hands back all that was not answered; until it has, there is no new connection,
/// and `send` waits for it. So a message is answered or handed back, never both; and if
/// there is no receiving half any more, it is this one that hands back.
pub struct Sender<F: Framing> {
    pub(super) shared: Arc<Shared>,
    framing: F,
    bytes: Vec<u8>,
}

/// The half of a [`Client`](crate::Client) that receives.
pub struct Receiver<F: Framing> {
    shared: Arc<Shared>,
    framing: F,
    state: F::State,
    input: Input,
    /// The connection that `input` is from.
    stream: Option<Arc<TcpStream>>,
    /// Whether the server has finished on it.
    end: bool,
}

impl<F: Framing> Sender<F> {
    pub(super) fn new(shared: Arc<Shared>, framing: F) -> Self {
        Self { shared, framing, bytes: Vec::new() }
    }

    /// Sends a message: bytes, or what has a head. It is written when this returns; that
    /// it was read is shown by its reply alone.
    ///
    /// # Errors
    ///
    /// [`Lost`](ClientError::Lost): the message is among those that are handed back,
    /// here or by [`Receiver::receive`]; one that is not kept
    /// ([`answered(false)`](crate::ClientOptions::answered)) is handed back here. After
    /// any other error it was not taken.
    pub fn send<'m>(&mut self, message: impl Into<Reply<'m>>) -> Result<(), ClientError> {
        self.send_or(&message.into(), true)
    }

    /// With `wait`, for the receiving half to make room.
    pub(super) fn send_or(&mut self, message: &Reply<'_>, wait: bool) -> Result<(), ClientError> {
        self.bytes.clear();
        self.framing.reply(message, &mut Exchange::None, &mut self.bytes)?;
        let kept = self.kept(message);
        let stream = self.shared.enter(kept, wait)?;
        (&*stream).write_all(&self.bytes).map_err(|error| {
            let why = match (error.kind(), self.shared.options.write_timeout) {
                (ErrorKind::WouldBlock, Some(time)) => LostBy::Timeout(time),
                _ => LostBy::Socket(error),
            };
            self.shared.broken(&stream, why, kept)
        })
    }

    /// As what the message is handed back that was sent last.
    pub(super) fn kept<'k>(&'k self, message: &Reply<'k>) -> &'k [u8] {
        match message {
            Reply::Bytes(bytes) => bytes,
            // What has a head: as it was written.
            _ => &self.bytes,
        }
    }

    /// Tells the server that nothing will follow, if there is a connection. Replies still
    /// come. When the server has finished, too, a new connection can be made.
    pub fn finish(&mut self) {
        self.shared.finish();
    }
}

impl<F: Framing> Receiver<F> {
    pub(super) fn new(shared: Arc<Shared>, framing: F) -> Self {
        let (state, input) = (F::State::default(), Input::default());
        Self { shared, framing, state, input, stream: None, end: false }
    }

    /// The next message; `None` if the server has finished, between two messages and
    /// with all of ours answered. The call after that connects again.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ClientError::Timeout) costs nothing: call again.
    /// [`Connect`](ClientError::Connect) if there is no connection to be had,
    /// [`Lost`](ClientError::Lost) if there was.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            if self.end {
                let (why, unanswered) = self.forget(LostBy::Server);
                // With `OtherHalf`, that one tells what is wrong.
                return match unanswered.is_empty() {
                    true => Ok(None),
                    false => Err(self.shared.lost(why, unanswered)),
                };
            }
            self.read()?;
        }
    }

    /// The next message in what was read.
    fn decode(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let waiting = self.input.waiting();
            let received = waiting.len();
            let error = match self.framing.decode(&mut self.state, waiting, self.end) {
                // A framing that consumes nothing would be asked the same for ever.
                Ok(Decoded::Message { consumed: 0, .. } | Decoded::Skip { consumed: 0, .. }) => {
                    FrameError::NoProgress
                }
                Ok(Decoded::Message { message, consumed }) => {
                    let message = waiting[message].to_vec();
                    self.input.consume(consumed);
                    self.shared.answered();
                    return Ok(Some(message));
                }
                Ok(Decoded::Skip { consumed, error: None }) => {
                    self.input.consume(consumed);
                    continue;
                }
                Ok(Decoded::Incomplete { .. }) if self.end && received > 0 => {
                    FrameError::Truncated { received }
                }
                Ok(Decoded::Incomplete { .. }) if received > self.framing.max_input() => {
                    FrameError::TooLong { announced: None, max: self.framing.max_input() }
                }
                Ok(Decoded::Incomplete { .. }) => return Ok(None),
                // The reply that is skipped would be missing, and those behind it be taken
                // for those of other messages.
                Ok(Decoded::Skip { error: Some(error), .. }) | Err(error) => error,
            };
            return Err(self.lost(LostBy::Frame(error)));
        }
    }

    /// Reads what comes next, be it the end.
    fn read(&mut self) -> Result<(), ClientError> {
        let stream = match &self.stream {
            Some(stream) => stream,
            None => self.stream.insert(self.shared.stream()?),
        };
        loop {
            match self.input.fill(|free| (&**stream).read(free)) {
                Ok(count) => {
                    self.end = count == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What the kernel gave up itself is `TimedOut`.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ClientError::Timeout {
                        addr: self.shared.addr.clone(),
                        after: self.shared.options.read_timeout.unwrap_or_default(),
                        unanswered: self.shared.unanswered(),
                    });
                }
                Err(error) => return Err(self.lost(LostBy::Socket(error))),
            }
        }
    }

    /// Reads what has come, without waiting: true if that was the end. Only for who has
    /// both halves, since the other would not wait for the server then.
    pub(super) fn glance(&mut self) -> bool {
        let Some(stream) = self.stream.clone() else { return false };
        // What is pushed at us and not received shall stay with the kernel.
        if self.end || self.input.is_full() || stream.set_nonblocking(true).is_err() {
            return self.end;
        }
        let ended = match self.input.fill(|free| (&*stream).read(free)) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        self.end = ended || stream.set_nonblocking(false).is_err();
        self.end
    }

    /// Gives the connection up.
    pub(super) fn lost(&mut self, why: LostBy) -> ClientError {
        let (why, unanswered) = self.forget(why);
        self.shared.lost(why, unanswered)
    }

    /// Gives the connection up, with what was half received.
    fn forget(&mut self, why: LostBy) -> (LostBy, Vec<Vec<u8>>) {
        self.input.clear();
        self.state = F::State::default();
        self.end = false;
        self.stream = None;
        self.shared.leave(why)
    }
}

impl<F: Framing> Drop for Receiver<F> {
    fn drop(&mut self) {
        self.shared.receiver_dropped();
    }
}
