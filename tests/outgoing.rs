//! Connections that the loop opens itself, on the scripted kernel: every way a call can
//! go, in virtual time, and that an answered one is like any other.

#[expect(dead_code, reason = "the tests of the loop itself need the rest")]
mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::net::Ready;
use oneloop::{
    CloseReason, ConnId, ConnectError, Context, Dial, EndpointId, Limits, Lines, Retry, Served,
    Server, Service, Target,
};
use support::{Call, Script, Step, ZERO, assert_balance, closed_by, pass, settle};

const ECONNREFUSED: i32 = 111;
const EADDRNOTAVAIL: i32 = 99;
const ENOSPC: i32 = 28;

/// What a [`Recorder`] was called with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Opened(ConnId),
    Message(ConnId, String),
    Closed(ConnId, CloseReason, Option<ConnectError>),
}

/// Writes down what it hears, and calls again if it is told to.
#[derive(Clone, Default)]
struct Recorder {
    events: Rc<RefCell<Vec<Event>>>,
    call_again: Option<SocketAddr>,
}

impl Recorder {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.borrow_mut())
    }
}

impl Service for Recorder {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        self.events.borrow_mut().push(Event::Opened(cx.id()));
        cx.reply("hello")
    }

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        let text = String::from_utf8_lossy(message).into_owned();
        self.events.borrow_mut().push(Event::Message(cx.id(), text));
        Ok(())
    }

    fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), reason: CloseReason) {
        self.events.borrow_mut().push(Event::Closed(cx.id(), reason, cx.connect_error()));
        if let Some(addr) = self.call_again {
            cx.connect(FIRST.with(|first| first.get()).expect("set by `caller`"), addr);
        }
    }
}

thread_local! {
    static FIRST: std::cell::Cell<Option<EndpointId>> = const { std::cell::Cell::new(None) };
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A server with one endpoint that listens nowhere.
fn caller(service: Recorder, limits: Limits) -> (Server<Script>, Script, EndpointId) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), service, limits).expect("valid settings");
    FIRST.with(|first| first.set(Some(endpoint)));
    (server, script, endpoint)
}

fn started() -> (Server<Script>, Script, EndpointId, Recorder) {
    let recorder = Recorder::default();
    let (server, script, endpoint) = caller(recorder.clone(), Limits::default());
    (server, script, endpoint, recorder)
}

#[test]
fn an_answered_call_is_a_connection_under_the_name_it_was_given() {
    let (mut server, script, endpoint, recorder) = started();
    let id = server.connect(endpoint, addr(1));
    settle(&mut server);
    assert_eq!((server.counters().dialing, server.counters().open), (1, 0));
    script.answers(0, Ok(()));
    settle(&mut server);
    script.peer_sends(0, "one\ntwo\n");
    settle(&mut server);
    assert_eq!((server.counters().dialing, server.counters().open), (0, 1));
    script.peer_does(0, [Step::Fin]);
    settle(&mut server);
    let message = |text: &str| Event::Message(id, text.to_string());
    let closed = Event::Closed(id, CloseReason::PeerEof, None);
    assert_eq!(recorder.take(), [Event::Opened(id), message("one"), message("two"), closed]);
    assert_eq!(script.sent(0), b"hello\n");
    assert!(script.is_closed(0));
    assert_eq!(server.deadline(), None, "nothing is left to wait for");
}

#[test]
fn in_its_steady_state_it_costs_the_calls_of_an_accepted_one() {
    let (mut server, script, endpoint, _) = started();
    server.connect(endpoint, addr(1));
    script.answers(0, Ok(()));
    settle(&mut server);
    let id = Call::Connect(Target::Tcp(addr(1)));
    let calls = script.take_calls();
    assert_eq!(calls, [id, Call::WatchWrite(0), Call::WatchWrite(0), Call::Write(0, 6)]);
    script.peer_sends(0, "one\n");
    settle(&mut server);
    assert_eq!(script.take_calls(), [Call::Read(0)]);
}

/// Calls out as soon as someone comes, and sends there at once.
struct Forward(EndpointId);

impl Service for Forward {
    type Session = Option<ConnId>;

    fn opened(&mut self, cx: &mut Context<'_>, to: &mut Option<ConnId>) -> Served {
        *to = Some(cx.connect(self.0, addr(9)));
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, to: &mut Option<ConnId>, message: &[u8]) -> Served {
        match *to {
            Some(to) if message == b"close" => cx.close(to),
            Some(to) => cx.send(to, message)?,
            None => {}
        }
        Ok(())
    }
}

/// Server, script, and the socket of a caller whose messages are forwarded.
fn forwarding(limits: Limits) -> (Server<Script>, Script, Recorder, usize) {
    let recorder = Recorder::default();
    let (mut server, script, endpoint) = caller(recorder.clone(), limits);
    let front = server.add(Lines::default(), Forward(endpoint), Limits::default());
    server.listen(front.expect("valid settings"), addr(7000)).expect("the script listens");
    let socket = script.call();
    settle(&mut server);
    (server, script, recorder, socket)
}

#[test]
fn what_is_sent_before_the_answer_waits_and_comes_behind_the_greeting_in_order() {
    let (mut server, script, _, front) = forwarding(Limits::default());
    script.peer_sends(front, "1\n2\n");
    settle(&mut server);
    script.peer_sends(front, "3\n");
    settle(&mut server);
    assert!(server.buffered_bytes() > 0, "it is counted");
    script.answers(1, Ok(()));
    settle(&mut server);
    script.peer_sends(front, "4\n");
    settle(&mut server);
    assert_eq!(script.sent(1), b"hello\n1\n2\n3\n4\n");
    assert_eq!(server.buffered_bytes(), 0);
}

/// Closes what it has opened.
struct Leave;

impl Service for Leave {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        cx.close_after_flush();
        Ok(())
    }

    fn message(&mut self, _: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        Ok(())
    }
}

#[test]
fn what_was_sent_before_the_answer_is_not_written_behind_our_fin() {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), Leave, Limits::default()).expect("valid settings");
    let id = server.connect(endpoint, addr(1));
    server.send(id, b"too late").expect("it can be framed");
    settle(&mut server);
    script.answers(0, Ok(()));
    settle(&mut server);
    assert_eq!(script.sent(0), b"");
    assert!(script.is_finished(0) && !script.is_closed(0), "it waits for the FIN of its peer");
}

#[test]
fn what_is_sent_before_the_answer_is_bounded_as_output_is() {
    let small = Limits::default().output_high(100).output_low(50).output_max(200_000);
    let (mut server, script, _, front) = forwarding(small);
    let line = [&[b'x'; 999][..], b"\n"].concat();
    script.peer_sends(front, line.repeat(300));
    settle(&mut server);
    // Letters of some 32 KiB are taken whole or not at all.
    let full = server.counters().full as usize;
    assert!((100..135).contains(&full), "{full} of 300 were too many");
    script.answers(1, Ok(()));
    settle(&mut server);
    assert_eq!(script.sent(1).len(), b"hello\n".len() + (300 - full) * line.len());
}

#[test]
fn a_call_that_is_given_up_frees_what_waited_for_it_and_says_so() {
    let (mut server, script, recorder, front) = forwarding(Limits::default());
    script.peer_sends(front, "1\nclose\n");
    settle(&mut server);
    assert!(script.is_closed(1));
    assert_eq!((server.buffered_bytes(), server.counters().gone), (0, 0));
    script.peer_sends(front, "2\n");
    settle(&mut server);
    assert_eq!(server.counters().gone, 1, "nobody has that name any more");
    let events = recorder.take();
    let [Event::Closed(_, CloseReason::AppClose, Some(_))] = events[..] else {
        panic!("{events:?}")
    };
}

#[test]
fn addresses_are_called_in_turn_and_the_first_that_answers_is_taken() {
    let (mut server, script, endpoint, recorder) = started();
    let dial = Dial::new([addr(1), addr(2), addr(3)]).timeout(Duration::from_secs(2));
    // The second fails at once.
    script.world().connect_errors.extend([0, EADDRNOTAVAIL]);
    let id = server.connect(endpoint, dial);
    settle(&mut server);
    script.answers(0, Err(ECONNREFUSED));
    settle(&mut server);
    assert!(script.is_closed(0));
    let called = |script: &Script| -> Vec<Call> {
        script.take_calls().into_iter().filter(|call| matches!(call, Call::Connect(_))).collect()
    };
    let expected = [1, 2, 3].map(|port| Call::Connect(Target::Tcp(addr(port))));
    assert_eq!(called(&script), expected);
    script.answers(1, Ok(()));
    settle(&mut server);
    assert_eq!(recorder.take(), [Event::Opened(id)]);
}

#[test]
fn an_address_that_does_not_answer_has_its_time_and_a_last_one_ends_the_call() {
    let (mut server, script, endpoint, recorder) = started();
    let dial = Dial::new([addr(1), addr(2)]).timeout(Duration::from_secs(2));
    let id = server.connect(endpoint, dial);
    pass(&mut server, &script, Duration::from_millis(1999));
    assert!(!script.is_closed(0));
    pass(&mut server, &script, Duration::from_millis(1));
    assert!(script.is_closed(0));
    pass(&mut server, &script, Duration::from_secs(2));
    assert!(script.is_closed(1));
    let failed = Event::Closed(id, CloseReason::ConnectFailed, Some(ConnectError::TimedOut));
    assert_eq!(recorder.take(), [failed]);
    assert_eq!(server.deadline(), None, "no timer is left");
}

#[test]
fn retries_come_at_their_times_and_end_with_their_number() {
    let (mut server, script, endpoint, recorder) = started();
    script.world().connect_errors.extend([ECONNREFUSED; 100]);
    let retry = Retry::every(10, Duration::from_secs(1));
    let id = server.connect(endpoint, Dial::from(addr(1)).retry(retry));
    settle(&mut server);
    let calls = |script: &Script| script.count(|call| matches!(call, Call::Connect(_)));
    for second in 0..9 {
        assert_eq!(calls(&script), second + 1, "after {second} s");
        pass(&mut server, &script, Duration::from_secs(1));
    }
    assert_eq!(calls(&script), 10);
    let error = Some(ConnectError::Os(ECONNREFUSED));
    assert_eq!(recorder.take(), [Event::Closed(id, CloseReason::ConnectFailed, error)]);
    pass(&mut server, &script, Duration::from_secs(100));
    assert_eq!(calls(&script), 10);
}

#[test]
fn a_service_that_calls_again_at_once_holds_nobody_up_and_can_be_shut_down() {
    let service = Recorder { call_again: Some(addr(1)), ..Recorder::default() };
    let (mut server, script, endpoint) = caller(service, Limits::default().max_connections(1));
    script.world().connect_errors.extend(vec![ECONNREFUSED; 100_000]);
    server.connect(endpoint, addr(1));
    for _ in 0..10 {
        let before = script.count(|call| matches!(call, Call::Connect(_)));
        let _ = server.turn(Some(ZERO)).expect("a turn");
        let now = script.count(|call| matches!(call, Call::Connect(_)));
        assert!((1..=1001).contains(&(now - before)), "{} calls in a turn", now - before);
        assert_balance(&server.counters());
    }
    server.shutdown();
    settle(&mut server);
    assert!(server.turn(Some(ZERO)).expect("a turn").finished);
}

#[test]
fn at_the_limit_of_connections_a_call_fails_and_one_that_ended_makes_room() {
    let recorder = Recorder::default();
    let limits = Limits::default().max_connections(1);
    let (mut server, script, endpoint) = caller(recorder.clone(), limits);
    server.connect(endpoint, addr(1));
    let second = server.connect(endpoint, addr(2));
    settle(&mut server);
    let events = recorder.take();
    let [Event::Closed(id, CloseReason::MaxConnections, Some(_))] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(id, second);
    script.answers(0, Err(ECONNREFUSED));
    settle(&mut server);
    server.connect(endpoint, addr(3));
    settle(&mut server);
    assert_eq!(server.counters().dialing, 1);
}

#[test]
fn what_the_kernel_will_not_watch_is_closed_before_and_after_the_answer() {
    for (failing, reason) in [(0, CloseReason::ConnectFailed), (1, CloseReason::RegisterFailed)] {
        let (mut server, script, endpoint, recorder) = started();
        script.world().watch_errors.extend([0; 2].iter().take(failing));
        script.world().watch_errors.push_back(ENOSPC);
        let id = server.connect(endpoint, addr(1));
        settle(&mut server);
        if failing == 1 {
            script.answers(0, Ok(()));
            settle(&mut server);
        }
        assert!(script.is_closed(0), "watch {failing}");
        let events = recorder.take();
        let [Event::Closed(closed, why, Some(_))] = events[..] else { panic!("{events:?}") };
        assert_eq!((closed, why), (id, reason), "watch {failing}");
        assert_eq!(closed_by(&server, reason), 1);
    }
}

#[test]
fn a_report_that_comes_too_early_or_too_late_changes_nothing() {
    let (mut server, script, endpoint, recorder) = started();
    let id = server.connect(endpoint, addr(1));
    settle(&mut server);
    let token = script.token_of(0);
    let writable = Ready { token, readable: false, writable: true, read_closed: false };
    script.tell_again(writable);
    settle(&mut server);
    assert_eq!((recorder.take(), server.counters().dialing), (vec![], 1), "it was too early");
    script.answers(0, Ok(()));
    script.tell_again(writable);
    settle(&mut server);
    script.tell_again(writable);
    settle(&mut server);
    assert_eq!(recorder.take(), [Event::Opened(id)]);
    assert_eq!(server.counters().open, 1);
}

#[test]
fn a_shutdown_ends_calls_and_their_service_is_told() {
    let (mut server, script, endpoint, recorder) = started();
    let id = server.connect(endpoint, addr(1));
    settle(&mut server);
    server.shutdown();
    settle(&mut server);
    let events = recorder.take();
    assert!(
        matches!(events[..], [Event::Closed(closed, CloseReason::Shutdown, _)] if closed == id)
    );
    assert!(script.is_closed(0));
    assert!(server.turn(Some(ZERO)).expect("a turn").finished);
}

/// Goes on when its peer has finished, and says what it is told to whoever is left.
struct Stayer;

impl Service for Stayer {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        if message == b"finish" {
            cx.finish(cx.id());
            return Ok(());
        }
        if message == b"close" {
            cx.close_after_flush();
        }
        cx.reply(message)
    }

    fn finished(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        cx.keep_open();
        cx.set_timer(Duration::from_secs(5));
        Ok(())
    }

    fn timer(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        cx.close_after_flush();
        cx.reply("late news")
    }
}

fn staying() -> (Server<Script>, Script, usize) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), Stayer, Limits::default());
    server.listen(endpoint.expect("valid settings"), addr(7000)).expect("the script listens");
    let socket = script.call();
    settle(&mut server);
    (server, script, socket)
}

#[test]
fn who_has_finished_can_still_be_told_something() {
    let (mut server, script, socket) = staying();
    script.peer_does(socket, [Step::Data(b"1\n".to_vec()), Step::Fin]);
    pass(&mut server, &script, Duration::from_secs(4));
    assert_eq!((script.sent(socket), script.is_closed(socket)), (b"1\n".to_vec(), false));
    pass(&mut server, &script, Duration::from_secs(1));
    assert_eq!((script.sent(socket), script.is_closed(socket)), (b"late news\n".to_vec(), true));
    assert_eq!(closed_by(&server, CloseReason::AppClose), 1);
}

#[test]
fn a_reset_behind_the_end_is_found_when_the_kernel_tells() {
    let (mut server, script, socket) = staying();
    script.peer_does(socket, [Step::Fin]);
    settle(&mut server);
    assert_eq!(server.counters().open, 1);
    script.answers(socket, Err(104));
    settle(&mut server);
    assert_eq!(closed_by(&server, CloseReason::PeerReset), 1);
    assert!(script.is_closed(socket));
}

#[test]
fn we_can_finish_and_still_listen_until_the_peer_finishes_too() {
    let (mut server, script, socket) = staying();
    script.set_room(socket, 1);
    script.peer_sends(socket, "1\nfinish\n");
    settle(&mut server);
    assert!(!script.is_finished(socket), "what is queued comes first");
    script.peer_takes(socket, 1000);
    settle(&mut server);
    assert_eq!((script.sent(socket), script.is_finished(socket)), (b"1\n".to_vec(), true));
    script.peer_sends(socket, "2\n3\n");
    settle(&mut server);
    assert_eq!(script.sent(socket), b"", "replies go nowhere");
    assert_eq!(server.counters().traffic.messages_in, 4);
    script.peer_does(socket, [Step::Fin]);
    settle(&mut server);
    assert!(script.is_closed(socket));
    assert_eq!(closed_by(&server, CloseReason::PeerEof), 1);
}

#[test]
fn a_shutdown_ends_who_is_half_open_and_who_has_finished() {
    let (mut server, script, half_open) = staying();
    let finished = script.call();
    script.peer_does(half_open, [Step::Fin]);
    script.peer_sends(finished, "finish\n");
    settle(&mut server);
    assert_eq!(server.counters().open, 2);
    server.shutdown();
    settle(&mut server);
    assert!(script.is_closed(half_open));
    script.peer_does(finished, [Step::Fin]);
    settle(&mut server);
    assert_eq!(closed_by(&server, CloseReason::Shutdown), 2);
    assert!(server.turn(Some(ZERO)).expect("a turn").finished);
}
