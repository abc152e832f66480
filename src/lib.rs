//! One loop, many clients: a framed-message TCP server on one thread.
//!
//! ```text
//!                       one thread, one mio::Poll
//!  bytes ─▶ Conn ─▶ Framing::decode ─▶ Service::message ─▶ Encode::encode ─▶ Conn ─▶ bytes
//!           │                              │
//!           └ half a message waits in      └ sends to others, broadcasts, closes and
//!             the loop's pool                timers wait in the loop's post
//! ```
//!
//! ```no_run
//! use oneloop::{Context, Lines, Server};
//!
//! # fn main() -> std::io::Result<()> {
//! Server::bind("127.0.0.1:7000", Lines::default())?
//!     .run(|cx: &mut Context<'_>, message: &[u8]| cx.reply(message))
//! # }
//! ```
//!
//! - A [`Framing`] says where messages end. Built in: [`Lines`], [`Delimited`],
//!   [`Stuffed`], [`Fixed`], [`LengthField`], [`Varint`], [`Decimal`], [`Resp`],
//!   [`Modbus`], [`Json`], [`Xml`], `Http` (feature `http`), [`Raw`]; [`AnyFraming`] is any of them, chosen by a
//!   word at run time; [`Pair`] has one for each direction. Messages never depend on how
//!   the network cut the bytes.
//! - A [`Service`] says what to do with messages. A closure is one; some are ready in
//!   [`services`].
//! - A [`Server`] is the loop. It runs by itself ([`Server::run`]), turn by turn in a
//!   loop of yours ([`Server::turn`], [`Server::deadline`]), and listens to other
//!   threads ([`Server::handle`]).
//! - [`Limits`] are on by default, each with a name, a unit and a consequence.
//!
//! The library starts no thread, catches no signal, sets no logger and changes no
//! process limit. Nothing a peer sends makes it panic or ends the loop.
//!
//! # Reading order
//!
//! A byte goes from socket to service and back through four files: [`proto::framing`]
//! (where does a message end?), [`proto::conn`] (one connection, without its socket),
//! `net/peer.rs` (the pump between kernel and connection) and `net/server.rs` (the
//! loop). Then [`net::Sys`], the door to the kernel, and `net/endpoint.rs`, which
//! holds the connections.

mod client;
#[cfg(feature = "load")]
pub mod load;
pub mod net;
pub mod proto;
mod retry;
pub mod services;
mod throttle;

pub use client::{Client, ClientError, ClientOptions, LostBy, Receiver, Sender, State};
#[doc(inline)]
pub use net::{
    Bound, Counters, Handle, HandleError, Limits, Mio, Prefix, Rate, Server, Sys, Turn, WhenFull,
};
#[doc(inline)]
pub use proto::dial::{ConnectError, Dial, Target};
#[cfg(feature = "http")]
#[doc(inline)]
pub use proto::framing::Http;
#[doc(inline)]
pub use proto::framing::{
    AnyFraming, ConfigError, Decimal, Decoded, Delimited, Encode, EncodeError, Endian, Fields,
    Fixed, FrameError, Framing, Guess, Json, LengthField, LineEnd, Lines, MAX_MESSAGE, Modbus,
    Pair, Raw, Reply, Request, Resp, Response, Rest, SpecProblem, Stuffed, Varint, Xml, parse_size,
};
#[doc(inline)]
pub use proto::service::{
    Audience, CloseReason, ConnId, Context, EndpointId, PeerAddr, Served, Service, Traffic,
};
pub use retry::Retry;
