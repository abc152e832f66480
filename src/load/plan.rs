//! What to do: a run as it is asked for, before anything is opened.

use std::net::IpAddr;
use std::time::Duration;

use crate::proto::dial::Dial;

/// A run to make. Start from [`Plan::new`] and set what differs; the fields are what the
/// flags of `oneloop bench` say.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom to call.
    pub dial: Dial,
    /// Connections that send. Default: 1.
    pub connections: usize,
    /// Connections that are opened first and stay silent. Default: 0.
    pub idle: usize,
    /// Messages that may wait for a reply on one connection. Default: 1.
    pub depth: usize,
    /// When messages are sent. Default: when a reply has come.
    pub pace: Pace,
    /// How long the measured part takes; `None`: until `requests` have been answered.
    pub duration: Option<Duration>,
    /// Replies after which it ends. Default: no number.
    pub requests: Option<u64>,
    /// Time before the measured part, in which the same is done. Default: none.
    pub warmup: Duration,
    /// Connections opened in a second, at most. Default: as many as the kernel opens.
    pub connect_rate: Option<f64>,
    /// Addresses of our end that take turns. Default: the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// How long a reply may take; then its connection is closed. Default: for ever.
    pub reply_timeout: Option<Duration>,
    /// What is compared in replies. Default: nothing.
    pub check: Check,
    /// What a connection is for. Default: messages and replies.
    pub shape: Shape,
    /// Connections that read slowly, and how many bytes a second each.
    pub slow: Slow,
    /// Connections that send one byte of a message a second. Default: 0.
    pub drip: usize,
    /// The length of an [`Interval`](super::report::Interval). Default: a second.
    pub interval: Duration,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one when a reply has come.
    Closed,
    /// So many a second, over all connections in turn, whatever comes back.
    Total(f64),
    /// So many a second on each connection.
    Each(f64),
}

/// What is compared in replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// That there is one.
    Nothing,
    /// One in 16: that it is what was sent.
    Echo,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Messages, each with its reply.
    Requests,
    /// The first connection sends, all others hear it. Messages must be stamped.
    Fanout,
    /// One message and its reply; then it is closed, and another opened.
    Churn(EndBy),
}

/// How a connection of a churn ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndBy {
    /// In order.
    Fin,
    /// At once.
    Rst,
}

/// Connections that read slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    /// How many.
    pub connections: usize,
    /// What each reads, in bytes a second.
    pub bytes_per_s: usize,
}

impl Plan {
    /// One connection that sends a message, and the next when it is answered, for 10 s.
    pub fn new(dial: impl Into<Dial>) -> Self {
        Self {
            dial: dial.into(),
            connections: 1,
            idle: 0,
            depth: 1,
            pace: Pace::Closed,
            duration: Some(Duration::from_secs(10)),
            requests: None,
            warmup: Duration::ZERO,
            connect_rate: None,
            sources: Vec::new(),
            reply_timeout: None,
            check: Check::Nothing,
            shape: Shape::Requests,
            slow: Slow::default(),
            drip: 0,
            interval: Duration::from_secs(1),
        }
    }

    /// Messages a second in all, if they are sent at a rate.
    pub fn rate(&self) -> Option<f64> {
        match self.pace {
            Pace::Closed => None,
            Pace::Total(rate) => Some(rate),
            Pace::Each(rate) => Some(rate * self.connections as f64),
        }
    }

    /// Sockets that the run has open at once.
    pub fn sockets(&self) -> usize {
        self.connections + self.idle + self.slow.connections + self.drip
    }
}
