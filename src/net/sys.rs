//! The dozen calls by which the loop touches the world.
//!
//! ```text
//!  Server ──▶ trait Sys ──▶ Mio          in production: one mio::Poll
//!                     └───▶ a script     in tests: sockets made of byte queues
//! ```
//!
//! The loop above runs unchanged on either, and static dispatch makes the trait
//! free. What a call promises here is what the loop leans on; an implementation
//! may fail any of them with any error at any time, and the loop must cope.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::task::Waker;
use std::time::Duration;

use crate::proto::dial::Target;
use crate::proto::service::{ConnId, PeerAddr};

/// The kernel, as far as the loop needs one.
pub trait Sys {
    /// A socket that takes connections. Not dropped but given to
    /// [`close_listener`](Self::close_listener).
    type Listener;
    /// A connection. Not dropped but given to [`close`](Self::close): a drop could
    /// not reach a simulated kernel.
    type Stream;

    /// Sleeps until something is ready, at most `timeout`, and reports it. True if
    /// there may be more that did not fit into this batch.
    ///
    /// Events are hints: they may come late, twice, merged, for nothing, or for a
    /// connection that is gone. But each change is told at least once, and only
    /// once: edge-triggered.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted) is nothing; others end the loop.
    fn wait(&mut self, timeout: Option<Duration>, report: impl FnMut(Ready)) -> io::Result<bool>;

    /// Time since a fixed moment; never goes back.
    fn now(&mut self) -> Duration;

    /// The time of day, in seconds since 1970; `None` if there is none to be had.
    /// Default: none.
    fn unix_time(&mut self) -> Option<u64> {
        None
    }

    /// Wakes [`wait`](Self::wait) from any thread; told as [`Token::WAKER`].
    fn waker(&self) -> Waker;

    /// Opens a listener and watches it. Returns the address it really has.
    ///
    /// # Errors
    ///
    /// The kernel's: address in use, no permission, no such address.
    fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<(Self::Listener, SocketAddr)>;

    /// The same at a path of the file system: a Unix socket, with the permissions
    /// `mode`, or what the umask leaves. Default: there is none.
    ///
    /// # Errors
    ///
    /// The kernel's; [`Unsupported`](io::ErrorKind::Unsupported) by default.
    fn listen_unix(
        &mut self,
        _path: &Path,
        _mode: Option<u32>,
        _options: &ListenOptions,
        _token: Token,
    ) -> io::Result<Self::Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Goes on with a listener that another opened: a service manager, or the process
    /// before this one. Returns its address. Default: it cannot.
    ///
    /// # Errors
    ///
    /// The kernel's; [`Unsupported`](io::ErrorKind::Unsupported) by default.
    fn adopt(
        &mut self,
        _listener: TcpListener,
        _options: &ListenOptions,
        _token: Token,
    ) -> io::Result<(Self::Listener, SocketAddr)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The same for a Unix socket. Default: it cannot.
    ///
    /// # Errors
    ///
    /// As of [`adopt`](Self::adopt).
    fn adopt_unix(
        &mut self,
        _listener: UnixListener,
        _options: &ListenOptions,
        _token: Token,
    ) -> io::Result<Self::Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the next connection from the queue; it is not watched yet.
    ///
    /// # Errors
    ///
    /// The kernel's; [`WouldBlock`](io::ErrorKind::WouldBlock) if nobody waits.
    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(Self::Stream, PeerAddr)>;

    /// With no descriptor left: gives up a reserved one to take the next caller,
    /// hangs up on it, and reserves again. True if there was one.
    fn shed(&mut self, listener: &mut Self::Listener) -> bool;

    /// Stops listening. Who waits in the queue is reset, unless another process has the
    /// same listener.
    fn close_listener(&mut self, listener: Self::Listener);

    /// Calls `target`: the connection is there, or will be, when writable is reported.
    /// It is not watched yet.
    ///
    /// # Errors
    ///
    /// The kernel's: nobody answers, no descriptor or port left.
    /// [`Unsupported`](io::ErrorKind::Unsupported) by default.
    fn connect(&mut self, _target: &Target, _options: &DialOptions) -> io::Result<Self::Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What came of [`connect`](Self::connect): true if the connection is there, false
    /// if that is not known yet. Default: it is there.
    ///
    /// # Errors
    ///
    /// What the kernel has to say of a connection that will not be.
    fn connect_result(&mut self, _stream: &mut Self::Stream) -> io::Result<bool> {
        Ok(true)
    }

    /// 64 bits that differ from process to process, for pauses that should. Nothing
    /// secret hangs on them. Default: 0.
    fn random(&mut self) -> u64 {
        0
    }

    /// Reports what happens to `stream` as `token` from now on; what is true
    /// already is reported as well.
    ///
    /// # Errors
    ///
    /// The kernel's: out of memory or of watches.
    fn watch(&mut self, stream: &mut Self::Stream, token: Token, watch: Watch) -> io::Result<()>;

    /// Reads what has come. Fewer bytes than asked for mean that the socket is
    /// empty, unless `read_closed` was reported.
    ///
    /// # Errors
    ///
    /// The kernel's; [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has come.
    fn read(&mut self, stream: &mut Self::Stream, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what there is room for. Fewer bytes than given mean that there is
    /// none left, and writable is reported when there is again.
    ///
    /// # Errors
    ///
    /// The kernel's; [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room.
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize>;

    /// Tells the peer that no byte will follow (FIN); reading goes on.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    fn finish(&mut self, stream: &mut Self::Stream) -> io::Result<()>;

    /// Closes the connection. With unread input the kernel answers RST.
    fn close(&mut self, stream: Self::Stream);

    /// Closes the connection with RST; what is queued is lost. Default: as
    /// [`close`](Self::close).
    fn reset(&mut self, stream: Self::Stream) {
        self.close(stream);
    }
}

/// One report of [`Sys::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Whose it is.
    pub token: Token,
    /// There may be something to read, the end of the stream included.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer has finished sending, the connection is gone, or an urgent byte has
    /// come. Behind a short read there is then more to find.
    pub read_closed: bool,
}

/// What to report of a connection beside that it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing: the first watch of a connection that was accepted.
    Read,
    /// That it can be written, too: it was watched before, perhaps under another name.
    ReadWrite,
    /// Only that it can be written: the first watch of one that is not connected yet.
    Connect,
}

/// How to listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Callers that may queue. The kernel's own limit, somaxconn, holds as well.
    pub backlog: i32,
    /// The kernel's buffers of each connection.
    pub buffers: KernelBuffers,
    /// How long sent bytes may stay unacknowledged before the kernel gives up.
    pub give_up: Option<Duration>,
    /// Whether other listeners, of other processes, may have the same address.
    pub reuse_port: bool,
}

/// The kernel's buffers of a socket, in bytes; `None` leaves one to the kernel, which lets it
/// grow to some MB as its peer sends fast, or does not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelBuffers {
    /// For what it sends.
    pub send: Option<usize>,
    /// For what comes in.
    pub receive: Option<usize>,
}

impl KernelBuffers {
    pub(super) fn set(self, socket: &socket2::Socket) -> io::Result<()> {
        if let Some(bytes) = self.send {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }
}

/// How to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialOptions {
    /// The address of our own end; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// As in [`ListenOptions`].
    pub buffers: KernelBuffers,
    /// As in [`ListenOptions`].
    pub give_up: Option<Duration>,
}

/// The name under which readiness is reported: a [`ConnId`], a listener, the waker
/// or a source of the host.
///
/// ```text
///            63..32        31..24     23..0
///  conn      generation    endpoint   index
///  dialing   OURS number   endpoint   DIALED
///  listener  0             endpoint   MAX_INDEX - n
///  waker     0             0xff       0
///  host      0             0xff       1
/// ```
///
/// The lower half alone names what is meant as long as it lives, which is all that
/// a 32-bit host's `mio::Token` can carry. There a stale event is not told from a
/// fresh one by its generation, which is 0; but the loop reads all events of a
/// batch before it closes anything, and the kernel has none left for a socket that
/// was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// What a [`Token`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Waker,
    Host,
    Listener { endpoint: u8, number: usize },
    Conn(ConnId),
}

/// The most endpoints of a server: one number is kept for waker and host.
pub(crate) const MAX_ENDPOINTS: usize = 255;
/// The most listeners of one endpoint: their tokens are taken from the top of the
/// connections' indices.
pub(crate) const MAX_LISTENERS: usize = ConnId::MAX_INDEX - ConnId::DIALED;
/// The most connections of one endpoint.
pub(crate) const MAX_CONNECTIONS: usize = ConnId::DIALED;

impl Token {
    /// The waker's.
    pub const WAKER: Self = Self(0xff00_0000);
    /// For sources that the host of the loop registers itself.
    pub const HOST: Self = Self(0xff00_0001);

    pub(crate) fn listener(endpoint: u8, number: usize) -> Self {
        Self(ConnId::new(endpoint, ConnId::MAX_INDEX - number, 0).bits())
    }

    pub(crate) fn conn(id: ConnId) -> Self {
        Self(id.bits())
    }

    pub(crate) fn source(self) -> Source {
        let id = ConnId::from_bits(self.0);
        match self {
            Self::WAKER => Source::Waker,
            Self::HOST => Source::Host,
            _ if id.index() > ConnId::DIALED => {
                Source::Listener { endpoint: id.endpoint(), number: ConnId::MAX_INDEX - id.index() }
            }
            _ => Source::Conn(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_it_names() {
        for id in [ConnId::new(254, MAX_CONNECTIONS - 1, u32::MAX), ConnId::dialed(254, 1)] {
            assert_eq!(Token::conn(id).source(), Source::Conn(id));
        }
        for number in [0, MAX_LISTENERS - 1] {
            let source = Source::Listener { endpoint: 254, number };
            assert_eq!(Token::listener(254, number).source(), source);
        }
        assert_eq!(Token::WAKER.source(), Source::Waker);
        assert_eq!(Token::HOST.source(), Source::Host);
    }
}
