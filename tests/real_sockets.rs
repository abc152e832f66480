//! The loop on the real kernel: what a script can only assume.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use oneloop::services::{Echo, Sink};
use oneloop::{
    CloseReason, Context, Counters, Endian, Framing, Handle, HandleError, LengthField, Limits,
    Lines, Server, Service,
};
use socket2::SockRef;

/// A server on a thread of its own, shut down when dropped.
struct Running {
    addr: SocketAddr,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

fn start<F, S>(at: &'static str, framing: F, service: S, limits: Limits) -> Running
where
    F: Framing + Send + 'static,
    S: Service + Send + 'static,
{
    let (told, hears) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut server = Server::new().expect("a loop");
        let endpoint = server.add(framing, service, limits).expect("valid settings");
        let addr = server.listen(endpoint, at).expect("a free port");
        server.drain_timeout(Duration::from_millis(200));
        told.send((addr, server.handle())).expect("the test waits");
        server.run().expect("a loop that goes on");
    });
    let (addr, handle) = hears.recv().expect("the server starts");
    Running { addr, handle, thread: Some(thread) }
}

fn echo() -> Running {
    start("127.0.0.1:0", Lines::default(), Echo, Limits::default())
}

impl Running {
    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.addr).expect("it listens");
        client.set_nodelay(true).expect("a TCP socket");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
        client.set_write_timeout(Some(Duration::from_secs(10))).expect("not zero");
        client
    }

    fn counters(&self) -> Counters {
        let answer = self.handle.counters().expect("it runs");
        let counters = answer.recv_timeout(Duration::from_secs(10)).expect("it answers");
        let closed: u64 = counters.closed.iter().sum();
        assert_eq!(counters.accepted, counters.open as u64 + closed, "{counters:?}");
        counters
    }

    /// Waits until the loop has seen what the kernel has, or 10 s.
    fn wait_for(&self, what: &str, seen: impl Fn(&Counters) -> bool) -> Counters {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let counters = self.counters();
            if seen(&counters) {
                return counters;
            }
            assert!(Instant::now() < end, "{what}: {counters:?}");
            thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the loop panicked");
        }
    }
}

fn read_all(mut client: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("an orderly end");
    all
}

#[test]
fn clients_of_both_families_are_answered() {
    for at in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
        let server = start(at, Lines::default(), Echo, Limits::default());
        let mut client = server.connect();
        client.write_all(b"hello\n").expect("room for a line");
        client.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(read_all(&client), b"hello\n", "{at}");
    }
}

#[test]
fn both_families_can_be_listened_on_side_by_side_on_one_port() {
    let mut server = Server::new().expect("a loop");
    let endpoint = server.add(Lines::default(), Echo, Limits::default()).expect("valid settings");
    let addr = server.listen(endpoint, "0.0.0.0:0").expect("a free port");
    let v6 = SocketAddr::new("::".parse().expect("an address"), addr.port());
    assert_eq!(server.listen(endpoint, v6).expect("the same port, the other family"), v6);
}

#[test]
fn a_client_that_sends_and_closes_at_once_gets_every_reply() {
    let server = echo();
    for _ in 0..200 {
        let mut client = server.connect();
        client.write_all(b"one\ntwo\n").expect("room for two lines");
        client.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(read_all(&client), b"one\ntwo\n");
    }
    server.wait_for("all ended", |counters| counters.closed_by(CloseReason::PeerEof) == 200);
}

#[test]
fn a_refused_client_can_read_every_reply_though_its_input_was_not_read() {
    let server = start("127.0.0.1:0", LengthField::u32(Endian::Big), Echo, Limits::default());
    let mut client = server.connect();
    let mut sent = Vec::new();
    for _ in 0..10 {
        sent.extend_from_slice(&[0, 0, 0x27, 0x10]);
        sent.extend_from_slice(&[b'x'; 10_000]);
    }
    let replies = sent.clone();
    sent.extend_from_slice(&[0xff; 4]);
    sent.extend_from_slice(&vec![0; 1 << 20]);
    client.write_all(&sent).expect("it reads on, to throw away");
    client.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(read_all(&client), replies);
    assert_eq!(server.counters().closed_by(CloseReason::TooLong), 1);
}

#[test]
fn a_reset_at_any_point_costs_that_connection_alone() {
    let server = echo();
    let mut witness = server.connect();
    let rounds = 100;
    for round in 0..rounds {
        let mut client = server.connect();
        let bytes = b"whole line\nhalf a line";
        client.write_all(&bytes[..round % bytes.len()]).expect("room for a line");
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        drop(client);
        witness.write_all(b"still there?\n").expect("room for a line");
        let mut reply = [0; 13];
        witness.read_exact(&mut reply).expect("served all the time");
    }
    let counters = server.wait_for("all ended", |counters| counters.open == 1);
    assert_eq!(counters.closed_by(CloseReason::PeerReset), rounds as u64);
}

#[test]
fn urgent_bytes_are_ignored() {
    let server = echo();
    let mut client = server.connect();
    for _ in 0..100 {
        SockRef::from(&client).send_out_of_band(b"!").expect("a TCP socket");
    }
    client.write_all(b"calm\n").expect("room for a line");
    // An urgent byte that another overtakes becomes data.
    let mut reply = Vec::new();
    while reply.last() != Some(&b'\n') {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an echo");
        reply.extend(byte);
    }
    assert!(reply.ends_with(b"calm\n"), "{reply:?}");
    // A read stops at an urgent byte; what is behind it must not wait for another edge.
    for _ in 0..20 {
        client.write_all(b"be").expect("room for a line");
        SockRef::from(&client).send_out_of_band(b"!").expect("a TCP socket");
        client.write_all(b"gun\n").expect("room for a line");
        let mut reply = [0; 6];
        client.read_exact(&mut reply).expect("an echo");
        assert_eq!(&reply, b"begun\n");
    }
}

#[test]
fn a_peer_that_never_reads_is_held_at_the_limit_and_loses_nothing_when_it_does() {
    let server = echo();
    let mut client = server.connect();
    let line = [b"x".repeat(9_999).as_slice(), b"\n"].concat();
    let lines = 2_000;
    let mut writer = client.try_clone().expect("a descriptor");
    let sender = thread::spawn(move || {
        for _ in 0..lines {
            writer.write_all(&line).expect("it reads again once it is read");
        }
        writer.shutdown(Shutdown::Write).expect("connected");
    });
    let paused = server.wait_for("it pauses", |counters| counters.traffic.messages_in > 10);
    let mut last = paused.traffic.messages_in;
    // Both kernel buffers fill up; then nothing moves.
    let held = loop {
        thread::sleep(Duration::from_millis(100));
        let now = server.counters().traffic.messages_in;
        if now == last {
            break now;
        }
        last = now;
    };
    assert!(held * 10_000 < 8 << 20, "{held} messages were taken from a peer that reads nothing");
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => received += count,
            Err(error) => panic!("after {received} bytes: {error}"),
        }
    }
    assert_eq!(received, lines * 10_000);
    sender.join().expect("all sent");
}

#[test]
fn a_greedy_sender_does_not_hold_up_the_others() {
    let server = start("127.0.0.1:0", Lines::default(), Sink, Limits::default());
    let mut greedy = server.connect();
    let flood = thread::spawn(move || {
        let block = b"more and more\n".repeat(10_000);
        let end = Instant::now() + Duration::from_millis(700);
        while Instant::now() < end {
            greedy.write_all(&block).expect("it is read");
        }
    });
    let mut slowest = Duration::ZERO;
    while !flood.is_finished() {
        let asked = Instant::now();
        server.counters();
        slowest = slowest.max(asked.elapsed());
    }
    flood.join().expect("it only writes");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

#[test]
fn other_threads_can_send_broadcast_close_and_shut_down() {
    let (ids, opened) = mpsc::channel();
    let service = move |cx: &mut Context<'_>, _: &[u8]| {
        ids.send(cx.id()).expect("the test waits");
        cx.reply(b"hello")
    };
    let server = start("127.0.0.1:0", Lines::default(), service, Limits::default());
    let mut clients = [server.connect(), server.connect()];
    let mut names = Vec::new();
    for client in &mut clients {
        client.write_all(b"hi\n").expect("room for a line");
        names.push(opened.recv_timeout(Duration::from_secs(10)).expect("it was served"));
    }
    server.handle.send(names[0], "for you").expect("it runs");
    server.handle.close(names[0]).expect("it runs");
    assert_eq!(read_all(&clients[0]), b"hello\nfor you\n");
    server.handle.send(names[0], "too late").expect("it runs");
    server.wait_for("counted", |counters| counters.gone == 1);
    server.handle.shutdown().expect("it runs");
    assert_eq!(read_all(&clients[1]), b"hello\n");
    drop(clients);
    drop(server);
}

#[test]
fn a_handle_that_outlives_its_server_says_so() {
    let server = echo();
    let handle = server.handle.clone();
    drop(server);
    assert_eq!(handle.shutdown(), Err(HandleError::Gone));
}

/// A backlog of 128, which mio and std ask for, holds such a storm up for seconds.
#[test]
fn a_storm_of_connects_while_the_loop_is_busy_is_accepted_without_a_stall() {
    let callers = 1_000;
    let _ = rlimit::increase_nofile_limit(4096);
    let mut server = Server::new().expect("a loop");
    let endpoint = server.add(Lines::default(), Echo, Limits::default()).expect("valid settings");
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    let began = Instant::now();
    // Nobody accepts yet, and each of them is connected all the same.
    let clients: Vec<TcpStream> = (0..callers)
        .map(|n| TcpStream::connect(addr).unwrap_or_else(|error| panic!("caller {n}: {error}")))
        .collect();
    while server.counters().open < clients.len() {
        let _ = server.turn(Some(Duration::from_secs(1))).expect("a turn");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}: a SYN was dropped and sent again");
}

#[test]
fn an_address_in_use_is_an_error_and_hurts_nobody() {
    let server = echo();
    let taken = Server::bind(server.addr, Lines::default()).map(drop);
    assert_eq!(taken.expect_err("it is taken").kind(), ErrorKind::AddrInUse);
    let mut client = server.connect();
    client.write_all(b"still\n").expect("room for a line");
    client.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(read_all(&client), b"still\n");
}

/// A path of this test alone, in a folder that goes with it.
struct Path {
    folder: PathBuf,
    socket: PathBuf,
}

impl Path {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("oneloop-{}-{test}", std::process::id()));
        fs::create_dir(&folder).expect("a folder of this process");
        Self { socket: folder.join("socket"), folder }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An echo server at a path; this thread turns it.
fn serve_at(path: &Path, limits: Limits) -> io::Result<Server> {
    let mut server = Server::new()?;
    let endpoint = server.add(Lines::default(), Echo, limits).map_err(io::Error::other)?;
    server.listen_unix(endpoint, &path.socket, Some(0o600))?;
    Ok(server)
}

fn turn_until(server: &mut Server, mut done: impl FnMut(&Server) -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done(server) {
        assert!(Instant::now() < end, "{:?}", server.counters());
        let _ = server.turn(Some(Duration::from_millis(10))).expect("a loop that goes on");
    }
}

#[test]
fn a_unix_socket_carries_messages_of_any_size_and_an_orderly_end() {
    let path = Path::new("messages");
    let mut server = serve_at(&path, Limits::default()).expect("it listens");
    let mode = fs::metadata(&path.socket).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = UnixStream::connect(&path.socket).expect("it listens");
    let line = [&[b'x'; 60_000][..], b"\n"].concat();
    let asked = line.repeat(100);
    let mut writer = client.try_clone().expect("a descriptor");
    let bytes = asked.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&bytes).expect("it reads");
        writer.shutdown(Shutdown::Write).expect("connected");
    });
    let reading = thread::spawn(move || {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("an orderly end");
        heard
    });
    turn_until(&mut server, |server| server.counters().closed_by(CloseReason::PeerEof) == 1);
    writing.join().expect("it did not fail");
    assert!(reading.join().expect("it did not fail") == asked, "bytes were changed");
}

#[test]
fn the_file_of_a_dead_server_is_replaced_and_of_a_living_one_is_not() {
    let path = Path::new("stale");
    // A listener that is dropped leaves its file, as a killed server does.
    drop(UnixListener::bind(&path.socket).expect("a free path"));
    assert!(path.socket.exists());
    let server = serve_at(&path, Limits::default()).expect("nobody answers there");
    let taken = serve_at(&path, Limits::default()).map(drop).expect_err("the first one does");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    assert!(taken.to_string().contains("a server answers"), "{taken}");
    drop(server);
    assert!(!path.socket.exists(), "who made it removes it");

    // A server that answers slowly, with its backlog full, is not dead.
    let busy = serve_at(&path, Limits::default().backlog(1)).expect("a free path");
    let callers: Vec<_> = (0..2).map(|_| UnixStream::connect(&path.socket)).collect();
    assert!(callers.iter().all(Result::is_ok), "{callers:?}");
    assert!(serve_at(&path, Limits::default()).is_err());
    assert!(path.socket.exists());
    drop(busy);

    fs::write(&path.socket, "precious").expect("a free path");
    let taken = serve_at(&path, Limits::default()).map(drop).expect_err("no socket");
    assert!(taken.to_string().contains("no socket"), "{taken}");
    assert_eq!(fs::read(&path.socket).expect("untouched"), b"precious");
}

#[test]
fn a_server_removes_its_own_file_and_no_other() {
    let path = Path::new("own");
    let first = serve_at(&path, Limits::default()).expect("a free path");
    fs::remove_file(&path.socket).expect("it is there");
    let second = serve_at(&path, Limits::default()).expect("a free path");
    drop(first);
    assert!(path.socket.exists(), "the second one's file");
    let mut server = second;
    server.shutdown();
    assert!(server.turn(Some(Duration::ZERO)).expect("a turn").finished);
    assert!(!path.socket.exists(), "gone as soon as nobody is taken any more");
}

#[test]
fn a_path_too_long_for_a_socket_is_an_error_with_both_numbers() {
    let mut path = Path::new("long");
    path.socket = path.folder.join("x".repeat(200));
    let error = serve_at(&path, Limits::default()).map(drop).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let len = path.socket.as_os_str().len().to_string();
    assert!(error.to_string().contains(&len) && error.to_string().contains("10"), "{error}");
}

#[test]
fn who_is_reset_hears_of_it_at_once_and_gets_nothing_that_was_queued() {
    let reset = |cx: &mut Context<'_>, message: &[u8]| {
        cx.reply(message)?;
        cx.reset();
        Ok(())
    };
    let server = start("127.0.0.1:0", Lines::default(), reset, Limits::default());
    let mut client = server.connect();
    client.write_all(b"hello\n").expect("it reads");
    let error = client.read(&mut [0; 16]).expect_err("no reply and no orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let counters = server.wait_for("one is closed", |counters| counters.open == 0);
    assert_eq!((counters.closed_by(CloseReason::AppClose), counters.lingering), (1, 0));
}
