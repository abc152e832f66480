//! One call to a server: its name, its addresses, its socket.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::ClientOptions;

/// Calls each address of `addr` once, until one takes it.
pub(super) fn call(addr: &str, options: &ClientOptions) -> io::Result<TcpStream> {
    let stream = match addr.strip_prefix("unix:") {
        Some(path) => call_unix(path, options.connect_timeout)?,
        None => call_tcp(addr, options.connect_timeout)?,
    };
    stream.set_read_timeout(options.read_timeout)?;
    stream.set_write_timeout(options.write_timeout)?;
    Ok(stream)
}

fn call_tcp(addr: &str, timeout: Duration) -> io::Result<TcpStream> {
    let addrs: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
    let begin = Instant::now();
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for (index, addr) in addrs.iter().enumerate() {
        let left = timeout.saturating_sub(begin.elapsed());
        let share = left / u32::try_from(addrs.len() - index).unwrap_or(u32::MAX);
        if share.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(addr, share) {
            // The port that the kernel gave us may be the one that nobody listens on, and
            // TCP connects the two ends of one socket. Each message would be its own reply.
            Ok(stream) if is_itself(&stream) => {
                // The server could not have its port for the minute of TIME_WAIT.
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                last = ErrorKind::ConnectionRefused.into();
            }
            Ok(stream) => {
                stream.set_nodelay(true)?;
                // As the server does: who waits for ever still learns that nobody is there.
                let keepalive = TcpKeepalive::new()
                    .with_time(Duration::from_secs(60))
                    .with_interval(Duration::from_secs(10))
                    .with_retries(6);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn call_unix(path: &str, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It bounds the wait for room in the backlog; that of a TCP socket is not awaited.
    socket.set_write_timeout(Some(timeout))?;
    socket.connect(&SockAddr::unix(path)?).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    })?;
    // To recv, send and shutdown one stream is as good as another.
    Ok(TcpStream::from(OwnedFd::from(socket)))
}

fn is_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(peer)) if own == peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_connected_to_itself_is_seen_to_be() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.connect(&socket.local_addr().unwrap()).unwrap();
        assert!(is_itself(&socket.into()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!is_itself(&stream));
    }
}
