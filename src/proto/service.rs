//! What a program does with messages: the trait to implement, and what it may ask
//! of the loop while it does.
//!
//! ```text
//!                   ┌─▶ reply ────────▶ out, with the replies to the same read
//!  message ▶ Service┤
//!                   └─▶ send, broadcast, connect, close, set_timer, shutdown
//!                         └─▶ Post: applied after this connection's turn
//! ```
//!
//! A service sees messages and names of connections. It knows no framing, no
//! socket and no buffer, and nothing it calls comes back into it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::conn::OutputLimits;
use super::dial::{ConnectError, Dial};
use super::framing::{
    Encode, EncodeError, Encoder, Exchange, FrameError, Guess, Lines, Reply, make_room,
};
use super::post::{Order, Post};

/// What came of serving: the error, if there is one, that closes the connection.
pub type Served = Result<(), EncodeError>;

/// A server's behaviour: what to do with each message.
///
/// A closure from context and message is a service:
///
/// ```
/// use oneloop::{Context, Service};
///
/// fn is_service(_: impl Service) {}
/// is_service(|cx: &mut Context<'_>, message: &[u8]| cx.reply(message));
/// ```
///
/// Methods return what [`Context::reply`] returns, so `?` works in them. An error
/// that is handed on closes the connection with [`CloseReason::BadReply`], after
/// the replies before it.
///
/// A panic in any of them closes that one connection, at once and with
/// [`CloseReason::HandlerPanic`]: its replies that have not left are lost, what it sent to
/// others is not. The service itself lives on as the panic has left it. (Where
/// [`Limits::abort_on_panic`](crate::Limits::abort_on_panic) is set, or panics do not
/// unwind, the program ends instead.)
pub trait Service {
    /// What the service remembers of each connection.
    type Session: Default;

    /// A connection was accepted, or one of ours was. Default: nothing happens.
    ///
    /// # Errors
    ///
    /// Closes the connection.
    fn opened(&mut self, _cx: &mut Context<'_>, _session: &mut Self::Session) -> Served {
        Ok(())
    }

    /// A message came in. It lies in the loop's buffer: copy what is to be kept.
    ///
    /// # Errors
    ///
    /// Closes the connection.
    fn message(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Self::Session,
        message: &[u8],
    ) -> Served;

    /// The peer's bytes are not a message. If that can be skipped, the connection
    /// goes on, else it closes after what is replied here. A peer that finished
    /// sending in the middle of one ([`FrameError::Truncated`]) is told of as well.
    /// Default: nothing.
    ///
    /// # Errors
    ///
    /// Closes the connection.
    fn bad_input(
        &mut self,
        _cx: &mut Context<'_>,
        _session: &mut Self::Session,
        _error: &FrameError,
    ) -> Served {
        Ok(())
    }

    /// The peer has finished sending, and all its messages have been served. By default
    /// the connection closes when the replies have left; a service that has more to say
    /// later calls [`Context::keep_open`] here.
    ///
    /// # Errors
    ///
    /// Closes the connection.
    fn finished(&mut self, _cx: &mut Context<'_>, _session: &mut Self::Session) -> Served {
        Ok(())
    }

    /// The time set with [`Context::set_timer`] has come. Default: nothing.
    ///
    /// # Errors
    ///
    /// Closes the connection.
    fn timer(&mut self, _cx: &mut Context<'_>, _session: &mut Self::Session) -> Served {
        Ok(())
    }

    /// The connection is over; called once for each that was opened, and for each of
    /// ours that could not be, mostly with [`CloseReason::ConnectFailed`]. Replies go
    /// nowhere any more, messages to others do. Default: nothing.
    fn closed(
        &mut self,
        _cx: &mut Context<'_>,
        _session: &mut Self::Session,
        _reason: CloseReason,
    ) {
    }
}

impl<T> Service for T
where
    T: FnMut(&mut Context<'_>, &[u8]) -> Served,
{
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        self(cx, message)
    }
}

/// What a service may do while it is called.
pub struct Context<'a> {
    pub(super) encoder: Encoder<'a>,
    pub(super) replies: &'a mut Vec<u8>,
    pub(super) post: &'a mut Post,
    pub(super) traffic: &'a mut Traffic,
    pub(super) info: &'a CallInfo,
    /// Bytes that waited for this connection before this call.
    pub(super) queued: usize,
    /// So many bytes of replies are enough for now; 0 from when on any other reason to serve
    /// no further message is known. One comparison a message asks for all of them.
    pub(super) stop_at: usize,
    /// Where the messages lie, if there is no LF in any.
    pub(super) lines: Region,
    pub(super) verdict: Option<Verdict>,
    /// The service has more to say though the peer has not.
    pub(super) goes_on: bool,
    /// Whether a reply depends on its message.
    pub(super) converses: bool,
    /// What is known of the message that is served.
    pub(super) exchange: Exchange,
    pub(super) guess: Option<Guess>,
}

/// Who and when: what stays the same during one connection's turn.
#[derive(Clone, Debug)]
pub struct CallInfo {
    /// The connection.
    pub id: ConnId,
    /// The other end.
    pub peer: PeerAddr,
    /// Time since the loop began.
    pub now: Duration,
    /// Connections open on this endpoint.
    pub connections: usize,
    /// How much may wait to be sent.
    pub output: OutputLimits,
    /// Why the connection did not come to be.
    pub connect_error: Option<ConnectError>,
}

/// How a connection's own service ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// In order: what is queued is sent first.
    Close(CloseReason),
    /// At once: what is queued is lost.
    Abort(CloseReason),
    /// At once, and the peer is told by RST.
    Reset,
}

impl Context<'_> {
    /// Sends `message` to the peer whose message is being served.
    ///
    /// Replies to one read leave together, in one system call. In HTTP each message gets
    /// one, and it may be a [`Response`](crate::Response).
    ///
    /// # Errors
    ///
    /// The framing cannot carry it. Or it would pass the hard limit of queued output, or
    /// there is no memory for it: then the connection closes, with
    /// [`CloseReason::OutputCap`] or [`CloseReason::Memory`].
    // Inlined: the call, and handing its error back, cost a short line a third of its way out.
    #[inline(always)]
    pub fn reply<'m>(&mut self, message: impl Into<Reply<'m>>) -> Result<(), EncodeError> {
        match (message.into(), self.encoder) {
            (Reply::Bytes(message), Encoder::Lines(lines)) if self.reply_line(message, lines) => {
                Ok(())
            }
            (Reply::Bytes(message), _) if !self.converses => self.reply_bytes(message),
            (reply, _) => self.reply_with(&reply),
        }
    }

    /// The short way of nearly all lines: no limit is near. False: nothing was done.
    #[inline(always)]
    fn reply_line(&mut self, message: &[u8], lines: &Lines) -> bool {
        let left = self.stop_at.saturating_sub(self.replies.len());
        // Of the lines, a service has none but the one that is served, or parts of it.
        let replied = left > message.len() + Lines::LONGEST_END
            && lines.append(message, self.lines.holds(message), self.replies);
        if replied {
            count(&mut self.traffic.messages_out);
        }
        replied
    }

    #[inline(never)]
    fn reply_bytes(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let before = self.room_for(message.len())?;
        match self.encoder {
            Encoder::Lines(lines) => lines.encode(message, self.replies)?,
            Encoder::LengthField(field) => field.encode(message, self.replies)?,
            Encoder::Other(encoder) => encoder.encode(message, self.replies)?,
        }
        self.replied(before)
    }

    #[inline(never)]
    fn reply_with(&mut self, reply: &Reply<'_>) -> Result<(), EncodeError> {
        let before = self.room_for(reply.len())?;
        let encoder: &dyn Encode = match self.encoder {
            Encoder::Lines(lines) => lines,
            Encoder::LengthField(field) => field,
            Encoder::Other(encoder) => encoder,
        };
        encoder.reply(reply, &mut self.exchange, self.replies)?;
        self.replied(before)
    }

    /// Where a reply of `len` bytes begins, once there is memory for it.
    #[inline(always)]
    fn room_for(&mut self, len: usize) -> Result<usize, EncodeError> {
        if let Err(error) = make_room(self.replies, len) {
            self.end(Verdict::Abort(CloseReason::Memory));
            return Err(error);
        }
        Ok(self.replies.len())
    }

    /// A reply stands behind the bytes that were there `before`.
    #[inline(always)]
    fn replied(&mut self, before: usize) -> Result<(), EncodeError> {
        let (queued, max) = (self.queued + self.replies.len(), self.info.output.max);
        if queued > max {
            self.replies.truncate(before);
            self.end(Verdict::Abort(CloseReason::OutputCap));
            return Err(EncodeError::OutputFull { queued, max });
        }
        count(&mut self.traffic.messages_out);
        Ok(())
    }

    /// The connection ends after this message.
    pub(super) fn end(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
        self.stop_at = 0;
    }

    /// What was posted may be so much that it leaves before the next message is served.
    fn posted(&mut self, sent: Served) -> Served {
        if self.post.is_heavy() {
            self.stop_at = 0;
        }
        sent
    }

    /// Sends `message` to another connection, of any endpoint, in that endpoint's
    /// framing. Leaves at the end of the turn. If the connection is gone by then,
    /// or has no room, that is counted and no error.
    ///
    /// # Errors
    ///
    /// That framing cannot carry it, or one call of a service has sent more than
    /// 16 MiB. Handed on with `?`, it closes the connection that is being served.
    pub fn send(&mut self, to: ConnId, message: &[u8]) -> Result<(), EncodeError> {
        let sent = self.post.send(to, message);
        self.posted(sent)
    }

    /// Sends `message` to each of `to`, encoded once. All must be of the endpoint of
    /// the first; others are left out, since their framing may be another.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_all(
        &mut self,
        to: impl IntoIterator<Item = ConnId>,
        message: &[u8],
    ) -> Result<(), EncodeError> {
        let sent = self.post.send_all(to, message);
        self.posted(sent)
    }

    /// Sends `message` to everyone on this endpoint, encoded once. "Everyone" is who
    /// is open when it leaves, at the end of the turn; someone who was accepted a
    /// moment later may be among them.
    ///
    /// Whoever adds a name in front of what a peer said needs room for it: a larger
    /// limit on the way out than on the way in, which a [`Pair`](crate::Pair) has.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn broadcast(&mut self, to: Audience, message: &[u8]) -> Result<(), EncodeError> {
        let sent = self.post.broadcast(self.info.id, to, message);
        self.posted(sent)
    }

    /// Opens a connection of endpoint `on`, whose framing, service and limits it has, as
    /// if it had been accepted there. The name is good at once: what is
    /// [sent](Self::send) to it waits until it is connected, up to the hard limit of
    /// output.
    ///
    /// When that is done [`Service::opened`] is called; when it has failed,
    /// [`Service::closed`] with [`CloseReason::ConnectFailed`].
    ///
    /// Addresses must be known: looking up a name would hold up everyone. See
    /// [`Dial::resolve`] for names that can be looked up before.
    pub fn connect(&mut self, on: EndpointId, to: impl Into<Dial>) -> ConnId {
        self.post.connect(on, to.into())
    }

    /// Ends this connection after this message: what is queued is sent, what the
    /// peer sends from now on is thrown away, then the connection closes.
    pub fn close_after_flush(&mut self) {
        self.end(Verdict::Close(CloseReason::AppClose));
    }

    /// Ends this connection at once with RST: what is queued is lost, and neither end waits
    /// for the other.
    pub fn reset(&mut self) {
        self.end(Verdict::Reset);
    }

    /// Ends any connection, this one included. In order as
    /// [`close_after_flush`](Self::close_after_flush) does; messages sent to it
    /// before still arrive.
    pub fn close(&mut self, id: ConnId) {
        if id == self.info.id {
            self.close_after_flush();
        } else {
            self.post.order(Order::Close(id));
        }
    }

    /// Finishes sending to any connection, this one included: what is queued is sent, then
    /// FIN. What the peer sends is still served, until it finishes, too; replies go nowhere.
    pub fn finish(&mut self, id: ConnId) {
        self.post.order(Order::Finish(id));
    }

    /// Keeps this connection though its peer has finished sending, until it is closed; only
    /// while [`Service::finished`] is called. A peer that is gone is then found when
    /// something is sent to it, or by TCP keepalive.
    pub fn keep_open(&mut self) {
        self.goes_on = true;
    }

    /// Has [`Service::timer`] called for this connection in `after`; exact to a
    /// millisecond or two. One timer a connection: setting it again moves it.
    pub fn set_timer(&mut self, after: Duration) {
        self.post.order(Order::Timer(self.info.id, self.info.now.saturating_add(after)));
    }

    /// Ends the server in order, as [`Handle::shutdown`](crate::Handle::shutdown).
    pub fn shutdown(&mut self) {
        self.post.order(Order::Shutdown);
    }

    /// The name of this connection.
    pub fn id(&self) -> ConnId {
        self.info.id
    }

    /// The address of the peer.
    pub fn peer(&self) -> PeerAddr {
        self.info.peer
    }

    /// What the peer seems to speak instead, while [`Service::bad_input`] is called for
    /// its first message.
    pub fn guess(&self) -> Option<Guess> {
        self.guess
    }

    /// Why the connection did not come to be, while [`Service::closed`] is called for
    /// [`CloseReason::ConnectFailed`].
    pub fn connect_error(&self) -> Option<ConnectError> {
        self.info.connect_error
    }

    /// Time since the loop began, as it was when this turn began.
    pub fn now(&self) -> Duration {
        self.info.now
    }

    /// Connections open on this endpoint: this one is among them until it is closed.
    pub fn connections(&self) -> usize {
        self.info.connections
    }

    /// Whether the next message waits: the connection ends, or there is enough output, queued
    /// for it or by it for others.
    #[inline(always)]
    pub(super) fn is_to_stop(&self) -> bool {
        self.replies.len() >= self.stop_at
    }
}

/// Where bytes lie in memory, to tell whether others are a part of them.
#[derive(Clone, Copy, Default)]
pub(super) struct Region {
    start: usize,
    len: usize,
}

impl Region {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { start: bytes.as_ptr().addr(), len: bytes.len() }
    }

    /// Whether `part` begins in here, and then it ends in here as well: no slice goes on from
    /// one piece of memory to another.
    #[inline(always)]
    fn holds(self, part: &[u8]) -> bool {
        part.as_ptr().addr().wrapping_sub(self.start) < self.len
    }
}

/// One more. Unchecked: at one a nanosecond it takes 580 years to overflow.
#[inline(always)]
pub(super) fn count(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}

/// Who hears a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every connection of the endpoint.
    Everyone,
    /// Every connection but the one whose service is speaking.
    Others,
}

/// Names an endpoint of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointId(pub(crate) u8);

/// The name of a connection; never used for another one.
///
/// ```text
///            63  62..32        31..24     23..0
///  accepted  0   generation    endpoint   index
///  our own   1   number        endpoint   DIALED
/// ```
///
/// One that we open ourselves is named before it has a slot, so its number is its name.
///
/// Outlives its connection safely: what is sent to a connection that is gone goes
/// nowhere. (A name would come again after 2^31 connections in the same slot.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// The largest index.
    pub(crate) const MAX_INDEX: usize = (1 << 24) - 1;
    /// The index in the names of connections that we open ourselves. Slots have smaller
    /// ones, and larger ones are left to what is no connection.
    pub(crate) const DIALED: usize = Self::MAX_INDEX - 256;
    /// Set in the generation of connections that we opened ourselves.
    pub(crate) const OURS: u32 = 1 << 31;

    /// The name of connection `index`, below 2^24, of an endpoint. Servers name their
    /// connections themselves; this is for who drives a
    /// [`Conn`](crate::proto::conn::Conn) alone.
    pub fn new(endpoint: u8, index: usize, generation: u32) -> Self {
        let index = index & Self::MAX_INDEX;
        Self(u64::from(generation) << 32 | u64::from(endpoint) << 24 | index as u64)
    }

    /// The name of a connection of ours, by the number it was given.
    pub(crate) fn dialed(endpoint: u8, number: u32) -> Self {
        Self::new(endpoint, Self::DIALED, number | Self::OURS)
    }

    pub(crate) fn is_dialed(self) -> bool {
        self.index() == Self::DIALED
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn endpoint(self) -> u8 {
        (self.0 >> 24) as u8
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize & Self::MAX_INDEX
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}.{}", self.endpoint(), self.index(), self.generation())
    }
}

/// The other end of a connection, in 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// IPv4 address and port.
    V4(SocketAddrV4),
    /// IPv6 address and port.
    V6(Ipv6Addr, u16),
    /// A Unix socket. Its callers have no address; this is their number, from 1 on, in
    /// the order of their calls. 0 is one that we called.
    Unix(u32),
}

impl PeerAddr {
    /// The address without its port; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::V4(addr) => Some(IpAddr::V4(*addr.ip())),
            Self::V6(ip, _) => Some(IpAddr::V6(*ip)),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::V4(addr),
            SocketAddr::V6(addr) => Self::V6(*addr.ip(), addr.port()),
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(addr) => addr.fmt(f),
            Self::V6(ip, port) => write!(f, "[{ip}]:{port}"),
            Self::Unix(0) => write!(f, "unix"),
            Self::Unix(number) => write!(f, "unix#{number}"),
        }
    }
}

/// Why a connection ended. The first reason is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer finished sending, between two messages.
    PeerEof,
    /// The peer reset the connection, or is gone.
    PeerReset,
    /// The peer finished sending in the middle of a message.
    Truncated,
    /// The peer's bytes are not messages.
    BadFrame,
    /// A message was larger than the limit.
    TooLong,
    /// A message took longer to arrive than its clock allows.
    FrameDeadline,
    /// Nothing came for as long as the idle clock allows.
    Idle,
    /// The peer took too little of what waited for it.
    WriteStall,
    /// More output than the hard limit would have waited.
    OutputCap,
    /// All connections together would have held more than the memory budget, or others
    /// waited for a second since nearly all of it was held, and this one held the most. Or
    /// the system had no memory for what it sent, or was to be sent.
    Memory,
    /// All connections were in use and newcomers are refused, or no descriptor was
    /// left.
    MaxConnections,
    /// Its address had as many connections as one may have.
    PerIp,
    /// Its address connected too often, or it made mistakes too often.
    Rate,
    /// All connections were in use, and it had been silent for the longest time.
    Evicted,
    /// The kernel would not watch the socket.
    RegisterFailed,
    /// Another error of the socket.
    IoError,
    /// The service closed it.
    AppClose,
    /// The service gave a reply that cannot be sent.
    BadReply,
    /// The service panicked.
    HandlerPanic,
    /// The server shut down.
    Shutdown,
    /// We called, and came to no connection.
    ConnectFailed,
}

impl CloseReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 21] = [
        Self::PeerEof,
        Self::PeerReset,
        Self::Truncated,
        Self::BadFrame,
        Self::TooLong,
        Self::FrameDeadline,
        Self::Idle,
        Self::WriteStall,
        Self::OutputCap,
        Self::Memory,
        Self::MaxConnections,
        Self::PerIp,
        Self::Rate,
        Self::Evicted,
        Self::RegisterFailed,
        Self::IoError,
        Self::AppClose,
        Self::BadReply,
        Self::HandlerPanic,
        Self::Shutdown,
        Self::ConnectFailed,
    ];

    /// The word for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PeerEof => "peer_eof",
            Self::PeerReset => "peer_reset",
            Self::Truncated => "truncated",
            Self::BadFrame => "bad_frame",
            Self::TooLong => "too_long",
            Self::FrameDeadline => "frame_deadline",
            Self::Idle => "idle",
            Self::WriteStall => "write_stall",
            Self::OutputCap => "output_cap",
            Self::Memory => "memory",
            Self::MaxConnections => "max_connections",
            Self::PerIp => "per_ip",
            Self::Rate => "rate",
            Self::Evicted => "evicted",
            Self::RegisterFailed => "register_failed",
            Self::IoError => "io_error",
            Self::AppClose => "app_close",
            Self::BadReply => "bad_reply",
            Self::HandlerPanic => "handler_panic",
            Self::Shutdown => "shutdown",
            Self::ConnectFailed => "connect_failed",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&FrameError> for CloseReason {
    fn from(error: &FrameError) -> Self {
        match error {
            FrameError::TooLong { .. } => Self::TooLong,
            FrameError::Truncated { .. } => Self::Truncated,
            FrameError::BadLength { .. }
            | FrameError::BareLf { .. }
            | FrameError::BadByte { .. }
            | FrameError::Between { .. }
            | FrameError::TooDeep { .. }
            | FrameError::TooShort { .. }
            | FrameError::Invalid { .. }
            | FrameError::NoProgress => Self::BadFrame,
        }
    }
}

/// What went through, counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages passed to the service.
    pub messages_in: u64,
    /// Messages encoded for a peer: replies, and each delivery of the others.
    pub messages_out: u64,
    /// Messages that were skipped, because they were too long, for one.
    pub skipped: u64,
    /// Errors of framing that ended a connection.
    pub bad_frames: u64,
    /// Those of them by peers that seem to speak another protocol: see
    /// [`Guess`].
    pub other_protocols: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_back_its_parts() {
        let id = ConnId::new(254, ConnId::MAX_INDEX, u32::MAX);
        assert_eq!(
            (id.endpoint(), id.index(), id.generation()),
            (254, ConnId::MAX_INDEX, u32::MAX)
        );
        assert_eq!(ConnId::from_bits(ConnId::new(1, 2, 3).bits()), ConnId::new(1, 2, 3));
        assert_eq!(ConnId::new(1, 2, 3).to_string(), "#1.2.3");
    }

    #[test]
    fn reasons_stand_in_the_order_of_their_counters() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
        }
    }

    #[test]
    fn a_peer_takes_20_bytes_and_prints_like_a_socket_address() {
        assert_eq!(size_of::<PeerAddr>(), 20);
        for text in ["127.0.0.1:80", "[::1]:7000", "[fe80::1:2]:65535"] {
            let addr: SocketAddr = text.parse().unwrap();
            let peer = PeerAddr::from(addr);
            assert_eq!((peer.to_string(), peer.ip()), (text.to_string(), Some(addr.ip())));
        }
        assert_eq!(PeerAddr::Unix(7).to_string(), "unix#7");
        assert_eq!(PeerAddr::Unix(0).to_string(), "unix");
    }
}
