//! `--merge`: what several processes did at the same time, as one run.

use std::collections::BTreeMap;

use oneloop::load::report::{End, Errors, Interval, Latency, Percentiles};

use super::histogram::Times;
use super::numbers::seconds;
use super::request;
use super::text::exact_elapsed_s;

/// Runs that began further apart than this did not load the server together.
const TOGETHER_S: u64 = 2;

/// The sum of runs; there is one at least.
pub(super) fn add(runs: &[(String, End)]) -> Result<End, String> {
    let (_, first) = runs.first().ok_or("nothing to add up")?;
    let ends = || runs.iter().map(|(_, end)| end);
    let mut sum = End { start: first.start.clone(), reason: first.reason, ..End::default() };
    sum.start.connections = ends().map(|end| end.start.connections).sum();
    sum.start.idle = ends().map(|end| end.start.idle).sum();
    sum.start.slow = ends().map(|end| end.start.slow).sum();
    sum.start.drip = ends().map(|end| end.start.drip).sum();
    sum.start.rate_per_s = ends().map(|end| end.start.rate_per_s).sum();
    sum.start.requests = ends().map(|end| end.start.requests).sum();
    sum.start.command = request::command();
    sum.start.started_unix_s = ends().filter_map(|end| end.start.started_unix_s).min();
    sum.elapsed_s = ends().map(|end| end.elapsed_s).fold(0.0, f64::max);
    sum.connected = ends().map(|end| end.connected).sum();
    sum.open = ends().map(|end| end.open).sum();
    sum.sent = ends().map(|end| end.sent).sum();
    sum.received = ends().map(|end| end.received).sum();
    sum.received_bytes = ends().map(|end| end.received_bytes).sum();
    sum.unanswered = ends().map(|end| end.unanswered).sum();
    sum.unsent = ends().map(|end| end.unsent).sum();
    let oldest = ends().filter_map(|end| end.oldest_unanswered_us);
    sum.oldest_unanswered_us =
        oldest.fold(None, |most, us| Some(most.map_or(us, |m: f64| m.max(us))));
    ends().for_each(|end| sum.errors = both(sum.errors, end.errors));
    let elapsed_s = ends().map(exact_elapsed_s).fold(0.0, f64::max);
    if elapsed_s > 0.0 {
        sum.received_per_s = (sum.received as f64 / elapsed_s * 10.0).round() / 10.0;
    }
    distributions(&mut sum, runs)?;
    generators(&mut sum, runs);
    sum.warnings.extend(doubts(runs));
    sum.intervals = intervals(runs);
    Ok(sum)
}

fn both(a: Errors, b: Errors) -> Errors {
    Errors {
        connect: a.connect + b.connect,
        timeout: a.timeout + b.timeout,
        reset: a.reset + b.reset,
        closed: a.closed + b.closed,
        frame: a.frame + b.frame,
        wrong: a.wrong + b.wrong,
        unasked: a.unasked + b.unasked,
    }
}

/// Percentiles do not add up; the distributions that they are of do.
fn distributions(sum: &mut End, runs: &[(String, End)]) -> Result<(), String> {
    type Of = fn(&End) -> &Option<String>;
    let all = |of: Of| -> Result<(Option<Percentiles>, Option<String>), String> {
        let mut sum: Option<Times> = None;
        for (name, end) in runs {
            let Some(text) = of(end) else { continue };
            let times =
                Times::read(text).map_err(|error| format!("{name}: its histogram: {error}"))?;
            match &mut sum {
                None => sum = Some(times),
                Some(sum) => sum.add(&times).map_err(|error| format!("{name}: {error}"))?,
            }
        }
        Ok((sum.as_ref().and_then(Times::percentiles), sum.as_ref().map(Times::write)))
    };
    let (corrected, corrected_text) = all(|end| &end.histograms.corrected)?;
    let (uncorrected, uncorrected_text) = all(|end| &end.histograms.uncorrected)?;
    sum.latency_us = Latency { corrected, uncorrected };
    (sum.histograms.corrected, sum.histograms.uncorrected) = (corrected_text, uncorrected_text);
    (sum.connect_us, sum.histograms.connect) = all(|end| &end.histograms.connect)?;
    (sum.send_lag_us, sum.histograms.send_lag) = all(|end| &end.histograms.send_lag)?;
    Ok(())
}

/// One that was the limit makes all of it doubtful.
fn generators(sum: &mut End, runs: &[(String, End)]) {
    let why = runs.iter().filter(|(_, end)| end.generator_limited).map(|(name, end)| {
        format!("{name}: {}", end.generator.why.as_deref().unwrap_or("it does not say why"))
    });
    let why: Vec<_> = why.collect();
    sum.generator_limited = !why.is_empty();
    sum.generator.why = (!why.is_empty()).then(|| why.join("; "));
    sum.generator.spins = runs.iter().any(|(_, end)| end.generator.spins);
    let busy = runs.iter().filter_map(|(_, end)| end.generator.busy);
    sum.generator.busy =
        busy.fold(None, |most, part| Some(most.map_or(part, |m: f64| m.max(part))));
}

fn doubts(runs: &[(String, End)]) -> Vec<String> {
    let mut doubts = Vec::new();
    let (first_name, first) = &runs[0];
    let begins = || runs.iter().filter_map(|(_, end)| end.start.started_unix_s);
    let apart = begins().max().unwrap_or(0) - begins().min().unwrap_or(0);
    if apart > TOGETHER_S {
        doubts.push(format!(
            "these runs began {apart} s apart, and did not load the server together"
        ));
    }
    for (name, end) in runs {
        if end.start.target != first.start.target {
            let (one, other) = (&first.start.target, &end.start.target);
            doubts.push(format!("{first_name} is of {one}, {name} of {other}"));
        }
        if end.start.model != first.start.model
            || end.start.message_bytes != first.start.message_bytes
        {
            doubts.push(format!("{name} was not asked for the same as {first_name}"));
        }
        if (end.elapsed_s - first.elapsed_s).abs() > 0.1 * first.elapsed_s {
            let (one, other) = (seconds(first.elapsed_s), seconds(end.elapsed_s));
            doubts.push(format!("{first_name} took {one}, {name} {other}"));
        }
        doubts.extend(end.warnings.iter().map(|warning| format!("{name}: {warning}")));
    }
    doubts
}

/// Counts of the same tenth of a second. Latencies are left out: percentiles do not add up.
fn intervals(runs: &[(String, End)]) -> Vec<Interval> {
    let mut sums: BTreeMap<u64, Interval> = BTreeMap::new();
    for interval in runs.iter().flat_map(|(_, end)| &end.intervals) {
        let sum = sums.entry((interval.t_s * 10.0).round() as u64).or_default();
        sum.t_s = interval.t_s;
        sum.length_s = interval.length_s;
        sum.warmup |= interval.warmup;
        sum.open += interval.open;
        sum.sent += interval.sent;
        sum.received += interval.received;
        sum.errors = both(sum.errors, interval.errors);
        let lags = [sum.send_lag_p99_us, interval.send_lag_p99_us];
        sum.send_lag_p99_us = lags.into_iter().flatten().reduce(f64::max);
    }
    sums.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn counts_add_up_and_percentiles_are_those_of_all_messages() {
        let (fast, slow) = (sample::run(1.0, 0.0), sample::run(3.0, 0.0));
        let runs = [("a".to_string(), fast.clone()), ("b".to_string(), slow.clone())];
        let sum = add(&runs).expect("two of the same");
        assert_eq!(sum.received, fast.received + slow.received);
        assert_eq!(sum.start.connections, 200);
        assert_eq!(sum.start.rate_per_s, Some(10_000.0));
        assert_eq!(sum.received_per_s, fast.received_per_s * 2.0);
        assert_eq!(sum.intervals.len(), 10);
        assert_eq!(sum.intervals[3].received, 2 * fast.intervals[3].received);
        let [one, other, both] =
            [&fast, &slow, &sum].map(|end| end.latency_us.corrected.expect("replies"));
        assert_eq!(both.count, one.count + other.count);
        assert!(one.p50 < both.p50 && both.p50 < other.p50, "{one:?} {both:?} {other:?}");
        assert_eq!(both.max, other.max);
        assert_eq!(sum.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_makes_a_sum_doubtful_is_said() {
        let (one, mut other) = (sample::run(1.0, 0.0), sample::run(1.0, 0.0));
        other.start.target = "127.0.0.1:7001".into();
        other.start.started_unix_s = other.start.started_unix_s.map(|time| time + 60);
        other.generator_limited = true;
        other.warnings.push("a warning".into());
        let sum = add(&[("a".into(), one.clone()), ("b".into(), other.clone())]).expect("a sum");
        let text = sum.warnings.join("\n");
        for words in ["60 s apart", "b of 127.0.0.1:7001", "b: a warning"] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        assert!(sum.generator_limited);
        other.histograms.corrected = Some("AAAA".into());
        assert!(add(&[("a".into(), one), ("b".into(), other)]).is_err());
    }
}
