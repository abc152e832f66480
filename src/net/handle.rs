//! The server, reached from other threads.
//!
//! ```text
//!  thread ─▶ Handle ─▶ queue under a lock ─▶ waker ─▶ loop takes all of it
//! ```

use std::fmt;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::counters::Counters;
use crate::proto::service::{ConnId, EndpointId};

/// Commands that may wait for the loop. At the limit, [`HandleError::Full`].
const MAX_COMMANDS: usize = 65_536;
/// Bytes of messages that may wait for the loop. At the limit,
/// [`HandleError::Full`].
const MAX_BYTES: usize = 16 << 20;

/// Sends, broadcasts, closes and shuts down from other threads. Cheap to clone.
///
/// A call only queues a command and wakes the loop; an `Ok` says that the loop will
/// see it, not that a peer has.
#[derive(Clone)]
pub struct Handle {
    inbox: Arc<Inbox>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleError {
    /// The server is gone.
    Gone,
    /// Too many commands wait already; the loop is slower than its callers.
    Full,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "the server is gone"),
            Self::Full => write!(
                f,
                "the server's queue is full: {MAX_COMMANDS} commands or {MAX_BYTES} bytes wait"
            ),
        }
    }
}

impl std::error::Error for HandleError {}

/// What another thread wants.
pub(crate) enum Command {
    Send(ConnId, Vec<u8>),
    Broadcast(EndpointId, Vec<u8>),
    Close(ConnId),
    Shutdown,
    /// Knows where they are to go, so that a program that never asks needs no channels.
    Counters(Box<dyn FnOnce(Counters) + Send>),
}

/// The commands between threads and loop.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    waker: Waker,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Command>,
    bytes: usize,
    gone: bool,
}

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), waker })
    }

    /// Takes all commands that wait, into the memory of the last ones.
    pub(crate) fn take(&self, into: &mut Vec<Command>) {
        into.clear();
        let mut queue = self.lock();
        std::mem::swap(&mut queue.commands, into);
        queue.bytes = 0;
    }

    /// Answers `Gone` from now on.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        queue.gone = true;
        queue.commands.clear();
    }

    fn put(&self, command: Command, bytes: usize) -> Result<(), HandleError> {
        let mut queue = self.lock();
        if queue.gone {
            return Err(HandleError::Gone);
        }
        if queue.commands.len() >= MAX_COMMANDS || queue.bytes + bytes > MAX_BYTES {
            return Err(HandleError::Full);
        }
        queue.bytes += bytes;
        queue.commands.push(command);
        // Whoever put the first one has woken the loop for all that follow.
        if queue.commands.len() == 1 {
            self.waker.wake_by_ref();
        }
        Ok(())
    }

    /// A thread that panicked in here has left the queue whole.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// Sends `message` to one connection, in its endpoint's framing. If it is gone by
    /// then, that is counted; if its framing cannot carry the message, logged.
    ///
    /// # Errors
    ///
    /// The loop is gone or behind.
    pub fn send(&self, to: ConnId, message: impl Into<Vec<u8>>) -> Result<(), HandleError> {
        let message = message.into();
        let len = message.len();
        self.inbox.put(Command::Send(to, message), len)
    }

    /// Sends `message` to every connection of an endpoint, encoded once.
    ///
    /// # Errors
    ///
    /// The loop is gone or behind.
    pub fn broadcast(
        &self,
        to: EndpointId,
        message: impl Into<Vec<u8>>,
    ) -> Result<(), HandleError> {
        let message = message.into();
        let len = message.len();
        self.inbox.put(Command::Broadcast(to, message), len)
    }

    /// Closes a connection in order: what waits for it is sent first.
    ///
    /// # Errors
    ///
    /// The loop is gone or behind.
    pub fn close(&self, id: ConnId) -> Result<(), HandleError> {
        self.inbox.put(Command::Close(id), 0)
    }

    /// Ends the server in order, as [`Server::shutdown`](super::Server::shutdown).
    ///
    /// # Errors
    ///
    /// The loop is gone or behind.
    pub fn shutdown(&self) -> Result<(), HandleError> {
        self.inbox.put(Command::Shutdown, 0)
    }

    /// Asks for the counters; they arrive when the loop comes to it. Do not wait
    /// for them on the loop's own thread.
    ///
    /// # Errors
    ///
    /// The loop is gone or behind.
    pub fn counters(&self) -> Result<Receiver<Counters>, HandleError> {
        let (sender, receiver) = sync_channel(1);
        // Who asked may have given up waiting.
        let answer = move |counters| _ = sender.try_send(counters);
        self.inbox.put(Command::Counters(Box::new(answer)), 0)?;
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Handle {
        Handle::new(Inbox::new(Waker::noop().clone()))
    }

    #[test]
    fn commands_are_bounded_in_number_and_in_bytes() {
        let id = ConnId::new(0, 0, 1);
        let many = handle();
        for _ in 0..MAX_COMMANDS {
            assert_eq!(many.close(id), Ok(()));
        }
        assert_eq!(many.close(id), Err(HandleError::Full));
        many.inbox.take(&mut Vec::new());
        assert_eq!(many.close(id), Ok(()));

        let large = handle();
        assert_eq!(large.send(id, vec![0; MAX_BYTES]), Ok(()));
        assert_eq!(large.send(id, "x"), Err(HandleError::Full));
    }

    #[test]
    fn a_server_that_is_gone_says_so() {
        let handle = handle();
        handle.inbox.close();
        assert_eq!(handle.shutdown(), Err(HandleError::Gone));
    }
}
