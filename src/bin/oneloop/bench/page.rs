//! `--report`: a run, or several beside each other, as one page without anything else to
//! load: no script, no font, no picture from elsewhere.
//!
//! ```text
//!  End ──▶ sections (page/run.rs, page/sides.rs) ──▶ charts.rs, SVG ──▶ one file of HTML
//! ```

mod run;
mod sides;

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use oneloop::load::report::{Interval, Start};

use super::charts::{self, Axis, Chart, Curve, HUES};
use super::histogram::Times;
use super::numbers::{micros, per_second};

pub(super) use run::page as of_run;
pub(super) use sides::page as of_sides;

const STYLE: &str = include_str!("page/style.css");

/// Sizes of drawings, on wide and on narrow screens.
const WHOLE: [(u32, u32); 2] = [(1060, 340), (340, 250)];
const HALF: [(u32, u32); 2] = [(510, 270), (340, 230)];
/// Beside a table.
const TALL: [(u32, u32); 2] = [(510, 345), (340, 230)];

/// A page with that title around `body`.
fn document(title: &str, body: &str) -> String {
    let mut style = String::from(STYLE);
    let mut rule = |colour: plotters::style::RGBColor, variable: &str| {
        let plotters::style::RGBColor(red, green, blue) = colour;
        let hex = format!("#{red:02X}{green:02X}{blue:02X}");
        for property in ["stroke", "fill"] {
            writeln!(style, "svg [{property}=\"{hex}\"] {{ {property}: var(--{variable}); }}")
                .expect("a string takes everything");
        }
    };
    rule(charts::INK, "soft");
    rule(charts::GRID, "line");
    for (at, hue) in HUES.into_iter().enumerate() {
        rule(hue, &format!("hue{at}"));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         </body>\n</html>\n",
        escaped(title)
    )
}

/// Text that stands in HTML for itself.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
    html
}

/// A drawing with its title, and names in the colours of its curves.
fn figure(
    title: &str,
    legend: &[(usize, &str)],
    axis: &str,
    sizes: [(u32, u32); 2],
    chart: &Chart<'_>,
) -> String {
    let names = legend.iter().map(|(hue, name)| {
        format!(
            "<span><i style=\"background:var(--hue{})\"></i>{}</span>",
            hue % HUES.len(),
            escaped(name)
        )
    });
    if chart.curves.iter().all(|curve| curve.points.is_empty()) {
        return format!(
            "<section><div class=\"top\"><h2>{}</h2></div><p class=\"axis\">there are no such \
             numbers</p></section>\n",
            escaped(title)
        );
    }
    format!(
        "<section><div class=\"top\"><h2>{}</h2><div class=\"legend\">{}</div></div>{}\
         <p class=\"axis\">{}</p></section>\n",
        escaped(title),
        names.collect::<String>(),
        chart.svgs(sizes[0], sizes[1]),
        escaped(axis)
    )
}

/// Distributions as curves over their percentiles.
fn percentile_figure(
    title: &str,
    sizes: [(u32, u32); 2],
    times: &[(usize, &str, Option<Times>)],
) -> String {
    let curves: Vec<_> = times
        .iter()
        .filter_map(|(hue, _, times)| {
            Some(Curve { hue: *hue, points: times.as_ref()?.curve(), filled: false })
        })
        .collect();
    let legend: Vec<_> = times.iter().map(|(hue, name, _)| (*hue, *name)).collect();
    let chart = Chart {
        label: title,
        x: Axis::Percent,
        y: fitting(&curves),
        x_text: |percent| format!("{percent}"),
        y_text: axis_micros,
        curves,
        shaded: None,
    };
    figure(title, &legend, "percentile", sizes, &chart)
}

/// Something over the seconds of a run, or of several.
fn time_figure(
    title: &str,
    legend: &[(usize, &str)],
    curves: Vec<Curve>,
    y: Option<Axis>,
    y_text: fn(f64) -> String,
    warmup_s: f64,
) -> String {
    let chart = Chart {
        label: title,
        x: Axis::Even,
        y: y.unwrap_or_else(|| fitting(&curves)),
        x_text: |s| format!("{}", (s * 1000.0).round() / 1000.0),
        y_text,
        curves,
        shaded: (warmup_s > 0.0).then_some(0.0..warmup_s),
    };
    let axis = match warmup_s > 0.0 {
        true => "seconds; grey: warm-up, in no total",
        false => "seconds",
    };
    figure(title, legend, axis, HALF, &chart)
}

/// Evenly, unless the large would flatten the small.
fn fitting(curves: &[Curve]) -> Axis {
    let values = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
    let most = values.clone().fold(0.0, f64::max);
    let least = values.filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    if most > 12.0 * least { Axis::Powers } else { Axis::Even }
}

/// What `value` says of each interval, as points over time. A remainder at the end that is
/// too short to say anything is left out.
fn over_time(intervals: &[Interval], value: impl Fn(&Interval) -> Option<f64>) -> Vec<(f64, f64)> {
    let longest = intervals.iter().map(|interval| interval.length_s).fold(0.0, f64::max);
    let whole = intervals.iter().filter(|interval| interval.length_s > longest * 0.2);
    whole.filter_map(|interval| Some((interval.t_s, value(interval)?))).collect()
}

fn replies_per_s(interval: &Interval) -> Option<f64> {
    (interval.length_s > 0.0).then(|| interval.received as f64 / interval.length_s)
}

/// As short as an axis needs it.
fn axis_micros(us: f64) -> String {
    if us == 0.0 { "0".into() } else { short(&micros(us)) }
}

fn axis_rate(rate: f64) -> String {
    match rate {
        0.0 => "0".into(),
        rate if rate >= 1e6 => format!("{}m/s", (rate / 1e4).round() / 100.0),
        rate if rate >= 1e4 => format!("{}k/s", (rate / 10.0).round() / 100.0),
        rate => per_second(rate),
    }
}

/// `1.00 ms` as `1 ms`: a mark at an axis is exact.
fn short(number: &str) -> String {
    match number.split_once(' ') {
        Some((digits, unit)) if digits.contains('.') => {
            format!("{} {unit}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => number.into(),
    }
}

/// A table; the first row is its head. Cells are HTML, strong behind a `!`, and prose and not
/// a number behind a `?`.
fn table(rows: &[Vec<String>]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table>");
    for (at, row) in rows.iter().enumerate() {
        let tag = if at == 0 { "th" } else { "td" };
        let cells = row.iter().map(|cell| match cell.split_at_checked(1) {
            Some(("!", cell)) => format!("<{tag} class=\"differs\">{cell}</{tag}>"),
            Some(("?", cell)) => format!("<{tag} class=\"prose\">{cell}</{tag}>"),
            _ => format!("<{tag}>{cell}</{tag}>"),
        });
        write!(html, "<tr>{}</tr>", cells.collect::<String>()).expect("a string takes everything");
    }
    html + "</table></div>"
}

/// What the machine was, and what was asked for: names and HTML.
fn machine(start: &Start) -> Vec<(&'static str, String)> {
    let host = &start.host;
    let command = start.command.join(" ");
    let cpu = host.cpu.as_deref().map(|cpu| format!(", {}", escaped(cpu)));
    let mut facts = vec![
        ("command", format!("<code>{}</code>", escaped(&command))),
        ("processors", format!("{}{}", host.cores, cpu.unwrap_or_default())),
    ];
    if let Some(kernel) = &host.kernel {
        facts.push(("kernel", escaped(kernel)));
    }
    if let Some(nofile) = start.nofile {
        facts.push(("descriptors", nofile.to_string()));
    }
    facts.push(("version", format!("oneloop {}", escaped(&start.version))));
    if let Some(began) = start.started_unix_s {
        facts.push(("began", date(began)));
    }
    facts
}

fn date(unix_s: u64) -> String {
    // A file may say anything; what is no date is shown as it is.
    match UNIX_EPOCH.checked_add(Duration::from_secs(unix_s)) {
        Some(time) if unix_s < 253_402_300_800 => httpdate::fmt_http_date(time),
        _ => format!("{unix_s} s after 1970"),
    }
}

fn facts(facts: &[(&str, String)]) -> String {
    let rows = facts.iter().map(|(name, html)| format!("<dt>{name}</dt><dd>{html}</dd>"));
    format!("<dl>{}</dl>", rows.collect::<String>())
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("<p class=\"note\">{}</p>\n", escaped(note))).collect()
}
