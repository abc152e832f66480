//! What one address may have and how fast one connection may go, in virtual time; and who
//! makes room when all connections are in use.

#[expect(dead_code, reason = "the other tests of the loop need the rest")]
mod support;

use std::time::Duration;

use oneloop::services::{Echo, OneLine};
use oneloop::{CloseReason, Limits, Lines, Rate, Server, WhenFull};
use support::{Call, Script, Step, ZERO, closed_by, pass, settle};

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn serve(limits: Limits) -> (Server<Script>, Script) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default().max(20), Echo, limits).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    (server, script)
}

fn call_from(server: &mut Server<Script>, script: &Script, addr: &str) -> usize {
    let socket = script.call_from(addr);
    settle(server);
    socket
}

#[test]
fn an_address_has_exactly_its_number_of_connections_and_others_are_served() {
    let (mut server, script) = serve(Limits::default().max_per_ip(Some(3)));
    let greedy: Vec<usize> =
        (0..10).map(|_| call_from(&mut server, &script, "127.0.0.2")).collect();
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::PerIp)), (3, 7));
    assert!(greedy[3..].iter().all(|&socket| script.is_closed(socket)));
    let other = call_from(&mut server, &script, "127.0.0.3");
    script.peer_sends(other, "hello\n");
    settle(&mut server);
    assert_eq!(script.sent(other), b"hello\n");
    // For each that leaves one can come.
    script.peer_does(greedy[0], [Step::Fin]);
    settle(&mut server);
    let (next, one_more) = (
        call_from(&mut server, &script, "127.0.0.2"),
        call_from(&mut server, &script, "127.0.0.2"),
    );
    assert_eq!((script.is_closed(next), script.is_closed(one_more)), (false, true));
}

#[test]
fn who_is_exempt_counts_for_nothing() {
    let rate = Some(Rate::per_second(1));
    let exempt = vec!["127.0.0.0/8".parse().expect("a prefix")];
    let limits = Limits::default().max_per_ip(Some(1)).accepts_per_ip(rate).exempt(exempt);
    let (mut server, script) = serve(limits);
    for _ in 0..10 {
        call_from(&mut server, &script, "127.0.0.2");
        call_from(&mut server, &script, "10.0.0.1");
    }
    assert_eq!(server.counters().open, 11);
}

#[test]
fn an_address_that_connects_too_often_is_hung_up_on_until_it_slows_down() {
    let rate = Rate::per_second(10).burst(5);
    let (mut server, script) = serve(Limits::default().accepts_per_ip(Some(rate)));
    for _ in 0..8 {
        call_from(&mut server, &script, "10.0.0.1");
    }
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Rate)), (5, 3));
    let other = call_from(&mut server, &script, "10.0.0.2");
    assert!(!script.is_closed(other));
    for _ in 0..20 {
        pass(&mut server, &script, millis(100));
        let socket = call_from(&mut server, &script, "10.0.0.1");
        assert!(!script.is_closed(socket), "ten a second are allowed");
    }
    pass(&mut server, &script, millis(99));
    let early = call_from(&mut server, &script, "10.0.0.1");
    assert!(script.is_closed(early));
}

#[test]
fn messages_above_the_rate_wait_and_all_are_answered_in_order_at_the_rate() {
    let rate = Rate::per_second(10).burst(3);
    let (mut server, script) = serve(Limits::default().messages_per_second(Some(rate)));
    let (fast, slow) = (script.call(), script.call());
    settle(&mut server);
    let stream: String = (0..40).map(|n| format!("message {n}\n")).collect();
    script.peer_sends(fast, &stream);
    settle(&mut server);
    let lines = |script: &Script| {
        let sent = script.world().sockets[fast].outbound.clone();
        sent.iter().filter(|&&byte| byte == b'\n').count()
    };
    assert_eq!(lines(&script), 3, "the burst");
    assert!(server.deadline() > Some(ZERO), "it rests, and so does the loop");
    for second in 1..=3 {
        // The kernel goes on telling that there is more, and that there is room.
        script.peer_sends(fast, "");
        pass(&mut server, &script, millis(1000));
        assert_eq!(lines(&script), 3 + 10 * second);
        script.peer_sends(slow, "hello\n");
        settle(&mut server);
        assert_eq!(script.sent(slow), b"hello\n");
    }
    pass(&mut server, &script, millis(1000));
    assert_eq!(script.sent(fast), stream.as_bytes());
    assert_eq!((server.counters().open, server.buffered_bytes()), (2, 0));
}

#[test]
fn a_message_that_is_skipped_in_pieces_counts_once() {
    let limits = Limits::default().messages_per_second(Some(Rate::per_second(1).burst(4)));
    let (mut server, script) = serve(limits);
    let socket = call_from(&mut server, &script, "127.0.0.1");
    for piece in
        ["a line that is much too ", "long, and longer, ", "and its end\n1\n", "2\n3\n", "4\n"]
    {
        script.peer_sends(socket, piece);
        settle(&mut server);
    }
    assert_eq!(script.sent(socket), b"1\n2\n3\n", "the fifth message waits");
}

#[test]
fn who_finishes_while_it_rests_is_answered_first_and_then_closed() {
    let rate = Rate::per_second(2).burst(1);
    let (mut server, script) = serve(Limits::default().messages_per_second(Some(rate)));
    let socket = script.call();
    settle(&mut server);
    script.peer_does(socket, [Step::Data(b"one\ntwo\nthree\n".to_vec()), Step::Fin]);
    settle(&mut server);
    assert_eq!(server.counters().open, 1);
    pass(&mut server, &script, millis(1500));
    assert_eq!(script.sent(socket), b"one\ntwo\nthree\n");
    assert_eq!(closed_by(&server, CloseReason::PeerEof), 1);
}

/// What is thrown away is no message.
/// Found by the simulation: all that was read is answered, and what is left is with the
/// kernel.
#[test]
fn what_waits_with_the_peer_for_its_rate_is_answered_before_a_shutdown_is_over() {
    let limits = Limits::default().messages_per_second(Some(Rate::per_second(1)));
    let (mut server, script) = serve(limits);
    let socket = call_from(&mut server, &script, "127.0.0.1");
    for line in ["1\n", "2\n3\n"] {
        script.peer_sends(socket, line);
        settle(&mut server);
    }
    assert_eq!(script.sent(socket), b"1\n");
    server.shutdown();
    settle(&mut server);
    assert!(!script.is_finished(socket), "it has said more than is answered");
    for _ in 0..3 {
        pass(&mut server, &script, millis(1000));
    }
    assert_eq!(script.sent(socket), b"2\n3\n");
    assert!(script.is_finished(socket));
    assert_eq!(closed_by(&server, CloseReason::Shutdown), 1);
}

#[test]
fn who_is_closed_by_its_last_message_for_now_needs_no_leave_to_finish() {
    let limits = Limits::default().messages_per_second(Some(Rate::per_second(1)));
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), OneLine::default(), limits).expect("valid");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    let socket = script.call();
    settle(&mut server);
    script.peer_sends(socket, "disconnect\n");
    settle(&mut server);
    assert_eq!(server.counters().lingering, 1);
    script.peer_does(socket, [Step::Data(b"more\n".repeat(100_000)), Step::Fin]);
    settle(&mut server);
    assert!(script.is_closed(socket), "its FIN was not read");
}

/// Its slot goes to another, who has not said anything yet.
#[test]
fn a_reset_of_one_that_rests_is_found_when_it_goes_on_and_its_debt_is_nobody_elses() {
    let rate = Rate::per_second(1).burst(1);
    let (mut server, script) = serve(Limits::default().messages_per_second(Some(rate)));
    let former = script.call();
    settle(&mut server);
    script.peer_sends(former, "one\ntwo\n");
    settle(&mut server);
    script.peer_does(former, [Step::Error(104)]);
    pass(&mut server, &script, millis(2100));
    assert_eq!(closed_by(&server, CloseReason::PeerReset), 1);
    let next = script.call();
    settle(&mut server);
    script.peer_sends(next, "mine\n");
    settle(&mut server);
    assert_eq!(script.sent(next), b"mine\n");
}

#[test]
fn mistakes_above_the_rate_close_in_order() {
    let rate = Rate::per_second(1).burst(2);
    let (mut server, script) = serve(Limits::default().errors_per_second(Some(rate)));
    let socket = script.call();
    settle(&mut server);
    let bad = "much too long a line for this\n";
    script.peer_sends(socket, format!("{bad}{bad}good\n"));
    settle(&mut server);
    assert_eq!(server.counters().open, 1, "at the limit");
    script.peer_sends(socket, format!("also good\n{bad}"));
    settle(&mut server);
    assert_eq!(script.sent(socket), b"good\nalso good\n");
    assert_eq!(closed_by(&server, CloseReason::Rate), 1);
    assert!(script.is_finished(socket) && !script.is_closed(socket), "in order");
}

#[test]
fn mistakes_count_for_the_connection_that_makes_them_and_only_once() {
    let rate = Rate::per_second(1).burst(2);
    let (mut server, script) = serve(Limits::default().errors_per_second(Some(rate)));
    let bad = "much too long a line for this\n";
    for _ in 0..5 {
        let socket = script.call();
        settle(&mut server);
        script.peer_sends(socket, format!("{bad}{bad}"));
        settle(&mut server);
    }
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Rate)), (5, 0));
}

#[test]
fn at_the_cap_the_longest_silent_makes_room_and_who_just_spoke_never_does() {
    let limits = || Limits::default().max_connections(3).when_full(WhenFull::Evict);
    let (mut server, script) = serve(limits());
    let first: Vec<usize> = (0..3).map(|_| script.call()).collect();
    settle(&mut server);
    for (socket, after) in [(first[1], 1000), (first[0], 1000), (first[2], 1500)] {
        pass(&mut server, &script, millis(after));
        script.peer_sends(socket, "hello\n");
        settle(&mut server);
    }
    // Silent for 2.5 s, 1.5 s and not at all.
    script.take_calls();
    let newcomers: Vec<usize> = (0..3).map(|_| script.call()).collect();
    settle(&mut server);
    assert!(script.is_closed(first[1]) && script.is_closed(first[0]));
    assert!(!script.is_closed(first[2]));
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Evicted)), (3, 2));
    // The third waits, without a spin, until one has been silent for a second.
    assert!(server.deadline() > Some(ZERO));
    assert_eq!(script.count(|call| matches!(call, Call::Accept)), 2);
    script.peer_sends(newcomers[0], "still here\n");
    script.peer_sends(newcomers[1], "me too\n");
    pass(&mut server, &script, millis(900));
    assert_eq!(closed_by(&server, CloseReason::Evicted), 2);
    script.peer_sends(newcomers[0], "still here\n");
    script.peer_sends(newcomers[1], "me too\n");
    pass(&mut server, &script, millis(300));
    assert!(script.is_closed(first[2]));
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Evicted)), (3, 3));
    script.peer_sends(newcomers[2], "at last\n");
    settle(&mut server);
    assert_eq!(script.sent(newcomers[2]), b"at last\n");
}

/// The last look at an empty queue must cost nobody a place.
#[test]
fn nobody_is_evicted_for_a_caller_who_is_not_there() {
    let limits = Limits::default().max_connections(2).when_full(WhenFull::Evict);
    let (mut server, script) = serve(limits);
    script.calls(0..2);
    settle(&mut server);
    pass(&mut server, &script, millis(60_000));
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Evicted)), (2, 0));
    script.call();
    settle(&mut server);
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Evicted)), (2, 1));
}

/// Those we have called ourselves are ours to close.
#[test]
fn a_connection_that_we_opened_is_not_evicted() {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let limits = Limits::default().max_connections(2).when_full(WhenFull::Evict);
    let endpoint = server.add(Lines::default(), Echo, limits).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    server.connect(endpoint, std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    script.answers(0, Ok(()));
    let accepted = call_from(&mut server, &script, "127.0.0.1");
    pass(&mut server, &script, millis(10_000));
    script.peer_sends(accepted, "hello\n");
    script.call();
    settle(&mut server);
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Evicted)), (2, 0));
    assert!(!script.is_closed(0));
}

/// As many as one turn accepts: the choice among more of them is another one.
#[test]
fn of_any_number_of_silent_ones_the_longest_silent_goes() {
    for cap in [1, 127, 128, 129, 300] {
        let limits = Limits::default().max_connections(cap).when_full(WhenFull::Evict);
        let (mut server, script) = serve(limits);
        let first = script.call();
        settle(&mut server);
        pass(&mut server, &script, millis(1000));
        script.calls(1..cap);
        settle(&mut server);
        pass(&mut server, &script, millis(5000));
        script.call();
        settle(&mut server);
        let evicted = closed_by(&server, CloseReason::Evicted);
        assert_eq!((server.counters().open, evicted), (cap, 1), "{cap} connections");
        assert!(script.is_closed(first), "{cap} connections");
    }
}
