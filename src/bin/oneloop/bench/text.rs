//! A run on one screen of text. Its numbers are those of the JSON, rounded to be read.

use std::fmt::Write as _;

use oneloop::load::report::{End, Model, Percentiles, Reason, Start};

use super::histogram::Times;
use super::numbers::{bytes, count, many, micros, per_second, percent, seconds};

/// The percentiles that are shown, if no others were asked for.
const USUAL: [f64; 5] = [50.0, 75.0, 90.0, 99.0, 99.9];

/// All of a run; `asked` are percentiles to show instead of the usual ones.
pub(super) fn screen(end: &End, asked: &[f64]) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
    };
    line(&title(end));
    line(&model(end));
    line("");
    for (name, what) in counts(end) {
        line(&format!("{name:<14}{what}"));
    }
    line("");
    latencies(end, asked).iter().for_each(|row| line(row));
    line("");
    match end.generator_limited {
        true => line(&generator(end)),
        false => line(&format!("{:<14}{}", "generator", generator(end))),
    }
    if end.start.model == Model::Closed {
        line("");
        line(
            "closed loop: the next message waits for a reply, so a server that stalls also stalls",
        );
        line("the load, and corrected is the same as uncorrected; -r RATE shows what that hides");
    }
    if !end.warnings.is_empty() {
        line("");
    }
    end.warnings.iter().for_each(|warning| line(&format!("warning: {warning}")));
    text
}

/// Whom, and what with.
fn title(end: &End) -> String {
    let start = &end.start;
    let replies = match start.reply_framing == start.framing {
        true => String::new(),
        false => format!(", replies {}", start.reply_framing),
    };
    format!("{}  {}{replies}, {}", start.target, start.framing, message(start))
}

/// What one message was.
pub(super) fn message(start: &Start) -> String {
    match start.message_bytes {
        0 if start.framing.starts_with("http") => "requests without a body".into(),
        0 => "empty messages".into(),
        size => format!("messages of {}", bytes(size as f64)),
    }
}

/// How it was loaded, and for how long.
pub(super) fn model(end: &End) -> String {
    let start = &end.start;
    let connections = many(start.connections as u64, "connection");
    let rate = start.rate_per_s.map(per_second);
    let mut text = match (start.model, &rate) {
        (Model::Closed, _) => format!("closed loop, {connections}, depth {}", start.depth),
        (Model::Open, rate) => format!(
            "open loop, {} over {connections}, depth {}",
            rate.as_deref().unwrap_or("at a rate"),
            start.depth
        ),
        (Model::Fanout, None) => format!("fan-out, one of {connections} sends, all others hear it"),
        (Model::Fanout, Some(rate)) => {
            format!("fan-out, one of {connections} sends {rate}, all others hear it")
        }
        (Model::Churn, _) => format!("churn, a connection for each message, {connections} at once"),
    };
    let beside = [(start.idle, "idle"), (start.slow, "reading slowly"), (start.drip, "dripping")];
    for (number, kind) in beside.into_iter().filter(|(number, _)| *number > 0) {
        write!(text, ", {} {kind}", count(number as u64)).expect("a string takes everything");
    }
    write!(text, "; {}", seconds(end.elapsed_s)).expect("a string takes everything");
    if start.warmup_s > 0.0 {
        write!(text, " after {} of warm-up", seconds(start.warmup_s))
            .expect("a string takes everything");
    }
    match end.reason {
        Reason::Duration | Reason::Requests => {}
        Reason::Signal => text.push_str(", cut short by a signal"),
        Reason::NoConnection => text.push_str(", and then no connection was left"),
    }
    text
}

fn counts(end: &End) -> Vec<(&'static str, String)> {
    let elapsed_s = exact_elapsed_s(end);
    let rate = |number: u64| match elapsed_s > 0.0 {
        true => per_second(number as f64 / elapsed_s),
        false => "-".into(),
    };
    let transfer = match elapsed_s > 0.0 {
        true => format!("{}/s", bytes(end.received_bytes as f64 / elapsed_s)),
        false => "-".into(),
    };
    let row = |number: u64, rate: String| format!("{:>14}{rate:>14}", count(number));
    let mut rows = vec![
        ("sent", row(end.sent, rate(end.sent))),
        ("replies", row(end.received, per_second(end.received_per_s)) + &format!("{transfer:>14}")),
        (
            "connections",
            format!(
                "{:>14}{:>14} open at the end",
                format!("{} opened", count(end.connected)),
                count(end.open as u64)
            ),
        ),
    ];
    if end.unanswered > 0 {
        let oldest = end.oldest_unanswered_us.map(|us| format!(", the oldest for {}", micros(us)));
        let what =
            format!("{:>14}  at the end{}", count(end.unanswered), oldest.unwrap_or_default());
        rows.push(("unanswered", what));
    }
    if end.unsent > 0 {
        let what = format!("{:>14}  were due, behind replies that had not come", count(end.unsent));
        rows.push(("unsent", what));
    }
    rows.push(("errors", errors(end)));
    rows
}

/// The measured time, finer than the milliseconds that are told: short runs are long enough
/// for two rates of the same to differ by that.
pub(super) fn exact_elapsed_s(end: &End) -> f64 {
    match end.received_per_s > 0.0 {
        true => end.received as f64 / end.received_per_s,
        false => end.elapsed_s,
    }
}

/// By kind, if there are any.
fn errors(end: &End) -> String {
    let kinds = end.errors.by_kind().into_iter().filter(|(_, number)| *number > 0);
    let kinds: Vec<_> = kinds.map(|(kind, number)| format!("{kind} {}", count(number))).collect();
    match kinds.is_empty() {
        true => format!("{:>14}", "none"),
        false => format!("{:>14}  {}", count(end.errors.sum()), kinds.join(", ")),
    }
}

/// A name, its distribution, and the same with all its values.
pub(super) type Row<'a> = (&'static str, Option<Percentiles>, Option<&'a String>);

/// The distributions of a run, those that say something.
pub(super) fn distributions(end: &End) -> Vec<Row<'_>> {
    let histograms = &end.histograms;
    let rows = [
        ("corrected", end.latency_us.corrected, histograms.corrected.as_ref()),
        ("uncorrected", end.latency_us.uncorrected, histograms.uncorrected.as_ref()),
        ("connecting", end.connect_us, histograms.connect.as_ref()),
        ("send lag", end.send_lag_us, histograms.send_lag.as_ref()),
    ];
    let always = |name: &str| matches!(name, "corrected" | "uncorrected");
    rows.into_iter().filter(|(name, values, _)| always(name) || values.is_some()).collect()
}

/// One of the usual percentiles, as the JSON has it.
pub(super) fn usual(values: &Percentiles, percent: f64) -> Option<f64> {
    let found = [values.p50, values.p75, values.p90, values.p99, values.p99_9];
    USUAL.iter().position(|usual| *usual == percent).map(|at| found[at])
}

fn latencies(end: &End, asked: &[f64]) -> Vec<String> {
    let asked = if asked.is_empty() { &USUAL[..] } else { asked };
    let mut header = format!("{:<14}", "latency");
    for percent in asked {
        write!(header, "{:>10}", format!("p{percent}")).expect("a string takes everything");
    }
    let mut rows = vec![format!("{header}{:>10}{:>10}", "max", "mean")];
    for (name, values, histogram) in distributions(end) {
        let times = Times::of(histogram);
        let cell = |percent: &f64| {
            let values = values.as_ref()?;
            usual(values, *percent).or_else(|| Some(times.as_ref()?.at(*percent)))
        };
        let shown = |us: Option<f64>| format!("{:>10}", us.map_or("-".into(), micros));
        let mut row = format!("{name:<14}");
        asked.iter().for_each(|percent| row.push_str(&shown(cell(percent))));
        row.push_str(&shown(values.map(|values| values.max)));
        row.push_str(&shown(values.map(|values| values.mean)));
        rows.push(row);
    }
    rows
}

/// Whether the tool was the limit, and how it knows.
pub(super) fn generator(end: &End) -> String {
    if end.generator_limited {
        let why = end.generator.why.as_deref().unwrap_or("it does not say why");
        return format!("generator limited: {why}");
    }
    let mut text = String::from("not the limit");
    if end.generator.spins {
        text.push_str("; it does not sleep when a message is due soon, to send it on time");
    } else if let Some(busy) = end.generator.busy {
        write!(text, "; busy {} of the time", percent(busy)).expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_run_fits_on_a_screen_with_every_number_in_its_unit() {
        let mut end = sample::run(1.0, 2.0);
        end.warnings.push("something to know".into());
        let text = screen(&end, &[]);
        if std::env::var_os("ONELOOP_SHOW").is_some() {
            println!("{text}");
        }
        assert!(text.lines().count() <= 24, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        for words in [
            "127.0.0.1:7000  lines, messages of 64 bytes",
            "open loop, 5,000/s over 100 connections, depth 1; 10 s",
            "timeout 2",
            "warning: something to know",
            "not the limit",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        let corrected = text.lines().find(|line| line.starts_with("corrected")).expect("a row");
        let values = end.latency_us.corrected.expect("there are replies");
        for us in [values.p50, values.p75, values.p90, values.p99, values.p99_9, values.max] {
            assert!(corrected.contains(&micros(us)), "no {us} in {corrected}");
        }
    }

    #[test]
    fn percentiles_that_are_asked_for_stand_instead_of_the_usual_ones() {
        let text = screen(&sample::run(1.0, 0.0), &[50.0, 99.99]);
        assert!(text.contains("p99.99") && !text.contains("p75"), "{text}");
    }

    #[test]
    fn a_run_without_replies_has_no_numbers_where_there_are_none() {
        let mut end = End { reason: Reason::NoConnection, ..End::default() };
        end.errors.connect = 3;
        let text = screen(&end, &[99.0]);
        assert!(text.contains("connect 3") && !text.contains("NaN"), "{text}");
        assert!(text.contains("closed loop: the next message waits"), "{text}");
        let corrected = text.lines().find(|line| line.starts_with("corrected")).expect("a row");
        assert_eq!(corrected.split_whitespace().collect::<Vec<_>>(), ["corrected", "-", "-", "-"]);
    }
}
