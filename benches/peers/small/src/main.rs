//! The smallest useful server on the library: an echo of lines. Its size is the figure.

use std::io;
use std::net::Ipv4Addr;

use oneloop::{Context, Lines, Server};

fn main() -> io::Result<()> {
    let port = match std::env::args().nth(1) {
        Some(port) => port.parse().map_err(io::Error::other)?,
        None => 7000,
    };
    // No name: what looks names up is not needed for an echo.
    Server::bind((Ipv4Addr::LOCALHOST, port), Lines::default())?
        .run(|cx: &mut Context<'_>, message: &[u8]| cx.reply(message))
}
