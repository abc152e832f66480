//! HTTP/1.1: requests in and responses out, or, for who calls a server, the reverse.
//!
//! ```text
//!  POST /x HTTP/1.1 CR LF  Content-Length: 5 CR LF  CR LF  hello
//!  └──────────────────────── one message ──────────────────────┘
//! ```
//!
//! A head ends at a blank line, and says how its body does (`head`); a chunked body is
//! joined in place (`chunks`). What a service sees is head and body, side by side.
//!
//! A response depends on its request: HEAD gets no body, `Connection: close` was the
//! last. Decoding leaves that in an [`Exchange`], which the connection carries from the
//! message to its reply.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use super::decimal::{MAX_DIGITS, shortest};
use super::{
    Asked, ConfigError, Decoded, Encode, EncodeError, Exchange, Fields, FrameError, Framing, Guess,
    Reply, Request, Response, check_len, spec,
};

mod chunks;
mod head;

use chunks::Chunks;
use head::{Body, Facts, HEAD_MAX, Kind, Scan};

/// HTTP/1.1, and 1.0 (RFC 9112). One request is one message: head and body, chunks
/// joined. Each gets one response: bytes are the body of a 200 with
/// `application/octet-stream`, a [`Response`] says more. SPEC word `http`.
///
/// The framing writes Content-Length, Connection and Date; answers
/// `Expect: 100-continue`; has a 204 for a service that says nothing; and answers what is
/// no request with 400, 408, 413, 414, 431, 501 or 505, and closes. What requests may be
/// read in two ways is refused: repeated lengths, a bare LF, folded fields.
///
/// Only messages can be answered: [`Context::send`](crate::Context::send) and broadcasts
/// are refused, and so is a second response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    max: usize,
    side: Side,
    /// Of the message that was decoded last.
    exchange: Cell<Exchange>,
    /// The time of day, as responses say it.
    date: Cell<Option<[u8; DATE_LEN]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client { host: Box<str> },
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const DATE_LEN: usize = 29;
/// Of the year 9999, as far as a date of 29 bytes goes.
const LAST_SECOND: u64 = 253_402_300_799;

/// Why bytes are no message, and what their sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    error: FrameError,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            max: spec::DEFAULT_MAX,
            side: Side::Server,
            exchange: Cell::new(Exchange::None),
            date: Cell::new(None),
        }
    }
}

impl Http {
    /// The largest message, head and body, in bytes. Default: 1 MiB. A larger one gets a
    /// 413 and closes. A head alone has 16 KiB at most, 100 fields, and a target of 8 KiB.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// The side that calls: responses come in, requests go out. Bytes are the body of a
    /// `POST /` to `host`; a [`Request`] says more. HEAD cannot be sent, since its
    /// responses cannot be told from others.
    pub fn client(mut self, host: &str) -> Self {
        self.side = Side::Client { host: host.into() };
        self
    }

    fn kind(&self) -> Kind {
        match self.side {
            Side::Server => Kind::Requests,
            Side::Client { .. } => Kind::Responses,
        }
    }

    /// Looks for the end of the message that `progress` has come so far into.
    fn advance(
        &self,
        progress: &mut Progress,
        input: &mut [u8],
        end: bool,
    ) -> Result<Decoded, Refusal> {
        let (mut facts, first) = match progress.facts {
            Some(facts) => (facts, false),
            None => {
                let max = self.max.min(HEAD_MAX);
                match head::read(self.kind(), &mut progress.scan, input, max)? {
                    Some(facts) => (facts, true),
                    None => return Ok(Decoded::Incomplete { need: 0 }),
                }
            }
        };
        let head = facts.head;
        if facts.interim {
            return Ok(Decoded::Skip { consumed: head, error: None });
        }
        let too_long = |announced| {
            let error = FrameError::TooLong { announced, max: self.max };
            Err(Refusal { status: 413, error })
        };
        let need = match facts.body {
            Body::Sized(bytes) => {
                let total = bytes.saturating_add(head as u64);
                if total > self.max as u64 {
                    return too_long(Some(total));
                }
                let total = total as usize;
                if input.len() >= total {
                    self.exchange.set(facts.exchange);
                    return Ok(Decoded::Message { message: 0..total, consumed: total });
                }
                total
            }
            Body::Chunked => {
                let chunks = progress.chunks.get_or_insert_with(|| Chunks::new(head));
                if chunks.run(input, self.max)? {
                    self.exchange.set(facts.exchange);
                    return Ok(Decoded::Message { message: 0..chunks.joined, consumed: chunks.at });
                }
                chunks.need()
            }
            Body::UntilEnd if input.len() > self.max => return too_long(None),
            Body::UntilEnd if end => {
                return Ok(Decoded::Message { message: 0..input.len(), consumed: input.len() });
            }
            Body::UntilEnd => 0,
        };
        // Who sends its body at once does not wait.
        if first && facts.expects && input.len() == head {
            self.exchange.set(Exchange::Continue);
        }
        facts.expects = false;
        progress.facts = Some(facts);
        Ok(Decoded::Incomplete { need })
    }

    /// Writes a response, of which only its body may be left out.
    fn respond(
        &self,
        exchange: &mut Exchange,
        response: &Response<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let asked = match *exchange {
            Exchange::Asked(asked) => asked,
            Exchange::Failed { .. } => Asked { head: false, old: false, last: true },
            _ => return Err(EncodeError::NoRequest),
        };
        let Response { status, fields, body, close } = *response;
        check_len(body, self.max)?;
        let bodiless = matches!(status, 204 | 304);
        if !(200..600).contains(&status) {
            return Err(EncodeError::Head { what: "a status is 200 to 599" });
        }
        if bodiless && !body.is_empty() {
            return Err(EncodeError::Head { what: "204 and 304 have no body" });
        }
        let last = close || asked.last;
        let start = out.len();
        match status {
            200 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            _ => {
                let digits = &mut [0; MAX_DIGITS];
                let digits = shortest(status.into(), digits);
                put(out, [b"HTTP/1.1 ", digits, b" ", phrase(status).as_bytes(), b"\r\n"]);
            }
        }
        if let Some(date) = self.date.get() {
            put(out, [b"Date: ", &date, b"\r\n"]);
        }
        put_fields(out, start, fields)?;
        if !bodiless {
            put_length(out, body.len());
        }
        match (last, asked.old) {
            (true, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (false, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, false) => {}
        }
        out.extend_from_slice(b"\r\n");
        if !asked.head {
            out.extend_from_slice(body);
        }
        *exchange = Exchange::Answered { last };
        Ok(())
    }

    fn request(
        &self,
        host: &str,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let Request { method, target, fields, body } = *request;
        check_len(body, self.max)?;
        let wrong = |what| Err(EncodeError::Head { what });
        if method.is_empty() || !method.bytes().all(head::is_token) {
            return wrong("a method is letters");
        }
        if matches!(method, "HEAD" | "CONNECT") {
            return wrong("HEAD and CONNECT have responses that do not say where they end");
        }
        if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("a target is ASCII without spaces");
        }
        let start = out.len();
        put(out, [method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"]);
        if fields.get("Host").is_none() {
            put(out, [b"Host: ", host.as_bytes(), b"\r\n"]);
        }
        put_fields(out, start, fields)?;
        if !(body.is_empty() && matches!(method, "GET" | "DELETE" | "OPTIONS" | "TRACE")) {
            put_length(out, body.len());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        Ok(())
    }
}

/// How far the message at the front has come that is not all there.
#[derive(Clone, Debug)]
struct Progress {
    scan: Scan,
    facts: Option<Facts>,
    chunks: Option<Chunks>,
}

/// What a connection remembers: only of a message that was cut.
#[derive(Debug, Default)]
pub struct HttpState(Option<Box<Progress>>);

impl Framing for Http {
    type State = HttpState;

    fn decode(
        &self,
        state: &mut HttpState,
        input: &mut [u8],
        end: bool,
    ) -> Result<Decoded, FrameError> {
        self.exchange.set(Exchange::None);
        let mut new = Progress { scan: Scan::of(self.kind()), facts: None, chunks: None };
        let progress = match &mut state.0 {
            Some(progress) => &mut **progress,
            None => match input {
                // Old clients send one behind a body (RFC 9112, section 2.2).
                [b'\r', b'\n', ..] => return Ok(Decoded::Skip { consumed: 2, error: None }),
                [b'\n', ..] => return Ok(Decoded::Skip { consumed: 1, error: None }),
                [] | [b'\r'] => return Ok(Decoded::Incomplete { need: 0 }),
                _ => &mut new,
            },
        };
        match self.advance(progress, input, end) {
            Ok(Decoded::Incomplete { need }) => {
                if state.0.is_none() {
                    state.0 = Some(Box::new(new));
                }
                Ok(Decoded::Incomplete { need })
            }
            Ok(decoded) => {
                state.0 = None;
                Ok(decoded)
            }
            Err(Refusal { status, error }) => {
                self.exchange.set(Exchange::Failed { status });
                Err(error)
            }
        }
    }

    fn exchange(&self) -> Exchange {
        self.exchange.get()
    }

    fn guess(&self, input: &[u8]) -> Option<Guess> {
        Guess::protocol(input).filter(|&guess| guess != Guess::Http)
    }

    fn max_input(&self) -> usize {
        chunks::max_input(self.max)
    }
}

impl Encode for Http {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match &self.side {
            Side::Server => Err(EncodeError::NoRequest),
            Side::Client { host } => self.request(
                host,
                &Request::new("POST", "/").with_fields(BYTES).with_body(message),
                out,
            ),
        }
    }

    fn reply(
        &self,
        reply: &Reply<'_>,
        exchange: &mut Exchange,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let result = match (&self.side, reply) {
            (Side::Server, Reply::Bytes(bytes)) => {
                let response = match *exchange {
                    Exchange::Failed { status } => Response::new(status).with_fields(TEXT),
                    _ => Response::new(200).with_fields(BYTES),
                };
                self.respond(exchange, &response.with_body(bytes), out)
            }
            (Side::Server, Reply::Response(response)) => self.respond(exchange, response, out),
            (Side::Client { host }, Reply::Bytes(bytes)) => self.request(
                host,
                &Request::new("POST", "/").with_fields(BYTES).with_body(bytes),
                out,
            ),
            (Side::Client { host }, Reply::Request(request)) => self.request(host, request, out),
            (Side::Server, Reply::Request(_)) => {
                Err(EncodeError::Head { what: "a server sends responses, not requests" })
            }
            (Side::Client { .. }, Reply::Response(_)) => {
                Err(EncodeError::Head { what: "a client sends requests, not responses" })
            }
        };
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn converses(&self) -> bool {
        true
    }

    fn settle(&self, mut exchange: Exchange, out: &mut Vec<u8>) -> bool {
        match exchange {
            _ if self.side != Side::Server => false,
            Exchange::None => false,
            Exchange::Continue => {
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                false
            }
            Exchange::Answered { last } => last,
            Exchange::Asked(Asked { last, .. }) => {
                // It has nothing that could be wrong.
                let _ = self.respond(&mut exchange, &Response::new(204), out);
                last
            }
            Exchange::Failed { status } => {
                let text = format!("{status} {}\n", phrase(status));
                let response = Response::new(status).with_fields(TEXT).with_body(&text);
                // A limit of a few bytes has no room for the text.
                let _ = self
                    .respond(&mut exchange, &response, out)
                    .or_else(|_| self.respond(&mut exchange, &response.with_body(""), out));
                true
            }
        }
    }

    fn set_time(&self, unix: u64) {
        let now = UNIX_EPOCH + Duration::from_secs(unix.min(LAST_SECOND));
        self.date.set(httpdate::fmt_http_date(now).as_bytes().try_into().ok());
    }

    fn max_frame(&self) -> usize {
        self.max + HEAD_MAX
    }

    fn check(&self) -> Result<(), ConfigError> {
        spec::check_max(self.max, u64::MAX)
    }
}

const BYTES: &[(&str, &str)] = &[("Content-Type", "application/octet-stream")];
const TEXT: &[(&str, &str)] = &[("Content-Type", "text/plain")];

fn put<const N: usize>(out: &mut Vec<u8>, parts: [&[u8]; N]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_length(out: &mut Vec<u8>, bytes: usize) {
    put(out, [b"Content-Length: ", shortest(bytes, &mut [0; MAX_DIGITS]), b"\r\n"]);
}

/// Fields but those that are the framing's. A value with a line end in it would be a
/// response of its own.
fn put_fields(out: &mut Vec<u8>, start: usize, fields: Fields<'_>) -> Result<(), EncodeError> {
    for (name, value) in fields.iter() {
        if name.is_empty() || !name.bytes().all(head::is_token) {
            return Err(EncodeError::Head { what: "the name of a field is letters and -" });
        }
        if value.iter().any(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
            return Err(EncodeError::Head { what: "the value of a field is text in one line" });
        }
        if Fields::OF_FRAMING.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            continue;
        }
        put(out, [name.as_bytes(), b": ", value, b"\r\n"]);
        if out.len() - start > HEAD_MAX / 2 {
            return Err(EncodeError::Head { what: "fields are 8 KiB at most" });
        }
    }
    Ok(())
}

/// What a status means, in words (RFC 9110, section 15). Nobody depends on them.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn bad_byte(at: usize, byte: u8, expected: &'static str) -> Option<FrameError> {
        Some(FrameError::BadByte { at, byte, expected })
    }

    fn invalid(what: &'static str) -> Option<FrameError> {
        Some(FrameError::Invalid { what })
    }

    fn too_long(announced: Option<u64>, max: usize) -> Option<FrameError> {
        Some(FrameError::TooLong { announced, max })
    }

    /// The bodies that `stream` is decoded to, in whatever pieces, and its error.
    fn bodies(http: &Http, name: &str, stream: &[u8]) -> (Vec<String>, Option<FrameError>) {
        let outcome = check::splits(http, stream).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bodies = outcome.messages().into_iter().map(|message| {
            let body = Request::read(message)
                .map(|request| request.body)
                .or_else(|| Response::read(message).map(|response| response.body));
            body.unwrap_or_else(|| panic!("{name}: {}", message.escape_ascii()))
                .escape_ascii()
                .to_string()
        });
        (bodies.collect(), outcome.error)
    }

    #[test]
    fn a_stream_gives_these_requests_however_it_is_cut() {
        const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let with =
            |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
        let chunked = |body: &str| with("Transfer-Encoding: chunked\r\n", body);
        let at = |request: &str, text: &str| request.find(text).unwrap_or(usize::MAX);
        let size = "the size of a chunk in hexadecimal digits";
        let line = "CR LF behind the size of a chunk";
        let length = "Content-Length is not one number of bytes";
        let coding = "Transfer-Encoding is not chunked, once";
        let head = at(&chunked("#"), "#");
        #[rustfmt::skip]
        let cases: Vec<(&str, String, Vec<&str>, Option<FrameError>)> = vec![
            ("nothing",             String::new(),                      vec![],             None),
            ("pipelined",           GET.repeat(3),                      vec![""; 3],        None),
            ("a body",              with("Content-Length: 5\r\n", "hello") + GET, vec!["hello", ""], None),
            ("its length in zeros", with("Content-Length: 00005\r\n", "hello"), vec!["hello"], None),
            ("chunks",              chunked("5\r\nhello\r\n3;x=\"y\"\r\nyou\r\n0\r\n\r\n") + GET, vec!["helloyou", ""], None),
            ("hexadecimal",         chunked(&format!("1A\r\n{}\r\n0a\r\n{}\r\n0\r\n\r\n", "x".repeat(26), "y".repeat(10))), vec!["xxxxxxxxxxxxxxxxxxxxxxxxxxyyyyyyyyyy"], None),
            ("a trailer",           chunked("0\r\nX: y\r\nZ:\r\n\r\n") + GET, vec!["", ""],  None),
            ("no switch",           format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n{GET}"), vec!["", ""], None),
            ("no chunk",            chunked("0\r\n\r\n"),               vec![""],           None),
            ("empty lines before",  format!("\r\n\n{GET}\r\n"),         vec![""],           None),
            ("old, without host",   "GET / HTTP/1.0\r\n\r\n".into(),    vec![""],           None),
            ("cut in the head",     GET[..20].into(),                   vec![],             Some(FrameError::Truncated { received: 20 })),
            ("cut in the body",     with("Content-Length: 5\r\n", "he"), vec![],            Some(FrameError::Truncated { received: 49 })),
            ("a CR alone",          format!("{GET}\rGET"),              vec![""],           bad_byte(0, b'\r', "a method of HTTP")),
            ("no host",             "GET / HTTP/1.1\r\n\r\n".into(),    vec![],             invalid("Host is missing")),
            ("two hosts",           with("host: b\r\n", ""),            vec![],             invalid("Host is given twice")),
            ("two hosts in one",    "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), vec![], invalid("Host is not the name of one host")),
            ("a host and a path",   "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), vec![],  invalid("Host is not the name of one host")),
            ("hosts that may be",   ["", "a", "a.b:80", "[::1]:80", " a_b~!$&'()*+;=%20 "].map(|host| format!("GET / HTTP/1.1\r\nHost:{host}\r\n\r\n")).concat(), vec![""; 5], None),
            ("two lengths",         with("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), vec![], invalid("Content-Length is given twice")),
            ("lengths in a list",   with("Content-Length: 5, 5\r\n", "hello"), vec![],      invalid(length)),
            ("a sign",              with("Content-Length: +5\r\n", "hello"), vec![],        invalid(length)),
            ("a space inside",      with("Content-Length: 5 5\r\n", "hello"), vec![],       invalid(length)),
            ("no digit behind",     with("Content-Length: 12junk\r\n", ""), vec![],         invalid(length)),
            ("no number",           with("Content-Length:\r\n", ""),    vec![],             invalid(length)),
            ("20 digits",           with("Content-Length: 99999999999999999999\r\n", ""), vec![], invalid(length)),
            ("both lengths",        with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), vec![], invalid("Content-Length beside Transfer-Encoding")),
            ("both, other case",    with("tRANSFER-eNCODING: Chunked\r\ncONTENT-lENGTH: 5\r\n", "0\r\n\r\n"), vec![], invalid("Content-Length beside Transfer-Encoding")),
            ("another coding",      with("Transfer-Encoding: xchunked\r\n", ""), vec![],    invalid(coding)),
            ("two codings",         with("Transfer-Encoding: chunked, identity\r\n", ""), vec![], invalid(coding)),
            ("a coding twice",      with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ""), vec![], invalid(coding)),
            ("chunks in 1.0",       "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), vec![], invalid("Transfer-Encoding in HTTP/1.0")),
            ("a tunnel",            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".into(), vec![], invalid("CONNECT, and no tunnel here")),
            ("a bare LF",           "GET / HTTP/1.1\nHost: a\r\n\r\n".into(), vec![],       bad_byte(14, b'\n', "CR LF at the end of a line")),
            ("a bare LF in fields", "GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n".into(), vec![], bad_byte(23, b'\n', "text and CR LF")),
            ("a bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n".into(), vec![],      bad_byte(25, b'\n', "the name of a field and a colon")),
            ("a folded field",      "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n".into(), vec![], bad_byte(25, b' ', "the name of a field and a colon")),
            ("a space before :",    "GET / HTTP/1.1\r\nHost : a\r\n\r\n".into(), vec![],    bad_byte(20, b' ', "the name of a field and a colon")),
            ("no name",             "GET / HTTP/1.1\r\n: a\r\n\r\n".into(), vec![],         bad_byte(16, b':', "the name of a field and a colon")),
            ("another version",     "GET / HTTP/3.0\r\n\r\n".into(),    vec![],             bad_byte(11, b'3', "HTTP/1.1")),
            ("TLS",                 "\x16\x03\x01".into(),              vec![],             bad_byte(0, 0x16, "a method of HTTP")),
            ("a size with 0x",      chunked("0x5\r\n"),                 vec![],             bad_byte(head + 1, b'x', size)),
            ("a signed size",       chunked("-5\r\n"),                  vec![],             bad_byte(head, b'-', size)),
            ("no size",             chunked("\r\n"),                    vec![],             bad_byte(head, b'\r', size)),
            ("a size too large",    chunked("FFFFFFFFFFFFFFFF\r\n"),    vec![],             too_long(Some(u64::MAX), 1 << 20)),
            ("17 digits",           chunked("00000000000000005\r\n"),   vec![],             bad_byte(head + 16, b'5', "at most 16 digits")),
            ("a size and LF",       chunked("5\nhello"),                vec![],             bad_byte(head + 1, b'\n', size)),
            ("an extension and LF", chunked("5;a\nhello"),              vec![],             bad_byte(head + 3, b'\n', line)),
            ("an extension, CR",    chunked("5;a\rb"),                  vec![],             bad_byte(head + 4, b'b', line)),
            ("a long extension",    chunked(&format!("5;{}", "a".repeat(2000))), vec![],    bad_byte(head + 1024, b'a', line)),
            ("no CR LF behind data", chunked("2\r\nhello\r\n"),         vec![],             bad_byte(head + 5, b'l', "CR LF behind a chunk")),
            ("a bad trailer",       chunked("0\r\nX : y\r\n\r\n"),      vec![],             bad_byte(head + 4, b' ', "the name of a field and a colon")),
            ("nothing behind an error", format!("GET / HTTP/1.1\r\n\r\n{GET}"), vec![],     invalid("Host is missing")),
        ];
        for (name, stream, messages, error) in cases {
            let expected = (messages.into_iter().map(String::from).collect(), error);
            assert_eq!(bodies(&Http::default(), name, stream.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_limit_holds_for_head_and_body_together_and_for_what_chunks_take() {
        let http = Http::default().max(100);
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n";
        let exact = head.replace("50", "52") + &"x".repeat(52);
        assert_eq!(exact.len(), 100);
        assert_eq!(bodies(&http, "exact", exact.as_bytes()), (vec!["x".repeat(52)], None));
        let more = head.replace("50", "53");
        assert_eq!(bodies(&http, "one more", more.as_bytes()).1, too_long(Some(101), 100));
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(90));
        assert_eq!(bodies(&http, "a long head", long.as_bytes()).1, too_long(None, 100));

        // A body in chunks of one byte takes six times the room; up to a point.
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let small =
            |count: usize| format!("{chunked}{}0\r\n\r\n", "1\r\nx\r\n".repeat(count)).into_bytes();
        let http = Http::default().max(4000);
        assert_eq!(bodies(&http, "small chunks", &small(3900)), (vec!["x".repeat(3900)], None));
        let http = Http::default().max(8000);
        let (messages, error) = bodies(&http, "too small chunks", &small(7000));
        assert_eq!(messages.len(), 0);
        assert!(matches!(error, Some(FrameError::TooLong { max: 8000, .. })), "{error:?}");
    }

    #[test]
    fn a_flood_of_fields_or_a_long_target_is_refused_within_16_kib() {
        let cases = [
            ("fields", format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(10_000)), 431),
            ("a value", format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(1 << 20)), 431),
            ("a target", format!("GET /{}", "b".repeat(64 << 10)), 414),
            (
                "a trailer",
                format!(
                    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: {}",
                    "b".repeat(1 << 20)
                ),
                431,
            ),
        ];
        for (name, stream, status) in cases {
            let http = Http::default();
            let (mut state, mut input) = (HttpState::default(), stream.into_bytes());
            let error = http.decode(&mut state, &mut input, false).expect_err(name);
            assert!(matches!(error, FrameError::TooLong { .. }), "{name}: {error}");
            assert_eq!(http.exchange(), Exchange::Failed { status }, "{name}");
        }
    }

    #[test]
    fn a_stream_gives_these_responses_however_it_is_cut() {
        #[rustfmt::skip]
        let cases: Vec<(&str, &str, Vec<&str>, Option<FrameError>)> = vec![
            ("pipelined",       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n", vec!["hi", "", ""], None),
            ("chunks",          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", vec!["hi"], None),
            ("to the end",      "HTTP/1.0 200 OK\r\n\r\nall of\r\n\r\nthis", vec!["all of\\r\\n\\r\\nthis"], None),
            ("an interim one",  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", vec![""], None),
            ("a switch",        "HTTP/1.1 101 Switching\r\n\r\n\x01\x02", vec![], invalid("101, and nothing to switch to here")),
            ("two lengths",     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", vec![], invalid("Content-Length is given twice")),
            ("no status",       "HTTP/1.1 2OO OK\r\n\r\n", vec![], bad_byte(10, b'O', "a status of three digits")),
            ("a request",       "GET / HTTP/1.1\r\n\r\n", vec![], bad_byte(0, b'G', "HTTP/1.1")),
        ];
        for (name, stream, messages, error) in cases {
            let http = Http::default().client("a");
            let expected = (messages.into_iter().map(String::from).collect(), error);
            assert_eq!(bodies(&http, name, stream.as_bytes()), expected, "{name}");
        }
    }

    /// What is answered to a request by `reply`.
    fn answer(request: &str, reply: impl FnOnce(&Http, &mut Exchange, &mut Vec<u8>)) -> String {
        let http = Http::default();
        let (mut state, mut out) = (HttpState::default(), Vec::new());
        let _ = http.decode(&mut state, &mut request.as_bytes().to_vec(), false);
        let mut exchange = http.exchange();
        reply(&http, &mut exchange, &mut out);
        let last = http.settle(exchange, &mut out);
        format!("{}{}", String::from_utf8_lossy(&out), if last { "<close>" } else { "" })
    }

    #[test]
    fn a_response_fits_its_request() {
        let hello = |http: &Http, exchange: &mut Exchange, out: &mut Vec<u8>| {
            assert_eq!(http.reply(&Reply::from("hello"), exchange, out), Ok(()));
            // There is one response to a request.
            let second = http.reply(&Reply::from("hello"), exchange, out);
            assert_eq!(second, Err(EncodeError::NoRequest));
        };
        let start =
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n";
        #[rustfmt::skip]
        let cases = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n",                           format!("{start}\r\nhello")),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",   format!("{start}Connection: close\r\n\r\nhello<close>")),
            ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",                          format!("{start}\r\n")),
            ("GET / HTTP/1.0\r\n\r\n",                                      format!("{start}Connection: close\r\n\r\nhello<close>")),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",            format!("{start}Connection: keep-alive\r\n\r\nhello")),
            ("GET / HTTP/1.1\r\n\r\n",                                      "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello<close>".into()),
        ];
        for (request, expected) in cases {
            assert_eq!(answer(request, hello), expected, "{request}");
        }
    }

    #[test]
    fn a_service_that_says_nothing_or_cannot_leaves_the_answer_to_the_framing() {
        let nothing = |_: &Http, _: &mut Exchange, _: &mut Vec<u8>| {};
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(answer(get, nothing), "HTTP/1.1 204 No Content\r\n\r\n");
        let expect =
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n";
        assert_eq!(answer(expect, nothing), "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(answer(&format!("{expect}x"), nothing), "HTTP/1.1 204 No Content\r\n\r\n");
        let failed = answer("GET / HTTP/1.2\r\n", nothing);
        assert!(failed.starts_with("HTTP/1.1 505 HTTP Version Not Supported\r\n"), "{failed}");
        assert!(
            failed.ends_with("Connection: close\r\n\r\n505 HTTP Version Not Supported\n<close>")
        );
    }

    #[test]
    fn leave_to_go_on_is_given_once() {
        let http = Http::default();
        let request =
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        let (mut state, mut input) = (HttpState::default(), request.to_vec());
        for (byte, expected) in [(None, Exchange::Continue), (Some(b'x'), Exchange::None)] {
            input.extend(byte);
            let need = request.len() + 9;
            let decoded = http.decode(&mut state, &mut input, false);
            assert_eq!(decoded, Ok(Decoded::Incomplete { need }));
            assert_eq!(http.exchange(), expected);
        }
    }

    #[test]
    fn a_response_says_what_it_is_given_and_nothing_that_could_be_two() {
        let reply = |response: Response<'_>| {
            let mut result = Ok(());
            let text = answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n", |http, exchange, out| {
                result = http.reply(&Reply::from(response), exchange, out);
            });
            result.map(|()| text)
        };
        let fields = [("Content-Type", "text/html"), ("content-length", "7"), ("X", "y\u{fc}")];
        let page = Response::new(404).with_fields(&fields).with_body("<p>no");
        assert_eq!(
            reply(page).as_deref(),
            Ok("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nX: y\u{fc}\r\n\
                Content-Length: 5\r\n\r\n<p>no")
        );
        let closing = reply(Response::new(299).closing());
        assert_eq!(
            closing.as_deref(),
            Ok("HTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n<close>")
        );
        assert_eq!(reply(Response::new(304)).as_deref(), Ok("HTTP/1.1 304 Not Modified\r\n\r\n"));
        for fields in [[("X", "a\r\nSet-Cookie: b")], [("X", "a\0")], [("X y", "a")], [("", "a")]] {
            let result = reply(Response::new(200).with_fields(&fields));
            assert!(matches!(result, Err(EncodeError::Head { .. })), "{fields:?}: {result:?}");
        }
        for (status, body) in [(100, ""), (199, ""), (600, ""), (204, "x")] {
            let result = reply(Response::new(status).with_body(body));
            assert!(matches!(result, Err(EncodeError::Head { .. })), "{status}: {result:?}");
        }
    }

    #[test]
    fn what_a_client_sends_is_what_a_server_reads() {
        let client = Http::default().client("example.com");
        let mut wire = Vec::new();
        client.encode(b"GET / HTTP/1.1\r\n\r\n", &mut wire).expect("bytes are a body");
        let put = Request::new("PUT", "/x?y").with_fields(&[("A", "b")]).with_body("hello");
        client.reply(&Reply::from(put), &mut Exchange::None, &mut wire).expect("a request");
        let get = Request::new("GET", "/");
        client.reply(&Reply::from(get), &mut Exchange::None, &mut wire).expect("a request");
        let outcome = check::splits(&Http::default(), &wire).expect("the same in any pieces");
        assert_eq!(outcome.error, None);
        let requests: Vec<_> = outcome.messages().into_iter().filter_map(Request::read).collect();
        let said: Vec<_> = requests
            .iter()
            .map(|r| (r.method, r.target, r.body.escape_ascii().to_string()))
            .collect();
        assert_eq!(said[0], ("POST", "/", r"GET / HTTP/1.1\r\n\r\n".to_string()));
        assert_eq!(said[1], ("PUT", "/x?y", "hello".to_string()));
        assert_eq!(said[2], ("GET", "/", String::new()));
        assert_eq!(requests[1].fields.get("host"), Some(&b"example.com"[..]));

        for wrong in [
            Request::new("HEAD", "/"),
            Request::new("G T", "/"),
            Request::new("GET", "/ HTTP/1.1\r\n"),
            Request::new("GET", ""),
        ] {
            let before = wire.len();
            let result = client.reply(&Reply::from(wrong), &mut Exchange::None, &mut wire);
            assert!(matches!(result, Err(EncodeError::Head { .. })), "{wrong:?}");
            assert_eq!(wire.len(), before);
        }
    }

    #[test]
    fn a_response_has_a_date_once_the_time_is_known() {
        let text = answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n", |http, exchange, out| {
            http.set_time(u64::MAX);
            http.set_time(784_111_777);
            http.reply(&Reply::from("x"), exchange, out).expect("a reply");
        });
        assert!(text.contains("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{text}");
    }
}
