//! mio and nothing else: `mio_echo PORT`. Writes back what it has read, without looking at
//! it; what oneloop takes above this is its framing, its limits and its bookkeeping.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const READ: usize = 65536;
const LISTENER: Token = Token(usize::MAX);

struct Conn {
    stream: TcpStream,
    /// What the kernel has not taken. Nothing is read while there is any.
    waiting: VecDeque<u8>,
    finishing: bool,
}

impl Conn {
    /// False once it is over.
    fn serve(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        while !self.waiting.is_empty() {
            match self.stream.write(self.waiting.as_slices().0) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        loop {
            let count = match self.stream.read(bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            let written = match self.stream.write(&bytes[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.waiting.extend(&bytes[written..count]);
            if !self.waiting.is_empty() || (count < bytes.len() && !self.finishing) {
                return Ok(true);
            }
        }
    }
}

fn main() -> io::Result<()> {
    let port: u16 = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .ok_or_else(|| io::Error::other("usage: mio_echo PORT"))?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut free = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut bytes = vec![0; READ];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let index = free.pop().unwrap_or(conns.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(index), both)?;
                    if index == conns.len() {
                        conns.push(None);
                    }
                    conns[index] =
                        Some(Conn { stream, waiting: VecDeque::new(), finishing: false });
                }
                continue;
            }
            let Some(conn) = &mut conns[event.token().0] else { continue };
            conn.finishing |= event.is_read_closed();
            let awaited = event.is_readable() || !conn.waiting.is_empty();
            if awaited && !conn.serve(&mut bytes).unwrap_or(false) {
                conns[event.token().0] = None;
                free.push(event.token().0);
            }
        }
    }
}
