//! `oneloop bench` as its users meet it: what it prints and writes, its exit codes, and
//! servers that are not there, hang up, lie, say nothing or stall.
#![cfg(feature = "cli")]

#[path = "support/serving.rs"]
#[expect(dead_code, reason = "the tests of the command line need the rest")]
mod serving;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use serving::{Serving, oneloop};

fn echo() -> Serving {
    Serving::start(&["-l", "127.0.0.1:0"])
}

fn bench(addr: &str, args: &[&str]) -> Output {
    oneloop(&["bench", addr]).args(args).output().expect("the binary was built")
}

/// The object that `--json` prints; nothing else may stand on stdout.
fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
    })
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {value}"))
}

/// A file of this test process alone.
fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    fs::create_dir_all(&folder).expect("a folder of ours");
    folder.join(name)
}

fn path(file: &std::path::Path) -> &str {
    file.to_str().expect("a name that is text")
}

/// A server by hand: `serve` has each connection for itself.
fn by_hand(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a TCP socket").to_string();
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    addr
}

/// Where `value` is not what `schema` says, if anywhere: of the words of JSON Schema, those
/// that docs/bench.schema.json uses.
fn difference(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let found = root.pointer(name.trim_start_matches('#')).expect("it names what is there");
        return difference(root, found, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let differences = choices.iter().map(|choice| difference(root, choice, value, at));
        let differences: Vec<_> = differences.collect();
        let fit = differences.iter().filter(|difference| difference.is_none()).count();
        return (fit != 1).then(|| format!("{at}: {fit} choices fit: {differences:?}"));
    }
    if let Some(wanted) = schema.get("const") {
        return (wanted != value).then(|| format!("{at}: {value}, not {wanted}"));
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{at}: {value}, not of {words:?}"));
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let fits = |name: &Value| match name.as_str().expect("a type is a word") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        name => panic!("{at}: no type {name}"),
    };
    if !types.iter().any(fits) {
        return Some(format!("{at}: {value} is none of {types:?}"));
    }
    if schema["minimum"].as_f64() > value.as_f64() && value.is_number() {
        return Some(format!("{at}: {value} is too small"));
    }
    let items = value.as_array().into_iter().flatten().enumerate();
    let item = |(n, item)| difference(root, &schema["items"], item, &format!("{at}/{n}"));
    if let Some(found) = items.map(item).find_map(|difference| difference) {
        return Some(found);
    }
    if let (Some(members), false) = (value.as_object(), schema["additionalProperties"].is_boolean())
    {
        let other = &schema["additionalProperties"];
        let member = |(name, value)| difference(root, other, value, &format!("{at}/{name}"));
        return members.iter().map(member).find_map(|difference| difference);
    }
    let (Some(members), Some(known)) = (value.as_object(), schema["properties"].as_object()) else {
        return None;
    };
    // Every member is always there, so both have to have the same.
    let (mut have, mut want): (Vec<_>, Vec<_>) = (members.keys().collect(), known.keys().collect());
    have.sort();
    want.sort();
    let mut required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    required.sort_by_key(|name| name.as_str());
    if have != want || required.iter().any(|name| !known.contains_key(name.as_str().unwrap_or("")))
    {
        return Some(format!("{at}: members {have:?}, described {want:?}"));
    }
    let member = |(name, value)| difference(root, &known[name], value, &format!("{at}/{name}"));
    members.iter().map(member).find_map(|difference| difference)
}

fn assert_described(value: &Value) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/bench.schema.json");
    let schema = fs::read_to_string(file).expect("it is in the repository");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    assert_eq!(difference(&schema, &schema, value, ""), None);
}

#[test]
fn the_numbers_of_text_are_those_of_json_and_the_json_is_as_described() {
    let server = echo();
    let args = ["-c", "4", "-n", "2000", "-P", "2", "-q", "--percentiles", "25,99.99"];
    let run = json(&bench(&server.addr, &[&args[..], &["--json"]].concat()));
    assert_described(&run);
    assert_eq!((run["event"].as_str(), run["reason"].as_str()), (Some("end"), Some("requests")));
    assert_eq!((number(&run, "/received"), number(&run, "/connected")), (2000.0, 4.0));
    assert_eq!(run["errors"]["reset"], 0);
    assert!(run["command"].to_string().contains("bench"), "{}", run["command"]);

    let asked = &run["percentiles_us"]["corrected"];
    assert!(number(asked, "/p25") <= number(asked, "/p99.99"), "{asked}");
    assert_eq!(asked.as_object().map(|asked| asked.len()), Some(2), "{asked}");

    // Shown again by itself, a run is the same.
    let saved = file("numbers.json");
    fs::write(&saved, run.to_string()).expect("written");
    let output = oneloop(&["bench", "--merge", path(&saved)]).output().expect("built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let per_s = number(&run, "/received_per_s").round() as u64;
    let per_s = format!("{},{:03}/s", per_s / 1000, per_s % 1000);
    for words in ["2,000", &per_s, "closed loop, 4 connections, depth 2", "lines", "64 bytes"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    for percentile in ["p50", "p99", "p99.9"] {
        let us = number(&run["latency_us"]["corrected"][percentile], "");
        let digits = if us < 999.5 { us } else { us / 1000.0 };
        let short = match digits {
            _ if digits < 9.995 => format!("{digits:.2}"),
            _ if digits < 99.95 => format!("{digits:.1}"),
            _ => format!("{digits:.0}"),
        };
        assert!(text.contains(&short), "no {short} of {percentile} in\n{text}");
    }
}

#[test]
fn a_stream_begins_with_start_and_ends_with_end_and_every_line_is_as_described() {
    let server = echo();
    let args = ["-c", "3", "-r", "500", "-d", "600ms", "--warmup", "200ms", "--json-stream"];
    let output = bench(&server.addr, &args);
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    lines.iter().for_each(assert_described);
    let events: Vec<_> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!((events[0], events[events.len() - 1]), ("start", "end"), "{events:?}");
    assert!(events[1..events.len() - 1].iter().all(|event| *event == "interval"), "{events:?}");
    let end = &lines[lines.len() - 1];
    let intervals = &lines[1..lines.len() - 1];
    let counted = intervals.iter().filter(|line| line["warmup"] == false);
    let received: f64 = counted.map(|line| number(line, "/received")).sum();
    assert_eq!(received, number(end, "/received"), "{text}");
    assert!(intervals.iter().any(|line| line["warmup"] == true), "{text}");
    assert_eq!(end["model"], "open");
}

#[test]
fn what_cannot_be_is_refused_before_it_starts_with_what_can() {
    // Nobody listens there: whoever tried to connect would exit with 1.
    #[rustfmt::skip]
    let cases: &[(&[&str], &str)] = &[
        (&["-r", "0"],                          "0.5 or 10k"),
        (&["-r", "-5"],                         "-5"),
        (&["-r", "50m"],                        "10,000,000/s is possible"),
        (&["--rate-per-conn", "1m", "-c", "20"], "10,000,000/s is possible"),
        (&["-r", "5", "--rate-per-conn", "5"],  "cannot be used with"),
        (&["-c", "9m"],                         "connections are possible"),
        (&["-c", "1", "--idle", "9m"],          "connections are possible"),
        (&["-c", "0"],                          "-c 1 at least"),
        (&["-n", "0"],                          "-n 1 at least"),
        (&["-P", "0"],                          "1 to 65536"),
        (&["-d", "0"],                          "zero is no time"),
        (&["-f", "linse"],                      "allowed: lines"),
        (&["-m", r"a\nb"],                      "delimiter at byte 1"),
        (&["-m", r"\q"],                        r"\n \r \t"),
        (&["-m", "a", "-s", "5"],               "cannot be used with"),
        (&["--raw"],                            "--message"),
        (&["-f", "u8", "-s", "300"],            "limit of 255"),
        (&["-f", "modbus", "-s", "64"],         "12 bytes"),
        (&["-s", "31", "--stamp"],              "the 32 it has to have"),
        (&["-f", "json", "--stamp"],            "like lines"),
        (&["--get", "/"],                       "-f http"),
        (&["--file", "/nonexistent/file"],      "/nonexistent/file"),
        (&["--fanout"],                         "-c 2"),
        (&["--fanout", "-c", "3", "--rate-per-conn", "5"], "-r"),
        (&["--fanout", "-c", "3", "-s", "8"],   "the 32 it has to have"),
        (&["--churn", "fin", "-r", "5"],        "leave the rate out"),
        (&["--churn", "fin", "-P", "5"],        "leave it out"),
        (&["--churn", "gently"],                "fin, rst"),
        (&["--fail-if", "p99>5"],               "5ms"),
        (&["--fail-if", "speed<5"],             "p50 to p99.999"),
        (&["--find-rate", "p99>5ms"],           "p99<5ms"),
        (&["--percentiles", "50,101"],          "99.99"),
        (&["--source-ip", "localhost"],         "localhost"),
        (&["--merge", "a.json"],                "cannot be used with"),
    ];
    for (args, words) in cases {
        let output = bench("127.0.0.1:1", args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(code(&output), 2, "{args:?}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{args:?}: {words:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let nothing = oneloop(&["bench"]).output().expect("built");
    assert_eq!(code(&nothing), 2);
}

/// The errors of a run against `addr` that nothing came of, and its exit code.
fn failing(addr: &str, args: &[&str]) -> (i32, Value) {
    let args = [&["-c", "4", "-d", "300ms", "--json", "-q"], args].concat();
    let output = bench(addr, &args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: "), "{said}");
    let run = json(&output);
    assert_described(&run);
    assert_eq!(run["latency_us"]["corrected"], Value::Null, "{run}");
    (code(&output), run)
}

#[test]
fn a_server_that_fails_is_counted_by_kind_and_is_in_no_histogram() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("a TCP socket").to_string()
    };
    let (code, run) = failing(&nobody, &[]);
    assert_eq!((code, number(&run, "/errors/connect")), (1, 4.0), "{run}");
    assert_eq!(run["reason"], "no_connection");
    assert!(run["warnings"].to_string().contains("refused"), "{}", run["warnings"]);

    let hanging_up = by_hand(|mut stream| {
        let _ = stream.read(&mut [0; 1000]);
    });
    let (code, run) = failing(&hanging_up, &[]);
    let ended = number(&run, "/errors/closed") + number(&run, "/errors/reset");
    assert_eq!((code, ended), (1, 4.0), "{run}");

    let lying = by_hand(|mut stream| {
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(&[0xff; 64]);
        let _ = stream.read(&mut [0; 1000]);
    });
    let (code, run) = failing(&lying, &["-f", "u32be,max=1k"]);
    assert_eq!((code, number(&run, "/errors/frame")), (1, 4.0), "{run}");

    let silent = by_hand(|mut stream| while stream.read(&mut [0; 1000]).is_ok_and(|n| n > 0) {});
    let (code, run) = failing(&silent, &[]);
    assert_eq!((code, number(&run, "/unanswered")), (1, 4.0), "{run}");
    let (code, run) = failing(&silent, &["--timeout", "100ms"]);
    assert_eq!(code, 1);
    assert!(number(&run, "/errors/timeout") >= 4.0, "{run}");
}

#[test]
fn replies_that_are_not_what_was_sent_are_counted_where_that_is_asked() {
    let server = Serving::start(&["-l", "127.0.0.1:0", "--service", "receipt"]);
    let args = ["-n", "100", "--json", "-q"];
    let run = json(&bench(&server.addr, &[&args[..], &["--check", "echo"]].concat()));
    assert!(number(&run, "/errors/wrong") >= 6.0, "{run}");
    let run = json(&bench(&server.addr, &args));
    assert_eq!(run["errors"]["wrong"], 0);
}

#[test]
fn a_threshold_that_is_breached_is_99_and_one_that_holds_is_0() {
    let server = echo();
    let cases = [
        ("p99>0.1us", 99),
        ("uncorrected.p50>0.1us", 99),
        ("rate<10m", 99),
        ("p99>1h", 0),
        ("errors>0", 0),
        ("rate<1", 0),
    ];
    for (limit, expected) in cases {
        let output = bench(&server.addr, &["-n", "200", "-q", "--fail-if", limit]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(code(&output), expected, "{limit}: {said}");
        assert_eq!(said.contains(limit) && said.contains("it is"), expected == 99, "{said}");
        assert!(!output.stdout.is_empty(), "the run is shown in any case");
    }
}

#[test]
fn the_first_signal_ends_a_run_with_valid_json_and_the_second_the_program() {
    let server = echo();
    let start = |addr: &str| {
        let args = ["bench", addr, "-c", "2", "-d", "1h", "--json-stream"];
        let mut child = oneloop(&args).stdout(Stdio::piped()).spawn().expect("built");
        let mut out = child.stdout.take().expect("piped");
        let mut begun = [0; 1];
        out.read_exact(&mut begun).expect("the event start");
        (child, out)
    };
    let signal = |child: &std::process::Child, name: &str| {
        let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        assert!(sent.expect("kill is everywhere").success());
    };

    let (mut child, mut out) = start(&server.addr);
    thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    let mut text = String::new();
    out.read_to_string(&mut text).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let end: Value = serde_json::from_str(text.lines().last().unwrap_or("")).expect(&text);
    assert_described(&end);
    assert_eq!((end["event"].as_str(), end["reason"].as_str()), (Some("end"), Some("signal")));
    assert!(number(&end, "/received") > 0.0, "{end}");

    // Stopped, both signals wait for it; whichever it sees first, the other is the second.
    let (mut child, _out) = start(&server.addr);
    signal(&child, "STOP");
    signal(&child, "TERM");
    signal(&child, "INT");
    signal(&child, "CONT");
    let code = child.wait().expect("it ends").code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

#[test]
fn runs_of_several_processes_add_up() {
    let server = echo();
    let [one, other] = ["one.json", "other.json"].map(file);
    let runs = [(&one, "2"), (&other, "3")].map(|(saved, connections)| {
        let output = bench(&server.addr, &["-c", connections, "-n", "1000", "--json", "-q"]);
        fs::write(saved, &output.stdout).expect("written");
        json(&output)
    });
    let args = ["bench", "--merge", path(&one), path(&other), "--json"];
    let sum = json(&oneloop(&args).output().expect("built"));
    assert_described(&sum);
    for member in ["/received", "/sent", "/connections", "/latency_us/corrected/count"] {
        let parts: f64 = runs.iter().map(|run| number(run, member)).sum();
        assert_eq!(number(&sum, member), parts, "{member}");
    }
    let most = runs.iter().map(|run| number(run, "/latency_us/corrected/max")).fold(0.0, f64::max);
    assert_eq!(number(&sum, "/latency_us/corrected/max"), most);

    let no_run = file("no_run.json");
    fs::write(&no_run, "{\"v\":1}").expect("written");
    let output = oneloop(&["bench", "--merge", path(&no_run)]).output().expect("built");
    assert_eq!(code(&output), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--json"));
}

#[test]
fn every_comparison_shows_its_own_noise() {
    let server = echo();
    let saved = ["a1.json", "a2.json", "b.json"].map(|name| {
        let output = bench(&server.addr, &["-c", "2", "-d", "500ms", "--json", "-q"]);
        fs::write(file(name), &output.stdout).expect("written");
        file(name)
    });
    let twice = format!("{},{}", path(&saved[0]), path(&saved[1]));
    let page = file("both.html");
    let args = ["bench", "--compare", &twice, path(&saved[2]), "--report", path(&page)];
    let output = oneloop(&args).output().expect("built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for words in ["between its 2 runs", "between the intervals of its one run", "B / A", "±"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    let p99 = text.lines().find(|line| line.starts_with("p99 ")).expect("a row");
    assert_eq!(p99.matches('±').count(), 3, "{p99}");
    let html = fs::read_to_string(page).expect("it was written");
    assert!(html.contains("within noise") || html.contains("beyond noise"));

    let output = oneloop(&["bench", "--compare", path(&saved[2])]).output().expect("built");
    assert_eq!(code(&output), 2);
}

#[test]
fn the_page_and_the_histogram_are_written_with_what_was_measured() {
    let server = echo();
    let (page, hgrm) = (file("run.html"), file("run.hgrm"));
    let args = ["-c", "2", "-r", "1k", "-d", "500ms", "-q", "--json"];
    let files = ["--report", path(&page), "--hgrm", path(&hgrm)];
    let run = json(&bench(&server.addr, &[&args[..], &files].concat()));
    let html = fs::read_to_string(page).expect("it was written");
    for words in [
        &server.addr,
        "<svg",
        "Latency by percentile",
        "uncorrected",
        "-r 1k",
        "prefers-color-scheme",
    ] {
        assert!(html.contains(words), "no {words:?} in the page");
    }
    for words in ["<script", "src=", "NaN"] {
        assert!(!html.contains(words), "{words:?} in the page");
    }
    let hgrm = fs::read_to_string(hgrm).expect("it was written");
    let count = number(&run, "/latency_us/corrected/count");
    assert!(hgrm.contains(&format!("Total count    = {count:12}]")), "{count}: {hgrm}");

    let nowhere = bench(&server.addr, &["-n", "10", "-q", "--report", "/nonexistent/run.html"]);
    assert_eq!(code(&nowhere), 1);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nonexistent/run.html"));
}

/// A server that is stopped for half of the time. Of the messages at a rate, half are due
/// while it stands still, and wait a quarter of the time or longer in the middle of them:
/// the corrected p75 is half of the stop. What is measured from sending sees one message a
/// connection wait, and so do most tools.
#[test]
fn a_server_that_is_stopped_shows_in_corrected_latency_and_hides_from_the_other() {
    const WHOLE: Duration = Duration::from_millis(3000);
    const STOPPED: Duration = Duration::from_millis(1500);
    let server = echo();
    let addr = server.addr.clone();
    let running = thread::spawn(move || {
        json(&bench(&addr, &["-c", "4", "-r", "1k", "-d", "3s", "--json", "-q"]))
    });
    thread::sleep(Duration::from_millis(700));
    let began = Instant::now();
    server.signal("STOP");
    thread::sleep(STOPPED);
    server.signal("CONT");
    let stopped_ms = began.elapsed().as_secs_f64() * 1000.0;
    let run = running.join().expect("it printed a run");
    // A busy machine may have stopped it for longer; the part of the time is what counts.
    let part = stopped_ms / (WHOLE.as_secs_f64() * 1000.0);
    let expected_ms = (stopped_ms - 0.25 * stopped_ms / part).max(0.0);
    let p75_ms = number(&run, "/latency_us/corrected/p75") / 1000.0;
    assert!((p75_ms - expected_ms).abs() < 300.0, "{p75_ms} ms, not {expected_ms} ms: {run}");
    let hidden_ms = number(&run, "/latency_us/uncorrected/p75") / 1000.0;
    assert!(hidden_ms < p75_ms / 5.0, "uncorrected {hidden_ms} ms, corrected {p75_ms} ms");
}

#[test]
fn the_highest_rate_that_keeps_a_promise_is_found_and_each_try_is_shown() {
    let server = echo();
    // A promise that any machine keeps up to some rate: the search ends in any case.
    let args = ["-c", "4", "-d", "150ms", "-q", "--find-rate", "p50<50ms", "-r", "2m"];
    let output = bench(&server.addr, &args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().filter(|line| line.contains("answered")).count() >= 3, "{text}");
    assert!(text.contains("keeps p50<50ms: "), "{text}");

    let never = ["-d", "100ms", "-q", "--find-rate", "p50<0.1us", "-r", "4", "--json"];
    let output = bench(&server.addr, &never);
    assert_eq!(code(&output), 99);
    assert!(json(&output)["warnings"].to_string().contains("no rate keeps p50<0.1us"));
}

#[test]
fn other_framings_and_shapes_run_against_servers_of_them() {
    let http = Serving::start(&["-l", "127.0.0.1:0", "-f", "http"]);
    let json_echo = Serving::start(&["-l", "127.0.0.1:0", "-f", "json"]);
    let sized = Serving::start(&["-l", "127.0.0.1:0", "--preset", "header64", "--messages", "500"]);
    let hub = Serving::start(&["-l", "127.0.0.1:0", "--service", "broadcast"]);
    let lines = echo();
    #[rustfmt::skip]
    let cases: &[(&Serving, &[&str], &str)] = &[
        (&http,      &["-f", "http", "--get", "/"],      "closed"),
        (&http,      &["-f", "http", "-s", "100"],       "closed"),
        (&json_echo, &["-f", "json", "--check", "echo"], "closed"),
        (&sized,     &["--preset", "header64"],          "closed"),
        (&hub,       &["--fanout", "-c", "5"],           "fanout"),
        (&lines,     &["--churn", "rst", "-c", "2"],     "churn"),
        (&lines,     &["--churn", "fin"],                "churn"),
        (&lines,     &["--stamp", "--check", "echo", "-P", "8"], "closed"),
        (&lines,     &["--idle", "50", "--slow", "1", "--drip", "1"], "closed"),
        (&lines,     &["-m", r"\x41\t\\", "-c", "3", "--connect-rate", "1k"], "closed"),
        (&lines,     &["--source-ip", "127.0.0.1,127.0.0.2", "-c", "4"], "closed"),
    ];
    for (server, args, model) in cases {
        let args = [&["-n", "100", "-d", "10s", "--json", "-q"], *args].concat();
        let output = bench(&server.addr, &args);
        let run = json(&output);
        assert_eq!(code(&output), 0, "{args:?}: {run}");
        assert_described(&run);
        assert_eq!(run["model"], *model, "{args:?}");
        assert!(number(&run, "/received") >= 100.0, "{args:?}: {run}");
        let wrong =
            ["frame", "wrong", "connect", "unasked"].map(|kind| run["errors"][kind].clone());
        assert_eq!(wrong, [0, 0, 0, 0].map(Value::from), "{args:?}: {run}");
    }
}

#[test]
fn help_fits_on_two_screens() {
    let output = oneloop(&["bench", "-h"]).output().expect("the binary was built");
    let text = String::from_utf8_lossy(&output.stdout);
    let (lines, longest) = (text.lines().count(), text.lines().map(str::len).max());
    assert!(lines <= 80 && longest <= Some(100), "{lines} lines, {longest:?} wide");
}
