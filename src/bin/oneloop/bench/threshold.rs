//! Conditions on a run: `p99>5ms` fails it, `p99<5ms` is what a rate has to keep.

use std::fmt;
use std::str::FromStr;

use oneloop::load::report::{End, Percentiles};

use super::histogram::Times;
use super::numbers::{count, micros, per_second};
use crate::units;

/// A comparison of one number of a run with a bound.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Threshold {
    text: String,
    figure: Figure,
    comparison: Comparison,
    /// Microseconds, a rate, or a number.
    bound: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Figure {
    Latency(Way, Point),
    Errors(Option<&'static str>),
    Rate,
    Received,
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Corrected,
    Uncorrected,
    Connect,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    Percent(f64),
    Mean,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

const KINDS: [&str; 7] = ["connect", "timeout", "reset", "closed", "frame", "wrong", "unasked"];

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "say it like 'p99>5ms', 'errors>0' or 'rate<10k'";
        let at = text.find(['<', '>']).ok_or(format!("no < or > in it; {example}"))?;
        let (name, rest) = text.split_at(at);
        let (comparison, bound) = match (&rest[..1], rest[1..].strip_prefix('=')) {
            ("<", Some(bound)) => (Comparison::LessOrEqual, bound),
            ("<", None) => (Comparison::Less, &rest[1..]),
            (_, Some(bound)) => (Comparison::MoreOrEqual, bound),
            (_, None) => (Comparison::More, &rest[1..]),
        };
        let figure = Figure::named(name.trim()).ok_or_else(|| {
            format!(
                "{:?} is nothing that is measured; there are p50 to p99.999, mean, max, all of \
                 them also as uncorrected.p99 and connect.p99, rate, received, unanswered, errors, \
                 and errors.timeout and the like",
                name.trim()
            )
        })?;
        let bound = figure.bound(bound.trim())?;
        Ok(Self { text: text.trim().into(), figure, comparison, bound })
    }
}

impl Figure {
    fn named(name: &str) -> Option<Self> {
        let (way, point) = match name.split_once('.') {
            Some(("uncorrected", point)) => (Way::Uncorrected, point),
            Some(("corrected", point)) => (Way::Corrected, point),
            Some(("connect", point)) => (Way::Connect, point),
            Some(("errors", kind)) => {
                return KINDS
                    .into_iter()
                    .find(|known| *known == kind)
                    .map(|k| Self::Errors(Some(k)));
            }
            _ => (Way::Corrected, name),
        };
        match name {
            "errors" => return Some(Self::Errors(None)),
            "rate" => return Some(Self::Rate),
            "received" => return Some(Self::Received),
            "unanswered" => return Some(Self::Unanswered),
            _ => {}
        }
        let point = match point {
            "mean" => Point::Mean,
            "max" => Point::Max,
            point => Point::Percent(percent(point)?),
        };
        Some(Self::Latency(way, point))
    }

    fn bound(&self, text: &str) -> Result<f64, String> {
        match self {
            // A number without a unit could be anything.
            Self::Latency(..) if text.ends_with(|c: char| c.is_ascii_digit()) => {
                Err(format!("{text} of what? say {text}us, {text}ms or {text}s"))
            }
            Self::Latency(..) => units::span(text).map(|span| span.as_secs_f64() * 1e6),
            Self::Rate if text != "0" => units::rate(text),
            _ => units::count(text).map(|count| count as f64),
        }
    }

    /// `None` if there is no such number: nothing was answered.
    fn of(&self, end: &End) -> Option<f64> {
        match self {
            Self::Latency(way, point) => {
                let (values, histogram): (Option<Percentiles>, _) = match way {
                    Way::Corrected => (end.latency_us.corrected, &end.histograms.corrected),
                    Way::Uncorrected => (end.latency_us.uncorrected, &end.histograms.uncorrected),
                    Way::Connect => (end.connect_us, &end.histograms.connect),
                };
                let values = values?;
                match point {
                    Point::Mean => Some(values.mean),
                    Point::Max => Some(values.max),
                    Point::Percent(percent) => super::text::usual(&values, *percent)
                        .or_else(|| Some(Times::of(histogram.as_ref())?.at(*percent))),
                }
            }
            Self::Errors(None) => Some(end.errors.sum() as f64),
            Self::Errors(Some(kind)) => {
                let found = end.errors.by_kind().into_iter().find(|(name, _)| name == kind);
                found.map(|(_, number)| number as f64)
            }
            Self::Rate => Some(end.received_per_s),
            Self::Received => Some(end.received as f64),
            Self::Unanswered => Some(end.unanswered as f64),
        }
    }

    fn shown(&self, value: f64) -> String {
        match self {
            Self::Latency(..) => micros(value),
            Self::Rate => per_second(value),
            _ => count(value as u64),
        }
    }
}

/// `p99.9` or `99.9`.
pub(super) fn percent(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('p').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    digits.parse().ok().filter(|percent| plain && (0.0..=100.0).contains(percent))
}

impl Threshold {
    /// Whether it is so; `None` if nobody knows.
    pub(super) fn holds(&self, end: &End) -> Option<bool> {
        let value = self.figure.of(end)?;
        Some(match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::LessOrEqual => value <= self.bound,
            Comparison::More => value > self.bound,
            Comparison::MoreOrEqual => value >= self.bound,
        })
    }

    /// The number, as it was measured.
    pub(super) fn measured(&self, end: &End) -> String {
        self.figure.of(end).map_or("no replies".into(), |value| self.figure.shown(value))
    }

    /// Whether it is a bound that a higher rate can break: a latency that is to be small.
    pub(super) fn is_promise(&self) -> bool {
        let small = matches!(self.comparison, Comparison::Less | Comparison::LessOrEqual);
        small && matches!(self.figure, Figure::Latency(..))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn conditions_say_what_they_measure_and_in_which_unit() {
        // p50 229 us, p99 1.9 s, uncorrected p99 454 us, 5000 a second, 2 timeouts.
        let end = sample::run(1.0, 2.0);
        #[rustfmt::skip]
        let cases = [
            ("p99>5ms", Some(true)),                ("uncorrected.p99>5ms", Some(false)),
            ("p99 < 5ms", Some(false)),             ("p99<=1m", Some(true)),
            ("p99.95>=1us", Some(true)),            ("mean>1us", Some(true)),
            ("errors>0", Some(true)),               ("errors>2", Some(false)),
            ("errors>=2", Some(true)),              ("errors.timeout>0", Some(true)),
            ("errors.reset>0", Some(false)),        ("rate<10k", Some(true)),
            ("rate<4.9k", Some(false)),             ("connect.max>1s", Some(false)),
            ("unanswered>2", Some(true)),           ("received<1", Some(false)),
        ];
        for (text, expected) in cases {
            let threshold: Threshold = text.parse().expect(text);
            assert_eq!(threshold.holds(&end), expected, "{text}: {}", threshold.measured(&end));
        }
        let nothing: Threshold = "p99>5ms".parse().expect("a condition");
        assert_eq!(nothing.holds(&End::default()), None);
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_would_be_one() {
        let cases = [
            ("p99", "no < or >"),
            ("p99>5", "say 5us, 5ms or 5s"),
            ("q99>5ms", "p50 to p99.999"),
            ("p101>5ms", "p50 to p99.999"),
            ("errors.none>1", "errors.timeout"),
            ("p99>", "not a time"),
            ("errors>x", "not a number"),
            ("rate<-1", "not a rate"),
        ];
        for (text, words) in cases {
            let error = text.parse::<Threshold>().expect_err(text);
            assert!(error.contains(words), "{text}: no {words:?} in {error}");
        }
    }
}
