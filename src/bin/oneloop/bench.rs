//! `oneloop bench`: loads a server and says what it saw.
//!
//! ```text
//!  flags ─▶ request: what is asked for, or why it cannot be ─▶ load::run ─▶ End
//!                                                                           │
//!   exit code ◀─ threshold ◀─ output: text, JSON, page, histogram ◀─────────┘
//! ```
//!
//! The library measures; here is what a person asks for and gets to see. `--merge` and
//! `--compare` begin with what earlier runs have written.

mod charts;
mod compare;
mod find_rate;
mod flags;
mod histogram;
mod merge;
mod numbers;
mod output;
mod page;
mod payload;
mod progress;
mod request;
#[cfg(test)]
mod sample;
mod text;
mod threshold;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use oneloop::load::report::{self, End, Event, Interval, Reason};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::Failure;
use crate::address::{self, Address};
use crate::framing::FramingFlags;
use crate::preflight::{self, Status, Wanted};
use find_rate::Try;
use flags::{ConnectionFlags, LoadFlags, MessageFlags, OutputFlags};
use histogram::Times;
use numbers::per_second;
use progress::Progress;
use request::Asked;
use threshold::Threshold;

#[derive(Args)]
#[command(after_help = "\
Examples:
  oneloop bench 127.0.0.1:7000 -c 100                    as fast as replies come
  oneloop bench 127.0.0.1:7000 -c 100 -r 20k -d 30s      at a rate: what a stall hides is seen
  oneloop bench 127.0.0.1:80 -f http --get / --report run.html
  oneloop bench 127.0.0.1:6379 -f resp --find-rate 'p99<2ms' -c 50
  oneloop bench --compare a1.json,a2.json b1.json,b2.json --report both.html

Without -r a message waits for the reply before it, and a server that stalls stalls the load.
At a rate messages are due at fixed times: corrected latency counts from then, uncorrected
from when they were sent. RATE and N take k and m (1000s), SIZE k, m, g (1024s), TIME us, ms,
s, m, h. The first Ctrl-C ends the run and shows it, the second ends the program.

Exit codes: 0, 1 if nothing could be measured, 2 for what cannot be asked, 99 for --fail-if.")]
pub(crate) struct Bench {
    /// The server: host:port, [v6]:port or unix:PATH
    #[arg(value_name = "ADDR", value_parser = address::parse)]
    #[arg(required_unless_present_any = ["merge", "compare"])]
    addr: Option<Address>,

    #[command(flatten)]
    load: LoadFlags,

    #[command(flatten)]
    framing: FramingFlags,

    #[command(flatten)]
    message: MessageFlags,

    #[command(flatten)]
    connections: ConnectionFlags,

    #[command(flatten)]
    output: OutputFlags,
}

/// How long one try of `--find-rate` takes, if nobody says.
const TRY: Duration = Duration::from_secs(3);

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if !self.output.merge.is_empty() {
            return self.merge();
        }
        if !self.output.compare.is_empty() {
            return self.compare();
        }
        let addr = self.addr.as_ref().expect("clap takes nothing without one");
        let asked = Asked::new(&self, addr)?;
        let stop = catch_signals()?;
        if !self.output.quiet {
            look_at_the_machine(&asked, addr);
        }
        match &self.output.find_rate {
            Some(promise) => self.find_rate(&asked, promise, &stop),
            None => {
                let end = self.measure(asked, &stop);
                output::finish(&self.output, &end)?;
                self.verdict(&end)
            }
        }
    }

    /// One run. Whatever happens, there is an end to show.
    fn measure(&self, asked: Asked, stop: &AtomicBool) -> End {
        let stream = self.output.json_stream;
        if stream && !output::print_event(Event::Start(asked.start.clone())) {
            stop.store(true, Ordering::Relaxed);
        }
        let progress = Progress::new(&asked.plan, self.output.quiet);
        let mut on = |interval: &Interval| {
            progress.heard(interval);
            if stream && !output::print_event(Event::Interval(interval.clone())) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let ran = oneloop::load::run(&asked.plan, asked.replies, asked.message, stop, &mut on);
        drop(progress);
        let end = ran.unwrap_or_else(|error| End {
            reason: Reason::NoConnection,
            warnings: vec![format!("it could not go on: {error}")],
            ..End::default()
        });
        let mut end = End { start: asked.start, ..end };
        end.warnings.extend(fell_behind(&end));
        end.percentiles_us = self.asked_percentiles(&end);
        end
    }

    /// What `--percentiles` asked for.
    fn asked_percentiles(&self, end: &End) -> Option<report::Asked> {
        let asked = &self.output.percentiles;
        let named = |histogram: &Option<String>| {
            let times = Times::of(histogram.as_ref());
            let at = |times: Times| asked.iter().map(move |p| (format!("p{p}"), times.at(*p)));
            times.into_iter().flat_map(at).collect()
        };
        (!asked.is_empty()).then(|| report::Asked {
            corrected: named(&end.histograms.corrected),
            uncorrected: named(&end.histograms.uncorrected),
        })
    }

    /// The exit code of a run that was shown.
    fn verdict(&self, end: &End) -> Result<(), Failure> {
        if let Some(nothing) = nothing_measured(end) {
            return Err(Failure::Runtime(nothing));
        }
        let breached = self.output.fail_if.iter().filter(|limit| limit.holds(end) != Some(false));
        let breached: Vec<_> =
            breached.map(|limit| format!("{limit} (it is {})", limit.measured(end))).collect();
        match breached.is_empty() {
            true => Ok(()),
            false => Err(Failure::Threshold(format!("--fail-if: {}", breached.join(", ")))),
        }
    }

    fn find_rate(
        &self,
        asked: &Asked,
        promise: &Threshold,
        stop: &AtomicBool,
    ) -> Result<(), Failure> {
        if !promise.is_promise() {
            return Err(Failure::Usage(format!(
                "--find-rate '{promise}': say what is to stay small, as in 'p99<5ms'"
            )));
        }
        let duration = self.load.duration.unwrap_or(TRY);
        let begin = self.load.rate.unwrap_or(find_rate::BEGIN);
        let mut last = None;
        let found = find_rate::search(begin, |rate| {
            let end = self.measure(asked.at_rate(rate, duration), stop);
            if end.received == 0 && end.reason == Reason::NoConnection {
                return Err(Failure::Runtime(nothing_measured(&end).unwrap_or_default()));
            }
            let went = find_rate::judge(rate, &end, promise.holds(&end));
            let word = match went {
                Try::Kept => "kept",
                Try::Broken => "broken",
                Try::Limited => "generator limited",
                Try::Stopped => "stopped",
            };
            let (answered, errors) = (per_second(end.received_per_s), end.errors.sum());
            let line = format!(
                "{:>14}  {answered:>14} answered  {promise}: {:>8}  {errors} errors  {word}\n",
                per_second(rate),
                promise.measured(&end)
            );
            // Where JSON goes to stdout, these are for who watches.
            match self.output.json || self.output.json_stream {
                true => eprint!("{line}"),
                false => output::print(&line)?,
            }
            if self.output.json_stream {
                output::print_event(Event::End(Box::new(end.clone())));
            }
            last = Some(end.clone());
            Ok((went, end))
        })?;
        let Some((rate, mut end)) = found.best else {
            let mut end = last.unwrap_or_default();
            end.warnings.push(format!("no rate keeps {promise}"));
            end.warnings.extend(found.remark.map(String::from));
            output::finish(&self.output, &end)?;
            return Err(Failure::Threshold(format!("no rate keeps {promise}")));
        };
        end.warnings.extend(found.remark.map(String::from));
        let result =
            format!("\n{} keeps {promise}: {}\n\n", per_second(rate), promise.measured(&end));
        if !self.output.json && !self.output.json_stream {
            output::print(&result)?;
        }
        output::finish(&self.output, &end)?;
        self.verdict(&end)
    }

    fn merge(&self) -> Result<(), Failure> {
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let runs = self.output.merge.iter().map(|path| Ok((name(path), output::read(path)?)));
        let runs: Vec<_> = runs.collect::<Result<_, Failure>>()?;
        let mut sum = merge::add(&runs).map_err(Failure::Usage)?;
        sum.percentiles_us = self.asked_percentiles(&sum);
        output::finish(&self.output, &sum)?;
        self.verdict(&sum)
    }

    fn compare(&self) -> Result<(), Failure> {
        let letters = 'A'..='Z';
        let mut sides = Vec::new();
        for (files, letter) in self.output.compare.iter().zip(letters) {
            let runs = files.split(',').map(|file| output::read(Path::new(file)));
            let runs = runs.collect::<Result<_, Failure>>()?;
            sides.push(compare::Side { letter, files: files.clone(), runs });
        }
        let given = self.output.compare.len();
        if !(2..=6).contains(&given) {
            return Err(Failure::Usage(format!(
                "--compare takes 2 to 6 sides, not {given}; runs of one side are joined by commas, \
                 as in a1.json,a2.json b.json"
            )));
        }
        output::print(&compare::table(&sides))?;
        match &self.output.report {
            Some(path) => output::write(path, &page::of_sides(&sides)),
            None => Ok(()),
        }
    }
}

/// Set by the first signal. The second ends the program.
fn catch_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|error| Failure::Runtime(format!("cannot catch signals: {error}")))?;
    }
    Ok(stop)
}

/// What the machine lacks for so many connections, on stderr.
fn look_at_the_machine(asked: &Asked, addr: &Address) {
    let wanted = Wanted { connections: asked.plan.sockets(), listen: &[] };
    for check in preflight::check(&wanted) {
        // The server's business, or none of a Unix socket.
        let ours = match check.name {
            "ports" | "port_reuse" => {
                matches!(addr, Address::Tcp(_)) && asked.plan.sources.is_empty()
            }
            name => !matches!(name, "backlog" | "half_open" | "listen"),
        };
        let word = match check.status {
            Status::Ok => continue,
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        if ours {
            let fix = check.fix.map(|fix| format!("; fix: {fix}")).unwrap_or_default();
            eprintln!("{word}  {}  {}; wanted: {}{fix}", check.name, check.found, check.wanted);
        }
    }
}

/// What was due at the end and could not be sent, if it is more than the last moment's.
fn fell_behind(end: &End) -> Option<String> {
    const TOLERATED: f64 = 0.01;
    (end.unsent as f64 > TOLERATED * end.sent as f64).then(|| {
        format!(
            "the server did not keep up: {} messages were due and not sent by the end; they would \
             have waited longest, and are in no percentile",
            numbers::count(end.unsent)
        )
    })
}

/// Why a run says nothing of the server, if it does not.
fn nothing_measured(end: &End) -> Option<String> {
    let errors = end.errors.by_kind().into_iter().filter(|(_, number)| *number > 0);
    let mut why: Vec<_> = errors.map(|(kind, number)| format!("{kind} {number}")).collect();
    let failed = !why.is_empty() || end.sent > 0 || end.reason == Reason::NoConnection;
    if end.received > 0 || !failed || (end.reason == Reason::Signal && why.is_empty()) {
        return None;
    }
    why.extend(end.warnings.first().cloned());
    let target = &end.start.target;
    Some(match end.connected {
        0 => format!("{target}: no connection came to be: {}", why.join("; ")),
        _ => format!("{target}: none of {} messages was answered: {}", end.sent, why.join("; ")),
    })
}
