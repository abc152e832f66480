//! The real kernel: one `mio::Poll`.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::sys::{DialOptions, KernelBuffers, ListenOptions, Ready, Sys, Token, Watch};
use super::unix::UnixListener;
use crate::proto::dial::Target;
use crate::proto::service::PeerAddr;

/// Events of one batch. More wait in the kernel for the next.
const BATCH: usize = 1024;
/// The longest sleep, however far the next clock: timeouts above 24.8 days have
/// been cast to negative ones, which is "for ever".
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The longest TCP_USER_TIMEOUT that Linux takes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_GIVE_UP: Duration = Duration::from_millis(i32::MAX as u64);

/// [`Sys`] on Linux, BSD and macOS.
pub struct Mio {
    poll: Poll,
    events: Events,
    waker: Waker,
    start: Instant,
    /// A descriptor to give up when there is no other.
    reserve: Option<File>,
}

/// A listener of [`Mio`]: TCP, or a Unix socket.
pub struct Listener(Kind);

impl Listener {
    /// The same listener for another process, which the file of a Unix socket belongs to
    /// from now on.
    pub(super) fn hand_over(&mut self) -> io::Result<OwnedFd> {
        match &mut self.0 {
            Kind::Tcp(listener) => SockRef::from(&*listener).try_clone().map(OwnedFd::from),
            Kind::Unix(listener) => listener.hand_over(),
        }
    }
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct PollWaker(mio::Waker);

impl Wake for PollWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // mio empties the counter of the eventfd when it is full, so this does not fail
        // on Linux. Where it does, commands wait for good: it must not pass unseen.
        if let Err(error) = self.0.wake() {
            log::error!("cannot wake the loop: {error}");
        }
    }
}

impl Mio {
    /// A poll with nothing to watch but its waker.
    ///
    /// # Errors
    ///
    /// The kernel's: no descriptor left.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), mio_token(Token::WAKER))?;
        Ok(Self {
            poll,
            events: Events::with_capacity(BATCH),
            waker: Arc::new(PollWaker(waker)).into(),
            start: Instant::now(),
            reserve: open_reserve(),
        })
    }

    /// Where a host can register sources of its own, as [`Mio::HOST`].
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    fn watch_unix(&self, listener: UnixListener, token: Token) -> io::Result<Listener> {
        let fd = listener.as_raw_fd();
        let mut source = SourceFd(&fd);
        self.poll.registry().register(&mut source, mio_token(token), Interest::READABLE)?;
        Ok(Listener(Kind::Unix(listener)))
    }

    /// The token for the host's own sources: [`Turn::host`](super::Turn) tells
    /// that one of them is ready.
    pub const HOST: mio::Token = mio::Token(Token::HOST.0 as usize);
}

impl AsRawFd for Mio {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl Sys for Mio {
    type Listener = Listener;
    type Stream = TcpStream;

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut report: impl FnMut(Ready),
    ) -> io::Result<bool> {
        self.poll.poll(&mut self.events, timeout.map(|timeout| timeout.min(MAX_SLEEP)))?;
        let mut count = 0;
        for event in &self.events {
            count += 1;
            report(Ready {
                token: Token(event.token().0 as u64),
                // A bare error (RST) is found by reading.
                readable: event.is_readable() || event.is_error() || event.is_priority(),
                writable: event.is_writable(),
                // A read stops short at an urgent byte, too, with more behind it.
                read_closed: event.is_read_closed() || event.is_error() || event.is_priority(),
            });
        }
        Ok(count == BATCH)
    }

    fn now(&mut self) -> Duration {
        self.start.elapsed()
    }

    fn unix_time(&mut self) -> Option<u64> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.ok().map(|since| since.as_secs())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<(Listener, SocketAddr)> {
        // Not `TcpListener::bind`: mio and std hard-code a backlog of 128, and
        // callers beyond it are stalled for seconds by their SYN timer.
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // A restarted server must not wait for the TIME_WAIT of its old clients.
        socket.set_reuse_address(true)?;
        if options.reuse_port {
            // Before `bind`, or it is the others that fail.
            socket.set_reuse_port(true)?;
        }
        if addr.is_ipv6() {
            // So that 0.0.0.0 and [::] can be listened on side by side.
            socket.set_only_v6(true)?;
        }
        // Accepted sockets inherit what is set here: a system call saved for each.
        set_up(&socket, options.buffers, options.give_up)?;

        socket.bind(&addr.into())?;
        socket.listen(options.backlog)?;
        let mut listener = TcpListener::from_std(socket.into());
        let addr = listener.local_addr()?;
        self.poll.registry().register(&mut listener, mio_token(token), Interest::READABLE)?;
        Ok((Listener(Kind::Tcp(listener)), addr))
    }

    fn listen_unix(
        &mut self,
        path: &Path,
        mode: Option<u32>,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Listener> {
        self.watch_unix(UnixListener::bind(path, mode, options)?, token)
    }

    fn adopt(
        &mut self,
        listener: std::net::TcpListener,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<(Listener, SocketAddr)> {
        listener.set_nonblocking(true)?;
        let socket = SockRef::from(&listener);
        set_up(&socket, options.buffers, options.give_up)?;
        // Again, for our backlog: the queue and who is in it stay.
        socket.listen(options.backlog)?;
        let addr = listener.local_addr()?;
        let mut listener = TcpListener::from_std(listener);
        self.poll.registry().register(&mut listener, mio_token(token), Interest::READABLE)?;
        Ok((Listener(Kind::Tcp(listener)), addr))
    }

    fn adopt_unix(
        &mut self,
        listener: std::os::unix::net::UnixListener,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Listener> {
        self.watch_unix(UnixListener::adopt(listener, options)?, token)
    }

    fn accept(&mut self, listener: &mut Listener) -> io::Result<(TcpStream, PeerAddr)> {
        match &mut listener.0 {
            Kind::Tcp(listener) => listener.accept().map(|(stream, addr)| (stream, addr.into())),
            Kind::Unix(listener) => {
                let (stream, number) = listener.accept()?;
                Ok((TcpStream::from_std(stream), PeerAddr::Unix(number)))
            }
        }
    }

    fn shed(&mut self, listener: &mut Listener) -> bool {
        self.reserve = None;
        let shed = self.accept(listener).is_ok();
        self.reserve = open_reserve();
        shed
    }

    fn close_listener(&mut self, mut listener: Listener) {
        // Where another process has the same listener, closing ours ends no watch.
        let _ = match &mut listener.0 {
            Kind::Tcp(listener) => self.poll.registry().deregister(listener),
            Kind::Unix(listener) => {
                self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd()))
            }
        };
    }

    fn connect(&mut self, target: &Target, options: &DialOptions) -> io::Result<TcpStream> {
        let addr = match target {
            Target::Tcp(addr) => SockAddr::from(*addr),
            Target::Unix(path) => SockAddr::unix(path)?,
        };
        let socket = Socket::new(addr.domain(), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if let Target::Tcp(_) = target {
            set_up(&socket, options.buffers, options.give_up)?;
            if let Some(source) = options.source {
                socket.bind(&SocketAddr::new(source, 0).into())?;
            }
        }
        match socket.connect(&addr) {
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
            // It goes on as if it had not been.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => result?,
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    fn connect_result(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        // Writable may be told too early.
        match SockRef::from(&*stream).peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn random(&mut self) -> u64 {
        use std::hash::{BuildHasher, RandomState};
        // Each new state has keys of its own.
        RandomState::new().hash_one(0)
    }

    fn watch(&mut self, stream: &mut TcpStream, token: Token, watch: Watch) -> io::Result<()> {
        let (registry, token) = (self.poll.registry(), mio_token(token));
        match watch {
            Watch::Read => registry.register(stream, token, readable()),
            Watch::ReadWrite => registry.reregister(stream, token, readable() | Interest::WRITABLE),
            Watch::Connect => registry.register(stream, token, Interest::WRITABLE),
        }
    }

    fn read(&mut self, stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
        stream.read(into)
    }

    fn write(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        // Not `write_vectored`: std passes MSG_NOSIGNAL for plain writes only, and
        // in a C host that leaves SIGPIPE alone a dead peer would kill the process.
        stream.write(bytes)
    }

    fn finish(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        match stream.shutdown(Shutdown::Write) {
            // The peer was faster: there is nothing left to tell it.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    fn close(&mut self, stream: TcpStream) {
        // No deregister: closing the only descriptor of a socket does it, and this
        // crate never clones one.
        drop(stream);
    }

    fn reset(&mut self, stream: TcpStream) {
        // If it fails, the end is an orderly one.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        drop(stream);
    }
}

/// What accepted sockets inherit, and our own are given.
fn set_up(socket: &Socket, buffers: KernelBuffers, give_up: Option<Duration>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let keepalive = keepalive.with_interval(Duration::from_secs(10)).with_retries(6);
    socket.set_tcp_keepalive(&keepalive)?;
    buffers.set(socket)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(give_up.map(|time| time.min(MAX_GIVE_UP)))?;
    Ok(())
}

/// A connect that does not block has begun.
const EINPROGRESS: i32 = if cfg!(target_os = "linux") { 115 } else { 36 };

/// Input, and where the kernel tells of them, urgent bytes (TCP's out-of-band data).
fn readable() -> Interest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return Interest::READABLE | Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    Interest::READABLE
}

fn mio_token(token: Token) -> mio::Token {
    // On a 32-bit host this drops the generation; see `Token`.
    mio::Token(token.0 as usize)
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Caller;

    use super::*;

    fn plain(backlog: i32) -> ListenOptions {
        ListenOptions { backlog, ..ListenOptions::default() }
    }

    #[test]
    fn an_accepted_socket_inherits_what_was_set_on_the_listener() {
        let mut mio = Mio::new().unwrap();
        let options = ListenOptions {
            backlog: 16,
            buffers: KernelBuffers { send: Some(64 << 10), receive: Some(32 << 10) },
            give_up: Some(Duration::from_secs(30)),
            reuse_port: false,
        };
        let addr = "127.0.0.1:0".parse().unwrap();
        let (mut listener, addr) = mio.listen(addr, &options, Token::listener(0, 0)).unwrap();
        let _caller = Caller::connect(addr).unwrap();
        let (stream, _) = mio.accept(&mut listener).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        if cfg!(target_os = "linux") {
            assert_eq!(socket.send_buffer_size().unwrap(), 128 << 10, "Linux doubles it");
            assert_eq!(socket.recv_buffer_size().unwrap(), 64 << 10, "and that");
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 6);
            assert_eq!(socket.tcp_user_timeout().unwrap(), options.give_up);
        }
    }

    /// The caller behind a full queue is left to its SYN timer.
    #[test]
    fn as_many_callers_wait_as_the_backlog_says() {
        let mut mio = Mio::new().unwrap();
        let options = plain(250);
        let addr = "127.0.0.1:0".parse().unwrap();
        let (_listener, addr) = mio.listen(addr, &options, Token::listener(0, 0)).unwrap();
        let call = |_| Caller::connect_timeout(&addr, Duration::from_millis(900));
        let callers: Vec<_> = (0..250).map_while(|n| call(n).ok()).collect();
        assert_eq!(callers.len(), 250);
    }

    #[test]
    fn a_caller_is_hung_up_on_with_the_reserve_and_the_reserve_comes_back() {
        let mut mio = Mio::new().unwrap();
        let options = plain(16);
        let addr = "127.0.0.1:0".parse().unwrap();
        let (mut listener, addr) = mio.listen(addr, &options, Token::listener(0, 0)).unwrap();
        assert!(!mio.shed(&mut listener), "nobody called");
        let mut caller = Caller::connect(addr).unwrap();
        assert!(mio.shed(&mut listener));
        assert_eq!(caller.read(&mut [0; 1]).unwrap(), 0, "the caller is told");
        assert!(mio.reserve.is_some());
    }

    #[test]
    fn an_address_is_shared_where_each_says_so_and_only_there() {
        let mut mio = Mio::new().unwrap();
        let shared = ListenOptions { reuse_port: true, ..plain(16) };
        let any = "127.0.0.1:0".parse().unwrap();
        let (_first, addr) = mio.listen(any, &shared, Token::listener(0, 0)).unwrap();
        assert!(mio.listen(addr, &shared, Token::listener(0, 1)).is_ok());
        let alone = mio.listen(addr, &plain(16), Token::listener(0, 2)).map(|_| ());
        assert_eq!(alone.map_err(|e| e.kind()), Err(ErrorKind::AddrInUse));
        let path = Path::new("/nowhere/socket");
        let unix = mio.listen_unix(path, None, &shared, Token::listener(0, 3)).map(|_| ());
        assert_eq!(unix.map_err(|e| e.kind()), Err(ErrorKind::InvalidInput));
    }

    #[test]
    fn a_listener_that_closes_frees_its_address_at_once() {
        let mut mio = Mio::new().unwrap();
        let options = plain(16);
        let addr = "127.0.0.1:0".parse().unwrap();
        let (listener, addr) = mio.listen(addr, &options, Token::listener(0, 0)).unwrap();
        mio.close_listener(listener);
        assert!(mio.listen(addr, &options, Token::listener(0, 1)).is_ok());
    }
}
