//! Memory, addresses, rates and eviction on real sockets, by the flags of the program; and a
//! service that panics on a real loop.
#![cfg(feature = "cli")]

#[expect(dead_code, reason = "other tests of the program need the rest")]
#[path = "support/serving.rs"]
mod serving;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use oneloop::{CloseReason, Context, Limits, Lines, Server};
use serving::{PATIENCE, Serving, send};
use socket2::{Domain, Socket, Type};

/// A connection from that address of the loopback.
fn connect_from(source: &str, addr: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    let addr: SocketAddr = addr.parse().expect("an address");
    socket.bind(&source.into()).expect("all of 127/8 is ours");
    socket.connect(&addr.into()).expect("it listens");
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).expect("not zero");
    client
}

fn is_served(mut client: &TcpStream) -> bool {
    let mut reply = [0; 6];
    let asked = client.write_all(b"hello\n").and_then(|()| client.read_exact(&mut reply));
    match asked {
        Ok(()) => true,
        Err(error) => {
            let ended =
                [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(ended.contains(&error.kind()), "{error}");
            false
        }
    }
}

#[test]
fn half_messages_stay_within_the_budget_and_whole_ones_are_answered_all_the_time() {
    let mut server = Serving::start(&["-l", "127.0.0.1:0", "--memory", "1m"]);
    let control = server.connect();
    let greedy: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    assert!(is_served(&control));
    let mut slowest = Duration::ZERO;
    for mut client in &greedy {
        // 40 of them are 2.5 MiB of buffers.
        client.write_all(&[b'x'; 60_000]).expect("the kernel takes it");
        let asked = Instant::now();
        assert!(is_served(&control));
        slowest = slowest.max(asked.elapsed());
    }
    assert!(server.hear("[CLOSED]").ends_with(": memory"));
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    drop(greedy);
    assert_eq!(server.ask(b"a newcomer\n"), b"a newcomer\n");
}

#[test]
fn one_address_has_its_number_of_connections_and_the_exempt_have_more() {
    let server =
        Serving::start(&["-l=127.0.0.1:0", "--max-per-ip=2", "--exempt=127.0.0.9,10.0.0.0/8"]);
    for (source, most) in [("127.0.0.2", 2), ("127.0.0.3", 2), ("127.0.0.9", 5)] {
        let clients: Vec<_> = (0..5).map(|_| connect_from(source, &server.addr)).collect();
        let served = clients.iter().filter(|client| is_served(client)).count();
        assert_eq!(served, most, "{source}");
    }
}

#[test]
fn an_address_that_connects_too_often_is_hung_up_on() {
    let server = Serving::start(&["-l=127.0.0.1:0", "--accepts-per-ip=1/3"]);
    let clients: Vec<_> = (0..10).map(|_| connect_from("127.0.0.2", &server.addr)).collect();
    let served = clients.iter().filter(|client| is_served(client)).count();
    assert!((3..=5).contains(&served), "{served}");
    assert!(is_served(&connect_from("127.0.0.3", &server.addr)));
}

#[test]
fn messages_above_the_rate_take_their_time_and_none_is_lost() {
    let server = Serving::start(&["-l=127.0.0.1:0", "--messages-per-second=20/5"]);
    let asked = Instant::now();
    let all = b"hello\n".repeat(25);
    assert_eq!(server.ask(&all), all);
    let took = asked.elapsed();
    assert!((Duration::from_millis(950)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

#[test]
fn at_the_cap_the_longest_silent_goes_for_a_newcomer() {
    let mut server =
        Serving::start(&["-l=127.0.0.1:0", "--max-connections=2", "--when-full=evict"]);
    let (silent, busy) = (server.connect(), server.connect());
    assert!(is_served(&silent) && is_served(&busy));
    thread::sleep(Duration::from_millis(600));
    assert!(is_served(&busy));
    // It has to wait until one of them has been silent for a second.
    assert_eq!(send(&[&server.addr, "hello"], b"").0, "hello\n");
    let peer = silent.local_addr().expect("connected");
    assert!(server.hear("evicted").contains(&peer.to_string()));
    assert!(!is_served(&silent));
}

#[test]
fn two_hundred_panics_cost_their_neighbour_nothing() {
    let mut server = Server::new().expect("a loop");
    let service = |cx: &mut Context<'_>, message: &[u8]| {
        assert!(message != b"panic", "as it was told to");
        cx.reply(message)
    };
    let endpoint = server.add(Lines::default(), service, Limits::default()).expect("valid");
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port").to_string();
    let handle = server.handle();
    let clients = thread::spawn(move || {
        let neighbour = connect_from("127.0.0.1", &addr);
        for _ in 0..200 {
            let mut client = connect_from("127.0.0.1", &addr);
            client.write_all(b"fine\npanic\nnever read\n").expect("it reads");
            let mut rest = Vec::new();
            // Its bytes were not all read, so the end may be a reset.
            let _ = client.read_to_end(&mut rest);
            assert_eq!(rest, b"", "replies of that turn are dropped");
            assert!(is_served(&neighbour));
        }
        handle.shutdown().expect("it runs");
    });
    while !server.turn(None).expect("a loop that goes on").finished {}
    clients.join().expect("all was as it should be");
    assert_eq!(server.counters().closed_by(CloseReason::HandlerPanic), 200);
    assert_eq!(server.buffered_bytes(), 0);
}
