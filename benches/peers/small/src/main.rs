//! The smallest useful server on the library: an echo of lines. Its size is the figure.

use oneloop::{Context, Lines, Server};

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".into());
    Server::bind(address.as_str(), Lines::default())?
        .run(|cx: &mut Context<'_>, message: &[u8]| cx.reply(message))
}
