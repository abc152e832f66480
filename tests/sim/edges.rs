//! What the simulated kernel tells when it is asked to wait: edges, in any order, in
//! pieces, twice, late, and some that are not so.

use oneloop::net::{Ready, Token};

use super::kernel::World;
use super::plan::Fault;
use super::socket::Socket;

impl World {
    /// What is true of a socket, as far as it is watched.
    fn state(&self, socket: &Socket) -> (bool, bool, bool) {
        let broken = match socket.answer {
            None => return (false, false, false),
            Some(answer) => answer.is_err() || socket.reset_in,
        };
        let readable = !socket.inbound.is_empty() || socket.fin_in || broken;
        let writable = socket.watches_write && (self.has_room(socket) || broken);
        (readable, writable, socket.fin_in || broken)
    }

    /// Takes the oldest off the list, up to a batch, and shuffles them.
    pub(super) fn harvest(&mut self, batch: &mut Vec<Ready>) -> bool {
        if self.bell.take() {
            let token = Token::WAKER;
            batch.push(Ready { token, readable: true, writable: false, read_closed: false });
        }
        if std::mem::take(&mut self.signal) {
            self.host = true;
            self.ledger.progress += 1;
            let token = Token::HOST;
            batch.push(Ready { token, readable: true, writable: false, read_closed: false });
        }
        if std::mem::take(&mut self.listener.listed)
            && let Some(token) = self.listener.token
        {
            batch.push(Ready { token, readable: true, writable: false, read_closed: false });
        }
        let (mut rest, mut more) = (self.list.len(), false);
        while batch.len() < self.plan.batch && rest > 0 {
            rest -= 1;
            let Some(index) = self.list.pop_front() else { break };
            if !batch.is_empty() && self.strikes(Fault::Delay, index) {
                self.list.push_back(index);
                more = true;
                continue;
            }
            self.report(index, batch);
        }
        for last in (1..batch.len()).rev() {
            let other = self.rng.below(last as u64 + 1) as usize;
            batch.swap(last, other);
        }
        more || batch.len() >= self.plan.batch
    }

    fn report(&mut self, index: u32, batch: &mut Vec<Ready>) {
        let turn = self.turn;
        let socket = &mut self.sockets[index as usize];
        socket.listed = false;
        let (Some(token), false) = (socket.token, socket.closed) else { return };
        let (readable, writable, read_closed) = self.state(&self.sockets[index as usize]);
        if !(readable || writable) {
            return;
        }
        let now = self.now;
        let socket = &mut self.sockets[index as usize];
        if readable && socket.told == 0 {
            (socket.told, socket.told_at) = (turn, now);
        }
        socket.note_turn(turn);
        // Perhaps in two parts, perhaps twice.
        socket.told_this_turn += 3;
        if writable && socket.no_space {
            socket.no_space = false;
            (socket.track.unblocked, socket.track.unblocked_turn) = (now, turn);
        }
        self.ledger.events += 1;
        self.ledger.progress += 1;
        self.trace(9, u64::from(index));
        let ready = Ready { token, readable, writable, read_closed };
        if readable && writable && self.strikes(Fault::Split, index) {
            batch.push(Ready { writable: false, ..ready });
            batch.push(Ready { readable: false, read_closed: false, ..ready });
        } else {
            batch.push(ready);
        }
        if self.strikes(Fault::Twice, index) {
            batch.push(ready);
        }
    }

    /// Reports that are not so: of any connection that is, or was.
    pub(super) fn lie(&mut self, batch: &mut Vec<Ready>) {
        let count = self.sockets.len() as u64;
        for fault in [Fault::Spurious, Fault::Stale] {
            if count == 0 || !self.hits(fault) {
                continue;
            }
            let index = self.rng.below(count) as u32;
            let socket = &self.sockets[index as usize];
            if let Some(token) = socket.token
                && socket.closed == (fault == Fault::Stale)
            {
                self.cover.note(fault, socket.stage());
                let socket = &mut self.sockets[index as usize];
                socket.note_turn(self.turn);
                socket.told_this_turn += 1;
                let flags = self.rng.next();
                let (readable, writable) = (flags & 1 > 0, flags & 2 > 0);
                batch.push(Ready { token, readable, writable, read_closed: flags & 4 > 0 });
            }
        }
    }

    /// Lets time pass until something is to be told, at most until `deadline`.
    pub(super) fn pass(&mut self, deadline: Option<u64>) {
        loop {
            self.run_due();
            // The test wants to look.
            if self.now > self.alarm || self.ledger.events >= self.until {
                return;
            }
            let rings = self.bell.rings() || self.signal;
            if !self.list.is_empty() || self.listener.listed || rings {
                return;
            }
            match (self.next_event(), deadline) {
                (Some(next), None) => self.now = next,
                (Some(next), Some(deadline)) if next <= deadline => self.now = next,
                (_, Some(deadline)) => {
                    self.now = self.now.max(deadline);
                    self.run_due();
                    return;
                }
                (None, None) => {
                    self.asleep = true;
                    return;
                }
            }
        }
    }

    /// A fault that is nobody's: it meets all who are open.
    pub(super) fn note_all(&mut self, fault: Fault) {
        for socket in &self.sockets {
            if !socket.closed {
                self.cover.note(fault, socket.stage());
            }
        }
    }

    pub(super) fn free(&mut self, index: u32) {
        let dialing = {
            let socket = &self.sockets[index as usize];
            assert!(!socket.closed, "closed twice: {socket:?}");
            socket.dialed && socket.answer != Some(Ok(()))
        };
        self.open -= 1;
        self.ledger.streams -= 1;
        self.ledger.freed = true;
        self.ledger.dialing -= usize::from(dialing);
        self.ledger.progress += 1;
        let socket = &mut self.sockets[index as usize];
        socket.closed = true;
        socket.told = 0;
        socket.track.left_behind = socket.no_space || socket.write_failed;
        if !socket.inbound.is_empty() {
            // RFC 1122, 4.2.2.13: what is under way is lost, or a part of it.
            socket.reset_out = true;
            socket.outbound.clear();
        }
        socket.inbound.end();
        if socket.reset_in {
            socket.outbound.end();
        }
        self.trace(10, u64::from(index));
        self.wake_peer(index);
    }
}
