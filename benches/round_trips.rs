//! Round trips over loopback, beside a server that does nothing but echo.
//!
//! ```text
//!              write `depth` messages to each connection
//!  client ────────────────────────────────────────────────▶ oneloop: lines, Echo
//!  thread ◀────────────────────────────────────────────────   or bare mio echo
//!              then read `depth` replies from each
//! ```
//!
//! ```text
//!                               oneloop              bare        oneloop / bare
//! conns  depth  bytes      msg/s     us      msg/s     us   ratio     (min-max)
//!     1      1     16      70269   13.9      71432   13.7    0.99   (0.95-1.02)
//!     1      1     64      69953   13.8      71299   13.7    0.98   (0.96-1.01)
//!     1     16     16    1105664   14.1    1142323   13.7    0.97   (0.94-1.27)
//!     1     16     64    1106720   14.0    1148649   13.6    0.96   (0.93-1.07)
//!     1     64     16    4202790   14.8    4584807   13.6    0.91   (0.88-0.95)
//!     1     64     64    3977311   15.7    4324431   14.6    0.92   (0.89-0.97)
//!    50      1     16      99369  484.2     102250  474.5    0.96   (0.93-1.01)
//!    50      1     64      98239  486.5     101524  477.5    0.97   (0.88-1.19)
//!    50     16     16    1268250  604.9    1395479  530.0    0.92   (0.75-0.95)
//!    50     16     64    1208606  651.1    1349331  574.6    0.89   (0.84-0.94)
//!    50     64     16    5156266  569.2    6181725  490.6    0.82   (0.78-0.86)
//!    50     64     64    5023898  582.7    5923547  513.3    0.84   (0.74-0.93)
//! medians of 11 rounds of 90ms each; all on core 1
//! ```
//!
//! `bytes` is the message without its LF. `msg/s` counts messages answered. `us` is
//! the time, in microseconds, from the first write until the last reply is there, for
//! all connections together: at one connection and depth 1, a round trip. All are
//! medians over the rounds; the ratio (above 1, oneloop is faster) is taken within
//! each round, and shown with its least and its greatest.
//!
//! The bare server is the least that mio allows: one read, one write of the same
//! bytes, and it looks for no message in them. What is missing to 1.00 is the price of
//! framing, limits and clocks. Both servers run all the time, each in a thread of its
//! own; the one not measured sleeps.
//!
//! All threads share one core, by `taskset`. So the times of client and server add up,
//! and more work always shows. On two cores a round trip takes 16 us or 65, by whether
//! a thread is woken beside the other or on an idle core, and ratios at one connection
//! jump from 0.3 to 4: see `--unpinned`.
//!
//! Not measured: networks, accepting, messages that need several reads, and what a
//! server can do alone: the client's work is a part of each time, and hides the same
//! part of a difference. Compare ratios only.
//!
//! ```console
//! $ cargo bench --bench round_trips              # 24 s and the build
//! $ cargo bench --bench round_trips -- --quick   # 1 s, rough
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker, net};
use oneloop::services::Echo;
use oneloop::{Handle, Lines, Server};
use slab::Slab;

/// Messages that are under way on each connection.
const DEPTHS: [usize; 3] = [1, 16, 64];
const CONNECTIONS: [usize; 2] = [1, 50];
/// Lengths of messages without LF, in bytes.
const SIZES: [usize; 2] = [16, 64];
/// One read takes at most this many bytes, as in oneloop.
const READ_BUFFER: usize = 64 << 10;

fn main() -> io::Result<()> {
    let plan = Plan::from_args();
    let oneloop = Oneloop::start()?;
    let bare = Bare::start()?;
    let most = CONNECTIONS.into_iter().max().unwrap_or(0);
    let place = plan.pinned.then(share_a_core).transpose();
    let mut clients = [Client::connect(oneloop.addr, most)?, Client::connect(bare.addr, most)?];

    println!("{:>19}{:>18}{:>18}{:>22}", "", "oneloop", "bare", "oneloop / bare");
    let rate = format!("{:>11}{:>7}", "msg/s", "us");
    print!("{:>5}{:>7}{:>7}{rate}{rate}", "conns", "depth", "bytes");
    println!("{:>8}{:>14}", "ratio", "(min-max)");
    for connections in CONNECTIONS {
        for depth in DEPTHS {
            for size in SIZES {
                let load = Load { connections, depth, size };
                print_row(&load, &measure(&load, &plan, &mut clients)?);
            }
        }
    }
    println!("medians of {} rounds of {:?} each; {}", plan.rounds, plan.sample, describe(place));

    let [client, _] = clients;
    let answered = client.answered;
    drop(client);
    oneloop.stop(answered)?;
    bare.stop()
}

/// How long to measure.
struct Plan {
    rounds: usize,
    /// Time for one load on one server in one round.
    sample: Duration,
    /// Client and servers share a core.
    pinned: bool,
}

impl Plan {
    /// `cargo bench` passes `--bench` and measures; `cargo test --benches` does
    /// not, and only wants to see that it runs.
    fn from_args() -> Self {
        let (mut bench, mut quick, mut pinned) = (false, false, true);
        for arg in std::env::args().skip(1) {
            match &*arg {
                "--bench" => bench = true,
                "--quick" => quick = true,
                "--unpinned" => pinned = false,
                _ => {
                    eprintln!("unknown argument '{arg}'; allowed: --quick, --unpinned");
                    std::process::exit(2);
                }
            }
        }
        if quick || !bench {
            Self { rounds: 3, sample: Duration::from_millis(10), pinned }
        } else {
            Self { rounds: 11, sample: Duration::from_millis(90), pinned }
        }
    }
}

/// Puts all threads so far on the last core that we may use, and returns its number.
/// With `taskset`, because std cannot, and for this alone no dependency is worth it.
fn share_a_core() -> io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let core = allowed.and_then(|list| list.rsplit([',', '-', '\t']).next());
    let core = core.ok_or(io::Error::other("/proc/self/status names no core"))?;
    let pid = std::process::id().to_string();
    let args = ["--all-tasks", "--cpu-list", "--pid", core, &pid];
    let output = Command::new("taskset").args(args).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(core.to_owned())
}

fn describe(place: io::Result<Option<String>>) -> String {
    match place {
        Ok(Some(core)) => format!("all on core {core}"),
        Ok(None) => "not pinned".to_owned(),
        Err(error) => format!("not pinned, ratios will jump: taskset: {error}"),
    }
}

/// What a client does to a server.
struct Load {
    connections: usize,
    depth: usize,
    size: usize,
}

/// One round on one server.
struct Sample {
    per_second: f64,
    /// Median time until all connections have all replies, in microseconds.
    batch_us: f64,
}

/// Gives both servers the load in turns, so that a slow moment hits them alike; and
/// each goes first as often as the other.
fn measure(load: &Load, plan: &Plan, clients: &mut [Client; 2]) -> io::Result<[Vec<Sample>; 2]> {
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..plan.rounds {
        for turn in 0..2 {
            let server = (round + turn) % 2;
            samples[server].push(clients[server].sample(load, plan.sample)?);
        }
    }
    Ok(samples)
}

fn print_row(load: &Load, [oneloop, bare]: &[Vec<Sample>; 2]) {
    print!("{:>5}{:>7}{:>7}", load.connections, load.depth, load.size);
    for samples in [oneloop, bare] {
        let per_second = median(samples.iter().map(|sample| sample.per_second).collect());
        let batch_us = median(samples.iter().map(|sample| sample.batch_us).collect());
        print!("{per_second:>11.0}{batch_us:>7.1}");
    }
    let ratio = |(a, b): (&Sample, &Sample)| a.per_second / b.per_second;
    let ratios: Vec<f64> = oneloop.iter().zip(bare).map(ratio).collect();
    let (min, max) = ratios
        .iter()
        .fold((f64::MAX, f64::MIN), |(min, max), &ratio| (ratio.min(min), ratio.max(max)));
    println!("{:>8.2}{:>14}", median(ratios), format!("({min:.2}-{max:.2})"));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Blocking sockets, and one thread to use them.
struct Client {
    streams: Vec<TcpStream>,
    /// Messages that came back so far.
    answered: u64,
}

impl Client {
    fn connect(addr: SocketAddr, connections: usize) -> io::Result<Self> {
        let connect = |_| {
            let stream = TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let streams = (0..connections).map(connect).collect::<io::Result<_>>()?;
        Ok(Self { streams, answered: 0 })
    }

    fn sample(&mut self, load: &Load, time: Duration) -> io::Result<Sample> {
        let messages = [&vec![b'x'; load.size][..], b"\n"].concat().repeat(load.depth);
        let mut replies = vec![0; messages.len()];
        let mut batches_us = Vec::new();
        let start = Instant::now();
        let mut now = start;
        while now - start < time {
            self.batch(load.connections, &messages, &mut replies)?;
            let done = Instant::now();
            batches_us.push((done - now).as_secs_f64() * 1e6);
            now = done;
        }
        let count = batches_us.len() * load.connections * load.depth;
        self.answered += count as u64;
        let per_second = count as f64 / (now - start).as_secs_f64();
        Ok(Sample { per_second, batch_us: median(batches_us) })
    }

    /// Sends `messages` to each connection and waits for all to come back.
    fn batch(&mut self, connections: usize, messages: &[u8], back: &mut [u8]) -> io::Result<()> {
        let streams = &mut self.streams[..connections];
        for stream in &mut *streams {
            stream.write_all(messages)?;
        }
        for stream in streams {
            stream.read_exact(back)?;
            assert_eq!(back, messages);
        }
        Ok(())
    }
}

/// The server to be measured, in its own thread.
struct Oneloop {
    addr: SocketAddr,
    handle: Handle,
    thread: JoinHandle<io::Result<()>>,
}

impl Oneloop {
    fn start() -> io::Result<Self> {
        let (tell, told) = channel();
        // A server does not move between threads: it is made where it runs.
        let thread = thread::spawn(move || serve_lines(&tell));
        match told.recv() {
            Ok((addr, handle)) => Ok(Self { addr, handle, thread }),
            Err(_) => Err(join(thread).expect_err("it only gives up with an error")),
        }
    }

    /// Ends it, and makes sure that it was this server that did the work.
    fn stop(self, answered: u64) -> io::Result<()> {
        let counters = self.handle.counters().map_err(io::Error::other)?;
        let traffic = counters.recv().map_err(io::Error::other)?.traffic;
        assert_eq!((traffic.messages_in, traffic.messages_out), (answered, answered));
        self.handle.shutdown().map_err(io::Error::other)?;
        join(self.thread)
    }
}

fn serve_lines(tell: &Sender<(SocketAddr, Handle)>) -> io::Result<()> {
    let bound = Server::bind("127.0.0.1:0", Lines::default())?;
    let addr = bound.local_addr();
    let server = bound.serve(Echo)?;
    tell.send((addr, server.handle())).expect("start() waits for it");
    server.run()
}

/// The server to compare with.
struct Bare {
    addr: SocketAddr,
    stop: Waker,
    thread: JoinHandle<io::Result<()>>,
}

const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

impl Bare {
    fn start() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let addr = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let stop = Waker::new(poll.registry(), STOP)?;
        let thread = thread::spawn(move || echo_bytes(poll, &listener));
        Ok(Self { addr, stop, thread })
    }

    fn stop(self) -> io::Result<()> {
        self.stop.wake()?;
        join(self.thread)
    }
}

/// Whatever a read brings is written back as it is.
fn echo_bytes(mut poll: Poll, listener: &net::TcpListener) -> io::Result<()> {
    let mut events = Events::with_capacity(1024);
    let mut streams = Slab::new();
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                STOP => return Ok(()),
                LISTENER => accept_all(&poll, listener, &mut streams)?,
                Token(key) => {
                    let Some(stream) = streams.get_mut(key) else { continue };
                    if !echo(stream, &mut buffer, event.is_read_closed())? {
                        streams.remove(key);
                    }
                }
            }
        }
    }
}

fn accept_all(
    poll: &Poll,
    listener: &net::TcpListener,
    streams: &mut Slab<net::TcpStream>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let entry = streams.vacant_entry();
        poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        entry.insert(stream);
    }
}

/// Empties one socket; false when the peer has finished sending.
fn echo(stream: &mut net::TcpStream, buffer: &mut [u8], read_closed: bool) -> io::Result<bool> {
    loop {
        let count = match stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        // The client reads all replies before it writes again, and one batch always
        // fits: there is no need to remember what did not.
        assert_eq!(stream.write(&buffer[..count])?, count);
        // A short read has emptied the socket. oneloop leaves it at that too.
        if count < buffer.len() && !read_closed {
            return Ok(true);
        }
    }
}

fn join(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
