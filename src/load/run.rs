//! A run, from the first call to the last reply: the loop around the loop.
//!
//! Turns the server itself, so that messages leave when they are due: within 2 ms of the
//! next one it does not sleep, since a poll wakes no sharper than a millisecond.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::generator::{Generator, Line, Nanos, Role, Run};
use super::message::Message;
use super::nuisance::{Nuisances, TICK};
use super::plan::{Pace, Plan, Shape};
use super::report::{self, End, Interval, Latency, Reason};
use crate::proto::framing::{Framing, Pair, Raw};
use crate::proto::service::{ConnId, EndpointId};
use crate::{Limits, Server};

/// Calls under way at once: no more than the shortest backlog that is common.
const CALLING: usize = 128;
/// A sleep ends that long before the next message is due.
const AWAKE: Duration = Duration::from_millis(2);
/// Messages that become due in one turn, and bytes of them; others wait for the next.
const DUE_PER_TURN: usize = 1024;
const BYTES_PER_TURN: usize = 4 << 20;
/// A generator that is on its processor for more of its time is the limit itself.
const BUSY: f64 = 0.95;
/// Sends may be that late without being called so, and a tenth of the median latency.
const LAG_US: f64 = 200.0;

/// Does what `plan` says: sends `message` and decodes replies as `framing` does. `on` hears
/// of each interval; when `stop` is set, the run ends with what there is.
///
/// [`End::start`] is left to the caller, who knows what was asked for in words.
///
/// # Errors
///
/// There is no loop to be had, the framing does not fit, or a connection that is to be a
/// nuisance cannot be opened. What happens to the others is counted.
pub fn run<F: Framing + 'static>(
    plan: &Plan,
    framing: F,
    message: Message,
    stop: &AtomicBool,
    on: &mut dyn FnMut(&Interval),
) -> io::Result<End> {
    let mut driver = Driver::new(plan, framing, message)?;
    let reason = match driver.connect(stop)? {
        Some(reason) => reason,
        None => driver.measure(stop, on)?,
    };
    Ok(driver.end(reason))
}

struct Driver<'a> {
    plan: &'a Plan,
    server: Server,
    endpoint: EndpointId,
    run: Rc<RefCell<Run>>,
    nuisances: Nuisances,
    /// Connections called for so far.
    called: usize,
    /// The lines that speak, in the order of their turns.
    speakers: Vec<usize>,
    intervals: Vec<Interval>,
    began: Nanos,
    measured_until: Nanos,
    /// When the measured part began, and the processor time by then.
    processor: Option<(Nanos, Duration)>,
    spins: bool,
}

/// When messages are due: the n-th at n times the period.
struct Schedule {
    began: Nanos,
    /// In nanoseconds.
    period: f64,
    next: u64,
}

impl Schedule {
    fn next_due(&self) -> Nanos {
        self.began + (self.next as f64 * self.period) as Nanos
    }
}

impl<'a> Driver<'a> {
    fn new<F: Framing + 'static>(plan: &'a Plan, framing: F, message: Message) -> io::Result<Self> {
        let mut server = Server::new()?;
        // What a server does wrong is to be measured, not ended by a clock of ours.
        let limits = Limits::default()
            .max_connections(plan.sockets().max(1))
            .send_buffer(None)
            .frame_timeout(None)
            .write_timeout(None);
        let wire = message.wire().to_vec();
        let run = Rc::new(RefCell::new(Run::new(plan, message)));
        let framing = Pair::new(framing, Raw::default().max(wire.len().max(1)));
        let endpoint = server.add(framing, Generator(run.clone()), limits)?;
        Ok(Self {
            plan,
            server,
            endpoint,
            run,
            nuisances: Nuisances::open(plan, &wire)?,
            called: 0,
            speakers: Vec::new(),
            intervals: Vec::new(),
            began: 0,
            measured_until: Nanos::MAX,
            processor: None,
            spins: false,
        })
    }

    /// Opens all connections. A reason, if there is nothing to measure then.
    fn connect(&mut self, stop: &AtomicBool) -> io::Result<Option<Reason>> {
        let wanted = self.plan.idle + self.plan.connections;
        self.run.borrow_mut().lines.reserve(wanted);
        loop {
            let (calling, open) = {
                let run = self.run.borrow();
                (run.calling(), run.open)
            };
            if stop.load(Ordering::Relaxed) {
                return Ok(Some(Reason::Signal));
            }
            if self.called == wanted && calling == 0 {
                return Ok((open == 0).then_some(Reason::NoConnection));
            }
            let mut wait = TICK;
            for _ in calling..CALLING.min(calling + wanted - self.called) {
                if let Some(time) = self.too_early() {
                    wait = wait.min(time);
                    break;
                }
                let silent = self.called < self.plan.idle;
                self.call(if silent { Role::Silent } else { self.role() });
            }
            let _ = self.server.turn(Some(wait))?;
        }
    }

    /// How long the next call has to wait for its turn, if there is a rate.
    fn too_early(&self) -> Option<Duration> {
        let due = self.called as f64 / self.plan.connect_rate? * 1e9;
        let now = self.run.borrow().clock();
        (due > now as f64).then(|| Duration::from_nanos((due - now as f64) as u64))
    }

    /// What the next connection is for.
    fn role(&self) -> Role {
        match self.plan.shape {
            Shape::Fanout if self.called > self.plan.idle => Role::Hearer,
            _ => Role::Speaker,
        }
    }

    fn call(&mut self, role: Role) {
        let mut dial = self.plan.dial.clone();
        if let Some(at) = self.called.checked_rem(self.plan.sources.len()) {
            dial = dial.source(self.plan.sources[at]);
        }
        self.called += 1;
        let id = self.server.connect(self.endpoint, dial);
        self.run.borrow_mut().called(id, role);
    }

    /// Sends and hears, until it is over.
    fn measure(&mut self, stop: &AtomicBool, on: &mut dyn FnMut(&Interval)) -> io::Result<Reason> {
        let now = self.begin();
        let mut schedule = self.schedule(now);
        let mut next_tick = now;
        let mut interval = (now, self.interval_end(now));
        if self.plan.pace == Pace::Closed {
            self.kick(now)?;
        }
        loop {
            let now = self.run.borrow().clock();
            if now >= interval.1 {
                self.turn_over(interval.0, now, on);
                interval = (now, self.interval_end(now));
            }
            if let Some(reason) = self.is_over(interval.0, now, stop) {
                self.turn_over(interval.0, now, on);
                self.measured_until = now;
                return Ok(reason);
            }
            if self.processor.is_none() && now >= self.run.borrow().measured_from {
                self.processor = processor_time().map(|time| (now, time));
            }
            if now >= next_tick {
                self.tick(now);
                next_tick = now + nanos(TICK);
            }
            if matches!(self.plan.shape, Shape::Churn(_)) {
                self.call_again();
            }
            let due = match &mut schedule {
                Some(schedule) => self.send_due(schedule),
                None => self.publish(now),
            };
            let wait = [Some(next_tick), Some(interval.1), due].into_iter().flatten().min();
            let wait = Duration::from_nanos(wait.unwrap_or(0).saturating_sub(now));
            let wait = self.sleep(wait, due.is_some());
            let _ = self.server.turn(Some(wait))?;
        }
    }

    /// How long to sleep of the time until something is due.
    fn sleep(&mut self, wait: Duration, sharp: bool) -> Duration {
        if !sharp {
            return wait;
        }
        self.spins |= wait < AWAKE;
        wait.saturating_sub(AWAKE)
    }

    fn begin(&mut self) -> Nanos {
        let run = &mut *self.run.borrow_mut();
        self.speakers =
            run.lines.iter().filter(|(_, l)| l.role == Role::Speaker).map(|(key, _)| key).collect();
        // Connecting belongs to the totals, whatever follows.
        let Run { now, total, .. } = run;
        now.turn_over(Some(total));
        run.going = true;
        self.began = run.clock();
        run.measured_from = self.began + nanos(self.plan.warmup);
        self.began
    }

    fn schedule(&self, now: Nanos) -> Option<Schedule> {
        let speakers = self.speakers.len().max(1) as f64;
        let rate = match self.plan.pace {
            Pace::Closed => return None,
            Pace::Total(rate) => rate,
            Pace::Each(rate) => rate * speakers,
        };
        Some(Schedule { began: now, period: 1e9 / rate, next: 0 })
    }

    /// Fills every connection of a closed loop.
    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        if self.plan.shape != Shape::Requests {
            let run = &mut *self.run.borrow_mut();
            // Those of a churn that are connected already are not new.
            if let Shape::Churn(_) = self.plan.shape {
                for &key in &self.speakers {
                    if let Some((id, bytes)) = run.due(key, now, now) {
                        // It fits its framing, and few are sent at once.
                        let _ = self.server.send(id, bytes);
                    }
                }
            }
            return Ok(());
        }
        let mut bytes_sent = 0;
        for at in 0..self.speakers.len() {
            for _ in 0..self.plan.depth {
                let run = &mut *self.run.borrow_mut();
                let Some((id, bytes)) = run.due(self.speakers[at], now, now) else { break };
                bytes_sent += bytes.len();
                let _ = self.server.send(id, bytes);
            }
            if bytes_sent > BYTES_PER_TURN || at % DUE_PER_TURN == DUE_PER_TURN - 1 {
                bytes_sent = 0;
                let _ = self.server.turn(Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }

    /// Sends what is due, a turn's worth. Returns when the next message is.
    fn send_due(&mut self, schedule: &mut Schedule) -> Option<Nanos> {
        let mut bytes_sent = 0;
        for _ in 0..DUE_PER_TURN {
            let run = &mut *self.run.borrow_mut();
            let (due, now) = (schedule.next_due(), run.clock());
            if due > now || bytes_sent > BYTES_PER_TURN {
                break;
            }
            let turn = (schedule.next % self.speakers.len().max(1) as u64) as usize;
            schedule.next += 1;
            if let Some(&key) = self.speakers.get(turn)
                && let Some((id, bytes)) = run.due(key, due, now)
            {
                bytes_sent += bytes.len();
                let _ = self.server.send(id, bytes);
            }
        }
        Some(schedule.next_due())
    }

    /// Sends the next message of a fan-out that all have heard.
    fn publish(&mut self, now: Nanos) -> Option<Nanos> {
        let run = &mut *self.run.borrow_mut();
        if self.plan.shape == Shape::Fanout
            && run.all_have_heard()
            && let Some(&key) = self.speakers.first()
            && let Some((id, bytes)) = run.due(key, now, now)
        {
            let _ = self.server.send(id, bytes);
        }
        None
    }

    /// Opens as many connections of a churn as have ended.
    fn call_again(&mut self) {
        let ended = std::mem::take(&mut self.run.borrow_mut().ended);
        (0..ended).for_each(|_| self.call(Role::Speaker));
    }

    /// What is looked at now and then.
    fn tick(&mut self, now: Nanos) {
        if self.nuisances.any() {
            self.nuisances.tick();
        }
        let Some(timeout) = self.plan.reply_timeout.map(nanos) else { return };
        let late: Vec<ConnId> = {
            let run = self.run.borrow();
            let oldest = |line: &Line| line.pending.first.map_or(now, |sent| sent.at);
            let lines = run.lines.iter().map(|(_, line)| line);
            lines.filter(|line| now - oldest(line) > timeout).map(|line| line.id).collect()
        };
        self.run.borrow_mut().now.errors.timeout += late.len() as u64;
        // A late reply must not be taken for that of another message.
        late.into_iter().for_each(|id| self.server.close(id));
    }

    /// Whether it is over, in an interval that began at `from`.
    fn is_over(&self, from: Nanos, now: Nanos, stop: &AtomicBool) -> Option<Reason> {
        let run = self.run.borrow();
        let until = self.plan.duration.map(|time| run.measured_from.saturating_add(nanos(time)));
        let received = run.total.received + run.now.received;
        let enough = self.plan.requests.filter(|_| run.measured_from <= from);
        if stop.load(Ordering::Relaxed) {
            Some(Reason::Signal)
        } else if until.is_some_and(|until| until <= now) {
            Some(Reason::Duration)
        } else if enough.is_some_and(|requests| requests <= received) {
            Some(Reason::Requests)
        } else if run.open == 0 && run.calling() == 0 && run.ended == 0 {
            Some(Reason::NoConnection)
        } else {
            None
        }
    }

    /// When an interval that begins now ends: with the warm-up, at the latest.
    fn interval_end(&self, now: Nanos) -> Nanos {
        let (end, measured_from) =
            (now + nanos(self.plan.interval), self.run.borrow().measured_from);
        if now < measured_from { end.min(measured_from) } else { end }
    }

    /// Ends an interval.
    fn turn_over(&mut self, from: Nanos, now: Nanos, on: &mut dyn FnMut(&Interval)) {
        let run = &mut *self.run.borrow_mut();
        let warmup = from < run.measured_from;
        let total = (!warmup).then_some(&mut run.total);
        let mut interval = run.now.turn_over(total);
        interval.t_s = seconds(now - self.began);
        interval.length_s = seconds(now - from);
        interval.warmup = warmup;
        interval.open = run.open;
        if from < now {
            on(&interval);
            self.intervals.push(interval);
        }
    }
}

impl Driver<'_> {
    /// What there is to tell.
    fn end(mut self, reason: Reason) -> End {
        let busy = self.busy();
        let (now, spins, nuisances) = (self.measured_until, self.spins, self.nuisances.left());
        let wanted = self.plan.slow.connections + self.plan.drip;
        let run = &mut *self.run.borrow_mut();
        // A run that never began has counted only what it called for.
        let began = now != Nanos::MAX;
        if !began {
            let Run { now, total, .. } = run;
            now.turn_over(Some(total));
        }
        let elapsed = if began { now.saturating_sub(run.measured_from) } else { 0 };
        let pending = run.lines.iter().map(|(_, line)| line.pending.len() as u64).sum();
        let oldest =
            run.lines.iter().filter_map(|(_, line)| line.pending.first).map(|s| s.at).min();
        let total = &run.total;
        let corrected = total.corrected.percentiles();
        let uncorrected = match &total.uncorrected {
            Some(times) => times.percentiles(),
            None => corrected,
        };
        let mut end = End {
            reason,
            elapsed_s: seconds(elapsed),
            connected: run.connected,
            open: run.open,
            sent: total.sent,
            received: total.received,
            received_per_s: per_second(total.received, elapsed),
            received_bytes: total.received_bytes,
            unanswered: pending,
            oldest_unanswered_us: oldest.map(|at| now.saturating_sub(at) as f64 / 1e3),
            unsent: run.unsent(),
            errors: total.errors,
            latency_us: Latency { corrected, uncorrected },
            connect_us: total.connect.percentiles(),
            send_lag_us: total.lag.percentiles(),
            generator: report::Generator { busy, spins, why: None },
            intervals: std::mem::take(&mut self.intervals),
            histograms: total.histograms(),
            ..End::default()
        };
        end.generator.why = limited(&end, self.plan.pace == Pace::Closed);
        end.generator_limited = end.generator.why.is_some();
        if let Some(error) = run.connect_error {
            end.warnings
                .push(format!("the first that did not connect: {}", io::Error::from(error)));
        }
        if let Some(error) = &run.frame_error {
            end.warnings.push(format!("the first that was no message: {error}"));
        }
        if end.unanswered > 0 && end.oldest_unanswered_us > corrected.map(|latency| latency.p99) {
            let unanswered = end.unanswered;
            end.warnings.push(format!(
                "{unanswered} messages had no reply by the end, and are in no percentile"
            ));
        }
        if nuisances < wanted {
            let gone = wanted - nuisances;
            end.warnings.push(format!(
                "{gone} of {wanted} slow or dripping connections were ended by the server"
            ));
        }
        end
    }

    /// The part of the measured time that this process was on a processor.
    fn busy(&self) -> Option<f64> {
        let (began, before) = self.processor?;
        let used = processor_time()?.saturating_sub(before);
        let elapsed = self.measured_until.checked_sub(began).filter(|&elapsed| elapsed > 0)?;
        Some((used.as_nanos() as f64 / elapsed as f64 * 1e3).round() / 1e3)
    }
}

/// Why the tool was the limit, if it was.
fn limited(end: &End, closed_loop: bool) -> Option<String> {
    let busy = end.generator.busy.filter(|&busy| busy > BUSY && closed_loop);
    let lag = end.send_lag_us.map(|lag| lag.p99).filter(|&lag| {
        let tenth = end.latency_us.uncorrected.map_or(0.0, |latency| latency.p50 / 10.0);
        lag > LAG_US.max(tenth)
    });
    match (busy, lag) {
        (_, Some(lag)) => Some(format!("one message in 100 was sent {lag} us late or later")),
        (Some(busy), _) => {
            Some(format!("it was on a processor for {:.0} % of the time", busy * 100.0))
        }
        (None, None) => None,
    }
}

fn per_second(count: u64, nanos: Nanos) -> f64 {
    match nanos {
        0 => 0.0,
        nanos => (count as f64 / nanos as f64 * 1e10).round() / 10.0,
    }
}

/// Processor time of this process so far, where the kernel tells: in ticks of 10 ms
/// (proc(5), fields 14 and 15 of stat).
fn processor_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn seconds(nanos: Nanos) -> f64 {
    (nanos as f64 / 1e6).round() / 1e3
}
