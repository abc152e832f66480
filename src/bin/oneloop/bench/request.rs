//! From flags to a plan; what cannot be is refused before anything is opened, with what can.

use std::net::ToSocketAddrs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oneloop::load::report::{Host, Model, Start};
use oneloop::load::{Check, EndBy, Message, Pace, Plan, STAMP_LEN, Shape, Slow};
use oneloop::{AnyFraming, Dial};

use super::Bench;
use super::flags::{CheckName, ChurnName};
use super::numbers::{count, many, per_second};
use super::payload::Payload;
use crate::Failure;
use crate::address::Address;
use crate::preflight::OTHER_DESCRIPTORS;
use crate::presets::SAME;

/// Above this no schedule of one thread is kept, whatever the machine.
const MOST_PER_S: f64 = 10e6;
/// Messages in flight on one connection.
const MOST_DEPTH: usize = 65_536;
/// A run has this many intervals at least, if it takes long enough.
const INTERVALS: u32 = 5;

/// All that a run needs.
pub(super) struct Asked {
    pub(super) plan: Plan,
    /// Decodes replies.
    pub(super) replies: AnyFraming,
    pub(super) message: Message,
    pub(super) start: Start,
}

impl Asked {
    /// What the flags say.
    pub(super) fn new(bench: &Bench, addr: &Address) -> Result<Self, Failure> {
        let refuse = Failure::Usage;
        let shape = shape(bench).map_err(refuse)?;
        let pace = pace(bench, shape).map_err(refuse)?;
        let descriptors = descriptors(bench).map_err(refuse)?;
        let framing = bench.framing.pair()?;
        let host = addr.to_string();
        let spec = bench.framing.messages();
        let stamped = bench.message.stamp || shape == Shape::Fanout;
        let message = payload(bench)
            .message(&framing.decode.for_client(&host), spec, stamped)
            .map_err(refuse)?;
        let dial = dial(addr)?.timeout(bench.connections.connect_timeout);
        let plan = plan(bench, dial, shape, pace);
        let start = start(bench, &plan, &message, &host, descriptors);
        Ok(Self { plan, replies: framing.encode.for_client(&host), message, start })
    }

    /// The same at another rate, for so long.
    pub(super) fn at_rate(&self, rate: f64, duration: Duration) -> Self {
        let mut plan = self.plan.clone();
        (plan.pace, plan.duration) = (Pace::Total(rate), Some(duration));
        plan.interval = interval(plan.duration);
        let mut start = self.start.clone();
        start.rate_per_s = Some(rate);
        start.duration_s = Some(duration.as_secs_f64());
        if start.model == Model::Closed {
            start.model = Model::Open;
        }
        Self { plan, replies: self.replies.clone(), message: self.message.clone(), start }
    }
}

fn payload(bench: &Bench) -> Payload<'_> {
    let flags = &bench.message;
    match (&flags.message, &flags.file, &flags.get) {
        (Some(text), ..) => Payload::Text(text, !flags.raw),
        (_, Some(path), _) => Payload::File(path),
        (.., Some(path)) => Payload::Get(path),
        _ => Payload::Size(flags.size),
    }
}

fn shape(bench: &Bench) -> Result<Shape, String> {
    let (load, connections) = (&bench.load, &bench.connections);
    if load.pipeline == 0 || load.pipeline > MOST_DEPTH {
        let asked = load.pipeline;
        return Err(format!(
            "-P {asked} is not possible; 1 to {MOST_DEPTH} messages in flight are"
        ));
    }
    let shape = match (connections.fanout, connections.churn) {
        (true, _) => Shape::Fanout,
        (_, Some(ChurnName::Fin)) => Shape::Churn(EndBy::Fin),
        (_, Some(ChurnName::Rst)) => Shape::Churn(EndBy::Rst),
        _ => Shape::Requests,
    };
    let beside = connections.idle + connections.slow + connections.drip;
    match shape {
        Shape::Fanout if load.connections < 2 => Err(format!(
            "--fanout takes one that sends and one that hears: -c 2, not -c {}",
            load.connections
        )),
        Shape::Fanout if bench.message.get.is_some() => {
            Err(format!("--fanout stamps its messages, {STAMP_LEN} bytes, and a GET has none"))
        }
        Shape::Fanout | Shape::Churn(_) if load.pipeline > 1 => Err(format!(
            "-P {} is for messages with replies on one connection; leave it out",
            load.pipeline
        )),
        _ if load.connections == 0 && beside == 0 => {
            Err("-c 0 leaves nothing to do; say -c 1 at least, or --idle N".into())
        }
        _ if load.requests == Some(0) => Err("-n 0 leaves nothing to do; say -n 1 at least".into()),
        shape => Ok(shape),
    }
}

fn pace(bench: &Bench, shape: Shape) -> Result<Pace, String> {
    let load = &bench.load;
    let pace = match (load.rate, load.rate_per_conn) {
        (Some(rate), _) => Pace::Total(rate),
        (None, Some(rate)) => Pace::Each(rate),
        (None, None) => return Ok(Pace::Closed),
    };
    let total = match pace {
        Pace::Each(rate) => rate * load.connections as f64,
        Pace::Total(rate) => rate,
        Pace::Closed => 0.0,
    };
    match shape {
        Shape::Churn(_) => {
            Err("--churn goes as fast as connections are made; leave the rate out".into())
        }
        Shape::Fanout if matches!(pace, Pace::Each(_)) => {
            Err("with --fanout one connection sends; say its rate with -r".into())
        }
        _ if load.connections == 0 => {
            Err("a rate takes connections to send on; say -c 1 at least".into())
        }
        _ if total > MOST_PER_S => Err(format!(
            "{} is more than one thread can keep to; {} is possible at most, and more comes of \
             several processes and --merge",
            per_second(total),
            per_second(MOST_PER_S)
        )),
        _ => Ok(pace),
    }
}

/// Descriptors that this process may have, if they suffice.
fn descriptors(bench: &Bench) -> Result<u64, String> {
    let raised = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let all = usize::try_from(raised).unwrap_or(usize::MAX);
    let possible = all.saturating_sub(OTHER_DESCRIPTORS);
    let others = &bench.connections;
    let beside = others.idle.saturating_add(others.slow).saturating_add(others.drip);
    let wanted = bench.load.connections.saturating_add(beside);
    if wanted <= possible {
        return Ok(raised);
    }
    Err(format!(
        "{} take {} descriptors, and this process may have {all}; {possible} connections are \
         possible in all, or more with a higher hard limit (ulimit -Hn)",
        many(wanted as u64, "connection"),
        count(wanted.saturating_add(OTHER_DESCRIPTORS) as u64),
    ))
}

fn dial(addr: &Address) -> Result<Dial, Failure> {
    match addr {
        Address::Unix(path) => Ok(Dial::unix(path)),
        Address::Tcp(name) => {
            let found = name.to_socket_addrs().map(Vec::from_iter);
            match found {
                Ok(addrs) if !addrs.is_empty() => Ok(Dial::new(addrs)),
                Ok(_) => Err(Failure::Runtime(format!("{name}: there is no such address"))),
                Err(error) => Err(Failure::Runtime(format!("{name}: cannot find it: {error}"))),
            }
        }
    }
}

fn interval(duration: Option<Duration>) -> Duration {
    let second = Duration::from_secs(1);
    let short = duration.map_or(second, |duration| duration / INTERVALS);
    short.clamp(Duration::from_millis(100), second)
}

fn plan(bench: &Bench, dial: Dial, shape: Shape, pace: Pace) -> Plan {
    let (load, connections) = (&bench.load, &bench.connections);
    let requests = load.requests.map(|requests| requests as u64);
    let duration = match (load.duration, requests) {
        (None, None) => Some(Duration::from_secs(10)),
        (duration, _) => duration,
    };
    Plan {
        connections: load.connections,
        idle: connections.idle,
        depth: load.pipeline,
        pace,
        duration,
        requests,
        warmup: load.warmup.unwrap_or_default(),
        connect_rate: connections.connect_rate,
        sources: connections.source_ip.clone(),
        reply_timeout: connections.timeout,
        check: match bench.message.check {
            None => Check::Nothing,
            Some(CheckName::Echo) => Check::Echo,
        },
        shape,
        slow: Slow { connections: connections.slow, bytes_per_s: connections.slow_rate },
        drip: connections.drip,
        interval: interval(duration),
        ..Plan::new(dial)
    }
}

fn start(bench: &Bench, plan: &Plan, message: &Message, host: &str, descriptors: u64) -> Start {
    let framing = bench.framing.messages().to_string();
    let reply_framing = match bench.framing.replies() {
        SAME => framing.clone(),
        spec => spec.to_string(),
    };
    let model = match (plan.shape, plan.pace) {
        (Shape::Fanout, _) => Model::Fanout,
        (Shape::Churn(_), _) => Model::Churn,
        (Shape::Requests, Pace::Closed) => Model::Closed,
        (Shape::Requests, _) => Model::Open,
    };
    Start {
        target: host.into(),
        framing,
        reply_framing,
        connections: plan.connections,
        idle: plan.idle,
        slow: plan.slow.connections,
        drip: plan.drip,
        model,
        depth: plan.depth,
        rate_per_s: plan.rate(),
        message_bytes: message.bytes(),
        duration_s: plan.duration.map(|duration| duration.as_secs_f64()),
        requests: plan.requests,
        warmup_s: plan.warmup.as_secs_f64(),
        nofile: Some(descriptors),
        host: this_machine(),
        version: env!("CARGO_PKG_VERSION").into(),
        command: command(),
        started_unix_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|time| time.as_secs()),
    }
}

/// As it was given, but for the folder of the program.
pub(super) fn command() -> Vec<String> {
    let rest = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    ["oneloop".to_string()].into_iter().chain(rest).collect()
}

fn this_machine() -> Host {
    let read = |path| std::fs::read_to_string(path).ok();
    let cpu = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    Host {
        cores: thread::available_parallelism().map_or(0, |cores| cores.get()),
        kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_string()),
        cpu,
    }
}
