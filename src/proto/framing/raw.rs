//! No framing: each read is a message. What TCP itself gives, shown as it is.

use super::{ConfigError, spec};
use super::{Decoded, Encode, EncodeError, FrameError, Framing, check_len};

/// Hands on bytes as they come and writes bytes as they are.
///
/// Messages depend on how the network cut the stream, so of split invariance only
/// the joined bytes remain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    max: usize,
}

impl Raw {
    /// The longest message, in bytes: more is cut into several. Default: 1 MiB.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self { max: spec::DEFAULT_MAX }
    }
}

impl Framing for Raw {
    type State = ();

    fn decode(&self, (): &mut (), input: &mut [u8], _end: bool) -> Result<Decoded, FrameError> {
        let len = input.len().min(self.max);
        Ok(match len {
            0 => Decoded::Incomplete { need: 1 },
            _ => Decoded::Message { message: 0..len, consumed: len },
        })
    }
}

impl Encode for Raw {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.max)?;
        out.extend_from_slice(message);
        Ok(())
    }

    fn max_frame(&self) -> usize {
        self.max
    }

    fn check(&self) -> Result<(), ConfigError> {
        // A message of nothing is none: the input would never be used up.
        if self.max == 0 {
            return Err(ConfigError::Size { size: 0, max: spec::MAX_MESSAGE });
        }
        spec::check_max(self.max, u64::MAX)
    }
}
