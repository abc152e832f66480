//! Which fault met a connection in which stage of its life, as seen from outside.

use super::plan::Fault;

/// Where a connection is, as far as its kernel can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Queued,
    Dialing,
    Idle,
    InMessage,
    Blocked,
    PeerFinished,
    Finished,
    Closed,
}

const STAGES: [(Stage, &str); 8] = [
    (Stage::Queued, "queued"),
    (Stage::Dialing, "dialing"),
    (Stage::Idle, "idle"),
    (Stage::InMessage, "in message"),
    (Stage::Blocked, "blocked"),
    (Stage::PeerFinished, "peer done"),
    (Stage::Finished, "we done"),
    (Stage::Closed, "closed"),
];

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

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:16}", "fault");
        for (_, name) in STAGES {
            text += &format!("{name:>12}");
        }
        text.push('\n');
        let (mut hit, mut often) = (0, 0);
        for &fault in Fault::ALL {
            text += &format!("{:16}", fault.word());
            for count in self.0[fault as usize] {
                text += &format!("{count:>12}");
                hit += usize::from(count > 0);
                often += usize::from(count >= 100);
            }
            text.push('\n');
        }
        let cells = Fault::ALL.len() * STAGES.len();
        text + &format!(
            "{hit} of {cells} cells hit, {often} of them 100 times or more \
             (some cannot be: a connection that is queued is not read)"
        )
    }
}
