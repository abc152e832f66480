//! The flags of `oneloop bench`, common ones first.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::threshold::{self, Threshold};
use crate::units;

/// How much, how long and how fast.
#[derive(Args)]
pub(super) struct LoadFlags {
    /// Connections that send
    #[arg(short, long, value_name = "N", value_parser = units::count, default_value = "1")]
    pub(super) connections: usize,

    /// How long to measure [default: 10s, or until -n]
    #[arg(short, long, value_name = "TIME", value_parser = units::span)]
    pub(super) duration: Option<Duration>,

    /// Replies after which it ends
    #[arg(short = 'n', long, value_name = "N", value_parser = units::count)]
    pub(super) requests: Option<usize>,

    /// Messages in flight on each connection
    #[arg(short = 'P', long, value_name = "N", value_parser = units::count, default_value = "1")]
    pub(super) pipeline: usize,

    /// Messages a second over all connections, at fixed times, whatever comes back
    #[arg(short, long, value_name = "RATE", value_parser = units::rate)]
    pub(super) rate: Option<f64>,

    /// The same, a second and connection
    #[arg(long, value_name = "RATE", value_parser = units::rate, conflicts_with = "rate")]
    pub(super) rate_per_conn: Option<f64>,

    /// Time before, in which the same is done and nothing counts
    #[arg(long, value_name = "TIME", value_parser = units::span)]
    pub(super) warmup: Option<Duration>,
}

/// What is sent.
#[derive(Args)]
#[command(next_help_heading = "Message")]
pub(super) struct MessageFlags {
    /// Bytes of a message that suits the framing [default: 64]
    #[arg(short, long, value_name = "SIZE", value_parser = units::size)]
    #[arg(conflicts_with_all = ["message", "file", "get"])]
    pub(super) size: Option<usize>,

    /// The message; \n \r \t \0 \\ \x41 are understood
    #[arg(short, long, value_name = "TEXT", conflicts_with_all = ["file", "get"])]
    pub(super) message: Option<String>,

    /// Take -m as it is
    #[arg(long, requires = "message")]
    pub(super) raw: bool,

    /// The message is what is in this file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "get")]
    pub(super) file: Option<String>,

    /// GET this path instead of posting, with -f http
    #[arg(long, value_name = "PATH")]
    pub(super) get: Option<String>,

    /// A number and a time in the first 32 bytes of each; the order of replies is checked
    #[arg(long)]
    pub(super) stamp: bool,

    /// What replies have to be: echo compares one in 16
    #[arg(long, value_name = "WHAT")]
    pub(super) check: Option<CheckName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CheckName {
    Echo,
}

/// What connections do beside sending and waiting.
#[derive(Args)]
#[command(next_help_heading = "Connections")]
pub(super) struct ConnectionFlags {
    /// Silent connections beside those that send
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "0")]
    pub(super) idle: usize,

    /// Connections opened in a second [default: as many as the kernel takes]
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub(super) connect_rate: Option<f64>,

    /// How long connecting may take
    #[arg(long, value_name = "TIME", value_parser = units::span, default_value = "10s")]
    pub(super) connect_timeout: Duration,

    /// How long a reply may take; then its connection is closed [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = units::span)]
    pub(super) timeout: Option<Duration>,

    /// Our own addresses, in turn; each has some 28,000 ports
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub(super) source_ip: Vec<IpAddr>,

    /// The first connection sends, all others hear it; latency is one way
    #[arg(long, conflicts_with_all = ["churn", "check"])]
    pub(super) fanout: bool,

    /// A connection for each message, ended like this
    #[arg(long, value_name = "HOW", conflicts_with = "check")]
    pub(super) churn: Option<ChurnName>,

    /// Connections that read slowly
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "0")]
    pub(super) slow: usize,

    /// Bytes a second that those read
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "1k")]
    pub(super) slow_rate: usize,

    /// Connections that send a byte a second
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "0")]
    pub(super) drip: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ChurnName {
    Fin,
    Rst,
}

/// What is told, and to whom.
#[derive(Args)]
#[command(next_help_heading = "Results")]
pub(super) struct OutputFlags {
    /// The highest rate at which this holds, like 'p99<5ms'; -d is for each try [default: 3s]
    #[arg(long, value_name = "PROMISE", conflicts_with_all = ["requests", "rate_per_conn", "churn"])]
    pub(super) find_rate: Option<Threshold>,

    /// Exit with 99 if this holds, like 'p99>5ms', 'errors>0', 'rate<10k'; repeatable
    #[arg(long, value_name = "EXPR")]
    pub(super) fail_if: Vec<Threshold>,

    /// Percentiles to show, like 50,99,99.99
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = a_percent)]
    pub(super) percentiles: Vec<f64>,

    /// One JSON object at the end instead of text
    #[arg(long)]
    pub(super) json: bool,

    /// A JSON object a line: start, interval each second, end
    #[arg(long)]
    pub(super) json_stream: bool,

    /// Write the latencies for HdrHistogram's plotter
    #[arg(long, value_name = "FILE")]
    pub(super) hgrm: Option<PathBuf>,

    /// Write a page with curves, tables, the machine and the command
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,

    /// No progress, and no look at the machine before
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Add up runs that several processes made at once, from their --json
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["addr", "compare", "find_rate"])]
    pub(super) merge: Vec<PathBuf>,

    /// Put runs beside each other; A1,A2 B: two runs of A show its noise
    #[arg(long, value_name = "FILES", num_args = 1..)]
    #[arg(conflicts_with_all = ["addr", "find_rate", "json", "json_stream", "hgrm", "fail_if"])]
    pub(super) compare: Vec<String>,
}

fn a_percent(text: &str) -> Result<f64, String> {
    threshold::percent(text).ok_or("not a percentile, like 50 or 99.99".into())
}
