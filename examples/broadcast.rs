//! What one client says, all others hear.
//!
//! ```console
//! $ cargo run --example broadcast &
//! listening on 127.0.0.1:7007
//! $ sleep 2 | nc -N 127.0.0.1 7007 &
//! $ printf 'hello\n' | nc -N 127.0.0.1 7007
//! 127.0.0.1:57640 came, 2 are here
//! 127.0.0.1:57640: hello
//! 127.0.0.1:57640 left: peer_eof
//! ```

use std::io;

use oneloop::{Audience, CloseReason, Context, EncodeError, Lines, Pair, Server, Service};

struct Room;

impl Service for Room {
    type Session = ();

    fn opened(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Result<(), EncodeError> {
        let text = format!("{} came, {} are here", cx.peer(), cx.connections());
        cx.broadcast(Audience::Others, text.as_bytes())
    }

    fn message(
        &mut self,
        cx: &mut Context<'_>,
        (): &mut (),
        message: &[u8],
    ) -> Result<(), EncodeError> {
        let name = format!("{}: ", cx.peer());
        cx.broadcast(Audience::Others, &[name.as_bytes(), message].concat())
    }

    fn closed(&mut self, cx: &mut Context<'_>, (): &mut (), reason: CloseReason) {
        let text = format!("{} left: {reason}", cx.peer());
        // With too many letters under way it is lost, and no one is left to be told.
        let _ = cx.broadcast(Audience::Others, text.as_bytes());
    }
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    // A line grows by a name on its way, so less may come in than goes out: an error of
    // `broadcast` would close the speaker.
    let framing = Pair { decode: Lines::default().max(1000), encode: Lines::default() };
    let server = Server::bind(addr, framing)?;
    println!("listening on {}", server.local_addr());
    server.run(Room)
}
