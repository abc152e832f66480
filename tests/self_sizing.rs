//! Text that sizes itself, from peers who mean no good: large, deep, slow or endless.
//! Each is refused where it is wrong, in linear time, on a small stack, in bounded
//! memory.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use oneloop::{AnyFraming, Decoded, FrameError, Framing};

/// What a stream is decoded to that comes in `pieces` of so many bytes.
fn decode(spec: &str, stream: &[u8], piece: usize) -> (usize, Option<FrameError>) {
    let framing: AnyFraming = spec.parse().expect("a right SPEC");
    let (mut state, mut kept, mut count) = (Default::default(), Vec::new(), 0);
    for bytes in stream.chunks(piece) {
        kept.extend_from_slice(bytes);
        let each = framing.each(&mut state, &mut kept, false, |message| {
            assert!(message.is_ok(), "{spec}: {message:?}");
            count += 1;
            ControlFlow::Continue(())
        });
        match each {
            Ok(rest) => drop(kept.drain(..rest.used)),
            Err(error) => return (count, Some(error)),
        }
        assert!(kept.len() <= framing.max_input(), "{spec}: {} bytes are kept", kept.len());
    }
    (count, None)
}

/// A framing, what is sent, and what comes of it: messages and an error.
struct Case {
    name: &'static str,
    spec: &'static str,
    stream: Vec<u8>,
    messages: usize,
    /// Words of the error.
    says: &'static str,
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let case = |name, spec, stream: Vec<u8>, messages, says| Case { name, spec, stream, messages, says };
    let megabyte = |byte: u8| vec![byte; 1 << 20];
    let around = |begin: &str, middle: Vec<u8>, end: &str| [begin.as_bytes(), &middle, end.as_bytes()].concat();
    let mut cases = vec![
        case("a million empty frames",      "u32be",    vec![0; 4_000_000],                         1_000_000, ""),
        case("a million empty lines",       "lines",    vec![b'\n'; 1_000_000],                     1_000_000, ""),
        case("brackets",                    "json",     vec![b'['; 1_000_000],                      0, "nests deeper"),
        case("objects",                     "json",     br#"{"a":"#.repeat(1_000_000),              0, "nests deeper"),
        case("a large exponent",            "json",     b"1e999999999 [1e999999999]".to_vec(),      2, ""),
        case("a megabyte of digits",        "json",     around("", megabyte(b'7'), "7 "),           0, "limit of 1048576"),
        case("digits in an array",          "json",     around("[", vec![b'7'; (1 << 20) - 2], "]"), 1, ""),
        case("a string without end",        "json",     around("\"", megabyte(b'x'), "x"),          0, "limit of 1048576"),
        case("backslashes without end",     "json",     around("\"", megabyte(b'\\'), "\\"),      0, "limit of 1048576"),
        case("half a surrogate, zero bytes", "json",    b"[\"\\ud800\"] [\"\0\"]".to_vec(),        2, ""),
        case("nothing but white space",     "json",     vec![b'\n'; 3 << 20],                       0, ""),
        case("values glued together",       "json",     b"[]".repeat(500_000),                      500_000, ""),
        case("levels",                      "xml",      b"<a>".repeat(1_000_000),                   0, "nests deeper"),
        case("80,000 attributes",           "xml,max=4m", around("<a", b" b='c'".repeat(80_000), "/>"), 0, "more than 256 attributes"),
        case("100,000 name spaces",         "xml,max=4m", around("<a", b" xmlns:b='c'".repeat(100_000), "/>"), 0, "more than 256 attributes"),
        case("one attribute of a megabyte", "xml",      around("<a b='", megabyte(b'\"'), "'/>"),   0, "limit of 1048576"),
        case("a comment without end",       "xml",      around("<!--", megabyte(b'-'), ""),         0, "limit of 1048576"),
        case("CDATA without end",           "xml",      around("<a><![CDATA[", megabyte(b']'), ""), 0, "limit of 1048576"),
        case("instructions without end",    "xml",      around("<?a", megabyte(b'?'), ""),          0, "limit of 1048576"),
        case("entities that grow",          "xml",      b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".to_vec(), 0, "DOCTYPE is refused"),
        case("nothing but white space",     "xml",      vec![b' '; 3 << 20],                        0, ""),
        case("documents glued together",    "xml",      b"<a/>".repeat(300_000),                    300_000, ""),
    ];
    if cfg!(feature = "http") {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        cases.extend([
            case("10,000 fields",           "http",     around(head, b"A: b\r\n".repeat(10_000), ""), 0, "limit of 100"),
            case("a megabyte in a field",   "http",     around(head, megabyte(b'A'), ""),           0, "limit of 16384"),
            case("a megabyte of a target",  "http",     around("GET /", megabyte(b'A'), ""),        0, "limit of 8192"),
            case("nothing but empty lines", "http",     b"\r\n".repeat(1 << 20),                    0, ""),
            case("chunks of a byte",        "http,max=64k", around(chunked, b"1\r\nx\r\n".repeat(60_000), "0\r\n\r\n"), 0, "limit of 65536"),
            case("requests glued together", "http",     b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(30_000), 30_000, ""),
        ]);
    }
    cases
}

/// What all of them take together, in this many times over; quadratic work takes hours.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn what_is_large_deep_or_endless_is_refused_in_linear_time_on_a_small_stack() {
    let started = Instant::now();
    for Case { name, spec, stream, messages, says } in cases() {
        for piece in [usize::MAX, 65_536, 4093, 1] {
            // One byte at a time, the first few are enough to tell.
            let stream = if piece == 1 { &stream[..stream.len().min(300_000)] } else { &stream };
            let (stream, cut) = (stream.to_vec(), piece == 1);
            let small = thread::Builder::new().stack_size(128 << 10);
            let decoded = small.spawn(move || decode(spec, &stream, piece)).expect("a thread");
            let (count, error) =
                decoded.join().unwrap_or_else(|_| panic!("{name} ({spec}) panics"));
            let said = error.map_or(String::new(), |error| error.to_string());
            let expected = if said.is_empty() && cut { "" } else { says };
            assert!(
                said.contains(expected) && said.is_empty() == expected.is_empty(),
                "{name} ({spec}) in pieces of {piece}: {said:?}, not {says:?}"
            );
            assert!(
                count == messages || cut,
                "{name} ({spec}) in pieces of {piece}: {count} messages"
            );
            assert!(started.elapsed() < PATIENCE, "{name} ({spec}) in pieces of {piece}");
        }
    }
}

/// A long message comes byte by byte, and what has been there for [`FRESH`] bytes is
/// overwritten by what would end the message, or spoil it. Where it ends is the same: so
/// the search looks at nothing again, and a byte costs one look; or two, in a head of HTTP,
/// which is parsed once it has come, and in SLIP, whose escapes are taken out then. This is
/// exact, where a measurement of time would depend on the machine.
#[test]
fn what_dribbles_in_is_looked_at_once() {
    /// What may be needed again: `]]` before a `>`, half a delimiter, `$5` before its five.
    const FRESH: usize = 16;
    type Case<'a> = (&'static str, &'static str, &'a [u8], &'static str, u8);
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        // SPEC, what is not overwritten, what is repeated, the end, what is written
        ("lines",           "",             b"hello ",                      "\n",           b'\n'),
        ("lines:crlf",      "",             b"hello\r",                     "\r\n",         b'\n'),
        ("delim:abc",       "",             b"ababx",                       "abc",          b'c'),
        ("nul",             "",             b"hello ",                      "\0",           0),
        ("stx-etx",         "\x02",         b"hello ",                      "\x03",         3),
        ("mllp",            "\x0b",         b"hello\x1c",                   "\x1c\r",       b'\r'),
        ("syslog",          "<",            b"hello ",                      "\n",           b'\n'),
        ("slip",            "",             b"a\xdb\xdcb\xdb\xdd",          "",             0xc0),
        ("json",            "[",            br#"{"a":[1,2]},"\"\\",null,"#, "1]",           b']'),
        ("json",            "\"",           br#"\\\" []"#,                  "\" ",          b'"'),
        ("json",            "1",            b"0123456789",                  " ",            b' '),
        ("xml",             "<r>",          b"<a b='>' c=\"/>\"><d/>e</a>", "</r>",         b'<'),
        ("xml",             "<r>",          b"<!-- - > --><![CDATA[ ]> ]]><?p ?>", "</r>",  b'<'),
        ("xml",             "<r a='",       b"> \" < />",                   "'/>",          b'\''),
        ("resp",            "*20000\r\n",  b"$5\r\nhello\r\n",             "",             b'$'),
        ("resp",            "+",            b"hello ",                      "\r\n",         b'\n'),
        ("resp",            "+",            b"hello\r",                     "\r\n",         b'\n'),
        #[cfg(feature = "http")]
        (
            "http",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            &b"5;x=y\r\nhello\r\n"[..],
            "0\r\nA: b\r\n\r\n",
            b'\r',
        ),
        #[cfg(feature = "http")]
        (
            "http",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 131072\r\n\r\n",
            b"\r\n\r\n0123",
            "",
            b'\n',
        ),
    ];
    for &(spec, begin, middle, end, poison) in cases {
        let count = if begin.starts_with('*') { 20_000 } else { (1 << 17) / middle.len() };
        // SLIP ends in a byte that is no text.
        let end = if spec == "slip" { &[0xc0][..] } else { end.as_bytes() };
        let mut stream = [begin.as_bytes(), &middle.repeat(count), end].concat();
        let framing: AnyFraming = format!("{spec},max=4m").parse().expect("a right SPEC");
        let whole = framing.decode(&mut Default::default(), &mut stream.clone(), false);
        let name = format!("{spec}, {begin:?} {}", middle.escape_ascii());
        let Ok(Decoded::Message { consumed, .. }) = whole else { panic!("{name}: {whole:?}") };
        let mut state = Default::default();
        for len in 1..stream.len() {
            let decoded = framing.decode(&mut state, &mut stream[..len], false);
            assert!(
                matches!(decoded, Ok(Decoded::Incomplete { .. })),
                "{name}: {decoded:?} at byte {len}"
            );
            match len.checked_sub(FRESH) {
                Some(seen) if seen > begin.len() => stream[seen - 1] = poison,
                _ => {}
            }
        }
        let decoded = framing.decode(&mut state, &mut stream, false);
        let Ok(Decoded::Message { consumed: found, .. }) = decoded else {
            panic!("{name}: {decoded:?}");
        };
        assert_eq!(found, consumed, "{name}");
    }
}
