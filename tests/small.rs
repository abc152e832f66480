//! `serve --small` in 32 MiB of address space, which the program, its libraries and its
//! stack count into: a thousand clients, and what hostile ones among them cannot do.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[expect(dead_code, reason = "the other tests of the program need the rest")]
#[path = "support/serving.rs"]
mod serving;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serving::{PATIENCE, Serving};

/// `serve --small` with 32 MiB, which the shell sets for it.
fn start(flags: &[&str]) -> Serving {
    let _ = rlimit::increase_nofile_limit(8000);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 32768 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_oneloop")]);
    Serving::spawn(command.args(["serve", "-l", "127.0.0.1:0", "--small"]).args(flags))
}

/// Bytes of memory that are its own and no part of a file.
fn own_memory(server: &Serving) -> usize {
    status(server, "RssAnon:")
}

/// A number of bytes that the kernel tells of it.
fn status(server: &Serving, name: &str) -> usize {
    let path = format!("/proc/{}/status", server.pid());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("on Linux");
    let kib = line.split_whitespace().next().and_then(|word| word.parse::<usize>().ok());
    kib.expect("a number") << 10
}

/// The bound in its line.
fn promised(server: &Serving) -> usize {
    let line = server.said.iter().find(|line| line.contains("[MEMORY]")).expect("it says so");
    let words: Vec<&str> = line.split("[MEMORY] ").nth(1).expect("a text").split(' ').collect();
    assert!(words[1] == "MiB" && line.contains("at most"), "{line}");
    words[0].parse::<usize>().expect("a number") << 20
}

fn ask_all(clients: &mut [TcpStream], round: usize) {
    for (number, client) in clients.iter_mut().enumerate() {
        writeln!(client, "round {round:03}, client {number:04}").expect("it reads");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut reply = [0; 23];
        client.read_exact(&mut reply).unwrap_or_else(|e| panic!("{round}, {number}: {e}"));
        assert_eq!(reply[..], *format!("round {round:03}, client {number:04}\n").as_bytes());
    }
}

/// Sends until the server takes no more.
fn fill(client: &mut TcpStream, bytes: &[u8]) {
    client.set_write_timeout(Some(Duration::from_millis(10))).expect("not zero");
    match client.write_all(bytes) {
        Ok(()) => {}
        Err(error) => {
            let closed = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(error.kind() == ErrorKind::WouldBlock || closed.contains(&error.kind()));
        }
    }
}

#[test]
fn a_thousand_clients_are_served_and_those_that_hold_memory_hurt_nobody_else() {
    let mut server = start(&[]);
    let (promised, before) = (promised(&server), own_memory(&server));
    let taken = status(&server, "VmSize:");
    assert!(taken + promised <= 32 << 20, "{promised} bytes do not fit beside {taken}");
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    for round in 0..5 {
        ask_all(&mut clients, round);
    }
    // Half a message, messages that nobody reads the replies to, and large ones.
    let unread = [&[b'y'; 1023][..], b"\n"].concat().repeat(300);
    let large = [&[b'z'; 65_000][..], b"\n"].concat();
    let mut hostile = clients.split_off(940);
    for (number, client) in hostile.iter_mut().enumerate() {
        match number % 3 {
            0 => fill(client, &[b'x'; 60_000]),
            1 => fill(client, &unread),
            _ => {
                client.write_all(&large).expect("it reads");
                let mut reply = vec![0; large.len()];
                client.read_exact(&mut reply).expect("an echo");
                assert!(reply == large);
            }
        }
        if number % 10 == 0 {
            ask_all(&mut clients, 100 + number);
        }
    }
    ask_all(&mut clients, 999);
    let grown = own_memory(&server) - before;
    assert!(grown <= promised, "{grown} bytes more, {promised} are promised");
    drop(hostile);
    ask_all(&mut clients, 1);
    drop(clients);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let totals = server.hear("[TOTALS]");
    assert!(totals.contains("1000 accepted, 0 open"), "{totals}");
}

/// More than everything: 990 of a thousand places are held by half messages, which want
/// seven times the budget.
#[test]
fn whoever_fills_the_budget_neither_ends_the_program_nor_shuts_out_newcomers() {
    let mut server = start(&[]);
    let (promised, before) = (promised(&server), own_memory(&server));
    let mut hostile: Vec<TcpStream> = (0..990).map(|_| server.connect()).collect();
    let mut most = 0;
    for client in &mut hostile {
        fill(client, &[b'x'; 60_000]);
        most = most.max(own_memory(&server) - before);
    }
    assert!(most <= promised, "{most} bytes more, {promised} are promised");
    assert!(most > 4 << 20, "only {most} bytes: they hold nothing");
    let begun = Instant::now();
    assert_eq!(server.ask(b"hello\n"), b"hello\n");
    assert!(begun.elapsed() < PATIENCE / 2, "a newcomer waited for {:?}", begun.elapsed());
    drop(hostile);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let totals = server.hear("[TOTALS]");
    assert!(totals.contains(" memory"), "{totals}");
}

#[test]
fn flags_beside_it_override_its_limits() {
    let memory = |flags: &[&str]| promised(&start(flags));
    let small = memory(&[]);
    assert!(memory(&["--memory", "9m"]) > small);
    assert!(memory(&["--max-connections", "3000"]) > small);
    assert!(memory(&["--max-message", "256k"]) > small);
    assert!(memory(&["-f", "u32be,max=256k"]) > small);
    // Without a word of it, a message has 64 KiB at most, or what its framing can carry.
    let ask = |flags: &[&str], bytes: &[u8]| start(flags).ask(bytes);
    assert_eq!(ask(&["-f", "u32be"], b"\0\x01\0\x01x"), b"");
    assert_eq!(ask(&["-f", "u32be"], b"\0\0\0\x01x"), b"\0\0\0\x01x");
    assert_eq!(ask(&["-f", "u8"], b"\x01x"), b"\x01x");
}
