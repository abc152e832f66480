//! What is sent: as it was asked for, or something that the framing can carry.

use oneloop::load::Message;
use oneloop::{AnyFraming, EncodeError, Request};

use crate::notation::{Notation, read_file};

/// Bytes of a message if nothing was said.
const SIZE: usize = 64;

/// What the flags say of the message.
pub(super) enum Payload<'a> {
    /// A text, and whether escapes in it are to be understood.
    Text(&'a str, bool),
    /// What is in that file; `-` is stdin.
    File(&'a str),
    /// A GET of this path.
    Get(&'a str),
    /// So many bytes, or as many as suit.
    Size(Option<usize>),
}

impl Payload<'_> {
    /// The message for `framing`, whose SPEC is `spec`, with a stamp in it if it shall be.
    /// What cannot be sent is refused in a sentence.
    pub(super) fn message(
        &self,
        framing: &AnyFraming,
        spec: &str,
        stamped: bool,
    ) -> Result<Message, String> {
        let word = spec.split([',', ':']).next().unwrap_or(spec);
        if stamped && matches!(word, "json" | "xml" | "modbus") {
            return Err(format!(
                "a stamp is 32 hexadecimal digits, and no {word} begins with them; other \
                 framings carry it, like lines or u32be"
            ));
        }
        let bytes = match self {
            Self::Get(path) if word == "http" && !stamped => {
                let made = Message::new(framing, Request::new("GET", path));
                return made.map_err(|error| format!("--get {path}: {error}"));
            }
            Self::Get(path) if stamped => {
                return Err(format!("--get {path} has no body that could carry a stamp"));
            }
            Self::Get(path) => return Err(format!("--get {path} is for -f http, not {spec}")),
            Self::Text(text, true) => Notation::Escaped
                .read(text.as_bytes())
                .map_err(|error| format!("{error}; --raw sends it as it is"))?,
            Self::Text(text, false) => text.as_bytes().to_vec(),
            Self::File(path) => {
                read_file(framing, path).map_err(|error| format!("--file {path}: {error}"))?
            }
            Self::Size(size) => return suitable(framing, spec, word, *size, stamped),
        };
        made(framing, &bytes, stamped).map_err(|error| format!("{spec} cannot carry it: {error}"))
    }
}

fn made(framing: &AnyFraming, bytes: &[u8], stamped: bool) -> Result<Message, EncodeError> {
    match stamped {
        true => Message::stamped(framing, bytes),
        false => Message::new(framing, bytes),
    }
}

/// A message that the framing can carry: letters, or what it has a grammar for.
fn suitable(
    framing: &AnyFraming,
    spec: &str,
    word: &str,
    size: Option<usize>,
    stamped: bool,
) -> Result<Message, String> {
    let wanted = size.unwrap_or(SIZE);
    let bytes = match word {
        "json" => json(wanted).ok_or("no JSON value has 0 bytes; say -s 1 at least")?,
        "xml" => xml(wanted).ok_or("no XML document has less than 4 bytes; say -s 4 at least")?,
        // Read one register, the first of unit 1.
        "modbus" => match size {
            None | Some(12) => b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x01".to_vec(),
            Some(size) => {
                return Err(format!(
                    "-s {size}: a read request of Modbus has 12 bytes; leave it out"
                ));
            }
        },
        // A stamp makes it a plain string.
        "resp" if !stamped => ping(size),
        "fixed" => letters(size.or(fixed_size(spec)).unwrap_or(SIZE), 0),
        _ => letters(wanted, 0),
    };
    let refused = match made(framing, &bytes, stamped) {
        Ok(message) => return Ok(message),
        Err(error) => error,
    };
    // The delimiter may be a letter; of so many, one is not in it.
    let others = (1..62).filter(|_| matches!(refused, EncodeError::Delimiter { .. }));
    let mut others = others.filter_map(|at| made(framing, &letters(bytes.len(), at), stamped).ok());
    others.next().ok_or_else(|| {
        let flag = size.map_or("a message by default".into(), |size| format!("-s {size}"));
        format!("{spec} cannot carry {flag}: {refused}")
    })
}

/// The alphabet again and again; after the first, one letter alone.
fn letters(size: usize, choice: usize) -> Vec<u8> {
    let all = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    match choice {
        0 => all[..26].iter().copied().cycle().take(size).collect(),
        choice => vec![all[choice % all.len()]; size],
    }
}

fn json(size: usize) -> Option<Vec<u8>> {
    match size {
        0 => None,
        1 => Some(b"1".to_vec()),
        size => Some([b"\"", &letters(size - 2, 0)[..], b"\""].concat()),
    }
}

fn xml(size: usize) -> Option<Vec<u8>> {
    match size {
        0..4 => None,
        4..7 => Some([b"<", &letters(size - 3, 0)[..], b"/>"].concat()),
        size => Some([b"<m>", &letters(size - 7, 0)[..], b"</m>"].concat()),
    }
}

/// What every server of RESP answers; with a text of that size, which comes back.
fn ping(size: Option<usize>) -> Vec<u8> {
    match size {
        None => b"*1\r\n$4\r\nPING\r\n".to_vec(),
        Some(size) => {
            let head = format!("*2\r\n$4\r\nPING\r\n${size}\r\n");
            [head.as_bytes(), &letters(size, 0), b"\r\n"].concat()
        }
    }
}

/// The size that `fixed:N` asks for.
fn fixed_size(spec: &str) -> Option<usize> {
    oneloop::parse_size(spec.strip_prefix("fixed:")?.split(',').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_framing_has_a_message_by_default_that_it_can_carry() {
        for word in AnyFraming::WORDS {
            for delimiter in ["a", ";", "abc"] {
                let spec = word.replace("BYTES", delimiter).replace('N', "40");
                let framing: AnyFraming = spec.parse().expect("a word, filled in");
                let framing = framing.for_client("localhost");
                let made = Payload::Size(None).message(&framing, &spec, false);
                let message = made.unwrap_or_else(|error| panic!("{spec}: {error}"));
                assert!(message.bytes() >= 12, "{spec}");
            }
        }
    }

    #[test]
    fn a_size_is_kept_to_in_every_framing_that_has_sizes() {
        for spec in ["lines", "delim:;", "u32be", "netstring", "json", "xml", "slip", "raw"] {
            let framing: AnyFraming = spec.parse().expect("a SPEC");
            for size in [4, 5, 6, 7, 8, 64, 1000] {
                let made = Payload::Size(Some(size)).message(&framing, spec, false);
                assert_eq!(made.expect("it fits").bytes(), size, "{spec}");
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_what_can() {
        let http = "http".parse::<AnyFraming>().expect("a SPEC").for_client("a");
        let lines: AnyFraming = "lines".parse().expect("a SPEC");
        let json: AnyFraming = "json".parse().expect("a SPEC");
        let path = "/nonexistent/file";
        let cases = [
            (Payload::Get("/").message(&lines, "lines", false), "is for -f http"),
            (Payload::Get("/").message(&http, "http", true), "no body that could carry"),
            (Payload::Size(Some(31)).message(&lines, "lines", true), "shorter than the 32"),
            (Payload::Size(None).message(&json, "json", true), "like lines or u32be"),
            (Payload::Size(Some(0)).message(&json, "json", false), "-s 1 at least"),
            (Payload::Text(r"a\nb", true).message(&lines, "lines", false), "delimiter at byte 1"),
            (Payload::Text(r"ab\q", true).message(&lines, "lines", false), "is no escape"),
            (Payload::Text(r"\x4", true).message(&lines, "lines", false), "--raw"),
            (Payload::File(path).message(&lines, "lines", false), "/nonexistent/file"),
        ];
        for (made, words) in cases {
            let Err(error) = made else { panic!("it can be sent: {words}") };
            assert!(error.contains(words), "no {words:?} in {error}");
        }
        let raw = Payload::Text(r"a\nb", false).message(&lines, "lines", false);
        assert_eq!(raw.expect("a backslash is a byte").bytes(), 4);
    }
}
