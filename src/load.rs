//! A load generator that does not lie: many connections, one loop, and latency measured
//! from when a message should have been sent.

mod message;
mod plan;
pub mod report;

pub use message::Message;
pub use plan::{Check, EndBy, Pace, Plan, Shape, Slow};
