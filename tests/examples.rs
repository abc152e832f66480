//! Every example, run as its own process and talked to over loopback.
//!
//! ```text
//!  test ──▶ examples/NAME 127.0.0.1:0 ──▶ "listening on ADDR" ──▶ scripted clients
//! ```
//!
//! No test sleeps. Where one client's bytes must have been read before the next step,
//! a neighbour's round trip proves it: the loop has one thread, and what came first is
//! read first.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running example; killed when dropped.
struct Example {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Example {
    fn start(name: &str) -> Self {
        Self::spawn(Command::new(path_of(name)))
    }

    /// With no more than `limit` descriptors.
    fn start_with_descriptors(name: &str, limit: usize) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$1\"")]);
        shell.arg(path_of(name));
        Self::spawn(shell)
    }

    /// One that calls us.
    fn calling(name: &str, args: &[&str]) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let mut command = Command::new(path_of(name));
        command.arg(addr.to_string()).args(args);
        (Self::run(command, addr), listener)
    }

    fn run(mut command: Command, addr: SocketAddr) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the example can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        Self { child, stdout, addr }
    }

    fn spawn(mut command: Command) -> Self {
        command.arg("127.0.0.1:0");
        // Made before anything can fail, so that the process never outlives the test.
        let mut example = Self::run(command, ([0; 4], 0).into());
        let line = example.line();
        let addr = line.strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
        example.addr = addr.unwrap_or_else(|| panic!("the first line was {line:?}"));
        example
    }

    /// The next line it prints, without its end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the example prints text");
        line.trim_end().to_string()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("the example listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        // Two writes are to be two segments.
        stream.set_nodelay(true).expect("a TCP socket");
        stream
    }

    /// Returns when what others sent before has been read.
    fn round_trip(&self, ask: &[u8], answer: &[u8]) {
        let mut neighbour = self.connect();
        say(&mut neighbour, ask);
        hear(&mut neighbour, answer);
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo test` builds the examples first and puts them beside the tests. With
/// `--test examples` it builds the tests alone, and examples may be old or missing.
fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps/TEST");
    let path = target.join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples` first", path.display());
    path
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the example takes what is sent");
}

fn hear(stream: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    let result = stream.read_exact(&mut heard);
    assert!(result.is_ok(), "waiting for {:?}: {result:?}", expected.escape_ascii().to_string());
    assert_eq!(heard.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

fn hear_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the example sends whole lines");
        line.extend(byte);
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// All that comes until the example closes the connection.
fn hear_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("the example answers and closes");
    heard
}

#[test]
fn lines_come_back_however_they_are_cut() {
    for name in ["echo", "embed", "from_another_thread", "from_scratch"] {
        let example = Example::start(name);
        let mut client = example.connect();
        say(&mut client, b"one\ntw");
        hear(&mut client, b"one\n");
        example.round_trip(b"neighbour\n", b"neighbour\n");
        say(&mut client, b"o\n");
        hear(&mut client, b"two\n");
    }
}

#[test]
fn who_sends_and_half_closes_at_once_gets_every_reply_and_an_end() {
    for name in ["echo", "from_scratch"] {
        let example = Example::start(name);
        // Whether data and FIN arrive as one edge is a race: many tries hit both.
        for _ in 0..200 {
            let mut client = example.connect();
            say(&mut client, b"one\ntwo\n");
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(hear_all(&mut client), b"one\ntwo\n", "{name}");
        }
    }
}

/// The kernel alone takes some megabytes of a connection. What it refuses in the end
/// shows that the example does not take it either.
#[test]
fn who_does_not_read_is_not_read_from_and_loses_nothing() {
    const LINE: &[u8] = b"0123456789 0123456789 0123456789 0123456789 0123456789 01234567\n";
    const MOST: usize = 64 << 20;
    for name in ["echo", "from_scratch"] {
        let example = Example::start(name);
        let mut client = example.connect();
        let chunk = LINE.repeat(1024);
        let (mut sent, mut refused) = (0, 0);
        client.set_nonblocking(true).unwrap();
        while refused < 20 {
            match client.write(&chunk[sent % chunk.len()..]) {
                Ok(count) => (sent, refused) = (sent + count, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    refused += 1;
                    example.round_trip(b"neighbour\n", b"neighbour\n");
                }
                Err(error) => panic!("{name}, after {sent} bytes: {error}"),
            }
            assert!(sent < MOST, "{name} took {sent} bytes from a client that does not read");
        }

        // The rest of a chunk, and 2 MB more, against the stream of replies.
        client.set_nonblocking(false).unwrap();
        let more = chunk.len() - sent % chunk.len() + 32 * chunk.len();
        let mut writer = client.try_clone().unwrap();
        let rest = chunk.repeat(34)[sent % chunk.len()..][..more].to_vec();
        let writing = thread::spawn(move || {
            say(&mut writer, &rest);
            writer.shutdown(Shutdown::Write).expect("the connection is open");
        });
        let heard = hear_all(&mut client);
        writing.join().unwrap();
        assert_eq!(heard.len(), sent + more, "{name}");
        assert!(heard.chunks(LINE.len()).all(|line| line == LINE), "{name}: bytes were changed");
    }
}

#[test]
fn from_scratch_closes_who_sends_too_long_a_line_and_nobody_else() {
    const MAX_LINE: usize = 8 << 10;
    let example = Example::start("from_scratch");
    let mut other = example.connect();
    say(&mut other, b"half a ");
    let mut longest = vec![b'x'; MAX_LINE];
    longest[MAX_LINE - 1] = b'\n';
    example.round_trip(&longest, &longest);

    let mut client = example.connect();
    say(&mut client, &[b'x'; MAX_LINE]);
    example.round_trip(b"neighbour\n", b"neighbour\n");
    say(&mut client, b"x");
    assert_eq!(hear_all(&mut client), b"");

    say(&mut other, b"line\n");
    hear(&mut other, b"half a line\n");
}

/// The edge that told of the callers is spent, and no other will call.
#[test]
fn callers_without_a_descriptor_are_served_as_soon_as_there_are_some() {
    let example = Example::start_with_descriptors("from_scratch", 16);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| example.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        say(client, format!("client {number}\n").as_bytes());
    }
    // In the order of their calls, each makes room for another.
    for (number, mut client) in clients.into_iter().enumerate() {
        hear(&mut client, format!("client {number}\n").as_bytes());
    }
}

#[test]
fn custom_framing_answers_what_is_intact_and_passes_over_the_rest() {
    let example = Example::start("custom_framing");
    let mut client = example.connect();
    say(&mut client, b"noise\r\n$GPGLL,4916.45,N*00\r\n$GPGLL,4916");
    example.round_trip(b"$A*41\r\n", b"$PHEARD,1*17\r\n");
    say(&mut client, b".45,N*3B\r\n");
    hear(&mut client, b"$PHEARD,15*22\r\n");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_all(&mut client), b"");
}

#[test]
fn broadcast_tells_the_others_who_came_who_spoke_and_who_left() {
    let example = Example::start("broadcast");
    let name = |stream: &TcpStream| stream.local_addr().unwrap();
    let mut first = example.connect();
    let mut second = example.connect();
    hear(&mut first, format!("{} came, 2 are here\n", name(&second)).as_bytes());
    let mut third = example.connect();
    let came = format!("{} came, 3 are here\n", name(&third));
    hear(&mut first, came.as_bytes());
    // Accepted in one turn with the first, the second is told of it as well.
    let together = format!("{} came, 1 are here\n", name(&first));
    let mut heard = hear_line(&mut second);
    if heard == together {
        heard = hear_line(&mut second);
    }
    assert_eq!(heard, came);

    say(&mut second, b"a split ");
    say(&mut third, b"hello\n");
    let hello = format!("{}: hello\n", name(&third));
    hear(&mut first, hello.as_bytes());
    hear(&mut second, hello.as_bytes());
    say(&mut second, b"line\n");
    let line = format!("{}: a split line\n", name(&second));
    hear(&mut first, line.as_bytes());
    // The third has heard nothing of itself before.
    hear(&mut third, line.as_bytes());

    let left = format!("{} left: peer_eof\n", name(&second));
    second.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_all(&mut second), b"", "who leaves is not told");
    hear(&mut first, left.as_bytes());
    hear(&mut third, left.as_bytes());
}

#[test]
fn embed_serves_beside_a_status_socket_of_its_host() {
    let example = Example::start("embed");
    let mut client = example.connect();
    say(&mut client, b"one\ntwo\n");
    hear(&mut client, b"one\ntwo\n");
    let status = UdpSocket::bind("127.0.0.1:0").unwrap();
    status.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..3 {
        status.send_to(b"?", example.addr).unwrap();
    }
    for _ in 0..3 {
        let mut answer = [0; 64];
        let (len, _) = status.recv_from(&mut answer).unwrap();
        assert_eq!(answer[..len].escape_ascii().to_string(), "1 open, 2 messages\\n");
    }
}

#[test]
fn from_another_thread_tells_all_clients_and_ends_with_its_input() {
    let mut example = Example::start("from_another_thread");
    let mut clients = [(); 3].map(|()| example.connect());
    for client in &mut clients {
        say(client, b"hello\n");
        hear(client, b"hello\n");
    }
    let mut console = example.child.stdin.take().unwrap();
    console.write_all(b"tea is ready\n").unwrap();
    for client in &mut clients {
        hear(client, b"tea is ready\n");
    }
    assert_eq!(example.line(), "told 3 clients");
    drop(console);
    for client in &mut clients {
        assert_eq!(hear_all(client), b"");
    }
    drop(clients);
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn oneline_answers_with_no_packet_one_or_several_and_ends_when_told_to() {
    let mut example = Example::start("oneline");
    let mut client = example.connect();
    say(&mut client, b"ping\nset volts 4.5\nset amps 2\nget volts\nlist\nget o\x1bhms\n\xff\n\n");
    hear(&mut client, b"pong\n4.5\namps 2\nvolts 4.5\n");
    hear(
        &mut client,
        b"error: no 'o\x1bhms' is set\ninvalid\nerror: say set NAME VALUE, get NAME or list\n",
    );
    // The second client waits in the backlog until the first has left.
    let mut second = example.connect();
    say(&mut second, b"get amps\nshutdown\n");
    say(&mut client, b"disconnect\n");
    assert_eq!(hear_all(&mut client), b"");
    drop(client);
    assert_eq!(hear_all(&mut second), b"2\n");
    drop(second);
    assert!(example.child.wait().unwrap().success());
}

#[test]
fn two_framings_carry_messages_across_and_never_back() {
    let mut example = Example::start("two_framings");
    let second = example.line();
    let frames: SocketAddr = second.strip_prefix("listening on ").unwrap().parse().unwrap();
    let mut people = [example.connect(), example.connect()];
    let mut instrument = TcpStream::connect(frames).unwrap();
    instrument.set_read_timeout(Some(PATIENCE)).unwrap();
    // Each side is known to be there once the other has heard of it. Until then what is
    // said may come before whom it is for, so it is said again.
    instrument.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    say(&mut instrument, b"\0\0\0\x02hi");
    for (person, word) in people.iter_mut().zip([b"measure 1", b"measure 2"]) {
        let heard = (0..100).any(|_| {
            say(person, &[word, &b"\n"[..]].concat());
            let mut frame = [0; 13];
            // Those that were said again come before.
            std::iter::from_fn(|| instrument.read_exact(&mut frame).ok().map(|()| frame))
                .any(|frame| frame[4..] == word[..])
        });
        assert!(heard, "{}", word.escape_ascii());
    }
    instrument.set_read_timeout(Some(PATIENCE)).unwrap();
    say(&mut instrument, b"\0\0\0\x0421 C");
    for person in &mut people {
        let first = hear_line(person);
        let heard = if first == "hi\n" { hear_line(person) } else { first };
        assert_eq!(heard, "21 C\n");
    }
    let [mut first, _] = people;
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_all(&mut first), b"", "nobody hears what their own side says");
}

#[cfg(feature = "http")]
#[test]
fn http_has_pages_with_a_status_and_fields() {
    let example = Example::start("http");
    let mut client = example.connect();
    say(
        &mut client,
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: <me>\r\n\r\n\
          POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
          DELETE / HTTP/1.1\r\nHost: a\r\n\r\n\
          GET /no HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    client.shutdown(Shutdown::Write).unwrap();
    let said = String::from_utf8(hear_all(&mut client)).unwrap();
    let responses: Vec<&str> = said.split("HTTP/1.1 ").skip(1).collect();
    let expected = [
        ("200 OK\r\n", "<h1>Hello, _me></h1><p>Request 1.\n"),
        ("200 OK\r\n", "5 bytes\n"),
        ("405 Method Not Allowed\r\n", "Content-Length: 0\r\n\r\n"),
        ("404 Not Found\r\n", "no such page\n"),
    ];
    assert_eq!(responses.len(), expected.len(), "{said}");
    for (response, (begin, end)) in responses.iter().zip(expected) {
        assert!(response.starts_with(begin) && response.ends_with(end), "{response}");
    }
}

#[test]
fn chat_gives_each_name_once_and_tells_who_comes_speaks_and_leaves() {
    let example = Example::start("chat");
    let mut ann = example.connect();
    say(&mut ann, b"\nann\n");
    hear(&mut ann, b"! your name?\nwelcome, ann\n");
    let mut bob = example.connect();
    say(&mut bob, b"ann\n");
    say(&mut bob, &[&b"b".repeat(21)[..], b"\nb\x1b[2J\n\xff\nbob\n"].concat());
    hear(&mut bob, b"! that name is taken\n! a shorter name?\n! only text, please\n");
    hear(&mut bob, b"! only text, please\nwelcome, bob\n");
    hear(&mut ann, b"* bob is here\n");
    // The longest line that may come in goes out with a name in front.
    let longest = b"x".repeat(1000);
    say(&mut bob, &[&longest[..], b"\n"].concat());
    hear(&mut ann, &[b"bob: ", &longest[..], b"\n"].concat());
    say(&mut ann, b"/who\n");
    hear(&mut ann, b"here: ann, bob\n");
    bob.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_all(&mut bob), b"");
    hear(&mut ann, b"* bob has left\n");
    let mut again = example.connect();
    say(&mut again, b"bob\n");
    hear(&mut again, b"welcome, bob\n");
}

#[test]
fn slow_reader_is_closed_after_a_while_and_the_others_never_wait_for_it() {
    let mut example = Example::start("slow_reader");
    let mut greedy = example.connect();
    let name = greedy.local_addr().unwrap();
    say(&mut greedy, &b"1000\n".repeat(10_000));
    let mut other = example.connect();
    let end = Instant::now() + Duration::from_secs(1);
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        let asked = Instant::now();
        say(&mut other, b"1\n");
        hear(&mut other, &b".".repeat(1024));
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    let closed = example.line();
    assert!(closed.starts_with(&format!("{name} closed: write_stall")), "{closed}");
    say(&mut other, b"1\n");
    hear(&mut other, &b".".repeat(1024));
}

#[test]
fn misbehaves_as_it_is_told_and_each_time_it_costs_one_connection_or_the_time_it_took() {
    let mut example = Example::start("misbehaves");
    let mut client = example.connect();
    for words in [&b"panic\n"[..], b"reply 100\n", b"flood 100\n"] {
        let mut victim = example.connect();
        say(&mut victim, words);
        assert_eq!(hear_all(&mut victim), b"", "{words:?}");
        say(&mut client, b"hello\n");
        hear(&mut client, b"hello\n");
    }
    let mut slow = example.connect();
    say(&mut slow, b"sleep 120\n");
    hear(&mut slow, b"awake\n");
    drop((slow, client));
    // By the time it is idle, both are read to their end.
    say(&mut example.connect(), b"stop\n");
    // In any order: a panic that names its functions takes long, too, and then is the slow turn.
    let said: Vec<String> = (0..4).map(|_| example.line()).collect();
    for words in [
        "the service panicked; this connection is closed",
        "bad reply: message of 104857600 bytes exceeds",
        "ms, and all others waited",
        "6 accepted, 0 open",
        "1 output_cap, 1 bad_reply, 1 handler_panic",
    ] {
        assert!(said.iter().any(|line| line.contains(words)), "no {words:?} in {said:?}");
    }
}

#[test]
fn proxy_speaks_lines_on_one_side_and_lengths_on_the_other_and_hands_on_the_ends() {
    let behind = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut command = Command::new(path_of("proxy"));
    command.arg(behind.local_addr().expect("a TCP socket").to_string());
    let proxy = Example::spawn(command);
    let mut client = proxy.connect();
    // Sent before anyone has answered behind.
    say(&mut client, b"hello\n");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let mut server = accept(&behind);
    hear(&mut server, b"\0\0\0\x05hello");
    assert_eq!(hear_all(&mut server), b"", "the end of the client");
    say(&mut server, b"\0\0\0\x03you\0\0\0\0");
    drop(server);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("an orderly end");
    assert_eq!(heard, b"you\n\n");
}

/// The next caller, as patient as we are.
fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("the example calls");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
    stream
}

#[test]
fn receipts_are_printed_while_sending_goes_on_and_what_has_none_is_named() {
    for answers_all in [true, false] {
        let (mut example, listener) = Example::calling("receipts", &[]);
        let mut server = accept(&listener);
        let mut console = example.child.stdin.take().unwrap();
        console.write_all(b"one\n").unwrap();
        hear(&mut server, b"\0\0\0\x03one");
        say(&mut server, b"\0\0\0\x02ok");
        // It comes before the input has ended.
        assert_eq!(example.line(), "receipt 1: ok");
        console.write_all(b"two\nthree\n").unwrap();
        hear(&mut server, b"\0\0\0\x03two\0\0\0\x05three");
        if answers_all {
            drop(console);
            assert_eq!(hear_all(&mut server), b"");
            say(&mut server, b"\0\0\0\x02ok\0\0\0\x02ok");
            drop(server);
            assert_eq!([example.line(), example.line()], ["receipt 2: ok", "receipt 3: ok"]);
        } else {
            drop(server);
            let lost = format!(
                "{}: connection lost: the server closed it; 2 messages were not answered",
                example.addr
            );
            assert_eq!(example.line(), lost);
            let named = [example.line(), example.line()];
            assert_eq!(named, ["no receipt for: two", "no receipt for: three"]);
            drop(console);
        }
        assert!(example.child.wait().unwrap().success(), "answers all: {answers_all}");
    }
}

#[test]
fn restart_asks_again_what_was_lost_and_loses_nothing_between_two_questions() {
    let (mut example, listener) = Example::calling("restart", &["50"]);
    let mut server = accept(&listener);
    assert_eq!(example.line(), "Connected");
    hear(&mut server, b"question 1\n");
    say(&mut server, b"one\n");
    assert_eq!(example.line(), "answer: one");
    hear(&mut server, b"question 2\n");
    drop(server);
    assert_eq!(example.line(), "Disconnected");
    let lost = format!(
        "{}: connection lost: the server closed it; 1 message was not answered",
        example.addr
    );
    assert_eq!(example.line(), lost);
    let mut server = accept(&listener);
    assert_eq!(example.line(), "Connected");
    hear(&mut server, b"question 2\n");
    // The end comes with the answer, and so between two questions.
    say(&mut server, b"two\n");
    drop(server);
    assert_eq!(example.line(), "answer: two");
    let mut server = accept(&listener);
    assert_eq!([example.line(), example.line()], ["Disconnected", "Connected"]);
    hear(&mut server, b"question 3\n");
    say(&mut server, b"three\n");
    assert_eq!(example.line(), "answer: three");
}
