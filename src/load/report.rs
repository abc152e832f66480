//! What a run has to tell, as it is written to JSON: one event when it starts, one each
//! second, one at its end.
//!
//! Names carry their units. What is not known is `null`, never a number that means
//! something else. `docs/bench.schema.json` describes the same to other programs; a test
//! holds the two together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of this shape. It changes when a reader of the old one would go wrong.
pub const VERSION: u32 = 1;

/// What was asked for, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Whom it calls, as it was written.
    pub target: String,
    /// SPEC of what is sent.
    pub framing: String,
    /// SPEC of what comes back.
    pub reply_framing: String,
    /// Connections that send.
    pub connections: usize,
    /// Connections that are silent beside them.
    pub idle: usize,
    /// Connections that read slowly.
    pub slow: usize,
    /// Connections that send a byte now and then.
    pub drip: usize,
    /// When messages are sent.
    pub model: Model,
    /// Messages that wait for a reply at most, on one connection.
    pub depth: usize,
    /// Messages a second in all, if they are sent at a rate.
    pub rate_per_s: Option<f64>,
    /// Bytes of one message, without its frame.
    pub message_bytes: usize,
    /// How long it is to take, if that was said.
    pub duration_s: Option<f64>,
    /// How many replies are wanted, if that was said.
    pub requests: Option<u64>,
    /// Time before the measured part.
    pub warmup_s: f64,
    /// Descriptors that the process may have.
    pub nofile: Option<u64>,
    /// The machine.
    pub host: Host,
    /// The version of this program.
    pub version: String,
    /// The command, as it was given.
    pub command: Vec<String>,
    /// When it began, in seconds since 1970.
    pub started_unix_s: Option<u64>,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// The next one when a reply has come: a server that stalls stalls the load, too.
    #[default]
    Closed,
    /// At times that were fixed before.
    Open,
    /// One connection sends and all others hear it.
    Fanout,
    /// A connection for each message.
    Churn,
}

/// The machine that measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Processors that the process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The processor's name.
    pub cpu: Option<String>,
}

/// What went wrong, by kind. None of it is in a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Connections that did not come to be.
    pub connect: u64,
    /// Messages without a reply in time.
    pub timeout: u64,
    /// Connections that the server reset, or that broke.
    pub reset: u64,
    /// Connections that the server closed in order while a reply was due.
    pub closed: u64,
    /// Connections whose bytes were no messages.
    pub frame: u64,
    /// Replies that were not the message that was sent, or out of order.
    pub wrong: u64,
    /// Replies that nobody had asked for.
    pub unasked: u64,
}

impl Errors {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }

    /// With their names in JSON.
    pub fn by_kind(&self) -> [(&'static str, u64); 7] {
        [
            ("connect", self.connect),
            ("timeout", self.timeout),
            ("reset", self.reset),
            ("closed", self.closed),
            ("frame", self.frame),
            ("wrong", self.wrong),
            ("unasked", self.unasked),
        ]
    }
}

/// One second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it ended, since the run began, warm-up included.
    pub t_s: f64,
    /// How long it was.
    pub length_s: f64,
    /// Whether it belongs to the warm-up and is in no total.
    pub warmup: bool,
    /// Connections open at its end.
    pub open: usize,
    /// Messages sent in it.
    pub sent: u64,
    /// Replies that came in it.
    pub received: u64,
    /// What went wrong in it.
    pub errors: Errors,
    /// Latencies in it, corrected.
    pub latency_us: Option<Percentiles>,
    /// How late messages were sent that could have been sent.
    pub send_lag_p99_us: Option<f64>,
}

/// A distribution in a few numbers, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of them took no longer.
    pub p50: f64,
    /// Three quarters.
    pub p75: f64,
    /// Nine tenths.
    pub p90: f64,
    /// 99 in a hundred.
    pub p99: f64,
    /// 999 in a thousand.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// All.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// How many there were.
    pub count: u64,
}

/// Latency, measured in two ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// From when the message should have been sent. In a closed loop that is when it was.
    pub corrected: Option<Percentiles>,
    /// From when it was sent: what a stalled server hides.
    pub uncorrected: Option<Percentiles>,
}

/// Percentiles of latency by their names, like `p99.99`; none if nothing was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Of [`Latency::corrected`].
    pub corrected: BTreeMap<String, f64>,
    /// Of [`Latency::uncorrected`].
    pub uncorrected: BTreeMap<String, f64>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its time was over.
    #[default]
    Duration,
    /// All replies had come.
    Requests,
    /// A signal.
    Signal,
    /// No connection was left, or none came to be.
    NoConnection,
}

/// All of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// What was asked for.
    #[serde(flatten)]
    pub start: Start,
    /// Why it ended.
    pub reason: Reason,
    /// The measured time.
    pub elapsed_s: f64,
    /// Connections that were opened.
    pub connected: u64,
    /// Connections open at the end.
    pub open: usize,
    /// Messages sent in the measured time.
    pub sent: u64,
    /// Replies in the measured time.
    pub received: u64,
    /// The same in a second.
    pub received_per_s: f64,
    /// Bytes of those replies, without their frames.
    pub received_bytes: u64,
    /// Messages that were sent and not answered by the end. They are in no percentile.
    pub unanswered: u64,
    /// How long the oldest of them had been waited for.
    pub oldest_unanswered_us: Option<f64>,
    /// Messages that were due and had to wait for a reply before them, at the end.
    pub unsent: u64,
    /// What went wrong.
    pub errors: Errors,
    /// From message to reply.
    pub latency_us: Latency,
    /// Other percentiles that were asked for. The caller fills them in.
    pub percentiles_us: Option<Asked>,
    /// From calling to being connected.
    pub connect_us: Option<Percentiles>,
    /// How late messages were sent that could have been sent.
    pub send_lag_us: Option<Percentiles>,
    /// Whether this tool, and not the server, was the limit.
    pub generator_limited: bool,
    /// How it knows.
    pub generator: Generator,
    /// What a reader should know before believing the numbers.
    pub warnings: Vec<String>,
    /// The run by seconds.
    pub intervals: Vec<Interval>,
    /// The distributions themselves.
    pub histograms: Histograms,
}

/// What the tool itself did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// The part of the measured time that its thread was on a processor, 0 to 1.
    pub busy: Option<f64>,
    /// Whether it turned without sleeping, so that sends were not late: `busy` then says
    /// nothing.
    pub spins: bool,
    /// Why it was the limit, in words.
    pub why: Option<String>,
}

/// Distributions in nanoseconds, in the V2 form of HdrHistogram, base64: to be merged, and
/// to be drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histograms {
    /// [`Latency::corrected`].
    pub corrected: Option<String>,
    /// [`Latency::uncorrected`].
    pub uncorrected: Option<String>,
    /// [`End::connect_us`].
    pub connect: Option<String>,
    /// [`End::send_lag_us`].
    pub send_lag: Option<String>,
}

/// One line of a stream of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The first.
    Start(Start),
    /// One a second.
    Interval(Interval),
    /// The last, and the object of a run.
    End(Box<End>),
}

/// An event with the version of its shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`VERSION`].
    pub v: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl From<Event> for Line {
    fn from(event: Event) -> Self {
        Self { v: VERSION, event }
    }
}
