//! A framing of your own: NMEA 0183, the sentences of GPS receivers.
//!
//! ```text
//!  $ GPGLL,4916.45,N *3B CR LF       at most 82 bytes
//!    └── message ──┘  └ XOR of its bytes, in hex
//! ```
//!
//! ```console
//! $ cargo run --example custom_framing &
//! listening on 127.0.0.1:7007
//! $ printf 'noise\r\n$GPGLL,4916.45,N*3B\r\n' | nc -N 127.0.0.1 7007
//! $PHEARD,15*22
//! ```

use std::io;

use oneloop::proto::framing::check;
use oneloop::{Context, Decoded, Encode, EncodeError, FrameError, Framing, Server};

struct Nmea;

const MAX_SENTENCE: usize = 82;
const MAX_MESSAGE: usize = MAX_SENTENCE - "$*3B\r\n".len();

impl Framing for Nmea {
    type State = (); // sentences are so short that searching one anew costs little

    fn decode(&self, (): &mut (), input: &mut [u8], _end: bool) -> Result<Decoded, FrameError> {
        let Some(lf) = input.iter().take(MAX_SENTENCE).position(|&byte| byte == b'\n') else {
            return match input.len() {
                ..MAX_SENTENCE => Ok(Decoded::Incomplete { need: input.len() + 1 }),
                _ => Err(FrameError::TooLong { announced: None, max: MAX_MESSAGE }),
            };
        };
        let consumed = lf + 1;
        let message = 1..consumed.saturating_sub("*3B\r\n".len());
        let intact = input.get(message.clone()).map(sentence);
        Ok(if intact.as_deref() == Some(&input[..consumed]) {
            Decoded::Message { message, consumed }
        } else {
            // Nobody can be asked for it again, and after the LF comes the next.
            Decoded::Skip {
                consumed,
                error: Some(FrameError::Invalid { what: "no NMEA sentence" }),
            }
        })
    }
}

impl Encode for Nmea {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let Some(at) = message.iter().position(|byte| b"$*\r\n".contains(byte)) {
            return Err(EncodeError::Delimiter { at });
        }
        if message.len() > MAX_MESSAGE {
            return Err(EncodeError::TooLong { len: message.len(), max: MAX_MESSAGE });
        }
        out.extend(sentence(message));
        Ok(())
    }

    fn max_frame(&self) -> usize {
        MAX_SENTENCE
    }
}

fn sentence(message: &[u8]) -> Vec<u8> {
    let sum = message.iter().fold(0, |sum, byte| sum ^ byte);
    [b"$", message, format!("*{sum:02X}\r\n").as_bytes()].concat()
}

fn main() -> io::Result<()> {
    // The contract, before anyone relies on it: the same messages for every way of cutting.
    let outcome = check::splits(&Nmea, b"$A*41\r\nnoise\r\n$A*40\r\n$*00\r\n$");
    assert_eq!(outcome.map_err(io::Error::other)?.messages(), [&b"A"[..], b""]);

    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7007".into());
    let server = Server::bind(addr, Nmea)?;
    println!("listening on {}", server.local_addr());
    // `P` begins the sentences whose meaning the standard leaves to us.
    server.run(|cx: &mut Context<'_>, message: &[u8]| {
        cx.reply(format!("PHEARD,{}", message.len()).as_bytes())
    })
}
