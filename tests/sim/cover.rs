//! Which fault met a connection in which stage of its life, as seen from outside.

use super::plan::Fault;

/// Where a connection is, as far as its kernel can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It happens to no connection, but to the loop.
    Nobody,
    Queued,
    Dialing,
    Idle,
    InMessage,
    Blocked,
    PeerFinished,
    Finished,
    Closed,
}

const STAGES: [(Stage, &str); 9] = [
    (Stage::Nobody, "nobody"),
    (Stage::Queued, "queued"),
    (Stage::Dialing, "dialing"),
    (Stage::Idle, "idle"),
    (Stage::InMessage, "in msg"),
    (Stage::Blocked, "blocked"),
    (Stage::PeerFinished, "they end"),
    (Stage::Finished, "we end"),
    (Stage::Closed, "closed"),
];

/// Whether that can be: a connection that is queued is not read.
fn can_be(fault: Fault, stage: Stage) -> bool {
    use Fault::*;
    use Stage::*;
    match fault {
        Shutdown | ListenErrno => stage == Nobody,
        // Other threads ask for something of the loop, or of a connection.
        Command => !matches!(stage, Queued | Dialing | Closed),
        // They meet all that are there.
        WaitEintr | ClockGap | Restart => !matches!(stage, Nobody | Closed),
        // The second one, during the drain: nobody is called then, and nobody waits.
        Signal => !matches!(stage, Nobody | Queued | Dialing | Closed),
        Stale => stage == Closed,
        Spurious => !matches!(stage, Nobody | Queued | Closed),
        AcceptErrno | AcceptLost | AcceptEintr | NoDescriptor => stage == Queued,
        ConnectErrno | ConnectRefused | ConnectSilent | ConnectLate => stage == Dialing,
        // Behind its end nothing of a peer is read, and behind ours nothing is written.
        ReadBlock | ReadErrno | ReadEintr | Rearm | ShortRead | Delay | Twice => {
            matches!(stage, Idle | InMessage | Blocked | PeerFinished | Finished)
        }
        Split => matches!(stage, Idle | InMessage | PeerFinished),
        ShortWrite | WriteBlock | WriteEintr | WriteNoBufs | WriteErrno => {
            matches!(stage, Idle | InMessage | Blocked | PeerFinished)
        }
        WatchErrno => matches!(stage, Dialing | Idle | InMessage | Blocked | PeerFinished),
        FinishErrno => matches!(stage, Idle | InMessage | PeerFinished),
        Reset | Fin | Truncate | Nonsense | Silent | ZeroWindow => {
            !matches!(stage, Nobody | Dialing | Closed)
        }
        SlowHandler => matches!(stage, Idle | InMessage | Blocked | PeerFinished | Finished),
        HandlerPanic => !matches!(stage, Nobody | Queued | Dialing | Closed),
    }
}

/// How often each fault fired in each stage.
#[derive(Clone, Debug)]
pub(crate) struct Cover([[u64; STAGES.len()]; Fault::ALL.len()]);

impl Default for Cover {
    fn default() -> Self {
        Self([[0; STAGES.len()]; Fault::ALL.len()])
    }
}

impl Cover {
    pub(crate) fn note(&mut self, fault: Fault, stage: Stage) {
        self.0[fault as usize][stage as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sums, row) in self.0.iter_mut().zip(other.0) {
            for (sum, count) in sums.iter_mut().zip(row) {
                *sum += count;
            }
        }
    }

    /// Faults that never fired at all.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let never = |fault: &&Fault| self.0[**fault as usize].iter().all(|&count| count == 0);
        Fault::ALL.iter().filter(never).map(|fault| fault.word()).collect()
    }

    /// At most 100 columns wide.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:16}", "fault");
        for (_, name) in STAGES {
            text += &format!("{name:>9}");
        }
        text.push('\n');
        let (mut hit, mut often, mut cells) = (0, 0, 0);
        for &fault in Fault::ALL {
            text += &format!("{:16}", fault.word());
            for ((stage, _), count) in STAGES.into_iter().zip(self.0[fault as usize]) {
                let possible = can_be(fault, stage) || count > 0;
                text += &match (count, possible) {
                    (0, false) => format!("{:>9}", "-"),
                    _ => format!("{:>9}", short(count)),
                };
                cells += usize::from(possible);
                hit += usize::from(count > 0);
                often += usize::from(count >= 100);
            }
            text.push('\n');
        }
        text + &format!(
            "{hit} of {cells} cells hit, {often} of them 100 times or more; -: cannot be"
        )
    }
}

/// 1234567 as 1.2M.
fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1000),
        1_000_000..100_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{}M", count / 1_000_000),
    }
}
