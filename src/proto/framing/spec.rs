//! The SPEC grammar: one word that names a framing, for library, command line and
//! documents alike.
//!
//! ```text
//!  lines:crlf,max=64k,eof=message
//!  └word┘└mode┘└─── options ────┘
//! ```
//!
//! Here live the grammar and everything an operator can get wrong. Which words
//! exist and what they build is the business of [`super::any`].

use std::fmt;

/// The largest limit of a message that can be asked for, in bytes: 1 GiB.
///
/// A message lies in memory in one piece, and scan offsets take four bytes.
pub const MAX_MESSAGE: usize = 1 << 30;
/// The default limit of a message, in bytes.
pub(super) const DEFAULT_MAX: usize = 1 << 20;
/// The default limit of a line, in bytes.
pub(super) const DEFAULT_MAX_LINE: usize = 1 << 16;
/// The most bytes before a length field.
pub(super) const MAX_OFFSET: usize = 255;

/// Refuses a limit above what a length field `holds` or memory should.
pub(super) fn check_max(max: usize, holds: u64) -> Result<(), ConfigError> {
    let holds = usize::try_from(holds).unwrap_or(usize::MAX).min(MAX_MESSAGE);
    if max > holds {
        return Err(ConfigError::MaxTooLarge { max, holds });
    }
    Ok(())
}

/// Refuses a depth of no or too many levels.
pub(super) fn check_depth(depth: usize, max: usize) -> Result<(), ConfigError> {
    if !(1..=max).contains(&depth) {
        return Err(ConfigError::Depth { depth, max });
    }
    Ok(())
}

/// A setting that cannot be, with the numbers and with what could be.
///
/// The operator's errors: the binary prints one line and exits with 2.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A SPEC that does not parse.
    Spec {
        /// The whole SPEC.
        spec: Box<str>,
        /// The part of it that is wrong.
        word: Box<str>,
        /// Where that part begins, in characters from 1.
        column: usize,
        /// What is wrong with it.
        problem: SpecProblem,
    },
    /// A message limit above what the length field can say, or above
    /// [`MAX_MESSAGE`].
    MaxTooLarge {
        /// The limit asked for, in bytes.
        max: usize,
        /// The largest possible, in bytes.
        holds: usize,
    },
    /// More is stripped than the header has.
    Strip {
        /// Bytes to strip.
        strip: usize,
        /// Bytes of the header: offset and length field.
        header: usize,
    },
    /// A length field too far from the beginning of its frame.
    Offset {
        /// Bytes before the field.
        offset: usize,
        /// The most allowed.
        max: usize,
    },
    /// A length adjusted by more than makes sense.
    Adjust {
        /// The adjustment, in bytes.
        adjust: i64,
        /// The most allowed, either way.
        max: u64,
    },
    /// Adjusted, no value of the length field is a length.
    NoLength {
        /// Bytes of the field.
        width: usize,
        /// The adjustment, in bytes.
        adjust: i64,
    },
    /// Reading would resume at more queued output than it pauses at.
    OutputLow {
        /// Where reading resumes, in bytes.
        low: usize,
        /// Where it pauses, in bytes.
        high: usize,
    },
    /// The hard limit of queued output leaves no room for one reply.
    OutputMax {
        /// The limit asked for, in bytes.
        max: usize,
        /// The smallest possible: the high mark and one message, in bytes.
        min: usize,
    },
    /// A send buffer of no or too many bytes.
    SendBuffer {
        /// What was asked for, in bytes.
        bytes: usize,
        /// The most possible, in bytes.
        max: usize,
    },
    /// A receive buffer of no or too many bytes.
    ReceiveBuffer {
        /// What was asked for, in bytes.
        bytes: usize,
        /// The most possible, in bytes.
        max: usize,
    },
    /// A backlog of nobody.
    Backlog {
        /// How many callers were asked for.
        callers: i32,
    },
    /// A timeout of zero, which would close everything.
    NoTime,
    /// A rate of nothing, or of more than one a nanosecond.
    Rate {
        /// So many a second.
        per_second: u32,
        /// So many at once.
        burst: u32,
    },
    /// No connection for any address.
    PerIp,
    /// A message or a header of no or too many bytes.
    Size {
        /// What was asked for, in bytes.
        size: usize,
        /// The most possible, in bytes.
        max: usize,
    },
    /// A delimiter of no or too many bytes.
    Delimiter {
        /// Its length, in bytes.
        len: usize,
        /// The most possible, in bytes.
        max: usize,
    },
    /// Nesting of no or too many levels.
    Depth {
        /// How many were asked for.
        depth: usize,
        /// The most possible.
        max: usize,
    },
    /// A server of no or too many connections.
    Connections {
        /// How many were asked for.
        asked: usize,
        /// The most possible.
        max: usize,
    },
    /// More endpoints than a connection's name can tell apart.
    Endpoints {
        /// The most possible.
        max: usize,
    },
}

/// What is wrong with a part of a SPEC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecProblem {
    /// No such framing; the list is of those that exist.
    UnknownFraming(&'static [&'static str]),
    /// No such mode of this framing; the list is of those that exist.
    UnknownMode(&'static [&'static str]),
    /// No such option of this framing; the list is of those that exist.
    UnknownOption(&'static [&'static str]),
    /// No such value; the list is of those that exist.
    UnknownValue(&'static [&'static str]),
    /// An option given twice.
    Repeated,
    /// Not a whole number, or one out of all bounds.
    NotANumber,
    /// Not a size, like `65536`, `64k` or `1m`.
    NotASize,
    /// The framing is missing its mode: `what` says what it would be.
    NoMode(&'static str),
    /// Not bytes with escapes, like `;` or `\r\n` or `\x2c`.
    NotBytes,
    /// What it asks for cannot be, alone or together with the rest.
    Impossible(Box<ConfigError>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec { spec, word, column, problem } => {
                write!(f, "framing '{}': '{}' ", Escaped(spec), Escaped(word))?;
                if word.len() < spec.len() {
                    write!(f, "at column {column} ")?;
                }
                write!(f, "{problem}")
            }
            Self::MaxTooLarge { max, holds } => {
                write!(f, "a message limit of {max} bytes is more than the {holds} possible here")
            }
            Self::Strip { strip, header } => {
                write!(f, "strip={strip} goes past the header, which has {header} bytes")
            }
            Self::Offset { offset, max } => {
                write!(f, "offset={offset} is more than the {max} bytes allowed before a length")
            }
            Self::Adjust { adjust, max } => {
                write!(f, "adjust={adjust} is outside the allowed -{max} to {max}")
            }
            Self::NoLength { width, adjust } => {
                write!(f, "adjust={adjust} makes every length in {width} byte(s) negative")
            }
            Self::OutputLow { low, high } => write!(
                f,
                "output low mark of {low} bytes is above the high mark of {high}; it must not be"
            ),
            Self::OutputMax { max, min } => write!(
                f,
                "output limit of {max} bytes is too small; high mark and one message take {min}"
            ),
            Self::SendBuffer { bytes, max } => {
                write!(f, "a send buffer of {bytes} bytes is not possible; choose 1 to {max}")
            }
            Self::ReceiveBuffer { bytes, max } => {
                write!(f, "a receive buffer of {bytes} bytes is not possible; choose 1 to {max}")
            }
            Self::Backlog { callers } => {
                write!(f, "a backlog of {callers} is not possible; choose 1 or more")
            }
            Self::Rate { per_second, burst } => {
                write!(f, "{per_second} a second, {burst} at once: 1 to 1000000000, and 1 or more")
            }
            Self::PerIp => write!(f, "no connection for any address; leave it out for no limit"),
            Self::NoTime => write!(f, "a timeout of zero closes everything; leave it out for none"),
            Self::Size { size, max } => {
                write!(f, "a size of {size} bytes is not possible; choose 1 to {max}")
            }
            Self::Delimiter { len, max } => {
                write!(f, "a delimiter of {len} bytes is not possible; choose 1 to {max}")
            }
            Self::Depth { depth, max } => {
                write!(f, "a depth of {depth} is not possible; choose 1 to {max}")
            }
            Self::Connections { asked, max } => {
                write!(f, "{asked} connections are not possible; choose 1 to {max}")
            }
            Self::Endpoints { max } => write!(f, "more than {max} endpoints are not possible"),
        }
    }
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, list) = match self {
            Self::UnknownFraming(list) => ("is no framing", list),
            Self::UnknownMode(list) => ("is no mode of it", list),
            Self::UnknownOption(list) => ("is no option of it", list),
            Self::UnknownValue(list) => ("is no value of it", list),
            Self::Repeated => return write!(f, "is given twice"),
            Self::NotANumber => return write!(f, "is not a whole number, like -2 or 4"),
            Self::NoMode(what) => return write!(f, "is missing {what}"),
            Self::NotBytes => {
                return write!(f, "is not bytes with escapes, like ; or \\r\\n or \\x2c");
            }
            Self::Impossible(error) => return write!(f, "cannot be: {error}"),
            Self::NotASize => {
                return write!(f, "is not a size in bytes, like 65536, 64k or 1m, up to 1g");
            }
        };
        match list {
            [] => write!(f, "{what}; it has none"),
            list => write!(f, "{what}; allowed: {}", list.join(", ")),
        }
    }
}

/// What an operator wrote, on one line. `str::escape_debug` does nearly the same, and takes 2 KiB
/// of every program that can show an error.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| c.escape_debug().fmt(f))
    }
}

impl std::error::Error for ConfigError {}

/// Reads a size in bytes: digits, and `k`, `m` or `g` for 1024, 1024² or 1024³
/// behind them, in either case.
///
/// ```
/// use oneloop::parse_size;
///
/// assert_eq!(parse_size("64k"), Some(65_536));
/// assert_eq!(parse_size("+5"), None);
/// ```
pub fn parse_size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        b'g' | b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    // `parse` alone would take "+5".
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// A SPEC in its parts. Each part borrows from the SPEC, so an error can say
/// where it stands.
pub(super) struct Spec<'a> {
    text: &'a str,
    pub(super) word: &'a str,
    pub(super) mode: Option<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Spec<'a> {
    /// Takes a SPEC apart and refuses options given twice.
    pub(super) fn split(text: &'a str) -> Result<Self, ConfigError> {
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or(text);
        let (word, mode) = match head.split_once(':') {
            Some((word, mode)) => (word, Some(mode)),
            None => (head, None),
        };
        let mut spec = Self { text, word, mode, options: Vec::new() };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, &part[part.len()..]));
            if spec.options.iter().any(|&(known, _)| known == key) {
                return Err(spec.wrong(key, SpecProblem::Repeated));
            }
            spec.options.push((key, value));
        }
        Ok(spec)
    }

    /// The error that points at `part`, which must be a part of the SPEC.
    pub(super) fn wrong(&self, part: &str, problem: SpecProblem) -> ConfigError {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..offset).unwrap_or("");
        ConfigError::Spec {
            spec: self.text.into(),
            word: part.into(),
            column: before.chars().count() + 1,
            problem,
        }
    }

    /// Points at the part of the SPEC that `error` is about, if it is in there.
    pub(super) fn blame(&self, error: ConfigError) -> ConfigError {
        let part = match error {
            ConfigError::MaxTooLarge { .. } => self.option("max"),
            ConfigError::Size { .. } => self.option("max").or(self.mode),
            ConfigError::Strip { .. } => self.option("strip"),
            ConfigError::Offset { .. } => self.option("offset"),
            ConfigError::Adjust { .. } | ConfigError::NoLength { .. } => self.option("adjust"),
            ConfigError::Delimiter { .. } => self.mode,
            ConfigError::Depth { .. } => self.option("depth"),
            _ => None,
        };
        match part {
            Some(part) => self.wrong(part, SpecProblem::Impossible(Box::new(error))),
            None => error,
        }
    }

    /// The mode of a framing that must have one; `what` says what it would be.
    pub(super) fn needs_mode(&self, what: &'static str) -> Result<&'a str, ConfigError> {
        self.mode.ok_or_else(|| self.wrong(self.word, SpecProblem::NoMode(what)))
    }

    /// `text` as a size in bytes.
    pub(super) fn as_size(&self, text: &str) -> Result<usize, ConfigError> {
        let size = parse_size(text).filter(|&size| size <= MAX_MESSAGE);
        size.ok_or_else(|| self.wrong(text, SpecProblem::NotASize))
    }

    /// `text` as bytes: `\n`, `\r`, `\t`, `\0`, `\\` and `\x2c` are escapes.
    pub(super) fn as_bytes(&self, text: &str) -> Result<Vec<u8>, ConfigError> {
        let wrong = || self.wrong(text, SpecProblem::NotBytes);
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            let (&escape, after) = rest.split_first().ok_or_else(wrong)?;
            rest = after;
            bytes.push(match escape {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
                    rest = after;
                    let hex = |digit: u8| char::from(digit).to_digit(16).ok_or_else(wrong);
                    (hex(digits[0])? << 4 | hex(digits[1])?) as u8
                }
                _ => return Err(wrong()),
            });
        }
        Ok(bytes)
    }

    /// Refuses a mode on a framing that has none.
    pub(super) fn no_mode(&self) -> Result<(), ConfigError> {
        match self.mode {
            Some(mode) => Err(self.wrong(mode, SpecProblem::UnknownMode(&[]))),
            None => Ok(()),
        }
    }

    /// Refuses options that are not in `allowed`.
    pub(super) fn only(&self, allowed: &'static [&'static str]) -> Result<(), ConfigError> {
        match self.options.iter().find(|(key, _)| !allowed.contains(key)) {
            Some((key, _)) => Err(self.wrong(key, SpecProblem::UnknownOption(allowed))),
            None => Ok(()),
        }
    }

    fn option(&self, key: &str) -> Option<&'a str> {
        self.options.iter().find(|(known, _)| *known == key).map(|&(_, value)| value)
    }

    /// The size in bytes given for `key`.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.option(key) else { return Ok(None) };
        self.as_size(value).map(Some)
    }

    /// The whole number given for `key`, signed or not.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        let Some(value) = self.option(key) else { return Ok(None) };
        let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
        match value.parse() {
            Ok(number) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(number)),
            _ => Err(self.wrong(value, SpecProblem::NotANumber)),
        }
    }

    /// Whether `key` is given; if so, its value must be `value`.
    pub(super) fn flag(
        &self,
        key: &str,
        value: &'static [&'static str; 1],
    ) -> Result<bool, ConfigError> {
        match self.option(key) {
            None => Ok(false),
            Some(given) if given == value[0] => Ok(true),
            Some(given) => Err(self.wrong(given, SpecProblem::UnknownValue(value))),
        }
    }
}
