//! `oneloop serve -f http` as clients meet it: what the public h1spec list asks of a
//! server, whole and cut at every byte, and what a connection does around its requests.
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
#[expect(dead_code, reason = "the tests of the command line need the rest")]
mod serving;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serving::Serving;

const ANY: &str = "--listen=127.0.0.1:0";
/// A server that has said nothing for so long is waiting for more.
const WAITS: Duration = Duration::from_millis(150);

fn http(args: &[&str]) -> Serving {
    Serving::start(&[&[ANY, "-f", "http"], args].concat())
}

/// What a request should meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Silence: the request is not complete.
    Waits,
    /// A status of one of these hundreds; from 4 on, and then the end.
    Hundreds(&'static [u16]),
}

use Wanted::{Hundreds, Waits};

/// The checks of h1spec (github.com/uNetworking/h1spec), and what it allows.
#[rustfmt::skip]
const H1SPEC: [(&str, &str, Wanted); 33] = [
    ("method cut",              "G",                                                            Waits),
    ("target cut: none",        "GET ",                                                         Waits),
    ("target cut: some",        "GET /hello",                                                   Waits),
    ("target cut: space",       "GET /hello ",                                                  Waits),
    ("version cut",             "GET /hello HTTP",                                              Waits),
    ("line cut",                "GET /hello HTTP/1.1",                                          Waits),
    ("line cut: CR",            "GET /hello HTTP/1.1\r",                                        Waits),
    ("line cut: CR LF",         "GET /hello HTTP/1.1\r\n",                                      Waits),
    ("name cut",                "GET /hello HTTP/1.1\r\nHos",                                   Waits),
    ("value cut: colon",        "GET /hello HTTP/1.1\r\nHost:",                                 Waits),
    ("value cut: space",        "GET /hello HTTP/1.1\r\nHost: ",                                Waits),
    ("value cut: some",         "GET /hello HTTP/1.1\r\nHost: localhost",                       Waits),
    ("value cut: CR",           "GET /hello HTTP/1.1\r\nHost: localhost\r",                     Waits),
    ("no blank line",           "GET /hello HTTP/1.1\r\nHost: localhost\r\n",                   Waits),
    ("blank line cut",          "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r",                 Waits),
    ("no version",              "GET / \r\n\r\n",                                               Hundreds(&[4, 5])),
    ("Expect",                  "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",    Hundreds(&[1, 2])),
    ("right",                   "GET / HTTP/1.1\r\nHost: a\r\n\r\n",                            Hundreds(&[2])),
    ("right, but odd",          "GET / HTTP/1.1\r\nhoSt:\ta\r\nempty:\r\n\r\n",                 Hundreds(&[2])),
    ("no name of a field",      "GET / HTTP/1.1\r\nHost: a\r\nX-Invalid[]: b\r\n\r\n",          Hundreds(&[4])),
    ("no Host",                 "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",                  Hundreds(&[4])),
    ("two Hosts",               "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",                 Hundreds(&[4])),
    ("a length far below 0",    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -123456789123456789123456789\r\n\r\n", Hundreds(&[4])),
    ("a length below 0",        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1234\r\n\r\n",   Hundreds(&[4])),
    ("a length of letters",     "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",     Hundreds(&[4])),
    ("an empty value",          "GET / HTTP/1.1\r\nHost: a\r\nX-Empty-Header: \r\n\r\n",        Hundreds(&[2])),
    ("a control character",     "GET / HTTP/1.1\r\nHost: a\r\nX-Bad: test\x07\r\n\r\n",         Hundreds(&[4])),
    ("another version",         "GET / HTTP/9.9\r\nHost: a\r\n\r\n",                            Hundreds(&[4, 5])),
    ("a word before",           "Extra lineGET / HTTP/1.1\r\nHost: a\r\n\r\n",                  Hundreds(&[4, 5])),
    ("a bare CR",               "GET / HTTP/1.1\r\nHost: a\r\n\rSome-Header: Test\r\n\r\n",     Hundreds(&[4])),
    ("a body",                  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Hundreds(&[2])),
    ("both lengths",            "POST / HTTP/1.1\r\nHost: a\r\ncontent-LengtH: 5\r\nTransFer-Encoding: chunked\r\n\r\nc\r\nHellO world1\r\n0\r\n\r\n", Hundreds(&[4])),
    ("chunks",                  "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Hundreds(&[2])),
];

/// What the server says to these pieces, sent one after the other, until it waits, has
/// answered, or has closed (the second part of the answer).
fn says(addr: &str, pieces: &[&[u8]], patience: Duration) -> (String, bool) {
    let mut client = TcpStream::connect(addr).expect("the server runs");
    client.set_nodelay(true).expect("a socket");
    for piece in pieces {
        // Who was refused at an earlier piece may be gone.
        if client.write_all(piece).is_err() {
            break;
        }
    }
    client.set_read_timeout(Some(patience)).expect("a socket");
    let (mut heard, mut chunk) = (Vec::new(), [0; 4096]);
    let closed = loop {
        match client.read(&mut chunk) {
            Ok(0) => break true,
            Ok(count) => heard.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
            Err(_) => break false,
        }
    };
    (String::from_utf8_lossy(&heard).into_owned(), closed)
}

fn status(response: &str) -> Option<u16> {
    response.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn check(name: &str, wanted: Wanted, (said, closed): (String, bool)) {
    match (wanted, status(&said)) {
        (Waits, None) => assert!(said.is_empty() && !closed, "{name}: {said:?}, closed: {closed}"),
        (Hundreds(allowed), Some(status)) => {
            assert!(allowed.contains(&(status / 100)), "{name}: {said}");
            assert_eq!(closed, status >= 400, "{name}: after an error, and then only: {said}");
        }
        _ => panic!("{name}: {wanted:?}, but it said {said:?}"),
    }
}

#[test]
fn h1spec_is_met_by_requests_in_one_piece() {
    let server = http(&[]);
    for (name, request, wanted) in H1SPEC {
        check(name, wanted, says(&server.addr, &[request.as_bytes()], WAITS));
    }
}

#[test]
fn h1spec_is_met_by_requests_cut_at_every_byte() {
    let server = http(&[]);
    std::thread::scope(|scope| {
        for (name, request, wanted) in H1SPEC {
            let addr = &server.addr;
            scope.spawn(move || {
                for at in 1..request.len() {
                    let (first, second) = request.as_bytes().split_at(at);
                    let patience = if wanted == Waits { WAITS / 3 } else { WAITS };
                    check(
                        &format!("{name}, cut at {at}"),
                        wanted,
                        says(addr, &[first, second], patience),
                    );
                }
            });
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_and_nothing_behind_an_error_is() {
    let server = http(&[]);
    let request = |n: usize| {
        format!(
            "POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{n}\r\n0\r\n\r\n"
        )
    };
    let mut stream: String = (0..10).map(request).collect();
    stream += "GET / HTTP/1.1\r\n\r\n";
    stream += &request(10);
    let answer = String::from_utf8(server.ask(stream.as_bytes())).expect("text");
    let statuses: Vec<_> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    // Each echo has the first line of its request in it.
    let expected: Vec<_> =
        answer.match_indices("HTTP/1.1\r\n").map(|_| "200").chain(["400"]).collect();
    assert_eq!((statuses, expected.len()), (expected, 11), "{answer}");
    for n in 0..10 {
        let request =
            format!("POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{n}");
        assert!(answer.contains(&request), "{n}: {answer}");
    }
    assert!(!answer.contains("/10"), "{answer}");
    assert!(answer.ends_with("Connection: close\r\n\r\n400 Bad Request\n"), "{answer}");
}

#[test]
fn leave_to_send_a_body_is_given_when_it_is_waited_for() {
    let server = http(&[]);
    let mut client = server.connect();
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).expect("a socket");
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).expect("leave");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").expect("a socket");
    client.shutdown(Shutdown::Write).expect("a socket");
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("the response");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("hello"), "{rest}");
    // Too large a body is refused before it is sent.
    let large = head.replace(": 5", ": 5000000");
    let (said, closed) = says(&server.addr, &[large.as_bytes()], serving::PATIENCE);
    assert!(said.starts_with("HTTP/1.1 413 ") && closed, "{said}");
}

#[test]
fn who_is_late_gets_a_408_and_who_is_one_too_many_a_503() {
    let server = http(&["--frame-timeout=200ms", "--max-connections=2", "--when-full=refuse"]);
    let mut idle: TcpStream = server.connect();
    let (said, closed) = says(&server.addr, &[b"GET / HT"], serving::PATIENCE);
    assert!(said.starts_with("HTTP/1.1 408 Request Timeout\r\n") && closed, "{said}");
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a socket");
    let mut answer = [0; 15];
    idle.read_exact(&mut answer).expect("an idle connection stays");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");

    let _second = server.connect();
    let mut third = server.connect();
    let mut said = String::new();
    third.read_to_string(&mut said).expect("a refusal, and the end");
    assert!(said.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{said}");
    assert!(said.ends_with("busy: all 2 connections are in use"), "{said}");
}

/// A 408 answers a request; between two of them there is none.
#[test]
fn who_asks_for_nothing_is_told_nothing_when_its_time_is_up() {
    let server = http(&["--idle-timeout=300ms"]);
    let mut idle: TcpStream = server.connect();
    let mut said = String::new();
    idle.read_to_string(&mut said).expect("the end");
    assert_eq!(said, "");
}

#[test]
fn a_service_that_has_no_answer_for_this_framing_is_no_silence() {
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let sink = String::from_utf8(http(&["--service=sink"]).ask(get)).expect("text");
    assert!(sink.starts_with("HTTP/1.1 204 No Content\r\n"), "{sink}");
    // A broadcast would be a response to no request.
    let mut server = http(&["--service=broadcast"]);
    let answer = String::from_utf8(server.ask(get)).expect("text");
    assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
    server.hear("there is no request that this could answer");
}
