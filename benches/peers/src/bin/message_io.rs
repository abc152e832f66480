//! message-io: `message_io PORT`. Its FramedTcp echoes messages that follow their length as a
//! varint.

use std::io;

use message_io::network::{NetEvent, Transport};
use message_io::node;

fn main() -> io::Result<()> {
    let port: u16 = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .ok_or_else(|| io::Error::other("usage: message_io PORT"))?;
    let (handler, listener) = node::split::<()>();
    handler.network().listen(Transport::FramedTcp, ("127.0.0.1", port))?;
    listener.for_each(move |event| {
        if let Some(NetEvent::Message(endpoint, data)) = event.network().into() {
            handler.network().send(endpoint, data);
        }
    });
    Ok(())
}
