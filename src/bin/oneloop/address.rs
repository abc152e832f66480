//! ADDR: where to listen, and whom to call.

use std::fmt;
use std::path::PathBuf;

/// `host:port`, `[v6]:port` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A name or a number, and a port; whether it exists turns out later.
    Tcp(String),
    Unix(PathBuf),
}

/// Reads one; what cannot be an address is refused with what could.
pub(crate) fn parse(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err("no path; say unix:PATH, as in unix:/run/oneloop.sock".into()),
            path => Ok(Address::Unix(path.into())),
        };
    }
    let port = text.rsplit_once(':').filter(|(host, _)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && (bracketed || !host.contains(':'))
    });
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(Address::Tcp(text.into())),
        _ => {
            Err("not an address; say host:port, [v6]:port or unix:PATH, as in 127.0.0.1:7000"
                .into())
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => f.write_str(addr),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
