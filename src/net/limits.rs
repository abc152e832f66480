//! How much one endpoint may hold, and how long it waits.

use std::time::Duration;

use super::prefix::Prefix;
use super::rate::Rate;
use super::sys::{DialOptions, KernelBuffers, ListenOptions, MAX_CONNECTIONS};
use crate::proto::conn::{Clocks, OutputLimits};
use crate::proto::framing::ConfigError;

/// Limits and clocks of one endpoint.
///
/// Start from [`Limits::default`] and change what does not fit. Setters may come
/// in any order: they only store, and [`Server::add`](super::Server::add) checks
/// the whole. The limit of a message belongs to its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) backlog: i32,
    pub(crate) reuse_port: bool,
    pub(crate) output_high: usize,
    pub(crate) output_low: usize,
    pub(crate) output_max: Option<usize>,
    pub(crate) buffers: KernelBuffers,
    pub(crate) memory: Option<usize>,
    pub(crate) frame_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) http_courtesy: bool,
    pub(crate) abort_on_panic: bool,
    pub(crate) slow_turn: Option<Duration>,
    pub(crate) max_per_ip: Option<usize>,
    pub(crate) accepts_per_ip: Option<Rate>,
    pub(crate) exempt: Vec<Prefix>,
    pub(crate) messages_per_second: Option<Rate>,
    pub(crate) errors_per_second: Option<Rate>,
}

/// How long TCP keepalive takes to give a silent peer up: see
/// [`Limits::idle_timeout`].
const KEEPALIVE: Duration = Duration::from_secs(60 + 6 * 10);
/// The largest buffer to ask the kernel for, in bytes.
const MAX_KERNEL_BUFFER: usize = 1 << 30;
/// Closed connections that may wait for their peers' FIN, if there are fewer others.
const MIN_LINGERING: usize = 1024;

/// What happens to newcomers while all connections are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They wait in the kernel's queue until one leaves.
    #[default]
    Wait,
    /// They are accepted, told so in one message, and closed.
    Refuse,
    /// The connection from which nothing has come for the longest time, a second at
    /// least, is closed for them at once, `evicted`. While there is none, they wait.
    Evict,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            when_full: WhenFull::Wait,
            backlog: 4096,
            reuse_port: false,
            output_high: 64 << 10,
            output_low: 32 << 10,
            output_max: None,
            buffers: KernelBuffers { send: Some(64 << 10), receive: None },
            memory: None,
            frame_timeout: Some(Duration::from_secs(30)),
            idle_timeout: None,
            write_timeout: Some(Duration::from_secs(30)),
            http_courtesy: false,
            abort_on_panic: false,
            slow_turn: None,
            max_per_ip: None,
            accepts_per_ip: None,
            exempt: Vec::new(),
            messages_per_second: None,
            errors_per_second: None,
        }
    }
}

impl Limits {
    /// Limits for a host with little memory: 1,000 connections in 32 MiB of address space,
    /// of which the program itself takes a third.
    ///
    /// | limit | small | why |
    /// |---|---|---|
    /// | [`memory`](Self::memory) | 8 MiB | a quarter of 32 MiB, as the default is of what there is |
    /// | [`max_connections`](Self::max_connections) | 1,000 | with those that are closing 2,024 slots: 2 MiB |
    /// | [`backlog`](Self::backlog) | 1,024 | more could not come in |
    /// | [`output_high`](Self::output_high) | 16 KiB | 500 peers that never read fill the budget, and not 100 |
    /// | [`output_low`](Self::output_low) | 8 KiB | half of it, as by default |
    /// | [`send_buffer`](Self::send_buffer) | 16 KiB | the kernel holds 32 KiB for a peer that never reads: 32 MiB for 1,000 |
    /// | [`receive_buffer`](Self::receive_buffer) | 32 KiB | and 64 KiB for one that we do not read |
    ///
    /// All others are the defaults. A framing brings its own limit of a message, and with
    /// these it should be 64 KiB at most: a half message takes up to twice its length, a
    /// reply up to three times, so that one of 1 MiB costs as much as everything else.
    /// [`Server::worst_case`](super::Server::worst_case) tells what comes of it.
    pub fn small() -> Self {
        Self::default()
            .memory(Some(8 << 20))
            .max_connections(1000)
            .backlog(1024)
            .output_high(16 << 10)
            .output_low(8 << 10)
            .send_buffer(Some(16 << 10))
            .receive_buffer(Some(32 << 10))
    }

    /// Connections open at once. Default: 10,000. At the limit, newcomers wait or
    /// are refused: see [`when_full`](Self::when_full).
    ///
    /// Each takes a descriptor, and a closed one that still waits for its peer's
    /// FIN keeps its own for up to 2 s: stay some way below `ulimit -n`. As many may
    /// wait so as may be open, or 1,024 if that is more; beyond it, nobody's FIN is waited
    /// for.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count;
        self
    }

    /// What happens to newcomers at the limit. Default: they wait in the backlog.
    pub fn when_full(mut self, what: WhenFull) -> Self {
        self.when_full = what;
        self
    }

    /// Whether an HTTP client that calls an endpoint of another framing, and sends what
    /// is no message there, is told so with a 400 before it is closed. Default: no.
    pub fn http_courtesy(mut self, tell: bool) -> Self {
        self.http_courtesy = tell;
        self
    }

    /// Whether a panic of the service goes on through [`Server::turn`](super::Server::turn)
    /// to the host, and ends the program if nobody catches it. The server is not to be used
    /// after that. Default: no, it closes the one connection, with `handler_panic`.
    pub fn abort_on_panic(mut self, abort: bool) -> Self {
        self.abort_on_panic = abort;
        self
    }

    /// The time that one connection's turn may take before a warning names it, with how long
    /// it was. It is the service that takes such a time, and everyone waits for it. Default:
    /// nobody looks, since each turn would cost two looks at the clock.
    pub fn slow_turn(mut self, time: Option<Duration>) -> Self {
        self.slow_turn = time;
        self
    }

    /// Connections open at once from one IP address (of IPv6, from one /64). Default: no
    /// limit. A newcomer beyond it is hung up on without a word, `per_ip`. Connections
    /// that we open ourselves, and those at Unix sockets, do not count.
    pub fn max_per_ip(mut self, count: Option<usize>) -> Self {
        self.max_per_ip = count;
        self
    }

    /// How often one IP address (of IPv6, one /64) may connect. Default: no limit. A
    /// newcomer beyond it is hung up on without a word, `rate`. The last 65,536 addresses
    /// are remembered; when more than that call at the same time, the further ones are
    /// not limited.
    pub fn accepts_per_ip(mut self, rate: Option<Rate>) -> Self {
        self.accepts_per_ip = rate;
        self
    }

    /// Addresses that [`max_per_ip`](Self::max_per_ip) and
    /// [`accepts_per_ip`](Self::accepts_per_ip) do not count. Default: none.
    pub fn exempt(mut self, prefixes: Vec<Prefix>) -> Self {
        self.exempt = prefixes;
        self
    }

    /// How many messages of one connection are served. Default: no limit. What comes
    /// faster is not lost: reading from that connection pauses, and it waits with the peer.
    pub fn messages_per_second(mut self, rate: Option<Rate>) -> Self {
        self.messages_per_second = rate;
        self
    }

    /// How many messages of one connection may have to be skipped, for being too long.
    /// Default: no limit. Beyond it the connection closes, `rate`. (Other errors close it
    /// in any case.)
    pub fn errors_per_second(mut self, rate: Option<Rate>) -> Self {
        self.errors_per_second = rate;
        self
    }

    /// Callers that may wait to be accepted. Default: 4096, and never more than
    /// the kernel's net.core.somaxconn. Beyond it, connecting takes the caller a
    /// second or longer.
    pub fn backlog(mut self, callers: i32) -> Self {
        self.backlog = callers;
        self
    }

    /// Whether other processes of the same user may listen at the same addresses, if they
    /// say so, too (SO_REUSEPORT). Default: no. Linux then gives each caller to one of
    /// them, by a hash of both addresses, so that as many processes use as many
    /// processors. For TCP; a Unix socket is refused, and a listener that is
    /// [adopted](super::Server::adopt_listener) is as it was opened.
    ///
    /// Each process has a queue of its own: who waits in that of one that ends is reset,
    /// though others could have served it. A successor to which the listener itself is
    /// [handed over](super::Server::hand_over) keeps the queue.
    pub fn reuse_port(mut self, share: bool) -> Self {
        self.reuse_port = share;
        self
    }

    /// Output that waits for one connection, in bytes, above which reading from it
    /// pauses. Default: 64 KiB.
    pub fn output_high(mut self, bytes: usize) -> Self {
        self.output_high = bytes;
        self
    }

    /// Output that waits, in bytes, at which reading goes on. Default: 32 KiB.
    pub fn output_low(mut self, bytes: usize) -> Self {
        self.output_low = bytes;
        self
    }

    /// Output that waits, in bytes, above which the connection closes with
    /// `output_cap`. Default: the high mark and one message with its frame.
    pub fn output_max(mut self, bytes: usize) -> Self {
        self.output_max = Some(bytes);
        self
    }

    /// The kernel's buffer for what one connection sends, in bytes. Default:
    /// 64 KiB, of which Linux makes 128. `None` leaves it to the kernel, which
    /// takes 4 MB for a peer that never reads.
    pub fn send_buffer(mut self, bytes: Option<usize>) -> Self {
        self.buffers.send = bytes;
        self
    }

    /// The kernel's buffer for what one connection receives, in bytes. Default: `None`, the
    /// kernel's choice: it grows with what comes, on Linux to 6 MB, all of which one peer can
    /// fill that we do not read. Smaller ones bound the rate of a peer that is far away, by
    /// themselves divided by the time of a round trip.
    pub fn receive_buffer(mut self, bytes: Option<usize>) -> Self {
        self.buffers.receive = bytes;
        self
    }

    /// Memory that all waiting input and output of the server may take, in bytes. Default:
    /// what [`Server::memory_budget`](super::Server::memory_budget) says, where it is told
    /// what happens at this limit. Of several endpoints' and that one the least holds.
    pub fn memory(mut self, bytes: Option<usize>) -> Self {
        self.memory = bytes;
        self
    }

    /// The time for one message to arrive, from its first byte to its last.
    /// Default: 30 s, and one more for each 4 KiB that its header announces.
    /// `None`: for ever. When it is up, the connection closes with
    /// `frame_deadline`.
    pub fn frame_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.frame_timeout = timeout;
        self
    }

    /// The time in which the peer has to send something. Default: none. When it is
    /// up, the connection closes with `idle`. What we send counts for nothing.
    ///
    /// Peers that are gone without a word are found by TCP keepalive in any case:
    /// after 60 s of silence, 6 probes 10 s apart.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The time in which a peer that we have something for has to take 16 KiB of
    /// it, or the rest. Default: 30 s. `None`: for ever. When it is up, the
    /// connection closes with `write_stall`.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Whether the limits fit each other and the largest message on the way out.
    pub(crate) fn check(&self, max_frame: usize) -> Result<(), ConfigError> {
        let (low, high) = (self.output_low, self.output_high);
        if low > high {
            return Err(ConfigError::OutputLow { low, high });
        }
        let min = high.saturating_add(max_frame);
        if let Some(max) = self.output_max.filter(|&max| max < min) {
            return Err(ConfigError::OutputMax { max, min });
        }
        let KernelBuffers { send, receive } = self.buffers;
        let impossible = |bytes: &usize| !(1..=MAX_KERNEL_BUFFER).contains(bytes);
        if let Some(bytes) = send.filter(impossible) {
            return Err(ConfigError::SendBuffer { bytes, max: MAX_KERNEL_BUFFER });
        }
        if let Some(bytes) = receive.filter(impossible) {
            return Err(ConfigError::ReceiveBuffer { bytes, max: MAX_KERNEL_BUFFER });
        }
        if !(1..=i32::MAX).contains(&self.backlog) {
            return Err(ConfigError::Backlog { callers: self.backlog });
        }
        let timeouts = [self.frame_timeout, self.idle_timeout, self.write_timeout];
        if timeouts.contains(&Some(Duration::ZERO)) {
            return Err(ConfigError::NoTime);
        }
        let rates = [self.accepts_per_ip, self.messages_per_second, self.errors_per_second];
        rates.into_iter().flatten().try_for_each(Rate::check)?;
        if self.max_per_ip == Some(0) {
            return Err(ConfigError::PerIp);
        }
        let asked = self.max_connections;
        if !(1..=MAX_CONNECTIONS).contains(&asked) {
            return Err(ConfigError::Connections { asked, max: MAX_CONNECTIONS });
        }
        Ok(())
    }

    /// How many closed connections may wait for their peers' FIN. Linux has the same for
    /// connections whose process is done with them, tcp_max_orphans.
    pub(crate) fn max_lingering(&self) -> usize {
        self.max_connections.max(MIN_LINGERING)
    }

    pub(crate) fn output(&self, max_frame: usize) -> OutputLimits {
        let (high, low) = (self.output_high, self.output_low);
        OutputLimits { high, low, max: self.output_max.unwrap_or(high.saturating_add(max_frame)) }
    }

    pub(crate) fn clocks(&self) -> Clocks {
        Clocks { frame: self.frame_timeout, write: self.write_timeout }
    }

    pub(crate) fn dial_options(&self) -> DialOptions {
        let ListenOptions { buffers, give_up, .. } = self.listen_options();
        DialOptions { source: None, buffers, give_up }
    }

    pub(crate) fn listen_options(&self) -> ListenOptions {
        ListenOptions {
            backlog: self.backlog,
            buffers: self.buffers,
            reuse_port: self.reuse_port,
            // On Linux this overrides the number of keepalive probes, see tcp(7): shorter,
            // a single lost probe would end an idle connection. Our own clock is faster.
            give_up: self.write_timeout.map(|timeout| timeout.max(KEEPALIVE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_contradict_each_other_are_refused_with_the_numbers() {
        let limits = Limits::default;
        #[rustfmt::skip]
        let cases = [
            (limits(),                                     Ok(())),
            (limits().output_low(65_536),                  Ok(())),
            (limits().output_low(65_537),                  Err(ConfigError::OutputLow { low: 65_537, high: 65_536 })),
            (limits().output_max(66_536),                  Ok(())),
            (limits().output_max(66_535),                  Err(ConfigError::OutputMax { max: 66_535, min: 66_536 })),
            (limits().output_high(usize::MAX),             Ok(())),
            (limits().send_buffer(Some(0)),                Err(ConfigError::SendBuffer { bytes: 0, max: 1 << 30 })),
            (limits().receive_buffer(Some(0)),             Err(ConfigError::ReceiveBuffer { bytes: 0, max: 1 << 30 })),
            (limits().send_buffer(Some(2 << 30)),          Err(ConfigError::SendBuffer { bytes: 2 << 30, max: 1 << 30 })),
            (limits().backlog(0),                          Err(ConfigError::Backlog { callers: 0 })),
            (limits().write_timeout(Some(Duration::ZERO)), Err(ConfigError::NoTime)),
            (limits().write_timeout(None),                 Ok(())),
            (limits().max_per_ip(Some(0)),                 Err(ConfigError::PerIp)),
            (limits().errors_per_second(Some(Rate::per_second(0))), Err(ConfigError::Rate { per_second: 0, burst: 0 })),
            (limits().max_connections(0),                  Err(ConfigError::Connections { asked: 0, max: MAX_CONNECTIONS })),
            (limits().max_connections(MAX_CONNECTIONS),    Ok(())),
            (limits().max_connections(1 << 24),            Err(ConfigError::Connections { asked: 1 << 24, max: MAX_CONNECTIONS })),
        ];
        for (limits, expected) in cases {
            assert_eq!(limits.check(1000), expected, "{limits:?}");
        }
    }

    #[test]
    fn small_limits_are_those_of_their_table_and_the_default_ones_for_the_rest() {
        let small = Limits::small();
        let kernel = KernelBuffers { send: Some(16_384), receive: Some(32_768) };
        assert_eq!((small.memory, small.buffers), (Some(8_388_608), kernel));
        assert_eq!((small.max_connections, small.backlog), (1000, 1024));
        assert_eq!((small.output_high, small.output_low), (16_384, 8192));
        let Limits { buffers, output_high, output_low, .. } = Limits::default();
        let rest = Limits { buffers, ..small }.memory(None).max_connections(10_000).backlog(4096);
        let rest = rest.output_high(output_high).output_low(output_low);
        assert_eq!(format!("{rest:?}"), format!("{:?}", Limits::default()));
    }

    /// Below keepalive's own time it would override the number of probes.
    #[test]
    fn the_kernel_gives_up_no_earlier_than_keepalive_does() {
        let give_up = |timeout| Limits::default().write_timeout(timeout).listen_options().give_up;
        let secs = |secs| Some(Duration::from_secs(secs));
        assert_eq!(
            [give_up(secs(30)), give_up(secs(500)), give_up(None)],
            [secs(120), secs(500), None]
        );
    }
}
