//! What a service asks for anyone but the peer it is serving.
//!
//! ```text
//!  bytes    |  msg 1  |  msg 2  |  msg 3  |      each message encoded once
//!  letters   to #5 ─┘   to all ┘   to all ┘      who gets which piece
//!  orders    close #7, timer of #5               what is not a message
//! ```
//!
//! Nothing happens while the service runs: it cannot be entered again, and the
//! connection it names may be the next one in the queue. The loop carries out
//! orders after the peer's turn and delivers letters at the end of its own.
//! The post knows encoders, not sockets.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::dial::Dial;
use super::framing::{Encode, EncodeError, make_room};
use super::service::{Audience, ConnId, EndpointId};

/// Messages and orders that wait for the end of a turn.
#[derive(Default)]
pub struct Post {
    bytes: Vec<u8>,
    letters: Vec<Letter>,
    orders: VecDeque<Order>,
    /// Connections that were opened so far, by the last one's number.
    dialed: u32,
    /// By endpoint: how its connections want messages to be framed.
    encoders: Vec<Rc<dyn Encode>>,
}

/// The most memory that letters take, in bytes: what one call of a service can post.
/// At the limit, `send` and `broadcast` fail with [`EncodeError::OutputFull`].
const MAX_SIZE: usize = 16 << 20;
/// From here on, in bytes, letters are delivered before anyone else is served, and
/// before the next message of the same peer is. Well below what may wait for a
/// connection: one that reads must not pass its limit because another speaks fast.
pub(crate) const HEAVY: usize = 32 << 10;
/// Memory of letters that is kept for the next turn, in bytes.
const MAX_KEPT: usize = 1 << 20;

/// One message for one connection or for all of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) to: Address,
    /// Where in [`Post::bytes`] it lies, framed.
    pub(crate) range: Range<usize>,
    /// How many messages it holds: those sent one after the other to the same are one
    /// letter, so that delivering them costs each recipient one look.
    pub(crate) messages: u64,
}

/// Who gets a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    One(ConnId),
    All { endpoint: u8, except: Option<ConnId> },
}

/// What a service wants done that is not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Open that connection.
    Connect(ConnId, Box<Dial>),
    /// Close that connection, in order.
    Close(ConnId),
    /// Finish sending to it.
    Finish(ConnId),
    /// Call its timer at that time.
    Timer(ConnId, Duration),
    /// End the server.
    Shutdown,
}

impl Post {
    /// An empty post without endpoints.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the encoder of the next endpoint.
    pub fn add_encoder(&mut self, encoder: Rc<dyn Encode>) {
        self.encoders.push(encoder);
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    pub(crate) fn connect(&mut self, EndpointId(endpoint): EndpointId, to: Dial) -> ConnId {
        self.dialed = self.dialed.wrapping_add(1);
        let id = ConnId::dialed(endpoint, self.dialed);
        // Before what is ordered already: closing a connection delivers all letters, and
        // those to this one must find it.
        self.orders.push_front(Order::Connect(id, Box::new(to)));
        id
    }

    pub(crate) fn send(&mut self, to: ConnId, message: &[u8]) -> Result<(), EncodeError> {
        self.write(to.endpoint(), message, [Address::One(to)])
    }

    pub(crate) fn send_all(
        &mut self,
        to: impl IntoIterator<Item = ConnId>,
        message: &[u8],
    ) -> Result<(), EncodeError> {
        let mut to = to.into_iter().peekable();
        let Some(first) = to.peek() else { return Ok(()) };
        let endpoint = first.endpoint();
        // The bytes are framed for one endpoint; to any other they are noise.
        let to = to.filter(|id| id.endpoint() == endpoint);
        self.write(endpoint, message, to.map(Address::One))
    }

    pub(crate) fn broadcast(
        &mut self,
        from: ConnId,
        to: Audience,
        message: &[u8],
    ) -> Result<(), EncodeError> {
        let except = (to == Audience::Others).then_some(from);
        self.broadcast_on(from.endpoint(), except, message)
    }

    pub(crate) fn broadcast_on(
        &mut self,
        endpoint: u8,
        except: Option<ConnId>,
        message: &[u8],
    ) -> Result<(), EncodeError> {
        self.write(endpoint, message, [Address::All { endpoint, except }])
    }

    fn write(
        &mut self,
        endpoint: u8,
        message: &[u8],
        to: impl IntoIterator<Item = Address>,
    ) -> Result<(), EncodeError> {
        // A name of no endpoint can only come from another server: nobody is there.
        let Some(encoder) = self.encoders.get(usize::from(endpoint)) else { return Ok(()) };
        let (start, letters) = (self.bytes.len(), self.letters.len());
        make_room(&mut self.bytes, message.len())?;
        encoder.encode(message, &mut self.bytes)?;
        let range = start..self.bytes.len();
        for to in to {
            match self.letters.last_mut() {
                Some(last) if last.to == to && last.range.end == start => {
                    last.range.end = range.end;
                    last.messages += 1;
                }
                _ => self.letters.push(Letter { to, range: range.clone(), messages: 1 }),
            }
            let queued = self.size();
            // One message alone has the limit of its framing.
            if queued > MAX_SIZE && start > 0 {
                self.take_back(start, letters);
                return Err(EncodeError::OutputFull { queued, max: MAX_SIZE });
            }
        }
        Ok(())
    }

    /// Forgets what was written from `start` on, and all but the first `letters`.
    fn take_back(&mut self, start: usize, letters: usize) {
        self.bytes.truncate(start);
        self.letters.truncate(letters);
        if let Some(last) = self.letters.last_mut().filter(|last| last.range.end > start) {
            last.range.end = start;
            last.messages -= 1;
        }
    }

    /// Memory that the letters so far take, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.letters.len() * size_of::<Letter>()
    }

    /// The oldest order.
    pub(crate) fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Whether letters should leave before the next message is served.
    pub(crate) fn is_heavy(&self) -> bool {
        !self.letters.is_empty() && self.size() >= HEAVY
    }

    /// The letters so far and the bytes they refer to.
    pub(crate) fn take_letters(&mut self) -> (Vec<Letter>, Vec<u8>) {
        (std::mem::take(&mut self.letters), std::mem::take(&mut self.bytes))
    }

    pub(crate) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Gives the memory of delivered letters back for the next turn.
    pub(crate) fn recycle(&mut self, mut letters: Vec<Letter>, mut bytes: Vec<u8>) {
        letters.clear();
        bytes.clear();
        // A service that was called meanwhile may have written again.
        let kept = bytes.capacity() + letters.capacity() * size_of::<Letter>();
        if self.letters.is_empty() && kept <= MAX_KEPT {
            self.letters = letters;
            self.bytes = bytes;
        }
    }
}
