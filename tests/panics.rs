//! A service that panics, wherever it is called: that connection closes, with its reason,
//! and the loop is as if it had never been.

#[expect(dead_code, reason = "the other tests of the loop need the rest")]
mod support;

use std::cell::Cell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Context, FrameError, Limits, Lines, Served, Server, Service};
use support::{Script, Step, ZERO, assert_balance, closed_by, settle_with_panics};

/// The calls of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Opened,
    Message,
    BadInput,
    Timer,
    Finished,
    Closed,
}

/// Echoes; panics in one of its calls for whoever said `panic`, and at the first
/// connection in `opened`, where nobody has said anything yet.
struct Fragile {
    at: Call,
    opened: u32,
    closed: Rc<Cell<u32>>,
}

/// Whether this connection is one that makes it panic.
type Chosen = bool;

impl Fragile {
    fn may_panic(&self, call: Call, chosen: Chosen) {
        assert!(self.at != call || !chosen, "in {call:?}");
    }
}

impl Service for Fragile {
    type Session = Chosen;

    fn opened(&mut self, cx: &mut Context<'_>, chosen: &mut Chosen) -> Served {
        self.opened += 1;
        *chosen = self.opened == 1 && self.at == Call::Opened;
        cx.reply("hello")?;
        self.may_panic(Call::Opened, *chosen);
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, chosen: &mut Chosen, message: &[u8]) -> Served {
        cx.reply(message)?;
        cx.set_timer(Duration::from_millis(1));
        if message == b"panic" {
            *chosen = true;
            self.may_panic(Call::Message, true);
        }
        Ok(())
    }

    fn bad_input(&mut self, _: &mut Context<'_>, chosen: &mut Chosen, _: &FrameError) -> Served {
        self.may_panic(Call::BadInput, *chosen);
        Ok(())
    }

    fn timer(&mut self, _: &mut Context<'_>, chosen: &mut Chosen) -> Served {
        self.may_panic(Call::Timer, *chosen);
        Ok(())
    }

    fn finished(&mut self, _: &mut Context<'_>, chosen: &mut Chosen) -> Served {
        self.may_panic(Call::Finished, *chosen);
        Ok(())
    }

    fn closed(&mut self, _: &mut Context<'_>, chosen: &mut Chosen, _: CloseReason) {
        self.closed.set(self.closed.get() + 1);
        self.may_panic(Call::Closed, *chosen);
    }
}

fn fragile(at: Call, limits: Limits) -> (Server<Script>, Script, Rc<Cell<u32>>) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let closed = Rc::new(Cell::new(0));
    let service = Fragile { at, opened: 0, closed: closed.clone() };
    let endpoint = server.add(Lines::default().max(10), service, limits).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    (server, script, closed)
}

/// The first of two connections does all that leads to a panic in any call.
fn provoke(server: &mut Server<Script>, script: &Script, steps: &[&[u8]]) -> (usize, usize) {
    let (first, second) = (script.call(), script.call());
    settle_with_panics(server);
    script.peer_sends(second, "half of a ");
    settle_with_panics(server);
    for step in steps {
        if !script.is_closed(first) {
            script.peer_sends(first, step);
            settle_with_panics(server);
            script.world().now += Duration::from_millis(2);
            settle_with_panics(server);
        }
    }
    if !script.is_closed(first) {
        script.peer_does(first, [Step::Fin]);
        settle_with_panics(server);
    }
    (first, second)
}

/// Found by the simulation.
#[test]
fn what_was_queued_for_a_call_is_given_back_when_the_service_panics_at_its_answer() {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let service = Fragile { at: Call::Opened, opened: 0, closed: Rc::default() };
    let endpoint = server.add(Lines::default(), service, Limits::default()).expect("valid");
    let id = server.connect(endpoint, "127.0.0.1:1".parse::<SocketAddr>().expect("an address"));
    server.send(id, b"a greeting").expect("there is room");
    settle_with_panics(&mut server);
    assert!(server.buffered_bytes() > 0, "it waits for the answer");
    script.answers(0, Ok(()));
    settle_with_panics(&mut server);
    assert_eq!(closed_by(&server, CloseReason::HandlerPanic), 1);
    assert_eq!(server.buffered_bytes(), 0);
}

#[test]
fn a_panic_in_any_call_closes_that_connection_at_once_and_no_other() {
    #[rustfmt::skip]
    let cases = [
        // where, what the first connection hears of, and why it ends
        (Call::Opened,   "",                    CloseReason::HandlerPanic),
        (Call::Message,  "hello\n",             CloseReason::HandlerPanic),
        (Call::Timer,    "hello\none\npanic\n", CloseReason::HandlerPanic),
        (Call::BadInput, "hello\none\npanic\n", CloseReason::HandlerPanic),
        (Call::Finished, "hello\none\npanic\n", CloseReason::HandlerPanic),
        // It was over, in order, before.
        (Call::Closed,   "hello\none\npanic\n", CloseReason::PeerEof),
    ];
    for (at, heard, reason) in cases {
        let (mut server, script, closed) = fragile(at, Limits::default());
        let steps: [&[u8]; 2] = [b"one\npanic\n", b"much too long a line\n"];
        let (first, second) = provoke(&mut server, &script, &steps);
        assert!(script.is_closed(first), "{at:?}: it does not linger");
        assert_eq!(String::from_utf8_lossy(&script.sent(first)), heard, "{at:?}");
        assert_eq!(closed_by(&server, reason), 1, "{at:?}");
        assert_eq!(closed.get(), 1, "{at:?}: the service hears of the end once");
        // The other one never notices.
        assert_eq!(server.counters().open, 1, "{at:?}");
        script.peer_sends(second, "\nnext\n");
        settle_with_panics(&mut server);
        assert_eq!(script.sent(second), b"hello\nhalf of a \nnext\n", "{at:?}");
        assert_eq!(server.buffered_bytes(), 0, "{at:?}");
    }
}

/// The message that panics was begun in one read and ended in another, so its bytes are
/// out of the pool, and other replies wait for the socket.
#[test]
fn a_panic_leaves_no_byte_in_the_pool_and_no_reply_for_someone_else() {
    let (mut server, script, _) = fragile(Call::Message, Limits::default());
    let (first, second) = (script.call(), script.call());
    settle_with_panics(&mut server);
    script.sent(second);
    script.set_room(first, 0);
    script.peer_sends(first, "answered\nnot answered\n");
    script.peer_sends(first, "pan");
    script.peer_sends(second, "ha");
    settle_with_panics(&mut server);
    assert_eq!(server.buffered_bytes(), 3 * 64, "an output and two inputs");
    script.peer_sends(first, "ic\nmore\n");
    script.peer_sends(second, "lf\n");
    settle_with_panics(&mut server);
    assert_eq!(closed_by(&server, CloseReason::HandlerPanic), 1);
    assert_eq!(script.sent(second), b"half\n");
    assert_eq!(server.buffered_bytes(), 0);
}

#[test]
fn a_thousand_panics_are_a_thousand_closed_connections() {
    let (mut server, script, closed) = fragile(Call::Message, Limits::default());
    for _ in 0..10 {
        for _ in 0..100 {
            let socket = script.call();
            script.peer_sends(socket, "panic\n");
        }
        settle_with_panics(&mut server);
    }
    settle_with_panics(&mut server);
    assert_eq!(closed_by(&server, CloseReason::HandlerPanic), 1000);
    assert_eq!((closed.get(), server.counters().open, server.deadline()), (1000, 0, None));
}

#[test]
fn on_demand_a_panic_goes_through_the_loop_to_the_host() {
    let (mut server, script, _) = fragile(Call::Message, Limits::default().abort_on_panic(true));
    let socket = script.call();
    script.peer_sends(socket, "panic\n");
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..3 {
            let _ = server.turn(Some(ZERO));
        }
    }));
    let panic = ended.expect_err("it was not caught before");
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("in Message"));
}

/// Who could not be connected is told of in `closed`, outside of any connection's turn.
#[test]
fn a_panic_about_a_call_that_failed_ends_nothing() {
    struct Told;
    impl Service for Told {
        type Session = ();
        fn message(&mut self, _: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
            Ok(())
        }
        fn closed(&mut self, _: &mut Context<'_>, (): &mut (), reason: CloseReason) {
            panic!("{reason}");
        }
    }
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), Told, Limits::default()).expect("valid settings");
    script.world().connect_errors.extend([111; 9]);
    let to: std::net::SocketAddr = "127.0.0.1:1".parse().expect("an address");
    server.connect(endpoint, to);
    settle_with_panics(&mut server);
    assert_balance(&server.counters());
    assert_eq!(closed_by(&server, CloseReason::ConnectFailed), 1);
}
