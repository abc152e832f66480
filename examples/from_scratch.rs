//! A line echo server on `mio` and `slab` alone: the file to copy and change.
//!
//! ```console
//! $ cargo run --example from_scratch &
//! listening on 127.0.0.1:7007
//! $ (printf 'hel'; sleep 1; printf 'lo\n') | nc -N 127.0.0.1 7007
//! hello
//! ```
//!
//! mio tells each change once (edge-triggered): what it told is remembered until a
//! system call disproves it. Left out, and found in `oneloop`: clocks (a silent peer
//! stays for ever), a backlog above mio's 128, a close that waits for the peer's FIN.

use std::io::{self, ErrorKind, Read, Write};
use std::{collections::VecDeque, mem::replace, time::Duration};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

const MAX_LINE: usize = 8 << 10; // bytes with LF; a longer one costs the connection
const MAX_OUTPUT: usize = 64 << 10; // bytes waiting for a peer; above, it is not read from
const READ_BUFFER: usize = 64 << 10; // bytes of one turn; then the others have theirs
const ACCEPT_PAUSE: Duration = Duration::from_millis(100); // after accepting failed
const LISTENER: Token = Token(usize::MAX);
const KEYS: usize = 1 << 20; // above the slab's: as many as Linux has descriptors

struct Server {
    poll: Poll,
    listener: TcpListener,
    callers: bool, // somebody may be waiting to be accepted
    peers: Slab<Peer>,
    generation: usize,
    queue: VecDeque<usize>, // keys of peers with something to do, each once
    buffer: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    token: Token, // generation * KEYS + key
    input: Input,
    line: Vec<u8>,   // its beginning; holds no LF
    output: Vec<u8>, // what the socket did not take
    watches_write: bool,
    queued: bool,
}

/// What is known of the bytes a peer sends. Events only ever move it down this list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Input {
    Drained, // none; the kernel will tell of more
    Waiting, // perhaps some
    Ending,  // perhaps some, and the end of the stream behind them
    Ended,   // none will be read: the peer is dropped when its output has left
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let mut listener = TcpListener::bind(addr.parse().map_err(io::Error::other)?)?;
    println!("listening on {}", listener.local_addr()?);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (peers, queue, buffer) = (Slab::new(), VecDeque::new(), vec![0; READ_BUFFER]);
    let mut server = Server { poll, listener, callers: false, peers, generation: 0, queue, buffer };
    let mut events = Events::with_capacity(1024);
    loop {
        server.turn(&mut events)?;
    }
}

impl Server {
    /// Sleeps, notes what happened, then works, a bounded amount for each peer.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        // No edge will tell again of who is queued, or could not be accepted.
        let nap = if self.queue.is_empty() { ACCEPT_PAUSE } else { Duration::ZERO };
        match self.poll.poll(events, (self.callers || nap.is_zero()).then_some(nap)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {} // no events, then
            result => result?,
        }
        for event in events.iter() {
            self.callers |= event.token() == LISTENER;
            let key = event.token().0 % KEYS;
            // An event can outlive its peer, and find the slot vacant or another's.
            let peer = self.peers.get_mut(key).filter(|peer| peer.token == event.token());
            let Some(peer) = peer else { continue };
            peer.input = peer.input.max(match event {
                event if event.is_read_closed() || event.is_error() => Input::Ending, // or RST
                event if event.is_readable() => Input::Waiting,
                _ => Input::Drained,
            });
            if !replace(&mut peer.queued, true) {
                self.queue.push_back(key);
            }
        }
        // Whoever queues up again while served waits for the next turn.
        for _ in 0..self.queue.len() {
            let Some(key) = self.queue.pop_front() else { break };
            let peer = &mut self.peers[key]; // removed nowhere but here
            // An error of its socket ends this peer, not the server.
            let result = peer.turn(self.poll.registry(), &mut self.buffer);
            peer.queued = peer.wants_read();
            if result.is_err() || peer.input == Input::Ended && peer.output.is_empty() {
                self.peers.remove(key);
            } else if peer.queued {
                self.queue.push_back(key);
            }
        }
        self.accept(); // last: who has left by now has freed a descriptor
        Ok(())
    }

    fn accept(&mut self) {
        while self.callers {
            match self.listener.accept().map_err(|error| error.kind()) {
                Ok((stream, _)) => self.admit(stream),
                Err(ErrorKind::WouldBlock) => self.callers = false,
                // A caller hung up while it was queued: no trouble of the others.
                Err(ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                // Usually EMFILE. The callers stay queued but their edge is spent: no event
                // comes, even with descriptors free again. We try again when time is up.
                Err(_) => return,
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream) {
        let entry = self.peers.vacant_entry();
        self.generation = self.generation.wrapping_add(1);
        let token = Token(self.generation.wrapping_mul(KEYS) + entry.key());
        let _ = stream.set_nodelay(true); // or small answers wait 40 ms for a delayed ACK
        // Not WRITABLE yet: true of any new socket, it would wake us for nothing.
        if self.poll.registry().register(&mut stream, token, Interest::READABLE).is_ok() {
            let (line, output, watches_write) = (Vec::new(), Vec::new(), false);
            let input = Input::Drained;
            entry.insert(Peer { stream, token, input, line, output, watches_write, queued: false });
        }
    }
}

impl Peer {
    fn turn(&mut self, registry: &Registry, buffer: &mut [u8]) -> io::Result<()> {
        self.flush(registry)?;
        if self.wants_read() {
            match self.stream.read(buffer) {
                Ok(0) => self.input = Input::Ended,
                Ok(count) => {
                    // A short read has emptied the socket, and saves the read to say so. But
                    // not with a FIN behind it: one edge told of both, there is no other.
                    if count < buffer.len() && self.input == Input::Waiting {
                        self.input = Input::Drained;
                    }
                    self.received(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.input = Input::Drained,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.flush(registry)
    }

    /// Backpressure is this turning false. `input` is not forgotten meanwhile: when the
    /// output has left, reading goes on at once, for no edge will say that it can.
    fn wants_read(&self) -> bool {
        matches!(self.input, Input::Waiting | Input::Ending) && self.output.len() <= MAX_OUTPUT
    }

    /// Reads end anywhere. Only new bytes are searched: `line` is known to hold no LF.
    fn received(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() > MAX_LINE {
                self.input = Input::Ended; // and no later piece will shorten it
            } else if piece.ends_with(b"\n") {
                self.output.append(&mut self.line); // your application goes here
            }
        }
    }

    /// A short write is no error: what the socket did not take stays.
    fn flush(&mut self, registry: &Registry) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Err(_) if self.watches_write => break,
                Err(_) => {
                    // Registering tells what is true: no room made in between is missed.
                    // It also tells again of unread input: every time, we would spin.
                    self.watches_write = true;
                    let both = Interest::READABLE | Interest::WRITABLE;
                    return registry.reregister(&mut self.stream, self.token, both);
                }
            }
        }
        Ok(())
    }
}
