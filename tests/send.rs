//! `oneloop send`, before servers that behave: what it sends, what it prints, and that it
//! stands in for the clients of the documents.
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
#[expect(dead_code, reason = "the tests of the command line need the rest")]
mod serving;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serving::{PATIENCE, Serving, oneloop, send};

const ANY: &str = "--listen=127.0.0.1:0";

/// Printed, nothing said, and all is well.
fn done(text: &str) -> (String, String, Option<i32>) {
    (text.to_string(), String::new(), Some(0))
}

fn start(args: &[&str]) -> Child {
    let mut command = oneloop(&["send"]);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary was built")
}

#[test]
fn send_sends_arguments_or_lines_and_prints_replies_one_a_line() {
    let lines = Serving::start(&[ANY]);
    assert_eq!(
        send(&[&lines.addr, "hello", "", "two words"], b"ignored"),
        done("hello\n\ntwo words\n")
    );
    assert_eq!(send(&[&lines.addr], b"one\n\ntwo"), done("one\n\ntwo\n"), "the last without LF");
    assert_eq!(send(&[&lines.addr], b""), done(""));

    for spec in oneloop::AnyFraming::WORDS {
        let spec = spec.replace("BYTES", ";").replace("fixed:N", "fixed:5").replace('N', "8");
        let server = Serving::start(&[ANY, "-f", &spec]);
        let (hello, world, replies) = match spec.as_str() {
            // Pieces are as the network cut them.
            "raw" => ("hello", "", "hello\n"),
            "resp" => ("hello", "world", "$5\r\nhello\r\n\n$5\r\nworld\r\n\n"),
            "json" => ("[\"hello\"]", "5", "[\"hello\"]\n5\n"),
            "xml" => ("<hello/>", "<world></world>", "<hello/>\n<world></world>\n"),
            // An argument has no zero bytes, and the protocol and the length are set.
            "modbus" => ("1.pplluf", "2.ppllufoo", "1.\0\0\0\x02uf\n2.\0\0\0\x04ufoo\n"),
            _ => ("hello", "world", "hello\nworld\n"),
        };
        let heard = send(&[&server.addr, "-f", &spec, hello, world], b"");
        if spec == "http" {
            // Each is a response, whose body is the request as it came.
            let bodies: Vec<_> = heard.0.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
            assert!(bodies.len() == 2 && bodies[0].ends_with("\r\n\r\nhello\n"), "{heard:?}");
            assert!(bodies[1].ends_with("\r\n\r\nworld\n"), "{heard:?}");
            continue;
        }
        assert_eq!(heard, done(replies), "{spec}");
    }
    let header = Serving::start(&[ANY, "--preset=header64"]);
    let replies =
        send(&[&header.addr, "--preset=header64", "-o", "raw", "hello", "!DISCONNECT"], b"");
    assert_eq!(replies, done("Msg receivedMsg received"));
}

/// Both ends have buffers; neither may wait for the other with both full.
#[test]
fn send_reads_replies_while_it_writes_however_much_there_is() {
    let server = Serving::start(&["--listen=127.0.0.1:0", "-f", "u32be"]);
    let input: String = (0..400_000).map(|n| format!("line {n} of very many\n")).collect();
    let (replies, said, code) = send(&[&server.addr, "-f", "u32be"], input.as_bytes());
    assert_eq!((said.as_str(), code), ("", Some(0)));
    assert!(replies == input, "{} bytes of {}", replies.len(), input.len());
}

#[test]
fn messages_are_read_and_replies_printed_as_was_asked_for() {
    let lines = Serving::start(&[ANY]);
    let bytes = Serving::start(&[ANY, "-f", "u32be"]);
    let path = std::env::temp_dir().join(format!("oneloop-send-{}", std::process::id()));
    std::fs::write(&path, b"a file\nof \0 three\nlines").expect("it can be written");
    let file = path.to_str().expect("text");
    #[rustfmt::skip]
    let cases: &[(&[&str], &[u8], &str)] = &[
        (&[&lines.addr, "-e", r"a\tb\x00", r"\\"],       b"",              "a\tb\0\n\\\n"),
        (&[&lines.addr, "-e"],                          b"x\\ty\n\\x7a",   "x\ty\nz\n"),
        (&[&lines.addr, "--hex", "68 69", "2A"],        b"",              "hi\n*\n"),
        (&[&lines.addr, "-x"],                          b"6869\n\n2a",     "hi\n\n*\n"),
        (&[&lines.addr, r"\n"],                         b"",              "\\n\n"),
        (&[&lines.addr, "--out=raw", "a", "b"],         b"",              "ab"),
        (&[&lines.addr, "-o", "hex", "-x", "00ff"],     b"",              "00ff\n"),
        (&[&lines.addr, "-o", "json", "-e", "hello", r"\xff"], b"",
            "{\"n\":1,\"bytes\":5,\"text\":\"hello\"}\n{\"n\":2,\"bytes\":1,\"hex\":\"ff\"}\n"),
        (&[&bytes.addr, "-f", "u32be", "-o", "raw", "--file", file], b"ignored", "a file\nof \0 three\nlines"),
        (&[&bytes.addr, "-f", "u32be", "--file", "-"],  b"all\nof it\n",  "all\nof it\n\n"),
    ];
    for (args, input, printed) in cases {
        for how in [&[][..], &["--wait"], &["--answered"]] {
            let args = [args, how].concat();
            assert_eq!(send(&args, input), done(printed), "{args:?}");
        }
    }
    std::fs::remove_file(path).expect("our own file");
}

#[test]
fn it_leaves_after_as_many_replies_as_are_wanted() {
    let server = Serving::start(&[ANY]);
    for how in [&[][..], &["--wait"], &["--no-close"], &["--retry=3"]] {
        let ask =
            |args: &[&str]| send(&[&[server.addr.as_str()], how, args].concat(), b"1\n2\n3\n");
        assert_eq!(ask(&["-1"]), done("1\n"), "{how:?}");
        assert_eq!(ask(&["--one-reply", "a", "b"]), done("a\n"), "{how:?}");
        assert_eq!(ask(&["--max-messages=2", "a", "b", "c"]), done("a\nb\n"), "{how:?}");
    }
    // The server does not close, so the time is up, and nothing is missing.
    let args = [server.addr.as_str(), "--no-close", "--timeout=100ms", "a", "b"];
    assert_eq!(send(&args, b""), done("a\nb\n"));
    // Its input does not end, and it leaves all the same.
    let mut child = start(&[&server.addr, "-1"]);
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"hello\n").expect("it reads");
    let output = child.wait_with_output().expect("our own child");
    assert_eq!((output.stdout, output.status.code()), (b"hello\n".to_vec(), Some(0)));
}

#[test]
fn with_wait_a_message_is_sent_when_the_one_before_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound").to_string();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a caller");
        let mut buffer = [0; 100];
        for expected in [&b"one\n"[..], b"two\n", b"three\n"] {
            peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
            let count = peer.read(&mut buffer).expect("a message");
            assert_eq!(&buffer[..count], expected);
            // Nothing follows, however long we think about it.
            peer.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
            assert!(peer.read(&mut buffer).is_err());
            peer.write_all(&expected.to_ascii_uppercase()).expect("it reads");
        }
        peer.set_read_timeout(Some(PATIENCE)).expect("not zero");
        assert_eq!(peer.read(&mut buffer).expect("the end"), 0);
        peer.write_all(b"goodbye\n").expect("it reads");
    });
    let heard = send(&[&addr, "--wait", "one", "two", "three"], b"");
    assert_eq!(heard, done("ONE\nTWO\nTHREE\ngoodbye\n"));
    server.join().expect("nothing else came");
}

/// A process that waits does nothing: it is not scheduled at all.
#[cfg(target_os = "linux")]
#[test]
fn to_wait_for_a_reply_takes_no_polling() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound").to_string();
    for how in ["--wait", "--answered", "--retry=5", "--timeout=20s"] {
        let child = start(&[&addr, how, "hello"]);
        let (mut peer, _) = listener.accept().expect("a caller");
        peer.read_exact(&mut [0; 6]).expect("a message");
        let switches = || -> u64 {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
            let of = |task: std::io::Result<std::fs::DirEntry>| {
                let path = task.expect("a thread").path().join("status");
                // One that has ended meanwhile waits for nothing.
                let status = std::fs::read_to_string(path).unwrap_or_default();
                let line =
                    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
                line.map_or(0, |count| count.trim().parse::<u64>().expect("a number"))
            };
            tasks.map(of).sum()
        };
        // It may take a while to settle down.
        let quiet = (0..20).any(|_| {
            let before = switches();
            thread::sleep(Duration::from_millis(300));
            switches() == before
        });
        assert!(quiet, "{how}");
        peer.write_all(b"hello\n").expect("it reads");
        drop(peer);
        let output = child.wait_with_output().expect("our own child");
        assert_eq!(output.stdout, b"hello\n", "{how}");
        assert_eq!(output.status.code(), Some(0), "{how}");
    }
}

#[test]
fn it_stands_in_for_the_clients_of_document_000() {
    let server = Serving::start(&[ANY, "--preset=msgsocket"]);
    let args = [server.addr.as_str(), "--preset=msgsocket", "--answered"];
    let long = ["y".repeat(127), "z".repeat(128), "x".repeat(16_383)];
    let input = format!("hello\n\n{}\n{}\n{}\n", long[0], long[1], long[2]);
    assert_eq!(send(&args, input.as_bytes()), done(&input));
    let once = Serving::start(&[ANY, "--preset=msgsocket", "--messages=1"]);
    let heard = send(&[&once.addr, "--preset=msgsocket", "only this"], b"");
    assert_eq!(heard, done("only this\n"));

    let hub = Serving::start(&[ANY, "--preset=railroad"]);
    let args = [hub.addr.as_str(), "--preset=railroad", "--hex", "--out=hex"];
    let mut helper = start(&args);
    let mut says = helper.stdin.take().expect("piped");
    let mut hears = BufReader::new(helper.stdout.take().expect("piped")).lines();
    let mut next = || hears.next().expect("it goes on").expect("text");
    writeln!(says, "bc 07 00 44").expect("it reads");
    assert_eq!(next(), "b43c3047", "turnout 7 was never set");
    let ask = |message| send(&[&args[..], &[message]].concat(), b"").0;
    assert_eq!(ask("bf 09 52 1b"), "e70e01305200000000090000007c\n", "a slot for engine 1234");
    assert_eq!(send(&[&args[..], &["a0 01 40 1e"]].concat(), b""), done(""));
    assert_eq!(next(), "a001401e", "its speed");
    assert_eq!(ask("b0 07 10 58"), "b1072069\n", "the turnout is thrown");
    assert_eq!(next(), "b1072069");
    drop(says);
    assert!(helper.wait().expect("our own child").success());
}

#[test]
fn it_stands_in_for_the_clients_of_document_001() {
    let strings = Serving::start(&[ANY, "--preset=string8"]);
    let input = format!("HelloWorld\n\nnaïve café €\n{}\n", "x".repeat(50_000));
    let args = [strings.addr.as_str(), "--preset=string8", "--wait"];
    assert_eq!(send(&args, input.as_bytes()), done(&input));
    let numbers = Serving::start(&[ANY, "--preset=average"]);
    // Text, JSON, and the pickle of [1, 2, 6].
    let pickle = r"(lp0\nI1\naI2\naI6\na.";
    let args = [numbers.addr.as_str(), "--preset=average", "--wait", "-e"];
    let heard = send(&[&args[..], &["1 2, 3", "[0.1]", pickle]].concat(), b"");
    assert_eq!(heard, done("2\n0.1\n3\n"));
    let (wrong, said, code) = send(&[&args[..], &["[]"]].concat(), b"");
    assert!(wrong.starts_with("error: ") && said.is_empty() && code == Some(0), "{wrong}{said}");
}

#[test]
fn it_stands_in_for_the_clients_of_document_002() {
    let mut server = Serving::start(&[ANY, "--preset=oneline"]);
    let args = [server.addr.clone(), "--preset=oneline".into()];
    let args = [args[0].as_str(), &args[1]];
    let ask = |more: &[&str]| send(&[&args[..], more].concat(), b"");
    assert_eq!(ask(&["--wait", "ping", "cmd01"]), done("pong\ncmd01\n"));
    assert_eq!(ask(&["-e", r"\xff"]), done("invalid\n"));
    assert_eq!(ask(&["ping", "disconnect"]), done("pong\n"));
    assert_eq!(ask(&["shutdown"]), done(""));
    assert!(server.wait().success());
}

#[test]
fn it_stands_in_for_the_clients_of_documents_003_and_004() {
    let sized = Serving::start(&[ANY, "--preset=sized"]);
    let input: String = (0..1000).map(|n| format!("sending ... {n}\n")).collect();
    let receipts = "Msg received\n".repeat(1000);
    let heard = send(&[&sized.addr, "--preset=sized", "--answered"], input.as_bytes());
    assert_eq!(heard, done(&receipts));
    let header = Serving::start(&[ANY, "--preset=header64"]);
    let args = [header.addr.as_str(), "--preset=header64", "--wait"];
    let heard = send(&[&args[..], &["Hello World!", "Grüße, 世界", "!DISCONNECT"]].concat(), b"");
    assert_eq!(heard, done("Msg received\nMsg received\nMsg received\n"));
}
