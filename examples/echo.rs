//! Sends every line back.
//!
//! ```console
//! $ cargo run --example echo &
//! listening on 127.0.0.1:7007
//! $ printf 'hello\n' | nc -N 127.0.0.1 7007
//! hello
//! ```
//!
//! An address on the command line replaces 127.0.0.1:7007; port 0 takes a free one.

use std::io;

use oneloop::{Context, Lines, Server};

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let server = Server::bind(addr, Lines::default())?;
    println!("listening on {}", server.local_addr());
    server.run(|cx: &mut Context<'_>, message: &[u8]| cx.reply(message))
}
