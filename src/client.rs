//! The other end: a client that blocks, keeps its connection up, and never loses a
//! message without saying so.
//!
//! ```text
//!  send ───▶ Encode ──▶ socket ──▶ server
//!    └ remembered until      ┌──── server
//!      it is answered ◀── Framing ◀── socket ──▶ receive
//! ```
//!
//! A message that was written may still be lost with its connection, and only its reply
//! shows that it was not. So messages are kept until they are answered, and an error
//! that costs the connection hands back those that were not, once. Nothing is sent a
//! second time except by the caller, who knows what may be.
//!
//! Here is the whole client; `halves` has what its two threads can do, `line` what they
//! share, `call` how a server is reached. None of it knows the loop of `net`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::proto::framing::{Framing, Reply};

mod call;
mod error;
mod halves;
mod input;
mod line;
mod options;

pub use error::{ClientError, LostBy};
pub use halves::{Receiver, Sender};
use line::Shared;
pub use options::ClientOptions;

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is one now.
    Connected,
    /// There was one; the next call of the client makes another.
    Disconnected,
}

/// A connection to a server, made when it is needed and made again when it was lost.
///
/// ```
/// use oneloop::{Client, ClientOptions, Lines};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (tell, told) = std::sync::mpsc::channel();
/// # std::thread::spawn(move || {
/// #     let server = oneloop::Server::bind("127.0.0.1:0", Lines::default())?;
/// #     let _ = tell.send(server.local_addr().to_string());
/// #     server.run(oneloop::services::Echo)
/// # });
/// # let addr = told.recv()?;
/// // An echo of lines serves at `addr`.
/// let mut client = Client::new(addr, Lines::default(), ClientOptions::default())
///     .on_state(|state| eprintln!("{state:?}"));
/// assert_eq!(client.request("hello")?, b"hello");
///
/// client.send("one")?;
/// client.send("two")?;
/// assert_eq!(client.receive()?.as_deref(), Some(&b"one"[..]));
/// assert_eq!(client.receive()?.as_deref(), Some(&b"two"[..]));
/// # Ok(())
/// # }
/// ```
///
/// Addresses are `host:port`, `[v6]:port` or `unix:PATH`. A framing that depends on the
/// side, as `http` does, has to be that of the client. `raw` has pieces, not messages: a
/// request has the first of them for its reply.
///
/// # What it promises
///
/// A server that is there, and answers each message with one, in their order, has each
/// message once: it is answered, or handed back by an error, and not both. Who sends
/// again what was handed back must know that the server may have acted on it.
///
/// Calls wait for the server and burn no time: `send` until the kernel has taken the
/// message, `receive` until there is one. Who sends much before receiving anything can
/// stop a server that waits for its replies to be read, until the write timeout ends it;
/// for that, [`split`](Self::split) the client and receive on another thread.
///
/// Calls that fail, and connections that end before they have brought any message, are
/// followed by a pause as [`Retry`](crate::Retry) has it: from call to call, however
/// they were made. A connection that lasted longer than the longest pause is none of
/// these.
pub struct Client<F: Framing> {
    sender: Sender<F>,
    receiver: Receiver<F>,
    /// Messages that came and were not asked for yet.
    ready: VecDeque<Vec<u8>>,
}

impl<F: Framing + Clone> Client<F> {
    /// A client of the server at `addr`. Nothing is called before it is needed.
    pub fn new(addr: impl Into<String>, framing: F, options: ClientOptions) -> Self {
        let shared = Arc::new(Shared::new(addr.into(), options));
        Self {
            sender: Sender::new(shared.clone(), framing.clone()),
            receiver: Receiver::new(shared, framing),
            ready: VecDeque::new(),
        }
    }
}

impl<F: Framing> Client<F> {
    /// Has `f` called whenever a connection is there, or gone, on the thread that made
    /// it or noticed. The client waits for `f`, so `f` should not wait for the client.
    pub fn on_state(self, f: impl FnMut(State) + Send + 'static) -> Self {
        self.sender.shared.on_state(Box::new(f));
        self
    }

    /// Calls the server now, if there is no connection.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`].
    pub fn connect(&mut self) -> Result<(), ClientError> {
        self.sender.shared.connect()
    }

    /// Sends a message: bytes, or what has a head. It is written when this returns; that
    /// it was read is shown by its reply alone.
    ///
    /// # Errors
    ///
    /// [`Lost`](ClientError::Lost) hands back all that was not answered, this message
    /// with it; replies that had come before can still be received. After any other
    /// error it was not taken.
    pub fn send<'m>(&mut self, message: impl Into<Reply<'m>>) -> Result<(), ClientError> {
        // A server that has closed since the last reply would cost this message as well.
        if self.sender.shared.unanswered() == 0 && self.receiver.glance() {
            // Nobody waits for half a message that nobody asked for.
            let _ = self.receive_all();
        }
        match self.sender.send_or(&message.into(), false) {
            Err(ClientError::Lost { addr, why, mut unanswered }) => {
                if self.sender.shared.is_broken() {
                    unanswered.extend(
                        self.receive_all().into_iter().flat_map(ClientError::into_unanswered),
                    );
                }
                Err(ClientError::Lost { addr, why, unanswered })
            }
            result => result,
        }
    }

    /// The next message; `None` if the server has finished, between two messages and
    /// with all of ours answered. The call after that connects again.
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::receive`].
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        match self.ready.pop_front() {
            Some(message) => Ok(Some(message)),
            None => self.receiver.receive(),
        }
    }

    /// Sends a message and waits for its reply. Replies that are due before come first,
    /// and are left for [`receive`](Self::receive).
    ///
    /// # Errors
    ///
    /// Those of sending and receiving. Without a reply in time the connection is lost:
    /// a late one would be taken for that of the next message.
    pub fn request<'m>(&mut self, message: impl Into<Reply<'m>>) -> Result<Vec<u8>, ClientError> {
        let message = message.into();
        self.send(message)?;
        let shared = self.sender.shared.clone();
        let mut error = loop {
            match self.receiver.receive() {
                Ok(Some(reply)) if shared.unanswered() == 0 => return Ok(reply),
                Ok(Some(reply)) => self.ready.push_back(reply),
                Ok(None) => break shared.lost(LostBy::Server, Vec::new()),
                Err(ClientError::Timeout { after, .. }) => {
                    break self.receiver.lost(LostBy::Timeout(after));
                }
                Err(error) => break error,
            }
        };
        // What is not kept was not replied to either.
        if let (false, ClientError::Lost { unanswered, .. }) = (shared.answers(), &mut error) {
            unanswered.push(self.sender.kept(&message).to_vec());
        }
        Err(error)
    }

    /// Tells the server that nothing will follow, if there is a connection. Replies still
    /// come. When the server has finished, too, a new connection can be made.
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// Two halves for two threads. Either makes the connection anew when it is needed.
    pub fn split(self) -> (Sender<F>, Receiver<F>) {
        (self.sender, self.receiver)
    }

    /// Receives what is left of a connection that has ended, and what ended it, if that
    /// was no orderly end.
    fn receive_all(&mut self) -> Option<ClientError> {
        loop {
            match self.receiver.receive() {
                Ok(Some(message)) => self.ready.push_back(message),
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }
}
