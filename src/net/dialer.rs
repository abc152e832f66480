//! Connections on their way out: each calls its addresses in turn until one answers.
//!
//! ```text
//!           ┌──────── retry, after a pause ────────┐
//!           ▼                                      │
//!  begin ─▶ call an address ─▶ the next one ─▶ all have failed ─▶ Over
//!                 └─▶ it answers: Connected, and a connection like any other
//! ```
//!
//! Knows addresses and times; whose service wants the connection is the endpoint's
//! business. What is sent to it meanwhile waits in the pool.

use std::collections::HashMap;
use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use slab::Slab;

use super::sys::{DialOptions, Sys, Token, Watch};
use crate::proto::buffer::{BufferId, Pool};
use crate::proto::dial::{ConnectError, Dial, Target};
use crate::proto::service::{CloseReason, ConnId, PeerAddr};
use crate::proto::tick::Tick;

/// The calls of one endpoint.
///
/// Invariant: `places` says `Calling` of each of `attempts`, and of nothing else.
pub(crate) struct Dialer<R> {
    /// And the numbers in their names.
    attempts: Slab<(u32, Attempt<R>)>,
    /// By that number, of those that were answered as well: their names do not tell.
    places: HashMap<u32, Place>,
}

/// Where one of our own is. Indices are below 2^24 in the slab of peers, and fewer than
/// memory has room for here.
#[derive(Clone, Copy)]
enum Place {
    /// Nobody has answered yet: in `attempts`.
    Calling(u32),
    /// In the slab of peers.
    Connected(u32),
}

/// A call that nobody has answered yet.
pub(crate) struct Attempt<R> {
    dial: Dial,
    /// The address to call next.
    next: usize,
    /// How often all of them have been called.
    tries: u32,
    /// The call that is under way; between two tries there is none.
    stream: Option<R>,
    /// What was sent to the connection that is to be.
    pub(crate) queued: Option<BufferId>,
    pub(crate) error: ConnectError,
    /// Our FIN is to follow what is queued.
    pub(crate) finish: bool,
    /// It has failed, for this reason, and its service will be told.
    pub(crate) fate: Option<CloseReason>,
}

/// What comes next.
pub(crate) enum Step<R> {
    /// What is under way.
    Wait,
    /// That, but not longer than so.
    WaitFor(Duration),
    /// The connection is there.
    Connected(R, PeerAddr),
    /// All was tried.
    Over,
}

impl<R> Default for Dialer<R> {
    fn default() -> Self {
        Self { attempts: Slab::new(), places: HashMap::new() }
    }
}

impl<R> Dialer<R> {
    /// How many calls are under way.
    pub(crate) fn dialing(&self) -> usize {
        self.attempts.len()
    }

    /// The names of all calls that are under way; in an order that depends on nothing but
    /// what was done, so that what happens to all of them happens the same every time.
    pub(crate) fn all(&self, endpoint: u8) -> Vec<ConnId> {
        let names = self.attempts.iter().map(|(_, (number, _))| ConnId::dialed(endpoint, *number));
        names.collect()
    }

    /// What is to be sent holds so many bytes of memory, by the number of the call.
    pub(crate) fn held(&self, pool: &Pool) -> impl Iterator<Item = (usize, u32)> {
        let queued = |attempt: &Attempt<R>| attempt.queued.map_or(0, |id| pool.size(id));
        self.attempts.iter().map(move |(_, (number, attempt))| (queued(attempt), *number))
    }

    pub(crate) fn begin(&mut self, id: ConnId, dial: Dial, fate: Option<CloseReason>) {
        let attempt = Attempt {
            dial,
            next: 0,
            tries: 0,
            stream: None,
            queued: None,
            error: ConnectError::NoAddress,
            finish: false,
            fate,
        };
        let index = self.attempts.insert((id.generation(), attempt));
        self.places.insert(id.generation(), Place::Calling(index as u32));
    }

    pub(crate) fn find(&mut self, id: ConnId) -> Option<&mut Attempt<R>> {
        let index = self.index_of(id)?;
        self.attempts.get_mut(index).map(|(_, attempt)| attempt)
    }

    /// Ends a call: it was answered, or given up.
    pub(crate) fn end(&mut self, id: ConnId) -> Option<Attempt<R>> {
        let index = self.index_of(id)?;
        self.places.remove(&id.generation());
        self.attempts.try_remove(index).map(|(_, attempt)| attempt)
    }

    /// From now on `id` is the connection at `key`.
    pub(crate) fn connected(&mut self, id: ConnId, key: usize) {
        self.places.insert(id.generation(), Place::Connected(key as u32));
    }

    pub(crate) fn key_of(&self, id: ConnId) -> Option<usize> {
        match self.places.get(&id.generation())? {
            Place::Calling(_) => None,
            Place::Connected(key) => Some(*key as usize),
        }
    }

    fn index_of(&self, id: ConnId) -> Option<usize> {
        // Others have generations of their own.
        if !id.is_dialed() {
            return None;
        }
        match self.places.get(&id.generation())? {
            Place::Calling(index) => Some(*index as usize),
            Place::Connected(_) => None,
        }
    }

    /// The connection of that generation is gone.
    pub(crate) fn forget(&mut self, generation: u32) {
        if generation & ConnId::OURS != 0 {
            self.places.remove(&generation);
        }
    }
}

impl<R> Attempt<R> {
    /// Calls the next address, and the one after it if that fails at once.
    pub(crate) fn call<Y>(&mut self, sys: &mut Y, id: ConnId, options: &DialOptions) -> Step<R>
    where
        Y: Sys<Stream = R>,
    {
        while let Some(target) = self.dial.targets.get(self.next) {
            self.next += 1;
            match open(sys, target, id, options) {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return Step::WaitFor(self.dial.timeout);
                }
                Err(error) => self.note(&error),
            }
        }
        self.next = 0;
        self.tries = self.tries.saturating_add(1);
        if self.tries >= self.dial.retry.tries || self.dial.targets.is_empty() {
            return Step::Over;
        }
        Step::WaitFor(self.dial.retry.pause(self.tries, sys.random()))
    }

    /// Something happened to the call that is under way, the kernel says.
    pub(crate) fn ready<Y>(&mut self, sys: &mut Y, id: ConnId, options: &DialOptions) -> Step<R>
    where
        Y: Sys<Stream = R>,
    {
        // Perhaps it was said of the one before.
        let Some(mut stream) = self.stream.take() else { return Step::Wait };
        match sys.connect_result(&mut stream) {
            Ok(true) => return Step::Connected(stream, self.addr()),
            Ok(false) => {
                self.stream = Some(stream);
                return Step::Wait;
            }
            Err(error) => self.note(&error),
        }
        sys.close(stream);
        self.call(sys, id, options)
    }

    /// The time is up: for the address to answer, or for the pause.
    pub(crate) fn timer<Y>(&mut self, sys: &mut Y, id: ConnId, options: &DialOptions) -> Step<R>
    where
        Y: Sys<Stream = R>,
    {
        if self.hang_up(sys) {
            self.error = ConnectError::TimedOut;
        }
        self.call(sys, id, options)
    }

    /// Ends the call that is under way, if there is one.
    pub(crate) fn hang_up<Y: Sys<Stream = R>>(&mut self, sys: &mut Y) -> bool {
        self.stream.take().map(|stream| sys.close(stream)).is_some()
    }

    /// Keeps what is sent to the connection; false if that is too much, or there is no
    /// memory for it.
    pub(crate) fn queue(&mut self, bytes: &[u8], max: usize, pool: &mut Pool, tick: Tick) -> bool {
        let waiting = self.queued.map_or(0, |queued| pool.get(queued).waiting().len());
        if waiting + bytes.len() > max {
            return false;
        }
        let kept = match self.queued {
            Some(queued) => pool.extend(queued, bytes),
            None if bytes.is_empty() => Ok(()),
            None => pool.keep(bytes, tick).map(|queued| self.queued = Some(queued)),
        };
        kept.is_ok()
    }

    /// How to call on behalf of this one.
    pub(crate) fn options(&self, options: DialOptions) -> DialOptions {
        DialOptions { source: self.dial.source, ..options }
    }

    /// The address that was called last.
    pub(crate) fn addr(&self) -> PeerAddr {
        match self.dial.targets.get(self.next.saturating_sub(1)) {
            Some(Target::Tcp(addr)) => (*addr).into(),
            Some(Target::Unix(_)) | None => PeerAddr::Unix(0),
        }
    }

    fn note(&mut self, error: &io::Error) {
        self.error = match error.raw_os_error() {
            Some(errno) => ConnectError::Os(errno),
            // A path that is too long for a Unix socket, for one.
            None => ConnectError::NoAddress,
        };
    }
}

/// Calls one address, and watches for what comes of it.
fn open<Y: Sys>(
    sys: &mut Y,
    target: &Target,
    id: ConnId,
    options: &DialOptions,
) -> io::Result<Y::Stream> {
    let mut stream = sys.connect(target, options)?;
    if let Err(error) = sys.watch(&mut stream, Token::conn(id), Watch::Connect) {
        sys.close(stream);
        return Err(error);
    }
    Ok(stream)
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::TimedOut => io::ErrorKind::TimedOut.into(),
            ConnectError::Os(errno) => Self::from_raw_os_error(errno),
            ConnectError::NoAddress => io::ErrorKind::AddrNotAvailable.into(),
        }
    }
}

impl Dial {
    /// Looks `name` up, which may take seconds, for a call to its addresses: see
    /// [`Dial::new`].
    ///
    /// # Errors
    ///
    /// The name is not known, or no name.
    pub fn resolve(name: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self::new(name.to_socket_addrs()?))
    }
}
