//! How fast the ends of JSON values, XML documents and HTTP requests are found, beside
//! parsers.
//!
//! Alternating rounds on the same document of about 1 MB; medians, and their ratio.
//! serde_json's `StreamDeserializer` over `IgnoredAny` builds nothing either, and
//! quick-xml's events borrow from the document. httparse has an array of 100 empty fields.
//!
//! ```console
//! $ cargo bench --bench boundaries
//! ```

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use oneloop::{Framing, Json, Xml};
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use serde::de::IgnoredAny;

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 21 } else { 1 };
    block("JSON, 1 MB", "serde_json", rounds, json_documents(), (json, serde_json));
    block("XML, 1 MB", "quick-xml", rounds, xml_documents(), (xml, quick_xml));
    #[cfg(feature = "http")]
    block("HTTP heads, 1 MB", "httparse", rounds, http_requests(), (http, httparse));
}

type Count = fn(&mut [u8]) -> usize;

fn block(
    what: &str,
    parser: &str,
    rounds: usize,
    documents: Vec<(&str, String)>,
    (ours, theirs): (Count, Count),
) {
    println!("{what:<26}{:>10}{parser:>12}{:>8}", "ours GB/s", "ratio");
    for (name, document) in documents {
        let mut document = document.into_bytes();
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            times[0].push(timed(|| ours(&mut document)));
            times[1].push(timed(|| theirs(&mut document)));
        }
        assert_eq!(ours(&mut document), theirs(&mut document), "{name}");
        let [ours, theirs] = times.map(|times| rate(document.len(), times));
        println!("{name:<26}{ours:>10.2}{theirs:>12.2}{:>8.2}", ours / theirs);
    }
}

fn json_documents() -> Vec<(&'static str, String)> {
    let record = |n: usize| {
        format!(
            r#"{{"id":{n},"name":"user number {n}","tags":["red","green"],"score":{}.5,"active":true,"address":{{"street":"{n} Main Street","city":"Springfield"}}}}"#,
            n % 100
        )
    };
    vec![
        ("ordinary, compact", format!("[{}]", many(&record, ","))),
        (
            "long strings",
            format!("[{}]", many(&|n| format!("\"{}\"", "lorem ipsum ".repeat(n % 1000)), ",")),
        ),
        ("brackets", format!("[{}]", many(&|_| "[[],{},[[{}]]]".into(), ","))),
        ("escapes", format!("[{}]", many(&|n| format!(r#""a\"b\\{n}\n""#), ","))),
        ("small values, a line each", many(&record, "\n")),
    ]
}

fn xml_documents() -> Vec<(&'static str, String)> {
    let record = |n: usize| {
        format!(
            r#"<user id="{n}" active="true"><name>user number {n}</name><tags><tag>red</tag><tag>green</tag></tags><address street="{n} Main Street" city="Springfield"/></user>"#
        )
    };
    let root = |content: String| format!("<?xml version=\"1.0\"?>\n<root>{content}</root>");
    vec![
        ("ordinary", root(many(&record, "\n  "))),
        (
            "long texts",
            root(many(&|n| format!("<p>{}</p>", "lorem ipsum ".repeat(n % 1000)), "\n")),
        ),
        ("attributes", root(many(&|n| format!(r#"<a b="{n}" c='x' d="y" e="z"/>"#), ""))),
        ("comments and CDATA", root(many(&|n| format!("<!-- {n} --><![CDATA[a < {n}]]>"), ""))),
        ("small documents", many(&record, "\n")),
    ]
}

#[cfg(feature = "http")]
fn http_requests() -> Vec<(&'static str, String)> {
    let browser = "GET /api/v1/items/1234?fields=id,name,price&sort=asc HTTP/1.1\r\n\
        Host: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9\r\n\
        Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n\
        Connection: keep-alive\r\nCookie: session=0123456789abcdef; lang=en\r\nDNT: 1\r\n\r\n";
    assert_eq!((browser.len(), browser.matches(": ").count()), (365, 8));
    vec![
        ("365 bytes, 8 fields", many(&|_| browser.into(), "")),
        (
            "38 bytes, 1 field",
            many(&|_| "GET /hello HTTP/1.1\r\nHost: a.example\r\n\r\n".into(), ""),
        ),
    ]
}

/// So many parts that there is a megabyte.
fn many(part: &dyn Fn(usize) -> String, separator: &str) -> String {
    let mut text = String::new();
    for n in 0.. {
        text.push_str(&part(n));
        if text.len() > 1_000_000 {
            break;
        }
        text.push_str(separator);
    }
    text
}

fn xml(document: &mut [u8]) -> usize {
    let framing = Xml::default().max(4 << 20);
    let mut count = 0;
    let rest = framing.each(&mut None, document, true, |value| {
        black_box(value.expect("it is XML"));
        count += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(rest.map(|rest| rest.used), Ok(document.len()));
    count
}

fn quick_xml(document: &mut [u8]) -> usize {
    let mut reader = Reader::from_reader(&*document);
    let (mut depth, mut count) = (0, 0);
    loop {
        match black_box(reader.read_event().expect("it is XML")) {
            Event::Start(_) => depth += 1,
            Event::End(_) => {
                depth -= 1;
                count += usize::from(depth == 0);
            }
            Event::Empty(_) if depth == 0 => count += 1,
            Event::Eof => return count,
            _ => {}
        }
    }
}

/// The number of values.
fn json(document: &mut [u8]) -> usize {
    let framing = Json::default().max(4 << 20);
    let mut count = 0;
    let rest = framing.each(&mut None, document, true, |value| {
        black_box(value.expect("it is JSON"));
        count += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(rest.map(|rest| rest.used), Ok(document.len()));
    count
}

fn serde_json(document: &mut [u8]) -> usize {
    let values = serde_json::Deserializer::from_slice(document).into_iter::<IgnoredAny>();
    values.inspect(|value| assert!(value.is_ok(), "it is JSON")).count()
}

#[cfg(feature = "http")]
fn http(requests: &mut [u8]) -> usize {
    let framing = oneloop::Http::default();
    let mut count = 0;
    let rest = framing.each(&mut Default::default(), requests, true, |request| {
        black_box(request.expect("it is HTTP"));
        count += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(rest.map(|rest| rest.used), Ok(requests.len()));
    count
}

#[cfg(feature = "http")]
fn httparse(requests: &mut [u8]) -> usize {
    let (mut rest, mut count) = (&*requests, 0);
    while !rest.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        let status = request.parse(rest).expect("it is HTTP");
        rest = &rest[status.unwrap()..];
        black_box(&request);
        count += 1;
    }
    count
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

/// The median, in GB a second.
fn rate(bytes: usize, mut times: Vec<Duration>) -> f64 {
    times.sort();
    bytes as f64 / times[times.len() / 2].as_nanos() as f64
}
