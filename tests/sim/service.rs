//! The service under test: what it does follows from each message, so that the peer who
//! sent it knows. Everything it hears goes to the oracle first.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use oneloop::{
    Audience, CloseReason, ConnId, Context, Dial, EndpointId, FrameError, PeerAddr, Retry, Served,
    Service,
};

use super::kernel::{MILLI, World};
use super::peers::Peer;
use super::plan::Fault;
use super::rng::mix;
use super::sys::{CALLED, CALLER};
use super::wire::{Act, RECEIPT};

/// Names of connections that are open, for those who speak to others.
pub(crate) type Names = Rc<RefCell<Vec<(ConnId, u32)>>>;

/// One of two endpoints: 0 listens, 1 calls.
pub(crate) struct SimService {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) names: Names,
    pub(crate) endpoint: usize,
    pub(crate) caller: EndpointId,
    pub(crate) scratch: Vec<u8>,
}

/// What is remembered of a connection: which of the kernel's it is.
#[derive(Default)]
pub(crate) struct Session {
    conn: Option<u32>,
    last: u32,
    /// The peer has finished; we have something to say yet.
    half_open: bool,
}

impl SimService {
    fn conn(&self, cx: &Context<'_>) -> Option<u32> {
        match cx.peer() {
            PeerAddr::V6(ip, CALLER) => Some(ip.to_bits() as u32),
            PeerAddr::V4(addr) => {
                let peer = addr.ip().to_bits() as usize;
                self.world.borrow().peers.get(peer)?.as_ref()?.last
            }
            _ => None,
        }
    }

    /// Panics, if that is the plan: as a service does, and without a word to the hook that
    /// notes the panics of this test.
    fn may_panic(&self, conn: u32) {
        let mut w = self.world.borrow_mut();
        if w.strikes(Fault::HandlerPanic, conn) {
            w.ledger.panics += 1;
            let track = w.track(conn);
            (track.panicked, track.reset_ordered) = (true, false);
            drop(w);
            resume_unwind(Box::new("planned"));
        }
    }

    /// Another connection that is open.
    fn other(&self, conn: u32, number: u32) -> Option<(ConnId, u32)> {
        let names = self.names.borrow();
        let at = mix(u64::from(conn) << 32 | u64::from(number)) % (names.len() as u64).max(1);
        names.get(at as usize).copied().filter(|&(_, other)| other != conn)
    }

    fn reply(&mut self, cx: &mut Context<'_>, conn: u32, message: &[u8]) -> Served {
        let replied = cx.reply(message);
        let mut w = self.world.borrow_mut();
        w.ledger.said += message.len() as u64 + 32;
        let track = w.track(conn);
        match replied {
            Ok(()) if track.finish_ordered => {}
            Ok(()) => track.owed += 1,
            Err(_) => panic!("I6: a reply to {conn} is refused: {replied:?}"),
        }
        Ok(())
    }

    fn note(&mut self, cx: &mut Context<'_>, conn: u32, number: u32) {
        self.scratch.clear();
        let mut w = self.world.borrow_mut();
        w.wire.note(b'T', conn, number, &mut self.scratch);
        w.ledger.said += self.scratch.len() as u64 + 32;
        let track = w.track(conn);
        match cx.reply(&self.scratch[..]) {
            Ok(()) if track.finish_ordered => {}
            Ok(()) => track.notes_owed += 1,
            // What others said to it may have filled it up.
            Err(_) => track.may_be_capped = true,
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, conn: u32, number: u32, message: &[u8]) {
        let Some((id, other)) = self.other(conn, number) else { return };
        let mut w = self.world.borrow_mut();
        if w.track(other).over.is_none() && cx.send(id, message).is_ok() {
            w.ledger.said += message.len() as u64 + 32;
            w.ledger.posts += 1;
            w.ledger.mail.entry(other).or_default().push_back((conn, number));
        }
    }

    fn broadcast(&mut self, cx: &mut Context<'_>, conn: u32, number: u32, act: Act, text: &[u8]) {
        let to = if act == Act::Others { Audience::Others } else { Audience::Everyone };
        if cx.broadcast(to, text).is_ok() {
            let ledger = &mut self.world.borrow_mut().ledger;
            ledger.said += (text.len() as u64 + 32) * ledger.live[self.endpoint] as u64;
            ledger.posts += 1;
            ledger.broadcasts[self.endpoint].push((act as u8, conn, number));
        }
    }

    fn call(&mut self, cx: &mut Context<'_>, conn: u32, number: u32) {
        let mut w = self.world.borrow_mut();
        let index = w.peers.len() as u32;
        let mut peer = Peer::new(index, &w.plan, true);
        let addr = SocketAddr::from((Ipv4Addr::from_bits(index), CALLED));
        let id = cx.connect(
            self.caller,
            Dial::from(addr)
                .timeout(Duration::from_secs(5))
                .retry(Retry::every(1 + number % 2, Duration::from_millis(300))),
        );
        self.scratch.clear();
        w.wire.note(b'G', conn, number, &mut self.scratch);
        if cx.send(id, &self.scratch).is_ok() {
            peer.greeting = Some((conn, number));
            w.ledger.said += self.scratch.len() as u64 + 32;
        }
        w.ledger.posts += 1;
        w.peers.push(Some(Box::new(peer)));
    }
}

impl Service for SimService {
    type Session = Session;

    fn opened(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Served {
        let conn = self.conn(cx).expect("every connection has an address that tells whose it is");
        session.conn = Some(conn);
        self.names.borrow_mut().push((cx.id(), conn));
        self.world.borrow_mut().open(conn, self.endpoint);
        self.may_panic(conn);
        Ok(())
    }

    fn message(&mut self, cx: &mut Context<'_>, session: &mut Session, message: &[u8]) -> Served {
        let conn = session.conn.expect("it was opened");
        let heard = {
            let mut w = self.world.borrow_mut();
            let heard = w.deliver(conn, message);
            if w.strikes(Fault::SlowHandler, conn) {
                let time = w.rng.scale(MILLI, 60_000 * MILLI);
                w.now += time;
                w.ledger.slow += time;
            }
            heard
        };
        let Some((act, number)) = heard else { return Ok(()) };
        session.last = number;
        self.world.borrow_mut().note_answer(conn, number);
        // Before it has done anything, or when all is done.
        self.may_panic(conn);
        match act {
            Act::Echo => self.reply(cx, conn, message)?,
            Act::Receipt => self.reply(cx, conn, RECEIPT)?,
            Act::Fan => {
                let copies = self.world.borrow().wire.replies(conn, number);
                for _ in 0..copies {
                    self.reply(cx, conn, message)?;
                }
            }
            Act::Others | Act::Everyone => self.broadcast(cx, conn, number, act, message),
            Act::Send => self.send(cx, conn, number, message),
            Act::CloseOther => {
                if let Some((id, other)) = self.other(conn, number) {
                    let mut w = self.world.borrow_mut();
                    w.track(other).close_ordered = true;
                    w.ledger.posts += 1;
                    cx.close(id);
                }
            }
            Act::CloseSelf => {
                self.world.borrow_mut().track(conn).close_ordered = true;
                cx.close_after_flush();
            }
            Act::FinishSelf => {
                self.world.borrow_mut().note_finish(conn);
                cx.finish(cx.id());
            }
            Act::Timer => {
                let delay = Duration::from_millis(mix(u64::from(number)) % 3000);
                cx.set_timer(delay);
                let at = (cx.now() + delay).as_nanos() as u64;
                self.world.borrow_mut().track(conn).timer = Some(at);
            }
            Act::Call => self.call(cx, conn, number),
            Act::Reset => {
                let mut w = self.world.borrow_mut();
                let track = w.track(conn);
                (track.close_ordered, track.reset_ordered) = (true, true);
                cx.reset();
            }
        }
        self.may_panic(conn);
        Ok(())
    }

    fn bad_input(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        error: &FrameError,
    ) -> Served {
        // As a service would log it.
        super::log::check(&format!("{}: {error} {:?}", cx.peer(), cx.guess()));
        let conn = session.conn.expect("it was opened");
        {
            let mut w = self.world.borrow_mut();
            let (now, pace) = (w.told_now, w.plan.error_rate);
            let track = w.track(conn);
            let allowed = track.nonsense || track.cut_off;
            assert!(allowed, "I1: {conn} is said to be wrong: {error}");
            if let Some(pace) = pace
                && !track.errors.take(pace, now)
            {
                w.ledger.overdrawn.push(conn);
            }
        }
        self.may_panic(conn);
        Ok(())
    }

    fn finished(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Served {
        let conn = session.conn.expect("it was opened");
        if conn.is_multiple_of(8) {
            session.half_open = true;
            cx.keep_open();
            let delay = Duration::from_millis(700);
            cx.set_timer(delay);
            let at = (cx.now() + delay).as_nanos() as u64;
            self.world.borrow_mut().track(conn).timer = Some(at);
        }
        self.may_panic(conn);
        Ok(())
    }

    fn timer(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Served {
        let conn = session.conn.expect("it was opened");
        {
            let mut w = self.world.borrow_mut();
            let now = w.now;
            let due = w.track(conn).timer.take();
            assert!(due.is_some(), "I7: a timer of {conn} that nobody set");
            assert!(due.is_none_or(|due| due <= now), "I7: the timer of {conn} comes early");
            w.ledger.progress += 1;
        }
        self.note(cx, conn, session.last);
        if session.half_open {
            self.world.borrow_mut().track(conn).close_ordered = true;
            cx.close_after_flush();
        }
        self.may_panic(conn);
        Ok(())
    }

    fn closed(&mut self, cx: &mut Context<'_>, session: &mut Session, reason: CloseReason) {
        let mut names = self.names.borrow_mut();
        let id = cx.id();
        if let Some(at) = names.iter().position(|&(name, _)| name == id) {
            names.swap_remove(at);
        }
        let mut w = self.world.borrow_mut();
        match session.conn {
            Some(conn) => {
                w.close(conn, reason);
                // It is over, and that is all that it can be.
                if w.strikes(Fault::HandlerPanic, conn) {
                    w.track(conn).panicked_last = true;
                    drop((w, names));
                    resume_unwind(Box::new("planned"));
                }
            }
            None => {
                // A call that came to nothing.
                let failed = matches!(
                    reason,
                    CloseReason::ConnectFailed
                        | CloseReason::MaxConnections
                        | CloseReason::RegisterFailed
                        | CloseReason::Memory
                        | CloseReason::AppClose
                        | CloseReason::Shutdown
                );
                assert!(failed, "I4: a call ends with {reason}");
                w.ledger.progress += 1;
            }
        }
    }
}
