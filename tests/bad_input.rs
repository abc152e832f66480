//! Bytes that are no message, against the program: who sends them is told nothing more
//! and closed, or skipped over, as the framing allows; the log says why; and whoever
//! else is connected does not notice.
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
#[expect(dead_code, reason = "the tests of the command line need the rest")]
mod serving;

use std::io::{Read, Write};
use std::net::TcpStream;

use oneloop::{AnyFraming, Encode};
use serving::Serving;

/// A framing, bytes that are wrong in it, and what the log says of them.
struct Case {
    what: &'static str,
    spec: &'static str,
    bytes: &'static [u8],
    says: &'static [&'static str],
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { what: "a sign",                spec: "ascii:8",        bytes: b"+0000005hello",        says: &["byte 0 is 0x2b", "digit"] },
    Case { what: "a minus",               spec: "ascii:8",        bytes: b"-0000005hello",        says: &["byte 0 is 0x2d", "digit"] },
    Case { what: "a space",               spec: "ascii:8",        bytes: b"0000 005hello",        says: &["byte 4 is 0x20", "digit"] },
    Case { what: "hexadecimal",           spec: "ascii:8",        bytes: b"0x000005hello",        says: &["byte 1 is 0x78", "digit"] },
    Case { what: "an underscore",         spec: "ascii:8",        bytes: b"0000_005hello",        says: &["byte 4 is 0x5f", "digit"] },
    Case { what: "Arabic digits",         spec: "ascii:8",        bytes: "٠٠٠٥".as_bytes(),       says: &["byte 0 is 0xd9", "digit"] },
    Case { what: "more than the limit",   spec: "ascii:8",        bytes: b"99999999",             says: &["99999999 bytes", "1048576"] },
    Case { what: "the header of another", spec: "ascii:8",        bytes: b"GET / HTTP/1.1\r\n",   says: &["byte 0 is 0x47", "digit"] },
    Case { what: "a header of spaces",    spec: "ascii:64:space", bytes: &[b' '; 64],             says: &["byte 0 is 0x20", "digit"] },
    Case { what: "right-justified",       spec: "ascii:64:space", bytes: b"    5               ", says: &["byte 0 is 0x20", "digit"] },
    Case { what: "padded with zero bytes", spec: "ascii:64:space", bytes: b"5\0\0\0",             says: &["byte 1 is 0x00"] },
    Case { what: "digits behind a space", spec: "ascii:64:space", bytes: b"5 5 ",                 says: &["byte 2 is 0x35", "space"] },
    Case { what: "a number without end",  spec: "ascii:64:space", bytes: &[b'9'; 64],             says: &["limit of 1048576"] },
    Case { what: "an overlong varint",    spec: "varint",         bytes: b"\x85\0hello",          says: &["byte 1 is 0x00"] },
    Case { what: "eleven bytes of it",    spec: "varint",         bytes: &[0xff; 11],             says: &["byte 9 is 0xff"] },
    Case { what: "a digit above 127",     spec: "base128",        bytes: b"\x80\x01",             says: &["byte 0 is 0x80"] },
    Case { what: "the second one",        spec: "base128",        bytes: b"\x05\x80",             says: &["byte 1 is 0x80"] },
    Case { what: "a missing comma",       spec: "netstring",      bytes: b"5:hello5:hello,",      says: &["byte 7 is 0x35", "comma"] },
    Case { what: "a leading zero",        spec: "netstring",      bytes: b"05:hello,",            says: &["byte 1 is 0x35"] },
    Case { what: "no digit",              spec: "netstring",      bytes: b":hello,",              says: &["byte 0 is 0x3a", "digit"] },
    Case { what: "neither digit nor <",   spec: "syslog",         bytes: b"hello\n",              says: &["byte 0 is 0x68", "digit"] },
    Case { what: "a bare LF",             spec: "lines:crlf",     bytes: b"hello\n",              says: &["LF without CR"] },
    Case { what: "the other byte order",  spec: "u32be",          bytes: b"\x05\0\0\0hello",      says: &["83886080 bytes", "1048576"] },
    Case { what: "a negative length",     spec: "u16be,adjust=-2", bytes: b"\0\x01",              says: &["length 1", "-2"] },
];

fn framed(spec: &str, message: &[u8]) -> Vec<u8> {
    let framing: AnyFraming = spec.parse().expect("a right SPEC");
    let mut bytes = Vec::new();
    framing.encode(message, &mut bytes).expect("a short message");
    bytes
}

fn hears(client: &mut TcpStream, expected: &[u8], what: &str) {
    let mut heard = vec![0; expected.len()];
    client.read_exact(&mut heard).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(heard, expected, "{what}");
}

#[test]
fn who_sends_what_is_no_length_is_closed_after_the_replies_before_it_and_alone() {
    for Case { what, spec, bytes, says } in CASES {
        let mut server = Serving::start(&["--listen=127.0.0.1:0", "-f", spec]);
        let mut other = server.connect();
        let hello = framed(spec, b"hello");
        // Half a message is under way next door while it happens.
        other.write_all(&[&hello[..], &hello[..1]].concat()).expect("it reads");
        hears(&mut other, &hello, what);

        let mut client = server.connect();
        client.write_all(&[&hello[..], bytes, &hello[..]].concat()).expect("it reads");
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(heard, hello, "{spec}, {what}: the reply before it, and nothing after");
        let line = server.hear("[BAD INPUT]");
        for words in *says {
            assert!(line.contains(words), "{spec}, {what}: no {words:?} in: {line}");
        }
        drop(client);
        let closed = server.hear("[CLOSED]");
        let reason = if line.contains("limit") { "too_long" } else { "bad_frame" };
        assert!(closed.ends_with(reason), "{spec}, {what}: {closed}");

        other.write_all(&hello[1..]).expect("it reads");
        hears(&mut other, &hello, what);
    }
}

/// A loop that waits for more when its buffer is full would wait for ever.
#[test]
fn messages_as_long_as_a_read_or_the_limit_come_back_with_every_byte_they_had() {
    // What a read brings at most, and the message limit here.
    const READ: usize = 64 << 10;
    for spec in ["u32be", "u16le", "varint", "ascii:8", "netstring", "lines", "nul", "slip", "json"]
    {
        let max = if spec == "u16le" { READ - 1 } else { READ };
        let spec = format!("{spec},max={max}");
        let server = Serving::start(&["--listen=127.0.0.1:0", "-f", &spec]);
        // With the header, up to 8 bytes, some are just as long as a read.
        for len in READ - 10..=max {
            // No byte ends a line, a string or the text.
            let bytes = (0..=255_u8).filter(|byte| !b"\0\n\r\"\\".contains(byte));
            let text: Vec<u8> = bytes.cycle().take(len - 4).collect();
            let stream = framed(&spec, &[b"[\"", &text[..], b"\"]"].concat()).repeat(2);
            let heard = server.ask(&stream);
            assert!(heard == stream, "{spec}: {len} bytes, or others, of {} back", heard.len());
        }
    }
}

#[test]
fn what_ends_in_a_delimiter_is_skipped_when_it_is_too_long_and_the_next_is_served() {
    for spec in ["lines", "lines:lf", "nul", r"delim:\r\n", "stx-etx", "mllp"] {
        let spec = format!("{spec},max=5");
        let mut server = Serving::start(&["--listen=127.0.0.1:0", "-f", &spec]);
        let hello = framed(&spec, b"hello");
        // Its own framing, with a larger limit.
        let long = framed(&spec.replace("max=5", "max=100"), &[b'x'; 100]);
        let mut client = server.connect();
        client.write_all(&[&hello[..], &long, &hello].concat()).expect("it reads");
        hears(&mut client, &[&hello[..], &hello].concat(), &spec);
        assert!(server.hear("[BAD INPUT]").contains("limit of 5 bytes"), "{:?}", server.said);
    }
}

/// "Text that is not text" is the service's to judge: a framing carries bytes.
#[test]
fn text_that_is_not_text_is_answered_so_by_the_services_that_want_text() {
    let oneline = Serving::start(&["--listen=127.0.0.1:0", "--preset=oneline"]);
    assert_eq!(oneline.ask(b"\xff\nping\n"), b"invalid\npong\n");
    let average = Serving::start(&["--listen=127.0.0.1:0", "--preset=average"]);
    let answers = average.ask(b"000000021\xff000000011");
    assert!(answers.windows(7).any(|words| words == b"error: "), "{}", answers.escape_ascii());
    assert!(answers.ends_with(b"000000011"), "{}", answers.escape_ascii());
}

/// The error says what is wrong; the guess, what the peer may have meant.
#[test]
fn another_protocol_is_named_in_the_log() {
    #[rustfmt::skip]
    let cases: &[(&str, &[u8], &str)] = &[
        ("u32be",   b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",  "looks like HTTP"),
        ("ascii:8", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",  "looks like HTTP"),
        ("json",    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "looks like TLS"),
        ("u16be",   b"SSH-2.0-OpenSSH_9.6\r\n",             "looks like SSH"),
        ("xml",     b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",  "looks like a PROXY header"),
        ("u32be",   b"\x05\0\0\0hello",                      "in the other byte order it would be 5 bytes"),
        ("u32be",   b"00000005hello",                       "looks like text"),
        ("base128", b"\x85\x01hello",                       "it would be 133 bytes"),
    ];
    for (spec, bytes, words) in cases {
        let mut server = Serving::start(&["--listen=127.0.0.1:0", "-f", spec]);
        if *spec == "u16be" {
            // 21,331 bytes are announced, and are less than it may be: no error yet.
            server = Serving::start(&["--listen=127.0.0.1:0", "-f", "u16be,max=9"]);
        }
        assert_eq!(server.ask(bytes), b"", "{spec}");
        let line = server.hear("[BAD INPUT]");
        assert!(line.contains(words), "{spec}: no {words:?} in: {line}");
    }
}

#[test]
fn an_http_client_is_told_so_if_it_is_to_be_told() {
    let server = Serving::start(&["--listen=127.0.0.1:0", "-f", "ascii:8", "--http-courtesy"]);
    let said = String::from_utf8(server.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).expect("text");
    assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
    assert!(said.ends_with("\r\n\r\nthis port does not speak HTTP\n"), "{said}");
    assert_eq!(server.ask(b"SSH-2.0-OpenSSH_9.6\r\n"), b"", "nobody else is");
}
