//! The framing an operator chose: every SPEC word, and one enum over them all.

use std::str::FromStr;

#[cfg(feature = "http")]
use super::Http;
use super::spec::{ConfigError, Spec, SpecProblem};
use super::{
    Decimal, Decoded, Delimited, Encode, EncodeError, Encoder, Endian, Exchange, Fixed, FrameError,
    Framing, Guess, Json, LengthField, LineEnd, Lines, Modbus, Raw, Reply, Resp, Rest, Scan,
    Stuffed, Varint, Visitor, Xml,
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
/// `strip=N` on binary lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnyFraming {
    /// `lines`, `lines:lf`, `lines:crlf`
    Lines(Lines),
    /// `delim:BYTES`, `nul`, `stx-etx`, `mllp`
    Delimited(Delimited),
    /// `fixed:N`
    Fixed(Fixed),
    /// `u8` to `u64be`, `u64le`
    LengthField(LengthField),
    /// `base128`, `varint`
    Varint(Varint),
    /// `ascii:N`, `ascii:N:space`, `netstring`, `syslog`
    Decimal(Decimal),
    /// `slip`, `cobs`
    Stuffed(Stuffed),
    /// `resp`
    Resp(Resp),
    /// `modbus`
    Modbus(Modbus),
    /// `json`
    Json(Json),
    /// `xml`
    Xml(Xml),
    /// `http`
    #[cfg(feature = "http")]
    Http(Http),
    /// `raw`
    Raw(Raw),
}

impl AnyFraming {
    /// What a SPEC can begin with. Capitals stand for what to fill in: `BYTES` with
    /// escapes like `\r\n` or `\x2c`, `N` a number of bytes.
    pub const WORDS: &[&str] = &[
        "lines",
        "lines:lf",
        "lines:crlf",
        "delim:BYTES",
        "nul",
        "stx-etx",
        "mllp",
        "fixed:N",
        "u8",
        "u16be",
        "u16le",
        "u24be",
        "u24le",
        "u32be",
        "u32le",
        "u64be",
        "u64le",
        "base128",
        "varint",
        "ascii:N",
        "ascii:N:space",
        "netstring",
        "syslog",
        "slip",
        "cobs",
        "resp",
        "modbus",
        "json",
        "xml",
        #[cfg(feature = "http")]
        "http",
        "raw",
    ];

    /// Reads a SPEC. `max_message` is the limit where the SPEC gives none, in
    /// bytes; without either the framing's own default holds.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Spec`] points at the wrong part; the others say which settings
    /// do not fit each other.
    pub fn from_spec(spec: &str, max_message: Option<usize>) -> Result<Self, ConfigError> {
        let spec = Spec::split(spec)?;
        let framing = match spec.word {
            "lines" => Self::lines(&spec, max_message)?,
            "fixed" => Self::fixed(&spec, max_message)?,
            word => {
                // The rest have a limit in common, and options of their own.
                let (framing, options) = match (word, Self::length_field(word)) {
                    (_, Some(field)) => (field, OF_LENGTHS),
                    ("json" | "xml", _) => (Self::row(&spec)?, OF_NESTED),
                    // The standard has set it.
                    ("modbus", _) => (Self::row(&spec)?, &[][..]),
                    _ => (Self::row(&spec)?, OF_ALL),
                };
                spec.only(options)?;
                let max = spec.size("max")?.or(max_message);
                framing.configured(&spec, max)?
            }
        };
        framing.check().map_err(|error| spec.blame(error))?;
        Ok(framing)
    }

    /// The same framing for the side that calls: of `http`, requests go out, to `host`,
    /// and responses come in. The others are the same from either side.
    pub fn for_client(self, host: &str) -> Self {
        match self {
            #[cfg(feature = "http")]
            Self::Http(http) => Self::Http(http.client(host)),
            other => {
                let _ = host;
                other
            }
        }
    }

    /// The rows over the engines that need nothing but a word, and perhaps a mode.
    fn row(spec: &Spec<'_>) -> Result<Self, ConfigError> {
        let plain = |framing| spec.no_mode().map(|()| framing);
        match spec.word {
            "delim" => {
                let bytes = spec.as_bytes(spec.needs_mode("its BYTES, as in delim:;")?)?;
                Ok(Self::Delimited(Delimited::by(bytes)))
            }
            "nul" => plain(Self::Delimited(Delimited::nul())),
            "stx-etx" => plain(Self::Delimited(Delimited::stx_etx())),
            "mllp" => plain(Self::Delimited(Delimited::mllp())),
            "base128" => plain(Self::Varint(Varint::base128())),
            "varint" => plain(Self::Varint(Varint::protobuf())),
            "netstring" => plain(Self::Decimal(Decimal::netstring())),
            "syslog" => plain(Self::Decimal(Decimal::syslog())),
            "slip" => plain(Self::Stuffed(Stuffed::slip())),
            "cobs" => plain(Self::Stuffed(Stuffed::cobs())),
            "resp" => plain(Self::Resp(Resp::default())),
            "modbus" => plain(Self::Modbus(Modbus)),
            "json" => plain(Self::Json(Json::default())),
            "xml" => plain(Self::Xml(Xml::default())),
            #[cfg(feature = "http")]
            "http" => plain(Self::Http(Http::default())),
            "raw" => plain(Self::Raw(Raw::default())),
            "ascii" => {
                let mode = spec.needs_mode("its width, as in ascii:8")?;
                Ok(Self::Decimal(match mode.split_once(':') {
                    None => Decimal::zeros(spec.as_size(mode)?),
                    Some((width, "space")) => Decimal::spaces(spec.as_size(width)?),
                    Some((_, filling)) => {
                        return Err(spec.wrong(filling, SpecProblem::UnknownMode(&["space"])));
                    }
                }))
            }
            word => Err(spec.wrong(word, SpecProblem::UnknownFraming(Self::WORDS))),
        }
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

    /// The size is the limit; one that is given as well must not be smaller.
    fn fixed(spec: &Spec<'_>, max_message: Option<usize>) -> Result<Self, ConfigError> {
        let mode = spec.needs_mode("its size, as in fixed:16")?;
        let size = spec.as_size(mode)?;
        spec.only(OF_ALL)?;
        match spec.size("max")?.or(max_message) {
            Some(max) if max < size => {
                let error = ConfigError::MaxTooLarge { max: size, holds: max };
                Err(spec.wrong(mode, SpecProblem::Impossible(Box::new(error))))
            }
            _ => Ok(Self::Fixed(Fixed::new(size))),
        }
    }

    /// The binary length that `word` names.
    fn length_field(word: &str) -> Option<Self> {
        use Endian::{Big, Little};
        Some(Self::LengthField(match word {
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
        }))
    }

    /// With its limit and the options of binary lengths.
    fn configured(self, spec: &Spec<'_>, max: Option<usize>) -> Result<Self, ConfigError> {
        let max = max.into_iter();
        Ok(match self {
            Self::Delimited(framing) => Self::Delimited(max.fold(framing, Delimited::max)),
            Self::Varint(framing) => Self::Varint(max.fold(framing, Varint::max)),
            Self::Decimal(framing) => Self::Decimal(max.fold(framing, Decimal::max)),
            Self::Raw(framing) => Self::Raw(max.fold(framing, Raw::max)),
            Self::Stuffed(framing) => Self::Stuffed(max.fold(framing, Stuffed::max)),
            Self::Resp(framing) => Self::Resp(max.fold(framing, Resp::max)),
            #[cfg(feature = "http")]
            Self::Http(framing) => Self::Http(max.fold(framing, Http::max)),
            Self::Json(framing) => {
                let framing = spec.size("depth")?.into_iter().fold(framing, Json::depth);
                Self::Json(max.fold(framing, Json::max))
            }
            Self::Xml(framing) => {
                let framing = spec.size("depth")?.into_iter().fold(framing, Xml::depth);
                Self::Xml(max.fold(framing, Xml::max))
            }
            Self::LengthField(mut field) => {
                spec.no_mode()?;
                field = spec.size("offset")?.into_iter().fold(field, LengthField::offset);
                field = spec.number("adjust")?.into_iter().fold(field, LengthField::adjust);
                field = spec.size("strip")?.into_iter().fold(field, LengthField::strip);
                Self::LengthField(max.fold(field, LengthField::max))
            }
            other @ (Self::Lines(_) | Self::Fixed(_) | Self::Modbus(_)) => other,
        })
    }
}

/// What one connection remembers of any framing: in 16 bytes, which is as much as the
/// slot of a connection has room for.
#[derive(Debug)]
pub enum AnyState {
    /// Of whatever searches; the others remember nothing.
    Scan(Scan),
    /// Of `json`.
    Json(<Json as Framing>::State),
    /// Of `xml`.
    Xml(<Xml as Framing>::State),
    /// Of `resp`.
    Resp(<Resp as Framing>::State),
    /// Of `http`.
    #[cfg(feature = "http")]
    Http(<Http as Framing>::State),
}

impl Default for AnyState {
    fn default() -> Self {
        Self::Scan(Scan::default())
    }
}

/// The state of one framing, made new where it is that of another: a connection keeps
/// its framing, so this happens once.
macro_rules! state_of {
    ($name:ident, $variant:ident, $state:ty) => {
        #[inline(always)]
        fn $name(&mut self) -> &mut $state {
            if !matches!(self, Self::$variant(_)) {
                *self = Self::$variant(Default::default());
            }
            match self {
                Self::$variant(state) => state,
                _ => unreachable!("it was made so"),
            }
        }
    };
}

impl AnyState {
    state_of!(scan, Scan, Scan);
    state_of!(json, Json, <Json as Framing>::State);
    state_of!(xml, Xml, <Xml as Framing>::State);
    state_of!(resp, Resp, <Resp as Framing>::State);
    #[cfg(feature = "http")]
    state_of!(http, Http, <Http as Framing>::State);
}

/// The options of every framing.
const OF_ALL: &[&str] = &["max"];
/// The options of what nests.
const OF_NESTED: &[&str] = &["depth", "max"];
/// The options of binary lengths.
const OF_LENGTHS: &[&str] = &["adjust", "max", "offset", "strip"];

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
            AnyFraming::Delimited($framing) => $body,
            AnyFraming::Fixed($framing) => $body,
            AnyFraming::LengthField($framing) => $body,
            AnyFraming::Varint($framing) => $body,
            AnyFraming::Decimal($framing) => $body,
            AnyFraming::Stuffed($framing) => $body,
            AnyFraming::Resp($framing) => $body,
            AnyFraming::Modbus($framing) => $body,
            AnyFraming::Json($framing) => $body,
            AnyFraming::Xml($framing) => $body,
            #[cfg(feature = "http")]
            AnyFraming::Http($framing) => $body,
            AnyFraming::Raw($framing) => $body,
        }
    };
}

impl Framing for AnyFraming {
    type State = AnyState;

    fn decode(
        &self,
        state: &mut AnyState,
        input: &mut [u8],
        end: bool,
    ) -> Result<Decoded, FrameError> {
        match self {
            Self::Lines(lines) => lines.decode(state.scan(), input, end),
            Self::Delimited(delimited) => delimited.decode(state.scan(), input, end),
            Self::Decimal(decimal) => decimal.decode(state.scan(), input, end),
            Self::Stuffed(stuffed) => stuffed.decode(state.scan(), input, end),
            Self::Resp(resp) => resp.decode(state.resp(), input, end),
            Self::Json(json) => json.decode(state.json(), input, end),
            Self::Xml(xml) => xml.decode(state.xml(), input, end),
            Self::Modbus(modbus) => modbus.decode(&mut (), input, end),
            Self::Fixed(fixed) => fixed.decode(&mut (), input, end),
            Self::LengthField(field) => field.decode(&mut (), input, end),
            Self::Varint(varint) => varint.decode(&mut (), input, end),
            #[cfg(feature = "http")]
            Self::Http(http) => http.decode(state.http(), input, end),
            Self::Raw(raw) => raw.decode(&mut (), input, end),
        }
    }

    /// Chooses once for all messages of a read.
    #[inline]
    fn visit(
        &self,
        state: &mut AnyState,
        input: &mut [u8],
        end: bool,
        visitor: &mut impl Visitor,
    ) -> Result<Rest, FrameError> {
        match self {
            Self::Lines(lines) => lines.visit(state.scan(), input, end, visitor),
            Self::Delimited(delimited) => delimited.visit(state.scan(), input, end, visitor),
            Self::Decimal(decimal) => decimal.visit(state.scan(), input, end, visitor),
            Self::Stuffed(stuffed) => stuffed.visit(state.scan(), input, end, visitor),
            Self::Resp(resp) => resp.visit(state.resp(), input, end, visitor),
            Self::Json(json) => json.visit(state.json(), input, end, visitor),
            Self::Xml(xml) => xml.visit(state.xml(), input, end, visitor),
            Self::Modbus(modbus) => modbus.visit(&mut (), input, end, visitor),
            Self::Fixed(fixed) => fixed.visit(&mut (), input, end, visitor),
            Self::LengthField(field) => field.visit(&mut (), input, end, visitor),
            Self::Varint(varint) => varint.visit(&mut (), input, end, visitor),
            #[cfg(feature = "http")]
            Self::Http(http) => http.visit(state.http(), input, end, visitor),
            Self::Raw(raw) => raw.visit(&mut (), input, end, visitor),
        }
    }

    fn is_skipping(&self, state: &AnyState) -> bool {
        matches!(state, AnyState::Scan(scan) if scan.is_skipping())
    }

    fn excluded(&self) -> Option<u8> {
        with!(self, framing => framing.excluded())
    }

    fn guess(&self, input: &[u8]) -> Option<Guess> {
        with!(self, framing => framing.guess(input))
    }

    fn exchange(&self) -> Exchange {
        with!(self, framing => framing.exchange())
    }

    fn max_input(&self) -> usize {
        with!(self, framing => framing.max_input())
    }
}

impl Encode for AnyFraming {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        with!(self, framing => framing.encode(message, out))
    }

    fn reply(
        &self,
        reply: &Reply<'_>,
        exchange: &mut Exchange,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        with!(self, framing => framing.reply(reply, exchange, out))
    }

    fn encoder(&self) -> Option<Encoder<'_>> {
        with!(self, framing => framing.encoder().or(Some(Encoder::Other(framing))))
    }

    fn converses(&self) -> bool {
        with!(self, framing => framing.converses())
    }

    fn settle(&self, exchange: Exchange, out: &mut Vec<u8>) -> bool {
        with!(self, framing => framing.settle(exchange, out))
    }

    fn set_time(&self, unix: u64) {
        with!(self, framing => framing.set_time(unix));
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
    use super::super::MAX_STATE;
    use super::*;

    #[test]
    fn every_word_parses_and_encodes_what_it_decodes() {
        for word in AnyFraming::WORDS {
            let word =
                word.replace("BYTES", r"ab\x2c").replace("fixed:N", "fixed:5").replace('N', "8");
            let framing: AnyFraming = word.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
            // What begins with its own header, or is a value of the language.
            let message: &[u8] = match &*word {
                "modbus" => b"\0\0\0\0\0\x05hello",
                "resp" => b"$5\r\nhello\r\n",
                "json" => b"[\"hello\"]",
                "xml" => b"<hello/>",
                _ => b"hello",
            };
            let mut wire = Vec::new();
            let client = framing.clone().for_client("example.com");
            client.encode(message, &mut wire).unwrap_or_else(|e| panic!("{word}: {e}"));
            let mut state = Default::default();
            let decoded = framing.decode(&mut state, &mut wire, false);
            let Ok(Decoded::Message { message: found, consumed }) = decoded else {
                panic!("{word}: {decoded:?}")
            };
            let end = usize::from(["json", "xml"].contains(&&*word));
            if word == "http" {
                let body = crate::Request::read(&wire[found]).map(|request| request.body);
                assert_eq!((body, consumed), (Some(message), wire.len()));
                continue;
            }
            assert_eq!((&wire[found], consumed + end), (message, wire.len()), "{word}");
        }
    }

    #[test]
    fn of_half_a_message_no_framing_keeps_more_than_it_may() {
        for word in AnyFraming::WORDS {
            let word = word.replace("BYTES", ";").replace('N', "8");
            let framing: AnyFraming = word.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
            let mut wires: Vec<Vec<u8>> = [
                "[[1,",
                "<a b='",
                "*3\r\n$1\r\na\r\n",
                "x",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
            ]
            .map(|text| text.as_bytes().to_vec())
            .into();
            for wire in &mut wires {
                let mut state = AnyState::default();
                let kept = allocation_counter::measure(|| {
                    let _ = framing.decode(&mut state, wire, false);
                });
                // 16: what glibc adds.
                assert!(kept.bytes_max + 16 <= MAX_STATE as u64, "{word}: {kept:?}");
            }
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
            ("nul",              Some(9),     9),
            (r"delim:\r\n,max=3", None,       3),
            ("stx-etx",          None,        1 << 20),
            ("base128",          None,        16_383),
            ("varint,max=2m",    None,        2 << 20),
            ("ascii:2",          None,        99),
            ("ascii:8",          None,        1 << 20),
            ("ascii:64:space,max=7", None,    7),
            ("netstring",        Some(5),     5),
            ("syslog",           None,        1 << 20),
            ("fixed:16",         Some(100),   16),
            ("slip,max=9",       None,        9),
            ("cobs",             Some(300),   300),
            ("resp,max=30",      None,        30),
            ("modbus",           Some(9),     260),
            ("json,depth=5,max=7", None,      7),
            ("xml",              None,        1 << 20),
            #[cfg(feature = "http")]
            ("http,max=2k",      None,        2048),
        ];
        for (spec, beside, payload) in cases {
            let framing =
                AnyFraming::from_spec(spec, beside).unwrap_or_else(|e| panic!("{spec}: {e}"));
            let framing = framing.for_client("example.com");
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
        let words = AnyFraming::WORDS.join(", ");
        #[rustfmt::skip]
        let cases = [
            ("",                    format!("framing '': '' is no framing; allowed: {words}")),
            ("lnes",                format!("framing 'lnes': 'lnes' is no framing; allowed: {words}")),
            ("u32,max=5",           format!("framing 'u32,max=5': 'u32' at column 1 is no framing; allowed: {words}")),
            ("lines:cr",            "framing 'lines:cr': 'cr' at column 7 is no mode of it; allowed: lf, crlf".into()),
            ("delim",               "framing 'delim': 'delim' is missing its BYTES, as in delim:;".into()),
            ("delim:",              "framing 'delim:': '' at column 7 cannot be: a delimiter of 0 bytes is not possible; choose 1 to 16".into()),
            (r"delim:\q",           r"framing 'delim:\\q': '\\q' at column 7 is not bytes with escapes, like ; or \r\n or \x2c".into()),
            (r"delim:\x4",          r"framing 'delim:\\x4': '\\x4' at column 7 is not bytes with escapes, like ; or \r\n or \x2c".into()),
            ("fixed",               "framing 'fixed': 'fixed' is missing its size, as in fixed:16".into()),
            ("fixed:0",             "framing 'fixed:0': '0' at column 7 cannot be: a size of 0 bytes is not possible; choose 1 to 1073741824".into()),
            ("fixed:9,max=8",       "framing 'fixed:9,max=8': '9' at column 7 cannot be: a message limit of 9 bytes is more than the 8 possible here".into()),
            ("ascii",               "framing 'ascii': 'ascii' is missing its width, as in ascii:8".into()),
            ("ascii:x",             "framing 'ascii:x': 'x' at column 7 is not a size in bytes, like 65536, 64k or 1m, up to 1g".into()),
            ("ascii:8:zero",        "framing 'ascii:8:zero': 'zero' at column 9 is no mode of it; allowed: space".into()),
            ("ascii:300",           "framing 'ascii:300': '300' at column 7 cannot be: a size of 300 bytes is not possible; choose 1 to 255".into()),
            ("ascii:2,max=100",     "framing 'ascii:2,max=100': '100' at column 13 cannot be: a message limit of 100 bytes is more than the 99 possible here".into()),
            ("base128,max=16k",     "framing 'base128,max=16k': '16k' at column 13 cannot be: a message limit of 16384 bytes is more than the 16383 possible here".into()),
            ("nul:x",               "framing 'nul:x': 'x' at column 5 is no mode of it; it has none".into()),
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
