//! A service that misbehaves when it is told to, and what that does to its other clients.
//!
//! `sleep 300` stands still for 300 ms, and so does the one loop: everyone waits, and a warning
//! says for whom. `panic` panics, which ends that connection and no other. `reply 100` answers
//! with 100 MiB, which the framing refuses; `flood 100` with as much in short lines, which the
//! limit of waiting output ends. Any other line comes back, but `stop`, which ends the program.
//!
//! ```console
//! $ cargo run --example misbehaves &
//! listening on 127.0.0.1:7007
//! $ echo sleep 300 | nc -N 127.0.0.1 7007 & sleep 0.1; time (echo hello | nc -N 127.0.0.1 7007)
//! awake
//! WARN 127.0.0.1:37630: its turn took 300 ms, and all others waited
//! hello
//! real    0m0.207s
//! $ echo panic | nc -N 127.0.0.1 7007
//! thread 'main' (1772) panicked at examples/misbehaves.rs:45:20:
//! as I was told
//! ERROR 127.0.0.1:37650: the service panicked; this connection is closed, the others go on
//! $ echo flood 100 | nc -N 127.0.0.1 7007 | wc -c
//! WARN 127.0.0.1:37654: bad reply: 132096 bytes to send exceed the limit of 131073
//! 0
//! $ echo stop | nc -N 127.0.0.1 7007
//! 5 accepted, 0 open, 3 peer_eof, 1 output_cap, 1 handler_panic
//! ```
//!
//! With `--abort` behind the address a panic goes on through the loop and ends the program.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use oneloop::{CloseReason, Context, Limits, Lines, Served, Server};

fn obey(cx: &mut Context<'_>, line: &[u8]) -> Served {
    let words: Vec<&str> = std::str::from_utf8(line).unwrap_or_default().split(' ').collect();
    let number = words.get(1).and_then(|word| word.parse::<u32>().ok()).unwrap_or_default();
    let mebibytes = number.min(1000) as usize;
    match words[0] {
        "sleep" => {
            sleep(Duration::from_millis(number.into()));
            cx.reply("awake")
        }
        "panic" => panic!("as I was told"),
        "reply" => cx.reply(&vec![b'.'; mebibytes << 20]),
        "flood" => (0..mebibytes << 10).try_for_each(|_| cx.reply(&[b'.'; 1023])),
        "stop" => {
            cx.shutdown();
            Ok(())
        }
        _ => cx.reply(line),
    }
}

fn main() -> io::Result<()> {
    log::set_logger(&Stdout).expect("nobody else sets one");
    log::set_max_level(LevelFilter::Warn);
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let limits = Limits::default()
        .abort_on_panic(std::env::args().nth(2).is_some_and(|word| word == "--abort"))
        .slow_turn(Some(Duration::from_millis(100)));
    let mut server = Server::new()?;
    let endpoint = server.add(Lines::default(), obey, limits)?;
    println!("listening on {}", server.listen(endpoint, addr)?);
    while !server.turn(None)?.finished {}
    let counters = server.counters();
    print!("{} accepted, {} open", counters.accepted, counters.open);
    for reason in CloseReason::ALL.into_iter().filter(|&reason| counters.closed_by(reason) > 0) {
        print!(", {} {reason}", counters.closed_by(reason));
    }
    println!();
    Ok(())
}

/// The library says what it has to say through the crate `log`; where to is up to us.
struct Stdout;

impl Log for Stdout {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        println!("{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}
