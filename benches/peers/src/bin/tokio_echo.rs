//! tokio, on one thread: `tokio_echo PORT KIND`.
//!
//! | kind | a task per connection that |
//! |---|---|
//! | `lines` | sends each line of a LinesCodec, as its documentation shows: one flush each |
//! | `lines-forward` | forwards the stream of lines to the sink: one flush a read |
//! | `length` | forwards the frames of a LengthDelimitedCodec |
//! | `hand` | writes back what it has read, without looking at it |

use std::io;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec, LinesCodec};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let (Some(Ok(port)), Some(kind)) = (args.get(1).map(|port| port.parse()), args.get(2)) else {
        return Err(io::Error::other("usage: tokio_echo PORT lines|lines-forward|length|hand"));
    };
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(port, kind))
}

async fn serve(port: u16, kind: &str) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(4096)?;
    loop {
        let (stream, _) = listener.accept().await?;
        match kind {
            "lines" => drop(tokio::spawn(lines(stream))),
            "lines-forward" => drop(tokio::spawn(lines_forward(stream))),
            "length" => drop(tokio::spawn(length(stream))),
            "hand" => drop(tokio::spawn(hand(stream))),
            _ => return Err(io::Error::other(format!("no kind {kind}"))),
        }
    }
}

async fn lines(stream: TcpStream) {
    let mut framed = Framed::new(stream, LinesCodec::new_with_max_length(65536));
    while let Some(Ok(line)) = framed.next().await {
        if framed.send(line).await.is_err() {
            return;
        }
    }
}

async fn lines_forward(stream: TcpStream) {
    let (sink, lines) = Framed::new(stream, LinesCodec::new_with_max_length(65536)).split();
    let _ = lines.forward(sink).await;
}

async fn length(stream: TcpStream) {
    let (sink, frames) = Framed::new(stream, LengthDelimitedCodec::new()).split();
    let _ = frames.map(|frame| frame.map(BytesMut::freeze)).forward(sink).await;
}

async fn hand(mut stream: TcpStream) {
    let mut bytes = vec![0; 4096];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if stream.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
