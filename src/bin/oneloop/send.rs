//! `oneloop send`: messages to a server, and its replies.
//!
//! ```text
//!              a thread                   another
//!  Source ──▶ Sender ──▶ server ──▶ Receiver ──▶ Output
//!    arguments, a file,   │  ▲                     stdout: text, hex, JSON, raw;
//!    lines, a terminal    ▼  │                     above the line that is being typed
//!                        Ledger: what is not answered
//! ```
//!
//! Sending and receiving go on side by side (`stream`): a server that answers before it
//! has read everything would else wait for us to read, while we wait for it. With
//! `--wait` they take turns (`request`). Connections are the library's `Client`'s.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use oneloop::{AnyFraming, Client, ClientError, ClientOptions, Encode, Pair, Retry};

use crate::Failure;
use crate::address::{self, Address};
use crate::framing::FramingFlags;
use crate::notation::{self, Notation};
use crate::units::{self, MaybeSpan};
use output::{Form, Output};
use report::Report;
use source::Source;

mod output;
mod report;
mod request;
mod source;
mod stream;
mod terminal;

#[derive(Args)]
#[command(after_help = "\
Each MESSAGE is sent; without any, each line of stdin is one, and on a terminal they are
typed: Ctrl-D ends in order, Ctrl-C leaves. Replies go to stdout. The last message is
followed by the end (FIN), and replies are printed until the server closes.

  oneloop send 127.0.0.1:7000 hello world
  oneloop send 127.0.0.1:7000 --preset header64 hello '!DISCONNECT'
  oneloop send unix:/run/oneloop.sock -f u32be --wait --timeout 2s < lines.txt
  oneloop send 127.0.0.1:7000 --preset railroad -1 --hex 'bf 09 52 1b' --out hex

What was not answered is named on stderr. Nothing is sent a second time but by --resend.
Exit codes: 0 if all was sent and the server closed in order, with --wait or --answered
all answered as well; 1 if not; 2 for what cannot be sent at all; 130 after Ctrl-C.")]
pub(crate) struct Send {
    /// Where the server listens: host:port, [v6]:port or unix:PATH
    #[arg(value_name = "ADDR", value_parser = address::parse)]
    addr: Address,

    /// What to send; without it, the lines of stdin
    #[arg(value_name = "MESSAGE", allow_hyphen_values = false)]
    messages: Vec<String>,

    /// Send the whole of a file as one message; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["messages", "escape", "hex"])]
    file: Option<String>,

    /// Read \n \r \t \0 \\ and \x00 in messages as the bytes that they mean
    #[arg(short, long)]
    escape: bool,

    /// Messages are hex digits, with spaces or without
    #[arg(short = 'x', long, conflicts_with = "escape")]
    hex: bool,

    /// How replies are printed, a line each; raw has no line ends
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    out: Form,

    #[command(flatten)]
    framing: FramingFlags,

    #[command(flatten)]
    talk: TalkFlags,
}

/// When to send, to wait, to call again and to leave.
#[derive(Args)]
#[command(next_help_heading = "Conversation")]
struct TalkFlags {
    /// Send each message when the one before is answered
    #[arg(long)]
    wait: bool,

    /// Each message has one reply: one that is missing is a failure
    #[arg(long)]
    answered: bool,

    /// Leave after one reply
    #[arg(short = '1', long, conflicts_with = "max_messages")]
    one_reply: bool,

    /// Leave after so many replies
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_messages: Option<u64>,

    /// Send no end (FIN) after the last message
    #[arg(short, long)]
    no_close: bool,

    /// How long a call, a message or its reply may take, or off
    #[arg(long, value_name = "TIME", value_parser = units::maybe_span, default_value = "off")]
    timeout: MaybeSpan,

    /// Call again, up to so many times, and also when the connection is lost
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    retry: u32,

    /// Time between two calls
    #[arg(long, value_name = "TIME", value_parser = units::span, default_value = "1s")]
    retry_delay: Duration,

    /// Send again what was not answered; the server may have it twice
    #[arg(long, requires = "wait", requires = "retry")]
    resend: bool,
}

/// A client's side of a framing: replies are decoded, messages are encoded.
type Wire = Pair<AnyFraming, AnyFraming>;

/// What both kinds of conversation know.
struct Talk {
    flags: TalkFlags,
    addr: String,
    /// Replies after which to leave.
    most: u64,
}

impl Send {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let notation = match (self.escape, self.hex) {
            (true, _) => Notation::Escaped,
            (_, true) => Notation::Hex,
            _ => Notation::Plain,
        };
        let server = self.framing.pair()?;
        let addr = self.addr.to_string();
        // It is the server's: messages go out as it takes them in.
        let wire: Wire =
            Pair::new(server.encode.for_client(&addr), server.decode.for_client(&addr));
        let arguments = arguments(&wire.encode, notation, &self.messages)?;
        let most = match self.talk.one_reply {
            true => 1,
            false => self.talk.max_messages.unwrap_or(u64::MAX),
        };
        let talk = Talk { flags: self.talk, addr, most };
        let saved = terminal::Saved::now();
        let (source, output) = match (arguments, self.file) {
            (Some(all), _) => (Source::arguments(all), Output::new(self.out)),
            (None, Some(file)) => (file_source(&wire.encode, &file)?, Output::new(self.out)),
            (None, None) if terminal::is_there() => {
                terminal::open(notation, &wire.encode, self.out)?
            }
            (None, None) => (Source::stdin(notation, &wire.encode), Output::new(self.out)),
        };
        let mut client = Client::new(talk.addr.clone(), wire, talk.options());
        client.connect().map_err(|error| {
            let mut report = Report::of(&error);
            report.unsent(source.rest(), 0);
            report.failure()
        })?;
        source.greet();
        let done = match talk.flags.wait {
            true => request::converse(talk, client, source, output),
            false => stream::converse(talk, client, source, output),
        };
        // Whoever ends first, the terminal may be in the middle of a line.
        saved.restore();
        done
    }
}

impl Talk {
    fn options(&self) -> ClientOptions {
        let time = self.flags.timeout.0;
        let retry = Retry::every(self.flags.retry.saturating_add(1), self.flags.retry_delay);
        let options = ClientOptions::default()
            .read_timeout(time)
            .write_timeout(time)
            .retry(retry)
            .answered(self.keeps());
        time.into_iter().fold(options, ClientOptions::connect_timeout)
    }

    /// Whether the client keeps messages until they are answered. On the one connection
    /// of a conversation without retries a count says as much, and servers that answer
    /// nothing can be sent any amount.
    fn keeps(&self) -> bool {
        self.is_strict() || self.flags.retry > 0
    }

    /// Whether a missing reply is a failure.
    fn is_strict(&self) -> bool {
        self.flags.wait || self.flags.answered
    }
}

/// All messages, each as it can be sent; `None` if there are none.
fn arguments(
    framing: &AnyFraming,
    notation: Notation,
    texts: &[String],
) -> Result<Option<Arc<[Vec<u8>]>>, Failure> {
    let messages = texts.iter().enumerate().map(|(index, text)| {
        let wrong = |error: String| Failure::Usage(format!("message {}: {error}", index + 1));
        let message = notation.read(text.as_bytes()).map_err(wrong)?;
        sendable(framing, &message).map_err(wrong)?;
        Ok(message)
    });
    let messages = messages.collect::<Result<Arc<[_]>, _>>()?;
    Ok((!messages.is_empty()).then_some(messages))
}

fn file_source(framing: &AnyFraming, file: &str) -> Result<Source, Failure> {
    let named = match file {
        "-" => "stdin",
        file => file,
    };
    let message = notation::read_file(framing, file)
        .map_err(|error| Failure::Usage(format!("--file {named}: {error}")))?;
    sendable(framing, &message).map_err(|error| Failure::Usage(format!("{named}: {error}")))?;
    Ok(Source::arguments(vec![message].into()))
}

fn sendable(framing: &AnyFraming, message: &[u8]) -> Result<(), String> {
    framing.encode(message, &mut Vec::new()).map_err(|error| error.to_string())
}

/// Who reads the first replies only has what they wanted.
fn printed(result: io::Result<()>) -> Result<(), Option<Failure>> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => None,
        _ => Some(Failure::Runtime(format!("cannot print: {error}"))),
    })
}

/// What one error says of the message that it concerns.
fn encode_error(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Encode(error) => Some(error.to_string()),
        _ => None,
    }
}
