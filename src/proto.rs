//! Bytes to messages and back, without sockets.
//!
//! Nothing in here opens a socket, reads a clock or writes a log; a test holds
//! this module to it. Bytes, time and names of peers are arguments, so all of it
//! runs the same in a test, in a simulation and behind a real connection.

pub(crate) mod budget;
pub mod buffer;
pub mod conn;
pub mod dial;
pub mod framing;
pub mod post;
pub mod service;
pub mod tick;
