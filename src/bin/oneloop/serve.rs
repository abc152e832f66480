//! `oneloop serve`: one endpoint, from flags.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use log::{Level, LevelFilter};
use oneloop::services::{Average, Broadcast, Echo, OneLine, Railroad, Receipt, Sink};
use oneloop::{
    AnyFraming, CloseReason, ConfigError, Counters, EndpointId, Limits, Mio, Pair, Prefix, Rate,
    Server, Service, WhenFull,
};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR2, SIGXFSZ};
use signal_hook_mio::v1_0::Signals;

use crate::Failure;
use crate::address::{self, Address};
use crate::ending::Ending;
use crate::framing::FramingFlags;
use crate::journal::{self, Gates, Logged};
use crate::preflight::{self, OTHER_DESCRIPTORS};
use crate::restart::{self, Handed, Restart};
use crate::units::{self, MaybeSize, MaybeSpan};

/// Connections of `--small`, as the library has them: see [`Limits::small`].
const SMALL_CONNECTIONS: usize = 1000;
/// The largest message of `--small`, in bytes, or what the framing can carry.
const SMALL_MESSAGE: usize = 64 << 10;

#[derive(Args)]
#[command(after_help = "\
SPEC is a word with options behind commas, as in u32be,max=64k:
  lines lines:lf lines:crlf           each line a message        eof=message
  delim:BYTES nul stx-etx mllp        a delimiter behind
  slip cobs                           a delimiter behind, stuffed
  fixed:N                             all of one size
  u8 u16be u16le u24be u24le u32be    a binary length first      offset=N adjust=N strip=N
  u32le u64be u64le base128 varint
  ascii:N ascii:N:space netstring     a decimal length first
  syslog resp modbus                  counted, or lines
  json xml                            they size themselves       depth=N
  raw                                 each read a message
  all of them                                                    max=SIZE

SERVICES: echo; receipt answers Msg received; oneline knows ping, disconnect and
shutdown, so any client can stop the server; average answers a list of numbers, as text,
JSON or pickle; railroad is the hub of throttles; broadcast hands on to all others; sink.
SIZE is bytes, or with k, m, g (1024 each); TIME is 500ms, 30s, 1.5m or 2h.

The log goes to stderr. SIGINT or SIGTERM stops accepting, answers what was begun and
exits with 0; a second one ends it at once. SIGUSR2 starts the program at its path anew and
hands the listeners over. Listeners of systemd (LISTEN_FDS) are taken instead of --listen.
Every flag with a value can be given as an
environment variable, too: ONELOOP_MAX_MESSAGE=64k for --max-message 64k.")]
pub(crate) struct Serve {
    /// Where to listen: host:port, [v6]:port, unix:PATH; port 0 is any; repeatable
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    #[arg(value_delimiter = ',', value_parser = address::parse)]
    listen: Vec<Address>,

    /// Permissions of a unix: socket, like 660 [default: by the umask]
    #[arg(long, value_name = "MODE", value_parser = units::mode)]
    unix_mode: Option<u32>,

    /// Let other processes listen there, too: each serves a share of the callers
    #[arg(long)]
    reuse_port: bool,

    #[command(flatten)]
    framing: FramingFlags,

    /// What to do with messages: see below [default: echo]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    service: Option<ServiceName>,

    /// Close each connection in order after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    messages: Option<u32>,

    /// Tell an HTTP client of another framing that it is wrong here, with a 400
    #[arg(long)]
    http_courtesy: bool,

    /// End the program when a service panics, not only that connection
    #[arg(long)]
    abort_on_panic: bool,

    /// Close a connection in order after this message
    #[arg(long, value_name = "TEXT")]
    closing_word: Option<String>,

    /// Limits for 1,000 connections in 32 MiB; single flags override
    #[arg(long)]
    small: bool,

    /// Show each message
    #[arg(short, long)]
    verbose: bool,

    /// Show warnings and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ServiceName {
    Echo,
    Receipt,
    Oneline,
    Average,
    Railroad,
    Broadcast,
    Sink,
}

impl ServiceName {
    fn service(self) -> Box<dyn Service<Session = ()>> {
        match self {
            Self::Echo => Box::new(Echo),
            Self::Receipt => Box::new(Receipt::default()),
            Self::Oneline => Box::new(OneLine::default()),
            Self::Average => Box::new(Average),
            Self::Railroad => Box::new(Railroad::default()),
            Self::Broadcast => Box::new(Broadcast),
            Self::Sink => Box::new(Sink),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum WhenFullName {
    Wait,
    Refuse,
    Evict,
}

/// Every limit of an endpoint. The defaults are the library's.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// Connections at once [default: 10k, or the descriptors less 24]
    #[arg(long, value_name = "N", value_parser = units::count)]
    max_connections: Option<usize>,

    /// What newcomers meet when all connections are in use
    #[arg(long, value_name = "WHAT", default_value = "wait")]
    when_full: WhenFullName,

    /// Connections at once from one address (IPv6: one /64) [default: off]
    #[arg(long, value_name = "N", value_parser = units::count)]
    max_per_ip: Option<usize>,

    /// Connects a second from one address, and at once [default: off]
    #[arg(long, value_name = "RATE[/N]", value_parser = units::rate_limit)]
    accepts_per_ip: Option<Rate>,

    /// Addresses that those two leave alone, or ADDR/BITS [default: none]
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    exempt: Vec<Prefix>,

    /// Messages a second of one connection, and at once [default: off]
    #[arg(long, value_name = "RATE[/N]", value_parser = units::rate_limit)]
    messages_per_second: Option<Rate>,

    /// Messages skipped a second of one connection, and at once [default: off]
    #[arg(long, value_name = "RATE[/N]", value_parser = units::rate_limit)]
    errors_per_second: Option<Rate>,

    /// Callers that may wait to be accepted, up to the kernel's somaxconn [default: 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=65_535))]
    backlog: Option<i32>,

    /// Waiting output of one peer at which reading pauses [default: 64k]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    output_high: Option<usize>,

    /// Waiting output at which reading goes on [default: 32k]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    output_low: Option<usize>,

    /// Waiting output that ends it [default: high and one message]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    output_max: Option<usize>,

    /// The kernel's buffer for output of one peer, or off: its choice [default: 64k]
    #[arg(long, value_name = "SIZE", value_parser = units::maybe_size)]
    send_buffer: Option<MaybeSize>,

    /// The kernel's buffer for input of one peer, or off: its choice [default: off]
    #[arg(long, value_name = "SIZE", value_parser = units::maybe_size)]
    receive_buffer: Option<MaybeSize>,

    /// All waiting input and output [default: 256m, or 1/4 of RAM or cgroup]
    #[arg(long, value_name = "SIZE", value_parser = units::memory)]
    memory: Option<usize>,

    /// Time for one message to arrive, and 1 s for each 4 KiB announced, or off
    #[arg(long, value_name = "TIME", value_parser = units::maybe_span, default_value = "30s")]
    frame_timeout: MaybeSpan,

    /// Time in which a peer has to send something, or off
    #[arg(long, value_name = "TIME", value_parser = units::maybe_span, default_value = "off")]
    idle_timeout: MaybeSpan,

    /// Time in which a peer has to take 16 KiB of its output, or off
    #[arg(long, value_name = "TIME", value_parser = units::maybe_span, default_value = "30s")]
    write_timeout: MaybeSpan,

    /// Time that stopping waits for what was begun
    #[arg(long, value_name = "TIME", value_parser = units::span, default_value = "10s")]
    drain_timeout: Duration,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let level = match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Warn,
            (false, false) => LevelFilter::Info,
            (false, true) => LevelFilter::Debug,
        };
        let framing = self.framing.pair_within(self.small.then_some(SMALL_MESSAGE))?;
        let preset = self.framing.preset;
        let limits = self
            .limits
            .limits(self.small, preset.and_then(|preset| preset.connections))?
            .http_courtesy(self.http_courtesy)
            .abort_on_panic(self.abort_on_panic)
            .reuse_port(self.reuse_port);
        if let (true, Some(unix)) = (self.reuse_port, self.unix_listener()) {
            return Err(Failure::Usage(format!(
                "--reuse-port: {unix} can have one listener only; share a TCP port, or give each \
                 process a socket of its own"
            )));
        }
        journal::start(level);
        let service = self.service.or(preset.map(|preset| preset.service));
        let after = self.messages;
        let word = self.closing_word.as_deref().or(preset.and_then(|preset| preset.closing_word));
        match (service.unwrap_or(ServiceName::Echo), after, word) {
            // Compiled into a loop of their own; that takes 60 kB each, so the others share one.
            (ServiceName::Echo, None, None) => self.start(framing, Echo, limits),
            (ServiceName::Broadcast, None, None) => self.start(framing, Broadcast, limits),
            (name, after, word) => {
                let word = word.map(|word| word.as_bytes().into());
                self.start(framing, Ending { service: name.service(), after, word }, limits)
            }
        }
    }

    fn start<S: Service + 'static>(
        &self,
        framing: Pair<AnyFraming, AnyFraming>,
        service: S,
        limits: Limits,
    ) -> Result<(), Failure> {
        // First of all: nothing may be opened under their numbers.
        let handed = restart::handed()
            .map_err(|error| runtime("cannot take the listeners of LISTEN_FDS", &error))?;
        let gates = Gates::new();
        let messages = self.framing.preset.map_or(Level::Debug, |preset| preset.shown);
        let service = Logged { service, messages, gates: gates.clone() };
        let mut server = Server::new().map_err(|error| runtime("cannot start", &error))?;
        let endpoint = server.add(framing, service, limits).map_err(|error| refused(&error))?;
        self.run_with(server, endpoint, gates, handed)
    }

    /// What is the same for all services.
    fn run_with(
        &self,
        mut server: Server,
        endpoint: EndpointId,
        gates: Rc<Gates>,
        handed: Vec<Handed>,
    ) -> Result<(), Failure> {
        server.drain_timeout(self.limits.drain_timeout);
        server.memory_budget(self.limits.memory.unwrap_or_else(preflight::memory_budget));
        // With a handler of ours, a log file at its limit is an error of that write; by
        // default it ends the process.
        let unused = Arc::default();
        let _ = signal_hook::flag::register(SIGXFSZ, unused);
        log::info!("[STARTING] server is starting...");
        log::info!("[MEMORY] {}", most_memory(&server));
        // Before the first client: a signal must never find its default.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR2, SIGCHLD])
            .and_then(|mut signals| {
                let readable = mio::Interest::READABLE;
                server.registry().register(&mut signals, Mio::HOST, readable)?;
                Ok(signals)
            })
            .map_err(|error| runtime("cannot catch signals", &error))?;
        match handed.is_empty() {
            true => self.listen(&mut server, endpoint)?,
            false => adopt(&mut server, endpoint, handed)?,
        }
        restart::relieve_predecessor();
        Running { server, gates, restart: Restart::new(), stopping: false }.run(&mut signals)
    }

    fn unix_listener(&self) -> Option<&Address> {
        self.listen.iter().find(|addr| matches!(addr, Address::Unix(_)))
    }

    fn listen(&self, server: &mut Server, endpoint: EndpointId) -> Result<(), Failure> {
        for addr in &self.listen {
            let listening = match addr {
                Address::Tcp(name) => {
                    server.listen(endpoint, name.as_str()).map(|addr| addr.to_string())
                }
                Address::Unix(path) => {
                    server.listen_unix(endpoint, path, self.unix_mode).map(|()| addr.to_string())
                }
            };
            let addr = listening.map_err(|error| {
                let text = cannot_listen(addr, &error);
                Failure::Runtime(match (self.reuse_port, error.kind()) {
                    (true, ErrorKind::AddrInUse) => {
                        text + "; whoever shares it has to have --reuse-port as well, and the same user"
                    }
                    _ => text,
                })
            })?;
            log::info!("[LISTENING] Server is listening on {addr}");
        }
        Ok(())
    }
}

/// Goes on with listeners that were handed over; --listen is whose who opened them.
fn adopt(server: &mut Server, endpoint: EndpointId, handed: Vec<Handed>) -> Result<(), Failure> {
    for listener in handed {
        let adopted = match listener {
            Handed::Tcp(listener) => {
                server.adopt_listener(endpoint, listener).map(|addr| addr.to_string())
            }
            Handed::Unix(listener) => {
                let addr = listener.local_addr().ok();
                let path = addr.as_ref().and_then(|addr| addr.as_pathname());
                let path = path.map_or("unix".into(), |path| format!("unix:{}", path.display()));
                server.adopt_unix_listener(endpoint, listener).map(|()| path)
            }
        };
        let addr = adopted.map_err(|error| runtime("cannot go on with a listener", &error))?;
        log::info!("[LISTENING] Server is listening on {addr}");
    }
    Ok(())
}

/// A server that listens, and what signals do to it.
struct Running {
    server: Server,
    gates: Rc<Gates>,
    restart: Restart,
    stopping: bool,
}

impl Running {
    /// Turns the loop until signals end it.
    fn run(mut self, signals: &mut Signals) -> Result<(), Failure> {
        loop {
            let due = [self.gates.due(), self.restart.due()].into_iter().flatten().min();
            let turn = self.server.turn(due).map_err(|error| runtime("cannot go on", &error))?;
            self.gates.turn_over();
            if turn.finished {
                self.gates.say_hidden();
                if !self.stopping {
                    log::info!("[STOPPING] a client asked for it");
                }
                log::info!("[TOTALS] {}", totals(&self.server.counters()));
                log::info!("[STOPPED] all connections are closed");
                return Ok(());
            }
            if self.restart.is_time() {
                self.server.shutdown();
            }
            if turn.host {
                signals.pending().try_for_each(|signal| self.obey(signal))?;
            }
        }
    }

    fn obey(&mut self, signal: i32) -> Result<(), Failure> {
        match signal {
            SIGCHLD => self.restart.look_after_child(),
            SIGUSR2 if self.stopping => log::warn!("[RESTART] too late: this server is stopping"),
            SIGUSR2 => self.restart.begin(self.server.hand_over()),
            _ if self.stopping => {
                self.server.shutdown_now();
                log::info!("[TOTALS] {}", totals(&self.server.counters()));
                return Err(Failure::Signal(signal));
            }
            SIGTERM if self.restart.is_relieved() => {
                self.stopping = true;
                self.server.stop_listening();
                self.restart.hand_over();
                let open = self.server.counters().open;
                log::info!("[STOPPING] the new server listens; {open} connections open here");
            }
            _ => {
                self.stopping = true;
                self.restart.give_up();
                log::info!("[STOPPING] {} connections open", self.server.counters().open);
                self.server.shutdown();
            }
        }
        Ok(())
    }
}

/// What the limits can add up to.
fn most_memory(server: &Server) -> String {
    let bytes = |count: usize| units::bytes(u64::try_from(count).unwrap_or(u64::MAX));
    let (all, buffers) = (server.worst_case(), server.memory());
    format!("{} at most beside the program; {} of it for what waits", bytes(all), bytes(buffers))
}

/// What has to balance: who was accepted is open, or was closed for one of the reasons.
/// Lines of single connections cannot show it, since many of them are hidden in a storm.
fn totals(counters: &Counters) -> String {
    let mut text = format!("{} accepted, {} open", counters.accepted, counters.open);
    for reason in CloseReason::ALL {
        match counters.closed_by(reason) {
            0 => {}
            count => text += &format!(", {count} {reason}"),
        }
    }
    let traffic = &counters.traffic;
    let (read, sent, skipped) = (traffic.messages_in, traffic.messages_out, traffic.skipped);
    text + &format!("; {read} messages in, {sent} out, {skipped} skipped")
}

impl LimitFlags {
    /// With a preset's number of connections, where none was asked for.
    fn limits(&self, small: bool, preset: Option<usize>) -> Result<Limits, Failure> {
        let (base, connections) = match small {
            true => (Limits::small(), SMALL_CONNECTIONS),
            false => (Limits::default(), 10_000),
        };
        let limits = base
            .max_connections(self.connections(preset.unwrap_or(connections))?)
            .when_full(match self.when_full {
                WhenFullName::Wait => WhenFull::Wait,
                WhenFullName::Refuse => WhenFull::Refuse,
                WhenFullName::Evict => WhenFull::Evict,
            })
            .max_per_ip(self.max_per_ip)
            .accepts_per_ip(self.accepts_per_ip)
            .exempt(self.exempt.clone())
            .messages_per_second(self.messages_per_second)
            .errors_per_second(self.errors_per_second)
            .frame_timeout(self.frame_timeout.0)
            .idle_timeout(self.idle_timeout.0)
            .write_timeout(self.write_timeout.0);
        let limits = self.backlog.into_iter().fold(limits, Limits::backlog);
        let limits = self.output_high.into_iter().fold(limits, Limits::output_high);
        let limits = self.output_low.into_iter().fold(limits, Limits::output_low);
        let limits = self.output_max.into_iter().fold(limits, Limits::output_max);
        let send_buffer = self.send_buffer.map(|size| size.0);
        let limits = send_buffer.into_iter().fold(limits, Limits::send_buffer);
        let receive_buffer = self.receive_buffer.map(|size| size.0);
        let limits = receive_buffer.into_iter().fold(limits, Limits::receive_buffer);
        // Where it was asked for, also if that is more than small limits have.
        Ok(self.memory.into_iter().fold(limits, |limits, bytes| limits.memory(Some(bytes))))
    }

    /// As many connections as were asked for, if there are descriptors for them; if
    /// none were, as many as there are descriptors for.
    fn connections(&self, default: usize) -> Result<usize, Failure> {
        let raised = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
        let descriptors = usize::try_from(raised).unwrap_or(usize::MAX);
        let possible = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(1);
        match self.max_connections {
            None => Ok(default.min(possible)),
            Some(asked) if asked <= possible => Ok(asked),
            Some(asked) => Err(Failure::Usage(format!(
                "--max-connections {asked} takes {} descriptors, and this process may have \
                 {descriptors}; ask for {possible} at most, or raise the hard limit (ulimit -Hn)",
                asked.saturating_add(OTHER_DESCRIPTORS)
            ))),
        }
    }
}

pub(crate) fn cannot_listen(addr: &Address, error: &io::Error) -> String {
    let advice = match (addr, error.kind()) {
        (Address::Tcp(_), ErrorKind::AddrInUse) => {
            "; see who has it with `ss -ltnp`, or let -l 127.0.0.1:0 choose"
        }
        (Address::Tcp(_), ErrorKind::PermissionDenied) => {
            "; ports below 1024 need a privilege, 7000 does not"
        }
        (Address::Tcp(_), ErrorKind::AddrNotAvailable) => {
            "; this machine has no such address, `ip addr` lists them"
        }
        (Address::Unix(_), ErrorKind::NotFound) => "; its folder must exist",
        _ => "",
    };
    format!("cannot listen on {addr}: {error}{advice}")
}

/// Names the flag that asks for what cannot be.
fn refused(error: &ConfigError) -> Failure {
    let flag = match error {
        ConfigError::Connections { .. } => "--max-connections: ",
        ConfigError::PerIp => "--max-per-ip: ",
        ConfigError::OutputLow { .. } => "--output-low: ",
        ConfigError::OutputMax { .. } => "--output-max: ",
        ConfigError::SendBuffer { .. } => "--send-buffer: ",
        ConfigError::ReceiveBuffer { .. } => "--receive-buffer: ",
        _ => "",
    };
    Failure::Usage(format!("{flag}{error}"))
}

fn runtime(what: &str, error: &io::Error) -> Failure {
    Failure::Runtime(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_name_the_reasons_that_happened() {
        let mut counters = Counters { accepted: 3, open: 1, ..Counters::default() };
        counters.closed[CloseReason::PeerReset as usize] = 2;
        let text = "3 accepted, 1 open, 2 peer_reset; 0 messages in, 0 out, 0 skipped";
        assert_eq!(totals(&counters), text);
    }

    /// The tests may run as root, who may listen anywhere.
    #[test]
    fn a_port_that_needs_a_privilege_is_said_to() {
        let addr = Address::Tcp("0.0.0.0:80".into());
        let text = cannot_listen(&addr, &ErrorKind::PermissionDenied.into());
        assert!(text.contains("0.0.0.0:80") && text.contains("need a privilege"), "{text}");
    }
}
