//! What must hold after each turn: the books balance (I4), limits are kept (I6), nobody
//! has more than its share (I10, I11), and what is held follows from what came (I16).

use oneloop::{CloseReason, Counters};

use super::kernel::{FIXED, SECOND, World};
use super::oracle::rule;

/// Reads of one connection in one turn: four for its own entry in the queue, when it has
/// rested, when there is memory again, and when a sweep tries again what was not written.
const READS: u32 = 16;
/// And for each event, and each delivery, which gives those their turn who were sent something.
const MORE_READS: u32 = 4;

impl World {
    /// Holds after every turn.
    pub(crate) fn after_turn(&mut self, counters: &Counters, buffered: usize) {
        let closed: u64 = counters.closed.iter().sum();
        let now = (counters.open + counters.dialing) as u64;
        rule!("I4", counters.accepted + counters.dialed == now + closed, "{counters:?}");
        let (here, streams) = (counters.open + counters.lingering, self.ledger.streams);
        rule!(
            "I4",
            (here..=here + counters.dialing).contains(&streams),
            "{streams} sockets, {} of them calling: {counters:?}",
            self.ledger.dialing
        );
        let listener = usize::from(self.listening);
        rule!("I4", self.open == FIXED + listener + streams, "descriptors: {}", self.open);
        let max = self.plan.max_connections * 2;
        rule!("I6", counters.open <= max, "{} are too many", counters.open);
        let frame = self.plan.max_message + 32;
        // Input: one message and one read; output: the cap. Both in powers of two.
        let each = 2 * (2 * frame + self.plan.high + (64 << 10));
        let all = (counters.open + counters.lingering + counters.dialing) * each;
        rule!("I6", buffered <= all, "{buffered} bytes wait for {counters:?}");
        let come = self.ledger.bytes_read + self.ledger.said;
        let most = 4 * come as usize + 1024 * streams;
        rule!("I16", buffered <= most, "{buffered} bytes of {come} that were read or said");
        self.check_memory(buffered);
        let panics = counters.closed_by(CloseReason::HandlerPanic);
        rule!("I15", panics == self.ledger.panics, "{panics} panics for {}", self.ledger.panics);
        for conn in std::mem::take(&mut self.ledger.overdrawn) {
            let over = self.sockets[conn as usize].track.over.is_some()
                || self.sockets[conn as usize].fin_out
                || self.sockets[conn as usize].no_space
                || self.sockets[conn as usize].write_failed;
            rule!("I6", over, "{conn} was wrong too often, and goes on");
        }
        let ledger = &mut self.ledger;
        (ledger.read_before, ledger.said_before) = (ledger.bytes_read, ledger.said);
        (ledger.posts, ledger.calling) = (0, counters.dialing);
        ledger.longest_turn = ledger.longest_turn.max(self.now - self.told_now);
        self.turn += 1;
    }

    /// No more waits than may, and nobody waits for ever for what others hold.
    fn check_memory(&mut self, buffered: usize) {
        self.ledger.buffered = buffered;
        let Some(memory) = self.plan.memory else { return };
        rule!("I6", buffered <= memory, "{buffered} bytes wait, and {memory} may");
        let tight = self.is_tight();
        self.ledger.tight_turns += u64::from(tight);
        if !tight || self.listener.queue.is_empty() || self.plan.time_jumps() {
            self.ledger.shut_since = None;
            return;
        }
        let since = *self.ledger.shut_since.get_or_insert(self.now);
        let waits = self.now - since;
        let most = 4 * SECOND + self.delays();
        rule!("I7", waits <= most, "nobody is let in for {waits}: {buffered} of {memory} bytes");
    }

    /// Whether nine tenths of the memory were in use after the last turn.
    pub(super) fn is_tight(&self) -> bool {
        let held = self.ledger.buffered;
        self.plan.memory.is_some_and(|memory| held >= memory - memory / 10)
    }

    /// Counts an accept that failed for want of something; forgets those of last second.
    pub(crate) fn note_failed_accept(&mut self) {
        let now = self.now;
        // A descriptor that is freed is a reason to try again.
        if std::mem::replace(&mut self.ledger.freed, false) {
            return;
        }
        let failed = &mut self.ledger.accepts_failed;
        failed.push_back(now);
        while failed.front().is_some_and(|&time| time + SECOND < now) {
            failed.pop_front();
        }
    }

    /// A read of `conn` is about to happen.
    pub(crate) fn note_read(&mut self, conn: u32) {
        let socket = &mut self.sockets[conn as usize];
        socket.note_turn(self.turn);
        socket.reads_this_turn += 1;
        let most = READS + MORE_READS * (socket.told_this_turn + self.ledger.posts);
        let reads = socket.reads_this_turn;
        rule!("I10", reads <= most, "{conn} is read {reads} times in one turn, of {most}");
    }

    /// An edge was told: it must be looked at within a few turns.
    pub(crate) fn note_unfair(&self) {
        // Who speaks to others, or too fast, or needs memory, is held, and not for long.
        let plain = self.plan.acts.iter().skip(3).all(|&share| share == 0)
            && (self.plan.message_rate, self.plan.memory) == (None, None);
        let (turns, time) = if plain { (8, 0) } else { (200, 4 * SECOND) };
        // Nobody is promised a share of too little memory.
        if !plain && (self.plan.time_jumps() || self.plan.memory.is_some()) {
            return;
        }
        for (conn, socket) in self.sockets.iter().enumerate() {
            let track = &socket.track;
            let waits = socket.told > 0
                && socket.told + turns < self.turn
                && (plain || socket.told_at + time < self.now);
            // Who has output waiting is not read.
            let idle = track.writes
                || socket.no_space
                || socket.write_failed
                || socket.closed
                || socket.fin_read;
            let over = socket.track.over.is_some();
            rule!("I11", !waits || idle || over, "{conn} waits since {}: {socket:?}", socket.told);
        }
    }
}
