//! A new server in the place of this one, and no caller who notices.
//!
//! ```text
//!  old ── SIGUSR2 ──▶ starts the program at its path, same arguments, with its listeners
//!                       │                              (LISTEN_FDS, as systemd has them)
//!                       ▼
//!  old ◀── SIGTERM ── new: listens, on the very same sockets
//!   └─ closes its own ends of them, goes on for a second, drains, exits with 0
//! ```
//!
//! A listener is inherited, not bound anew: callers that wait in its queue stay there, and
//! whoever is alive accepts them. (Closing one of two that share a port by SO_REUSEPORT
//! would reset those in its queue.) If the new one comes to nothing, the old one goes on.
//!
//! LISTEN_PID is not set: the number of a child is known too late to be put into its
//! environment, and an absent one means whoever is asked.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The number of the process that a new server takes the place of.
const PREDECESSOR: &str = "ONELOOP_PREDECESSOR";
/// The first descriptor that is handed over, by systemd's convention.
const FIRST_FD: i32 = 3;
/// How long the old server goes on with those who had just come in when it was relieved:
/// they have not said yet what they want, and are closed by a drain.
const LAST_CALLERS: Duration = Duration::from_secs(1);

/// A listener that was handed to us.
pub(crate) enum Handed {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Takes the listeners that systemd, or the server before this one, has for us. Call it
/// before anything is opened.
///
/// # Errors
///
/// One of them is no listener that can be served.
pub(crate) fn handed() -> io::Result<Vec<Handed>> {
    let mut fds = ListenFd::from_env();
    let mut handed = Vec::new();
    for index in 0..fds.len() {
        let listener = match fds.take_tcp_listener(index) {
            Ok(tcp) => tcp.map(Handed::Tcp),
            Err(_) => fds.take_unix_listener(index)?.map(Handed::Unix),
        };
        handed.extend(listener);
    }
    Ok(handed)
}

/// Tells the server before this one, if it started us, that it can go.
pub(crate) fn relieve_predecessor() {
    let predecessor = std::env::var(PREDECESSOR).ok().and_then(|text| text.parse::<u32>().ok());
    // A variable may outlive whom it names; a parent is who it is.
    if predecessor.is_some_and(|pid| pid == std::os::unix::process::parent_id())
        && let Some(pid) = predecessor.and_then(|pid| i32::try_from(pid).ok())
        && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM)
    {
        log::warn!("[RESTART] cannot tell process {pid} to go: {error}");
    }
}

/// What it takes to start a successor, and the one that is being started.
pub(crate) struct Restart {
    /// Where this program was when it began: what lies there by then is started.
    program: io::Result<PathBuf>,
    args: Vec<OsString>,
    child: Option<Child>,
    drain_at: Option<Instant>,
}

impl Restart {
    pub(crate) fn new() -> Self {
        Self {
            program: std::env::current_exe(),
            args: std::env::args_os().skip(1).collect(),
            child: None,
            drain_at: None,
        }
    }

    /// Starts a successor with `listeners`.
    pub(crate) fn begin(&mut self, listeners: io::Result<Vec<OwnedFd>>) {
        self.look_after_child();
        if let Some(child) = &self.child {
            log::warn!("[RESTART] process {} is starting already", child.id());
            return;
        }
        match listeners.and_then(|listeners| self.spawn(listeners)) {
            Ok(child) => {
                log::info!("[RESTART] process {} is starting", child.id());
                self.child = Some(child);
            }
            Err(error) => log::error!("[RESTART] cannot start: {error}; this server goes on"),
        }
    }

    fn spawn(&self, listeners: Vec<OwnedFd>) -> io::Result<Child> {
        let program = match &self.program {
            Ok(path) => path,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let mut command = Command::new(program);
        command.args(&self.args);
        command.env("LISTEN_FDS", listeners.len().to_string());
        command.env_remove("LISTEN_PID").env_remove("LISTEN_FDNAMES");
        command.env(PREDECESSOR, std::process::id().to_string());
        let child_fds = FIRST_FD..;
        let mappings = listeners
            .into_iter()
            .zip(child_fds)
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
            .collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        command.spawn()
    }

    /// Whether a SIGTERM now means that the successor listens.
    pub(crate) fn is_relieved(&mut self) -> bool {
        self.look_after_child();
        self.child.is_some() && self.drain_at.is_none()
    }

    /// The successor listens; ours are to be closed now, and to be drained when
    /// [`is_time`](Self::is_time) says so.
    pub(crate) fn hand_over(&mut self) {
        self.drain_at = Some(Instant::now() + LAST_CALLERS);
    }

    /// How long to wait for the drain, if it is to come.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.drain_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the drain is to begin now.
    pub(crate) fn is_time(&mut self) -> bool {
        self.drain_at.take_if(|at| *at <= Instant::now()).is_some()
    }

    /// Notices a successor that came to nothing.
    pub(crate) fn look_after_child(&mut self) {
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            log::error!("[RESTART] process {} ended, {status}", child.id());
            self.child = None;
        }
    }

    /// Ends a successor that is not needed: this server itself is to end.
    pub(crate) fn give_up(&mut self) {
        if self.drain_at.is_none()
            && let Some(mut child) = self.child.take()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
