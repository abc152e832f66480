//! A listener that forgets no caller.
//!
//! The kernel tells of callers once. Whatever keeps us from taking them all (no
//! descriptor, no room, the end of our turn) must be remembered, or the last of
//! them is stranded until someone else calls. An [`Acceptor`] remembers.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::sys::Sys;
use crate::proto::service::PeerAddr;
use crate::throttle::Throttle;

/// Connections accepted in one turn, so that those which are open keep theirs.
pub(crate) const ACCEPTS_PER_TURN: usize = 128;
/// How long accepting pauses after an error that another try would meet again.
const PAUSE: Duration = Duration::from_millis(100);

/// One listener and what is known of its queue.
pub(crate) struct Acceptor<L> {
    pub(crate) listener: L,
    /// There may be callers in the queue. Only an empty queue clears it.
    callers: bool,
    /// Accepting failed; not before this time again.
    paused_until: Option<Duration>,
    warnings: Throttle,
}

/// What came of one try to accept.
pub(crate) enum Accepted<R> {
    /// A connection.
    Caller(R, PeerAddr),
    /// The caller hung up while queued.
    Lost,
    /// Nobody waits, or accepting has to pause.
    Nobody,
    /// No descriptor was left, and one caller was hung up on.
    Shed,
}

impl<L> Acceptor<L> {
    pub(crate) fn new(listener: L) -> Self {
        Self { listener, callers: false, paused_until: None, warnings: Throttle::default() }
    }

    /// The kernel says that someone calls.
    pub(crate) fn note_callers(&mut self) {
        self.callers = true;
    }

    /// A descriptor was freed: what failed may work now.
    pub(crate) fn unpause(&mut self) {
        self.paused_until = None;
    }

    /// There is no place now, and there may be one without anything being freed.
    pub(crate) fn pause(&mut self, now: Duration) {
        self.paused_until = Some(now + PAUSE);
    }

    /// Whether it makes sense to accept at `now`.
    pub(crate) fn is_ready(&self, now: Duration) -> bool {
        self.callers && self.paused_until.is_none_or(|until| until <= now)
    }

    /// When it makes sense to accept, if it does.
    pub(crate) fn ready_at(&self) -> Option<Duration> {
        self.callers.then(|| self.paused_until.unwrap_or_default())
    }

    /// Takes the next caller.
    pub(crate) fn accept<Y>(&mut self, sys: &mut Y, now: Duration) -> Accepted<Y::Stream>
    where
        Y: Sys<Listener = L>,
    {
        match sys.accept(&mut self.listener) {
            Ok((stream, addr)) => {
                self.paused_until = None;
                Accepted::Caller(stream, addr)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.callers = false;
                self.paused_until = None;
                Accepted::Nobody
            }
            Err(error) if is_callers(&error) => Accepted::Lost,
            // Usually EMFILE. The callers stay queued, but the edge that announced
            // them is spent: if all who will ever call have called, the kernel
            // never speaks of them again. So `callers` stays set, and the pause
            // ends by the clock. One of them is hung up on each time: a caller who
            // is told can try elsewhere. (Under level triggering the same error
            // has the opposite symptom: the loop spins and burns a core.)
            Err(error) => {
                self.paused_until = Some(now + PAUSE);
                if self.warnings.allows(now) {
                    log::warn!("cannot accept: {error}; trying again every {PAUSE:?}");
                }
                if is_no_descriptor(&error) && sys.shed(&mut self.listener) {
                    Accepted::Shed
                } else {
                    Accepted::Nobody
                }
            }
        }
    }
}

/// Errors of one caller, not of the listener: accept(2) hands on what happened to
/// a connection while it was queued. Everything not named here is taken for an
/// error of ours, which a pause cannot make worse.
fn is_callers(error: &io::Error) -> bool {
    const EPROTO: i32 = if cfg!(target_os = "linux") { 71 } else { 100 };
    matches!(
        error.kind(),
        ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::PermissionDenied
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EPROTO)
        || (cfg!(target_os = "linux")
            && matches!(error.raw_os_error(), Some(ENONET | ENOPROTOOPT | EHOSTDOWN)))
}

const ENONET: i32 = 64;
const ENOPROTOOPT: i32 = 92;
const EHOSTDOWN: i32 = 112;

/// EMFILE and ENFILE have the same numbers on every Unix, and no `ErrorKind`.
fn is_no_descriptor(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
