//! The framing an operator chose: every SPEC word, and one enum over them all.

use std::ops::ControlFlow;
use std::str::FromStr;

use super::spec::{ConfigError, Spec, SpecProblem};
use super::{
    Decoded, Encode, EncodeError, Endian, FrameError, Framing, LengthField, LineEnd, Lines, Raw,
    Rest, lines,
};

/// Any built-in framing, chosen at run time by a SPEC.
///
/// ```
/// use oneloop::{AnyFraming, Encode};
///
/// let framing: AnyFraming = "u16be,max=4k".parse()?;
/// let mut out = Vec::new();
/// framing.encode(b"hello", &mut out)?;
/// assert_eq!(out, b"\x00\x05hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The words are in [`WORDS`](Self::WORDS). Options follow, each with a comma
/// before it: `max=SIZE` on all; `eof=message` on lines; `offset=N`, `adjust=N`,
/// `strip=N` on lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnyFraming {
    /// `lines`, `lines:lf`, `lines:crlf`
    Lines(Lines),
    /// `u8` to `u64be`, `u64le`
    LengthField(LengthField),
    /// `raw`
    Raw(Raw),
}

impl AnyFraming {
    /// The words a SPEC can begin with.
    pub const WORDS: &[&str] = &[
        "lines", "u8", "u16be", "u16le", "u24be", "u24le", "u32be", "u32le", "u64be", "u64le",
        "raw",
    ];

    /// Reads a SPEC. `max_message` is the limit where the SPEC gives none, in
    /// bytes; without either the framing's own default holds.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Spec`] points at the wrong word; the others say which
    /// settings do not fit each other.
    pub fn from_spec(spec: &str, max_message: Option<usize>) -> Result<Self, ConfigError> {
        let spec = Spec::split(spec)?;
        let framing = match spec.word {
            "lines" => Self::lines(&spec, max_message)?,
            "raw" => {
                spec.no_mode()?;
                spec.only(&["max"])?;
                let max = spec.size("max")?.or(max_message);
                Self::Raw(max.into_iter().fold(Raw::default(), Raw::max))
            }
            word => match length_field(word) {
                Some(field) => Self::length_field(field, &spec, max_message)?,
                None => {
                    return Err(spec.wrong(word, SpecProblem::UnknownFraming(Self::WORDS)));
                }
            },
        };
        framing.check().map_err(|error| spec.blame(error))?;
        Ok(framing)
    }

    fn lines(spec: &Spec<'_>, max_message: Option<usize>) -> Result<Self, ConfigError> {
        let ends = match spec.mode {
            None => LineEnd::Either,
            Some("lf") => LineEnd::Lf,
            Some("crlf") => LineEnd::CrLf,
            Some(mode) => return Err(spec.wrong(mode, SpecProblem::UnknownMode(&["lf", "crlf"]))),
        };
        spec.only(&["eof", "max"])?;
        let lines = Lines::default().ended_by(ends).eof_is_end(spec.flag("eof", &["message"])?);
        let max = spec.size("max")?.or(max_message);
        Ok(Self::Lines(max.into_iter().fold(lines, Lines::max)))
    }

    fn length_field(
        mut field: LengthField,
        spec: &Spec<'_>,
        max_message: Option<usize>,
    ) -> Result<Self, ConfigError> {
        spec.no_mode()?;
        spec.only(&["adjust", "max", "offset", "strip"])?;
        if let Some(offset) = spec.size("offset")? {
            field = field.offset(offset);
        }
        if let Some(adjust) = spec.number("adjust")? {
            field = field.adjust(adjust);
        }
        if let Some(strip) = spec.size("strip")? {
            field = field.strip(strip);
        }
        if let Some(max) = spec.size("max")?.or(max_message) {
            field = field.max(max);
        }
        Ok(Self::LengthField(field))
    }
}

/// The length field that `word` names.
fn length_field(word: &str) -> Option<LengthField> {
    use Endian::{Big, Little};
    Some(match word {
        "u8" => LengthField::u8(),
        "u16be" => LengthField::u16(Big),
        "u16le" => LengthField::u16(Little),
        "u24be" => LengthField::u24(Big),
        "u24le" => LengthField::u24(Little),
        "u32be" => LengthField::u32(Big),
        "u32le" => LengthField::u32(Little),
        "u64be" => LengthField::u64(Big),
        "u64le" => LengthField::u64(Little),
        _ => return None,
    })
}

impl FromStr for AnyFraming {
    type Err = ConfigError;

    fn from_str(spec: &str) -> Result<Self, ConfigError> {
        Self::from_spec(spec, None)
    }
}

/// Evaluates `$body` with `$framing` bound to the framing inside `$any`.
macro_rules! with {
    ($any:expr, $framing:ident => $body:expr) => {
        match $any {
            AnyFraming::Lines($framing) => $body,
            AnyFraming::LengthField($framing) => $body,
            AnyFraming::Raw($framing) => $body,
        }
    };
}

impl Framing for AnyFraming {
    /// So far lines alone remember anything.
    type State = lines::Scan;

    fn decode(
        &self,
        state: &mut lines::Scan,
        input: &mut [u8],
        end: bool,
    ) -> Result<Decoded, FrameError> {
        match self {
            Self::Lines(lines) => lines.decode(state, input, end),
            Self::LengthField(field) => field.decode(&mut (), input, end),
            Self::Raw(raw) => raw.decode(&mut (), input, end),
        }
    }

    /// Chooses once for all messages of a read.
    fn each(
        &self,
        state: &mut lines::Scan,
        input: &mut [u8],
        end: bool,
        f: impl FnMut(Result<&[u8], FrameError>) -> ControlFlow<()>,
    ) -> Result<Rest, FrameError> {
        match self {
            Self::Lines(lines) => lines.each(state, input, end, f),
            Self::LengthField(field) => field.each(&mut (), input, end, f),
            Self::Raw(raw) => raw.each(&mut (), input, end, f),
        }
    }

    fn is_skipping(&self, state: &lines::Scan) -> bool {
        match self {
            Self::Lines(lines) => lines.is_skipping(state),
            Self::LengthField(_) | Self::Raw(_) => false,
        }
    }

    fn max_input(&self) -> usize {
        with!(self, framing => framing.max_input())
    }
}

impl Encode for AnyFraming {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        with!(self, framing => framing.encode(message, out))
    }

    fn max_frame(&self) -> usize {
        with!(self, framing => framing.max_frame())
    }

    fn check(&self) -> Result<(), ConfigError> {
        with!(self, framing => framing.check())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_parses_and_encodes_what_it_decodes() {
        for word in AnyFraming::WORDS {
            let framing: AnyFraming = word.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
            let mut wire = Vec::new();
            framing.encode(b"hello", &mut wire).unwrap_or_else(|e| panic!("{word}: {e}"));
            let mut state = Default::default();
            let decoded = framing.decode(&mut state, &mut wire, false);
            let Ok(Decoded::Message { message, consumed }) = decoded else {
                panic!("{word}: {decoded:?}")
            };
            assert_eq!((&wire[message], consumed), (&b"hello"[..], wire.len()), "{word}");
        }
    }

    #[test]
    fn a_limit_in_the_spec_wins_and_a_limit_beside_it_fills_in() {
        #[rustfmt::skip]
        let cases = [
            ("lines",            None,        65_536),
            ("lines",            Some(100),   100),
            ("lines,max=2k",     Some(100),   2048),
            ("lines:crlf,eof=message,max=1", None, 1),
            ("u32be",            None,        1 << 20),
            ("u32be,max=5m",     None,        5 << 20),
            ("u32be",            Some(7),     7),
            ("u8",               None,        255),
            ("u8,adjust=-1",     None,        254),
            ("u16le",            None,        65_535),
            ("raw",              None,        1 << 20),
        ];
        for (spec, beside, payload) in cases {
            let framing =
                AnyFraming::from_spec(spec, beside).unwrap_or_else(|e| panic!("{spec}: {e}"));
            let mut out = Vec::new();
            assert_eq!(framing.encode(&vec![b'x'; payload], &mut out), Ok(()), "{spec}");
            assert_eq!(
                framing.encode(&vec![b'x'; payload + 1], &mut out),
                Err(EncodeError::TooLong { len: payload + 1, max: payload }),
                "{spec}"
            );
        }
    }

    #[test]
    fn a_wrong_spec_is_one_line_that_points_at_the_word_and_says_what_is_allowed() {
        let words = "lines, u8, u16be, u16le, u24be, u24le, u32be, u32le, u64be, u64le, raw";
        #[rustfmt::skip]
        let cases = [
            ("",                    format!("framing '': '' is no framing; allowed: {words}")),
            ("lnes",                format!("framing 'lnes': 'lnes' is no framing; allowed: {words}")),
            ("u32,max=5",           format!("framing 'u32,max=5': 'u32' at column 1 is no framing; allowed: {words}")),
            ("lines:cr",            "framing 'lines:cr': 'cr' at column 7 is no mode of it; allowed: lf, crlf".into()),
            ("u8:be",               "framing 'u8:be': 'be' at column 4 is no mode of it; it has none".into()),
            ("u32be,mxa=5",         "framing 'u32be,mxa=5': 'mxa' at column 7 is no option of it; allowed: adjust, max, offset, strip".into()),
            ("lines,",              "framing 'lines,': '' at column 7 is no option of it; allowed: eof, max".into()),
            ("lines,max",           "framing 'lines,max': '' at column 10 is not a size in bytes, like 65536, 64k or 1m, up to 1g".into()),
            ("lines,max=-1",        "framing 'lines,max=-1': '-1' at column 11 is not a size in bytes, like 65536, 64k or 1m, up to 1g".into()),
            ("lines,max=2g",        "framing 'lines,max=2g': '2g' at column 11 is not a size in bytes, like 65536, 64k or 1m, up to 1g".into()),
            ("lines,max=٣",         "framing 'lines,max=٣': '٣' at column 11 is not a size in bytes, like 65536, 64k or 1m, up to 1g".into()),
            ("lines,max=1,max=1",   "framing 'lines,max=1,max=1': 'max' at column 13 is given twice".into()),
            ("lines,eof=yes",       "framing 'lines,eof=yes': 'yes' at column 11 is no value of it; allowed: message".into()),
            ("u8,adjust=0x1",       "framing 'u8,adjust=0x1': '0x1' at column 11 is not a whole number, like -2 or 4".into()),
            ("u8\n,max=1",          format!("framing 'u8\\n,max=1': 'u8\\n' at column 1 is no framing; allowed: {words}")),
            ("u16be,max=64k",       "framing 'u16be,max=64k': '64k' at column 11 cannot be: a message limit of 65536 bytes is more than the 65535 possible here".into()),
            ("u32be,strip=5",       "framing 'u32be,strip=5': '5' at column 13 cannot be: strip=5 goes past the header, which has 4 bytes".into()),
            ("u32be,offset=300",    "framing 'u32be,offset=300': '300' at column 14 cannot be: offset=300 is more than the 255 bytes allowed before a length".into()),
            ("raw,max=0",           "framing 'raw,max=0': '0' at column 9 cannot be: a size of 0 bytes is not possible; choose 1 to 1073741824".into()),
            ("u8,adjust=-300",      "framing 'u8,adjust=-300': '-300' at column 11 cannot be: adjust=-300 makes every length in 1 byte(s) negative".into()),
            ("u8,adjust=9999999",   "framing 'u8,adjust=9999999': '9999999' at column 11 cannot be: adjust=9999999 is outside the allowed -1048576 to 1048576".into()),
        ];
        for (spec, expected) in cases {
            let error = spec.parse::<AnyFraming>().expect_err(spec);
            assert_eq!(error.to_string(), expected);
            assert!(!error.to_string().contains('\n'));
        }
    }
}
