//! The server as a guest in the loop of another program.
//!
//! The host has a poll of its own. In it are a UDP socket, which answers how the
//! server fares, and the server, as one more descriptor.
//!
//! ```console
//! $ cargo run --example embed &
//! listening on 127.0.0.1:7007
//! $ printf 'hello\n' | nc -N 127.0.0.1 7007
//! hello
//! $ printf '?' | nc -u -w 1 127.0.0.1 7007
//! 0 open, 1 messages
//! ```

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use oneloop::services::Echo;
use oneloop::{Lines, Server};

const SERVER: Token = Token(0);
const STATUS: Token = Token(1);

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let bound = Server::bind(addr, Lines::default())?;
    let addr = bound.local_addr();
    let mut server = bound.serve(Echo)?;
    let mut status = UdpSocket::bind(addr)?;
    println!("listening on {addr}");

    let mut host = Poll::new()?;
    let fd = server.as_raw_fd();
    host.registry().register(&mut SourceFd(&fd), SERVER, Interest::READABLE)?;
    host.registry().register(&mut status, STATUS, Interest::READABLE)?;
    let mut events = Events::with_capacity(16);
    let mut asked = false;
    loop {
        // No longer than the server allows: it may have clocks running, or work left
        // over, and its descriptor, edge-triggered in here, tells of neither.
        let nap = if asked { Some(Duration::ZERO) } else { server.deadline() };
        match host.poll(&mut events, nap) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        // Whatever woke us, the server knows what there is to do. It must not sleep:
        // only the host's poll waits for everything.
        if server.turn(Some(Duration::ZERO))?.finished {
            return Ok(());
        }
        asked |= events.iter().any(|event| event.token() == STATUS);
        // One at a time, so that a flood of questions cannot stop the server.
        asked = asked && answer(&status, &server).is_ok();
    }
}

fn answer(status: &UdpSocket, server: &Server) -> io::Result<()> {
    let (_, from) = status.recv_from(&mut [0; 16])?;
    let counters = server.counters();
    let text = format!("{} open, {} messages\n", counters.open, counters.traffic.messages_in);
    // What cannot be sent is lost, as UDP may lose it anyway.
    let _ = status.send_to(text.as_bytes(), from);
    Ok(())
}
