//! The memory budget, in virtual time: what waits at 90 %, who goes above 100 %, and that
//! whoever needs none of it notices nothing.

#[expect(dead_code, reason = "the other tests of the loop need the rest")]
mod support;

use std::time::Duration;

use oneloop::services::{Broadcast, Echo};
use oneloop::{CloseReason, Limits, Lines, Server, Service};
use support::{Call, Script, Step, ZERO, closed_by, pass, settle};

const BUDGET: usize = 64 << 10;
/// The begun line that takes a buffer of 4 KiB: sixteen fill the budget.
const PART: [u8; 4000] = [b'x'; 4000];
const EACH: usize = 4096;

/// A server with that many connections.
fn crowd(service: impl Service + 'static, peers: usize) -> (Server<Script>, Script, Vec<usize>) {
    limited_crowd(service, Limits::default(), peers)
}

fn limited_crowd(
    service: impl Service + 'static,
    limits: Limits,
    peers: usize,
) -> (Server<Script>, Script, Vec<usize>) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), service, limits).expect("valid");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    server.memory_budget(BUDGET);
    let sockets = (0..peers).map(|_| script.call()).collect();
    settle(&mut server);
    settle(&mut server);
    assert_eq!(server.counters().open, peers);
    (server, script, sockets)
}

fn begin(server: &mut Server<Script>, script: &Script, sockets: &[usize]) {
    for &socket in sockets {
        script.peer_sends(socket, PART);
        settle(server);
    }
}

#[test]
fn at_the_limit_nobody_closes_and_one_byte_beyond_the_largest_do_until_a_tenth_is_free() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    begin(&mut server, &script, &sockets[..16]);
    assert_eq!(server.buffered_bytes(), BUDGET);
    assert_eq!(server.counters().open, 20, "all of it may be used");
    script.peer_sends(sockets[16], "the last straw");
    settle(&mut server);
    assert_eq!(closed_by(&server, CloseReason::Memory), 2);
    assert_eq!(server.buffered_bytes(), 14 * EACH + 64);
    assert!(!script.is_closed(sockets[16]), "it holds the least");
    script.peer_sends(sockets[16], "\n");
    settle(&mut server);
    assert_eq!(script.sent(sockets[16]), b"the last straw\n");
}

/// Nine tenths to the byte are tight: nobody would be let in.
#[test]
fn who_is_closed_for_memory_leaves_room_for_a_newcomer() {
    const LARGE: usize = 64 << 10;
    let (mut server, script, sockets) = crowd(Echo, 11);
    server.memory_budget(10 * LARGE);
    for &socket in &sockets {
        script.peer_sends(socket, [b'x'; 40_000]);
        settle(&mut server);
    }
    assert_eq!(closed_by(&server, CloseReason::Memory), 3);
    assert_eq!(server.buffered_bytes(), 8 * LARGE);
    let newcomer = script.call();
    settle(&mut server);
    script.peer_sends(newcomer, "hi\n");
    settle(&mut server);
    assert_eq!(script.sent(newcomer), b"hi\n");
}

#[test]
fn above_nine_tenths_whole_messages_are_served_and_newcomers_wait_without_a_spin() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    begin(&mut server, &script, &sockets[..15]);
    assert!(server.buffered_bytes() > BUDGET / 10 * 9);
    let newcomer = script.call();
    settle(&mut server);
    script.take_calls();
    for round in 0..100 {
        script.peer_sends(sockets[19], "small\n");
        settle(&mut server);
        assert_eq!(script.sent(sockets[19]), b"small\n", "round {round}");
        assert!(server.deadline() > Some(ZERO), "nothing is to be done but to wait");
    }
    assert_eq!(script.count(|call| matches!(call, Call::Accept)), 0);
    // One line ends: it was answered, and there is room for the newcomer.
    script.peer_sends(sockets[0], "\n");
    settle(&mut server);
    assert_eq!(script.sent(sockets[0]).len(), PART.len() + 1);
    settle(&mut server);
    assert_eq!(server.counters().open, 21);
    script.peer_sends(newcomer, "hello\n");
    settle(&mut server);
    assert_eq!(script.sent(newcomer), b"hello\n");
}

#[test]
fn a_begun_message_gets_what_fits_into_its_buffer_and_the_rest_when_there_is_memory() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    script.peer_sends(sockets[19], "begun");
    settle(&mut server);
    begin(&mut server, &script, &sockets[..15]);
    let held = server.buffered_bytes();
    // 59 bytes fit: this line ends within them, though its buffer is full then.
    script.peer_sends(sockets[18], "also begun");
    settle(&mut server);
    script.peer_sends(sockets[18], [&[b'y'; 53][..], b"\n"].concat());
    settle(&mut server);
    assert_eq!(script.sent(sockets[18]).len(), 64);
    assert_eq!(server.buffered_bytes(), held);
    script.peer_sends(sockets[19], [&[b'z'; 500][..], b"\n"].concat());
    settle(&mut server);
    assert_eq!(server.buffered_bytes(), held, "it does not grow");
    assert!(server.deadline() > Some(ZERO));
    script.peer_sends(sockets[0], "\n");
    settle(&mut server);
    let line = script.sent(sockets[19]);
    assert!(line.starts_with(b"begunzz") && line.len() == 506, "no edge told of it: {line:?}");
}

/// What it has sent lies before its end, so it is read though that takes memory.
#[test]
fn who_has_finished_is_served_and_gone_whatever_memory_there_is() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    script.peer_sends(sockets[19], "begun");
    settle(&mut server);
    begin(&mut server, &script, &sockets[..15]);
    script.peer_does(sockets[19], [Step::Data([&[b'z'; 500][..], b"\n"].concat()), Step::Fin]);
    settle(&mut server);
    assert_eq!(script.sent(sockets[19]).len(), 506);
    assert_eq!(closed_by(&server, CloseReason::PeerEof), 1);
}

#[test]
fn a_budget_full_of_half_messages_is_free_when_their_time_is_up() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    begin(&mut server, &script, &sockets[..15]);
    pass(&mut server, &script, Duration::from_secs(29));
    assert_eq!(server.counters().open, 20, "nobody waits for what they hold");
    pass(&mut server, &script, Duration::from_secs(5));
    assert_eq!(closed_by(&server, CloseReason::FrameDeadline), 15);
    assert_eq!((server.counters().open, server.buffered_bytes()), (5, 0));
}

/// Each would have to grow to end its message, so none ever frees anything.
#[test]
fn newcomers_wait_for_half_messages_a_second_or_two_and_then_the_largest_goes() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    begin(&mut server, &script, &sockets[..15]);
    for newcomers in 1..=10 {
        let (closed, newcomer) = (closed_by(&server, CloseReason::Memory), script.call());
        pass(&mut server, &script, Duration::from_millis(900));
        script.peer_sends(newcomer, "hello\n");
        pass(&mut server, &script, Duration::from_millis(1200));
        assert_eq!(script.sent(newcomer), b"hello\n", "newcomer {newcomers}");
        let closed = closed_by(&server, CloseReason::Memory) - closed;
        assert_eq!(closed, 1, "no more than it takes");
        // Its place is taken by the next half message at once.
        begin(&mut server, &script, &[newcomer]);
    }
}

/// Found by the simulation: it has spoken, and it is we who do not read.
#[test]
fn who_waits_to_grow_is_not_silent() {
    let limits = Limits::default().idle_timeout(Some(Duration::from_secs(1)));
    let (mut server, script, sockets) = limited_crowd(Echo, limits, 20);
    // A buffer that is full: not a byte more of it can be read.
    script.peer_sends(sockets[19], [b'z'; 64]);
    pass(&mut server, &script, Duration::from_millis(800));
    begin(&mut server, &script, &sockets[..15]);
    script.peer_sends(sockets[19], [&[b'z'; 500][..], b"\n"].concat());
    pass(&mut server, &script, Duration::from_secs(1));
    assert!(!script.is_closed(sockets[19]), "{:?}", server.counters());
    pass(&mut server, &script, Duration::from_secs(1));
    assert_eq!(script.sent(sockets[19]).len(), 565, "{:?}", server.counters());
}

/// Those who want to grow have sent more than there is memory for.
#[test]
fn a_long_queue_of_newcomers_is_let_in_before_those_who_wait_to_grow_take_all_again() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    begin(&mut server, &script, &sockets[..15]);
    for &socket in &sockets[..15] {
        script.peer_sends(socket, [b'x'; 30_000]);
    }
    script.calls(0..1000);
    pass(&mut server, &script, Duration::from_millis(2100));
    assert_eq!(server.counters().accepted, 1020);
    pass(&mut server, &script, Duration::from_secs(1));
    let held = server.buffered_bytes();
    assert!(held > BUDGET / 10 * 9, "and those who wait go on: {held}");
}

#[test]
fn a_message_that_waits_to_grow_gets_the_memory_of_the_largest_after_a_second_or_two() {
    let (mut server, script, sockets) = crowd(Echo, 20);
    script.peer_sends(sockets[19], "begun");
    settle(&mut server);
    begin(&mut server, &script, &sockets[..15]);
    script.peer_sends(sockets[19], [&[b'z'; 500][..], b"\n"].concat());
    pass(&mut server, &script, Duration::from_millis(2100));
    assert_eq!(script.sent(sockets[19]).len(), 506);
    assert_eq!(closed_by(&server, CloseReason::Memory), 1);
}

#[test]
fn peers_that_read_nothing_of_a_broadcast_stay_within_the_budget_and_readers_hear_all() {
    let (mut server, script, sockets) = crowd(Broadcast, 40);
    let (speaker, reader, deaf) = (sockets[0], sockets[1], &sockets[2..]);
    deaf.iter().for_each(|&socket| script.set_room(socket, 0));
    let mut heard = 0;
    for round in 0..50 {
        script.peer_sends(speaker, [&[b'n'; 999][..], b"\n"].concat());
        settle(&mut server);
        heard += script.sent(reader).len();
        assert_eq!(heard, (round + 1) * 1000);
        let held = server.buffered_bytes();
        assert!(held <= BUDGET, "{held} in round {round}");
    }
    assert!(closed_by(&server, CloseReason::Memory) > 0);
    assert!(!script.is_closed(reader) && !script.is_closed(speaker));
}

/// Found by the simulation: what waits for a call to be answered was counted, but nobody
/// who held it could be closed, so others were.
#[test]
fn what_waits_for_a_call_to_be_answered_goes_first_if_it_is_the_largest() {
    let (mut server, script, sockets) = crowd(Echo, 4);
    begin(&mut server, &script, &sockets);
    let caller = server.add(Lines::default(), Echo, Limits::default()).expect("valid");
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let id = server.connect(caller, addr);
    for _ in 0..2 {
        server.send(id, &[b'x'; 50_000]).expect("there is room");
    }
    settle(&mut server);
    let counters = server.counters();
    assert_eq!((counters.open, counters.dialing), (4, 0), "{counters:?}");
    assert_eq!(closed_by(&server, CloseReason::Memory), 1);
    assert_eq!(server.buffered_bytes(), 4 * EACH);
}
