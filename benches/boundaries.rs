//! How fast the ends of JSON values and XML documents are found, beside parsers.
//!
//! Alternating rounds on the same document of about 1 MB; medians, and their ratio.
//! serde_json's `StreamDeserializer` over `IgnoredAny` builds nothing either, and
//! quick-xml's events borrow from the document.
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
