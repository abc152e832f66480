//! `serve --reuse-port`: several processes at one port, each with a share of the callers.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[expect(dead_code, reason = "the other tests of the program need the rest")]
#[path = "support/serving.rs"]
mod serving;

use std::io::{Read, Write};
use std::process::Command;
use std::time::Instant;

use serving::{PATIENCE, Serving, oneloop};

/// The one line with which it refuses to start, and its exit code.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = oneloop(&["serve", "-q"]).args(args).output().expect("the binary was built");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).trim_end().to_string())
}

fn accepted(line: &str) -> usize {
    let number = line.split("[TOTALS] ").nth(1).and_then(|text| text.split(' ').next());
    number.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number in {line}"))
}

/// Ends it, and says how many it has accepted.
fn stop(server: &mut Serving) -> usize {
    server.signal("TERM");
    let served = accepted(&server.hear("[TOTALS]"));
    assert_eq!(server.wait().code(), Some(0));
    served
}

#[test]
fn two_processes_at_one_port_each_serve_a_share_of_the_callers() {
    let mut first = Serving::start(&["-l", "127.0.0.1:0", "--reuse-port"]);
    let mut second = Serving::start(&["-l", &first.addr, "--reuse-port"]);
    assert_eq!(first.addr, second.addr);
    let mut clients: Vec<_> = (0..200).map(|_| first.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        writeln!(client, "{number:03}").expect("it reads");
        let mut reply = [0; 4];
        client.read_exact(&mut reply).expect("an echo");
        assert_eq!(reply[..], *format!("{number:03}\n").as_bytes());
    }
    drop(clients);
    let shares = (stop(&mut first), stop(&mut second));
    assert_eq!(shares.0 + shares.1, 200);
    // A fair coin thrown 200 times is below 50 once in 10^13 times.
    assert!(shares.0 >= 50 && shares.1 >= 50, "{shares:?}");
}

#[test]
fn a_port_is_shared_only_where_everyone_says_so() {
    for (has, wants) in [(&[][..], &[][..]), (&["--reuse-port"], &[]), (&[], &["--reuse-port"])] {
        let server = Serving::start(&[&["-l", "127.0.0.1:0"], has].concat());
        let (code, line) = refused(&[&["-l", &server.addr], wants].concat());
        assert_eq!(code, Some(1), "{line}");
        assert!(line.starts_with("error: cannot listen on ") && !line.contains('\n'), "{line}");
        assert!(line.contains("in use") && line.contains("ss -ltnp"), "{line}");
        assert_eq!(line.contains("has to have --reuse-port as well"), !wants.is_empty(), "{line}");
        assert_eq!(server.ask(b"hello\n"), b"hello\n", "the first one is not disturbed");
    }
}

#[test]
fn a_unix_socket_is_refused_with_the_reason() {
    let (code, line) = refused(&["-l", "127.0.0.1:0", "-l", "unix:/tmp/shared", "--reuse-port"]);
    assert_eq!(code, Some(2), "{line}");
    for words in ["--reuse-port", "unix:/tmp/shared", "one listener", "TCP"] {
        assert!(line.contains(words) && !line.contains('\n'), "no {words:?} in: {line}");
    }
}

/// The listener itself is handed over, so its queue is kept; a new one beside it would be
/// another share.
#[test]
fn one_of_them_restarts_and_nobody_who_calls_meanwhile_notices() {
    let mut first = Serving::start(&["-l", "127.0.0.1:0", "--reuse-port"]);
    let mut second = Serving::start(&["-l", &first.addr, "--reuse-port"]);
    first.signal("USR2");
    let (begun, mut calls) = (Instant::now(), 0);
    let mut said = String::new();
    while !said.contains("the new server listens") {
        assert_eq!(first.ask(b"hello\n"), b"hello\n", "caller {calls}");
        calls += 1;
        assert!(begun.elapsed() < PATIENCE, "it never came: {:#?}", first.said);
        if let Ok(line) = first.log.try_recv() {
            said = line;
            first.said.push(said.clone());
        }
    }
    let successor = first.said.iter().find_map(|line| {
        let words = line.split("[RESTART] process ").nth(1)?;
        words.split(' ').next().map(str::to_string)
    });
    for _ in 0..200 {
        assert_eq!(first.ask(b"hello\n"), b"hello\n");
    }
    let old = accepted(&first.hear("[TOTALS]"));
    assert_eq!(first.wait().code(), Some(0));
    let pid = successor.expect("it was named");
    let told =
        Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill is everywhere");
    assert!(told.success());
    let new = accepted(&first.hear("[TOTALS]"));
    let other = stop(&mut second);
    assert_eq!(old + new + other, calls + 200);
    assert!(new >= 50 && other >= 50, "{old}, {new} and {other}");
}
