//! Clients that others wrote, against the program: those of the documents, in Python
//! as the documents have them, and the receivers and codecs that people use elsewhere.
//!
//! ```text
//!  oneloop serve --preset NAME ◀── tests/peers/NAME.py
//! ```
//!
//! Without python3, or without a published package, a test says `skipped` and passes.
//! With `ONELOOP_PEERS=required` it fails: the gate installs them all.
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
#[expect(dead_code, reason = "the tests of the command line need the rest")]
mod serving;

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serving::{PATIENCE, Serving};
use tokio::net::TcpStream;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec, LinesCodec};

/// What a client exits with that lacks its package.
const MISSING: i32 = 77;

/// The Python to run clients with: one that was named, the gate's, or any.
fn python() -> PathBuf {
    let gates = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/venv/bin/python");
    match env::var_os("ONELOOP_PEERS_PYTHON") {
        Some(named) => named.into(),
        None if gates.exists() => gates,
        None => "python3".into(),
    }
}

fn skip(why: &str) {
    assert!(env::var_os("ONELOOP_PEERS").is_none_or(|it| it != "required"), "{why}");
    // Past the test harness, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Runs a client until it ends; `None` if it cannot be run here.
fn client(script: &str, server: &Serving, args: &[&str]) -> Option<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
    let mut command = Command::new(python());
    // Its modules lie beside it, and leave no compiled files there.
    command.arg("-B").arg(path).arg(&server.addr).args(args);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip(&format!("{script}: no python3"));
            return None;
        }
        child => child.expect("python3 can be run"),
    };
    let mut pipes = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let said = thread::spawn(move || {
        let mut said = String::new();
        // What was said until the pipes broke is what there is to show.
        let _ = pipes.0.read_to_string(&mut said);
        let _ = pipes.1.read_to_string(&mut said);
        said
    });
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("our own child") {
            Some(status) => break status.code(),
            None if Instant::now() > end => {
                child.kill().expect("our own child");
                child.wait().expect("our own child");
                break None;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = said.join().expect("it cannot fail");
    if status == Some(MISSING) {
        skip(&format!("{script}: {}", said.trim()));
        return None;
    }
    assert_eq!(status, Some(0), "{script} {args:?} said:\n{said}\nthe server: {:#?}", server.said);
    Some(())
}

fn preset(name: &str) -> Serving {
    Serving::start(&["--listen=127.0.0.1:0", "--preset", name])
}

fn framing(spec: &str) -> Serving {
    Serving::start(&["--listen=127.0.0.1:0", "--framing", spec])
}

#[test]
fn the_message_sockets_of_document_000_are_answered() {
    client("msgsocket.py", &preset("msgsocket"), &[]);
    let once = ["--listen=127.0.0.1:0", "--preset=msgsocket", "--messages=1"];
    client("msgsocket_once.py", &Serving::start(&once), &[]);
}

#[test]
fn the_throttles_of_document_000_hear_of_each_other() {
    client("railroad.py", &preset("railroad"), &[]);
}

#[test]
fn the_string_helpers_of_document_001_are_answered() {
    client("string8.py", &preset("string8"), &[]);
}

#[test]
fn the_self_sizing_texts_of_document_001_come_back_each_for_itself() {
    client("self_sizing.py", &framing("json"), &["json"]);
    client("self_sizing.py", &framing("xml"), &["xml"]);
}

#[test]
fn the_http_client_of_python_is_answered_on_one_connection() {
    client("http_client.py", &framing("http"), &[]);
}

#[test]
fn curl_uploads_downloads_and_waits_for_leave() {
    let server = framing("http");
    let url = format!("http://{}/", server.addr);
    let curl = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--config", "/dev/null"]);
        match command.args(args).arg(&url).stdin(Stdio::null()).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                skip("curl is not installed");
                None
            }
            output => Some(output.expect("curl can be run")),
        }
    };
    // So large that curl asks for leave, and then in chunks.
    let body = "0123456789".repeat(30_000);
    for more in [&["--header", "X: y"][..], &["--header", "Transfer-Encoding: chunked"]] {
        let Some(output) = curl(&[&["--data-binary", &body[..100_000]], more].concat()) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.ends_with(&body[..100_000]),
            "{more:?}: {output:?}"
        );
    }
    let head = curl(&["--head", "--http1.0"]).map(|output| output.stdout).unwrap_or_default();
    assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", head.escape_ascii());
}

#[test]
fn curl_uploads_what_it_reads_in_chunks_and_asks_twice_on_one_connection() {
    let server = framing("http");
    let url = format!("http://{}/", server.addr);
    let body = "0123456789".repeat(30_000);
    let mut curl = Command::new("curl");
    // Of a pipe curl does not know how much there will be.
    curl.args(["--silent", "--show-error", "--max-time", "20", "--config", "/dev/null"])
        .args(["--upload-file", "-", &url, "--next", "--silent", "--write-out", "%{num_connects}"])
        .arg(&url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = match curl.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return skip("curl is not installed"),
        child => child.expect("curl can be run"),
    };
    let mut stdin = child.stdin.take().expect("piped");
    let sent = body.clone();
    let writing = thread::spawn(move || stdin.write_all(sent.as_bytes()));
    let output = child.wait_with_output().expect("our own child");
    writing.join().expect("it cannot fail").expect("curl reads all of it");
    let said = String::from_utf8_lossy(&output.stdout);
    let (put, get) = said.split_once("GET / HTTP/1.1").unwrap_or_else(|| panic!("{output:?}"));
    assert!(put.starts_with("PUT / HTTP/1.1\r\n") && put.ends_with(&body), "{put}");
    assert!(put.contains("Transfer-Encoding: chunked"), "{put}");
    assert!(get.ends_with("\r\n\r\n0"), "no other connection: {get}");
}

#[test]
fn the_lists_of_document_001_have_their_averages() {
    client("average.py", &preset("average"), &[]);
}

#[test]
fn the_published_client_of_document_002_is_served_and_can_end_the_server() {
    let mut server = preset("oneline");
    if client("oneline.py", &server, &[]).is_some() {
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn the_sized_packets_of_document_003_are_acknowledged() {
    client("sized.py", &preset("sized"), &[]);
}

#[test]
fn the_headers_of_document_004_are_answered_and_the_closing_word_closes() {
    client("header64.py", &preset("header64"), &[]);
}

#[test]
fn receivers_of_twisted_get_back_what_they_send() {
    client("twisted_peer.py", &framing("lines:crlf"), &["lines"]);
    client("twisted_peer.py", &framing("u32be"), &["int32"]);
    client("twisted_peer.py", &framing("netstring"), &["netstrings"]);
}

/// Messages that differ, of many lengths, and an empty one among them.
fn messages() -> Vec<String> {
    (0..300_usize).map(|n| format!("{n} ").repeat(n * n % 977)).collect()
}

/// Sends all of them at once through a codec, and reads the answers until the end.
fn echoed<C, T>(addr: &str, codec: C, messages: Vec<T>) -> Vec<<C as Decoder>::Item>
where
    C: Decoder + Encoder<T>,
    <C as Decoder>::Error: std::fmt::Debug,
    <C as Encoder<T>>::Error: std::fmt::Debug,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stream = TcpStream::connect(addr).await.expect("it listens");
        let (mut sink, mut stream) = codec.framed(stream).split();
        let sending = async {
            for message in messages {
                sink.feed(message).await.expect("it reads");
            }
            sink.close().await.expect("connected");
        };
        let receiving = async {
            let mut answers = Vec::new();
            while let Some(answer) = stream.next().await {
                answers.push(answer.expect("an intact answer"));
            }
            answers
        };
        let both = async { tokio::join!(sending, receiving).1 };
        tokio::time::timeout(PATIENCE, both).await.expect("it answers")
    })
}

#[test]
fn the_codec_for_lines_of_tokio_gets_back_what_it_sends() {
    for spec in ["lines", "lines:lf"] {
        assert_eq!(
            echoed(&framing(spec).addr, LinesCodec::new(), messages()),
            messages(),
            "{spec}"
        );
    }
}

#[test]
fn the_codec_for_lengths_of_tokio_gets_back_what_it_sends() {
    let lengths = LengthDelimitedCodec::builder;
    let cases = [
        ("u32be", lengths().new_codec()),
        ("u16le", lengths().length_field_type::<u16>().little_endian().new_codec()),
        // The value counts its own two bytes.
        ("u16be,adjust=-2", lengths().length_field_type::<u16>().length_adjustment(-2).new_codec()),
        ("u24be", lengths().length_field_length(3).new_codec()),
        ("u64le", lengths().length_field_type::<u64>().little_endian().new_codec()),
    ];
    for (spec, codec) in cases {
        let sent = messages().into_iter().map(Bytes::from).collect::<Vec<_>>();
        assert_eq!(echoed(&framing(spec).addr, codec, sent.clone()), sent, "{spec}");
    }
}
