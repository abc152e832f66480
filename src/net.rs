//! Everything that can return EAGAIN: the loop, its sockets, its clocks.
//!
//! Knows connections and services only by their traits: no particular framing and
//! no particular service is named in here.

mod acceptor;
mod border;
mod counters;
mod dialer;
mod endpoint;
mod handle;
mod handover;
mod kernel;
mod limits;
mod peer;
mod prefix;
mod quota;
mod rate;
mod relief;
mod server;
mod sys;
mod timers;
mod unix;
mod worst_case;

pub use counters::Counters;
pub use endpoint::idle_bytes;
pub use handle::{Handle, HandleError};
pub use kernel::Mio;
pub use limits::{Limits, WhenFull};
pub use prefix::Prefix;
pub use rate::Rate;
pub use server::{Bound, Server, Turn};
pub use sys::{DialOptions, KernelBuffers, ListenOptions, Ready, Sys, Token, Watch};
