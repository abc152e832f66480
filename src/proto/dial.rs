//! Whom to call, and how often: what a connection that we open ourselves needs to know.
//!
//! Plain data. Names are looked up before, by who may wait for that.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::retry::Retry;

/// A call to make: the addresses of one server, and how long to go on trying.
///
/// ```
/// use std::time::Duration;
/// use oneloop::{Dial, Retry};
///
/// let addr: std::net::SocketAddr = "127.0.0.1:7000".parse()?;
/// let dial = Dial::from(addr).retry(Retry::every(10, Duration::from_secs(1)));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    pub(crate) targets: Arc<[Target]>,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) source: Option<IpAddr>,
}

/// One address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The most addresses of one server that are tried; more are left out.
const MAX_TARGETS: usize = 16;

impl Dial {
    /// A call to the first of these addresses that answers, IPv6 and IPv4 in turn,
    /// beginning with the family of the first ([RFC 8305, section 4][rfc]): if one family
    /// leads nowhere, the other is the second to be tried and not the last. At most 16.
    ///
    /// [rfc]: https://www.rfc-editor.org/rfc/rfc8305#section-4
    pub fn new(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut addrs = addrs.into_iter().peekable();
        let begins_with_6 = addrs.peek().is_some_and(SocketAddr::is_ipv6);
        let (first, second): (Vec<_>, Vec<_>) =
            addrs.partition(|addr| addr.is_ipv6() == begins_with_6);
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        let mut turns = Vec::new();
        while turns.len() < MAX_TARGETS {
            let before = turns.len();
            turns.extend(first.next());
            turns.extend(second.next());
            if turns.len() == before {
                break;
            }
        }
        Self::of(turns.into_iter().map(Target::Tcp).collect())
    }

    /// A call to a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::of(vec![Target::Unix(path.into())])
    }

    fn of(targets: Vec<Target>) -> Self {
        Self {
            targets: targets.into(),
            timeout: Duration::from_secs(10),
            retry: Retry::default(),
            source: None,
        }
    }

    /// For one address to answer. Default: 10 s.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// How often to try all addresses, and how long to wait in between. Default: once.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The address of our own end, which has some 28,000 ports to one server. Default:
    /// the kernel's choice.
    pub fn source(mut self, addr: IpAddr) -> Self {
        self.source = Some(addr);
        self
    }
}

impl From<SocketAddr> for Dial {
    fn from(addr: SocketAddr) -> Self {
        Self::new([addr])
    }
}

/// Why a call came to nothing. Turns into an `io::Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody answered in time.
    TimedOut,
    /// The errno of the last try, as `std::io::Error::from_raw_os_error` takes it.
    Os(i32),
    /// There was no address to call.
    NoAddress,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_first_begins() {
        let addrs = |list: &str| -> Vec<SocketAddr> {
            list.split_whitespace().map(|text| text.parse().unwrap()).collect()
        };
        for (given, tried) in [
            ("", ""),
            ("1.1.1.1:1 1.1.1.2:1", "1.1.1.1:1 1.1.1.2:1"),
            ("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1", "[::1]:1 1.1.1.1:1 [::2]:1 [::3]:1"),
            ("1.1.1.1:1 [::1]:1 1.1.1.2:1 [::2]:1", "1.1.1.1:1 [::1]:1 1.1.1.2:1 [::2]:1"),
        ] {
            let targets: Vec<_> = addrs(tried).into_iter().map(Target::Tcp).collect();
            assert_eq!(Dial::new(addrs(given)).targets[..], targets, "{given}");
        }
        let many = (0..100).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(Dial::new(many).targets.len(), MAX_TARGETS);
    }
}
