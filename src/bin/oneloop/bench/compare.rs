//! `--compare`: runs beside each other, each ratio with its noise.
//!
//! Each file is a side; files joined by commas are runs of one side, and how much they
//! differ is its noise. A side of one run shows how much its intervals differ instead.

use std::fmt::Write as _;

use oneloop::load::report::{End, Percentiles};

use super::numbers::{count, many, micros, per_second, percent};

/// Runs of one thing.
pub(super) struct Side {
    /// A letter.
    pub(super) letter: char,
    /// The files, as they were given.
    pub(super) files: String,
    pub(super) runs: Vec<End>,
}

/// One number of all sides.
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// Of each side, if it has one.
    pub(super) values: Vec<Option<Value>>,
    show: fn(f64) -> String,
}

/// A number and how far it can be from the next measurement of the same, as a part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) mean: f64,
    pub(super) noise: Option<f64>,
}

/// How one side is to the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    pub(super) ratio: f64,
    /// Of both sides, as a part of the ratio.
    pub(super) noise: Option<f64>,
}

impl Side {
    pub(super) fn first(&self) -> &End {
        self.runs.first().expect("a side is made of one run at least")
    }

    /// Where its noise comes from.
    pub(super) fn noise_of(&self) -> String {
        match self.runs.len() {
            1 => "between the intervals of its one run".into(),
            runs => format!("between its {runs} runs"),
        }
    }

    fn value(&self, of: &dyn Fn(&Part<'_>) -> Option<f64>) -> Option<Value> {
        let runs: Vec<f64> = self.runs.iter().filter_map(|run| of(&Part::Run(run))).collect();
        let mean = mean(&runs)?;
        let noise = match self.runs.len() {
            1 => {
                let seconds = Part::seconds(self.first());
                let values: Vec<f64> = seconds.iter().filter_map(of).collect();
                deviation(&values)
            }
            _ => half_range(&runs),
        };
        Some(Value { mean, noise })
    }
}

/// A run or a second of it.
enum Part<'a> {
    Run(&'a End),
    Second(f64, Option<Percentiles>),
}

impl<'a> Part<'a> {
    fn seconds(run: &'a End) -> Vec<Self> {
        let longest = run.intervals.iter().map(|interval| interval.length_s).fold(0.0, f64::max);
        let whole = run.intervals.iter();
        let whole = whole.filter(|one| !one.warmup && one.length_s > longest * 0.5);
        whole.map(|one| Self::Second(one.received as f64 / one.length_s, one.latency_us)).collect()
    }

    fn rate(&self) -> f64 {
        match self {
            Self::Run(run) => run.received_per_s,
            Self::Second(rate, _) => *rate,
        }
    }

    fn latency(&self) -> Option<Percentiles> {
        match self {
            Self::Run(run) => run.latency_us.corrected,
            Self::Second(_, latency) => *latency,
        }
    }

    fn run(&self) -> Option<&End> {
        match self {
            Self::Run(run) => Some(run),
            Self::Second(..) => None,
        }
    }
}

impl Figure {
    /// All that is compared.
    pub(super) fn all(sides: &[Side]) -> Vec<Self> {
        type Of = fn(&Part<'_>) -> Option<f64>;
        type Show = fn(f64) -> String;
        let us = micros as Show;
        let number = (|number| count(number as u64)) as Show;
        let figures: [(&'static str, Show, Of); 9] = [
            ("replies", per_second, |part| Some(part.rate())),
            ("p50", us, |part| Some(part.latency()?.p50)),
            ("p75", us, |part| Some(part.latency()?.p75)),
            ("p90", us, |part| Some(part.latency()?.p90)),
            ("p99", us, |part| Some(part.latency()?.p99)),
            ("p99.9", us, |part| Some(part.latency()?.p99_9)),
            ("max", us, |part| Some(part.latency()?.max)),
            ("connect p99", us, |part| Some(part.run()?.connect_us?.p99)),
            ("errors", number, |part| Some(part.run()?.errors.sum() as f64)),
        ];
        let figures = figures.into_iter().map(|(name, show, of)| Self {
            name,
            values: sides.iter().map(|side| side.value(&of)).collect(),
            show,
        });
        figures.collect()
    }

    pub(super) fn shown(&self, side: usize) -> String {
        match self.values[side] {
            None => "-".into(),
            Some(Value { mean, noise }) => format!("{}{}", (self.show)(mean), more_or_less(noise)),
        }
    }

    /// How that side is to the first.
    pub(super) fn ratio(&self, side: usize) -> Option<Ratio> {
        let (first, other) = (self.values[0]?, self.values[side]?);
        let noise = first.noise.zip(other.noise).map(|(first, other)| first + other);
        (first.mean > 0.0).then(|| Ratio { ratio: other.mean / first.mean, noise })
    }
}

impl Ratio {
    pub(super) fn shown(&self) -> String {
        let digits = if self.ratio < 0.1 { 3 } else { 2 };
        format!("{:.digits$}x{}", self.ratio, more_or_less(self.noise))
    }

    /// What it is worth, if that is known.
    pub(super) fn differs(&self) -> Option<bool> {
        self.noise.map(|noise| (self.ratio - 1.0).abs() > noise)
    }

    pub(super) fn verdict(&self) -> &'static str {
        match self.differs() {
            None => "noise unknown",
            Some(true) => "beyond noise",
            Some(false) => "within noise",
        }
    }
}

/// The sides and their figures, as a table of text.
pub(super) fn table(sides: &[Side]) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
    };
    for side in sides {
        let (first, runs) = (side.first(), many(side.runs.len() as u64, "run"));
        let (letter, files) = (side.letter, &side.files);
        line(format!(
            "{letter}  {files}: {}, {runs}; noise {}",
            first.start.target,
            side.noise_of()
        ));
    }
    line(String::new());
    let mut head = format!("{:<12}", "");
    for (at, side) in sides.iter().enumerate() {
        write!(head, "{:>22}", side.letter).expect("a string takes everything");
        if at > 0 {
            let name = format!("{} / {}", side.letter, sides[0].letter);
            write!(head, "{name:>18}").expect("a string takes everything");
        }
    }
    line(head);
    for figure in Figure::all(sides) {
        let mut row = format!("{:<12}", figure.name);
        for at in 0..sides.len() {
            write!(row, "{:>22}", figure.shown(at)).expect("a string takes everything");
            if at > 0 {
                let ratio = figure.ratio(at);
                let shown = ratio.map_or("-".into(), |ratio| ratio.shown());
                let mark = match ratio.and_then(|ratio| ratio.differs()) {
                    Some(true) => "*",
                    _ => " ",
                };
                write!(row, "{shown:>17}{mark}").expect("a string takes everything");
            }
        }
        line(row);
    }
    line(String::new());
    line("latencies are corrected; * is beyond the noise of both sides".into());
    doubts(sides).into_iter().for_each(|doubt| line(format!("warning: {doubt}")));
    text
}

/// Why the sides may not be comparable.
pub(super) fn doubts(sides: &[Side]) -> Vec<String> {
    let mut doubts = Vec::new();
    let first = &sides[0].first().start;
    for side in sides {
        for run in &side.runs {
            let start = &run.start;
            let differ = [
                ("model", start.model != first.model),
                ("connections", start.connections != first.connections),
                ("depth", start.depth != first.depth),
                ("rate", start.rate_per_s != first.rate_per_s),
                ("message size", start.message_bytes != first.message_bytes),
                ("idle connections", start.idle != first.idle),
                ("machine", start.host != first.host),
            ];
            let what: Vec<_> = differ.iter().filter(|(_, d)| *d).map(|(what, _)| *what).collect();
            if !what.is_empty() {
                let (letter, other) = (side.letter, sides[0].letter);
                doubts.push(format!("{letter} differs from {other} in {}", what.join(", ")));
            }
            if run.generator_limited {
                doubts
                    .push(format!("{}: the generator was the limit, not the server", side.letter));
            }
        }
    }
    // Runs of one side mostly have the same.
    doubts.sort();
    doubts.dedup();
    doubts
}

fn more_or_less(noise: Option<f64>) -> String {
    noise.map_or(String::new(), |noise| format!(" ± {}", percent(noise)))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Half of the way from the least to the most, as a part of the mean.
fn half_range(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|mean| *mean > 0.0 && values.len() > 1)?;
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    Some((most - least) / 2.0 / mean)
}

/// The standard deviation as a part of the mean; of two values it says nothing.
fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|mean| *mean > 0.0 && values.len() > 2)?;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    Some((squares / (values.len() - 1) as f64).sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn side(letter: char, slower: &[f64]) -> Side {
        let runs = slower.iter().map(|slower| sample::run(*slower, 0.0)).collect();
        Side { letter, files: format!("{letter}.json"), runs }
    }

    #[test]
    fn twice_as_slow_is_beyond_the_noise_and_the_same_is_within() {
        let sides = [side('A', &[1.0, 1.02]), side('B', &[2.0, 2.02]), side('C', &[1.01])];
        let figures = Figure::all(&sides);
        let p50 = figures.iter().find(|figure| figure.name == "p50").expect("it is compared");
        let (twice, same) = (p50.ratio(1).expect("replies"), p50.ratio(2).expect("replies"));
        assert!((twice.ratio - 2.0).abs() < 0.05 && twice.differs() == Some(true), "{twice:?}");
        assert!((same.ratio - 1.0).abs() < 0.05 && same.differs() == Some(false), "{same:?}");
        assert_eq!(p50.ratio(0).expect("itself").ratio, 1.0);
        let text = table(&sides);
        if std::env::var_os("ONELOOP_SHOW").is_some() {
            println!("{text}");
        }
        assert!(text.contains("between its 2 runs"), "{text}");
        assert!(text.contains("between the intervals of its one run"), "{text}");
        let row = text.lines().find(|line| line.starts_with("p50")).expect("a row");
        assert_eq!(row.matches('*').count(), 1, "{text}");
    }

    #[test]
    fn runs_that_were_asked_for_differently_are_said_to_be() {
        let mut sides = [side('A', &[1.0]), side('B', &[1.0])];
        assert_eq!(doubts(&sides), Vec::<String>::new());
        sides[1].runs[0].start.connections = 7;
        sides[1].runs[0].generator_limited = true;
        let text = doubts(&sides).join("\n");
        assert!(text.contains("connections") && text.contains("generator"), "{text}");
    }
}
