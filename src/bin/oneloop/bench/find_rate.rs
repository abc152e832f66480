//! `--find-rate`: the highest rate at which a promise is kept.
//!
//! Doubles from a start until the promise breaks, or halves until it is kept, and then tries
//! the middle. Each try is a run of its own; nothing is concluded from one that the tool
//! itself could not make.

use oneloop::load::report::End;

/// Where it begins, if nobody says.
pub(super) const BEGIN: f64 = 1000.0;
/// As close as this is found.
const CLOSE: f64 = 1.05;
/// Tries are over at these rates in any case.
const LEAST: f64 = 0.5;
const MOST: f64 = 10e6;
/// A server that answers fewer of what is sent does not keep up, whatever its latencies.
const KEEPS_UP: f64 = 0.95;

/// How a try went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Try {
    Kept,
    Broken,
    /// The tool was the limit.
    Limited,
    /// A signal.
    Stopped,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The run at the highest rate that kept the promise.
    pub(super) best: Option<(f64, End)>,
    /// Why there may be a higher one.
    pub(super) remark: Option<&'static str>,
}

/// How a run at `rate` went, of which `kept` says whether it kept the promise.
pub(super) fn judge(rate: f64, end: &End, kept: Option<bool>) -> Try {
    use oneloop::load::report::Reason;
    let keeps_up = end.received_per_s >= KEEPS_UP * rate && end.errors.sum() == 0;
    match kept {
        _ if end.reason == Reason::Signal => Try::Stopped,
        Some(true) if keeps_up => Try::Kept,
        _ if end.generator_limited => Try::Limited,
        _ => Try::Broken,
    }
}

/// Searches with `attempt`, which makes a run at a rate and says how it went.
pub(super) fn search<E>(
    begin: f64,
    mut attempt: impl FnMut(f64) -> Result<(Try, End), E>,
) -> Result<Found, E> {
    let (mut rate, mut broken, mut limited) = (begin, None::<f64>, false);
    let mut best: Option<(f64, End)> = None;
    loop {
        let (mut went, mut end) = attempt(rate)?;
        if went == Try::Limited {
            // It may have been something else on this machine, for a moment.
            (went, end) = attempt(rate)?;
        }
        match went {
            Try::Stopped => {
                return Ok(Found { best, remark: Some("a signal ended the search early") });
            }
            Try::Kept => best = Some((rate, end)),
            Try::Broken => (broken, limited) = (Some(rate), false),
            Try::Limited => (broken, limited) = (Some(rate), true),
        }
        rate = match (best.as_ref().map(|best| best.0), broken) {
            (Some(kept), None) => (kept * 2.0).min(MOST),
            (None, Some(broken)) => broken / 2.0,
            (Some(kept), Some(broken)) => (kept * broken).sqrt(),
            (None, None) => return Ok(Found { best, remark: None }),
        };
        let done = match (best.as_ref().map(|best| best.0), broken) {
            (Some(kept), Some(broken)) => broken / kept < CLOSE,
            (Some(kept), None) => kept >= MOST,
            (None, _) => rate < LEAST,
        };
        if done {
            let remark = limited.then_some(
                "the generator was the limit, not the server: the server may keep it at more",
            );
            return Ok(Found { best, remark });
        }
        // Whole numbers are easier to repeat.
        rate = if rate > 100.0 { rate.round() } else { rate };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(begin: f64, breaks_at: f64, limited_at: f64) -> (Found, usize) {
        let mut tries = 0;
        let found = search(begin, |rate| {
            tries += 1;
            let went = match rate {
                rate if rate > breaks_at => Try::Broken,
                rate if rate > limited_at => Try::Limited,
                _ => Try::Kept,
            };
            Ok::<_, ()>((went, End::default()))
        });
        (found.expect("no try fails"), tries)
    }

    #[test]
    fn the_highest_rate_is_found_to_a_twentieth_from_wherever_it_begins() {
        for begin in [1.0, 1000.0, 1e6] {
            for breaks_at in [1.5, 999.0, 1000.0, 54_321.0, 2e6] {
                let (found, tries) = find(begin, breaks_at, f64::MAX);
                let (rate, _) = found.best.expect("a rate that is kept");
                assert!(rate <= breaks_at, "{begin} {breaks_at}: {rate}");
                assert!(rate * 1.06 > breaks_at.floor(), "{begin} {breaks_at}: {rate}");
                assert!(tries < 32, "{begin} {breaks_at}: {tries} tries");
                assert_eq!(found.remark, None, "{begin} {breaks_at}");
            }
        }
    }

    #[test]
    fn a_promise_that_no_rate_keeps_is_not_kept_and_the_search_ends() {
        assert!(find(1000.0, 0.0, f64::MAX).0.best.is_none());
        assert!(find(1000.0, f64::MAX, f64::MAX).0.best.is_some_and(|(rate, _)| rate == MOST));
    }

    #[test]
    fn where_the_tool_is_the_limit_it_says_so() {
        let (found, _) = find(1000.0, f64::MAX, 5000.0);
        assert!(found.best.is_some_and(|(rate, _)| rate <= 5000.0));
        assert!(found.remark.is_some_and(|remark| remark.contains("generator")));
    }
}
