//! Ready-made services, each small enough to copy as a beginning.

#[cfg(feature = "average")]
mod average;
mod oneline;
mod railroad;

#[cfg(feature = "average")]
pub use average::Average;
pub use oneline::{OneLine, Packet};
pub use railroad::Railroad;

use crate::proto::service::{Audience, Context, Served, Service};

/// Sends every message back. `--service echo`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Service for Echo {
    type Session = ();

    #[inline(always)]
    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        cx.reply(message)
    }
}

/// Answers every message with the same text. `--service receipt`.
#[derive(Clone, Debug)]
pub struct Receipt {
    text: Vec<u8>,
}

impl Receipt {
    /// A receipt that reads `text`.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into() }
    }
}

/// `Msg received`, as clients of the published socket tutorials expect.
impl Default for Receipt {
    fn default() -> Self {
        Self::new("Msg received")
    }
}

impl Service for Receipt {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), _message: &[u8]) -> Served {
        cx.reply(&self.text)
    }
}

/// Hands every message on to everyone else. `--service broadcast`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broadcast;

impl Service for Broadcast {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        cx.broadcast(Audience::Others, message)
    }
}

/// Takes messages and says nothing. `--service sink`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sink;

impl Service for Sink {
    type Session = ();

    fn message(&mut self, _cx: &mut Context<'_>, (): &mut (), _message: &[u8]) -> Served {
        Ok(())
    }
}
