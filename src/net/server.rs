//! The loop.
//!
//! ```text
//!        ┌────────────────────────── turn ──────────────────────────┐
//!        │ sleep              note              work                │
//!        │ Sys::wait ──▶ ready queue ──▶ each peer's turn           │
//!        │                               callers                    │
//!        │                               timers                     │
//!        │                               post: orders, letters      │
//!        │                               sweep: who is late?        │
//!        └──────────────────────────────────────────────────────────┘
//! ```
//!
//! Owns what all connections share: the kernel, the buffers, the queue, the time.
//! Knows endpoints only as `dyn Endpoint`, and no message at all.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::endpoint::{Endpoint, Open, TypedEndpoint};
use super::handle::{Command, Handle, Inbox};
use super::kernel::Mio;
use super::limits::Limits;
use super::peer::READ;
use super::sys::{MAX_ENDPOINTS, Ready, Source, Sys, Token};
use super::timers::Timers;
use crate::proto::budget::Budget;
use crate::proto::buffer::Pool;
use crate::proto::dial::Dial;
use crate::proto::framing::{ConfigError, EncodeError, Framing};
use crate::proto::post::{Address, Letter, Order, Post};
use crate::proto::service::{ConnId, EndpointId, Service};
use crate::proto::tick::Tick;
use crate::throttle::Throttle;

/// Memory for replies that is kept from turn to turn, in bytes.
const MAX_KEPT_REPLIES: usize = 256 << 10;
/// Timers, and late connections, that are dealt with in one turn; input and output
/// come between them and the next.
const EXPIRIES_PER_TURN: usize = 1000;
/// Deliveries in one turn: letters can lead to more letters, when a connection ends.
const DELIVERIES_PER_TURN: usize = 4;
/// How long a connection waits that speaks to others faster than they listen. Long
/// enough for a listener to catch up; short enough for one that never will, and is
/// closed at its limit soon, to hold nobody up.
pub(crate) const HOLD: Duration = Duration::from_millis(10);
/// Full batches of events in a row that put off a sweep: 65,536 events.
const MAX_PUT_OFF: u32 = 64;

/// One loop with its endpoints. It stays on the thread that made it, so services can
/// hold what cannot be sent to others; a [`Handle`] can go anywhere.
///
/// ```no_run
/// use oneloop::{Context, Lines, Server};
///
/// # fn main() -> std::io::Result<()> {
/// Server::bind("127.0.0.1:7000", Lines::default())?
///     .run(|cx: &mut Context<'_>, message: &[u8]| cx.reply(message))
/// # }
/// ```
///
/// With more than one endpoint, limits, or a loop of your own:
///
/// ```no_run
/// use oneloop::{Endian, LengthField, Limits, Lines, Server};
/// use oneloop::services::{Echo, Sink};
///
/// # fn main() -> std::io::Result<()> {
/// let mut server = Server::new()?;
/// let echo = server.add(Lines::default(), Echo, Limits::default().max_connections(100))?;
/// let sink = server.add(LengthField::u32(Endian::Big), Sink, Limits::default())?;
/// server.listen(echo, "127.0.0.1:7000")?;
/// server.listen(sink, "[::1]:7001")?;
/// while !server.turn(None)?.finished {}
/// # Ok(())
/// # }
/// ```
pub struct Server<Y: Sys = Mio> {
    pub(super) sys: Y,
    pub(super) endpoints: Vec<Box<dyn Endpoint<Y>>>,
    pub(super) work: Workspace,
    inbox: Arc<Inbox>,
    commands: Vec<Command>,
    stop: Stop,
    drain_timeout: Duration,
    /// The last batch of events was full: there may be more.
    more_events: bool,
    /// Someone may be waiting to be accepted.
    pub(super) callers: bool,
    sweep_at: Option<Duration>,
    /// When the last wait began, if a sweep was to come.
    waited_from: Duration,
    sweep_every: Duration,
    sweeps_put_off: u32,
    /// What the host allows all buffers together, in bytes.
    pub(super) memory: usize,
    /// The least that an endpoint allows them.
    pub(super) endpoints_memory: Option<usize>,
    /// Since when there is too little memory.
    pub(super) tight_since: Option<Duration>,
    /// Not before this time is anyone read again who waits for memory.
    pub(super) feed_at: Duration,
}

/// What belongs to the loop and is lent to each connection for its turn.
pub(crate) struct Workspace {
    pub(crate) pool: Pool,
    /// Where reads go, to its second half; messages are borrowed from it while they are
    /// served.
    pub(crate) read: Box<[u8]>,
    /// Invariant: empty between two turns of peers.
    pub(crate) replies: Vec<u8>,
    pub(crate) post: Post,
    pub(crate) timers: Timers,
    /// Connections that may have something to do, in the order of their turns.
    pub(crate) queue: VecDeque<Ready>,
    /// Connections that spoke to others faster than those listen, and have to wait.
    pub(crate) held: Vec<Ready>,
    pub(crate) held_until: Duration,
    /// Connections that were faster than they may be, and when each may go on.
    pub(crate) resting: BinaryHeap<Reverse<(Duration, ConnId)>>,
    /// The last delivery left a connection with more than should wait for it.
    pub(crate) congested: bool,
    /// Connections that were sent something by others in this turn.
    pub(crate) outgoing: Vec<Ready>,
    pub(crate) now: Duration,
    pub(crate) tick: Tick,
    pub(crate) stopping: bool,
    /// A connection ended, so there is room for another.
    pub(crate) freed: bool,
    /// Warnings that there is too little memory.
    pub(crate) tight: Throttle,
}

/// Whether the server is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It serves.
    No,
    /// It accepts no one, and finishes with those it has, until that time.
    Draining { until: Duration },
    /// Time is up; what is left has been closed.
    Done,
}

/// What a turn of the loop had to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Turn {
    /// The server was shut down and its last connection is gone.
    pub finished: bool,
    /// A source that the host registered as [`Mio::HOST`] is ready.
    pub host: bool,
}

impl Server {
    /// A loop without endpoints, on the real kernel.
    ///
    /// # Errors
    ///
    /// The kernel's: no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self::with_sys(Mio::new()?))
    }

    /// The short way: one listener at `addr`, default limits. Follow it with
    /// [`Bound::run`].
    ///
    /// # Errors
    ///
    /// The address cannot be resolved or listened on, or `framing` is configured
    /// wrongly.
    pub fn bind<F: Framing + 'static>(
        addr: impl ToSocketAddrs,
        framing: F,
    ) -> io::Result<Bound<F>> {
        framing.check()?;
        let mut server = Self::new()?;
        let options = Limits::default().listen_options();
        let token = Token::listener(0, 0);
        let (listener, addr) = first_of(addr, |addr| server.sys.listen(addr, &options, token))?;
        Ok(Bound { server, framing, listener, addr })
    }

    /// Where a host can register sources of its own with [`Mio::HOST`] as their
    /// token, to be told of by [`Turn::host`].
    pub fn registry(&self) -> &mio::Registry {
        self.sys.registry()
    }
}

/// The descriptor to wait for in a loop of your own: readable when
/// [`Server::turn`] has something to do.
impl AsRawFd for Server {
    fn as_raw_fd(&self) -> RawFd {
        self.sys.as_raw_fd()
    }
}

/// A server with its listener, short of its service.
pub struct Bound<F> {
    server: Server,
    framing: F,
    listener: <Mio as Sys>::Listener,
    addr: SocketAddr,
}

impl<F: Framing + 'static> Bound<F> {
    /// The address it listens on, with its real port if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The name of its one endpoint, for [`Handle::broadcast`].
    pub fn endpoint(&self) -> EndpointId {
        EndpointId(0)
    }

    /// The server with its service, to be turned or run.
    ///
    /// # Errors
    ///
    /// Framing and default limits do not fit each other.
    pub fn serve<S: Service + 'static>(self, service: S) -> Result<Server, ConfigError> {
        let mut server = self.server;
        let id = server.add(self.framing, service, Limits::default())?;
        server.endpoints[usize::from(id.0)].adopt(self.listener);
        Ok(server)
    }

    /// Runs it until it is shut down.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve) and [`Server::run`].
    pub fn run<S: Service + 'static>(self, service: S) -> io::Result<()> {
        self.serve(service)?.run()
    }
}

impl<Y: Sys> Server<Y> {
    /// A loop without endpoints, on the kernel given.
    pub fn with_sys(mut sys: Y) -> Self {
        let now = sys.now();
        let mut server = Self {
            inbox: Inbox::new(sys.waker()),
            sys,
            endpoints: Vec::new(),
            work: Workspace {
                pool: Pool::new(),
                read: vec![0; 2 * READ].into(),
                replies: Vec::new(),
                post: Post::new(),
                timers: Timers::default(),
                queue: VecDeque::new(),
                held: Vec::new(),
                held_until: now,
                resting: BinaryHeap::new(),
                congested: false,
                outgoing: Vec::new(),
                now,
                tick: Tick::at(now),
                stopping: false,
                freed: false,
                tight: Throttle::default(),
            },
            commands: Vec::new(),
            stop: Stop::No,
            drain_timeout: Duration::from_secs(10),
            more_events: false,
            callers: false,
            sweep_at: None,
            waited_from: now,
            sweep_every: Duration::from_secs(1),
            sweeps_put_off: 0,
            memory: Budget::DEFAULT,
            endpoints_memory: None,
            tight_since: None,
            feed_at: now,
        };
        server.memory_budget(Budget::DEFAULT);
        server
    }

    /// Adds an endpoint: a framing and a service for connections to come. It has
    /// no listener yet.
    ///
    /// # Errors
    ///
    /// Its settings do not fit each other, or there are 255 already.
    pub fn add<F, S>(
        &mut self,
        framing: F,
        service: S,
        limits: Limits,
    ) -> Result<EndpointId, ConfigError>
    where
        F: Framing + 'static,
        S: Service + 'static,
        Y: 'static,
    {
        framing.check()?;
        limits.check(framing.max_frame())?;
        let number = u8::try_from(self.endpoints.len())
            .ok()
            .filter(|&number| usize::from(number) < MAX_ENDPOINTS)
            .ok_or(ConfigError::Endpoints { max: MAX_ENDPOINTS })?;
        self.endpoints_memory = [self.endpoints_memory, limits.memory].into_iter().flatten().min();
        self.memory_budget(self.memory);
        let framing = Rc::new(framing);
        self.work.post.add_encoder(framing.clone());
        let endpoint = TypedEndpoint::<Y, F, S>::new(number, framing, service, limits);
        self.sweep_every = self.sweep_every.min(endpoint.sweep_every());
        if let Some(unix) = self.sys.unix_time() {
            endpoint.set_time(unix);
        }
        self.endpoints.push(Box::new(endpoint));
        Ok(EndpointId(number))
    }

    /// Has `endpoint` listen at `addr` (the first that works, if a name has
    /// several), beside where it listens already. Returns the real address: port 0
    /// asks for any free one.
    ///
    /// # Errors
    ///
    /// The name cannot be resolved, or the address cannot be listened on.
    pub fn listen(
        &mut self,
        endpoint: EndpointId,
        addr: impl ToSocketAddrs,
    ) -> io::Result<SocketAddr> {
        first_of(addr, |addr| {
            let mut real = addr;
            self.open(endpoint, &mut |sys, options, token| {
                let (listener, addr) = sys.listen(addr, options, token)?;
                real = addr;
                Ok(listener)
            })?;
            Ok(real)
        })
    }

    /// Has `endpoint` listen at `path`, a Unix socket, beside where it listens already.
    /// Its file has the permissions `mode` (like 0o660), or what the umask leaves, and
    /// is removed when the server stops listening. A file that a killed server has left
    /// is replaced; where one answers, it is not. Peers are
    /// [`PeerAddr::Unix`](crate::PeerAddr::Unix).
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](ErrorKind::AddrInUse): a server answers there, or the file is no
    /// socket. [`InvalidInput`](ErrorKind::InvalidInput): the path is too long. The
    /// file system's others.
    pub fn listen_unix(
        &mut self,
        endpoint: EndpointId,
        path: impl AsRef<Path>,
        mode: Option<u32>,
    ) -> io::Result<()> {
        let path = path.as_ref();
        self.open(endpoint, &mut |sys, options, token| sys.listen_unix(path, mode, options, token))
    }

    /// Opens a connection of `endpoint`, as [`Context::connect`](crate::Context::connect)
    /// does. An endpoint without a listener holds nothing else.
    pub fn connect(&mut self, endpoint: EndpointId, to: impl Into<Dial>) -> ConnId {
        // A host may have been away for long: the time of the last turn is old.
        self.note_time();
        let id = self.work.post.connect(endpoint, to.into());
        self.carry_out_orders();
        id
    }

    /// Sends `message` to a connection at the next [`flush`](Self::flush) or turn, as
    /// [`Context::send`] does.
    ///
    /// # Errors
    ///
    /// Its framing cannot carry the message, or 16 MiB wait for that turn already.
    ///
    /// [`Context::send`]: crate::Context::send
    pub fn send(&mut self, to: ConnId, message: &[u8]) -> Result<(), EncodeError> {
        self.work.post.send(to, message)
    }

    /// Sends now what was given to [`send`](Self::send), and not behind what a turn finds.
    pub fn flush(&mut self) {
        self.deliver();
        self.carry_out_orders();
    }

    /// Closes a connection in order, as [`Context::close`](crate::Context::close) does.
    pub fn close(&mut self, id: ConnId) {
        self.work.post.order(Order::Close(id));
        self.carry_out_orders();
    }

    pub(super) fn open(&mut self, endpoint: EndpointId, open: &mut Open<'_, Y>) -> io::Result<()> {
        let Some(endpoint) = self.endpoints.get_mut(usize::from(endpoint.0)) else {
            let text = "this endpoint belongs to another server";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        };
        endpoint.listen(&mut self.sys, open)
    }

    /// How long a shutdown waits for messages that were begun and replies that are
    /// queued. Default: 10 s; then the rest is closed at once.
    pub fn drain_timeout(&mut self, timeout: Duration) {
        self.drain_timeout = timeout;
    }

    /// Something to reach the server with from other threads.
    pub fn handle(&self) -> Handle {
        Handle::new(self.inbox.clone())
    }

    /// What happened so far, over all endpoints.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for endpoint in &self.endpoints {
            sum.add(&endpoint.counters());
        }
        sum
    }

    /// Bytes of memory that waiting input and output occupy now.
    pub fn buffered_bytes(&self) -> usize {
        self.work.pool.held_bytes()
    }

    /// Ends the server in order. No one is accepted any more; connections with
    /// nothing begun and nothing queued get their FIN now, the others when their
    /// message is answered; what is left after the drain timeout is closed.
    pub fn shutdown(&mut self) {
        if self.stop == Stop::No {
            self.work.stopping = true;
            // A host may have been away for long: the time of the last turn is old.
            self.note_time();
            self.stop = Stop::Draining { until: self.work.now.saturating_add(self.drain_timeout) };
            for endpoint in &mut self.endpoints {
                endpoint.drain(&mut self.sys, &mut self.work);
            }
        }
    }

    /// Ends the server now. What is queued is lost.
    pub fn shutdown_now(&mut self) {
        self.shutdown();
        self.stop = Stop::Done;
        for endpoint in &mut self.endpoints {
            endpoint.abort(&mut self.sys, &mut self.work);
        }
    }

    /// Turns until the server was shut down.
    ///
    /// # Errors
    ///
    /// The kernel cannot wait any more. Nothing a peer does is an error here.
    pub fn run(mut self) -> io::Result<()> {
        while !self.turn(None)?.finished {}
        Ok(())
    }

    /// One turn of the loop: sleep, note what happened, then work.
    ///
    /// Sleeps for `timeout` at most (`None`: until something happens), and not at
    /// all while there is work. Events only mark connections as ready; the work is
    /// done afterwards, at our pace and in a bounded amount. A flood on one socket
    /// can therefore delay the others by one turn, never starve them.
    ///
    /// # Errors
    ///
    /// The kernel cannot wait any more. Nothing a peer does is an error here.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        let host = self.sleep(timeout)?;

        self.feed_starved();
        if self.work.held_until <= self.work.now {
            // Not `extend`, which takes 70 instructions though nearly always nothing is held.
            for ready in self.work.held.drain(..) {
                self.work.queue.push_back(ready);
            }
        }
        // Whoever queues up again while being served waits for the next turn.
        for _ in 0..self.work.queue.len() {
            let Some(ready) = self.work.queue.pop_front() else { break };
            self.serve(ready);
            self.relieve();
            self.carry_out_orders();
            if self.work.post.is_heavy() {
                self.deliver();
            }
        }

        self.end_standstill();
        // Newcomers later: their slots may be recycled ones, and by now no event
        // for a former owner is left.
        if (self.callers || self.work.freed) && self.work.has_memory() {
            for endpoint in &mut self.endpoints {
                endpoint.accept(&mut self.sys, &mut self.work);
            }
            self.work.freed = false;
            self.carry_out_orders();
        }

        self.call_timers();
        self.call_rested();
        for _ in 0..DELIVERIES_PER_TURN {
            if !self.work.post.has_letters() {
                break;
            }
            self.deliver();
            self.carry_out_orders();
        }
        self.relieve();
        self.carry_out_orders();
        self.sweep();
        self.trim();
        // Whoever could not be accepted yet is not told of again.
        self.callers = self.endpoints.iter().any(|endpoint| endpoint.accept_at().is_some());
        Ok(Turn { finished: self.is_finished(), host })
    }

    /// How long the host may sleep before it must call [`turn`](Self::turn) even
    /// if the descriptor stays quiet: zero while work is left over, `None` if
    /// nothing but an event is waited for.
    pub fn deadline(&mut self) -> Option<Duration> {
        // After a full batch there may be events which the kernel counts as told:
        // the descriptor, edge-triggered in the host's loop, would stay quiet.
        let busy = self.more_events
            || !self.work.queue.is_empty()
            || self.work.post.has_letters()
            || self.feeds_starved()
            || self.is_finished();
        if busy {
            return Some(Duration::ZERO);
        }
        let drain = match self.stop {
            Stop::Draining { until } => Some(until),
            Stop::No | Stop::Done => None,
        };
        // While memory is short nobody is let in, and what frees it is a turn of its own.
        let accept = match self.callers && self.work.has_memory() {
            true => self.endpoints.iter().filter_map(|endpoint| endpoint.accept_at()).min(),
            false => None,
        };
        let held = (!self.work.held.is_empty()).then_some(self.work.held_until);
        let rested = self.work.resting.peek().map(|first| first.0.0);
        let feed = self.work.pool.room_for_starved().then_some(self.feed_at);
        let clocks = [self.sweep_at, self.work.timers.next(), drain, accept, held, rested, feed];
        let first = clocks.into_iter().flatten().min()?;
        Some(first.saturating_sub(self.sys.now()))
    }

    /// Waits, and turns reports into queue entries. True if the host's own source
    /// is ready.
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = [timeout, self.deadline()].into_iter().flatten().min();
        if self.sweep_at.is_some() {
            self.waited_from = self.sys.now();
        }
        let (mut host, mut woken) = (false, false);
        let waited = self.sys.wait(timeout, |ready| match ready.token.source() {
            Source::Waker => woken = true,
            Source::Host => host = true,
            Source::Listener { endpoint, number } => {
                self.callers = true;
                if let Some(endpoint) = self.endpoints.get_mut(usize::from(endpoint)) {
                    endpoint.note_callers(number);
                }
            }
            // An event that says nothing looks like an entry of our own, and would let its
            // connection stand in the queue twice.
            Source::Conn(_) if !(ready.readable || ready.writable || ready.read_closed) => {}
            Source::Conn(_) => self.work.queue.push_back(ready),
        });
        self.more_events = match waited {
            Ok(more) => more,
            // A signal, SIGCONT among them, says nothing of what waits in the kernel:
            // that is looked at before anyone is found late.
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => return Err(error),
        };
        self.note_time();
        if woken {
            self.run_commands();
        }
        Ok(host)
    }

    fn note_time(&mut self) {
        let before = self.work.now;
        self.work.now = self.sys.now();
        // Whoever says what time it is says it to the second.
        if before.as_secs() != self.work.now.as_secs()
            && let Some(unix) = self.sys.unix_time()
        {
            self.endpoints.iter().for_each(|endpoint| endpoint.set_time(unix));
        }
        self.work.tick = Tick::at(self.work.now);
    }

    fn serve(&mut self, ready: Ready) {
        let id = ConnId::from_bits(ready.token.0);
        if let Some(endpoint) = self.endpoints.get_mut(usize::from(id.endpoint())) {
            endpoint.serve(&mut self.sys, &mut self.work, ready);
        }
    }

    /// Does what services asked for beside messages.
    fn carry_out_orders(&mut self) {
        while let Some(order) = self.work.post.next_order() {
            match order {
                Order::Close(id) | Order::Finish(id) => {
                    // Letters sent to it before must not come too late.
                    self.deliver();
                    if let Some(endpoint) = self.endpoints.get_mut(usize::from(id.endpoint())) {
                        let for_good = matches!(order, Order::Close(_));
                        endpoint.end(&mut self.sys, &mut self.work, id, for_good);
                    }
                }
                Order::Connect(id, dial) => {
                    if let Some(endpoint) = self.endpoints.get_mut(usize::from(id.endpoint())) {
                        endpoint.connect(&mut self.sys, &mut self.work, id, *dial);
                    }
                }
                Order::Timer(id, at) => {
                    if let Some(endpoint) = self.endpoints.get_mut(usize::from(id.endpoint())) {
                        endpoint.set_timer(&mut self.work, id, at);
                    }
                }
                Order::Shutdown => self.shutdown(),
            }
        }
    }

    /// Does what other threads asked for.
    fn run_commands(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        self.inbox.take(&mut commands);
        for command in commands.drain(..) {
            let sent = match command {
                Command::Send(to, message) => self.work.post.send(to, &message),
                Command::Broadcast(EndpointId(to), message) => {
                    self.work.post.broadcast_on(to, None, &message)
                }
                Command::Close(id) => {
                    self.work.post.order(Order::Close(id));
                    Ok(())
                }
                Command::Shutdown => {
                    self.work.post.order(Order::Shutdown);
                    Ok(())
                }
                Command::Counters(answer) => {
                    answer(self.counters());
                    Ok(())
                }
            };
            if let Err(error) = sent {
                log::warn!("message from another thread: {error}");
            }
            if self.work.post.is_heavy() {
                self.deliver();
            }
            self.carry_out_orders();
        }
        self.commands = commands;
    }

    fn call_timers(&mut self) {
        for _ in 0..EXPIRIES_PER_TURN {
            let Some(id) = self.work.timers.due(self.work.now) else { break };
            if let Some(endpoint) = self.endpoints.get_mut(usize::from(id.endpoint())) {
                endpoint.timer(&mut self.sys, &mut self.work, id);
            }
            self.relieve();
            self.carry_out_orders();
        }
    }

    /// Goes on with those who were too fast.
    fn call_rested(&mut self) {
        for _ in 0..EXPIRIES_PER_TURN {
            let first = self.work.resting.peek().filter(|first| first.0.0 <= self.work.now);
            let Some(&Reverse((_, id))) = first else { break };
            self.work.resting.pop();
            if let Some(endpoint) = self.endpoints.get_mut(usize::from(id.endpoint())) {
                endpoint.rested(&mut self.sys, &mut self.work, id);
            }
            self.relieve();
            self.carry_out_orders();
        }
    }

    /// Delivers the letters so far. Neighbouring ones to all of an endpoint go
    /// through its connections once.
    fn deliver(&mut self) {
        let (letters, bytes) = self.work.post.take_letters();
        self.work.congested = false;
        for run in letters.chunk_by(same_broadcast) {
            let (endpoint, to) = match run[0].to {
                Address::One(id) => (id.endpoint(), Some(id)),
                Address::All { endpoint, .. } => (endpoint, None),
            };
            let Some(endpoint) = self.endpoints.get_mut(usize::from(endpoint)) else { continue };
            match to {
                Some(id) => endpoint.deliver(&mut self.sys, &mut self.work, id, &run[0], &bytes),
                None => endpoint.deliver_all(&mut self.sys, &mut self.work, run, &bytes),
            }
            if self.work.pool.is_tight() {
                // What can leave does so first; then who reads is not among the largest.
                self.send_outgoing();
                self.relieve();
            }
        }
        self.work.post.recycle(letters, bytes);
        self.send_outgoing();
    }

    /// Gives those their turn who were sent something.
    fn send_outgoing(&mut self) {
        let mut outgoing = std::mem::take(&mut self.work.outgoing);
        for ready in outgoing.drain(..) {
            self.serve(ready);
        }
        self.work.outgoing = outgoing;
    }

    /// Ends whoever is late, when it is time to look.
    fn sweep(&mut self) {
        let now = self.work.now;
        if let Stop::Draining { until } = self.stop
            && until <= now
        {
            self.shutdown_now();
        }
        // The process may have been stopped at any point, for any time, while bytes came
        // that prove a peer not late. So lateness is judged by the time before the last
        // wait, which has brought all that had come by then; and so that this is not the
        // beginning of a long sleep, a sweep that came due in it waits for the next turn.
        let asked = self.waited_from;
        if self.sweep_at.is_some_and(|at| at <= asked) {
            if self.more_events && self.sweeps_put_off < MAX_PUT_OFF {
                self.sweeps_put_off += 1;
                return;
            }
            self.sweeps_put_off = 0;
            let mut budget = EXPIRIES_PER_TURN;
            for endpoint in &mut self.endpoints {
                endpoint.sweep(&mut self.sys, &mut self.work, Tick::at(asked), &mut budget);
            }
            self.sweep_at = (budget == 0).then_some(asked);
            self.carry_out_orders();
            self.work.pool.trim();
        }
        // With no clock running, the process sleeps until someone calls.
        let running = self.work.pool.buffers() > 0
            || self.endpoints.iter().any(|endpoint| endpoint.watches_idle());
        self.sweep_at = match running {
            true => self.sweep_at.or(Some(now + self.sweep_every)),
            false => {
                self.work.pool.trim();
                None
            }
        };
    }

    /// Gives back memory that one large turn needed.
    fn trim(&mut self) {
        debug_assert!(self.work.replies.is_empty());
        if self.work.replies.capacity() > MAX_KEPT_REPLIES {
            self.work.replies = Vec::new();
        }
    }

    fn is_finished(&self) -> bool {
        self.stop != Stop::No
            && self.endpoints.iter().all(|endpoint| endpoint.counters().is_empty())
    }
}

impl<Y: Sys> Drop for Server<Y> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Letters to all of one endpoint, one behind the other.
fn same_broadcast(a: &Letter, b: &Letter) -> bool {
    match (a.to, b.to) {
        (Address::All { endpoint: a, .. }, Address::All { endpoint: b, .. }) => a == b,
        _ => false,
    }
}

/// Tries the addresses of a name in turn, as std does.
fn first_of<T>(
    addr: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in addr.to_socket_addrs()? {
        match attempt(addr) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the name has no address")))
}

/// As text: who returns it from `main` sees that, and not the names in a variant.
impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> Self {
        Self::new(ErrorKind::InvalidInput, error.to_string())
    }
}
