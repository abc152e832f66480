//! What can go wrong at the other end, and which messages it concerns.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::proto::framing::{EncodeError, FrameError};

/// Why a client could not do what it was asked to.
///
/// Of these, [`Lost`](Self::Lost) alone says that something was sent and may be gone.
/// After any other the message was not taken at all.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers there, or the name is not known. Nothing was sent.
    Connect {
        /// As it was given.
        addr: String,
        /// How often it was called.
        tries: u32,
        /// What came of the last.
        error: io::Error,
    },
    /// The connection is gone.
    Lost {
        /// As it was given.
        addr: String,
        /// What ended it.
        why: LostBy,
        /// Messages that were sent, wholly or in part, and not answered, oldest first;
        /// a request with a head as it was written, for
        /// [`Request::read`](crate::Request::read). The server may have acted on any of
        /// them. Each is handed back once: by the receiving half, if there are two.
        unanswered: Vec<Vec<u8>>,
    },
    /// Nothing came in time. The connection is still there, and so is what is due.
    Timeout {
        /// As it was given.
        addr: String,
        /// The time.
        after: Duration,
        /// Messages that wait for their replies.
        unanswered: usize,
    },
    /// The message cannot be sent by this framing. Nothing was sent.
    Encode(EncodeError),
    /// Too much waits for its reply already. Nothing was sent.
    Unanswered {
        /// As it was given.
        addr: String,
        /// Bytes that would wait with it.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The server was told that nothing would follow, and has not finished itself.
    /// Nothing was sent.
    Finished {
        /// As it was given.
        addr: String,
    },
    /// A connection was lost, and the receiving half has not taken up what came on it
    /// before: there is no new one until it has. Nothing was sent.
    Behind {
        /// As it was given.
        addr: String,
        /// How long it was waited for.
        after: Duration,
    },
}

/// What ended a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum LostBy {
    /// The server finished.
    Server,
    /// The server's bytes are no messages.
    Frame(FrameError),
    /// A request was not answered in time, and a later answer must not be taken for that
    /// of another; or the server took nothing in time.
    Timeout(Duration),
    /// The socket.
    Socket(io::Error),
    /// The other half of this client, which has told why.
    OtherHalf,
}

impl ClientError {
    /// The messages it hands back: see [`Lost`](Self::Lost).
    pub fn into_unanswered(self) -> Vec<Vec<u8>> {
        match self {
            Self::Lost { unanswered, .. } => unanswered,
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { addr, tries: 1, error } => {
                write!(f, "{addr}: cannot connect: {error}")
            }
            Self::Connect { addr, tries, error } => {
                write!(f, "{addr}: cannot connect, tried {tries} times: {error}")
            }
            Self::Lost { addr, why, unanswered } => {
                write!(f, "{addr}: connection lost: {why}")?;
                not_answered(f, unanswered.len())
            }
            Self::Timeout { addr, after, unanswered } => {
                write!(f, "{addr}: connected, but nothing came in {after:?}")?;
                not_answered(f, *unanswered)
            }
            Self::Encode(error) => write!(f, "nothing was sent: {error}"),
            Self::Unanswered { addr, bytes, max } => write!(
                f,
                "{addr}: nothing was sent: {bytes} bytes would wait for replies, \
                 the limit is {max}"
            ),
            Self::Finished { addr } => {
                write!(f, "{addr}: nothing was sent: the last message was, before")
            }
            Self::Behind { addr, after } => write!(
                f,
                "{addr}: nothing was sent: the connection is lost, \
                 and what came on it was not received in {after:?}"
            ),
        }
    }
}

fn not_answered(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    match count {
        0 => Ok(()),
        1 => write!(f, "; 1 message was not answered"),
        count => write!(f, "; {count} messages were not answered"),
    }
}

impl fmt::Display for LostBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => write!(f, "the server closed it"),
            Self::Frame(error) => write!(f, "the server's bytes are no message: {error}"),
            Self::Timeout(after) => write!(f, "the server did nothing in {after:?}"),
            Self::Socket(error) => write!(f, "{error}"),
            Self::OtherHalf => write!(f, "noticed by the other half of the client"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<EncodeError> for ClientError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}
