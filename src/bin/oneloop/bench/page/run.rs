//! The page of one run.

use oneloop::load::report::{End, Interval, Model};

use super::super::histogram::Times;
use super::super::numbers::{count, many, micros, per_second};
use super::super::text::{self, distributions, usual};
use super::{
    Axis, Curve, TALL, WHOLE, axis_micros, axis_rate, document, escaped, facts, machine, notes,
    over_time, percentile_figure, replies_per_s, table, time_figure,
};

/// Everything there is to know about `end`.
pub(in super::super) fn page(end: &End) -> String {
    let body = [
        header(end),
        notes(&doubts(end)),
        cards(end),
        curve(end),
        format!("<div class=\"two\">\n{}{}</div>\n", throughput(end), latency(end)),
        format!("<div class=\"two\">\n{}{}</div>\n", distribution_table(end), connecting(end)),
        errors(end),
        format!("<section><h2>Machine and command</h2>{}</section>\n", about(end)),
        how_to_read(end),
    ];
    document(&format!("oneloop bench {}", end.start.target), &body.concat())
}

fn header(end: &End) -> String {
    format!(
        "<header><div class=\"eyebrow\">oneloop bench</div><h1>{}</h1><p>{}</p></header>\n",
        escaped(&end.start.target),
        escaped(&text::model(end))
    )
}

/// What to know before believing the numbers.
fn doubts(end: &End) -> Vec<String> {
    let limited = end.generator_limited.then(|| text::generator(end));
    limited.into_iter().chain(end.warnings.iter().cloned()).collect()
}

fn cards(end: &End) -> String {
    let latency = end.latency_us.corrected;
    let us = |value: Option<f64>| value.map_or("-".into(), micros);
    let cards = [
        (per_second(end.received_per_s), "replies".to_string()),
        (us(latency.map(|l| l.p50)), "latency p50".into()),
        (us(latency.map(|l| l.p99)), "latency p99".into()),
        (us(latency.map(|l| l.max)), "latency max".into()),
        (count(end.connected), "connections opened".into()),
        (count(end.errors.sum()), if end.errors.sum() == 1 { "error" } else { "errors" }.into()),
    ];
    let html = cards.map(|(value, name)| {
        format!("<div class=\"card\"><b>{value}</b><span>{name}</span></div>")
    });
    format!("<div class=\"cards\">{}</div>\n", html.concat())
}

/// Whether the two ways to measure are two.
fn two_ways(end: &End) -> bool {
    end.latency_us.corrected != end.latency_us.uncorrected
}

fn curve(end: &End) -> String {
    let corrected = Times::of(end.histograms.corrected.as_ref());
    let title = "Latency by percentile";
    if !two_ways(end) {
        return percentile_figure(title, WHOLE, &[(0, "from sending to reply", corrected)]);
    }
    let uncorrected = Times::of(end.histograms.uncorrected.as_ref());
    let curves = [
        (0, "corrected: from when it was due", corrected),
        (1, "uncorrected: from when it was sent", uncorrected),
    ];
    percentile_figure(title, WHOLE, &curves)
}

fn throughput(end: &End) -> String {
    let curves =
        vec![Curve { hue: 0, points: over_time(&end.intervals, replies_per_s), filled: true }];
    let warmup = end.start.warmup_s;
    time_figure("Replies over time", &[], curves, Some(Axis::Even), axis_rate, warmup)
}

fn latency(end: &End) -> String {
    let line = |hue, value: fn(&oneloop::load::report::Percentiles) -> f64| {
        let value = |interval: &Interval| interval.latency_us.as_ref().map(value);
        Curve { hue, points: over_time(&end.intervals, value), filled: false }
    };
    let curves = vec![line(0, |l| l.p50), line(1, |l| l.p99), line(4, |l| l.max)];
    let legend = [(0, "p50"), (1, "p99"), (4, "max")];
    time_figure("Latency over time", &legend, curves, None, axis_micros, end.start.warmup_s)
}

fn distribution_table(end: &End) -> String {
    let columns = distributions(end);
    let times: Vec<_> = columns.iter().map(|(.., histogram)| Times::of(*histogram)).collect();
    let cells = |name: &str, of: &dyn Fn(usize) -> Option<String>| {
        let cells = (0..columns.len()).map(|at| of(at).unwrap_or("-".into()));
        [name.to_string()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let mut rows = vec![cells("", &|at| Some(columns[at].0.to_string()))];
    for percent in [50.0, 75.0, 90.0, 99.0, 99.9, 99.99] {
        let cell = |at: usize| {
            let values = columns[at].1.as_ref()?;
            let us = usual(values, percent).or_else(|| Some(times[at].as_ref()?.at(percent)));
            us.map(micros)
        };
        rows.push(cells(&format!("p{percent}"), &cell));
    }
    rows.push(cells("max", &|at| columns[at].1.map(|values| micros(values.max))));
    rows.push(cells("mean", &|at| columns[at].1.map(|values| micros(values.mean))));
    rows.push(cells("count", &|at| columns[at].1.map(|values| count(values.count))));
    format!("<section><div class=\"top\"><h2>Distributions</h2></div>{}</section>\n", table(&rows))
}

fn connecting(end: &End) -> String {
    let times = Times::of(end.histograms.connect.as_ref());
    percentile_figure(
        "Time to connect, by percentile",
        TALL,
        &[(2, "from calling to connected", times)],
    )
}

fn errors(end: &End) -> String {
    let what = [
        "connections that did not come to be",
        "messages without a reply in time",
        "connections reset or broken",
        "connections closed with a reply due",
        "connections whose bytes were no messages",
        "replies that were not what was sent",
        "replies that nobody had asked for",
    ];
    let kinds = end.errors.by_kind().into_iter().zip(what).filter(|((_, number), _)| *number > 0);
    let mut rows = vec![vec!["kind".to_string(), "number".into(), "?what".into()]];
    rows.extend(kinds.map(|((kind, number), what)| {
        vec![kind.into(), format!("!{}", count(number)), format!("?<small>{what}</small>")]
    }));
    if rows.len() == 1 {
        return "<section><h2>No errors</h2></section>\n".into();
    }
    let title = format!("<h2>{}</h2>", many(end.errors.sum(), "error"));
    format!("<section><div class=\"top\">{title}</div>{}</section>\n", table(&rows))
}

fn about(end: &End) -> String {
    let start = &end.start;
    let replies = match start.reply_framing == start.framing {
        true => String::new(),
        false => format!(", replies <code>{}</code>", escaped(&start.reply_framing)),
    };
    let framing =
        format!("<code>{}</code>{replies}, {}", escaped(&start.framing), text::message(start));
    let mut all = vec![("framing", framing), ("load", escaped(&text::model(end)))];
    let unanswered = end.oldest_unanswered_us.map(|us| format!(", the oldest for {}", micros(us)));
    let counts = format!(
        "{} sent, {} answered, {} not answered at the end{}, {} due and not sent",
        count(end.sent),
        count(end.received),
        count(end.unanswered),
        unanswered.unwrap_or_default(),
        count(end.unsent)
    );
    all.push(("messages", counts));
    all.push(("generator", escaped(&text::generator(end))));
    all.extend(machine(start));
    facts(&all)
}

fn how_to_read(end: &End) -> String {
    let loops = match end.start.model {
        Model::Closed => {
            "This was a closed loop: the next message waits for a reply, so a server that stalls also \
             stalls the load, and the waiting of those who would have come meanwhile is not in the \
             numbers. A run at a rate (-r) shows it."
        }
        Model::Open | Model::Fanout => {
            "Messages were due at times that were fixed before. Corrected latency counts from then, so \
             that what waits behind a stall is in the numbers; uncorrected latency counts from when a \
             message was sent, which is what most tools show, and what a stalled server hides."
        }
        Model::Churn => {
            "Each message had a connection of its own; its latency counts from calling the server."
        }
    };
    format!(
        "<section class=\"fine\"><h2>How to read this</h2><p>{loops}</p><p>A percentile says how long \
         so many in a hundred took at most. Errors and messages without a reply are in no percentile. \
         Send lag is how late this tool sent what it could have sent: if it is not small beside the \
         latency, the tool was part of what was measured.</p></section>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    /// `ONELOOP_SHOW=FOLDER` keeps the page, to be looked at.
    #[test]
    fn the_page_has_all_of_the_run_and_nothing_from_elsewhere() {
        let mut end = sample::run(1.0, 2.0);
        end.start.target = "<script>alert(1)</script>".into();
        end.start.warmup_s = 2.0;
        end.generator_limited = true;
        end.generator.why = Some("busy for 97 % of the time".into());
        end.warnings = vec!["something to know".into()];
        let html = page(&end);
        if let Some(folder) = std::env::var_os("ONELOOP_SHOW") {
            end.start.target = "127.0.0.1:7000".into();
            std::fs::write(std::path::Path::new(&folder).join("run.html"), page(&end))
                .expect("written");
        }
        for words in [
            "Latency by percentile",
            "Replies over time",
            "Latency over time",
            "Time to connect",
            "2 errors",
            "something to know",
            "generator limited: busy for 97 % of the time",
            "oneloop bench 127.0.0.1:7000 -c 100",
            "Example 9000",
            "prefers-color-scheme: dark",
            "&lt;script&gt;",
        ] {
            assert!(html.contains(words), "no {words:?}");
        }
        let foreign = ["<script", "<link", "<img", "src=", "url(", "@import", "NaN"];
        for words in foreign {
            assert!(!html.contains(words), "{words:?}");
        }
        let addresses = html.matches("http").count();
        assert_eq!(addresses, html.matches("http://www.w3.org/2000/svg").count());
    }

    #[test]
    fn a_run_of_nothing_has_a_page() {
        let html = page(&End::default());
        assert!(html.contains("No errors") && !html.contains("NaN"));
    }
}
