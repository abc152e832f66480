//! What services say to others, on a scripted kernel: never out of order, never behind our
//! FIN, and with no more writes than there is room for.

#[expect(dead_code, reason = "the other tests on the scripted kernel need the rest")]
mod support;

use std::time::Duration;

use oneloop::services::Echo;
use oneloop::{Audience, CloseReason, ConnId, Context, Limits, Lines, Served, Server, Service};
use support::{Call, Script, closed_by, pass, settle};

/// Output above which a letter does not wait for the end of the turn.
const HIGH: usize = 100;
const LARGE: [u8; 2 * HIGH] = [b'x'; 2 * HIGH];

/// Does to the first connection what another one says.
#[derive(Default)]
struct Tells(Option<ConnId>);

impl Service for Tells {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        self.0.get_or_insert(cx.id());
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        let Some(first) = self.0.filter(|first| *first != cx.id()) else { return Ok(()) };
        match message {
            b"small" => cx.send(first, b"small"),
            b"large" => cx.send(first, &LARGE),
            b"everyone" => cx.broadcast(Audience::Everyone, b"everyone"),
            _ => {
                cx.finish(first);
                Ok(())
            }
        }
    }
}

fn serve(service: impl Service + 'static, limits: Limits) -> (Server<Script>, Script) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), service, limits).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    (server, script)
}

/// A server of those, and the sockets of whom it tells, and of who has it told.
fn tells() -> (Server<Script>, Script, [usize; 2]) {
    let limits = Limits::default().output_high(HIGH).output_low(HIGH / 2);
    let (mut server, script) = serve(Tells::default(), limits);
    let sockets = [(); 2].map(|()| {
        let socket = script.call();
        settle(&mut server);
        socket
    });
    (server, script, sockets)
}

/// A small letter waits for the end of the turn; one that is large, or for everyone, is
/// written when it is found, unless something waits before it.
#[test]
fn no_letter_overtakes_the_one_before_it() {
    let large = String::from_utf8_lossy(&LARGE);
    for (says, hears) in [
        ("small\nlarge\n", format!("small\n{large}\n")),
        ("small\neveryone\nlarge\n", format!("small\neveryone\n{large}\n")),
        ("large\nsmall\neveryone\n", format!("{large}\nsmall\neveryone\n")),
    ] {
        let (mut server, script, [first, other]) = tells();
        script.peer_sends(other, says);
        settle(&mut server);
        assert_eq!(String::from_utf8_lossy(&script.sent(first)), hears, "{says:?}");
    }
}

/// The script panics if anything is written behind our FIN.
#[test]
fn no_letter_of_any_kind_is_written_to_whom_we_have_said_all() {
    for (says, gone) in [("small\n", 1), ("large\n", 1), ("everyone\n", 0)] {
        let (mut server, script, [first, other]) = tells();
        script.peer_sends(other, "finish\n");
        settle(&mut server);
        assert!(script.is_finished(first));
        script.peer_sends(other, says);
        settle(&mut server);
        assert_eq!((server.counters().gone, script.sent(first)), (gone, vec![]), "{says:?}");
    }
}

/// A kernel that takes some at a time would otherwise be asked again and again, and
/// perhaps never watched.
#[test]
fn after_a_short_write_nothing_is_written_until_the_kernel_tells_of_room() {
    let (mut server, script) = serve(Echo, Limits::default());
    let socket = script.call();
    settle(&mut server);
    script.set_room(socket, 3);
    script.take_calls();
    script.peer_sends(socket, "hello\n");
    settle(&mut server);
    let calls = script.take_calls();
    let writes = calls.iter().filter(|call| matches!(call, Call::Write(..)));
    assert_eq!(writes.count(), 1, "{calls:?}");
    assert!(calls.contains(&Call::WatchWrite(socket)), "{calls:?}");
    script.peer_takes(socket, 10);
    settle(&mut server);
    assert_eq!(script.sent(socket), b"hello\n");
}

#[test]
fn who_falls_behind_what_all_are_told_late_in_the_day_has_its_time_to_read_it() {
    let (mut server, script, [first, other]) = tells();
    pass(&mut server, &script, Duration::from_secs(1000));
    script.set_room(first, 0);
    script.peer_sends(other, "everyone\n");
    pass(&mut server, &script, Duration::from_secs(28));
    assert_eq!(closed_by(&server, CloseReason::WriteStall), 0);
    pass(&mut server, &script, Duration::from_secs(4));
    assert_eq!(closed_by(&server, CloseReason::WriteStall), 1);
}

/// What is for one alone waits behind a copy of that.
#[test]
fn a_copy_of_what_all_are_told_takes_what_it_is_long_however_much_was_said_before() {
    let (mut server, script, [first, other]) = tells();
    for _ in 0..100 {
        script.set_room(first, 0);
        script.peer_sends(other, "everyone\n");
        settle(&mut server);
        script.peer_takes(first, 100);
        settle(&mut server);
    }
    script.set_room(first, 0);
    script.peer_sends(other, "everyone\nsmall\n");
    settle(&mut server);
    assert_eq!(server.buffered_bytes(), 64);
    script.sent(first);
    script.peer_takes(first, 100);
    settle(&mut server);
    assert_eq!(script.sent(first), b"everyone\nsmall\n");
}
