//! How fast the ends of JSON values are found, beside a parser that does the same.
//!
//! Alternating rounds on the same document of about 1 MB; medians, and their ratio.
//! serde_json's `StreamDeserializer` over `IgnoredAny` builds nothing either.
//!
//! ```console
//! $ cargo bench --bench boundaries
//! ```

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use oneloop::{Framing, Json};
use serde::de::IgnoredAny;

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 21 } else { 1 };
    println!("{:<26}{:>10}{:>12}{:>8}", "JSON, 1 MB", "ours GB/s", "serde_json", "ratio");
    for (name, document) in documents() {
        let mut document = document.into_bytes();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(timed(|| json(&mut document)));
            theirs.push(timed(|| serde_json(&document)));
        }
        assert_eq!(json(&mut document), serde_json(&document), "{name}");
        let [ours, theirs] = [ours, theirs].map(|times| rate(document.len(), times));
        println!("{name:<26}{ours:>10.2}{theirs:>12.2}{:>8.2}", ours / theirs);
    }
}

fn documents() -> Vec<(&'static str, String)> {
    let record = |n: usize| {
        format!(
            r#"{{"id":{n},"name":"user number {n}","tags":["red","green"],"score":{}.5,"active":true,"address":{{"street":"{n} Main Street","city":"Springfield"}}}}"#,
            n % 100
        )
    };
    let many = |part: &dyn Fn(usize) -> String, separator: &str| {
        let mut text = String::new();
        for n in 0.. {
            text.push_str(&part(n));
            if text.len() > 1_000_000 {
                break;
            }
            text.push_str(separator);
        }
        text
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

fn serde_json(document: &[u8]) -> usize {
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
