//! A load generator that does not lie: many connections, one loop, and latency measured
//! from when a message should have been sent.
//!
//! ```text
//!  Plan ─▶ run ─┬─ connects, and then turns a Server without a listener
//!               ├─ generator: what is due, what is pending, what a reply says
//!               ├─ stats: counts and distributions, by intervals
//!               └─ nuisance: peers that nobody likes
//!          report ◀── each second an Interval, an End at the end
//! ```
//!
//! A tool that sends the next message when a reply has come sends none to a server that
//! stalls, and so hardly measures it. At a [rate](Pace) this one keeps to the times at which
//! messages were due and measures from there; beside it stands what the other way shows.

mod generator;
mod message;
mod nuisance;
mod plan;
pub mod report;
mod run;
mod stats;

pub use message::{Message, STAMP_LEN};
pub use plan::{Check, EndBy, Pace, Plan, Shape, Slow};
pub use run::run;
