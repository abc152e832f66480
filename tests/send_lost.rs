//! `oneloop send`, before servers that are not there, misbehave, or are killed: one line
//! with the address, the state and what was not delivered, and an exit code.
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
#[expect(dead_code, reason = "the tests of the command line need the rest")]
mod serving;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use serving::{PATIENCE, Serving, oneloop, send};

fn start(args: &[&str]) -> Child {
    let mut command = oneloop(&["send"]);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary was built")
}

/// A server that does `script` to its callers, one after the other, with their number.
fn scripted(script: impl Fn(usize, &mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            script(number, &mut stream.expect("a caller"));
        }
    });
    addr
}

fn take(stream: &mut TcpStream, count: usize) {
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.read_exact(&mut vec![0; count]).expect("the client sends it");
}

#[test]
fn what_send_cannot_do_is_one_line_with_the_address_and_an_exit_code() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let nobody = free.to_string();
    let server = Serving::start(&["--listen=127.0.0.1:0", "--max-message=1k"]);
    let one = Serving::start(&["--listen=127.0.0.1:0", "--messages=1"]);
    let binary = Serving::start(&["--listen=127.0.0.1:0", "-f", "u8", "--reply-framing=u32le"]);
    let long = "x".repeat(2000);
    #[rustfmt::skip]
    let cases: &[(&[&str], &str, i32, &[&str])] = &[
        // arguments                              stdout     code  words
        (&[&nobody, "hello"],                         "",        1, &[&nobody, "cannot connect", "does the server run"]),
        (&["unix:/nowhere/socket", "hello"],          "",        1, &["unix:/nowhere/socket", "cannot connect"]),
        (&["nowhere", "hello"],                       "",        2, &["'nowhere'", "host:port"]),
        (&[&server.addr, "-f", "u8", "ok", &long],    "",        2, &["message 2", "2000", "255"]),
        (&[&server.addr, "a\nb"],                     "",        2, &["message 1", "delimiter", "byte 1"]),
        (&[&server.addr, "--max-message=1k"],         "short\n", 1, &["line 2", "2000", "1024"]),
        (&[&binary.addr, "-f", "u8", "--reply-framing=u32be", "hello"], "", 1, &["reply 1", "83886080"]),
        (&[&binary.addr, "-f", "u8", "--reply-framing=lines", "hello"], "", 1, &["reply 1", "ended 9 bytes"]),
        (&[&server.addr, "-f", "u32"],                "",        2, &["'u32'", "no framing"]),
    ];
    for (args, stdout, code, words) in cases {
        let input = format!("short\n{long}\nnever sent\n");
        let (printed, said, exit) = send(args, input.as_bytes());
        assert_eq!((printed.as_str(), exit), (*stdout, Some(*code)), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        for word in *words {
            assert!(said.contains(word), "{args:?}: no {word:?} in: {said}");
        }
    }

    // The server closes while the input goes on.
    let mut child = start(&[&one.addr]);
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"hello\n").expect("it reads");
    let output = child.wait_with_output().expect("our own child");
    drop(stdin);
    let Output { stdout, stderr, status } = output;
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!((stdout, status.code()), (b"hello\n".to_vec(), Some(1)));
    assert!(said.contains("closed before the end of the input"), "{said}");
    assert!(said.contains("nothing after line 1 was sent"), "{said}");
}

#[test]
fn what_a_bad_server_cost_is_one_line_with_its_address_and_the_messages() {
    // It does not even close.
    let silent = scripted(|_, peer| std::mem::forget(peer.try_clone()));
    let closing = scripted(|_, peer| take(peer, 1));
    let garbage = scripted(|_, peer| {
        take(peer, 4);
        peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("it reads");
        let _ = peer.read_to_end(&mut Vec::new());
    });
    let half = scripted(|_, peer| {
        take(peer, 4);
        peer.write_all(b"a\n").expect("it reads");
        take(peer, 1);
    });
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let gone = gone.to_string();
    let name = "no-such-host.invalid:7000";
    #[rustfmt::skip]
    let cases: &[(&[&str], &str, &[&str])] = &[
        // arguments                                         stdout  words
        (&[&gone, "one", "two"],                             "",     &[&gone, "cannot connect", "does the server run", "2 messages were not sent: \"one\", \"two\""]),
        (&[&gone, "--retry=2", "--retry-delay=10ms", "one"], "",     &[&gone, "tried 3 times", "1 message was not sent: \"one\""]),
        (&[name, "--wait", "one"],                           "",     &[name, "cannot connect", "1 message was not sent"]),
        (&[&silent, "--timeout=100ms", "one", "two"],        "",     &[&silent, "nothing came in 100ms", "2 messages were not answered (1 to 2): \"one\", \"two\""]),
        (&[&silent, "--timeout=100ms", "--answered", "one"], "",     &[&silent, "nothing came in 100ms", "1 message was not answered (1): \"one\""]),
        (&[&silent, "--timeout=100ms", "--wait", "a", "b"],  "",     &[&silent, "did nothing in 100ms", "1 message was not answered (1): \"a\"; 1 message was not sent: \"b\""]),
        (&[&closing, "--wait", "one", "two"],                "",     &[&closing, "after 0 replies", "not answered (1): \"one\"; 1 message was not sent: \"two\""]),
        (&[&garbage, "-f", "u16be", "one", "two"],           "",     &[&garbage, "reply 1", "no message", "2 messages were not answered (1 to 2)"]),
        (&[&garbage, "-f", "u32be", "--wait", "one", "two"], "",     &[&garbage, "reply 1", "no message", "1213486160", "was not sent: \"two\""]),
        (&[&half, "--answered", "a", "b", "c"],              "a\n",  &[&half, "2 messages were not answered (2 to 3): \"b\", \"c\""]),
        (&[&half, "--wait", "a-b", "\x1b", "c"],             "a\n",  &[&half, "1 message was not answered (2): \"\\x1b\"; 1 message was not sent: \"c\""]),
    ];
    for (args, stdout, words) in cases {
        let (printed, said, code) = send(args, b"");
        assert_eq!((printed.as_str(), code), (*stdout, Some(1)), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        for word in *words {
            assert!(said.contains(word), "{args:?}: no {word:?} in: {said}");
        }
    }
}

#[test]
fn what_was_not_answered_is_sent_again_only_when_that_was_asked_for() {
    // Reads one message on each of the first two connections, and answers on the others.
    let script = |number: usize, peer: &mut TcpStream| {
        take(peer, 4);
        if number >= 2 {
            peer.write_all(b"yes\n").expect("it reads");
            let _ = peer.read_to_end(&mut Vec::new());
        }
    };
    let retry = ["--wait", "--retry=2", "--retry-delay=1ms"];
    let again = scripted(script);
    let (printed, said, code) = send(&[&retry[..], &["--resend", &again, "one"]].concat(), b"");
    assert_eq!((printed.as_str(), code), ("yes\n", Some(0)), "{said}");
    assert_eq!(said.matches("; sending it again").count(), 2, "{said}");

    let (printed, said, code) =
        send(&[&retry[..], &[&scripted(script), "one", "two", "six"]].concat(), b"");
    assert_eq!((printed.as_str(), code), ("yes\n", Some(1)), "{said}");
    for words in ["(1): \"one\"", "(2): \"two\"", "2 of 3 messages were not answered"] {
        assert!(said.contains(words), "{said}");
    }

    // It gives up in the end.
    let closing = scripted(|_, peer| take(peer, 4));
    let (printed, said, code) = send(&[&retry[..], &["--resend", &closing, "one"]].concat(), b"");
    assert_eq!((printed.as_str(), code, said.lines().count()), ("", Some(1), 3), "{said}");
    let (_, said, code) = send(&["127.0.0.1:1", "--resend", "one"], b"");
    assert!(code == Some(2) && said.contains("--wait"), "{said}");
}

/// The numbers in "not answered (3 to 9): ...".
fn reported(said: &str) -> Vec<u64> {
    let ranges = said.split("not answered (").skip(1);
    ranges
        .flat_map(|rest| {
            let range = rest.split(')').next().expect("split gives one piece at least");
            let number = |text: &str| text.parse::<u64>().expect("a number");
            let (first, last) = range.split_once(" to ").unwrap_or((range, range));
            number(first)..=number(last)
        })
        .collect()
}

/// Lines are sent as fast as they are taken, and the server is killed whenever it has
/// answered some. Each line is its number.
fn survives_restarts(how: &[&str], resent: bool) {
    const RESTARTS: usize = 20;
    // No outgoing connection of this machine takes a port of this address.
    let serve = |addr: &str| Serving::start(&["-v", "-l", addr]);
    let mut server = serve("127.77.0.1:0");
    let addr = server.addr.clone();
    let retry = ["--retry=500", "--retry-delay=10ms", &addr];
    let mut child = start(&[&retry[..], how].concat());
    let mut stdin = child.stdin.take().expect("piped");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let feeding = thread::spawn(move || {
        let more = |_: &u64| !stopped.load(Ordering::Relaxed);
        for number in (1..).take_while(more) {
            writeln!(stdin, "{number}").expect("it reads");
        }
    });
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let (tell, replies) = channel();
    let reading = thread::spawn(move || {
        for line in stdout.lines() {
            let number = line.expect("text").parse::<u64>().expect("what was sent");
            tell.send(number).expect("it is waited for");
        }
    });
    let mut answered = Vec::new();
    let mut read = Vec::new();
    for restart in 0..=RESTARTS {
        for _ in 0..40 {
            answered.push(replies.recv_timeout(PATIENCE).expect("it goes on"));
        }
        if restart == RESTARTS {
            break;
        }
        server.signal("KILL");
        server.wait();
        read.extend(server.log.iter().filter(|line| line.contains("[DEBUG]")));
        server = serve(&addr);
    }
    stop.store(true, Ordering::Relaxed);
    feeding.join().expect("all is read");
    let Output { stderr, status, .. } = child.wait_with_output().expect("our own child");
    reading.join().expect("numbers");
    answered.extend(replies.iter());
    server.signal("TERM");
    server.wait();
    read.extend(server.log.iter().filter(|line| line.contains("[DEBUG]")));

    let said = String::from_utf8(stderr).expect("text");
    let reported = reported(&said);
    let (seen, missed): (BTreeSet<u64>, BTreeSet<u64>) =
        (answered.iter().copied().collect(), reported.iter().copied().collect());
    assert_eq!(seen.len(), answered.len(), "each is answered once: {said}");
    let last = *seen.last().expect("some").max(missed.last().unwrap_or(&0));
    if resent {
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(seen.len() as u64, last, "each is answered in the end: {said}");
    } else {
        assert!(seen.is_disjoint(&missed), "{said}");
        assert_eq!((seen.len() + missed.len()) as u64, last, "none is forgotten: {said}");
        assert_eq!(status.code(), Some(i32::from(!missed.is_empty())), "{said}");
        let numbers = read.iter().map(|line| line.rsplit(' ').next());
        let once: BTreeSet<_> = numbers.clone().collect();
        assert_eq!(once.len(), numbers.len(), "the server has read none twice");
    }
    println!("{how:?}: {last} sent, {} answered, {} reported", seen.len(), missed.len());
}

#[test]
fn a_server_killed_twenty_times_costs_nothing_that_is_not_reported() {
    survives_restarts(&["--answered"], false);
    survives_restarts(&["--wait"], false);
}

#[test]
fn with_resend_each_message_is_answered_in_the_end_whatever_is_killed() {
    survives_restarts(&["--wait", "--resend"], true);
}
