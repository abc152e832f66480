//! What one seed draws: the faults and how likely each is, the peers, the limits, the
//! kernel's sizes. "Swarm": most seeds leave most faults out, so that each seed is
//! another kind of bad day.
//!
//! A plan is plain numbers. What shrinks a failing seed only lowers them, and all that
//! it changed can be said on a command line.

use std::time::Duration;

use oneloop::WhenFull;

use super::quota::Pace;
use super::rng::Rng;
use super::wire::{Act, Codec};

macro_rules! faults {
    ($($name:ident $word:literal),* $(,)?) => {
        /// Everything that can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault { $($name),* }

        impl Fault {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
            pub(crate) const WORDS: &[&str] = &[$($word),*];
        }
    };
}

faults! {
    ShortRead "short-read", ReadBlock "read-block", ReadEintr "read-eintr", ReadErrno "read-errno",
    ShortWrite "short-write", WriteBlock "write-block", WriteEintr "write-eintr",
    WriteNoBufs "write-nobufs", WriteErrno "write-errno", WatchErrno "watch-errno",
    AcceptErrno "accept-errno", AcceptLost "accept-lost", AcceptEintr "accept-eintr",
    NoDescriptor "no-descriptor", ConnectErrno "connect-errno", ConnectRefused "connect-refused",
    ConnectSilent "connect-silent", ConnectLate "connect-late", FinishErrno "finish-errno",
    WaitEintr "wait-eintr", Spurious "spurious", Stale "stale", Twice "twice", Split "split",
    Delay "delay", Rearm "rearm", Reset "reset", Fin "fin", Truncate "truncate",
    Nonsense "nonsense", Silent "silent", ZeroWindow "zero-window", ClockGap "clock-gap",
    SlowHandler "slow-handler", Command "command", Shutdown "shutdown",
    HandlerPanic "handler-panic", ListenErrno "listen-errno",
    Signal "signal", Restart "restart",
}

impl Fault {
    pub(crate) fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.word() == word)
    }
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Drawn for a run of a few milliseconds: fewer peers, who say less.
    pub(crate) small: bool,
    /// Events before the faults end.
    pub(crate) events: u64,
    pub(crate) peers: usize,
    /// Of 65,536 chances, by fault.
    pub(crate) chances: [u32; Fault::ALL.len()],
    pub(crate) codec: Codec,
    pub(crate) acts: [u32; Act::ALL.len()],
    pub(crate) max_message: usize,
    pub(crate) usual_message: usize,
    /// Messages of one connection.
    pub(crate) messages: u32,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    pub(crate) backlog: usize,
    pub(crate) batch: usize,
    pub(crate) descriptors: usize,
    pub(crate) max_connections: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) high: usize,
    pub(crate) frame_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    /// What a call into the kernel takes, in ns.
    pub(crate) call_time: u64,
    /// Peers say much, and little at a time: many messages for each event.
    pub(crate) busy: bool,
    /// All peers call at once.
    pub(crate) herd: bool,
    /// For all waiting bytes together.
    pub(crate) memory: Option<usize>,
    /// Peers share so many addresses; the first one has no limit if `exempt`.
    pub(crate) hosts: u32,
    pub(crate) exempt: bool,
    pub(crate) per_ip: Option<usize>,
    pub(crate) accept_rate: Option<Pace>,
    pub(crate) message_rate: Option<Pace>,
    pub(crate) error_rate: Option<Pace>,
    pub(crate) drain: Duration,
}

impl Plan {
    /// What `seed` draws; `events` are those before the faults end.
    pub(crate) fn draw(seed: u64, events: u64, small: bool) -> Self {
        let rng = &mut Rng(seed ^ 0x0005_1a11);
        let codec = rng.pick(&Codec::ALL);
        let herd = rng.below(8) == 0;
        let busy = !herd && rng.below(3) == 0;
        let roomy = rng.below(4) == 0;
        let max_message = match codec {
            _ if busy => rng.scale(64, 2000) as usize,
            Codec::U16le => 60_000,
            _ if roomy => 200_000,
            _ => rng.scale(64, 20_000) as usize,
        };
        let (crowd, few) = if small { (60, 8) } else { (400, 24) };
        let peers = if herd { rng.between(crowd / 8, crowd) } else { rng.between(1, few) } as usize;
        let tight = |rng: &mut Rng| rng.below(4) == 0;
        let secs = |rng: &mut Rng, low, high| Duration::from_millis(rng.between(low, high));
        Self {
            seed,
            small,
            events,
            peers,
            chances: chances(seed, rng),
            codec,
            acts: acts(rng),
            max_message,
            usual_message: rng.scale(1, if busy { 40 } else { 2000 }) as usize,
            messages: match (herd, busy, small) {
                (true, ..) => 3,
                (_, _, true) => rng.scale(1, 100) as u32,
                (_, true, _) => rng.scale(1000, 30_000) as u32,
                _ => rng.scale(1, 3000) as u32,
            },
            send_buffer: rng.scale(if busy { 8000 } else { 200 }, 300_000) as usize,
            receive_buffer: rng.scale(if busy { 8000 } else { 200 }, 300_000) as usize,
            backlog: if tight(rng) { rng.between(1, 8) as usize } else { 4096 },
            // The loop puts a sweep off for 64 full batches: those must be more than the peers.
            batch: rng.scale(8, 1024) as usize,
            descriptors: if tight(rng) { rng.between(3, 12) as usize } else { 100_000 },
            max_connections: if tight(rng) { rng.between(1, 8) as usize } else { 10_000 },
            when_full: rng.pick(&[WhenFull::Wait, WhenFull::Refuse, WhenFull::Evict]),
            high: rng.scale(300, 64 << 10) as usize,
            frame_timeout: secs(rng, 500, 30_000),
            write_timeout: secs(rng, 500, 30_000),
            idle_timeout: (rng.below(4) == 0).then(|| secs(rng, 500, 30_000)),
            call_time: rng.pick(&[0, 500, 2_000, 20_000]),
            busy,
            herd,
            memory: tight(rng).then(|| rng.scale(64 << 10, 1 << 20) as usize),
            hosts: rng.scale(1, 64) as u32,
            exempt: tight(rng),
            per_ip: (rng.below(6) == 0).then(|| rng.between(1, 8) as usize),
            accept_rate: (rng.below(8) == 0).then(|| pace(rng, &[1, 2, 5, 10, 100])),
            message_rate: (rng.below(8) == 0).then(|| pace(rng, &[20, 100, 1000, 10_000])),
            error_rate: tight(rng).then(|| pace(rng, &[1, 2, 5])),
            drain: secs(rng, 300, 10_000),
        }
    }

    pub(crate) fn chance(&self, fault: Fault) -> u32 {
        self.chances[fault as usize]
    }

    /// Whether a fault that stretches time is on: nothing is late for certain then.
    pub(crate) fn time_jumps(&self) -> bool {
        self.chance(Fault::ClockGap) > 0 || self.chance(Fault::SlowHandler) > 0
    }
}

fn pace(rng: &mut Rng, rates: &[u32]) -> Pace {
    let per_second = rng.pick(rates);
    Pace { per_second, burst: rng.scale(1, 2 * u64::from(per_second)) as u32 }
}

/// A third of the faults, more or less, and each as likely as it pleases.
fn chances(seed: u64, rng: &mut Rng) -> [u32; Fault::ALL.len()] {
    let mut chances = [0; Fault::ALL.len()];
    let calm = rng.below(10) == 0;
    for &fault in Fault::ALL {
        // What ends a connection must be seldom, or nothing else ever happens to it.
        let most = match fault {
            Fault::ReadErrno | Fault::WriteErrno | Fault::WatchErrno | Fault::FinishErrno => 600,
            Fault::ClockGap | Fault::SlowHandler => 100,
            Fault::HandlerPanic => 300,
            Fault::Command => 2000,
            Fault::NoDescriptor | Fault::AcceptErrno | Fault::AcceptLost => 8000,
            Fault::Shutdown => 65_536,
            _ => 20_000,
        };
        // Calls of our own are few.
        let least = match fault {
            Fault::ConnectErrno
            | Fault::ConnectRefused
            | Fault::ConnectSilent
            | Fault::ConnectLate => 4000,
            _ => 8,
        };
        if matches!(fault, Fault::Signal | Fault::Restart) {
            // Drawn by the seed alone: the rest of a plan is what it was without them.
            let one_in = if fault == Fault::Signal { 2 } else { 6 };
            let drawn = Rng(seed ^ fault as u64).below(one_in) == 0;
            chances[fault as usize] = u32::from(drawn) * 65_536;
            continue;
        }
        let (on, chance) = (rng.below(3) == 0, rng.scale(least, most) as u32);
        chances[fault as usize] = match fault {
            // Seeds in which the end comes in the middle; and those of a kernel that tells
            // again what it has told.
            Fault::Shutdown | Fault::Rearm => [65_536, 0, 0, 0, 0, 0][rng.below(6) as usize],
            Fault::ListenErrno => [40_000, 0, 0, 0][rng.below(4) as usize],
            _ if on && !calm => chance,
            _ => 0,
        };
    }
    chances
}

fn acts(rng: &mut Rng) -> [u32; Act::ALL.len()] {
    let mut acts = [0; Act::ALL.len()];
    // Echo, what is left, is the plainest.
    for act in Act::ALL.into_iter().skip(1) {
        let most = match act {
            Act::Receipt | Act::Fan | Act::Send => 12_000,
            Act::Others | Act::Everyone | Act::Timer => 4000,
            Act::Call => 6000,
            Act::FinishSelf => 1500,
            _ => 300,
        };
        if rng.below(3) == 0 {
            acts[Act::ALL.iter().position(|&a| a == act).expect("one of all")] =
                rng.scale(8, most) as u32;
        }
    }
    acts
}
