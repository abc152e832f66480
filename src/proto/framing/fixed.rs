//! Messages of one size.

use super::{ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, spec};

/// Every message has the same number of bytes, and nothing stands between them.
/// SPEC word `fixed:N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    size: usize,
}

impl Fixed {
    /// Messages of `size` bytes, at least 1.
    pub fn new(size: usize) -> Self {
        Self { size }
    }
}

impl Framing for Fixed {
    type State = ();

    #[inline]
    fn decode(&self, (): &mut (), input: &mut [u8], _end: bool) -> Result<Decoded, FrameError> {
        let size = self.size;
        Ok(match input.len() < size {
            true => Decoded::Incomplete { need: size },
            false => Decoded::Message { message: 0..size, consumed: size },
        })
    }
}

impl Encode for Fixed {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (len, size) = (message.len(), self.size);
        if len < size {
            return Err(EncodeError::TooShort { len, min: size });
        }
        super::check_len(message, size)?;
        out.extend_from_slice(message);
        Ok(())
    }

    fn max_frame(&self) -> usize {
        self.size
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.size == 0 {
            return Err(ConfigError::Size { size: 0, max: spec::MAX_MESSAGE });
        }
        spec::check_max(self.size, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_stream_is_cut_into_equal_pieces_and_a_shorter_rest_is_truncated() {
        let outcome = check::splits(&Fixed::new(3), b"abcdefgh").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(outcome.messages(), [b"abc", b"def"]);
        assert_eq!(outcome.error, Some(FrameError::Truncated { received: 2 }));
    }

    #[test]
    fn any_other_size_is_refused() {
        let mut out = Vec::new();
        let fixed = Fixed::new(3);
        assert_eq!(fixed.encode(b"ab", &mut out), Err(EncodeError::TooShort { len: 2, min: 3 }));
        assert_eq!(fixed.encode(b"abcd", &mut out), Err(EncodeError::TooLong { len: 4, max: 3 }));
        assert_eq!((fixed.encode(b"abc", &mut out), out), (Ok(()), b"abc".to_vec()));
        assert!(Fixed::new(0).check().is_err());
    }
}
