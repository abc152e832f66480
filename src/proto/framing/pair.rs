//! One framing in, another out.

use super::{
    ConfigError, Decoded, Encode, EncodeError, Encoder, Exchange, FrameError, Framing, Guess,
    Reply, Rest, Visitor,
};

/// Decodes as `decode` does and encodes as `encode` does.
///
/// ```
/// use oneloop::{Encode, Lines, Pair, Raw};
///
/// let pair = Pair::new(Lines::default(), Raw::default());
/// let mut out = Vec::new();
/// pair.encode(b"no line end", &mut out)?;
/// assert_eq!(out, b"no line end");
/// # Ok::<(), oneloop::EncodeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair<D, E> {
    /// The framing of what comes in.
    pub decode: D,
    /// The framing of what goes out.
    pub encode: E,
}

impl<D, E> Pair<D, E> {
    /// Messages come in as `decode` says and go out as `encode` says.
    pub fn new(decode: D, encode: E) -> Self {
        Self { decode, encode }
    }
}

impl<D: Framing, E: Encode> Framing for Pair<D, E> {
    type State = D::State;

    fn decode(
        &self,
        state: &mut D::State,
        input: &mut [u8],
        end: bool,
    ) -> Result<Decoded, FrameError> {
        self.decode.decode(state, input, end)
    }

    #[inline]
    fn visit(
        &self,
        state: &mut D::State,
        input: &mut [u8],
        end: bool,
        visitor: &mut impl Visitor,
    ) -> Result<Rest, FrameError> {
        self.decode.visit(state, input, end, visitor)
    }

    fn is_skipping(&self, state: &D::State) -> bool {
        self.decode.is_skipping(state)
    }

    fn excluded(&self) -> Option<u8> {
        self.decode.excluded()
    }

    fn guess(&self, input: &[u8]) -> Option<Guess> {
        self.decode.guess(input)
    }

    fn exchange(&self) -> Exchange {
        self.decode.exchange()
    }

    fn max_input(&self) -> usize {
        self.decode.max_input()
    }
}

impl<D: Encode, E: Encode> Encode for Pair<D, E> {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode.encode(message, out)
    }

    fn reply(
        &self,
        reply: &Reply<'_>,
        exchange: &mut Exchange,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.encode.reply(reply, exchange, out)
    }

    fn encoder(&self) -> Option<Encoder<'_>> {
        self.encode.encoder().or(Some(Encoder::Other(&self.encode)))
    }

    fn converses(&self) -> bool {
        self.decode.converses() || self.encode.converses()
    }

    fn settle(&self, exchange: Exchange, out: &mut Vec<u8>) -> bool {
        self.encode.settle(exchange, out)
    }

    fn set_time(&self, unix: u64) {
        self.encode.set_time(unix);
    }

    fn max_frame(&self) -> usize {
        self.encode.max_frame()
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.decode.check()?;
        self.encode.check()
    }
}
