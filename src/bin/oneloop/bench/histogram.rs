//! The distributions of a run, out of its JSON and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use oneloop::load::report::Percentiles;

/// A distribution of nanoseconds.
#[derive(Clone)]
pub(super) struct Times(pub(super) Histogram<u64>);

impl Times {
    /// Out of base64, as [`Histograms`](oneloop::load::report::Histograms) has it.
    pub(super) fn read(base64: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(base64).map_err(|error| error.to_string())?;
        let histogram = Deserializer::new().deserialize(&mut &bytes[..]);
        histogram.map(Self).map_err(|error| error.to_string())
    }

    /// The same, if it is there and can be read.
    pub(super) fn of(base64: Option<&String>) -> Option<Self> {
        base64.and_then(|text| Self::read(text).ok())
    }

    pub(super) fn write(&self) -> String {
        let mut bytes = Vec::new();
        let written = V2Serializer::new().serialize(&self.0, &mut bytes);
        written.expect("memory takes everything, and both bounds are in the header");
        STANDARD.encode(bytes)
    }

    /// Adds all of `other`, whatever its bounds.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), String> {
        self.0.auto(true);
        self.0.add(&other.0).map_err(|error| error.to_string())
    }

    /// In microseconds; `percent` is 0 to 100.
    pub(super) fn at(&self, percent: f64) -> f64 {
        // 99.9 / 100 is a little more than 0.999, which of 2000 times is the next.
        let quantile = (percent * 1e7).round() / 1e9;
        micros(self.0.value_at_quantile(quantile))
    }

    pub(super) fn max(&self) -> f64 {
        micros(self.0.max())
    }

    /// As the library makes them; `None` of nothing.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        (!self.0.is_empty()).then(|| Percentiles {
            p50: self.at(50.0),
            p75: self.at(75.0),
            p90: self.at(90.0),
            p99: self.at(99.0),
            p99_9: self.at(99.9),
            max: self.max(),
            mean: tenth(self.0.mean() / 1000.0),
            count: self.0.len(),
        })
    }

    /// Points of the percentile curve: percent and microseconds. The last is the maximum,
    /// where the count allows no finer percentile.
    pub(super) fn curve(&self) -> Vec<(f64, f64)> {
        const STEPS_PER_DECADE: f64 = 20.0;
        let decades = (self.0.len().max(10) as f64).log10();
        let steps = (decades * STEPS_PER_DECADE).floor() as usize;
        let points = (0..=steps).map(|step| {
            let percent = 100.0 * (1.0 - 10_f64.powf(-(step as f64) / STEPS_PER_DECADE));
            (percent, self.at(percent))
        });
        points.collect()
    }

    /// The text that HdrHistogram's plotter reads, in microseconds.
    pub(super) fn hgrm(&self) -> String {
        use std::fmt::Write as _;
        /// As the tools of HdrHistogram have it.
        const TICKS_PER_HALF_DISTANCE: u32 = 5;
        let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
        let mut total = 0;
        for step in self.0.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
            total += step.count_since_last_iteration();
            let value = step.value_iterated_to() as f64 / 1000.0;
            let quantile = step.quantile_iterated_to();
            let line = match quantile < 1.0 {
                true => {
                    format!(
                        "{value:12.3} {quantile:.12} {total:10} {:14.2}",
                        1.0 / (1.0 - quantile)
                    )
                }
                false => format!("{value:12.3} {quantile:.12} {total:10}"),
            };
            writeln!(text, "{line}").expect("a string takes everything");
        }
        let (mean, deviation) = (self.0.mean() / 1000.0, self.0.stdev() / 1000.0);
        writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")
            .expect("a string takes everything");
        let max = self.0.max() as f64 / 1000.0;
        writeln!(text, "#[Max     = {max:12.3}, Total count    = {:12}]", self.0.len())
            .expect("a string takes everything");
        let buckets = self.0.distinct_values() as u64 / 1024;
        writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {:12}]", 2048)
            .expect("a string takes everything");
        text
    }
}

fn micros(nanos: u64) -> f64 {
    tenth(nanos as f64 / 1000.0)
}

/// Three digits of a time are right.
fn tenth(us: f64) -> f64 {
    (us * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(nanos: impl IntoIterator<Item = u64>) -> Times {
        let bounds = Histogram::new_with_bounds(1, 3_600_000_000_000, 3);
        let mut histogram = bounds.expect("an hour and three digits");
        nanos.into_iter().for_each(|time| histogram.saturating_record(time));
        Times(histogram)
    }

    #[test]
    fn a_distribution_survives_its_text_and_two_are_one_that_holds_both() {
        let (mut few, many) = (times([1_000_000]), times((1..=999).map(|n| n * 1000)));
        let back = Times::read(&many.write()).expect("as written");
        assert_eq!(back.percentiles(), many.percentiles());
        few.add(&back).expect("it grows");
        let both = few.percentiles().expect("a thousand");
        assert_eq!(both.count, 1000);
        assert!((both.p50 - 500.0).abs() < 1.0 && (both.max - 1000.0).abs() < 1.0, "{both:?}");
        for wrong in ["", "AAAA", "no base64"] {
            assert!(Times::read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_percentile_is_the_time_that_so_many_in_a_hundred_took_at_most() {
        let times = times((1..=2000).map(|n| n * 1000));
        for (percent, us) in [(50.0, 1000.0), (99.0, 1980.0), (99.9, 1998.0), (100.0, 2000.0)] {
            assert!((times.at(percent) - us).abs() < 1.0, "p{percent}: {}", times.at(percent));
        }
    }

    #[test]
    fn the_curve_rises_to_what_the_count_allows() {
        let curve = times((1..=10_000).map(|n| n * 1000)).curve();
        assert!(curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        let (percent, us) = curve[curve.len() - 1];
        assert!((percent - 99.99).abs() < 1e-9 && us > 9980.0, "{percent} {us}");
    }

    #[test]
    fn hgrm_has_the_columns_and_the_footer_that_plotters_read() {
        let text = times((1..=1000).map(|n| n * 1000)).hgrm();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("Value") && lines[0].contains("1/(1-Percentile)"), "{text}");
        let rows = lines[2..].iter().take_while(|line| !line.starts_with('#'));
        let rows: Vec<Vec<f64>> = rows
            .map(|row| row.split_whitespace().map(|n| n.parse().expect("a number")).collect())
            .collect();
        assert!(rows[..rows.len() - 1].iter().all(|row| row.len() == 4), "{text}");
        let last = &rows[rows.len() - 1];
        assert_eq!((last[1], last[2]), (1.0, 1000.0), "{text}");
        assert!(text.contains("#[Max     =") && text.contains("Total count    =         1000]"));
    }
}
