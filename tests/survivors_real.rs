//! The loop on the real kernel, turned by hand: that it sleeps when there is nothing to do,
//! which no reply tells. Bugs were planted that only cost turns.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use oneloop::net::Mio;
use oneloop::services::Sink;
use oneloop::{EndpointId, Limits, Lines, Server};

/// What others do on this machine does not wake the loop; its own sweep does, ten times a
/// second at most.
const FEW: usize = 10;
const WHILE: Duration = Duration::from_millis(300);

fn server() -> (Server<Mio>, EndpointId) {
    let mut server = Server::new().expect("a loop");
    let endpoint = server.add(Lines::default(), Sink, Limits::default()).expect("valid settings");
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
    let (mut server, endpoint) = server();
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
    let (mut server, endpoint) = server();
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
