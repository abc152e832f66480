//! A scripted kernel: sockets made of byte queues, a clock that a test turns by
//! hand, and the edges that epoll would tell. What the loop does to it is written
//! down, call by call.

use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use oneloop::net::{DialOptions, ListenOptions, Ready, Sys, Token, Watch};
use oneloop::{CloseReason, Counters, PeerAddr, Server, Target};

pub(crate) const ZERO: Duration = Duration::ZERO;

/// What came, by socket.
pub(crate) type Came = Vec<(usize, Vec<u8>)>;

/// What comes out of a socket's receive queue.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Data(Vec<u8>),
    Fin,
    Error(i32),
}

/// A call of the loop that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Accept,
    Connect(Target),
    WatchRead(usize),
    WatchWrite(usize),
    Read(usize),
    Write(usize, usize),
    Finish(usize),
    Close(usize),
    Shed,
}

#[derive(Default)]
pub(crate) struct Socket {
    inbound: VecDeque<Step>,
    /// Bytes it takes before it blocks.
    pub(crate) room: usize,
    pub(crate) outbound: Vec<u8>,
    token: Option<Token>,
    watches_write: bool,
    /// We called, and this is what comes of it, when that is known.
    answer: Option<Result<(), i32>>,
    pub(crate) finished: bool,
    pub(crate) closed: bool,
    /// Where the caller is, if not on this machine.
    from: Option<IpAddr>,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) calls: Vec<Call>,
    backlog: VecDeque<usize>,
    listener: Option<Token>,
    events: VecDeque<Ready>,
    /// The next accepts, connects, watches, waits and writes fail with these; 0: works.
    pub(crate) accept_errors: VecDeque<i32>,
    pub(crate) connect_errors: VecDeque<i32>,
    pub(crate) watch_errors: VecDeque<i32>,
    pub(crate) wait_errors: VecDeque<i32>,
    pub(crate) write_errors: VecDeque<i32>,
    /// Events that one wait can tell.
    pub(crate) batch: usize,
    /// The process is stopped for that long right after the next wait, while these
    /// bytes come.
    pub(crate) stop_after_wait: Option<(Duration, Came)>,
    /// The loop went to sleep though nothing would ever wake it.
    pub(crate) asleep: bool,
}

fn fails(errors: &mut VecDeque<i32>) -> io::Result<()> {
    match errors.pop_front() {
        None | Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The kernel that the loop sees and the test turns.
#[derive(Clone)]
pub(crate) struct Script(Rc<RefCell<World>>);

impl Script {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(World { batch: 1024, ..World::default() })))
    }

    pub(crate) fn world(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    /// Someone calls; the loop is told once, as epoll does.
    pub(crate) fn call(&self) -> usize {
        let mut world = self.world();
        world.sockets.push(Socket { room: usize::MAX, answer: Some(Ok(())), ..Socket::default() });
        let id = world.sockets.len() - 1;
        world.backlog.push_back(id);
        if let Some(token) = world.listener {
            world.tell(Ready { token, readable: true, writable: false, read_closed: false });
        }
        id
    }

    /// The same from another address.
    pub(crate) fn call_from(&self, addr: &str) -> usize {
        let socket = self.call();
        self.world().sockets[socket].from = Some(addr.parse().expect("an address"));
        socket
    }

    /// Whom we call answers, or refuses with an errno.
    pub(crate) fn answers(&self, socket: usize, answer: Result<(), i32>) {
        let mut world = self.world();
        let peer = &mut world.sockets[socket];
        peer.answer = Some(answer);
        if answer.is_ok() {
            peer.room = usize::MAX;
        }
        if let Some(token) = peer.token {
            let read_closed = answer.is_err();
            world.tell(Ready { token, readable: read_closed, writable: true, read_closed });
        }
    }

    /// That many call.
    pub(crate) fn calls(&self, callers: std::ops::Range<usize>) {
        callers.for_each(|_| _ = self.call());
    }

    /// The peer of `socket` does all of this before the loop looks: one edge.
    pub(crate) fn peer_does(&self, socket: usize, steps: impl IntoIterator<Item = Step>) {
        let mut world = self.world();
        world.sockets[socket].inbound.extend(steps);
        world.tell_readable(socket);
    }

    pub(crate) fn peer_sends(&self, socket: usize, bytes: impl AsRef<[u8]>) {
        self.peer_does(socket, [Step::Data(bytes.as_ref().to_vec())]);
    }

    /// The peer reads: there is room for `bytes` more.
    pub(crate) fn peer_takes(&self, socket: usize, bytes: usize) {
        let mut world = self.world();
        let peer = &mut world.sockets[socket];
        let was_full = peer.room == 0;
        peer.room = peer.room.saturating_add(bytes);
        if let (true, true, Some(token)) = (was_full, peer.watches_write, peer.token) {
            let readable = !peer.inbound.is_empty();
            world.tell(Ready { token, readable, writable: true, read_closed: false });
        }
    }

    pub(crate) fn set_room(&self, socket: usize, bytes: usize) {
        self.world().sockets[socket].room = bytes;
    }

    /// Reports something about a connection, true or not.
    pub(crate) fn tell_again(&self, ready: Ready) {
        self.world().tell(ready);
    }

    pub(crate) fn token_of(&self, socket: usize) -> Token {
        self.world().sockets[socket].token.expect("it was watched")
    }

    pub(crate) fn sent(&self, socket: usize) -> Vec<u8> {
        std::mem::take(&mut self.world().sockets[socket].outbound)
    }

    pub(crate) fn is_finished(&self, socket: usize) -> bool {
        self.world().sockets[socket].finished
    }

    pub(crate) fn is_closed(&self, socket: usize) -> bool {
        self.world().sockets[socket].closed
    }

    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.world().calls)
    }

    pub(crate) fn count(&self, which: impl Fn(&Call) -> bool) -> usize {
        self.world().calls.iter().filter(|call| which(call)).count()
    }
}

impl World {
    fn tell(&mut self, ready: Ready) {
        self.events.push_back(ready);
    }

    fn tell_readable(&mut self, socket: usize) {
        let peer = &self.sockets[socket];
        let over = |step: &Step| matches!(step, Step::Fin | Step::Error(_));
        let read_closed = peer.inbound.iter().any(over);
        if let Some(token) = peer.token {
            // Once writable is watched, the kernel reports it with everything.
            let writable = peer.watches_write && peer.room > 0;
            self.tell(Ready { token, readable: true, writable, read_closed });
        }
    }
}

impl Sys for Script {
    type Listener = ();
    type Stream = usize;

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut report: impl FnMut(Ready),
    ) -> io::Result<bool> {
        let mut world = self.world();
        fails(&mut world.wait_errors)?;
        if world.events.is_empty() {
            match timeout {
                Some(timeout) => world.now += timeout,
                None => world.asleep = true,
            }
        }
        // Reports of one connection in one batch are one event.
        let mut merged: Vec<Ready> = Vec::new();
        let mut place: HashMap<Token, usize> = HashMap::new();
        while let Some(&ready) = world.events.front() {
            match place.get(&ready.token) {
                Some(&at) => {
                    merged[at].readable |= ready.readable;
                    merged[at].writable |= ready.writable;
                    merged[at].read_closed |= ready.read_closed;
                }
                None if merged.len() == world.batch => break,
                None => {
                    place.insert(ready.token, merged.len());
                    merged.push(ready);
                }
            }
            world.events.pop_front();
        }
        let full = merged.len() == world.batch;
        if let Some((time, came)) = world.stop_after_wait.take() {
            world.now += time;
            for (socket, bytes) in came {
                world.sockets[socket].inbound.push_back(Step::Data(bytes));
                world.tell_readable(socket);
            }
        }
        drop(world);
        merged.into_iter().for_each(&mut report);
        Ok(full)
    }

    fn now(&mut self) -> Duration {
        self.world().now
    }

    fn waker(&self) -> Waker {
        Waker::noop().clone()
    }

    fn listen(
        &mut self,
        addr: SocketAddr,
        _: &ListenOptions,
        token: Token,
    ) -> io::Result<((), SocketAddr)> {
        self.world().listener = Some(token);
        Ok(((), addr))
    }

    fn accept(&mut self, (): &mut ()) -> io::Result<(usize, PeerAddr)> {
        let mut world = self.world();
        world.calls.push(Call::Accept);
        fails(&mut world.accept_errors)?;
        let id = world.backlog.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let from = world.sockets[id].from.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let addr = SocketAddr::new(from, 40_000 + (id % 20_000) as u16);
        Ok((id, addr.into()))
    }

    fn shed(&mut self, (): &mut ()) -> bool {
        let mut world = self.world();
        world.calls.push(Call::Shed);
        let Some(id) = world.backlog.pop_front() else { return false };
        world.sockets[id].closed = true;
        true
    }

    fn close_listener(&mut self, (): ()) {
        self.world().listener = None;
    }

    fn connect(&mut self, target: &Target, _: &DialOptions) -> io::Result<usize> {
        let mut world = self.world();
        world.calls.push(Call::Connect(target.clone()));
        fails(&mut world.connect_errors)?;
        world.sockets.push(Socket::default());
        Ok(world.sockets.len() - 1)
    }

    fn connect_result(&mut self, stream: &mut usize) -> io::Result<bool> {
        match self.world().sockets[*stream].answer {
            Some(Ok(())) => Ok(true),
            Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(false),
        }
    }

    fn watch(&mut self, stream: &mut usize, token: Token, watch: Watch) -> io::Result<()> {
        let mut world = self.world();
        world.calls.push(match watch {
            Watch::Read => Call::WatchRead(*stream),
            Watch::ReadWrite | Watch::Connect => Call::WatchWrite(*stream),
        });
        fails(&mut world.watch_errors)?;
        let peer = &mut world.sockets[*stream];
        peer.token = Some(token);
        peer.watches_write = watch != Watch::Read;
        if peer.watches_write && peer.room > 0 {
            world.tell(Ready { token, readable: false, writable: true, read_closed: false });
        }
        if !world.sockets[*stream].inbound.is_empty() {
            world.tell_readable(*stream);
        }
        Ok(())
    }

    fn read(&mut self, stream: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world();
        world.calls.push(Call::Read(*stream));
        let peer = &mut world.sockets[*stream];
        assert!(!peer.closed, "read after close");
        let mut count = 0;
        while count < into.len() {
            match peer.inbound.front_mut() {
                Some(Step::Data(bytes)) => {
                    let n = bytes.len().min(into.len() - count);
                    into[count..count + n].copy_from_slice(&bytes[..n]);
                    bytes.drain(..n);
                    count += n;
                    if bytes.is_empty() {
                        peer.inbound.pop_front();
                    }
                }
                _ if count > 0 => break,
                // An end of stream stays one however often it is read.
                Some(Step::Fin) => return Ok(0),
                Some(Step::Error(errno)) => return Err(io::Error::from_raw_os_error(*errno)),
                None => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        Ok(count)
    }

    fn write(&mut self, stream: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world();
        let failed = fails(&mut world.write_errors);
        let peer = &mut world.sockets[*stream];
        assert!(!peer.closed, "write after close");
        assert!(!peer.finished, "write after finish");
        let count = bytes.len().min(peer.room);
        if failed.is_ok() {
            peer.room -= count;
            peer.outbound.extend_from_slice(&bytes[..count]);
        }
        world.calls.push(Call::Write(*stream, bytes.len()));
        failed?;
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    fn finish(&mut self, stream: &mut usize) -> io::Result<()> {
        let mut world = self.world();
        world.calls.push(Call::Finish(*stream));
        world.sockets[*stream].finished = true;
        Ok(())
    }

    fn close(&mut self, stream: usize) {
        let mut world = self.world();
        world.calls.push(Call::Close(stream));
        assert!(!world.sockets[stream].closed, "closed twice");
        world.sockets[stream].closed = true;
    }
}

/// Checks what holds at every instant.
pub(crate) fn assert_balance(counters: &Counters) {
    let closed: u64 = counters.closed.iter().sum();
    let now = (counters.open + counters.dialing) as u64;
    assert_eq!(counters.accepted + counters.dialed, now + closed, "{counters:?}");
}

/// Turns the loop, without letting time pass, until it has nothing to do.
pub(crate) fn settle(server: &mut Server<Script>) {
    settle_with_panics(server);
    // The loop catches what its services panic with, assertions of a test among them.
    assert_eq!(closed_by(server, CloseReason::HandlerPanic), 0, "a panic: see above");
}

/// The same, where services are meant to panic.
pub(crate) fn settle_with_panics(server: &mut Server<Script>) {
    for _ in 0..10_000 {
        let turn = server.turn(Some(ZERO)).expect("the script's wait does not fail");
        assert_balance(&server.counters());
        if turn.finished || server.deadline() != Some(ZERO) {
            return;
        }
    }
    panic!("the loop spins: it has been busy for 10,000 turns");
}

/// Lets `time` pass, with the turns that the loop asks for.
pub(crate) fn pass(server: &mut Server<Script>, script: &Script, time: Duration) {
    let until = script.world().now + time;
    loop {
        settle(server);
        let now = script.world().now;
        match server.deadline() {
            Some(next) if next > ZERO && now + next < until => script.world().now += next,
            _ => break,
        }
    }
    script.world().now = until;
    settle(server);
}

pub(crate) fn closed_by(server: &Server<Script>, reason: CloseReason) -> u64 {
    server.counters().closed_by(reason)
}
