//! The loop on the real kernel, turned by hand: what other tests on real sockets would let
//! pass, as planted bugs have shown. Above all, that it sleeps when there is nothing to do:
//! a bug that only costs turns is told by no reply.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use oneloop::net::Mio;
use oneloop::services::Sink;
use oneloop::{CloseReason, EndpointId, Limits, Lines, Server, WhenFull};

/// What others do on this machine does not wake the loop; its own sweep does, ten times a
/// second at most.
const FEW: usize = 10;
const WHILE: Duration = Duration::from_millis(300);

fn server(limits: Limits) -> (Server<Mio>, EndpointId) {
    let mut server = Server::new().expect("a loop");
    let endpoint = server.add(Lines::default(), Sink, limits).expect("valid settings");
    (server, endpoint)
}

/// How many turns it takes in that time, if it sleeps as long as it wants to.
fn turns(server: &mut Server<Mio>, time: Duration) -> usize {
    let until = Instant::now() + time;
    let mut count = 0;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let _ = server.turn(Some(left)).expect("the kernel can wait");
        count += 1;
    }
    count
}

/// A read from a Unix socket says that it was the last only by finding nothing.
#[test]
fn a_read_that_finds_nothing_is_not_tried_again() {
    let path = std::env::temp_dir().join(format!("oneloop-asleep-{}", std::process::id()));
    let (mut server, endpoint) = server(Limits::default());
    server.listen_unix(endpoint, &path, None).expect("a free path");
    let mut client = UnixStream::connect(&path).expect("the server listens");
    client.write_all(b"hello\n").expect("room for a line");
    turns(&mut server, WHILE);
    assert_eq!(server.counters().traffic.messages_in, 1);
    let count = turns(&mut server, WHILE);
    assert!(count <= FEW, "{count} turns for nothing");
}

#[test]
fn who_waits_for_memory_waits_asleep() {
    let (mut server, endpoint) = server(Limits::default());
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    server.memory_budget(64 << 10);
    let mut client = TcpStream::connect(addr).expect("the server listens");
    // Half of a line takes a buffer of 64 KiB, which is all there is; and more follows
    // than fits behind it.
    for _ in 0..3 {
        client.write_all(&[b'x'; 21_000]).expect("room in the kernel");
        turns(&mut server, Duration::from_millis(20));
    }
    client.write_all(&[b'x'; 5000]).expect("room in the kernel");
    turns(&mut server, Duration::from_millis(20));
    assert_eq!((server.counters().open, server.buffered_bytes()), (1, 64 << 10));
    let count = turns(&mut server, WHILE);
    assert!(count <= FEW, "{count} turns for nothing");
}

#[test]
fn who_leaves_makes_room_for_the_next_of_its_address() {
    let (mut server, endpoint) = server(Limits::default().max_per_ip(Some(1)));
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    for came in 1..=3 {
        let client = TcpStream::connect(addr).expect("the server listens");
        turns(&mut server, Duration::from_millis(20));
        assert_eq!((server.counters().open, server.counters().accepted), (1, came));
        drop(client);
        turns(&mut server, Duration::from_millis(20));
        assert_eq!(server.counters().open, 0);
    }
}

#[test]
fn a_message_that_never_ends_does_not_keep_the_server_from_stopping() {
    let (mut server, endpoint) = server(Limits::default());
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    let mut client = TcpStream::connect(addr).expect("the server listens");
    client.write_all(b"half a mess").expect("room for half a line");
    turns(&mut server, Duration::from_millis(20));
    server.drain_timeout(WHILE);
    server.shutdown();
    turns(&mut server, WHILE / 2);
    assert_eq!(server.counters().open, 1, "it may still come");
    turns(&mut server, WHILE);
    assert_eq!((server.counters().open, server.counters().lingering), (0, 0));
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "it is told");
}

#[test]
fn of_two_silent_ones_the_longer_silent_makes_room() {
    let limits = Limits::default().max_connections(2).when_full(WhenFull::Evict);
    let (mut server, endpoint) = server(limits);
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(TcpStream::connect(addr).expect("the server listens"));
        turns(&mut server, Duration::from_millis(1200));
    }
    clients.push(TcpStream::connect(addr).expect("the server listens"));
    turns(&mut server, WHILE);
    assert_eq!(server.counters().closed_by(CloseReason::Evicted), 1);
    let gone = clients.iter_mut().map(|client| {
        client.set_read_timeout(Some(Duration::from_millis(1))).expect("not zero");
        client.read(&mut [0]).is_ok()
    });
    assert_eq!(gone.collect::<Vec<_>>(), [true, false, false]);
}
