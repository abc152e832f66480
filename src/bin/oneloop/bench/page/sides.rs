//! The page of several runs beside each other.

use oneloop::load::report::Interval;

use super::super::compare::{self, Figure, Side};
use super::super::histogram::Times;
use super::super::text;
use super::{
    Axis, Curve, WHOLE, axis_micros, axis_rate, document, escaped, facts, machine, notes,
    over_time, percentile_figure, replies_per_s, table, time_figure,
};

/// All that `sides` have, the first being what the others are compared with.
pub(in super::super) fn page(sides: &[Side]) -> String {
    let names: Vec<String> = sides.iter().map(name).collect();
    let body = [
        header(sides),
        notes(&compare::doubts(sides)),
        figures(sides),
        curves(sides, &names),
        format!("<div class=\"two\">\n{}{}</div>\n", throughput(sides, &names), latency(sides, &names)),
        sides.iter().map(about).collect(),
        "<section class=\"fine\"><h2>How to read this</h2><p>Latencies are corrected: they count from \
         when a message was due. Noise of a side with several runs is half of the way from the least to \
         the most of them; of a side with one run it is the standard deviation between its intervals, \
         which says less: measure the same twice. A ratio is beyond the noise if it is further from 1 \
         than the noise of both sides together.</p></section>\n"
            .into(),
    ];
    document("oneloop bench: comparison", &body.concat())
}

fn name(side: &Side) -> String {
    format!("{} {}", side.letter, side.first().start.target)
}

fn header(sides: &[Side]) -> String {
    let letters: Vec<_> = sides.iter().map(|side| side.letter.to_string()).collect();
    let files = sides.iter().map(|side| {
        let (letter, noise) = (side.letter, side.noise_of());
        format!("<p>{letter}: {}; noise {noise}</p>", escaped(&side.files))
    });
    format!(
        "<header><div class=\"eyebrow\">oneloop bench, comparison</div><h1>{} compared with {}</h1>{}</header>\n",
        letters[1..].join(", "),
        letters[0],
        files.collect::<String>()
    )
}

fn figures(sides: &[Side]) -> String {
    let mut head = vec![String::new()];
    for (at, side) in sides.iter().enumerate() {
        head.push(escaped(&name(side)));
        if at > 0 {
            head.push(format!("{} / {}", side.letter, sides[0].letter));
        }
    }
    let mut rows = vec![head];
    for figure in Figure::all(sides) {
        let mut row = vec![figure.name.to_string()];
        for at in 0..sides.len() {
            row.push(small_noise(&figure.shown(at)));
            if at > 0 {
                let cell = figure.ratio(at).map(|ratio| {
                    let strong = if ratio.differs() == Some(true) { "!" } else { "" };
                    let shown = small_noise(&ratio.shown());
                    format!("{strong}{shown}<br><small>{}</small>", ratio.verdict())
                });
                row.push(cell.unwrap_or("-".into()));
            }
        }
        rows.push(row);
    }
    format!("<section class=\"sides\">{}</section>\n", table(&rows))
}

fn small_noise(value: &str) -> String {
    match value.split_once(" ±") {
        Some((value, noise)) => format!("{value} <small>±{noise}</small>"),
        None => value.into(),
    }
}

/// All runs of a side together, as far as they can be read.
fn together(side: &Side) -> Option<Times> {
    let runs = side.runs.iter();
    let mut all = runs.filter_map(|run| Times::of(run.histograms.corrected.as_ref()));
    let mut sum = all.next()?;
    // One that cannot be added was recorded in another way, and is left out of the curve.
    all.for_each(|times| drop(sum.add(&times)));
    Some(sum)
}

fn curves(sides: &[Side], names: &[String]) -> String {
    let each = sides.iter().zip(names).enumerate();
    let curves: Vec<_> =
        each.map(|(hue, (side, name))| (hue, name.as_str(), together(side))).collect();
    percentile_figure("Latency by percentile", WHOLE, &curves)
}

fn lines(sides: &[Side], value: impl Fn(&Interval) -> Option<f64>) -> Vec<Curve> {
    let sides = sides.iter().enumerate();
    let runs = sides.flat_map(|(hue, side)| side.runs.iter().map(move |run| (hue, run)));
    runs.map(|(hue, run)| Curve { hue, points: over_time(&run.intervals, &value), filled: false })
        .collect()
}

fn legend(names: &[String]) -> Vec<(usize, &str)> {
    names.iter().map(String::as_str).enumerate().collect()
}

fn throughput(sides: &[Side], names: &[String]) -> String {
    let curves = lines(sides, replies_per_s);
    let even = Some(Axis::Even);
    time_figure("Replies over time", &legend(names), curves, even, axis_rate, 0.0)
}

fn latency(sides: &[Side], names: &[String]) -> String {
    let curves = lines(sides, |interval| interval.latency_us.map(|latency| latency.p99));
    time_figure("p99 latency over time", &legend(names), curves, None, axis_micros, 0.0)
}

fn about(side: &Side) -> String {
    let run = side.first();
    let mut all = vec![("load", escaped(&text::model(run)))];
    all.push(("generator", escaped(&text::generator(run))));
    all.extend(machine(&run.start));
    format!("<section><h2>{}</h2>{}</section>\n", escaped(&name(side)), facts(&all))
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    /// `ONELOOP_SHOW=FOLDER` keeps the page, to be looked at.
    #[test]
    fn the_page_has_both_sides_and_what_their_ratio_is_worth() {
        let side = |letter, slower: &[f64]| {
            let runs = slower.iter().map(|slower| sample::run(*slower, 0.0)).collect();
            Side { letter, files: format!("{letter}.json"), runs }
        };
        let sides = [side('A', &[1.0, 1.03]), side('B', &[1.8])];
        let html = page(&sides);
        if let Some(folder) = std::env::var_os("ONELOOP_SHOW") {
            std::fs::write(std::path::Path::new(&folder).join("sides.html"), &html)
                .expect("written");
        }
        for words in ["B compared with A", "B / A", "beyond noise", "between its 2 runs", "A.json"]
        {
            assert!(html.contains(words), "no {words:?}");
        }
        assert!(!html.contains("NaN"));
    }
}
