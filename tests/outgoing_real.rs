//! The loop calls on the real kernel: servers that are there, and all the ways in which
//! one is not.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use oneloop::services::Echo;
use oneloop::{
    CloseReason, Context, Dial, EndpointId, Limits, Lines, Retry, Served, Server, Service,
};

/// Asks each server that answers, and writes down how it went.
#[derive(Clone, Default)]
struct Asker(Rc<RefCell<Vec<String>>>);

impl Service for Asker {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        cx.reply("ping")
    }

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        self.0.borrow_mut().push(format!("heard {}", message.escape_ascii()));
        cx.close_after_flush();
        Ok(())
    }

    fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), reason: CloseReason) {
        self.0.borrow_mut().push(match cx.connect_error() {
            Some(error) => format!("{reason}: {:?}", std::io::Error::from(error).kind()),
            None => reason.to_string(),
        });
    }
}

fn caller(limits: Limits) -> (Server, EndpointId, Asker) {
    let asker = Asker::default();
    let mut server = Server::new().expect("a loop");
    let endpoint = server.add(Lines::default(), asker.clone(), limits).expect("valid settings");
    (server, endpoint, asker)
}

/// Turns the loop until that many lines are written down.
fn turn(server: &mut Server, asker: &Asker, lines: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    while asker.0.borrow().len() < lines {
        let _ = server.turn(Some(Duration::from_millis(100))).expect("a loop that goes on");
        assert!(Instant::now() < end, "{:?}", asker.0.borrow());
    }
    asker.0.take()
}

/// A port where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a TCP socket")
}

#[test]
fn a_loop_talks_to_itself_over_ipv4_ipv6_and_a_unix_socket() {
    let (mut server, endpoint, asker) = caller(Limits::default());
    let echo = server.add(Lines::default(), Echo, Limits::default()).expect("valid settings");
    let path = std::env::temp_dir().join(format!("oneloop-dial-{}", std::process::id()));
    let v4 = server.listen(echo, "127.0.0.1:0").expect("a free port");
    server.listen_unix(echo, &path, None).expect("a free path");
    let mut dials = vec![Dial::from(v4), Dial::unix(&path)];
    if let Ok(v6) = server.listen(echo, "[::1]:0") {
        dials.push(v6.into());
    }
    for dial in dials {
        server.connect(endpoint, dial);
        assert_eq!(turn(&mut server, &asker, 2), ["heard ping", "app_close"]);
    }
    server.shutdown_now();
}

#[test]
fn who_is_not_there_is_told_by_what_the_kernel_says() {
    let (mut server, endpoint, asker) = caller(Limits::default());
    server.connect(endpoint, nobody());
    assert_eq!(turn(&mut server, &asker, 1), ["connect_failed: ConnectionRefused"]);
    server.connect(endpoint, Dial::unix("/nowhere/at/all"));
    assert_eq!(turn(&mut server, &asker, 1), ["connect_failed: NotFound"]);
    server.connect(endpoint, Dial::unix("x".repeat(500)));
    assert_eq!(turn(&mut server, &asker, 1), ["connect_failed: AddrNotAvailable"]);
    server.connect(endpoint, Dial::new([]));
    assert_eq!(turn(&mut server, &asker, 1), ["connect_failed: AddrNotAvailable"]);
    // An address that is not ours cannot be the source.
    let strange = IpAddr::from([203, 0, 113, 1]);
    server.connect(endpoint, Dial::from(nobody()).source(strange));
    assert_eq!(turn(&mut server, &asker, 1), ["connect_failed: AddrNotAvailable"]);
    assert_eq!(server.deadline(), None, "nothing is left behind");
}

#[test]
fn a_second_address_is_called_when_the_first_refuses_and_the_source_is_ours_to_choose() {
    let (mut server, endpoint, asker) = caller(Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let there = listener.local_addr().expect("a TCP socket");
    let source = IpAddr::from([127, 0, 0, 2]);
    let answering = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("a caller");
        let mut asked = [0; 5];
        stream.read_exact(&mut asked).expect("a line");
        stream.write_all(&asked).expect("it listens");
        peer.ip()
    });
    server.connect(endpoint, Dial::new([nobody(), there]).source(source));
    assert_eq!(turn(&mut server, &asker, 2), ["heard ping", "app_close"]);
    assert_eq!(answering.join().expect("no panic"), source);
}

#[test]
fn a_server_that_comes_up_later_is_reached_by_a_retry() {
    let (mut server, endpoint, asker) = caller(Limits::default());
    let path = std::env::temp_dir().join(format!("oneloop-late-{}", std::process::id()));
    let retry = Retry::every(1000, Duration::from_millis(10));
    server.connect(endpoint, Dial::unix(&path).retry(retry));
    for _ in 0..5 {
        let _ = server.turn(Some(Duration::from_millis(10))).expect("a loop that goes on");
    }
    assert_eq!(server.counters().dialing, 1);
    let listener = UnixListener::bind(&path).expect("a free path");
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        stream.write_all(b"late\n").expect("it listens");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an orderly end");
        rest
    });
    assert_eq!(turn(&mut server, &asker, 2), ["heard late", "app_close"]);
    // It lingers until the peer's FIN.
    while server.counters().lingering > 0 {
        let _ = server.turn(Some(Duration::from_millis(10))).expect("a loop that goes on");
    }
    assert_eq!(answering.join().expect("no panic"), b"ping\n");
    std::fs::remove_file(path).expect("it was bound");
}
