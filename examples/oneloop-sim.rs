//! Runs the loop on a simulated kernel that misbehaves by seed: any number of seeds, or
//! as long as there is time, or one that failed.
//!
//! ```console
//! $ cargo run --release --example oneloop-sim -- --seeds 0..1000
//! $ cargo run --release --example oneloop-sim -- --minutes 60
//! $ cargo run --release --example oneloop-sim -- --enough 100000000,500000000
//! $ cargo run --release --example oneloop-sim -- --seed 17 --events 4000 --without reset
//! ```
//!
//! `--crowd 1000000` opens that many connections at once, has all of them speak, and says
//! how much memory the server holds for each.
//!
//! A failing seed is made smaller, and printed as the command that repeats it.

#[expect(dead_code, reason = "the tests need the rest")]
#[path = "../tests/sim/mod.rs"]
mod sim;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sim::Report;
use sim::plan::Plan;
use sim::shrink::{attempt, command, shrink, without};

/// What to run.
struct Job {
    seeds: std::ops::Range<u64>,
    events: u64,
    time: Option<Duration>,
    /// Messages and events after which it is enough, if that is said.
    enough: Option<(u64, u64)>,
    change: Vec<(String, String)>,
    shrinks: bool,
    small: bool,
    crowd: usize,
}

fn main() -> ExitCode {
    let job = match parse(std::env::args().skip(1)) {
        Ok(job) => job,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    if job.crowd > 0 {
        let crowd = sim::million::crowd(job.crowd);
        println!(
            "{} connections open at once, {} messages answered, all closed in {:.1} s: \
             {:.1} bytes of the server's memory for each",
            crowd.connections,
            crowd.messages,
            crowd.took.as_secs_f64(),
            crowd.memory as f64 / crowd.connections as f64
        );
        return ExitCode::SUCCESS;
    }
    if job.shrinks || job.seeds.end - job.seeds.start > 1 {
        // A failure is told once, when it is small.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let (begin, mut sum, mut failed, mut seeds) = (Instant::now(), Report::default(), 0, 0u64);
    for seed in job.seeds.clone() {
        let enough = |(messages, events)| sum.messages >= messages && sum.events >= events;
        if job.time.is_some_and(|time| begin.elapsed() >= time) || job.enough.is_some_and(enough) {
            break;
        }
        let plan = match plan(&job, seed) {
            Ok(plan) => plan,
            Err(text) => {
                eprintln!("{text}");
                return ExitCode::from(2);
            }
        };
        seeds += 1;
        if seeds % 10_000 == 0 {
            eprintln!("{seeds} seeds, {} events, {} messages", sum.events, sum.messages);
        }
        match attempt(&plan) {
            Ok(report) => sum.add(&report),
            Err(text) => {
                failed += 1;
                println!("seed {seed}: {text}");
                if job.shrinks {
                    let (small, text) = shrink(&plan, &text);
                    println!("  smaller: {text}\n  {}", command(&small));
                }
            }
        }
    }
    tell(&sum, seeds, begin.elapsed());
    println!("failed: {failed} of {seeds} seeds");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(sum: &Report, seeds: u64, took: Duration) {
    let rate = |count: u64| count as f64 / took.as_secs_f64();
    println!("{}", sum.cover.table());
    println!(
        "{seeds} seeds in {:.1} s: {} events ({:.0}/s), {} calls ({:.0}/s), {} turns",
        took.as_secs_f64(),
        sum.events,
        rate(sum.events),
        sum.calls,
        rate(sum.calls),
        sum.turns
    );
    let ends = oneloop::CloseReason::ALL.iter().zip(sum.ends).filter(|(_, count)| *count > 0);
    let ends: Vec<String> = ends.map(|(reason, count)| format!("{reason} {count}")).collect();
    println!("ends: {}", ends.join(", "));
    println!(
        "{} turns began with nine tenths of the memory in use, {} callers were hung up on for \
         their address, {} records of the log were checked",
        sum.tight, sum.hung_up, sum.records
    );
    println!(
        "{:.1} simulated hours, {} connections, {} messages delivered and {} heard back: \
         0 lost, doubled or crossed in seeds that passed; trace {:016x}",
        sum.seconds as f64 / 3600.0,
        sum.connections,
        sum.messages,
        sum.replies,
        sum.hash
    );
}

fn plan(job: &Job, seed: u64) -> Result<Plan, String> {
    let mut plan = Plan::draw(seed, job.events, job.small);
    for (what, value) in &job.change {
        let number = || value.parse::<usize>().map_err(|error| format!("{what} {value}: {error}"));
        match what.as_str() {
            "--peers" => plan.peers = number()?,
            "--messages" => plan.messages = number()? as u32,
            _ => value.split(',').try_for_each(|word| without(&mut plan, word))?,
        }
    }
    Ok(plan)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Job, String> {
    let mut job = Job {
        seeds: 0..1000,
        events: 5000,
        time: None,
        enough: None,
        change: Vec::new(),
        shrinks: true,
        small: false,
        crowd: 0,
    };
    while let Some(name) = args.next() {
        if name == "--as-it-is" {
            job.shrinks = false;
            continue;
        }
        if name == "--small" {
            job.small = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = |text: &str| text.parse().map_err(|error| format!("{name} {text}: {error}"));
        match name.as_str() {
            "--seed" => {
                let seed = number(&value)?;
                job.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or("--seeds FROM..TO")?;
                job.seeds = number(from)?..number(to)?;
            }
            "--crowd" => job.crowd = number(&value)? as usize,
            "--events" => job.events = number(&value)?,
            "--minutes" => {
                job.time = Some(Duration::from_secs(60 * number(&value)?));
                job.seeds.end = u64::MAX;
            }
            "--enough" => {
                let (messages, events) = value.split_once(',').ok_or("--enough MESSAGES,EVENTS")?;
                job.enough = Some((number(messages)?, number(events)?));
                job.seeds.end = u64::MAX;
            }
            "--peers" | "--messages" | "--without" => job.change.push((name, value)),
            _ => {
                return Err(format!(
                    "{name}: not one of --seed N, --seeds FROM..TO, --events N, --minutes N, \
                     --enough MESSAGES,EVENTS, --peers N, --messages N, --without WORD,..., --small, --as-it-is, --crowd N"
                ));
            }
        }
    }
    Ok(job)
}
