//! Peers that nobody likes, to watch what they do to the others: some read slowly, some send
//! a byte now and then.
//!
//! Not connections of the loop, which reads what there is and sends what it has. These are
//! sockets that are looked at ten times a second.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::plan::Plan;
use crate::proto::dial::Target;

/// How often they are looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// A second, in ticks.
const SECOND: u64 = 10;
/// How long one may take to be connected.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a slow reader asks for ahead, in messages.
const AHEAD: usize = 64;

/// All of them.
pub(super) struct Nuisances {
    /// Each with how far it has come into a message that it sends.
    slow: Vec<(TcpStream, usize)>,
    drip: Vec<TcpStream>,
    bytes_per_tick: usize,
    wire: Vec<u8>,
    /// Where in `wire` the next byte is that drips.
    at: usize,
    ticks: u64,
}

impl Nuisances {
    /// Opens those that the plan wants; `wire` is a message with its frame.
    pub(super) fn open(plan: &Plan, wire: &[u8]) -> io::Result<Self> {
        let call = |count| (0..count).map(|_| connect(plan)).collect::<io::Result<Vec<_>>>();
        let per_second = plan.slow.bytes_per_s as u64;
        Ok(Self {
            slow: call(plan.slow.connections)?.into_iter().map(|slow| (slow, 0)).collect(),
            drip: call(plan.drip)?,
            bytes_per_tick: usize::try_from(per_second.div_ceil(SECOND)).unwrap_or(usize::MAX),
            wire: wire.to_vec(),
            at: 0,
            ticks: 0,
        })
    }

    pub(super) fn any(&self) -> bool {
        !self.slow.is_empty() || !self.drip.is_empty()
    }

    /// How many the server still has.
    pub(super) fn left(&self) -> usize {
        self.slow.len() + self.drip.len()
    }

    /// Lets each do its worst for a tick; who was thrown out is gone.
    pub(super) fn tick(&mut self) {
        let mut taken = vec![0; self.bytes_per_tick.min(64 << 10)];
        let ask = self.wire.repeat(AHEAD);
        self.slow.retain_mut(|(slow, at)| {
            let written = slow.write(&ask[*at..]);
            if let Ok(count) = written {
                *at = (*at + count) % self.wire.len();
            }
            alive(written) && alive(slow.read(&mut taken))
        });
        if self.ticks.is_multiple_of(SECOND) && !self.wire.is_empty() {
            let byte = [self.wire[self.at % self.wire.len()]];
            self.at += 1;
            self.drip.retain_mut(|drip| alive(drip.write(&byte)));
        }
        self.ticks += 1;
    }
}

/// Whether a socket is still one: it did something, or would have.
fn alive(done: io::Result<usize>) -> bool {
    match done {
        Ok(count) => count > 0,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

fn connect(plan: &Plan) -> io::Result<TcpStream> {
    let mut result = Err(ErrorKind::AddrNotAvailable.into());
    for target in plan.dial.targets.iter() {
        result = match target {
            Target::Tcp(addr) => TcpStream::connect_timeout(addr, PATIENCE),
            Target::Unix(path) => std::os::unix::net::UnixStream::connect(path)
                .map(|stream| TcpStream::from(std::os::fd::OwnedFd::from(stream))),
        };
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    stream.set_nonblocking(true)?;
    // So that little hides in between.
    let _ = socket2::SockRef::from(&stream).set_recv_buffer_size(4096);
    Ok(stream)
}
