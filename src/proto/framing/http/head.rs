//! Where the head of an HTTP message ends, and what it says of the body.
//!
//! ```text
//!  GET /x HTTP/1.1 CR LF   Host  : a    CR LF   CR LF
//!  Method Target Version   Name  Value  LineEnd BlankEnd       phases of a scan
//! ```
//!
//! A head that is there in one piece is httparse's alone. One that is cut, or wrong, is
//! scanned byte by byte, and the scan remembers where it stopped: so an error is found
//! at its byte however the head is cut, and no byte is looked at again and again.

use std::mem::MaybeUninit;

use super::super::{Asked, Exchange, FrameError};
use super::Refusal;

/// The longest head, in bytes, its blank line included; nginx has 32 KiB, Node 16 KiB.
pub(super) const HEAD_MAX: usize = 16 << 10;
/// The longest target of a request, in bytes.
const TARGET_MAX: usize = 8 << 10;
/// The longest method, in bytes.
const METHOD_MAX: usize = 32;
/// Fields of a head, and again those behind a chunked body.
const FIELDS_MAX: usize = 100;

/// What a head says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Bytes of the head.
    pub(super) head: usize,
    pub(super) body: Body,
    /// What replies have to know of it.
    pub(super) exchange: Exchange,
    /// It waits for `100 Continue` before it sends its body.
    pub(super) expects: bool,
    /// It is no message of its own: the response will follow.
    pub(super) interim: bool,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Sized(u64),
    /// As long as its chunks.
    Chunked,
    /// Up to the end of the stream.
    UntilEnd,
}

/// Whose heads are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Requests,
    Responses,
}

/// Reads the head at the front of `input`, at most `max` bytes. `None`: it has not all
/// come.
pub(super) fn read(
    kind: Kind,
    scan: &mut Scan,
    input: &[u8],
    max: usize,
) -> Result<Option<Facts>, Refusal> {
    let input = &input[..input.len().min(max)];
    if *scan == Scan::of(kind)
        && let Some(facts) = parse(kind, input)
    {
        return facts.map(Some);
    }
    match scan.run(input)? {
        // The scan takes nothing that the parser would not; should it, that is an error.
        Some(len) => {
            parse(kind, &input[..len]).unwrap_or_else(|| Err(refuse("no head of HTTP"))).map(Some)
        }
        None if input.len() < max => Ok(None),
        None => Err(scan.too_long(max)),
    }
}

/// What a head says that is all there; `None` if it is not, or is wrong.
fn parse(kind: Kind, input: &[u8]) -> Option<Result<Facts, Refusal>> {
    if let Some(b'\r' | b'\n') = input.first() {
        // It would skip empty lines, and find a head that begins further on.
        return None;
    }
    // Not initialised: writing a hundred empty fields takes as long as parsing eight.
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    match kind {
        Kind::Requests => {
            let mut request = httparse::Request::new(&mut []);
            let status = request.parse_with_uninit_headers(input, &mut fields).ok()?;
            let httparse::Status::Complete(len) = status else { return None };
            let (method, target) = (request.method?, request.path?);
            let right = method.len() <= METHOD_MAX
                && target.len() <= TARGET_MAX
                && target.is_ascii()
                && ends_in_crlf(input, len, request.headers);
            let old = request.version == Some(0);
            right.then(|| request_facts(len, method, old, request.headers))
        }
        Kind::Responses => {
            let mut response = httparse::Response::new(&mut []);
            let config = httparse::ParserConfig::default();
            let status = config
                .parse_response_with_uninit_headers(&mut response, input, &mut fields)
                .ok()?;
            let httparse::Status::Complete(len) = status else { return None };
            let code = response.code?;
            let right = ends_in_crlf(input, len, response.headers);
            right.then(|| response_facts(len, code, response.headers))
        }
    }
}

/// Whether each line of a head ends in CR LF: httparse takes a bare LF, and who stands
/// in front of us may not.
fn ends_in_crlf(input: &[u8], len: usize, fields: &[httparse::Header<'_>]) -> bool {
    let before = |at: usize| input.get(at.wrapping_sub(2)..at) == Some(b"\r\n");
    // Names lie in the input, each behind the end of a line.
    let names = fields.iter().map(|field| field.name.as_ptr() as usize - input.as_ptr() as usize);
    before(len) && before(len - 2) && names.into_iter().all(before)
}

/// RFC 9112, section 6.3, but what it leaves to choice is refused.
fn request_facts(
    head: usize,
    method: &str,
    old: bool,
    fields: &[httparse::Header<'_>],
) -> Result<Facts, Refusal> {
    let mut length = Length::default();
    let (mut hosts, mut expects) = (0, false);
    let mut connection = Connection::default();
    for field in fields {
        // By length first: most fields are none of these.
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => {
                hosts += 1;
                if !is_host(field.value) {
                    return Err(refuse("Host is not the name of one host"));
                }
            }
            6 if field.name.eq_ignore_ascii_case("expect") => {
                expects |= field.value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
            }
            10 if field.name.eq_ignore_ascii_case("connection") => connection.note(field.value),
            14 | 17 => length.note(field)?,
            _ => {}
        }
    }
    match hosts {
        1 => {}
        0 if old => {}
        0 => return Err(refuse("Host is missing")),
        _ => return Err(refuse("Host is given twice")),
    }
    if length.chunked && old {
        return Err(refuse("Transfer-Encoding in HTTP/1.0"));
    }
    if method == "CONNECT" {
        // The bytes behind it would be for somebody else.
        return Err(Refusal { status: 501, ..refuse("CONNECT, and no tunnel here") });
    }
    let last = if old { !connection.keep_alive } else { connection.close };
    let exchange =
        Exchange::Asked(Asked { head: method == "HEAD", old, last: last || connection.close });
    let body = match length.body()? {
        Some(body) => body,
        None => Body::Sized(0),
    };
    Ok(Facts { head, body, exchange, expects: expects && !old, interim: false })
}

fn response_facts(
    head: usize,
    status: u16,
    fields: &[httparse::Header<'_>],
) -> Result<Facts, Refusal> {
    let mut length = Length::default();
    for field in fields {
        length.note(field)?;
    }
    let body = match (status, length.body()?) {
        (101, _) => return Err(refuse("101, and nothing to switch to here")),
        (..200 | 204 | 304, _) => Body::Sized(0),
        (_, Some(body)) => body,
        (_, None) => Body::UntilEnd,
    };
    Ok(Facts { head, body, exchange: Exchange::None, expects: false, interim: status < 200 })
}

/// Whether nobody can read two hosts, or a path or a user, into a Host (RFC 9112, section
/// 3.2, wants a 400 for what is none). It may be empty.
fn is_host(value: &[u8]) -> bool {
    const HOST: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = b'!';
        while byte <= b'~' {
            table[byte as usize] = !matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\' | b',');
            byte += 1;
        }
        table
    };
    value.trim_ascii().iter().all(|&byte| HOST[usize::from(byte)])
}

/// What fields say of the length of a body.
#[derive(Default)]
struct Length {
    chunked: bool,
    /// Content-Length.
    bytes: Option<u64>,
}

impl Length {
    fn note(&mut self, field: &httparse::Header<'_>) -> Result<(), Refusal> {
        let value = field.value.trim_ascii();
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let text = str::from_utf8(value).ok().filter(|_| digits);
                let Some(bytes) = text.and_then(|text| text.parse().ok()) else {
                    return Err(refuse("Content-Length is not one number of bytes"));
                };
                match self.bytes.replace(bytes) {
                    None => Ok(()),
                    Some(_) => Err(refuse("Content-Length is given twice")),
                }
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(refuse("Transfer-Encoding is not chunked, once"));
                }
                self.chunked = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn body(self) -> Result<Option<Body>, Refusal> {
        match (self.chunked, self.bytes) {
            (true, Some(_)) => Err(refuse("Content-Length beside Transfer-Encoding")),
            (true, None) => Ok(Some(Body::Chunked)),
            (false, bytes) => Ok(bytes.map(Body::Sized)),
        }
    }
}

/// What fields say of the time after a message.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
}

impl Connection {
    fn note(&mut self, value: &[u8]) {
        for word in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= word.eq_ignore_ascii_case(b"close");
            self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

fn refuse(what: &'static str) -> Refusal {
    Refusal { status: 400, error: FrameError::Invalid { what } }
}

/// How far a head has been looked at that is not all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    phase: Phase,
    /// The next byte to look at.
    at: u32,
    /// Where the phase began.
    since: u32,
    fields: u32,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Method,
    Target,
    Version,
    /// Of a response: its version, and a space.
    FirstVersion,
    Status,
    Reason,
    /// The CR behind a request's version.
    LineStop,
    /// The LF of a line.
    LineEnd,
    /// The name of a field, or the CR of the blank line.
    Name,
    Value,
    /// The LF of the blank line.
    BlankEnd,
}

impl Scan {
    pub(super) fn of(kind: Kind) -> Self {
        let phase = match kind {
            Kind::Requests => Phase::Method,
            Kind::Responses => Phase::FirstVersion,
        };
        Self { phase, at: 0, since: 0, fields: 0 }
    }

    /// Of fields alone, as behind a chunked body, from `at` on.
    pub(super) fn of_fields(at: usize) -> Self {
        Self { phase: Phase::Name, at: at as u32, since: at as u32, fields: 0 }
    }

    /// Looks at the bytes that are new. `Some`: the head ends there.
    pub(super) fn run(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        while let Some(&byte) = input.get(self.at as usize) {
            let next = self.step(byte)?;
            self.at += 1;
            match next {
                None => return Ok(Some(self.at as usize)),
                Some(next) if next != self.phase => (self.phase, self.since) = (next, self.at),
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// The phase behind `byte`; `None` behind the last.
    fn step(&mut self, byte: u8) -> Result<Option<Phase>, Refusal> {
        use Phase::*;
        /// A version that could be, but is not ours.
        const OTHER: u16 = 505;
        let so_far = (self.at - self.since) as usize;
        let wrong = |status, expected| {
            let at = self.at as usize;
            Err(Refusal { status, error: FrameError::BadByte { at, byte, expected } })
        };
        let too_long = |status, max| {
            Err(Refusal { status, error: FrameError::TooLong { announced: None, max } })
        };
        Ok(Some(match (self.phase, byte) {
            (Method, b' ') if so_far > 0 => Target,
            (Method, _) if !is_token(byte) => return wrong(400, "a method of HTTP"),
            (Method, _) if so_far == METHOD_MAX => return wrong(400, "a space behind a method"),
            (Method, _) => Method,
            (Target, b' ') if so_far > 0 => Version,
            (Target, b'!'..=b'~') if so_far == TARGET_MAX => return too_long(414, TARGET_MAX),
            (Target, b'!'..=b'~') => Target,
            (Target, _) => return wrong(400, "a target and a space"),
            (Version | FirstVersion, _) if so_far < VERSION.len() => {
                if byte == VERSION[so_far] {
                    self.phase
                } else {
                    let digit = so_far == MAJOR && byte.is_ascii_digit();
                    return wrong(if digit { OTHER } else { 400 }, "HTTP/1.1");
                }
            }
            (Version, b'0' | b'1') => LineStop,
            (FirstVersion, b'0' | b'1') if so_far == VERSION.len() => FirstVersion,
            (FirstVersion, b' ') if so_far > VERSION.len() => Status,
            (Version | FirstVersion, b'0'..=b'9') => return wrong(OTHER, "HTTP/1.1"),
            (Version | FirstVersion, _) => return wrong(400, "HTTP/1.1"),
            (Status, b'0'..=b'9') if so_far < 3 => Status,
            (Status, b' ') if so_far == 3 => Reason,
            (Status | Reason, b'\r') if so_far == 3 || self.phase == Reason => LineEnd,
            (Status, _) => return wrong(400, "a status of three digits"),
            (LineStop, b'\r') => LineEnd,
            (LineEnd, b'\n') => Name,
            (LineStop | LineEnd, _) => return wrong(400, "CR LF at the end of a line"),
            (Name, b'\r') if so_far == 0 => BlankEnd,
            (Name, b':') if so_far > 0 => Value,
            (Name, _) if is_token(byte) => {
                self.fields += u32::from(so_far == 0);
                if self.fields as usize > FIELDS_MAX {
                    return too_long(431, FIELDS_MAX);
                }
                Name
            }
            (Name, _) => return wrong(400, "the name of a field and a colon"),
            (Value, b'\r') => LineEnd,
            (Value | Reason, b'\t' | b' '..=b'~' | 0x80..) => self.phase,
            (Value | Reason, _) => return wrong(400, "text and CR LF"),
            (BlankEnd, b'\n') => return Ok(None),
            (BlankEnd, _) => return wrong(400, "CR LF at the end of a head"),
        }))
    }

    /// The error of a head that did not end within `max` bytes.
    fn too_long(&self, max: usize) -> Refusal {
        let status = if self.phase == Phase::Target { 414 } else { 431 };
        Refusal { status, error: FrameError::TooLong { announced: None, max } }
    }
}

/// What both versions begin with.
const VERSION: &[u8] = b"HTTP/1.";
/// Where the major version stands in it.
const MAJOR: usize = 5;

/// Bytes that names and methods are made of (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let marks = b"!#$%&'*+-.^_`|~";
        let mut at = 0;
        while at < marks.len() {
            table[marks[at] as usize] = true;
            at += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a scan finds fault, and with which status.
    fn fault(kind: Kind, input: &[u8]) -> Option<u16> {
        Scan::of(kind).run(input).err().map(|refusal| refusal.status)
    }

    #[test]
    fn the_scan_takes_what_the_parser_takes_byte_for_byte() {
        let requests = b"GET /a?b HTTP/1.1\r\nHost: x\r\nA:\r\nB: \t y z \r\n\r\n";
        let responses = b"HTTP/1.0 404 Not \xff Found\r\nHost: x\r\n\r\n";
        for (kind, right) in [(Kind::Requests, &requests[..]), (Kind::Responses, responses)] {
            for at in 0..right.len() {
                for byte in 0..=255 {
                    let mut input = right.to_vec();
                    input[at] = byte;
                    let scanned = Scan::of(kind).run(&input).ok().flatten();
                    let parsed = parse(kind, &input).map(|facts| match facts {
                        Ok(facts) => facts.head,
                        // Its fields may say what cannot be; syntax is what is compared.
                        Err(_) => scanned.unwrap_or(0),
                    });
                    let shown = input.escape_ascii();
                    assert_eq!(scanned, parsed, "byte {at} is {byte:#04x}: {shown}");
                }
            }
        }
    }

    #[test]
    fn a_status_says_what_is_wrong() {
        let long = |head: &str, count, tail: &str| {
            [head.as_bytes(), &vec![b'a'; count], tail.as_bytes()].concat()
        };
        #[rustfmt::skip]
        let cases: &[(Vec<u8>, Option<u16>)] = &[
            (b"GET / HTTP/1.1\r\n".to_vec(),            None),
            (b"GET / HTTP/2.0\r\n".to_vec(),            Some(505)),
            (b"GET / HTTP/1.2\r\n".to_vec(),            Some(505)),
            (b"GET / HTTP/1.x\r\n".to_vec(),            Some(400)),
            (b"GET / http/1.1\r\n".to_vec(),            Some(400)),
            (b"GET /\r\n".to_vec(),                     Some(400)),
            (b"GET  / HTTP/1.1\r\n".to_vec(),           Some(400)),
            (b"G\x80T".to_vec(),                        Some(400)),
            (b"\x16\x03\x01".to_vec(),                  Some(400)),
            (long("", METHOD_MAX, " "),                 None),
            (long("", METHOD_MAX + 1, ""),              Some(400)),
            (long("GET ", TARGET_MAX, " "),             None),
            (long("GET ", TARGET_MAX + 1, ""),          Some(414)),
            (b"GET / HTTP/1.1\r\nA : b\r\n".to_vec(),   Some(400)),
            (b"GET / HTTP/1.1\r\nA: b\r\n c".to_vec(),  Some(400)),
            (b"GET / HTTP/1.1\r\n: b\r\n".to_vec(),     Some(400)),
            (b"GET / HTTP/1.1\nA".to_vec(),             Some(400)),
            (b"GET / HTTP/1.1\r\nA: b\0".to_vec(),      Some(400)),
            ([b"GET / HTTP/1.1\r\n", &b"A: b\r\n".repeat(FIELDS_MAX)[..]].concat(), None),
            ([b"GET / HTTP/1.1\r\n", &b"A: b\r\n".repeat(FIELDS_MAX + 1)[..]].concat(), Some(431)),
        ];
        for (input, status) in cases {
            assert_eq!(fault(Kind::Requests, input), *status, "{}", input.escape_ascii());
        }
    }
}
