//! The loop on a scripted kernel: every edge it must not miss, every error it must
//! survive, in virtual time.

#[expect(dead_code, reason = "the tests of outgoing connections need the rest")]
mod support;

use std::time::Duration;

use oneloop::net::Ready;
use oneloop::services::{Broadcast, Echo, OneLine, Packet, Sink};
use oneloop::{
    Audience, CloseReason, ConnId, Context, Encode, EncodeError, Endian, FrameError, LengthField,
    Limits, Lines, Pair, Server, Service, WhenFull,
};
#[cfg(feature = "http")]
use oneloop::{Http, Rate};
use support::{Call, Script, Step, ZERO, assert_balance, closed_by, pass, settle};

const EMFILE: i32 = 24;
const ECONNRESET: i32 = 104;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A server of one endpoint with a listener.
fn serve<F, S>(framing: F, service: S, limits: Limits) -> (Server<Script>, Script)
where
    F: oneloop::Framing + 'static,
    S: Service + 'static,
{
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(framing, service, limits).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    (server, script)
}

fn lines(service: impl Service + 'static) -> (Server<Script>, Script) {
    serve(Lines::default(), service, Limits::default())
}

/// A connection that was accepted.
fn connect(server: &mut Server<Script>, script: &Script) -> usize {
    let socket = script.call();
    settle(server);
    socket
}

#[test]
fn replies_to_one_read_leave_in_one_write_and_a_short_read_is_the_last() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.take_calls();
    script.peer_sends(socket, "one\ntwo\nthr");
    settle(&mut server);
    assert_eq!(script.take_calls(), [Call::Read(socket), Call::Write(socket, 8)]);
    script.peer_sends(socket, "ee\n");
    settle(&mut server);
    assert_eq!(script.take_calls(), [Call::Read(socket), Call::Write(socket, 6)]);
    assert_eq!(script.sent(socket), b"one\ntwo\nthree\n");
}

/// What came as a line has no LF inside, and is not looked through again. Nothing else is spared.
#[test]
fn a_reply_with_an_lf_inside_never_leaves_as_a_line_wherever_it_is_from() {
    let own = |cx: &mut Context<'_>, message: &[u8]| match message {
        b"own" => cx.reply(b"two\nlines"),
        part => cx.reply(&part[1..]),
    };
    let (mut server, script) = lines(own);
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "xpart\nx\nown\nxmore\n");
    settle(&mut server);
    assert_eq!(script.sent(socket), b"part\n\n");
    assert_eq!(closed_by(&server, CloseReason::BadReply), 1);

    let by_length = LengthField::u8();
    let (mut server, script) =
        serve(Pair::new(by_length, Lines::default()), Echo, Limits::default());
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "\x03one\x03o\ne\x03two");
    settle(&mut server);
    assert_eq!(script.sent(socket), b"one\n");
    assert_eq!(closed_by(&server, CloseReason::BadReply), 1);
}

#[test]
fn a_fin_told_together_with_data_is_not_missed() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.peer_does(socket, [Step::Data(b"bye\n".to_vec()), Step::Fin]);
    settle(&mut server);
    assert_eq!(script.sent(socket), b"bye\n");
    assert!(script.is_closed(socket));
    assert_eq!(closed_by(&server, CloseReason::PeerEof), 1);
}

#[test]
fn a_stream_that_ends_inside_a_message_is_truncated_and_delivers_nothing_of_it() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.peer_does(socket, [Step::Data(b"whole\nhal".to_vec()), Step::Fin]);
    settle(&mut server);
    assert_eq!(script.sent(socket), b"whole\n");
    assert_eq!(closed_by(&server, CloseReason::Truncated), 1);
}

#[test]
fn callers_stranded_by_emfile_are_accepted_without_another_edge() {
    let (mut server, script) = lines(Echo);
    let sockets: Vec<usize> = (0..4).map(|_| script.call()).collect();
    script.world().accept_errors.extend([EMFILE]);
    settle(&mut server);
    // One is hung up on, with the reserve; the others wait for the clock.
    assert!(script.is_closed(sockets[0]));
    assert_eq!(server.counters().open, 0);
    assert!(server.deadline().is_some_and(|wait| wait <= secs(1)), "the loop must wake by itself");
    pass(&mut server, &script, secs(1));
    assert_eq!(server.counters().open, 3);
    assert_eq!(closed_by(&server, CloseReason::MaxConnections), 1);
}

#[test]
fn while_descriptors_are_out_accepting_is_tried_less_than_a_hundred_times_a_second() {
    let (mut server, script) = lines(Echo);
    script.world().accept_errors.extend([EMFILE; 10_000]);
    script.calls(0..1000);
    pass(&mut server, &script, secs(10));
    let tries = script.count(|call| matches!(call, Call::Accept | Call::Shed));
    assert!((10..1000).contains(&tries), "{tries} in 10 s");
}

#[test]
fn an_error_of_one_caller_costs_no_other() {
    // ECONNABORTED, ECONNRESET, EPROTO, EPERM, ENETDOWN, EHOSTUNREACH, EHOSTDOWN, EINTR, ENOPROTOOPT
    for errno in [103, ECONNRESET, 71, 1, 100, 113, 112, 4, 92] {
        for position in 0..3 {
            let (mut server, script) = lines(Echo);
            script.calls(0..3);
            let mut errors = vec![0; position];
            errors.push(errno);
            script.world().accept_errors.extend(errors);
            settle(&mut server);
            assert_eq!(server.counters().open, 3, "errno {errno} at {position}");
        }
    }
}

#[test]
fn an_unknown_error_of_accept_pauses_and_ends_nothing() {
    for errno in [12, 23, 105, 22, 9999] {
        let (mut server, script) = lines(Echo);
        script.calls(0..3);
        script.world().accept_errors.extend([errno]);
        settle(&mut server);
        pass(&mut server, &script, secs(1));
        let shed = u64::from(errno == 23);
        assert_eq!(server.counters().open as u64 + shed, 3, "errno {errno}");
    }
}

#[test]
fn an_interrupted_wait_is_nothing() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.world().wait_errors.extend([4, 0, 4, 4]);
    script.peer_sends(socket, "still\n");
    settle(&mut server);
    settle(&mut server);
    assert_eq!(script.sent(socket), b"still\n");
}

#[test]
fn a_socket_that_cannot_be_watched_is_closed_and_the_service_never_hears_of_it() {
    struct Opened(u32);
    impl Service for Opened {
        type Session = ();
        fn opened(&mut self, _: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
            self.0 += 1;
            assert_eq!(self.0, 1, "only the second connection can be watched");
            Ok(())
        }
        fn message(
            &mut self,
            _: &mut Context<'_>,
            (): &mut (),
            _: &[u8],
        ) -> Result<(), EncodeError> {
            Ok(())
        }
    }
    let (mut server, script) = lines(Opened(0));
    script.world().watch_errors.extend([28]);
    let (first, second) = (script.call(), script.call());
    settle(&mut server);
    assert!(script.is_closed(first) && !script.is_closed(second));
    assert_eq!(closed_by(&server, CloseReason::RegisterFailed), 1);
    assert_eq!(server.counters().open, 1);
}

#[test]
fn an_event_for_a_former_owner_of_a_slot_does_not_reach_the_next() {
    let (mut server, script) = lines(Echo);
    let former = connect(&mut server, &script);
    let stale = script.token_of(former);
    script.peer_does(former, [Step::Error(ECONNRESET)]);
    settle(&mut server);
    let next = connect(&mut server, &script);
    script.take_calls();
    assert_ne!(script.token_of(next), stale);
    script.tell_again(Ready { token: stale, readable: true, writable: true, read_closed: true });
    settle(&mut server);
    assert_eq!(script.take_calls(), []);
    assert_eq!(server.counters().open, 1);
}

/// Closes the other of two connections at the first message.
struct KillOther {
    ids: Vec<ConnId>,
    messages: usize,
}

impl Service for KillOther {
    type Session = ();
    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
        self.ids.push(cx.id());
        Ok(())
    }
    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), _: &[u8]) -> Result<(), EncodeError> {
        self.messages += 1;
        assert_eq!(self.messages, 1, "the other was closed before its own message");
        let own = cx.id();
        for &id in self.ids.iter().filter(|&&id| id != own) {
            cx.send(id, b"goodbye")?;
            cx.close(id);
        }
        Ok(())
    }
}

#[test]
fn a_neighbour_closed_in_the_same_batch_is_not_served_and_gets_what_was_sent_before() {
    let (mut server, script) = lines(KillOther { ids: Vec::new(), messages: 0 });
    let (killer, victim) = (connect(&mut server, &script), connect(&mut server, &script));
    script.peer_sends(killer, "kill\n");
    script.peer_sends(victim, "a message of my own\n");
    settle(&mut server);
    assert_eq!(script.sent(victim), b"goodbye\n");
    assert!(script.is_finished(victim) && !script.is_closed(victim), "it lingers for its FIN");
    assert_eq!(closed_by(&server, CloseReason::AppClose), 1);
    script.peer_does(victim, [Step::Fin]);
    settle(&mut server);
    assert!(script.is_closed(victim));
    assert_eq!((server.counters().open, server.counters().lingering), (1, 0));
}

#[test]
fn writable_is_asked_for_at_the_first_short_write_and_no_byte_is_lost_or_doubled() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.set_room(socket, 5);
    script.peer_sends(socket, "0123456789\nabcdef\n");
    assert_eq!(script.count(|call| matches!(call, Call::WatchWrite(_))), 0);
    settle(&mut server);
    assert_eq!(script.count(|call| matches!(call, Call::WatchWrite(_))), 1);
    for _ in 0..6 {
        script.peer_takes(socket, 3);
        settle(&mut server);
    }
    assert_eq!(script.sent(socket), b"0123456789\nabcdef\n");
    assert_eq!(script.count(|call| matches!(call, Call::WatchWrite(_))), 1, "and never again");
    assert_eq!(server.buffered_bytes(), 0);
}

#[test]
fn a_write_that_fails_for_the_moment_is_tried_again() {
    for errno in [4, 105, 12] {
        let (mut server, script) = lines(Echo);
        let socket = connect(&mut server, &script);
        script.world().write_errors.extend([errno; 9]);
        script.peer_sends(socket, "hello\n");
        pass(&mut server, &script, secs(5));
        assert_eq!(script.sent(socket), b"hello\n", "errno {errno}");
        assert_eq!(server.counters().open, 1, "errno {errno}");
    }
}

#[test]
fn a_reset_closes_once_and_frees_everything() {
    for (reading, errno) in [(true, ECONNRESET), (false, 32), (false, ECONNRESET)] {
        let (mut server, script) = lines(Echo);
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, "half");
        settle(&mut server);
        if reading {
            script.peer_does(socket, [Step::Error(errno)]);
        } else {
            script.world().write_errors.extend([errno]);
            script.peer_sends(socket, "\n");
        }
        settle(&mut server);
        assert!(script.is_closed(socket));
        assert_eq!(closed_by(&server, CloseReason::PeerReset), 1);
        assert_eq!((server.buffered_bytes(), server.deadline()), (0, None));
    }
}

#[test]
fn a_peer_that_reads_nothing_pauses_itself_and_resumes_without_an_edge() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.set_room(socket, 1000);
    let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
    let all = line.repeat(20_000);
    script.peer_sends(socket, &all);
    settle(&mut server);
    // 64 KiB of output and one read of input, each in a buffer of a power of two.
    assert!(server.buffered_bytes() <= 256 << 10, "{}", server.buffered_bytes());
    let before = server.counters().traffic.messages_in;
    assert!(before < 2000, "{before} messages were served for a peer that reads nothing");
    while script.world().sockets[socket].outbound.len() < all.len() {
        let so_far = script.world().sockets[socket].outbound.len();
        script.peer_takes(socket, 50_000);
        settle(&mut server);
        assert!(script.world().sockets[socket].outbound.len() > so_far, "stuck at {so_far}");
    }
    assert_eq!(script.sent(socket), all);
    assert_eq!(server.buffered_bytes(), 0);
}

#[test]
fn a_flood_delays_others_by_one_turn() {
    let (mut server, script) = serve(Lines::default(), Sink, Limits::default());
    let flood = connect(&mut server, &script);
    let quiet = connect(&mut server, &script);
    script.peer_sends(flood, b"some line\n".repeat(200_000));
    script.peer_sends(quiet, "me too\n");
    script.take_calls();
    let _ = server.turn(Some(ZERO)).expect("a turn");
    let calls = script.take_calls();
    assert_eq!(calls.iter().filter(|call| **call == Call::Read(flood)).count(), 4);
    assert!(calls.contains(&Call::Read(quiet)), "served in the same turn: {calls:?}");
    assert_eq!(server.deadline(), Some(ZERO), "the edge is spent, the queue remembers");
    settle(&mut server);
    assert_eq!(server.counters().traffic.messages_in, 200_001);
}

#[test]
fn a_length_declared_but_not_sent_takes_no_memory() {
    let (mut server, script) = serve(LengthField::u32(Endian::Big), Echo, Limits::default());
    for _ in 0..100 {
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, b"\x00\x10\x00\x00");
    }
    settle(&mut server);
    assert_eq!(server.counters().open, 100);
    assert!(server.buffered_bytes() <= 100 * 64, "{}", server.buffered_bytes());
}

#[test]
fn after_an_error_that_closes_nothing_is_delivered_and_what_was_answered_arrives() {
    let (mut server, script) =
        serve(LengthField::u16(Endian::Big).max(10), Echo, Limits::default());
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, b"\0\x02ok\0\x0btoo long!!!\0\x02no");
    settle(&mut server);
    script.peer_sends(socket, b"\0\x02no");
    settle(&mut server);
    assert_eq!(script.sent(socket), b"\0\x02ok");
    assert_eq!(server.counters().traffic.messages_in, 1);
    assert_eq!(closed_by(&server, CloseReason::TooLong), 1);
    let calls = script.take_calls();
    let finish = calls.iter().position(|call| *call == Call::Finish(socket)).expect("a FIN");
    let write = calls.iter().position(|call| *call == Call::Write(socket, 4)).expect("a reply");
    assert!(write < finish, "flush, then FIN: {calls:?}");
    assert!(!script.is_closed(socket), "closing with input unread would destroy the reply");
    script.peer_does(socket, [Step::Fin]);
    settle(&mut server);
    assert!(script.is_closed(socket));
}

#[test]
fn after_an_oversize_line_not_even_its_tail_is_delivered_but_the_next_line_is() {
    let (mut server, script) = serve(Lines::default().max(8), Echo, Limits::default());
    let socket = connect(&mut server, &script);
    for piece in ["short\n", "much too lo", "ng and its ", "tail\nnext\n"] {
        script.peer_sends(socket, piece);
        settle(&mut server);
    }
    assert_eq!(script.sent(socket), b"short\nnext\n");
    let counters = server.counters();
    assert_eq!((counters.open, counters.traffic.skipped), (1, 1));
}

#[test]
fn a_closed_connection_waits_for_fin_two_seconds_and_four_mebibytes_at_most() {
    let silent = |server: &mut Server<Script>, script: &Script| {
        let socket = connect(server, script);
        script.peer_sends(socket, b"\xff\xff");
        settle(server);
        assert_eq!(server.counters().lingering, 1);
        socket
    };
    let (mut server, script) = serve(LengthField::u16(Endian::Big).max(1), Echo, Limits::default());
    let socket = silent(&mut server, &script);
    pass(&mut server, &script, secs(2));
    assert!(script.is_closed(socket), "time is up");

    let socket = silent(&mut server, &script);
    script.peer_sends(socket, vec![0; 5 << 20]);
    settle(&mut server);
    assert!(script.is_closed(socket), "patience is up");
    assert_eq!((closed_by(&server, CloseReason::TooLong), server.counters().lingering), (2, 0));
}

#[test]
fn a_message_has_thirty_seconds_from_its_first_byte_however_it_trickles() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "whole\n");
    pass(&mut server, &script, secs(100));
    for second in 0..29 {
        script.peer_sends(socket, "x");
        pass(&mut server, &script, secs(1));
        assert_eq!(server.counters().open, 1, "after {second} s");
    }
    for _ in 0..3 {
        script.peer_sends(socket, "x");
        pass(&mut server, &script, secs(1));
    }
    assert_eq!(closed_by(&server, CloseReason::FrameDeadline), 1);
}

#[test]
fn a_late_peer_that_ignores_our_fin_is_gone_two_seconds_later() {
    let limits = || Limits::default().idle_timeout(Some(secs(60)));
    for (sends, reason) in [("", CloseReason::Idle), ("x", CloseReason::FrameDeadline)] {
        let (mut server, script) = serve(Lines::default(), Echo, limits());
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, sends);
        pass(&mut server, &script, secs(70));
        assert_eq!(closed_by(&server, reason), 1);
        assert!(script.is_closed(socket), "{reason}: it lingers for ever");
        assert_eq!((server.counters().lingering, server.deadline()), (0, None), "{reason}");
    }
}

#[test]
fn after_a_stop_and_sigcont_bytes_are_read_before_anyone_is_found_late() {
    let limits = Limits::default().idle_timeout(Some(secs(2)));
    let (mut server, script) = serve(Lines::default(), Echo, limits);
    let sockets: Vec<usize> = (0..100).map(|_| connect(&mut server, &script)).collect();
    script.world().now += secs(60);
    sockets.iter().for_each(|&socket| script.peer_sends(socket, "here\n"));
    // What SIGCONT makes of an epoll_wait.
    script.world().wait_errors.extend([4]);
    settle(&mut server);
    let counters = server.counters();
    assert_eq!((counters.open, counters.traffic.messages_in), (100, 100));
}

#[test]
fn a_stop_between_the_wait_and_the_clock_makes_nobody_late() {
    let limits = Limits::default().idle_timeout(Some(secs(2)));
    let (mut server, script) = serve(Lines::default(), Echo, limits);
    let sockets: Vec<usize> = (0..100).map(|_| connect(&mut server, &script)).collect();
    for round in 0..5 {
        // A wait brings half of what comes; the other half comes while we are stopped.
        let (now, later) = sockets.split_at(50);
        let came = later.iter().map(|&socket| (socket, b"late?\n".to_vec())).collect();
        now.iter().for_each(|&socket| script.peer_sends(socket, "here\n"));
        // A sweep is due, and nobody late, when the wait begins.
        script.world().now += secs(1);
        script.world().stop_after_wait = Some((secs(60), came));
        settle(&mut server);
        assert_eq!(server.counters().open, 100, "round {round}");
    }
}

#[test]
fn a_fast_speaker_waits_for_listeners_that_read_and_not_for_one_that_does_not() {
    let (mut server, script) = lines(Broadcast);
    let [speaker, reader, mute] = [(); 3].map(|()| connect(&mut server, &script));
    script.set_room(mute, 0);
    // The reader takes 64 KiB each time the loop sleeps.
    script.set_room(reader, 1 << 16);
    let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
    let (all, mut heard) = (line.repeat(20_000), 0);
    script.peer_sends(speaker, &all);
    for _ in 0..1000 {
        let _ = server.turn(Some(ZERO)).expect("a turn");
        script.world().now += Duration::from_millis(1);
        if server.deadline() != Some(ZERO) {
            heard += script.sent(reader).len();
            script.set_room(reader, 0);
            script.peer_takes(reader, 1 << 16);
        }
    }
    settle(&mut server);
    heard += script.sent(reader).len();
    assert_eq!((heard, closed_by(&server, CloseReason::OutputCap)), (all.len(), 1));
    assert!(script.is_closed(mute));
    // It was held up for moments, not for the mute's write clock.
    assert!(script.world().now < secs(2), "{:?}", script.world().now);
}

#[test]
fn a_greeting_that_fills_the_output_pauses_nobody_once_it_has_left() {
    struct Verbose;
    impl Service for Verbose {
        type Session = ();
        fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
            (0..20).try_for_each(|_| cx.reply(&[b'x'; 5000]))
        }
        fn message(
            &mut self,
            _: &mut Context<'_>,
            (): &mut (),
            _: &[u8],
        ) -> Result<(), EncodeError> {
            Ok(())
        }
    }
    let limits = Limits::default().idle_timeout(Some(secs(5)));
    let (mut server, script) = serve(Lines::default(), Verbose, limits);
    let socket = connect(&mut server, &script);
    assert_eq!(script.sent(socket).len(), 20 * 5001);
    pass(&mut server, &script, secs(10));
    assert_eq!(closed_by(&server, CloseReason::Idle), 1, "its idle clock runs");
}

#[test]
fn the_clock_goes_on_while_an_oversize_line_is_skipped() {
    let (mut server, script) = serve(Lines::default().max(8), Echo, Limits::default());
    let socket = connect(&mut server, &script);
    for _ in 0..33 {
        script.peer_sends(socket, "never ending ");
        pass(&mut server, &script, secs(1));
    }
    assert_eq!(closed_by(&server, CloseReason::FrameDeadline), 1);
}

#[test]
fn a_steady_stream_of_messages_cut_in_the_middle_is_never_late() {
    let (mut server, script) = lines(Echo);
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "be");
    for _ in 0..100 {
        pass(&mut server, &script, secs(1));
        script.peer_sends(socket, "gun\nbe");
    }
    settle(&mut server);
    assert_eq!(server.counters().open, 1);
    assert_eq!(server.counters().traffic.messages_in, 100);
}

#[test]
fn a_long_message_has_a_second_more_for_each_four_kibibytes_it_announces() {
    let (mut server, script) = serve(LengthField::u32(Endian::Big), Echo, Limits::default());
    let socket = connect(&mut server, &script);
    // 400 KiB: 100 s more.
    script.peer_sends(socket, 409_600u32.to_be_bytes());
    pass(&mut server, &script, secs(129));
    assert_eq!(server.counters().open, 1);
    pass(&mut server, &script, secs(4));
    assert_eq!(closed_by(&server, CloseReason::FrameDeadline), 1);
}

#[test]
fn a_peer_that_takes_too_little_is_closed_and_one_that_takes_enough_is_not() {
    for (rate, stalls) in [(100, true), (1000, false)] {
        let (mut server, script) = lines(Echo);
        let socket = connect(&mut server, &script);
        script.set_room(socket, 0);
        script.peer_sends(socket, b"0123456789012345678\n".repeat(3000));
        for _ in 0..50 {
            script.peer_takes(socket, rate);
            pass(&mut server, &script, secs(1));
        }
        assert_eq!(closed_by(&server, CloseReason::WriteStall), u64::from(stalls), "{rate} B/s");
        assert_eq!(server.counters().open, usize::from(!stalls), "{rate} B/s");
    }
}

#[test]
fn room_that_nobody_has_tried_yet_makes_no_reader_late() {
    /// Answers what is short.
    struct Short;
    impl Service for Short {
        type Session = ();
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            (): &mut (),
            message: &[u8],
        ) -> Result<(), EncodeError> {
            if message.len() < 10 { cx.reply(message) } else { Ok(()) }
        }
    }
    // Who takes what it is owed stays; who makes room for less is late as before.
    for (room, stays) in [(1000, true), (1, false)] {
        let (mut server, script) = lines(Short);
        let socket = connect(&mut server, &script);
        script.set_room(socket, 2);
        script.peer_sends(socket, "one\n");
        settle(&mut server);
        assert_eq!(script.sent(socket), b"on");
        // It has more to say than one turn reads, so it stands in the queue when the room
        // is told; and we are stopped for a minute.
        script.peer_sends(socket, [b"x".repeat(99).as_slice(), b"\n"].concat().repeat(10_000));
        let _ = server.turn(Some(ZERO)).expect("a turn");
        script.world().now += secs(60);
        script.peer_takes(socket, room);
        settle(&mut server);
        assert_eq!(closed_by(&server, CloseReason::WriteStall), u64::from(!stays));
        assert_eq!(script.sent(socket), if stays { b"e\n".as_slice() } else { b"e" });
    }
}

#[test]
fn events_that_say_nothing_bring_nobody_a_second_turn() {
    let (mut server, script) = lines(Sink);
    let socket = connect(&mut server, &script);
    // More than a hundred turns read.
    script.peer_sends(socket, [b"x".repeat(99).as_slice(), b"\n"].concat().repeat(300_000));
    let token = script.token_of(socket);
    for _ in 0..10 {
        script.take_calls();
        script.tell_again(Ready { token, readable: false, writable: false, read_closed: false });
        let _ = server.turn(Some(ZERO)).expect("a turn");
        assert_eq!(script.count(|call| *call == Call::Read(socket)), 4);
    }
}

#[test]
fn who_is_held_and_speaks_again_has_one_place_in_the_queue() {
    /// Tells all others each message, and a word 1 ms after the first.
    struct Loud(bool);
    impl Service for Loud {
        type Session = ();
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            (): &mut (),
            message: &[u8],
        ) -> Result<(), EncodeError> {
            if !std::mem::replace(&mut self.0, true) {
                cx.set_timer(Duration::from_millis(1));
            }
            cx.broadcast(Audience::Others, message)
        }
        fn timer(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
            cx.broadcast(Audience::Others, b"a word")
        }
    }
    let limits = Limits::default().output_high(1000).output_low(500).output_max(64 << 20);
    let (mut server, script) = serve(Lines::default(), Loud(false), limits);
    let speaker = connect(&mut server, &script);
    let mute = connect(&mut server, &script);
    script.set_room(mute, 0);
    script.peer_sends(speaker, [b"x".repeat(99).as_slice(), b"\n"].concat().repeat(100_000));
    let mut heard = Vec::new();
    // Each time it is held for 10 ms; its timer calls it in the first of them.
    for wait in [0, 0, 2, 20, 20, 20, 20] {
        let before = server.counters().traffic.messages_in;
        script.world().now += Duration::from_millis(wait);
        let _ = server.turn(Some(ZERO)).expect("a turn");
        heard.push(server.counters().traffic.messages_in - before);
    }
    let usual = heard[0];
    assert!(usual > 0);
    // While it is held nothing of it is heard, and then as much as before.
    assert_eq!(heard, [usual, usual, 0, usual, usual, usual, usual]);
}

#[cfg(feature = "http")]
#[test]
fn a_request_is_answered_once_though_its_connection_rests_or_ends() {
    /// Answers, and closes if it was told to.
    struct Page {
        closes: bool,
    }
    impl Service for Page {
        type Session = ();
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            (): &mut (),
            _: &[u8],
        ) -> Result<(), EncodeError> {
            if self.closes {
                cx.close_after_flush();
            }
            cx.reply(b"ok")
        }
    }
    // One message a second, and no more than 1000 bytes of output: it pauses behind a request.
    let one = Rate::per_second(1).burst(1);
    let plain = || Limits::default().output_high(1000).output_low(500);
    for (closes, rate, answers) in [(false, Some(one), 2), (false, None, 100), (true, None, 1)] {
        let limits = plain().messages_per_second(rate);
        let (mut server, script) = serve(Http::default(), Page { closes }, limits);
        let socket = connect(&mut server, &script);
        let requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(answers);
        script.peer_sends(socket, requests);
        pass(&mut server, &script, secs(2));
        let sent = script.sent(socket);
        let said = sent.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
        assert_eq!(said, answers, "{}", String::from_utf8_lossy(&sent));
    }
}

#[test]
fn the_idle_clock_counts_what_the_peer_sends_and_nothing_else() {
    let limits = Limits::default().idle_timeout(Some(secs(2)));
    let (mut server, script) = serve(Lines::default(), Broadcast, limits);
    let talker = connect(&mut server, &script);
    let listener = connect(&mut server, &script);
    for _ in 0..4 {
        script.peer_sends(talker, "news\n");
        pass(&mut server, &script, secs(1));
    }
    assert!(script.is_finished(listener), "hearing is not talking");
    assert!(!script.is_finished(talker));
    assert_eq!(closed_by(&server, CloseReason::Idle), 1);
    assert_eq!(script.sent(listener).len() % 5, 0);
}

#[test]
fn with_no_clock_running_the_loop_sleeps_until_it_is_woken() {
    let (mut server, script) = lines(Echo);
    let sockets: Vec<usize> = (0..100).map(|_| connect(&mut server, &script)).collect();
    script.peer_sends(sockets[7], "hello\n");
    settle(&mut server);
    assert_eq!(server.deadline(), None);
    let _ = server.turn(None).expect("a turn");
    assert!(script.world().asleep);
}

#[test]
fn the_memory_of_a_rush_goes_back_in_two_seconds_and_then_the_loop_sleeps() {
    let (mut server, script) = lines(Sink);
    let sockets: Vec<usize> = (0..100).map(|_| connect(&mut server, &script)).collect();
    let half = vec![b'x'; 30_000];
    let info = allocation_counter::measure(|| {
        for part in [&half[..], b"\n", &half[..], b"\n"] {
            sockets.iter().for_each(|&socket| script.peer_sends(socket, part));
            settle(&mut server);
        }
        assert_eq!(server.buffered_bytes(), 0);
        pass(&mut server, &script, secs(2));
    });
    assert!(info.bytes_max > 3 << 20, "half a line of each was kept: {} bytes", info.bytes_max);
    assert!(info.bytes_current < 3 << 19, "{} bytes are kept for ever", info.bytes_current);
    assert_eq!(server.deadline(), None);
    assert_eq!(server.counters().traffic.messages_in, 200);
}

#[test]
fn bytes_that_waited_in_the_kernel_are_read_before_anyone_is_found_late() {
    let (mut server, script) = lines(Echo);
    script.world().batch = 8;
    let sockets: Vec<usize> = (0..100).map(|_| connect(&mut server, &script)).collect();
    sockets.iter().for_each(|&socket| script.peer_sends(socket, "beg"));
    settle(&mut server);
    // The process is stopped for a minute; meanwhile the rest arrives.
    script.world().now += secs(60);
    sockets.iter().for_each(|&socket| script.peer_sends(socket, "in\n"));
    settle(&mut server);
    let counters = server.counters();
    assert_eq!((counters.open, counters.traffic.messages_in), (100, 100));
}

#[test]
fn ten_thousand_late_connections_end_in_bounded_turns() {
    let limits = Limits::default().idle_timeout(Some(secs(5)));
    let (mut server, script) = serve(Lines::default(), Echo, limits);
    script.calls(0..10_000);
    settle(&mut server);
    script.world().now += secs(7);
    let _ = server.turn(Some(ZERO)).expect("a turn");
    assert_eq!(closed_by(&server, CloseReason::Idle), 1000);
    assert_eq!(server.deadline(), Some(ZERO));
    settle(&mut server);
    assert_eq!(closed_by(&server, CloseReason::Idle), 10_000);
}

#[test]
fn at_the_cap_newcomers_wait_and_are_accepted_when_one_leaves() {
    let (mut server, script) = serve(Lines::default(), Echo, Limits::default().max_connections(2));
    let sockets: Vec<usize> = (0..4).map(|_| script.call()).collect();
    settle(&mut server);
    assert_eq!((server.counters().open, server.deadline()), (2, None));
    script.peer_does(sockets[0], [Step::Fin]);
    settle(&mut server);
    assert_eq!((server.counters().open, server.counters().accepted), (2, 3));
}

#[test]
fn who_is_refused_has_two_seconds_to_leave_however_long_the_server_runs() {
    let limits = Limits::default().max_connections(1).when_full(WhenFull::Refuse);
    let (mut server, script) = serve(Lines::default(), Echo, limits);
    pass(&mut server, &script, secs(100));
    let _first = connect(&mut server, &script);
    let refused = connect(&mut server, &script);
    pass(&mut server, &script, Duration::from_millis(1500));
    assert!(script.is_finished(refused) && !script.is_closed(refused));
    pass(&mut server, &script, secs(2));
    assert!(script.is_closed(refused));
}

#[test]
fn at_the_cap_newcomers_are_told_and_closed_if_so_configured() {
    let limits = Limits::default().max_connections(1).when_full(WhenFull::Refuse);
    let (mut server, script) = serve(Lines::default(), Echo, limits);
    let (first, second) = (connect(&mut server, &script), connect(&mut server, &script));
    assert_eq!(script.sent(second), b"busy: all 1 connections are in use\n");
    assert!(script.is_finished(second) && !script.is_closed(second));
    assert_eq!(closed_by(&server, CloseReason::MaxConnections), 1);
    script.peer_does(second, [Step::Data(b"what?\n".to_vec()), Step::Fin]);
    script.peer_sends(first, "still here\n");
    settle(&mut server);
    assert!(script.is_closed(second));
    assert_eq!(script.sent(first), b"still here\n");
}

#[test]
fn a_reply_that_cannot_be_sent_closes_with_bad_reply_after_those_before_it() {
    let service = |cx: &mut Context<'_>, message: &[u8]| match message {
        b"bad" => cx.reply(b"two\nlines"),
        message => cx.reply(message),
    };
    let (mut server, script) = lines(service);
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "good\nbad\nignored\n");
    settle(&mut server);
    assert_eq!(script.sent(socket), b"good\n");
    assert!(script.is_finished(socket));
    assert_eq!(closed_by(&server, CloseReason::BadReply), 1);
}

#[test]
fn replies_beyond_the_hard_limit_are_refused_and_close_the_connection() {
    let service = |cx: &mut Context<'_>, _: &[u8]| {
        for _ in 0..100_000 {
            cx.reply(&[b'x'; 60_000])?;
        }
        Ok(())
    };
    let (mut server, script) = lines(service);
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "give me 6 GB\n");
    settle(&mut server);
    assert!(script.is_closed(socket));
    assert_eq!(closed_by(&server, CloseReason::OutputCap), 1);
}

#[test]
fn broadcasts_of_one_turn_reach_each_in_one_write_and_laggards_lose_nothing() {
    let (mut server, script) = lines(Broadcast);
    let sockets: Vec<usize> = (0..5).map(|_| connect(&mut server, &script)).collect();
    let slow = sockets[4];
    script.set_room(slow, 3);
    script.take_calls();
    script.peer_sends(sockets[0], "one\ntwo\n");
    script.peer_sends(sockets[1], "three\n");
    settle(&mut server);
    assert_eq!(script.count(|call| matches!(call, Call::Write(2 | 3, _))), 2, "one write each");
    assert_eq!(script.sent(sockets[0]), b"three\n");
    assert_eq!(script.sent(sockets[1]), b"one\ntwo\n");
    assert_eq!(script.sent(sockets[2]), b"one\ntwo\nthree\n");
    script.peer_takes(slow, 100);
    settle(&mut server);
    assert_eq!(script.sent(slow), b"one\ntwo\nthree\n");
    assert_eq!(server.counters().traffic.messages_out, 2 * 4 + 4);
}

#[test]
fn a_mute_listener_is_closed_at_its_cap_and_the_others_hear_everything() {
    let (mut server, script) = lines(Broadcast);
    let [talker, good, mute] = [(); 3].map(|()| connect(&mut server, &script));
    script.set_room(mute, 0);
    let line = [b"x".repeat(999).as_slice(), b"\n"].concat();
    for _ in 0..300 {
        script.peer_sends(talker, &line);
        pass(&mut server, &script, Duration::from_millis(20));
        assert!(server.buffered_bytes() <= 256 << 10, "{}", server.buffered_bytes());
    }
    assert_eq!(script.sent(good).len(), 300_000);
    assert!(script.is_closed(mute));
    assert_eq!(closed_by(&server, CloseReason::OutputCap), 1);
    assert!(server.counters().full >= 1);
}

/// Found by the simulation: what one turn has for a connection may be more than may wait
/// for it, though nothing has to wait.
#[test]
fn whoever_takes_all_it_gets_is_sent_any_amount_in_one_turn() {
    #[derive(Default)]
    struct Flood(Vec<ConnId>);
    impl Service for Flood {
        type Session = ();
        fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
            self.0.push(cx.id());
            Ok(())
        }
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            (): &mut (),
            _: &[u8],
        ) -> Result<(), EncodeError> {
            // Some of it is said to all, behind what it is told alone.
            (0..40).try_for_each(|n| match n % 4 {
                0 => cx.send(self.0[0], &[b'x'; 60_000]),
                _ => cx.broadcast(Audience::Others, &[b'x'; 60_000]),
            })
        }
    }
    let (mut server, script) = lines(Flood::default());
    let [good, talker] = [(); 2].map(|()| connect(&mut server, &script));
    script.peer_sends(talker, "2.4 MB for the first\n");
    settle(&mut server);
    assert_eq!(script.sent(good).len(), 40 * 60_001);
    assert_eq!(closed_by(&server, CloseReason::OutputCap), 0);
}

#[test]
fn messages_reach_connections_of_another_endpoint_in_its_own_framing() {
    /// Passes what it hears to all of the other endpoint's connections.
    struct Bridge(std::rc::Rc<std::cell::RefCell<Vec<ConnId>>>);
    impl Service for Bridge {
        type Session = ();
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            (): &mut (),
            message: &[u8],
        ) -> Result<(), EncodeError> {
            let to = self.0.borrow();
            cx.send_all(to.iter().copied(), message)
        }
    }
    struct Register(std::rc::Rc<std::cell::RefCell<Vec<ConnId>>>);
    impl Service for Register {
        type Session = ();
        fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
            self.0.borrow_mut().push(cx.id());
            Ok(())
        }
        fn message(
            &mut self,
            _: &mut Context<'_>,
            (): &mut (),
            _: &[u8],
        ) -> Result<(), EncodeError> {
            Ok(())
        }
    }
    let ids = std::rc::Rc::default();
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let limits = Limits::default;
    let frames = LengthField::u16(Endian::Big);
    let to = server.add(frames, Register(std::rc::Rc::clone(&ids)), limits()).expect("valid");
    let from = server.add(Lines::default(), Bridge(ids), limits()).expect("valid");
    server.listen(to, "127.0.0.1:1").expect("the script listens anywhere");
    let hearer = connect(&mut server, &script);
    server.listen(from, "127.0.0.1:2").expect("the script listens anywhere");
    let talker = connect(&mut server, &script);
    script.peer_sends(talker, "hi\n");
    settle(&mut server);
    assert_eq!(script.sent(hearer), b"\0\x02hi");
    // The hearer leaves; what is sent to its old name goes nowhere.
    script.peer_does(hearer, [Step::Fin]);
    script.peer_sends(talker, "anyone?\n");
    settle(&mut server);
    assert_eq!(server.counters().gone, 1);
}

#[test]
fn a_timer_is_called_once_at_its_time_and_not_for_a_connection_that_is_gone() {
    struct Remind;
    impl Service for Remind {
        type Session = ();
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            (): &mut (),
            _: &[u8],
        ) -> Result<(), EncodeError> {
            cx.set_timer(Duration::from_millis(2500));
            Ok(())
        }
        fn timer(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
            cx.reply(b"ding")
        }
    }
    let (mut server, script) = lines(Remind);
    let [stays, leaves] = [(); 2].map(|()| connect(&mut server, &script));
    script.peer_sends(stays, "remind me\n");
    script.peer_sends(leaves, "me too\n");
    settle(&mut server);
    assert_eq!(server.deadline(), Some(Duration::from_millis(2500)));
    script.peer_does(leaves, [Step::Fin]);
    pass(&mut server, &script, Duration::from_millis(2499));
    assert_eq!(script.sent(stays), b"");
    pass(&mut server, &script, Duration::from_millis(1));
    assert_eq!(script.sent(stays), b"ding\n");
    assert_eq!(server.deadline(), None);
}

#[test]
fn shutdown_lets_idle_ones_go_at_once_and_waits_for_what_was_begun() {
    let (mut server, script) = lines(Echo);
    let [idle, unread, begun, silent] = [(); 4].map(|()| connect(&mut server, &script));
    script.peer_sends(begun, "beg");
    script.peer_sends(silent, "never");
    settle(&mut server);
    script.peer_sends(unread, "came just before\n");
    server.shutdown();
    settle(&mut server);
    assert!(script.is_finished(idle) && script.is_finished(unread));
    assert_eq!(script.sent(unread), b"came just before\n");
    assert!(!script.is_finished(begun));
    script.peer_sends(begun, "in\n");
    settle(&mut server);
    assert_eq!(script.sent(begun), b"begin\n");
    assert!(script.is_finished(begun));
    for socket in [idle, unread, begun] {
        script.peer_does(socket, [Step::Fin]);
    }
    settle(&mut server);
    assert_eq!(server.counters().open, 1);
    pass(&mut server, &script, secs(11));
    assert!(script.is_closed(silent), "time is up");
    assert!(server.turn(Some(ZERO)).expect("a turn").finished);
    assert_eq!(closed_by(&server, CloseReason::Shutdown), 4);
}

#[test]
fn a_service_can_shut_the_server_down_and_its_last_reply_arrives() {
    let service = |cx: &mut Context<'_>, message: &[u8]| {
        if message == b"shutdown" {
            cx.shutdown();
        }
        cx.reply(b"ok")
    };
    let (mut server, script) = lines(service);
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "shutdown\n");
    settle(&mut server);
    assert_eq!(script.sent(socket), b"ok\n");
    script.peer_does(socket, [Step::Fin]);
    settle(&mut server);
    assert!(server.turn(Some(ZERO)).expect("a turn").finished);
}

#[test]
fn oneline_answers_its_commands_and_serves_one_client_at_a_time() {
    let mut heard = 0;
    let service = OneLine::new(move |cx: &mut Context<'_>, packet: Packet<'_>| match packet {
        Packet::Text("two") => cx.reply(b"one").and_then(|()| cx.reply(b"two")),
        Packet::Text("none") => Ok(()),
        Packet::Text(text) => cx.reply(format!("{text}? ({heard} invalid)").as_bytes()),
        Packet::Invalid(_) => {
            heard += 1;
            Ok(())
        }
    });
    let limits = Limits::default().max_connections(1);
    let (mut server, script) = serve(Lines::default(), service, limits);
    let [first, second] = [(); 2].map(|()| connect(&mut server, &script));
    script.peer_sends(second, "ping\n");
    #[rustfmt::skip]
    let cases = [
        ("ping\n",            &b"pong\n"[..]),
        ("ping\r\n",          b"pong\n"),
        ("two\nnone\n",       b"one\ntwo\n"),
        ("Ping\n",            b"Ping? (0 invalid)\n"),
        ("\n",                b"? (0 invalid)\n"),
        ("disconnect\nmore\n", b""),
    ];
    for (sent, answer) in cases {
        script.peer_sends(first, sent);
        settle(&mut server);
        // What the second said while it waited is told once it is accepted.
        settle(&mut server);
        assert_eq!(script.sent(first), answer, "{sent:?}");
        assert_eq!(
            script.sent(second),
            if script.is_finished(first) { &b"pong\n"[..] } else { b"" }
        );
    }
    script.peer_sends(second, b"\xff\xfe\nstill\n");
    settle(&mut server);
    assert_eq!(script.sent(second), b"invalid\nstill? (1 invalid)\n");
    script.peer_sends(second, "shutdown\n");
    settle(&mut server);
    assert_eq!(script.sent(second), b"");
    for socket in [first, second] {
        script.peer_does(socket, [Step::Fin]);
    }
    settle(&mut server);
    assert!(server.turn(Some(ZERO)).expect("a turn").finished);
}

#[test]
fn every_connection_that_was_opened_is_closed_once_with_the_first_reason() {
    #[derive(Default)]
    struct Ledger;
    impl Service for Ledger {
        type Session = u8;
        fn opened(&mut self, _: &mut Context<'_>, calls: &mut u8) -> Result<(), EncodeError> {
            *calls += 1;
            Ok(())
        }
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            _: &mut u8,
            message: &[u8],
        ) -> Result<(), EncodeError> {
            if message == b"leave" {
                cx.close_after_flush();
            }
            cx.reply(message)
        }
        fn bad_input(
            &mut self,
            cx: &mut Context<'_>,
            _: &mut u8,
            error: &FrameError,
        ) -> Result<(), EncodeError> {
            cx.reply(error.to_string().as_bytes())
        }
        fn closed(&mut self, cx: &mut Context<'_>, calls: &mut u8, _: CloseReason) {
            *calls += 1;
            assert_eq!(*calls, 2, "opened once, closed once");
            // Nobody is there to hear it, and nothing breaks.
            let _ = cx.reply(b"too late");
            let _ = cx.broadcast(Audience::Everyone, b"one left");
        }
    }
    let framing = || Lines::default().max(20).ended_by(oneloop::LineEnd::CrLf);
    let (mut server, script) = serve(framing(), Ledger, Limits::default());
    let [leaver, resetter, wrong, watcher] = [(); 4].map(|()| connect(&mut server, &script));
    script.peer_does(leaver, [Step::Data(b"leave\r\nmore\r\n".to_vec()), Step::Fin]);
    settle(&mut server);
    script.peer_does(resetter, [Step::Data(b"leave\r\n".to_vec()), Step::Error(ECONNRESET)]);
    settle(&mut server);
    script.peer_sends(wrong, "bare\n");
    settle(&mut server);
    assert_eq!(script.sent(leaver), b"leave\r\n");
    // The refusal of the bare LF is longer than a message may be.
    assert_eq!(script.sent(wrong), b"one left\r\n".repeat(2));
    assert_eq!(closed_by(&server, CloseReason::AppClose), 2);
    assert_eq!(closed_by(&server, CloseReason::BadReply), 1);
    assert_eq!(script.sent(watcher), b"one left\r\n".repeat(3));
}

#[test]
fn closing_what_is_closing_already_changes_nothing() {
    struct Insist(Vec<ConnId>);
    impl Service for Insist {
        type Session = ();
        fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
            self.0.push(cx.id());
            Ok(())
        }
        fn message(
            &mut self,
            cx: &mut Context<'_>,
            (): &mut (),
            _: &[u8],
        ) -> Result<(), EncodeError> {
            for &id in &self.0 {
                cx.close(id);
                cx.close(id);
            }
            Ok(())
        }
        fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), _: CloseReason) {
            cx.close_after_flush();
            cx.close(cx.id());
        }
    }
    let (mut server, script) = lines(Insist(Vec::new()));
    let [other, own] = [(); 2].map(|()| connect(&mut server, &script));
    script.peer_sends(own, "close us\n");
    script.peer_sends(other, "x");
    settle(&mut server);
    assert_eq!((server.counters().lingering, closed_by(&server, CloseReason::AppClose)), (2, 2));
    pass(&mut server, &script, secs(2));
    assert!(script.is_closed(own) && script.is_closed(other), "neither lingers for ever");
}

#[test]
fn a_timer_set_by_a_connection_that_ends_in_the_same_turn_is_not_kept() {
    let service = |cx: &mut Context<'_>, _: &[u8]| {
        cx.set_timer(secs(3600));
        Ok(())
    };
    let (mut server, script) = lines(service);
    let socket = connect(&mut server, &script);
    script.peer_does(socket, [Step::Data(b"x\n".to_vec()), Step::Fin]);
    settle(&mut server);
    assert!(script.is_closed(socket));
    assert_eq!(server.deadline(), None);
}

/// One byte a message; pairs of CR LF between them are nobody's.
struct Padded;

impl oneloop::Framing for Padded {
    type State = ();
    fn decode(
        &self,
        (): &mut (),
        input: &mut [u8],
        _: bool,
    ) -> Result<oneloop::Decoded, FrameError> {
        use oneloop::Decoded::{Incomplete, Message, Skip};
        Ok(match input {
            [] | [b'\r'] => Incomplete { need: 0 },
            [b'\r', b'\n', ..] => Skip { consumed: 2, error: None },
            _ => Message { message: 0..1, consumed: 1 },
        })
    }
}

impl Encode for Padded {
    fn encode(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }
    fn max_frame(&self) -> usize {
        2
    }
}

#[test]
fn padding_cut_in_two_starts_no_clock() {
    let (mut server, script) = serve(Padded, Sink, Limits::default());
    let socket = connect(&mut server, &script);
    for piece in ["\r", "\n\r", "\n"] {
        script.peer_sends(socket, piece);
        settle(&mut server);
    }
    assert_eq!((server.buffered_bytes(), server.deadline()), (0, None));
}

#[test]
fn a_line_announces_nothing_and_earns_no_time_by_its_length() {
    let (mut server, script) = serve(Lines::default().max(1 << 20), Echo, Limits::default());
    let socket = connect(&mut server, &script);
    for _ in 0..32 {
        script.peer_sends(socket, [b'x'; 20_000]);
        pass(&mut server, &script, secs(1));
    }
    assert_eq!(closed_by(&server, CloseReason::FrameDeadline), 1);
}

#[test]
fn a_storm_on_one_listener_shuts_out_no_other_and_takes_bounded_turns() {
    let (mut server, script) = lines(Echo);
    script.calls(0..1000);
    let _ = server.turn(Some(ZERO)).expect("a turn");
    assert_eq!(server.counters().open, 128);
    assert_eq!(server.deadline(), Some(ZERO));
    settle(&mut server);
    assert_eq!(server.counters().open, 1000);
}

#[test]
fn a_framing_that_never_finishes_a_message_cannot_hoard() {
    struct Never;
    impl oneloop::Framing for Never {
        type State = ();
        fn decode(
            &self,
            (): &mut (),
            input: &mut [u8],
            _: bool,
        ) -> Result<oneloop::Decoded, FrameError> {
            Ok(oneloop::Decoded::Incomplete { need: input.len() + 1 })
        }
    }
    impl Encode for Never {
        fn encode(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), EncodeError> {
            Ok(())
        }
        fn max_frame(&self) -> usize {
            1000
        }
    }
    let (mut server, script) = serve(Never, Sink, Limits::default());
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, [0; 1000]);
    settle(&mut server);
    assert_eq!(server.counters().open, 1);
    script.peer_sends(socket, [0; 1]);
    settle(&mut server);
    assert_eq!(closed_by(&server, CloseReason::TooLong), 1);
}

/// Whatever sizes reads and writes come in, an echo is an echo. A failure prints its
/// seed.
#[test]
fn no_choice_of_reads_and_writes_changes_what_arrives() {
    for seed in 1..150u64 {
        let mut state = seed;
        let mut random = move |below: u64| {
            // xorshift64; any generator will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let limits = Limits::default().output_high(4096).output_low(1024);
        let (mut server, script) = serve(Lines::default().max(3000), Echo, limits);
        let socket = connect(&mut server, &script);
        let mut stream = Vec::new();
        for _ in 0..random(60) {
            let len = random(3001) as usize;
            stream.extend(std::iter::repeat_n(b'a' + random(26) as u8, len));
            stream.push(b'\n');
        }
        script.set_room(socket, random(2000) as usize);
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let len = (1 + random(9000) as usize).min(rest.len());
            script.peer_sends(socket, &rest[..len]);
            rest = &rest[len..];
            if random(3) == 0 {
                script.peer_takes(socket, random(9000) as usize);
            }
            settle(&mut server);
        }
        script.peer_does(socket, [Step::Fin]);
        for _ in 0..1000 {
            script.peer_takes(socket, 1 + random(9000) as usize);
            settle(&mut server);
        }
        assert_eq!(script.sent(socket).len(), stream.len(), "seed {seed}");
        assert!(script.is_closed(socket), "seed {seed}");
        assert_eq!(closed_by(&server, CloseReason::PeerEof), 1, "seed {seed}");
        assert_balance(&server.counters());
        assert_eq!((server.buffered_bytes(), server.deadline()), (0, None), "seed {seed}");
    }
}

#[test]
fn who_speaks_to_everyone_and_finishes_at_once_hears_it_before_the_end() {
    let everyone = |cx: &mut Context<'_>, message: &[u8]| cx.broadcast(Audience::Everyone, message);
    let (mut server, script) = lines(everyone);
    let other = connect(&mut server, &script);
    let socket = connect(&mut server, &script);
    script.peer_does(socket, [Step::Data(b"one\ntwo\n".to_vec()), Step::Fin]);
    settle(&mut server);
    for hearer in [other, socket] {
        assert_eq!(script.sent(hearer), b"one\ntwo\n", "socket {hearer}");
    }
    assert!(script.is_closed(socket) && !script.is_closed(other));
    assert_eq!(closed_by(&server, CloseReason::PeerEof), 1);
}
