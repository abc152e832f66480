//! Listeners that come from another process, or go to one.
//!
//! ```text
//!  service manager ──▶ adopt_listener ──▶ Server ──▶ hand_over ──▶ the next process
//! ```

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use super::server::Server;
use super::sys::Sys;
use crate::proto::service::EndpointId;

impl<Y: Sys> Server<Y> {
    /// Has `endpoint` go on with a listener that another opened: a service manager, or the
    /// process before this one. Who waits in its queue stays there. The backlog and the
    /// options of its sockets become those of the endpoint. Returns its address.
    ///
    /// # Errors
    ///
    /// It is no listener, or the kernel will not watch it.
    pub fn adopt_listener(
        &mut self,
        endpoint: EndpointId,
        listener: TcpListener,
    ) -> io::Result<SocketAddr> {
        let (mut given, mut addr) = (Some(listener), None);
        self.open(endpoint, &mut |sys, options, token| {
            let listener = given.take().ok_or(io::ErrorKind::InvalidInput)?;
            let (listener, real) = sys.adopt(listener, options, token)?;
            addr = Some(real);
            Ok(listener)
        })?;
        addr.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The same for a Unix socket. Its file is not removed when the server ends: it is
    /// whose who made it.
    ///
    /// # Errors
    ///
    /// As of [`adopt_listener`](Self::adopt_listener).
    pub fn adopt_unix_listener(
        &mut self,
        endpoint: EndpointId,
        listener: UnixListener,
    ) -> io::Result<()> {
        let mut given = Some(listener);
        self.open(endpoint, &mut |sys, options, token| {
            let listener = given.take().ok_or(io::ErrorKind::InvalidInput)?;
            sys.adopt_unix(listener, options, token)
        })
    }

    /// Closes all listeners. Connections go on, and so does the server.
    pub fn stop_listening(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.stop_listening(&mut self.sys);
        }
    }
}

impl Server {
    /// All listeners, for a process that goes on with them: both accept callers until one
    /// [stops](Self::stop_listening). Files of Unix sockets are not removed by this server
    /// any more.
    ///
    /// # Errors
    ///
    /// The kernel's: no descriptor left.
    pub fn hand_over(&mut self) -> io::Result<Vec<OwnedFd>> {
        let mut fds = Vec::new();
        for endpoint in &mut self.endpoints {
            endpoint.each_listener(&mut |listener| fds.push(listener.hand_over()));
        }
        fds.into_iter().collect()
    }
}
