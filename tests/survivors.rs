//! The loop on a scripted kernel, once more: what the other tests would let pass, as
//! planted bugs and mutants have shown.

#[expect(dead_code, reason = "the other tests on the scripted kernel need the rest")]
mod support;

use std::time::Duration;

use oneloop::net::Ready;
use oneloop::services::Echo;
use oneloop::{CloseReason, Context, Limits, Lines, Served, Server, Service};
use support::{Script, Step, closed_by, settle};

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
