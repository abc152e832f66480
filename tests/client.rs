//! The blocking client, on real sockets, before servers that behave and servers that do not.
//!
//! ```text
//!  test: Client ──▶ 127.0.0.1 ──▶ a thread: oneloop's own server, or a script over std::net
//! ```
//!
//! What a client does while its server is killed and started again is in
//! `client_restarts.rs`.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use oneloop::services::Echo;
use oneloop::{
    Client, ClientError, ClientOptions, EncodeError, Endian, FrameError, Framing, LengthField,
    Limits, Lines, LostBy, Pair, Raw, Retry, Server, Service, State,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// Fails instead of hanging.
fn options() -> ClientOptions {
    ClientOptions::default().read_timeout(Some(PATIENCE)).write_timeout(Some(PATIENCE))
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound").to_string();
    (listener, addr)
}

/// A server that does `script` to its callers, one after the other, with their number.
fn scripted(mut script: impl FnMut(usize, TcpStream) + Send + 'static) -> String {
    let (listener, addr) = listener();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            script(number, stream.expect("a caller"));
        }
    });
    addr
}

/// A server of this library.
fn serving<F: Framing + Send + 'static, S: Service + Send + 'static>(
    framing: F,
    service: S,
    limits: Limits,
) -> String {
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut server = Server::new().expect("a loop");
        let endpoint = server.add(framing, service, limits).expect("limits that fit");
        let addr = server.listen(endpoint, "127.0.0.1:0").expect("a port is free");
        tell.send(addr).expect("it is waited for");
        server.run()
    });
    told.recv().expect("it starts").to_string()
}

/// An address where nobody listens.
fn nobody() -> String {
    listener().1
}

fn take(stream: &mut TcpStream, count: usize) {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("the client sends it");
}

fn lines(addr: &str, options: ClientOptions) -> Client<Lines> {
    Client::new(addr, Lines::default(), options)
}

fn lost(error: ClientError) -> (LostBy, Vec<String>) {
    match error {
        ClientError::Lost { why, unanswered, .. } => {
            let text = |message: Vec<u8>| String::from_utf8(message).expect("text");
            (why, unanswered.into_iter().map(text).collect())
        }
        error => panic!("not lost: {error}"),
    }
}

// Nobody there.

#[test]
fn a_server_that_is_not_there_is_called_so_often_and_so_far_apart() {
    let addr = nobody();
    let mut client = lines(&addr, options().retry(Retry::every(4, ms(30))));
    let begin = Instant::now();
    let error = client.request("hello").unwrap_err();
    let (took, text) = (begin.elapsed(), error.to_string());
    assert!(matches!(error, ClientError::Connect { tries: 4, .. }), "{text}");
    assert!(text.starts_with(&format!("{addr}: cannot connect, tried 4 times: ")), "{text}");
    assert!((ms(90)..ms(90) + PATIENCE).contains(&took), "{took:?}");
}

#[test]
fn calls_of_a_caller_that_does_not_wait_are_held_apart_all_the_same() {
    let mut client = lines(&nobody(), options().retry(Retry::every(1, ms(40))));
    let begin = Instant::now();
    for _ in 0..4 {
        let error = client.connect().unwrap_err();
        assert!(matches!(error, ClientError::Connect { tries: 1, .. }), "{error}");
    }
    assert!(begin.elapsed() >= ms(120), "{:?}", begin.elapsed());
}

#[test]
fn a_name_that_is_not_known_and_an_address_that_is_none_are_named() {
    for addr in ["no-such-host.invalid:7000", "unix:/no/such/socket"] {
        let error = lines(addr, options()).send("hello").unwrap_err();
        assert!(matches!(error, ClientError::Connect { tries: 1, .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("{addr}: cannot connect: ")), "{error}");
    }
    // What is no address will not become one.
    let patient = options().retry(Retry::every(10, PATIENCE));
    let error = lines("no port", patient).connect().unwrap_err();
    assert!(matches!(error, ClientError::Connect { tries: 1, .. }), "{error}");
}

#[test]
fn both_halves_share_what_comes_of_calling() {
    let (mut sender, mut receiver) =
        lines(&nobody(), options().retry(Retry::every(3, ms(150)))).split();
    let begin = Instant::now();
    let receiving = thread::spawn(move || receiver.receive().unwrap_err());
    let errors = [sender.send("hello").unwrap_err(), receiving.join().unwrap()];
    for error in errors {
        assert!(matches!(error, ClientError::Connect { tries: 3, .. }), "{error}");
    }
    // One after the other would take 750 ms: the second one's first call waits, too.
    assert!(begin.elapsed() < ms(700), "{:?}", begin.elapsed());
}

#[cfg(unix)]
#[test]
fn a_unix_socket_whose_backlog_is_full_is_waited_for_as_long_as_was_said() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let path = std::env::temp_dir().join(format!("oneloop-client-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let addr = format!("unix:{}", path.display());
    let mut clients = Vec::new();
    let error = loop {
        let mut client = lines(&addr, options().connect_timeout(ms(50)));
        match client.connect() {
            Ok(()) if clients.len() < 100 => clients.push(client),
            result => break result.unwrap_err(),
        }
    };
    let ClientError::Connect { error, .. } = error else { panic!("{error}") };
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    // Those that got in talk as over TCP.
    let (mut stream, _) = listener.accept().unwrap();
    clients[0].send("hello").unwrap();
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).unwrap();
    stream.write_all(&hello).unwrap();
    assert_eq!(clients[0].receive().unwrap().unwrap(), b"hello");
    std::fs::remove_file(&path).unwrap();
}

// What cannot be sent.

#[test]
fn a_message_that_is_too_large_costs_nothing() {
    let mut client = Client::new(nobody(), Lines::default().max(4), options());
    let error = client.send("hello").unwrap_err();
    let too_long = EncodeError::TooLong { len: 5, max: 4 };
    assert!(matches!(&error, ClientError::Encode(e) if *e == too_long), "{error}");
    assert_eq!(error.to_string(), format!("nothing was sent: {too_long}"));
}

#[test]
fn more_than_may_wait_for_replies_is_refused_or_waited_for() {
    let (go, gone) = channel();
    let addr = scripted(move |_, mut stream| {
        take(&mut stream, 4);
        gone.recv().unwrap();
        stream.write_all(b"a\n").unwrap();
        take(&mut stream, 2);
    });
    // Each counts 64 bytes more than it has.
    let mut client = lines(&addr, options().max_unanswered(130));
    client.send("a").unwrap();
    client.send("b").unwrap();
    let error = client.send("c").unwrap_err();
    let text =
        format!("{addr}: nothing was sent: 195 bytes would wait for replies, the limit is 130");
    assert_eq!(error.to_string(), text);
    let (mut sender, mut receiver) = client.split();
    let receiving = thread::spawn(move || {
        let first = receiver.receive().unwrap();
        (first, receiver.receive().unwrap_err())
    });
    go.send(()).unwrap();
    sender.send("c").unwrap();
    let (first, end) = receiving.join().unwrap();
    assert_eq!(first.as_deref(), Some(&b"a"[..]));
    assert_eq!(lost(end).1, ["b", "c"]);
}

// Servers that misbehave.

#[test]
fn garbage_ends_the_connection_and_hands_back_what_was_not_answered() {
    let addr = scripted(|_, mut stream| {
        take(&mut stream, 9);
        stream.write_all(b"\0\0\0\x02okHTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0]);
    });
    let mut client = Client::new(&addr, LengthField::u32(Endian::Big), options());
    client.send("a").unwrap();
    client.send("b").unwrap();
    assert_eq!(client.receive().unwrap().unwrap(), b"ok");
    let (why, unanswered) = lost(client.receive().unwrap_err());
    let announced = Some(u64::from(u32::from_be_bytes(*b"HTTP")));
    assert!(
        matches!(why, LostBy::Frame(FrameError::TooLong { announced: a, .. }) if a == announced),
        "{why:?}"
    );
    assert_eq!(unanswered, ["b"]);
}

#[test]
fn a_server_gone_in_the_middle_of_a_reply_hands_back_its_message() {
    let addr = scripted(|_, mut stream| {
        take(&mut stream, 6);
        stream.write_all(b"hel").unwrap();
    });
    let error = lines(&addr, options()).request("hello").unwrap_err();
    let text = format!(
        "{addr}: connection lost: the server's bytes are no message: \
         stream ended 3 bytes into a message; 1 message was not answered"
    );
    assert_eq!(error.to_string(), text);
    assert_eq!(lost(error).1, ["hello"]);
}

#[test]
fn silence_costs_a_receiver_nothing_and_a_request_its_connection() {
    let (go, gone) = channel();
    let addr = scripted(move |_, mut stream| {
        take(&mut stream, 6);
        gone.recv().unwrap();
        stream.write_all(b"late\n").unwrap();
        // Until the client is gone.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut client = lines(&addr, options().read_timeout(Some(ms(50))));
    client.send("hello").unwrap();
    let error = client.receive().unwrap_err();
    let text = format!("{addr}: connected, but nothing came in 50ms; 1 message was not answered");
    assert_eq!(error.to_string(), text);
    go.send(()).unwrap();
    let late = loop {
        match client.receive() {
            Err(ClientError::Timeout { unanswered: 1, .. }) => {}
            other => break other.unwrap().unwrap(),
        }
    };
    assert_eq!(late, b"late");
    let (why, unanswered) = lost(client.request("again").unwrap_err());
    assert!(matches!(why, LostBy::Timeout(time) if time == ms(50)), "{why:?}");
    assert_eq!(unanswered, ["again"]);
}

#[test]
fn a_server_that_closes_every_connection_is_called_less_and_less_often() {
    let (call, calls) = channel();
    let addr = scripted(move |_, mut stream| {
        call.send(Instant::now()).unwrap();
        take(&mut stream, 6);
    });
    let retry = Retry::growing(1, ms(20), ms(80));
    let mut client = lines(&addr, options().retry(retry));
    let begin = Instant::now();
    for _ in 0..6 {
        let (why, unanswered) = lost(client.request("hello").unwrap_err());
        assert!(matches!(why, LostBy::Server | LostBy::Socket(_)), "{why:?}");
        assert_eq!(unanswered, ["hello"]);
    }
    let times: Vec<Duration> = calls.try_iter().map(|call: Instant| call - begin).collect();
    assert_eq!(times.len(), 6, "{times:?}");
    // Pauses are 20, 40, 80, 80 and 80 ms, each shortened by up to a half.
    for (time, least) in times.iter().zip([0, 10, 30, 70, 110, 150]) {
        assert!((ms(least)..PATIENCE).contains(time), "{times:?}");
    }
}

#[test]
fn replies_that_came_before_the_end_are_delivered_and_only_the_others_handed_back() {
    for split in [false, true] {
        let (go, gone) = channel();
        let addr = scripted(move |number, mut stream| {
            if number > 0 {
                return;
            }
            take(&mut stream, 6);
            stream.write_all(b"1\n2\n3\n").unwrap();
            // Closing with input unread resets the connection, and the client is to
            // learn of it by a write.
            let _: () = gone.recv().unwrap();
        });
        let mut client = lines(&addr, options());
        for number in 1..=10 {
            client.send(&number.to_string()).unwrap();
        }
        let (mut delivered, mut unanswered, mut sent) = (Vec::new(), Vec::new(), 10);
        if split {
            let (mut sender, mut receiver) = client.split();
            go.send(()).unwrap();
            // Nothing is received before sending has failed.
            let error = loop {
                sent += 1;
                if let Err(error) = sender.send(&sent.to_string()) {
                    break error;
                }
            };
            assert_eq!(lost(error).1, Vec::<String>::new(), "the other half hands back");
            let error = loop {
                match receiver.receive() {
                    Ok(message) => delivered.extend(message),
                    Err(error) => break error,
                }
            };
            let (why, rest) = lost(error);
            assert!(matches!(why, LostBy::OtherHalf), "{why:?}");
            unanswered.extend(rest);
        } else {
            go.send(()).unwrap();
            let error = loop {
                sent += 1;
                if let Err(error) = client.send(&sent.to_string()) {
                    break error;
                }
            };
            let (why, rest) = lost(error);
            assert!(matches!(why, LostBy::Socket(_)), "{why:?}");
            unanswered.extend(rest);
            for _ in 0..3 {
                delivered.extend(client.receive().unwrap());
            }
        }
        assert_eq!(delivered, [b"1", b"2", b"3"], "split: {split}");
        let expected: Vec<String> = (4..=sent).map(|number: u32| number.to_string()).collect();
        assert_eq!(unanswered, expected, "split: {split}");
    }
}

#[test]
fn a_server_that_does_not_read_is_given_up_and_nothing_sent_is_forgotten() {
    let (_keep, kept) = channel::<()>();
    let addr = scripted(move |_, stream| {
        let _ = kept.recv();
        drop(stream);
    });
    let framing = LengthField::u32(Endian::Big);
    let mut client =
        Client::new(&addr, framing, options().write_timeout(Some(ms(100))).max_unanswered(1 << 30));
    let message = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let error = loop {
        sent += 1;
        match client.send(&message) {
            Ok(()) if sent < 1000 => {}
            result => break result.unwrap_err(),
        }
    };
    let (why, unanswered) = lost(error);
    assert!(matches!(why, LostBy::Timeout(time) if time == ms(100)), "{why:?}");
    assert_eq!(unanswered.len(), sent);
}

#[test]
fn a_server_that_answers_nothing_leaves_its_messages_with_the_client_that_says_so() {
    let (heard, hears) = channel();
    let addr = scripted(move |_, mut stream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        heard.send(all).unwrap();
    });
    let mut client = lines(&addr, options().answered(false));
    client.send("a").unwrap();
    client.send("b").unwrap();
    client.finish();
    let error = client.send("c").unwrap_err();
    assert!(matches!(error, ClientError::Finished { .. }), "{error}");
    assert_eq!(client.receive().unwrap(), None);
    assert_eq!(hears.recv().unwrap(), "a\nb\n");
    // After the end of both comes a new beginning.
    client.send("c").unwrap();
    client.finish();
    assert_eq!(client.receive().unwrap(), None);
    assert_eq!(hears.recv().unwrap(), "c\n");
}

#[test]
fn a_message_that_is_not_kept_is_handed_back_if_its_sending_fails() {
    let (go, gone) = channel();
    let addr = scripted(move |_, stream| {
        gone.recv().unwrap();
        drop(stream);
    });
    let (mut sender, _receiver) = lines(&addr, options().answered(false)).split();
    sender.send("0").unwrap();
    go.send(()).unwrap();
    let mut number = 0;
    let error = loop {
        number += 1;
        if let Err(error) = sender.send(&number.to_string()) {
            break error;
        }
    };
    assert_eq!(lost(error).1, [number.to_string()]);
    let addr = scripted(|_, mut stream| take(&mut stream, 6));
    let error = lines(&addr, options().answered(false)).request("hello").unwrap_err();
    assert_eq!(lost(error).1, ["hello"]);
}

#[test]
fn without_a_receiving_half_the_sending_one_hands_back_and_with_an_idle_one_it_says_so() {
    for dropped in [true, false] {
        let (go, gone) = channel();
        let addr = scripted(move |_, stream| {
            let _ = gone.recv();
            drop(stream);
        });
        let (mut sender, receiver) = lines(&addr, options().write_timeout(Some(ms(100)))).split();
        let receiver = Some(receiver).filter(|_| !dropped);
        sender.send("0").unwrap();
        go.send(()).unwrap();
        let mut sent = 0;
        let error = loop {
            sent += 1;
            if let Err(error) = sender.send(&sent.to_string()) {
                break error;
            }
        };
        let all: Vec<String> = (0..=sent).map(|number| number.to_string()).collect();
        let unanswered = lost(error).1;
        let Some(mut receiver) = receiver else {
            assert_eq!(unanswered, all);
            continue;
        };
        assert_eq!(unanswered, Vec::<String>::new());
        let error = sender.send("more").unwrap_err();
        let text = format!(
            "{addr}: nothing was sent: the connection is lost, \
             and what came on it was not received in 100ms"
        );
        assert_eq!(error.to_string(), text);
        assert_eq!(lost(receiver.receive().unwrap_err()).1, all);
    }
}

// Servers that behave.

#[test]
fn a_request_leaves_replies_that_were_due_before_to_be_received() {
    let mut client = lines(&serving(Lines::default(), Echo, Limits::default()), options());
    client.send("a").unwrap();
    client.send("b").unwrap();
    assert_eq!(client.request("c").unwrap(), b"c");
    assert_eq!(client.receive().unwrap().unwrap(), b"a");
    assert_eq!(client.receive().unwrap().unwrap(), b"b");
    assert_eq!(client.request("d").unwrap(), b"d");
}

#[test]
fn a_server_that_has_closed_meanwhile_costs_the_next_message_nothing() {
    let (close, closed) = channel();
    let addr = scripted(move |number, mut stream| {
        take(&mut stream, 6);
        // Its last words come with the end.
        writeln!(stream, "reply {number}\nbye").unwrap();
        drop(stream);
        close.send(()).unwrap();
    });
    let (tell, told) = channel();
    let mut client = lines(&addr, options()).on_state(move |state| tell.send(state).unwrap());
    for number in 0..5 {
        assert_eq!(client.request("hello").unwrap(), format!("reply {number}").as_bytes());
        assert_eq!(client.receive().unwrap().unwrap(), b"bye");
        closed.recv().unwrap();
        // Whether we look for the end or send into it.
        if number % 2 == 0 {
            assert_eq!(client.receive().unwrap(), None);
        }
    }
    let expected = [State::Connected, State::Disconnected].repeat(5);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let addr = scripted(|_, mut stream| {
        stream.write_all(b"welcome\n").unwrap();
        take(&mut stream, 6);
        stream.write_all(b"1\n2\n3\n").unwrap();
    });
    let mut client = lines(&addr, options().answered(false));
    assert_eq!(client.receive().unwrap().unwrap(), b"welcome");
    client.send("three").unwrap();
    for expected in [b"1", b"2", b"3"] {
        assert_eq!(client.receive().unwrap().unwrap(), expected);
    }
    assert_eq!(client.receive().unwrap(), None);
}

#[test]
fn a_reply_of_one_byte_that_comes_before_its_request_was_sent_is_its_reply() {
    const LARGE: usize = 32 << 20;
    let addr = scripted(|_, mut stream| {
        take(&mut stream, 1);
        stream.write_all(b"!").unwrap();
        take(&mut stream, LARGE + 3);
        let _ = stream.read(&mut [0]);
    });
    let framing = Pair::new(Raw::default(), LengthField::u32(Endian::Big).max(LARGE));
    let mut client = Client::new(&addr, framing, options());
    assert_eq!(client.request(&vec![b'x'; LARGE]).unwrap(), b"!");
}

#[test]
fn a_reply_of_many_reads_is_whole() {
    let framing = LengthField::u32(Endian::Big).max(32 << 20);
    let addr = serving(framing.clone(), Echo, Limits::default());
    let (mut sender, mut receiver) = Client::new(addr, framing, options()).split();
    let message: Vec<u8> = (0..20_u32 << 20).map(|n| (n % 251) as u8).collect();
    let sent = message.clone();
    let sending = thread::spawn(move || sender.send(&sent).map(|()| sender));
    assert!(receiver.receive().unwrap().unwrap() == message);
    let mut sender = sending.join().unwrap().unwrap();
    sender.send("small").unwrap();
    assert_eq!(receiver.receive().unwrap().unwrap(), b"small");
}

#[test]
fn two_halves_carry_100_000_messages_through_small_buffers() {
    const MESSAGES: u32 = 100_000;
    let limits = Limits::default().send_buffer(Some(4096)).output_high(4096).output_low(2048);
    let addr = serving(LengthField::u32(Endian::Big), Echo, limits);
    let (mut sender, mut receiver) =
        Client::new(addr, LengthField::u32(Endian::Big), options()).split();
    let message = |number: u32| number.to_be_bytes().repeat(50);
    let sending = thread::spawn(move || {
        (0..MESSAGES).try_for_each(|number| sender.send(&message(number)))?;
        sender.finish();
        Ok::<(), ClientError>(())
    });
    for number in 0..MESSAGES {
        let reply = receiver.receive().unwrap();
        assert!(reply.as_deref() == Some(&message(number)[..]), "message {number}: {reply:?}");
    }
    assert_eq!(receiver.receive().unwrap(), None);
    sending.join().unwrap().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn waiting_for_a_reply_takes_no_polling() {
    let (_keep, kept) = channel::<()>();
    let addr = scripted(move |_, stream| {
        let _ = kept.recv();
        drop(stream);
    });
    let (mut sender, mut receiver) = lines(&addr, options().read_timeout(Some(ms(400)))).split();
    sender.send("hello").unwrap();
    // What the kernel counts of this thread: time on a processor in ns, and sleeps.
    let count = || {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/thread-self/{name}")).expect("Linux has it")
        };
        let running = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok());
        let sleeps = read("status")
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok());
        (running.map(Duration::from_nanos).expect("a number"), sleeps.unwrap_or(u64::MAX))
    };
    let (ran, slept) = count();
    let error = receiver.receive().unwrap_err();
    let (runs, sleeps) = count();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    assert!(sleeps - slept <= 3, "slept {} times, once would do", sleeps - slept);
    assert!(runs - ran < ms(20), "{:?} of 400 ms", runs - ran);
}

#[cfg(feature = "http")]
#[test]
fn http_requests_are_answered_by_our_own_server_over_connections_it_closes() {
    use oneloop::{AnyFraming, Context, Http, Request, Response, Served};
    let service = |cx: &mut Context<'_>, message: &[u8]| -> Served {
        match Request::read(message) {
            Some(request) if request.target == "/last" => cx.reply(Response::new(200).closing()),
            Some(request) => cx.reply(request.body),
            None => Ok(()),
        }
    };
    let addr = serving(Http::default(), service, Limits::default());
    let framing = AnyFraming::from_spec("http", None).unwrap().for_client(&addr);
    let mut client = Client::new(&addr, framing, options());
    for round in 0..3 {
        let reply = client.request("hello").unwrap();
        assert_eq!(Response::read(&reply).unwrap().body, b"hello", "round {round}");
        let reply = client.request(Request::new("GET", "/last")).unwrap();
        assert_eq!(Response::read(&reply).unwrap().status, 200, "round {round}");
        assert_eq!(client.receive().unwrap(), None, "round {round}");
    }
    // What has a head is handed back as it was written, and can be read and sent again.
    let deaf = scripted(|_, mut stream| take(&mut stream, 40));
    let framing = AnyFraming::from_spec("http", None).unwrap().for_client(&deaf);
    let mut client = Client::new(&deaf, framing, options());
    let request = Request::new("PUT", "/x").with_body("hello");
    let unanswered = client.request(request).unwrap_err().into_unanswered();
    let again = Request::read(&unanswered[0]).unwrap();
    assert_eq!((again.method, again.target, again.body), ("PUT", "/x", &b"hello"[..]));
}

#[test]
fn states_are_told_in_their_order_whichever_half_notices() {
    let addr = scripted(|_, mut stream| drop(stream.read(&mut [0; 2])));
    let (tell, told) = channel();
    let options = options().retry(Retry::every(1, ms(1))).read_timeout(Some(ms(100)));
    let client = lines(&addr, options).on_state(move |state| tell.send(state).unwrap());
    let (mut sender, mut receiver) = client.split();
    let (done, is_done) = channel();
    let receiving = thread::spawn(move || {
        let mut handed_back = 0;
        loop {
            match receiver.receive().unwrap_err() {
                ClientError::Timeout { .. } if is_done.try_recv().is_ok() => return handed_back,
                ClientError::Timeout { .. } => {}
                error => handed_back += lost(error).1.len(),
            }
        }
    });
    let (mut sent, mut states) = (0, Vec::new());
    while states.len() < 40 {
        sent += 1;
        match sender.send("x") {
            Ok(()) | Err(ClientError::Lost { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        states.extend(told.try_iter());
    }
    done.send(()).unwrap();
    assert_eq!(receiving.join().unwrap(), sent);
    states.extend(told.try_iter());
    for (index, state) in states.iter().enumerate() {
        let expected = if index % 2 == 0 { State::Connected } else { State::Disconnected };
        assert_eq!(*state, expected, "{index} of {states:?}");
    }
}
