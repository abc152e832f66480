//! The border between the loop and what a service does: a panic ends one connection.
//!
//! ```text
//!  loop ──▶ guard ──▶ a connection's turn ──▶ Service
//!    ▲        │ panic                            │
//!    └────────┴──────────────────────────────────┘
//! ```
//!
//! One guard stands around a connection's whole turn, not around each message: it costs
//! a call and no more. What is left of that connection is the endpoint's to clear away.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `act`. `None`: it panicked, and the program's panic hook has said so. With
/// `abort`, the panic goes on instead, out of the loop.
///
/// Where panics do not unwind (`panic = "abort"`) there is nothing to catch.
pub(super) fn guard<R>(abort: bool, act: impl FnOnce() -> R) -> Option<R> {
    // What a panic can leave half changed: the connection, which its endpoint closes;
    // the loop's pool and replies, which it puts right; and the service itself, whose
    // author is told in the documentation of `Service`.
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => Some(done),
        Err(panic) if abort => resume_unwind(panic),
        Err(panic) => {
            // What a service panics with is its own, and its drop may panic again.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_whose_payload_panics_when_it_is_dropped_is_still_one_none() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        match catch_unwind(|| guard(false, || std::panic::panic_any(Bomb))) {
            Ok(done) => assert_eq!(done, None::<()>),
            // Dropped, it would take the thread of the test along, and nobody would say so.
            Err(bomb) => {
                std::mem::forget(bomb);
                panic!("it went on");
            }
        }
        assert_eq!(guard(false, || 7), Some(7));
        assert!(catch_unwind(|| guard(true, || -> u32 { panic!("on and out") })).is_err());
    }
}
