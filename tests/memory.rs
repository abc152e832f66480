//! What a connection costs in memory, and what a message does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use oneloop::services::{Broadcast, Echo};
use oneloop::{AnyFraming, Limits, Pair, Server, Service};

/// A server that the test turns itself, and clients connected to it.
fn connected(
    spec: &str,
    service: impl Service + 'static,
    clients: usize,
) -> (Server, Vec<TcpStream>) {
    let framing: AnyFraming = spec.parse().expect("a valid SPEC");
    let framing = Pair { decode: framing.clone(), encode: framing };
    let mut server = Server::new().expect("a loop");
    let endpoint = server.add(framing, service, Limits::default()).expect("valid settings");
    let addr: SocketAddr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    let clients: Vec<TcpStream> = (0..clients)
        .map(|_| {
            let client = TcpStream::connect(addr).expect("the backlog has room");
            client.set_nodelay(true).expect("a TCP socket");
            client.set_read_timeout(Some(Duration::from_secs(5))).expect("not zero");
            client
        })
        .collect();
    while server.counters().open < clients.len() {
        let _ = server.turn(Some(Duration::from_secs(5))).expect("a turn");
    }
    (server, clients)
}

/// Turns until `messages` have come in since the start and nothing is left to do.
fn turn_until(server: &mut Server, messages: u64) {
    while server.counters().traffic.messages_in < messages
        || server.deadline() == Some(Duration::ZERO)
    {
        let _ = server.turn(Some(Duration::from_secs(5))).expect("a turn");
    }
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let (mut server, mut clients) = connected("lines", Echo, 100);
    assert_eq!(server.buffered_bytes(), 0);
    let mut reply = [0; 6];
    for client in &mut clients {
        client.write_all(b"hello\n").expect("room for a line");
    }
    turn_until(&mut server, 100);
    for client in &mut clients {
        client.read_exact(&mut reply).expect("an echo");
    }
    assert_eq!(server.buffered_bytes(), 0, "after a message, too");
    clients[0].write_all(b"hal").expect("room for half a line");
    let _ = server.turn(Some(Duration::from_secs(5))).expect("a turn");
    assert_eq!(server.buffered_bytes(), 64, "the smallest buffer, for half a message");
}

#[test]
fn a_message_costs_no_allocation_in_steady_state() {
    for spec in ["lines", "lines:crlf", "u8", "u16be", "u24le", "u32be", "u64le", "raw"] {
        for depth in [1, 16] {
            let (mut server, mut clients) = connected(spec, Echo, 8);
            let framing: AnyFraming = spec.parse().expect("a valid SPEC");
            let mut wire = Vec::new();
            for _ in 0..depth {
                oneloop::Encode::encode(&framing, &[b'x'; 63], &mut wire).expect("a short message");
            }
            let mut reply = vec![0; wire.len()];
            let per_round = if spec == "raw" { 8 } else { 8 * depth };
            let mut messages = 0;
            let mut round = |server: &mut Server| {
                for client in &mut clients {
                    client.write_all(&wire).expect("room for a few messages");
                }
                messages += per_round;
                let info = allocation_counter::measure(|| turn_until(server, messages));
                for client in &mut clients {
                    client.read_exact(&mut reply).expect("an echo");
                    assert_eq!(reply, wire, "{spec}");
                }
                info.count_total
            };
            let first: u64 = (0..3).map(|_| round(&mut server)).sum();
            assert!(first > 0, "counting works: the first replies need a buffer");
            let steady: u64 = (0..50).map(|_| round(&mut server)).sum();
            assert_eq!(steady, 0, "{spec} at depth {depth}");
        }
    }
}

#[cfg(feature = "http")]
#[test]
fn a_request_and_its_response_cost_no_allocation_in_steady_state() {
    let (mut server, mut clients) = connected("http", Echo, 4);
    let request =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let wire = request.repeat(5);
    let mut messages = 0;
    let mut round = |server: &mut Server| {
        for client in &mut clients {
            client.write_all(&wire).expect("room for a few messages");
        }
        messages += 5 * clients.len() as u64;
        let info = allocation_counter::measure(|| turn_until(server, messages));
        for client in &mut clients {
            let mut reply = vec![0; 16 << 10];
            let count = client.read(&mut reply).expect("responses");
            let responses =
                reply[..count].windows(9).filter(|bytes| *bytes == b"HTTP/1.1 ").count();
            assert_eq!(responses, 5, "{}", reply[..count].escape_ascii());
        }
        info.count_total
    };
    let first: u64 = (0..3).map(|_| round(&mut server)).sum();
    assert!(first > 0, "counting works: the first replies need a buffer");
    // A second may pass, and each second the date is written anew.
    let steady = (0..50).map(|_| round(&mut server)).filter(|&count| count > 0).count();
    assert!(steady <= 5, "{steady} of 50 rounds");
}

#[test]
fn a_split_message_costs_no_allocation_in_steady_state() {
    let (mut server, mut clients) = connected("u32be", Echo, 1);
    let client = &mut clients[0];
    let mut round = |messages| {
        let mut count = 0;
        for piece in [&b"\0\0\0\x05he"[..], b"llo"] {
            client.write_all(piece).expect("room for a message");
            let last = piece.len() == 3;
            count += allocation_counter::measure(|| {
                let _ = server.turn(Some(Duration::from_secs(5))).expect("a turn");
                if last {
                    turn_until(&mut server, messages);
                }
            })
            .count_total;
        }
        let mut reply = [0; 9];
        client.read_exact(&mut reply).expect("an echo");
        count
    };
    (1..4).for_each(|n| _ = round(n));
    assert_eq!((4..50).map(&mut round).sum::<u64>(), 0);
}

#[test]
fn a_read_full_of_messages_for_many_takes_bounded_memory() {
    /// Sends each message to 200 connections one by one.
    struct Multiply(Vec<oneloop::ConnId>);
    impl Service for Multiply {
        type Session = ();
        fn opened(
            &mut self,
            cx: &mut oneloop::Context<'_>,
            (): &mut (),
        ) -> Result<(), oneloop::EncodeError> {
            self.0.push(cx.id());
            Ok(())
        }
        fn message(
            &mut self,
            cx: &mut oneloop::Context<'_>,
            (): &mut (),
            message: &[u8],
        ) -> Result<(), oneloop::EncodeError> {
            cx.send_all(self.0.iter().copied().cycle().take(200), message)
        }
    }
    let (mut server, mut clients) = connected("lines", Multiply(Vec::new()), 2);
    clients[0].write_all(&b"\n".repeat(20_000)).expect("room for short lines");
    let mut listener = clients[1].try_clone().expect("a descriptor");
    let reader = std::thread::spawn(move || {
        std::io::copy(&mut Read::by_ref(&mut listener).take(2_000_000), &mut std::io::sink())
    });
    let speaker = clients.remove(0);
    let mut echo = speaker.try_clone().expect("a descriptor");
    let drain = std::thread::spawn(move || {
        std::io::copy(&mut Read::by_ref(&mut echo).take(2_000_000), &mut std::io::sink())
    });
    let info = allocation_counter::measure(|| turn_until(&mut server, 20_000));
    assert!(info.bytes_max < 4 << 20, "{} bytes at once", info.bytes_max);
    assert_eq!(server.counters().open, 2, "{:?}", server.counters());
    assert_eq!(reader.join().expect("it only reads").expect("connected"), 2_000_000);
    assert_eq!(drain.join().expect("it only reads").expect("connected"), 2_000_000);
}

#[test]
fn a_broadcast_costs_no_allocation_in_steady_state() {
    let (mut server, mut clients) = connected("lines", Broadcast, 50);
    let mut round = |messages| {
        clients[0].write_all(b"news\n").expect("room for a line");
        let info = allocation_counter::measure(|| turn_until(&mut server, messages));
        let mut heard = [0; 5];
        for client in &mut clients[1..] {
            client.read_exact(&mut heard).expect("the news");
        }
        info.count_total
    };
    (1..4).for_each(|n| _ = round(n));
    assert_eq!((4..30).map(&mut round).sum::<u64>(), 0);
}
