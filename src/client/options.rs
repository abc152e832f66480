//! What can be set of a client, with units, defaults and consequences.

use std::time::Duration;

use crate::retry::Retry;

/// How a [`Client`](crate::Client) calls and waits. Setters may come in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) retry: Retry,
    pub(super) answered: bool,
    pub(super) max_unanswered: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Some(Duration::from_secs(30)),
            write_timeout: Some(Duration::from_secs(30)),
            retry: Retry::default(),
            answered: true,
            max_unanswered: 16 << 20,
        }
    }
}

/// The shortest time that a socket can be told to wait.
const SHORTEST: Duration = Duration::from_millis(1);

impl ClientOptions {
    /// For one call to be taken, at whichever address of the name. Default: 10 s.
    ///
    /// Each address has an even share of what is left. To find the addresses comes
    /// before, and takes the time that the system gives it.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time.max(SHORTEST);
        self
    }

    /// For the next bytes to come while a message is awaited; `None` is for ever.
    /// Default: 30 s. Then [`ClientError::Timeout`](crate::ClientError::Timeout).
    pub fn read_timeout(mut self, time: Option<Duration>) -> Self {
        self.read_timeout = time.map(|time| time.max(SHORTEST));
        self
    }

    /// For the server to take more of what is sent; `None` is for ever. Default: 30 s.
    /// Then the connection is lost: half a message may have left.
    pub fn write_timeout(mut self, time: Option<Duration>) -> Self {
        self.write_timeout = time.map(|time| time.max(SHORTEST));
        self
    }

    /// How often to call a server that is not there, and how long apart. Default: once.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Whether the server answers each message with one. Default: yes.
    ///
    /// Then the first message that comes is the reply to the first that was sent. Say no
    /// for a server that answers nothing, or not all, or speaks by itself: nothing shows
    /// then what has arrived, and messages are not kept.
    pub fn answered(mut self, each: bool) -> Self {
        self.answered = each;
        self
    }

    /// Bytes of messages that may wait for their replies, 64 more counted for each.
    /// Default: 16 MiB. One message alone is always taken.
    ///
    /// At the limit a [`Client`](crate::Client) refuses more with
    /// [`ClientError::Unanswered`](crate::ClientError::Unanswered); a
    /// [`Sender`](crate::Sender) first waits for room, as long as for the server.
    pub fn max_unanswered(mut self, bytes: usize) -> Self {
        self.max_unanswered = bytes;
        self
    }
}
