//! The service of one-line protocols: a packet is a line, a few are commands, and the
//! rest is the program's.

use std::str;

use crate::proto::service::{Context, Served, Service};

/// Answers the predefined packets and hands the others to a callback.
///
/// | packet | answer |
/// |---|---|
/// | `ping` | `pong` |
/// | `disconnect` | the connection closes |
/// | `shutdown` | the connection closes, and the server ends in order |
/// | one that is not UTF-8 | `invalid`, and the callback hears of it |
/// | any other | what the callback sends: nothing, one packet or several |
///
/// Use it with [`Lines`](crate::Lines). The protocol serves one client at a time: with
/// [`Limits::max_connections(1)`](crate::Limits::max_connections) the next one waits
/// until the first leaves. `--service oneline`.
///
/// ```
/// use oneloop::services::{OneLine, Packet};
/// use oneloop::{Context, Service};
///
/// fn is_service(_: impl Service) {}
/// is_service(OneLine::new(|cx: &mut Context<'_>, packet: Packet<'_>| match packet {
///     Packet::Text("who") => cx.reply(b"a server"),
///     Packet::Text(_) => cx.reply(b"what?"),
///     Packet::Invalid(_) => Ok(()),
/// }));
/// ```
#[derive(Clone, Debug)]
pub struct OneLine<C> {
    callback: C,
}

/// What the callback of a [`OneLine`] hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A packet that is none of the predefined ones.
    Text(&'a str),
    /// One that is not UTF-8; it has been answered `invalid`.
    Invalid(&'a [u8]),
}

impl<C> OneLine<C>
where
    C: FnMut(&mut Context<'_>, Packet<'_>) -> Served,
{
    /// Hands what is not predefined to `callback`.
    pub fn new(callback: C) -> Self {
        Self { callback }
    }
}

/// The stand-alone server: sends other packets back.
impl Default for OneLine<fn(&mut Context<'_>, Packet<'_>) -> Served> {
    fn default() -> Self {
        Self::new(|cx, packet| match packet {
            Packet::Text(text) => cx.reply(text.as_bytes()),
            Packet::Invalid(_) => Ok(()),
        })
    }
}

impl<C> Service for OneLine<C>
where
    C: FnMut(&mut Context<'_>, Packet<'_>) -> Served,
{
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        match message {
            b"ping" => return cx.reply(b"pong"),
            b"disconnect" => cx.close_after_flush(),
            b"shutdown" => {
                cx.close_after_flush();
                cx.shutdown();
            }
            _ => match str::from_utf8(message) {
                Ok(text) => return (self.callback)(cx, Packet::Text(text)),
                Err(_) => {
                    cx.reply(b"invalid")?;
                    return (self.callback)(cx, Packet::Invalid(message));
                }
            },
        }
        Ok(())
    }
}
