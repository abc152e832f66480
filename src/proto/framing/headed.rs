//! Messages that have a head: requests and responses of HTTP, read and written.
//!
//! ```text
//!  GET /x HTTP/1.1 CR LF  Host: a CR LF  CR LF  hello
//!  └ method, target       └ fields              └ body      Request
//!  HTTP/1.1 200 OK CR LF  Date: .. CR LF  CR LF  hello
//!           └ status      └ fields               └ body     Response
//! ```
//!
//! Both borrow all they have. One that was read from a message can be replied as it is.

use memchr::{memchr, memmem};

/// What [`Context::reply`](crate::Context::reply) takes: bytes, which every framing
/// carries, or a message with a head, for a framing that has heads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Reply<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// An HTTP response.
    Response(Response<'a>),
    /// An HTTP request, to a server that we called.
    Request(Request<'a>),
}

impl Reply<'_> {
    /// Bytes that it takes at least.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Response(response) => response.body.len(),
            Self::Request(request) => request.body.len(),
        }
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Reply<'a> {
    fn from(bytes: &'a T) -> Self {
        Self::Bytes(bytes.as_ref())
    }
}

impl<'a> From<Response<'a>> for Reply<'a> {
    fn from(response: Response<'a>) -> Self {
        Self::Response(response)
    }
}

impl<'a> From<Request<'a>> for Reply<'a> {
    fn from(request: Request<'a>) -> Self {
        Self::Request(request)
    }
}

/// An HTTP request.
///
/// ```
/// use oneloop::Request;
///
/// let message = b"POST /sum HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\n1+2";
/// let request = Request::read(message).ok_or("no request")?;
/// assert_eq!((request.method, request.target), ("POST", "/sum"));
/// assert_eq!(request.fields.get("host"), Some(&b"example.com"[..]));
/// assert_eq!(request.body, b"1+2");
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As sent: upper and lower case differ.
    pub method: &'a str,
    /// Path and query, or what else stands there.
    pub target: &'a str,
    /// What follows the first line.
    pub fields: Fields<'a>,
    /// The body, its chunks joined.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A request without fields and body.
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Self { method, target, fields: Fields::List(&[]), body: &[] }
    }

    /// The request in a message that framing `http` delivers; `None` if there is none.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let (line, fields, body) = split(message)?;
        let (method, rest) = line.split_once(' ')?;
        let (target, version) = rest.split_once(' ')?;
        version.starts_with("HTTP/1.").then_some(Self { method, target, fields, body })
    }

    /// With these fields, names and values. Those that say how the message is framed
    /// are the framing's to write, and are left out: see [`Fields::OF_FRAMING`].
    pub fn with_fields(mut self, fields: &'a [(&'a str, &'a str)]) -> Self {
        self.fields = Fields::List(fields);
        self
    }

    /// With this body.
    pub fn with_body<T: AsRef<[u8]> + ?Sized>(mut self, body: &'a T) -> Self {
        self.body = body.as_ref();
        self
    }
}

/// An HTTP response.
///
/// ```
/// use oneloop::{Context, Request, Response, Served};
///
/// fn serve(cx: &mut Context<'_>, message: &[u8]) -> Served {
///     match Request::read(message) {
///         Some(Request { method: "GET", target: "/", .. }) => cx.reply("hello\n"),
///         _ => cx.reply(Response::new(404).with_body("no such page\n")),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// 200 to 599. The phrase behind it is the framing's.
    pub status: u16,
    /// What follows the first line.
    pub fields: Fields<'a>,
    /// The body, its chunks joined.
    pub body: &'a [u8],
    /// Whether the connection ends with it.
    pub close: bool,
}

impl<'a> Response<'a> {
    /// A response without fields and body, after which the connection goes on.
    pub fn new(status: u16) -> Self {
        Self { status, fields: Fields::List(&[]), body: &[], close: false }
    }

    /// The response in a message that framing `http` delivers to who called a server;
    /// `None` if there is none.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let (line, fields, body) = split(message)?;
        let (version, rest) = line.split_once(' ')?;
        let status = rest.get(..3)?.parse().ok()?;
        version.starts_with("HTTP/1.").then_some(Self { status, fields, body, close: false })
    }

    /// With these fields, names and values. Those that say how the message is framed
    /// are the framing's to write, and are left out: see [`Fields::OF_FRAMING`].
    pub fn with_fields(mut self, fields: &'a [(&'a str, &'a str)]) -> Self {
        self.fields = Fields::List(fields);
        self
    }

    /// With this body.
    pub fn with_body<T: AsRef<[u8]> + ?Sized>(mut self, body: &'a T) -> Self {
        self.body = body.as_ref();
        self
    }

    /// The last of its connection.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

/// The fields of a head: names and values.
#[derive(Clone, Copy, Debug)]
pub enum Fields<'a> {
    /// To be written.
    List(&'a [(&'a str, &'a str)]),
    /// As they came: lines, each with its CR LF.
    Wire(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// Names that the framing writes by itself, and so leaves out of what it is given.
    pub const OF_FRAMING: [&'static str; 6] =
        ["Connection", "Content-Length", "Date", "Keep-Alive", "Transfer-Encoding", "Trailer"];

    /// The value of the first field of that name, in whatever case.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All of them, in their order; values without the white space around them.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self;
        std::iter::from_fn(move || match &mut rest {
            Self::List(list) => {
                let (&(name, value), after) = list.split_first()?;
                *list = after;
                Some((name, value.as_bytes()))
            }
            Self::Wire(bytes) => {
                let (line, after) = bytes.split_at(memchr(b'\n', bytes)? + 1);
                *bytes = after;
                let (name, value) = line.split_at(memchr(b':', line)?);
                Some((str::from_utf8(name).ok()?, value[1..].trim_ascii()))
            }
        })
    }
}

/// First line, fields and body of a message whose head is known to be right.
fn split(message: &[u8]) -> Option<(&str, Fields<'_>, &[u8])> {
    let blank = memmem::find(message, b"\r\n\r\n")?;
    let line_end = memmem::find(message, b"\r\n")?;
    let line = str::from_utf8(&message[..line_end]).ok()?;
    // Without fields both are the same CR LF.
    let fields = &message[(line_end + 2).min(blank + 2)..blank + 2];
    Some((line, Fields::Wire(fields), &message[blank + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_sent() {
        let request = Request::read(
            b"PUT /a?b HTTP/1.1\r\nHost:\texample.com \r\nempty:\r\nX: \xff\r\n\r\n\r\n\r\nbody",
        )
        .expect("a request");
        assert_eq!((request.method, request.target), ("PUT", "/a?b"));
        let fields: Vec<_> = request.fields.iter().collect();
        let expected = [("Host", &b"example.com"[..]), ("empty", b""), ("X", b"\xff")];
        assert_eq!(fields, expected);
        assert_eq!(request.fields.get("HOST"), Some(&b"example.com"[..]));
        assert_eq!((request.fields.get("none"), request.body), (None, &b"\r\n\r\nbody"[..]));

        let response = Response::read(b"HTTP/1.1 404 Not Found\r\n\r\n").expect("a response");
        assert_eq!((response.status, response.body), (404, &b""[..]));
        assert_eq!(response.fields.iter().count(), 0);
    }

    #[test]
    fn what_is_neither_is_none() {
        for bytes in [&b""[..], b"hello", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\r\n\r\n"] {
            assert!(Request::read(bytes).is_none(), "{}", bytes.escape_ascii());
            assert!(Response::read(bytes).is_none(), "{}", bytes.escape_ascii());
        }
        assert!(Response::read(b"HTTP/1.1 4\xc3\xa4 x\r\n\r\n").is_none());
    }
}
