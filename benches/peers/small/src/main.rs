//! The smallest useful server on the library: an echo of lines. Its size is the figure.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use oneloop::{Context, Lines, Server};

fn main() -> io::Result<()> {
    // A number and a port, no name: what looks names up is not needed for an echo.
    let address: SocketAddr = match std::env::args().nth(1) {
        Some(address) => address.parse().map_err(io::Error::other)?,
        None => (Ipv4Addr::LOCALHOST, 7000).into(),
    };
    Server::bind(address, Lines::default())?
        .run(|cx: &mut Context<'_>, message: &[u8]| cx.reply(message))
}
