//! A slow reader that hurts nobody.
//!
//! Each line is a number, and is answered with so many KiB. Whoever asks for much and
//! reads nothing is not read from either, once 64 KiB wait for it; when it has taken
//! too little for two seconds, it is closed. The others do not notice.
//!
//! ```console
//! $ cargo run --example slow_reader &
//! listening on 127.0.0.1:7007
//! $ (yes 1000 | head -n 100000; sleep 5) | nc 127.0.0.1 7007 | sleep 5 &
//! $ time (echo 1 | nc -N 127.0.0.1 7007 | wc -c)
//! 127.0.0.1:60126 closed: peer_eof, after 1 KiB
//! 1024
//! real    0m0.004s
//! 127.0.0.1:42974 closed: write_stall, after 1000 KiB
//! ```

use std::io;
use std::time::Duration;

use oneloop::{CloseReason, Context, Limits, Lines, Pair, Raw, Served, Server, Service};

struct Generous;

impl Service for Generous {
    /// Bytes it was answered with.
    type Session = usize;

    fn message(&mut self, cx: &mut Context<'_>, answered: &mut usize, line: &[u8]) -> Served {
        let asked = std::str::from_utf8(line).ok().and_then(|line| line.parse::<usize>().ok());
        let answer = vec![b'.'; asked.unwrap_or(0).min(MAX_KIB) << 10];
        *answered += answer.len();
        cx.reply(&answer)
    }

    fn closed(&mut self, cx: &mut Context<'_>, answered: &mut usize, reason: CloseReason) {
        println!("{} closed: {reason}, after {} KiB", cx.peer(), *answered >> 10);
    }
}

const MAX_KIB: usize = 1000;

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let framing = Pair { decode: Lines::default(), encode: Raw::default().max(MAX_KIB << 10) };
    let limits = Limits::default()
        // The defaults, to be seen: above this no more is read, and no more answered.
        .output_high(64 << 10)
        .output_low(32 << 10)
        // Shorter than the default of 30 s, so that you need not wait.
        .write_timeout(Some(Duration::from_secs(2)));
    let mut server = Server::new()?;
    let endpoint = server.add(framing, Generous, limits)?;
    println!("listening on {}", server.listen(endpoint, addr)?);
    server.run()
}
