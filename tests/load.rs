//! The load generator against servers that are well and servers that are not: what it
//! counts, and that no stall hides from it.
#![cfg(feature = "load")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use oneloop::load::report::{End, Reason};
use oneloop::load::{Check, EndBy, Message, Pace, Plan, STAMP_LEN, Shape, Slow, run};
use oneloop::services::{Broadcast, Echo, Sink};
use oneloop::{Dial, Handle, Limits, Lines, Server, Service};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A server of ours on a thread of its own.
struct Served {
    addr: SocketAddr,
    handle: Handle,
}

fn serve<S: Service + Send + 'static>(service: S) -> Served {
    let (told, hears) = mpsc::channel();
    thread::spawn(move || {
        let mut server = Server::new().expect("a loop");
        let limits = Limits::default();
        let endpoint = server.add(Lines::default(), service, limits).expect("valid settings");
        let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
        told.send((addr, server.handle())).expect("the test waits");
        server.drain_timeout(ms(100));
        server.run().expect("a loop that goes on");
    });
    let (addr, handle) = hears.recv().expect("it starts");
    Served { addr, handle }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.handle.shutdown();
    }
}

/// A server by hand: `serve` has each connection for itself.
fn by_hand(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a TCP socket");
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    addr
}

fn plan(addr: SocketAddr) -> Plan {
    Plan { duration: Some(ms(300)), ..Plan::new(addr) }
}

fn measure(plan: &Plan) -> End {
    let message = Message::stamped(&Lines::default(), &[b'x'; 64]).expect("a line");
    let end = run(plan, Lines::default(), message, &AtomicBool::new(false), &mut |_| {});
    end.expect("a loop is to be had")
}

#[test]
fn each_message_is_answered_once_in_order_and_counted_once() {
    let server = serve(Echo);
    for (depth, warmup) in [(1, 0), (16, 0), (3, 50)] {
        let plan = Plan {
            connections: 10,
            depth,
            duration: None,
            requests: Some(5000),
            warmup: ms(warmup),
            check: Check::Echo,
            ..plan(server.addr)
        };
        let end = measure(&plan);
        assert_eq!(end.reason, Reason::Requests, "depth {depth}");
        assert_eq!(end.errors.sum(), 0, "depth {depth}: {:?}", end.errors);
        assert!(end.received >= 5000, "depth {depth}: {}", end.received);
        let timed = end.latency_us.corrected.expect("replies came").count;
        if warmup == 0 {
            assert_eq!((end.sent, end.received, timed), (5000, 5000, 5000), "depth {depth}");
        }
        let by_intervals = end.intervals.iter().filter(|i| !i.warmup).map(|i| i.received);
        assert_eq!(by_intervals.sum::<u64>(), end.received, "depth {depth}");
        assert_eq!((end.connected, end.open, end.unsent), (10, 10, 0), "depth {depth}");
    }
}

/// Coordinated omission: of 1.2 s the server sleeps 0.6 s. Half of the messages are due
/// then, and wait 0.3 s on average.
#[test]
fn a_stall_shows_in_the_corrected_latencies_and_hides_in_the_others() {
    let began = Instant::now();
    let addr = by_hand(move |mut stream| {
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
            let now = began.elapsed();
            if (ms(300)..ms(900)).contains(&now) {
                thread::sleep(ms(900) - now);
            }
            if stream.write_all(line.as_bytes()).is_err() {
                break;
            }
            line.clear();
        }
    });
    let plan =
        Plan { connections: 4, pace: Pace::Total(1000.0), duration: Some(ms(1200)), ..plan(addr) };
    let end = measure(&plan);
    let corrected = end.latency_us.corrected.expect("replies came");
    let uncorrected = end.latency_us.uncorrected.expect("replies came");
    assert!((150e3..450e3).contains(&corrected.p75), "p75 of about 300 ms: {corrected:?}");
    assert!(uncorrected.p90 < 150e3, "it hides: {uncorrected:?}");
    assert!(uncorrected.max > 400e3, "but for one message a connection: {uncorrected:?}");
    assert!(end.received > 1000, "what was due is sent all the same: {}", end.received);
}

#[test]
fn a_rate_is_spread_evenly_over_time_and_over_connections() {
    let (came, times) = mpsc::channel();
    let came = std::sync::Mutex::new(came);
    let addr = by_hand(move |mut stream| {
        let came = came.lock().expect("no panic").clone();
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        while let Some(Ok(line)) = lines.next() {
            came.send((stream.peer_addr().expect("a TCP socket"), Instant::now())).expect("heard");
            stream.write_all(format!("{line}\n").as_bytes()).expect("it listens");
        }
    });
    let plan =
        Plan { connections: 100, pace: Pace::Total(50.0), duration: Some(ms(1990)), ..plan(addr) };
    let end = measure(&plan);
    assert_eq!(end.sent, 100, "50 a second for 2 s");
    let mut times: Vec<_> = times.try_iter().collect();
    times.sort_by_key(|&(_, time)| time);
    let peers: std::collections::HashSet<_> = times.iter().map(|&(peer, _)| peer).collect();
    assert_eq!(peers.len(), 100, "each connection has had its turn once");
    let mut gaps: Vec<_> = times.windows(2).map(|two| two[1].1 - two[0].1).collect();
    gaps.sort();
    // The machine may be busy with other things, so not all of them; but a tool that sends
    // in bursts has most gaps at nothing.
    let even = gaps.iter().filter(|gap| (ms(15)..ms(25)).contains(gap)).count();
    let none = gaps.iter().filter(|gap| **gap < ms(1)).count();
    assert!(even > 50 && none < 20, "{even} of {} gaps are about 20 ms: {gaps:?}", gaps.len());
}

#[test]
fn a_closed_loop_is_as_fast_as_its_server_answers() {
    let addr = by_hand(|mut stream| {
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        while let Some(Ok(line)) = lines.next() {
            thread::sleep(ms(20));
            if stream.write_all(format!("{line}\n").as_bytes()).is_err() {
                break;
            }
        }
    });
    let end = measure(&Plan { connections: 10, duration: Some(ms(1000)), ..plan(addr) });
    // 10 connections, 20 ms each: 500 a second, and a little less for sleeping too long.
    assert!((300.0..505.0).contains(&end.received_per_s), "{}", end.received_per_s);
    assert!(end.latency_us.corrected.is_some_and(|l| l.p50 >= 20e3), "{:?}", end.latency_us);
    assert_eq!(end.latency_us.corrected, end.latency_us.uncorrected, "the same in a closed loop");
}

#[test]
fn what_a_fanout_sends_is_heard_by_all_in_order() {
    let server = serve(Broadcast);
    for pace in [Pace::Closed, Pace::Total(500.0)] {
        let plan = Plan { connections: 11, shape: Shape::Fanout, pace, ..plan(server.addr) };
        let end = measure(&plan);
        assert_eq!(end.errors.sum(), 0, "{pace:?}: {:?}", end.errors);
        assert!(end.sent > 20, "{pace:?}: {}", end.sent);
        // All but the last few have come.
        let missing = end.sent * 10 - end.received;
        assert!(missing <= 40, "{pace:?}: {} of {} times 10", end.received, end.sent);
        assert!(end.latency_us.corrected.is_some(), "{pace:?}");
    }
}

#[test]
fn a_churn_opens_a_connection_for_each_message_and_ends_it() {
    let server = serve(Echo);
    for by in [EndBy::Fin, EndBy::Rst] {
        let plan = Plan {
            connections: 5,
            shape: Shape::Churn(by),
            duration: None,
            requests: Some(500),
            ..plan(server.addr)
        };
        let end = measure(&plan);
        assert_eq!((end.received, end.errors.sum()), (500, 0), "{by:?}: {:?}", end.errors);
        assert!(end.connected >= 500, "{by:?}: {}", end.connected);
        assert!(end.connect_us.is_some_and(|connect| connect.count >= 500), "{by:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error_of_each_connection_and_ends_the_run() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let end = measure(&Plan { connections: 20, ..plan(nobody) });
    assert_eq!((end.reason, end.errors.connect), (Reason::NoConnection, 20));
    assert_eq!((end.connected, end.received, end.latency_us.corrected), (0, 0, None));
    assert!(end.warnings.iter().any(|text| text.contains("refused")), "{:?}", end.warnings);
}

#[test]
fn a_server_that_hangs_up_talks_nonsense_or_says_nothing_is_counted_by_kind() {
    let hangs_up = by_hand(|mut stream| {
        // All of it is read, so that the end is an orderly one.
        let _ = BufReader::new(&mut stream).read_line(&mut String::new());
    });
    let end = measure(&Plan { connections: 3, ..plan(hangs_up) });
    assert_eq!((end.reason, end.errors.closed, end.errors.sum()), (Reason::NoConnection, 3, 3));

    let resets = by_hand(|stream| {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    });
    let end = measure(&Plan { connections: 3, ..plan(resets) });
    let errors = end.errors;
    assert_eq!(errors.reset + errors.connect, 3, "{errors:?}");

    let nonsense = by_hand(|mut stream| {
        let _ = stream.write_all(&vec![b'x'; 100_000]);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let end = measure(&Plan { connections: 3, ..plan(nonsense) });
    assert!(end.errors.frame >= 3, "{:?}", end.errors);
    assert_eq!(end.latency_us.corrected, None, "no error is a latency");

    let silent = serve(Sink);
    let end = measure(&Plan { connections: 3, ..plan(silent.addr) });
    assert_eq!((end.errors.sum(), end.received, end.unanswered), (0, 0, 3));
    assert!(end.warnings.iter().any(|text| text.contains("no reply")), "{:?}", end.warnings);
    let timeout = Plan { connections: 3, reply_timeout: Some(ms(50)), ..plan(silent.addr) };
    let end = measure(&timeout);
    assert_eq!((end.reason, end.errors.timeout), (Reason::NoConnection, 3));
}

#[test]
fn a_reply_that_was_not_sent_or_not_asked_for_is_noticed() {
    let wrong = by_hand(|mut stream| {
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        while let Some(Ok(line)) = lines.next() {
            let other = line.replace('x', "y");
            if stream.write_all(format!("{other}\n").as_bytes()).is_err() {
                break;
            }
        }
    });
    let checked = Plan { check: Check::Echo, ..plan(wrong) };
    let end = measure(&Plan { requests: Some(160), duration: None, ..checked });
    assert_eq!(end.errors.wrong, 10, "one of 16 is compared");

    let twice = by_hand(|mut stream| {
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        if let Some(Ok(line)) = lines.next() {
            let _ = stream.write_all(format!("{line}\n{line}\n").as_bytes());
        }
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let end = measure(&plan(twice));
    assert_eq!(end.errors.wrong + end.errors.unasked, 1, "{:?}", end.errors);
}

#[test]
fn idle_slow_and_dripping_connections_are_there_beside_the_others() {
    let server = serve(Echo);
    let plan = Plan {
        connections: 5,
        idle: 20,
        slow: Slow { connections: 2, bytes_per_s: 1000 },
        drip: 3,
        ..plan(server.addr)
    };
    let end = measure(&plan);
    assert_eq!((end.connected, end.open, end.errors.sum()), (25, 25, 0), "{:?}", end.errors);
    assert!(end.received > 0);
    let counters = server.handle.counters().expect("it runs").recv().expect("it answers");
    assert!(counters.accepted >= 30, "{counters:?}");
}

#[test]
fn a_message_without_room_for_its_stamp_is_refused() {
    assert!(Message::stamped(&Lines::default(), &[b'x'; STAMP_LEN - 1]).is_err());
    assert!(Message::new(&Lines::default(), &b"two\nlines"[..]).is_err());
}

#[test]
fn names_are_looked_up_before_and_several_addresses_are_tried() {
    let server = serve(Echo);
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let end = measure(&Plan { dial: Dial::new([nobody, server.addr]), ..plan(nobody) });
    assert!(end.received > 0 && end.errors.sum() == 0, "{:?}", end.errors);
}
