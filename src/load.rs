//! A load generator that does not lie: many connections, one loop, and latency measured
//! from when a message should have been sent.

pub mod report;
