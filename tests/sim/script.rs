//! How simulated peers behave: one script with other numbers for each. A dripper sends one
//! byte at a time, a mute never reads, a pipeliner says much and waits for all answers.

use super::kernel::MILLI;
use super::plan::Plan;
use super::rng::Rng;

/// How one peer behaves.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Messages of one connection, and how many connections.
    pub(super) messages: u32,
    pub(super) calls: u32,
    /// Messages that may wait for their answer.
    pub(super) depth: u32,
    /// Bytes sent and read in one step, and the time between two, in ns.
    pub(super) chunk: usize,
    pub(super) appetite: usize,
    pub(super) delay: u64,
    pub(super) reads: bool,
    /// Finishes sending before the answers are there.
    pub(super) half_closes: bool,
    /// Stays until the server ends it.
    pub(super) stays: bool,
}

impl Script {
    pub(super) fn draw(rng: &mut Rng, plan: &Plan) -> Self {
        let messages = plan.messages;
        let plain = Self {
            messages,
            calls: 1,
            depth: rng.scale(1, 64) as u32,
            chunk: rng.scale(1, 100_000) as usize,
            appetite: rng.scale(16, 100_000) as usize,
            delay: rng.scale(1000, 10 * MILLI),
            reads: true,
            half_closes: false,
            stays: false,
        };
        if plan.herd {
            return Self { chunk: 1 << 20, appetite: 1 << 20, ..plain };
        }
        if plan.busy && rng.below(4) > 0 {
            // A pipeliner: much at once, and all of it is to be answered.
            let depth = rng.scale(64, 4000) as u32;
            let stays = rng.below(2) == 0;
            return Self { depth, stays, chunk: 1 << 20, appetite: 1 << 20, ..plain };
        }
        match rng.below(10) {
            // dripper, mute, half-closer, flooder, reconnector
            0 => Self { messages: messages.min(5), chunk: 1, delay: 20 * MILLI, ..plain },
            1 => Self { reads: false, depth: 1 << 20, ..plain },
            2 => Self { half_closes: true, depth: 1 << 20, ..plain },
            3 => Self { messages: messages * 4, depth: 1000, chunk: 1 << 20, delay: 1000, ..plain },
            4 => Self { messages: messages.min(20), calls: 20, ..plain },
            5 | 6 => Self { stays: true, ..plain },
            _ => plain,
        }
    }
}
