//! What hostile crowds can have the library ask for, byte by byte as the allocator is asked,
//! against what [`Server::worst_case`] says before.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use oneloop::services::{Broadcast, Echo};
use oneloop::{AnyFraming, Context, Limits, Lines, Pair, Rate, Served, Server, Service};

/// Clients that send `bytes` again and again, and read nothing, until `over`.
fn shout(addr: SocketAddr, count: usize, bytes: Vec<u8>, over: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut clients = Vec::new();
        while !over.load(Ordering::Relaxed) {
            if clients.len() < count {
                let client = TcpStream::connect(addr).expect("the backlog has room");
                client.set_nonblocking(true).expect("a TCP socket");
                clients.push((client, 0));
            } else {
                thread::sleep(Duration::from_millis(2));
            }
            // Whoever is closed calls again.
            clients.retain_mut(|(client, sent)| match client.write(&bytes[*sent..]) {
                Ok(count) => {
                    *sent = (*sent + count) % bytes.len();
                    true
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
        }
    })
}

/// The most bytes that were asked for at once, beside the bound.
fn measured(
    spec: &str,
    service: impl Service + 'static,
    limits: Limits,
    crowds: &[(usize, Vec<u8>)],
) -> (usize, usize) {
    let framing: AnyFraming = spec.parse().expect("a valid SPEC");
    let framing = Pair { decode: framing.clone(), encode: framing };
    let mut server = Server::new().expect("a loop");
    let endpoint = server.add(framing, service, limits).expect("valid settings");
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    let bound = server.worst_case();
    let over = Arc::new(AtomicBool::new(false));
    let crowds: Vec<_> = crowds
        .iter()
        .map(|(count, bytes)| shout(addr, *count, bytes.clone(), over.clone()))
        .collect();
    let asked = allocation_counter::measure(|| {
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            let _ = server.turn(Some(Duration::from_millis(10))).expect("a turn");
        }
    });
    over.store(true, Ordering::Relaxed);
    crowds.into_iter().for_each(|crowd| crowd.join().expect("it only sends"));
    assert!(server.counters().traffic.messages_in > 0 || server.buffered_bytes() > 0);
    (asked.bytes_max as usize, bound)
}

/// Half messages of many sizes, and whole ones whose replies nobody reads.
fn hostile() -> [(usize, Vec<u8>); 3] {
    [
        (300, vec![b'x'; 60_000]),
        (200, [vec![b'y'; 999], vec![b'\n']].concat()),
        (200, [vec![b'z'; 50_000], vec![b'\n']].concat()),
    ]
}

#[test]
fn no_crowd_has_small_limits_ask_for_more_than_they_say() {
    let (asked, bound) = measured("lines", Echo, Limits::small(), &hostile());
    assert!(asked <= bound, "{asked} bytes of {bound}");
    assert!(asked > 6 << 20, "only {asked} bytes: the crowd did not fill the budget");
    assert!(bound < 15 << 20, "{bound} bytes do not fit into 32 MiB beside a program");
}

#[test]
fn nor_has_one_that_is_told_what_everyone_says() {
    let limits = Limits::small().max_connections(500);
    let (asked, bound) = measured("lines", Broadcast, limits, &hostile());
    assert!(asked <= bound, "{asked} bytes of {bound}");
    assert!(asked > 2 << 20, "only {asked} bytes: the crowd did not fill the budget");
}

#[test]
fn messages_of_which_few_fill_the_budget_are_in_the_bound() {
    let half = (60, [&(1_u32 << 20).to_be_bytes(), &vec![b'x'; 1_000_000][..]].concat());
    let whole = (60, [&900_000_u32.to_be_bytes(), &vec![b'y'; 900_000][..]].concat());
    let (asked, bound) = measured("u32be,max=1m", Echo, Limits::small(), &[half, whole]);
    assert!(asked <= bound, "{asked} bytes of {bound}");
    assert!(asked > 6 << 20, "only {asked} bytes: the crowd did not fill the budget");
}

#[test]
fn each_limit_that_takes_memory_raises_the_bound() {
    let bound = |limits| {
        let mut server = Server::new().expect("a loop");
        server.add(Lines::default(), Echo, limits).expect("valid settings");
        server.worst_case()
    };
    let small = bound(Limits::small());
    let rate = Some(Rate::per_second(10));
    for larger in [
        Limits::small().memory(Some(9 << 20)),
        Limits::small().max_connections(1500),
        Limits::small().output_high(32 << 10),
        Limits::small().output_max(1 << 20),
        Limits::small().max_per_ip(Some(5)),
        Limits::small().accepts_per_ip(rate),
        Limits::small().messages_per_second(rate),
        Limits::small().errors_per_second(rate),
        Limits::default(),
    ] {
        assert!(bound(larger.clone()) > small, "{larger:?}");
    }
    let endless = Limits::small().output_high(usize::MAX).memory(Some(usize::MAX));
    assert!(bound(endless) > small, "and it never overflows");
}

/// A slot that may be open, and one that may linger, for each.
#[test]
fn a_connection_adds_to_the_bound_what_its_documentation_tells() {
    let bound = |count| {
        let mut server = Server::new().expect("a loop");
        let limits = Limits::small().max_connections(count);
        server.add(Lines::default(), Echo, limits).expect("valid settings");
        server.worst_case()
    };
    let each = (bound(4000) - bound(2000)) / 4000;
    assert!((1300..1400).contains(&each), "{each} bytes, and not some 1,350");
}

/// Has a timer for each, that never comes.
struct Waits;

impl Service for Waits {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        cx.set_timer(Duration::from_secs(3600));
        Ok(())
    }

    fn message(&mut self, _: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        Ok(())
    }
}

/// Each has a timer, and rests as it was too fast; what waits of them is counted out.
#[test]
fn a_connection_takes_no_more_than_it_adds_to_the_bound_nor_much_less() {
    // Every list has grown just now, by doubling.
    const COUNT: usize = 2049;
    let rate = Some(Rate::per_second(1));
    let server = |count| {
        let limits = Limits::small().max_connections(count).messages_per_second(rate);
        let mut server = Server::new().expect("a loop");
        let endpoint = server.add(Lines::default(), Waits, limits).expect("valid settings");
        (server, endpoint)
    };
    let bound = |count| server(count).0.worst_case();
    // As many may linger as are open, and take a slot each.
    let each = (bound(2 * COUNT) - bound(COUNT)) / (2 * COUNT);
    let (mut server, endpoint) = server(COUNT);
    let addr = server.listen(endpoint, "127.0.0.1:0").expect("a free port");
    let _ = rlimit::increase_nofile_limit(3 * COUNT as u64);
    let over = Arc::new(AtomicBool::new(false));
    let clients = {
        let over = over.clone();
        thread::spawn(move || {
            let call = |_| {
                let mut client = TcpStream::connect(addr).expect("the backlog has room");
                client.write_all(b"a\nb\n").expect("a buffer of its own");
                client
            };
            let clients: Vec<TcpStream> = (0..COUNT).map(call).collect();
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(2));
            }
            drop(clients);
        })
    };
    let asked = allocation_counter::measure(|| {
        while server.counters().traffic.messages_in < COUNT as u64 {
            let _ = server.turn(Some(Duration::from_millis(10))).expect("a turn");
        }
    });
    assert_eq!(server.counters().open, COUNT);
    let taken = (asked.bytes_max as usize - server.buffered_bytes()) / COUNT;
    over.store(true, Ordering::Relaxed);
    clients.join().expect("it only waits");
    assert!((each / 4..=each).contains(&taken), "{taken} of {each} bytes");
}

#[test]
fn the_least_budget_of_host_and_endpoints_holds_in_any_order() {
    let mut server = Server::new().expect("a loop");
    assert_eq!(server.memory(), 256 << 20);
    server.memory_budget(16 << 20);
    server.add(Lines::default(), Echo, Limits::small()).expect("valid settings");
    assert_eq!(server.memory(), 8 << 20);
    server.add(Lines::default(), Echo, Limits::default()).expect("valid settings");
    server.memory_budget(4 << 20);
    assert_eq!(server.memory(), 4 << 20);
    server.memory_budget(32 << 20);
    assert_eq!(server.memory(), 8 << 20);
}
