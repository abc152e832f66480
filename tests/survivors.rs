//! The loop on a scripted kernel, once more: what the other tests would let pass, as
//! planted bugs and mutants have shown.

#[expect(dead_code, reason = "the other tests on the scripted kernel need the rest")]
mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use oneloop::net::Ready;
use oneloop::services::Echo;
use oneloop::{
    CloseReason, ConnId, Context, EncodeError, Endian, LengthField, Limits, Lines, Served, Server,
    Service, WhenFull,
};
use support::{Call, Script, Step, ZERO, closed_by, pass, settle, settle_with_panics};

const EMFILE: i32 = 24;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;

/// A server of lines with a listener.
fn serve(service: impl Service + 'static, limits: Limits) -> (Server<Script>, Script) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), service, limits).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    (server, script)
}

/// A connection that was accepted.
fn connect(server: &mut Server<Script>, script: &Script) -> usize {
    let socket = script.call();
    settle(server);
    socket
}

/// With a writable edge Linux tells again what can be read; other kernels need not.
#[test]
fn what_waited_in_the_kernel_while_its_peer_read_nothing_needs_no_edge_of_its_own() {
    let (mut server, script) = serve(Echo, Limits::default());
    let socket = connect(&mut server, &script);
    let takes_all = |server: &mut Server<Script>| {
        script.set_room(socket, usize::MAX);
        let token = script.token_of(socket);
        script.tell_again(Ready { token, readable: false, writable: true, read_closed: false });
        settle(server);
        script.sent(socket)
    };
    // The first short write watches anew, and that would tell everything again.
    script.set_room(socket, 1);
    script.peer_sends(socket, "first\n");
    settle(&mut server);
    assert_eq!(takes_all(&mut server), b"first\n");

    let stream = b"0123456789abcde\n".repeat(20_000);
    script.set_room(socket, 0);
    script.peer_sends(socket, &stream);
    settle(&mut server);
    let sent = takes_all(&mut server);
    assert!(sent == stream, "{} of {} bytes", sent.len(), stream.len());
}

/// Sets a timer of an hour at each message.
struct Remind;

impl Service for Remind {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        cx.set_timer(Duration::from_secs(3600));
        Ok(())
    }
}

#[test]
fn the_timer_of_a_connection_that_is_gone_is_gone_as_well() {
    for end in [Step::Fin, Step::Error(ECONNRESET)] {
        let (mut server, script) = serve(Remind, Limits::default());
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, "remind me\n");
        settle(&mut server);
        assert_eq!(server.deadline(), Some(Duration::from_secs(3600)));
        script.peer_does(socket, [end]);
        settle(&mut server);
        assert_eq!(server.deadline(), None, "it takes memory, and wakes the loop for nothing");
    }
}

#[test]
fn a_descriptor_that_is_freed_ends_the_pause_of_accepting_at_once() {
    let (mut server, script) = serve(Echo, Limits::default());
    let first = connect(&mut server, &script);
    script.world().accept_errors.extend([EMFILE]);
    let [hung_up_on, waits] = [script.call(), script.call()];
    settle(&mut server);
    assert!(script.is_closed(hung_up_on));
    assert_eq!(server.counters().open, 1, "accepting pauses");
    script.peer_does(first, [Step::Fin]);
    settle(&mut server);
    script.peer_sends(waits, "hi\n");
    settle(&mut server);
    assert_eq!(script.sent(waits), b"hi\n", "no time has passed");
}

#[test]
fn a_kernel_that_gave_up_says_whether_the_peer_was_mute_or_gone() {
    for (room, reason) in [(1, CloseReason::WriteStall), (usize::MAX, CloseReason::PeerReset)] {
        let (mut server, script) = serve(Echo, Limits::default());
        let socket = connect(&mut server, &script);
        script.set_room(socket, room);
        script.peer_sends(socket, "hello\n");
        settle(&mut server);
        script.peer_does(socket, [Step::Error(ETIMEDOUT)]);
        settle(&mut server);
        assert_eq!(closed_by(&server, reason), 1, "{reason}: {:?}", server.counters());
        assert!(script.is_closed(socket));
    }
}

/// Greets with more than may wait, and echoes.
struct Verbose;

impl Service for Verbose {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        cx.reply(&[b'x'; 65_536])
    }

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        cx.reply(message)
    }
}

#[test]
fn nothing_is_read_from_a_peer_that_has_not_taken_its_greeting() {
    let (mut server, script) = serve(Verbose, Limits::default());
    let socket = script.call();
    script.set_room(socket, 0);
    settle(&mut server);
    script.peer_sends(socket, "hi\n");
    settle(&mut server);
    assert_eq!(script.count(|call| matches!(call, Call::Read(_))), 0);
    script.peer_takes(socket, usize::MAX);
    settle(&mut server);
    assert!(script.sent(socket).ends_with(b"x\nhi\n"));
}

/// Hands on what its replies come to.
struct Fails(EncodeError);

impl Service for Fails {
    type Session = ();

    fn message(&mut self, _: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        Err(self.0.clone())
    }
}

#[test]
fn a_reply_that_there_is_no_memory_for_is_no_fault_of_the_service() {
    for (error, reason) in [
        (EncodeError::NoMemory { len: 9 }, CloseReason::Memory),
        (EncodeError::TooLong { len: 9, max: 8 }, CloseReason::BadReply),
    ] {
        let (mut server, script) = serve(Fails(error), Limits::default());
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, "hi\n");
        settle(&mut server);
        assert_eq!(closed_by(&server, reason), 1, "{reason}");
    }
}

#[test]
fn who_is_refused_late_in_the_day_has_its_time_to_read_why() {
    let limits = Limits::default().max_connections(1).when_full(WhenFull::Refuse);
    let (mut server, script) = serve(Echo, limits);
    connect(&mut server, &script);
    pass(&mut server, &script, Duration::from_secs(1000));
    let refused = connect(&mut server, &script);
    assert!(script.is_finished(refused));
    pass(&mut server, &script, Duration::from_millis(1100));
    assert!(!script.is_closed(refused), "it lingers for more than a second");
    pass(&mut server, &script, Duration::from_millis(1100));
    assert!(script.is_closed(refused));
}

#[test]
fn bad_messages_are_counted_and_those_that_are_another_protocol_once_more() {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let framing = LengthField::u32(Endian::Big).max(1000);
    let endpoint = server.add(framing, Echo, Limits::default()).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    let mut counts = Vec::new();
    let good_and_bad: &[u8] = b"\0\0\0\x02hi\xff\xff\xff\xff";
    for sends in [b"GET / HTTP/1.1\r\n\r\n", good_and_bad, b"\x80\x80\x80\x80", b"\0\0\0\x01a"] {
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, sends);
        settle(&mut server);
        let traffic = server.counters().traffic;
        counts.push((traffic.bad_frames, traffic.other_protocols));
    }
    assert_eq!(counts, [(1, 1), (2, 1), (3, 1), (3, 1)]);
}

#[test]
fn by_default_there_is_memory_for_half_messages() {
    let (mut server, script) = serve(Echo, Limits::default());
    for _ in 0..32 {
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, [b'x'; 40_000]);
        settle(&mut server);
    }
    assert_eq!((server.counters().open, server.buffered_bytes()), (32, 2 << 20));
}

/// Writes down how many are open when one is told of its end.
struct Census(Rc<RefCell<Vec<usize>>>);

impl Service for Census {
    type Session = ();

    fn message(&mut self, _: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        Ok(())
    }

    fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), _: CloseReason) {
        self.0.borrow_mut().push(cx.connections());
    }
}

#[test]
fn who_hears_of_its_end_does_not_count_any_more() {
    let left = Rc::default();
    let (mut server, script) = serve(Census(Rc::clone(&left)), Limits::default());
    let sockets: Vec<usize> = (0..3).map(|_| connect(&mut server, &script)).collect();
    for socket in sockets {
        script.peer_does(socket, [Step::Fin]);
        settle(&mut server);
    }
    assert_eq!(*left.borrow(), [2, 1, 0]);
}

/// Finishes the first connection whenever another one says something.
#[derive(Default)]
struct FinishFirst(Option<ConnId>);

impl Service for FinishFirst {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        self.0.get_or_insert(cx.id());
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        if let Some(first) = self.0.filter(|first| *first != cx.id()) {
            cx.finish(first);
        }
        Ok(())
    }
}

#[test]
fn however_often_others_deal_with_a_flood_it_has_one_turn_at_a_time() {
    let (mut server, script) = serve(FinishFirst::default(), Limits::default());
    let [flood, other] = [(); 2].map(|()| connect(&mut server, &script));
    script.peer_sends(flood, b"0123456789abcde\n".repeat(1 << 18));
    let mut rounds = 0;
    for _ in 0..8 {
        script.peer_sends(other, "finish it\n");
        script.take_calls();
        let _ = server.turn(Some(ZERO)).expect("the script's wait does not fail");
        let reads = script.count(|call| *call == Call::Read(flood));
        assert!(reads <= 4, "{reads} reads in one turn");
        rounds += usize::from(reads == 4);
    }
    assert_eq!(rounds, 8, "the flood went on");
}

thread_local! {
    /// What was logged; each test has a thread of its own.
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Panics.
struct Bomb;

impl Service for Bomb {
    type Session = ();

    fn message(&mut self, _: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        panic!("on purpose")
    }
}

/// Each of these has a reason in the counters as well; but a log is looked at first.
#[test]
fn the_operator_is_told_of_panics_bad_replies_and_a_full_house() {
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Warn);
    let said = |text: &str| LOGGED.with_borrow(|lines| lines.iter().any(|it| it.contains(text)));

    let (mut server, script) = serve(Bomb, Limits::default());
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "hi\n");
    settle_with_panics(&mut server);
    assert!(said("127.0.0.1:40000: the service panicked"));

    let refused = EncodeError::TooLong { len: 9, max: 8 };
    let (mut server, script) = serve(Fails(refused.clone()), Limits::default());
    let socket = connect(&mut server, &script);
    script.peer_sends(socket, "hi\n");
    settle(&mut server);
    assert!(said(&format!("bad reply: {refused}")));

    let (mut server, script) = serve(Echo, Limits::default().max_connections(1));
    connect(&mut server, &script);
    connect(&mut server, &script);
    assert!(said("all 1 connections are in use; newcomers wait"));
}

/// Takes as many milliseconds for a message as it has bytes.
struct Takes(Script);

impl Service for Takes {
    type Session = ();

    fn message(&mut self, _: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        self.0.world().now += Duration::from_millis(message.len() as u64);
        Ok(())
    }
}

#[test]
fn the_operator_is_told_of_a_turn_that_takes_longer_than_it_may_and_of_no_other() {
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Warn);
    for (slow_turn, said) in [
        (None, None),
        (Some(50), None),
        (Some(49), Some("127.0.0.1:40000: its turn took 50 ms, and all others waited")),
    ] {
        let script = Script::new();
        let mut server = Server::with_sys(script.clone());
        let limits = Limits::default().slow_turn(slow_turn.map(Duration::from_millis));
        let endpoint = server.add(Lines::default(), Takes(script.clone()), limits).expect("valid");
        server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
        let socket = connect(&mut server, &script);
        script.peer_sends(socket, [&[b'x'; 50][..], b"\n"].concat());
        settle(&mut server);
        let lines = LOGGED.with_borrow_mut(std::mem::take);
        assert_eq!(lines, Vec::from_iter(said), "{slow_turn:?}");
    }
}
