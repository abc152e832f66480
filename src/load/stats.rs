//! Counts and distributions: of the interval that runs, and of all that are measured.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};

use super::report::{Errors, Histograms, Interval, Percentiles};

/// The longest time that has a place of its own, in nanoseconds: a day. Longer ones count
/// as that.
const LONGEST: u64 = 86_400_000_000_000;
/// Digits of a recorded time that are right.
const DIGITS: u8 = 3;

/// What was counted and timed.
pub(super) struct Stats {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) errors: Errors,
    /// From when a message should have been sent.
    pub(super) corrected: Times,
    /// From when it was, if that can be another time.
    pub(super) uncorrected: Option<Times>,
    pub(super) connect: Times,
    /// How late a message was sent that could have been sent.
    pub(super) lag: Times,
}

/// A distribution of times.
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self(histogram.expect("1 and a day are bounds, and 3 are digits"))
    }

    #[inline]
    pub(super) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    fn add(&mut self, other: &Self) {
        // The same bounds: there is room for all.
        let added = self.0.add(&other.0);
        debug_assert!(added.is_ok());
    }

    /// `None` if nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let us = |nanos: u64| round(nanos as f64 / 1000.0);
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            p50: at(0.50),
            p75: at(0.75),
            p90: at(0.90),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(self.0.max()),
            mean: round(self.0.mean() / 1000.0),
            count: self.0.len(),
        })
    }

    fn encoded(&self) -> Option<String> {
        let mut bytes = Vec::new();
        // It can only fail to write, and memory takes it.
        let written = V2Serializer::new().serialize(&self.0, &mut bytes);
        (written.is_ok() && !self.0.is_empty()).then(|| STANDARD.encode(bytes))
    }
}

/// Microseconds to a tenth: three digits of a time are right.
fn round(us: f64) -> f64 {
    (us * 10.0).round() / 10.0
}

impl Stats {
    /// `two_ways`: that a message was sent and that it should have been are two times.
    pub(super) fn new(two_ways: bool) -> Self {
        Self {
            sent: 0,
            received: 0,
            received_bytes: 0,
            errors: Errors::default(),
            corrected: Times::new(),
            uncorrected: two_ways.then(Times::new),
            connect: Times::new(),
            lag: Times::new(),
        }
    }

    /// Ends an interval: it is added to `total`, if it counts, and begins anew.
    pub(super) fn turn_over(&mut self, total: Option<&mut Self>) -> Interval {
        let interval = Interval {
            sent: self.sent,
            received: self.received,
            errors: self.errors,
            latency_us: self.corrected.percentiles(),
            send_lag_p99_us: self.lag.percentiles().map(|lag| lag.p99),
            ..Interval::default()
        };
        if let Some(total) = total {
            total.add(self);
        }
        (self.sent, self.received, self.received_bytes) = (0, 0, 0);
        self.errors = Errors::default();
        let times = [&mut self.corrected, &mut self.connect, &mut self.lag];
        times.into_iter().chain(&mut self.uncorrected).for_each(|times| times.0.reset());
        interval
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.errors += other.errors;
        self.corrected.add(&other.corrected);
        if let (Some(all), Some(some)) = (&mut self.uncorrected, &other.uncorrected) {
            all.add(some);
        }
        self.connect.add(&other.connect);
        self.lag.add(&other.lag);
    }

    pub(super) fn histograms(&self) -> Histograms {
        let corrected = self.corrected.encoded();
        let uncorrected = match &self.uncorrected {
            Some(times) => times.encoded(),
            None => corrected.clone(),
        };
        Histograms {
            corrected,
            uncorrected,
            connect: self.connect.encoded(),
            send_lag: self.lag.encoded(),
        }
    }
}

impl std::ops::AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        self.connect += other.connect;
        self.timeout += other.timeout;
        self.reset += other.reset;
        self.closed += other.closed;
        self.frame += other.frame;
        self.wrong += other.wrong;
        self.unasked += other.unasked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_place_from_nothing_to_for_ever() {
        let mut times = Times::new();
        assert_eq!(times.percentiles(), None);
        for nanos in [0, 1, 1000, u64::MAX] {
            times.record(nanos);
        }
        let percentiles = times.percentiles().expect("four times");
        assert_eq!((percentiles.count, percentiles.p50), (4, 0.0));
        let day = LONGEST as f64 / 1000.0;
        assert!((percentiles.max / day - 1.0).abs() < 0.001, "{percentiles:?}");
    }

    #[test]
    fn what_belongs_to_a_warm_up_is_in_no_total() {
        let (mut now, mut total) = (Stats::new(true), Stats::new(true));
        now.received = 3;
        now.corrected.record(5000);
        let warmup = now.turn_over(None);
        assert_eq!((warmup.received, warmup.latency_us.map(|l| l.count)), (3, Some(1)));
        now.received = 4;
        now.errors.reset = 2;
        now.turn_over(Some(&mut total));
        assert_eq!((total.received, total.errors.reset), (4, 2));
        assert_eq!((total.corrected.percentiles(), now.received), (None, 0));
    }
}
