//! `oneloop send`: messages to a server, and its replies.
//!
//! ```text
//!  arguments or ─▶ encode ─▶ socket ─▶ decode ─▶ stdout, a line each
//!  lines of stdin    a thread           main
//! ```
//!
//! Writing and reading go on side by side: a server that answers before it has read
//! everything would else wait for us to read, while we wait for it.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use clap::Args;
use oneloop::{AnyFraming, Encode, FrameError, Framing, Pair};

use crate::Failure;
use crate::address::{self, Address};
use crate::framing::FramingFlags;

/// Send messages to a server and print its replies
#[derive(Args)]
#[command(after_help = "\
Each MESSAGE is sent as it is; without any, each line of stdin is one. Replies go to
stdout, one a line. The last message is followed by the end (FIN), and replies are printed
until the server closes.

  oneloop send 127.0.0.1:7000 hello world
  oneloop send 127.0.0.1:7000 --preset header64 hello '!DISCONNECT'
  oneloop send unix:/run/oneloop.sock -f u32be < lines.txt

Exit codes: 0 if all was sent and the server closed in order, 1 if not, 2 for what cannot
be sent at all.")]
pub(crate) struct Send {
    /// Where the server listens: host:port, [v6]:port or unix:PATH
    #[arg(value_name = "ADDR", value_parser = address::parse)]
    addr: Address,

    /// What to send; without it, the lines of stdin
    #[arg(value_name = "MESSAGE")]
    messages: Vec<String>,

    #[command(flatten)]
    framing: FramingFlags,
}

/// A read takes at most this many bytes, and a write that can wait for more has about
/// as many.
const CHUNK: usize = 64 << 10;
/// How long the sending thread may take to notice that the connection is over.
const NOTICE: Duration = Duration::from_millis(500);

impl Send {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let framing = self.framing.pair()?;
        // It is the server's: messages go out as it takes them in.
        let host = self.addr.to_string();
        let framing = Pair::new(framing.encode.for_client(&host), framing.decode.for_client(&host));
        let arguments = encode_all(&framing.encode, &self.messages)?;
        let failed = |text| Failure::Runtime(format!("{}: {text}", self.addr));
        let stream = Arc::new(connect(&self.addr).map_err(failed)?);

        let (writer, outgoing) = (stream.clone(), framing.encode);
        let (done, sent) = mpsc::channel();
        thread::spawn(move || {
            let result = match arguments {
                Some(bytes) => write(&writer, &bytes),
                None => send_lines(&outgoing, &writer),
            };
            // What was sent before an error still gets its replies. The end cannot be
            // sent to who is gone already, and reading finds that out.
            let _ = writer.shutdown(Shutdown::Write);
            // Nobody listens any more if printing has failed.
            let _ = done.send(result);
        });

        let mut printer = Printer { out: BufWriter::new(io::stdout().lock()), count: 0 };
        let printed = printer.print_all(&framing.decode, &stream);
        // A write that still waits for the server fails now.
        let _ = stream.shutdown(Shutdown::Both);
        match printed {
            Ok(()) => {}
            // Who reads the first replies only has what they wanted.
            Err(Stop::Printing(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(Stop::Printing(error)) => return Err(failed(format!("cannot print: {error}"))),
            Err(Stop::Reply(error)) => {
                return Err(failed(format!("reply {}: {error}", printer.count + 1)));
            }
            Err(Stop::Receiving(error)) => {
                return Err(failed(format!("after {} replies: {error}", printer.count)));
            }
        }
        match sent.recv_timeout(NOTICE) {
            Ok(result) => result.map_err(failed),
            // It waits for a line that can be sent no more.
            Err(_) => Err(failed("the server closed before the end of the input".into())),
        }
    }
}

/// All messages as bytes; `None` if there are none to send.
fn encode_all(framing: &AnyFraming, messages: &[String]) -> Result<Option<Vec<u8>>, Failure> {
    let mut bytes = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        framing
            .encode(message.as_bytes(), &mut bytes)
            .map_err(|error| Failure::Usage(format!("message {}: {error}", index + 1)))?;
    }
    Ok((!messages.is_empty()).then_some(bytes))
}

fn connect(addr: &Address) -> Result<TcpStream, String> {
    let connected = match addr {
        Address::Tcp(name) => TcpStream::connect(name).and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        }),
        // To recv, send and shutdown one stream is as good as another.
        Address::Unix(path) => UnixStream::connect(path).map(|s| OwnedFd::from(s).into()),
    };
    connected.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => "; does the server run?",
            _ => "",
        };
        format!("cannot connect: {error}{advice}")
    })
}

/// Sends the lines of stdin, as they come.
fn send_lines(framing: &AnyFraming, stream: &TcpStream) -> Result<(), String> {
    if io::stdin().is_terminal() {
        eprintln!("(type lines, Ctrl-D to end)");
    }
    let mut input = BufReader::with_capacity(CHUNK, io::stdin());
    let (mut line, mut bytes) = (Vec::new(), Vec::new());
    for number in 1_u64.. {
        line.clear();
        let count = input.read_until(b'\n', &mut line);
        if count.map_err(|error| format!("cannot read stdin: {error}"))? == 0 {
            break;
        }
        let message = line.strip_suffix(b"\n").unwrap_or(&line);
        let encoded = framing.encode(message, &mut bytes);
        // The line that typing or a pipe is to wait for is the last one that has come.
        if encoded.is_err() || bytes.len() >= CHUNK || input.buffer().is_empty() {
            write(stream, &bytes)?;
            bytes.clear();
        }
        encoded.map_err(|error| format!("line {number}: {error}; it and the rest is not sent"))?;
    }
    write(stream, &bytes)
}

fn write(mut stream: &TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).map_err(|error| format!("cannot send all of it: {error}"))
}

/// Replies on their way to stdout.
struct Printer<W> {
    out: W,
    count: u64,
}

/// Why no more replies are printed.
enum Stop {
    Receiving(io::Error),
    Reply(FrameError),
    Printing(io::Error),
}

impl<W: Write> Printer<W> {
    /// Prints replies until the server closes.
    fn print_all(&mut self, framing: &AnyFraming, mut stream: &TcpStream) -> Result<(), Stop> {
        let (mut state, mut input, mut chunk) = (Default::default(), Vec::new(), vec![0; CHUNK]);
        loop {
            let count = match stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.map_err(Stop::Receiving)?,
            };
            input.extend_from_slice(&chunk[..count]);
            let mut printed = Ok(());
            let rest = framing.each(&mut state, &mut input, count == 0, |reply| {
                printed = self.print(reply);
                if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            self.out.flush().map_err(Stop::Printing)?;
            printed?;
            input.drain(..rest.map_err(Stop::Reply)?.used);
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn print(&mut self, reply: Result<&[u8], FrameError>) -> Result<(), Stop> {
        let reply = reply.map_err(Stop::Reply)?;
        self.count += 1;
        self.out.write_all(reply).and_then(|()| self.out.write_all(b"\n")).map_err(Stop::Printing)
    }
}
