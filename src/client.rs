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
//! that costs the connection hands back those that were not: once, to whoever noticed.
//! Nothing is sent a second time except by the caller, who knows what may be.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::proto::framing::{Decoded, EncodeError, Exchange, FrameError, Framing, Reply};
use crate::retry::Retry;

/// How a [`Client`] calls and waits. Setters may come in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    connect_timeout: Duration,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    retry: Retry,
    answered: bool,
    max_unanswered: usize,
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

impl ClientOptions {
    /// For one address to answer. Default: 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// For the next bytes to come while a message is awaited; `None` is for ever.
    /// Default: 30 s.
    pub fn read_timeout(mut self, time: Option<Duration>) -> Self {
        self.read_timeout = time;
        self
    }

    /// For the server to take more of what is sent; `None` is for ever. Default: 30 s.
    pub fn write_timeout(mut self, time: Option<Duration>) -> Self {
        self.write_timeout = time;
        self
    }

    /// How often to call a server that is not there. Default: once.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Whether the server answers each message with one. Default: yes. If not, nothing
    /// shows what has arrived, and messages are not kept.
    pub fn answered(mut self, each: bool) -> Self {
        self.answered = each;
        self
    }

    /// Bytes of messages that may wait for their replies; more are refused with
    /// [`ClientError::Unanswered`]. Default: 16 MiB.
    pub fn max_unanswered(mut self, bytes: usize) -> Self {
        self.max_unanswered = bytes;
        self
    }
}

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is one now.
    Connected,
    /// There was one; the next call of the client makes another.
    Disconnected,
}

/// Why a client could not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers there, or the name is not known.
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
        /// Messages that were sent and not answered, and the one whose sending failed;
        /// a request with a head as it was written. The server may have read any of
        /// them. Each is handed back once.
        unanswered: Vec<Vec<u8>>,
    },
    /// Nothing came in time. The connection is still there, and so is what is due.
    Timeout {
        /// As it was given.
        addr: String,
        /// The time.
        after: Duration,
    },
    /// The message cannot be sent by this framing. Nothing was sent.
    Encode(EncodeError),
    /// Too much waits for its reply already. Nothing was sent.
    Unanswered {
        /// Bytes that would wait with it.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
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
    /// The request was not answered in time; a later answer must not be taken for that
    /// of another.
    Timeout(Duration),
    /// The socket.
    Socket(io::Error),
    /// The other half of this client, which has told why.
    OtherHalf,
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
                match unanswered.len() {
                    0 => Ok(()),
                    1 => write!(f, "; 1 message was not answered"),
                    count => write!(f, "; {count} messages were not answered"),
                }
            }
            Self::Timeout { addr, after } => write!(f, "{addr}: nothing came in {after:?}"),
            Self::Encode(error) => write!(f, "{error}"),
            Self::Unanswered { bytes, max } => {
                write!(f, "{bytes} bytes of messages wait for replies; the limit is {max}")
            }
        }
    }
}

impl fmt::Display for LostBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => write!(f, "the server closed it"),
            Self::Frame(error) => write!(f, "the server's bytes are no message: {error}"),
            Self::Timeout(after) => write!(f, "no reply in {after:?}"),
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

/// A connection to a server, made when it is needed and made again when it was lost.
///
/// ```no_run
/// use oneloop::{Client, ClientOptions, Lines};
///
/// let mut client = Client::new("127.0.0.1:7000", Lines::default(), ClientOptions::default());
/// assert_eq!(client.request(b"hello")?, b"hello");
/// # Ok::<(), oneloop::ClientError>(())
/// ```
///
/// Addresses are `host:port` or `unix:PATH`. A framing that depends on the side, as
/// `http` does, has to be that of the client. To send while replies are read, on two
/// threads, [`split`](Self::split) it.
pub struct Client<F: Framing> {
    sender: Sender<F>,
    receiver: Receiver<F>,
}

/// The half of a [`Client`] that sends.
pub struct Sender<F: Framing> {
    shared: Arc<Shared<F>>,
    framing: F,
    bytes: Vec<u8>,
}

/// The half of a [`Client`] that receives.
pub struct Receiver<F: Framing> {
    shared: Arc<Shared<F>>,
    framing: F,
    state: F::State,
    input: Vec<u8>,
    chunk: Vec<u8>,
    /// The connection that `input` is from.
    link: Link,
}

/// A connection, by the order in which they were made; 0 is none.
#[derive(Clone, Default)]
struct Link {
    number: u64,
    stream: Option<Arc<TcpStream>>,
}

struct Shared<F> {
    addr: String,
    options: ClientOptions,
    /// Held for moments.
    line: Mutex<Line>,
    /// Held while calling: who comes second waits for what comes of it.
    calling: Mutex<Caller>,
    on_state: Mutex<Box<dyn FnMut(State) + Send>>,
    _framing: std::marker::PhantomData<fn() -> F>,
}

/// What both halves know.
#[derive(Default)]
struct Line {
    link: Link,
    /// Messages without a reply, oldest first, and their bytes.
    unanswered: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Connections in a row that brought no message.
    mute: u32,
}

#[derive(Default)]
struct Caller {
    calls: u64,
}

/// Read at a time, in bytes.
const CHUNK: usize = 64 << 10;

impl<F: Framing + Clone> Client<F> {
    /// A client of the server at `addr`. Nothing is called before it is needed.
    pub fn new(addr: impl Into<String>, framing: F, options: ClientOptions) -> Self {
        let shared = Arc::new(Shared {
            addr: addr.into(),
            options,
            line: Mutex::default(),
            calling: Mutex::default(),
            on_state: Mutex::new(Box::new(|_| {})),
            _framing: std::marker::PhantomData,
        });
        let sender = Sender { shared: shared.clone(), framing: framing.clone(), bytes: Vec::new() };
        let receiver = Receiver {
            shared,
            framing,
            state: F::State::default(),
            input: Vec::new(),
            chunk: Vec::new(),
            link: Link::default(),
        };
        Self { sender, receiver }
    }
}

impl<F: Framing> Client<F> {
    /// Has `f` called whenever a connection is there, or gone, on the thread that made
    /// it or noticed.
    pub fn on_state(self, f: impl FnMut(State) + Send + 'static) -> Self {
        *lock(&self.sender.shared.on_state) = Box::new(f);
        self
    }

    /// Calls the server now, if there is no connection.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`].
    pub fn connect(&mut self) -> Result<(), ClientError> {
        self.sender.shared.connected().map(drop)
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::send`].
    pub fn send<'m>(&mut self, message: impl Into<Reply<'m>>) -> Result<(), ClientError> {
        self.sender.send(message)
    }

    /// See [`Receiver::receive`].
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::receive`].
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        self.receiver.receive()
    }

    /// Sends a message and waits for its reply, and first for those that are due.
    ///
    /// # Errors
    ///
    /// Those of sending and receiving. Without a reply in time the connection is lost:
    /// a late one would be taken for that of the next message.
    pub fn request<'m>(&mut self, message: impl Into<Reply<'m>>) -> Result<Vec<u8>, ClientError> {
        self.sender.send(message)?;
        let shared = self.sender.shared.clone();
        loop {
            match self.receiver.receive() {
                Ok(Some(reply)) if lock(&shared.line).unanswered.is_empty() => return Ok(reply),
                Ok(Some(_)) => {}
                Ok(None) => return Err(shared.lost(&self.receiver.link, LostBy::Server)),
                Err(ClientError::Timeout { after, .. }) => {
                    return Err(shared.lost(&self.receiver.link, LostBy::Timeout(after)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Two halves for two threads. Either makes the connection anew when it is needed.
    pub fn split(self) -> (Sender<F>, Receiver<F>) {
        (self.sender, self.receiver)
    }
}

impl<F: Framing> Sender<F> {
    /// Sends a message: bytes, or what has a head. It is written when this returns; that
    /// it was read is shown by its reply alone.
    ///
    /// # Errors
    ///
    /// [`Encode`](ClientError::Encode) and [`Unanswered`](ClientError::Unanswered) before
    /// anything was sent, [`Connect`](ClientError::Connect) if there is no connection to
    /// be had, [`Lost`](ClientError::Lost) if there was.
    pub fn send<'m>(&mut self, message: impl Into<Reply<'m>>) -> Result<(), ClientError> {
        let message = message.into();
        self.bytes.clear();
        self.framing.reply(&message, &mut Exchange::None, &mut self.bytes)?;
        let kept = match message {
            Reply::Bytes(bytes) => bytes,
            // What has a head is handed back as it was written.
            _ => &self.bytes,
        };
        let link = loop {
            let link = self.shared.connected()?;
            if self.shared.remember(&link, kept)? {
                break link;
            }
        };
        let written =
            link.stream.as_deref().map_or(Ok(()), |mut stream| stream.write_all(&self.bytes));
        written.map_err(|error| {
            let why = match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    LostBy::Timeout(self.shared.options.write_timeout.unwrap_or_default())
                }
                _ => LostBy::Socket(error),
            };
            self.shared.lost(&link, why)
        })
    }

    /// Tells the server that nothing will follow, if there is a connection.
    pub fn finish(&mut self) {
        if let Some(stream) = &lock(&self.shared.line).link.stream {
            // To who is gone nothing has to be said.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

impl<F: Framing> Receiver<F> {
    /// The next message; `None` if the server has finished, between two messages and
    /// with all of ours answered. The call after that connects again.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ClientError::Timeout) costs nothing: call again.
    /// [`Connect`](ClientError::Connect) if there is no connection to be had,
    /// [`Lost`](ClientError::Lost) if there was.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        // What a connection brought before it was lost is delivered first.
        let mut end = false;
        loop {
            match self.framing.decode(&mut self.state, &mut self.input, end) {
                Ok(Decoded::Message { message, consumed }) => {
                    let message = self.input[message].to_vec();
                    self.input.drain(..consumed);
                    self.shared.answered(&self.link);
                    return Ok(Some(message));
                }
                Ok(Decoded::Skip { consumed, error: None }) => drop(self.input.drain(..consumed)),
                Ok(Decoded::Skip { error: Some(error), .. }) | Err(error) => {
                    return Err(self.forget(LostBy::Frame(error)));
                }
                Ok(Decoded::Incomplete { .. }) if end && !self.input.is_empty() => {
                    let received = self.input.len();
                    return Err(self.forget(LostBy::Frame(FrameError::Truncated { received })));
                }
                Ok(Decoded::Incomplete { .. }) if end => {
                    return match self.forget(LostBy::Server) {
                        ClientError::Lost { why: LostBy::Server, unanswered, .. }
                            if unanswered.is_empty() =>
                        {
                            Ok(None)
                        }
                        error => Err(error),
                    };
                }
                Ok(Decoded::Incomplete { .. }) if self.input.len() > self.framing.max_input() => {
                    let error =
                        FrameError::TooLong { announced: None, max: self.framing.max_input() };
                    return Err(self.forget(LostBy::Frame(error)));
                }
                Ok(Decoded::Incomplete { .. }) => end = !self.read()?,
            }
        }
    }

    /// Reads what comes next; false at the end of the stream.
    fn read(&mut self) -> Result<bool, ClientError> {
        if self.link.stream.is_none() {
            self.link = self.shared.connected()?;
        }
        self.chunk.resize(CHUNK, 0);
        loop {
            let stream = self.link.stream.as_deref();
            match stream.map_or(Ok(0), |mut stream| stream.read(&mut self.chunk)) {
                Ok(count) => {
                    self.input.extend_from_slice(&self.chunk[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    let after = self.shared.options.read_timeout.unwrap_or_default();
                    return Err(ClientError::Timeout { addr: self.shared.addr.clone(), after });
                }
                Err(error) => return Err(self.forget(LostBy::Socket(error))),
            }
        }
    }

    /// Gives the connection up, with what was half received.
    fn forget(&mut self, why: LostBy) -> ClientError {
        let link = std::mem::take(&mut self.link);
        self.input.clear();
        self.state = F::State::default();
        self.shared.lost(&link, why)
    }
}

impl<F> Shared<F> {
    /// The connection there is, or a new one.
    fn connected(&self) -> Result<Link, ClientError> {
        let current = || {
            let line = lock(&self.line);
            line.link.stream.is_some().then(|| line.link.clone())
        };
        if let Some(link) = current() {
            return Ok(link);
        }
        let mut caller = lock(&self.calling);
        // Perhaps the other half has made one meanwhile.
        if let Some(link) = current() {
            return Ok(link);
        }
        let retry = self.options.retry;
        let mute = lock(&self.line).mute;
        if mute > 0 {
            // It hung up on us before it said anything: not again at once.
            thread::sleep(retry.pause(mute, caller.random()));
        }
        let mut tries = 1;
        let stream = loop {
            match self.call() {
                Ok(stream) => break stream,
                Err(error) if tries >= retry.tries => {
                    return Err(ClientError::Connect { addr: self.addr.clone(), tries, error });
                }
                Err(_) => thread::sleep(retry.pause(tries, caller.random())),
            }
            tries += 1;
        };
        let link = {
            let mut line = lock(&self.line);
            line.link = Link { number: line.link.number + 1, stream: Some(Arc::new(stream)) };
            line.mute = line.mute.saturating_add(1);
            line.link.clone()
        };
        drop(caller);
        lock(&self.on_state)(State::Connected);
        Ok(link)
    }

    /// Calls each address of the name once.
    fn call(&self) -> io::Result<TcpStream> {
        let stream = match self.addr.strip_prefix("unix:") {
            // To recv, send and shutdown one stream is as good as another.
            Some(path) => TcpStream::from(OwnedFd::from(UnixStream::connect(path)?)),
            None => {
                let mut result =
                    Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
                for addr in self.addr.to_socket_addrs()? {
                    result = TcpStream::connect_timeout(&addr, self.options.connect_timeout);
                    if result.is_ok() {
                        break;
                    }
                }
                let stream = result?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.set_read_timeout(self.options.read_timeout)?;
        stream.set_write_timeout(self.options.write_timeout)?;
        Ok(stream)
    }

    /// Keeps a message until it is answered; false if `link` is gone meanwhile.
    fn remember(&self, link: &Link, message: &[u8]) -> Result<bool, ClientError> {
        let mut line = lock(&self.line);
        if line.link.number != link.number || line.link.stream.is_none() {
            return Ok(false);
        }
        if self.options.answered {
            let (bytes, max) = (line.bytes + message.len(), self.options.max_unanswered);
            // One message alone has the limit of its framing.
            if bytes > max && !line.unanswered.is_empty() {
                return Err(ClientError::Unanswered { bytes, max });
            }
            line.bytes = bytes;
            line.unanswered.push_back(message.to_vec());
        }
        Ok(true)
    }

    /// A message has come on `link`: the reply to the oldest that has none.
    fn answered(&self, link: &Link) {
        let mut line = lock(&self.line);
        if line.link.number == link.number {
            line.mute = 0;
            line.bytes -= line.unanswered.pop_front().map_or(0, |message| message.len());
        }
    }

    /// Ends `link`. Whoever is the first to notice is told what was not answered.
    fn lost(&self, link: &Link, why: LostBy) -> ClientError {
        let mut line = lock(&self.line);
        let first = line.link.number == link.number && line.link.stream.is_some();
        let (why, unanswered) = if first {
            if let Some(stream) = line.link.stream.take() {
                // Wakes the other half, should it wait for bytes. An error means that
                // the socket is gone already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            line.bytes = 0;
            (why, std::mem::take(&mut line.unanswered).into())
        } else {
            (LostBy::OtherHalf, Vec::new())
        };
        drop(line);
        if first {
            lock(&self.on_state)(State::Disconnected);
        }
        ClientError::Lost { addr: self.addr.clone(), why, unanswered }
    }
}

impl Caller {
    /// 64 bits that differ from client to client; nothing secret hangs on them.
    fn random(&mut self) -> u64 {
        use std::hash::{BuildHasher, RandomState};
        self.calls += 1;
        RandomState::new().hash_one(self.calls)
    }
}

/// A panic in a callback of the caller's leaves nothing half done in here.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
