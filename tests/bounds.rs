//! What bounds memory beside the budget, in virtual time: connections that linger are
//! bounded, and what one turn adds is looked at before the next one adds more.

#[expect(dead_code, reason = "the other tests of the loop need the rest")]
mod support;

use std::time::Duration;

use oneloop::services::Echo;
use oneloop::{
    CloseReason, Context, Endian, LengthField, Limits, Lines, Served, Server, Service, WhenFull,
};
use support::{Script, closed_by, settle};

const BUDGET: usize = 64 << 10;

fn serve(service: impl Service + 'static, limits: Limits) -> (Server<Script>, Script) {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let endpoint = server.add(Lines::default(), service, limits).expect("valid");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    (server, script)
}

#[test]
fn as_many_linger_as_may_be_open_and_the_next_is_closed_at_once() {
    let script = Script::new();
    let mut server = Server::with_sys(script.clone());
    let framing = LengthField::u16(Endian::Big).max(1);
    let endpoint =
        server.add(framing, Echo, Limits::default().max_connections(1100)).expect("valid");
    server.listen(endpoint, "127.0.0.1:7000").expect("the script listens anywhere");
    let mut sockets = Vec::new();
    for _ in 0..1102 {
        sockets.push(script.call());
        settle(&mut server);
        script.peer_sends(*sockets.last().expect("one called"), b"\xff\xff");
        settle(&mut server);
    }
    assert_eq!(closed_by(&server, CloseReason::TooLong), 1102);
    assert_eq!((server.counters().open, server.counters().lingering), (0, 1100));
    let closed: Vec<bool> = sockets.iter().map(|&socket| script.is_closed(socket)).collect();
    assert_eq!(closed.iter().filter(|&&closed| closed).count(), 2);
    assert!(closed[1100] && closed[1101], "those before go on waiting for their FIN");
    assert!(script.is_finished(sockets[1101]), "it has had ours");
}

#[test]
fn where_few_may_be_open_a_thousand_who_are_told_so_may_linger() {
    let limits = Limits::default().max_connections(1).when_full(WhenFull::Refuse);
    let (mut server, script) = serve(Echo, limits);
    let sockets: Vec<usize> = (0..1 + 1024 + 3).map(|_| script.call()).collect();
    settle(&mut server);
    assert_eq!((server.counters().open, server.counters().lingering), (1, 1024));
    assert_eq!(closed_by(&server, CloseReason::MaxConnections), 1027);
    for &socket in &sockets[1..] {
        let told = b"busy: all 1 connections are in use\n";
        assert!(script.sent(socket) == told && script.is_finished(socket));
    }
    let closed = sockets.iter().filter(|&&socket| script.is_closed(socket)).count();
    assert_eq!(closed, 3);
}

/// Says 4,000 bytes at once, or when its timer comes.
struct Greets {
    later: bool,
}

impl Service for Greets {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        if self.later {
            cx.set_timer(Duration::from_secs(1));
            return Ok(());
        }
        cx.reply(&[b'x'; 4000])
    }

    fn timer(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        cx.reply(&[b'x'; 4000])
    }

    fn message(&mut self, _: &mut Context<'_>, (): &mut (), _: &[u8]) -> Served {
        Ok(())
    }
}

#[test]
fn nobody_is_let_in_whose_greeting_there_is_no_memory_for() {
    let (mut server, script) = serve(Greets { later: false }, Limits::default());
    server.memory_budget(BUDGET);
    let sockets: Vec<usize> = (0..100).map(|_| script.call()).collect();
    sockets.iter().for_each(|&socket| script.set_room(socket, 0));
    settle(&mut server);
    // 15 buffers of 4 KiB are nine tenths of it.
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Memory)), (15, 0));
    for &socket in &sockets {
        script.set_room(socket, 8000);
    }
    for &socket in &sockets[..15] {
        script.set_room(socket, 0);
        script.peer_takes(socket, 8000);
    }
    settle(&mut server);
    assert_eq!((server.counters().open, closed_by(&server, CloseReason::Memory)), (100, 0));
}

#[test]
fn of_many_timers_at_once_the_budget_is_looked_at_behind_each() {
    let (mut server, script) = serve(Greets { later: true }, Limits::default());
    server.memory_budget(BUDGET);
    let sockets: Vec<usize> = (0..500).map(|_| script.call()).collect();
    settle(&mut server);
    sockets.iter().for_each(|&socket| script.set_room(socket, 0));
    script.world().now += Duration::from_secs(2);
    let asked = allocation_counter::measure(|| settle(&mut server));
    assert!(closed_by(&server, CloseReason::Memory) > 400, "{:?}", server.counters());
    // All 500 would be 2 MB.
    assert!(asked.bytes_max < 512 << 10, "{} bytes at once", asked.bytes_max);
}
