//! How a run is going, for who watches: a line on a terminal, once an interval.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use oneloop::load::Plan;
use oneloop::load::report::Interval;

use super::numbers::{count, micros, per_second};

/// Redrawn no more often than this, in a second.
const MOST_OFTEN_HZ: u8 = 10;

/// A line that is there while a run goes on.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Hidden where nobody watches, or nobody wants to.
    pub(super) fn new(plan: &Plan, quiet: bool) -> Self {
        let watched = io::stderr().is_terminal() && !quiet;
        let target = match watched {
            true => ProgressDrawTarget::stderr_with_hz(MOST_OFTEN_HZ),
            false => ProgressDrawTarget::hidden(),
        };
        let whole = plan.duration.map(|duration| millis(duration + plan.warmup));
        let bar = ProgressBar::with_draw_target(whole, target);
        let template = match whole {
            Some(_) => "{bar:24} {msg}",
            None => "{elapsed} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message("connecting");
        bar.tick();
        Self(bar)
    }

    pub(super) fn heard(&self, interval: &Interval) {
        let rate = interval.received as f64 / interval.length_s.max(1e-3);
        let p99 = interval.latency_us.map_or("-".into(), |latency| micros(latency.p99));
        let warmup = if interval.warmup { "warm-up  " } else { "" };
        self.0.set_message(format!(
            "{warmup}{} open  {}  p99 {p99}  {} errors",
            count(interval.open as u64),
            per_second(rate),
            interval.errors.sum()
        ));
        self.0.set_position((interval.t_s * 1000.0) as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
